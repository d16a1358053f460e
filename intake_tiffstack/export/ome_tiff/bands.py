"""The order in which the pixels of a TIFF are written, and the bands that are read for it. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from numpy.typing import NDArray

from intake_tiffstack.export.planned_array import Slices

__all__ = ["cut_in_order", "find_bands", "split_into_tiles"]


def cut_in_order(
    shape: Sequence[int], itemsize: int, *, unit: int, row_axis: int, most_bytes: int
) -> tuple[int, ...]:
    """Return the extent of bands that follow each other in C order. Pure.

    A band holds whole pages along the innermost dims that fit, or rows of one page.

    Parameters
    ----------
    shape : sequence of int
    itemsize : int
        Of the array, in bytes per element.
    unit : int
        Rows that are never cut: a band holds a multiple of them, or all that are left.
    row_axis : int
        Index of the dim of rows; those after it are never cut.
    most_bytes : int
        Size that a band has at most, unless one unit of rows is larger.

    Examples
    --------
    >>> cut_in_order((9, 4, 512, 512), 2, unit=256, row_axis=2, most_bytes=2**22)
    (2, 4, 512, 512)
    >>> cut_in_order((9, 4, 5000, 5000), 2, unit=512, row_axis=2, most_bytes=2**25)
    (1, 1, 3072, 5000)
    """
    lengths = list(shape)
    for axis in range(row_axis + 1):
        step = unit if axis == row_axis else 1
        inner = prod(shape[axis + 1 :]) * itemsize
        lengths[axis] = min(max(most_bytes // inner // step * step, step), shape[axis])
        if inner * step <= most_bytes:
            break
    return tuple(lengths)


def find_bands(shape: Sequence[int], lengths: Sequence[int]) -> Iterator[Slices]:
    """Yield the bands of an array in C order. Pure.

    >>> [[(s.start, s.stop) for s in band] for band in find_bands((1, 5), (1, 3))]
    [[(0, 1), (0, 3)], [(0, 1), (3, 5)]]
    """
    starts = (range(0, n, length) for n, length in zip(shape, lengths, strict=True))
    for at in itertools.product(*starts):
        yield tuple(slice(a, min(a + k, n)) for a, k, n in zip(at, lengths, shape, strict=True))


def split_into_tiles(band: NDArray[Any], tile: tuple[int, int], row_axis: int) -> Iterator[Any]:
    """Yield the tiles of a band in the order of a TIFF: page by page, row by row. Pure."""
    pages = band.reshape(-1, *band.shape[row_axis:])
    for page in pages:
        for y in range(0, page.shape[0], tile[0]):
            for x in range(0, page.shape[1], tile[1]):
                yield page[y : y + tile[0], x : x + tile[1]]
