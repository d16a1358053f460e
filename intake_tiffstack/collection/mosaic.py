"""Files as tiles of one image, each where its georeference puts it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.calibration import FILE_NAMES
from intake_tiffstack.collection.placement import TOLERANCE, PlacedTile, placed_tiles
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import LayoutError, MissingFilesError, OptionError
from intake_tiffstack.layout.combine import combine
from intake_tiffstack.layout.grid import place_files
from intake_tiffstack.layout.holes import trim
from intake_tiffstack.layout.model import Axis, Grid, Layout
from intake_tiffstack.layout.mosaic import Mosaic, Tile, count_covers
from intake_tiffstack.metadata.units import METRES, unit_name
from intake_tiffstack.natural_sort import natural_order
from intake_tiffstack.pattern.matching import default_concat_dim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intake_tiffstack.collection.model import FilesFound, HeadersRead
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.structure import Structure

__all__ = ["PlacedMosaic", "build_mosaic", "place_tiles"]

_NO_PLACE = {
    "georeference": "has no place on a map (an upright affine), which place='georeference' needs",
    "stage": "does not say where the stage was in a unit of length, or the size of a pixel, which "
    "place='stage' needs: "
    "give the fields stage_y_um and stage_x_um, and scale",
}

TILE = "tile"
"""Axis of the grid that numbers the files of one image; the result has no such dim."""

_MOST = 2**26
"""Lines or columns of a mosaic: the Earth at 60 cm, a stage of 40 m at 0.6 um."""

_KEPT_ROLES = (Role.TIME, Role.CHANNEL, Role.Z, Role.PLATE, Role.ACQUISITION)
_TILE_ROLES = (Role.Y, Role.X, Role.POSITION)


@dataclass(frozen=True, eq=False)
class PlacedMosaic:
    """A mosaic, and where it is on the map or under the stage."""

    layout: Layout
    mosaic: Mosaic
    affine: tuple[float, ...]
    """Of the whole image."""
    units: Mapping[str, float]
    """How many units of the affine are one of the coordinates, by y and x: 1 on a map."""
    place: str
    """What put the tiles there: the option."""
    rounded: float
    """Most pixels by which a tile was moved to lie on those of the others."""
    uncovered: float
    """Share of its pixels that are in no file."""
    overlapping: float
    """Share that several files have."""
    origins: Mapping[int, Mapping[str, float]]
    """Corner of each image in micrometres, by cell, where wells lie apart; else empty."""

    def describe(self) -> str:
        """Return what a report says of it."""
        moved = f", moved by up to {self.rounded:.2g} pixels" if self.rounded else ""
        return (
            f"{len(self.mosaic.tiles):,} tiles placed by {self.place}{moved}"
            f"{', each well at a place of its own' if self.origins else ''}; "
            f"{self.overlapping:.3%} of the pixels are in several files, "
            f"{self.uncovered:.3%} in none"
        )

    def move(self, files: Mapping[int, FileMetadata]) -> dict[int, FileMetadata]:
        """Return the metadata of the files that stand for an image, as if each were all of it."""
        a, _, c, _, e, f = self.affine
        kept = set(self.layout.cells.ravel().tolist())
        if self.place == "stage":
            cell_of = {row: cell for cell, row in enumerate(self.layout.cells.ravel().tolist())}
            step, corner = {"y": e, "x": a}, {"y": f, "x": c}
            return {
                row: self._move(file, step, self.origins.get(cell_of[row], corner))
                for row, file in files.items()
                if row in kept
            }
        return {
            row: replace(
                file,
                facts={**file.facts, "affine": list(self.affine)},
                translation={**file.translation, "x": c + a / 2, "y": f + e / 2},
            )
            for row, file in files.items()
            if row in kept
        }

    def _move(
        self, file: FileMetadata, step: Mapping[str, float], corner: Mapping[str, float]
    ) -> FileMetadata:
        """Return the metadata of a file with the scale and the place of all of the image.

        Where wells lie apart, that is where the stage was, which makes a coordinate along them.
        """
        origin = {dim: round(corner[dim] + step[dim] / 2, 9) for dim in step}
        sources = {
            **{f"scale.{dim}": file.provenance.get(f"scale.{dim}", "option") for dim in step},
            **{
                f"translation.{dim}": file.provenance.get(f"stage.{dim}", FILE_NAMES)
                for dim in step
            },
        }
        scaled = {**file.scale, **{dim: step[dim] / self.units[dim] for dim in step}}
        known = {**file.provenance, **sources}
        if self.origins:
            known |= {f"stage.{dim}": sources[f"translation.{dim}"] for dim in step}
            stage = {dim: (value,) for dim, value in origin.items()}
            others = {dim: n for dim, n in file.translation.items() if dim not in step}
            return replace(file, scale=scaled, translation=others, stage=stage, provenance=known)
        by_unit = {dim: value / self.units[dim] for dim, value in origin.items()}
        return replace(
            file,
            scale=scaled,
            translation={**file.translation, **by_unit},
            stage={},
            provenance=known,
        )


def place_tiles(found: FilesFound, options: Options) -> Grid:
    """Return the grid of the files: the dims that names make, and an axis that numbers the tiles.

    Fields of time, channel, z and plate make dims, or those that ``concat_dim`` names; y, x and
    positions never do, since the files themselves say where they are.
    """
    if found.pattern is None or found.matches is None:
        grid = place_files(found.paths, concat_dim=TILE)
        return replace(grid, is_named=False)
    fields = found.matches.fields
    if options.concat_dim is None:
        default = default_concat_dim(found.pattern, fields)
        kept = [name for name in default if role_of(name) in _KEPT_ROLES]
    else:
        kept = [name for name in options.concat_dim if role_of(name) not in _TILE_ROLES]
    base = place_files(
        found.paths,
        pattern=found.pattern,
        matches=found.matches,
        concat_dim=kept,
        labels=options.labels,
        sizes={name: n for name, n in options.sizes.items() if name in kept},
        duplicates="first",
    )
    cells: dict[tuple[Any, ...], list[int]] = {}
    positions = [
        {
            base.written.get(axis.name, {}).get(value, value): i
            for i, value in enumerate(axis.values)
        }
        for axis in base.axes
    ]
    columns = [fields[axis.name].values for axis in base.axes]
    for row in natural_order(list(found.paths)):
        cell = tuple(places[column[row]] for places, column in zip(positions, columns, strict=True))
        cells.setdefault(cell, []).append(row)
    table = np.full((*base.cells.shape, max(map(len, cells.values()))), -1, np.int32)
    for cell, rows in cells.items():
        table[cell][: len(rows)] = rows
    name = TILE if TILE not in kept else f"{TILE}_"
    decided = [
        coord
        for coord in base.coords
        if len(fields[coord.name].keys) == 1  # of the others the tiles have different ones
    ]
    return replace(
        base,
        axes=(*base.axes, Axis(name, tuple(range(table.shape[-1])))),
        cells=table,
        coords=tuple(decided),
        dropped=(),
    )


def build_mosaic(
    grid: Grid,
    headers: HeadersRead,
    files: Mapping[int, FileMetadata],
    *,
    paths: Sequence[str],
    options: Options,
    fields: Mapping[str, Sequence[Any]] | None = None,
) -> PlacedMosaic:
    """Return the mosaic of the files on a grid by :func:`place_tiles`.

    The *fields* ``stage_y_um`` and ``stage_x_um``, a value per row, go before the files' metadata.

    Raises
    ------
    LayoutError
        If a file is in no place, the files do not lie on one grid of pixels, or they overlap and
        no option says which counts.
    MissingFilesError
        If they leave a gap and ``missing`` is ``"raise"``.
    OptionError
        If ``missing`` is ``"mask"``, or ``"trim"`` without a time dim.
    """
    if options.missing == "mask":
        raise OptionError(
            "missing='mask' marks cells without a file, but gaps of a mosaic are parts of one: "
            "give missing='fill' and a fill_value that no pixel has, or 'trim'"
        )
    template = headers.structures[int(grid.rows[0])]
    at = _dims_of_picture(template, paths[int(grid.rows[0])])
    is_stage = options.place == "stage"
    placed = stage_tiles(files, fields or {}, options) if is_stage else placed_tiles(files)
    laid = _lay_out(grid, headers.structures, placed, at, paths, options.place)
    tiles = laid.tiles
    height = max(tile.y + tile.height for tile in tiles)
    width = max(tile.x + tile.width for tile in tiles)
    if max(height, width) > _MOST:
        far = max(tiles, key=lambda tile: max(tile.y, tile.x))
        near = min(tiles, key=lambda tile: max(tile.y, tile.x))
        raise LayoutError(
            f"the tiles are spread over {height:,} x {width:,} pixels: {paths[far.row]} lies at "
            f"({far.y:,}, {far.x:,}), but {paths[near.row]} at ({near.y:,}, {near.x:,}); leave out "
            "what lies elsewhere by exclude or sel, or check the scale and the unit of positions",
            paths=(paths[far.row], paths[near.row]),
        )
    shape = list(template.shape)
    shape[at[0]], shape[at[1]] = height, width
    whole = replace(template, shape=tuple(shape))
    reduced = replace(grid, axes=grid.axes[:-1], cells=grid.cells[..., 0])
    names = {axis.name for axis in reduced.axes}
    layout = combine(
        reduced,
        {int(row): whole for row in reduced.rows},
        paths=paths,
        dims=options.dims,
        coords=options.coords,
        sizes={name: n for name, n in options.sizes.items() if name not in names},
        missing=options.missing,
    )
    by_cell: dict[int, list[Tile]] = {cell: [] for cell in range(reduced.cells.size)}
    for tile in tiles:
        by_cell[tile.cell].append(tile)
    counts = [count_covers(own, height, width) for own in by_cell.values()]
    if options.missing == "trim":
        covered = height * width - np.reshape([n for n, _ in counts], reduced.cells.shape)
        is_short = np.broadcast_to((covered < covered.max())[..., None], grid.cells.shape)
        share = 1 - covered.min() / max(covered.max(), 1)
        kept = trim(grid, is_short, [f"images lack up to {share:.1%} of what others have"])
        if kept is not grid:
            return build_mosaic(kept, headers, files, paths=paths, options=options, fields=fields)
    n_pixels = height * width * len(counts)
    n_uncovered, n_overlapping = (sum(count) for count in zip(*counts, strict=True))
    if n_overlapping and options.overlap == "raise":
        raise LayoutError(_describe_overlap(by_cell, paths, n_overlapping / n_pixels))
    if n_uncovered and options.missing != "fill":
        raise MissingFilesError(
            f"the tiles leave {n_uncovered:,} of {n_pixels:,} pixels ({n_uncovered / n_pixels:.2%})"
            " in no file: give missing='fill' to fill them with fill_value"
        )
    first = files.get(int(grid.rows[0]))
    units = {
        letter: 1.0 if first is None or not is_stage else _micrometres(first, letter, options)
        for letter in "yx"
    }
    overlap = options.overlap if n_overlapping and options.overlap != "raise" else None
    mosaic = Mosaic(tuple(tiles), at, overlap)
    return PlacedMosaic(
        layout,
        mosaic,
        laid.affine,
        units,
        options.place,
        laid.rounded,
        n_uncovered / n_pixels,
        n_overlapping / n_pixels,
        laid.origins,
    )


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
                steps[letter] = round(step * _micrometres(file, letter, options), 9)
                begin[letter] = known[0] - steps[letter] / 2
        if len(begin) == 2:
            found[row] = PlacedTile(file.url, begin, steps, None)
    return found


def _micrometres(file: FileMetadata, letter: str, options: Options) -> float:
    """Return how many micrometres the unit of a dim has; one that is not known counts as one."""
    unit = unit_name(options.units.get(letter, file.units.get(letter, "um")))
    return METRES[unit] * 1e6 if unit in METRES else 1.0


def _dims_of_picture(structure: Structure, path: str) -> tuple[int, int]:
    roles = [role_of(dim) for dim in structure.dims]
    if Role.Y not in roles or Role.X not in roles:
        raise LayoutError(
            f"{path} has the dims {', '.join(structure.dims)}: a tile needs y and x; name them by "
            "file_dims"
        )
    return roles.index(Role.Y), roles.index(Role.X)


@dataclass(frozen=True, eq=False)
class _Layout:
    """Tiles by the pixels of their image."""

    tiles: list[Tile]
    affine: tuple[float, ...]
    """Of the first image."""
    rounded: float
    """Most pixels by which a tile was moved."""
    origins: Mapping[int, Mapping[str, float]]
    """Corner of each image by cell, where wells lie apart; empty where all begin at one place."""


def _lay_out(
    grid: Grid,
    structures: Mapping[int, Structure],
    placed: Mapping[int, PlacedTile],
    at: tuple[int, int],
    paths: Sequence[str],
    place: str,
) -> _Layout:
    """Return where each tile lies.

    Wells that the stage went far to, so that none of their tiles lie at one place, are images that
    begin each at a place of its own: in one frame they would be an array of nothing but gaps.
    """
    flat = grid.cells.reshape(-1, grid.cells.shape[-1])
    rows = sorted(int(row) for row in grid.rows)
    first, template = rows[0], structures.get(rows[0])
    for row in rows:
        if row not in structures or row not in placed:
            raise LayoutError(f"{paths[row]} {_NO_PLACE[place]}; or leave it out by exclude")
        _refuse_other_kind(template, structures[row], at, paths[first], paths[row])
    cell_of = {int(row): cell for cell, own in enumerate(flat) for row in own if row >= 0}
    extents = {row: [structures[row].shape[i] for i in at] for row in rows}
    begins, rounded = _begins([rows], placed, place)
    wells = _by_well(grid, cell_of) if place == "stage" else [rows]
    is_apart = _are_apart([_box(own, begins, extents) for own in wells])
    frames = wells if is_apart else [rows]
    if is_apart:
        begins, rounded = _begins(frames, placed, place)
    tiles: dict[int, Tile] = {}
    origins: dict[int, dict[str, float]] = {}
    for own in frames:
        top, left, _, _ = _box(own, begins, extents)
        start = placed[own[0]]
        corner = {
            letter: start.begin[letter] + n * start.step[letter]
            for letter, n in (("y", top), ("x", left))
        }
        for row in own:
            y, x = begins[row]
            tiles[row] = Tile(row, cell_of[row], y - top, x - left, *extents[row])
            origins[cell_of[row]] = corner
    step, corner = placed[first].step, origins[cell_of[first]]
    return _Layout(
        [tiles[rows[i]] for i in natural_order([paths[row] for row in rows])],
        (step["x"], 0.0, corner["x"], 0.0, step["y"], corner["y"]),
        rounded,
        origins if is_apart else {},
    )


def _begins(
    frames: Sequence[Sequence[int]], placed: Mapping[int, PlacedTile], place: str
) -> tuple[dict[int, tuple[int, int]], float]:
    """Return where tiles begin, counted from the first one of each frame, and the largest move."""
    found = {row: _pixels_from(placed[own[0]], placed[row], place) for own in frames for row in own}
    return {row: begin for row, (begin, _) in found.items()}, max(
        moved for _, moved in found.values()
    )


def _by_well(grid: Grid, cell_of: Mapping[int, int]) -> list[list[int]]:
    """Return the rows of each well, ascending."""
    kept = [i for i, name in enumerate(grid.names) if role_of(name) is Role.PLATE]
    wells: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(cell_of):
        index = np.unravel_index(cell_of[row], grid.cells.shape[:-1]) if kept else ()
        wells.setdefault(tuple(int(index[i]) for i in kept), []).append(row)
    return list(wells.values())


Box = tuple[int, int, int, int]


def _box(
    rows: Sequence[int],
    begins: Mapping[int, tuple[int, int]],
    extents: Mapping[int, Sequence[int]],
) -> Box:
    """Return the first line and column that tiles cover, and the ends."""
    ends = [[begins[row][i] + extents[row][i] for row in rows] for i in (0, 1)]
    top, left = (min(begins[row][i] for row in rows) for i in (0, 1))
    return top, left, max(ends[0]), max(ends[1])


def _are_apart(boxes: Sequence[Box]) -> bool:
    """Return whether there are several boxes, and none shares a pixel with the first.

    >>> _are_apart([(0, 0, 9, 9), (0, 9, 9, 18)]), _are_apart([(0, 0, 9, 9), (8, 8, 9, 18)])
    (True, False)
    """
    top, left, bottom, right = boxes[0]
    return len(boxes) > 1 and not any(
        max(top, box[0]) < min(bottom, box[2]) and max(left, box[1]) < min(right, box[3])
        for box in boxes[1:]
    )


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


def _describe_overlap(by_cell: Mapping[int, list[Tile]], paths: Sequence[str], share: float) -> str:
    for tiles in by_cell.values():
        for i, one in enumerate(tiles):
            for two in tiles[i + 1 :]:
                height = min(one.y + one.height, two.y + two.height) - max(one.y, two.y)
                width = min(one.x + one.width, two.x + two.width) - max(one.x, two.x)
                if height > 0 and width > 0:
                    return (
                        f"tiles overlap: {paths[one.row]} and {paths[two.row]} share {height} x "
                        f"{width} pixels; {share:.2%} of all are in several files. Give overlap="
                        "'last', 'first', 'max' or 'mean', or leave files apart by a field in "
                        "concat_dim"
                    )
    raise ValueError("no two tiles overlap")
