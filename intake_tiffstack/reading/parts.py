"""What an index takes of each file of a collection. Pure."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from intake_tiffstack.layout.model import Dim, Layout

__all__ = ["FilePart", "plan_parts"]


@dataclass(frozen=True)
class FilePart:
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
    axes = [(place, d.axis) for place, d in enumerate(dims) if d.axis is not None]
    cell = [0] * layout.cells.ndim
    for parts in itertools.product(
        *(list(_split(d, r)) for d, r in zip(dims, ranges, strict=True))
    ):
        for place, axis in axes:
            cell[axis] = parts[place].position
        yield FilePart(
            row=int(layout.cells[tuple(cell)]),
            region=tuple(parts[i].inside for i in inside),
            expected=tuple(
                n if dims[i].offsets is None else _extent(dims[i], parts[i].position)
                for i, n in zip(inside, layout.file_shape, strict=True)
            ),
            into=tuple(part.out for part in parts),
            order=order,
        )


@dataclass(frozen=True)
class _DimPart:
    """What an index takes of one position along one dim."""

    position: int
    """Index on the grid axis; 0 if names do not make the dim."""
    inside: range
    """Places inside the file; empty for a dim that names alone make."""
    out: int | slice
    """Where it goes in the result: an integer for a stacked dim."""


def _split(dim: Dim, wanted: range) -> Iterator[_DimPart]:
    """Yield what *wanted*, which is not empty, takes of each file along *dim*. Pure."""
    if dim.file_dim is None:
        for i, position in enumerate(wanted):
            yield _DimPart(position, range(0), i)
        return
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
