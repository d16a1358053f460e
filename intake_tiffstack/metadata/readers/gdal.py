"""What GDAL writes about the values of pixels: nodata, scale, offset, names and colours of bands.

References
----------
GDAL, driver GTiff: the tags GDAL_METADATA (42112) and GDAL_NODATA (42113); TIFF 6.0, section 5
(ColorMap). The names of what is not in a tag of its own are those of the CF conventions 1.11,
section 8.1 (Packed Data).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from intake_tiffstack.metadata.reader import OpenImage, Reader
from intake_tiffstack.metadata.readers.ome import refuse_entities
from intake_tiffstack.structure import Packing

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = [
    "GDAL",
    "add_bands",
    "add_packing",
    "clamp_nodata",
    "extract_gdal",
    "per_band",
    "read_nodata",
    "read_packing",
]

_INTEGER = re.compile(r"[+-]?\d+(?:\.0*)?")
_MOST_DIGITS = 40
"""Of a whole number that may be one of a pixel."""


def extract_gdal(image: OpenImage) -> dict[str, Any] | None:
    """Return the texts of GDAL's tags, the colour map, dtype and number of bands of an image."""
    page = image.page
    found: dict[str, Any] = {
        "nodata": image.text(42113),
        "metadata": image.text(42112),
        "colormap": _colors(page),
    }
    found = {key: value for key, value in found.items() if value is not None}
    if not found or page.dtype is None:
        return None
    return found | {"dtype": page.dtype.str, "bands": int(page.samplesperpixel)}


def _colors(page: Any) -> list[list[int]] | None:
    table = page.colormap
    if table is None or int(page.photometric) != 3:
        return None
    levels = np.asarray(table)
    if levels.ndim != 2 or len(levels) != 3:
        return None
    # TIFF has 16 bits for each; writers of 8 leave the upper half empty, or repeat the lower
    eight = levels >> 8 if levels.max(initial=0) > 255 else levels
    return [list(map(int, color)) for color in eight.T]


def read_nodata(text: str | None, dtype: np.dtype[Any]) -> int | float | None:
    """Return the number that GDAL_NODATA names, None if no pixel can have it. Pure.

    GDAL writes 17 digits or fewer, so that the largest float32 reads as a little more than it is.

    >>> read_nodata("-9999", np.dtype("int16")), read_nodata("-9999", np.dtype("uint8"))
    (-9999, None)
    >>> read_nodata("-3.4028234663852886e+38", np.dtype("float32"))
    -3.4028234663852886e+38
    """
    number = _number(text)
    if number is None:
        return None
    if dtype.kind == "b":
        dtype = np.dtype("uint8")
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        fits = number == number and number == math.floor(number) if _finite(number) else False
        return int(number) if fits and info.min <= number <= info.max else None
    if dtype.kind not in "fc":
        return None
    return _as_float(number, dtype)


def clamp_nodata(text: str | None, dtype: np.dtype[Any]) -> int | float | None:
    """Return what GDAL gives for pixels of a block that is absent, None without GDAL_NODATA. Pure.

    A number that the dtype cannot have is the nearest one that it can; NaN is 0.

    >>> clamp_nodata("-9999", np.dtype("uint8")), clamp_nodata("nan", np.dtype("uint8"))
    (0, 0)
    """
    known, number = read_nodata(text, dtype), _number(text)
    if known is not None or number is None or dtype.kind not in "iub":
        return known
    if number != number:
        return 0
    info = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
    return math.floor(min(max(number, info.min), info.max) + 0.5)


def _finite(number: float) -> bool:
    return isinstance(number, int) or math.isfinite(number)


def _number(text: str | None) -> int | float | None:
    written = (text or "").strip("\0 \n").replace(",", ".")
    try:
        if _INTEGER.fullmatch(written) and len(written) < _MOST_DIGITS:
            return int(written.partition(".")[0])  # a float has 53 bits, an int64 more
        return float(written)
    except ValueError:
        return None


def _as_float(number: float, dtype: np.dtype[Any]) -> float:
    """Return the nearest number of a float dtype; what lies just beyond its largest is that."""
    real = np.dtype(dtype.type(0).real.dtype)
    largest = float(np.finfo(real).max)
    if _finite(number) and largest < abs(number) <= largest * (1 + 1e-6):
        number = math.copysign(largest, number)
    with np.errstate(over="ignore"):
        return float(real.type(number))


def _read_items(xml: str | None) -> dict[str, dict[int, str]]:
    """Return the texts of GDAL_METADATA by role and band."""
    if not xml:
        return {}
    refuse_entities(xml.strip("\0 \n"))
    found: dict[str, dict[int, str]] = {}
    for item in ElementTree.fromstring(xml.strip("\0 \n")).iter("Item"):
        role, sample = item.get("role"), item.get("sample", "")
        if role is not None and sample.isdigit() and item.text:
            found.setdefault(role, {})[int(sample)] = item.text.strip()
    return found


def per_band(texts: Mapping[int, str], bands: int, absent: float) -> tuple[float, ...]:
    """Return the number of each band from their texts, nothing if all are *absent*. Pure."""
    found = [_number(texts.get(i)) for i in range(bands)]
    values = [absent if n is None or not _finite(n) else float(n) for n in found]
    return tuple(values) if any(value != absent for value in values) else ()


def read_packing(tags: Mapping[str, Any]) -> Packing:
    """Return nodata, scales and offsets from what :func:`extract_gdal` found. Pure.

    Raises
    ------
    ValueError
        If the XML is malformed or declares entities.
    """
    bands = tags["bands"]
    items = _read_items(tags.get("metadata"))
    return Packing(
        nodata=read_nodata(tags.get("nodata"), np.dtype(tags["dtype"])),
        scales=per_band(items.get("scale", {}), bands, 1.0),
        offsets=per_band(items.get("offset", {}), bands, 0.0),
    )


def interpret(tags: Mapping[str, Any], subject: Subject, found: Findings) -> None:
    """Add how stored numbers mean values, and what the bands are called."""
    source, bands = "GDAL", tags["bands"]
    try:
        items = _read_items(tags.get("metadata"))
        packing = read_packing(tags)
    except (ValueError, SyntaxError) as exc:
        found.warn(f"GDAL_METADATA is ignored, since {exc}")
        items, packing = {}, read_packing({**tags, "metadata": None})
    if "nodata" in tags and packing.nodata is None:
        found.warn(f"GDAL_NODATA is {tags['nodata'][:40]!r}, which no pixel can have; ignored")
    add_packing(packing, found, source)
    add_bands(items, bands, subject, found, source)
    found.add_fact("color_table", tags.get("colormap"), source)


def add_packing(packing: Packing, found: Findings, source: str) -> None:
    """Add nodata, scales and offsets, each unless it is known from elsewhere."""
    known = set(found.facts)
    for key, value in packing.describe().items():
        if not any(key in group and known & group for group in _SAID_TWICE):
            found.add_number(key, value, source)


_SAID_TWICE = ({"scale_factor", "scales"}, {"add_offset", "offsets"})
"""Keys of one value, for bands that agree and for bands that differ."""


def add_bands(
    items: Mapping[str, Mapping[int, str]],
    bands: int,
    subject: Subject,
    found: Findings,
    source: str,
) -> None:
    """Add names and units of bands from their texts by role (``description``, ``unittype``)."""
    for key, role in (("band_names", "description"), ("band_units", "unittype")):
        texts = [items.get(role, {}).get(i, "") for i in range(bands)]
        found.add_fact(key, texts if any(texts) else None, source)
    names = found.facts.get("band_names")
    if names and bands in (1, subject.sizes.get("c")):
        found.add_channels("channel_names", names, source)


GDAL = Reader("gdal", extract_gdal, interpret)
