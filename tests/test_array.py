"""StackArray and its dask graph: pixels as NumPy has them, and what a graph carries and asks for.

The oracle is an array cut into files. Most examples read from memory in place of files, so that
indexing is what is tested; some are written as TIFF and read back.
"""

from __future__ import annotations

import itertools
import math
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
from dask.blockwise import Blockwise
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from intake_tiffstack import open_stack
from intake_tiffstack.arrays.indexing import normalize_index
from intake_tiffstack.arrays.lazy_array import to_dask_array
from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.header import Structure
from intake_tiffstack.layout.combine import combine
from intake_tiffstack.layout.grid import place_files
from intake_tiffstack.layout.model import Dim, Layout
from intake_tiffstack.pattern.matching import compile_pattern, match_paths
from intake_tiffstack.reading.options import ReadOptions
from intake_tiffstack.reading.parts import FilePart
from intake_tiffstack.storage.files import File, FileTable
from part_reads import parts_read_by

# ------------------------------------------------------------------------ an array cut into files

FILL = 7


@dataclass(frozen=True)
class Cut:
    """An array, the files it was cut into, and the options that put it together again."""

    whole: np.ndarray
    parts: dict[str, np.ndarray]
    file_dims: tuple[str, ...]
    options: dict[str, Any]

    def to_array(self) -> StackArray:
        """Return the array over files that are not there: planned from their names alone."""
        names = list(self.parts)
        pattern = self.options.get("pattern")
        compiled = None if pattern is None else compile_pattern(pattern)
        grid = place_files(
            names,
            pattern=compiled,
            matches=None if compiled is None else match_paths(compiled, names, ""),
            concat_dim=self.options.get("concat_dim"),
            is_single=pattern is None,
        )
        structures = {
            row: Structure(part.shape, part.dtype, self.file_dims, 2, part.shape[-2:], False)
            for row, part in enumerate(self.parts.values())
        }
        layout = combine(
            grid,
            structures,
            paths=names,
            concat_dim=self.options.get("concat_dim"),
            dims=self.options["dims"],
            missing="fill",
        )
        files = FileTable.from_files([File(name, 1, 1, None) for name in names])
        return StackArray(files, layout, ReadOptions(fill_value=FILL))

    def write(self, folder: str, **how: Any) -> StackArray:
        """Return the array over TIFF files in *folder*."""
        axes = "".join(self.file_dims).upper()
        for name, part in self.parts.items():
            tifffile.imwrite(
                f"{folder}/{name}", part, photometric="minisblack", metadata={"axes": axes}, **how
            )
        urlpath = folder if "pattern" in self.options else f"{folder}/{name}"
        stack = open_stack(urlpath, missing="fill", fill_value=FILL, **self.options)
        return stack.collection.array


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """Draw an array and cut it: stacked and extended dims, unequal files, holes, any order."""
    file_dims = (*draw(st.permutations("cz"))[: draw(st.integers(0, 2))], "y", "x")
    extended = draw(st.lists(st.sampled_from(file_dims), unique=True, max_size=2))
    stacked = draw(st.lists(st.sampled_from("tp"), unique=True, max_size=2))
    axes = draw(st.permutations([*stacked, *extended]))
    names = [*stacked, *file_dims]
    extents = {
        name: draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
        if name in extended
        else [1] * draw(st.integers(1, 3))
        if name in stacked
        else [draw(st.integers(1, 4))]
        for name in names
    }
    edges = {name: np.cumsum([0, *extents[name]]).tolist() for name in names}
    dtype = draw(st.sampled_from(["u1", "u2", "i4", "f4"]))
    shape = [edges[name][-1] for name in names]
    whole = (np.arange(math.prod(shape)) % 251).reshape(shape).astype(dtype)
    cells = list(itertools.product(*(range(len(extents[name])) for name in axes)))
    holes: set[tuple[int, ...]] = set()
    for cell in draw(st.lists(st.sampled_from(cells), max_size=3, unique=True)):
        kept = [c for c in cells if c not in holes and c != cell]
        if kept and all(any(c[i] == cell[i] for c in kept) for i in range(len(axes))):
            holes.add(cell)
    parts = {}
    for cell in cells:
        at = dict(zip(axes, cell, strict=True))
        where = tuple(slice(*edges[n][at.get(n, 0) : at.get(n, 0) + 2]) for n in names)
        if cell in holes:
            whole[where] = FILL
            continue
        name = "_".join(["s", *(f"{n}{10 * i}" for n, i in at.items())]) + ".tif"
        parts[name] = whole[where].reshape(whole[where].shape[len(stacked) :]).copy()
    dims = draw(st.permutations(names))
    options: dict[str, Any] = {"dims": dims}
    if axes:
        pattern = "_".join(["s", *(f"{n}{{{n}:d}}" for n in axes)]) + ".tif"
        options |= {"concat_dim": axes, "pattern": pattern}
    return Cut(whole.transpose([names.index(n) for n in dims]), parts, file_dims, options)


@contextmanager
def reading_from(parts: dict[str, np.ndarray]) -> Iterator[list[int]]:
    """Read from memory in place of files; yields how many pixels each read asked for."""
    asked: list[int] = []

    def read_part(files: FileTable, part: FilePart, out: np.ndarray) -> None:
        pixels = parts[files.urls[part.row]]
        assert pixels.shape == part.expected
        for wanted, size in zip(part.region, pixels.shape, strict=True):
            assert wanted
            assert 0 <= wanted.start < wanted.stop <= size
        asked.append(math.prod(map(len, part.region)))
        out[...] = pixels[np.ix_(*part.region)]

    with parts_read_by(read_part):
        yield asked


def index_one_by_one(array: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    """Return what *key* takes, each entry along its own dim."""
    for axis in reversed(range(len(key))):
        array = array[(slice(None),) * axis + (key[axis],)]
    return array


@st.composite
def orthogonal_indices(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Draw an integer, a slice, a list or a mask for each of the first dims."""
    key: list[Any] = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        position = st.integers(-size, size - 1)
        mask = st.lists(st.booleans(), min_size=size, max_size=size)
        listed = st.lists(position, max_size=4)
        key.append(
            draw(
                st.one_of(
                    position,
                    st.slices(size),
                    listed,
                    listed.map(lambda p: np.array(p, np.int16)),
                    mask,
                    mask.map(np.array),
                )
            )
        )
    return tuple(key)


@settings(max_examples=150)
@given(cut=cuts(), data=st.data())
def test_a_basic_index_gives_what_numpy_gives_and_reads_no_pixel_more(
    cut: Cut, data: st.DataObject
) -> None:
    array = cut.to_array()
    assert (array.shape, array.dtype, array.ndim) == (
        cut.whole.shape,
        cut.whole.dtype,
        cut.whole.ndim,
    )
    key = data.draw(basic_indices(cut.whole.shape, min_dims=0, allow_newaxis=True))
    expected = cut.whole[key]
    with reading_from(cut.parts) as asked:
        result = array[key]
    np.testing.assert_array_equal(result, expected, strict=True)
    assert sum(asked) <= expected.size


@settings(max_examples=150)
@given(cut=cuts(), data=st.data())
def test_lists_and_masks_pick_along_their_own_dim(cut: Cut, data: st.DataObject) -> None:
    array = cut.to_array()
    key = data.draw(orthogonal_indices(cut.whole.shape))
    expected = index_one_by_one(
        cut.whole, tuple(np.array(k, int) if isinstance(k, list) and not k else k for k in key)
    )
    with reading_from(cut.parts):
        np.testing.assert_array_equal(array[key], expected, strict=True)


@settings(max_examples=40)
@given(
    cut=cuts(),
    how=st.sampled_from([{}, {"compression": "zlib"}, {"byteorder": ">"}, {"tile": (16, 16)}]),
    data=st.data(),
)
def test_tiff_files_give_the_array_they_were_cut_from(
    cut: Cut, how: dict[str, Any], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        array = cut.write(folder, **how)
        np.testing.assert_array_equal(np.asarray(array), cut.whole, strict=True)
        for _ in range(4):
            key = data.draw(basic_indices(cut.whole.shape, min_dims=0, allow_newaxis=True))
            np.testing.assert_array_equal(array[key], cut.whole[key], strict=True)


# ----------------------------------------------------------------------------------- small stacks


def write_volumes(
    folder: Path, *, times: int = 4, channels: int = 2, start: int = 0, **how: Any
) -> np.ndarray:
    """Write a volume a channel and time point; return all of it, dims t c z y x."""
    whole = np.arange(start, start + times * channels * 4 * 6 * 5, dtype="uint16")
    whole = whole.reshape(times, channels, 4, 6, 5)
    folder.mkdir(exist_ok=True)
    for t, c in np.ndindex(times, channels):
        path = folder / f"s_t{t}_c{c}.tif"
        tifffile.imwrite(path, whole[t, c], photometric="minisblack", **how)
    return whole


VOLUMES: dict[str, Any] = {"pattern": "s_t{t:d}_c{c:d}.tif", "file_dims": "zyx"}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("volumes")
    return str(folder), write_volumes(folder)


@pytest.fixture
def array(volumes: tuple[str, np.ndarray]) -> StackArray:
    return open_stack(volumes[0], **VOLUMES).collection.array


def test_asarray_reads_all(array: StackArray, volumes: tuple[str, np.ndarray]) -> None:
    whole = volumes[1]
    np.testing.assert_array_equal(np.asarray(array), whole, strict=True)
    np.testing.assert_array_equal(np.asarray(array, "f4"), whole.astype("f4"), strict=True)
    assert (len(array), array.size, array.nbytes) == (4, whole.size, whole.nbytes)
    assert repr(array) == "<StackArray (t: 4, c: 2, z: 4, y: 6, x: 5) uint16 over 8 files>"
    with pytest.raises(ValueError, match="a copy cannot be avoided"):
        np.asarray(array, copy=False)


@pytest.mark.parametrize(
    "key",
    [4, -5, (0, 2), (0,) * 6, (Ellipsis, Ellipsis), 1.0, "t", (0, 1.5), [0, 4], [-5], [0.5]],
    ids=repr,
)
def test_what_numpy_refuses_is_an_index_error(
    array: StackArray, volumes: tuple[str, np.ndarray], key: Any
) -> None:
    with pytest.raises(IndexError):
        volumes[1][key]
    with pytest.raises(IndexError):
        array[key]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        pytest.param([True, False], r"boolean index of \(2,\) for axis 0 of 4", id="short mask"),
        pytest.param((0, [[0, 1]]), "axis 1 takes integers, slices or a list", id="table"),
        pytest.param(True, "axis 0 takes .* but got True", id="bool"),
        pytest.param((0, np.True_), "axis 1 takes .* but got np.True_", id="NumPy's bool"),
    ],
)
def test_what_is_not_an_index_along_one_dim_is_refused(
    array: StackArray, key: Any, message: str
) -> None:
    with pytest.raises(IndexError, match=message):
        array[key]


def test_integers_of_numpy_are_integers(array: StackArray, volumes: tuple[str, np.ndarray]) -> None:
    key = (np.int8(-1), np.array(1), np.uint64(2))
    np.testing.assert_array_equal(array[key], volumes[1][-1, 1, 2], strict=True)


def test_a_list_reads_the_shortest_progression_that_holds_it() -> None:
    index = normalize_index(([0, 199], [7, 1, 4], [3, 3]), (200, 8, 4))
    assert index.ranges == (range(0, 200, 199), range(1, 8, 3), range(3, 4))


@pytest.mark.parametrize(
    "key", [..., 0, (0, 1, 2), (slice(None), 0), slice(None, None, -1), [1]], ids=repr
)
@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}], ids=["raw", "zlib"])
def test_a_block_is_the_callers_own_memory(tmp_path: Path, key: Any, how: dict[str, Any]) -> None:
    whole = write_volumes(tmp_path, times=2, **how)
    array = open_stack(str(tmp_path), **VOLUMES).collection.array
    block = array[key]
    base = block
    while isinstance(base, np.ndarray):
        assert not isinstance(base, np.memmap)
        base = base.base
    assert base is None
    assert block.flags.writeable
    block[...] = 0
    np.testing.assert_array_equal(array[key], whole[key])


# -------------------------------------------------------------------------------------- the graph


def test_the_graph_is_one_blockwise_layer_over_one_shared_key(
    volumes: tuple[str, np.ndarray],
) -> None:
    lazy = open_stack(volumes[0], chunks="page", **VOLUMES).to_dask()
    assert lazy.npartitions == 32
    layers = lazy.dask.layers
    assert [type(layer) is Blockwise for layer in layers.values()] == [False, True]
    assert lazy.name in layers
    assert f"original-{lazy.name}" in layers
    assert len(lazy.dask) <= 32 + 4
    np.testing.assert_array_equal(lazy.compute(), volumes[1], strict=True)


def lattice_array(*, is_extended: bool) -> StackArray:
    """Return an array of 100,000 files named as a lattice light-sheet microscope names them."""
    n = 50_000
    clock = 18_583_361 + np.arange(2)[:, None] * 500 + np.arange(n) * 2500
    urls = [
        f"/data/lab/2024-05-07/scan_Cam1_ch{c}_CAM1_stack{t:04d}_{(488, 560)[c]}nm_{t * 2500:07d}"
        f"msec_{clock[c, t]:010d}msecAbs_000x_000y_000z_0000t.tif"
        for c in range(2)
        for t in range(n)
    ]
    rng = np.random.default_rng(0)
    mtimes = 1_700_000_000_000_000_000 + np.cumsum(rng.integers(10**6, 10**9, 2 * n))
    files = FileTable(tuple(urls), np.full(2 * n, 49_408), mtimes)
    if is_extended:
        along = Dim("z", 8 * n, axis=1, file_dim=0, offsets=tuple(range(0, 8 * n + 1, 8)))
        lead: tuple[Dim, ...] = (Dim("c", 2, axis=0), along)
        coords = {"msecAbs": (("c", "z"), np.repeat(clock, 8, axis=1))}
    else:
        lead = (Dim("c", 2, axis=0), Dim("t", n, axis=1), Dim("z", 8, file_dim=0))
        coords = {"msecAbs": (("c", "t"), clock)}
    layout = Layout(
        dims=(*lead, Dim("y", 64, file_dim=1), Dim("x", 48, file_dim=2)),
        cells=np.arange(2 * n, dtype=np.int32).reshape(2, n),
        file_dims=("z", "y", "x"),
        file_shape=(8, 64, 48),
        dtype=np.dtype("uint16"),
        coords=coords,
    )
    return StackArray(files, layout, ReadOptions())


@pytest.mark.parametrize("is_extended", [False, True], ids=["stack", "extend"])
def test_the_table_of_100_000_files_travels_once_and_is_small(is_extended: bool) -> None:
    array = lattice_array(is_extended=is_extended)
    assert len(pickle.dumps(array)) < 4_000_000
    shape = array.shape
    steps = (1, shape[1] // 500, *shape[2:])
    lazy = to_dask_array(
        array, tuple((step,) * (n // step) for n, step in zip(shape, steps, strict=True))
    )
    assert lazy.npartitions == 1000
    assert len(lazy.dask) <= 1000 + 4
    assert len(pickle.dumps(lazy)) < 4_000_000


def test_reading_one_of_many_extended_files_does_not_look_at_all() -> None:
    array = lattice_array(is_extended=True)
    asked: list[tuple[int, Any]] = []

    def read_part(files: FileTable, part: FilePart, out: np.ndarray) -> None:
        asked.append((part.row, part.region[0]))
        out[...] = 0

    with parts_read_by(read_part):
        assert array[1, 399_990:].shape == (10, 64, 48)
    assert asked == [(99_998, range(6, 8)), (99_999, range(8))]


UNPICKLE = """
import pickle, sys
import intake_tiffstack.arrays.stack_array
array = pickle.load(sys.stdin.buffer)
lazy = pickle.load(sys.stdin.buffer)
assert array.shape == lazy.shape
names = {"tifffile", "imagecodecs", "cupy", "s3fs", "zarr", "intake", "pydantic"}
print(*sorted(names & set(sys.modules)))
"""


def test_a_scheduler_unpickles_it_without_the_libraries_that_read(
    volumes: tuple[str, np.ndarray],
) -> None:
    stack = open_stack(volumes[0], **VOLUMES)
    pickled = pickle.dumps(stack.collection.array) + pickle.dumps(stack.to_dask())
    done = subprocess.run(
        [sys.executable, "-c", UNPICKLE], input=pickled, capture_output=True, check=True
    )
    assert done.stdout.decode().split() == []


OPEN_AND_READ = """
import sys
from intake_tiffstack import open_stack
stack = open_stack(sys.argv[1], pattern="s_t{t:d}_c{c:d}.tif", file_dims="zyx")
stack.report()
stack.to_dask().sum().compute()
print(*sorted({"zarr", "numcodecs", "intake"} & set(sys.modules)))
"""


def test_files_are_opened_and_read_without_the_libraries_of_copies(
    volumes: tuple[str, np.ndarray],
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AND_READ, volumes[0]], capture_output=True, check=True
    )
    assert done.stdout.decode().split() == []


def test_an_array_pickles_to_the_same_pixels_and_name(
    array: StackArray, volumes: tuple[str, np.ndarray]
) -> None:
    other = pickle.loads(pickle.dumps(array))
    np.testing.assert_array_equal(np.asarray(other), volumes[1])
    chunks = ((4,), (2,), (4,), (6,), (5,))
    assert to_dask_array(other, chunks).name == to_dask_array(array, chunks).name


# -------------------------------------------------------------------------------- what is pushed

Y, X, BOTH = slice(0, 6, None), slice(0, 5, None), slice(0, 2, None)


def halves(*, step: int | None = None) -> list[slice]:
    return [slice(0, 2, step), slice(2, 4, step)]


def whole_chunks(*, times: list[slice]) -> list[tuple[Any, ...]]:
    return [(t, BOTH, z, Y, X) for t in times for z in halves()]


EARLY, LATE = halves()

PUSHED: dict[str, tuple[Callable[[Any], Any], list[tuple[Any, ...]]]] = {
    "integers": (lambda a: a[0, 1, 3], [(0, 1, 3, Y, X)]),
    "all integers": (lambda a: a[0, 1, 3, 2, 4], [(0, 1, 3, 2, 4)]),
    "ranges": (lambda a: a[0, 1, 1:3, 2:4], [(0, 1, s, slice(2, 4, None), X) for s in
        (slice(1, 2, None), slice(2, 3, None))]),
    "steps": (lambda a: a[0, 0, ::2], [(0, 0, s, Y, X) for s in halves(step=2)]),
    "index, then arithmetic": (lambda a: a[0, 1] + 1, [(0, 1, z, Y, X) for z in halves()]),
    "index, then astype": (lambda a: a[0].astype("f4"), [(0, BOTH, z, Y, X) for z in halves()]),
    "index, then reduction": (lambda a: a[0, 0].max(), [(0, 0, z, Y, X) for z in halves()]),
    "index, then transpose": (lambda a: a[0].T, [(0, BOTH, z, Y, X) for z in halves()]),
    "two chunks, one index each": (
        lambda a: a[0, 0] - a[2, 0],
        [(t, 0, z, Y, X) for t in (0, 2) for z in halves()],
    ),
    "the first of two chained": (lambda a: a[0][1], [(0, BOTH, z, Y, X) for z in halves()]),
}  # fmt: skip

NOT_PUSHED: dict[str, tuple[Callable[[Any], Any], list[tuple[Any, ...]]]] = {
    "nothing to push": (lambda a: a, whole_chunks(times=[EARLY, LATE])),
    "reverse": (lambda a: a[::-1], whole_chunks(times=[EARLY, LATE])),
    "a new axis": (lambda a: a[0, None], whole_chunks(times=[EARLY])),
    "a list": (lambda a: a[[0, 3]], whole_chunks(times=[EARLY, LATE])),
    "a mask": (lambda a: a[np.array([True, True, False, False])], whole_chunks(times=[EARLY])),
    "astype, then index": (lambda a: a.astype("f4")[0], whole_chunks(times=[EARLY])),
    "transpose, then index": (lambda a: a.T[..., 0], whole_chunks(times=[EARLY])),
    "one chunk, two consumers": (lambda a: a[0] - a[1], whole_chunks(times=[EARLY])),
}


def keys_asked(lazy: Any) -> tuple[Any, list[Any]]:
    """Return what *lazy* computes to, and the indexes that reach the StackArray meanwhile."""
    keys: list[Any] = []
    getitem = StackArray.__getitem__

    def spy(self: StackArray, key: Any) -> Any:
        keys.append(key)
        return getitem(self, key)

    with patch.object(StackArray, "__getitem__", spy):
        result = lazy.compute(scheduler="synchronous")
    return result, sorted(keys, key=repr)


@pytest.mark.parametrize(
    ("express", "expected"),
    [
        pytest.param(*case, id=f"{verb}: {name}")
        for verb, cases in (("pushed", PUSHED), ("whole chunks", NOT_PUSHED))
        for name, case in cases.items()
    ],
)
def test_which_expressions_push_their_index_into_the_read(
    volumes: tuple[str, np.ndarray], express: Callable[[Any], Any], expected: list[Any]
) -> None:
    folder, whole = volumes
    lazy = open_stack(folder, chunks={"t": 2, "z": 2}, **VOLUMES).to_dask()
    result, keys = keys_asked(express(lazy))
    np.testing.assert_array_equal(result, express(whole))
    assert keys == sorted(expected, key=repr)


def test_an_integer_beside_a_list_is_pushed_and_the_list_is_not(
    volumes: tuple[str, np.ndarray],
) -> None:
    lazy = open_stack(volumes[0], chunks={"t": 2, "z": 2}, **VOLUMES).to_dask()
    result, keys = keys_asked(lazy[[0, 3], 1])
    np.testing.assert_array_equal(result, volumes[1][[0, 3], 1])
    assert {key[1] for key in keys} == {1}
    assert {repr(key[0]) for key in keys} == {repr(EARLY), repr(LATE)}


def test_without_fusion_nothing_is_pushed(volumes: tuple[str, np.ndarray]) -> None:
    lazy = open_stack(volumes[0], chunks={"t": 2, "z": 2}, **VOLUMES).to_dask()
    with dask.config.set({"optimization.fuse.active": False}):
        result, keys = keys_asked(lazy[0, 1, 3])
    np.testing.assert_array_equal(result, volumes[1][0, 1, 3])
    assert keys == [(EARLY, BOTH, LATE, Y, X)]


# --------------------------------------------------------------------------------------- the name


def write_pyramids(folder: Path) -> None:
    """Write four files t0_ca ... t1_cb, each of two series with two levels, and a duplicate."""
    rng = np.random.default_rng(0)
    for name in ("t0_ca", "t0_cb", "t1_ca", "t1_cb", "t01_cb"):
        with tifffile.TiffWriter(folder / f"{name}.tif") as writer:
            for shape in ((4, 8), (6, 8)):  # of one shape they would be one series
                pixels = rng.integers(0, 255, shape, dtype="uint8")
                writer.write(pixels, subifds=1, photometric="minisblack", metadata=None)
                writer.write(pixels[::2, ::2], photometric="minisblack", metadata=None)


second_image_known = pytest.mark.filterwarnings("ignore:.* more image")

PYRAMIDS: dict[str, Any] = {"pattern": "t{t:d}_c{c}.tif", "duplicates": "first"}

# What decides a pixel, and two or more values of each; the first is what an option left out means.
DECIDING: dict[str, list[Any]] = {
    "sel": [{}, {"t": [1]}, {"c": "a"}],
    "labels": [{}, {"c": ["b", "a"]}],
    "concat_dim": [["t", "c"], ["c", "t"]],
    "dims": [None, "ctxy"],
    "file_dims": [None, "yz"],
    "series": [0, 1],
    "level": [0, 1],
    "duplicates": ["first", "last"],
    "fill_value": [0, 9],
    "on_error": ["raise", "fill"],
    "chunks": ["auto", 1, "page"],
    "arraytype": ["numpy", "array_double:DoubleDevice"],
}
NOT_DECIDING: dict[str, Any] = {
    "scale": {"x": 0.5},
    "translation": {"x": 3},
    "units": {"x": "um"},
    "coords": {"y": "[5, 6, 7, 8]"},
    "channel_names": ["red", "green"],
    "missing": "fill",
    "validate": "all",
    "unmatched": "ignore",
    "sizes": {"t": 2},
    "persist_mode": "always",
    "on_stale": "use",
    "header_index": "headers.parquet",
}


@pytest.fixture(scope="module")
def pyramids(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pyramids")
    write_pyramids(folder)
    return str(folder)


@cache
def open_chosen(folder: str, *chosen: tuple[str, int]) -> da.Array:
    options = {**PYRAMIDS, **{option: DECIDING[option][i] for option, i in chosen}}
    if options.get("dims") and options.get("file_dims"):
        options["dims"] = options["dims"].replace("x", "z")
    with dask.config.set({"tiffstack.allow_code": True}):
        return open_stack(folder, **options).to_dask()


def name_of(folder: str, *chosen: tuple[str, int]) -> str:
    return open_chosen(folder, *chosen).name


choices = st.fixed_dictionaries(
    {option: st.integers(0, len(values) - 1) for option, values in DECIDING.items()}
)
changes = st.sampled_from([(o, i) for o, values in DECIDING.items() for i in range(len(values))])


@second_image_known
@settings(max_examples=60)
@given(chosen=choices, change=changes)
def test_what_has_one_name_is_one_array(
    pyramids: str, chosen: dict[str, int], change: tuple[str, int]
) -> None:
    one = open_chosen(pyramids, *sorted(chosen.items()))
    other = open_chosen(pyramids, *sorted({**chosen, change[0]: change[1]}.items()))
    if one.name == other.name:
        assert one.chunks == other.chunks
        assert type(one._meta) is type(other._meta)
        with dask.config.set({"tiffstack.allow_code": True}):
            assert np.array_equal(*dask.compute(one, other, scheduler="synchronous"))


@second_image_known
@pytest.mark.parametrize(
    ("option", "i"), [(o, i) for o, v in DECIDING.items() for i in range(1, len(v))]
)
def test_each_option_that_decides_a_pixel_changes_the_name(
    pyramids: str, option: str, i: int
) -> None:
    assert name_of(pyramids, (option, i)) != name_of(pyramids)


@second_image_known
@pytest.mark.parametrize("option", NOT_DECIDING)
@second_image_known
def test_what_only_describes_the_pixels_leaves_the_name(pyramids: str, option: str) -> None:
    stack = open_stack(pyramids, **PYRAMIDS, **{option: NOT_DECIDING[option]})
    assert stack.to_dask().name == name_of(pyramids)


def test_an_array_that_is_trimmed_has_another_name(tmp_path: Path) -> None:
    write_volumes(tmp_path)
    (tmp_path / "s_t3_c1.tif").unlink()
    names = {
        open_stack(str(tmp_path), missing=missing, **VOLUMES).to_dask().name
        for missing in ("fill", "trim")
    }
    assert len(names) == 2


@second_image_known
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"url": "/b.tif"}, id="url"),
        pytest.param({"size": 11}, id="size"),
        pytest.param({"mtime": 6}, id="mtime"),
        pytest.param({"etag": '"5d42"'}, id="etag"),
        pytest.param({"ctime": 8}, id="ctime"),
    ],
)
def test_a_file_that_changes_changes_the_name(change: dict[str, Any]) -> None:
    def name(
        url: str = "/a.tif",
        size: int = 10,
        mtime: int = 5,
        etag: str | None = None,
        ctime: int = -1,
    ) -> str:
        layout = Layout(
            dims=(Dim("y", 4, file_dim=0), Dim("x", 5, file_dim=1)),
            cells=np.zeros((), np.int32),
            file_dims=("y", "x"),
            file_shape=(4, 5),
            dtype=np.dtype("uint8"),
            coords={},
        )
        files = FileTable.from_files([File(url, size, mtime, etag, ctime)])
        return to_dask_array(StackArray(files, layout, ReadOptions()), ((4,), (5,))).name

    assert name() == name()
    assert name(**change) != name()


def test_another_structure_is_another_name() -> None:
    def name(dtype: str, *dims: Dim) -> str:
        layout = Layout(
            dims=dims,
            cells=np.arange(2, dtype=np.int32),
            file_dims=("y", "x"),
            file_shape=(4, 5),
            dtype=np.dtype(dtype),
            coords={},
        )
        files = FileTable.from_files([File("/a.tif", 1, 1, None), File("/b.tif", 1, 1, None)])
        array = StackArray(files, layout, ReadOptions())
        return to_dask_array(array, tuple((n,) for n in array.shape)).name

    y, x = Dim("y", 4, file_dim=0), Dim("x", 5, file_dim=1)
    stacked = Dim("t", 2, axis=0), y, x
    names = [
        name("u1", *stacked),
        name("i1", *stacked),
        name("u1", Dim("t", 2, axis=0), x, y),
        name("u1", Dim("y", 8, axis=0, file_dim=0, offsets=(0, 4, 8)), x),
        name("u1", Dim("y", 8, axis=0, file_dim=0, offsets=(0, 3, 8)), x),
    ]
    assert len(set(names)) == len(names)


NAME = """
import sys
from intake_tiffstack import open_stack
print(open_stack(sys.argv[1], pattern="t{t:d}_c{c}.tif", duplicates="first").to_dask().name)
"""


@second_image_known
def test_two_processes_give_one_name(pyramids: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NAME, pyramids],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "42"},
    )
    assert done.stdout.decode().strip() == name_of(pyramids)


def test_a_sum_of_two_sources_is_not_twice_the_first(tmp_path: Path) -> None:
    one = write_volumes(tmp_path / "one")
    other = write_volumes(tmp_path / "other", start=1000)
    a, b = (open_stack(str(tmp_path / n), **VOLUMES).to_dask() for n in ("one", "other"))
    np.testing.assert_array_equal((a + b).compute(), one + other)
    np.testing.assert_array_equal(da.stack([a, b]).compute(), np.stack([one, other]))
