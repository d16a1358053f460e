"""Planes that lie anywhere in the files of a set. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PlaneMap", "PlaneRun"]


@dataclass(frozen=True)
class PlaneRun:
    """Planes that one read of one file gives."""

    row: int
    """Row in the file table."""
    pages: range
    """Their numbers in the file, ascending."""
    into: tuple[int | slice | None, ...]
    """Where they go: an integer per dim of planes, a slice for the innermost one; None, a new
    axis, for a plane without dims."""


@dataclass(frozen=True, eq=False)
class PlaneMap:
    """The file and the page of each plane of an array."""

    rows: NDArray[np.int32]
    """Row in the file table of each plane, -1 for none; shape: the dims of planes."""
    pages: NDArray[np.int64]
    """Number of its page in the file, of the same shape."""
    counts: tuple[int, ...]
    """How many pages each file has."""

    def runs(self, wanted: Sequence[range]) -> Iterator[PlaneRun]:
        """Yield the reads that fill a region, given by one range per dim of planes.

        >>> found = PlaneMap(np.array([0, 0, 1, -1]), np.array([2, 3, 0, 0]), (4, 1))
        >>> [(run.row, run.pages, run.into) for run in found.runs([range(4)])]
        [(0, range(2, 4), (slice(0, 2, None),)), (1, range(0, 1), (slice(2, 3, None),))]
        """
        index = np.ix_(*wanted)
        rows, pages = self.rows[index], self.pages[index]
        if not wanted:
            if rows >= 0:
                yield PlaneRun(int(rows), range(int(pages), int(pages) + 1), (None,))
            return
        for place in np.ndindex(rows.shape[:-1]):
            line, own = rows[place].tolist(), pages[place].tolist()
            start = 0
            while start < len(line):
                end = start + 1
                if line[start] >= 0:
                    step = own[end] - own[start] if end < len(line) else 1
                    while (
                        step > 0
                        and end < len(line)
                        and line[end] == line[start]
                        and own[end] - own[end - 1] == step
                    ):
                        end += 1
                    step = step if end > start + 1 else 1
                    found = range(own[start], own[end - 1] + 1, step)
                    yield PlaneRun(line[start], found, (*place, slice(start, end)))
                start = end
