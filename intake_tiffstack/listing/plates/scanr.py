"""Olympus (Evident) ScanR: ``experiment_descriptor.xml``, which names no file. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intake_tiffstack.listing.plates.index import (
    Folder,
    PlateIndex,
    Row,
    number,
    parse_xml,
    tag,
    well_name,
)
from intake_tiffstack.pattern.matching import compile_pattern, match_paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

__all__ = ["SCANR"]


def _read(content: bytes, name: str, folder: Folder) -> list[Row]:
    """Return the images in ``data``, else beside the index.

    The unit of the positions inside a well is not recorded, so that these are left out.
    """
    root = parse_xml(content)
    wells: dict[int, str] = {}
    exposures: dict[str, float] = {}
    single: dict[str, str] = {}
    at, channel = 0, None
    for key, value in _values(root):
        if key == "well selection table + cDNA":
            if value.isdecimal():
                at = int(value)
            else:
                wells[at] = value
        elif key == "name":
            channel = value
        elif key == "exposure time" and channel is not None:
            exposures.setdefault(channel, number(value) / 1e3)
        else:
            single.setdefault(key, value)
    if not {"plate name", "columns/well", "conversion factor um/pixel"} & single.keys():
        raise ValueError("it describes no plate")
    inside = [path for path in folder.tiffs() if path.startswith("data/")]
    paths = inside or list(folder.tiffs())
    matches = match_paths(compile_pattern("scanr"), paths, "")
    texts = [
        {k: v.values[i] for k, v in matches.fields.items()} for i in range(len(matches.indices))
    ]
    order = [*exposures, *(str(fields["channel"]) for fields in texts)]
    numbers = {text: place for place, text in enumerate(dict.fromkeys(order), 1)}
    columns = int(single.get("Columns", 12))
    if columns < 1:
        raise ValueError(f"its plate has {columns} columns")
    rows = []
    for place, fields in zip(matches.indices.tolist(), texts, strict=True):
        w, text = int(fields["w"]), str(fields["channel"])
        counted = well_name((w - 1) // columns + 1, (w - 1) % columns + 1)
        row: Row = {
            "url": paths[place],
            "well": wells.get(w) or fields.get("well") or counted,
            "field": fields["position"],
            "t": fields["t"],
            "c": numbers[text],
            "z": fields["z"],
            "channel_name": text,
        }
        if text in exposures:
            row["exposure_s"] = exposures[text]
        if size := number(single.get("conversion factor um/pixel", "0")):
            row |= {"pixel_y_um": size, "pixel_x_um": size}
        if delay := number(single.get("timeloop delay [ms]", "0")):
            row["interval_s"] = delay / 1e3
        rows.append(row)
    return rows


def _values(root: Element) -> Iterator[tuple[str, str]]:
    """Yield each value with the name before it: elements of a list have none of their own."""
    key = ""
    for element in root.iter():
        text = (element.text or "").strip()
        if text and tag(element) == "Name":
            key = text
        elif text and tag(element) == "Val":
            yield key, text


SCANR = PlateIndex(
    "ScanR", ("experiment_descriptor.xml",), _read, "scanr", (b"LVData", b"<Cluster")
)
