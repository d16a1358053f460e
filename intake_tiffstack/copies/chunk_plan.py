"""Chunks and shards of a Zarr copy, and the blocks in which it is written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, lcm, prod
from typing import Literal

import numpy as np

from intake_tiffstack.arrays.chunks import AUTO_BYTES, ENOUGH_CHUNKS, SMALL_BYTES
from intake_tiffstack.errors import OptionError

Lengths = Sequence[int] | Mapping[str, int] | int
"""Lengths along the dims, in the forms a user may give."""

__all__ = [
    "Lengths",
    "choose_shards",
    "choose_zarr_chunks",
    "page_dims_last",
    "plan_blocks",
    "resolve_chunks",
]

_PAGE_DIMS = frozenset({"y", "x", "sample"})
_MOST_CHUNK_BYTES = 2**31 - 1 - 16  # what Blosc takes
_SHARD_BYTES = 64_000_000  # a task holds a shard as a whole; 2.5 TB are 40,000 of them
_AIM_BYTES = 4_000_000  # encodes and writes faster than 16 MB, and is one request to read


def choose_zarr_chunks(shape: Sequence[int], itemsize: int, page_ndim: int) -> tuple[int, ...]:
    """Return the chunks of a Zarr copy: 1 to 4 MB each, cut along the edges of pages.

    A chunk holds whole pages, as many as fit along the innermost dims outside the page; a page
    that is larger than a chunk is halved along its longest edge until a part fits. Only an array
    that is smaller than 1 MB as a whole has smaller chunks. Pure.

    Parameters
    ----------
    shape : sequence of int
        Of the array; the page dims come last.
    itemsize : int
        Bytes per element.
    page_ndim : int
        How many of the last dims make a page (2 for ``y x``, 3 for ``y x sample``).

    Returns
    -------
    tuple of int
        One length per dim, never 0, never beyond the dim unless the dim is empty.

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


def plan_blocks(
    shape: Sequence[int],
    itemsize: int,
    *,
    unit: Sequence[int],
    granule: Sequence[int],
    order: Sequence[int],
    most_bytes: int,
) -> tuple[tuple[int, ...], ...]:
    """Return the blocks a copy is made by, as lengths along each dim. Pure.

    Every edge between two blocks lies on a multiple of *unit*, so that no two blocks ever share a
    chunk (or shard) of the target: each would read it, change its part and write it back, and the
    later would undo the earlier without a word. Where *most_bytes* allows, edges also lie on
    multiples of *granule*, so that nothing is decoded twice.

    Parameters
    ----------
    shape : sequence of int
    itemsize : int
        Of the array.
    unit : sequence of int
        Shape of what is written as a whole: the shard where there is one, else the chunk.
    granule : sequence of int
        Extent along each dim of what the source must decode as a whole; 1 where it need not.
    order : sequence of int
        The dims from the one that varies slowest in the source; blocks grow from the last.
    most_bytes : int
        The most that a block holds, but for a unit that is larger by itself.

    Examples
    --------
    >>> plan_blocks((100, 512, 512), 2, unit=(1, 512, 512), granule=(1, 8, 512),
    ...             order=(0, 1, 2), most_bytes=2**27)[0]
    (8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 4)
    >>> plan_blocks((10, 60), 1, unit=(3, 20), granule=(1, 30), order=(0, 1), most_bytes=2**27)
    ((10,), (60,))
    """
    steps = [min(lcm(u, g), -(-n // u) * u) for n, u, g in zip(shape, unit, granule, strict=True)]
    for axis in order:  # what is decoded twice there is the least of it
        if prod(map(min, steps, shape)) * itemsize <= most_bytes:
            break
        others = prod(map(min, steps, shape)) // min(steps[axis], shape[axis]) * itemsize
        steps[axis] = max(most_bytes // others // unit[axis], 1) * unit[axis]
    aim = min(most_bytes, AUTO_BYTES, max(SMALL_BYTES, prod(shape) * itemsize // ENOUGH_CHUNKS))
    lengths = list(steps)
    for axis in reversed(order):
        fitting = aim // (prod(map(min, lengths, shape)) * itemsize)
        lengths[axis] *= min(max(fitting, 1), -(-shape[axis] // lengths[axis]))
        if lengths[axis] < shape[axis]:
            break
    return tuple(
        tuple(min(length, n - start) for start in range(0, n, length))
        for n, length in zip(shape, lengths, strict=True)
    )


def choose_shards(
    shape: Sequence[int], itemsize: int, chunks: Sequence[int], order: Sequence[int]
) -> tuple[int, ...]:
    """Return shards of at most 64 MB, or of one chunk if that is larger. Pure.

    Parameters
    ----------
    shape : sequence of int
    itemsize : int
        Of the array.
    chunks : sequence of int
        Of which a shard is a multiple along each dim.
    order : sequence of int
        The dims from the one that varies slowest; shards grow from the last.

    Examples
    --------
    >>> choose_shards((1000, 32, 512, 512), 2, (1, 4, 512, 512), (0, 1, 2, 3))
    (2, 32, 512, 512)
    >>> choose_shards((10, 100_000, 100_000), 1, (1, 1563, 1563), (0, 1, 2))
    (1, 1563, 25008)
    """
    lengths = list(chunks)
    for axis in reversed(order):
        count = ceil(shape[axis] / chunks[axis])
        lengths[axis] *= _even_part(count, max(_SHARD_BYTES // (prod(lengths) * itemsize), 1))
        if lengths[axis] < shape[axis]:
            break
    return tuple(lengths)


def resolve_chunks(
    shape: tuple[int, ...],
    itemsize: int,
    dims: tuple[str, ...],
    chunks: Lengths | None,
    shards: Lengths | Literal["auto"] | None,
    most_objects: int | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the chunks and shards of a copy, chosen where they are not given. Pure.

    Parameters
    ----------
    shape : tuple of int
    itemsize : int
    dims : tuple of str
        Of the array; ``y``, ``x`` and ``sample`` make the page, wherever they stand.
    chunks, shards : Lengths, optional
        One number per dim, by dim, or for all dims; -1 is the whole dim. None chooses chunks, and
        leaves shards out. Lengths of dims that are not named are chosen.
    most_objects : int, optional
        With ``shards="auto"``: number of chunks above which shards are chosen; None for never.

    Raises
    ------
    OptionError
        If one has a wrong length or a number below 1, a chunk is too large to be compressed, or
        shards are not a multiple of chunks.

    Examples
    --------
    >>> resolve_chunks((32, 512, 512), 2, ("z", "y", "x"), None, (32, 512, 512))
    ((4, 512, 512), (32, 512, 512))
    >>> resolve_chunks((32, 512, 512), 2, ("z", "y", "x"), {"z": 1, "x": -1}, None)
    ((1, 512, 512), None)
    """
    order = page_dims_last(dims)
    page_ndim = sum(dim in _PAGE_DIMS for dim in dims)
    chosen = choose_zarr_chunks([shape[axis] for axis in order], itemsize, page_ndim)
    parts = tuple(chosen[order.index(axis)] for axis in range(len(dims)))
    if chunks is not None:
        parts = _checked("chunks", chunks, shape, dims, parts)
        nbytes = prod(parts) * itemsize
        if nbytes > _MOST_CHUNK_BYTES:
            raise OptionError(f"a chunk must hold less than 2 GiB, but got {nbytes:,} bytes")
    if isinstance(shards, str) and shards == "auto":
        count = prod(ceil(n / part) for n, part in zip(shape, parts, strict=True))
        is_small = most_objects is None or count <= most_objects
        return parts, None if is_small else choose_shards(shape, itemsize, parts, order)
    if shards is None:
        return parts, None
    whole = _checked("shards", shards, shape, dims, parts)
    if chunks is None:
        parts = tuple(_largest_divisor(n, part) for n, part in zip(whole, parts, strict=True))
    elif any(n % part for n, part in zip(whole, parts, strict=True)):
        raise OptionError(f"shards must be a multiple of chunks {parts}, but got {whole}")
    return parts, whole


def page_dims_last(dims: Sequence[str]) -> list[int]:
    """Return the places of the dims, those of a page after all others. Pure.

    >>> page_dims_last(["y", "x", "t"])
    [2, 0, 1]
    """
    return sorted(range(len(dims)), key=lambda axis: dims[axis] in _PAGE_DIMS)


def _checked(
    option: str,
    lengths: Lengths,
    shape: tuple[int, ...],
    dims: tuple[str, ...],
    chosen: tuple[int, ...],
) -> tuple[int, ...]:
    """Return one positive integer per dim from the lengths a user gave."""
    if isinstance(lengths, Mapping):
        for name in lengths:
            if name not in dims:
                raise OptionError.unknown(f"dim in {option}", str(name), dims)
        found = [lengths.get(dim, n) for dim, n in zip(dims, chosen, strict=True)]
    elif isinstance(lengths, (int, np.integer)):
        found = [lengths] * len(shape)
    else:
        found = list(lengths)
    if len(found) == len(shape):
        found = [size if n == -1 else n for n, size in zip(found, shape, strict=True)]
        if all(isinstance(n, (int, np.integer)) and n > 0 for n in found):
            return tuple(map(int, found))
    automatic = "'auto' or " if option == "shards" else ""
    raise OptionError(
        f"{option} must be {automatic}{len(shape)} whole numbers above 0, one for each of {shape} "
        f"(or -1 for all of it), one number for all, or a number by dim, but got {lengths!r}"
    )


def _largest_divisor(size: int, most: int) -> int:
    """Return the largest divisor of *size* that is not above *most*."""
    return next(part for part in range(min(size, most), 0, -1) if size % part == 0)
