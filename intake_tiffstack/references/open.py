"""References as a lazy array."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import fsspec
import imagecodecs.numcodecs
import zarr
from zarr.storage import FsspecStore

from intake_tiffstack.copies.open_zarr import ZarrCopy, open_zarr
from intake_tiffstack.errors import FilesNotFoundError, OptionError, StorageError, TiffStackError
from intake_tiffstack.references.parquet import require_parquet
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.reference_targets import PARQUET, check_references, document_of
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.urls import is_local

__all__ = ["ARRAY", "SUFFIX", "open_document", "open_references"]

ARRAY = "pixels"
"""The one array in the group: xarray opens groups, and names what it finds there."""

SUFFIX = ".json"
"""How the names of documents end."""

_OPENINGS = 5
"""How often to open references that are replaced while they are opened."""


def open_references(
    url: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    remote_options: Mapping[str, Any] | None = None,
    arraytype: str = "numpy",
    sel: Mapping[str, Any] | None = None,
) -> ZarrCopy:
    """Return the lazy array, dims, coordinates and attributes of a document of references.

    The document is read as a whole, and no pixel.

    Parameters
    ----------
    url : str or os.PathLike[str]
        Of the document.
    storage_options : mapping of str, optional
        For fsspec, of the document, and of the files where nothing else is said.
    remote_options : mapping of str, optional
        For fsspec, of the files that it refers to.
    arraytype : str
    sel : mapping of str, optional
        As :func:`~intake_tiffstack.export.open_zarr` has them.

    Raises
    ------
    FilesNotFoundError
        If there is no such document.
    StorageError
        If it holds no references to the array that :func:`write_references` makes, cannot be
        read, or names files that the setting ``allow_references`` does not allow.
    """
    imagecodecs.numcodecs.register_codecs(verbose=False)
    options = dict(storage_options or {})
    text = os.fspath(url)
    if text.rstrip("/").endswith(PARQUET):
        require_parquet()
    for _ in range(_OPENINGS):
        document = stat_file(document_of(text), options)  # an absent one is named as such
        try:
            return _open(text, options, remote_options, arraytype, sel)
        except TiffStackError as exc:
            if document.agrees_with(stat_file(document_of(text), options)):
                raise
            error = exc  # it was replaced meanwhile
    raise error


def _open(
    text: str,
    options: dict[str, Any],
    remote_options: Mapping[str, Any] | None,
    arraytype: str,
    sel: Mapping[str, Any] | None,
) -> ZarrCopy:
    check_references(text, options)
    chained = {
        "fo": text,
        "target_options": options,
        "remote_options": dict(remote_options or options),
    }
    where = f"reference://{ARRAY}"
    try:
        Folder.at(where, chained)
    except OptionError as exc:
        raise StorageError(
            f"{text} holds no references that can be used: {exc.__cause__}", url=text
        ) from exc
    try:
        return open_zarr(where, chained, arraytype=arraytype, sel=sel)
    except FilesNotFoundError as exc:
        raise StorageError(
            f"{text} holds references, but none to an array named {ARRAY!r}", url=text
        ) from exc


def open_document(
    document: Mapping[str, Any], url: str, storage_options: Mapping[str, Any]
) -> zarr.Array[Any]:
    """Return the array of a document that is not written yet.

    Parameters
    ----------
    document : mapping of str
        As JSON.
    url : str
    storage_options : mapping of str
        Of one of the files.
    """
    imagecodecs.numcodecs.register_codecs(verbose=False)
    remote = {} if is_local(url) else dict(storage_options)
    filesystem = fsspec.filesystem(
        "reference",
        fo=dict(document),
        remote_protocol="file" if is_local(url) else url.partition("://")[0],
        remote_options={**remote, "asynchronous": True},
        asynchronous=True,
        skip_instance_cache=True,
    )
    return zarr.open_array(FsspecStore(filesystem, read_only=True), path=ARRAY, mode="r")
