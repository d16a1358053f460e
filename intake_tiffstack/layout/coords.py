"""Coordinates of the result that the names and the options give, as xarray takes them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.dims import row_letters
from intake_tiffstack.errors import OptionError
from intake_tiffstack.layout.columns import coordinate_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Dim, FieldCoord, Grid

    Coords = dict[str, tuple[tuple[str, ...], NDArray[Any]]]

__all__ = ["build_coords"]

FROM_NAMES = "_file"
"""Ends the name of a coordinate that the file names give and whose own name is taken."""


def build_coords(
    grid: Grid, dims: Sequence[Dim], options: Mapping[str, Any], *, with_mask: bool
) -> Coords:
    """Return ``{name: (dims, values)}`` of all that the names and the option ``coords`` say. Pure.

    A new dim has the values of its field. An extended dim has its positions 0, 1, ..., and the
    field's value of each beside them as ``<dim>_file``; so has a new dim that ``coords`` labels
    otherwise. Each other field lies along just the dims that decide it, as ``<field>_file`` where
    a dim has its name.

    Raises
    ------
    OptionError
        If a dim or field is unknown, or values have the wrong length.
    """
    by_name = {dim.name: dim for dim in dims}
    by_axis = {dim.axis: dim for dim in dims if dim.axis is not None}
    coords: Coords = {}
    for name, wanted in options.items():
        if name not in by_name:
            raise OptionError.unknown("dim in coords", name, by_name)
        coords[name] = ((name,), _wanted_values(grid, by_name[name], wanted))
    for axis, dim in sorted(by_axis.items()):
        values = _spread(coordinate_array(_as_on_plate(grid, axis)), [dim])
        if dim.kind == "extend":
            coords.setdefault(dim.name, ((dim.name,), np.arange(dim.size)))
        name = dim.name if dim.name not in coords else dim.name + FROM_NAMES
        coords[name] = ((dim.name,), values)
    for coord in grid.coords:
        along = [by_axis[axis] for axis in coord.axes]
        name = coord.name if coord.name not in by_name else coord.name + FROM_NAMES
        if name in coords:
            raise OptionError(
                f"the field {name!r} has the name of another coordinate: call it otherwise in the "
                "pattern"
            )
        coords[name] = (tuple(dim.name for dim in along), _spread(coord.values, along))
    if with_mask:
        along = [by_axis[axis] for axis in range(grid.cells.ndim)]
        coords["is_missing"] = (tuple(dim.name for dim in along), _spread(grid.cells < 0, along))
    return coords


def _as_on_plate(grid: Grid, axis: int) -> tuple[Any, ...]:
    """Return the values of an axis; row numbers of a plate as its letters."""
    found = grid.axes[axis]
    others = {name.lower() for name in (*grid.names, *(coord.name for coord in grid.coords))}
    is_row = found.name.lower() == "row" and "column" in others
    if is_row and all(type(value) is int and value > 0 for value in found.values):
        return tuple(row_letters(value) for value in found.values)
    return found.values


def _wanted_values(grid: Grid, dim: Dim, wanted: Any) -> NDArray[Any]:
    """Return the values that ``coords`` gives to *dim*: by hand, or by another field."""
    if isinstance(wanted, str):
        return _spread(_field_along(grid, dim, wanted), [dim])
    listed = list(wanted) if isinstance(wanted, list | tuple | range | np.ndarray) else None
    if listed is None or any(isinstance(value, list | tuple | dict) for value in listed):
        raise OptionError(f"coords: {dim.name} takes a list or a field's name, but got {wanted!r}")
    values = coordinate_array(listed)
    if len(values) != dim.size:
        raise OptionError(
            f"coords: {dim.name} has {dim.size} positions, but got {len(values)} values"
        )
    return values


def _field_along(grid: Grid, dim: Dim, name: str) -> NDArray[Any]:
    """Return the value of the field *name* at each position of the axis of *dim*."""
    fields: dict[str, FieldCoord] = {coord.name: coord for coord in grid.coords}
    field = fields.get(name)
    if field is None and name not in grid.names:
        raise OptionError.unknown(f"field for {dim.name} in coords", name, fields)
    if field is None or dim.axis is None or not set(field.axes) <= {dim.axis}:
        axes = [name] if field is None else [grid.names[axis] for axis in field.axes]
        along = " and ".join(axes) or "nothing"
        raise OptionError(
            f"coords: {name} cannot label {dim.name}, since it varies along {along}: name a field "
            f"that {dim.name} alone decides, or list {dim.size} values"
        )
    return np.broadcast_to(field.values, grid.cells.shape[dim.axis])


def _spread(values: NDArray[Any], dims: Sequence[Dim]) -> NDArray[Any]:
    """Return *values*, one per position of the axes of *dims*, repeated along extended dims."""
    for i, dim in enumerate(dims):
        if dim.offsets is not None:
            values = np.repeat(values, np.diff(dim.offsets), axis=i)
    return values
