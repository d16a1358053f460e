"""The same pixels with names: an xarray.DataArray over dask, or over a lazy array directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from intake_tiffstack.arrays.lazy_array import LazyArray
from intake_tiffstack.errors import OptionError
from intake_tiffstack.labelled.attributes import encode_attrs
from intake_tiffstack.labelled.crs import GRID_MAPPING, axis_attrs, grid_mapping_attrs
from intake_tiffstack.labelled.packing import nodata_attribute

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

__all__ = ["label_array", "set_metadata"]


class LazyPixels(BackendArray):
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


def label_array(
    data: LazyArray | da.Array,
    dims: Sequence[str],
    coords: Mapping[str, tuple[Sequence[str], NDArray[Any]]],
    metadata: Mapping[str, Any],
) -> xr.DataArray:
    """Return a DataArray over an array that is lazy, with or without dask; nothing is read.

    Parameters
    ----------
    data : LazyArray or dask.array.Array
    dims : sequence of str
        Name of each dim.
    coords : mapping
        Name to dims and values.
    metadata : mapping
        Of the pixels; ``coord_units`` are the units of coordinates by name, see
        ``docs/metadata.md`` for all keys.

    Raises
    ------
    OptionError
        If a field has the name of the grid mapping of a map.
    """
    values: Any = data
    if isinstance(data, LazyArray):
        values = indexing.LazilyIndexedArray(LazyPixels(data))
    if GRID_MAPPING in coords and grid_mapping_attrs(metadata):
        raise OptionError(
            f"the field {GRID_MAPPING!r} has the name of the coordinate that places the pixels on "
            "the map; give it another name in the pattern, such as 'crs_name'"
        )
    units = metadata.get("coord_units")
    units = units if isinstance(units, Mapping) else {}  # of another program: any type
    on_map = axis_attrs(metadata, coords)
    variables = {
        name: _variable(
            along,
            coord,
            {**on_map.get(name, {}), **({"units": units[name]} if name in units else {})},
        )
        for name, (along, coord) in coords.items()
    }
    # a Variable, since a bare dask array would name the result
    return set_metadata(xr.DataArray(xr.Variable(dims, values), variables), metadata)


def set_metadata(named: xr.DataArray, metadata: Mapping[str, Any]) -> xr.DataArray:
    """Return the array with metadata as its attributes, and its place on a map as a coordinate."""
    attrs = encode_attrs(metadata) | nodata_attribute(metadata, named.dtype)
    mapping = grid_mapping_attrs(metadata)
    if mapping:
        named = named.assign_coords({GRID_MAPPING: xr.Variable((), np.int64(0), mapping)})
        attrs["grid_mapping"] = GRID_MAPPING
    named.attrs = attrs
    return named


def _variable(dims: Sequence[str], values: NDArray[Any], attrs: Mapping[str, Any]) -> xr.Variable:
    # fastpath: else pandas would infer text from objects, and turn None into NaN
    is_object = values.dtype.kind == "O" and bool(dims)
    return xr.Variable(tuple(dims), values, attrs, fastpath=is_object)
