"""A region of one file to the bytes and segments that hold it. Pure.

One number, what a further read costs, is the whole policy; nothing here touches storage.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Region", "Segment", "SpanPlan", "merge_ranges", "plan_segments", "plan_spans"]

Region = tuple[range, ...]
"""The part of a file that a read asks for: one ascending range per dim."""


@dataclass(frozen=True)
class SpanPlan:
    """Equal runs of bytes that together hold a region of a C-ordered array."""

    split: int
    """Dims before this one are walked, one span each place; dims from it on lie in the span."""
    starts: NDArray[np.int64]
    """First byte of each span, in C order of the walked dims."""
    nbytes: int
    """Bytes of each span."""
    is_exact: bool
    """True where a span holds the region's bytes and no others, in order."""


@functools.lru_cache(maxsize=1024)  # a chunk of many small files asks the same of each
def plan_spans(shape: Sequence[int], itemsize: int, region: Region, *, read_cost: int) -> SpanPlan:
    """Return the cheapest equal spans that cover a region. Pure.

    A span that reaches over more dims means fewer reads and more bytes between; each read is
    weighed as *read_cost* bytes. Whole inner dims cost nothing, so a plane is one span, a stack of
    whole planes is one span too, and a narrow column is one span per row or per plane.

    >>> plan = plan_spans((10, 4, 5), 2, (range(3, 5), range(4), range(5)), read_cost=64)
    >>> plan.split, plan.starts.tolist(), plan.nbytes, plan.is_exact
    (0, [120], 80, True)
    """
    strides = [itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape))]
    counts = [len(r) for r in region]
    best: tuple[int, int] | None = None
    for split in range(len(shape) + 1):
        reach = sum(
            (r[-1] - r[0]) * s for r, s in zip(region[split:], strides[split:], strict=True)
        )
        cost = math.prod(counts[:split]) * (reach + itemsize + read_cost)
        if best is None or cost < best[0]:
            best = (cost, split)
    split = best[1] if best else 0
    first = sum(r[0] * s for r, s in zip(region[split:], strides[split:], strict=True))
    reach = sum((r[-1] - r[0]) * s for r, s in zip(region[split:], strides[split:], strict=True))
    starts = np.array(first, np.int64)
    for r, stride in zip(region[:split], strides[:split], strict=True):
        starts = np.add.outer(starts, np.arange(r.start, r.stop, r.step, dtype=np.int64) * stride)
    nbytes = reach + itemsize
    return SpanPlan(split, starts.ravel(), nbytes, nbytes == math.prod(counts[split:]) * itemsize)


def merge_ranges(ranges: Sequence[tuple[int, int]], *, gap: int) -> list[list[int]]:
    """Return ranges of (start, count) in runs with at most *gap* bytes between neighbours. Pure.

    Each run holds positions in the input, by ascending start.

    >>> merge_ranges([(0, 10), (100, 5), (10, 10)], gap=8)
    [[0, 2], [1]]
    """
    runs: list[list[int]] = []
    end = 0
    for i in sorted(range(len(ranges)), key=ranges.__getitem__):
        start, count = ranges[i]
        if runs and start - end <= gap:
            runs[-1].append(i)
            end = max(end, start + count)
        else:
            runs.append([i])
            end = start + count
    return runs


@dataclass(frozen=True)
class Segment:
    """One strip or tile that a region touches, and where its pixels go."""

    index: int
    """Its number in the page."""
    into: tuple[slice, ...]
    """Where in the region, in TIFF's five dims."""
    taken: tuple[slice, ...]
    """What of the segment: depth, length, width, sample."""
    is_whole: bool
    """Whether that is all that its bytes hold."""


@functools.lru_cache(maxsize=1024)  # a chunk of many small files asks the same of each
def plan_segments(
    shape: tuple[int, ...], segment: tuple[int, int, int], region: Region
) -> tuple[Segment, ...]:
    """Return the segments that hold a pixel of a region, in their order in the page. Pure.

    Parameters
    ----------
    shape : tuple of int
        Of a page: planar sample, depth, length, width, contiguous sample.
    segment : tuple[int, int, int]
        Depth, length and width of a strip or tile.
    region : Region
        One ascending range for each of the five.

    >>> [s.index for s in plan_segments((1, 1, 8, 8, 1), (1, 4, 4),
    ...     (range(1), range(1), range(2), range(3, 5), range(1)))]
    [0, 1]
    """
    extents = (1, *segment)
    grid = [math.ceil(n / m) for n, m in zip(shape[:4], extents, strict=True)]
    touched = [
        [(i, *_overlap(r, i * n, n)) for i in dict.fromkeys(place // n for place in r)]
        for r, n in zip(region[:4], extents, strict=True)
    ]
    sample = region[4]
    last = slice(0, len(sample)), slice(sample.start, sample.stop, sample.step)
    planned = []
    for parts in itertools.product(*touched):
        index = 0
        for (i, _, _), n in zip(parts, grid, strict=True):
            index = index * n + i
        into = (*(into for _, into, _ in parts), last[0])
        taken = (*(taken for _, _, taken in parts[1:]), last[1])
        # a last strip has fewer rows; a tile beyond the edge is padded and is none of it
        rows = min(segment[1], shape[2] - parts[2][0] * segment[1])
        counts = [into.stop - into.start for _, into, _ in parts]
        is_whole = (*counts, len(sample)) == (1, segment[0], rows, segment[2], shape[4])
        planned.append(Segment(index, into, taken, is_whole))
    return tuple(planned)


def _overlap(wanted: range, begin: int, size: int) -> tuple[slice, slice]:
    """Return where the places of *wanted* in [begin, begin + size) go, and which they are there."""
    low = max(0, -(-(begin - wanted.start) // wanted.step))
    high = min(len(wanted), -(-(begin + size - wanted.start) // wanted.step))
    taken = slice(wanted[low] - begin, wanted[high - 1] - begin + 1, wanted.step)
    return slice(low, high), taken
