"""Small TIFF files of every layout, for the tests of headers and of reading.

Each writer takes a path and says which image of the file is meant. What the pixels are is for
:func:`tifffile.imread` to say, except where a file holds none (``sparse``).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.store import stat_file

Image = dict[str, int]
"""Which image of a file: ``series`` and ``level``, those that are not 0."""

WRITERS: dict[str, Callable[[Path], Image | None]] = {}
"""How to write a file of each layout."""

# tifffile 2026.5.2 brought `kind` and deprecated `imagej` and `ome`; the older one knows only those
_HAS_KIND = "kind" in signature(tifffile.imwrite).parameters


def kind(name: str) -> dict[str, Any]:
    """Return the argument of ``tifffile.imwrite`` that chooses ImageJ or OME."""
    return {"kind": name} if _HAS_KIND else {name: True}


def pixels(*shape: int, dtype: DTypeLike = "uint16", seed: int = 0) -> NDArray[Any]:
    """Return pixels no two of which are the same by rule, smooth enough for any codec."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng([seed, *shape])
    if dtype.kind in "fc":
        values = rng.normal(size=shape)
        return (values + 1j * rng.normal(size=shape) if dtype.kind == "c" else values).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) > 0.5
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def listed(path: str | Path) -> File:
    """Return the file as the listing sees it now."""
    return stat_file(str(path), {})


def writer(function: Callable[[Path], Image | None]) -> Callable[[Path], Image | None]:
    """Add a function to :data:`WRITERS` by its name."""
    WRITERS[function.__name__] = function
    return function


def _register(name: str, data: NDArray[Any], **options: Any) -> None:
    options.setdefault("photometric", "minisblack")
    options.setdefault("metadata", None)

    def write(path: Path) -> None:
        tifffile.imwrite(path, data, **options)

    WRITERS[name] = write


def write_pages(path: Path, data: NDArray[Any], **options: Any) -> None:
    """Write each page with its own directory in front of it, so that pages are not contiguous."""
    with tifffile.TiffWriter(path, byteorder=options.pop("byteorder", None)) as tif:
        for page in data:
            tif.write(page, contiguous=False, **{"metadata": None, **options})


ZYX = pixels(4, 23, 17)
for _dtype in ("uint8", "int16", "uint32", "int64", "float16", "float32", "float64", "bool"):
    _register(f"contiguous_{_dtype}", pixels(3, 11, 13, dtype=_dtype), metadata={"axes": "ZYX"})
for _dtype in ("complex64", "complex128"):
    _register(f"contiguous_{_dtype}", pixels(3, 11, 13, dtype=_dtype), metadata={"axes": "ZYX"})
for _codec in ("zlib", "lzw", "zstd", "packbits", "lzma"):
    _register(f"strips_{_codec}", ZYX, compression=_codec, rowsperstrip=5)
for _codec in ("zlib", "lzw", "zstd"):
    _register(f"tiles_{_codec}_predictor", ZYX, compression=_codec, tile=(16, 16), predictor=True)
    _register(
        f"big_endian_{_codec}_float_predictor",
        pixels(2, 23, 17, dtype="float32"),
        compression=_codec,
        predictor=True,
        byteorder=">",
    )
_register("shaped_singletons", pixels(1, 3, 1, 12, 1), metadata={"axes": "TZCYX"})
_register("line", pixels(1, 29))
_register("one_pixel", pixels(1, 1))
_register("column", pixels(29, 1), compression="zlib")
_register("big_endian", ZYX, byteorder=">", metadata={"axes": "ZYX"})
_register("big_endian_complex", pixels(5, 7, dtype="complex64"), byteorder=">")
_register("bigtiff", ZYX, bigtiff=True, metadata={"axes": "ZYX"})
_register("bigtiff_tiles", ZYX, bigtiff=True, tile=(16, 16), compression="zlib")
_register("strips", ZYX, rowsperstrip=4)
_register("tiles", ZYX, tile=(16, 32))
_register("tiles_that_fit", pixels(2, 32, 48), tile=(16, 48))
_register("volume_tiles", pixels(9, 23, 17), tile=(4, 16, 16), volumetric=True, compression="zlib")
_register("volume", pixels(9, 23, 17), volumetric=True)
_register("rgb", pixels(19, 23, 3, dtype="uint8"), photometric="rgb")
_register("rgb_pages", pixels(4, 19, 23, 3), photometric="rgb", metadata={"axes": "ZYXS"})
_register("rgba_tiles", pixels(33, 23, 4), photometric="rgb", tile=(16, 16), compression="zlib")
_register("planar", pixels(3, 19, 23), photometric="rgb", planarconfig="separate")
_register(
    "planar_tiles",
    pixels(2, 3, 33, 23),
    photometric="rgb",
    planarconfig="separate",
    tile=(16, 16),
    compression="lzw",
    predictor=True,
)
_register(
    "planar_strips",
    pixels(2, 4, 33, 23),
    photometric="rgb",
    planarconfig="separate",
    rowsperstrip=7,
)
_register(
    "planar_volume_tiles",
    pixels(3, 9, 23, 17),
    photometric="rgb",
    planarconfig="separate",
    volumetric=True,
    tile=(4, 16, 16),
)
_register(
    "jpeg_tiles",
    np.add.outer(np.arange(35), np.arange(41)).astype("uint8"),
    compression="jpeg",
    tile=(16, 16),
)
_register("many_pages", pixels(1, 21, 8, 16), tile=(16, 16), metadata={"axes": "TZYX"})
_register("imagej", pixels(2, 3, 2, 11, 13), metadata={"axes": "TZCYX"}, **kind("imagej"))
_register(
    "imagej_rgb",
    pixels(2, 11, 13, 3, dtype="uint8"),
    photometric="rgb",
    metadata={"axes": "ZYXS"},
    **kind("imagej"),
)
for _axes in ("TCZYX", "CTZYX", "ZYX", "TYXS", "QYX"):
    _shape = [{"Y": 11, "X": 13, "S": 3}.get(_axis, 2 + _i) for _i, _axis in enumerate(_axes)]
    _register(
        f"ome_{_axes.lower()}",
        pixels(*_shape, dtype="uint8"),
        photometric="rgb" if "S" in _axes else "minisblack",
        metadata={"axes": _axes},
        **kind("ome"),
    )


@writer
def pages(path: Path) -> None:
    write_pages(path, ZYX)


@writer
def pages_of_strips(path: Path) -> None:
    write_pages(path, ZYX, rowsperstrip=3)


@writer
def pages_big_endian(path: Path) -> None:
    write_pages(path, ZYX, byteorder=">")


@writer
def pages_of_zlib_strips(path: Path) -> None:
    write_pages(path, ZYX, rowsperstrip=3, compression="zlib")


@writer
def imagej_truncated(path: Path) -> None:
    """As ImageJ writes more than 4 GB: one directory, and the pages behind each other."""
    options = {"metadata": {"axes": "TZYX"}, "photometric": "minisblack", **kind("imagej")}
    tifffile.imwrite(path, pixels(3, 4, 11, 13), truncate=True, **options)


@writer
def shaped_truncated(path: Path) -> None:
    tifffile.imwrite(path, pixels(3, 4, 11, 13), truncate=True, photometric="minisblack")


@writer
def second_series(path: Path) -> Image:
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels(3, 7, 9), photometric="minisblack")
        tif.write(pixels(2, 17, 19, dtype="float32"), photometric="minisblack", compression="zlib")
    return {"series": 1}


@writer
def pyramid(path: Path) -> Image:
    with tifffile.TiffWriter(path) as tif:
        options: dict[str, Any] = {"photometric": "minisblack", "tile": (16, 16)}
        options |= {"compression": "zlib", "metadata": None}
        tif.write(pixels(64, 48), subifds=2, **options)
        tif.write(pixels(32, 24), subfiletype=1, **options)
        tif.write(pixels(16, 12), subfiletype=1, **options)
    return {"level": 1}


@writer
def pyramid_of_stacks(path: Path) -> Image:
    with tifffile.TiffWriter(path, **kind("ome")) as tif:
        options: dict[str, Any] = {"photometric": "minisblack", "tile": (16, 16)}
        data = pixels(3, 64, 48)
        tif.write(data, subifds=1, metadata={"axes": "ZYX"}, **options)
        tif.write(data[:, ::2, ::2], subfiletype=1, **options)
    return {"level": 1}


@writer
def ome_with_a_page_missing(path: Path) -> None:
    """The second of three time points is named in the OME-XML, but no page is."""
    _write_ome_with_a_page_missing(path)


@writer
def zlib_ome_with_a_page_missing(path: Path) -> None:
    _write_ome_with_a_page_missing(path, compression="zlib", rowsperstrip=8)


def _write_ome_with_a_page_missing(path: Path, **options: Any) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="17" SizeY="23" '
        'SizeZ="1" SizeC="1" SizeT="3"><Channel ID="Channel:0"/>'
        '<TiffData FirstT="0" IFD="0" PlaneCount="1"/><TiffData FirstT="2" IFD="1" PlaneCount="1"/>'
        "</Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(path) as tif:
        tif.write(ZYX[0], contiguous=False, metadata=None, description=xml, **options)
        tif.write(ZYX[1], contiguous=False, metadata=None, **options)


@writer
def sparse_tiles(path: Path) -> None:
    """As GDAL writes SPARSE_OK: tiles without bytes, which read as GDAL_NODATA."""
    tiles = pixels(12, 16, 16, dtype="int16")
    empty = {1, 4, 5, 11}
    tifffile.imwrite(
        path,
        (None if i in empty else tile for i, tile in enumerate(tiles)),
        shape=(2, 30, 40),
        dtype="int16",
        tile=(16, 16),
        photometric="minisblack",
        compression="zlib",
        metadata=None,
        extratags=[(42113, 2, 0, "-7", False)],
    )


# -- files that tifffile does not write: one field after the other -------------------------------


def write_raw(
    path: Path,
    ifds: Sequence[dict[int, Any]],
    *,
    byteorder: str = "<",
    pixels_first: bool = True,
    pad: bytes = b"",
) -> None:
    """Write a classic TIFF from tags, as TIFF 6.0 section 2 has it.

    Each tag is a number, a sequence of numbers or ASCII bytes; 273 (offsets) holds the segments'
    bytes instead, None for one that is not there, from which 273 and 279 are made; *pad* goes in
    front of each. Numbers are LONG, those of the tags below 300 that are SHORT by the book too.
    """
    out = bytearray((b"II*\0" if byteorder == "<" else b"MM\0*") + bytes(4))
    link = 4
    for tags in ifds:
        tags = dict(tags)
        offsets: list[int] = []
        counts: list[int] = []
        for segment in tags.pop(273):
            out += pad if segment is not None else b""
            offsets.append(len(out) if segment is not None else 0)
            counts.append(len(segment or b""))
            out += segment or b""
        places, sizes = (324, 325) if 322 in tags else (273, 279)
        tags |= {places: offsets, sizes: tags.get(sizes, counts)}
        out += bytes(len(out) % 2)
        entries = []
        for code, value in sorted(tags.items()):
            if isinstance(value, bytes):
                kind_, count, data = 2, len(value) + 1, value + b"\0"
            else:
                numbers = np.atleast_1d(value).tolist()
                kind_, count = 4, len(numbers)
                data = struct.pack(f"{byteorder}{count}I", *numbers)
            if len(data) > 4:
                place = struct.pack(f"{byteorder}I", len(out))
                out += data + bytes(len(data) % 2)
            else:
                place = data.ljust(4, b"\0")
            entries.append(struct.pack(f"{byteorder}HHI", code, kind_, count) + place)
        out[link : link + 4] = struct.pack(f"{byteorder}I", len(out))
        out += struct.pack(f"{byteorder}H", len(entries)) + b"".join(entries)
        link = len(out)
        out += bytes(4)
    path.write_bytes(out)


def plain_tags(height: int, width: int, bits: int, **tags: Any) -> dict[int, Any]:
    """Return the tags of one grey page of a single strip; others as ``t279=...``."""
    basic = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height}
    return basic | {int(name[1:]): value for name, value in tags.items()}


def _strips(page: NDArray[Any], rows: int) -> list[bytes]:
    return [page[i : i + rows].tobytes() for i in range(0, len(page), rows)]


@writer
def odd_offsets(path: Path) -> None:
    """Pixels of two bytes that begin at odd bytes of the file."""
    segments = [{**plain_tags(23, 17, 16), 273: [page.tobytes()]} for page in ZYX]
    write_raw(path, segments, pad=b"#")


@writer
def later_page_in_pieces(path: Path) -> None:
    """The strips of the first page follow each other, those of the second do not."""
    first, second = ({**plain_tags(23, 17, 16, t278=5), 273: _strips(p, 5)} for p in ZYX[:2])
    second[273][2:4] = [second[273][2] + b"##########", second[273][3]]
    counts = [5 * 34] * 4 + [3 * 34]
    write_raw(path, [first, {**second, 279: counts}])


@writer
def later_page_backwards(path: Path) -> None:
    """The strips of the second page lie in the file from last to first."""
    tags = plain_tags(24, 17, 16, t278=6)
    page = pixels(2, 24, 17)
    write_raw(path, [{**tags, 273: _strips(page[0], 6)}, {**tags, 273: _strips(page[1], 6)}])
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[1].aspage().tags[273]  # type: ignore[union-attr]
        raw[tag.valueoffset : tag.valueoffset + 16] = struct.pack("<4I", *tag.value[::-1])
    path.write_bytes(raw)


@writer
def packed_12_bit(path: Path) -> None:
    """Three bytes a pair of pixels, each row filled up to a byte."""
    bits = np.unpackbits(pixels(11, 13).byteswap().view("uint8").reshape(11, 13, 2), axis=-1)
    rows = np.packbits(bits[..., 4:].reshape(11, 13 * 12), axis=-1)
    write_raw(path, [{**plain_tags(11, 13, 12, t278=4), 273: _strips(rows, 4)}], byteorder=">")


@writer
def bilevel_lsb_first(path: Path) -> None:
    rows = np.packbits(pixels(11, 13, dtype=bool), axis=-1, bitorder="little")
    write_raw(path, [{**plain_tags(11, 13, 1, t266=2), 273: [rows.tobytes()]}])


@writer
def bytes_lsb_first(path: Path) -> None:
    page = pixels(11, 13, dtype="uint8")
    write_raw(path, [{**plain_tags(11, 13, 8, t266=2), 273: [page.tobytes()]}])


@writer
def rgb_of_one_sample(path: Path) -> None:
    """Pages of 10 x 12 x 1 that make an image of 3 x 10 x 12."""
    data = pixels(3, 10, 12, dtype="uint8")
    tags = {**plain_tags(10, 12, 8, t262=2, t278=4), 259: 8}
    strips = [[zlib.compress(strip) for strip in _strips(page, 4)] for page in data]
    write_raw(path, [{**tags, 273: page} for page in strips])


_IMAGES: dict[str, Image] = {}


def write_case(name: str, folder: Path) -> tuple[File, Image]:
    """Return the file of one of :data:`WRITERS` in *folder*, and which image of it is meant."""
    path = folder / f"{name}.tif"
    if not path.exists():
        _IMAGES[name] = WRITERS[name](path) or {}
    return listed(path), _IMAGES[name]
