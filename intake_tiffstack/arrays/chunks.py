"""Chunk shapes: what one task reads.

Pure. ``auto`` aims at a number of bytes: whole pages or segments of a large file, many small files
in one chunk, and no more chunks than a scheduler takes lightly.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes

from intake_tiffstack.errors import OptionError, warn

if TYPE_CHECKING:
    from intake_tiffstack.layout.model import Dim, Layout

__all__ = ["choose_block_chunks", "choose_chunks", "decoded_whole"]

AUTO_BYTES = 2**25 - 2**16
"""Target of ``auto``: 32 MiB, since a chained index or a difference of planes reads whole chunks
and is 5 to 14 times faster so than with 128 MiB. A little less than that: glibc maps any larger
block anew each time, and its page faults made a sum over 1 GB 1.25 times slower."""

PAGE_BYTES = 2**25
"""A page up to this size is never cut by ``auto``."""

ENOUGH_CHUNKS = 32
SMALL_BYTES = 2**22
"""An array of less than 32 such chunks gets smaller ones, down to 4 MiB: three chunks keep two
threads busy for three quarters of the time, and a chained index reads less."""

REMOTE_BYTES = 2**26
"""Target of ``auto`` for remote files, be they few: all files of a chunk are requested at once, and
each chunk takes a round trip. One tile of each of 64 files of 2 MB, 30 ms away, took two threads
0.19 s with 32 MiB and takes 0.13 s with 64 MiB."""

FEW_CHUNKS = 10_000
MANY_CHUNKS = 50_000

Chunks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Extents:
    """What can be read at once along one dim of the result."""

    name: str
    size: int
    per_file: tuple[int, ...]
    """Extent inside each file along it; 1 for a dim that the file names make."""
    segment: int = 1
    """Extent of a strip or tile."""
    is_in_page: bool = False
    file_dim: int | None = None
    """Which dim inside the files it is."""
    axis: int | None = None
    """Which axis of the grid of files it is."""


def _extents(
    layout: Layout, page_ndim: int, segment_shape: tuple[int, ...]
) -> tuple[_Extents, ...]:
    """Return what can be read at once of files. Pure."""

    def along(dim: Dim) -> _Extents:
        if dim.file_dim is None:
            return _Extents(dim.name, dim.size, (1,) * dim.size, axis=dim.axis)
        sizes = [b - a for a, b in itertools.pairwise(dim.offsets or (0, dim.size))]
        place = dim.file_dim - (len(layout.file_dims) - page_ndim)
        segment = 1 if place < 0 else segment_shape[place]
        return _Extents(
            dim.name, dim.size, tuple(sizes), segment, place >= 0, dim.file_dim, dim.axis
        )

    return tuple(map(along, layout.dims))


def choose_chunks(
    spec: Any,
    layout: Layout,
    *,
    page_ndim: int,
    segment_shape: tuple[int, ...],
    dask_chunk_bytes: int,
    is_remote: bool = False,
) -> Chunks:
    """Return the chunks of an array over files, one tuple of sizes per dim. Pure.

    Warns (TiffStackWarning) of more than 50,000 chunks.

    Parameters
    ----------
    spec : object
        The option ``chunks``.
    layout : Layout
        The dims of the result and how files make them.
    page_ndim : int
    segment_shape : tuple of int
        How many trailing dims of a file one page holds, and the extent of a strip or tile there.
    dask_chunk_bytes : int
        dask's ``array.chunk-size`` in bytes: the most that ``auto`` uses.
    is_remote : bool
        Whether files are in a store.

    Raises
    ------
    OptionError
        If *spec* names an unknown dim, or sizes do not fit.
    """
    extents = _extents(layout, page_ndim, segment_shape)
    if isinstance(spec, str) and spec in ("file", "page"):
        whole = [e.per_file if spec == "file" or e.is_in_page else (1,) * e.size for e in extents]
        return _warn_of_many(tuple(whole), spec)
    least = REMOTE_BYTES if is_remote else SMALL_BYTES
    return _choose(spec, extents, layout.dtype.itemsize, dask_chunk_bytes, least)


def choose_block_chunks(
    spec: Any,
    sizes: Mapping[str, int],
    blocks: Sequence[int],
    *,
    itemsize: int,
    dask_chunk_bytes: int,
) -> Chunks:
    """Return the chunks of an array stored in equal blocks, along their edges. Pure.

    Parameters
    ----------
    spec : object
        The option ``chunks``, but neither ``file`` nor ``page``.
    sizes : mapping[str, int]
        Extent of each dim by name.
    blocks : sequence of int
        Extent of a block along each dim: what is decoded as a whole.
    itemsize : int
        Bytes per pixel.
    dask_chunk_bytes : int
        See :func:`choose_chunks`; so are the errors and the warning.
    """
    extents = [
        _Extents(name, size, _blocks(size, block), block, True, i, i)
        for i, ((name, size), block) in enumerate(zip(sizes.items(), blocks, strict=True))
    ]
    return _choose(spec, extents, itemsize, dask_chunk_bytes)


def _choose(
    spec: Any,
    extents: Sequence[_Extents],
    itemsize: int,
    dask_chunk_bytes: int,
    least: int = SMALL_BYTES,
) -> Chunks:
    if isinstance(spec, str) and spec != "auto":
        nbytes = _parse_size(spec)
        chunks = _split(extents, {}, _grow(extents, {}, itemsize, nbytes, nbytes))
    else:
        fixed = {} if isinstance(spec, str) else _fix_sizes(spec, extents)
        chunks = _fit(extents, fixed, itemsize, dask_chunk_bytes, least)
    return _warn_of_many(chunks, spec)


def decoded_whole(
    layout: Layout, *, page_ndim: int, segment_shape: tuple[int, ...], is_compressed: bool
) -> tuple[int, ...]:
    """Return the extent, along each dim of the result, of what is decoded as a whole. Pure.

    1 along each where nothing is compressed: then any region costs what it holds.
    """
    if not is_compressed:
        return (1,) * len(layout.dims)
    return tuple(e.segment for e in _extents(layout, page_ndim, segment_shape))


def _parse_size(spec: str) -> int:
    try:
        nbytes = int(parse_bytes(spec))
        if nbytes < 1:
            raise ValueError("no chunk is that small")
    except ValueError as exc:
        raise OptionError(
            "chunks must be auto, file, page, a size such as '64 MiB', an int, a tuple or "
            f"{{dim: n}}, but got {spec!r}"
        ) from exc
    return nbytes


def _fix_sizes(spec: Any, extents: Sequence[_Extents]) -> dict[str, tuple[int, ...]]:
    """Return the sizes along each dim that *spec* decides; the others are left to ``auto``."""
    names = [e.name for e in extents]
    if isinstance(spec, Mapping):
        for name in spec:
            if name not in names:
                raise OptionError.unknown("dim in chunks", str(name), names)
        given = dict(spec)
    elif isinstance(spec, (tuple, list)):
        if len(spec) != len(names):
            raise OptionError(
                f"chunks has {len(spec)} entries, but the dims are {', '.join(names)}: {spec!r}"
            )
        given = dict(zip(names, spec, strict=True))
    else:
        given = dict.fromkeys(names, spec)
    return {
        e.name: _sizes_along(e, given[e.name])
        for e in extents
        if e.name in given and given[e.name] != "auto"
    }


def _sizes_along(dim: _Extents, value: Any) -> tuple[int, ...]:
    """Return the chunk sizes along *dim*, from one number, -1 or None for all of it, or a list."""
    sizes: tuple[int, ...] = ()
    try:
        if isinstance(value, (tuple, list)):
            sizes = tuple(operator.index(n) for n in value)
        elif value is None or operator.index(value) == -1:
            sizes = (dim.size,)
        elif operator.index(value) > 0:
            sizes = _blocks(dim.size, operator.index(value))
    except TypeError:  # neither a number nor a list of them: refused below
        pass
    if sum(sizes) != dim.size or min(sizes) < 1:
        raise OptionError(
            f"chunks: {dim.name} takes a positive number, -1, 'auto', or sizes that add up to its "
            f"{dim.size}, but got {value!r}"
        )
    return sizes


def _fit(
    extents: Sequence[_Extents],
    fixed: Mapping[str, tuple[int, ...]],
    itemsize: int,
    most: int,
    least: int,
) -> Chunks:
    """Return the chunks of ``auto``: *least* bytes or more if they would be too many otherwise."""
    share = math.prod(e.size for e in extents) * itemsize // ENOUGH_CHUNKS
    target = min(most, max(least, min(share, AUTO_BYTES)))
    page_target = min(most, PAGE_BYTES)
    while True:
        chunks = _split(extents, fixed, _grow(extents, fixed, itemsize, target, page_target))
        if math.prod(map(len, chunks)) <= FEW_CHUNKS or target >= most:
            return chunks
        target = min(2 * target, most)
        page_target = max(target, page_target)


def _grow(
    extents: Sequence[_Extents],
    fixed: Mapping[str, tuple[int, ...]],
    itemsize: int,
    target: int,
    page_target: int,
) -> dict[str, int]:
    """Return the size of a chunk along each dim, from the pixel's page outwards.

    A page is cut only where it is larger than *page_target*; pages, then files, are put together
    up to *target*.
    """
    sizes = {e.name: max(fixed.get(e.name, (1,))) for e in extents}
    whole = {e.name: max(e.per_file) for e in extents}
    free = [e for e in extents if e.name not in fixed]
    inside = sorted((e for e in free if e.file_dim is not None), key=lambda e: -(e.file_dim or 0))
    page = [e for e in inside if e.is_in_page]
    sizes.update({e.name: whole[e.name] for e in page})

    def nbytes() -> int:
        return math.prod(sizes.values()) * itemsize

    for e in reversed(page):  # too large a page is cut along its outermost dim first
        if nbytes() > page_target:
            most = max(1, page_target * sizes[e.name] // nbytes())
            sizes[e.name] = _even(sizes[e.name], most, e.segment)
    if any(sizes[e.name] < whole[e.name] for e in page):
        return sizes
    # then the planes of a file, nearest first, then files: the order they are stored in
    for e in [e for e in inside if not e.is_in_page]:
        sizes[e.name] = _even(whole[e.name], max(1, target // nbytes()), 1)
        if sizes[e.name] < whole[e.name]:
            return sizes
    for e in sorted((e for e in free if e.axis is not None), key=lambda e: -(e.axis or 0)):
        unit = sizes[e.name]
        sizes[e.name] = _even(e.size, max(1, target // nbytes()) * unit, unit)
        if sizes[e.name] < e.size:
            return sizes
    return sizes


def _even(size: int, most: int, unit: int) -> int:
    """Return the extent of equal blocks of at most *most*, in whole units. Pure.

    >>> _even(201, 21, 1), _even(1024, 300, 64), _even(10, 100, 1)
    (21, 256, 10)
    """
    if most >= size:
        return size
    step = max(unit, most // unit * unit)
    blocks = math.ceil(size / step)
    return min(step, math.ceil(math.ceil(size / blocks) / unit) * unit)


def _split(
    extents: Sequence[_Extents], fixed: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]
) -> Chunks:
    """Return the sizes of the chunks along each dim; files of an extended dim are kept whole."""
    return tuple(fixed.get(e.name) or _split_files(e.per_file, sizes[e.name]) for e in extents)


def _split_files(per_file: Sequence[int], most: int) -> tuple[int, ...]:
    """Return sizes of up to *most* that follow the edges of files where these are smaller. Pure.

    >>> _split_files((1, 1, 1), 2), _split_files((5, 3, 2), 5), _split_files((5, 3), 2)
    ((2, 1), (5, 5), (2, 2, 1, 2, 1))
    """
    if most < max(per_file):
        return tuple(n for size in per_file for n in _blocks(size, most))
    groups: list[int] = []
    for size in per_file:
        if groups and groups[-1] + size <= most:
            groups[-1] += size
        else:
            groups.append(size)
    return tuple(groups)


def _blocks(size: int, extent: int) -> tuple[int, ...]:
    full, rest = divmod(size, extent)
    return (extent,) * full + ((rest,) if rest else ())


def _warn_of_many(chunks: Chunks, spec: Any) -> Chunks:
    count = math.prod(map(len, chunks))
    if count > MANY_CHUNKS:
        warn(
            f"chunks={spec!r} makes {count:,} chunks; a task costs about 0.5 ms whatever is in "
            "it: leave them to `auto`, or make them larger"
        )
    return chunks
