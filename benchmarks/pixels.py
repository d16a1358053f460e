"""Pixels of local files in the page cache: all of them, and one plane."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from benchmarks.case import Bar, Case, Start
from benchmarks.files import BAND_SHAPE, MOVIE_SHAPE, VOLUME_SHAPE, bands, long_movies, volumes
from benchmarks.peers import ALL, MAIN, RECIPE_IMAGEIO, RECIPE_TIFFFILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CASES", "list_files", "plane", "summing", "true_sum"]

PREADV = "os.preadv in plain threads"
DECODING = "decoding in plain threads"

Reading = Callable[[Any], Any]


def list_files(place: str) -> list[str]:
    """Return the paths of all files, channel by channel, each in order of time."""
    return sorted(entry.path for entry in os.scandir(place))


def summing(open_array: Callable[[str], Any]) -> Start:
    """Return the work of summing all pixels of an open array."""

    def start(place: str) -> Callable[[], int]:
        array = open_array(place)
        return lambda: int(array.sum().compute())

    return start


def plane(array: Any, time: int, z: int, *, is_chained: bool = False) -> Any:
    """Return a lazy plane of the first channel; some contenders lack a channel dim."""
    first = (0,) * (array.ndim - 4)
    return array[(*first, time)][z] if is_chained else array[(*first, time, z)]


def true_sum(place: str) -> int:
    """Return the sum of all pixels, read by tifffile alone."""
    import tifffile

    return sum(int(tifffile.imread(path).sum()) for path in list_files(place))


def _computing(reading: Reading) -> Callable[[Callable[[str], Any]], Start]:
    """Return the work of computing a part of an open array."""

    def of_array(open_array: Callable[[str], Any]) -> Start:
        def start(place: str) -> Callable[[], Any]:
            array = open_array(place)
            return lambda: reading(array).compute()

        return start

    return of_array


def _two_threads(work: Callable[[Any], int], items: list[Any]) -> int:
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(work, items))


def _read_at(path: str, offset: int, out: NDArray[Any]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if os.preadv(descriptor, [out], offset) != out.nbytes:
            raise OSError(f"{path} is too short")
    finally:
        os.close(descriptor)


def _start_preadv(place: str) -> Callable[[], int]:
    import numpy as np
    import tifffile

    paths = list_files(place)
    with tifffile.TiffFile(paths[0]) as tif:
        offset = tif.pages.first.dataoffsets[0]

    def read_sum(path: str) -> int:
        block = np.empty(VOLUME_SHAPE, "<u2")
        _read_at(path, offset, block)
        return int(block.sum())

    return lambda: _two_threads(read_sum, paths)


def _start_preadv_planes(place: str, *planes: int) -> Callable[[], Any]:
    import numpy as np
    import tifffile

    path = list_files(place)[1]
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.dataoffsets[0]

    def read(z: int) -> NDArray[Any]:
        block = np.empty(MOVIE_SHAPE[1:], "<u2")
        _read_at(path, offset + z * block.nbytes, block)
        return block

    if len(planes) == 1:
        return lambda: read(planes[0])
    return lambda: read(planes[0]) - read(planes[1])


Table = tuple[str, list[list[tuple[int, int]]]]
"""A path, and for each page the offsets and byte counts of its strips."""


def _strip_tables(place: str) -> list[Table]:
    import tifffile

    tables = []
    for path in list_files(place):
        with tifffile.TiffFile(path) as tif:
            pages = [list(zip(p.dataoffsets, p.databytecounts, strict=True)) for p in tif.pages]
        tables.append((path, pages))
    return tables


def _decode_pages(path: str, pages: list[list[tuple[int, int]]], decoder: str) -> NDArray[Any]:
    """Return pages that are contiguous in the file, each strip decoded into place."""
    import imagecodecs
    import numpy as np

    decode = getattr(imagecodecs, decoder)
    first, (last, count) = pages[0][0][0], pages[-1][-1]
    content = np.empty(last + count - first, "u1")
    _read_at(path, first, content)
    block = np.empty((len(pages), *BAND_SHAPE[1:]), "<u2")
    out, source = memoryview(block).cast("B"), memoryview(content)
    nbytes = block.nbytes // len(pages)
    rows = -(-nbytes // len(pages[0]))
    for number, strips in enumerate(pages):
        done, end = number * nbytes, (number + 1) * nbytes
        for offset, count in strips:
            strip = source[offset - first : offset - first + count]
            done += len(decode(strip, out=out[done : min(done + rows, end)]))
    return block


def _start_decoding(place: str, decoder: str) -> Callable[[], int]:
    tables = _strip_tables(place)

    def decode_sum(table: Table) -> int:
        path, pages = table
        return int(_decode_pages(path, pages, decoder).sum())

    return lambda: _two_threads(decode_sum, tables)


def _start_decoding_plane(place: str, decoder: str) -> Callable[[], Any]:
    path, pages = _strip_tables(place)[1]
    return lambda: _decode_pages(path, pages[BAND_PLANE : BAND_PLANE + 1], decoder)[0]


def _true_plane(place: str, z: int) -> Any:
    import tifffile

    return tifffile.imread(list_files(place)[1], key=z)


MOVIE_PLANE, BAND_PLANE = 100, 7

READINGS: dict[str, tuple[str, float, Reading]] = {
    "plane": (
        "one plane of a 316 MB file, indexed directly",
        20,
        lambda array: plane(array, 1, MOVIE_PLANE),
    ),
    "plane-chained": (
        "one plane of a 316 MB file, by a chained index",
        8,
        lambda array: plane(array, 1, MOVIE_PLANE, is_chained=True),
    ),
    "plane-difference": (
        "the difference of two planes of a 316 MB file",
        8,
        lambda array: plane(array, 1, MOVIE_PLANE + 1) - plane(array, 1, MOVIE_PLANE),
    ),
}
"""By name: the work in words, how many times the recipe's speed, and the work."""


def _plane_case(name: str) -> Case:
    work, limit, reading = READINGS[name]
    peers = ALL if name == "plane" else MAIN
    planes = (MOVIE_PLANE + 1, MOVIE_PLANE) if name == "plane-difference" else (MOVIE_PLANE,)

    def truth(place: str) -> Any:
        one, *other = (_true_plane(place, z) for z in planes)
        return one - other[0] if other else one

    return Case(
        name=name,
        work=work,
        dataset=long_movies,
        truth=truth,
        contenders={
            **{peer: _computing(reading)(open_array) for peer, open_array in peers.items()},
            PREADV: lambda place: _start_preadv_planes(place, *planes),
        },
        bars=(Bar("speed", limit, RECIPE_TIFFFILE), Bar("speed", limit, RECIPE_IMAGEIO)),
    )


def _band_cases(compression: str, decoder: str) -> tuple[Case, Case]:
    dataset = functools.partial(bands, compression=compression)
    read_plane = _computing(lambda array: plane(array, 1, BAND_PLANE))
    label = "LZW" if compression == "lzw" else compression
    peers = ALL if compression == "zlib" else MAIN
    # the newest imagecodecs decodes LZW in 0.85 of the time of zlib: dask weighs the more
    return (
        Case(
            name=f"{compression}-sum",
            work=f"sum of 200 MB of {label} volumes",
            dataset=dataset,
            truth=true_sum,
            contenders={
                **{peer: summing(open_array) for peer, open_array in peers.items()},
                DECODING: functools.partial(_start_decoding, decoder=decoder),
            },
            bars=(Bar("speed", 0.8 if compression == "lzw" else 0.85, DECODING),),
        ),
        Case(
            name=f"{compression}-plane",
            work=f"one plane of 16, {label}",
            dataset=dataset,
            truth=functools.partial(_true_plane, z=BAND_PLANE),
            contenders={
                **{peer: read_plane(open_array) for peer, open_array in peers.items()},
                DECODING: functools.partial(_start_decoding_plane, decoder=decoder),
            },
            bars=(Bar("speed", 4, RECIPE_TIFFFILE), Bar("speed", 4, RECIPE_IMAGEIO)),
        ),
    )


CASES = (
    Case(
        name="sum",
        work="sum of 1 GB uncompressed",
        dataset=volumes,
        truth=true_sum,
        contenders={
            **{peer: summing(open_array) for peer, open_array in ALL.items()},
            PREADV: _start_preadv,
        },
        bars=(
            Bar("speed", 0.8, PREADV),
            Bar("speed", 1.1, RECIPE_TIFFFILE),
            Bar("speed", 1.2, RECIPE_IMAGEIO),
        ),
        repeats=9,
    ),
    *(_plane_case(name) for name in READINGS),
    *_band_cases("zlib", "deflate_decode"),  # libdeflate, as tifffile decodes it
    *_band_cases("lzw", "lzw_decode"),
    *_band_cases("zstd", "zstd_decode"),
)
