"""Which planes a set of OME-TIFFs has, and in which file each is. Pure.

References
----------
OME-TIFF specification, section "Multiple files",
https://ome-model.readthedocs.io/en/stable/ome-tiff/specification.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

from intake_tiffstack.metadata.ome_parts import FileRef, expand_part

__all__ = [
    "OmeSet",
    "SetImage",
    "base_name",
    "names_other_files",
    "read_ome_set",
    "read_uuid",
    "without_files",
]

_REF = re.compile(r"<(?:\w+:)?UUID\b[^<>]*?(?:/>|>[^<]*</(?:\w+:)?UUID>)")
_FILE_NAME = re.compile(r"\bFileName=[\"']([^\"']*)[\"']")
_ROOT_UUID = re.compile(r"(<(?:\w+:)?OME\b[^>]*?)\sUUID=[\"']([^\"']*)[\"']")
_POINTER = re.compile(r"<(?:\w+:)?BinaryOnly\b[^<>]*?\bMetadataFile=[\"']([^\"']*)[\"']")
_ROOT_LENGTH = 2**14


@dataclass(frozen=True)
class SetImage:
    """One Image of a set."""

    name: str
    dims: tuple[str, ...]
    """Of its planes, outermost first."""
    shape: tuple[int, ...]
    """Extent of each; samples of one plane do not count."""
    planes: dict[tuple[int, ...], tuple[FileRef, int]]
    """By position along the dims: the file, and the number of the page in it."""
    coords: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of positions by dim, where they are not mere numbers from 0."""


@dataclass(frozen=True)
class OmeSet:
    """The content of an OME-XML, as far as it says which file has which plane."""

    images: tuple[SetImage, ...]
    elsewhere: FileRef | None
    """The file with the XML, if this one only points to it (``BinaryOnly``)."""

    @property
    def refs(self) -> tuple[FileRef, ...]:
        """The files, each once, in the order of their first plane."""
        found = (ref for image in self.images for ref, _ in image.planes.values())
        return tuple(dict.fromkeys(found))


def read_ome_set(xml: str) -> OmeSet:
    """Return which file of a set has which plane.

    Raises
    ------
    ValueError
        If the XML is broken, declares entities, or a number in it is none.

    Examples
    --------
    >>> xml = '<OME><Image><Pixels SizeZ="2"><TiffData FirstZ="1" IFD="3"/></Pixels></Image></OME>'
    >>> read_ome_set(xml).images[0].dims, read_ome_set(xml).images[0].planes
    (('t', 'z', 'c'), {(0, 1, 0): (FileRef(uuid=None, name=None), 3)})
    """
    if "<!ENTITY" in xml:
        raise ValueError("it declares entities, which OME has none of")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as exc:
        raise ValueError(f"it cannot be parsed: {exc}") from exc
    images = [_read_image(child) for child in root if _tag(child) == "Image"]
    pointers = [child for child in root if _tag(child) == "BinaryOnly"]
    elsewhere = None
    if pointers:
        elsewhere = FileRef(pointers[0].get("UUID"), pointers[0].get("MetadataFile"))
    return OmeSet(tuple(image for image in images if image is not None), elsewhere)


def _read_image(element: ElementTree.Element) -> SetImage | None:
    pixels = next((child for child in element if _tag(child) == "Pixels"), None)
    if pixels is None:
        return None
    channel = next((child for child in pixels if _tag(child) == "Channel"), None)
    samples = None if channel is None else channel.get("SamplesPerPixel")
    planes: dict[tuple[int, ...], tuple[FileRef, int]] = {}
    order = [a for a in reversed(pixels.get("DimensionOrder", "XYCZT")) if a in "TCZ"]
    axes = ["TCZ".index(letter) for letter in order]
    for part in pixels:
        if _tag(part) != "TiffData":
            continue
        uuid = next((child for child in part if _tag(child) == "UUID"), None)
        ref = FileRef()
        if uuid is not None:
            ref = FileRef((uuid.text or "").strip() or None, uuid.get("FileName"))
        for place, page in expand_part(part.attrib, pixels.attrib, samples):
            planes[tuple([place[axis] for axis in axes])] = ref, page
    shape = []
    for i, letter in enumerate(order):
        claimed = pixels.get(f"Size{letter}", "1")
        if not claimed.isdecimal() or len(claimed) > 9:
            raise ValueError(f"Size{letter} is {claimed[:20]!r}")
        by = int(samples or 1) if letter == "C" else 1
        last = max((place[i] for place in planes), default=0)
        shape.append(max(int(claimed) // max(by, 1), last + 1))
    dims = tuple(letter.lower() for letter in order)
    return SetImage(element.get("Name", ""), dims, tuple(shape), planes)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def read_uuid(xml: str) -> str | None:
    """Return the UUID of the file that has an XML.

    >>> read_uuid('<OME xmlns="a" UUID="urn:uuid:1"></OME>')
    'urn:uuid:1'
    """
    found = _ROOT_UUID.search(xml, 0, _ROOT_LENGTH)
    return None if found is None else found[2]


def names_other_files(xml: str, name: str) -> list[str]:
    """Return the names of other files that an XML puts planes in, or the one it points to.

    A single name that is another one is that of the file before it was renamed.

    >>> names_other_files('<UUID FileName="a.tif">1</UUID><UUID FileName="b.tif">2</UUID>', "a.tif")
    ['b.tif']
    >>> names_other_files('<OME><BinaryOnly MetadataFile="a.companion.ome"/></OME>', "b.tif")
    ['a.companion.ome']
    """
    pointer = _POINTER.search(xml, 0, _ROOT_LENGTH)
    if pointer is not None:
        return [base_name(unescape(pointer[1]))]
    names = {
        base_name(unescape(text)) for ref in _REF.findall(xml) for text in _FILE_NAME.findall(ref)
    }
    return sorted(names - {name}) if len(names) > 1 else []


def base_name(name: str) -> str:
    """Return a file name without its folders, whichever slashes they are written with.

    >>> base_name("C:\\\\data\\\\a.tif"), base_name("d/a.tif")
    ('a.tif', 'a.tif')
    """
    return name.replace("\\", "/").rpartition("/")[2]


def without_files(xml: str) -> str:
    """Return an XML as if all planes were in the file that has it.

    >>> without_files('<OME UUID="u"><TiffData><UUID FileName="b.tif">2</UUID></TiffData></OME>')
    '<OME><TiffData></TiffData></OME>'
    """
    root = _ROOT_UUID.search(xml, 0, _ROOT_LENGTH)
    if root is not None:
        xml = xml[: root.start()] + root[1] + xml[root.end() :]
    return _REF.sub("", xml)
