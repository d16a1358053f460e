"""Parsed headers of this process: bounded by bytes, each file parsed once however many ask."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from intake_tiffstack.header import (
    Header,
    HeaderBytes,
    Templates,
    Windows,
    open_header,
    read_header,
    read_raw_metadata,
)
from intake_tiffstack.metadata.reader import RawMetadata
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage.ranges import ByteSource, open_bytes
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from intake_tiffstack.storage.files import File

__all__ = ["clear_headers", "get_header", "get_raw_metadata", "open_file"]

REMOTE_FILES = 64
"""Remote files whose header bytes are kept, so that their metadata cost no more requests; fewer
where they take more than ``header_cache``."""

MOST_METADATA = 1024
"""Files whose raw metadata are kept; fewer if they take more than ``header_cache``."""


V = TypeVar("V", Header, RawMetadata)


class _LastUsed(Generic[V]):
    """The values used last, within a number of bytes and of values. Not safe between threads."""

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._nbytes = 0

    def get(self, key: Hashable) -> V | None:
        """Return the value under *key*, which is now the last used, None if it is not here."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][0]

    def keep(self, key: Hashable, value: V) -> None:
        """Add a value as the last used."""
        nbytes = value.nbytes
        self._nbytes += nbytes - self._values.pop(key, (value, 0))[1]
        self._values[key] = value, nbytes

    def trim(self, limit: int) -> None:
        """Drop those used longest ago until the rest, one at least, takes *limit* bytes."""
        while len(self._values) > 1 and (self._nbytes > limit or len(self._values) > self._most):
            _, (_, nbytes) = self._values.popitem(last=False)
            self._nbytes -= nbytes

    def clear(self) -> None:
        """Drop all values."""
        self._values.clear()
        self._nbytes = 0


class HeaderCache:
    """The headers and raw metadata used last, each within ``header_cache`` bytes."""

    def __init__(self) -> None:
        self._headers: _LastUsed[Header] = _LastUsed()
        self._metadata: _LastUsed[RawMetadata] = _LastUsed(MOST_METADATA)
        self._lock = threading.Lock()
        self._parsing: dict[Hashable, threading.Lock] = {}
        self._templates: dict[tuple[int | Literal["all"], int], Templates] = {}
        self._remote: OrderedDict[File, Windows] = OrderedDict()

    def get(
        self,
        file: File,
        *,
        storage_options: Mapping[str, Any],
        series: int | Literal["all"],
        level: int,
    ) -> Header:
        """Return the header of *file*, from the cache if it is there."""
        return self.open(file, storage_options=storage_options, series=series, level=level)[0]

    def open(
        self,
        file: File,
        *,
        storage_options: Mapping[str, Any],
        series: int | Literal["all"],
        level: int,
    ) -> tuple[Header, ByteSource]:
        """Return the header of *file*, and where to read its pixels.

        Of a file whose header is read now, what was fetched with it serves the pixels too.
        """
        key = (file, series, level)
        found = self._look_up(key)
        if found is not None:
            return found, open_bytes(file, storage_options)
        with self._lock:
            parsing = self._parsing.setdefault(key, threading.Lock())
        with parsing:  # whoever comes second finds the header of whoever came first
            found = self._look_up(key)
            if found is not None:
                return found, open_bytes(file, storage_options)
            try:
                data = self._fetched(file, storage_options)
                header = self._read(file, data, storage_options, series, level)
                self._keep(key, header)
            finally:
                with self._lock:
                    self._parsing.pop(key, None)
        return header, data

    def get_raw_metadata(
        self, file: File, *, storage_options: Mapping[str, Any], page: int = 0
    ) -> RawMetadata:
        """Return the raw metadata of an image: of its parse, else by opening the file for them."""
        with self._lock:
            raw = self._metadata.get((file, page))
        if raw is None:
            raw = read_raw_metadata(file, data=self._fetched(file, storage_options), page=page)
        self._keep_metadata(file, raw, page)
        return raw

    def _keep_metadata(self, file: File, raw: RawMetadata, page: int) -> None:
        with self._lock:
            self._metadata.keep((file, page), raw)
            self._trim()

    def _read(
        self,
        file: File,
        data: HeaderBytes,
        storage_options: Mapping[str, Any],
        series: int | Literal["all"],
        level: int,
    ) -> Header:
        """Return a header by the cheapest way that is certain, see ``header.twins``."""
        templates = self._templates.setdefault((series, level), Templates())
        found = templates.find(file, data)
        if found is not None:
            return found
        data.touched.clear()
        header = read_header(
            file,
            series=series,
            level=level,
            max_image_bytes=setting_bytes("max_image_bytes"),
            data=data,
            keep_metadata=partial(self._keep_metadata, file),
        )
        templates.add(header, data, partial(self._fetched, file, storage_options))
        return header

    def _fetched(self, file: File, storage_options: Mapping[str, Any]) -> HeaderBytes:
        if is_local(file.url):
            return open_header(file)
        with self._lock:
            windows = self._remote.setdefault(file, [])
            self._remote.move_to_end(file)
            self._trim()
        return open_header(file, storage_options, windows)

    def _look_up(self, key: Hashable) -> Header | None:
        with self._lock:
            return self._headers.get(key)

    def _keep(self, key: Hashable, header: Header) -> None:
        with self._lock:
            self._headers.keep(key, header)
            self._trim()

    def _trim(self) -> None:
        """Drop what was used longest ago, until each kind takes ``header_cache`` bytes at most."""
        limit = setting_bytes("header_cache")
        self._headers.trim(limit)
        self._metadata.trim(limit)
        while len(self._remote) > REMOTE_FILES or (
            len(self._remote) > 1 and sum(map(_nbytes, self._remote.values())) > limit
        ):
            self._remote.popitem(last=False)

    def renew_locks(self) -> None:
        """Make new locks: a fork copies those that other threads hold, and none of the threads."""
        self._lock = threading.Lock()
        self._parsing = {}

    def clear(self) -> None:
        """Forget all headers."""
        with self._lock:
            self._headers.clear()
            self._metadata.clear()
            self._templates.clear()
            self._remote.clear()


def _nbytes(windows: Windows) -> int:
    return sum(len(window) for _, window in windows)


_CACHE = HeaderCache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CACHE.renew_locks)
get_header = _CACHE.get
open_file = _CACHE.open
get_raw_metadata = _CACHE.get_raw_metadata
clear_headers = _CACHE.clear
