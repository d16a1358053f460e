"""Clusters: one, two and four workers, and the time to send a graph."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from benchmarks.case import OURS, Bar, Case
from benchmarks.files import TINY_SHAPE, many_bands, tiny
from benchmarks.many_files import count_pixels
from benchmarks.peers import open_ours
from benchmarks.pixels import true_sum

__all__ = ["CASES"]

ONE = f"{OURS}, one worker"
FOUR = f"{OURS}, four workers"
ZEROS = "dask.array.zeros"
CHUNKS = 100_000


@functools.cache
def _client(workers: int) -> Any:
    """Return a client of workers with a process and a thread each."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
    )
    return Client(cluster)


def _summing(workers: int, place: str) -> Callable[[], int]:
    client = _client(workers)
    client.wait_for_workers(workers)
    array = open_ours(place)

    def work() -> int:
        return int(client.compute(array.sum(dtype="u8")).result())

    work()  # the workers import what they need
    return work


def _count_tasks(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def _zeros(place: str) -> Any:
    """Return an array of dask alone, of as many chunks."""
    import dask.array as da

    return da.zeros((CHUNKS, *TINY_SHAPE), chunks=(1, *TINY_SHAPE), dtype="u2")


def _sending(open_array: Callable[[str], Any], place: str) -> Callable[[], Any]:
    """Return the work of sending the graph of an array to a scheduler without workers."""
    from distributed import Client, LocalCluster

    array = open_array(place)
    client = Client(LocalCluster(n_workers=0, dashboard_address=None))
    kept = []

    def work() -> tuple[int, dict[str, float]]:
        begin = time.perf_counter()
        kept.append(client.persist(array))
        submitted = time.perf_counter() - begin
        while client.run_on_scheduler(_count_tasks) < CHUNKS:
            time.sleep(0.01)
        return array.size, {"ms_until_submitted": 1e3 * submitted}

    return work


_WORKERS = {
    OURS: functools.partial(_summing, 2),
    ONE: functools.partial(_summing, 1),
    FOUR: functools.partial(_summing, 4),
}

CASES = (
    Case(
        name="cluster-zlib",
        work="sum of 400 MB of zlib volumes on two workers, and on one and four",
        dataset=functools.partial(many_bands, compression="zlib"),
        truth=true_sum,
        contenders=_WORKERS,
        bars=(Bar("speed", 1.8, ONE),),
        repeats=5,
    ),
    Case(
        name="cluster-s3",
        work="the same in an object store, 30 ms per request and 100 MB/s per connection",
        dataset=functools.partial(many_bands, compression="zlib"),
        truth=true_sum,
        contenders=_WORKERS,
        bars=(Bar("speed", 1.8, ONE),),
        store="s3",
        repeats=5,
    ),
    Case(
        name="cluster-send",
        work="send a graph of 100,000 chunks to the scheduler of a cluster",
        dataset=tiny,
        truth=count_pixels,
        contenders={
            OURS: functools.partial(_sending, functools.partial(open_ours, chunks="file")),
            ZEROS: functools.partial(_sending, _zeros),
        },
        bars=(Bar("ms_until_submitted", 5_000), Bar("speed", 0.7, ZEROS)),
        repeats=1,
        deadline=120,
    ),
)
