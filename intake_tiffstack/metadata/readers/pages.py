"""Names of single pages: the tag PageName, and the XML of PerkinElmer's QPTIFF."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from intake_tiffstack.metadata.planes import values_of_channels
from intake_tiffstack.metadata.reader import OpenImage, Reader

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = ["PAGE_NAMES", "QPTIFF"]

_MOST = 256
"""Pages that are read: channels are few, and each costs a parse."""

_COUNTS = re.compile(r"(?:page|image|slice|frame|scan)?\W*\d*", re.IGNORECASE)
"""Names that count pages."""


def extract_page_names(image: OpenImage) -> list[str] | None:
    """Return PageName of the pages of the series, None if its first has none."""
    if not image.text(285):
        return None
    return [
        page.tags.valueof(285, "") if isinstance(page.tags.valueof(285), str) else ""
        for page in image.pages(_MOST)
    ]


def interpret_page_names(names: Sequence[str], subject: Subject, found: Findings) -> None:
    """Read PageName (TIFF 6.0, section 12) as the names of channels, if each has its own.

    Other writers put the number of the page there.
    """
    plain = [name.strip("\0 ") for name in names]
    channels = values_of_channels(plain[: subject.planes], subject.sizes)
    if channels is None or len(set(channels)) < len(channels):
        return
    if not all(_COUNTS.fullmatch(name) for name in channels):
        found.add_channels("channel_names", channels, "PageName tags")


def extract_qptiff(image: OpenImage) -> list[dict[str, str]] | None:
    """Return the elements of each page's XML that hold text, None for another file."""
    if not image.page.is_qpi:
        return None
    return [_texts(page.description) for page in image.pages(_MOST)]


def _texts(xml: str) -> dict[str, str]:
    if "<PerkinElmer-QPI-ImageDescription" not in xml or "<!ENTITY" in xml:
        return {}
    root = ElementTree.fromstring(xml.encode("utf-16") if "utf-16" in xml[:80] else xml)
    return {child.tag: child.text.strip() for child in root if child.text and child.text.strip()}


def interpret_qptiff(pages: Sequence[Mapping[str, str]], subject: Subject, found: Findings) -> None:
    """Read each page's Biomarker, else its Name, and its Color (red,green,blue)."""
    source = "QPTIFF"
    own = pages[: subject.planes]
    sizes = {"c": 1, **subject.sizes}  # of one channel there is no dim
    for key, values in (
        ("channel_names", [page.get("Biomarker") or page.get("Name", "") for page in own]),
        ("channel_colors", [_color(page.get("Color", "")) for page in own]),
    ):
        channels = values_of_channels(values, sizes)
        if channels is not None:
            found.add_channels(key, channels, source)
    if pages:
        found.add_fact("objective", {"model": pages[0].get("Objective")}, source)


def _color(text: str) -> str | None:
    """Return ``#rrggbb`` from three numbers up to 255.

    >>> _color("255,0,128"), _color("300,0,0")
    ('#ff0080', None)
    """
    parts = text.split(",")
    numbers = [int(part) for part in parts if re.fullmatch(r"\s*\d{1,3}\s*", part)]
    if len(parts) != 3 or len(numbers) != 3 or max(numbers) > 255:
        return None
    return "#{:02x}{:02x}{:02x}".format(*numbers)


PAGE_NAMES = Reader("page_names", extract_page_names, interpret_page_names)
QPTIFF = Reader("qptiff", extract_qptiff, interpret_qptiff)
