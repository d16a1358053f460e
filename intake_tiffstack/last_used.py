"""The values used last, within a number of bytes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["LastUsed"]

V = TypeVar("V")


class LastUsed(Generic[V]):
    """The values used last, within a number of bytes and of values. Not safe between threads.

    Parameters
    ----------
    nbytes_of : callable
        Returns the bytes that a value takes.
    most : float
        Number of values; as many as there are by default.
    """

    def __init__(self, nbytes_of: Callable[[V], int], most: float = math.inf) -> None:
        self._nbytes_of = nbytes_of
        self._most = most
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._nbytes = 0

    def get(self, key: Hashable) -> V | None:
        """Return the value under *key*, which is now the last used, None if it is not here."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def has(self, key: Hashable) -> bool:
        """Return whether there is a value under *key*."""
        return key in self._values

    def keep(self, key: Hashable, value: V) -> None:
        """Add a value as the last used."""
        self.pop(key)
        nbytes = self._nbytes_of(value)
        self._nbytes += nbytes
        self._values[key] = value, nbytes

    def pop(self, key: Hashable) -> V | None:
        """Drop the value under *key* and return it, None if it is not here."""
        value, nbytes = self._values.pop(key, (None, 0))
        self._nbytes -= nbytes
        return value

    def trim(self, limit: int) -> None:
        """Drop those used longest ago until the rest, one at least, takes *limit* bytes."""
        while len(self._values) > 1 and (self._nbytes > limit or len(self._values) > self._most):
            self.pop(next(iter(self._values)))

    def clear(self) -> None:
        """Drop all values."""
        self._values.clear()
        self._nbytes = 0
