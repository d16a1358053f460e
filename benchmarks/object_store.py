"""An object store: number of requests and bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.case import OURS, Bar, Case, Start
from benchmarks.files import OBJECT_SHAPE, PAGED_SHAPE, objects, paged
from benchmarks.many_files import opening
from benchmarks.peers import ALL, RECIPE_IMAGEIO, RECIPE_TIFFFILE
from benchmarks.pixels import list_files, plane, summing, true_sum

__all__ = ["CASES"]

TIFFFILE_S3FS = "tifffile's store over s3fs"


def _open_tifffile_store(place: str) -> Any:
    """Open the first file by tifffile's Zarr store over s3fs, with its default read-ahead."""
    import dask.array as da
    import fsspec
    import tifffile
    import zarr

    file = fsspec.open_files(f"{place}/*.tif")[0].open()
    store = tifffile.TiffFile(file).aszarr()
    return da.from_zarr(zarr.open(store, mode="r"))[None, None]


def _reading_plane(time: int, z: int) -> Callable[[Callable[[str], Any]], Start]:
    """Return the work of reading one plane of an open array."""

    def of_array(open_array: Callable[[str], Any]) -> Start:
        def start(place: str) -> Callable[[], Any]:
            array = open_array(place)
            return lambda: plane(array, time, z).compute()

        return start

    return of_array


def _opening_and_reading(open_array: Callable[[str], Any]) -> Start:
    return lambda place: lambda: plane(open_array(place), 0, 20).compute()


def _reading_another(open_array: Callable[[str], Any]) -> Start:
    def start(place: str) -> Callable[[], Any]:
        array = open_array(place)
        plane(array, 0, 20).compute()
        return lambda: plane(array, 0, 50).compute()

    return start


def _true_plane(place: str, time: int, z: int) -> Any:
    import tifffile

    return tifffile.imread(list_files(place)[time], key=z)


def _count_pixels(place: str) -> int:
    return len(list_files(place)) * math.prod(OBJECT_SHAPE)


ABLE: dict[str, Callable[[str], Any]] = {
    name: ALL[name] for name in (OURS, RECIPE_TIFFFILE, RECIPE_IMAGEIO)
}
"""The contenders that can open URLs."""


def _of(
    peers: Mapping[str, Callable[[str], Any]], work: Callable[[Callable[[str], Any]], Start]
) -> dict[str, Start]:
    return {name: work(open_array) for name, open_array in peers.items()}


_remote = functools.partial(Case, is_fresh=True, store="moto", repeats=1, deadline=60)
_single = {**ABLE, TIFFFILE_S3FS: _open_tifffile_store}

CASES = (
    _remote(
        name="s3-open",
        work="S3: open 20 files of 8 MB",
        dataset=objects,
        truth=_count_pixels,
        contenders=_of(ALL, opening),
        bars=(Bar("requests", 6), Bar("bytes", 300e3)),
    ),
    _remote(
        name="s3-plane",
        work="S3: then one plane, uncompressed",
        dataset=objects,
        truth=functools.partial(_true_plane, time=13, z=5),
        contenders=_of(ABLE, _reading_plane(13, 5)),
        bars=(Bar("requests", 3), Bar("bytes", lambda facts: 1.1 * facts["plane_bytes"])),
    ),
    _remote(
        name="s3-all",
        work="S3: read all of the 20 files",
        dataset=objects,
        truth=true_sum,
        contenders=_of(ABLE, summing),
        bars=(
            Bar("requests", lambda facts: 4 * facts["files"]),
            Bar("bytes", lambda facts: 1.1 * facts["all_bytes"]),
        ),
    ),
    _remote(
        name="s3-paged",
        work=f"S3: open a file of {PAGED_SHAPE[0]} zlib pages, directories between them, "
        "and read one plane",
        dataset=paged,
        truth=functools.partial(_true_plane, time=0, z=20),
        contenders=_of(_single, _opening_and_reading),
        bars=(Bar("requests", 12), Bar("bytes", lambda facts: facts["file_bytes"])),
    ),
    _remote(
        name="s3-paged-another",
        work="S3: then another plane of that file",
        dataset=paged,
        truth=functools.partial(_true_plane, time=0, z=50),
        contenders=_of(_single, _reading_another),
        bars=(Bar("requests", 3), Bar("bytes", lambda facts: facts["plane_bytes"] + 65_536)),
    ),
)
