"""Arrays that are computed, as the sources of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.passes import Source
from intake_tiffstack.export.planned_array import Slices

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ComputedSource", "LabelledSource", "source_of"]


@dataclass(frozen=True)
class ComputedSource:
    """A dask array; each region is computed by the thread or worker that writes it."""

    array: da.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return tuple(map(int, self.array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def __dask_tokenize__(self) -> Any:
        return self.array.name

    def __getitem__(self, region: Slices) -> Any:
        # side by side with others already; and a task of a cluster must not wait for other tasks
        return _to_host(self.array[region].compute(scheduler="sync"))


@dataclass(frozen=True, eq=False)
class LabelledSource:
    """A DataArray without dask: in memory, or lazily indexed; a region is read when indexed."""

    array: xr.DataArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def __dask_tokenize__(self) -> Any:
        return tokenize(self.array.variable)

    def __getitem__(self, region: Slices) -> Any:
        return _to_host(self.array.variable[region].data)


def _to_host(block: Any) -> Any:
    """Return a block as a NumPy array, also one of a device."""
    return np.asarray(block.get() if hasattr(block, "get") else block)


def source_of(array: Any) -> tuple[Source, tuple[int, ...] | None]:
    """Return an array as the source of an export, and the extent of what is computed as a whole.

    Parameters
    ----------
    array : xarray.DataArray, dask.array.Array or array-like

    Raises
    ------
    OptionError
        If its size is unknown, or it has no elements of numbers.
    """
    data = getattr(array, "variable", array)
    pixels = getattr(data, "_data", data)
    if isinstance(pixels, da.Array):
        if any(np.isnan(n) for n in pixels.shape):
            raise OptionError(
                f"the array has an unknown size, {pixels.shape}: compute_chunk_sizes() finds it"
            )
        return ComputedSource(pixels), pixels.chunksize
    if data is not array:
        return LabelledSource(array), None
    return np.asarray(array), None
