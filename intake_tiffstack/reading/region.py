"""A region of one file to an ndarray: reads what :mod:`~intake_tiffstack.reading.spans` plans."""

from __future__ import annotations

import itertools
import logging
import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.errors import (
    StorageError,
    StructureMismatchError,
    TiffStackError,
    UnreadableFileError,
)
from intake_tiffstack.header import (
    Frames,
    Header,
    JoinedFrames,
    RawFrames,
    SegmentedFrames,
    Structure,
    decode_segment,
)
from intake_tiffstack.reading.spans import Region, merge_ranges, plan_segments, plan_spans
from intake_tiffstack.storage.ranges import ByteSource, open_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Layout
    from intake_tiffstack.reading.options import ReadOptions
    from intake_tiffstack.reading.parts import FilePart
    from intake_tiffstack.storage.files import FileTable

__all__ = ["read_part", "read_region"]

logger = logging.getLogger("intake_tiffstack.reading")

PlacedPage = tuple[int, tuple[int, ...]]
"""A page: its number in the file, and its place in the result."""

BATCH_BYTES = 2**26
"""Bytes of a file held at once beside the result; a page's compressed segments may be more."""


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
    header : Header
        Where the segments of the file lie.
    structure : Structure
        With its dims named by the option ``file_dims``: its shape decides how *region* is
        understood; its pages stay in order.
    region : tuple of range
        One ascending range per dim of `structure`, none empty.
    out : ndarray
        Any writable view of the region's shape and the structure's dtype.
    source : ByteSource, optional
        Where the file's bytes come from; None opens it, with no storage options.

    Raises
    ------
    UnreadableFileError, FileChangedError, StorageError
        If the bytes cannot be read, are not those of the listed file, or cannot be decoded.
    """
    if source is None:
        source = open_bytes(header.file, {})
    frames = header.frames
    target = out
    if header.transform is not None:
        target = np.empty(out.shape, frames.dtype.newbyteorder("="))
    is_run = isinstance(frames, RawFrames) and len(frames.offsets) == 1
    n_lead = 0 if is_run else len(structure.shape) - structure.page_ndim
    pages = list(_walk_frames(structure, region[:n_lead]))
    for part, own in _pages_by_part(frames, pages):
        if isinstance(part, RawFrames):
            shape = structure.shape[n_lead:]
            _read_raw(part, own, shape, region[n_lead:], target, source)
        else:
            _read_segments(part, own, structure, region[n_lead:], target, source, header.file.url)
    if header.transform is not None:
        out[...] = header.transform(target)


def read_part(
    files: FileTable, part: FilePart, out: NDArray[Any], layout: Layout, options: ReadOptions
) -> None:
    """Fill *out* with a region of one file of a collection, after a check that the file fits.

    The header is read here unless this process has it: a file that was assumed to be like the
    others at open is checked before any of its pixels is used.

    Raises
    ------
    StructureMismatchError
        If the file's shape, dtype or dims are not what the layout assumed.
    UnreadableFileError, FileChangedError, StorageError
        If the file cannot be read, and ``on_error`` is ``raise``.
    """
    file, expected = files[part.row], part.expected
    try:
        header, source = options.reader.open(file)
        structure = options.reader.structure_of(header)
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


def _walk_frames(structure: Structure, lead: Region) -> Iterator[PlacedPage]:
    """Yield each page's number in the file, and its place in the result."""
    shape = structure.shape[: len(lead)]
    for place in itertools.product(*(range(len(r)) for r in lead)):
        number = 0
        for size, dim, i in zip(shape, lead, place, strict=True):
            number = number * size + dim[i]
        yield number, place


def _pages_by_part(
    frames: Frames, pages: Sequence[PlacedPage]
) -> Iterator[tuple[RawFrames | SegmentedFrames, Sequence[PlacedPage]]]:
    """Yield the frames that are stored alike with the pages that are wanted of them."""
    if not isinstance(frames, JoinedFrames):
        yield frames, pages
        return
    parts, numbers = frames.part.tolist(), frames.number.tolist()
    for i, part in enumerate(frames.parts):
        own = [(numbers[page], place) for page, place in pages if parts[page] == i]
        if own:
            yield part, own


# -- pixels that lie in the file as they are ----------------------------------------------------


def _read_raw(
    frames: RawFrames,
    pages: Sequence[PlacedPage],
    shape: tuple[int, ...],
    region: Region,
    out: NDArray[Any],
    source: ByteSource,
) -> None:
    """Read each span straight into the result where it can lie there, else beside it."""
    plan = plan_spans(shape, frames.dtype.itemsize, region, read_cost=source.read_cost)
    if len(pages) * len(plan.starts) * plan.nbytes > BATCH_BYTES and not plan.is_exact:
        if len(pages) > 1:
            middle = len(pages) // 2
            for some in (pages[:middle], pages[middle:]):
                _read_raw(frames, some, shape, region, out, source)
        else:
            number, place = pages[0]
            for half, part in _halves(region, out[place]):
                _read_raw(frames, [(number, ())], shape, half, part, source)
        return
    walked = [range(len(r)) for r in region[: plan.split]]
    spans: list[tuple[int, memoryview]] = []
    direct: list[NDArray[Any]] = []
    copies: list[tuple[NDArray[Any], NDArray[np.uint8]]] = []
    for number, place in pages:
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
        part[...] = _view_region(buffer, shape[plan.split :], region[plan.split :], frames.dtype)


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
    pages: Sequence[PlacedPage],
    structure: Structure,
    inner: Region,
    out: NDArray[Any],
    source: ByteSource,
    url: str,
) -> None:
    """Decode each segment that the region touches once, and copy its part into place."""
    axes = _page_axes(frames, structure)
    whole: Region = tuple(range(n) for n in frames.shape)
    page_region = whole if axes is None else _spread_region(inner, axes)
    plan = plan_segments(frames.shape, frames.segment, page_region)
    wanted = [segment.index for segment in plan]
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
    pages: Sequence[PlacedPage], frames: SegmentedFrames, wanted: Sequence[int], source: ByteSource
) -> Iterator[list[tuple[PlacedPage, list[memoryview]]]]:
    """Yield pages with the bytes of their wanted segments, about BATCH_BYTES at a time."""
    batch: list[PlacedPage] = []
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
