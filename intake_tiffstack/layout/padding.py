"""Files of unequal extents in equal cells: the largest decides, the rest is filled. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from intake_tiffstack.layout.grid import field_coord

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from intake_tiffstack.layout.model import Grid
    from intake_tiffstack.structure import Structure

__all__ = ["EXTENT", "NEVER_PADDED", "pad_files"]

EXTENT = "_extent"
"""Ends the name of the coordinate with the extent of each file along a dim."""

NEVER_PADDED = ("sample",)
"""Dims whose positions mean something: red, green and blue have no fourth."""


def pad_files(
    grid: Grid, structures: Mapping[int, Structure], file_dims: Sequence[str], kept: Collection[str]
) -> tuple[Grid, tuple[int, ...]]:
    """Return the grid with the extents of the files as coordinates, and the largest of each dim.

    Parameters
    ----------
    grid : Grid
        The files in their cells.
    structures : mapping[int, Structure]
        Of each file on the grid, all with the dims *file_dims* but for *kept*.
    file_dims : sequence of str
        Dims inside the files.
    kept : collection of str
        Dims that are not padded, since the files extend them.
    """
    rows = [row for row in structures if row in set(grid.rows.tolist())]
    index = grid.locate(rows)
    sizes = [dict(zip(structures[row].dims, structures[row].shape, strict=True)) for row in rows]
    largest, coords = [], list(grid.coords)
    for dim in file_dims:
        extents = np.array([own.get(dim, 1) for own in sizes])
        largest.append(int(extents.max()))
        if dim in kept or (extents == extents[0]).all():
            continue
        known, codes = np.unique(extents, return_inverse=True)
        values = tuple(known.tolist())
        coords.append(field_coord(f"{dim}{EXTENT}", values, codes, index, grid.cells.shape))
    return replace(grid, coords=tuple(coords)), tuple(largest)
