"""The option ``header_index``: headers of all files kept for the next opening, and for workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intake_tiffstack.collection.file_reader import reader_of
from intake_tiffstack.errors import StorageError, warn
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from intake_tiffstack.options import Options
    from intake_tiffstack.storage.files import FileTable

__all__ = ["complete_index"]


def complete_index(files: FileTable, options: Options) -> None:
    """Add the remote files that the index lacks, or has in another version, and write it.

    Headers of such files are fetched, all others are taken from the index there is. Files that are
    no longer listed or cannot be read are left out. If the index cannot be written, that is a
    warning: the files open without it.
    """
    if options.header_index is None:
        return
    remote = [file for file in files if not is_local(file.url)]
    reader = reader_of(options)
    index = reader.index()
    if index is not None and all(map(index.has, remote)):
        return
    if not remote:
        return
    try:
        reader.write_index(remote)
    except StorageError as exc:
        warn(f"header_index is not written: {exc}")
