"""How a Zarr copy is cut: its chunks and shards, and the blocks written into them. Pure."""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

from intake_tiffstack.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["align_chunks", "choose_zarr_chunks", "resolve_chunks"]

_PAGE_DIMS = frozenset({"y", "x", "sample"})
_MOST_CHUNK_BYTES = 2**31 - 1 - 16  # what Blosc takes
_AIM_BYTES = 4_000_000  # encodes and writes faster than 16 MB, and is one request to read


def choose_zarr_chunks(shape: Sequence[int], itemsize: int, page_ndim: int) -> tuple[int, ...]:
    """Return the chunks of a Zarr copy: 1 to 4 MB each, cut along the edges of pages.

    A chunk holds whole pages, as many as fit along the innermost dims outside the page; a page
    that is larger than a chunk is halved along its longest edge until a part fits. Only an array
    that is smaller than 1 MB as a whole has smaller chunks. Pure.

    Parameters
    ----------
    shape
        Of the array; the page dims come last.
    itemsize
        Bytes an element.
    page_ndim
        How many of the last dims make a page (2 for ``y x``, 3 for ``y x sample``).

    Returns
    -------
    tuple of int
        One length a dim, never 0, never beyond the dim unless the dim is empty.

    Examples
    --------
    >>> choose_zarr_chunks((3, 199, 32, 512, 512), itemsize=2, page_ndim=2)
    (1, 1, 4, 512, 512)
    >>> choose_zarr_chunks((201, 768, 1024), itemsize=2, page_ndim=2)
    (1, 768, 1024)
    >>> choose_zarr_chunks((5, 4096, 4096), itemsize=2, page_ndim=2)
    (1, 1024, 1024)
    >>> choose_zarr_chunks((10, 20, 64, 64), itemsize=1, page_ndim=2)
    (10, 20, 64, 64)
    """
    outer = max(len(shape) - page_ndim, 0)
    chunks = [1] * outer + [max(size, 1) for size in shape[outer:]]
    while prod(chunks) * itemsize > _AIM_BYTES:
        longest = chunks.index(max(chunks))
        chunks[longest] = ceil(chunks[longest] / 2)
    for axis in reversed(range(outer)):
        chunks[axis] = _even_part(shape[axis], _AIM_BYTES // (prod(chunks) * itemsize))
        if chunks[axis] < shape[axis]:
            break
    return tuple(chunks)


def _even_part(size: int, most: int) -> int:
    """Return a part of at most *most* that cuts *size* evenly.

    The chunk at the edge is stored as a whole one, so a ragged cut costs encoding and space.

    >>> _even_part(32, 7), _even_part(199, 7), _even_part(3, 7)
    (4, 7, 3)
    """
    if size <= most:
        return max(size, 1)
    halfway = ceil(most / 2)
    balanced = ceil(size / ceil(size / most))
    return next((part for part in range(most, halfway - 1, -1) if size % part == 0), balanced)


def align_chunks(
    chunks: Iterable[Sequence[int]], unit: Iterable[int]
) -> tuple[tuple[int, ...], ...]:
    """Return dask chunks near the given ones whose inner edges all lie on multiples of *unit*.

    Each edge moves to the nearest multiple, so that blocks exchange no more than their rims, and
    two blocks never share a chunk (or shard) of the target. Chunks that are aligned already come
    back as they are. Pure.

    Parameters
    ----------
    chunks
        Of a dask array: a sequence of lengths a dim.
    unit
        Shape of what is written as a whole: the shard where there is one, else the chunk.

    Returns
    -------
    tuple of tuple of int
        Chunks of the same shape.

    Examples
    --------
    >>> align_chunks([(7, 7, 6)], [4])
    ((8, 8, 4),)
    >>> align_chunks([(1, 1, 1, 1, 1)], [2])
    ((2, 2, 1),)
    """
    return tuple(_align(sizes, step) for sizes, step in zip(chunks, unit, strict=True))


def _align(sizes: Sequence[int], step: int) -> tuple[int, ...]:
    """Return the lengths between the edges of *sizes*, each moved to a multiple of *step*."""
    end = sum(sizes)
    snapped = {(edge + step // 2) // step * step for edge in accumulate(sizes)}
    edges = [0, *sorted(edge for edge in snapped if 0 < edge < end), end]
    return tuple(stop - start for start, stop in pairwise(edges))


def resolve_chunks(
    shape: tuple[int, ...],
    itemsize: int,
    dims: tuple[str, ...],
    chunks: Sequence[int] | None,
    shards: Sequence[int] | None,
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the chunks and shards of a copy, chosen where they are not given. Pure.

    Parameters
    ----------
    shape, itemsize, dims
        Of the array; ``y``, ``x`` and ``sample`` make the page, wherever they stand.
    chunks, shards
        As given; None for chosen chunks, and for no shards.

    Raises
    ------
    OptionError
        If one has a wrong length or a number below 1, a chunk is too large to be compressed, or
        shards are no multiple of chunks.

    Examples
    --------
    >>> resolve_chunks((32, 512, 512), 2, ("z", "y", "x"), None, (32, 512, 512))
    ((4, 512, 512), (32, 512, 512))
    """
    whole = None if shards is None else _checked("shards", shards, shape)
    if chunks is not None:
        parts = _checked("chunks", chunks, shape)
        nbytes = prod(parts) * itemsize
        if nbytes > _MOST_CHUNK_BYTES:
            raise OptionError(f"a chunk must hold less than 2 GiB, but got {nbytes:,} bytes")
        if whole is not None and any(n % part for n, part in zip(whole, parts, strict=True)):
            raise OptionError(f"shards must be a multiple of chunks {parts}, but got {whole}")
        return parts, whole
    order = sorted(range(len(dims)), key=lambda axis: dims[axis] in _PAGE_DIMS)  # page dims last
    page_ndim = sum(dim in _PAGE_DIMS for dim in dims)
    chosen = choose_zarr_chunks([shape[axis] for axis in order], itemsize, page_ndim)
    parts = tuple(chosen[order.index(axis)] for axis in range(len(dims)))
    if whole is not None:
        parts = tuple(_largest_divisor(n, part) for n, part in zip(whole, parts, strict=True))
    return parts, whole


def _checked(option: str, lengths: Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return *lengths* if they are one whole number above 0 a dim."""
    if len(lengths) != len(shape) or not all(
        isinstance(length, (int, np.integer)) and length > 0 for length in lengths
    ):
        raise OptionError(
            f"{option} must be {len(shape)} whole numbers above 0, one for each of {shape}, "
            f"but got {lengths!r}"
        )
    return tuple(int(length) for length in lengths)


def _largest_divisor(size: int, most: int) -> int:
    """Return the largest divisor of *size* that is not above *most*."""
    return next(part for part in range(min(size, most), 0, -1) if size % part == 0)
