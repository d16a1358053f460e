"""What a file says of its pixels, as it says it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from intake_tiffstack.header.opening import FILE_FAULTS, open_tiff, short_text
from intake_tiffstack.header.window import HeaderBytes, open_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intake_tiffstack.listing.filetable import File

__all__ = ["RawMetadata", "read_raw_metadata"]


@dataclass(frozen=True)
class RawMetadata:
    """What a file says of its pixels, as it says it: plain values, no tifffile class."""

    ome_xml: str | None = None
    imagej: dict[str, Any] | None = None
    micromanager: dict[str, Any] | None = None
    stk: dict[str, Any] | None = None
    geotiff: dict[str, Any] | None = None
    shaped: dict[str, Any] | None = None
    resolution: tuple[float, float, str] | None = None
    """Pixels per unit along x and along y; unit is ``none``, ``inch`` or ``centimeter``."""
    description: str | None = None
    software: str | None = None
    datetime: str | None = None
    notes: tuple[str, ...] = ()
    """What could not be read, one sentence each."""


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
        values: dict[str, Any] = {}
        for name, get in _METADATA_GETTERS.items():
            try:
                values[name] = get(tif)
            except FILE_FAULTS as exc:
                notes.append(f"{file.url}: {name} metadata cannot be read: {short_text(exc)}")
        return RawMetadata(**values, notes=tuple(notes))


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


_METADATA_GETTERS: Mapping[str, Any] = {
    "ome_xml": lambda tif: tif.ome_metadata,
    "imagej": lambda tif: _plain(tif.imagej_metadata),
    "micromanager": lambda tif: _plain(tif.micromanager_metadata),
    "stk": lambda tif: _plain(tif.stk_metadata),
    "geotiff": lambda tif: _plain(tif.geotiff_metadata),
    "shaped": _shaped,
    "resolution": _resolution,
    "description": lambda tif: _text(tif, 270),
    "software": lambda tif: _text(tif, 305),
    "datetime": lambda tif: _text(tif, 306),
}
