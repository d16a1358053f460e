"""A collection as an xarray.DataArray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intake_tiffstack.labelled.dataarray import label_array
from intake_tiffstack.labelled.packing import unpack

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

    from intake_tiffstack.collection.open import Collection

__all__ = ["to_dataarray"]


def to_dataarray(collection: Collection, array: da.Array | None) -> xr.DataArray:
    """Return a DataArray over *array*, or over the files themselves where it is None.

    Index coordinates come from names and options; dims that these do not label carry physical
    positions where the scale is known, with their unit. What files say stands beside.
    """
    named = label_array(
        collection.array if array is None else array,
        collection.layout.names,
        {name: (coord.dims, coord.values) for name, coord in collection.known.coords.items()},
        collection.metadata,
    )
    return unpack(named) if collection.options.mask_and_scale else named
