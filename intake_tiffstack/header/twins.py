"""Files built like one that tifffile has parsed: their structure is known without parsing.

Most files of a collection come from one program in one go. Two cheap tiers see it, each tested
against tifffile on every file: the bytes that tifffile's parse touched are equal (then all of the
header is), or all tags that set structure are equal (then this file's own segment table serves;
where they lie at the same bytes, these are compared instead of read).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from intake_tiffstack.errors import FilesNotFoundError, StorageError, UnreadableFileError
from intake_tiffstack.header.frames import (
    Frames,
    JoinedFrames,
    RawFrames,
    SegmentedFrames,
    refuse_outside,
)
from intake_tiffstack.header.ifd import Directory, Form, read_directories, read_form
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage.first_bytes import FIRST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from intake_tiffstack.header.build_header import Header
    from intake_tiffstack.header.header_bytes import HeaderBytes
    from intake_tiffstack.storage.files import File

__all__ = ["Alike", "Guess", "Templates"]

# Series that tifffile makes from the tags of the main chain alone. Others (Micro-Manager's index
# map, MetaMorph, ScanImage ...) are read from elsewhere in the file too.
_FROM_TAGS = frozenset({"uniform", "shaped", "imagej", "ome", "generic"})

MOST_TEMPLATES = 64
MOST_FORMS = 4  # compared one after the other
MOST_TAIL = 2**16
TAIL_SLACK = 2**12  # values beside an IFD may be longer in another file
MOST_RUNS = 3  # of a header that is fetched with the pixels; more are directories between pages
MOST_OFFSET = 2**62  # a BigTIFF can claim more than an int64 holds

Structures = tuple[tuple[tuple[int, int, int, bytes], ...], ...]


@dataclass(frozen=True, eq=False)
class _Template:
    """A parsed file, and what another one has to share with it."""

    header: Header
    touched: tuple[tuple[int, bytes], ...]
    """What the parse read: first byte, bytes."""
    directories: tuple[Directory, ...] = ()
    """Its directories; none if they do not determine all of its structure."""


class Guess(NamedTuple):
    """What the header of a file is likely to be, before any of its bytes are here."""

    header: Header
    runs: list[tuple[int, int]]
    """First byte and end of the bytes that show whether it is."""


class Alike(NamedTuple):
    """Files that are built like a known one, by their bytes."""

    header: Header
    """Of the known one."""
    frames: RawFrames | SegmentedFrames
    """Its frames; pixels that lie as they are do so at the same place in all files."""
    rows: NDArray[np.intp]
    """Which files."""
    offsets: NDArray[np.int64]
    """Shape (file, frame, segment): first byte of each segment."""
    counts: NDArray[np.int64]
    """Shape (file, frame, segment): bytes."""


class Templates:
    """Files parsed in this process that others may be built like; any number of threads may ask."""

    def __init__(self) -> None:
        self._nbytes = 0  # of what the parses read
        self._by_size: dict[int, _Template] = {}
        self._by_tags: dict[Structures, _Template] = {}
        self._by_form: deque[tuple[Form, _Template]] = deque(maxlen=MOST_FORMS)
        self._last: tuple[Header, Callable[[], HeaderBytes]] | None = None
        self.tail: int | None = None
        """Bytes at the end of the file that was parsed last that hold parts of its header; None
        before the first."""

    def find(self, file: File, data: HeaderBytes) -> Header | None:
        """Return the header of *file* if it is built like a known one, else None.

        Raises
        ------
        UnreadableFileError
            If it is built like one and its segments lie outside of it: it is truncated.
        """
        template = self._by_size.get(file.size)
        if template is not None and all(
            data.read(start, len(piece)) == piece for start, piece in template.touched
        ):
            return template.header.of_twin(file)
        self.complete()
        if not self._by_tags:
            return None
        for form, template in tuple(self._by_form):  # another thread may add to it meanwhile
            if (pages := form.read(data)) is not None:
                return _with_table(template, file, pages)
        try:
            directories = tuple(read_directories(data, file.url))
        except UnreadableFileError:
            return None  # tifffile finds the words for what is wrong
        template = self._by_tags.get(tuple(d.structure for d in directories))
        return None if template is None else _with_table(template, file, directories)

    def find_alike(
        self, sizes: NDArray[np.int64], contents: NDArray[np.uint8], among: NDArray[np.bool_]
    ) -> Iterator[Alike]:
        """Yield files that are certainly built like known ones, in groups: no file is in two.

        The same comparisons as in :meth:`find`, of many files at once. A file that is in no group
        may be built like a known one, too.

        Parameters
        ----------
        sizes : ndarray
            Of files, in bytes.
        contents : ndarray
            All bytes of each file, at the beginning of a line of its own.
        among : ndarray
            Whether each file is in question.
        """
        self.complete()
        among = among.copy()
        for size in set(sizes[among].tolist()):
            template = self._by_size.get(size)
            frames = None if template is None else _whole_frames(template.header)
            if template is None or frames is None:
                continue
            rows = np.flatnonzero(among & (sizes == size))
            for start, piece in template.touched:
                found = contents[rows, start : start + len(piece)]
                rows = rows[(found == np.frombuffer(piece, np.uint8)).all(axis=1)]
            among[rows] = False
            offsets, counts = (
                np.broadcast_to(table, (len(rows), *table.shape)) for table in _table_of(frames)
            )
            yield Alike(template.header, frames, rows, offsets, counts)
        for form, template in tuple(self._by_form):
            frames = _whole_frames(template.header)
            rows = form.find(sizes, contents, among)
            tables = form.read_tables(contents, rows) if len(rows) else None
            if frames is None or tables is None:
                continue
            known = _pages_of(frames, template.directories)
            if known is None or tables[0].shape[1:] != known[0].shape:
                continue
            offsets, counts = tables
            # what has to be weighed, of sparse segments or of pixels elsewhere, is left
            room = sizes[rows, None, None] - offsets
            fits = ((offsets > 0) & (counts > 0) & (counts <= room)).all(axis=(1, 2))
            if isinstance(frames, RawFrames):
                fits &= ((offsets == known[0]) & (counts == known[1])).all(axis=(1, 2))
                fits &= int(frames.offsets[0]) + _nbytes_of(frames) <= sizes[rows]
            among[rows[fits]] = False
            yield Alike(template.header, frames, rows[fits], offsets[fits], counts[fits])

    def guess(self, file: File) -> Guess | None:
        """Return what the header is if *file* is a twin of a known one of its size, else None.

        Only of pixels that lie as they are: compressed files of one size differ inside.
        """
        template = self._by_size.get(file.size)
        if template is None or not isinstance(template.header.frames, RawFrames):
            return None
        runs: list[tuple[int, int]] = []
        for start, piece in template.touched:
            if runs and start - runs[-1][1] <= TAIL_SLACK:
                runs[-1] = runs[-1][0], start + len(piece)
            else:
                runs.append((start, start + len(piece)))
        return Guess(template.header.of_twin(file), runs) if len(runs) <= MOST_RUNS else None

    def add(self, header: Header, data: HeaderBytes, reopen: Callable[[], HeaderBytes]) -> None:
        """Take a parsed file as a template.

        Parameters
        ----------
        header : Header
            The result of the parse.
        data : HeaderBytes
            What it was read through.
        reopen : callable
            Returns that anew, for the directories: they are read when a second file comes, since
            10,000 of them take as long as the rest, and many sources are one file.
        """
        self.complete()
        touched = tuple((start, data.read(start, count)) for start, count in data.merged())
        nbytes = sum(len(piece) for _, piece in touched)
        is_full = self._nbytes + nbytes > setting_bytes("header_cache")  # long descriptions
        if is_full or max(len(self._by_size), len(self._by_tags)) >= MOST_TEMPLATES:
            self.clear()  # no two files alike: nothing is lost
        self._nbytes += nbytes
        self._by_size[header.file.size] = _Template(header, touched)
        self.tail = _tail_of(data)
        if header.structure.kind in _FROM_TAGS:
            self._last = header, reopen

    def complete(self) -> None:
        """Read the directories of the file that was parsed last, if nobody has yet.

        A thread that finds meanwhile may not find a file that is built like that one.
        """
        last, self._last = self._last, None
        if last is None:
            return
        header, reopen = last
        try:
            found, form = read_form(reopen(), header.file.url)
        except (UnreadableFileError, StorageError, FilesNotFoundError):
            return  # odd in a way that tifffile forgives and the small reader does not, or gone
        directories = tuple(found)
        template = _Template(header, (), directories)
        if _agrees(template):
            self._by_tags[tuple(d.structure for d in directories)] = template
            if form is not None:
                self._by_form.appendleft((form, template))

    def clear(self) -> None:
        """Forget all templates."""
        self._nbytes = 0
        self._last = None
        self._by_size.clear()
        self._by_tags.clear()
        self._by_form.clear()


def _tail_of(data: HeaderBytes) -> int:
    """Return how many bytes at the end hold parts of a header: its IFDs may follow the pixels."""
    near = (start for start, _ in data.merged() if FIRST_BYTES <= start >= data.size - MOST_TAIL)
    first = min(near, default=data.size)
    return min(data.size - first + TAIL_SLACK, data.size) if first < data.size else 0


def _with_table(
    template: _Template, file: File, directories: tuple[Directory, ...]
) -> Header | None:
    """Return the template's header with the segment table of other directories, if it fits."""
    frames = template.header.frames
    pages = _pages_of(frames, directories)
    if pages is None or isinstance(frames, JoinedFrames):
        return None
    offsets, counts = pages
    if isinstance(frames, SegmentedFrames):
        if not ((counts > 0) == (frames.counts > 0)).all():
            return None  # a sparse segment here or there: tifffile settles what it means
        refuse_outside(offsets, counts, file, "page {}")
        tables = replace(frames, offsets=offsets, counts=counts)
        return template.header.of_twin(file, tables)
    expected = _pages_of(frames, template.directories)
    if expected is None or not np.array_equal(counts, expected[1]):
        return None  # of pixels that lie as they are, the counts are structure
    if not (offsets[:, :-1] + counts[:, :-1] == offsets[:, 1:]).all():
        return None
    first = offsets[:, 0].copy()
    if len(frames.offsets) == 1 and len(first) > 1:  # the pages are one run
        if not (first[1:] - first[:-1] == counts[:-1].sum(axis=1)).all():
            return None
        first = first[:1]
    refuse_outside(first, _nbytes_of(frames), file, "page {}")
    return template.header.of_twin(file, replace(frames, offsets=first))


def _whole_frames(header: Header) -> RawFrames | SegmentedFrames | None:
    """Return the frames if all of their pixels are in the file, in one run or in segments."""
    frames = header.frames
    if isinstance(frames, JoinedFrames) or not (frames.offsets > 0).all():
        return None
    if isinstance(frames, RawFrames):
        return frames if len(frames.offsets) == 1 else None
    return frames if (frames.counts > 0).all() else None


def _table_of(
    frames: RawFrames | SegmentedFrames,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets and counts as (frame, segment); pixels that lie as they are, are one."""
    if isinstance(frames, SegmentedFrames):
        return frames.offsets, frames.counts
    return frames.offsets[:, None], np.full((len(frames.offsets), 1), _nbytes_of(frames))


def _nbytes_of(frames: RawFrames) -> int:
    """Return the bytes of one frame."""
    return int(np.prod(frames.shape, dtype=object)) * frames.dtype.itemsize


def _pages_of(
    frames: Frames, directories: tuple[Directory, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return offsets and counts, one row per page, None if pages have unequal tables."""
    lengths = {len(d.offsets) for d in directories} | {len(d.counts) for d in directories}
    if len(lengths) != 1 or 0 in lengths:
        return None
    if max(max(*d.offsets, *d.counts) for d in directories) > MOST_OFFSET:
        return None
    offsets = np.array([d.offsets for d in directories], np.int64)
    counts = np.array([d.counts for d in directories], np.int64)
    if isinstance(frames, SegmentedFrames) and offsets.shape != frames.offsets.shape:
        return None
    return offsets, counts


def _agrees(template: _Template) -> bool:
    """Whether the small reader's table of the template's own file is the one tifffile gave."""
    theirs = template.header.frames
    if isinstance(theirs, JoinedFrames):
        return False
    try:
        ours = _with_table(template, template.header.file, template.directories)
    except UnreadableFileError:
        return False
    if ours is None or isinstance(ours.frames, JoinedFrames):
        return False
    if not np.array_equal(ours.frames.offsets, theirs.offsets):
        return False
    mine = ours.frames
    return not (
        isinstance(mine, SegmentedFrames) and isinstance(theirs, SegmentedFrames)
    ) or np.array_equal(mine.counts, theirs.counts)
