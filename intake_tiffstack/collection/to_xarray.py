"""A collection as an xarray.DataArray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intake_tiffstack.errors import warn
from intake_tiffstack.labelled.dataarray import label_array
from intake_tiffstack.labelled.packing import unpack
from intake_tiffstack.redact import hide_in_text

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
    if not collection.options.mask_and_scale:
        return named
    _warn_of_masks(collection)
    return unpack(named)


def _warn_of_masks(collection: Collection) -> None:
    """Warn if a file has a mask of its own, as GDAL writes it: it is an image that is not read."""
    for row, structure in collection.discovery.structures.items():
        sizes = dict(zip(structure.dims, structure.shape, strict=True))
        plane = (sizes.get("y"), sizes.get("x"))
        if any(o.is_minor and o.dtype == "bool" and o.shape == plane for o in structure.others):
            warn(
                f"{hide_in_text(collection.files.urls[row])} has a mask, which mask_and_scale does "
                "not apply: the pixels that it leaves out keep their numbers"
            )
            return
