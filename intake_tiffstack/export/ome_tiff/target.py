"""Where an OME-TIFF is written, and how it gets its name when it is complete."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.copies.record import RECORD
from intake_tiffstack.errors import OptionError, StorageError, TargetExistsError
from intake_tiffstack.export.passes import Source
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.failures import is_transient, store_exceptions
from intake_tiffstack.storage.folder import PARTIAL, Folder, move_file
from intake_tiffstack.storage.urls import is_local

__all__ = ["Target"]

_PART = 2**24
"""Bytes that are compared at a time."""


@dataclass(frozen=True)
class Target:
    """Where the file will be."""

    folder: Folder
    """Its URL and filesystem."""

    @classmethod
    def at(cls, url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> Self:
        """Return the target at *url*; nothing is read.

        Raises
        ------
        OptionError
            If the name is not that of a TIFF.
        """
        folder = Folder.at(url, storage_options)
        if "::" in folder.url or not has_tiff_suffix(folder.url):
            raise OptionError(
                f"an OME-TIFF is one file whose name ends in .ome.tif, but got {folder.url}"
            )
        return cls(folder)

    @property
    def title(self) -> str:
        """The name of the file without its suffixes."""
        return self.folder.url.rpartition("/")[2].rpartition(".")[0].removesuffix(".ome")

    def refuse(self, source: Source, *, overwrite: bool) -> None:
        """Raise if something exists that must not be replaced.

        Raises
        ------
        TargetExistsError
            If so.
        """
        url = self.folder.url
        with self.folder.write_errors():
            self.folder.filesystem.invalidate_cache(self.folder.path.rpartition("/")[0])
            exists = self.folder.filesystem.exists(self.folder.path)
            is_folder = exists and self.folder.filesystem.isdir(self.folder.path)
        if not exists:
            return
        if isinstance(source, StackArray) and url in source.files.urls:
            raise TargetExistsError(
                f"{url} is one of the files to export and is left as it is; give another URL",
                url=url,
            )
        if is_folder or not overwrite:
            what = "a folder" if is_folder else "a file"
            advice = "" if is_folder else "overwrite=True replaces it, or "
            raise TargetExistsError(
                f"{url} exists already ({what}) and is left as it is; {advice}give another URL",
                url=url,
            )

    @contextmanager
    def new_file(self, *, overwrite: bool) -> Iterator[str]:
        """Yield the path of a local file to write, which is published at the end of the block."""
        if is_local(self.folder.url):
            partial = f"{self.folder.path}.{uuid.uuid4().hex}{PARTIAL}"
            with self.folder.write_errors():
                os.makedirs(os.path.dirname(partial), exist_ok=True)
            try:
                with self.folder.write_errors():
                    yield partial
                try:
                    move_file(partial, self.folder.path, overwrite=overwrite)
                except FileExistsError as exc:
                    raise self._appeared() from exc
            finally:
                with suppress(FileNotFoundError, PermissionError):  # it could not be created
                    os.unlink(partial)
            return
        with tempfile.TemporaryDirectory(prefix="tiffstack-") as folder:
            path = f"{folder}/image.ome.tif"
            yield path
            filesystem = self.folder.filesystem
            with self.folder.write_errors():
                if not overwrite and filesystem.exists(self.folder.path):
                    raise self._appeared()
                self._upload(path)
                filesystem.invalidate_cache(self.folder.path.rpartition("/")[0])
                size = ask(filesystem, "info", self.folder.path)["size"]
            if size != os.path.getsize(path):
                raise StorageError(
                    f"{self.folder.url} has {size:,} bytes after the upload, but the file has "
                    f"{os.path.getsize(path):,}",
                    url=self.folder.url,
                )

    def _upload(self, path: str) -> None:
        """Upload a local file; only the answer to the upload may be lost."""
        filesystem = self.folder.filesystem
        try:
            filesystem.put_file(path, self.folder.path)
        except store_exceptions() as exc:
            if not is_transient(exc) or not self._holds(path):
                raise

    def _holds(self, path: str) -> bool:
        """Return whether the object has the content of a local file; it is read back."""
        read, at = partial(ask, self.folder.filesystem, "cat_file", self.folder.path), 0
        with open(path, "rb") as file:
            while part := file.read(_PART):
                try:
                    if read(start=at, end=at + len(part)) != part:
                        return False
                except store_exceptions():
                    return False
                at += len(part)
        return True

    def write_record(self, content: bytes) -> None:
        """Write the audit record beside the file."""
        folder, _, name = self.folder.url.rpartition("/")
        Folder.at(folder, self.folder.storage_options).write_document(f"{name}.{RECORD}", content)

    def _appeared(self) -> TargetExistsError:
        return TargetExistsError(
            f"{self.folder.url} was written by another program meanwhile and is left as it is",
            url=self.folder.url,
        )
