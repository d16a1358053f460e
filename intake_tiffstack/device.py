"""Where a chunk is delivered: NumPy in memory, CuPy on a GPU, or another array library.

A chunk is always read on the host; the device then takes it over. Nothing of a device is made
before a worker needs it, and nothing of it is in the graph: an array carries the name alone.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from intake_tiffstack.errors import DeviceNotAvailableError, OptionError
from intake_tiffstack.settings import setting

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["Device", "get_device", "require_device"]


@runtime_checkable
class Device(Protocol):
    """What an array library has to give to take chunks."""

    def empty_host(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return memory of the host that the reader fills."""

    def to_device(self, host: NDArray[Any]) -> Any:
        """Return the block on the device; the host block is not used again."""

    def to_host(self, array: Any) -> NDArray[Any]:
        """Return a NumPy array with the values of a block."""

    def meta(self, ndim: int, dtype: DTypeLike) -> Any:
        """Return an empty array of the library, for dask."""


class NumpyDevice:
    """Chunks are NumPy arrays in ordinary memory."""

    def empty_host(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return uninitialised memory."""
        return np.empty(shape, dtype)

    def to_device(self, host: NDArray[Any]) -> NDArray[Any]:
        """Return the block itself."""
        return host

    def to_host(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the block itself."""
        return array

    def meta(self, ndim: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return an empty NumPy array."""
        return np.empty((0,) * ndim, dtype)


class CupyDevice:
    """Chunks are CuPy arrays on the current GPU, copied from ordinary memory."""

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as exc:
            raise ImportError(
                "arraytype='cupy' needs CuPy: pip install 'intake-tiffstack[cupy12]' or [cupy13], "
                "whichever CUDA the driver has"
            ) from exc
        self.cupy = cupy

    def empty_host(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return uninitialised, pageable memory."""
        return np.empty(shape, dtype)

    def to_device(self, host: NDArray[Any]) -> Any:
        """Return a copy on the current GPU."""
        return self.cupy.asarray(host)

    def to_host(self, array: Any) -> NDArray[Any]:
        """Return a copy in memory."""
        return np.asarray(self.cupy.asnumpy(array))

    def meta(self, ndim: int, dtype: DTypeLike) -> Any:
        """Return an empty CuPy array; needs a usable GPU."""
        if not self.cupy.cuda.is_available():  # cupy imports, and fails at the first allocation
            raise DeviceNotAvailableError(
                "arraytype='cupy' was asked for and CuPy is installed, but it finds no usable GPU "
                "in this process; use arraytype='numpy', or set tiffstack.require_device to false "
                "where only the workers have one"
            )
        return self.cupy.empty((0,) * ndim, dtype)


@functools.cache
def _load_device(name: str) -> Device:
    """Return the device of a dotted name; the import runs code of that package."""
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise OptionError(f"arraytype {name!r} cannot be imported: {exc}") from exc
    found = made() if callable(made) else made
    if not isinstance(found, Device):
        raise OptionError(
            f"arraytype {name!r} must have empty_host, to_device, to_host and meta, as "
            "intake_tiffstack.device.Device says"
        )
    return found


@functools.cache
def _cupy_device() -> Device:
    return CupyDevice()


def get_device(name: str) -> Device:
    """Return the device that ``arraytype`` names.

    Raises
    ------
    OptionError
        An unknown name, or a dotted one while the setting ``allow_code`` is off.
    ImportError
        CuPy is not installed; the message names the extra.
    """
    _check_name(name)
    if name == "numpy":
        return NumpyDevice()
    return _cupy_device() if name == "cupy" else _load_device(name)


def _check_name(name: str) -> None:
    """Raise for a name that means nothing, or may not be asked for."""
    if name in ("numpy", "cupy"):
        return
    if ":" not in name:
        raise OptionError.unknown("arraytype", name, ["numpy", "cupy", "package.module:Class"])
    if not setting("allow_code"):
        raise OptionError(
            f"arraytype {name!r} runs code of that package: a catalog may not ask for it unless "
            "tiffstack.allow_code is true in dask's config"
        )


def require_device(name: str, ndim: int, dtype: DTypeLike) -> Any:
    """Return the meta of an array on the device, having seen that the device is there.

    With ``require_device`` off a NumPy meta stands in: this process then has no device of its own,
    its workers do.
    """
    _check_name(name)
    if name != "numpy" and not setting("require_device"):
        return NumpyDevice().meta(ndim, dtype)
    return get_device(name).meta(ndim, dtype)
