"""Chunk shapes: what one task reads.

Pure. ``auto`` aims at a number of bytes: whole pages or segments of a large file, many small files
in one chunk, and no more chunks than a scheduler takes lightly.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.array.core import normalize_chunks
from dask.utils import parse_bytes

from intake_tiffstack.errors import OptionError, TiffStackWarning

if TYPE_CHECKING:
    from intake_tiffstack.layout import Dim, Layout

__all__ = ["choose_chunks"]

AUTO_BYTES = 2**25
"""Target of ``auto``: a chained index or a difference of planes reads whole chunks, and 32 MiB
makes these 5 to 14 times faster than 128 MiB does, at the same speed of a whole sum."""

FEW_CHUNKS = 10_000
MANY_CHUNKS = 50_000

Chunks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Units:
    """What can be read at once, dim by dim of the result."""

    layout: Layout
    page_ndim: int
    segment_shape: tuple[int, ...]

    def file_extent(self, dim: Dim) -> int:
        """Largest extent of *dim* inside one file; 1 for a dim made by names."""
        if dim.file_dim is None:
            return 1
        if dim.offsets is None:
            return dim.size
        return max(b - a for a, b in itertools.pairwise(dim.offsets))

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
    names = [d.name for d in layout.dims]
    shape = tuple(d.size for d in layout.dims)
    fixed: dict[str, Any] = {}
    target = min(dask_chunk_bytes, AUTO_BYTES)
    if spec == "file":
        return _warn_many({d.name: units.file_extent(d) for d in layout.dims}, units, spec)
    if spec == "page":
        pages = {
            d.name: 1 if units.page_place(d) is None else units.file_extent(d) for d in layout.dims
        }
        return _warn_many(pages, units, spec)
    if isinstance(spec, str) and spec != "auto":
        try:
            target = dask_chunk_bytes = parse_bytes(spec)
        except ValueError as exc:
            raise OptionError(
                f"chunks must be auto, file, page, a size such as '64 MiB', an int, a tuple or "
                f"{{dim: n}}, but got {spec!r}"
            ) from exc
    elif isinstance(spec, Mapping):
        for name, value in spec.items():
            if name not in names:
                raise OptionError.unknown("dim in chunks", str(name), names)
            if value != "auto":
                fixed[name] = value
    elif spec != "auto":
        return _normalize(spec, shape)
    numbers = {k: shape[names.index(k)] if v in (-1, None) else v for k, v in fixed.items()}
    extents = _grow(units, numbers, target)
    while _count(extents, units) > FEW_CHUNKS and target < dask_chunk_bytes:
        target = min(2 * target, dask_chunk_bytes)
        extents = _grow(units, numbers, target)
    chunks = _split(extents, units)
    for name, value in fixed.items():
        place = names.index(name)
        (chunks[place],) = _normalize((value,), (shape[place],))
    return tuple(chunks)


def _normalize(spec: Any, shape: tuple[int, ...]) -> Chunks:
    if isinstance(spec, list):
        spec = tuple(tuple(s) if isinstance(s, list) else s for s in spec)
    try:
        return tuple(tuple(int(n) for n in c) for c in normalize_chunks(spec, shape=shape))
    except (ValueError, TypeError) as exc:
        raise OptionError(f"chunks {spec!r} do not fit the shape {shape}: {exc}") from exc


def _grow(units: _Units, fixed: Mapping[str, Any], target: int) -> dict[str, int]:
    """Return the extent of a chunk along each dim, from the pixel's page outwards."""
    dims = units.layout.dims
    extents = {d.name: 1 for d in dims}
    extents.update({k: v if isinstance(v, int) else max(v) for k, v in fixed.items()})
    free = [d for d in dims if d.name not in fixed]
    itemsize = units.layout.dtype.itemsize
    inside = sorted((d for d in free if d.file_dim is not None), key=lambda d: -(d.file_dim or 0))
    page = [d for d in inside if units.page_place(d) is not None]
    extents.update({d.name: units.file_extent(d) for d in page})

    def nbytes() -> int:
        return math.prod(extents.values()) * itemsize

    for dim in reversed(page):  # too large a page is cut along its outermost dim first
        if nbytes() > target:
            most = max(1, target * extents[dim.name] // nbytes())
            extents[dim.name] = _even(extents[dim.name], most, units.segment(dim))
    if any(extents[d.name] < units.file_extent(d) for d in page):
        return extents
    # then the planes of a file, nearest first, then files: the order they are stored in
    for dim in [d for d in inside if d not in page]:
        extents[dim.name] = _even(units.file_extent(dim), max(1, target // nbytes()), 1)
        if extents[dim.name] < units.file_extent(dim):
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


def _split(extents: Mapping[str, int], units: _Units) -> list[tuple[int, ...]]:
    """Return the sizes of the chunks along each dim; files of an extended dim are kept whole."""
    chunks: list[tuple[int, ...]] = []
    for dim in units.layout.dims:
        extent = extents[dim.name]
        if dim.offsets is None:
            chunks.append(_blocks(dim.size, extent))
            continue
        sizes = [b - a for a, b in itertools.pairwise(dim.offsets)]
        if extent < units.file_extent(dim):
            chunks.append(tuple(n for size in sizes for n in _blocks(size, extent)))
            continue
        groups: list[int] = []
        for size in sizes:
            if groups and groups[-1] + size <= extent:
                groups[-1] += size
            else:
                groups.append(size)
        chunks.append(tuple(groups))
    return chunks


def _blocks(size: int, extent: int) -> tuple[int, ...]:
    full, rest = divmod(size, extent)
    return (extent,) * full + ((rest,) if rest else ())


def _count(extents: Mapping[str, int], units: _Units) -> int:
    return math.prod(math.ceil(d.size / extents[d.name]) for d in units.layout.dims)


def _warn_many(extents: Mapping[str, int], units: _Units, spec: str) -> Chunks:
    count = _count(extents, units)
    if count > MANY_CHUNKS:
        warnings.warn(
            f"chunks={spec!r} makes {count:,} chunks; a task costs about 0.5 ms whatever is in "
            "it, so `auto` will be faster",
            TiffStackWarning,
            stacklevel=3,
        )
    return tuple(_split(extents, units))
