"""Sizes, software and dates from the tags that any TIFF may have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from intake_tiffstack.metadata.reader import OpenImage, Reader
from intake_tiffstack.metadata.units import METRES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = [
    "DATETIME",
    "DESCRIPTION",
    "ORIENTATION",
    "RESOLUTION",
    "SOFTWARE",
    "is_page_setting",
]

_PER_MILLIMETRE = {"centimeter": 10.0, "inch": 25.4}

Resolution = tuple[float, float, Literal["none", "inch", "centimeter"]]
"""Pixels per unit along x and along y, and the unit."""

_UNITS: dict[int, Literal["none", "inch", "centimeter"]] = {2: "inch", 3: "centimeter"}


def extract_resolution(image: OpenImage) -> Resolution | None:
    """Return XResolution, YResolution and ResolutionUnit, None if either of the first is absent."""
    tags = image.page.tags
    if 282 not in tags or 283 not in tags:
        return None

    def ratio(value: Sequence[int]) -> float:
        numerator, denominator = value
        return numerator / denominator if denominator else math.nan

    unit = _UNITS.get(int(tags.valueof(296, 2)), "none")
    return ratio(tags[282].value), ratio(tags[283].value), unit


def interpret_resolution(resolution: Resolution, subject: Subject, found: Findings) -> None:
    """Read the tags XResolution and YResolution (TIFF 6.0, section 8), where they mean a size.

    The pixels of a map have their size on the ground, and one on paper besides.
    """
    x, y, unit = resolution
    if "geotiff" in subject.tags or "affine" in found.facts:
        return
    if unit == "none" or is_page_setting(x, unit) or is_page_setting(y, unit):
        return
    for dim, per_unit in (("x", x), ("y", y)):
        step = METRES[unit] * 1e6 / per_unit
        found.add_step(dim, step, "micrometer", "resolution tags", "pixel size")


def is_page_setting(per_unit: float, unit: str | None) -> bool:
    """Return whether pixels per inch or centimetre say how to print and nothing of the world.

    Writers that know no size put 72, 96, 150, 300 ... dots an inch, so a whole number up to 1,200
    says nothing, nor does one rounded to two decimals a centimetre. A pixel an inch or more of
    them is not a picture: writers put 0 and 1 for an unknown resolution, and libvips a pixel per
    millimetre.

    >>> is_page_setting(96, "inch"), is_page_setting(37.79, "centimeter")
    (True, True)
    >>> is_page_setting(10000, "centimeter"), is_page_setting(100, "micrometer")
    (False, False)
    """
    if unit not in ("inch", "centimeter"):
        return False
    if per_unit <= 1 or math.isclose(per_unit, _PER_MILLIMETRE[unit], rel_tol=1e-3):
        return True
    if unit == "inch":
        dots = per_unit
    elif per_unit % 1 == 0:
        return False  # 500 a centimetre was meant so, though it is 1,270 an inch
    else:
        dots = 2.54 * per_unit
    return dots <= 1200.02 and abs(dots - round(dots)) <= 0.02


RESOLUTION = Reader("resolution", extract_resolution, interpret_resolution)
SOFTWARE = Reader(
    "software",
    # what wrote the file wrote all of its images, and often says so once
    lambda image: image.text(305) or OpenImage(image.tif, image.tif.pages.first).text(305),
    lambda text, _, found: found.add_fact("software", text, "Software tag"),
)
DATETIME = Reader(
    "datetime",
    lambda image: image.text(306),
    lambda text, _, found: found.add_time("created", text, "DateTime tag"),
)
_ORIENTATIONS = (
    "top-left", "top-right", "bottom-right", "bottom-left",
    "left-top", "right-top", "right-bottom", "left-bottom",
)  # fmt: skip
"""Where row 0 and column 0 are to be shown (TIFF 6.0, section 8), from 1 on."""


def interpret_orientation(value: int, _: Subject, found: Findings) -> None:
    """Add an orientation other than the usual one; pixels are not turned."""
    if 1 < value <= len(_ORIENTATIONS):
        found.add_fact("orientation", _ORIENTATIONS[value - 1], "Orientation tag")


def extract_orientation(image: OpenImage) -> int | None:
    """Return the number in the tag Orientation."""
    value = image.page.tags.valueof(274)
    return int(value) if isinstance(value, int) else None


ORIENTATION = Reader("orientation", extract_orientation, interpret_orientation)
DESCRIPTION = Reader("description", lambda image: image.text(270), lambda *_: None)
"""The text as it is; OME-XML, ImageJ and others keep their own metadata in it."""
