"""Where tiles lie in their image, in whole pixels: from places on a map or under a stage. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from intake_tiffstack.collection.placement import TOLERANCE, PlacedTile
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import LayoutError
from intake_tiffstack.layout.model import Grid
from intake_tiffstack.layout.mosaic import Tile
from intake_tiffstack.metadata.units import METRES, unit_name
from intake_tiffstack.natural_sort import natural_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.structure import Structure

__all__ = ["TilePositions", "locate_tiles", "micrometres", "stage_tiles"]

_NO_PLACE = {
    "georeference": "has no place on a map (an upright affine), which place='georeference' needs",
    "stage": "does not say where the stage was in a unit of length, or the size of a pixel, which "
    "place='stage' needs: "
    "give the fields stage_y_um and stage_x_um, and scale",
}


class _Box(NamedTuple):
    """Lines and columns that a tile, or several, cover."""

    top: int
    left: int
    bottom: int
    right: int

    def touches(self, other: _Box) -> bool:
        """Whether both have a pixel.

        >>> _Box(0, 0, 9, 9).touches(_Box(0, 9, 9, 18)), _Box(0, 0, 9, 9).touches(_Box(8, 8, 9, 18))
        (False, True)
        """
        lines = max(self.top, other.top) < min(self.bottom, other.bottom)
        return lines and max(self.left, other.left) < min(self.right, other.right)


def _box_around(boxes: Sequence[_Box]) -> _Box:
    tops, lefts, bottoms, rights = zip(*boxes, strict=True)
    return _Box(min(tops), min(lefts), max(bottoms), max(rights))


@dataclass(frozen=True, eq=False)
class TilePositions:
    """Tiles by the pixels of their image, and where the image is."""

    tiles: list[Tile]
    affine: tuple[float, ...]
    """Of the first image."""
    rounded: float
    """Most pixels by which a tile was moved to lie on those of the others."""
    origins: Mapping[int, Mapping[str, float]]
    """Corner of each image by cell, where wells lie apart; empty where all begin at one place."""


def locate_tiles(
    grid: Grid,
    structures: Mapping[int, Structure],
    placed: Mapping[int, PlacedTile],
    at: tuple[int, int],
    paths: Sequence[str],
    place: str,
) -> TilePositions:
    """Return where each tile lies.

    Wells that the stage went far to, so that none of their tiles lie at one place, are images that
    each begin at a different place: in one frame they would be an array with little but gaps.

    Parameters
    ----------
    grid : Grid
        Made by :func:`~intake_tiffstack.collection.tile_grid.place_tiles`.
    structures : mapping
        By row.
    placed : mapping
        Where each row is on the map or under the stage.
    at : tuple of int
        Which dims inside the files y and x are.
    paths : sequence of str
        Of each row, for messages and the order.
    place : {"georeference", "stage"}
        The option.

    Raises
    ------
    LayoutError
        If a file is in no place, or the files do not lie on one grid of pixels.
    """
    rows = sorted(int(row) for row in grid.rows)
    first, template = rows[0], structures.get(rows[0])
    for row in rows:
        if row not in structures or row not in placed:
            raise LayoutError(f"{paths[row]} {_NO_PLACE[place]}; or leave it out by exclude")
        _refuse_other_kind(template, structures[row], at, paths[first], paths[row])
    flat = grid.cells.reshape(-1, grid.cells.shape[-1])
    cell_of = {int(row): cell for cell, own in enumerate(flat) for row in own if row >= 0}
    extents = {row: (structures[row].shape[at[0]], structures[row].shape[at[1]]) for row in rows}
    frames = [rows]
    boxes, rounded = _boxes(frames, placed, extents, place)
    if place == "stage":
        wells = _by_well(grid, cell_of)
        one, *others = (_box_around([boxes[row] for row in own]) for own in wells)
        if others and not any(one.touches(other) for other in others):
            frames = wells
            boxes, rounded = _boxes(frames, placed, extents, place)
    tiles: dict[int, Tile] = {}
    origins: dict[int, dict[str, float]] = {}
    for own in frames:
        top, left, _, _ = _box_around([boxes[row] for row in own])
        start = placed[own[0]]
        corner = {
            letter: start.begin[letter] + n * start.step[letter]
            for letter, n in (("y", top), ("x", left))
        }
        for row in own:
            y, x = boxes[row][:2]
            tiles[row] = Tile(row, cell_of[row], y - top, x - left, *extents[row])
            origins[cell_of[row]] = corner
    step, corner = placed[first].step, origins[cell_of[first]]
    return TilePositions(
        [tiles[rows[i]] for i in natural_order([paths[row] for row in rows])],
        (step["x"], 0.0, corner["x"], 0.0, step["y"], corner["y"]),
        rounded,
        origins if len(frames) > 1 else {},
    )


def _boxes(
    frames: Sequence[Sequence[int]],
    placed: Mapping[int, PlacedTile],
    extents: Mapping[int, tuple[int, int]],
    place: str,
) -> tuple[dict[int, _Box], float]:
    """Return what tiles cover, counted from the first one of each frame, and the largest move."""
    boxes, rounded = {}, 0.0
    for own in frames:
        for row in own:
            (y, x), moved = _pixels_from(placed[own[0]], placed[row], place)
            boxes[row] = _Box(y, x, y + extents[row][0], x + extents[row][1])
            rounded = max(rounded, moved)
    return boxes, rounded


def _by_well(grid: Grid, cell_of: Mapping[int, int]) -> list[list[int]]:
    """Return the rows of each well, ascending."""
    kept = [i for i, name in enumerate(grid.names) if role_of(name) is Role.PLATE]
    wells: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(cell_of):
        index = np.unravel_index(cell_of[row], grid.cells.shape[:-1]) if kept else ()
        wells.setdefault(tuple(int(index[i]) for i in kept), []).append(row)
    return list(wells.values())


def _refuse_other_kind(
    first: Structure | None, other: Structure, at: tuple[int, int], one: str, two: str
) -> None:
    def kind(structure: Structure) -> tuple[Any, ...]:
        shape = [n for i, n in enumerate(structure.shape) if i not in at]
        return structure.dims, structure.dtype, shape

    if first is None or kind(first) != kind(other):
        found = "not readable" if first is None else first.describe()
        raise LayoutError(
            f"the tiles are not alike: {one} is {found}, but {two} is {other.describe()}; leave "
            "the odd ones out by exclude or sel"
        )


def _pixels_from(first: PlacedTile, tile: PlacedTile, place: str) -> tuple[tuple[int, int], float]:
    """Return how many lines and columns after the first one a tile begins.

    A stage knows nothing of pixels: its positions are rounded, and by how much is returned too.
    """
    if first.crs != tile.crs:
        raise LayoutError(
            f"the tiles are not on one map: {first.url} is on {first.crs}, but {tile.url} on "
            f"{tile.crs}; warp them to one first (gdalwarp)"
        )
    found = []
    moved = 0.0
    for letter in "yx":
        step = first.step[letter]
        if abs(tile.step[letter] - step) > 1e-6 * abs(step):
            raise LayoutError(
                f"the tiles have unequal pixels along {letter}: {first.url} of {step:.9g}, but "
                f"{tile.url} of {tile.step[letter]:.9g}; warp them to one size first (gdalwarp)"
            )
        shift = (tile.begin[letter] - first.begin[letter]) / step
        if place == "stage":
            moved = max(moved, round(abs(shift - round(shift)), 6))
        elif abs(shift - round(shift)) > TOLERANCE:
            raise LayoutError(
                f"{tile.url} lies {shift - round(shift):+.3g} pixels beside the pixels of "
                f"{first.url} along {letter}; warp them to one grid first (gdalwarp -tap)"
            )
        found.append(round(shift))
    return (found[0], found[1]), moved


def stage_tiles(
    files: Mapping[int, FileMetadata], fields: Mapping[str, Sequence[Any]], options: Options
) -> dict[int, PlacedTile]:
    """Return the files of which the place under the stage and the size of a pixel are known.

    By row, in micrometres. The stage's position is that of the first pixel, as OME-Zarr has it. A
    negative scale is for a stage that counts against the lines or columns of the image.
    """
    found = {}
    for row, file in files.items():
        begin, steps = {}, {}
        for letter in "yx":
            given = fields.get(f"stage_{letter}_um")
            known = file.stage.get(letter, ()) if given is None else (float(given[row]),)
            step = options.scale.get(letter, file.scale.get(letter))
            if len(known) == 1 and step:
                steps[letter] = round(step * micrometres(file, letter, options), 9)
                begin[letter] = known[0] - steps[letter] / 2
        if len(begin) == 2:
            found[row] = PlacedTile(file.url, begin, steps, None)
    return found


def micrometres(file: FileMetadata, letter: str, options: Options) -> float:
    """Return how many micrometres the unit of a dim has; one that is not known counts as one."""
    unit = unit_name(options.units.get(letter, file.units.get(letter, "um")))
    return METRES[unit] * 1e6 if unit in METRES else 1.0
