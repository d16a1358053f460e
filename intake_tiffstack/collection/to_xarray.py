"""The same pixels with names: an xarray.DataArray over dask, or over files directly."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

if TYPE_CHECKING:
    import dask.array as da

    from intake_tiffstack.arrays.lazy_array import LazyArray
    from intake_tiffstack.collection.open import Collection

__all__ = ["to_dataarray"]

NOT_ATTRIBUTES = frozenset({"dims", "shape", "dtype", "coords", "coord_units", "provenance"})
"""What of the metadata does not go into ``attrs``: the array's own, and where it was learnt."""


class LazyStack(BackendArray):
    """A ``LazyArray`` as xarray's lazy indexing wants it.

    xarray composes chained indexes before it asks; one index arrives here, a list of positions
    along a dim at most. What that cannot say (points) xarray picks from the smallest block.
    """

    def __init__(self, array: LazyArray) -> None:
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
    positions where the scale is known, with their unit. What files say stands beside.
    """
    metadata = collection.metadata
    data: Any = array
    if data is None:
        data = indexing.LazilyIndexedArray(LazyStack(collection.array))
    variable = xr.Variable(collection.layout.names, data)
    coords = {
        name: (coord.dims, coord.values, {} if coord.unit is None else {"units": coord.unit})
        for name, coord in collection.known.coords.items()
    }
    known = {key: value for key, value in metadata.items() if key not in NOT_ATTRIBUTES}
    attrs = {key: deepcopy(value) for key, value in known.items() if value not in (None, {}, [])}
    return xr.DataArray(variable, coords=coords, attrs=attrs)
