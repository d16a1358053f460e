"""The metadata of a file, not interpreted: what each reader extracts from it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from intake_tiffstack.header.header_bytes import HeaderBytes, open_header
from intake_tiffstack.header.tiff_file import FILE_FAULTS, file_faults_named, open_tiff, short_text
from intake_tiffstack.metadata.reader import OpenImage, RawMetadata
from intake_tiffstack.metadata.readers import READERS
from intake_tiffstack.metadata.readers.micromanager import extract_page
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intake_tiffstack.storage.files import File

__all__ = ["extract_metadata", "read_pages_metadata", "read_raw_metadata"]

_METADATA_FAULTS: tuple[type[Exception], ...] = (*FILE_FAULTS, SyntaxError)
# xml.etree raises a SyntaxError for broken XML

# Micro-Manager cuts its display settings as often as not, and tifffile refuses a GDAL_NODATA that
# is right for all but the last digit.
_NO_FAULT = re.compile("display settings|GDAL_NODATA")
_NAME = re.compile(r"<tifffile\.TiffFile '[^']*'> ")  # of the file, cut to 32 characters


def read_raw_metadata(
    file: File,
    *,
    storage_options: Mapping[str, Any] | None = None,
    data: HeaderBytes | None = None,
    page: int = 0,
) -> RawMetadata:
    """Return the metadata of an image, parsed by no more than tifffile's own parsers.

    A part that cannot be read is left out and reported in ``notes``.

    Parameters
    ----------
    file : File
        The file as it was listed.
    storage_options : mapping, optional
        Passed to fsspec for a remote file.
    data : HeaderBytes, optional
        Reads the file, for a caller that has read from it.
    page : int
        Index of the image's key frame, see :attr:`Header.page`.
    """
    if data is None:
        data = open_header(file, storage_options)
    with open_tiff(data, file.url) as (tif, notes):
        with file_faults_named(file.url):
            key_frame = tif.pages.first if page == 0 else tif.pages[page]
        return extract_metadata(OpenImage(tif, key_frame), notes, file.url)


def extract_metadata(image: OpenImage, notes: list[str], url: str) -> RawMetadata:
    """Return the metadata of an image; faults are added to *notes*, which become its own."""
    tags: dict[str, Any] = {}
    for reader in READERS:
        if reader.extract is None:
            continue
        try:
            value = reader.extract(image)
        except _METADATA_FAULTS as exc:
            notes.append(f"{reader.name} metadata cannot be read: {short_text(exc)}")
        else:
            if value is not None:
                tags[reader.name] = value
    where = hide_in_text(url)
    faults = [f"{where}: {_NAME.sub('', note)}" for note in notes if not _NO_FAULT.search(note)]
    return RawMetadata(tags, notes=tuple(faults))


def read_pages_metadata(
    file: File, *, storage_options: Mapping[str, Any] | None = None
) -> list[dict[str, Any] | None]:
    """Return what Micro-Manager records of each page, None for a page without; walks all pages."""
    data = open_header(file, storage_options)
    with open_tiff(data, file.url) as (tif, _):
        tif.pages.useframes = False
        return [extract_page(page) for page in tif.pages]
