"""Small files as microscopes write them: their metadata decide what the pages are."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import TIFF

__all__ = ["VENDORS", "planes", "tag_at"]

_PLAIN: dict[str, Any] = {"metadata": None, "contiguous": False, "photometric": "minisblack"}


def planes(count: int, dtype: str = "u2") -> NDArray[Any]:
    """Return planes of 12 x 16 pixels, no two of them alike."""
    return (7 * np.arange(count * 192).reshape(count, 12, 16) % 251 + 1).astype(dtype)


def tag_at(path: Path, code: int) -> int:
    """Return where the value of a tag of the first page is."""
    with tifffile.TiffFile(path) as tif:
        return int(tif.pages.first.tags[code].valueoffset)


def _longs(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _write(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False), byteorder="<") as tif:
        for page in pixels:
            tif.write(page, **{**_PLAIN, **options})


def write_lsm(path: Path) -> NDArray[Any]:
    """Write what a Zeiss LSM 510 does: two time points of two planes, with a thumbnail each."""
    fields = [(name or f"r{i}", kind) for i, (name, kind) in enumerate(TIFF.CZ_LSMINFO)]
    info = np.zeros(1, np.dtype(fields).newbyteorder("<"))
    values = {
        "MagicNumber": 67127628, "StructureSize": info.nbytes, "DimensionX": 16, "DimensionY": 12,
        "DimensionZ": 2, "DimensionChannels": 1, "DimensionTime": 2, "ScanType": 6,
        "VoxelSizeX": 2e-7, "VoxelSizeY": 2e-7, "VoxelSizeZ": 1e-6, "TimeIntervall": 1.5,
    }  # fmt: skip
    for key, value in values.items():
        info[key] = value
    pixels = planes(4, "u1")
    with tifffile.TiffWriter(path, byteorder="<") as tif:
        for i, page in enumerate(pixels):
            tags = [(34412, 1, info.nbytes, info.tobytes(), True)] if i == 0 else []
            tif.write(page, **_PLAIN, extratags=tags)
            tif.write(page[:4, :4], **_PLAIN, subfiletype=1)
    content = bytearray(path.read_bytes())
    start = content.find(info.tobytes())
    names = b"".join(_longs(len(name) + 1) + name + b"\0" for name in (b"Ch1",))
    blocks = {
        "TimeStamps": struct.pack("<ii2d", 24, 2, 10.0, 11.5),
        "ChannelColors": _longs(28 + len(names), 1, 1, 24, 28, 0) + b"\xff\0\0\0" + names,
    }
    for name, block in blocks.items():
        place = start + np.dtype(fields).fields[f"Offset{name}"][1]  # type: ignore[index]
        struct.pack_into("<I", content, place, len(content))
        content += block
    path.write_bytes(content)
    return pixels.reshape(2, 2, 12, 16)


def write_stk(path: Path) -> NDArray[Any]:
    """Write what MetaMorph does: six planes along z behind one page, and all four UIC tags."""
    pixels, n = planes(6), 6
    tags = [(33628, 4, 10, [0] * 10, True), (33631, 4, 10, [0] * 10, True)]
    tags += [(33629 + i, 5, n, [1] * 2 * n, True) for i in range(2)]
    tifffile.imwrite(path, pixels[0], **_PLAIN, extratags=tags, byteorder="<")
    content = bytearray(path.read_bytes())
    content += bytes(-len(content) % 4)

    def put(code: int, kind: int, count: int, value: bytes) -> None:
        struct.pack_into("<HHII", content, entries[code], code, kind, count, len(content))
        content.extend(value)

    with tifffile.TiffFile(path) as tif:
        entries = {tag.code: tag.offset for tag in tif.pages.first.tags}
    size, unit = len(content), len(content) + 8
    content += _longs(65, 100) + _longs(3) + b"um\0\0"
    put(33628, 4, 4, _longs(3, 1, 4, size, 5, size, 6, unit))
    moments = [_longs(2, 1, 2451545, 500 * i, 2451545, 500 * i) for i in range(n)]
    put(33629, 5, n, b"".join(moments))
    put(33630, 5, n, _longs(*[488, 1] * n))
    heights = b"".join(_longs(10 + 2 * i, 1) for i in range(n))
    own = struct.pack("<H", 40) + heights + struct.pack("<H", 41) + _longs(*[1] * n)
    put(33631, 4, n, own + b"\0\0")
    struct.pack_into("<HHII", content, entries[273], 273, 4, 1, len(content))
    path.write_bytes(content + pixels.tobytes())
    return pixels


def write_fluoview(path: Path) -> NDArray[Any]:
    """Write what Olympus FluoView does: three time points of two planes."""
    head = np.zeros(1, np.dtype(TIFF.MM_HEADER).newbyteorder("<"))
    dims = [
        (b"X", 16, 0, 0.5, b"um"), (b"Y", 12, 0, 0.5, b"um"), (b"Z", 2, 0, 2.0, b"um"),
        (b"Time", 3, 0, 250.0, b"ms"),
    ]  # fmt: skip
    for i, dim in enumerate(dims):
        head["Dimensions"][0, i] = dim
    tags = [(34361, 1, head.nbytes, head.tobytes(), True), (34362, 12, 8, bytes(64), True)]
    pixels = planes(6)
    _write(path, pixels, extratags=tags)
    return pixels.reshape(3, 2, 12, 16)


def write_scanimage(path: Path) -> NDArray[Any]:
    """Write what ScanImage 4 does: frames whose descriptions grow with their number."""
    pixels = planes(12)
    with tifffile.TiffWriter(path, byteorder="<") as tif:
        for i, page in enumerate(pixels):
            text = f"frameNumbers = {'1' * (1 + i // 4)}\nscanimage.SI4.scanFrameRate = 20.5"
            tif.write(page, **_PLAIN, description=text)
    return pixels


def write_scn(path: Path) -> NDArray[Any]:
    """Write what a Leica SCN 400 does: a slide."""
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        '<collection sizeX="16" sizeY="12"><image name="a"><pixels sizeX="16" sizeY="12">'
        '<dimension sizeX="16" sizeY="12" r="0" ifd="0"/></pixels></image></collection></scn>'
    )
    pixels = planes(1, "u1")
    _write(path, pixels, bigtiff=True, description=xml)
    return pixels[0]


def write_svs(path: Path) -> NDArray[Any]:
    """Write what an Aperio scanner does: a slide."""
    text = (
        "Aperio Image Library v10\r\n16x12 (240x240) J2K|AppMag = 20|Date = 12/29/09|"
        "Time = 09:59:15|MPP = 0.4990"
    )
    pixels = planes(1, "u1")
    _write(path, pixels, description=text, tile=(16, 16))
    return pixels[0]


def write_mmstack(path: Path) -> NDArray[Any]:
    """Write what Micro-Manager 1.4 does: four planes, and the index of their pages behind them."""
    pixels = planes(4)
    summary = {"PixelSize_um": 0.5, "z-step_um": 2.0, "MicroManagerVersion": "1.4", "Frames": 1}
    text = json.dumps(summary | {"Slices": 4, "Channels": 1, "ChNames": ["DAPI"]}).encode()
    content = bytearray(struct.pack("<2sHI", b"II", 42, 40 + len(text)))
    content += _longs(54773648, 0, 483765892, 0, 99384722, 0, 2355492, len(text)) + text
    places = []
    for number, page in enumerate(pixels):
        at = len(content)
        places.append(at)
        record = json.dumps({"ZPositionUm": 2.0 * number}).encode() + b"\0"
        end = at + 162 + page.nbytes
        tags = [
            (256, 4, 1, 16), (257, 4, 1, 12), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, at + 162), (277, 3, 1, 1), (278, 3, 1, 12), (279, 4, 1, page.nbytes),
            (282, 5, 1, end), (283, 5, 1, end), (296, 3, 1, 3), (51123, 2, len(record), end + 8),
        ]  # fmt: skip
        content += struct.pack("<H", len(tags))
        content += b"".join(struct.pack("<HHII", *tag) for tag in tags)
        content += _longs(0 if number == 3 else end + 8 + len(record))
        content += page.tobytes() + _longs(20000, 1) + record
    struct.pack_into("<I", content, 12, len(content))
    content += _longs(3453623, 4)
    content += b"".join(_longs(0, z, 0, 0, place) for z, place in enumerate(places))
    path.write_bytes(content)
    return pixels


def write_gdal(path: Path) -> NDArray[Any]:
    """Write what GDAL does: a map in UTM with a name, a scale and no data."""
    keys = [1, 1, 0, 3, 1024, 0, 1, 1, 3072, 0, 1, 32618, 3076, 0, 1, 9001]
    items = '<Item name="DESCRIPTION" sample="0" role="description">red</Item>'
    items += '<Item name="SCALE" sample="0" role="scale">0.5</Item>'
    tags = [
        (33550, 12, 3, (30.0, 30.0, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0), True),
        (34735, 3, len(keys), keys, True),
        (42112, 2, 0, f"<GDALMetadata>{items}</GDALMetadata>", True),
        (42113, 2, 0, "-9999", True),
    ]
    pixels = planes(1, "i2")
    _write(path, pixels, extratags=tags)
    return pixels[0]


VENDORS: Mapping[str, Callable[[Path], NDArray[Any]]] = {
    "a.lsm": write_lsm,
    "a.stk": write_stk,
    "fluoview.tif": write_fluoview,
    "scanimage.tif": write_scanimage,
    "a.scn": write_scn,
    "a.svs": write_svs,
    "a_MMStack.tif": write_mmstack,
    "map.tif": write_gdal,
}
"""Name of a file to what writes it and returns its pixels."""
