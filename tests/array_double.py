"""An array library that is as strict as CuPy and needs no GPU: what leaves the device says so.

``arraytype="array_double:DoubleDevice"`` delivers chunks as :class:`DeviceArray`. Anything that
would turn one into a NumPy array unasked raises, as it does for a CuPy array.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sparse
from numpy.lib.mixins import NDArrayOperatorsMixin


class DeviceArray(NDArrayOperatorsMixin):
    """An array that NumPy's functions work on and NumPy itself cannot read."""

    def __init__(self, values: Any) -> None:
        self._values = np.array(values)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _wrap(function(*_unwrap(args), **_unwrap(kwargs)))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _wrap(getattr(ufunc, method)(*_unwrap(inputs), **_unwrap(kwargs)))

    def __getitem__(self, key: Any) -> Any:
        return _wrap(self._values[key])

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._values, name)
        if not callable(found):
            return _wrap(found)
        return lambda *args, **kwargs: _wrap(found(*_unwrap(args), **_unwrap(kwargs)))

    def __reduce__(self) -> Any:
        return (DeviceArray, (self._values,))


def _wrap(value: Any) -> Any:
    return DeviceArray(value) if isinstance(value, np.ndarray | np.generic) else value


def _unwrap(value: Any) -> Any:
    """Return *value* with NumPy in place of the device's arrays; a mixture is refused."""
    if isinstance(value, DeviceArray):
        return value._values
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("a NumPy array among arrays of the device")
    if isinstance(value, list | tuple):
        return type(value)(map(_unwrap, value))
    if isinstance(value, Mapping):
        return {k: _unwrap(v) for k, v in value.items()}
    return value


class DoubleDevice:
    """A device that counts what is copied to it."""

    copied = {"to": 0}  # noqa: RUF012

    def empty_host(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def to_device(self, host: np.ndarray) -> DeviceArray:
        self.copied["to"] += 1
        return DeviceArray(host)

    def meta(self, ndim: int, dtype: Any) -> DeviceArray:
        return DeviceArray(np.empty((0,) * ndim, dtype))


class SparseDevice:
    """A real library that is no GPU's: what joining takes."""

    def empty_host(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def to_device(self, host: np.ndarray) -> sparse.COO:
        return sparse.COO.from_numpy(host)

    def meta(self, ndim: int, dtype: Any) -> sparse.COO:
        return sparse.COO.from_numpy(np.empty((0,) * ndim, dtype))


class NoDevice:
    """What has none of the methods that a device needs."""
