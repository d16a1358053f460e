"""Revvity (PerkinElmer) Harmony and Columbus: ``Index.xml``, ``Index.idx.xml``. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intake_tiffstack.listing.plates.index import (
    Folder,
    PlateIndex,
    Row,
    micrometres,
    number,
    stream_xml,
    tag,
    well_name,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["HARMONY"]

_TEXTS = {"ChannelName": "channel_name", "AbsTime": "acquired"}
_LENGTHS = {
    "PositionX": "stage_x_um",
    "PositionY": "stage_y_um",
    "PositionZ": "stage_z_um",
    "ImageResolutionX": "pixel_x_um",
    "ImageResolutionY": "pixel_y_um",
}
_NUMBERS = {
    "MainExcitationWavelength": "excitation_nm",
    "MainEmissionWavelength": "emission_nm",
    "ExposureTime": "exposure_s",
    "ObjectiveMagnification": "magnification",
    "ObjectiveNA": "numerical_aperture",
}


def _read(content: bytes, name: str, folder: Folder) -> list[Row]:
    """Return the images; Harmony 6 and 7 keep what is known of a channel in maps before them.

    PositionY counts upwards from the middle of the well: its sign is turned, since lines count
    down.
    """
    channels: dict[str | None, dict[str, Element]] = {}
    rows = []
    for element in stream_xml(content, {"Entry", "Image"}):
        own = {tag(child): child for child in element}
        if "URL" in own:  # a list of wells refers to images by their id
            rows.append(_row(own, {**channels.get(own["ChannelID"].text, {}), **own}))
        elif "ChannelID" in element.attrib:
            channels.setdefault(element.get("ChannelID"), {}).update(own)
    return rows


def _row(own: dict[str, Element], known: dict[str, Element]) -> Row:
    texts = {key: (child.text or "").strip() for key, child in known.items()}
    if int(own["URL"].get("BufferNo", 0)) > 0:
        raise ValueError(f"{texts['URL']} holds several images, which is not read")
    row: Row = {
        "url": texts["URL"],
        "well": well_name(texts["Row"], texts["Col"]),
        "field": int(texts["FieldID"]),
        "t": int(texts.get("TimepointID", 0)),
        "c": int(texts["ChannelID"]),
        "z": int(texts.get("PlaneID", 1)),
        "sequence": int(texts.get("SequenceID", 1)),
    }
    for key, column in _LENGTHS.items():
        if key in known:
            row[column] = micrometres(texts[key], known[key].get("Unit", "m"))
    if "stage_y_um" in row:
        row["stage_y_um"] = 0.0 - row["stage_y_um"]
    for key, column in _NUMBERS.items():
        if texts.get(key) and number(texts[key]) != 0:  # transmitted light has no emission: 0
            row[column] = number(texts[key])
    return row | {column: texts[key] for key, column in _TEXTS.items() if texts.get(key)}


HARMONY = PlateIndex(
    "Harmony and Columbus",
    ("index.idx.xml", "index.xml", "imageindex.columbusidx.xml"),
    _read,
    "harmony",
    (b"EvaluationInputData", b"ImageIndex"),
)
