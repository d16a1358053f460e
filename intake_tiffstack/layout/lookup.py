"""What the merging asks of a layout, whoever made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from intake_tiffstack.dims import Role, role_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["DimLike", "LayoutLike", "counts_by_one", "dim_of_role", "index_of", "positions_of"]


class DimLike(Protocol):
    """What :func:`merge` asks of a dim of the result."""

    @property
    def name(self) -> str:
        """As the user sees it."""

    @property
    def size(self) -> int:
        """Number of positions."""

    @property
    def axis(self) -> int | None:
        """Which axis of the grid makes or extends it."""

    @property
    def file_dim(self) -> int | None:
        """Which dim inside the files it is."""

    @property
    def offsets(self) -> tuple[int, ...] | None:
        """Start of each position along an extended dim, and the end."""


class LayoutLike(Protocol):
    """What :func:`merge` asks of a layout."""

    @property
    def dims(self) -> Sequence[DimLike]:
        """In the order of the result."""

    @property
    def cells(self) -> NDArray[np.int32]:
        """Row in the file table, -1 for a hole; as many axes as the grid."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""

    @property
    def coords(self) -> Mapping[str, tuple[Sequence[str], Any]]:
        """Name to dims and values, as names and options give them."""


def dim_of_role(layout: LayoutLike, role: Role) -> DimLike | None:
    """Return the dim of this role; one inside the files goes before one that the names make."""
    dims = [dim for dim in layout.dims if role_of(dim.name) == role]
    return min(dims, key=lambda dim: dim.file_dim is None, default=None)


def index_of(layout: LayoutLike, dim: DimLike) -> NDArray[Any]:
    """Return the index coordinate of a dim, 0, 1, ... where nothing labels it."""
    if dim.name in layout.coords:
        return np.asarray(layout.coords[dim.name][1])
    return np.arange(dim.size)


def counts_by_one(index: NDArray[Any]) -> bool:
    """Return whether positions are as far from each other as two neighbouring files say."""
    return index.dtype.kind in "iu" and bool((np.diff(index) == 1).all())


def positions_of(layout: LayoutLike, dim: DimLike, rows: Iterable[int]) -> dict[int, int]:
    """Return where the files in some rows are along the grid's axis of a dim, 0 without one."""
    if dim.axis is None:
        return dict.fromkeys(rows, 0)
    where = np.nonzero(np.isin(layout.cells, list(rows)))
    return dict(zip(layout.cells[where].tolist(), where[dim.axis].tolist(), strict=True))
