"""Files as tiles of one image, each where its georeference or the stage puts it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.calibration import FILE_NAMES
from intake_tiffstack.collection.placement import placed_tiles
from intake_tiffstack.collection.tile_positions import (
    TilePositions,
    locate_tiles,
    micrometres,
    stage_tiles,
)
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import LayoutError, MissingFilesError, OptionError
from intake_tiffstack.layout.combine import combine
from intake_tiffstack.layout.holes import trim
from intake_tiffstack.layout.model import Grid, Layout
from intake_tiffstack.layout.mosaic import Mosaic, Tile, count_covers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.collection.model import HeadersRead
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.structure import Structure

__all__ = ["PlacedMosaic", "build_mosaic"]

_MOST = 2**26
"""Lines or columns of a mosaic: the Earth at 60 cm, a stage of 40 m at 0.6 um."""


@dataclass(frozen=True, eq=False)
class PlacedMosaic:
    """A mosaic, and where it is on the map or under the stage."""

    layout: Layout
    mosaic: Mosaic
    positions: TilePositions
    units: Mapping[str, float]
    """How many units of the affine are one of the coordinates, by y and x: 1 on a map."""
    place: str
    """What put the tiles there: the option."""
    uncovered: float
    """Share of its pixels that are in no file."""
    overlapping: float
    """Share that several files have."""

    def describe(self) -> str:
        """Return what a report says of it."""
        rounded = self.positions.rounded
        moved = f", moved by up to {rounded:.2g} pixels" if rounded else ""
        return (
            f"{len(self.mosaic.tiles):,} tiles placed by {self.place}{moved}"
            f"{', each well at a separate place' if self.positions.origins else ''}; "
            f"{self.overlapping:.3%} of the pixels are in several files, "
            f"{self.uncovered:.3%} in none"
        )

    def move(self, files: Mapping[int, FileMetadata]) -> dict[int, FileMetadata]:
        """Return the metadata of the files that stand for an image, as if each were all of it."""
        a, _, c, _, e, f = self.positions.affine
        kept = set(self.layout.cells.ravel().tolist())
        if self.place == "stage":
            cell_of = {row: cell for cell, row in enumerate(self.layout.cells.ravel().tolist())}
            step, corner = {"y": e, "x": a}, {"y": f, "x": c}
            return {
                row: self._move(file, step, self.positions.origins.get(cell_of[row], corner))
                for row, file in files.items()
                if row in kept
            }
        return {
            row: replace(
                file,
                facts={**file.facts, "affine": list(self.positions.affine)},
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
        if self.positions.origins:
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


def build_mosaic(
    grid: Grid,
    headers: HeadersRead,
    files: Mapping[int, FileMetadata],
    *,
    paths: Sequence[str],
    options: Options,
    fields: Mapping[str, Sequence[Any]] | None = None,
) -> PlacedMosaic:
    """Return the mosaic of the files on a grid whose last axis numbers the tiles of an image.

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
    first = int(grid.rows[0])
    template = headers.structures[first]
    at = _dims_of_picture(template, paths[first])
    is_stage = options.place == "stage"
    placed = stage_tiles(files, fields or {}, options) if is_stage else placed_tiles(files)
    positions = locate_tiles(grid, headers.structures, placed, at, paths, options.place)
    tiles = positions.tiles
    height, width = _extent(tiles, paths)
    images = replace(grid, axes=grid.axes[:-1], cells=grid.cells[..., 0])
    shape = list(template.shape)
    shape[at[0]], shape[at[1]] = height, width
    whole = replace(template, shape=tuple(shape))
    names = {axis.name for axis in images.axes}
    layout = combine(
        images,
        {int(row): whole for row in images.rows},
        paths=paths,
        dims=options.dims,
        coords=options.coords,
        sizes={name: n for name, n in options.sizes.items() if name not in names},
        missing=options.missing,
    )
    by_cell: dict[int, list[Tile]] = {cell: [] for cell in range(images.cells.size)}
    for tile in tiles:
        by_cell[tile.cell].append(tile)
    counts = [count_covers(own, height, width) for own in by_cell.values()]
    if options.missing == "trim":
        covered = height * width - np.reshape([n for n, _ in counts], images.cells.shape)
        kept = _without_short_images(grid, covered)
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
    units = dict.fromkeys("yx", 1.0)
    if is_stage and first in files:
        units = {letter: micrometres(files[first], letter, options) for letter in "yx"}
    overlap = options.overlap if n_overlapping and options.overlap != "raise" else None
    return PlacedMosaic(
        layout,
        Mosaic(tuple(tiles), at, overlap),
        positions,
        units,
        options.place,
        n_uncovered / n_pixels,
        n_overlapping / n_pixels,
    )


def _extent(tiles: Sequence[Tile], paths: Sequence[str]) -> tuple[int, int]:
    """Return how many lines and columns the tiles make, which must be no more than can be meant."""
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
    return height, width


def _without_short_images(grid: Grid, covered: NDArray[np.int64]) -> Grid:
    """Return the grid up to the first time with an image that lacks what others have.

    *covered* is how many pixels of each image are in a file.
    """
    is_short = np.broadcast_to((covered < covered.max())[..., None], grid.cells.shape)
    share = 1 - covered.min() / max(covered.max(), 1)
    return trim(grid, is_short, [f"images lack up to {share:.1%} of what others have"])


def _dims_of_picture(structure: Structure, path: str) -> tuple[int, int]:
    roles = [role_of(dim) for dim in structure.dims]
    if Role.Y not in roles or Role.X not in roles:
        raise LayoutError(
            f"{path} has the dims {', '.join(structure.dims)}: a tile needs y and x; name them by "
            "file_dims"
        )
    return roles.index(Role.Y), roles.index(Role.X)


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
