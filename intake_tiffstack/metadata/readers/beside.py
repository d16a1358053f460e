"""What stands beside a TIFF and places it on a map: world files, and GDAL's ``.aux.xml`` (PAM).

References
----------
GDAL, "Geotransform Tutorial" and the schema of PAM (``pamdataset.xsd``). As in GDAL, PAM goes
before the tags of the file, and a world file behind them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from intake_tiffstack.metadata.reader import Reader
from intake_tiffstack.metadata.readers.gdal import (
    add_bands,
    add_packing,
    per_band,
    read_nodata,
)
from intake_tiffstack.metadata.readers.geotiff import Affine, add_affine
from intake_tiffstack.metadata.readers.ome import refuse_entities
from intake_tiffstack.metadata.units import as_number, is_place
from intake_tiffstack.structure import Packing

if TYPE_CHECKING:
    import numpy as np

    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = ["PAM", "WORLD_FILE", "pam_packing"]

_ROOT_CODE = re.compile(r'(?:AUTHORITY|ID)\["EPSG",\s*"?(\d+)"?\]\]\s*$')
_UNIT = re.compile(r'(?:UNIT|LENGTHUNIT|ANGLEUNIT)\["([^"]+)"')
_UNITS = {
    "metre": "meter",
    "meter": "meter",
    "foot": "foot",
    "us survey foot": "US_survey_foot",
    "degree": "degree",
    "radian": "radian",
}
_BAND = re.compile(r"[1-9][0-9]{0,4}")
"""Number of a band: GDAL has no more than 65,535."""
_ROLES = {
    "NoDataValue": "nodata",
    "Scale": "scale",
    "Offset": "offset",
    "Description": "description",
    "UnitType": "unittype",
}


def _parse(text: str) -> ElementTree.Element:
    """Return the root of a PAM document.

    Raises
    ------
    ValueError
        If the text is not such a document, or declares entities.
    """
    refuse_entities(text)
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as exc:
        raise ValueError(f"its XML cannot be parsed: {exc}") from exc
    if root.tag != "PAMDataset":
        raise ValueError(f"it holds a {root.tag[:40]}, where GDAL writes a PAMDataset")
    return root


def _items(root: ElementTree.Element) -> dict[str, dict[int, str]]:
    """Return the texts of what is said of bands, by role and band from 0."""
    found: dict[str, dict[int, str]] = {}
    for band in root.iterfind("PAMRasterBand"):
        number = band.get("band", "")
        for child in band:
            text = (child.text or "").strip()
            if _BAND.fullmatch(number) and child.tag in _ROLES and text:
                found.setdefault(_ROLES[child.tag], {})[int(number) - 1] = text
    return found


def _bands(items: Mapping[str, Mapping[int, str]], sizes: Mapping[str, int]) -> int:
    named = [number + 1 for texts in items.values() for number in texts]
    return max([sizes.get("sample", sizes.get("c", 1)), *named])


def _packing(items: Mapping[str, Mapping[int, str]], bands: int, dtype: np.dtype[Any]) -> Packing:
    nodata = items.get("nodata", {})
    return Packing(
        nodata=read_nodata(nodata[min(nodata)], dtype) if nodata else None,
        scales=per_band(items.get("scale", {}), bands, 1.0),
        offsets=per_band(items.get("offset", {}), bands, 0.0),
    )


def pam_packing(
    sidecars: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, int], dtype: np.dtype[Any]
) -> Packing:
    """Return nodata, scales and offsets as the PAM among *sidecars* has them. Pure.

    Nothing is known where there is none, or a faulty one, of which the metadata warn.
    """
    for content in sidecars.values():
        if "PAM" in content:
            try:
                items = _items(_parse(content["PAM"]))
            except ValueError:
                break
            return _packing(items, _bands(items, sizes), dtype)
    return Packing()


def _interpret_pam(
    name: str, content: Mapping[str, Any], subject: Subject, found: Findings
) -> None:
    if "PAM" not in content:
        return
    source = f"{name} beside"
    try:
        root = _parse(content["PAM"])
    except ValueError as exc:
        found.warn(f"{name} is ignored, since {exc}")
        return
    wkt = (root.findtext("SRS") or "").strip()
    code = _ROOT_CODE.search(wkt)
    found.add_fact("crs", f"EPSG:{code[1]}" if code else wkt, source)
    place = root.findtext("GeoTransform")
    if place is not None:
        units = _UNIT.findall(wkt)
        unit = _UNITS.get(units[-1].lower()) if units else None
        try:
            c, a, b, f, d, e = map(float, place.split(","))
        except ValueError:
            found.warn(f"GeoTransform of {name} is {place[:60]!r}, not six numbers; ignored")
        else:
            _add_affine(Affine(a, b, c, d, e, f), unit, found, source)
    items = _items(root)
    bands = _bands(items, subject.sizes)
    if subject.dtype is not None:
        add_packing(_packing(items, bands, subject.dtype), found, source)
    add_bands(items, bands, subject, found, source)
    entries = root.iterfind("PAMRasterBand[@band='1']/ColorTable/Entry")
    texts = [[entry.get(c, "0") for c in ("c1", "c2", "c3")] for entry in entries]
    levels = [[as_number(text) for text in color] for color in texts]
    if all(n is not None and 0 <= n < 2**16 for color in levels for n in color):
        colors = [[int(n) for n in color if n is not None] for color in levels]
        found.add_fact("color_table", colors, source)
    else:
        found.warn(f"ColorTable of {name} holds other than levels of a colour; ignored")


def _interpret_world_file(
    name: str, content: Mapping[str, Any], subject: Subject, found: Findings
) -> None:
    """Add the affine of a world file, which gives the centre of the first pixel."""
    if "WorldFile" not in content or "affine" in found.facts:
        return
    a, d, b, e, x, y = content["WorldFile"]
    affine = Affine(a, b, x - (a + b) / 2, d, e, y - (d + e) / 2)
    _add_affine(affine, None, found, f"{name} beside")


def _add_affine(affine: Affine, unit: str | None, found: Findings, source: str) -> None:
    if not all(map(is_place, affine)) or affine.a * affine.e == affine.b * affine.d:
        found.warn(f"{source} it has the affine {list(affine)}, which maps no area; ignored")
        return
    add_affine(affine, unit, found, source)


PAM = Reader("pam", None, interpret_sidecar=_interpret_pam)
WORLD_FILE = Reader("world_file", None, interpret_sidecar=_interpret_world_file)
