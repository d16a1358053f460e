"""What is done once for each of many files, at a time where a store is waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.storage.urls import is_local

__all__ = ["map_files"]

R = TypeVar("R")

CONCURRENT_FILES = 16
"""Remote files asked at a time."""

AHEAD = 16 * CONCURRENT_FILES
"""Results that may wait for the one before them to be taken."""


def map_files(function: Callable[[int], R], files: FileTable, rows: Sequence[int]) -> Iterator[R]:
    """Yield what *function* returns for each of *rows*, in their order.

    Remote files are asked side by side. Local ones are not: parsing holds the interpreter's lock.
    """
    if all(is_local(files.urls[row]) for row in rows):
        yield from map(function, rows)
        return
    with ThreadPoolExecutor(CONCURRENT_FILES) as pool:
        for start in range(0, len(rows), AHEAD):
            yield from pool.map(function, rows[start : start + AHEAD])
