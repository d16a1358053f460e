"""Ranges of bytes of one file, local or in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.local_ranges import LocalBytes
from intake_tiffstack.storage.remote_ranges import RemoteBytes
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ByteSource", "open_bytes"]


class ByteSource(Protocol):
    """Reads bytes of one file by position."""

    @property
    def read_cost(self) -> int:
        """Cost of one more read, as the bytes that could be read in the same time."""

    def fill(self, spans: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer from its first byte in the file on, or raise."""

    def fill_held(
        self, spans: Sequence[tuple[int, memoryview]]
    ) -> Sequence[tuple[int, memoryview]]:
        """Fill what needs no read, and return the other spans."""


def open_bytes(file: File, storage_options: Mapping[str, Any]) -> ByteSource:
    """Return the reader of the bytes of *file*; nothing is opened yet."""
    if is_local(file.url):
        return LocalBytes(file)
    return RemoteBytes(file, storage_options)
