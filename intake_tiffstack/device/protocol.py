"""What an array library must provide to receive chunks, and NumPy as the simplest example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["Device", "NumpyDevice", "TakesBack"]


@runtime_checkable
class Device(Protocol):
    """What an array library must provide to receive chunks.

    One instance serves all threads of a process. Each chunk is one :meth:`empty_host`, filled by
    the reader, and one :meth:`to_device` of that same block, from the same thread.
    """

    def empty_host(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return memory of the host, C-contiguous, that the reader fills."""

    def to_device(self, host: NDArray[Any]) -> Any:
        """Return the block on the device; the host block is not used again.

        What comes back has NumPy's basic indexing, and a list of positions along one dim.
        """

    def meta(self, ndim: int, dtype: DTypeLike) -> Any:
        """Return an empty array of the library, for dask."""


@runtime_checkable
class TakesBack(Protocol):
    """A device whose host blocks are scarce: those that could not be filled are given back."""

    def take_back(self, host: NDArray[Any]) -> None:
        """Take a block that never comes to ``to_device``: reading it failed."""


class NumpyDevice:
    """Chunks are NumPy arrays in ordinary memory."""

    def empty_host(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return uninitialised memory."""
        return np.empty(shape, dtype)

    def to_device(self, host: NDArray[Any]) -> NDArray[Any]:
        """Return the block itself."""
        return host

    def meta(self, ndim: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an empty NumPy array."""
        return np.empty((0,) * ndim, dtype)
