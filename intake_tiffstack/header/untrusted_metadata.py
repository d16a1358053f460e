"""Metadata that are not believed: they claim more planes than can be, or other pages than are."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.header.own_ome import own_part_of_set
from intake_tiffstack.header.series import find_images
from intake_tiffstack.header.tiff_file import FILE_FAULTS, short_text
from intake_tiffstack.storage.urls import split_chain

if TYPE_CHECKING:
    from intake_tiffstack.header.header_bytes import HeaderBytes

__all__ = ["refuse_false_map", "settle_ome"]

_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^<>]*>")
_PLANES = re.compile(r"\bSize[ZCT]=[\"'](\d{1,99})[\"']")
_COUNTS = re.compile(r"<(?:\w+:)?TiffData\b[^<>]*?\s(?:PlaneCount|NumPlanes)=[\"'](\d{1,99})[\"']")
MOST_PLANES = 10_000_000
_DIRECTORY = 162
"""Bytes of a directory of Micro-Manager's, which its pixels follow."""

MOST_SPREAD = 1000
"""Most positions of a grid per plane that exists: an index with more is not of an acquisition."""


def settle_ome(tif: Any, data: HeaderBytes, notes: list[str], url: str) -> bool:
    """Let OME-XML be about this file alone, and the pages speak where no series can be made of it.

    Returns whether the file's name decides which planes are its own. OME-XML goes before the JSON
    of tifffile, which some programs leave beside it. tifffile makes a list of all planes that the
    XML claims before it looks at the pages.
    """
    if not tif.is_ome:
        return False
    xml = tif.ome_metadata or ""
    if "<!ENTITY" in xml:
        notes.append("OME series is not read: the XML declares entities")
        tif.is_ome = False
        return False
    claimed = [int(n) for n in _COUNTS.findall(xml)] + [
        math.prod(int(n) for n in _PLANES.findall(pixels)) for pixels in _PIXELS.findall(xml)
    ]
    if max(claimed, default=0) > MOST_PLANES:
        notes.append(f"OME series is not read: the XML claims {max(claimed):,} planes")
        tif.is_ome = False
        return False
    is_shaped = tif.is_shaped
    try:
        own = own_part_of_set(xml, split_chain(url)[0].rpartition("/")[2])
        if own is not None:
            tif._omexml = own.xml
        if is_shaped and "Pixels" in xml:
            tif.is_shaped = False
        find_images(tif, data)
    except FILE_FAULTS as exc:
        notes.append(f"OME series cannot be made of the XML: {short_text(exc)}")
        tif.is_ome, tif.is_shaped = False, is_shaped
        return False
    return own is not None and own.is_by_name


def refuse_false_map(tif: Any) -> None:
    """Raise ValueError where Micro-Manager's index map cannot be that of the pages.

    tifffile makes a list of all positions between the first and the last that the map names, and
    takes the pixels of each page to begin where they do behind a directory of 13 tags.
    """
    if not tif.is_mmstack:
        return
    places = (tif.micromanager_metadata or {}).get("IndexMap", np.empty((0, 5)))[:, :4]
    if not len(places):
        return
    extents = (places.max(0) - places.min(0) + 1).tolist()
    if math.prod(map(int, extents)) > min(MOST_SPREAD * len(places), MOST_PLANES):
        raise ValueError(f"the index map puts {len(places):,} planes on a grid of {extents}")
    first = tif.pages.first
    if first.dataoffsets[:1] != (first.offset + _DIRECTORY,):
        raise ValueError("the pixels are elsewhere than Micro-Manager writes them")
