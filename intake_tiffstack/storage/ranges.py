"""Where the bytes of a file come from: this machine or a store."""

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
    """Bytes of one file, by position."""

    @property
    def read_cost(self) -> int:
        """What one more read costs, in bytes that could have been read meanwhile."""

    def fill(self, spans: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer from its first byte in the file on, or raise."""


def open_bytes(file: File, storage_options: Mapping[str, Any]) -> ByteSource:
    """Return where the bytes of *file* come from; nothing is opened yet."""
    if is_local(file.url):
        return LocalBytes(file)
    return RemoteBytes(file, storage_options)
