"""Very many files: the time to open a lazy array, and its pickled size."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable
from typing import Any

from benchmarks.case import OURS, Bar, Case, Start
from benchmarks.files import REGEX, TINY_SHAPE, tiny
from benchmarks.peers import ALL, DASK_ARRAY_IMAGE, RECIPE_IMAGEIO, TIFFFILE_STORE, open_ours

__all__ = ["CASES", "count_pixels", "opening"]

SCAN = "os.scandir + stat + one regex"


def opening(open_array: Callable[[str], Any]) -> Start:
    """Return the work of opening a collection, with its number of pixels as the result."""
    return lambda place: lambda: open_array(place).size


def _start_scan(place: str) -> Callable[[], int]:
    match = re.compile(REGEX).fullmatch

    def scan() -> int:
        found = []
        with os.scandir(place) as entries:
            for entry in entries:
                status, fields = entry.stat(), match(entry.name)
                if fields:
                    found.append((entry.path, status.st_size, status.st_mtime_ns, fields.groups()))
        return len(found) * math.prod(TINY_SHAPE)

    return scan


def _start_sending(open_array: Callable[[str], Any]) -> Callable[[str], Callable[[], Any]]:
    def start(place: str) -> Callable[[], Any]:
        array = open_array(place)
        return lambda: (array.size, _measure_graph(array))

    return start


def _measure_graph(array: Any) -> dict[str, float]:
    import cloudpickle
    import dask

    (ready,) = dask.optimize(array)
    tasks = dict(ready.__dask_graph__())
    return {
        "pickled_bytes": len(cloudpickle.dumps(array)),
        "chunks": array.npartitions,
        "keys_beyond_chunks": len(tasks) - array.npartitions,
        # a table inside each task, and not once beside them, would be some thousand times this
        "pickled_bytes_of_all_tasks": sum(len(cloudpickle.dumps(task)) for task in tasks.values()),
    }


def count_pixels(place: str) -> int:
    """Return the number of pixels of the tiny files at a place."""
    return len(os.listdir(place)) * math.prod(TINY_SHAPE)


CASES = (
    Case(
        name="open-100000",
        work="open 100,000 local files",
        dataset=tiny,
        truth=count_pixels,
        contenders={
            # what the recipe reads with makes no difference here: it is not called but once
            **{peer: opening(opens) for peer, opens in ALL.items() if peer != RECIPE_IMAGEIO},
            SCAN: _start_scan,
        },
        bars=(
            Bar("time", 1.33, SCAN),
            Bar("speed", 1.5, TIFFFILE_STORE),
            Bar("peak_bytes", 300e6),
        ),
        is_fresh=True,
        repeats=5,
        patience=8,
        deadline=30,
    ),
    Case(
        name="send-100000",
        work="the array of 100,000 files, to be sent to a cluster",
        dataset=tiny,
        truth=count_pixels,
        contenders={
            OURS: _start_sending(functools.partial(open_ours, file_dims="zyx", chunks={"t": 50})),
            DASK_ARRAY_IMAGE: _start_sending(ALL[DASK_ARRAY_IMAGE]),
        },
        bars=(
            Bar("pickled_bytes", 4e6),
            Bar("keys_beyond_chunks", 5),
            Bar("pickled_bytes_of_all_tasks", 8e6),
        ),
        repeats=1,
    ),
)
