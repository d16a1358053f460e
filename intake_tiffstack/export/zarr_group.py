"""A Zarr group as xarray has it: the array with its coordinates as arrays beside it. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from intake_tiffstack.copies.attributes import FILL_VALUE, Coords, checked_coords
from intake_tiffstack.copies.open_xarray_group import UNKNOWN_AT
from intake_tiffstack.labelled.dataarray import label_array
from intake_tiffstack.labelled.datatree import name_pixels

__all__ = ["XarrayGroup"]

_DOCUMENTS = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup"})


class XarrayGroup:
    """The documents of a group, as xarray writes them.

    Parameters
    ----------
    sizes : mapping[str, int]
        Dims of the array and their lengths.
    dtype : numpy.dtype
        Of the pixels.
    coords : Coords
    attrs : mapping
        Metadata of the pixels.
    zarr_format : {2, 3}
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        dtype: np.dtype[Any],
        coords: Coords,
        attrs: Mapping[str, Any],
        zarr_format: Literal[2, 3],
    ) -> None:
        shape = tuple(sizes.values())
        self.name = name_pixels({*sizes, *coords})
        checked_coords(coords, sizes)
        pixels = da.zeros(shape, chunks=shape, dtype=dtype)  # of which nothing is computed
        dataset = label_array(pixels, tuple(sizes), coords, attrs).to_dataset(name=self.name)
        for name, variable in dataset.coords.items():
            stored = _storable(variable.variable, zarr_format)
            dataset[name] = stored if stored is not variable.variable else variable
        self._stored: dict[str, Buffer] = {}
        self._zarr_format = zarr_format
        dataset.to_zarr(
            MemoryStore(self._stored), zarr_format=zarr_format, compute=False, consolidated=False
        )
        config = {"write_empty_chunks": True}  # a chunk that is not there is one that was lost
        for name in map(str, dataset.coords):
            coord: Any = zarr.open(MemoryStore(self._stored), path=name, mode="r+", config=config)
            coord[...] = coord[...]
        group = zarr.open_group(MemoryStore(self._stored), mode="r")
        self.attributes = dict(group[self.name].attrs)
        """Of the array itself."""
        nodata = dataset[self.name].attrs.get(FILL_VALUE)
        if zarr_format == 2 and nodata is not None and math.isfinite(nodata.real):
            self.attributes[FILL_VALUE] = nodata.real  # the array itself has no fill value
        for key in [key for key in self._stored if key.startswith(f"{self.name}/")]:
            del self._stored[key]

    def documents(self, of_array: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the objects around the array, given the documents of the array itself.

        Metadata are consolidated, as xarray expects of either format.
        """
        found = {key: value.to_bytes() for key, value in self._stored.items()}
        whole = found | {f"{self.name}/{key}": content for key, content in of_array.items()}
        documents = {
            key: json.loads(content)
            for key, content in whole.items()
            if key.rpartition("/")[2] in _DOCUMENTS
        }
        if self._zarr_format == 2:
            consolidated = {"zarr_consolidated_format": 1, "metadata": documents}
            return found | {".zmetadata": json.dumps(consolidated).encode()}
        group = documents.pop("zarr.json")
        metadata = {key.removesuffix("/zarr.json"): value for key, value in documents.items()}
        inline = {"kind": "inline", "must_understand": False, "metadata": metadata}
        return found | {
            "zarr.json": json.dumps({**group, "consolidated_metadata": inline}).encode()
        }


def _storable(variable: xr.Variable, zarr_format: int) -> xr.Variable:
    """Return a coordinate in a type that every reader of Zarr knows.

    Numbers with gaps become floats. In text a gap is empty, and an attribute names its place.
    """
    kind = variable.dtype.kind
    if kind not in "OU" or (kind == "U" and zarr_format == 2):
        return variable
    values = np.asarray(variable.values, dtype=object)
    gaps = [i for i, value in enumerate(values.flat) if value is None]
    known: Sequence[Any] = [value for value in values.flat if value is not None]
    attrs = dict(variable.attrs)
    if known and all(isinstance(v, int | float) for v in known):
        return xr.Variable(variable.dims, np.where(values == None, np.nan, values).astype(float))  # noqa: E711
    texts = np.array(["" if v is None else str(v) for v in values.flat], dtype=object)
    if gaps:
        attrs[UNKNOWN_AT] = gaps
    stored = texts.reshape(values.shape)
    return xr.Variable(variable.dims, stored, attrs, fastpath=bool(variable.dims))
