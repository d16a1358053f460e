"""The part of a set's OME-XML that is about one of its files. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree import ElementTree

from intake_tiffstack.metadata.ome_parts import FileRef, OwnFile, Place, expand_part

__all__ = ["OwnXml", "own_part_of_set"]

_REF = re.compile(r"<(?:\w+:)?UUID\b([^<>]*)>([^<>]*)<")
_ROOT_UUID = re.compile(r"<(?:\w+:)?OME\b[^>]*?\sUUID=[\"']([^\"']*)[\"']")
_FILE_NAME = re.compile(r"\bFileName=[\"']([^\"']*)[\"']")


class OwnXml(NamedTuple):
    """An OME-XML without the other files of its set."""

    xml: str
    is_by_name: bool
    """Whether the name of the file decided which planes are its own."""


def own_part_of_set(xml: str, name: str) -> OwnXml | None:
    """Return the XML with the planes of this file alone, None if it is about no other file. Pure.

    Images without a plane in this file have no TiffData left, and sizes are those of the file.

    Parameters
    ----------
    xml : str
        The document; it declares no entity.
    name : str
        Of the file, without its folder.

    Raises
    ------
    ValueError
        If the XML is broken, or the planes of this file fill no box of time, channel and z.

    References
    ----------
    OME-TIFF specification, section "Multiple files".
    """
    refs = {
        FileRef(uuid.strip(), found[1] if (found := _FILE_NAME.search(attributes)) else None)
        for attributes, uuid in _REF.findall(xml)
    }
    root_uuid = _ROOT_UUID.search(xml, 0, 2**14)
    uuid = None if root_uuid is None else root_uuid[1]
    if not refs or {ref.uuid for ref in refs} == {uuid}:
        return None
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as exc:
        raise ValueError(f"it cannot be parsed: {exc}") from exc
    own = OwnFile(uuid, name).find(refs)
    if own == refs and len(refs) > 1:
        return None  # none of them is known to be this file
    for pixels in (child for image in root for child in image if _tag(child) == "Pixels"):
        _keep_own(pixels, own)
    root.attrib.pop("UUID", None)
    text = ElementTree.tostring(root, encoding="unicode")
    return OwnXml(text, not any(ref.uuid == uuid for ref in own) and len(refs) > 1)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _keep_own(pixels: ElementTree.Element, own: set[FileRef]) -> None:
    """Replace the TiffData of an image by those of this file, one per plane, counted from 0."""
    parts = [child for child in pixels if _tag(child) == "TiffData"]
    channel = next((child for child in pixels if _tag(child) == "Channel"), None)
    samples = None if channel is None else channel.get("SamplesPerPixel")
    planes: dict[Place, int] = {}
    for part in parts:
        if _is_own(part, own):
            planes.update(expand_part(part.attrib, pixels.attrib, samples))
        pixels.remove(part)
    if not planes:
        return
    along = [sorted({place[axis] for place in planes}) for axis in range(3)]
    if len(planes) != len(along[0]) * len(along[1]) * len(along[2]):
        raise ValueError(
            f"the {len(planes)} planes of this file fill no box of time, channel and z"
        )
    for axis, values in zip("TCZ", along, strict=True):
        by = int(samples or 1) if axis == "C" else 1
        pixels.set(f"Size{axis}", str(len(values) * by))
    namespace = str(pixels.tag).removesuffix("Pixels")
    for place, page in sorted(planes.items()):
        first = {
            f"First{axis}": str(values.index(value))
            for axis, value, values in zip("TCZ", place, along, strict=True)
        }
        attributes = {**first, "IFD": str(page), "PlaneCount": "1"}
        ElementTree.SubElement(pixels, f"{namespace}TiffData", attributes)


def _is_own(part: ElementTree.Element, own: set[FileRef]) -> bool:
    uuid = next((child for child in part if _tag(child) == "UUID"), None)
    return uuid is None or FileRef((uuid.text or "").strip(), uuid.get("FileName")) in own
