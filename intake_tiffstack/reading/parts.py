"""What an index takes of each file of a collection. Pure."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intake_tiffstack.layout.model import Dim, Layout

__all__ = ["FilePart", "plan_parts"]


class FilePart(NamedTuple):
    """What an index takes of one file: the unit of reading."""

    row: int
    """The file's row in the table, -1 for a cell without one."""
    region: tuple[range, ...]
    """One ascending range per dim inside the file."""
    expected: tuple[int, ...]
    """The shape that the file must have."""
    into: tuple[int | slice, ...]
    """Where it goes in the block, whose dims are those of the result."""
    order: tuple[int, ...]
    """How the dims of that place are transposed to be those of the file."""


def plan_parts(layout: Layout, ranges: tuple[range, ...]) -> Iterator[FilePart]:
    """Yield what a region of the result takes of each file. Pure.

    Parameters
    ----------
    layout : Layout
        How files make up the result.
    ranges : tuple of range
        One ascending range per dim of the result, none empty.
    """
    dims = layout.dims
    inside = sorted(
        (i for i, d in enumerate(dims) if d.file_dim is not None),
        key=lambda i: dims[i].file_dim or 0,
    )
    kept = sorted(inside)  # a stacked dim is an integer in `into`, and so none of the place's dims
    order = tuple(kept.index(i) for i in inside)
    # what files have of their own dims is the same wherever in the stack they are
    within = [
        (
            parts,
            tuple(part.inside for part in parts),
            tuple(
                n if dims[i].offsets is None else _extent(dims[i], part.position)
                for i, n, part in zip(inside, layout.file_shape, parts, strict=True)
            ),
        )
        for parts in itertools.product(*(list(_split(dims[i], ranges[i])) for i in inside))
    ]
    axes = [(i, d.axis) for i, d in enumerate(dims) if d.axis is not None]
    stacked = [(i, axis) for i, axis in axes if i not in inside]
    extended = [(inside.index(i), axis) for i, axis in axes if i in inside]
    into: list[int | slice] = [0] * len(dims)
    cell = [0] * layout.cells.ndim
    for places in itertools.product(*(enumerate(ranges[i]) for i, _ in stacked)):
        for (i, axis), (place, position) in zip(stacked, places, strict=True):
            into[i], cell[axis] = place, position
        for parts, region, expected in within:
            for i, part in zip(inside, parts, strict=True):
                into[i] = part.out
            for k, axis in extended:
                cell[axis] = parts[k].position
            yield FilePart(layout.cells.item(*cell), region, expected, tuple(into), order)


@dataclass(frozen=True)
class _DimPart:
    """What an index takes of one position along a dim inside the files."""

    position: int
    """Index on the grid axis; 0 if names do not extend the dim."""
    inside: range
    """Places inside the file."""
    out: slice
    """Where it goes in the result."""


def _split(dim: Dim, wanted: range) -> Iterator[_DimPart]:
    """Yield what *wanted*, which is not empty, takes of each file along *dim*. Pure."""
    if dim.offsets is None:
        yield _DimPart(0, wanted, slice(None))
        return
    done = 0
    first, last = (bisect_right(dim.offsets, place) - 1 for place in (wanted[0], wanted[-1]))
    for position in range(first, last + 1):
        begin, end = dim.offsets[position : position + 2]
        # the members of an arithmetic progression that lie in [begin, end)
        start = max(wanted.start, begin)
        start += (wanted.start - start) % wanted.step
        inside = range(start - begin, min(end, wanted.stop) - begin, wanted.step)
        if len(inside):
            yield _DimPart(position, inside, slice(done, done + len(inside)))
            done += len(inside)


def _extent(dim: Dim, position: int) -> int:
    """Return the extent of a file at a position of an extended dim."""
    begin, end = (dim.offsets or ())[position : position + 2]
    return end - begin
