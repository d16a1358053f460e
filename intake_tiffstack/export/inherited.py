"""What a processed array keeps of the metadata of its source. Pure, but that coordinates may load.

Step and start of a dim are those of its coordinate if the array has one, so that a part of the
source, or one that was made smaller, lies where it lies. Without a coordinate they are those of the
source if the dim has its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError, warn
from intake_tiffstack.labelled.attributes import has_value
from intake_tiffstack.labelled.crs import GRID_MAPPING, is_same_crs, read_grid_mapping
from intake_tiffstack.metadata.model import CHANNEL_KEYS, PACKING_KEYS

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Inherited", "inherit"]

Coord = tuple[tuple[str, ...], NDArray[Any]]

_NOT_KEPT = frozenset(
    {"dims", "shape", "dtype", "coords", "provenance", "color_table", "display_ranges"}
    | {"scale", "translation", "units", "coord_units", "affine"}
    | set(PACKING_KEYS)
    | set(CHANNEL_KEYS)
)
"""Keys of the metadata that depend on the pixels or the grid."""


@dataclass(frozen=True)
class Inherited:
    """What a processed array is written with."""

    dims: tuple[str, ...]
    coords: Mapping[str, Coord]
    attrs: Mapping[str, Any] = field(default_factory=dict)


def inherit(
    array: Any, dims: Sequence[str] | None, like: xr.DataArray | None, metadata: Mapping[str, Any]
) -> Inherited:
    """Return dims, coordinates and metadata of a processed array.

    Parameters
    ----------
    array : xarray.DataArray, dask.array.Array or array-like
    dims : sequence of str, optional
        Names of the dims; None for those of a DataArray, else those of *like*.
    like : xarray.DataArray, optional
        The source.
    metadata : mapping of str
        Of the source.

    Raises
    ------
    OptionError
        If the dims have no names.
    """
    names = _find_dims(array, dims, like)
    sizes = dict(zip(names, array.shape, strict=True))
    own = _coords_of(array) if hasattr(array, "coords") else {}
    known = {} if like is None else _coords_of(like)
    fitting = {
        name: (along, values)
        for name, (along, values) in known.items()
        if name not in own and _fits(along, values, sizes, own, known)
    }
    coords = {**fitting, **own}
    steps = {dim: _find_step(dim, sizes[dim], own, known, metadata) for dim in names}
    attrs = {k: v for k, v in metadata.items() if k not in _NOT_KEPT and has_value(v)}
    units, coord_units = metadata.get("units"), metadata.get("coord_units")
    crs = _crs_of(array)
    if crs is not None and not is_same_crs(crs, attrs.get("crs") or ""):  # it was warped
        attrs["crs"] = crs
        units, coord_units = _off_the_map(units), _off_the_map(coord_units)
    by_dim = {
        "scale": {dim: step[0] for dim, step in steps.items() if step},
        "translation": {dim: step[1] for dim, step in steps.items() if step and step[1]},
        "units": _keep(units, names),
        "coord_units": _keep(coord_units, coords),
    }
    attrs |= {key: values for key, values in by_dim.items() if values}
    lost = [dim for dim in (metadata.get("scale") or {}) if dim in names and steps[dim] is None]
    if lost:
        warn(
            f"the scale of {', '.join(lost)} is left out: the array has another size there than "
            "its source and no evenly spaced coordinate; give it by attrs={'scale': ...}"
        )
    attrs |= _channels(names, sizes, own, known, metadata)
    attrs |= _affine(steps, metadata)
    return Inherited(names, coords, attrs)


def _find_dims(
    array: Any, dims: Sequence[str] | None, like: xr.DataArray | None
) -> tuple[str, ...]:
    """Return the names of the dims."""
    names = getattr(array, "dims", None) or dims
    if names is None and like is not None and array.ndim == like.ndim:
        names = [str(dim) for dim in like.dims]
    if names is None or len(names) != array.ndim:
        raise OptionError(
            f"dims must name the {array.ndim} dims of an array of shape {tuple(array.shape)}, but "
            f"got {names!r}; a DataArray names its own"
        )
    return tuple(map(str, names))


def _coords_of(array: xr.DataArray) -> dict[str, Coord]:
    """Return the coordinates of a DataArray, without a grid mapping."""
    return {
        str(name): (tuple(map(str, coord.dims)), np.asarray(coord.values))
        for name, coord in array.coords.items()
        if "crs_wkt" not in coord.attrs and name != GRID_MAPPING
    }


def _crs_of(array: Any) -> str | None:
    """Return the system that the grid mapping of a DataArray describes."""
    for name, coord in getattr(array, "coords", {}).items():
        if "crs_wkt" in coord.attrs or name == GRID_MAPPING:
            return read_grid_mapping(coord.attrs).get("crs")
    return None


def _fits(
    along: Sequence[str],
    values: NDArray[Any],
    sizes: Mapping[str, int],
    own: Mapping[str, Coord],
    known: Mapping[str, Coord],
) -> bool:
    """Return whether a coordinate of the source holds for the array: nothing was selected."""
    for dim, n in zip(along, values.shape, strict=True):
        if sizes.get(dim) != n:
            return False
        if dim in own and dim in known and not np.array_equal(own[dim][1], known[dim][1]):
            return False
    return True


def _find_step(
    dim: str,
    size: int,
    own: Mapping[str, Coord],
    known: Mapping[str, Coord],
    metadata: Mapping[str, Any],
) -> tuple[float, float] | None:
    """Return step and start of a dim, None if it has none or they are unknown."""
    scale = (metadata.get("scale") or {}).get(dim)
    if scale is None:
        return None
    start = (metadata.get("translation") or {}).get(dim, 0.0)
    before = known.get(dim, ((), np.empty(0)))[1]
    is_position = before.dtype.kind == "f" and np.allclose(
        before, start + np.arange(len(before)) * scale, rtol=1e-6, atol=1e-6 * abs(scale)
    )
    values = own[dim][1] if dim in own and own[dim][0] == (dim,) else None
    if values is None or np.array_equal(values, before):
        return (float(scale), float(start)) if values is not None or size == len(before) else None
    if not is_position or values.dtype.kind not in "fiu" or not size:
        return None
    first = float(values[0])
    if size == 1:
        return float(scale), first
    step = float(values[-1] - values[0]) / (size - 1)
    is_even = np.allclose(np.diff(values), step, rtol=1e-5, atol=1e-9 * abs(step))
    return (float(f"{step:.12g}"), first) if step and is_even else None


def _off_the_map(units: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the units of all dims and coordinates but y and x."""
    return {k: v for k, v in (units or {}).items() if role_of(k) not in (Role.Y, Role.X)}


def _keep(values: Any, names: Any) -> dict[str, Any]:
    return {name: value for name, value in (values or {}).items() if name in names}


def _channels(
    names: Sequence[str],
    sizes: Mapping[str, int],
    own: Mapping[str, Coord],
    known: Mapping[str, Coord],
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Return names, colours and wavelengths of the channels that the array has."""
    shape = dict(zip(metadata.get("dims") or (), metadata.get("shape") or (), strict=False))
    dim = next((name for name in shape if role_of(name) == Role.CHANNEL), None)
    if dim is None:
        return {}
    kept: Sequence[int] | None = range(shape[dim]) if sizes.get(dim) == shape[dim] else None
    # channels inside a file have no index, but names beside them
    for name in (n for n in (dim, *known) if n in own and known.get(n, ((),))[0] == (dim,)):
        labels, chosen = known[name][1].tolist(), np.atleast_1d(own[name][1]).tolist()
        if len(set(labels)) == len(labels) and set(chosen) <= set(labels):
            kept = [labels.index(value) for value in chosen]
            break
        if labels != chosen:
            kept = None
    if kept is None:
        return {}
    return {
        key: [values[i] for i in kept]
        for key in CHANNEL_KEYS
        if key != "display_ranges" and (values := metadata.get(key)) and len(values) == shape[dim]
    }


def _affine(
    steps: Mapping[str, tuple[float, float] | None], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the transformation of a map, at the steps that the array has.

    >>> _affine({"y": (-20.0, 85.0), "x": (20.0, 105.0)}, {"affine": [10, 0, 100, 0, -10, 90]})
    {'affine': [20.0, 0, 95.0, 0, -20.0, 95.0]}
    """
    affine = metadata.get("affine")
    if not affine or affine[1] or affine[3]:
        return {}
    by = {role_of(dim): step for dim, step in steps.items()}
    x, y = by.get(Role.X), by.get(Role.Y)
    if x is None or y is None:
        return {}
    return {"affine": [x[0], 0, x[1] - x[0] / 2, 0, y[0], y[1] - y[0] / 2]}
