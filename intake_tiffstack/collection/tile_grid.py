"""The grid of a mosaic: the dims that names make, and the tiles of each image. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.layout.grid import place_files
from intake_tiffstack.layout.model import Axis, Grid
from intake_tiffstack.natural_sort import natural_order
from intake_tiffstack.pattern.matching import default_concat_dim

if TYPE_CHECKING:
    from intake_tiffstack.collection.model import FilesFound
    from intake_tiffstack.options import Options

__all__ = ["place_tiles"]

TILE = "tile"
"""Axis of the grid that numbers the files of one image; the result has no such dim."""

_KEPT_ROLES = (Role.TIME, Role.CHANNEL, Role.Z, Role.PLATE, Role.ACQUISITION)
_TILE_ROLES = (Role.Y, Role.X, Role.POSITION)


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
