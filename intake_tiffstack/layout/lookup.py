"""Where the dims and files of a layout are. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.dims import Role, role_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Dim, Layout

__all__ = ["dim_of_role", "index_of", "positions_of", "steps_by_one"]


def dim_of_role(layout: Layout, role: Role) -> Dim | None:
    """Return the dim of this role; one inside the files goes before one that the names make."""
    dims = [dim for dim in layout.dims if role_of(dim.name) == role]
    return min(dims, key=lambda dim: dim.file_dim is None, default=None)


def index_of(layout: Layout, dim: Dim) -> NDArray[Any]:
    """Return the index coordinate of a dim, 0, 1, ... where nothing labels it."""
    if dim.name in layout.coords:
        return np.asarray(layout.coords[dim.name][1])
    return np.arange(dim.size)


def steps_by_one(index: NDArray[Any]) -> bool:
    """Return whether an index counts up by one, so that a file's step holds between positions."""
    return index.dtype.kind in "iu" and bool((np.diff(index) == 1).all())


def positions_of(layout: Layout, dim: Dim, rows: Iterable[int]) -> dict[int, int]:
    """Return where the files in some rows are along the grid's axis of a dim, 0 without one."""
    if dim.axis is None:
        return dict.fromkeys(rows, 0)
    where = np.nonzero(np.isin(layout.cells, list(rows)))
    return dict(zip(layout.cells[where].tolist(), where[dim.axis].tolist(), strict=True))
