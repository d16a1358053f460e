"""The values of a layout: the grid of files, and the array that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.layout.columns import coordinate_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


__all__ = ["Axis", "Dim", "FieldCoord", "Grid", "Layout"]


@dataclass(frozen=True)
class Dim:
    """One dim of the result."""

    name: str
    """Its name."""
    size: int
    """Its length."""
    axis: int | None = None
    """Axis of the grid that makes or extends it, None for a dim only inside the files."""
    file_dim: int | None = None
    """Which dim inside the files it is, None for one that the grid makes."""
    offsets: tuple[int, ...] | None = None
    """Of an extended dim where each position of the axis begins, and the end: n + 1 numbers."""

    def __post_init__(self) -> None:
        if self.axis is None and self.file_dim is None:
            raise ValueError(f"dim {self.name} is neither on the grid nor inside the files")
        if (self.offsets is not None) != (self.kind == "extend"):
            raise ValueError(f"dim {self.name} of kind {self.kind} but got offsets {self.offsets}")
        if self.offsets and (self.offsets[0] != 0 or self.offsets[-1] != self.size):
            raise ValueError(f"dim {self.name} has {self.size} but got offsets {self.offsets}")
        if self.offsets and any(a >= b for a, b in zip(self.offsets, self.offsets[1:])):  # noqa: B905
            raise ValueError(f"dim {self.name} has offsets that do not ascend: {self.offsets}")

    @property
    def kind(self) -> Literal["stack", "file", "extend"]:
        """What makes it: the grid, the files, or both."""
        if self.file_dim is None:
            return "stack"
        return "file" if self.axis is None else "extend"


@dataclass(frozen=True, eq=False)
class Layout:
    """Which file holds which part of the result."""

    dims: tuple[Dim, ...]
    """In the order of the result."""
    cells: NDArray[np.int32]
    """Row in the file table of each cell of the grid, -1 for a hole."""
    file_dims: tuple[str, ...]
    """Dims inside a file, in the file's order."""
    file_shape: tuple[int, ...]
    """Extents of the template along them."""
    dtype: np.dtype[Any]
    """Type of a pixel."""
    coords: Mapping[str, tuple[tuple[str, ...], NDArray[Any]]]
    """``{name: (dims, values)}``, as xarray takes them."""
    is_padded: bool = False
    """Whether files may be smaller than their cells, the rest of which is filled."""

    def __post_init__(self) -> None:
        for what, known, n in (
            ("axis", [dim.axis for dim in self.dims], self.cells.ndim),
            ("file_dim", [dim.file_dim for dim in self.dims], len(self.file_dims)),
        ):
            if sorted(i for i in known if i is not None) != list(range(n)):
                raise ValueError(f"{n} of {what} to place, but the dims name {known}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"two dims of one name: {self.names}")
        if len(self.file_shape) != len(self.file_dims):
            raise ValueError(f"file dims {self.file_dims} but shape {self.file_shape}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dims, in the order of the result."""
        return tuple(dim.name for dim in self.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return tuple(dim.size for dim in self.dims)

    def present(self) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
        """Return the dims that names alone make, and where along them there is a file."""
        stacked = sorted(
            (d.axis, d.name) for d in self.dims if d.axis is not None and d.kind == "stack"
        )
        others = tuple(set(range(self.cells.ndim)).difference(axis for axis, _ in stacked))
        return tuple(name for _, name in stacked), np.asarray((self.cells >= 0).any(axis=others))


_EXACT = 2**53  # beyond this a float64 no longer holds every integer


@dataclass(frozen=True)
class Axis:
    """One axis of the grid, made by one axis field."""

    name: str
    """The field, and so the dim it makes or extends."""
    values: tuple[Any, ...]
    """Index coordinate (int, float, numpy.datetime64 or timedelta64, str, or a label), in order."""

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"axis {self.name} has no position")


@dataclass(frozen=True, eq=False)
class FieldCoord:
    """The values of a field that is not an axis, along just the axes that decide it."""

    name: str
    """The field."""
    axes: tuple[int, ...]
    """Axes of the grid that decide it, ascending; none where it is the same in all names."""
    known: Sequence[Any]
    """Its distinct values, in order."""
    codes: NDArray[np.intp]
    """Which of them is at each position of those axes, -1 where all cells are empty."""

    @property
    def values(self) -> NDArray[Any]:
        """The value at each position of the axes; what its type has for "none" where all is empty.

        As pandas and xarray have it when they align: integers become floats with NaN, times have
        NaT, text becomes Python objects with None.
        """
        known = coordinate_array(self.known)
        taken: NDArray[Any] = np.asarray(known[self.codes])
        empty = self.codes < 0
        if not empty.any():
            return taken
        if known.dtype.kind in "iu" and -_EXACT <= known.min() <= known.max() <= _EXACT:
            taken = taken.astype(np.float64)
        if taken.dtype.kind == "f":
            taken[empty] = np.nan
        elif taken.dtype.kind in "mM":
            taken[empty] = "NaT"
        else:
            taken = taken.astype(object)
            taken[empty] = None
        return taken


@dataclass(frozen=True, eq=False)
class Grid:
    """The files in the cells that their names give them."""

    axes: tuple[Axis, ...]
    """Outermost first."""
    cells: NDArray[np.int32]
    """Row in the file table of each cell, -1 for a hole; its shape is that of the axes."""
    coords: tuple[FieldCoord, ...] = ()
    """The fields that are not axes."""
    written: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)
    """Of each field that ``labels`` renames, the value in the names of each label."""
    is_named: bool = True
    """Whether names give the positions, and not the mere order of the files."""
    dropped: tuple[int, ...] = ()
    """Rows left out by ``duplicates="first"`` or ``"last"``."""
    trimmed: tuple[str, int] | None = None
    """The axis that ``missing="trim"`` shortened and its length before."""

    def __post_init__(self) -> None:
        sizes = tuple(len(axis.values) for axis in self.axes)
        if self.cells.shape != sizes:
            raise ValueError(f"axes of sizes {sizes} but got cells of shape {self.cells.shape}")
        if len({axis.name for axis in self.axes}) != len(self.axes):
            raise ValueError(f"axes of one name: {[axis.name for axis in self.axes]}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes, outermost first."""
        return tuple(axis.name for axis in self.axes)

    @property
    def rows(self) -> NDArray[np.int32]:
        """Rows of the files on the grid, in the order of the cells."""
        return self.cells[self.cells >= 0]

    @property
    def n_holes(self) -> int:
        """Number of cells without a file."""
        return int(np.count_nonzero(self.cells < 0))

    @property
    def template_row(self) -> int:
        """Row of the first file on the grid, whose structure stands for the others."""
        return int(self.rows[0])

    def locate(self, rows: Sequence[int] | NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
        """Return the positions of *rows* (all on the grid) along each axis."""
        cell_of = np.zeros(int(self.cells.max()) + 1, np.intp)
        cell_of[self.rows] = np.flatnonzero(self.cells >= 0)
        cells = cell_of[np.asarray(rows, np.intp)]
        return np.unravel_index(cells, self.cells.shape) if self.axes else ()

    def values_at(self, index: Sequence[int]) -> dict[str, Any]:
        """Return {axis: value} of the cell at *index*."""
        return {axis.name: axis.values[i] for axis, i in zip(self.axes, index, strict=True)}
