"""What is needed at open of an OME-XML: one Image, without the rest of the document."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from intake_tiffstack.metadata.ome_parts import FileRef, OwnFile, Place, as_index, expand_part
from intake_tiffstack.metadata.reader import OpenImage, Reader
from intake_tiffstack.metadata.units import METRES, SECONDS, as_number, unit_name

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = ["OME", "OmeImage", "read_ome_image", "refuse_entities"]

_BLOCK = 2**16
"""Characters parsed at a time, so that what comes after the image costs nothing."""

_NO_COLOR = -(2**31)
"""What the schemas before 2012 gave a channel without a color."""

SERIES = "position"
"""Dim of the images of a file that is opened with ``series="all"``."""

_OWN_UUID = re.compile(r'(<(?:\w+:)?OME\b[^>]*?)\sUUID="([^"]*)"')


@dataclass(frozen=True)
class OmeImage:
    """One Image of an OME-XML, as far as it is needed."""

    pixels: dict[str, str] = field(default_factory=dict)
    """Attributes of Pixels; empty where the Image is not there."""
    channels: tuple[dict[str, str], ...] = ()
    """Attributes of each Channel."""
    acquired: str | None = None
    """When it was, as it is written."""
    times: tuple[float, ...] = ()
    """Seconds of the first plane of each time point that this file holds."""
    heights: tuple[float, ...] = ()
    """Positions of the first plane at each z that this file holds, in ``height_unit``."""
    height_unit: str | None = None
    stage: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """By axis, where the stage was for the first plane that this file holds, and the unit."""
    objective: dict[str, str] = field(default_factory=dict)
    """Attributes of the Objective that the image was taken with."""
    microscope: dict[str, str] = field(default_factory=dict)
    """Attributes of the Microscope."""
    creator: str | None = None
    """The program that wrote the XML."""
    images: int = 0
    """How many Images were met before the end of this one."""
    is_elsewhere: bool = False
    """The XML only points to the file that has it (``BinaryOnly``)."""
    own_channels: tuple[int, ...] = ()
    """Which of the channels this file holds, if the XML says so."""


def read_ome_image(xml: str, series: int = 0, name: str = "") -> OmeImage:
    """Return what is needed of one Image. Pure.

    Parsing stops at its end, so that what follows costs nothing, and so does a fault there. In the
    XML of a set of files, Images without a plane in this file do not count.

    Parameters
    ----------
    xml : str
        The document.
    series : int
        Index of the Image.
    name : str
        Name of this file without its folder, for an XML that names files and gives it no UUID.

    Raises
    ------
    ValueError
        If the XML is broken, or declares entities, which OME does not use and XML bombs do.

    References
    ----------
    OME schema 2016-06, https://www.openmicroscopy.org/Schemas/OME/2016-06; older ones have the
    same elements in other namespaces, or the ones named here beside them.

    >>> read_ome_image('<OME><Image><Pixels SizeX="4"/></Image></OME>').pixels
    {'SizeX': '4'}
    """
    uuid, xml = _take_uuid(xml)
    is_of_one_file = uuid is None and "FileName=" not in xml
    last = series if is_of_one_file else None
    return _read_document(xml, last).image(OwnFile(uuid, name), series)


def read_images(xml: str, n: int, name: str = "") -> list[OmeImage]:
    """Return what is needed of each of *n* Images, nothing if there are more or fewer. Pure.

    Parameters and errors are those of :func:`read_ome_image`.
    """
    uuid, xml = _take_uuid(xml)
    document = _read_document(xml, None)
    images = [document.image(OwnFile(uuid, name), i) for i in range(n)]
    return images if (document.placed or document.met) == n else []


def _take_uuid(xml: str) -> tuple[str | None, str]:
    """Return the UUID of the file if the XML refers to it, and the XML without it.

    The files of a set hold one XML and differ in their own UUID alone: it is parsed once.
    """
    own = _OWN_UUID.search(xml, 0, 2**14)
    if own is None:
        return None, xml
    uuid = own[2] if xml.find(own[2], own.end()) >= 0 else None
    return uuid, xml[: own.start()] + own[1] + xml[own.end() :]


def refuse_entities(xml: str) -> None:
    """Raise ValueError where the XML declares entities, anywhere, or is broken. Pure."""
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entity
    _parse(parser, xml)


def _refuse_entity(name: str, *_: Any) -> None:
    raise ValueError(f"it declares the entity {name[:40]!r}, which OME has none of")


def _parse(parser: expat.XMLParserType, xml: str) -> None:
    try:
        for start in range(0, len(xml), _BLOCK):
            parser.Parse(xml[start : start + _BLOCK])
        parser.Parse("", True)
    except _Enough:
        pass
    except (expat.ExpatError, UnicodeError) as exc:
        raise ValueError(f"it cannot be parsed: {exc}") from exc


class _Enough(Exception):
    """All that is wanted has been seen."""


@dataclass
class _Image:
    """What was met of one Image."""

    attributes: dict[str, str]
    pixels: dict[str, str] = field(default_factory=dict)
    channels: list[dict[str, str]] = field(default_factory=list)
    logical_channels: list[dict[str, str]] = field(default_factory=list)
    acquired: str | None = None
    objective: str | None = None
    instrument: str | None = None
    stage_label: dict[str, str] = field(default_factory=dict)
    planes: list[dict[str, str]] = field(default_factory=list)
    parts: list[tuple[dict[str, str], FileRef]] = field(default_factory=list)
    """Attributes of each TiffData, and the file it is in."""

    def own_places(self, own: Collection[FileRef]) -> set[Place] | None:
        """Return where the planes of this file are, None if all are in it."""
        parts = [(part, ref) for part, ref in self.parts if ref.is_here or ref in own]
        if len(parts) == len(self.parts):
            return None
        channel = next(iter(self.channels), {})
        return {
            place
            for part, _ in parts
            for place, _ in expand_part(part, self.pixels, channel.get("SamplesPerPixel"))
        }


@dataclass
class _Document:
    """What was met of an OME-XML."""

    last: int | None
    """Number, among the Images with planes, of the last that is wanted; None for all."""
    root: dict[str, str] = field(default_factory=dict)
    is_elsewhere: bool = False
    instrument: str = ""
    """ID of the last Instrument that was met."""
    microscopes: dict[str, dict[str, str]] = field(default_factory=dict)
    """By ID of their Instrument."""
    objectives: dict[str, dict[str, str]] = field(default_factory=dict)
    met: int = 0
    placed: int = 0
    """How many of the Images have planes."""
    images: list[_Image] = field(default_factory=list)

    def image(self, own: OwnFile, series: int) -> OmeImage:
        """Return the Image of that number among those in the file, else without its planes."""
        named = {ref for image in self.images for _, ref in image.parts if not ref.is_here}
        refs = own.find(named)
        places = [image.own_places(refs) for image in self.images]
        is_placed = any(image.parts for image in self.images)
        here = [
            i
            for i, (image, found) in enumerate(zip(self.images, places, strict=True))
            if found != set() and (image.parts or not is_placed)
        ]
        # a renamed file of a set may have any of the images
        is_unique = refs != named or len({ref.uuid or ref.name for ref in named}) < 2
        is_known = is_unique or len(here) < 2
        is_here = is_known and series < len(here)
        chosen = here[series] if is_here else series
        if chosen >= len(self.images):
            return OmeImage(images=self.met, is_elsewhere=self.is_elsewhere)
        image = self.images[chosen]
        pixels = dict(image.pixels)
        for dim in "XYZ":  # 2003 has them one level up
            if f"PixelSize{dim}" in image.attributes:
                pixels.setdefault(f"PhysicalSize{dim}", image.attributes[f"PixelSize{dim}"])
        objective = self.objectives.get(image.objective or "", {})
        if not objective and len(self.objectives) == 1:
            objective = next(iter(self.objectives.values()))
        microscope = self.microscopes.get(image.instrument or "", {})
        if not microscope and len(self.microscopes) == 1:
            microscope = next(iter(self.microscopes.values()))
        own_places = places[chosen]
        planes = [
            plane
            for plane in image.planes
            if is_here and (own_places is None or _place_of(plane) in own_places)
        ]
        own_channels = sorted({channel for _, channel, _ in own_places or ()})
        times, _, heights_at = ({place[axis] for place in own_places or ()} for axis in range(3))
        heights, unit = _heights(planes, heights_at)
        return OmeImage(
            pixels=pixels,
            channels=tuple(image.channels or image.logical_channels),
            acquired=image.acquired if is_here else None,
            times=_times(planes, times),
            heights=heights,
            height_unit=unit,
            stage=_stage_of(planes, image.stage_label if is_known else {}),
            objective=objective,
            microscope=microscope,
            creator=self.root.get("Creator"),
            images=self.met,
            is_elsewhere=self.is_elsewhere,
            own_channels=tuple(own_channels),
        )


@lru_cache(maxsize=2)  # one is large: 10,000 planes take 10 MB
def _read_document(xml: str, last: int | None) -> _Document:
    document = _Document(last)
    handlers = _Handlers(document)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = handlers.start
    parser.EndElementHandler = handlers.end
    parser.CharacterDataHandler = handlers.text
    parser.EntityDeclHandler = _refuse_entity
    try:
        _parse(parser, xml)
    except ValueError:
        if not document.images:
            raise
    return document


class _Handlers:
    """Called by expat, element by element."""

    def __init__(self, document: _Document) -> None:
        self.document = document
        self._path: list[str] = []
        self._image: _Image | None = None
        self._text = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        path, document = self._path, self.document
        path.append(tag.rpartition(":")[2])
        self._text = ""
        depth, name = len(path), path[-1]
        if depth == 1:
            document.root = attributes
        elif depth == 2:
            document.is_elsewhere |= name == "BinaryOnly"
            if name == "Image":
                document.met += 1
                self._image = _Image(attributes)
            elif name == "Instrument":
                document.instrument = attributes.get("ID", "")
        elif self._image is not None:
            self._start_in(self._image, depth, name, attributes)
        elif depth == 3 and path[1] == "Instrument":
            if name == "Microscope":
                document.microscopes[document.instrument] = attributes
            elif name == "Objective":
                document.objectives[attributes.get("ID", "")] = attributes

    def _start_in(self, image: _Image, depth: int, name: str, attributes: dict[str, str]) -> None:
        if depth == 3:
            self._start_below(image, name, attributes)
        elif self._path[2] != "Pixels":
            return
        elif depth == 4:
            if name == "Channel":
                image.channels.append(attributes)
            elif name == "TiffData":
                image.parts.append((attributes, FileRef()))
            elif name == "Plane":
                image.planes.append(attributes)
        elif depth == 5 and name in ("PlaneTiming", "StagePosition") and image.planes:
            image.planes[-1].update(attributes)  # until 2009
        elif depth == 5 and name == "UUID" and image.parts:
            image.parts[-1] = image.parts[-1][0], FileRef("", attributes.get("FileName"))

    def _start_below(self, image: _Image, name: str, attributes: dict[str, str]) -> None:
        if name == "Pixels":
            image.pixels = attributes
        elif name == "LogicalChannel":  # until 2009
            image.logical_channels.append(attributes)
        elif name == "StageLabel":
            image.stage_label = attributes
        elif name in ("ObjectiveSettings", "ObjectiveRef"):
            image.objective = attributes.get("ID")
        elif name == "InstrumentRef":
            image.instrument = attributes.get("ID")

    def text(self, text: str) -> None:
        self._text += text

    def end(self, _tag: str) -> None:
        depth, image = len(self._path), self._image
        name = self._path.pop()
        if image is None:
            return
        if depth == 5 and name == "UUID" and image.parts:
            part, ref = image.parts[-1]
            image.parts[-1] = part, FileRef(self._text.strip(), ref.name)
        elif depth == 3 and name in ("AcquisitionDate", "AcquiredDate", "CreationDate"):
            image.acquired = self._text.strip()
        elif depth == 2:
            document = self.document
            document.images.append(image)
            self._image = None
            document.placed += bool(image.parts)
            if document.last is not None and document.placed > document.last:
                raise _Enough


def _times(planes: list[dict[str, str]], own: set[int]) -> tuple[float, ...]:
    """Return the seconds of the earliest plane at each time point; none where one lacks it."""
    found: dict[int, float] = {}
    units = {plane.get("DeltaTUnit", "s") for plane in planes}
    factors = {unit: SECONDS.get(unit_name(unit) or "") for unit in units}
    for plane in planes:
        if "DeltaT" not in plane:
            continue
        at, delta = _index(plane, "TheT"), as_number(plane["DeltaT"])
        factor = factors[plane.get("DeltaTUnit", "s")]
        if at is not None and delta is not None and factor is not None and math.isfinite(delta):
            found[at] = min(found.get(at, math.inf), round(delta * factor, 9))
    return _complete(found, planes, "TheT", own)


def _heights(planes: list[dict[str, str]], own: set[int]) -> tuple[tuple[float, ...], str | None]:
    """Return where the first plane at each z is, and the unit; none where one lacks it."""
    found: dict[int, float] = {}
    units = {plane.get("PositionZUnit") for plane in planes if "PositionZ" in plane}
    unit = unit_name(next(iter(units)) or "") if len(units) == 1 else None
    if unit not in METRES:  # the schema's own default is a frame of reference that nobody knows
        return (), None
    for plane in planes:
        at, height = _index(plane, "TheZ"), as_number(plane.get("PositionZ"))
        if at is not None and height is not None:
            found.setdefault(at, height)
    return _complete(found, planes, "TheZ", own), unit


def _stage_of(
    planes: list[dict[str, str]], label: dict[str, str]
) -> dict[str, tuple[str, str | None]]:
    """Return the position of the first plane along each axis, else that of the label."""
    first = planes[0] if planes else {}
    found = {}
    for axis in "ZYX":
        if f"Position{axis}" in first:
            found[axis.lower()] = first[f"Position{axis}"], first.get(f"Position{axis}Unit")
        elif axis in label:
            found[axis.lower()] = label[axis], label.get(f"{axis}Unit")
    return found


def _complete(
    found: dict[int, float], planes: list[dict[str, str]], key: str, own: set[int]
) -> tuple[float, ...]:
    """Return the values in order; none where a position of *own*, else between two, lacks one."""
    wanted = {_index(plane, key) for plane in planes} | (own or {*range(max(found, default=0))})
    return tuple(found[at] for at in sorted(found)) if wanted == found.keys() else ()


def _index(plane: dict[str, str], key: str) -> int | None:
    return as_index(plane.get(key))


def _place_of(plane: dict[str, str]) -> tuple[int | None, ...]:
    return tuple(_index(plane, f"The{axis}") for axis in "TCZ")


# -- to the findings ---------------------------------------------------------------------------


def extract(image: OpenImage) -> str | None:
    """Return the OME-XML of the first page, also one without its end.

    tifffile does not take the latter for OME-XML.
    """
    first = image.tif.pages.first
    if first.is_ome:
        return str(first.description)
    text = OpenImage(image.tif, first).text(270)
    return text if text is not None and re.search(r"<(\w+:)?OME[\s>]", text[:4096]) else None


def interpret(xml: str, subject: Subject, found: Findings) -> None:
    """Read Pixels as the schema 2016-06 defines it; older ones have no units.

    A unit that is not written is the schema's own default, the micrometre or the second.
    """
    source, series = "OME-XML", subject.series
    # a pyramid level has other sizes than the XML, which describes level 0
    sizes = {} if subject.is_reduced else {d: subject.sizes[d] for d in "yx" if d in subject.sizes}
    try:
        image = read_ome_image(xml, series, found.file_name)
    except ValueError as exc:
        found.warn(f"{source} is ignored, since {exc}")
        return
    pixels = image.pixels
    if not pixels and not image.is_elsewhere:
        found.warn(f"{source} has no pixels for series {series}, its images are {image.images}")
    _warn_of_sizes(pixels, sizes, found)
    add_pixels(pixels, source, found)
    _add_channels(image.channels, source, found, subject.tags.get("micromanager"))
    found.own_channels = image.own_channels
    found.add_time("acquired", image.acquired, source)
    is_split = bool(subject.sizes.keys() - {*"tczyx", "sample", SERIES})  # t may be t and lifetime
    if not is_split or len(image.times) == subject.sizes.get("t", 1):
        found.add_times(image.times, source)
    found.add_heights(image.heights, image.height_unit, source)
    n = subject.sizes.get(SERIES, 1)
    images = [image] if n == 1 else read_images(xml, n, found.file_name)
    _warn_of_differences(images, found)
    stages = [image.stage for image in images]
    for dim in "zyx":
        known = [stage[dim] for stage in stages if dim in stage]
        units = {unit for _, unit in known}
        if known and len(known) == len(stages) and len(units) == 1:
            unit = unit_name(next(iter(units)) or "")
            found.add_stage(dim, [value for value, _ in known], unit, source)
    found.add_fact("objective", _renamed(image.objective, _OBJECTIVE), source)
    found.add_fact("instrument", _renamed(image.microscope, _MICROSCOPE), source)
    found.add_fact("software", image.creator, source)


def add_pixels(pixels: dict[str, Any], source: str, found: Findings) -> None:
    """Add what the attributes of Pixels say of steps."""
    for dim in "zyx":
        key = f"PhysicalSize{dim.upper()}"
        if key in pixels:
            unit = found.read_unit(pixels.get(f"{key}Unit", "µm"), source)
            found.add_step(dim, pixels[key], unit, source, key)
    if "TimeIncrement" in pixels:
        unit = pixels.get("TimeIncrementUnit", "s")
        found.add_interval(pixels["TimeIncrement"], unit, source, "TimeIncrement")


def _warn_of_sizes(pixels: dict[str, str], sizes: dict[str, int], found: Findings) -> None:
    for dim, size in sizes.items():
        claimed = pixels.get(f"Size{dim.upper()}")
        if claimed is not None and as_number(claimed) != size:
            found.warn(f"OME-XML says Size{dim.upper()}={claimed[:20]}, but the pixels have {size}")


def _warn_of_differences(images: list[OmeImage], found: Findings) -> None:
    """Warn where images that are opened as one have other steps or channels than the first."""
    for dim in "ZYX":
        key = f"PhysicalSize{dim}"
        sizes = [
            (None if size is None else f"{size:.4g}", image.pixels.get(f"{key}Unit"))
            for image in images
            for size in [as_number(image.pixels.get(key))]
        ]
        _warn_of_difference(key, sizes, found)
    names = [tuple(channel.get("Name") for channel in image.channels) for image in images]
    _warn_of_difference("the names of channels", names, found)


def _warn_of_difference(what: str, values: Sequence[Any], found: Findings) -> None:
    other = next((i for i, value in enumerate(values) if value != values[0]), None)
    if other is not None:
        claims = (" ".join(str(v) for v in values[i] if v is not None) for i in (0, other))
        first, second = (reprlib.repr(claim) for claim in claims)
        found.warn(
            f"images 0 and {other} of OME-XML differ in {what}: {first} but {second}; the first is "
            "used"
        )


def _add_channels(
    channels: tuple[dict[str, str], ...], source: str, found: Findings, micromanager: Any
) -> None:
    # an RGB channel has three samples, which are a separate dim
    found.add_channels("channel_names", (channel.get("Name") for channel in channels), source)
    numbers = [_color_number(channel.get("Color")) for channel in channels]
    is_argb = _is_argb([n for n in numbers if n is not None], micromanager)
    colors = [None if n is None else _hex(n if is_argb else n >> 8) for n in numbers]
    found.add_channels("channel_colors", colors, source)
    for key, name, old in (
        ("emission_wavelengths", "EmissionWavelength", "EmWave"),
        ("excitation_wavelengths", "ExcitationWavelength", "ExWave"),
    ):
        found.add_channels(key, [_nanometres(channel, name, old) for channel in channels], source)


def _color_number(text: str | None) -> int | None:
    """Return the schema's signed RGBA number as 32 bits, None where there is none.

    >>> _color_number("16711935"), _color_number("-1"), _color_number("-2147483648")
    (16711935, 4294967295, None)
    """
    number = as_number(text)
    if number is None or number == _NO_COLOR or not -(2**31) <= number < 2**32:
        return None
    return int(number) % 2**32


def _hex(rgb: int) -> str:
    return f"#{rgb & 0xFFFFFF:06x}"


def _is_argb(numbers: list[int], micromanager: Any) -> bool:
    """Return whether colours are Java's ARGB, as Micro-Manager 1.4 writes them.

    Opaque colours end in 255 as RGBA and begin with it as ARGB. One that is transparent as RGBA
    and opaque as ARGB decides; else, what Micro-Manager's own summary has as ARGB.

    >>> _is_argb([0xFFFF0000, 0xFF0000FF], None), _is_argb([0xFF0000FF], None)
    (True, False)
    """
    if not numbers or any(n >> 24 != 0xFF for n in numbers):
        return False
    if any(n & 0xFF == 0 for n in numbers) and all(n & 0xFFFFFF for n in numbers):
        return True
    summary = micromanager.get("Summary") if isinstance(micromanager, Mapping) else None
    if not isinstance(summary, Mapping):
        return False
    own = summary.get("ChColors")
    is_same = isinstance(own, list | tuple) and numbers == [
        n % 2**32 for n in own if isinstance(n, int)
    ]
    return is_same or str(summary.get("MicroManagerVersion", "")).startswith("1.")


def _nanometres(channel: dict[str, str], name: str, old: str) -> float | None:
    length = as_number(channel.get(name, channel.get(old)))
    unit = unit_name(channel.get(f"{name}Unit", "nm"))
    if length is None or unit not in METRES or not 0 < length < math.inf:
        return None
    return length if unit == "nanometer" else round(length * METRES[unit] * 1e9, 6)


_OBJECTIVE = {
    "Manufacturer": "manufacturer",
    "Model": "model",
    "NominalMagnification": "magnification",
    "LensNA": "numerical_aperture",
    "Immersion": "immersion",
}
_MICROSCOPE = {"Manufacturer": "manufacturer", "Model": "model", "SerialNumber": "serial_number"}
_NUMBERS = frozenset({"magnification", "numerical_aperture"})


def _renamed(attributes: dict[str, str], names: dict[str, str]) -> dict[str, Any]:
    """Return the attributes under our names, numbers as numbers."""
    texts = {ours: attributes[theirs] for theirs, ours in names.items() if theirs in attributes}
    numbers = {key: as_number(text) for key, text in texts.items() if key in _NUMBERS}
    finite = {k: n if n is not None and math.isfinite(n) else None for k, n in numbers.items()}
    return texts | finite


OME = Reader("ome_xml", extract, interpret)
