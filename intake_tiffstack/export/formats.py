"""The registry of formats: how each is written, recognized and opened again.

To add a format, add an entry to :data:`FORMATS`; ``docs/design/extending.md`` has the steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from intake_tiffstack.copies.open_zarr import ZarrCopy
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.record import CopyRecord, read_record
from intake_tiffstack.copies.zarr_documents import document_errors
from intake_tiffstack.copies.zarr_store import is_zarr_group
from intake_tiffstack.errors import OptionError
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.reference_targets import ICECHUNK, check_references, is_references
from intake_tiffstack.storage.zipped import inside_zip

__all__ = ["FORMATS", "ExportFormat", "find_writer", "open_copy", "read_copy_record"]


@dataclass(frozen=True)
class ExportFormat:
    """One format; functions are named as ``module:function`` in this package, imported at use."""

    name: str
    """What ``export(format=...)`` accepts."""
    write: str
    """Writes an array; its keyword parameters are the options of ``export()``."""
    open: str | None
    """Opens a copy: ``(url, storage_options, *, arraytype, sel, ...) -> ZarrCopy``; None for TIFF
    files, which the driver ``tiffstack`` opens."""
    recognizes: Callable[[str, Mapping[str, Any]], bool]
    """Whether a URL, with its storage options, holds a copy in this format."""
    open_options: tuple[str, ...] = ()
    """Options of opening that only this format has."""


def _is_document(url: str, storage_options: Mapping[str, Any]) -> bool:
    return is_references(url)


def _is_repository(url: str, storage_options: Mapping[str, Any]) -> bool:
    return url.rstrip("/").endswith(ICECHUNK)


def _is_group(url: str, storage_options: Mapping[str, Any]) -> bool:
    return is_zarr_group(Folder.at(url, storage_options))


FORMATS: Mapping[str, ExportFormat] = {
    format.name: format
    for format in (
        ExportFormat(
            "icechunk",
            write="export.icechunk:write_icechunk",
            open="references.icechunk_repository:open_icechunk",
            recognizes=_is_repository,
            open_options=("remote_options",),
        ),
        ExportFormat(
            "references",
            write="references.write:write_references",
            open="references.open:open_references",
            recognizes=_is_document,
            open_options=("remote_options",),
        ),
        ExportFormat(
            "ome-zarr",
            write="export.ome_zarr.write:write_ome_zarr",
            open="copies.open_ome_zarr:open_ome_zarr",
            recognizes=_is_group,
            open_options=("level", "image"),
        ),
        ExportFormat(
            "ome-tiff",
            write="export.ome_tiff.write:write_ome_tiff",
            open=None,
            recognizes=lambda url, storage_options: False,
        ),
        ExportFormat(
            "zarr",
            write="export.zarr_array:write_zarr",
            open="copies.open_zarr:open_zarr",
            recognizes=lambda url, storage_options: True,  # its errors say what is there instead
            open_options=("dims",),
        ),
    )
}
"""By name; the first that recognizes a URL opens it."""


def find_writer(format: str) -> Callable[..., ExportPlan]:
    """Return the function that writes a format; only that format's modules are imported.

    Raises
    ------
    OptionError
        If there is no such format.
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise OptionError.unknown("format", str(format), FORMATS)
    writer: Callable[..., ExportPlan] = _load(FORMATS[format].write)
    return writer


def open_copy(
    url: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    dims: Sequence[str] | None = None,
    level: int = 0,
    image: str | None = None,
    remote_options: Mapping[str, Any] | None = None,
    arraytype: str = "numpy",
    sel: Mapping[str, Any] | None = None,
) -> ZarrCopy:
    """Return a copy in any of the formats as a lazy array.

    A URL that ends in ``.ozx`` is a zipped OME-Zarr, one that ends in ``.json`` a document of
    references, a Zarr group is an OME-Zarr.

    Parameters
    ----------
    url : str or os.PathLike[str]
    storage_options : mapping of str, optional
    arraytype : str
    sel : mapping of str, optional
        See :func:`~intake_tiffstack.copies.open_zarr.open_zarr`.
    dims : sequence of str, optional
        Of a Zarr array that does not name its dims.
    level : int
    image : str, optional
        Of an OME-Zarr; see :func:`~intake_tiffstack.copies.open_ome_zarr.open_ome_zarr`.
    remote_options : mapping of str, optional
        Of references; see :func:`~intake_tiffstack.references.open_references`.

    Raises
    ------
    FilesNotFoundError
        If there is no copy at *url*.
    StorageError
        If the copy cannot be read.
    OptionError
        If an option belongs to another format.
    """
    text, options = inside_zip(os.fspath(url), storage_options or {})
    if text.startswith("reference:"):
        check_references(text, options)
    with document_errors(text):
        format = next(one for one in FORMATS.values() if one.recognizes(text, options))
    extra: dict[str, Any] = {
        "dims": dims,
        "level": level,
        "image": image,
        "remote_options": remote_options,
    }
    own = {name: extra.pop(name) for name in format.open_options}
    if format.open is None:
        raise ValueError(f"format {format.name!r} recognizes {text}, but opens nothing")
    with document_errors(text):
        copy: ZarrCopy = _load(format.open)(text, options, arraytype=arraytype, sel=sel, **own)
    for name, value in extra.items():
        if value:
            others = " or ".join(repr(f.name) for f in FORMATS.values() if name in f.open_options)
            raise OptionError(
                f"{name}={value!r} is an option of format {others}, but {url} is in format "
                f"{format.name!r}"
            )
    return copy


def read_copy_record(url: str, storage_options: Mapping[str, Any]) -> CopyRecord | None:
    """Return the audit record of a copy in any format, None if it has none."""
    if not _is_repository(url, storage_options):
        return read_record(url, storage_options)
    read = _load("references.icechunk_repository:read_icechunk_record")
    found: CopyRecord | None = read(url, storage_options)
    return found


def _load(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(f"intake_tiffstack.{module}"), function)
