"""What a file says of its pixels, as it says it."""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import tifffile

from intake_tiffstack.header.header_bytes import HeaderBytes, open_header
from intake_tiffstack.header.tiff_file import FILE_FAULTS, open_tiff, short_text
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.storage.files import File

__all__ = ["RawMetadata", "extract_metadata", "read_pages_metadata", "read_raw_metadata"]

_METADATA_FAULTS: tuple[type[Exception], ...] = (*FILE_FAULTS, SyntaxError)
# xml.etree raises a SyntaxError for broken XML

# Micro-Manager cuts its display settings as often as not, and tifffile refuses a GDAL_NODATA that
# is right for all but the last digit.
_NO_FAULT = re.compile("display settings|GDAL_NODATA")
_NAME = re.compile(r"<tifffile\.TiffFile '[^']*'> ")  # of the file, cut to 32 characters

_NDTIFF, _SUMMARY = 483729, 2355492  # what Micro-Manager's own blocks begin with


@dataclass(frozen=True)
class RawMetadata:
    """What a file says of its pixels, as it says it: plain values, no tifffile class."""

    ome_xml: str | None = None
    imagej: dict[str, Any] | None = None
    micromanager: dict[str, Any] | None = None
    """``Page`` (what its first page says), ``Summary`` and ``DisplaySettings``, those there are."""
    stk: dict[str, Any] | None = None
    metaseries: dict[str, Any] | None = None
    geotiff: dict[str, Any] | None = None
    shaped: dict[str, Any] | None = None
    resolution: tuple[float, float, str] | None = None
    """Pixels per unit along x and along y; unit is ``none``, ``inch`` or ``centimeter``."""
    description: str | None = None
    software: str | None = None
    datetime: str | None = None
    beside: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Name of a file beside this one to what it says, as in ``micromanager``."""
    notes: tuple[str, ...] = ()
    """What could not be read, one sentence each, naming the file."""

    @property
    def nbytes(self) -> int:
        """Bytes these values take in memory, about."""
        return sum(map(_nbytes, vars(self).values()))


def _nbytes(value: Any) -> int:
    """Return about how many bytes plain values take in memory."""
    if isinstance(value, Mapping):
        return 64 + sum(map(_nbytes, value.keys())) + sum(map(_nbytes, value.values()))
    if isinstance(value, list | tuple):
        return 64 + sum(map(_nbytes, value))
    return sys.getsizeof(value)


def read_raw_metadata(
    file: File,
    *,
    storage_options: Mapping[str, Any] | None = None,
    data: HeaderBytes | None = None,
) -> RawMetadata:
    """Return what the file says of its pixels, unparsed but for tifffile's own parsers.

    A part that cannot be read is left out and told in ``notes``: bad metadata never stop pixels.
    """
    if data is None:
        data = open_header(file, storage_options)
    with open_tiff(data, file.url) as (tif, notes):
        return extract_metadata(tif, notes, file.url)


def extract_metadata(tif: tifffile.TiffFile, notes: list[str], url: str) -> RawMetadata:
    """Return the metadata of an open file; faults are added to *notes*, which become its own."""
    values: dict[str, Any] = {}
    for name, get in _METADATA_GETTERS.items():
        try:
            values[name] = get(tif)
        except _METADATA_FAULTS as exc:
            notes.append(f"{name} metadata cannot be read: {short_text(exc)}")
    where = hide_in_text(url)
    faults = [f"{where}: {_NAME.sub('', note)}" for note in notes if not _NO_FAULT.search(note)]
    return RawMetadata(**values, notes=tuple(faults))


def read_pages_metadata(
    file: File, *, storage_options: Mapping[str, Any] | None = None
) -> list[dict[str, Any] | None]:
    """Return what Micro-Manager says of each page, None for a page without; walks all pages."""
    data = open_header(file, storage_options)
    with open_tiff(data, file.url) as (tif, _):
        tif.pages.useframes = False
        return [_plain(page.tags.valueof(51123)) for page in tif.pages]


def _ome_xml(tif: Any) -> str | None:
    """Return the OME-XML; also one without its end, which tifffile takes for no OME-XML at all."""
    found: str | None = tif.ome_metadata
    if found is None:
        text = _text(tif, 270)
        if text is not None and re.search(r"<(\w+:)?OME[\s>]", text[:4096]):
            return text
    return found


def _resolution(tif: Any) -> tuple[float, float, str] | None:
    page = tif.pages.first
    if 282 not in page.tags or 283 not in page.tags:
        return None
    units: dict[int, Literal["none", "inch", "centimeter"]] = {2: "inch", 3: "centimeter"}
    unit = units.get(int(page.tags.valueof(296, 2)), "none")

    def ratio(value: Sequence[int]) -> float:
        numerator, denominator = value
        return numerator / denominator if denominator else math.nan

    return ratio(page.tags[282].value), ratio(page.tags[283].value), unit


def _text(tif: Any, code: int) -> str | None:
    value = tif.pages.first.tags.valueof(code)
    return value if isinstance(value, str) else None


def _plain(value: Any) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, dict) else None


def _shaped(tif: Any) -> dict[str, Any] | None:
    found = tif.shaped_metadata
    return _plain(found[0]) if found else None


def _micromanager(tif: Any) -> dict[str, Any] | None:
    """Return what the first page says, and the blocks in front of and behind the pages.

    A file of one plane has pages alone. The index of all pages is left alone: it may be long.
    """
    page = _plain(tif.pages.first.tags.valueof(51123))
    if page is None:
        return None
    found: dict[str, Any] = {"Page": page}
    handle = tif.filehandle
    handle.seek(8)
    start = handle.read(28)
    if len(start) < 28:
        return found
    numbers = struct.unpack(f"{tif.byteorder}7I", start)
    if numbers[0] == _NDTIFF or numbers[6] == _SUMMARY:
        found |= tifffile.read_micromanager_metadata(handle, {"Summary"})
    summary = found.get("Summary")
    if numbers[6] == _SUMMARY and isinstance(summary, dict) and "ChColors" not in summary:
        found |= tifffile.read_micromanager_metadata(handle, {"DisplaySettings"})
    return found


def _metaseries(tif: Any) -> dict[str, Any] | None:
    found = _plain(tif.metaseries_metadata)
    plane = None if found is None else found.get("PlaneInfo")
    if found is not None and isinstance(plane, dict):
        plain = {k: str(v) if isinstance(v, UUID) else v for k, v in plane.items()}
        found["PlaneInfo"] = plain
    return found


_METADATA_GETTERS: Mapping[str, Any] = {
    "ome_xml": _ome_xml,
    "imagej": lambda tif: _plain(tif.imagej_metadata),
    "micromanager": _micromanager,
    "stk": lambda tif: _plain(tif.stk_metadata),
    "metaseries": _metaseries,
    "geotiff": lambda tif: _plain(tif.geotiff_metadata),
    "shaped": _shaped,
    "resolution": _resolution,
    "description": lambda tif: _text(tif, 270),
    "software": lambda tif: _text(tif, 305),
    "datetime": lambda tif: _text(tif, 306),
}
