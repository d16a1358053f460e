"""Many texts in one piece of memory, and what can be done with all of them at once. Pure.

A million names of 90 characters are a million objects of 140 bytes; here they are 100 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PackedTexts", "number_rows"]

_BLOCK = 4096
"""Texts that are looked at together: what belongs to them stays in the caches."""

_MOST_NUMBERS = 16
"""Of names that differ at more places, as a few very long ones do, numbers would be larger."""

_ANY = "surrogatepass"
"""How names are encoded that hold bytes which are not UTF-8: their order stays as it is."""


class PackedTexts(Sequence[str]):
    """Texts of any kind, made by :meth:`of`; an item is a text, a slice is of this class.

    >>> texts = PackedTexts.of(["b.tif", "a.tif", "a1.tif"], start="/raw/")
    >>> texts[0], list(texts[1:]), texts.order().tolist()
    ('/raw/b.tif', ['/raw/a.tif', '/raw/a1.tif'], [1, 2, 0])
    """

    __hash__ = None  # type: ignore[assignment]  # equal to lists and tuples of the same texts

    def __init__(
        self,
        start: str,
        content: bytes | bytearray,
        places: NDArray[np.int64],
        lengths: NDArray[np.int32],
    ) -> None:
        self.start = start
        """What all texts begin with."""
        self._content = content  # UTF-8; tables of the same files share it
        self._places = places
        self._lengths = lengths

    @classmethod
    def of(cls, texts: Iterable[str], start: str = "") -> PackedTexts:
        """Return *texts*, each with *start* in front of it."""
        if isinstance(texts, cls) and not start:
            return texts
        content = bytearray()
        lengths = [np.empty(0, np.int32)]
        left = iter(texts)
        while block := list(islice(left, _BLOCK)):
            joined = "".join(block)
            encoded = block if joined.isascii() else [text.encode(errors=_ANY) for text in block]
            content += joined.encode(errors=_ANY)
            lengths.append(np.fromiter(map(len, encoded), np.int32, len(block)))
        sizes = np.concatenate(lengths)
        places = np.cumsum(sizes, dtype=np.int64)
        places -= sizes
        return cls(start, content, places, sizes)

    @classmethod
    def join(cls, parts: Sequence[PackedTexts]) -> PackedTexts:
        """Return the texts of one after those of another."""
        if len(parts) == 1:
            return parts[0]
        start = commonprefix([part.start for part in parts])  # noqa: RUF071 - by character
        cut = len(start)
        return cls.of((text[cut:] for text in chain.from_iterable(parts)), start)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: SupportsIndex | slice) -> str | Self:
        if isinstance(index, slice):
            return self._at(index)
        place = int(self._places[index])
        text = self._content[place : place + int(self._lengths[index])]
        return self.start + text.decode(errors=_ANY)

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _BLOCK):
            texts = [""] * min(_BLOCK, len(self) - first)
            for rows, matrix in self.matrices(first, first + _BLOCK):
                for row, text in zip((rows - first).tolist(), _texts_of(matrix), strict=True):
                    texts[row] = self.start + text
            yield from texts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedTexts | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(map(str.__eq__, self, other))

    def __repr__(self) -> str:
        return f"<PackedTexts: {len(self)}, {self.common_prefix!r}...>"

    def __reduce__(self) -> tuple[Any, ...]:
        start = self.start
        return PackedTexts.of, ([text[len(start) :] for text in self], start)

    def take(self, rows: ArrayLike) -> Self:
        """Return the texts at *rows*, in that order."""
        return self._at(np.asarray(rows, np.intp))

    def _at(self, rows: NDArray[np.intp] | slice) -> Self:
        return type(self)(self.start, self._content, self._places[rows], self._lengths[rows])

    def may_hold(self, part: str) -> bool:
        """Return False only if *part* is inside none of the texts."""
        is_across = any(self.start.endswith(part[:at]) for at in range(1, len(part)))
        code = part.encode(errors=_ANY)
        is_inside = code[:1] in self._content and code in self._content  # one is found faster
        return part in self.start or is_across or is_inside

    @cached_property
    def common_prefix(self) -> str:
        """The text that all begin with; it may end inside a name."""
        if not len(self):
            return ""
        first = np.frombuffer(self[0].removeprefix(self.start).encode(errors=_ANY), np.uint8)
        same = min(len(first), int(self._lengths.min()))
        for _, matrix in self._all_matrices():
            differs = (matrix[:, :same] != first[:same]).any(axis=0)
            same = int(differs.argmax()) if differs.any() else same
        while same < len(first) and first[same] & 0xC0 == 0x80:  # inside a character
            same -= 1
        return self.start + first[:same].tobytes().decode(errors=_ANY)

    def matrices(
        self, first: int, last: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        """Yield the texts from row *first* to *last*, those of one length in UTF-8 together.

        Each comes as rows and their bytes without ``start``, shape (n_rows, length).
        """
        lengths, places = self._lengths[first:last], self._places[first:last]
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            if not length:
                yield first + rows, np.empty((len(rows), 0), np.uint8)
                continue
            windows = np.ndarray(  # overlapping; one is copied at once
                (len(self._content) - length + 1,), f"V{length}", self._content, strides=(1,)
            )
            yield first + rows, windows[places[rows]].view(np.uint8).reshape(-1, length)

    def _all_matrices(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        for first in range(0, len(self), _BLOCK):
            yield from self.matrices(first, first + _BLOCK)

    def order(self) -> NDArray[np.intp]:
        """Return the rows in the order of their texts, equal ones as they stand.

        Only where texts differ they are compared, as numbers, and only as far as needed.
        """
        width = int(self._lengths.max(initial=0))
        low, high = np.full(width, 255, np.uint8), np.zeros(width, np.uint8)
        for _, matrix in self._all_matrices():
            length = matrix.shape[1]
            np.minimum(low[:length], matrix.min(axis=0), out=low[:length])
            np.maximum(high[:length], matrix.max(axis=0), out=high[:length])
            low[length:] = 0  # a text comes before those that go on
        pieces = _split_columns(low, high)
        if len(pieces) > _MOST_NUMBERS:
            texts = list(self)
            return np.array(sorted(range(len(texts)), key=texts.__getitem__), np.intp)
        keys: list[NDArray[Any]] = []
        while len(keys) < len(pieces):
            more = pieces[len(keys) : 2 * len(keys) or 1]
            found = [np.zeros(len(self), np.int64) for _ in more]
            for rows, matrix in self._all_matrices():
                for columns, key in zip(more, found, strict=True):
                    inside = columns[columns < matrix.shape[1]]
                    key[rows] = _number_rows(matrix, inside, low, high)
                    for column in columns[len(inside) :].tolist():
                        key[rows] *= int(high[column]) + 1
            keys += found
            order = np.lexsort(tuple(reversed(keys)))
            if not _has_equal(keys, order):
                return order
        # by length where one text is the other and zeros
        return np.lexsort((self._lengths, *reversed(keys)))


def number_rows(
    matrix: NDArray[np.uint8], low: NDArray[np.uint8], high: NDArray[np.uint8]
) -> list[NDArray[np.int64]]:
    """Return numbers of rows that are in their order, and equal if and only if the rows are. Pure.

    Parameters
    ----------
    matrix : ndarray of uint8, shape (n_rows, n_columns)
        The rows.
    low, high : ndarray of uint8, shape (n_columns,)
        Bounds of each column, both included.

    Returns
    -------
    list of ndarray of int64, shape (n_rows,)
        The numbers; where one per row is not enough, the first of them counts most.

    Examples
    --------
    >>> matrix = np.frombuffer(b"a9xb0xa1x", np.uint8).reshape(3, 3)
    >>> number_rows(matrix, matrix.min(axis=0), matrix.max(axis=0))
    [array([ 9, 10,  1])]
    """
    return [_number_rows(matrix, piece, low, high) for piece in _split_columns(low, high)]


def _split_columns(low: NDArray[np.uint8], high: NDArray[np.uint8]) -> list[NDArray[np.intp]]:
    """Return the columns that vary, in pieces whose characters one number of 64 bits can hold."""
    pieces: list[list[int]] = []
    room = 0
    for column in np.flatnonzero(low < high).tolist():
        base = int(high[column]) - int(low[column]) + 1
        if room < base:
            pieces.append([])
            room = 2**63
        pieces[-1].append(column)
        room //= base
    return [np.array(piece, np.intp) for piece in pieces]


def _number_rows(
    matrix: NDArray[np.uint8],
    columns: NDArray[np.intp],
    low: NDArray[np.uint8],
    high: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """Return the number whose digits are the characters of each row in *columns*."""
    numbers = np.zeros(len(matrix), np.int64)
    for column in columns.tolist():
        numbers *= int(high[column]) - int(low[column]) + 1
        numbers += matrix[:, column]
        numbers -= int(low[column])
    return numbers


def _has_equal(keys: Sequence[NDArray[Any]], order: NDArray[np.intp]) -> bool:
    """Return whether two rows have the same keys; *order* is theirs."""
    is_equal = np.ones(max(len(order) - 1, 0), bool)
    for key in keys:
        in_order = key[order]
        is_equal &= in_order[1:] == in_order[:-1]
    return bool(is_equal.any())


def _texts_of(matrix: NDArray[np.uint8]) -> Iterable[str]:
    """Return the text in each row."""
    content, (count, length) = matrix.tobytes(), matrix.shape
    cuts = range(0, max(len(content), 1), max(length, 1))
    if not length:
        return [""] * count
    if content.isascii():
        text = content.decode()
        return [text[at : at + length] for at in cuts]
    return [content[at : at + length].decode(errors=_ANY) for at in cuts]
