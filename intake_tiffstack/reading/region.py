"""A region of one file to an ndarray: reads what :mod:`~intake_tiffstack.reading.spans` plans."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
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
from intake_tiffstack.reading.spans import (
    Region,
    Segment,
    merge_ranges,
    plan_segments,
    plan_spans,
)
from intake_tiffstack.storage.ranges import ByteSource, open_bytes
from intake_tiffstack.structure import is_interleave

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Layout
    from intake_tiffstack.reading.options import ReadOptions
    from intake_tiffstack.reading.parts import FilePart
    from intake_tiffstack.storage.files import File, FileTable

__all__ = [
    "READ_ERRORS",
    "PagePlan",
    "PartRead",
    "Spans",
    "Steps",
    "as_slices",
    "read_region",
    "walk_frames",
]

logger = logging.getLogger("intake_tiffstack.reading")

Spans = list[tuple[int, memoryview]]
"""First byte in the file, and the buffer to fill from there on."""

Steps = Generator[Spans, None, None]
"""What has to be read before the next step."""

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
    fill_value: Any = 0,
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
    fill_value : scalar
        Value of planes and blocks that the file leaves out, if it has no nodata of its own.

    Raises
    ------
    UnreadableFileError, FileChangedError, StorageError
        If the bytes cannot be read, are not those of the listed file, or cannot be decoded.
    """
    if source is None:
        source = open_bytes(header.file, {})
    for spans in _steps(header, structure, region, out, source.read_cost, fill_value):
        source.fill(spans)


def _steps(
    header: Header,
    structure: Structure,
    region: Region,
    out: NDArray[Any],
    read_cost: int,
    fill_value: Any,
) -> Steps:
    """Yield what has to be read next, and decode it when resumed: no step does I/O."""
    frames = header.frames
    target = out
    if header.transform is not None:
        target = np.empty(out.shape, frames.dtype.newbyteorder("="))
    is_run = isinstance(frames, RawFrames) and len(frames.offsets) == 1
    n_lead = 0 if is_run else len(structure.shape) - structure.page_ndim
    pages = list(walk_frames(structure, region[:n_lead]))
    for part, own in _pages_by_part(frames, pages):
        if isinstance(part, RawFrames):
            shape = structure.shape[n_lead:]
            yield from _read_raw(part, own, shape, region[n_lead:], target, read_cost, fill_value)
        else:
            nodata = fill_value if part.nodata is None else part.nodata
            inner, url = region[n_lead:], header.file.url
            yield from _read_segments(part, own, structure, inner, target, read_cost, url, nodata)
    if header.transform is not None:
        out[...] = header.transform(target)


class PartRead:
    """The read of a region of one file of a collection, in steps.

    Whoever runs it fills the spans of one step before the next: one file after the other, or many
    files at once.

    Parameters
    ----------
    files : FileTable
    part : FilePart
        The file, and what to read of it.
    out : ndarray
        Where the pixels go.
    layout : Layout
    options : ReadOptions
    """

    def __init__(
        self,
        files: FileTable,
        part: FilePart,
        out: NDArray[Any],
        layout: Layout,
        options: ReadOptions,
    ) -> None:
        self.files = files
        self.part = part
        self.out = out
        self.layout = layout
        self.options = options

    @property
    def file(self) -> File:
        """The file, as it was listed."""
        return self.files[self.part.row]

    def open(self, guessed: Header | None = None) -> tuple[ByteSource, Steps]:
        """Return the source of the file's bytes and the steps, after a check that the file fits.

        The header is read here unless this process has it: a file that was assumed to be like the
        others at open is checked before any of its pixels is used.

        Parameters
        ----------
        guessed : Header, optional
            What the header is likely to be: nothing is read here, and the caller finds out.

        Raises
        ------
        StructureMismatchError
            If the file's shape, dtype or dims are not what the layout assumed.
        UnreadableFileError, FileChangedError, StorageError
            If the file cannot be read.
        """
        layout, expected = self.layout, self.part.expected
        reader = self.options.reader
        file = self.file
        if guessed is None:
            header, source = reader.open(file)
        else:
            header, source = guessed, open_bytes(file, reader.storage_options)
        structure = reader.structure_of(header)
        lacking = _lacking_dims(structure, expected, layout)
        kept = [i for i in range(len(expected)) if i not in lacking]
        names = [layout.file_dims[i] for i in kept]
        if is_interleave(structure.dims, names):
            kept = [kept[names.index(dim)] for dim in structure.dims]
        wanted = tuple(expected[i] for i in kept)
        is_smaller = (
            layout.is_padded
            and len(structure.shape) == len(wanted)
            and all(own <= n for own, n in zip(structure.shape, wanted, strict=True))
        )
        if not (structure.shape == wanted or is_smaller) or (structure.dtype, structure.dims) != (
            layout.dtype,
            tuple(layout.file_dims[i] for i in kept),
        ):
            shape = "x".join(map(str, expected))
            raise StructureMismatchError(
                f"{file.url} is {structure.describe()}, but the collection was opened as "
                f"{shape} {layout.dtype} ({' '.join(layout.file_dims)}); validate='all' finds "
                "every such file at open, `sel` or `exclude` leave it out",
                url=file.url,
            )
        region = tuple(self.part.region[i] for i in kept)
        # a view: a file lacks a dim only where it has one place of it
        target = self.out.squeeze(lacking)
        if kept != sorted(kept):
            target = target.transpose(np.argsort(np.argsort(kept)))
        if structure.shape != wanted:
            target[...] = self.options.fill_value
            cut = [
                range(r.start, min(r.stop, n), r.step)
                for r, n in zip(region, structure.shape, strict=True)
            ]
            region = tuple(cut)
            if not all(cut):
                return source, _no_steps()
            target = target[tuple(slice(len(r)) for r in cut)]
        return source, _steps(
            header, structure, region, target, source.read_cost, self.options.fill_value
        )

    def run(self) -> None:
        """Do all steps, one after the other.

        Raises
        ------
        StructureMismatchError, UnreadableFileError, FileChangedError, StorageError
            See :meth:`open`; if ``on_error`` is ``raise``.
        """
        try:
            source, steps = self.open()
            for spans in steps:
                source.fill(spans)
        except READ_ERRORS as exc:
            self.fail(exc)

    def fail(self, error: BaseException) -> None:
        """Raise what ended the read, or fill the place of the pixels, as ``on_error`` says."""
        if self.options.on_error == "raise" or not isinstance(error, READ_ERRORS):
            raise error
        _warn_once(self.file.url, error)
        self.out[...] = self.options.fill_value


def _no_steps() -> Steps:
    """Read nothing."""
    yield from ()


READ_ERRORS = (UnreadableFileError, StorageError, StructureMismatchError)
"""What ``on_error="fill"`` takes as a file that cannot be read."""


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


def walk_frames(structure: Structure, lead: Region) -> Iterator[PlacedPage]:
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
    read_cost: int,
    fill_value: Any,
) -> Steps:
    """Read each span straight into the result where it can lie there, else beside it."""
    plan = plan_spans(shape, frames.dtype.itemsize, region, read_cost=read_cost)
    if len(pages) * len(plan.starts) * plan.nbytes > BATCH_BYTES and not plan.is_exact:
        if len(pages) > 1:
            middle = len(pages) // 2
            for some in (pages[:middle], pages[middle:]):
                yield from _read_raw(frames, some, shape, region, out, read_cost, fill_value)
        else:
            number, place = pages[0]
            for half, part in _halves(region, out[place]):
                yield from _read_raw(
                    frames, [(number, ())], shape, half, part, read_cost, fill_value
                )
        return
    walked = [range(len(r)) for r in region[: plan.split]]
    spans: list[tuple[int, memoryview]] = []
    direct: list[NDArray[Any]] = []
    copies: list[tuple[NDArray[Any], NDArray[np.uint8]]] = []
    for number, place in pages:
        offset = int(frames.offsets[number])
        if offset < 0:
            out[place] = fill_value
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
    yield spans
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
    read_cost: int,
    url: str,
    nodata: Any,
) -> Steps:
    """Decode each segment that the region touches once, and copy its part into place."""
    plan = PagePlan.of(frames, structure, inner)
    wanted = [segment.index for segment in plan.segments]
    for batch in _batches(pages, frames, wanted, read_cost):
        ranges = [found for page in batch for found in _ranges(frames, page, wanted)]
        fetched, spans = _plan_fetch(ranges, read_cost)
        yield spans
        for i, (number, place) in enumerate(batch):
            pieces = fetched[i * len(wanted) : (i + 1) * len(wanted)]
            index: tuple[Any, ...] = (*place, ...)
            page = out[index]
            if frames.offsets[number, 0] < 0:
                page[...] = nodata
            else:
                plan.decode(number, pieces, page, url, nodata)


@dataclass(frozen=True)
class PagePlan:
    """How the segments that a region touches become its part of a page."""

    frames: SegmentedFrames
    page_shape: tuple[int, ...]
    inner: Region
    """The region, along the dims of a page."""
    axes: tuple[int, ...] | None
    """Which of TIFF's five axes each of these dims is, None where they do not line up."""
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, frames: SegmentedFrames, structure: Structure, inner: Region) -> PagePlan:
        """Return the plan for a region of each page of a file. Pure."""
        axes = _page_axes(frames, structure)
        whole: Region = tuple(range(n) for n in frames.shape)
        page_region = whole if axes is None else _spread_region(inner, axes)
        segments = plan_segments(frames.shape, frames.segment, page_region)
        return cls(frames, structure.page_shape, inner, axes, segments)

    def decode(
        self, number: int, pieces: Sequence[memoryview], page: NDArray[Any], url: str, nodata: Any
    ) -> None:
        """Fill *page*, the region of page *number*, from the bytes of each segment."""
        frames, axes = self.frames, self.axes
        target = np.empty(frames.shape, frames.dtype) if axes is None else _as_page(page, axes)
        for segment, data in zip(self.segments, pieces, strict=True):
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
            part[...] = nodata if pixels is None else pixels[segment.taken]
        if axes is None:
            page[...] = target.reshape(self.page_shape)[as_slices(self.inner)]


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


def as_slices(region: Region) -> tuple[slice, ...]:
    """Return a region as an index of an array. Pure."""
    return tuple(slice(r.start, r.stop, r.step) for r in region)


def _batches(
    pages: Sequence[PlacedPage], frames: SegmentedFrames, wanted: Sequence[int], read_cost: int
) -> Iterator[list[PlacedPage]]:
    """Yield pages whose wanted segments take about BATCH_BYTES together."""
    batch: list[PlacedPage] = []
    held = 0
    for page in pages:
        ranges = _ranges(frames, page, wanted)
        reach = max(map(sum, ranges)) - min(start for start, _ in ranges)
        stored = sum(count for _, count in ranges)
        nbytes = min(reach, stored + len(wanted) * read_cost) + read_cost
        if batch and held + nbytes > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(page)
        held += nbytes
    yield batch


def _ranges(
    frames: SegmentedFrames, page: PlacedPage, wanted: Sequence[int]
) -> list[tuple[int, int]]:
    """Return where the wanted segments of a page lie in the file, as (start, count)."""
    starts = frames.offsets[page[0]].take(wanted).tolist()
    counts = frames.counts[page[0]].take(wanted).tolist()
    return list(zip(starts, counts, strict=True))


def _plan_fetch(
    ranges: Sequence[tuple[int, int]], read_cost: int
) -> tuple[list[memoryview], list[tuple[int, memoryview]]]:
    """Return the place of each range in memory, and the spans that fill them all.

    Neighbours share a span; sparse segments have no bytes.
    """
    found = [memoryview(b"")] * len(ranges)
    spans: list[tuple[int, memoryview]] = []
    stored = [i for i, (start, count) in enumerate(ranges) if start > 0 and count > 0]
    for run in merge_ranges([ranges[i] for i in stored], gap=read_cost):
        members = [stored[i] for i in run]
        first = ranges[members[0]][0]
        buffer = memoryview(bytearray(max(sum(ranges[i]) for i in members) - first))
        spans.append((first, buffer))
        for i in members:
            start, count = ranges[i]
            found[i] = buffer[start - first : start - first + count]
    return found, spans
