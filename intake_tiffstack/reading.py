"""A region of one file to an ndarray: which bytes, and where their pixels go.

Planning is pure: :func:`plan_spans` and :func:`merge_ranges` turn a region into reads, with one
number (what a read costs) as the whole policy. Only :func:`read_region` touches storage.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import operator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.errors import (
    OptionError,
    StorageError,
    StructureMismatchError,
    TiffStackError,
    UnreadableFileError,
)
from intake_tiffstack.header import (
    Header,
    RawFrames,
    SegmentedFrames,
    Structure,
    decode_segment,
    rename_dims,
)
from intake_tiffstack.header.cache import open_file
from intake_tiffstack.ranges.local import ByteSource, open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.array import FilePart, ReadOptions
    from intake_tiffstack.layout.combining import Layout
    from intake_tiffstack.listing.filetable import FileTable

__all__ = ["Region", "SpanPlan", "merge_ranges", "plan_spans", "read_part", "read_region"]

logger = logging.getLogger("intake_tiffstack.reading")

Region = tuple[range, ...]
"""The part of a file that a read asks for: one ascending range a dim."""

Place = tuple[int, tuple[int, ...]]
"""A page: its number in the file, and its place in the result."""

BATCH_BYTES = 2**26
"""Bytes of a file held at once beside the result; a page's compressed segments may be more."""


@dataclass(frozen=True)
class SpanPlan:
    """Equal runs of bytes that together hold a region of a C-ordered array."""

    split: int
    """Dims before this one are walked, one span each place; dims from it on lie in the span."""
    starts: NDArray[np.int64]
    """First byte of each span, in C order of the walked dims."""
    nbytes: int
    """Bytes of each span."""
    is_exact: bool
    """True where a span holds the region's bytes and no others, in order."""


@functools.lru_cache(maxsize=1024)  # a chunk of many small files asks the same of each
def plan_spans(shape: Sequence[int], itemsize: int, region: Region, *, read_cost: int) -> SpanPlan:
    """Return the cheapest equal spans that cover a region. Pure.

    A span that reaches over more dims means fewer reads and more bytes between; each read is
    weighed as *read_cost* bytes. Whole inner dims cost nothing, so a plane is one span, a stack of
    whole planes is one span too, and a narrow column is one span a row or one a plane.

    >>> plan = plan_spans((10, 4, 5), 2, (range(3, 5), range(4), range(5)), read_cost=64)
    >>> plan.split, plan.starts.tolist(), plan.nbytes, plan.is_exact
    (0, [120], 80, True)
    """
    strides = [itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape))]
    counts = [len(r) for r in region]
    best: tuple[int, int] | None = None
    for split in range(len(shape) + 1):
        reach = sum(
            (r[-1] - r[0]) * s for r, s in zip(region[split:], strides[split:], strict=True)
        )
        cost = math.prod(counts[:split]) * (reach + itemsize + read_cost)
        if best is None or cost < best[0]:
            best = (cost, split)
    split = best[1] if best else 0
    first = sum(r[0] * s for r, s in zip(region[split:], strides[split:], strict=True))
    reach = sum((r[-1] - r[0]) * s for r, s in zip(region[split:], strides[split:], strict=True))
    starts = np.array(first, np.int64)
    for r, stride in zip(region[:split], strides[:split], strict=True):
        starts = np.add.outer(starts, np.arange(r.start, r.stop, r.step, dtype=np.int64) * stride)
    nbytes = reach + itemsize
    return SpanPlan(split, starts.ravel(), nbytes, nbytes == math.prod(counts[split:]) * itemsize)


def merge_ranges(ranges: Sequence[tuple[int, int]], *, gap: int) -> list[list[int]]:
    """Return ranges of (start, count) in runs with at most *gap* bytes between neighbours. Pure.

    Each run holds positions in the input, by ascending start.

    >>> merge_ranges([(0, 10), (100, 5), (10, 10)], gap=8)
    [[0, 2], [1]]
    """
    runs: list[list[int]] = []
    end = 0
    for i in sorted(range(len(ranges)), key=ranges.__getitem__):
        start, count = ranges[i]
        if runs and start - end <= gap:
            runs[-1].append(i)
            end = max(end, start + count)
        else:
            runs.append([i])
            end = start + count
    return runs


@dataclass(frozen=True)
class Segment:
    """One strip or tile that a region touches, and where its pixels go."""

    index: int
    """Its number in the page."""
    into: tuple[slice, ...]
    """Where in the region, in TIFF's five dims."""
    taken: tuple[slice, ...]
    """What of the segment: depth, length, width, sample."""
    is_whole: bool
    """Whether that is all that its bytes hold."""


@functools.lru_cache(maxsize=1024)  # a chunk of many small files asks the same of each
def plan_segments(
    shape: tuple[int, ...], segment: tuple[int, int, int], region: Region
) -> tuple[Segment, ...]:
    """Return the segments that hold a pixel of a region, in their order in the page. Pure.

    Parameters
    ----------
    shape
        Of a page: planar sample, depth, length, width, contiguous sample.
    segment
        Depth, length and width of a strip or tile.
    region
        One ascending range for each of the five.

    >>> [s.index for s in plan_segments((1, 1, 8, 8, 1), (1, 4, 4),
    ...     (range(1), range(1), range(2), range(3, 5), range(1)))]
    [0, 1]
    """
    extents = (1, *segment)
    grid = [math.ceil(n / m) for n, m in zip(shape[:4], extents, strict=True)]
    touched = [
        [(i, *_overlap(r, i * n, n)) for i in dict.fromkeys(place // n for place in r)]
        for r, n in zip(region[:4], extents, strict=True)
    ]
    sample = region[4]
    last = slice(0, len(sample)), slice(sample.start, sample.stop, sample.step)
    planned = []
    for parts in itertools.product(*touched):
        index = 0
        for (i, _, _), n in zip(parts, grid, strict=True):
            index = index * n + i
        into = (*(into for _, into, _ in parts), last[0])
        taken = (*(taken for _, _, taken in parts[1:]), last[1])
        # a last strip has fewer rows; a tile beyond the edge is padded and is none of it
        rows = min(segment[1], shape[2] - parts[2][0] * segment[1])
        counts = [into.stop - into.start for _, into, _ in parts]
        is_whole = (*counts, len(sample)) == (1, segment[0], rows, segment[2], shape[4])
        planned.append(Segment(index, into, taken, is_whole))
    return tuple(planned)


def _overlap(wanted: range, begin: int, size: int) -> tuple[slice, slice]:
    """Return where the places of *wanted* in [begin, begin + size) go, and which they are there."""
    low = max(0, -(-(begin - wanted.start) // wanted.step))
    high = min(len(wanted), -(-(begin + size - wanted.start) // wanted.step))
    taken = slice(wanted[low] - begin, wanted[high - 1] - begin + 1, wanted.step)
    return slice(low, high), taken


def read_region(
    header: Header,
    structure: Structure,
    region: Region,
    out: NDArray[Any],
    *,
    source: ByteSource | None = None,
) -> None:
    """Fill *out* with a region of a file; reads only the bytes that the region needs.

    Parameters
    ----------
    header
        Where the segments of the file lie.
    structure
        The file's structure as the option ``file_dims`` has it: its shape decides how *region* is
        understood, its pages stay in order.
    region
        One ascending range a dim of `structure`, none empty.
    out
        Any writable view of the region's shape and the structure's dtype.
    source
        Where the file's bytes come from; None opens it, with no storage options.

    Raises
    ------
    UnreadableFileError, FileChangedError, StorageError
        The bytes cannot be had, are not those of the listed file, or cannot be decoded.
    """
    if source is None:
        source = open_bytes(header.file, {})
    frames = header.frames
    target = out
    if header.transform is not None:
        target = np.empty(out.shape, frames.dtype.newbyteorder("="))
    if isinstance(frames, RawFrames):
        _read_raw(frames, structure, region, target, source)
    else:
        _read_segments(frames, structure, region, target, source, header.file.url)
    if header.transform is not None:
        out[...] = header.transform(target)


def read_part(
    files: FileTable, part: FilePart, out: NDArray[Any], layout: Layout, options: ReadOptions
) -> None:
    """Fill *out* with a region of one file of a collection, having seen that the file fits.

    The header is read here if this process has not got it: a file that was assumed to be like the
    others at open is checked before a pixel of it is used.

    Raises
    ------
    StructureMismatchError
        The file's shape, dtype or dims are not what the layout assumed.
    UnreadableFileError, FileChangedError, StorageError
        The file cannot be read, and ``on_error`` is ``raise``.
    """
    file, expected = files[part.row], part.expected
    try:
        header, source = open_file(
            file, storage_options=files.storage_options, series=options.series, level=options.level
        )
        structure = header.structure
        if options.file_dims is not None:
            with suppress(OptionError):  # a rest of one plane, or a misfit that is told below
                structure = rename_dims(structure, options.file_dims, file.url)
        lacking = _lacking_dims(structure, expected, layout)
        kept = [i for i in range(len(expected)) if i not in lacking]
        if (structure.shape, structure.dtype, structure.dims) != (
            tuple(expected[i] for i in kept),
            layout.dtype,
            tuple(layout.file_dims[i] for i in kept),
        ):
            shape = "x".join(map(str, expected))
            raise StructureMismatchError(
                f"{file.url} is {structure.describe()}, but the collection was opened as {shape} "
                f"{layout.dtype} ({' '.join(layout.file_dims)}); validate='all' finds every such "
                "file at open, `sel` or `exclude` leave it out",
                url=file.url,
            )
        region = tuple(part.region[i] for i in kept)
        # a view: a file lacks a dim only where it has one place of it
        target = out.squeeze(lacking)
        read_region(header, structure, region, target, source=source)
    except (UnreadableFileError, StorageError, StructureMismatchError) as exc:
        if options.on_error == "raise":
            raise
        _warn_once(file.url, exc)
        out[...] = options.fill_value


def _lacking_dims(structure: Structure, expected: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """Return the dims of one place that the file has not got: a rest of a single plane."""
    return tuple(
        i
        for i, (name, size) in enumerate(zip(layout.file_dims, expected, strict=True))
        if size == 1 and name not in structure.dims
    )


_WARNED: set[str] = set()


def _warn_once(url: str, exc: TiffStackError) -> None:
    """Log that a file was filled instead of read, the first time in this process."""
    if url not in _WARNED:
        _WARNED.add(url)
        logger.warning("filled instead of read: %s", exc)


def _walk_frames(structure: Structure, lead: Region) -> Iterator[Place]:
    """Yield each page's number in the file, and its place in the result."""
    shape = structure.shape[: len(lead)]
    for place in itertools.product(*(range(len(r)) for r in lead)):
        number = 0
        for size, dim, i in zip(shape, lead, place, strict=True):
            number = number * size + dim[i]
        yield number, place


# -- pixels that lie in the file as they are ----------------------------------------------------


def _read_raw(
    frames: RawFrames, structure: Structure, region: Region, out: NDArray[Any], source: ByteSource
) -> None:
    """Read each span straight into the result where it can lie there, else beside it."""
    n_lead = 0 if len(frames.offsets) == 1 else len(structure.shape) - structure.page_ndim
    shape, inner = structure.shape[n_lead:], region[n_lead:]
    plan = plan_spans(shape, frames.dtype.itemsize, inner, read_cost=source.read_cost)
    held = math.prod(map(len, region[:n_lead])) * len(plan.starts) * plan.nbytes
    if held > BATCH_BYTES and not plan.is_exact:
        for half, part in _halves(region, out):
            _read_raw(frames, structure, half, part, source)
        return
    walked = [range(len(r)) for r in inner[: plan.split]]
    spans: list[tuple[int, memoryview]] = []
    direct: list[NDArray[Any]] = []
    copies: list[tuple[NDArray[Any], NDArray[np.uint8]]] = []
    for number, place in _walk_frames(structure, region[:n_lead]):
        offset = int(frames.offsets[number])
        if offset < 0:
            out[place] = 0
            continue
        for start, within in zip(plan.starts.tolist(), itertools.product(*walked), strict=True):
            # with an ellipsis it is a view, be it of one pixel
            index: tuple[Any, ...] = (*place, *within, ...)
            part = out[index]
            if plan.is_exact and part.flags.c_contiguous:
                buffer = part.reshape(-1).view(np.uint8)
                direct.append(part)
            else:
                buffer = np.empty(plan.nbytes, np.uint8)
                copies.append((part, buffer))
            spans.append((offset + start, buffer.data))
    source.fill(spans)
    if not frames.dtype.isnative:
        for part in direct:
            part.byteswap(inplace=True)
    for part, buffer in copies:
        part[...] = _view_region(buffer, shape[plan.split :], inner[plan.split :], frames.dtype)


def _halves(region: Region, out: NDArray[Any]) -> Iterator[tuple[Region, NDArray[Any]]]:
    """Yield the two halves of a region of more than one pixel, and their places in *out*."""
    dim = next(i for i, r in enumerate(region) if len(r) > 1)
    middle = len(region[dim]) // 2
    for half in (slice(0, middle), slice(middle, None)):
        place = (*[slice(None)] * dim, half)
        yield (*region[:dim], region[dim][half], *region[dim + 1 :]), out[place]


def _view_region(
    buffer: NDArray[np.uint8], shape: Sequence[int], region: Region, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the region's pixels inside a span that starts at its first pixel, as a view."""
    strides = [dtype.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape))]
    return np.ndarray(
        tuple(len(r) for r in region),
        dtype,
        buffer=buffer.data,
        strides=tuple(s * r.step for s, r in zip(strides, region, strict=True)),
    )


# -- strips and tiles that have to be decoded ----------------------------------------------------


def _read_segments(
    frames: SegmentedFrames,
    structure: Structure,
    region: Region,
    out: NDArray[Any],
    source: ByteSource,
    url: str,
) -> None:
    """Decode each segment that the region touches once, and copy its part into place."""
    n_lead = len(structure.shape) - structure.page_ndim
    inner = region[n_lead:]
    axes = _page_axes(frames, structure)
    whole: Region = tuple(range(n) for n in frames.shape)
    page_region = whole if axes is None else _spread_region(inner, axes)
    plan = plan_segments(frames.shape, frames.segment, page_region)
    wanted = [segment.index for segment in plan]
    pages = list(_walk_frames(structure, region[:n_lead]))
    for batch in _batches(pages, frames, wanted, source):
        for (number, place), pieces in batch:
            index: tuple[Any, ...] = (*place, ...)
            page = out[index]
            if frames.offsets[number, 0] < 0:
                page[...] = 0
                continue
            target = np.empty(frames.shape, frames.dtype) if axes is None else _as_page(page, axes)
            for segment, data in zip(plan, pieces, strict=True):
                part = target[segment.into]
                if (
                    frames.direct is not None
                    and segment.is_whole
                    and part.flags.c_contiguous
                    and len(data)
                    and frames.direct(data, part)
                ):
                    continue
                pixels = decode_segment(frames, number, segment.index, data, url)
                part[...] = frames.nodata if pixels is None else pixels[segment.taken]
            if axes is None:
                page[...] = target.reshape(structure.page_shape)[_as_slices(inner)]


def _page_axes(frames: SegmentedFrames, structure: Structure) -> tuple[int, ...] | None:
    """Return which of TIFF's five axes each trailing dim is, None where they do not line up."""
    if frames.axes is None:
        return None
    if tuple(frames.shape[i] for i in frames.axes) == structure.page_shape:
        return frames.axes
    kept = tuple(i for i in frames.axes if frames.shape[i] != 1)  # file_dims dropped singletons
    if tuple(frames.shape[i] for i in kept) == structure.page_shape:
        return kept
    return None


def _spread_region(inner: Region, axes: tuple[int, ...]) -> Region:
    """Return a region of the trailing dims as one of TIFF's five; the others have extent 1."""
    full = [range(1)] * 5
    for axis, r in zip(axes, inner, strict=True):
        full[axis] = r
    return tuple(full)


def _as_page(part: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
    """Return a view of *part* with all of TIFF's five axes."""
    return part[tuple(slice(None) if i in axes else None for i in range(5))]


def _as_slices(region: Region) -> tuple[slice, ...]:
    return tuple(slice(r.start, r.stop, r.step) for r in region)


def _batches(
    pages: Sequence[Place], frames: SegmentedFrames, wanted: Sequence[int], source: ByteSource
) -> Iterator[list[tuple[Place, list[memoryview]]]]:
    """Yield pages with the bytes of their wanted segments, about BATCH_BYTES at a time."""
    batch: list[Place] = []
    ranges: list[tuple[int, int]] = []
    held = 0
    for page in pages:
        starts = frames.offsets[page[0]].take(wanted).tolist()
        counts = frames.counts[page[0]].take(wanted).tolist()
        reach = max(map(operator.add, starts, counts)) - min(starts)
        nbytes = min(reach, sum(counts) + len(wanted) * source.read_cost) + source.read_cost
        if batch and held + nbytes > BATCH_BYTES:
            yield list(zip(batch, _fetch(ranges, len(wanted), source), strict=True))
            batch, ranges, held = [], [], 0
        batch.append(page)
        ranges += zip(starts, counts, strict=True)
        held += nbytes
    yield list(zip(batch, _fetch(ranges, len(wanted), source), strict=True))


def _fetch(
    ranges: Sequence[tuple[int, int]], a_page: int, source: ByteSource
) -> list[list[memoryview]]:
    """Return the bytes of ranges, *a_page* together; neighbours share a read, sparse are empty."""
    found = [memoryview(b"")] * len(ranges)
    spans: list[tuple[int, memoryview]] = []
    stored = [i for i, (start, count) in enumerate(ranges) if start > 0 and count > 0]
    for run in merge_ranges([ranges[i] for i in stored], gap=source.read_cost):
        members = [stored[i] for i in run]
        first = ranges[members[0]][0]
        buffer = memoryview(bytearray(max(sum(ranges[i]) for i in members) - first))
        spans.append((first, buffer))
        for i in members:
            start, count = ranges[i]
            found[i] = buffer[start - first : start - first + count]
    source.fill(spans)
    return [found[i : i + a_page] for i in range(0, len(found), a_page)]
