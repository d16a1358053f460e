"""What a header says of a file, what is refused, and that each is read once."""

from __future__ import annotations

import logging
import re
import shutil
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_tiffstack.codecs import CODECS, Codec, find_codec
from intake_tiffstack.errors import (
    OptionError,
    StorageError,
    TiffStackError,
    TooLargeError,
    UnreadableFileError,
    UnsupportedFileError,
)
from intake_tiffstack.header import Header, SegmentedFrames, Structure, read_header, rename_dims
from intake_tiffstack.header import build_header as building
from intake_tiffstack.header import cache as headers
from intake_tiffstack.header.cache import HeaderCache
from intake_tiffstack.header.raw_metadata import read_raw_metadata
from intake_tiffstack.reading.region import read_region
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.remote_ranges import RemoteBytes
from tiff_files import WRITERS, ZYX, listed, pixels, plain_tags, write_case, write_pages, write_raw


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A plain file of three pages."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(3, 20, 30), photometric="minisblack", metadata={"axes": "ZYX"})
    return path


def patch_tag(path: Path, code: int, value: int, *, dtype: int | None = None) -> None:
    """Write another value, which has to fit in the directory, into a tag of the first page."""
    with tifffile.TiffFile(path) as tif:
        tag, order = tif.pages[0].aspage().tags[code], tif.byteorder
    raw = bytearray(path.read_bytes())
    # LONG8 is what BigTIFF may have for an offset or a count
    form, size = {3: ("H", 2), 4: ("I", 4), 9: ("i", 4), 11: ("I", 4), 16: ("Q", 8)}[
        dtype or tag.dtype
    ]
    raw[tag.valueoffset : tag.valueoffset + size] = struct.pack(order + form, value)
    raw[tag.offset + 2 : tag.offset + 4] = struct.pack(order + "H", dtype or tag.dtype)
    path.write_bytes(raw)


# -- structure -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dims", "page_ndim", "segment", "is_compressed"),
    [
        ("contiguous_uint8", "z y x", 2, (11, 13), False),
        ("pages_of_strips", "page y x", 2, (23, 17), False),
        ("imagej", "t z c y x", 2, (11, 13), False),
        ("imagej_rgb", "z y x sample", 3, (11, 13, 3), False),
        ("ome_ctzyx", "c t z y x", 2, (11, 13), False),
        ("shaped_truncated", "page page_1 y x", 2, (11, 13), False),
        ("strips_zlib", "page y x", 2, (5, 17), True),
        ("tiles", "page y x", 2, (16, 17), False),
        ("volume_tiles", "z y x", 3, (4, 16, 16), True),
        ("rgba_tiles", "y x sample", 3, (16, 16, 4), True),
        ("planar_tiles", "page sample y x", 3, (1, 16, 16), True),
        ("rgb_of_one_sample", "page y x", 2, (10, 12), True),
        ("pyramid", "y x", 2, (16, 16), True),
    ],
)
def test_structure(
    folder: Path,
    name: str,
    dims: str,
    page_ndim: int,
    segment: tuple[int, ...],
    is_compressed: bool,
) -> None:
    file, image = write_case(name, folder)
    structure = read_header(file, **image).structure
    assert " ".join(structure.dims) == dims
    assert structure.page_ndim == page_ndim
    assert structure.segment_shape == segment
    assert structure.is_compressed is is_compressed
    assert structure.page_shape == structure.shape[-page_ndim:]
    assert structure.dtype.isnative
    assert " ".join(structure.dims) in structure.describe()


def test_a_header_says_how_much_memory_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_pages(path, pixels(50, 64, 64), compression="zlib", tile=(16, 16))
    header = read_header(listed(path))
    assert isinstance(header.frames, SegmentedFrames)
    assert header.frames.offsets.shape == (50, 16)
    assert header.nbytes >= header.frames.offsets.nbytes + header.frames.counts.nbytes


def test_dims_that_do_not_fit_the_shape_make_no_structure() -> None:
    with pytest.raises(ValueError, match=r"dims \('y', 'x'\) do not fit shape \(1, 2, 3\)"):
        Structure((1, 2, 3), np.dtype("u1"), ("y", "x"), 2, (2, 3), False)


# -- file_dims -----------------------------------------------------------------------------------


def structure_of(**sizes: int) -> Structure:
    shape = tuple(sizes.values())
    return Structure(shape, np.dtype("u2"), tuple(sizes), 2, shape[-2:], False)


@pytest.mark.parametrize(
    ("file_dims", "shape", "dims"),
    [
        (("c", "v", "u"), (30, 8, 9), ("c", "v", "u")),
        ((("z", 10), ("c", 3)), (10, 3, 8, 9), ("z", "c", "y", "x")),
        ((("t", -1), ("z", 5), ("c", 3)), (2, 5, 3, 8, 9), ("t", "z", "c", "y", "x")),
        ((("z", 30),), (30, 8, 9), ("z", "y", "x")),
        ((("c", 3), ("z", -1), ("y", 8), ("x", -1)), (3, 10, 8, 9), ("c", "z", "y", "x")),
    ],
    ids=["names", "sizes", "one free", "one dim", "with y and x"],
)
def test_file_dims_name_or_unravel_the_pages(
    file_dims: tuple[Any, ...], shape: tuple[int, ...], dims: tuple[str, ...]
) -> None:
    renamed = rename_dims(structure_of(page=30, y=8, x=9), file_dims, "a.tif")
    assert (renamed.shape, renamed.dims) == (shape, dims)
    assert renamed.page_shape == renamed.segment_shape == (8, 9)


@pytest.mark.parametrize(
    ("sizes", "shape", "page_ndim", "segment"),
    [
        ({"t": 1, "z": 5, "c": 1, "y": 8, "x": 9}, (5, 8, 9), 2, (8, 9)),
        ({"t": 4, "z": 5, "c": 6, "y": 1, "x": 1}, (4, 5, 6), 0, ()),
        ({"t": 4, "z": 5, "c": 1, "y": 1, "x": 9}, (4, 5, 9), 1, (9,)),
    ],
    ids=["lead", "page", "both"],
)
def test_singletons_are_dropped_where_that_makes_the_count_fit(
    sizes: dict[str, int], shape: tuple[int, ...], page_ndim: int, segment: tuple[int, ...]
) -> None:
    structure = structure_of(**sizes)
    if not page_ndim:
        with pytest.raises(OptionError, match=r"cannot drop all of the page dims of a\.tif"):
            rename_dims(structure, "tzc", "a.tif")
        return
    renamed = rename_dims(structure, "zyx", "a.tif")
    assert (renamed.shape, renamed.page_ndim, renamed.segment_shape) == (shape, page_ndim, segment)


@pytest.mark.parametrize(
    ("file_dims", "message"),
    [
        ("yx", r"\['y', 'x'\] are 2 dims, but a\.tif has 30x8x9 uint16 \(page y x\)"),
        ("tczyx", r"are 5 dims, but a\.tif has 30x8x9"),
        ((("z", 7), ("c", 3)), r"\{'z': 7, 'c': 3\} need .* 21 pages, but a\.tif has 30 \(30x8x9"),
        ((("t", -1), ("z", 4)), r"multiple of 4 pages, but a\.tif has 30"),
        ((("t", -1), ("z", -1)), "at most one -1"),
        ((("t", 0), ("z", -1)), "must give positive sizes"),
        ((("t", -2), ("z", -15)), "must give positive sizes"),
        ((("z", 30), ("y", 7)), r"gives y=7, but a\.tif has 8"),
    ],
    ids=str,
)
def test_file_dims_that_do_not_fit_show_both_counts(file_dims: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        rename_dims(structure_of(page=30, y=8, x=9), file_dims, "a.tif")


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"it is empty \(0 bytes\); replace the file, or leave it out with `exclude`"),
        (b"not a TIFF, but some text", "cannot be read as TIFF: .*not a TIFF file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n",
            "Git LFS pointer, not the image: fetch it with `git lfs pull`",
        ),
        (
            b"/annex/objects/MD5E-s8--4d7a.tif\n",
            r"a pointer of git-annex \(DataLad\), not the image: run `datalad get ",
        ),
        (b"II*\0\0\0\0\0", "holds no image|cannot be read as TIFF"),
        (b"II*\0\xff\xff\0\0", "holds no image|cannot be read as TIFF"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "cannot be read as TIFF|no image|not supported"),
    ],
    ids=["empty", "text", "LFS pointer", "annex pointer", "no page", "page outside", "no tags"],
)
def test_what_is_no_image_is_an_error_that_says_what_to_do(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=message) as caught:
        read_header(listed(path))
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", ["contiguous_uint8", "pages", "imagej_truncated", "tiles"])
def test_a_truncated_file_is_an_error_before_anything_is_read(tmp_path: Path, name: str) -> None:
    file, _ = write_case(name, tmp_path)
    path = Path(file.url)
    with tifffile.TiffFile(path) as tif:
        ends = [page.dataoffsets[-1] + page.databytecounts[-1] for page in tif.pages]
    path.write_bytes(path.read_bytes()[: max(ends) - 1])
    match = r"is truncated or corrupt: (.* should reach byte [\d,]+, but|the page after)|no image"
    with pytest.raises(UnreadableFileError, match=match):
        read_header(listed(path))


def test_a_segment_that_reaches_past_64_bits_is_outside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, ZYX[0], bigtiff=True, compression="zlib", metadata=None)
    listed_before = listed(path)
    header = headers.get_header(listed_before, storage_options={}, series=0, level=0)
    for count in (2**63 - 1, 2**63, 2**64 - 1):
        patch_tag(path, 279, count)
        for read in (read_header, in_cache):
            with pytest.raises(UnreadableFileError, match=re.escape(str(path))):
                read(listed(path))
    assert header.file == listed_before


def in_cache(file: File) -> Header:
    return headers.get_header(file, storage_options={}, series=0, level=0)


@pytest.mark.parametrize(
    ("code", "value", "dtype", "error", "message"),
    [
        (259, 34676, None, UnsupportedFileError, "SGILOG.* not supported"),
        (259, 4242, None, UnsupportedFileError, "is not supported"),
        (258, 128, None, UnsupportedFileError, "128 bits is not supported|not supported"),
        (257, 0, None, UnreadableFileError, r"declares an empty image of shape \(0, 17\)"),
        (277, 0, None, UnreadableFileError, "declares an empty image"),
        (257, 2**31, 4, TooLargeError, r"a page of [\d,]+ bytes cannot come from [\d,]+ bytes"),
        (257, 2**32 - 1, 4, TooLargeError, r"[\d,]+ bytes"),
        (256, 1, 11, UnreadableFileError, "declares an empty image"),
        (279, -5, 9, UnreadableFileError, "is truncated or corrupt|cannot be read"),
        (273, -5, 9, UnreadableFileError, "is truncated or corrupt|cannot be read"),
        (273, 1, 11, UnreadableFileError, "is truncated or corrupt|cannot be read"),
        (279, 1, 11, UnreadableFileError, "is truncated or corrupt|cannot be read"),
        (278, 5, None, UnreadableFileError, "1 of its 5 segments|cannot be read"),
    ],
    ids=str,
)
def test_a_tag_that_makes_no_sense_is_an_error(
    tmp_path: Path,
    code: int,
    value: int,
    dtype: int | None,
    error: type[TiffStackError],
    message: str,
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ZYX[0], compression="zlib", metadata=None)
    patch_tag(path, code, value, dtype=dtype)
    with pytest.raises(error, match=message) as caught:
        read_header(listed(path))
    assert str(path) in str(caught.value)


def test_segments_that_make_no_grid_are_an_error(tmp_path: Path) -> None:
    """An invalid PlanarConfiguration, of which tifffile makes both of the valid ones."""
    file, _ = write_case("planar_tiles", tmp_path)
    patch_tag(Path(file.url), 284, 258)
    with pytest.raises(UnreadableFileError, match="segments cannot make a grid of"):
        read_header(listed(file.url))


def test_a_page_of_more_than_max_image_bytes_is_refused(path: Path) -> None:
    with pytest.raises(TooLargeError, match="declares 1,200 bytes, more than max_image_bytes"):
        read_header(listed(path), max_image_bytes=1199)
    assert read_header(listed(path), max_image_bytes=1200)
    with (
        dask.config.set({"tiffstack.max_image_bytes": "1 kB"}),
        pytest.raises(TooLargeError, match=r"1,200 bytes, more than .* \(1,000\); raise tiffstack"),
    ):
        HeaderCache().get(listed(path), storage_options={}, series=0, level=0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"series": 2}, r"series=2, but .*second_series\.tif has 2 series"),
        ({"series": -1}, r"series=-1, but .* has 2 series"),
        ({"level": 1}, r"level=1, but series 0 of .* has 1 level\(s\)"),
    ],
    ids=str,
)
def test_a_series_or_level_that_is_not_there_is_an_error(
    folder: Path, image: dict[str, int], message: str
) -> None:
    file, _ = write_case("second_series", folder)
    with pytest.raises(OptionError, match=message):
        read_header(file, **image)


def test_a_segment_that_cannot_be_decoded_names_file_page_and_segment(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ZYX, compression="zlib", rowsperstrip=5, photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[2].dataoffsets[3]
    raw = bytearray(path.read_bytes())
    raw[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    header = read_header(listed(path))
    out = np.empty((1, 23, 17), "uint16")
    region = (range(1, 2), range(23), range(17))
    read_region(header, header.structure, region, out)
    with pytest.raises(UnreadableFileError, match="segment 3 of page 2 cannot be") as caught:
        read_region(header, header.structure, (range(2, 3), *region[1:]), out)
    assert caught.value.details == {"url": str(path), "page": 2, "segment": 3}
    # what is sound can still be read
    rows = (range(2, 3), range(15), range(17))
    read_region(header, header.structure, rows, out[:, :15])
    np.testing.assert_array_equal(out[0, :15], ZYX[2, :15])


DAMAGE = st.lists(
    st.tuples(st.integers(-300, 299), st.one_of(st.sampled_from([0, 1, 255]), st.integers(0, 255))),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", ["strips", "tiles_lzw_predictor", "imagej", "ome_zyx", "bigtiff"])
def test_a_damaged_file_is_read_or_is_an_error_of_ours(folder: Path, name: str) -> None:
    """Whatever bytes of its ends are changed, where the directories are."""
    file, image = write_case(name, folder)
    sound = Path(file.url).read_bytes()
    path = folder / "damaged.tif"

    @settings(max_examples=60)
    @given(DAMAGE, st.integers(0, 400))
    def check(damage: list[tuple[int, int]], lost: int) -> None:
        raw = bytearray(sound)
        for place, value in damage:
            raw[place % len(raw)] = value
        path.write_bytes(raw[: len(raw) - max(0, lost - 300)])
        said = str(path)
        try:
            header = read_header(listed(path), max_image_bytes=2**26, **image)
            region = tuple(range(min(n, 20)) for n in header.structure.shape)
            out = np.empty([len(r) for r in region], header.structure.dtype)
            read_region(header, header.structure, region, out)
        except TiffStackError as exc:
            said = str(exc)
        assert str(path) in said

    check()


# -- tifffile's log ------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file of which tifffile logs something and reads the pixels all the same."""
    path = tmp_path / "odd.tif"
    write_raw(path, [{**plain_tags(23, 17, 16, t274=4711), 273: [ZYX[0].tobytes()]}])
    return path


def test_what_tifffile_logs_becomes_notes(
    odd: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    header = read_header(listed(odd))
    assert len(header.notes) == 1
    assert "4711 is not a valid ORIENTATION" in header.notes[0]
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    # and afterwards it logs as before
    tifffile.imread(odd)
    assert "4711 is not a valid ORIENTATION" in caplog.text


def test_what_other_threads_log_is_left_alone(
    odd: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = building.locate_frames

    def locate_frames(*args: Any) -> Any:
        logger = logging.getLogger("tifffile")
        other = threading.Thread(target=logger.warning, args=("from another thread",))
        other.start()
        other.join()
        return real(*args)

    monkeypatch.setattr(building, "locate_frames", locate_frames)
    header = read_header(listed(odd))
    assert [record.message for record in caplog.records] == ["from another thread"]
    assert "another thread" not in str(header.notes)


def test_notes_are_few_however_much_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tags = plain_tags(23, 17, 16, t274=4711)
    write_raw(path, [{**tags, 273: [ZYX[0].tobytes()]} for _ in range(50)])
    assert 0 < len(read_header(listed(path)).notes) <= 20


# -- headers of this process ---------------------------------------------------------------------


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the names of the files that were parsed, each parse slow enough to be met."""
    seen: list[str] = []
    real = headers.read_header

    def read(file: File, **options: Any) -> Header:
        seen.append(Path(file.url).name)
        time.sleep(0.02)
        return real(file, **options)

    monkeypatch.setattr(headers, "read_header", read)
    return seen


def get(cache: HeaderCache, file: File, **image: int) -> Header:
    return cache.get(file, storage_options={}, **{"series": 0, "level": 0, **image})


def unlike_files(folder: Path, count: int) -> list[File]:
    """Return files none of which is built like another."""
    files = []
    for i in range(count):
        path = folder / f"{i}.tif"
        tifffile.imwrite(path, pixels(2, 20, 30 + i), compression="zlib", metadata=None)
        files.append(listed(path))
    return files


def test_a_file_is_parsed_once_however_many_ask(path: Path, parses: list[str]) -> None:
    cache, file = HeaderCache(), listed(path)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: get(cache, file), range(64)))
    assert parses == ["a.tif"]
    assert all(header is found[0] for header in found)
    cache.clear()
    get(cache, file)
    assert len(parses) == 2


def test_files_are_parsed_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = unlike_files(tmp_path, 4)
    together = threading.Barrier(4, timeout=10)
    real = headers.read_header

    def read(file: File, **options: Any) -> Header:
        together.wait()
        return real(file, **options)

    monkeypatch.setattr(headers, "read_header", read)
    cache = HeaderCache()
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda file: get(cache, file), files))) == 4


def test_a_changed_file_another_series_and_another_level_have_their_own_headers(
    folder: Path, tmp_path: Path, path: Path
) -> None:
    cache = HeaderCache()
    first = get(cache, listed(path))
    tifffile.imwrite(path, pixels(4, 20, 30), photometric="minisblack", metadata={"axes": "TYX"})
    assert get(cache, listed(path)).structure.dims == ("t", "y", "x")
    assert first.structure.dims == ("z", "y", "x")

    file, _ = write_case("second_series", folder)
    assert get(cache, file, series=0).structure.shape == (3, 7, 9)
    assert get(cache, file, series=1).structure.shape == (2, 17, 19)
    file, _ = write_case("pyramid", folder)
    assert [get(cache, file, level=i).structure.shape for i in range(3)] == [
        (64, 48),
        (32, 24),
        (16, 12),
    ]


def test_an_error_is_raised_to_all_who_ask_and_not_kept(path: Path, parses: list[str]) -> None:
    cache = HeaderCache()
    content = path.read_bytes()
    path.write_bytes(b"no TIFF")

    def fails() -> bool:
        with pytest.raises(UnreadableFileError, match="not a TIFF"):
            get(cache, listed(path))
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: fails(), range(8)))
    path.write_bytes(content)
    assert get(cache, listed(path)).structure.shape == (3, 20, 30)
    assert not cache._parsing


def test_headers_are_dropped_in_the_order_of_their_last_use(tmp_path: Path) -> None:
    files = unlike_files(tmp_path, 4)
    nbytes = read_header(files[0]).nbytes
    cache = HeaderCache()
    with dask.config.set({"tiffstack.header_cache": 3 * nbytes}):
        first = [get(cache, file) for file in files[:3]]
        assert get(cache, files[0]) is first[0]
        get(cache, files[3])  # takes the place of 1, not of 0
        assert get(cache, files[0]) is first[0]
        assert get(cache, files[2]) is first[2]
        assert get(cache, files[1]) is not first[1]
    with dask.config.set({"tiffstack.header_cache": 0}):
        last = get(cache, files[3])
        assert get(cache, files[3]) is last
        assert get(cache, files[2]) is not first[2]


@pytest.mark.parametrize("name", WRITERS)
def test_a_cached_header_reads_what_a_parsed_one_reads(folder: Path, name: str) -> None:
    """Of a file, and of a copy that is known without a parse."""
    file, image = write_case(name, folder)
    copy = folder / f"copy_of_{name}.tif"
    copy.write_bytes(Path(file.url).read_bytes())
    cache = HeaderCache()
    expected = tifffile.imread(file.url, **image)
    for each in (file, file, listed(copy)):
        header, source = cache.open(each, storage_options={}, **{"series": 0, "level": 0, **image})
        assert header.file == each
        out = np.empty(header.structure.shape, header.structure.dtype)
        read_region(header, header.structure, tuple(map(range, out.shape)), out, source=source)
        np.testing.assert_array_equal(out, expected)


# -- remote headers ------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    filesystem = MemoryFileSystem()
    filesystem.mkdir("/headers")
    yield filesystem
    filesystem.rm("/headers", recursive=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many bytes each request was for, since the list was cleared."""
    seen: list[int] = []
    real = RemoteBytes.fill

    def fill(self: RemoteBytes, spans: Sequence[tuple[int, memoryview]]) -> None:
        seen.extend(buffer.nbytes for _, buffer in spans)
        real(self, spans)

    monkeypatch.setattr(RemoteBytes, "fill", fill)
    return seen


@pytest.mark.parametrize(
    ("options", "most_requests", "most_part"),
    [
        ({}, 2, 0.1),
        ({"compression": "zlib"}, 60, 1.1),
        ({"bigtiff": True, "compression": "zlib", "tile": (64, 64)}, 60, 1.1),
    ],
    ids=["raw", "zlib", "tiles"],
)
def test_a_remote_header_costs_few_requests(
    path: Path,
    memory: MemoryFileSystem,
    asked: list[int],
    options: dict[str, Any],
    most_requests: int,
    most_part: float,
) -> None:
    tifffile.imwrite(path, pixels(100, 128, 128), photometric="minisblack", **options)
    memory.pipe("/headers/a.tif", path.read_bytes())
    file = listed("memory://headers/a.tif")
    header = read_header(file)
    assert header.structure == read_header(listed(path)).structure
    assert len(asked) <= most_requests
    assert sum(asked) <= most_part * file.size


def test_a_store_that_failed_once_is_asked_again(
    path: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/headers/a.tif", path.read_bytes())
    file = listed("memory://headers/a.tif")
    cache = HeaderCache()

    def fill(self: RemoteBytes, spans: Sequence[tuple[int, memoryview]]) -> None:
        raise StorageError(f"{self.file.url}: no route")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteBytes, "fill", fill)
        with pytest.raises(StorageError, match=r"a\.tif: no route"):
            get(cache, file)
    assert get(cache, file).structure.shape == (3, 20, 30)
    assert cache.get_raw_metadata(file, storage_options={}).tags["shaped"]


def test_the_bytes_of_a_remote_header_serve_its_metadata_too(
    path: Path, memory: MemoryFileSystem, asked: list[int]
) -> None:
    cache = HeaderCache()
    files = []
    for i in range(3):
        tifffile.imwrite(path, pixels(20, 64, 64 + i), compression="zlib")
        memory.pipe(f"/headers/{i}.tif", path.read_bytes())
        files.append(listed(f"memory://headers/{i}.tif"))
        get(cache, files[-1])
    asked.clear()
    for file in files:
        cache.get_raw_metadata(file, storage_options={})
    assert not asked
    with dask.config.set({"tiffstack.header_cache": 0}):  # and are kept within the same bound
        cache.get_raw_metadata(files[0], storage_options={})
    cache.get_raw_metadata(files[1], storage_options={})
    assert asked


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}, {}], ids=str)
def test_a_file_is_opened_once_for_its_header_and_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    for i in range(40):  # no two are built alike, so none is known without a parse
        compression = {} if "imagej" in options else {"compression": "zlib"}
        data = pixels(3, 20, 30 + i)
        tifffile.imwrite(
            tmp_path / f"{i:02}.tif", data, photometric="minisblack", **compression, **options
        )
    opened: list[str] = []
    real = tifffile.TiffFile.__init__

    def init(self: tifffile.TiffFile, file: Any, **arguments: Any) -> None:
        opened.append(Path(file.name).name)
        real(self, file, **arguments)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", init)
    cache = HeaderCache()
    for i in range(40):
        file = listed(tmp_path / f"{i:02}.tif")
        get(cache, file)
        raw = cache.get_raw_metadata(file, storage_options={})
        assert raw == read_raw_metadata(file)
        assert cache.get_raw_metadata(file, storage_options={}) is raw
    # once by the cache, and once for what it is compared with
    assert len(opened) == 80


def test_raw_metadata_are_kept_within_the_bound_of_headers(path: Path) -> None:
    cache, file = HeaderCache(), listed(path)
    other = listed(shutil.copy(path, path.with_name("b.tif")))
    get(cache, file)
    first = cache.get_raw_metadata(file, storage_options={})
    with dask.config.set({"tiffstack.header_cache": 0}):
        cache.get_raw_metadata(other, storage_options={})
    again = cache.get_raw_metadata(file, storage_options={})
    assert again == first
    assert again is not first


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"metadata": None}, {"compression": "zlib"}], ids=str
)
def test_a_file_cut_between_its_pages_is_no_shorter_stack(tmp_path, options, share):
    path = tmp_path / "cut.tif"
    pixels = np.random.default_rng(0).integers(0, 9999, (6, 32, 32)).astype("u2")
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    with path.open("r+b") as handle:
        handle.truncate(int(path.stat().st_size * share))
    status = path.stat()
    with pytest.raises(UnreadableFileError, match=r"cut\.tif is truncated"):
        read_header(File(str(path), status.st_size, status.st_mtime_ns, None))


def test_a_fork_finds_no_lock_that_another_thread_holds():
    held = headers._CACHE._lock
    with held:
        headers._CACHE.renew_locks()
        assert headers._CACHE._lock is not held
        assert headers._CACHE._lock.acquire(timeout=1)
        headers._CACHE._lock.release()


# -- the registry of codecs ----------------------------------------------------------------------


def test_codecs_have_names_of_tifffile_and_numbers_of_their_own() -> None:
    tags = [tag for codec in CODECS for tag in codec.tags]
    assert len(tags) == len(set(tags))
    for codec in CODECS:
        assert codec.name in {tifffile.COMPRESSION(tag).name for tag in codec.tags}
        assert all(find_codec(tag) is codec for tag in codec.tags)


def test_a_compression_that_is_not_listed_has_a_name_alone() -> None:
    assert find_codec(50001) == Codec("WEBP", (50001,))
    assert find_codec(4242).name == "number 4242"
