"""An array whose indexing reads, block by block, into the memory that its device wants.

What the array over TIFF files and the array over a Zarr copy have in common: indexing, the way to
the device, and the way to dask.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize

import intake_tiffstack.arrays.forked_pools  # noqa: F401 - registers what a fork needs
from intake_tiffstack.arrays.indexing import normalize_index
from intake_tiffstack.device import Device, NumpyDevice, TakesBack, get_device, require_device
from intake_tiffstack.errors import TooLargeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LazyArray", "to_dask_array"]


class LazyArray(ABC):
    """Pixels somewhere in storage seen as one array; indexing reads, nothing else does.

    Supports NumPy's basic indexing (integers, slices with any step, ``...``, ``None``) and, dim by
    dim, lists of positions.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""

    @property
    @abstractmethod
    def arraytype(self) -> str:
        """What a block is: the option of this name."""

    @property
    def ctimes(self) -> NDArray[np.int64] | None:
        """Times of change, which names of dask arrays depend on and tokens of copies do not.

        None where none are known.
        """
        return None

    @abstractmethod
    def on_host(self) -> LazyArray:
        """Return the same array with NumPy blocks; needs no device."""

    @abstractmethod
    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        """Fill *out* with a region: one ascending range per dim, none empty."""

    @property
    def ndim(self) -> int:
        """How many dims."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many pixels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes, decoded."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized array")
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the pixels are in storage: a copy cannot be avoided")
        host: NDArray[Any] = self._read(..., NumpyDevice())
        return host if dtype is None else host.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        return self._read(key, get_device(self.arraytype))

    def _read(self, key: Any, device: Device) -> Any:
        index = normalize_index(key, self.shape)
        shape = tuple(map(len, index.ranges))
        try:
            host = device.empty_host(shape, self.dtype)
        except MemoryError as exc:
            nbytes = math.prod(shape) * self.dtype.itemsize
            raise TooLargeError(
                f"{nbytes:,} bytes for an array of {shape} {self.dtype} do not fit into memory; "
                "compute parts of it, or check the size that the files declare"
            ) from exc
        try:
            if host.size:
                self._read_into(host, index.ranges)
            block = device.to_device(host)
        except BaseException:  # a kept traceback would hold the block, and others wait for it
            if isinstance(device, TakesBack):
                device.take_back(host)
            raise
        return index.finish(block)


def to_dask_array(array: LazyArray, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Return the dask array over *array*; nothing is read.

    One Blockwise layer over one shared key, so that *array* travels once, and one basic index
    applied directly is pushed into the read. The name is a token of all that decides a pixel,
    chunks and the kind of array too: two arrays of one name would be taken for each other.
    """
    meta = require_device(array.arraytype, array.ndim, array.dtype)
    return da.from_array(
        array,
        chunks=chunks,
        name="tiffstack-" + tokenize(array, array.ctimes, *map(np.asarray, chunks)),
        meta=meta,
        asarray=False,
        inline_array=False,
    )
