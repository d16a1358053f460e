"""CuPy: one block of pinned memory per chunk, one asynchronous copy."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.device.pinned_gate import PinnedGate
from intake_tiffstack.errors import DeviceNotAvailableError, warn
from intake_tiffstack.settings import setting_bytes

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["CupyDevice"]


class CupyDevice:
    """Chunks are CuPy arrays on the current GPU.

    The reader fills pinned memory, which the GPU fetches by itself while the thread goes on with
    the next chunk. ``pinned_limit`` says how much of it is out at once; where none is to be had,
    or the limit is 0, ordinary memory serves, which CuPy copies once more on the way.
    """

    def __init__(self) -> None:
        try:
            import cupy
            import cupyx
        except ImportError as exc:
            raise ImportError(
                "arraytype='cupy' needs CuPy: pip install 'intake-tiffstack[cupy12]' or [cupy13], "
                f"whichever CUDA the driver has ({exc})"
            ) from exc
        self._cupy = cupy
        self._empty_pinned = cupyx.empty_pinned
        self._gate = PinnedGate(lambda: cupy.get_default_pinned_memory_pool().free_all_blocks())
        self._pinned: dict[int, int] = {}  # id and bytes of the blocks that are being filled
        self._has_warned = False
        self._lock = threading.Lock()

    def empty_host(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return uninitialised memory, pinned where possible; waits while the limit is reached."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        limit = setting_bytes("pinned_limit")
        if not nbytes or not limit:
            return np.empty(shape, dtype)
        self._gate.take(nbytes, limit)
        try:
            host: NDArray[Any] = self._empty_pinned(shape, dtype)
        except self._cupy.cuda.runtime.CUDARuntimeError as exc:
            self._gate.give_back(nbytes)
            self._require_gpu()
            self._warn_once(nbytes, exc)
            return np.empty(shape, dtype)
        except BaseException:  # whatever it is: bytes that stay counted would block the others
            self._gate.give_back(nbytes)
            raise
        self._pinned[id(host)] = nbytes
        return host

    def to_device(self, host: NDArray[Any]) -> Any:
        """Return a copy on the current GPU, in the order of the current stream."""
        array = self._cupy.asarray(host)
        if id(host) in self._pinned:
            stream = self._cupy.cuda.get_current_stream()
            event = stream.record(self._cupy.cuda.Event(block=True, disable_timing=True))
            # kept until then by the gate: CuPy 13.0 does not
            self._gate.give_back_after(event, self._pinned.pop(id(host)), host)
            if stream.ptr:  # not the default stream: a task in another thread would not wait for it
                event.synchronize()
        return array

    def take_back(self, host: NDArray[Any]) -> None:
        """Count the block of a chunk that could not be read as free."""
        if id(host) in self._pinned:
            self._gate.give_back(self._pinned.pop(id(host)))

    def meta(self, ndim: int, dtype: DTypeLike) -> Any:
        """Return an empty CuPy array; needs a usable GPU.

        Raises
        ------
        DeviceNotAvailableError
            If CuPy finds no GPU, or cannot use it.
        """
        self._require_gpu()  # CuPy imports without one, and fails at the first allocation
        return self._cupy.empty((0,) * ndim, dtype)

    def _require_gpu(self) -> None:
        runtime = self._cupy.cuda.runtime
        try:
            count = runtime.getDeviceCount()
        except runtime.CUDARuntimeError as exc:
            raise self._not_usable(str(exc)) from exc
        if not count:
            raise self._not_usable("there is none")

    def _not_usable(self, found: str) -> DeviceNotAvailableError:
        return DeviceNotAvailableError(
            f"arraytype='cupy' was asked for, but CuPy {self._cupy.__version__} finds no usable "
            f"GPU in this process: {found}; use arraytype='numpy', or set "
            "tiffstack.require_device to false where only the workers have one"
        )

    def _warn_once(self, nbytes: int, exc: Exception) -> None:
        with self._lock:
            is_first, self._has_warned = not self._has_warned, True
        if is_first:
            warn(
                f"the system gives no pinned memory ({nbytes:,} bytes: {exc}): chunks go to the "
                "GPU from ordinary memory, which is slower; a lower tiffstack.pinned_limit asks "
                "for less"
            )
