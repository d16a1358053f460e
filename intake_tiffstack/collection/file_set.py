"""The files that one program wrote as one image: which belong to such a set."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from intake_tiffstack.collection.micromanager_set import NDTIFF_INDEX, find_mmstack, find_ndtiff
from intake_tiffstack.collection.model import FileSet
from intake_tiffstack.collection.ome_tiff_set import find_ome
from intake_tiffstack.errors import (
    FilesNotFoundError,
    OptionError,
    StorageError,
    UnreadableFileError,
    warn,
)
from intake_tiffstack.formatting import few
from intake_tiffstack.listing.list_files import list_files
from intake_tiffstack.metadata.ome_set import names_other_files
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.store import open_store
from intake_tiffstack.storage.urls import split_chain

if TYPE_CHECKING:
    from intake_tiffstack.options import Options
    from intake_tiffstack.reading.reader import CollectionReader
    from intake_tiffstack.storage.files import File

__all__ = ["find_set", "warn_of_siblings"]

_EXCLUDED = ("pattern", "concat_dim", "sel", "files", "file_dims", "labels")
"""Options that say what a set says itself."""

_FINDERS = {"ome": find_ome, "ndtiff": find_ndtiff, "mmstack": find_mmstack}


def find_set(options: Options) -> FileSet:
    """Return the set that the files at ``urlpath`` are of.

    Raises
    ------
    OptionError
        If an option contradicts a set, or the urlpath matches files of no or another set.
    FilesNotFoundError
        If a file with metadata, or every file with pixels, is absent.
    """
    for name in _EXCLUDED:
        if getattr(options, name):
            raise OptionError(
                f"sets={options.sets!r} takes the place of each plane from the files, so that "
                f"{name} has no effect: keep one of them",
                option=name,
            )
    if options.place != "index":
        raise OptionError(f"sets={options.sets!r} and place={options.place!r}: keep one of them")
    if options.layout == "sidecar":
        raise OptionError(f"sets={options.sets!r} and layout='sidecar': keep one of them")
    given = list_files(
        options.urlpath, storage_options=options.storage_options, exclude=options.exclude
    )
    return _FINDERS[options.sets](options, given)


def warn_of_siblings(file: File, reader: CollectionReader) -> None:
    """Warn if one file is opened of a set, and others of it are beside it."""
    with suppress(UnreadableFileError, StorageError):
        xml = reader.raw_metadata(file).tags.get("ome_xml")
        folder, _, name = split_chain(file.url)[0].rpartition("/")
        if "NDTiffStack" in name and _is_there(f"{folder}/{NDTIFF_INDEX}", file.url, reader):
            warn(
                f"{hide_in_text(file.url)} is of the set that {NDTIFF_INDEX} beside it lists: "
                "sets='ndtiff' opens the whole set, of which this is a part"
            )
            return
        others = set() if xml is None else set(names_other_files(xml, name))
        if not others:
            return
        store = open_store(file.url, reader.storage_options)
        found = store.files(f"{folder}/", lambda other: other in others)
        there = sorted(split_chain(url)[0].rpartition("/")[2] for url in found.urls)
        if there:
            files = f"{len(there):,} more file{'s' * (len(there) > 1)} beside it"
            warn(
                f"{hide_in_text(file.url)} is of an OME-TIFF set with {files}, "
                f"{few(there, 3)}: sets='ome' opens the whole set, of which this is a part"
            )


def _is_there(path: str, beside: str, reader: CollectionReader) -> bool:
    with suppress(FilesNotFoundError):
        return open_store(beside, reader.storage_options).stat(path) is not None
    return False
