"""The files that the benchmarks read: the same pixels each time, written by tifffile.

All are named as a lattice light-sheet microscope names them, one file a channel and time point.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "NAME",
    "PATTERN",
    "REGEX",
    "bands",
    "cubes",
    "long_movies",
    "modest",
    "objects",
    "paged",
    "small",
    "tiled",
    "tiny",
    "volume",
]

NAME = (
    "scan_Cam1_ch{c}_CAM1_stack{t:05d}_488nm_{msec:08d}msec_{abs:010d}msecAbs"
    "_000x_000y_000z_0000t.tif"
)
PATTERN = (
    "{}_Cam{cam}_ch{c:d}_CAM1_stack{t:d}_{wavelength:d}nm_{msec:d}msec_{abs:d}msecAbs"
    "_{tx:d}x_{ty:d}y_{tz:d}z_{tt:d}t.tif"
)
"""How `NAME` is read, for this package and (without its first field) for intake-xarray."""
REGEX = (
    r"(.*?)_Cam(?P<cam>[^/]+?)_ch(?P<c>\d+)_CAM1_stack(?P<t>\d+)_(?P<wavelength>\d+)nm"
    r"_(?P<msec>\d+)msec_(?P<abs>\d+)msecAbs_(?P<tx>\d+)x_(?P<ty>\d+)y_(?P<tz>\d+)z_(?P<tt>\d+)t\.tif"
)
"""The same as one regular expression."""

TINY_SHAPE = (2, 8, 8)
VOLUME_SHAPE = (32, 512, 512)
CUBE_SHAPE = (256, 512, 512)
MOVIE_SHAPE = (201, 1024, 768)
BAND_SHAPE = (16, 512, 1024)
SMALL_SHAPE = (32, 32)
OBJECT_SHAPE = (16, 512, 512)
PAGED_SHAPE = (64, 256, 256)
TILED_SHAPE = (1024, 1024)
TILED_COUNT = 64


def tiny(folder: Path, count: int = 100_000) -> dict[str, float]:
    """Write many files of a few pixels each."""
    paths = _paths(folder, count, channels=4)
    first = next(paths)
    tifffile.imwrite(first, volume(TINY_SHAPE, 0))
    content = first.read_bytes()
    for path in paths:
        path.write_bytes(content)
    return {"files": count}


def volumes(folder: Path, count: int = 60) -> dict[str, float]:
    """Write 1 GB of uncompressed volumes."""
    return _write(folder, VOLUME_SHAPE, count, channels=3)


def cubes(folder: Path, count: int = 4) -> dict[str, float]:
    """Write uncompressed volumes of 134 MB with many planes."""
    return _write(folder, CUBE_SHAPE, count, channels=1)


def long_movies(folder: Path, count: int = 2) -> dict[str, float]:
    """Write uncompressed files of 316 MB."""
    return _write(folder, MOVIE_SHAPE, count, channels=1)


def bands(folder: Path, count: int = 12, *, compression: str) -> dict[str, float]:
    """Write 200 MB (decoded) of volumes in compressed strips."""
    fast = {"level": 1} if compression == "zlib" else {}  # to write; reading takes as long
    return _write(
        folder, BAND_SHAPE, count, channels=2, compression=compression, compressionargs=fast
    )


def many_bands(folder: Path, count: int = 24, *, compression: str) -> dict[str, float]:
    """Write 400 MB (decoded) of volumes in compressed strips."""
    return bands(folder, count, compression=compression)


def small(folder: Path, count: int = 5_000) -> dict[str, float]:
    """Write small planes whose headers are the same byte for byte."""
    return _write(folder, SMALL_SHAPE, count, channels=2)


def small_dated(folder: Path, count: int = 5_000) -> dict[str, float]:
    """Write small planes, zlib and with a time of day, so that no two headers are the same."""
    start = datetime(2019, 1, 1)
    for i, path in enumerate(_paths(folder, count, channels=2)):
        when = start + timedelta(seconds=i)
        tifffile.imwrite(path, volume(SMALL_SHAPE, i), compression="zlib", datetime=when)
    return {"files": count}


def objects(folder: Path, count: int = 20) -> dict[str, float]:
    """Write uncompressed files of 8 MB, for an object store."""
    return _write(folder, OBJECT_SHAPE, count, channels=1)


def paged(folder: Path, count: int = 1) -> dict[str, float]:
    """Write a file of 5 MB with 64 compressed pages, its directories between the pages."""
    facts = _write(folder, PAGED_SHAPE, count, channels=1, compression="zlib")
    with tifffile.TiffFile(next(folder.iterdir())) as tif:
        return {**facts, "plane_bytes": max(sum(page.databytecounts) for page in tif.pages)}


def tiled(folder: Path, count: int = TILED_COUNT) -> dict[str, float]:
    """Write planes of 2 MB in zlib tiles, named by a number alone."""
    folder.mkdir(parents=True)
    for i in range(count):
        options = {"compression": "zlib", "tile": (256, 256), "metadata": None}
        tifffile.imwrite(folder / f"tile_t{i:03d}.tif", volume(TILED_SHAPE, i), **options)
    return {"files": count}


def modest(folder: Path, count: int = 1_000) -> dict[str, float]:
    """Write planes of 100 kB in zlib strips."""
    return _write(folder, (256, 256), count, channels=1, compression="zlib")


def _write(
    folder: Path, shape: tuple[int, ...], count: int, *, channels: int, **options: Any
) -> dict[str, float]:
    """Write *count* files of one shape and return facts about them."""
    path = folder
    for i, path in enumerate(_paths(folder, count, channels)):
        tifffile.imwrite(path, volume(shape, i), **options)
    return {
        "files": count,
        "file_bytes": path.stat().st_size,
        "all_bytes": count * path.stat().st_size,
        "plane_bytes": 2 * shape[-2] * shape[-1],
    }


def _paths(folder: Path, count: int, channels: int) -> Iterator[Path]:
    folder.mkdir(parents=True)
    for i in range(count):
        time, channel = divmod(i, min(count, channels))
        msec = 2_500 * time
        name = NAME.format(c=channel, t=time, msec=msec, abs=18_583_361 + msec + 500 * channel)
        yield folder / name


def volume(shape: tuple[int, ...], number: int) -> NDArray[np.uint16]:
    """Return the pixels of file *number*: the same scene, shifted, each plane a little brighter."""
    *planes, rows, columns = shape
    scene = _scene(rows, columns)
    shifted = np.roll(scene, 3 * number, axis=-1)
    stack = [shifted[k % len(scene)] + np.uint16(k) for k in range(planes[0] if planes else 1)]
    return np.stack(stack) if planes else stack[0]


@cache
def _scene(rows: int, columns: int) -> NDArray[np.uint16]:
    """Return 16 planes of blurred spots with camera noise; zlib compresses them to 0.6."""
    noise = np.random.default_rng([2019, rows, columns])
    y, x = np.ogrid[:rows, :columns]
    spots = np.zeros((rows, columns))
    for centre_y, centre_x, width in noise.random((12, 3)):
        square = (y - centre_y * rows) ** 2 + (x - centre_x * columns) ** 2
        spots += 800 * np.exp(-square / (2 + rows * width / 20) ** 2)
    return (200 + spots + noise.normal(0, 20, (16, rows, columns))).astype("uint16")
