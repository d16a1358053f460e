"""Parsed headers of this process: bounded by bytes, each file parsed once however many ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from intake_tiffstack.header import Header, read_header
from intake_tiffstack.settings import setting_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from intake_tiffstack.filetable import File

__all__ = ["get_header"]


class HeaderCache:
    """The headers used last, within a number of bytes."""

    def __init__(self) -> None:
        self._headers: OrderedDict[Hashable, Header] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()
        self._parsing: dict[Hashable, threading.Lock] = {}

    def get(
        self, file: File, *, storage_options: Mapping[str, Any], series: int, level: int
    ) -> Header:
        """Return the header of *file*, parsed now if it is not here."""
        key = (file, series, level)
        found = self._look_up(key)
        if found is not None:
            return found
        with self._lock:
            parsing = self._parsing.setdefault(key, threading.Lock())
        with parsing:  # whoever comes second finds the header of whoever came first
            found = self._look_up(key)
            if found is not None:
                return found
            try:
                header = read_header(
                    file,
                    storage_options=storage_options,
                    series=series,
                    level=level,
                    max_image_bytes=setting_bytes("max_image_bytes"),
                )
                self._keep(key, header)
            finally:
                with self._lock:
                    self._parsing.pop(key, None)
        return header

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

    def clear(self) -> None:
        """Forget all headers."""
        with self._lock:
            self._headers.clear()
            self._nbytes = 0


_CACHE = HeaderCache()
get_header = _CACHE.get
clear_headers = _CACHE.clear
