"""Many files read at once: as many requests under way as the store answers promptly.

Over a distance a request is mostly waiting. So all files of a chunk are asked for at once: where
their headers begin in one round trip, their pixels in another one, and what has arrived is opened
and decoded while the rest is on its way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from intake_tiffstack.errors import StructureMismatchError, TiffStackError
from intake_tiffstack.reading.reader import AHEAD
from intake_tiffstack.reading.region import READ_ERRORS, PartRead, Spans
from intake_tiffstack.storage.concurrency import map_concurrently
from intake_tiffstack.storage.remote_ranges import Downloads, Fill, RemoteBytes, are_checked

if TYPE_CHECKING:
    from intake_tiffstack.header import Windows
    from intake_tiffstack.header.cache import Begun
    from intake_tiffstack.header.twins import Guess
    from intake_tiffstack.reading.reader import CollectionReader
    from intake_tiffstack.storage.ranges import ByteSource

__all__ = ["read_together"]

NEAR = 2**16
"""Pixels that begin so close behind a header are requested with it."""

DECODERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Threads that decode what has arrived, that of the caller included."""


def read_together(reads: Sequence[PartRead], reader: CollectionReader) -> None:
    """Do all reads, of remote files.

    In stores whose responses are not checked one by one (archives, SFTP ...), files are read by
    threads, one file each.

    Raises
    ------
    StructureMismatchError, UnreadableFileError, FileChangedError, StorageError
        If a file cannot be read, and ``on_error`` is ``raise``: the first error that is met. At
        the end nothing is written to memory any more.
    """
    checked = are_checked([read.file.url for read in reads], reader.storage_options)
    together = [read for read, is_checked in zip(reads, checked, strict=True) if is_checked]
    unchecked = [read for read, is_checked in zip(reads, checked, strict=True) if not is_checked]
    for start in range(0, len(together), AHEAD):
        _read_group(together[start : start + AHEAD], reader)
    for _ in map_concurrently(PartRead.run, unchecked):
        pass


def _read_group(group: Sequence[PartRead], reader: CollectionReader) -> None:
    """Do reads of files in stores whose responses are checked."""
    reads = [found for read in group if (found := _open_guessed(read, reader)) is not None]
    done = {id(opened.read) for opened in reads}
    others = [read for read in group if id(read) not in done]
    planned = {found.source.file: found for found in reader.plan_ahead([r.file for r in others])}
    unknown = []
    for read in others:
        begun = planned.pop(read.file, None)
        if begun is not None:
            reads.append(_Read(read, begun.source, begun=begun))
        elif reader.has_header(read.file):
            reads += _open_all([read], reader)
        else:  # its bytes are here but for some, or are fetched for another read
            unknown.append(read)
    decoding = _Decoding(reads, reader)
    decoding.finish()
    _Decoding(_open_all([*unknown, *decoding.unknown], reader), reader).finish()


@dataclass
class _Read:
    """A read that has begun."""

    read: PartRead
    source: ByteSource
    steps: Iterator[Spans] = field(default_factory=partial(iter, ()))
    begun: Begun | None = None
    """What is fetched before the file can be opened; None once it is."""
    guess: Guess | None = None
    """The header that it was begun with, as long as nobody knows whether it is true."""
    windows: Windows = field(default_factory=list)
    """The bytes that show it, fetched with the first pixels."""


def _open_guessed(read: PartRead, reader: CollectionReader) -> _Read | None:
    """Return the read of a file whose header is known from another one, None if it is not."""
    guess = reader.guess(read.file)
    if guess is None:
        return None
    try:
        return _Read(read, *read.open(guess.header), guess=guess)
    except StructureMismatchError:
        return None  # as it may be with the header of the file itself, which has to show it


def _with_header(opened: _Read, spans: Spans, guess: Guess) -> Spans:
    """Return the spans with those of the header, up to pixels that begin close behind it."""
    starts = [start for start, _ in spans]
    for start, stop in guess.runs:
        near = (at for at in starts if stop <= at <= stop + NEAR)
        opened.windows.append((start, bytearray(min(near, default=stop) - start)))
    header = [(start, memoryview(window)) for start, window in opened.windows]
    return sorted([*header, *spans], key=itemgetter(0))


def _open_all(reads: Sequence[PartRead], reader: CollectionReader) -> list[_Read]:
    """Return the reads with their files open, without those whose place was filled."""

    def open_(read: PartRead) -> _Read | None:
        try:
            return _Read(read, *read.open())
        except READ_ERRORS as exc:
            read.fail(exc)
            return None

    # the headers of some may need further requests
    return [opened for opened in map_concurrently(open_, reads) if opened is not None]


class _Decoding:
    """Reads whose bytes are downloaded together and decoded as they arrive."""

    def __init__(self, reads: Sequence[_Read], reader: CollectionReader) -> None:
        self._reads = reads
        self._reader = reader
        self._left = len(reads)
        self._lock = threading.Lock()
        self._has_failed = False
        self.unknown: list[PartRead] = []
        """Files whose first bytes are here, or failed, and do not show a header that is known."""

    def finish(self) -> None:
        """Do all reads but the unknown ones, and raise the first error."""
        if not self._reads:
            return
        others = min(DECODERS, len(self._reads)) - 1
        with Downloads() as downloads:
            fills = [
                self._next_fill(opened, None)
                if opened.begun is None
                else Fill(opened, opened.begun.source, opened.begun.spans)
                for opened in self._reads
            ]
            downloads.start([fill for fill in fills if fill is not None])
            self._end(fills.count(None), downloads)
            if not others:
                self._decode(downloads)
                return
            with ThreadPoolExecutor(others) as pool:
                helpers = [pool.submit(self._decode, downloads) for _ in range(others)]
                self._decode(downloads)
            for helper in helpers:
                helper.result()

    def _decode(self, downloads: Downloads) -> None:
        """Take what arrives until all reads are done or one has failed."""
        try:
            while True:
                opened, error = downloads.next()
                if opened is None or self._has_failed:
                    break
                fill = self._next_fill(opened, error)
                if fill is None:
                    self._end(1, downloads)
                else:
                    downloads.start([fill])
        except BaseException:  # an interrupt too ends the threads that wait for this one
            self._has_failed = True
            raise
        finally:
            downloads.wake()  # the next thread ends too

    def _next_fill(self, opened: _Read, error: BaseException | None) -> Fill | None:
        """Return what a read needs next, None at its end; decodes what it asked for before."""
        try:
            if opened.begun is not None and isinstance(error, TiffStackError | None):
                begun, opened.begun = opened.begun, None
                if not self._reader.take_ahead(begun, error):
                    self.unknown.append(opened.read)
                    return None
                opened.source, opened.steps = opened.read.open()
            elif error is not None:
                raise error
            if opened.windows and opened.guess is not None:
                is_true = self._reader.confirm(opened.guess, opened.windows)
                opened.guess = None
                if not is_true:  # what was read is somebody else's place: begin again
                    opened.source, opened.steps = opened.read.open()
            spans = next(opened.steps, None)
        except READ_ERRORS as exc:
            opened.read.fail(exc)
            return None
        if spans is None:
            return None
        if opened.guess is not None:
            spans = _with_header(opened, spans, opened.guess)
        rest = opened.source.fill_held(spans)
        return Fill(opened, RemoteBytes(opened.read.file, self._reader.storage_options), rest)

    def _end(self, count: int, downloads: Downloads) -> None:
        """Count reads that are done; after the last, let the threads end."""
        with self._lock:
            self._left -= count
            is_last = count > 0 and self._left == 0
        if is_last:
            downloads.wake()
