"""Where a Zarr copy lies: a local folder, or a prefix in any store that fsspec knows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import zarr.storage
from fsspec import AbstractFileSystem
from zarr.abc.store import Store

from intake_tiffstack.errors import FilesNotFoundError, StorageError, TargetExistsError
from intake_tiffstack.listing.filesystem import get_filesystem, is_local, storage_errors

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """A URL with the filesystem that serves it; made by :meth:`at`, used from any thread."""

    url: str
    """As it was given, without the last slash."""
    storage_options: Mapping[str, Any] = field(repr=False)
    """For fsspec; no error shows their texts."""
    filesystem: AbstractFileSystem = field(repr=False)
    """Blocking access to the store."""
    path: str
    """Of the place within *filesystem*."""

    @classmethod
    def at(
        cls, url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
    ) -> Self:
        """Return the place that *url* names; nothing is read.

        Raises
        ------
        OptionError
            If the protocol is unknown, or the storage options do not fit it.
        StorageError
            If the package for the protocol is not installed.
        """
        text = os.fspath(url)
        text = text.rstrip("/") or text
        options = dict(storage_options or {})
        return cls(text, options, *get_filesystem(text, options))

    def open_store(self, *, read_only: bool) -> Store:
        """Return Zarr's store for the place."""
        if is_local(self.url):
            return zarr.storage.LocalStore(self.path, read_only=read_only)
        return zarr.storage.FsspecStore.from_url(
            self.url, storage_options=dict(self.storage_options), read_only=read_only
        )

    def refuse_taken(self) -> None:
        """Raise where something is at the place already; an empty folder is nothing.

        A few requests, none of which changes anything.

        Raises
        ------
        TargetExistsError
            If there is a file, or a folder or prefix that holds something.
        StorageError
            If the store cannot be asked.
        """
        with self.write_errors():
            self.filesystem.invalidate_cache(self.path)
            if not self.filesystem.exists(self.path):
                return
            found = "a file"
            if self.filesystem.isdir(self.path):
                listed = self.filesystem.ls(self.path, detail=False)
                names = [name.rstrip("/").rpartition("/")[2] for name in listed]
                if not names:
                    return
                found = f"a folder with {names[0]!r} in it"
        raise TargetExistsError(
            f"{self.url} exists already ({found}) and is left as it is; give another URL, "
            "or delete it first (chunks with no metadata beside them are a copy that failed)",
            url=self.url,
        )

    def write_document(self, key: str, content: bytes) -> None:
        """Write one small object below the place, in one request."""
        with self.write_errors():
            self.filesystem.pipe_file(f"{self.path}/{key}", content)

    @contextmanager
    def read_errors(self) -> Iterator[None]:
        """Turn what the store raises inside the block into an error of this package."""
        with storage_errors(self.url, self.storage_options):
            yield

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Turn what the store raises inside the block into a StorageError.

        A folder or bucket that is not there is one too: nobody asked for a file.
        """
        try:
            with storage_errors(self.url, self.storage_options):
                yield
        except (FilesNotFoundError, StorageError) as exc:
            reason = exc.message.partition(f"{self.url}: ")[2] or exc.message
            raise StorageError(
                f"cannot write {self.url}: {reason}", url=self.url
            ) from exc.__cause__
        except NotImplementedError as exc:
            raise StorageError(
                f"cannot write {self.url}: the store is read-only", url=self.url
            ) from exc
