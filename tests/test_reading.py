"""A region of a file is what tifffile and NumPy make of it, and costs the bytes it should."""

from __future__ import annotations

import itertools
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from intake_tiffstack.header import Header, SegmentedFrames, Structure, read_header, rename_dims
from intake_tiffstack.reading import region as reading
from intake_tiffstack.reading.region import read_region
from intake_tiffstack.reading.spans import Region, merge_ranges, plan_segments, plan_spans
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.local_ranges import LocalBytes
from intake_tiffstack.storage.ranges import open_bytes
from shared_data import SHARED, needs_shared, read_rows
from tiff_files import (
    WRITERS,
    ZYX,
    listed,
    pixels,
    plain_tags,
    write_case,
    write_pages,
    write_raw,
)

Case = tuple[Header, NDArray[Any]]


def slices(region: Region) -> tuple[slice, ...]:
    return tuple(slice(r.start, r.stop, r.step) for r in region)


def whole(shape: Sequence[int]) -> Region:
    return tuple(map(range, shape))


@st.composite
def regions(draw: st.DrawFn, shape: Sequence[int]) -> Region:
    """A part of an array: a range a dim, none empty; often all or one place of a dim."""
    region = []
    for size in shape:
        kind = draw(st.sampled_from(["all", "one", "some", "some"]))
        start = 0 if kind == "all" else draw(st.integers(0, size - 1))
        stop = {"all": size, "one": start + 1}.get(kind) or draw(st.integers(start + 1, size))
        region.append(range(start, stop, draw(st.integers(1, 4)) if kind == "some" else 1))
    return tuple(region)


def contiguous(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.empty(shape, dtype)


def transposed(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.empty(shape[::-1], dtype).T


def every_other(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.empty([2 * n for n in shape], dtype)[(slice(None, None, 2),) * len(shape)]


def backwards(shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.empty(shape, dtype)[(slice(None, None, -1),) * len(shape)]


OUTPUTS = st.sampled_from([contiguous, transposed, every_other, backwards])


def read(
    header: Header,
    region: Region,
    make: Callable[..., NDArray[Any]] = contiguous,
    structure: Structure | None = None,
) -> NDArray[Any]:
    structure = structure or header.structure
    out = make([len(r) for r in region], structure.dtype)
    read_region(header, structure, region, out)
    return out


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """Return header and pixels of a file of any layout, as tifffile has them."""
    folder = tmp_path_factory.mktemp("layouts")

    def get(name: str) -> Case:
        file, image = write_case(name, folder)
        return read_header(file, **image), tifffile.imread(file.url, **image)

    return get


# -- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITERS)
def test_a_region_is_the_same_as_a_region_of_all_pixels(
    name: str, cases: Callable[[str], Case]
) -> None:
    header, expected = cases(name)
    assert header.structure.shape == expected.shape
    assert header.structure.dtype == expected.dtype
    np.testing.assert_array_equal(read(header, whole(expected.shape)), expected)

    @settings(max_examples=25)
    @given(regions(expected.shape), OUTPUTS)
    def check(region: Region, make: Callable[..., NDArray[Any]]) -> None:
        out = read(header, region, make)
        np.testing.assert_array_equal(out, expected[slices(region)])

    check()


@pytest.mark.parametrize("where", ["memory", "zip"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_remote_region_is_the_same(
    name: str, where: str, cases: Callable[[str], Case], tmp_path: Path
) -> None:
    local, expected = cases(name)
    content = Path(local.file.url).read_bytes()
    if where == "memory":
        url = f"memory://{tmp_path.name}/{name}.tif"
        fsspec.filesystem("memory").pipe(url, content)
    else:
        url = f"zip://raw/{name}.tif::{tmp_path}/x.zip"
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr(f"raw/{name}.tif", content)
    _, image = write_case(name, Path(local.file.url).parent)
    header = read_header(listed(url), **image)
    assert header.structure == local.structure
    np.testing.assert_array_equal(read(header, whole(expected.shape)), expected)

    @settings(max_examples=4)
    @given(regions(expected.shape))
    def check(region: Region) -> None:
        np.testing.assert_array_equal(read(header, region), expected[slices(region)])

    check()


def _real_files() -> list[str]:
    """The first three files of each folder of single files that are not too large to repeat."""
    rows = [
        row
        for row in read_rows("MANIFEST.csv")
        if row["path"].startswith("single/") and not row["exception"]
    ]
    small = [row["path"] for row in rows if int(row["decoded_bytes"]) < 2**23]
    folders = itertools.groupby(sorted(small), key=lambda path: path.split("/")[1])
    return [path for _, paths in folders for path in itertools.islice(paths, 3)]


@needs_shared
@pytest.mark.parametrize("path", _real_files())
def test_a_region_of_a_real_file_is_the_same(path: str) -> None:
    assert SHARED is not None
    header = read_header(listed(SHARED / path))
    with tifffile.TiffFile(SHARED / path, _multifile=False) as tif:
        expected = tif.asarray()

    @settings(max_examples=8)
    @given(regions(expected.shape), OUTPUTS)
    def check(region: Region, make: Callable[..., NDArray[Any]]) -> None:
        out = read(header, region, make)
        np.testing.assert_array_equal(out, expected[slices(region)])

    check()


def test_a_page_that_gdal_left_out_reads_as_nodata(tmp_path: Path) -> None:
    """At offset 0, where such a page is said to be, the file's own header lies."""
    tags = {**plain_tags(23, 17, 16), 42113: b"65535"}
    path = tmp_path / "sparse.tif"
    write_raw(path, [{**tags, 273: [page]} for page in (ZYX[0].tobytes(), None)])
    pages = read(read_header(listed(path)), whole((2, 23, 17)))
    np.testing.assert_array_equal(pages[0], ZYX[0])
    assert (pages[1] == 65535).all()

    write_raw(path, [{**tags, 273: [None]}])
    assert (read(read_header(listed(path)), whole((23, 17))) == 65535).all()


def test_threads_may_share_a_header(cases: Callable[[str], Case]) -> None:
    names = [
        "pages",
        "imagej",
        "tiles_zlib_predictor",
        "jpeg_tiles",
        "planar_tiles",
        "sparse_tiles",
    ]
    opened = [cases(name) for name in names]

    def read_some(seed: int) -> int:
        rng = np.random.default_rng(seed)
        wrong = 0
        for _ in range(40):
            header, expected = opened[rng.integers(len(opened))]
            starts = [int(rng.integers(n)) for n in expected.shape]
            region = tuple(
                range(start, int(rng.integers(start + 1, n + 1)), int(rng.integers(1, 3)))
                for start, n in zip(starts, expected.shape, strict=True)
            )
            wrong += not np.array_equal(read(header, region), expected[slices(region)])
        return wrong

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(read_some, range(16))) == 0


# -- the dims that file_dims names ---------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["contiguous_uint8", "imagej", "imagej_rgb", "many_pages", "ome_tczyx", "planar_tiles"]
)
def test_unravelled_pages_are_a_reshape(name: str, cases: Callable[[str], Case]) -> None:
    header, expected = cases(name)
    page_shape = header.structure.page_shape
    pages = math.prod(expected.shape[: -len(page_shape)])
    inner = max(n for n in range(1, pages + 1) if pages % n == 0 and n < pages)
    structure = rename_dims(header.structure, (("p", -1), ("q", inner)), header.file.url)
    assert structure.shape == (pages // inner, inner, *page_shape)
    reshaped = expected.reshape(structure.shape)

    @settings(max_examples=25)
    @given(regions(structure.shape), OUTPUTS)
    def check(region: Region, make: Callable[..., NDArray[Any]]) -> None:
        out = read(header, region, make, structure)
        np.testing.assert_array_equal(out, reshaped[slices(region)])

    check()


@pytest.mark.parametrize("name", ["shaped_singletons", "column", "many_pages", "line"])
def test_without_its_singletons_a_file_has_the_same_pixels(
    name: str, cases: Callable[[str], Case]
) -> None:
    header, expected = cases(name)
    squeezed = expected.squeeze()
    names = ["a", "b", "c", "d"][: squeezed.ndim]
    structure = rename_dims(header.structure, names, header.file.url)
    assert structure.shape == squeezed.shape

    @settings(max_examples=25)
    @given(regions(squeezed.shape), OUTPUTS)
    def check(region: Region, make: Callable[..., NDArray[Any]]) -> None:
        out = read(header, region, make, structure)
        np.testing.assert_array_equal(out, squeezed[slices(region)])

    check()


# -- planning, pure ------------------------------------------------------------------------------

SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)
COSTS = st.sampled_from([0, 1, 16, 4096, 2**18])


@given(st.data(), SHAPES, st.sampled_from([1, 2, 8]), COSTS)
def test_spans_hold_the_region(
    data: st.DataObject, shape: tuple[int, ...], itemsize: int, cost: int
) -> None:
    region = data.draw(regions(shape))
    plan = plan_spans(shape, itemsize, region, read_cost=cost)
    numbers = np.arange(math.prod(shape) * itemsize).reshape(*shape, itemsize)
    wanted = numbers[slices(region)]
    per_span = wanted.reshape(len(plan.starts), -1)
    ends = plan.starts + plan.nbytes
    for span, start, end in zip(per_span, plan.starts, ends, strict=True):
        # from the first wanted byte to the last, and exact where those are all there are
        assert (start, end) == (span[0], span[-1] + 1)
        assert plan.is_exact == (span.size == plan.nbytes)
    assert math.prod(len(r) for r in region[: plan.split]) == len(plan.starts)


@given(st.data(), SHAPES, st.sampled_from([1, 2, 8]), COSTS)
def test_spans_cost_no_more_than_one_or_many(
    data: st.DataObject, shape: tuple[int, ...], itemsize: int, cost: int
) -> None:
    region = data.draw(regions(shape))
    plan = plan_spans(shape, itemsize, region, read_cost=cost)
    total = len(plan.starts) * (plan.nbytes + cost)
    corners = [np.ravel_multi_index([r[i] for r in region], shape) for i in (0, -1)]
    bounding = int(corners[1] - corners[0] + 1) * itemsize
    assert total <= bounding + cost
    assert total <= math.prod(len(r) for r in region) * (itemsize + cost)


@given(st.data(), st.tuples(*[st.integers(2, 9)] * 4), st.integers(0, 3))
def test_what_lies_together_is_one_exact_span(
    data: st.DataObject, shape: tuple[int, ...], n_single: int
) -> None:
    places = [data.draw(st.integers(0, n - 1)) for n in shape[:n_single]]
    first, last = sorted(data.draw(st.integers(0, shape[n_single] - 1)) for _ in range(2))
    region = (
        *(range(place, place + 1) for place in places),
        range(first, last + 1),
        *map(range, shape[n_single + 1 :]),
    )
    plan = plan_spans(shape, 2, region, read_cost=1)
    assert plan.is_exact
    assert len(plan.starts) == 1
    assert plan.nbytes == 2 * math.prod(len(r) for r in region)


RANGES = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)), max_size=30)


@given(RANGES, st.integers(0, 100))
def test_ranges_are_merged_over_gaps_and_no_further(
    ranges: list[tuple[int, int]], gap: int
) -> None:
    runs = merge_ranges(ranges, gap=gap)
    assert sorted(itertools.chain(*runs)) == list(range(len(ranges)))
    end = -gap - 1
    for run in runs:
        assert ranges[run[0]][0] - end > gap
        end = ranges[run[0]][0]
        for start, count in [ranges[i] for i in run]:
            assert start - end <= gap
            end = max(end, start + count)


@given(st.data(), st.tuples(*[st.integers(1, 7)] * 5), st.tuples(*[st.integers(1, 4)] * 3))
def test_segments_make_up_the_region(
    data: st.DataObject, shape: tuple[int, int, int, int, int], segment: tuple[int, int, int]
) -> None:
    """Each pixel of the region comes from one segment, and each segment has one for it."""
    region = (*data.draw(regions(shape[:4])), range(shape[4]))
    page = np.arange(math.prod(shape)).reshape(shape)
    grid = [math.ceil(n / m) for n, m in zip(shape, (1, *segment), strict=False)]
    padding = [(0, n * m - k) for n, m, k in zip(grid, (1, *segment), shape, strict=False)]
    padded = np.pad(page, [*padding, (0, 0)], constant_values=-1)
    out = np.full([len(r) for r in region], -1)
    for planned in plan_segments(shape, segment, region):
        s, *corner = np.unravel_index(planned.index, grid)
        place = tuple(slice(i * n, (i + 1) * n) for i, n in zip(corner, segment, strict=True))
        taken = padded[(s, *place)][planned.taken]
        assert taken.size
        assert (out[planned.into] == -1).all()
        out[planned.into] = taken
    np.testing.assert_array_equal(out, page[slices(region)])


# -- what is read --------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the reads of local files since the list was cleared: first byte, bytes."""
    if not hasattr(os, "preadv"):
        pytest.skip("os.preadv is what is watched")
    seen: list[tuple[int, int]] = []
    real = os.preadv

    def preadv(descriptor: int, buffers: Sequence[Any], offset: int, *flags: int) -> int:
        count = real(descriptor, buffers, offset, *flags)
        seen.append((offset, count))
        return count

    monkeypatch.setattr(os, "preadv", preadv)
    return seen


COST = LocalBytes.read_cost


def test_a_plane_of_a_stack_is_one_read_of_its_bytes(
    tmp_path: Path, reads: list[tuple[int, int]]
) -> None:
    stack = pixels(5, 40, 64, 64)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, photometric="minisblack")
    header = read_header(listed(path))
    reads.clear()
    plane = read(header, (range(3, 4), range(17, 18), range(64), range(64)))
    np.testing.assert_array_equal(plane[0, 0], stack[3, 17])
    assert [count for _, count in reads] == [64 * 64 * 2]
    reads.clear()
    read(header, (range(1, 4), *whole((40, 64, 64))))
    assert [count for _, count in reads] == [3 * 40 * 64 * 64 * 2]


@pytest.mark.parametrize("name", ["contiguous_float32", "imagej_truncated", "pages", "odd_offsets"])
def test_raw_reads_stay_within_pages_and_cost(
    name: str, cases: Callable[[str], Case], reads: list[tuple[int, int]]
) -> None:
    """No byte of a page not asked for, and never more than a read an element or one of all."""
    header, expected = cases(name)
    frames = header.frames
    assert not isinstance(frames, SegmentedFrames)
    itemsize = expected.dtype.itemsize
    per_frame = math.prod(frames.shape)

    @settings(max_examples=50)
    @given(regions(expected.shape))
    def check(region: Region) -> None:
        reads.clear()
        read(header, region)
        elements = np.arange(expected.size).reshape(expected.shape)[slices(region)].ravel()
        numbers = elements // per_frame
        at = frames.offsets[numbers] + elements % per_frame * itemsize
        bounds = [(at[numbers == n].min(), at[numbers == n].max()) for n in np.unique(numbers)]
        for start, count in reads:
            assert any(low <= start and start + count <= high + itemsize for low, high in bounds)
        cost = sum(count + COST for _, count in reads)
        assert cost <= len(at) * (itemsize + COST)
        assert cost <= sum(high - low + itemsize + COST for low, high in bounds)

    check()


@pytest.mark.parametrize(
    "name", ["tiles", "strips_zlib", "rgba_tiles", "planar_tiles", "volume_tiles", "pyramid"]
)
def test_segments_are_read_once_and_gaps_only_where_that_is_cheaper(
    name: str, cases: Callable[[str], Case], reads: list[tuple[int, int]]
) -> None:
    header, expected = cases(name)
    frames = header.frames
    assert isinstance(frames, SegmentedFrames)

    @settings(max_examples=25)
    @given(regions(expected.shape))
    def check(region: Region) -> None:
        reads.clear()
        read(header, region)
        touched = _touched(header, expected.shape, region)
        stored = [
            (int(frames.offsets[place]), int(frames.counts[place]))
            for place in touched
            if frames.counts[place]
        ]
        cost = sum(count + COST for _, count in reads)
        assert cost <= sum(count + COST for _, count in stored)
        assert min(start for start, _ in stored) == min(start for start, _ in reads)
        assert max(map(sum, stored)) == max(map(sum, reads))

    check()


def _touched(header: Header, shape: Sequence[int], region: Region) -> set[tuple[int, int]]:
    """Return page and number of each segment with a pixel of the region, pixel by pixel."""
    frames, page_ndim = header.frames, header.structure.page_ndim
    assert isinstance(frames, SegmentedFrames)
    assert frames.axes is not None
    sizes = np.array([1, *frames.segment])
    touched = set()
    for place in itertools.product(*region):
        page = (
            np.ravel_multi_index(place[:-page_ndim], shape[:-page_ndim])
            if (len(shape) > page_ndim)
            else 0
        )
        position = np.zeros(5, int)
        position[list(frames.axes)] = place[-page_ndim:]
        touched.add((int(page), int(np.ravel_multi_index(position[:4] // sizes, frames.grid))))
    return touched


class Costly:
    """A local file whose reads cost what a request does; keeps how many bytes it held at once."""

    read_cost = 2**18

    def __init__(self, file: File) -> None:
        self.source = LocalBytes(file)
        self.held: list[int] = []

    def fill(self, spans: Sequence[tuple[int, memoryview]]) -> None:
        self.held.append(sum(buffer.nbytes for _, buffer in spans))
        self.source.fill(spans)


@pytest.mark.parametrize("compression", [None, "zlib"], ids=["raw", "zlib"])
def test_reading_over_gaps_never_holds_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    """A pixel of each page, where whole pages between them cost less than a request a pixel."""
    stack = pixels(200, 32, 32)
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, stack, compression=compression, rowsperstrip=4)
    header = read_header(listed(path))
    source = Costly(header.file)
    monkeypatch.setattr(reading, "open_bytes", lambda file, options: source)
    whole_trace = read(header, (range(200), range(9, 10), range(7, 8)))
    assert len(source.held) == 1

    source.held.clear()
    monkeypatch.setattr(reading, "BATCH_BYTES", 2**16 if compression is None else 5 * 2**18)
    trace = read(header, (range(200), range(9, 10), range(7, 8)))
    np.testing.assert_array_equal(trace[:, 0, 0], stack[:, 9, 7])
    np.testing.assert_array_equal(whole_trace, trace)
    assert max(source.held) <= reading.BATCH_BYTES
    assert 1 < len(source.held) < 100


def test_a_large_read_goes_straight_into_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole pages need no memory beside the result, and so no halves."""
    path = tmp_path / "pages.tif"
    write_pages(path, ZYX)
    header = read_header(listed(path))
    monkeypatch.setattr(reading, "BATCH_BYTES", 1)
    source = Costly(header.file)
    monkeypatch.setattr(reading, "open_bytes", lambda file, options: source)
    np.testing.assert_array_equal(read(header, whole(ZYX.shape)), ZYX)
    assert source.held == [ZYX.nbytes]


def test_bytes_come_from_where_the_url_says(tmp_path: Path) -> None:
    assert isinstance(open_bytes(File("/a.tif", 1, 1, None), {}), LocalBytes)
    assert not isinstance(open_bytes(File("memory://a.tif", 1, 1, None), {}), LocalBytes)
