"""Ranges of bytes of a local file, by positional reads.

One call fills many spans of one file and keeps no handle open; any number of threads may read.
A file that has changed since it was listed is an error.
"""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from intake_tiffstack.errors import FileChangedError, FilesNotFoundError, UnreadableFileError
from intake_tiffstack.storage.files import File, FileTable
from intake_tiffstack.storage.special_files import OPEN_FLAGS, broken_link, open_regular

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["LocalBytes", "read_whole"]

_PREADV_MOST = 2**30  # Linux returns at most 2,147,479,552 bytes per call; stay well below


@dataclass(frozen=True)
class LocalBytes:
    """A local file, read by position straight into the caller's buffers."""

    file: File
    read_cost: int = 4096  # a page of the page cache: a read of 4 kB takes 13 us, mostly overhead

    def fill(self, spans: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer; one open, three fstat and one positional read per span."""
        url = self.file.url
        try:
            descriptor = open_regular(url)
        except UnreadableFileError:
            raise
        except FileNotFoundError as exc:
            if (broken := broken_link(url)) is not None:
                raise broken from exc
            folder = os.path.dirname(url)
            if not os.path.isdir(folder):  # a worker on another machine, or a disk that is gone
                raise FilesNotFoundError(
                    f"{url} was listed, but its folder {folder} does not exist on the host "
                    f"{socket.gethostname()!r}; all workers need the files at the same path",
                    url=url,
                ) from exc
            raise FileChangedError(
                f"{url} was listed but no longer exists; call relist()", url=url
            ) from exc
        except OSError as exc:
            raise UnreadableFileError(f"{url} cannot be opened: {exc.strerror}", url=url) from exc
        try:
            _refuse_changed(self.file, os.fstat(descriptor))
            for start, buffer in spans:
                _read_at(descriptor, start, buffer, url)
            _refuse_changed(
                self.file, os.fstat(descriptor)
            )  # it may have been written to meanwhile
        finally:
            os.close(descriptor)

    def fill_held(
        self, spans: Sequence[tuple[int, memoryview]]
    ) -> Sequence[tuple[int, memoryview]]:
        """Return all spans: each needs a read."""
        return spans


def read_whole(files: FileTable, out: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Fill a line of *out* with the bytes of each file, and return which files are as listed.

    Of the others, :class:`LocalBytes` says what is wrong. One open, one read and one fstat per
    file: that after the read finds what changed before it, too.

    Parameters
    ----------
    files : FileTable
        Local files of known sizes.
    out : ndarray
        C-contiguous, a line per file, at least as long as the longest one.
    """
    is_read = np.zeros(len(files), bool)
    buffer, length = out.reshape(-1).data, out.shape[1]
    ctimes = files.ctimes if files.ctimes is not None else np.full(len(files), -1)
    columns = zip(  # a File of each takes a tenth of the time
        files.urls, files.sizes.tolist(), files.mtimes.tolist(), ctimes.tolist(), strict=True
    )
    for i, (url, size, mtime_ns, ctime_ns) in enumerate(columns):
        try:
            descriptor = os.open(url, OPEN_FLAGS)
        except OSError:
            continue
        try:
            count = _read_once(descriptor, 0, buffer[i * length : i * length + size])
            status = os.fstat(descriptor)
        except OSError:  # a pipe has no positions
            continue
        finally:
            os.close(descriptor)
        is_read[i] = (
            count == status.st_size == size
            and stat.S_ISREG(status.st_mode)
            and mtime_ns in (-1, status.st_mtime_ns)
            and ctime_ns in (-1, status.st_ctime_ns)
        )
    return is_read


def _refuse_changed(file: File, status: os.stat_result) -> None:
    has_size = file.size < 0 or status.st_size == file.size
    has_time = file.mtime_ns < 0 or status.st_mtime_ns == file.mtime_ns
    if has_size and has_time and file.ctime_ns in (-1, status.st_ctime_ns):
        return
    if not has_size:
        how = f"it had {file.size:,} bytes, now {status.st_size:,}"
    elif not has_time:
        how = "it had another modification time"
    else:
        how = (
            "its size and modification time are the same, but it was replaced or written to, or "
            "its name, links, owner or permissions changed"
        )
    raise FileChangedError(
        f"{file.url} changed since it was listed: {how}; call relist() and open again",
        url=file.url,
    )


def _read_at(descriptor: int, start: int, buffer: memoryview, url: str) -> None:
    """Fill *buffer* from byte *start* on; loops, because a read may return less."""
    view = buffer.cast("B")
    done = 0
    while done < len(view):
        part = view[done : done + _PREADV_MOST]
        try:
            count = _read_once(descriptor, start + done, part)
        except OSError as exc:
            raise UnreadableFileError(
                f"{url} cannot be read at byte {start + done:,}: {exc.strerror}", url=url
            ) from exc
        if not count:
            raise UnreadableFileError(
                f"{url} ends at byte {start + done:,}, but {len(view) - done:,} more are needed",
                url=url,
            )
        done += count


def _read_once(descriptor: int, start: int, part: memoryview) -> int:
    """Fill *part* from byte *start* on, and return how many bytes were read."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [part], start)
    return _seek_and_read(descriptor, start, part)  # Windows has no preadv


def _seek_and_read(descriptor: int, start: int, part: memoryview) -> int:
    """Read by seeking: the slow replacement of ``os.preadv``, on a descriptor of its own."""
    with os.fdopen(os.dup(descriptor), "rb", buffering=0) as handle:
        handle.seek(start)
        return handle.readinto(part) or 0
