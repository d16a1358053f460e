"""Many small local files at once: each is read whole, and their headers are compared together.

What a file costs beside its bytes is mostly Python: a header, a plan and a dozen objects of its
own. Where files are alike, as most of a collection are, one comparison and one plan serve a group
of them. Whatever is not certain here is left to :class:`~intake_tiffstack.reading.region.PartRead`,
which also finds the words for what is wrong with a file.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.header import RawFrames
from intake_tiffstack.reading.region import READ_ERRORS, PagePlan, as_slices, walk_frames
from intake_tiffstack.storage.local_ranges import read_whole
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from intake_tiffstack.header.twins import Alike
    from intake_tiffstack.reading.reader import CollectionReader
    from intake_tiffstack.reading.region import PartRead
    from intake_tiffstack.reading.spans import Region
    from intake_tiffstack.storage.files import FileTable
    from intake_tiffstack.structure import Structure

__all__ = ["read_small_files"]

MOST_BYTES = 2**18
"""Of a small file. The bytes are copied once more than from a file that is read by itself: that
takes as long at 512 kB, and twice as long at 128 kB."""

MOST_ASIDE = 2**15
"""Bytes of a file that are read although nobody asks for them."""

GROUP = 256
GROUP_BYTES = 2**22
"""Files, and their bytes, that are compared together: NumPy's own cost per call is nothing, and
the processor's cache holds them."""

FIRST = 16
"""Files of the first group, which shows how fast they come."""

TURN_BYTES = 2**14
"""Threads take turns with groups of files that are smaller than this on average. They hold Python's
lock most of the time, and let go of it in each system call: two threads that take it from each
other take twice as long as one alone. From this size on, decoding without the lock gains more."""

SLOW = 2e-4
"""Seconds per file that show that a disk or a network is waited for; threads wait for it together.
From memory a file takes 10 to 50 us."""

FEWEST = 2
"""Fewer files than this in a group are read one by one."""

ATTEMPTS = 3
"""How often what is not like any known file gets another known one to be compared with."""


_TURN = threading.Lock()


def _renew_turn() -> None:
    """Make a new lock: a fork copies that which another thread holds, and not the thread."""
    global _TURN
    _TURN = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_turn)


@dataclass
class _Course:
    """What the groups that are done have shown."""

    is_worth_it: bool = True
    """Whether any file was like a known one."""
    is_fast: bool = False
    """Whether files came from memory."""


def read_small_files(
    files: FileTable, reads: Iterable[PartRead], reader: CollectionReader
) -> Iterator[PartRead]:
    """Do the reads of small local files that are like a known one, and yield all others.

    Parameters
    ----------
    files : FileTable
        That of all the reads.
    reads : iterable of PartRead
    reader : CollectionReader

    Yields
    ------
    PartRead
        One that is still to be done. If it is done before the next one is asked for, files like
        it are not yielded.
    """
    reads = iter(reads)
    course = _Course()
    counts = itertools.chain([FIRST], itertools.repeat(GROUP))
    while group := list(itertools.islice(reads, next(counts))):
        own = files.take([read.part.row for read in group])
        is_small = (own.sizes > 0) & (own.sizes <= MOST_BYTES) & list(map(is_local, own.urls))
        is_small &= own.sizes * (1 - _share(group[0])) <= MOST_ASIDE  # mostly the same in all
        if not course.is_worth_it or np.count_nonzero(is_small) < FEWEST:
            yield from group
            continue
        if not is_small.all():
            yield from itertools.compress(group, ~is_small)
            group = list(itertools.compress(group, is_small))
            own = own.take(np.flatnonzero(is_small))
        step = max(1, GROUP_BYTES // int(own.sizes.max()))
        for start in range(0, len(group), step):
            part = slice(start, start + step)
            yield from _read_group(own[part], group[part], reader, course)


def _share(read: PartRead) -> float:
    """Return how much of a file a read asks for. Pure."""
    wanted, whole = read.part.region, read.part.expected
    return math.prod(map(len, wanted)) / math.prod(whole)


def _read_group(
    files: FileTable, reads: list[PartRead], reader: CollectionReader, course: _Course
) -> Iterator[PartRead]:
    """Yield the reads, one per file, that are not done here, and note the course of it."""
    sizes = files.sizes
    contents = np.empty((len(files), int(sizes.max())), np.uint8)
    turn = _TURN if course.is_fast and sizes.mean() < TURN_BYTES else nullcontext()
    with turn:
        begin = time.perf_counter()
        is_left = read_whole(files, contents)
        course.is_fast = time.perf_counter() - begin < SLOW * len(files)
    for i in np.flatnonzero(~is_left).tolist():
        yield reads[i]
    course.is_worth_it = False
    for _ in range(ATTEMPTS):
        for alike in reader.find_alike(sizes, contents, is_left):
            is_left[alike.rows] = False
            with turn:
                undone = _place(reads, alike, contents, reader.structure_of(alike.header))
            course.is_worth_it |= len(undone) < len(alike.rows)
            yield from undone
        left = np.flatnonzero(is_left)
        if not len(left):
            break
        is_left[left[0]] = False
        yield reads[left[0]]  # its header is parsed, and others may be like it
    for i in np.flatnonzero(is_left).tolist():
        yield reads[i]


def _place(
    reads: list[PartRead], alike: Alike, contents: NDArray[np.uint8], structure: Structure
) -> list[PartRead]:
    """Put the pixels of files that are alike into their places, and return the reads left over."""
    header, undone = alike.header, []
    if header.transform is not None:
        return [reads[i] for i in alike.rows.tolist()]
    region: Region | None = None
    for number, i in enumerate(alike.rows.tolist()):
        read = reads[i]
        if not _fits(read, structure):
            undone.append(read)
            continue
        if read.part.region != region:  # mostly the same in all files
            region = read.part.region
            place = _placing(alike, contents, structure, region)
        try:
            place(number, read)
        except READ_ERRORS:
            undone.append(read)
    return undone


def _fits(read: PartRead, structure: Structure) -> bool:
    """Whether a file of this structure is what the layout assumed, in each dim."""
    layout = read.layout
    return (
        read.part.expected == structure.shape
        and layout.file_dims == structure.dims
        and layout.dtype == structure.dtype
    )


def _placing(
    alike: Alike, contents: NDArray[np.uint8], structure: Structure, region: Region
) -> Callable[[int, PartRead], None]:
    """Return a function that does the read of a file, given its number among those alike."""
    frames, length = alike.frames, contents.shape[1]
    if isinstance(frames, RawFrames):
        first = int(frames.offsets[0])
        stop = first + math.prod(structure.shape) * frames.dtype.itemsize
        pixels = contents[:, first:stop].view(frames.dtype).reshape(-1, *structure.shape)
        wanted, lines = pixels[(slice(None), *as_slices(region))], alike.rows.tolist()

        def copy(number: int, read: PartRead) -> None:
            read.out[...] = wanted[lines[number]]

        return copy

    n_lead = len(structure.shape) - structure.page_ndim
    pages = list(walk_frames(structure, region[:n_lead]))
    plan = PagePlan.of(frames, structure, region[n_lead:])
    segments = [segment.index for segment in plan.segments]
    buffer = contents.reshape(-1).data
    offsets = alike.offsets + length * alike.rows[:, None, None]
    starts, stops = offsets.tolist(), (offsets + alike.counts).tolist()

    def decode(number: int, read: PartRead) -> None:
        url = read.files.urls[read.part.row]
        nodata = read.options.fill_value if frames.nodata is None else frames.nodata
        for page, place in pages:
            first, stop = starts[number][page], stops[number][page]
            pieces = [buffer[first[i] : stop[i]] for i in segments]
            index: tuple[Any, ...] = (*place, ...)
            plan.decode(page, pieces, read.out[index], url, nodata)

    return decode
