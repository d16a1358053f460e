"""What is needed at open of an OME-XML: the Pixels and the Channels of one Image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

__all__ = ["OmeImage", "read_ome_image"]

_BLOCK = 2**16
"""Characters parsed at a time, so that what comes after the channels costs nothing."""


@dataclass(frozen=True)
class OmeImage:
    """One Image of an OME-XML, as far as it is needed."""

    pixels: dict[str, str] = field(default_factory=dict)
    """Attributes of Pixels; empty where the Image is not there."""
    channel_names: tuple[str | None, ...] = ()
    images: int = 0
    """How many Images were met before the end of this one."""
    is_elsewhere: bool = False
    """The XML only points to the file that has it (``BinaryOnly``)."""


def read_ome_image(xml: str, series: int = 0) -> OmeImage:
    """Return Pixels and channel names of one Image. Pure.

    Parsing stops at the first plane of that Image, so that 10,000 planes cost nothing, and so does
    a fault behind them.

    Raises
    ------
    ValueError
        The XML is broken, or declares entities, which OME has none of and bombs are made of.

    References
    ----------
    OME schema 2016-06, https://www.openmicroscopy.org/Schemas/OME/2016-06; older ones have the
    same elements in other namespaces.

    >>> read_ome_image('<OME><Image><Pixels><Channel Name="DAPI"/></Pixels></Image></OME>')
    OmeImage(pixels={}, channel_names=('DAPI',), images=1, is_elsewhere=False)
    """
    handlers = _Handlers(series)
    parser = expat.ParserCreate()
    parser.StartElementHandler = handlers.start
    parser.EndElementHandler = handlers.end
    parser.EntityDeclHandler = handlers.refuse_entity
    try:
        for start in range(0, len(xml), _BLOCK):
            parser.Parse(xml[start : start + _BLOCK])
        parser.Parse("", True)
    except _Enough:
        pass
    except (expat.ExpatError, UnicodeError) as exc:
        raise ValueError(f"it cannot be parsed: {exc}") from exc
    return OmeImage(
        handlers.pixels, tuple(handlers.channel_names), handlers.images, handlers.is_elsewhere
    )


class _Enough(Exception):
    """All that is wanted has been seen."""


class _Handlers:
    """Called by expat, element by element; raises _Enough behind the last channel."""

    def __init__(self, series: int) -> None:
        self.series = series
        self.images = 0
        self.is_elsewhere = False
        self.pixels: dict[str, str] = {}
        self.channel_names: list[str | None] = []
        self._path: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        path = self._path
        path.append(tag.rpartition(":")[2])
        if len(path) == 2:
            self.images += path[1] == "Image"
            self.is_elsewhere |= path[1] == "BinaryOnly"
        elif self.images == self.series + 1 and path[1:3] == ["Image", "Pixels"]:
            if len(path) == 3:
                self.pixels = attributes
            elif len(path) == 4 and path[3] == "Channel":
                self.channel_names.append(attributes.get("Name"))
            elif len(path) == 4:  # the schema has the channels first, then data and planes
                raise _Enough

    def end(self, _tag: str) -> None:
        if self.images == self.series + 1 and self._path[1:] == ["Image", "Pixels"]:
            raise _Enough
        self._path.pop()

    @staticmethod
    def refuse_entity(name: str, *_: Any) -> None:
        raise ValueError(f"it declares the entity {name[:40]!r}, which OME has none of")
