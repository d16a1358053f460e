"""A NumPy index as ascending ranges to read, and what is left to do with the block. Pure."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Index", "normalize_index"]


@dataclass(frozen=True)
class Index:
    """A NumPy index as ascending ranges to read, and what is left to do in memory."""

    ranges: tuple[range, ...]
    """What to read along each dim."""
    after: tuple[Any, ...]
    """One more index for what was read: reverses, drops, picks and new axes."""

    def finish(self, block: Any) -> Any:
        """Return the block as the index asked for it; *block* is of any array library."""
        for place, positions in enumerate(self.after):
            if isinstance(positions, np.ndarray):  # one dim at a time: a product, as dask has it
                axis = sum(a is not None for a in self.after[:place])
                block = block[(*[slice(None)] * axis, positions.tolist())]
        basic = tuple(slice(None) if isinstance(a, np.ndarray) else a for a in self.after)
        return block if all(a == slice(None) for a in basic) else block[basic]


def normalize_index(key: Any, shape: tuple[int, ...]) -> Index:
    """Return an index as ranges to read and an index of what was read. Pure.

    >>> normalize_index((3, slice(None, None, -2)), (5, 4)).ranges
    (range(3, 4), range(1, 4, 2))
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    used = sum(p is not None and p is not Ellipsis for p in parts)
    if used > len(shape):
        raise IndexError(f"too many indices: the array has {len(shape)} dims, {used} were indexed")
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(parts)
    parts[at : at + 1] = [slice(None)] * (len(shape) - used)
    ranges: list[range] = []
    after: list[Any] = []
    for part in parts:
        if part is None:
            after.append(None)
            continue
        wanted, rest = _normalize_part(part, shape[len(ranges)], len(ranges))
        ranges.append(wanted)
        after.append(rest)
    return Index(tuple(ranges), tuple(after))


def _normalize_part(part: Any, size: int, axis: int) -> tuple[range, Any]:
    """Return the ascending range of one dim, and how to index what it gives."""
    if isinstance(part, slice):
        chosen = range(size)[part]
        if len(chosen) == 0:
            return range(0), slice(None)
        first, last = sorted((chosen[0], chosen[-1]))
        order = slice(None) if chosen.step > 0 else slice(None, None, -1)
        return range(first, last + 1, abs(chosen.step)), order
    if isinstance(part, list) or (isinstance(part, np.ndarray) and part.ndim):
        return _normalize_list(np.asarray(part), size, axis)
    try:
        if isinstance(part, bool | np.bool_):  # an integer to Python, a new axis to NumPy
            raise TypeError
        position = operator.index(part)
    except TypeError:
        raise IndexError(
            f"axis {axis} takes integers, slices or a list of integers, but got {part!r}"
        ) from None
    position = _normalize_integer(position, size, axis)
    return range(position, position + 1), 0


def _normalize_list(positions: NDArray[Any], size: int, axis: int) -> tuple[range, Any]:
    """Return the shortest ascending range that holds all positions, and what to pick of it."""
    if positions.dtype == bool:
        if positions.shape != (size,):
            raise IndexError(f"boolean index of {positions.shape} for axis {axis} of {size}")
        positions = np.flatnonzero(positions)
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        raise IndexError(f"axis {axis} takes integers, slices or a list of integers")
    if not positions.size:
        return range(0), slice(None)
    positions = np.array([_normalize_integer(int(p), size, axis) for p in positions], np.intp)
    low = int(positions.min())
    step = int(np.gcd.reduce(positions - low)) or 1
    return range(low, int(positions.max()) + 1, step), (positions - low) // step


def _normalize_integer(position: int, size: int, axis: int) -> int:
    if not -size <= position < size:
        raise IndexError(f"index {position} is out of bounds for axis {axis} with size {size}")
    return position % size
