"""The few bytes of a file that describe its structure, fetched in windows.

A header is small and scattered: one IFD per page, and values beside them. Windows grow with the
spacing met, so that a file whose IFDs lie between its pages costs a handful of requests, and a file
whose IFDs lie together costs one.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    StorageError,
    TiffStackError,
    UnreadableFileError,
)
from intake_tiffstack.storage.first_bytes import FIRST_BYTES
from intake_tiffstack.storage.ranges import open_bytes
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from intake_tiffstack.storage.files import File
    from intake_tiffstack.storage.ranges import ByteSource

__all__ = ["HeaderBytes", "HeaderFile", "Windows", "open_header"]

LARGEST = 2**22

MOST_VISITS = 256
"""How often one page's directory may be read in one parse; a few times is usual, and tifffile ends
some circles itself after 100 pages."""

Windows = list[tuple[int, bytearray]]
"""Pieces of a file: first byte, bytes."""


class HeaderBytes:
    """Bytes of one file by position, kept once fetched.

    Parameters
    ----------
    source : ByteSource
        Where they come from.
    size : int
        Of the file, in bytes.
    smallest : int
        The least to fetch at a time.
    windows : Windows, optional
        What was fetched of the file before, if it is kept; what is fetched now is added.
    """

    def __init__(
        self,
        source: ByteSource,
        size: int,
        *,
        smallest: int = FIRST_BYTES,
        windows: Windows | None = None,
    ) -> None:
        self.size = size
        self.touched: list[tuple[int, int]] = []
        self.error: TiffStackError | None = None
        self._source = source
        self._smallest = smallest
        self.windows: Windows = [] if windows is None else windows
        self._last_miss = 0

    def read(self, start: int, count: int) -> bytes:
        """Return up to *count* bytes from *start* on; fewer at the end of the file."""
        stop = min(start + count, self.size)
        if stop <= start:
            return b""
        self.touched.append((start, stop - start))
        for begin, window in reversed(self.windows):
            if begin <= start and stop <= begin + len(window):
                return bytes(window[start - begin : stop - begin])
        return self._read_across(start, stop)

    def _read_across(self, start: int, stop: int) -> bytes:
        """Return bytes that no window holds alone, fetching those that none holds."""
        pieces: list[bytes] = []
        while start < stop:
            held = next((w for w in self.windows if w[0] <= start < w[0] + len(w[1])), None)
            begin, window = self._fetch(start, stop) if held is None else held
            pieces.append(bytes(window[start - begin : stop - begin]))
            start += len(pieces[-1])
        return b"".join(pieces)

    @property
    def read_cost(self) -> int:
        """What one more read costs, as its source has it."""
        return self._source.read_cost

    def fill(self, spans: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer, from what was fetched where it is there: a small file is read once."""
        rest = self.fill_held(spans)
        if rest:
            self._source.fill(rest)

    def fill_held(
        self, spans: Sequence[tuple[int, memoryview]]
    ) -> Sequence[tuple[int, memoryview]]:
        """Fill what was fetched with the header, and return the other spans."""
        rest = []
        for start, buffer in spans:
            for begin, window in self.windows:
                if begin <= start and start + buffer.nbytes <= begin + len(window):
                    at = start - begin
                    buffer.cast("B")[:] = memoryview(window)[at : at + buffer.nbytes]
                    break
            else:
                rest.append((start, buffer))
        return rest

    def _fetch(self, start: int, stop: int) -> tuple[int, bytearray]:
        """Fetch a window from *start* on: twice the spacing of misses, up to the next window."""
        spacing = abs(start - self._last_miss)
        self._last_miss = start
        length = max(stop - start, min(max(2 * spacing, self._smallest), LARGEST))
        end = min([start + length, self.size, *(w[0] for w in self.windows if w[0] > start)])
        window = bytearray(end - start)
        try:
            self._source.fill([(start, memoryview(window))])
        except TiffStackError as exc:
            self.error = exc
            raise
        self.windows.append((start, window))
        return start, window

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave what is read meanwhile out of :attr:`touched`."""
        count = len(self.touched)
        try:
            yield
        finally:
            del self.touched[count:]

    def raise_error(self) -> None:
        """Raise what a fetch raised: tifffile logs what a tag raises, and goes on without it."""
        if self.error is not None:
            raise self.error

    def merged(self) -> list[tuple[int, int]]:
        """Return what was read as (start, count), ascending, with neighbours put together."""
        return merge_ranges(self.touched)


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges without overlap. Pure.

    >>> merge_ranges([(8, 2), (0, 4), (2, 4), (10, 1)])
    [(0, 6), (8, 3)]
    """
    merged: list[tuple[int, int]] = []
    for start, count in sorted(ranges):
        if merged and start <= merged[-1][0] + merged[-1][1]:
            begin, length = merged[-1]
            merged[-1] = (begin, max(length, start + count - begin))
        else:
            merged.append((start, count))
    return merged


def open_header(
    file: File,
    storage_options: Mapping[str, Any] | None = None,
    windows: Windows | None = None,
) -> HeaderBytes:
    """Return the bytes that a header is read through; nothing is fetched yet.

    Raises
    ------
    StorageError
        If the store does not report the size of the file.
    FileChangedError
        If it must be asked for the size, and the file does not exist.
    """
    size = file.size
    if size < 0:
        try:
            size = stat_file(file.url, storage_options or {}).size
        except FilesNotFoundError as exc:
            raise FileChangedError(
                f"{file.url} was listed but no longer exists; call relist()", url=file.url
            ) from exc
    if size < 0:
        raise StorageError(
            f"{file.url}: the store does not report the size of the file; read it through a cache, "
            f"as simplecache::{file.url}",
            url=file.url,
        )
    smallest = 2**12 if is_local(file.url) else FIRST_BYTES
    source = open_bytes(file, storage_options or {})
    return HeaderBytes(source, size, smallest=smallest, windows=windows)


class HeaderFile(io.RawIOBase):
    """:class:`HeaderBytes` as the file that tifffile wants."""

    def __init__(self, data: HeaderBytes, name: str) -> None:
        super().__init__()
        self.data = data
        self.name = name
        self._position = 0
        self._head_size = 2  # of a directory's count of tags, 8 in a BigTIFF
        self._visits: dict[int, int] = {}
        self._heads_end = -1  # of the count of tags that was read last
        self._directories = 0  # bytes of all that were read, each once

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.data.size}[whence]
        if base + offset < 0:
            raise UnreadableFileError(f"{self.name} points before its first byte", url=self.name)
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Return up to *size* bytes, all of the rest where it is negative."""
        count = self.data.size - self._position if size is None or size < 0 else size
        found = self.data.read(self._position, max(0, count))
        if self._position == 0 and count > 3:
            self._head_size = 8 if found[2:4] in (b"+\0", b"\0+") else 2
        elif count == self._head_size:
            self._count_visit()
            self._heads_end = self._position + count
        elif self._position == self._heads_end:
            self._count_directory(count)
        self._position += len(found)
        return found

    def _count_visit(self) -> None:
        """Raise if the head of one directory is read again and again: the chain has no end.

        Nothing but a count of tags is stored in so few bytes away from its tag.
        """
        at = self._position
        self._visits[at] = visits = self._visits.get(at, 0) + 1
        if visits > MOST_VISITS:
            self._refuse(f"its pages run in a circle at byte {at:,}")

    def _count_directory(self, count: int) -> None:
        """Raise if the directories hold more bytes than the file: they overlap, by the thousand.

        What follows the count of tags at once is the directory itself.
        """
        at = self._position
        if self._visits.get(at - self._head_size) == 1:
            self._directories += count
        if self._directories > 2 * self.data.size:
            self._refuse(f"the directories of its pages overlap at byte {at:,}")

    def _refuse(self, fault: str) -> None:
        self.data.error = UnreadableFileError(
            f"{self.name} is corrupt: {fault}; copy it again, or leave it out with `exclude`",
            url=self.name,
        )
        raise self.data.error

    def readinto(self, buffer: object, /) -> int:
        """Fill *buffer* and return how many bytes there were."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)
