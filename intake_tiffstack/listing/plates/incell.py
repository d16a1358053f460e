"""GE (Cytiva) IN Cell Analyzer: ``.xdce``. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from intake_tiffstack.listing.plates.index import (
    Folder,
    PlateIndex,
    Row,
    number,
    stream_xml,
    tag,
    well_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from xml.etree.ElementTree import Element

__all__ = ["INCELL"]


def _read(content: bytes, name: str, folder: Folder) -> list[Row]:
    """Return the images, numbered from 1 as in their names; what holds for all comes before them.

    Where an image says nothing of its place, that of its field in the well counts.
    """
    constant: Row = {}
    created: Mapping[str, str] = {}
    waves: list[Row] = []
    fields: list[Mapping[str, str]] = []
    rows = []
    for element in stream_xml(content, _READ):
        known = dict(element.attrib)
        match tag(element):
            case "ObjectiveCalibration":
                constant = {name: number(known[key]) for key, name in _LENS.items() if key in known}
                constant["objective"] = known.get("objective_name")
            case "Creation":
                created = known
            case "Wavelength":
                waves.append(_wave(element))
            case "offset_point":
                fields.append(known)
            case "Image":
                rows.append(_row(element, constant, created, waves, fields))
    return rows


_READ = frozenset({"ObjectiveCalibration", "Creation", "Wavelength", "offset_point", "Image"})

_LENS = {
    "pixel_height": "pixel_y_um",
    "pixel_width": "pixel_x_um",
    "magnification": "magnification",
    "numerical_aperture": "numerical_aperture",
}


def _row(
    image: Element,
    constant: Row,
    created: Mapping[str, str],
    waves: Sequence[Row],
    fields: Sequence[Mapping[str, str]],
) -> Row:
    own = {tag(element): element.attrib for element in image.iter()}
    place = own["Identifier"]
    wave, field = int(place["wave_index"]), int(place["field_index"])
    if wave < 0 or field < 0:
        raise ValueError(f"wave {wave} and field {field} do not count from 0")
    row: Row = {
        "url": image.attrib["filename"],
        "well": well_name(own["Row"]["number"], own["Column"]["number"]),
        "field": field + 1,
        "t": int(place["time_index"]) + 1,
        "c": wave + 1,
        "z": int(place["z_index"]) + 1,
        **constant,
        **(waves[wave] if wave < len(waves) else {}),
        **_wave(image),
    }
    where = own.get("PlatePosition_um") or own.get("OffsetFromWellCenter")
    where = where or (dict(fields[field]) if field < len(fields) else None)
    if where is not None:
        row |= {"stage_y_um": number(where.get("y")), "stage_x_um": number(where.get("x"))}
    if "FocusPosition" in own:
        row["stage_z_um"] = number(own["FocusPosition"].get("z"))
    if (acquired := _time(created, image.attrib.get("acquisition_time_ms"))) is not None:
        row["acquired"] = acquired
    return row


def _wave(element: Element) -> Row:
    """Return what is said of a channel: the name as in file names, wavelengths, the exposure."""
    own = {tag(child): child.attrib for child in element}
    found: Row = {}
    filters = [own.get(kind, {}) for kind in ("ExcitationFilter", "EmissionFilter")]
    names = [known["name"] for known in filters if known.get("name")]
    if names:
        found["channel_name"] = " - ".join(dict.fromkeys(names))
    for column, known in zip(("excitation_nm", "emission_nm"), filters, strict=True):
        if known.get("wavelength"):
            found[column] = number(known["wavelength"])
    if own.get("Exposure", {}).get("time"):
        found["exposure_s"] = number(own["Exposure"]["time"]) / 1e3
    return found


def _time(created: Mapping[str, str], offset: str | None) -> str | None:
    """Return when an image was taken; nothing of a zone is known. What is no time stays text."""
    if offset is None or not created.get("date") or not created.get("time"):
        return None
    start = f"{created['date']}T{created['time']}"
    try:
        time = datetime.fromisoformat(start) + timedelta(milliseconds=number(offset))
    except (ValueError, OverflowError):
        return f"{start} and {offset} ms"
    return time.isoformat()


INCELL = PlateIndex(
    "IN Cell Analyzer",
    (".xdce",),
    _read,
    "incell",
    (b"ImageStack", b"AutoLeadAcquisitionProtocol", b"<InCell"),
)
