"""Chunk shapes: what one task reads.

Pure. ``auto`` aims at a number of bytes: whole pages or segments of a large file, many small files
in one chunk, and no more chunks than a scheduler takes lightly.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes

from intake_tiffstack.errors import OptionError, warn

if TYPE_CHECKING:
    from intake_tiffstack.layout.model import Dim, Layout

__all__ = ["choose_chunks", "decoded_whole"]

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

FEW_CHUNKS = 10_000
MANY_CHUNKS = 50_000

Chunks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Units:
    """What can be read at once, dim by dim of the result."""

    layout: Layout
    page_ndim: int
    segment_shape: tuple[int, ...]

    def file_sizes(self, dim: Dim) -> tuple[int, ...]:
        """Extent of *dim* inside each file along it; 1 for a dim made by names."""
        if dim.file_dim is None:
            return (1,) * dim.size
        if dim.offsets is None:
            return (dim.size,)
        return tuple(b - a for a, b in itertools.pairwise(dim.offsets))

    def page_sizes(self, dim: Dim) -> tuple[int, ...]:
        """Extent of *dim* inside each page along it."""
        return (1,) * dim.size if self.page_place(dim) is None else self.file_sizes(dim)

    def segment(self, dim: Dim) -> int:
        """Extent of a segment along a dim of the page."""
        place = self.page_place(dim)
        return 1 if place is None else self.segment_shape[place]

    def page_place(self, dim: Dim) -> int | None:
        """Which dim of the page this is, None if it is none of them."""
        if dim.file_dim is None:
            return None
        place = dim.file_dim - (len(self.layout.file_dims) - self.page_ndim)
        return place if place >= 0 else None


def choose_chunks(
    spec: Any,
    layout: Layout,
    *,
    page_ndim: int,
    segment_shape: tuple[int, ...],
    dask_chunk_bytes: int,
) -> Chunks:
    """Return the chunks of the result, one tuple of sizes a dim. Pure.

    Warns (TiffStackWarning) of more than 50,000 chunks.

    Parameters
    ----------
    spec
        The option ``chunks``.
    layout
        The dims of the result and how files make them.
    page_ndim, segment_shape
        How many trailing dims of a file one page holds, and the extent of a strip or tile there.
    dask_chunk_bytes
        dask's ``array.chunk-size`` in bytes: the most that ``auto`` uses.

    Raises
    ------
    OptionError
        A dim that is not there, or sizes that do not fit.
    """
    units = _Units(layout, page_ndim, segment_shape)
    if isinstance(spec, str) and spec in ("file", "page"):
        sizes = units.file_sizes if spec == "file" else units.page_sizes
        return _warn_of_many(tuple(sizes(dim) for dim in layout.dims), spec)
    fixed = {} if isinstance(spec, str) else _fix_sizes(spec, layout)
    if isinstance(spec, str) and spec != "auto":
        nbytes = _parse_size(spec)
        return _warn_of_many(_split(_grow(units, fixed, nbytes, nbytes), fixed, units), spec)
    return _warn_of_many(_fit(units, fixed, dask_chunk_bytes), spec)


def decoded_whole(
    layout: Layout, *, page_ndim: int, segment_shape: tuple[int, ...], is_compressed: bool
) -> tuple[int, ...]:
    """Return the extent, along each dim of the result, of what is decoded as a whole. Pure.

    1 along each where nothing is compressed: then any region costs what it holds.
    """
    if not is_compressed:
        return (1,) * len(layout.dims)
    units = _Units(layout, page_ndim, segment_shape)
    return tuple(units.segment(dim) for dim in layout.dims)


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


def _fix_sizes(spec: Any, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Return the sizes along each dim that *spec* decides; the others are left to ``auto``."""
    names = layout.names
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
        dim.name: _sizes_along(dim, given[dim.name])
        for dim in layout.dims
        if dim.name in given and given[dim.name] != "auto"
    }


def _sizes_along(dim: Dim, value: Any) -> tuple[int, ...]:
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


def _fit(units: _Units, fixed: Mapping[str, tuple[int, ...]], most: int) -> Chunks:
    """Return chunks as ``auto`` has them, of up to *most* bytes where they would be too many."""
    share = math.prod(units.layout.shape) * units.layout.dtype.itemsize // ENOUGH_CHUNKS
    target = min(most, AUTO_BYTES, max(share, SMALL_BYTES))
    page_target = min(most, PAGE_BYTES)
    while True:
        chunks = _split(_grow(units, fixed, target, page_target), fixed, units)
        if math.prod(map(len, chunks)) <= FEW_CHUNKS or target >= most:
            return chunks
        target = min(2 * target, most)
        page_target = max(target, page_target)


def _grow(
    units: _Units, fixed: Mapping[str, tuple[int, ...]], target: int, page_target: int
) -> dict[str, int]:
    """Return the extent of a chunk along each dim, from the pixel's page outwards.

    A page is cut only where it is larger than *page_target*; pages, then files, are put together
    up to *target*.
    """
    dims = units.layout.dims
    extents = {d.name: max(fixed.get(d.name, (1,))) for d in dims}
    whole = {d.name: max(units.file_sizes(d)) for d in dims}
    free = [d for d in dims if d.name not in fixed]
    itemsize = units.layout.dtype.itemsize
    inside = sorted((d for d in free if d.file_dim is not None), key=lambda d: -(d.file_dim or 0))
    page = [d for d in inside if units.page_place(d) is not None]
    extents.update({d.name: whole[d.name] for d in page})

    def nbytes() -> int:
        return math.prod(extents.values()) * itemsize

    for dim in reversed(page):  # too large a page is cut along its outermost dim first
        if nbytes() > page_target:
            most = max(1, page_target * extents[dim.name] // nbytes())
            extents[dim.name] = _even(extents[dim.name], most, units.segment(dim))
    if any(extents[d.name] < whole[d.name] for d in page):
        return extents
    # then the planes of a file, nearest first, then files: the order they are stored in
    for dim in [d for d in inside if d not in page]:
        extents[dim.name] = _even(whole[dim.name], max(1, target // nbytes()), 1)
        if extents[dim.name] < whole[dim.name]:
            return extents
    outside = sorted((d for d in free if d.axis is not None), key=lambda d: -(d.axis or 0))
    for dim in outside:
        unit = extents[dim.name]
        most = max(1, target // nbytes()) * unit
        extents[dim.name] = _even(dim.size, most, unit)
        if extents[dim.name] < dim.size:
            return extents
    return extents


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
    extents: Mapping[str, int], fixed: Mapping[str, tuple[int, ...]], units: _Units
) -> Chunks:
    """Return the sizes of the chunks along each dim; files of an extended dim are kept whole."""
    return tuple(
        fixed.get(dim.name) or _split_dim(dim, extents[dim.name], units)
        for dim in units.layout.dims
    )


def _split_dim(dim: Dim, extent: int, units: _Units) -> tuple[int, ...]:
    if dim.offsets is None:
        return _blocks(dim.size, extent)
    sizes = units.file_sizes(dim)
    if extent < max(sizes):
        return tuple(n for size in sizes for n in _blocks(size, extent))
    groups: list[int] = []
    for size in sizes:
        if groups and groups[-1] + size <= extent:
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
