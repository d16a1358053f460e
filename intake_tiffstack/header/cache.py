"""Parsed headers of this process: bounded by bytes, each file parsed once however many ask."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

from intake_tiffstack.header import (
    Header,
    HeaderBytes,
    RawMetadata,
    Templates,
    Windows,
    open_header,
    read_header,
    read_raw_metadata,
)
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


class HeaderCache:
    """The headers used last, within a number of bytes."""

    def __init__(self) -> None:
        self._headers: OrderedDict[Hashable, Header] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()
        self._parsing: dict[Hashable, threading.Lock] = {}
        self._templates: dict[tuple[int, int], Templates] = {}
        self._remote: OrderedDict[File, Windows] = OrderedDict()

    def get(
        self, file: File, *, storage_options: Mapping[str, Any], series: int, level: int
    ) -> Header:
        """Return the header of *file*, read now if it is not here."""
        return self.open(file, storage_options=storage_options, series=series, level=level)[0]

    def open(
        self, file: File, *, storage_options: Mapping[str, Any], series: int, level: int
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

    def get_raw_metadata(self, file: File, *, storage_options: Mapping[str, Any]) -> RawMetadata:
        """Return what *file* says of its pixels; remote bytes fetched before serve again."""
        return read_raw_metadata(file, data=self._fetched(file, storage_options))

    def _read(
        self,
        file: File,
        data: HeaderBytes,
        storage_options: Mapping[str, Any],
        series: int,
        level: int,
    ) -> Header:
        """Return a header by the cheapest way that is certain, as ``header.twins`` tells."""
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
        )
        templates.add(header, data, partial(self._fetched, file, storage_options))
        return header

    def _fetched(self, file: File, storage_options: Mapping[str, Any]) -> HeaderBytes:
        if is_local(file.url):
            return open_header(file)
        limit = setting_bytes("header_cache")
        with self._lock:
            windows = self._remote.setdefault(file, [])
            self._remote.move_to_end(file)
            while len(self._remote) > REMOTE_FILES or (
                len(self._remote) > 1 and sum(map(_nbytes, self._remote.values())) > limit
            ):
                self._remote.popitem(last=False)
        return open_header(file, storage_options, windows)

    def _look_up(self, key: Hashable) -> Header | None:
        with self._lock:
            header = self._headers.get(key)
            if header is not None:
                self._headers.move_to_end(key)
            return header

    def _keep(self, key: Hashable, header: Header) -> None:
        limit = setting_bytes("header_cache")
        with self._lock:
            self._headers[key] = header
            self._nbytes += header.nbytes
            while self._nbytes > limit and len(self._headers) > 1:
                _, dropped = self._headers.popitem(last=False)
                self._nbytes -= dropped.nbytes

    def renew_locks(self) -> None:
        """Make new locks: a fork copies those that other threads hold, and none of the threads."""
        self._lock = threading.Lock()
        self._parsing = {}

    def clear(self) -> None:
        """Forget all headers."""
        with self._lock:
            self._headers.clear()
            self._templates.clear()
            self._remote.clear()
            self._nbytes = 0


def _nbytes(windows: Windows) -> int:
    return sum(len(window) for _, window in windows)


_CACHE = HeaderCache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CACHE.renew_locks)
get_header = _CACHE.get
open_file = _CACHE.open
get_raw_metadata = _CACHE.get_raw_metadata
clear_headers = _CACHE.clear
