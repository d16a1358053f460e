"""Many requests at once, within the setting ``concurrency``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from intake_tiffstack.settings import setting_number
from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.storage.urls import is_local

__all__ = ["map_concurrently", "map_files"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 256
"""Items that are submitted at a time, so that few results wait to be taken."""


def map_concurrently(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield ``function(item)`` for each of *items*, in order; the first exception propagates.

    Each call makes one request at a time; ``tiffstack.concurrency`` calls run at a time.
    """
    if len(items) < 2:
        yield from map(function, items)
        return
    most = int(setting_number("concurrency", least=1))
    with ThreadPoolExecutor(min(most, len(items))) as pool:
        for start in range(0, len(items), AHEAD):
            yield from pool.map(function, items[start : start + AHEAD])


def map_files(function: Callable[[int], R], files: FileTable, rows: Sequence[int]) -> Iterator[R]:
    """Yield ``function(row)`` for each of *rows*, in order.

    Local files are read one after the other, because parsing holds the interpreter's lock.
    """
    are_local = all(is_local(files.urls[row]) for row in rows)
    return map(function, rows) if are_local else map_concurrently(function, rows)
