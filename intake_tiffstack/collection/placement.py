"""Where on the map files lie, held against where their names put them. Pure.

Names count tiles; which way they count, and whether tiles touch, only the files know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import LayoutError
from intake_tiffstack.formatting import few
from intake_tiffstack.layout.lookup import dim_of_role

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Dim, Grid, Layout
    from intake_tiffstack.metadata.model import FileMetadata

__all__ = [
    "TOLERANCE",
    "PlacedTile",
    "find_doubts",
    "is_georeferenced",
    "placed_tiles",
    "turn_axes",
]

TOLERANCE = 0.01
"""Pixels by which a file may lie beside the place that its cell implies."""

_MISPLACED = 0.5
"""Pixels from which on a tile is in the wrong row or column."""

_SAME_STEP = 1e-6

_ROLES = {"y": Role.Y, "x": Role.X}


@dataclass(frozen=True)
class PlacedTile:
    """A file that is upright on the map."""

    url: str
    begin: Mapping[str, float]
    """Coordinate of its first edge along y and x."""
    step: Mapping[str, float]
    """From one pixel to the next; negative where the axis runs the other way."""
    crs: Any


def is_georeferenced(files: Mapping[int, FileMetadata]) -> bool:
    """Return whether any of the files says where on a map it is, or on which."""
    return any({"affine", "crs"} & file.facts.keys() for file in files.values())


def placed_tiles(files: Mapping[int, FileMetadata]) -> dict[int, PlacedTile]:
    """Return the files that are upright on a map, by row."""
    found = {}
    for row, file in files.items():
        if "affine" not in file.facts:
            continue
        a, b, c, d, e, f = file.facts["affine"]
        if b == 0 and d == 0 and a != 0 and e != 0:
            crs = file.facts.get("crs")
            found[row] = PlacedTile(file.url, {"x": c, "y": f}, {"x": a, "y": e}, crs)
    return found


def turn_axes(
    grid: Grid, files: Mapping[int, FileMetadata], file_dims: Sequence[str], fixed: Sequence[str]
) -> tuple[Grid, list[str]]:
    """Return the grid with its tiles in the order in which they lie on the map, and what changed.

    Rows named by latitude, or counted from the south, come in the order of names upside down.

    Parameters
    ----------
    grid : Grid
        The files in their cells.
    files : mapping[int, FileMetadata]
        What the files that were looked at say, by row.
    file_dims : sequence of str
        Dims inside the files.
    fixed : sequence of str
        Axes whose order an option gives; they stay as they are.
    """
    tiles = placed_tiles(files)
    turned = []
    for axis, name in enumerate(grid.names):
        role = role_of(name)
        if role not in (Role.Y, Role.X) or name not in file_dims or name in fixed:
            continue
        order = _order_on_map(grid, axis, role.value, tiles)
        if order is None:
            continue
        before = few(grid.axes[axis].values, 4)
        grid = _take_along(grid, axis, order)
        turned.append(
            f"{name} is in the order of the map, {few(grid.axes[axis].values, 4)}, and not in that "
            f"of the names, {before}; labels sets another order"
        )
    return grid, turned


def _order_on_map(
    grid: Grid, axis: int, letter: str, tiles: Mapping[int, PlacedTile]
) -> NDArray[np.intp] | None:
    """Return the positions of *axis* in the order of the map, None if they are in it already."""
    if not tiles:
        return None
    rows = list(tiles)
    index = grid.locate(rows)
    places: dict[tuple[int, ...], dict[int, float]] = {}
    for row, group, position in zip(
        rows, _groups(grid.names, index, len(rows)), index[axis].tolist(), strict=True
    ):
        begin = tiles[row].begin[letter] * math.copysign(1, tiles[row].step[letter])
        places.setdefault(group, {}).setdefault(position, begin)
    known = max(places.values(), key=len)
    positions = sorted(known)
    begins = np.array([known[position] for position in positions])
    if (np.diff(begins) >= 0).all():
        return None
    if len(positions) == len(grid.axes[axis].values):
        return np.argsort(begins, kind="stable")
    if (np.diff(begins) < 0).all():  # those that no file has, or none was read of, go along
        return np.arange(len(grid.axes[axis].values))[::-1]
    return None


def _groups(
    names: Sequence[str], index: Sequence[NDArray[np.intp]], n: int
) -> Iterator[tuple[int, ...]]:
    """Yield per file where it is along all axes but y and x: tiles of one group make one image."""
    others = [
        i.tolist()
        for name, i in zip(names, index, strict=True)
        if role_of(name) not in _ROLES.values()
    ]
    yield from zip(*others, strict=True) if others else [()] * n


def _take_along(grid: Grid, axis: int, order: NDArray[np.intp]) -> Grid:
    values = tuple(grid.axes[axis].values[i] for i in order)
    axes = (*grid.axes[:axis], replace(grid.axes[axis], values=values), *grid.axes[axis + 1 :])
    return replace(
        grid,
        axes=axes,
        cells=grid.cells.take(order, axis=axis),
        coords=tuple(
            replace(coord, codes=coord.codes.take(order, axis=coord.axes.index(axis)))
            if axis in coord.axes
            else coord
            for coord in grid.coords
        ),
    )


def find_doubts(layout: Layout, files: Mapping[int, FileMetadata]) -> dict[str, str]:
    """Return why the place of the array is in doubt along y and x; nothing where it is not.

    Each file is held against the place that its cell implies.

    Raises
    ------
    LayoutError
        If tiles that the names put in one row or column do not lie in one.
    """
    tiles = placed_tiles(files)
    if len(tiles) < 2:
        return {}
    dims = {letter: dim_of_role(layout, role) for letter, role in _ROLES.items()}
    rows = list(tiles)
    index = _locate(layout, rows)
    offsets = {letter: _offsets(dim, index, len(rows)) for letter, dim in dims.items()}
    if any(dim is not None and dim.offsets is not None for dim in dims.values()):
        _refuse_broken_lines(layout, dims, tiles, index)
    doubts: dict[str, str] = {}
    first = tiles[rows[0]]
    for i, row in enumerate(rows):
        tile = tiles[row]
        for letter in _ROLES:
            if letter in doubts:
                continue
            expected = float(offsets[letter][i] - offsets[letter][0])
            if (doubt := _doubt(first, tile, letter, expected)) is not None:
                doubts[letter] = doubt
    return doubts


def _doubt(first: PlacedTile, tile: PlacedTile, letter: str, expected: float) -> str | None:
    """Return how a file contradicts the place of another one *expected* pixels before."""
    if None not in (first.crs, tile.crs) and first.crs != tile.crs:
        return f"{first.url} is on {first.crs}, but {tile.url} on {tile.crs}"
    step = first.step[letter]
    if not math.isclose(step, tile.step[letter], rel_tol=_SAME_STEP):
        return f"{first.url} has pixels of {step:.9g}, but {tile.url} of {tile.step[letter]:.9g}"
    shift = (tile.begin[letter] - first.begin[letter]) / step - expected
    if abs(shift) <= TOLERANCE:
        return None
    where = first.begin[letter] + expected * step
    return (
        f"{tile.url} begins at {letter} = {tile.begin[letter]:.9g}, but beside {first.url} it "
        f"would begin at {where:.9g}: {abs(shift):.6g} pixels "
        f"{'further' if shift > 0 else 'before that'}"
    )


def _locate(layout: Layout, rows: Sequence[int]) -> tuple[NDArray[np.intp], ...]:
    """Return the positions of *rows* along each axis of the grid."""
    flat = layout.cells.ravel()
    place_of = dict(zip(flat.tolist(), range(flat.size), strict=True))
    places = np.array([place_of[row] for row in rows], np.intp)
    return np.unravel_index(places, layout.cells.shape) if layout.cells.ndim else ()


def _offsets(dim: Dim | None, index: Sequence[NDArray[np.intp]], n: int) -> NDArray[np.intp]:
    """Return at which pixel of the array each file begins along a dim."""
    if dim is None or dim.offsets is None or dim.axis is None:
        return np.zeros(n, np.intp)
    return np.asarray(dim.offsets, np.intp)[index[dim.axis]]


def _refuse_broken_lines(
    layout: Layout,
    dims: Mapping[str, Dim | None],
    tiles: Mapping[int, PlacedTile],
    index: Sequence[NDArray[np.intp]],
) -> None:
    """Raise where tiles at one position along y or x do not begin at one coordinate."""
    by_axis = {dim.axis: dim.name for dim in layout.dims if dim.axis is not None}
    names = [by_axis[axis] for axis in range(len(index))]
    groups = list(_groups(names, index, len(tiles)))
    for letter, dim in dims.items():
        if dim is None:
            continue
        seen: dict[Any, PlacedTile] = {}
        for i, tile in enumerate(tiles.values()):
            position = None if dim.axis is None else int(index[dim.axis][i])
            first = seen.setdefault((groups[i], position), tile)
            shift = (tile.begin[letter] - first.begin[letter]) / first.step[letter]
            if abs(shift) >= _MISPLACED:
                line = "row" if letter == "y" else "column"
                raise LayoutError(
                    f"the names put two files in one {line} along {dim.name} that do not lie in "
                    f"one: {first.url} begins at {letter} = {first.begin[letter]:.9g}, but "
                    f"{tile.url} at {tile.begin[letter]:.9g}, {abs(shift):.6g} pixels away: leave "
                    "the odd ones out by exclude, take fields that count by place, or leave "
                    f"{dim.name} out of concat_dim",
                    paths=(first.url, tile.url),
                )
