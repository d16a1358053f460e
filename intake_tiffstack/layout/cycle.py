"""Planes that cycle on over the ends of files: 20 frames per file, 3 slices per volume. Pure.

The files make one long dim of all their pages, which is then cut into the dims of the option
``file_dims``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.errors import LayoutError
from intake_tiffstack.layout.model import Grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intake_tiffstack.layout.model import Layout
    from intake_tiffstack.structure import Structure

__all__ = ["FrameCycle", "find_cycle"]


@dataclass(frozen=True)
class FrameCycle:
    """How all pages of a recording are cut into dims."""

    free: str
    """The dim that the files extend; the size of it follows from the count of pages."""
    sizes: tuple[tuple[str, int], ...]
    """Name and size of each dim, slowest first: the free one, with -1."""

    def cut(self, pages: int) -> dict[str, int]:
        """Return the size of each dim for a number of pages.

        Raises
        ------
        LayoutError
            If the pages do not fill the last cycle.
        """
        known = -math.prod(n for _, n in self.sizes)
        if pages % known:
            raise LayoutError(
                f"file_dims {dict(self.sizes)} need a multiple of {known} pages, but the files "
                f"have {pages} in all; `sel` or `exclude` leave the file out that ends early",
                field=self.free,
            )
        return {name: pages // known if n == -1 else n for name, n in self.sizes}

    def whole_grid(self, grid: Grid) -> Grid:
        """Return the grid without the axis of the files that the pages go on over."""
        axis = grid.names.index(self.free)
        coords = [
            replace(coord, axes=tuple(a - (a > axis) for a in coord.axes))
            for coord in grid.coords
            if axis not in coord.axes
        ]
        return replace(
            grid,
            axes=tuple(a for i, a in enumerate(grid.axes) if i != axis),
            cells=np.asarray(np.take(grid.cells, 0, axis)),
            coords=tuple(coords),
        )

    def whole_structure(self, structure: Structure, pages: Layout) -> Structure:
        """Return the structure of one file that would hold all pages of a recording."""
        count = pages.shape[pages.names.index(self.free)]
        sizes = self.cut(count)
        first = len(structure.dims) - structure.page_ndim
        return replace(
            structure,
            shape=(*sizes.values(), *structure.shape[first:]),
            dims=(*sizes, *structure.dims[first:]),
        )


def find_cycle(
    file_dims: Mapping[str, int] | Any, structure: Structure, grid: Grid
) -> FrameCycle | None:
    """Return the cycle if the pages of a file are not a whole number of cycles, else None.

    Parameters
    ----------
    file_dims : mapping or other
        The option; only a mapping of names to sizes has a cycle, whose slowest dim is the free one.
    structure : Structure
        Of one file, its own or with all pages along the free dim.
    grid : Grid
        An axis of it has the name of the free dim, so that files follow each other along it.
    """
    if not isinstance(file_dims, dict):
        return None
    page_dims = structure.dims[-structure.page_ndim :]
    sizes = tuple((dim, int(n)) for dim, n in file_dims.items() if dim not in page_dims)
    free = [dim for dim, n in sizes if n == -1]
    known = -math.prod(n for _, n in sizes)
    if len(free) != 1 or free[0] != sizes[0][0] or known <= 1 or free[0] not in grid.names:
        return None
    pages = math.prod(structure.shape[: -structure.page_ndim])
    return FrameCycle(free[0], sizes) if pages % known else None
