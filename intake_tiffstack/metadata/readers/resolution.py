"""Sizes and dates from the tags that any TIFF may have. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from intake_tiffstack.metadata.units import METRES

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings

__all__ = ["is_page_setting", "read_resolution"]


def read_resolution(resolution: tuple[float, float, str], found: Findings) -> None:
    """Read the tags XResolution and YResolution (TIFF 6.0, section 8), where they mean a size."""
    x, y, unit = resolution
    if unit == "none" or is_page_setting(x, unit) or is_page_setting(y, unit):
        return
    for dim, per_unit in (("x", x), ("y", y)):
        step = METRES[unit] * 1e6 / per_unit
        found.add_step(dim, step, "micrometer", "resolution tags", "pixel size")


def is_page_setting(per_unit: float, unit: str | None) -> bool:
    """Return whether pixels per inch or centimetre say how to print and nothing of the world.

    Writers that know no size put 72, 96, 150, 300 ... dots an inch, so a whole number up to 1,200
    says nothing, nor does one rounded to two decimals a centimetre. A pixel an inch or more of
    them is no picture: 0 and 1 are what writers put for nothing.

    >>> is_page_setting(96, "inch"), is_page_setting(37.79, "centimeter")
    (True, True)
    >>> is_page_setting(10000, "centimeter"), is_page_setting(100, "micrometer")
    (False, False)
    """
    if unit not in ("inch", "centimeter"):
        return False
    if per_unit <= 1:
        return True
    if unit == "inch":
        dots = per_unit
    elif per_unit % 1 == 0:
        return False  # 500 a centimetre was meant so, though it is 1,270 an inch
    else:
        dots = 2.54 * per_unit
    return dots <= 1200.02 and abs(dots - round(dots)) <= 0.02
