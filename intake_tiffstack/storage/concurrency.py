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
"""Results that may wait for the one before them to be taken."""


def map_concurrently(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield what *function* returns for each of *items*, in their order, and raise what it raises.

    Each call is one or a few requests to a store; ``tiffstack.concurrency`` calls run at a time.
    """
    if len(items) < 2:
        yield from map(function, items)
        return
    most = int(setting_number("concurrency", least=1))
    with ThreadPoolExecutor(min(most, len(items))) as pool:
        for start in range(0, len(items), AHEAD):
            yield from pool.map(function, items[start : start + AHEAD])


def map_files(function: Callable[[int], R], files: FileTable, rows: Sequence[int]) -> Iterator[R]:
    """Yield what *function* returns for each row of *files*, in the order of *rows*.

    Local files are read one after the other, since parsing holds the interpreter's lock.
    """
    are_local = all(is_local(files.urls[row]) for row in rows)
    return map(function, rows) if are_local else map_concurrently(function, rows)
