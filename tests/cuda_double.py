"""What the package uses of CuPy, without a GPU, and with nothing done before its time.

A copy to this device happens when an event or the array itself is waited for, from the host memory
as it is then. Memory that was let go by then, or filled with something else, gives wrong pixels
here as it would on a GPU. Each test makes one :class:`CudaDouble` of its own.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from array_double import DeviceArray
from intake_tiffstack.device import loading

POISON = 0xA5


class CUDARuntimeError(RuntimeError):
    """As CuPy raises it."""


class Copy:
    """A copy that is under way."""

    def __init__(self, host: np.ndarray) -> None:
        self._host = weakref.ref(host)  # the device itself keeps nothing alive
        self._empty = np.full(host.nbytes, POISON, "u1").view(host.dtype).reshape(host.shape)
        self._values: np.ndarray | None = None
        self._lock = threading.Lock()
        self.looks = 0

    @property
    def is_done(self) -> bool:
        return self._values is not None

    def finish(self) -> np.ndarray:
        with self._lock:
            if self._values is None:
                host = self._host()
                self._values = self._empty if host is None else host.copy()
            return self._values


class LateArray(DeviceArray):
    """An array whose values arrive when they are looked at."""

    def __init__(self, copy: Copy, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.__dict__.update(_late=copy, shape=shape, dtype=dtype, ndim=len(shape))

    @property
    def _values(self) -> np.ndarray:
        return self._late.finish()


class Event:
    """An event that is done at the third look."""

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        if not (block and disable_timing):
            raise ValueError("an event that times, or that a thread spins for, costs more")
        self.copies: list[Copy] = []

    @property
    def done(self) -> bool:
        for copy in self.copies:
            copy.looks += 1
            if copy.looks > 2:
                copy.finish()
        return all(copy.is_done for copy in self.copies)

    def synchronize(self) -> None:
        for copy in self.copies:
            copy.finish()


class CudaDouble:
    """The modules ``cupy`` and ``cupyx``, and what they were asked for."""

    def __init__(self) -> None:
        self.refuses = False
        self.devices: int | str = 1
        self.stream_pointer = 0
        self.pinned = 0
        self.most_pinned = 0
        self.is_pinned: list[bool] = []
        self.drained = 0
        self._ids: set[int] = set()
        self._lock = threading.RLock()  # finalizers come at any time
        self._pending = threading.local()
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, getDeviceCount=self._count_devices
        )
        self.cupy = SimpleNamespace(
            __version__="13.0.0",
            ndarray=type("ndarray", (), {}),  # xarray keeps it; no array is one
            asarray=self._asarray,
            asnumpy=lambda array: array._values,
            empty=lambda shape, dtype: DeviceArray(np.empty(shape, dtype)),
            get_default_pinned_memory_pool=lambda: SimpleNamespace(free_all_blocks=self._drain),
            cuda=SimpleNamespace(
                runtime=runtime, Event=Event, get_current_stream=lambda: self._stream()
            ),
        )
        self.cupyx = SimpleNamespace(empty_pinned=self._empty_pinned)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be what ``import cupy`` gives, until the test ends."""
        monkeypatch.setitem(sys.modules, "cupy", self.cupy)
        monkeypatch.setitem(sys.modules, "cupyx", self.cupyx)
        loading._make_device.cache_clear()

    def _count_devices(self) -> int:
        if isinstance(self.devices, str):
            raise CUDARuntimeError(self.devices)
        return self.devices

    def _empty_pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if self.refuses:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
        block = np.empty(shape, dtype)
        block.reshape(-1).view("u1")[...] = POISON
        with self._lock:
            self.pinned += block.nbytes
            self.most_pinned = max(self.most_pinned, self.pinned)
            self._ids.add(id(block))
        weakref.finalize(block, self._let_go, id(block), block.nbytes)
        return block

    def _let_go(self, number: int, nbytes: int) -> None:
        with self._lock:
            self.pinned -= nbytes
            self._ids.discard(number)

    def _drain(self) -> None:
        self.drained += 1

    def _asarray(self, host: np.ndarray) -> DeviceArray:
        with self._lock:
            self.is_pinned.append(id(host) in self._ids)
        if not self.is_pinned[-1]:
            return DeviceArray(host)
        copy = Copy(host)
        self._pending.copies = [*getattr(self._pending, "copies", []), copy]
        return LateArray(copy, host.shape, host.dtype)

    def _stream(self) -> Any:
        def record(event: Event) -> Event:
            event.copies, self._pending.copies = self._pending.copies, []
            return event

        return SimpleNamespace(ptr=self.stream_pointer, record=record)

    def held(self) -> int:
        """Return the pinned bytes that something still refers to."""
        gc.collect()
        return self.pinned
