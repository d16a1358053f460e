"""Files on S3 or a web server looked up and begun to be read by the same request.

A lookup takes a round trip and says only the size and the ETag. A request for the first bytes says
the same, and these bytes hold most of the header, which is wanted next.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from fsspec.asyn import sync

from intake_tiffstack.last_used import LastUsed
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage import obstore_s3
from intake_tiffstack.storage.attempts import Patience, persist
from intake_tiffstack.storage.failures import store_exceptions
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.filesystem import get_filesystem, speaks
from intake_tiffstack.storage.http import get_range
from intake_tiffstack.storage.mtime import mtime_ns
from intake_tiffstack.storage.obstore_s3 import Span, range_header
from intake_tiffstack.storage.s3 import get_object, without_repeats

__all__ = [
    "FIRST_BYTES",
    "LAST_BYTES",
    "look_up_with_first_bytes",
    "take_first_bytes",
    "windows_nbytes",
]

FIRST_BYTES = 2**14
"""Bytes fetched at first of a remote file: the header of most files."""

LAST_BYTES = 2**16
"""Bytes fetched at first of the end of a remote file that is read alone: directories that were
written behind the pixels, of 300 pages and more."""


class _Kept:
    """First bytes by file until they are wanted; those kept longest are dropped."""

    def __init__(self) -> None:
        self._windows: LastUsed[list[tuple[int, bytes]]] = LastUsed(windows_nbytes)
        self._lock = threading.Lock()

    def keep(self, file: File, windows: list[tuple[int, bytes]]) -> None:
        with self._lock:
            self._windows.keep(file, windows)
            self._windows.trim(setting_bytes("header_cache"))

    def take(self, file: File) -> list[tuple[int, bytes]]:
        with self._lock:
            return self._windows.pop(file) or []

    def renew_lock(self) -> None:
        """Make a new lock: a fork copies one that another thread holds, and not that thread."""
        self._lock = threading.Lock()


def windows_nbytes(windows: Sequence[tuple[int, bytes | bytearray]]) -> int:
    """Return the number of bytes in windows of a file, which are (start, content)."""
    return sum(len(content) for _, content in windows)


_KEPT = _Kept()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_KEPT.renew_lock)
take_first_bytes = _KEPT.take


def look_up_with_first_bytes(
    filesystem: Any, urls: Sequence[str], storage_options: Mapping[str, Any]
) -> list[File]:
    """Return the files at *urls* that are found this way; one request each, all at once.

    Of a single file, the last bytes are requested too, because directories may be there.

    A URL is left out if the store does not answer with a range of a file whose size it states:
    the ordinary lookup finds out why, and names it. So are all if their first bytes exceed the
    setting ``header_cache``.

    Parameters
    ----------
    filesystem : fsspec.AbstractFileSystem
        Of S3 or HTTP.
    urls : sequence[str]
        In the same store.
    storage_options : mapping of str
        With which the filesystem was opened.
    """
    if not urls or len(urls) * FIRST_BYTES > setting_bytes("header_cache"):
        return []
    patience = replace(Patience.of_settings(), retries=0)
    ask = partial(_ask, filesystem, storage_options, patience)

    async def look_up_all() -> list[_Piece | None]:
        asked = [ask(url, (0, FIRST_BYTES)) for url in urls]
        if len(urls) == 1:
            asked.append(ask(urls[0], {"suffix": LAST_BYTES}))
        return await asyncio.gather(*asked)

    found = sync(filesystem.loop, look_up_all)
    firsts = [piece for piece in found[: len(urls)] if piece is not None]
    ends = {piece.file: piece for piece in found[len(urls) :] if piece is not None}
    for first in firsts:
        windows = [(0, first.content)]
        end, done = ends.get(first.file), len(first.content)
        if end is not None and done < first.file.size:
            start = max(done, end.start)
            windows.append((start, end.content[start - end.start :]))
        _KEPT.keep(first.file, windows)
    return [first.file for first in firsts]


class _Piece(NamedTuple):
    """Bytes of a file, and the file as the response describes it."""

    file: File
    start: int
    content: bytes


async def _ask(
    filesystem: Any, options: Mapping[str, Any], patience: Patience, url: str, span: Span
) -> _Piece | None:
    """Return the bytes that were asked for; None if the response is anything else."""
    request = _request_s3 if speaks(filesystem, "s3") else _request_http
    found: list[_Piece | None] = []

    async def once(is_alive: Callable[[], None]) -> None:
        found.append(await request(filesystem, options, url, span, is_alive))

    try:
        await persist(once, url, patience)
    except asyncio.IncompleteReadError:
        return None
    except store_exceptions():
        return None  # the ordinary lookup meets the fault too, or does not
    return found[-1]


async def _request_http(
    filesystem: Any,
    options: Mapping[str, Any],
    url: str,
    span: Span,
    is_alive: Callable[[], None],
) -> _Piece | None:
    async with get_range(filesystem, url, range_header(span)) as answer:
        is_alive()
        if _is_page(answer.headers):
            return None
        return await _read(url, span, answer.status, answer.headers, answer.content.readexactly)


async def _request_s3(
    filesystem: Any,
    options: Mapping[str, Any],
    url: str,
    span: Span,
    is_alive: Callable[[], None],
) -> _Piece | None:
    path = filesystem._strip_protocol(url)
    try:
        answer = await obstore_s3.get_range(filesystem, path, span, None)
    except obstore_s3.NotReachedError:
        once, _ = get_filesystem(url, without_repeats(options))
        response = await get_object(once, path, range_header(span), None)
        is_alive()
        about = response["ResponseMetadata"]
        async with response["Body"] as body:
            headers = about["HTTPHeaders"]
            return await _read(url, span, about["HTTPStatusCode"], headers, lambda n: body.read())
    is_alive()
    if not answer.etag or (answer.start, answer.stop) != _expected(span, answer.size):
        return None
    content = b"".join([bytes(chunk) async for chunk in answer.chunks])
    if len(content) != answer.stop - answer.start:
        return None
    return _Piece(File(url, answer.size, -1, answer.etag), answer.start, content)


async def _read(
    url: str,
    span: Span,
    status: int,
    headers: Mapping[str, str],
    read: Callable[[int], Awaitable[bytes]],
) -> _Piece | None:
    """Return the bytes of a response, None unless it is a range of a file whose size it states."""
    stated, _, size = headers.get("content-range", "").partition("/")
    if status != 206 or not size.isdigit():
        return None
    start, stop = _expected(span, int(size))
    length = headers.get("content-length", str(stop - start))
    if stated != f"bytes {start}-{stop - 1}" or length != str(stop - start):
        return None
    content = await read(stop - start)
    if len(content) != stop - start:
        return None
    etag = headers.get("etag")
    file = File(url, int(size), -1 if etag else mtime_ns(headers), etag)
    return _Piece(file, start, content)


def _expected(span: Span, size: int) -> tuple[int, int]:
    """Return first byte and end of what a file of this size has of a span. Pure.

    >>> _expected((0, 100), 70), _expected({"suffix": 30}, 70)
    ((0, 70), (40, 70))
    """
    if isinstance(span, tuple):
        return span[0], min(span[1], size)
    return max(0, size - span["suffix"]), size


def _is_page(headers: Mapping[str, str]) -> bool:
    return str(headers.get("content-type", "")).startswith("text/html")
