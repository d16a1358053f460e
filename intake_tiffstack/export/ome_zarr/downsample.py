"""Downsampling of blocks by whole factors, in the same dtype. Pure.

A remainder at an end becomes a pixel too, computed from the pixels that exist.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.passes import Reduce

__all__ = ["Method", "find_reduce", "take_mean", "take_mode", "take_nearest"]

Method = Literal["mean", "nearest", "mode"]

Factors = tuple[int, ...]

TILE_BYTES = 2**19
"""Size of a tile; its working set stays in the cache of a core."""


def find_reduce(method: Method) -> Reduce:
    """Return the function that makes blocks smaller.

    Raises
    ------
    OptionError
        If the method is unknown.
    """
    if method not in tuple(_METHODS):  # unhashable values too
        raise OptionError(
            f"downsample must be {', '.join(map(repr, _METHODS))}, but got {method!r}"
        )
    return _METHODS[method]


def take_nearest(block: NDArray[Any], factors: Factors) -> NDArray[Any]:
    """Return the first pixel of each cell. Pure.

    >>> take_nearest(np.arange(10).reshape(2, 5), (2, 2))
    array([[0, 2, 4]])
    """
    return np.ascontiguousarray(block[tuple(slice(None, None, f) for f in factors)])


def take_mean(block: NDArray[Any], factors: Factors) -> NDArray[Any]:
    """Return the mean of each cell, halves rounded to even. Pure.

    Exact for every integer. Floats are summed in at least double precision, and a NaN makes its
    cell NaN; a boolean cell becomes its majority.

    >>> take_mean(np.array([[0, 1, 2], [0, 1, 3]], np.uint8), (2, 2))
    array([[0, 2]], dtype=uint8)
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of infinities: inf - inf is NaN
        return _by_parts(block, factors, _fill_with_means)


def take_mode(block: NDArray[Any], factors: Factors) -> NDArray[Any]:
    """Return the most frequent value of each cell, the least of several. Pure.

    >>> take_mode(np.array([[7, 5, 5, 0], [7, 7, 0, 5]]), (2, 2))
    array([[7, 0]])
    """
    return _by_parts(block, factors, _fill_with_modes)


_METHODS: dict[Method, Reduce] = {"mean": take_mean, "nearest": take_nearest, "mode": take_mode}


_Fill = Callable[[NDArray[Any], Factors, NDArray[Any]], None]
"""Fills the last argument with what cells of one size become."""


def _by_parts(block: NDArray[Any], factors: Factors, fill: _Fill) -> NDArray[Any]:
    """Return the reduced block; *fill* gets whole cells of one size at a time."""
    out = np.empty([-(-n // f) for n, f in zip(block.shape, factors, strict=True)], block.dtype)
    cuts = [list(_cut(n, f)) for n, f in zip(block.shape, factors, strict=True)]
    for parts in itertools.product(*cuts):
        taken, into, sizes = zip(*parts, strict=True)
        if math.prod(sizes) == 1:
            out[into] = block[taken]
        else:
            fill(block[taken], sizes, out[into])
    return out


def _cut(size: int, factor: int) -> Iterator[tuple[slice, slice, int]]:
    """Yield the whole cells along a dim and the rest: what is taken, where it goes, cell size."""
    count, rest = divmod(size, factor)
    if count:
        yield slice(0, count * factor), slice(0, count), factor
    if rest:
        yield slice(count * factor, size), slice(count, count + 1), rest


def _tiles(block: NDArray[Any], factors: Factors) -> Iterator[tuple[slice, ...]]:
    """Yield the tiles of the result; each is computed from about TILE_BYTES."""
    shape = [n // f for n, f in zip(block.shape, factors, strict=True)]
    left = TILE_BYTES // (block.itemsize * math.prod(factors))
    lengths = [1] * len(shape)
    for axis in reversed(range(len(shape))):
        lengths[axis] = min(shape[axis], max(left, 1))
        left //= lengths[axis]
    starts = [range(0, n, length) for n, length in zip(shape, lengths, strict=True)]
    for place in itertools.product(*starts):
        yield tuple(
            slice(a, min(a + length, n)) for a, length, n in zip(place, lengths, shape, strict=True)
        )


def _source_of(tile: tuple[slice, ...], factors: Factors) -> tuple[slice, ...]:
    return tuple(slice(s.start * f, s.stop * f) for s, f in zip(tile, factors, strict=True))


# -- mean ----------------------------------------------------------------------------------------


def _fill_with_means(block: NDArray[Any], factors: Factors, out: NDArray[Any]) -> None:
    """Fill *out* with the mean of whole cells."""
    if block.dtype.kind in "iu" and block.itemsize == 8:
        for tile in _tiles(block, factors):
            _mean_of_wide(block[_source_of(tile, factors)], factors, out[tile])
        return
    pixels = block.view(np.uint8) if block.dtype.kind == "b" else block
    buffers: list[NDArray[Any]] = []
    for tile in _tiles(block, factors):
        part = pixels[_source_of(tile, factors)]
        if not buffers or buffers[-1].shape != out[tile].shape:
            buffers = _make_buffers(part, factors)
        _mean_of_tile(part, factors, buffers, out[tile])


def _has_pairs(tile: NDArray[Any], factors: Factors) -> bool:
    """Return whether two neighbours of the last dim can be read as one number of twice the size."""
    bits = 8 * tile.itemsize
    return (
        tile.dtype.kind == "u"
        and tile.dtype.isnative
        and factors[-1] == 2
        and tile.strides[-1] == tile.itemsize
        and _sum_bits(tile, factors) <= 2 * bits <= 32
    )


def _sum_bits(tile: NDArray[Any], factors: Factors) -> int:
    """Return the size of an integer that holds the sum of a cell, and a carry."""
    return 8 * tile.itemsize + (math.prod(factors) - 1).bit_length() + 1


def _make_buffers(tile: NDArray[Any], factors: Factors) -> list[NDArray[Any]]:
    """Return the arrays for the sums along each dim, and one more of the last one's shape."""
    shape, buffers = list(tile.shape), []
    if _has_pairs(tile, factors):
        dtype = np.dtype(f"u{2 * tile.itemsize}")
        shape[-1] //= 2
        factors = (*factors[:-1], 1)
        buffers = [np.empty(shape, dtype), np.empty(shape, dtype)]
    elif tile.dtype.kind in "fc":
        dtype = np.result_type(tile.dtype, np.float64)
    else:  # signed: that is quicker
        dtype = np.dtype(np.int32 if _sum_bits(tile, factors) < 32 else np.int64)
    for axis, factor in enumerate(factors):
        if factor > 1:
            shape[axis] //= factor
            buffers.append(np.empty(shape, dtype))
    return [*buffers, np.empty(shape, dtype)]


def _mean_of_tile(
    tile: NDArray[Any], factors: Factors, buffers: Sequence[NDArray[Any]], out: NDArray[Any]
) -> None:
    """Fill *out* with the mean of whole cells, by way of the buffers."""
    sums, rest, count = tile, buffers[-1], math.prod(factors)
    free = iter(buffers)
    if _has_pairs(tile, factors):
        sums = _add_pairs(tile, next(free), next(free))
        factors = (*factors[:-1], 1)
    for axis, factor in enumerate(factors):
        if factor > 1:
            sums = _add_along(sums, axis, factor, next(free))
    if sums.dtype.kind in "fc":
        np.divide(sums, count, out=out, casting="same_kind")
        return
    shift = count.bit_length() - 1
    if count == 1 << shift:  # half up, but that an even number stays: (s + n/2 - 1 + odd) >> k
        np.right_shift(sums, shift, out=rest)
        rest &= 1
        rest += count // 2 - 1
        sums += rest
        np.right_shift(sums, shift, out=out, casting="unsafe")
        return
    np.divmod(sums, count, out=(sums, rest))
    np.copyto(out, _round_half_even(sums, rest, count), casting="unsafe")


def _mean_of_wide(tile: NDArray[Any], factors: Factors, out: NDArray[Any]) -> None:
    """Fill *out* with the mean of 64-bit integers, whose sum no integer holds."""
    count = math.prod(factors)
    quotients, rests = np.divmod(tile, tile.dtype.type(count))
    for axis, factor in enumerate(factors):
        if factor > 1:
            quotients = _add_along(quotients, axis, factor)
            rests = _add_along(rests, axis, factor)
    more, rest = np.divmod(rests, tile.dtype.type(count))
    np.copyto(out, _round_half_even(quotients + more, rest, count))


def _add_pairs(tile: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return the sums of pairs along the last dim, in *low*; every second element would be slow."""
    bits = 8 * tile.itemsize
    pairs = tile.view(low.dtype)
    np.bitwise_and(pairs, (1 << bits) - 1, out=low)
    np.right_shift(pairs, bits, out=high)
    np.add(low, high, out=low)
    return low


def _add_along(
    tile: NDArray[Any], axis: int, factor: int, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return the sums of neighbours along a dim, in the dtype of *out*."""
    lead = (slice(None),) * axis
    total: NDArray[Any]
    total, *others = (tile[(*lead, slice(i, None, factor))] for i in range(factor))
    for other in others:
        total = out = np.add(total, other, out=out, dtype=None if out is None else out.dtype)
    return total


def _round_half_even(quotient: NDArray[Any], rest: NDArray[Any], count: int) -> NDArray[Any]:
    is_up: NDArray[np.bool_] = (2 * rest > count) | ((2 * rest == count) & (quotient % 2 == 1))
    rounded: NDArray[Any] = np.add(quotient, is_up, dtype=quotient.dtype)
    return rounded


# -- mode ----------------------------------------------------------------------------------------


def _fill_with_modes(block: NDArray[Any], factors: Factors, out: NDArray[Any]) -> None:
    """Fill *out* with the most frequent value of whole cells."""
    for tile in _tiles(block, factors):
        out[tile] = _mode_of_cells(_members(block[_source_of(tile, factors)], factors))


def _members(tile: NDArray[Any], factors: Factors) -> list[NDArray[Any]]:
    """Return one array for each place in a cell."""
    places = itertools.product(*map(range, factors))
    return [
        tile[tuple(slice(i, None, f) for i, f in zip(place, factors, strict=True))]
        for place in places
    ]


def _mode_of_cells(members: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the most frequent of values that stand at one place, the least of several."""
    ordered = np.sort(np.stack(members), axis=0)
    best: NDArray[Any] = ordered[0].copy()
    most = np.ones(best.shape, np.intp)
    run = most.copy()
    for before, value in itertools.pairwise(ordered):
        run = np.where(value == before, run + 1, 1)
        is_more = run > most
        best[is_more] = value[is_more]
        np.maximum(most, run, out=most)
    return best
