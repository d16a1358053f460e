"""The header of one file, parsed by tifffile's classes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from intake_tiffstack.errors import TiffStackError, UnreadableFileError
from intake_tiffstack.header.bare_pages import note_fallback, read_despite, read_left_over
from intake_tiffstack.header.build_header import FileToParse, Header, build_header
from intake_tiffstack.header.header_bytes import HeaderBytes, open_header
from intake_tiffstack.header.raw_metadata import extract_metadata
from intake_tiffstack.header.series import find_images
from intake_tiffstack.header.tiff_file import file_faults_named, open_tiff
from intake_tiffstack.header.untrusted_metadata import refuse_false_map, settle_ome
from intake_tiffstack.metadata.reader import OpenImage
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from intake_tiffstack.metadata.reader import RawMetadata
    from intake_tiffstack.storage.files import File

__all__ = ["Header", "read_header"]


def read_header(
    file: File,
    *,
    storage_options: Mapping[str, Any] | None = None,
    series: int | Literal["all", "pages"] = 0,
    level: int = 0,
    max_image_bytes: int | None = None,
    data: HeaderBytes | None = None,
    keep_metadata: Callable[[RawMetadata, int], None] | None = None,
) -> Header:
    """Return the structure of a file and the offsets of its segments; no pixel is read.

    Parameters
    ----------
    file : File
        The file as it was listed.
    storage_options : mapping, optional
        Passed to fsspec for a remote file.
    series : int, "all" or "pages"
        Which image series; ``"all"`` takes all that are like the first, along a new dim;
        ``"pages"`` takes the pages as they are, whatever the metadata make of them.
    level : int
        Which level of the pyramid.
    max_image_bytes : int, optional
        Refuse a page that declares more bytes than this, decoded; None for no bound.
    data : HeaderBytes, optional
        Reads the file, for a caller that has read from it or wants to know what was read.
    keep_metadata : callable, optional
        Called with the image's raw metadata and the index of its key frame if this parse has them
        at hand, so that the file is not parsed again for them.

    Raises
    ------
    UnreadableFileError
        If the file is not a TIFF, is truncated or corrupt, or has a segment outside the file.
    UnsupportedFileError
        If the decoders do not know its compression, sample format or layout.
    TooLargeError
        If it declares more pixels than the codec can produce, or than `max_image_bytes`.
    FileChangedError
        If the file was removed after it was listed.
    OptionError
        If there is no such series or level.
    """
    if data is None:
        data = open_header(file, storage_options)
    source = FileToParse(file, data, max_image_bytes)
    try:
        return _read_images(source, series, level, keep_metadata)
    except UnreadableFileError as exc:
        is_refused = type(exc) is not UnreadableFileError  # too large, changed, not supported
        if is_refused or series != 0 or level:
            raise
        header = read_despite(exc, source)
        if header is None:
            raise
        return header


def _read_images(
    source: FileToParse,
    series: int | Literal["all", "pages"],
    level: int,
    keep_metadata: Callable[[RawMetadata, int], None] | None,
) -> Header:
    """Return the header of the chosen images, as the metadata of the file make them."""
    file, data, _ = source
    opened = open_tiff(data, file.url, pages_alone=series == "pages")
    with opened as (tif, notes), file_faults_named(file.url):
        n_notes = len(notes)
        chosen: int | Literal["all"] = 0 if series == "pages" else series
        refuse_false_map(tif)
        is_by_name = settle_ome(tif, data, notes, file.url)
        images = find_images(tif, data)
        notes += note_fallback(tif, images, notes)
        bare = None if level else read_left_over(tif, images, source)
        if bare is not None and bare.are_one_image:
            header = bare.instead()
        else:
            header = build_header(tif, images, source, notes, chosen, level)
            if bare is not None:
                header = bare.listed_in(header)
        if is_by_name:
            header = replace(header, is_single=True)
        # What is logged on the way to the series belongs to the header: such a file is opened again
        # for its metadata. So is a remote one without OME-XML, whose tags may cost requests.
        if keep_metadata and len(notes) == n_notes and (tif.is_ome or is_local(file.url)):
            with data.aside(), suppress(TiffStackError):  # else whoever wants them meets the fault
                key_frame = images.base(chosen).keyframe
                raw = extract_metadata(OpenImage(tif, key_frame), notes, file.url)
                if data.error is None:
                    keep_metadata(raw, header.page)
    return header
