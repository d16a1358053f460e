"""Cells without a file: described as boxes in a few lines, and handled per ``missing``.

Everything here is pure.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import MissingFilesError, OptionError
from intake_tiffstack.formatting import few, format_value
from intake_tiffstack.layout.columns import infer_step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Axis, FieldCoord, Grid

    Box = tuple[NDArray[np.intp], ...]  # positions on each axis; its cells are their product

__all__ = ["apply_missing", "describe_gaps", "describe_holes", "trim"]


def apply_missing(
    grid: Grid, *, missing: Literal["raise", "fill", "mask", "trim"] = "raise"
) -> Grid:
    """Return *grid* with its holes settled: as it is, or trimmed until it has none. Pure.

    Raises
    ------
    MissingFilesError
        If there is a hole and *missing* is ``"raise"``, or trimming would leave nothing.
    OptionError
        If *missing* has another value, or is ``"trim"`` without a time-like axis.
    """
    if missing not in ("raise", "fill", "mask", "trim"):
        raise OptionError(f"missing is one of 'raise', 'fill', 'mask', 'trim', but got {missing!r}")
    if missing == "trim":
        return trim(grid, grid.cells < 0, describe_holes(grid))
    if missing == "raise" and grid.n_holes:
        raise MissingFilesError(
            f"{grid.n_holes:,} of {grid.cells.size:,} cells have no file:\n"
            + "".join(f"  {line}\n" for line in describe_holes(grid))
            + (
                _describe_split_date(grid)
                or _describe_redundant_axis(grid)
                or "Leave the uneven part out by sel"
            )
            + ", or open the rest by missing='fill', 'mask' or 'trim'",
            n_missing=grid.n_holes,
            cells=[grid.values_at(index) for index in np.argwhere(grid.cells < 0)[:8].tolist()],
        )
    return grid


def trim(grid: Grid, is_incomplete: NDArray[np.bool_], why: Sequence[str]) -> Grid:
    """Return *grid* up to the first incomplete position of its outermost time-like axis. Pure.

    Parameters
    ----------
    grid : Grid
    is_incomplete : ndarray of bool
        Of each cell.
    why : sequence of str
        Lines that describe what is missing, for the error.

    Raises
    ------
    MissingFilesError
        If nothing would be left.
    OptionError
        If there is no time-like axis.
    """
    times = [i for i, name in enumerate(grid.names) if role_of(name) == Role.TIME]
    if not times:
        raise OptionError(
            "missing='trim' shortens a time-like axis (t, time, timepoint, frame), but the axes "
            f"are {', '.join(grid.names) or 'none'}: give missing='fill' or 'mask'"
        )
    axis = times[0]
    others = tuple(i for i in range(grid.cells.ndim) if i != axis)
    incomplete = np.atleast_1d(is_incomplete.any(axis=others))
    if not incomplete.any():
        return grid
    n, length = int(incomplete.argmax()), len(incomplete)
    if n == 0:
        raise MissingFilesError(
            f"missing='trim' would leave no {grid.names[axis]}: its first position is incomplete:\n"
            + "".join(f"  {line}\n" for line in why)
            + "Leave the uneven part out by sel, or give missing='fill'",
            n_missing=grid.n_holes,
        )

    def shorten(coord: FieldCoord) -> FieldCoord:
        if axis not in coord.axes:
            return coord
        return replace(coord, codes=coord.codes.take(range(n), axis=coord.axes.index(axis)))

    short = replace(grid.axes[axis], values=grid.axes[axis].values[:n])
    return replace(
        grid,
        axes=(*grid.axes[:axis], short, *grid.axes[axis + 1 :]),
        cells=grid.cells.take(range(n), axis=axis),
        coords=tuple(map(shorten, grid.coords)),
        trimmed=(grid.names[axis], length),
    )


def describe_holes(grid: Grid, limit: int = 4) -> list[str]:
    """Return a few lines that list which cells have no file, as boxes. Pure.

    Positions that have no file at all come first, then boxes of holes among the other positions:
    at most *limit* lines and a count of the rest; none where there is no hole.
    """
    is_hole = grid.cells < 0
    axes = list(grid.axes)
    lines: list[str] = []
    for i, axis in enumerate(grid.axes):
        others = tuple(j for j in range(is_hole.ndim) if j != i)
        unseen = np.atleast_1d(is_hole.all(axis=others))
        if not unseen.any():
            continue
        box = [np.arange(n) for n in is_hole.shape]
        box[i] = np.flatnonzero(unseen)
        lines.append(_describe_box(axes, tuple(box)))
        seen = np.flatnonzero(~unseen)
        axes[i] = replace(axis, values=tuple(axis.values[j] for j in seen))
        is_hole = is_hole.take(seen, axis=i)
    left = is_hole.copy()
    while left.any() and len(lines) < limit:
        first = np.unravel_index(int(left.argmax()), left.shape)
        boxes = [_grow_box(is_hole, first, order) for order in _orders(left.shape)]
        largest = max(boxes, key=_n_cells)
        lines.append(_describe_box(axes, largest))
        left[np.ix_(*largest)] = False
    if rest := int(np.count_nonzero(left)):
        lines.append(f"and {_count(rest)} more")
    return lines


def _orders(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield orders in which to grow a box; which axis grows first decides which box comes out."""
    varying = tuple(axis for axis, size in enumerate(shape) if size > 1)
    if len(varying) <= 3:
        yield from permutations(varying)
        return
    for i in range(len(varying)):  # all orders of six axes would be 720
        turned = varying[i:] + varying[:i]
        yield turned
        yield turned[::-1]


def _grow_box(is_hole: NDArray[np.bool_], first: Sequence[Any], order: Sequence[int]) -> Box:
    """Return a largest box of holes around the cell *first*, grown along one axis at a time."""
    box = [np.array([position]) for position in first]
    for axis in order:
        wide = [*box]
        wide[axis] = np.arange(is_hole.shape[axis])
        others = tuple(i for i in range(is_hole.ndim) if i != axis)
        box[axis] = np.flatnonzero(is_hole[np.ix_(*wide)].all(axis=others))
    return tuple(box)


def _n_cells(box: Box) -> int:
    return math.prod(len(positions) for positions in box)


def _describe_box(axes: Sequence[Axis], box: Box) -> str:
    """Return one line on a box of holes: "t=7 is missing (12 cells)"."""
    cells = _count(_n_cells(box))
    bound = [
        (axis, positions)
        for axis, positions in zip(axes, box, strict=True)
        if len(positions) < len(axis.values)
    ]
    if len(bound) == 2:
        for (axis, inside), (other, outside) in (bound, bound[::-1]):
            present = np.setdiff1d(np.arange(len(other.values)), outside)
            if len(present) < len(outside) and len(present) <= 3 and len(inside) <= len(present):
                only = f"{_format_range(axis, inside)} is only at {_format_range(other, present)}"
                return f"{only}: {cells} missing"
    if all(len(positions) == 1 for _, positions in bound):
        return f"{', '.join(_format_range(*place) for place in bound)} is missing ({cells})"
    subject, *places = sorted(bound, key=lambda pair: len(pair[1]))
    verb = "is" if len(subject[1]) == 1 else "are"
    where = f" at {', '.join(_format_range(*place) for place in places)}" if places else ""
    return f"{_format_range(*subject)} {verb} missing{where} ({cells})"


def _format_range(axis: Axis, positions: NDArray[np.intp]) -> str:
    """Return "z=2..10" for positions in a row, else a list of them."""
    values = [axis.values[i] for i in positions]
    if len(values) > 2 and positions[-1] - positions[0] == len(values) - 1:
        return f"{axis.name}={format_value(values[0])}..{format_value(values[-1])}"
    return f"{axis.name}={few(values, 6)}"


def _count(n: int) -> str:
    return f"{n:,} cell{'s' if n != 1 else ''}"


_PARTS_OF_DATE = {"year": "%Y", "month": "%m", "day": "%d"}


def _describe_split_date(grid: Grid) -> str | None:
    """Return a hint where parts of a date are axes, which few calendars fill. Pure."""
    parts = [name for name in grid.names if name in _PARTS_OF_DATE]
    if not {"year", "month"} <= set(parts):
        return None
    fields = ", ".join(f"{{time:{_PARTS_OF_DATE[name]}}}" for name in parts)
    return f"{', '.join(parts)} make one date: write them as {fields} in the pattern"


def _describe_redundant_axis(grid: Grid) -> str | None:
    """Return a hint where an axis only repeats what the others say, so that most cells are empty.

    A clock beside a time point: it has one value at each place of the other axes.
    """
    is_file = grid.cells >= 0
    filled_without = {}
    for axis, name in enumerate(grid.names):
        others = tuple(i for i in range(is_file.ndim) if i != axis)
        is_seen = np.atleast_1d(is_file.any(axis=others))
        # A position that only ``sizes`` gives is not evidence.
        if len(is_seen) > 1 and is_seen.all() and (is_file.sum(axis=axis) <= 1).all():
            filled_without[name] = is_file.any(axis=axis).mean()
    if not filled_without:
        return None
    name = max(reversed(filled_without), key=filled_without.__getitem__)
    return (
        f"{name} has one value at each place of the other axes: leave it out of concat_dim, and "
        "it becomes a coordinate"
    )


def describe_gaps(grid: Grid) -> list[str]:
    """Return a line for each axis whose integers skip some of an otherwise regular numbering. Pure.

    The grid has no position for what no name mentions, so it cannot see these.
    """
    lines = []
    for axis in grid.axes:
        if not all(isinstance(value, int) for value in axis.values):
            continue
        keys = sorted(axis.values)
        step = infer_step(keys)
        if step is None:
            continue
        absent = sorted(set(range(keys[0], keys[-1], step)).difference(keys))
        if absent:
            verb = "is" if len(absent) == 1 else "are"
            lines.append(f"{axis.name}: {few(keys)}: {few(absent)} {verb} not there")
    return lines
