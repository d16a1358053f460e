"""What the index of a plate is, and what the readers of several instruments share. Pure."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from xml.etree import ElementTree

from intake_tiffstack.dims import row_letters

__all__ = [
    "Folder",
    "PlateIndex",
    "Row",
    "micrometres",
    "number",
    "parse_xml",
    "stream_xml",
    "tag",
    "well_name",
]

Row = dict[str, Any]
"""What an index says of one image: ``url``, relative to its folder, and fields by name."""


_START = 2**16


class Folder(Protocol):
    """What lies beside an index."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if it is not there."""

    def tiffs(self) -> Sequence[str]:
        """Return the paths of all TIFFs at any depth, relative to the folder."""


@dataclass(frozen=True)
class PlateIndex:
    """One kind of index."""

    program: str
    """What writes it."""
    names: tuple[str, ...]
    """Ends of its name in lower case; of several in one folder the first of these counts."""
    read: Callable[[bytes, str, Folder], list[Row]]
    """Return a row per image from the content and the name of the index; raise ValueError or
    KeyError for what is no such index."""
    preset: str
    """What reads the names of its images, which are held against it."""
    marks: tuple[bytes, ...]
    """One of these is near the beginning of every such index."""

    def fits(self, name: str) -> bool:
        """Return whether a file is named as this kind of index."""
        return name.lower().endswith(self.names)

    def is_marked(self, content: bytes) -> bool:
        """Return whether a file is such an index by what it holds, and not only by its name."""
        start = content[:_START].replace(b"\0", b"")  # UTF-16
        return any(mark in start for mark in self.marks)


def parse_xml(content: bytes) -> ElementTree.Element:
    """Return the root of an XML; one that declares no encoding may be Latin-1.

    Raises
    ------
    ValueError
        If it is broken, or declares entities, which no instrument writes.

    >>> parse_xml(b'<?xml version="1.0" encoding="ISO-8859-1"?><a unit="\\xb5m"/>').get("unit")
    'µm'
    """
    try:
        return ElementTree.fromstring(_decode(content))
    except ElementTree.ParseError as exc:
        raise ValueError(f"its XML is broken: {exc}") from exc


def stream_xml(content: bytes, names: Container[str]) -> Iterator[ElementTree.Element]:
    """Yield the elements of some names as they end; each is emptied afterwards.

    The index of a screen has 100,000 images of 30 elements, which are not kept: a tenth of the
    time, since the garbage collector never sees them.

    Raises
    ------
    ValueError
        As :func:`parse_xml`.

    >>> [e.get("n") for e in stream_xml(b"<a><b n='1'/><c><b n='2'/></c></a>", {"b"})]
    ['1', '2']
    """
    try:
        for _, element in ElementTree.iterparse(io.BytesIO(_decode(content).encode())):
            if tag(element) in names:
                yield element
                element.clear()
    except ElementTree.ParseError as exc:
        raise ValueError(f"its XML is broken: {exc}") from exc


def _decode(content: bytes) -> str:
    """Return the text of an XML without its declaration."""
    mark = re.match(rb"\xef\xbb\xbf|\xff\xfe|\xfe\xff", content)
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding=["']([\w.-]+)""", content[:200])
    name = "utf-8" if declared is None else declared[1].decode()
    if mark is not None:
        name = "utf-8-sig" if mark[0] == b"\xef\xbb\xbf" else "utf-16"
    try:
        text = content.decode(name)
    except (UnicodeDecodeError, LookupError):
        text = content.decode("latin-1")
    if "<!ENTITY" in text:
        raise ValueError("it declares entities, which no instrument writes")
    return re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL)


def tag(element: ElementTree.Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def well_name(row: str | int, column: str | int) -> str:
    """Return the name of a well from the numbers of its row and column.

    >>> well_name("4", "8"), well_name(27, 12)
    ('D08', 'AA12')
    """
    if int(row) < 1 or int(column) < 1:
        raise ValueError(f"row {row} and column {column} of a well do not count from 1")
    return f"{row_letters(int(row))}{int(column):02d}"


def number(text: str | None) -> float:
    """Return the number that a text writes, NaN where it writes none.

    For what describes pixels; ``read_plate`` warns of a NaN and drops it. Where an image belongs
    is read by ``int``, since it must not be missing.

    >>> number("0.65"), number("wide")
    (0.65, nan)
    """
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def micrometres(text: str | None, unit: str) -> float:
    """Return a length in micrometres, NaN where the text is no number or the unit no length.

    >>> micrometres("-3.016E-06", "m"), micrometres("0.65", "µm"), micrometres("1", "s")
    (-3.016, 0.65, nan)
    """
    return round(number(text) * _MICROMETRES.get(unit, math.nan), 9)


_MICROMETRES = {"m": 1e6, "mm": 1e3, "um": 1.0, "\u00b5m": 1.0, "\u03bcm": 1.0, "nm": 1e-3}
