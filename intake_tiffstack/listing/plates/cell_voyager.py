"""Yokogawa CellVoyager: ``MeasurementData.mlf``, and the settings beside it. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from intake_tiffstack.errors import warn
from intake_tiffstack.listing.plates.index import (
    Folder,
    PlateIndex,
    Row,
    number,
    parse_xml,
    stream_xml,
    tag,
    well_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

__all__ = ["CELL_VOYAGER"]

_BAND = re.compile(r"[A-Z]*(\d{3,4})/\d+")


def _read(content: bytes, name: str, folder: Folder) -> list[Row]:
    """Return the images.

    Positions count from the middle of the well, Y upwards: its sign is turned, since lines count
    down.
    """
    channels = _channels(folder)
    rows = []
    for record in stream_xml(content, {"MeasurementRecord"}):
        known, text = _attributes(record), (record.text or "").strip()
        if known.get("Type") != "IMG" or not text:
            continue  # a record of an error
        row: Row = {
            "url": text,
            "well": well_name(known["Row"], known["Column"]),
            "field": int(known["FieldIndex"]),
            "t": int(known["TimePoint"]),
            "c": int(known["Ch"]),
            "z": int(known["ZIndex"]),
            "timeline": int(known.get("TimelineIndex", 1)),
            "action": int(known.get("ActionIndex", 1)),
            "stage_z_um": number(known.get("Z")),
            "stage_y_um": 0.0 - number(known.get("Y")),
            "stage_x_um": number(known.get("X")),
            "acquired": known.get("Time"),
        }
        rows.append(row | channels.get(known["Ch"], {}))
    return rows


def _channels(folder: Folder) -> dict[str, Row]:
    """Return what the settings say of each channel; empty where they are not there."""
    root = _parse_beside(folder, "MeasurementDetail.mrf")
    if root is None:
        return {}
    found: dict[str, Row] = {}
    for channel in _named(root, "MeasurementChannel"):
        found[channel.get("Ch", "")] = {
            "pixel_y_um": number(channel.get("VerticalPixelDimension")),
            "pixel_x_um": number(channel.get("HorizontalPixelDimension")),
        }
    root = _parse_beside(folder, _attributes(root).get("MeasurementSettingFileName") or "-")
    if root is None:
        return found
    sources = {source.get("Name"): source for source in _named(root, "LightSource")}
    for element in (e for e in root.iter() if tag(e) == "Channel"):
        channel = _attributes(element)
        lights = [(e.text or "").strip() for e in element if tag(e) == "LightSourceName"]
        waves = [number(sources[n].get("WaveLength")) for n in lights if n in sources]
        row: Row = {
            "channel_name": channel.get("Fluorophore") or channel.get("Target"),
            "exposure_s": number(channel.get("ExposureTime")) / 1e3,
            "objective": channel.get("Objective"),
            "magnification": number(channel.get("Magnification")),
            "channel_color": f"#{channel.get('Color', '')[-6:].lower()}",
        }
        band = _BAND.fullmatch(channel.get("Acquisition", ""))
        row |= {} if band is None else {"emission_nm": float(band[1])}
        row |= {"excitation_nm": waves[0]} if waves and waves[0] != 0 else {}
        found.setdefault(channel.get("Ch", ""), {}).update(row)
    return found


def _parse_beside(folder: Folder, name: str) -> Element | None:
    """Return the root of a file of settings, None if it is absent or, with a warning, broken."""
    content = folder.read(name)
    try:
        return None if content is None else parse_xml(content)
    except ValueError as exc:
        warn(f"{name} beside the index is ignored, since {exc}")
        return None


def _named(root: Element, name: str) -> Iterator[Mapping[str, str]]:
    yield from (_attributes(element) for element in root.iter() if tag(element) == name)


def _attributes(element: Element) -> dict[str, str]:
    return {key.rpartition("}")[2]: value for key, value in element.attrib.items()}


CELL_VOYAGER = PlateIndex("CellVoyager", (".mlf",), _read, "cv8000", (b"MeasurementData",))
