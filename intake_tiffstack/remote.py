"""Bytes of an object in a store: many ranges of one file, each seen to be the right one.

An answer counts only where it is about the object that was listed and holds just what was asked.
S3 and HTTP say so with every answer; of any other store the file is looked up once more behind the
reads of a fill.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.cached import CachingFileSystem

from .errors import FileChangedError, FilesNotFoundError, StorageError, UnreadableFileError
from .filesystem import get_filesystem, http_status, is_transient, speaks, storage_errors
from .filesystem import store_exceptions as _store_exceptions
from .filetable import File
from .settings import setting_number
from .store import mtime_ns, stat_file

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["RemoteBytes", "get_ranges"]

PART_BYTES = 2**24
"""A longer range is asked for in parts: they come side by side, and a failure costs one of them."""

_CHUNK = 2**20  # what an S3 body is read by; less comes where less is there
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds before another attempt; doubled each time

Part = tuple[int, memoryview]
Fetch = Callable[[int, memoryview, Callable[[], None]], Awaitable[None]]
"""Fills a buffer from a byte on, and calls the third at each sign of life."""


@dataclass(frozen=True)
class RemoteBytes:
    """An object of any fsspec filesystem, read by ranges."""

    file: File
    storage_options: Mapping[str, Any] = field(repr=False)
    read_cost: int = 2**18  # a request takes about as long as 256 kB at 10 MB/s and 25 ms

    def fill(self, spans: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer; one request a span, or :data:`PART_BYTES` of it."""
        get_ranges(self.file, spans, self.storage_options)


def get_ranges(
    file: File, ranges: Sequence[tuple[int, memoryview]], storage_options: Mapping[str, Any]
) -> None:
    """Fill each buffer from its first byte in *file* on, with many requests at a time.

    Parameters
    ----------
    file
        The file as it was listed; what has another size, ETag or time now is never read.
    ranges
        First byte and the writable, contiguous buffer that says how many to read.
    storage_options
        Handed to fsspec.

    Raises
    ------
    FileChangedError
        The file is gone, or is not the one that was listed.
    UnreadableFileError
        A range goes beyond the listed size; nothing is asked then.
    StorageError
        The store refuses, fails for longer than ``retries`` and ``timeout`` allow, or answers with
        other bytes than were asked for.

    Notes
    -----
    One request a range on S3 and HTTP, each checked by its own answer. Elsewhere one more for all
    of them, that looks the file up.
    """
    parts = _split_ranges(file, ranges)
    if not parts:
        return
    with _read_errors(file, storage_options):
        filesystem, path = get_filesystem(file.url, storage_options)
        if speaks(filesystem, "s3"):
            _fetch_parts(filesystem, partial(_fetch_s3, filesystem, path, file), parts)
        elif speaks(filesystem, "http"):
            _fetch_parts(filesystem, partial(_fetch_http, filesystem, path, file), parts)
        else:
            try:
                if isinstance(filesystem, AsyncFileSystem):
                    _fetch_parts(filesystem, partial(_fetch_any, filesystem, path, file), parts)
                else:
                    _read_in_turn(filesystem, path, file, parts)
            finally:  # not before: the file could be replaced between the look and the read
                _refuse_changed(file, stat_file(file.url, storage_options))


def _split_ranges(file: File, ranges: Sequence[tuple[int, memoryview]]) -> list[Part]:
    """Return the ranges as parts of at most :data:`PART_BYTES`, empty ones left out. Pure."""
    parts: list[Part] = []
    for start, buffer in ranges:
        if not buffer.nbytes:
            continue
        if 0 <= file.size < start + buffer.nbytes:
            raise UnreadableFileError(
                f"{file.url} ends at byte {file.size:,}, but {buffer.nbytes:,} bytes from byte "
                f"{start:,} on are needed",
                url=file.url,
            )
        view = buffer.cast("B")
        parts += [
            (start + at, view[at : at + PART_BYTES]) for at in range(0, len(view), PART_BYTES)
        ]
    return parts


# --- what is wrong ------------------------------------------------------------------------------


@contextmanager
def _read_errors(file: File, storage_options: Mapping[str, Any]) -> Iterator[None]:
    """Turn what a store raises into our errors: what is not as it was listed has changed."""
    try:
        with storage_errors(file.url, storage_options):
            yield
    except FilesNotFoundError as exc:
        raise FileChangedError(
            f"{file.url} was listed but is not there any more; call relist()", url=file.url
        ) from exc
    except StorageError as exc:
        # IfMatch failed; or nothing is there where the listed object had bytes
        if exc.__cause__ is not None and http_status(exc.__cause__) in (412, 416):
            raise _changed(file, exc.details["cause"]) from exc
        raise


def _changed(file: File, what: str) -> FileChangedError:
    return FileChangedError(
        f"{file.url} changed since it was listed ({what}); call relist() and open again",
        url=file.url,
    )


def _refuse_changed(file: File, now: File) -> None:
    if file.agrees_with(now):
        return
    if min(file.size, now.size) >= 0 and file.size != now.size:
        raise _changed(file, f"size {file.size:,}, now {now.size:,}")
    raise _changed(file, f"ETag {file.etag}, now {now.etag}" if file.etag else "another time")


def _refuse_answer(
    file: File, start: int, count: int, status: int, headers: Mapping[str, str]
) -> None:
    """Raise unless an HTTP answer is about the listed file and holds just the range. Pure."""
    length = int(headers.get("content-length", count))
    has_range = status == 206
    whole = f"bytes 0-{length - 1}/{length}"
    span, _, size = (headers.get("content-range", "") if has_range else whole).partition("/")
    is_asked = span == f"bytes {start}-{start + count - 1}"
    if has_range or is_asked:
        time = mtime_ns(headers) if file.mtime_ns >= 0 else -1
        known_size = int(size) if size.isdigit() else -1
        _refuse_changed(file, File(file.url, known_size, time, headers.get("etag")))
    elif not is_asked:
        raise StorageError(
            f"{_asked(file, start, count)}, but got all {length:,}: the server ignores ranges; "
            f"read through a local copy of each file, as simplecache::{file.url}",
            url=file.url,
        )
    if not is_asked or length != count:
        raise StorageError(f"{_asked(file, start, count)}, but got {span}", url=file.url)


def _asked(file: File, start: int, count: int) -> str:
    return f"{file.url}: asked for {count:,} bytes from byte {start:,}"


# --- one range ----------------------------------------------------------------------------------


async def _fetch_s3(
    filesystem: Any,
    path: str,
    file: File,
    start: int,
    buffer: memoryview,
    is_alive: Callable[[], None],
) -> None:
    """One GetObject that fails (412) where the object has another ETag than the listing gave.

    Not by ``_cat_file``, which knows no ``IfMatch`` and repeats what botocore repeated already.
    """
    bucket, key, version = filesystem.split_path(path)
    asked = {"Bucket": bucket, "Key": key, "Range": _range_text(start, len(buffer))}
    if version:
        asked["VersionId"] = version
    if file.etag and not filesystem.local_expiry_check:  # a store that does not know IfMatch
        asked["IfMatch"] = '"{}"'.format(file.etag.strip('"'))
    await filesystem.set_session()
    client = await filesystem.get_s3(bucket)
    # what belongs to every request: SSE-C keys, requester pays
    asked = filesystem._get_s3_method_kwargs(client.get_object, filesystem.req_kw, **asked)
    answer = await client.get_object(**asked)
    body, told = answer["Body"], answer["ResponseMetadata"]
    async with body:
        _refuse_answer(file, start, len(buffer), told["HTTPStatusCode"], told["HTTPHeaders"])
        await _fill_buffer(partial(body.read, _CHUNK), file, start, buffer, is_alive)


async def _fetch_http(
    filesystem: Any,
    url: str,
    file: File,
    start: int,
    buffer: memoryview,
    is_alive: Callable[[], None],
) -> None:
    """One GET, given up before its body comes where the body is not what was asked."""
    import aiohttp  # as fsspec's HTTP has

    options = {**filesystem.kwargs}
    headers = {
        **options.pop("headers", {}),
        "Range": _range_text(start, len(buffer)),
        "Accept-Encoding": "identity",  # ranges of the file, not of its compressed form
    }
    if "timeout" not in filesystem.client_kwargs:  # not 5 minutes for all of it
        options.setdefault("timeout", aiohttp.ClientTimeout(total=None))
    session = await filesystem.set_session()
    async with session.get(filesystem.encode_url(url), headers=headers, **options) as answer:
        answer.raise_for_status()
        _refuse_answer(file, start, len(buffer), answer.status, answer.headers)
        await _fill_buffer(answer.content.readany, file, start, buffer, is_alive)


async def _fetch_any(
    filesystem: Any,
    path: str,
    file: File,
    start: int,
    buffer: memoryview,
    is_alive: Callable[[], None],
) -> None:
    """One range by what every asynchronous filesystem has."""
    content = await filesystem._cat_file(path, start=start, end=start + len(buffer))
    if len(content) != len(buffer):
        raise StorageError(
            f"{_asked(file, start, len(buffer))}, but got {len(content):,}", url=file.url
        )
    buffer[:] = content


def _range_text(start: int, count: int) -> str:
    return f"bytes={start}-{start + count - 1}"


async def _fill_buffer(
    read: Callable[[], Awaitable[bytes]],
    file: File,
    start: int,
    buffer: memoryview,
    is_alive: Callable[[], None],
) -> None:
    """Copy a body into its place as it comes; another length than the place has is an error."""
    done = 0
    while chunk := await read():
        is_alive()
        if done + len(chunk) <= len(buffer):
            buffer[done : done + len(chunk)] = chunk
        done += len(chunk)
    if done != len(buffer):
        raise StorageError(f"{_asked(file, start, len(buffer))}, but got {done:,}", url=file.url)
