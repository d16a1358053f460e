"""A web server at a distance: 30 ms per request, as many requests at a time as come."""

from __future__ import annotations

import asyncio
import functools
import json
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.case import OURS, Bar, Case, Start
from benchmarks.files import TILED_COUNT, TILED_SHAPE, tiled
from benchmarks.pixels import list_files

__all__ = ["CASES"]

ASYNC_TIFF = "async-tiff over obstore"
RASTERIO = "rasterio, 16 threads"
TIFFFILE = "tifffile over fsspec, 16 threads"
THREADS = 16
TILE = 256

Opened = Any
"""Whatever a contender keeps of open files."""


def _names(place: str) -> list[str]:
    """Return the names of the files at a place; not measured."""
    with urllib.request.urlopen(f"{place}/names.json") as answer:
        names: list[str] = json.load(answer)
    return names


# -- contenders: open the files, read one tile of each, read all ---------------------------------


def _open_ours(place: str, names: Sequence[str]) -> Opened:
    from intake_tiffstack import open_stack

    return open_stack([f"{place}/{name}" for name in names], pattern="tile_t{t:d}.tif").to_dask()


def _tile_ours(array: Opened) -> int:
    return int(array[:, TILE : 2 * TILE, TILE : 2 * TILE].sum(dtype="u8").compute())


def _all_ours(array: Opened) -> int:
    return int(array.sum(dtype="u8").compute())


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _open_async_tiff(place: str, names: Sequence[str]) -> Opened:
    from async_tiff import TIFF
    from async_tiff.store import HTTPStore

    store = HTTPStore(place, client_options={"allow_http": True})

    async def open_all() -> list[Any]:
        return await asyncio.gather(*(TIFF.open(name, store=store) for name in names))

    return _loop().run_until_complete(open_all())


def _sum_async_tiff(files: Opened, tiles: Sequence[tuple[int, int]]) -> int:
    import numpy as np

    async def sum_one(file: Any) -> int:
        fetched = await file.fetch_tiles(list(tiles), 0)
        decoded = await asyncio.gather(*(tile.decode() for tile in fetched))
        return sum(int(np.asarray(tile).sum(dtype="u8")) for tile in decoded)

    async def sum_all() -> int:
        return sum(await asyncio.gather(*map(sum_one, files)))

    return _loop().run_until_complete(sum_all())


def _tile_async_tiff(files: Opened) -> int:
    return _sum_async_tiff(files, [(1, 1)])


def _all_async_tiff(files: Opened) -> int:
    n = TILED_SHAPE[0] // TILE
    return _sum_async_tiff(files, [(i, j) for i in range(n) for j in range(n)])


@functools.cache
def _pool() -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(THREADS)


def _open_rasterio(place: str, names: Sequence[str]) -> Opened:
    import os

    os.environ |= {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MULTIRANGE": "YES"}
    import rasterio

    return list(_pool().map(lambda name: rasterio.open(f"/vsicurl/{place}/{name}"), names))


def _tile_rasterio(files: Opened) -> int:
    from rasterio.windows import Window

    window = Window(TILE, TILE, TILE, TILE)
    return sum(_pool().map(lambda file: int(file.read(1, window=window).sum(dtype="u8")), files))


def _all_rasterio(files: Opened) -> int:
    return sum(_pool().map(lambda file: int(file.read(1).sum(dtype="u8")), files))


def _open_fsspec(place: str, names: Sequence[str]) -> Opened:
    return [f"{place}/{name}" for name in names]  # nothing is known before it is read


def _all_fsspec(urls: Opened) -> int:
    import fsspec
    import tifffile

    def sum_one(url: str) -> int:
        with fsspec.open(url) as file:
            return int(tifffile.imread(file).sum(dtype="u8"))

    return sum(_pool().map(sum_one, urls))


# -- work ----------------------------------------------------------------------------------------

Opener = Callable[[str, Sequence[str]], Opened]
Reader = Callable[[Opened], int]


def _opening(open_files: Opener) -> Start:
    def start(place: str) -> Callable[[], Any]:
        names = _names(place)
        kept: list[Opened] = []

        def work() -> int:
            kept.append(open_files(place, names))
            return len(names)

        return work

    return start


def _reading(open_files: Opener, read: Reader) -> Start:
    def start(place: str) -> Callable[[], Any]:
        files = open_files(place, _names(place))
        return lambda: read(files)

    return start


def _both(open_files: Opener, read: Reader) -> Start:
    def start(place: str) -> Callable[[], Any]:
        names = _names(place)
        return lambda: read(open_files(place, names))

    return start


def _count(place: str) -> int:
    return len(list_files(place))


def _true_sum(place: str, part: slice) -> int:
    import tifffile

    return sum(int(tifffile.imread(path)[part, part].sum(dtype="u8")) for path in list_files(place))


_distant = functools.partial(Case, dataset=tiled, is_fresh=True, store="web", repeats=5)
_FILES = f"30 ms per request: {TILED_COUNT} tiled zlib files of 2 MB on a web server"
_TILES = {
    OURS: (_open_ours, _tile_ours),
    ASYNC_TIFF: (_open_async_tiff, _tile_async_tiff),
    RASTERIO: (_open_rasterio, _tile_rasterio),
}
_ALL = {
    OURS: (_open_ours, _all_ours),
    ASYNC_TIFF: (_open_async_tiff, _all_async_tiff),
    RASTERIO: (_open_rasterio, _all_rasterio),
    TIFFFILE: (_open_fsspec, _all_fsspec),
}
_AHEAD = (Bar("speed", 1, ASYNC_TIFF), Bar("speed", 1, RASTERIO))

CASES = (
    _distant(
        name="distant-open",
        work=f"{_FILES}: open",
        truth=_count,
        contenders={name: _opening(open_files) for name, (open_files, _) in _TILES.items()},
        bars=_AHEAD,
    ),
    _distant(
        name="distant-tile",
        work=f"{_FILES}: open, and read one tile of each",
        truth=functools.partial(_true_sum, part=slice(TILE, 2 * TILE)),
        contenders={name: _both(*works) for name, works in _TILES.items()},
        bars=_AHEAD,
    ),
    _distant(
        name="distant-all",
        work=f"{_FILES}: then all",
        truth=functools.partial(_true_sum, part=slice(None)),
        contenders={name: _reading(*works) for name, works in _ALL.items()},
        bars=_AHEAD,
    ),
)
