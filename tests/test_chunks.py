"""Chunk shapes: they fit the array, stay near the bytes asked for, and follow files and pages."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack.arrays.chunks import AUTO_BYTES, FEW_CHUNKS, choose_chunks
from intake_tiffstack.errors import OptionError, TiffStackWarning
from intake_tiffstack.layout.model import Dim, Layout

MIB = 2**20


def layout_of(dtype: str = "u2", /, **sizes: int | tuple[str, Any]) -> Layout:
    """Return a layout of dims given as n (in the file), ("stack", n) or ("extend", [extents])."""
    dims: list[Dim] = []
    cells: list[int] = []
    file_dims: list[str] = []
    for name, size in sizes.items():
        axis = file_dim = offsets = None
        if not isinstance(size, int):
            kind, made = size
            axis = len(cells)
            cells.append(made if kind == "stack" else len(made))
            if kind == "extend":
                offsets = (0, *np.cumsum(made).tolist())
            size = made if kind == "stack" else offsets[-1]
        if axis is None or offsets is not None:
            file_dim = len(file_dims)
            file_dims.append(name)
        dims.append(Dim(name, size, axis, file_dim, offsets))
    return Layout(
        dims=tuple(dims),
        cells=np.broadcast_to(np.int32(0), cells),
        file_dims=tuple(file_dims),
        file_shape=tuple(
            d.size if d.offsets is None else d.offsets[1] for d in dims if d.file_dim is not None
        ),
        dtype=np.dtype(dtype),
        coords={},
    )


def choose(
    spec: Any, layout: Layout, *, segment: tuple[int, ...] | None = None, most: int = 128 * MIB
) -> tuple[tuple[int, ...], ...]:
    """Return the chunks of *layout*; a page is y and x, one strip unless *segment* is given."""
    return choose_chunks(
        spec,
        layout,
        page_ndim=2,
        segment_shape=segment or layout.file_shape[-2:],
        dask_chunk_bytes=most,
    )


def count(chunks: tuple[tuple[int, ...], ...]) -> int:
    return math.prod(map(len, chunks))


def largest(chunks: tuple[tuple[int, ...], ...], layout: Layout) -> int:
    """Return the bytes of the largest chunk."""
    return math.prod(max(sizes) for sizes in chunks) * layout.dtype.itemsize


# --------------------------------------------------------------------------------- what is always


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Layout, tuple[int, int]]:
    """Draw a layout, small to huge, and the shape of its strips or tiles."""
    extents = st.lists(st.integers(1, 40), min_size=1, max_size=30)
    sizes: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from("tcpw"), unique=True, max_size=3)):
        sizes[name] = ("stack", draw(st.sampled_from([1, 3, 60, 1000, 50_000])))
    for name in draw(st.lists(st.sampled_from("zk"), unique=True, max_size=2)):
        sizes[name] = draw(
            st.one_of(st.sampled_from([1, 7, 201]), extents.map(lambda e: ("extend", e)))
        )
    for name in "yx":
        inside = st.sampled_from([1, 48, 512, 3000, 20_000])
        sizes[name] = draw(st.one_of(inside, extents.map(lambda e: ("extend", e))))
    layout = layout_of(draw(st.sampled_from(["u1", "u2", "f8"])), **sizes)
    segment = tuple(draw(st.integers(1, n)) for n in layout.file_shape[-2:])
    return layout, segment


specs = st.one_of(
    st.sampled_from(["auto", "file", "page", "64 MiB", "1 kB", 1, 17, -1]),
    st.dictionaries(st.sampled_from("yx"), st.sampled_from([1, 10, -1, None, "auto", 10**9])),
)


@given(drawn=layouts(), spec=specs, most=st.sampled_from([MIB, 16 * MIB, 128 * MIB]))
def test_chunks_fill_the_shape(drawn: tuple[Layout, Any], spec: Any, most: int) -> None:
    layout, segment = drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        chunks = choose(spec, layout, segment=segment, most=most)
    assert tuple(map(sum, chunks)) == layout.shape
    assert all(isinstance(n, int) and n > 0 for sizes in chunks for n in sizes)


@given(drawn=layouts(), most=st.sampled_from([MIB, 16 * MIB, 128 * MIB]))
def test_auto_stays_within_the_bytes_unless_one_segment_has_more(
    drawn: tuple[Layout, tuple[int, int]], most: int
) -> None:
    layout, segment = drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        chunks = choose("auto", layout, segment=segment, most=most)
    of_segment = math.prod(segment) * layout.dtype.itemsize
    nbytes = largest(chunks, layout)
    assert nbytes <= max(most, of_segment)
    if count(chunks) <= FEW_CHUNKS and nbytes > max(AUTO_BYTES, of_segment):
        # larger than need be only where the smaller ones are too many
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TiffStackWarning)
            small = choose("auto", layout, segment=segment, most=AUTO_BYTES)
        assert count(small) > FEW_CHUNKS
    if count(chunks) > FEW_CHUNKS:  # too many only where they are as large as may be
        assert nbytes > most / 8


@given(drawn=layouts(), spec=st.sampled_from(["auto", "file", "page", "1 MiB"]))
def test_a_chunk_holds_whole_files_or_lies_within_one_along_an_extended_dim(
    drawn: tuple[Layout, tuple[int, int]], spec: str
) -> None:
    layout, segment = drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        chunks = choose(spec, layout, segment=segment)
    for dim, sizes in zip(layout.dims, chunks, strict=True):
        if dim.offsets is not None:
            edges = {0, *itertools.accumulate(sizes)}
            assert edges <= set(dim.offsets) or edges >= set(dim.offsets)


# ------------------------------------------------------------------------------------------- auto


def test_auto_takes_some_planes_of_a_large_file() -> None:
    layout = layout_of(z=201, y=1024, x=768)
    planes, *page = choose("auto", layout)
    assert planes == (6,) * 33 + (3,)  # 1.5 MiB each: a thirty-second of the file, under 32 MiB
    assert page == [(1024,), (768,)]


def test_auto_takes_many_small_files() -> None:
    layout = layout_of(t=("stack", 50_000), c=("stack", 2), z=8, y=64, x=48)
    chunks = choose("auto", layout)
    assert count(chunks) < 200
    assert largest(chunks, layout) > AUTO_BYTES // 2


def test_auto_takes_more_files_in_a_store_than_local_ones() -> None:
    layout = layout_of(t=("stack", 64), y=1024, x=1024)
    options = {"page_ndim": 2, "segment_shape": (256, 256), "dask_chunk_bytes": 2**27}
    remote = choose_chunks("auto", layout, is_remote=True, **options)
    assert remote == ((32, 32), (1024,), (1024,))  # two round trips of many requests, not five
    assert len(choose_chunks("auto", layout, **options)[0]) == 32
    less = choose_chunks("auto", layout, is_remote=True, **{**options, "dask_chunk_bytes": 2**24})
    assert less[0] == (8,) * 8  # never more than dask's own


def test_auto_takes_whole_files_along_an_extended_dim() -> None:
    extents = [100, 1, 37, 100, 62] * 40
    layout = layout_of(z=("extend", extents), y=256, x=256)
    along, *_ = choose("auto", layout)
    assert set(itertools.accumulate(along)) <= set(itertools.accumulate(extents))
    assert 0.5 * AUTO_BYTES < max(along) * 256 * 256 * 2 <= AUTO_BYTES


def test_auto_cuts_a_large_page_along_its_tiles() -> None:
    layout = layout_of("u1", y=40_000, x=50_000)
    chunks = choose("auto", layout, segment=(512, 512))
    assert all(n % 512 == 0 for sizes in chunks for n in sizes[:-1])
    assert AUTO_BYTES // 2 < largest(chunks, layout) <= AUTO_BYTES


def test_auto_cuts_a_large_page_along_its_strips() -> None:
    layout = layout_of("u1", t=("stack", 3), y=40_000, x=50_000)
    times, rows, columns = choose("auto", layout, segment=(100, 50_000))
    assert (times, columns) == ((1, 1, 1), (50_000,))
    assert {n % 100 for n in rows} == {0}


def test_auto_has_larger_chunks_rather_than_more_than_ten_thousand() -> None:
    layout = layout_of("u1", t=("stack", 12_000), y=3072, x=8192)  # 24 MiB a page
    assert count(choose("auto", layout, most=128 * MIB)) == 6_000
    assert count(choose("auto", layout, most=32 * MIB)) == 12_000


def test_the_chunk_size_of_dask_is_the_most() -> None:
    layout = layout_of(z=201, y=1024, x=768)
    assert largest(choose("auto", layout, most=8 * MIB), layout) <= 8 * MIB


# ------------------------------------------------------------------------------- what is asked for

STACKED = layout_of(t=("stack", 6), z=10, y=64, x=48)
EXTENDED = layout_of(z=("extend", [3, 1, 2, 2]), y=("extend", [64, 10, 20]), x=48)


@pytest.mark.parametrize(
    ("layout", "spec", "expected"),
    [
        pytest.param(STACKED, "file", ((1,) * 6, (10,), (64,), (48,)), id="file"),
        pytest.param(STACKED, "page", ((1,) * 6, (1,) * 10, (64,), (48,)), id="page"),
        pytest.param(EXTENDED, "file", ((3, 1, 2, 2), (64, 10, 20), (48,)), id="unequal files"),
        pytest.param(EXTENDED, "page", ((1,) * 8, (64, 10, 20), (48,)), id="unequal pages"),
        pytest.param(STACKED, 30, ((6,), (10,), (30, 30, 4), (30, 18)), id="int"),
        pytest.param(STACKED, -1, ((6,), (10,), (64,), (48,)), id="-1"),
        pytest.param(STACKED, (4, 5, 64, -1), ((4, 2), (5, 5), (64,), (48,)), id="tuple"),
        pytest.param(
            STACKED, [[1, 5], [10], 64, "auto"], ((1, 5), (10,), (64,), (48,)), id="list of lists"
        ),
        pytest.param(STACKED, {"t": 4}, ((4, 2), (10,), (64,), (48,)), id="dict, rest auto"),
        pytest.param(
            STACKED, {"t": "auto", "z": (4, 6)}, ((6,), (4, 6), (64,), (48,)), id="dict with auto"
        ),
        pytest.param(STACKED, {"t": -1, "z": None}, ((6,), (10,), (64,), (48,)), id="dict with -1"),
        pytest.param(STACKED, {}, ((6,), (10,), (64,), (48,)), id="empty dict"),
        pytest.param(EXTENDED, {"z": 3}, ((3, 3, 2), (94,), (48,)), id="cuts where it is reported"),
        pytest.param(STACKED, "130 kB", ((2, 2, 2), (10,), (64,), (48,)), id="size"),
    ],
)
def test_chunks_are_as_asked(layout: Layout, spec: Any, expected: Any) -> None:
    assert choose(spec, layout) == expected


def test_what_a_dict_leaves_out_makes_up_the_bytes() -> None:
    layout = layout_of(t=("stack", 1000), z=100, y=512, x=512)
    times, planes, *page = choose({"z": 10}, layout)
    assert (planes, page) == ((10,) * 10, [(512,), (512,)])
    assert times[0] * 10 * 512 * 512 * 2 <= AUTO_BYTES < 2 * times[0] * 10 * 512 * 512 * 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"tt": 1}, "unknown dim in chunks 'tt'; did you mean 't'?"),
        ({"channel": 1}, "unknown dim in chunks 'channel'; known: t, x, y, z"),
        ({"t": 0}, "t takes a positive number"),
        ({"t": -2}, "t takes a positive number"),
        ({"z": 2.5}, "z takes a positive number"),
        ({"z": "many"}, "z takes a positive number"),
        ({"z": (3, 3)}, "sizes that add up to its 10, but got (3, 3)"),
        ({"z": (11, -1)}, "z takes a positive number"),
        ({"z": ()}, "z takes a positive number"),
        ({"y": ("a", "b")}, "y takes a positive number"),
        (0, "t takes a positive number"),
        (2.5, "t takes a positive number"),
        ((1, 2), "chunks has 2 entries, but the dims are t, z, y, x: (1, 2)"),
        ("files", "chunks must be auto, file, page, a size such as '64 MiB'"),
        ("64 MiBs", "but got '64 MiBs'"),
        ("0 MB", "but got '0 MB'"),
    ],
    ids=repr,
)
def test_chunks_that_do_not_fit_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        choose(spec, STACKED)


@pytest.mark.parametrize("spec", ["file", "page", {"t": 1}], ids=repr)
def test_more_than_fifty_thousand_chunks_are_warned_of(spec: Any) -> None:
    layout = layout_of(t=("stack", 50_001), y=64, x=48)
    with pytest.warns(TiffStackWarning, match=r"makes 50,001 chunks.*leave them to `auto`"):
        chunks = choose(spec, layout)
    assert count(chunks) == 50_001
