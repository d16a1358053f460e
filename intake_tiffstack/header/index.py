"""Headers of remote files kept in a Parquet file, so that each is fetched once, by one process.

A row per file: ``url``, ``size``, ``mtime_ns`` and ``etag`` as in a list of URLs (the index serves
as one), and the bytes of the file that describe its structure: ``start`` and ``bytes``, a list
each. They are parsed as if they had just been fetched, so that an index states nothing that the
file does not; a file that differs from its row in size, time or ETag is read anew.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.errors import FilesNotFoundError, OptionError
from intake_tiffstack.header.frames import JoinedFrames, RawFrames, SegmentedFrames
from intake_tiffstack.header.header_bytes import Windows
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.store import open_store
from intake_tiffstack.storage.urls import absolute_url, is_local, split_chain

if TYPE_CHECKING:
    from intake_tiffstack.header.frames import Frames

__all__ = ["HeaderIndex", "header_windows", "read_index", "write_index"]

COLUMNS = ("url", "size", "mtime_ns", "etag", "start", "bytes")


class HeaderIndex:
    """The header bytes of files by URL; immutable.

    Parameters
    ----------
    columns : mapping of str
        The columns of :data:`COLUMNS`, equally long; ``start`` and ``bytes`` hold a list per file.
        Parquet's own columns are not converted before a row is wanted.
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        urls, *self._known = (columns[name].to_pylist() for name in COLUMNS[:4])
        self._start, self._bytes = columns["start"], columns["bytes"]
        self._rows = {url: row for row, url in enumerate(urls)}

    def __len__(self) -> int:
        return len(self._rows)

    def _row(self, file: File) -> int | None:
        row = self._rows.get(file.url)
        if row is None:
            return None
        size, mtime_ns, etag = (column[row] for column in self._known)
        # what cannot be compared does not count as equal: a file of unknown date may have changed
        is_certain = bool(etag and file.etag) or min(mtime_ns, file.mtime_ns) >= 0
        is_same = file.agrees_with(File(file.url, size, mtime_ns, etag))
        return row if is_certain and is_same and size == file.size else None

    def has(self, file: File) -> bool:
        """Return whether the index holds the header of *file* as it was listed."""
        return self._row(file) is not None

    def windows(self, file: File) -> Windows | None:
        """Return the header bytes of *file*, None if the index has none of this version of it."""
        row = self._row(file)
        if row is None:
            return None
        starts, pieces = self._start[row].as_py(), self._bytes[row].as_py()
        return [(start, bytearray(piece)) for start, piece in zip(starts, pieces, strict=True)]


def read_index(url: str, storage_options: Mapping[str, Any]) -> HeaderIndex | None:
    """Return the index at *url*, None if there is none; one request.

    Raises
    ------
    OptionError
        If the file is not an index.
    StorageError
        If the store refuses or cannot be reached.
    ImportError
        If pyarrow is not installed; the extra ``index`` installs it.
    """
    refuse_misspelled(url)
    pyarrow, parquet = _import_arrow(url)
    url = absolute_url(url)
    try:
        store = open_store(url, {} if is_local(url) else storage_options)
        content = store.read(split_chain(url)[0])
    except FilesNotFoundError:
        return None
    try:
        table = parquet.read_table(io.BytesIO(content))
        return HeaderIndex({name: table.column(name).combine_chunks() for name in COLUMNS})
    except (pyarrow.ArrowInvalid, KeyError, TypeError) as exc:
        raise OptionError(
            f"header_index: {url} is not an index of headers ({exc}); give another path, or "
            "remove the file",
            url=url,
        ) from exc


def write_index(
    url: str, rows: Sequence[tuple[File, Windows]], storage_options: Mapping[str, Any]
) -> None:
    """Write an index, completely or not at all; one there before is replaced.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    pyarrow, parquet = _import_arrow(url)
    files = [file for file, _ in rows]
    table = pyarrow.table(
        {
            "url": pyarrow.array([file.url for file in files], pyarrow.string()),
            "size": pyarrow.array([file.size for file in files], pyarrow.int64()),
            "mtime_ns": pyarrow.array([file.mtime_ns for file in files], pyarrow.int64()),
            "etag": pyarrow.array([file.etag for file in files], pyarrow.string()),
            "start": pyarrow.array(
                [[at for at, _ in windows] for _, windows in rows], pyarrow.list_(pyarrow.int64())
            ),
            "bytes": pyarrow.array(
                [[bytes(piece) for _, piece in windows] for _, windows in rows],
                pyarrow.list_(pyarrow.binary()),
            ),
        }
    )
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    path, chain = split_chain(absolute_url(url))
    folder, _, name = path.rpartition("/")
    options = {} if is_local(url) else storage_options
    Folder.at(folder + chain, options).write_document(name, buffer.getvalue())


def header_windows(windows: Windows, frames: Frames) -> Windows:
    """Return the fetched pieces of a file without its pixels. Pure."""
    starts, stops = _pixels(frames)
    return [piece for at, window in windows for piece in _outside(at, window, starts, stops)]


def _pixels(frames: Frames) -> tuple[list[int], list[int]]:
    """Return where runs of pixels begin and end, by ascending start. Pure."""
    parts = frames.parts if isinstance(frames, JoinedFrames) else (frames,)
    starts, counts = [], []
    for part in parts:
        offsets = part.offsets.ravel()
        starts.append(offsets)
        if isinstance(part, SegmentedFrames):
            counts.append(part.counts.ravel())
        elif isinstance(part, RawFrames):
            nbytes = int(np.prod(part.shape, dtype=object)) * part.dtype.itemsize
            counts.append(np.full(offsets.shape, nbytes, np.int64))
    start, count = np.concatenate(starts), np.concatenate(counts)
    kept = (start > 0) & (count > 0)
    start, count = start[kept], count[kept]
    order = np.argsort(start)
    stop = np.maximum.accumulate(start[order] + count[order]) if len(order) else start
    return start[order].tolist(), stop.tolist()


def _outside(
    at: int, window: bytearray, starts: Sequence[int], stops: Sequence[int]
) -> Iterator[tuple[int, bytearray]]:
    """Yield the parts of a window between runs. Pure.

    >>> list(_outside(10, bytearray(b"abcdef"), [0, 12], [11, 14]))
    [(11, bytearray(b'b')), (14, bytearray(b'ef'))]
    """
    place, end = at, at + len(window)
    for start, stop in zip(starts, stops, strict=True):
        if start >= end:
            break
        if start > place:
            yield place, window[place - at : start - at]
        place = max(place, stop)
    if place < end:
        yield place, window[place - at :]


class _Known:
    """The indexes that this process has read, by URL."""

    def __init__(self) -> None:
        self._indexes: dict[str, HeaderIndex | None] = {}
        self._lock = threading.Lock()

    def read(
        self, url: str, storage_options: Mapping[str, Any], *, is_fresh: bool = False
    ) -> HeaderIndex | None:
        """Return an index, read at most once; once more if *is_fresh*."""
        if is_fresh or url not in self._indexes:
            with self._lock:
                if is_fresh or url not in self._indexes:
                    self._indexes[url] = read_index(url, storage_options)
        return self._indexes[url]


KNOWN = _Known()


def _import_arrow(url: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as exc:
        raise ImportError(
            f"header_index={url!r} needs pyarrow: pip install 'intake-tiffstack[index]'"
        ) from exc
    return pyarrow, parquet
