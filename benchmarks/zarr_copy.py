"""Reading a Zarr copy of a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.case import OURS, Bar, Case
from benchmarks.files import VOLUME_SHAPE, volume
from benchmarks.pixels import summing

__all__ = ["CASES"]

DASK = "dask.array.from_zarr"
DECODING = "numcodecs in plain threads"

CHUNK = (1, 8, 512, 512)


def zarr_copy(folder: Path, count: int = 60) -> dict[str, float]:
    """Write 1 GB of volumes with Zarr itself: Blosc with zstd and bitshuffle, chunks of 4 MB."""
    import zarr

    array = zarr.create_array(
        folder,
        shape=(count, *VOLUME_SHAPE),
        chunks=CHUNK,
        dtype="u2",
        compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
        dimension_names=["t", "z", "y", "x"],
    )
    for number in range(count):
        array[number] = volume(VOLUME_SHAPE, number)
    nbytes = sum(path.stat().st_size for path in _chunk_paths(str(folder)))
    return {"files": array.nchunks, "all_bytes": nbytes}


def _chunk_paths(place: str) -> Iterator[Path]:
    return (path for path in sorted(Path(place, "c").rglob("*")) if path.is_file())


def _true_sum(place: str) -> int:
    import zarr

    array = zarr.open_array(place, mode="r")
    return sum(int(array[number].sum()) for number in range(array.shape[0]))


def _open_ours(place: str) -> Any:
    from intake_tiffstack.copies.open_zarr import open_zarr

    return open_zarr(place).array


def _open_with_dask(place: str) -> Any:
    import dask.array as da

    return da.from_zarr(place)


def _start_decoding(place: str) -> Callable[[], int]:
    import numcodecs
    import numpy as np

    codec = numcodecs.Blosc()
    paths = list(_chunk_paths(place))

    def decode_sum(path: Path) -> int:
        return int(np.frombuffer(codec.decode(path.read_bytes()), "<u2").sum())

    def work() -> int:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(decode_sum, paths))

    return work


CASES = (
    Case(
        name="zarr-sum",
        work="sum of a Zarr copy of 1 GB",
        dataset=zarr_copy,
        truth=_true_sum,
        contenders={
            OURS: summing(_open_ours),
            DASK: summing(_open_with_dask),
            DECODING: _start_decoding,
        },
        bars=(Bar("speed", 0.85, DECODING),),
        repeats=9,
    ),
)
