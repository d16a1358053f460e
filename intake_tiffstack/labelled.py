"""The same pixels with names: an xarray.DataArray over dask, or over files directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from intake_tiffstack.pattern.matching import role_of

if TYPE_CHECKING:
    import dask.array as da

    from intake_tiffstack.array import StackArray
    from intake_tiffstack.collection import Collection

__all__ = ["to_dataarray"]

ATTRIBUTES = ("scale", "translation", "units", "channel_names", "time_interval")
"""What of the metadata goes into ``attrs``; dims and coords are the array's own."""


class LazyStack(BackendArray):
    """A :class:`~intake_tiffstack.array.StackArray` as xarray's lazy indexing wants it.

    xarray composes chained indexes before it asks; one index arrives here, a list of positions
    along a dim at most. What that cannot say (points) xarray picks from the smallest block.
    """

    def __init__(self, array: StackArray) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if not isinstance(key, indexing.VectorizedIndexer):
            return self.array[key.tuple]  # the adapter would refuse an empty slice that descends
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self.array.__getitem__
        )


def to_dataarray(collection: Collection, array: da.Array | None) -> xr.DataArray:
    """Return a DataArray over *array*, or over the files themselves where it is None.

    Index coordinates come from names and options; dims that these do not label carry physical
    positions where the scale is known, with their unit.
    """
    layout, metadata = collection.layout, collection.metadata
    data: Any = array
    if data is None:
        data = indexing.LazilyIndexedArray(LazyStack(collection.array))
    variable = xr.Variable(layout.names, data)
    coords: dict[str, Any] = {
        name: (dims, values) for name, (dims, values) in layout.coords.items()
    }
    for dim in layout.dims:
        position = _physical(collection, dim.name, dim.size)
        # along an extended dim the layout only counts, where no option labels it
        is_counted = dim.kind == "extend" and dim.name not in collection.options.coords
        if position is not None and (is_counted or dim.name not in coords):
            coords[dim.name] = position
    names = metadata["channel_names"]
    if names is not None and "channel" not in coords:
        along = _channel_dim(collection, len(names))
        if along is not None:
            coords["channel"] = ((along,), np.asarray(names))
    attrs = {key: metadata[key] for key in ATTRIBUTES if metadata[key]}
    return xr.DataArray(variable, coords=coords, attrs=attrs)


def _physical(collection: Collection, dim: str, size: int) -> Any:
    """Return the positions along *dim* in its unit, None where the scale is not known."""
    metadata = collection.metadata
    if dim not in metadata["scale"]:
        return None
    start = metadata["translation"].get(dim, 0.0)
    values = start + np.arange(size) * metadata["scale"][dim]
    unit = metadata["units"].get(dim)
    return (dim,), values, {} if unit is None else {"units": unit}


def _channel_dim(collection: Collection, count: int) -> str | None:
    for dim in collection.layout.dims:
        if role_of(dim.name) == "channel" and dim.size == count:
            return dim.name
    return None
