"""Nodata, scale and offset as xarray and CF have them, and the values that they make of pixels."""

from __future__ import annotations

from math import isfinite, trunc
from numbers import Real
from typing import TYPE_CHECKING, Any

import xarray as xr

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError
from intake_tiffstack.structure import Packing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

__all__ = ["FILL_VALUE", "nodata_attribute", "unpack"]

FILL_VALUE = "_FillValue"
"""Attribute in which xarray looks for the stored number that means no data; ours is ``nodata``."""


def nodata_attribute(metadata: Mapping[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return ``_FillValue`` if the metadata have ``nodata``. Pure."""
    nodata = metadata.get("nodata")
    if isinstance(nodata, str) and nodata in ("nan", "inf", "-inf"):
        nodata = float(nodata)
    if not isinstance(nodata, Real) or dtype.kind not in "iufc":  # of another program: any type
        return {}
    if dtype.kind in "fc":  # xarray writes one of the kind of the pixels alone
        return {FILL_VALUE: float(nodata) if dtype.kind == "f" else complex(float(nodata))}
    return {FILL_VALUE: trunc(nodata)} if isfinite(nodata) else {}


def unpack(named: xr.DataArray) -> xr.DataArray:
    """Return the values that the stored numbers mean: NaN for nodata, scale and offset applied.

    Lazy, by xarray's own decoding, which also chooses the dtype.

    Raises
    ------
    OptionError
        If bands differ in scale or offset and the array is not one of dask, or complex pixels have
        either: xarray would discard their imaginary parts.
    """
    if named.dtype.kind == "c" and not named.attrs.keys().isdisjoint(Packing.KEYS[1:]):
        raise OptionError("mask_and_scale: complex pixels with a scale or offset are not decoded")
    attrs = dict(named.attrs)
    scales, offsets = attrs.pop("scales", None), attrs.pop("offsets", None)
    if scales is not None and "add_offset" in attrs:  # xarray would add it before
        offsets = [attrs.pop("add_offset")] * len(scales)
    pixels = named.copy(deep=False)
    pixels.attrs = attrs
    found = xr.decode_cf(pixels.to_dataset(name="pixels"), decode_times=False, decode_coords=False)[
        "pixels"
    ]
    if scales is not None or offsets is not None:
        count = len(scales or offsets or ())
        dim = next((d for d in named.dims if _is_band_dim(str(d), named.sizes[d], count)), None)
        if dim is None:
            raise OptionError(
                f"mask_and_scale: the files have {count} bands of different scale or offset, but "
                f"the result has no such dim: its dims are {', '.join(map(str, named.dims))}"
            )
        if named.chunks is None:
            raise OptionError(
                "mask_and_scale with bands of different scale needs dask: leave out chunks=None; "
                "instead of xarray.open_dataset, which does without, use "
                "open_stack(...).to_xarray()"
            )
        for values, operate in ((scales, "__mul__"), (offsets, "__add__")):
            if values is not None:
                along = xr.DataArray(list(values), dims=[dim])
                found = getattr(found.astype("float64"), operate)(along)
        found = found.transpose(*named.dims).assign_attrs(attrs)
    found.attrs = {k: v for k, v in found.attrs.items() if k not in (FILL_VALUE, *Packing.KEYS)}
    return found.rename(named.name)


def _is_band_dim(dim: str, size: int, count: int) -> bool:
    return size == count and (dim == "sample" or role_of(dim) == Role.CHANNEL)
