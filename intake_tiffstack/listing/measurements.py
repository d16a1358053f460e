"""Indexes of plates that instruments write beside their TIFFs: a file per image, with its place.

Pure: text in, one row of fields per file out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from xml.etree import ElementTree

from intake_tiffstack.dims import row_letters
from intake_tiffstack.errors import OptionError

__all__ = ["MEASUREMENT_SUFFIXES", "read_measurement"]

MEASUREMENT_SUFFIXES = (".mlf", "index.xml", "index.idx.xml")
"""Ends of the names of indexes: of CellVoyager, of Harmony and Columbus."""

Row = dict[str, Any]


def read_measurement(text: str, url: str) -> list[Row]:
    """Return a row per image: ``url``, ``well``, ``field``, ``t``, ``c``, ``z`` and what is known.

    ``stage_z_um``, ``stage_y_um`` and ``stage_x_um`` are in micrometres, ``acquired`` is ISO 8601
    text, wavelengths are in nm and the exposure is in seconds.

    Raises
    ------
    OptionError
        If it is not such an index, or names a file outside of its folder.
    """
    if "<!ENTITY" in text:
        raise OptionError(f"{url} declares entities, which no instrument writes", url=url)
    try:
        root = ElementTree.fromstring(text)
        is_cell_voyager = _tag(root) == "MeasurementData"
        rows = _cell_voyager(root) if is_cell_voyager else _harmony(root)
    except (ElementTree.ParseError, ValueError, KeyError) as exc:
        raise OptionError(f"{url} cannot be read as the index of a plate: {exc}", url=url) from exc
    if not rows:
        raise OptionError(f"{url} is not the index of a plate: it names no image", url=url)
    for row in rows:
        name = row["url"].replace("\\", "/")
        if name.startswith("/") or ":" in name or ".." in name.split("/"):
            raise OptionError(
                f"{url} names {row['url']!r}, which is outside of its folder", url=url
            )
        row["url"] = name
    return rows


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _well(row: str, column: str) -> str:
    """Return the name of a well from the numbers of its row and column.

    >>> _well("4", "8"), _well("27", "12")
    ('D08', 'AA12')
    """
    return f"{row_letters(int(row))}{int(column):02d}"


# -- Yokogawa CellVoyager: MeasurementData.mlf ---------------------------------------------------


def _cell_voyager(root: ElementTree.Element) -> list[Row]:
    """Read the records of images; positions count from the middle of the well.

    The action is a field only where one channel was taken in several.
    """
    rows = []
    for record in root:
        known = {key.rpartition("}")[2]: value for key, value in record.attrib.items()}
        if known.get("Type") != "IMG" or not (record.text or "").strip():
            continue  # a record of an error
        row: Row = {
            "url": (record.text or "").strip(),
            "well": _well(known["Row"], known["Column"]),
            "field": int(known["FieldIndex"]),
            "t": int(known["TimePoint"]),
            "c": int(known["Ch"]),
            "z": int(known["ZIndex"]),
            "action": int(known.get("ActionIndex", 1)),
            **{f"stage_{letter.lower()}_um": float(known[letter]) for letter in "ZYX"},
            "acquired": known.get("Time"),
        }
        rows.append(row)
    places = Counter(tuple(row[key] for key in ("well", "field", "t", "c", "z")) for row in rows)
    if max(places.values(), default=1) == 1:
        for row in rows:
            del row["action"]
    return rows


# -- Revvity (PerkinElmer) Harmony and Columbus: Index.xml, Index.idx.xml ------------------------

_TEXTS = {"ChannelName": "channel_name", "AbsTime": "acquired"}
_NUMBERS = {
    "MainExcitationWavelength": "excitation_nm",
    "MainEmissionWavelength": "emission_nm",
    "ExposureTime": "exposure_s",
}
_METRES = {"PositionX": "stage_x_um", "PositionY": "stage_y_um", "PositionZ": "stage_z_um"}
_MICROMETRES = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0}


def _harmony(root: ElementTree.Element) -> list[Row]:
    """Read the images; Harmony 6 keeps what is known of a channel in a map of its own."""
    channels: dict[str | None, dict[str, ElementTree.Element]] = {}
    for entry in (e for e in root.iter() if _tag(e) == "Entry" and "ChannelID" in e.attrib):
        found = channels.setdefault(entry.get("ChannelID"), {})
        found |= {_tag(child): child for child in entry}
    rows = []
    for image in (e for e in root.iter() if _tag(e) == "Image"):
        own = {_tag(child): child for child in image}
        if "URL" not in own:
            continue  # a list of wells refers to images by their id
        texts = {key: (child.text or "").strip() for key, child in own.items()}
        known = {**channels.get(texts["ChannelID"], {}), **own}
        row: Row = {
            "url": texts["URL"],
            "well": _well(texts["Row"], texts["Col"]),
            "field": int(texts["FieldID"]),
            "t": int(texts.get("TimepointID", 0)),
            "c": int(texts["ChannelID"]),
            "z": int(texts.get("PlaneID", 1)),
        }
        for key, name in _METRES.items():
            if key in known:
                factor = _MICROMETRES[known[key].get("Unit", "m")]
                row[name] = round(float(known[key].text or "nan") * factor, 6)
        row |= {
            name: float(known[key].text or "nan") for key, name in _NUMBERS.items() if key in known
        }
        row |= {
            name: (known[key].text or "").strip() for key, name in _TEXTS.items() if key in known
        }
        rows.append(row)
    return rows
