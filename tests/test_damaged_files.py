"""Files that are damaged or made to harm: an error of ours in bounded time, never wrong pixels."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.errors import (
    TiffStackWarning,
    TooLargeError,
    UnreadableFileError,
    UnsupportedFileError,
)
from intake_tiffstack.header.cache import clear_headers
from intake_tiffstack.header.dim_names import name_dims
from intake_tiffstack.header.direct import _decode_lzw_by_libtiff, check_lzw


def write(path: Path, pages: int = 1, value: int = 7, **options: object) -> Path:
    with tifffile.TiffWriter(path) as tif:
        for page in range(pages):
            frame = np.full((8, 6), value + page, np.uint16)
            tif.write(frame, contiguous=False, metadata=None, **options)
    return path


def patch(path: Path, at: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(content)


def offset_of_tag(path: Path, name: str) -> int:
    with tifffile.TiffFile(path) as tif:
        return int(tif.pages[0].tags[name].offset)


# -- loops -----------------------------------------------------------------------------------------


@pytest.mark.timeout(20)
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("description", [None, "plain"], ids=["bare", "described"])
def test_pages_that_run_in_a_circle_are_an_error(
    tmp_path: Path, bigtiff: bool, target: int, description: str | None
) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tif:
        for page in range(3):  # unequal sizes: tifffile walks them one by one
            tif.write(
                np.full((8, 6 + page), page, np.uint16), metadata=None, description=description
            )
    with tifffile.TiffFile(path) as tif:
        offsets = [page.offset for page in tif.pages]
        last, count = tif.pages[2].offset, len(tif.pages[2].tags)
    at = last + (8 + 20 * count if bigtiff else 2 + 12 * count)
    patch(path, at, struct.pack("<Q" if bigtiff else "<I", offsets[target]))
    with pytest.raises(UnreadableFileError, match=r"a\.tif .*its pages run in a circle at byte"):
        _ = open_stack(path).shape


@pytest.mark.timeout(20)
@pytest.mark.parametrize("tags", [40, 4000])
def test_directories_that_overlap_are_an_error(tmp_path: Path, tags: int) -> None:
    """Thousands of pages with thousands of tags each, all of them in the same 96 kB."""
    path = write(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tif:
        end = tif.pages[0].offset + 2 + 12 * len(tif.pages[0].tags)
    start = path.stat().st_size
    patch(path, end, struct.pack("<I", start))
    entries = 8000
    content = bytearray(12 * (entries + 1))
    for i in range(entries):  # each is a count of tags, a tag, and what follows the last of them
        following = start + 12 * (i - tags + 1) if tags <= i < entries - 1 else 0
        struct.pack_into("<HII", content, 12 * i, tags, following, 1)
    with path.open("ab") as file:
        file.write(content)
    with pytest.raises(UnreadableFileError, match=r"a\.tif .*directories of its pages overlap"):
        _ = open_stack(path).shape


def test_names_of_many_repeated_axes_are_numbered_in_linear_time() -> None:
    names = name_dims("Q" * 50_000 + "YX")
    assert names[:3] == ("page", "page_1", "page_2")
    assert names[-3:] == ("page_49999", "y", "x")


@pytest.mark.timeout(20)
def test_more_dims_than_an_array_can_have_are_an_error(tmp_path: Path) -> None:
    shape = ",".join(["1"] * 5_000 + ["8", "6"])
    path = write(tmp_path / "a.tif", description=f'{{"shape": [{shape}]}}')
    with pytest.raises(UnsupportedFileError, match=r"an image of 5,002 dims; NumPy has 64"):
        _ = open_stack(path).shape


# -- what is no data -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 2}])
@pytest.mark.parametrize("is_twin", [False, True], ids=["alone", "behind a twin"])
def test_an_offset_of_zero_with_bytes_is_an_error(
    tmp_path: Path, options: dict[str, object], is_twin: bool
) -> None:
    for t in range(3):
        write(tmp_path / f"t{t}.tif", value=t, **options)
    broken = tmp_path / "t2.tif"
    with tifffile.TiffFile(broken) as tif:
        tag = tif.pages[0].tags["StripOffsets"]
        at, nbytes = tag.valueoffset, 4 * tag.count
    patch(broken, at, b"\0" * min(nbytes, 4))
    clear_headers()
    if is_twin:
        assert open_stack(tmp_path / "t0.tif").read()[0, 0] == 0
        assert open_stack(tmp_path / "t1.tif").read()[0, 0] == 1
    with pytest.raises(UnreadableFileError, match=r"t2\.tif is corrupt: page 0 .* byte 0"):
        open_stack(broken).read()
    stack = open_stack(f"{tmp_path}/*.tif", pattern="t{t:d}.tif", on_error="fill", fill_value=9)
    assert stack.read()[:, 0, 0].tolist() == [0, 1, 9]


@pytest.mark.parametrize("name", ["StripOffsets", "StripByteCounts"])
def test_an_offset_or_count_that_is_no_integer_is_an_error(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a.tif")
    patch(path, offset_of_tag(path, name) + 2, struct.pack("<HIf", 11, 1, 8.7))
    with pytest.raises(UnreadableFileError, match=r"a\.tif.* 8\.69"):
        open_stack(path).read()


# -- what libraries raise --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "xml",
    [
        '<?xml version="1.0"?><scn><collection <</scn>',
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn"><a></scn>',
    ],
)
def test_broken_xml_of_a_vendor_costs_no_pixels(tmp_path: Path, xml: str) -> None:
    for t in range(3):
        write(tmp_path / f"t{t}.tif", value=t, description=xml if t == 1 else None)
    urlpath = f"{tmp_path}/*.tif"
    stack = open_stack(urlpath, pattern="t{t:d}.tif", validate="all")
    with pytest.warns(TiffStackWarning, match=r"t1\.tif: .* scn metadata make no image .*ParseErr"):
        pixels = stack.read()
    assert pixels[:, 0, 0].tolist() == [0, 1, 2]


DAMAGED_LZW = """
import imagecodecs, numpy as np, sys, tifffile
from intake_tiffstack import open_stack
from intake_tiffstack.errors import TiffStackWarning, UnreadableFileError

rng = np.random.default_rng(5)
pixels = rng.integers(0, 99, (64, 64), np.uint16).cumsum(1).astype(np.uint16)
for predictor in (1, 2):
    tifffile.imwrite("a.tif", pixels, compression="lzw", predictor=predictor, metadata=None)
    with tifffile.TiffFile("a.tif") as tif:
        at, count = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    whole = open("a.tif", "rb").read()
    assert (open_stack("a.tif").read() == pixels).all()
    errors = 0
    for number in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(at, at + count, 6):
            damaged[place] = rng.integers(256)
        open("b.tif", "wb").write(damaged)
        try:
            open_stack("b.tif").read()
        except UnreadableFileError:
            errors += 1
    assert errors > 15, errors
"""


def test_damaged_lzw_does_not_end_the_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED_LZW],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]


UNWRITTEN_LZW = """
import struct
import numpy as np
from intake_tiffstack import open_stack
from intake_tiffstack.errors import UnreadableFileError

def pack(codes, is_old):
    bits = [f"{code:09b}"[:: -1 if is_old else 1] for code in codes]
    text = "".join(bits).ljust(9 * len(codes) + -9 * len(codes) % 8, "0")
    order = -1 if is_old else 1
    return bytes(int(text[i : i + 8][::order], 2) for i in range(0, len(text), 8))

for is_old in (False, True):
    for fill_order in (1, 2):
        for predictor in (1, 2):
            # the second code is that of a table that was never written
            stream = pack([256, 300, *range(60, 75), 257], is_old)
            if fill_order == 2:
                stream = bytes(int(f"{byte:08b}"[::-1], 2) for byte in stream)
            tags = {256: 4, 257: 4, 258: 8, 259: 5, 262: 1, 266: fill_order, 273: 8}
            tags |= {277: 1, 278: 4, 279: len(stream), 317: predictor}
            directory = b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in tags.items())
            with open("a.tif", "wb") as file:
                file.write(struct.pack("<4sI", b"II*\\0", 8 + len(stream)) + stream)
                file.write(struct.pack("<H", len(tags)) + directory + bytes(4))
            for size in (81_936, 81_944, 81_952):  # of a decoder's table, which is where these were
                junk = [np.full(size // 8, 5) for _ in range(50)]
                del junk
                try:
                    open_stack("a.tif").read()
                except UnreadableFileError:
                    continue
                raise AssertionError("pixels out of nowhere")
"""


def test_a_code_of_lzw_without_a_table_does_not_end_the_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNWRITTEN_LZW],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


@pytest.mark.parametrize("length", [1, 300, 5_000, 70_000])
@pytest.mark.parametrize("values", [1, 3, 256])
def test_whole_lzw_streams_pass_the_check_and_are_decoded_by_libtiff(
    length: int, values: int
) -> None:
    content = np.random.default_rng(5).integers(0, values, length).astype(np.uint8)
    stream = imagecodecs.lzw_encode(content)
    check_lzw(stream)
    out = np.empty_like(content)
    assert len(_decode_lzw_by_libtiff(memoryview(stream), out)) == length
    np.testing.assert_array_equal(out, content)
    with pytest.raises(RuntimeError, match=r"LZWDecode|EncodedStrip"):  # no less than all of it
        _decode_lzw_by_libtiff(memoryview(stream[: len(stream) // 2]), out)


@pytest.mark.parametrize("before", [0, 252, 253, 254, 766, 1790, 3837, 4100])
def test_the_check_of_lzw_finds_a_code_behind_any_clear_code(before: int) -> None:
    """Behind so many codes: their widths change at some of these."""
    bits, entries = f"{256:09b}", 0
    for number in range(before):
        width = next(w for w, n in [(9, 253), (10, 765), (11, 1789), (12, 9999)] if entries <= n)
        bits += f"{number % 256:0{width}b}"
        entries += 1
    width = next(w for w, n in [(9, 253), (10, 765), (11, 1789), (12, 9999)] if entries <= n)
    bits += f"{256:0{width}b}"

    def packed(code: int) -> bytes:
        text = bits + f"{code:09b}" + f"{66:09b}{257:09b}"
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")

    for code in (0, 255, 256, 257):
        check_lzw(packed(code))
    for code in (258, 300, 511):
        with pytest.raises(ValueError, match=f"no code {code} can follow a CLEAR code"):
            check_lzw(packed(code))


# -- streams that claim to be huge -----------------------------------------------------------------


def with_huge_jpeg(path: Path, **options: object) -> Path:
    """Write a small JPEG in a TIFF whose stream declares 65500 x 65500 pixels."""
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="jpeg", **options)
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0")  # the frame header: its length, precision, then both sizes
    content[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}, {"rowsperstrip": 16}], ids=str)
def test_a_jpeg_stream_larger_than_its_segment_is_refused_before_it_is_decoded(
    tmp_path: Path, options: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    path = with_huge_jpeg(tmp_path / "a.tif", **options)
    with pytest.raises(UnreadableFileError, match=r"a\.tif: .*declares 65,500 x 65,500 pixels"):
        open_stack(str(path)).read()
    filled = open_stack(str(path), on_error="fill", fill_value=9).read()
    assert (filled == 9).all()
    assert "a.tif" in caplog.text


@pytest.mark.parametrize("compression", ["jpeg", "zlib"])
def test_memory_that_a_decoder_cannot_get_is_an_error_of_the_file(
    tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), metadata=None)
    number = int(tifffile.COMPRESSION[compression.upper().replace("ZLIB", "ADOBE_DEFLATE")])
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["Compression"].overwrite(number)

    def decode(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setitem(vars(tifffile.TIFF)["DECOMPRESSORS"]._codecs, number, decode)
    if compression == "jpeg":
        monkeypatch.setattr("imagecodecs.jpeg_decode", decode)
    clear_headers()
    with pytest.raises(UnreadableFileError, match=r"a\.tif: .*cannot be decoded: MemoryError"):
        open_stack(str(path)).read()
    assert (open_stack(str(path), on_error="fill", fill_value=1).read() == 1).all()


def test_pixels_of_whole_jpegs_are_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 50, 3)).astype(np.uint8)
    for name, options in [("strips", {"rowsperstrip": 8}), ("tiles", {"tile": (16, 32)})]:
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, pixels, compression="jpeg", photometric="rgb", **options)
        np.testing.assert_array_equal(open_stack(str(path)).read(), tifffile.imread(path))


@pytest.mark.parametrize("compression", [2, 3, 4, 7, 34712, 50001])  # fax, JPEG, JPEG 2000, WebP
@pytest.mark.parametrize("size", [(2**31 - 1, 2), (3, 2**31 - 1), (2**20, 2**20)], ids=str)
@pytest.mark.parametrize("on_error", ["raise", "fill"])
def test_a_huge_size_of_a_codec_without_bound_is_refused(
    tmp_path: Path, compression: int, size: tuple[int, int], on_error: Any
) -> None:
    """A white line of fax is a bit, so that 60 bytes may hold any size."""
    data = b"\0\x10\1\0" * 15
    entries = {256: size[0], 257: size[1], 258: 1, 259: compression, 262: 0, 273: 8}
    entries |= {277: 1, 278: size[1], 279: len(data)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in entries.items())
    start = struct.pack("<4sI", b"II*\0", 8 + len(data))
    end = struct.pack("<H", len(entries)) + directory + bytes(4)
    (tmp_path / "a.tif").write_bytes(start + data + end)
    with pytest.raises(TooLargeError, match=r"a\.tif: one page declares"):
        _ = open_stack(str(tmp_path / "a.tif"), on_error=on_error).shape
