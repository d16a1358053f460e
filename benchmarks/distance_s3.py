"""An object store at a distance: 30 ms per request, and 100 MB/s per connection.

Beside peers, and beside a floor: obstore alone with the place of all pixels known beforehand, which
makes the least round trips that such work needs.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.case import OURS, Bar, Case, Start
from benchmarks.distant_server import BUCKET
from benchmarks.files import MOVIE_SHAPE, TILED_SHAPE, TINY_SHAPE, long_movies, modest, tiled, tiny
from benchmarks.many_files import count_pixels, opening
from benchmarks.peers import open_ours
from benchmarks.pixels import list_files, true_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CASES"]

FLOOR = "obstore, places known"
LISTING = "obstore, listing alone"
ASYNC_TIFF = "async-tiff over obstore"
RASTERIO = "rasterio /vsis3/, 16 threads"
S3FS = "tifffile over s3fs, 16 threads"
REFERENCES = "references, VirtualiZarr over obstore"
TENSORSTORE = "tensorstore on a Zarr copy"

THREADS = 16
TILE = slice(256, 512)
Z = 100
MODEST_PIXELS = 256 * 256
_PLANE_BYTES = 2 * MOVIE_SHAPE[1] * MOVIE_SHAPE[2]
PART = 2**24
"""Bytes of a request of the floor: a connection is slow, and many are fast."""

Opened = Any
"""Whatever a contender keeps of open files."""

Peers = dict[str, tuple[Callable[..., Opened], Callable[[Opened], Any]]]
"""By contender, what opens the files at a place, and what reads of them."""


# -- data: the files, references to them and a Zarr copy -----------------------------------------


def _with_copies(
    dataset: Callable[..., dict[str, float]], chunks: tuple[int, ...]
) -> Callable[..., dict[str, float]]:
    """Return a dataset with references and a Zarr copy beside its folder."""

    def write(folder: Path, **options: Any) -> dict[str, float]:
        import tifffile
        import zarr

        from intake_tiffstack import open_stack

        facts = dataset(folder, **options)
        stack = open_stack(f"{folder}/*.tif")
        references = folder.with_suffix(".json")
        stack.export(str(references), format="references", progress=False)
        text = references.read_text().replace("file://", "")
        references.write_text(text.replace(str(folder), f"s3://{BUCKET}/{folder.name}"))
        paths = list_files(str(folder))
        first = tifffile.imread(paths[0])
        array = zarr.create_array(
            folder.with_suffix(".zarr"),
            shape=(len(paths), *first.shape),
            chunks=(1, *chunks),
            dtype=first.dtype,
            compressors=zarr.codecs.ZstdCodec(level=1) if first.ndim == 2 else None,
        )
        for number, path in enumerate(paths):
            array[number] = tifffile.imread(path)
        return facts

    return write


# -- opening ---------------------------------------------------------------------------------------


def _open_plainly(place: str) -> Opened:
    """Open with this package, whatever the names are."""
    from intake_tiffstack import open_stack

    return open_stack(place if _is_file(place) else f"{place}/*.tif").to_dask()


def _is_file(place: str) -> bool:
    """Return whether a place is that of one file, given by its name."""
    return place.endswith(".tif")


def _folder(place: str) -> str:
    return place.rpartition("/")[0] if _is_file(place) else place


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@functools.cache
def _store(package: str = "obstore") -> Any:
    """Return the store of the bucket, as one of the packages over obstore has it."""
    options = {"allow_http": True}
    make = importlib.import_module(f"{package}.store").S3Store
    return make(BUCKET, virtual_hosted_style_request=False, client_options=options)


def _prefix(place: str) -> str:
    return place.removeprefix(f"s3://{BUCKET}/")


def _keys(place: str) -> list[str]:
    """Return the keys of the files at a place, by listing."""
    pages = _store().list(f"{_prefix(place)}/")
    return sorted(item["path"] for page in pages for item in page)


def _open_async_tiff(place: str) -> Opened:
    from async_tiff import TIFF

    async def open_all() -> list[Any]:
        store = _store("async_tiff")
        return await asyncio.gather(*(TIFF.open(key, store=store) for key in _keys(place)))

    return _loop().run_until_complete(open_all())


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS)


def _open_rasterio(place: str, page: int | None = None) -> Opened:
    os.environ |= {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MULTIRANGE": "YES"}
    import rasterio

    start = "" if page is None else f"GTIFF_DIR:{page + 1}:"
    keys = [_prefix(place)] if _is_file(place) else _keys(place)
    return list(_pool().map(lambda key: rasterio.open(f"{start}/vsis3/{BUCKET}/{key}"), keys))


def _open_s3fs(place: str) -> Opened:
    import fsspec
    import tifffile

    files = fsspec.open_files(place if _is_file(place) else f"{place}/*.tif")
    return list(_pool().map(lambda file: tifffile.TiffFile(file.open()), files))


def _open_references(place: str) -> Opened:
    import zarr
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr.parsers import KerchunkJSONParser

    zarr.config.set({"async.concurrency": 100})
    registry = ObjectStoreRegistry({f"s3://{BUCKET}": _store()})
    manifests = KerchunkJSONParser()(f"{_folder(place)}.json", registry)
    _, array = next(zarr.open_group(manifests, mode="r").arrays())
    return array


def _open_tensorstore(place: str) -> Opened:
    import tensorstore

    where = {
        "driver": "s3",
        "bucket": BUCKET,
        "path": f"{_prefix(_folder(place))}.zarr/",
        "endpoint": os.environ["AWS_ENDPOINT_URL"],
        "aws_region": "us-east-1",
    }
    return tensorstore.open({"driver": "zarr3", "kvstore": where}, read=True).result()


# -- the floor -------------------------------------------------------------------------------------


def _get_at_once(wanted: Sequence[tuple[str, int, int]]) -> list[Any]:
    """Return ranges (key, first byte, end) of the store, all requested at once."""
    import obstore

    async def get_all() -> list[Any]:
        store = _store()
        gets = (obstore.get_range_async(store, key, start=a, end=b) for key, a, b in wanted)
        return await asyncio.gather(*gets)

    return _loop().run_until_complete(get_all())


def _known(place: str) -> dict[str, Any]:
    """Return the segments of each file by key: read from the folder, which is not timed."""
    import tifffile

    places: dict[str, Any] = {}
    local = Path(os.environ["BENCHMARK_FOLDER"]) / _prefix(place)
    for path in list_files(str(local)):
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            places[f"{_prefix(place)}/{Path(path).name}"] = page.dataoffsets, page.databytecounts
    return places


def _start_floor_files(place: str) -> Callable[[], int]:
    import imagecodecs
    import numpy as np

    places = _known(place)

    def sum_one(key: str, data: Any) -> int:
        strips = (data[start : start + count] for start, count in zip(*places[key], strict=True))
        decoded = (imagecodecs.zlib_decode(strip) for strip in strips)
        return sum(int(np.frombuffer(strip, "<u2").sum(dtype="u8")) for strip in decoded)

    def work() -> int:
        keys = _keys(place)
        whole = _get_at_once([(key, 0, sum(t[-1] for t in places[key])) for key in keys])
        return sum(_pool().map(sum_one, keys, map(memoryview, whole)))

    return work


def _floor(wanted: Callable[..., Any], decode: Callable[[list[Any]], Any]) -> Start:
    """Return the work of requesting all ranges that *wanted* yields of each file, and decoding."""

    def start(place: str) -> Callable[[], Any]:
        ranges = [found for key, file in _known(place).items() for found in wanted(key, *file)]
        return lambda: decode(_get_at_once(ranges))

    return start


def _plane_of(key: str, offsets: Sequence[int], counts: Sequence[int]) -> list[Any]:
    start = offsets[0] + Z * _PLANE_BYTES
    return [(key, start, start + _PLANE_BYTES)]


def _parts_of(key: str, offsets: Sequence[int], counts: Sequence[int]) -> list[Any]:
    begin, end = offsets[0], offsets[0] + MOVIE_SHAPE[0] * _PLANE_BYTES
    return [(key, at, min(at + PART, end)) for at in range(begin, end, PART)]


def _tile_of(key: str, offsets: Sequence[int], counts: Sequence[int]) -> list[Any]:
    number = TILED_SHAPE[1] // 256 + 1
    return [(key, offsets[number], offsets[number] + counts[number])]


def _as_pixels(data: Any) -> NDArray[Any]:
    import numpy as np

    return np.frombuffer(data, "<u2")


def _sum_tiles(tiles: list[Any]) -> int:
    import imagecodecs

    return sum(_pool().map(lambda tile: _sum(_as_pixels(imagecodecs.zlib_decode(tile))), tiles))


# -- work ------------------------------------------------------------------------------------------


def _opening(open_files: Callable[..., Opened], **options: Any) -> Start:
    def start(place: str) -> Callable[[], int]:
        kept: list[Opened] = []

        def work() -> int:
            kept.append(open_files(place, **options))
            files = kept[0]
            return files.size // MODEST_PIXELS if hasattr(files, "dask") else len(files)

        return work

    return start


def _start_listing(place: str) -> Callable[[], int]:
    return lambda: len(_keys(place)) * math.prod(TINY_SHAPE)


def _then(open_files: Callable[..., Opened], read: Callable[[Opened], Any]) -> Start:
    """Return the work of reading from open files."""

    def start(place: str) -> Callable[[], Any]:
        files = open_files(place)
        return lambda: read(files)

    return start


def _with_opening(open_files: Callable[..., Opened], read: Callable[[Opened], Any]) -> Start:
    return lambda place: lambda: read(open_files(place))


def _by_name(open_files: Callable[..., Opened], read: Callable[[Opened], Any]) -> Start:
    """Return the work of opening the one file at a place, whose name is known, and reading."""

    def start(place: str) -> Callable[[], Any]:
        (key,) = _known(place)
        return lambda: read(open_files(f"s3://{BUCKET}/{key}"))

    return start


def _sum(pixels: Any) -> int:
    import numpy as np

    return int(np.asarray(pixels).sum(dtype="u8"))


def _tiles_of_async_tiff(files: Opened) -> int:
    async def sum_one(file: Any) -> int:
        tile = await file.fetch_tile(1, 1, 0)
        return _sum(await tile.decode())

    async def sum_all() -> int:
        return sum(await asyncio.gather(*map(sum_one, files)))

    return _loop().run_until_complete(sum_all())


def _tiles_of_rasterio(files: Opened) -> int:
    from rasterio.windows import Window

    window = Window(256, 256, 256, 256)
    return sum(_pool().map(lambda file: _sum(file.read(1, window=window)), files))


def _true_tiles(place: str) -> int:
    import tifffile

    return sum(_sum(tifffile.imread(path)[TILE, TILE]) for path in list_files(place))


def _true_plane(place: str) -> NDArray[Any]:
    import tifffile

    return tifffile.imread(list_files(place)[0], key=Z)


def _count(place: str) -> int:
    return len(list_files(place))


def _then_each(peers: Peers, floor: Start) -> dict[str, Start]:
    return {**{name: _then(*works) for name, works in peers.items()}, FLOOR: floor}


def _ahead_of(*peers: str) -> tuple[Bar, ...]:
    return tuple(Bar("speed", 1, name) for name in peers if name != OURS)


_distant = functools.partial(Case, is_fresh=True, store="s3", repeats=5, deadline=40)
_FAR = "S3, 30 ms per request, 100 MB/s per connection"
_movie = _with_copies(lambda folder, **_: long_movies(folder, count=1), (1, *MOVIE_SHAPE[1:]))
_tiled = _with_copies(tiled, (256, 256))
_NEAR_FLOOR = Bar("speed", 0.8, FLOOR)

_PLANES: Peers = {
    OURS: (_open_plainly, lambda array: array[..., Z, :, :].compute().squeeze()),
    RASTERIO: (functools.partial(_open_rasterio, page=Z), lambda files: files[0].read(1)),
    S3FS: (_open_s3fs, lambda files: files[0].pages[Z].asarray()),
    REFERENCES: (_open_references, lambda array: array[0, Z]),
    TENSORSTORE: (_open_tensorstore, lambda array: array[0, Z].read().result()),
}
_TILES: Peers = {
    OURS: (_open_plainly, lambda array: int(array[:, TILE, TILE].sum(dtype="u8").compute())),
    ASYNC_TIFF: (_open_async_tiff, _tiles_of_async_tiff),
    RASTERIO: (_open_rasterio, _tiles_of_rasterio),
    REFERENCES: (_open_references, lambda array: _sum(array[:, TILE, TILE])),
    TENSORSTORE: (_open_tensorstore, lambda array: _sum(array[:, TILE, TILE].read().result())),
}
_VOLUMES: Peers = {
    OURS: (_open_plainly, lambda array: int(array.sum(dtype="u8").compute())),
    S3FS: (_open_s3fs, lambda files: _sum(files[0].asarray())),
    REFERENCES: (_open_references, lambda array: _sum(array[...])),
    TENSORSTORE: (_open_tensorstore, lambda array: _sum(array.read().result())),
}

CASES = (
    _distant(
        name="far-list",
        work=f"{_FAR}: open 100,000 files",
        dataset=tiny,
        truth=count_pixels,
        contenders={OURS: opening(open_ours), LISTING: _start_listing},
        bars=(Bar("speed", 1, LISTING),),
        deadline=60,
    ),
    _distant(
        name="far-open",
        work=f"{_FAR}: open 1,000 files",
        dataset=modest,
        truth=_count,
        contenders={
            OURS: _opening(open_ours),
            ASYNC_TIFF: _opening(_open_async_tiff),
            RASTERIO: _opening(_open_rasterio),
            S3FS: _opening(_open_s3fs),
        },
        bars=_ahead_of(ASYNC_TIFF, RASTERIO),
    ),
    _distant(
        name="far-files",
        work=f"{_FAR}: open 1,000 files of 100 kB and read them all",
        dataset=modest,
        truth=true_sum,
        contenders={
            OURS: _with_opening(open_ours, _VOLUMES[OURS][1]),
            RASTERIO: _with_opening(
                _open_rasterio, lambda files: sum(_pool().map(lambda f: _sum(f.read(1)), files))
            ),
            FLOOR: _start_floor_files,
        },
        bars=(_NEAR_FLOOR, *_ahead_of(RASTERIO)),
    ),
    _distant(
        name="far-plane",
        work=f"{_FAR}: open a file of 316 MB by its name and read a plane",
        dataset=_movie,
        truth=_true_plane,
        contenders={name: _by_name(*works) for name, works in _PLANES.items()},
        bars=_ahead_of(*_PLANES),
    ),
    _distant(
        name="far-plane-then",
        work=f"{_FAR}: then a plane of that file",
        dataset=_movie,
        truth=_true_plane,
        contenders=_then_each(
            _PLANES,
            _floor(_plane_of, lambda found: _as_pixels(found[0]).reshape(MOVIE_SHAPE[1:])),
        ),
        bars=(_NEAR_FLOOR,),
    ),
    _distant(
        name="far-volume",
        work=f"{_FAR}: then all of that file",
        dataset=_movie,
        truth=true_sum,
        contenders=_then_each(
            _VOLUMES, _floor(_parts_of, lambda found: sum(_sum(_as_pixels(d)) for d in found))
        ),
        bars=(_NEAR_FLOOR,),
    ),
    _distant(
        name="far-tiles",
        work=f"{_FAR}: 64 tiled zlib files, open: then one tile of each",
        dataset=_tiled,
        truth=_true_tiles,
        contenders=_then_each(_TILES, _floor(_tile_of, _sum_tiles)),
        bars=(_NEAR_FLOOR, *_ahead_of(*_TILES)),
    ),
)
