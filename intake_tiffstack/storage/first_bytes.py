"""Files on a web server looked up and begun to be read by the same request.

A lookup takes a round trip and says only the size and the ETag. A request for the first bytes says
the same, and these bytes hold most of the header, which is wanted next.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fsspec.asyn import sync

from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage.attempts import Patience, persist
from intake_tiffstack.storage.failures import store_exceptions
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.http import get_range
from intake_tiffstack.storage.mtime import mtime_ns

__all__ = ["FIRST_BYTES", "look_up_with_first_bytes", "take_first_bytes"]

FIRST_BYTES = 2**14
"""Bytes fetched at first of a remote file: the header of most files."""


class _Kept:
    """First bytes by file until they are wanted; those kept longest are dropped."""

    def __init__(self) -> None:
        self._bytes: OrderedDict[File, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, file: File, content: bytes) -> None:
        most = setting_bytes("header_cache") // FIRST_BYTES
        with self._lock:
            self._bytes[file] = content
            while len(self._bytes) > max(most, 1):
                self._bytes.popitem(last=False)

    def take(self, file: File) -> bytes | None:
        with self._lock:
            return self._bytes.pop(file, None)

    def renew_lock(self) -> None:
        """Make a new lock: a fork copies one that another thread holds, and not that thread."""
        self._lock = threading.Lock()


_KEPT = _Kept()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_KEPT.renew_lock)
take_first_bytes = _KEPT.take


def look_up_with_first_bytes(filesystem: Any, urls: Sequence[str]) -> list[File]:
    """Return the files at *urls* that are found this way; one request each, all at once.

    A URL is left out if the server does not answer with a range of a file whose size it states:
    the ordinary lookup finds out why, and names it. So are all if their first bytes exceed the
    setting ``header_cache``.
    """
    if not urls or len(urls) * FIRST_BYTES > setting_bytes("header_cache"):
        return []
    patience = replace(Patience.of_settings(), retries=0)

    async def look_up_all() -> list[File | None]:
        return await asyncio.gather(*(_look_up(filesystem, url, patience) for url in urls))

    return [file for file in sync(filesystem.loop, look_up_all) if file is not None]


async def _look_up(filesystem: Any, url: str, patience: Patience) -> File | None:
    found: list[File] = []

    async def once(is_alive: Callable[[], None]) -> None:
        async with get_range(filesystem, url, f"bytes=0-{FIRST_BYTES - 1}") as answer:
            is_alive()
            stated, _, size = answer.headers.get("content-range", "").partition("/")
            if answer.status != 206 or not size.isdigit() or _is_page(answer.headers):
                return
            count = min(int(size), FIRST_BYTES)
            if stated != f"bytes 0-{count - 1}" or answer.content_length not in (None, count):
                return
            content = await answer.content.readexactly(count)
            etag = answer.headers.get("etag")
            file = File(url, int(size), -1 if etag else mtime_ns(answer.headers), etag)
            _KEPT.keep(file, content)
            found.append(file)

    try:
        await persist(once, url, patience)
    except asyncio.IncompleteReadError:
        return None
    except store_exceptions():
        return None  # the ordinary lookup meets the fault too, or does not
    return found[0] if found else None


def _is_page(headers: Mapping[str, str]) -> bool:
    return str(headers.get("content-type", "")).startswith("text/html")
