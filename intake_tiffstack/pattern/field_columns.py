"""The values of a field in many names: distinct values, and which of them each name has. Pure.

100,000 names hold three channels: what is done per distinct text, and not per name, costs nothing.
Numbers are mostly distinct and converted at once; this and runs of equal texts halve the time of
reading 100,000 names and save 80 MB.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np

from intake_tiffstack.natural_sort import natural_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from intake_tiffstack.pattern.fields import Kind

__all__ = ["NumberColumn", "Numbers", "Reading", "TextColumn"]


class Numbers(Sequence[int]):
    """Integers as Python's, in an array: a fifth of the memory of a list of them.

    >>> numbers = Numbers(np.array([3, 5]))
    >>> numbers[1], list(numbers), len(numbers)
    (5, [3, 5], 2)
    """

    __hash__ = None  # type: ignore[assignment]  # equal to lists of the same integers

    def __init__(self, array: NDArray[np.int64]) -> None:
        self.array = array
        """The integers, shape (n,)."""

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[int]:
        return iter(self.array.tolist())

    @overload
    def __getitem__(self, index: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> int | list[int]:
        found: int | list[int] = self.array[index].tolist()
        return found

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented


@dataclass(frozen=True, eq=False)
class Reading:
    """The values of one field in many names."""

    #: Distinct values; numbers and times ascend, text is in natural order.
    keys: Sequence[Any]
    #: Index in ``keys`` of the value of each name, shape (n_names,).
    codes: NDArray[np.signedinteger[Any]]

    @property
    def values(self) -> list[Any]:
        """The value in each name."""
        keys = list(self.keys)
        return [keys[code] for code in self.codes.tolist()]

    def take(self, rows: NDArray[np.intp]) -> Reading:
        """Return the values in the names at *rows*."""
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        if isinstance(self.keys, Numbers):
            return Reading(Numbers(self.keys.array[used]), codes)
        return Reading([self.keys[code] for code in used.tolist()], codes)


class _Column:
    """The texts of one field, taken block by block as numbers, one per run of equal texts."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[Any]] = []
        self._counts: list[int] = []

    def add(self, texts: Sequence[Any]) -> None:
        """Add the texts of further names, at least one; None where a name has no such part."""
        self._add(self.encode(texts), len(texts))

    def add_parts(self, parts: Sequence[tuple[NDArray[np.intp], NDArray[Any]]], count: int) -> None:
        """Add *count* further names: the rows of each part, and their texts by :meth:`encode`."""
        if len(parts) == 1 and len(parts[0][1]) == 1:
            self._add(parts[0][1], count)
            return
        encoded = np.concatenate([np.broadcast_to(own, len(rows)) for rows, own in parts])
        in_order = np.empty_like(encoded)
        in_order[np.concatenate([rows for rows, _ in parts])] = encoded
        is_same = (in_order == in_order[0]).all()
        self._add(in_order[:1].copy() if is_same else in_order, count)

    def _add(self, encoded: NDArray[Any], count: int) -> None:
        self._blocks.append(encoded)
        self._counts.append(count)

    def encode(self, texts: Sequence[Any]) -> NDArray[Any]:
        """Return what stands for each text; one where all are equal."""
        is_same = texts.count(texts[0]) == len(texts)  # true of most fields of sorted names
        return self._encode(texts[:1] if is_same else texts)

    def _encode(self, texts: Sequence[Any]) -> NDArray[Any]:
        raise NotImplementedError

    def _spread(self, places: NDArray[Any]) -> NDArray[np.int32]:
        """Return the place of each name; one number in memory where all have the same."""
        short, count = places.astype(np.int32, copy=False), sum(self._counts)
        if (short == short[0]).all():
            return np.broadcast_to(short[0], count)
        if len(short) == count:
            return short
        sizes = np.array([len(block) for block in self._blocks])
        return np.repeat(short, np.repeat(np.array(self._counts) // sizes, sizes))


class NumberColumn(_Column):
    """Integers that each name has; a number stands for itself."""

    def _encode(self, texts: Sequence[str]) -> NDArray[Any]:
        return _integers(map(int, texts))

    def reading(self) -> Reading:
        """Return the distinct numbers and which of them each name has."""
        keys, places = _distinct(np.concatenate(self._blocks))
        known = Numbers(keys) if keys.dtype == np.int64 else keys.tolist()
        return Reading(known, self._spread(places))


class TextColumn(_Column):
    """Texts of which each distinct one is converted once.

    >>> column = TextColumn()
    >>> column.add(("b", "a", "b"))
    >>> column.texts, column.codes
    (['b', 'a'], array([0, 1, 0], dtype=int32))
    """

    def __init__(self) -> None:
        super().__init__()
        self._code_of: defaultdict[Any, int] = defaultdict()
        self._code_of.default_factory = self._code_of.__len__  # a new text gets the next number

    def _encode(self, texts: Sequence[Any]) -> NDArray[np.int32]:
        return np.fromiter(map(self._code_of.__getitem__, texts), np.int32, len(texts))

    @property
    def texts(self) -> list[Any]:
        """The distinct texts, in the order in which they were first seen."""
        return list(self._code_of)

    @property
    def codes(self) -> NDArray[np.int32]:
        """Index in ``texts`` of the text of each name, shape (n_names,)."""
        return self._spread(np.concatenate(self._blocks))

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
            keys = list(found) if kind in ("time", "duration") else found.tolist()
        return Reading(keys, self._spread(places[np.concatenate(self._blocks)]))


def _distinct(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the distinct integers, ascending, and the place of each value among them.

    Numbers that lie close together, or a step apart, are counted: half of the time and memory of
    sorting them.

    Examples
    --------
    >>> keys, places = _distinct(np.array([700, 500, 700, 900]))
    >>> keys.tolist(), places.tolist()
    ([500, 700, 900], [1, 0, 1, 2])
    """
    first, last = int(values.min()), int(values.max())
    step, most = 1, 4 * len(values)
    if values.dtype != object and most < last - first < 2**62:
        step = int(np.gcd.reduce(values - first))
    if values.dtype == object or last - first > most * step:
        found, places = np.unique(values, return_inverse=True)
        return found, places
    steps = (values - first) // step
    is_there = np.zeros((last - first) // step + 1, bool)
    is_there[steps] = True
    return np.flatnonzero(is_there) * step + first, (np.cumsum(is_there, dtype=np.int32) - 1)[steps]


def _integers(values: Iterable[int]) -> NDArray[Any]:
    """Return integers of any size; NumPy would make floats of those beyond 64 bits."""
    listed = list(values)
    try:
        return np.array(listed, dtype=np.int64)
    except OverflowError:
        return np.array(listed, dtype=object)
