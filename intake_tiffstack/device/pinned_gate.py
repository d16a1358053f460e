"""A limit on the pinned memory in use at once; it only counts, and needs no CUDA."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Event", "PinnedGate", "rounded"]


class Event(Protocol):
    """The state of a copy, as ``cupy.cuda.Event`` does."""

    @property
    def done(self) -> bool:
        """Whether the copy is done."""

    def synchronize(self) -> None:
        """Wait until it is."""


@dataclass(frozen=True)
class _Copy:
    """A copy to the device that is under way."""

    event: Event
    nbytes: int
    host: Any
    """What is copied, kept alive until the copy is done."""


class PinnedGate:
    """Lets a thread take pinned memory once there is room below a limit; until then it waits.

    A block is out from :meth:`take` until :meth:`give_back`, or until the copy that
    :meth:`give_back_after` was given is done. Whoever waits sees to the oldest copy itself, so
    that no other thread has to come by. One block that is larger than the limit goes alone.

    Parameters
    ----------
    drain : callable
        Frees what the pool of pinned memory keeps unused. The pool has a shelf for each size and
        takes nothing from another, so that what it keeps could be a multiple of the limit.
    """

    def __init__(self, drain: Callable[[], object]) -> None:
        self._drain = drain
        self._out: Counter[int] = Counter()  # blocks by size
        self._pooled: Counter[int] = Counter()  # the same, with those that the pool keeps
        self._copies: deque[_Copy] = deque()  # oldest first
        self._changed = threading.Condition()

    @property
    def nbytes(self) -> int:
        """Bytes that are out."""
        with self._changed:
            return _total(self._out)

    def take(self, nbytes: int, limit: int) -> None:
        """Count a block of *nbytes*, once all that are out with it are at most *limit*."""
        size = rounded(nbytes)
        while True:
            with self._changed:
                self._drop_done()
                held = _total(self._out)
                if not held or held + size <= limit:
                    self._count(size, limit)
                    return
                if not self._copies:  # all that is out is being filled
                    self._changed.wait()
                    continue
                copy = self._copies.popleft()
            try:
                copy.event.synchronize()
            finally:  # a device that fails here fails its own chunk too
                self.give_back(copy.nbytes)

    def give_back(self, nbytes: int) -> None:
        """Count a block as free."""
        with self._changed:
            self._out[rounded(nbytes)] -= 1
            self._changed.notify_all()

    def give_back_after(self, event: Event, nbytes: int, host: Any) -> None:
        """Count a block as free once *event* is done; *host* is kept until then."""
        with self._changed:
            self._drop_done()
            self._copies.append(_Copy(event, nbytes, host))
            self._changed.notify_all()

    def _count(self, size: int, limit: int) -> None:
        self._out[size] += 1
        if self._out[size] <= self._pooled[size]:
            return
        self._pooled[size] = self._out[size]
        if _total(self._pooled) > limit:
            self._drain()
            self._pooled = self._out.copy()

    def _drop_done(self) -> None:
        while self._copies and self._copies[0].event.done:
            self._out[rounded(self._copies.popleft().nbytes)] -= 1


def rounded(nbytes: int) -> int:
    """Return what CuPy's pool of pinned memory takes for a block: the next power of two. Pure.

    >>> rounded(1), rounded(4096), rounded(4097)
    (1, 4096, 8192)
    """
    return 1 << (nbytes - 1).bit_length()


def _total(blocks: Counter[int]) -> int:
    return sum(size * count for size, count in blocks.items())
