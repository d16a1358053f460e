"""The values of a field in many names: distinct values, and which of them each name has. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.natural_sort import natural_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.pattern.fields import Kind

__all__ = ["Reading", "TextColumn"]


@dataclass(frozen=True, eq=False)
class Reading:
    """The values of one field in many names."""

    #: Distinct values; numbers and times ascend, text is in natural order.
    keys: Sequence[Any]
    #: Index in ``keys`` of the value of each name, shape (n_names,).
    codes: NDArray[np.intp]

    @property
    def values(self) -> list[Any]:
        """The value in each name."""
        return [self.keys[code] for code in self.codes.tolist()]

    def take(self, rows: NDArray[np.intp]) -> Reading:
        """Return the values in the names at *rows*."""
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        return Reading([self.keys[code] for code in used.tolist()], codes)


class TextColumn:
    """The texts of one field, taken block by block, so that each distinct one is kept once.

    >>> column = TextColumn()
    >>> column.add(("b", "a", "b"))
    >>> column.texts, column.codes
    (['b', 'a'], array([0, 1, 0], dtype=int32))
    """

    def __init__(self) -> None:
        self._code_of: defaultdict[Any, int] = defaultdict()
        self._code_of.default_factory = self._code_of.__len__  # a new text gets the next number
        self._blocks: list[NDArray[np.int32]] = []

    def add(self, texts: Sequence[str | None]) -> None:
        """Add the texts of further names; None where a name has no such part."""
        self._blocks.append(np.fromiter(map(self._code_of.__getitem__, texts), np.int32))

    @property
    def texts(self) -> list[Any]:
        """The distinct texts, in the order in which they were first seen."""
        return list(self._code_of)

    @property
    def codes(self) -> NDArray[np.int32]:
        """Index in ``texts`` of the text of each name, shape (n_names,)."""
        return np.concatenate(self._blocks)

    def reading(self, kind: Kind, values: Sequence[Any]) -> Reading:
        """Return the reading in which *values* stand for the distinct texts."""
        if kind == "text":  # each stands for itself, so they are distinct
            order = natural_order(values)
            places = np.empty(len(order), np.intp)
            places[order] = np.arange(len(order))
            keys = [values[i] for i in order]
        else:
            array = _integers(values) if kind == "int" else np.array(values)
            found, places = np.unique(array, return_inverse=True)
            keys = list(found) if kind == "time" else found.tolist()
        return Reading(keys, places[self.codes])


def _integers(values: Iterable[int]) -> NDArray[Any]:
    """Return integers of any size; NumPy would make floats of those beyond 64 bits."""
    listed = list(values)
    try:
        return np.array(listed, dtype=np.int64)
    except OverflowError:
        return np.array(listed, dtype=object)
