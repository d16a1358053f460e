"""Opens an array of a Zarr group that xarray wrote, or that is written like that."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from intake_tiffstack.copies.attributes import take_fill_value
from intake_tiffstack.copies.open_zarr import (
    ZarrCopy,
    ZarrLabels,
    find_document,
    lazy_copy,
    open_array,
    refuse_unpickling,
)
from intake_tiffstack.copies.zarr_store import open_zarr_store
from intake_tiffstack.errors import FilesNotFoundError, OptionError, StorageError
from intake_tiffstack.labelled.attributes import decode_attrs, has_value
from intake_tiffstack.labelled.crs import GRID_MAPPING, read_grid_mapping
from intake_tiffstack.storage.folder import Folder

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["UNKNOWN_AT", "open_xarray_group"]

UNKNOWN_AT = "unknown_at"
"""Attribute of a coordinate of text: the positions whose text is not known."""

SAME = 1e-9
"""Steps that differ by less, relatively, are one."""


def open_xarray_group(
    folder: Folder, name: str | None, arraytype: str, sel: Mapping[str, Any]
) -> ZarrCopy:
    """Return an array of a group with its coordinates; only metadata and coordinates are read.

    Parameters
    ----------
    folder : Folder
        Of the group.
    name : str, optional
        Of the array; needed if there are several.
    arraytype : str
    sel : mapping of str
        See :func:`~intake_tiffstack.copies.open_zarr.open_zarr`.

    Raises
    ------
    FilesNotFoundError
        If the group has no array beside coordinates, or none of this name.
    OptionError
        If there are several and none is named.
    StorageError
        If it cannot be read.
    """
    import xarray as xr

    with folder.read_errors(), warnings.catch_warnings():
        # a group may hold other files beside its arrays, such as the audit record
        warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component")
        try:
            store: Any = open_zarr_store(folder, read_only=True)
            group = zarr.open_group(store, mode="r", use_consolidated=False)
            for _, array in group.arrays():  # coordinates too, which may be texts
                refuse_unpickling(array, folder)
            dataset = xr.open_zarr(store, chunks=None, consolidated=False, mask_and_scale=False)
        except (KeyError, ValueError) as exc:
            raise StorageError(
                f"{folder.url} is not a group that xarray opens: {exc}", url=folder.url
            ) from exc
    names = [str(key) for key, variable in dataset.data_vars.items() if variable.ndim]
    if not names or (name is not None and name not in names):
        what = "no array" if name is None else f"no array {name!r}"
        raise FilesNotFoundError(
            f"{folder.url} holds a Zarr group that is not an OME-Zarr (its attributes: "
            f"{', '.join(map(str, dataset.attrs)) or 'none'}) and has {what} beside coordinates; "
            f"its arrays: {', '.join(map(str, dataset.variables)) or 'none'}",
            url=folder.url,
        )
    if name is None and len(names) > 1:
        raise OptionError(
            f"{folder.url} holds {len(names)} arrays: choose one with `image`; there are "
            f"{', '.join(map(repr, names[:8]))}"
        )
    name = name or names[0]
    below = folder.below(name)
    document = find_document(below)
    labels = _label(dataset[name], dataset)
    return lazy_copy(below, open_array(below), document, labels, arraytype, sel)


def _label(named: xr.DataArray, dataset: xr.Dataset) -> ZarrLabels:
    coords = {
        str(key): (tuple(map(str, coord.dims)), _values(coord))
        for key, coord in named.coords.items()
    }
    plain = dict(named.attrs)
    take_fill_value(plain)
    attrs = decode_attrs(plain)
    if GRID_MAPPING in dataset.variables:
        coords.pop(GRID_MAPPING, None)
        attrs = read_grid_mapping(dataset[GRID_MAPPING].attrs) | attrs
    units = {
        str(key): str(coord.attrs["units"])
        for key, coord in named.coords.items()
        if "units" in coord.attrs
    }
    attrs["coord_units"] = units
    _calibrate(attrs, named, units)
    return ZarrLabels(
        tuple(map(str, named.dims)), coords, {k: v for k, v in attrs.items() if has_value(v)}
    )


def _values(coord: xr.DataArray) -> NDArray[Any]:
    values = np.asarray(coord.values)
    if values.dtype.kind not in "OT":
        return values
    values = np.array(list(map(str, values.flat)), dtype=str).reshape(values.shape)
    unknown = np.atleast_1d(coord.attrs.get(UNKNOWN_AT, ())).astype(int)
    if unknown.size:
        values = values.astype(object)
        values.flat[unknown.tolist()] = None
    return values


def _calibrate(attrs: dict[str, Any], named: xr.DataArray, units: Mapping[str, str]) -> None:
    """Let steps and origins be those of the coordinates, which a part of an array keeps right."""
    scale, translation = dict(attrs.get("scale") or {}), dict(attrs.get("translation") or {})
    spelled = dict(attrs.get("units") or {}) if isinstance(attrs.get("units"), Mapping) else {}
    for dim in map(str, named.dims):
        if dim not in named.coords or named.coords[dim].dtype.kind != "f":
            continue
        if dim not in scale and dim not in units:
            continue
        values = named.coords[dim].values
        steps = np.diff(values)
        if steps.size and not np.allclose(steps, steps[0], rtol=0, atol=SAME * np.ptp(values)):
            scale.pop(dim, None)
            translation.pop(dim, None)
            continue
        if steps.size:
            scale[dim] = float(f"{(values[-1] - values[0]) / steps.size:.12g}")
        if values.size:
            translation[dim] = float(values[0])
        if dim in units:
            spelled[dim] = units[dim]
    attrs["scale"] = scale
    attrs["translation"] = {dim: start for dim, start in translation.items() if start}
    if not isinstance(attrs.get("units"), str):
        attrs["units"] = spelled
