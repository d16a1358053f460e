"""What ImageJ writes into its description and its binary tags."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.metadata.planes import values_of_channels
from intake_tiffstack.metadata.reader import OpenImage, Reader, Subject, copy_dict
from intake_tiffstack.metadata.readers.baseline import Resolution, is_page_setting
from intake_tiffstack.metadata.readers.gdal import add_packing
from intake_tiffstack.metadata.units import as_number
from intake_tiffstack.structure import Packing

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings

__all__ = ["IMAGEJ", "SHAPED"]


def interpret_imagej(tags: Mapping[str, Any], subject: Subject, found: Findings) -> None:
    """Read as ImageJ's TiffDecoder and FileOpener do.

    Its unit holds for the resolution tags, whatever unit they state; y and z units are written
    only where they differ from x. ``fps`` is the speed of playing, so it says nothing of time.
    """
    source = "ImageJ"
    _read_steps(tags, subject.tags.get("resolution"), found, source)
    for dim in "zyx":
        origin = as_number(tags.get(f"{dim}origin"))
        if origin is not None and dim in found.scale:
            found.add_origin(dim, -origin * found.scale[dim], source)
    tables = tags.get("LUTs")
    if isinstance(tables, list):
        found.add_channels("channel_colors", map(_color, tables), source)
    _name_channels(tags.get("Labels"), subject, found)
    ranges = tags.get("Ranges", (tags.get("min"), tags.get("max")))
    if isinstance(ranges, list | tuple):
        pairs = zip(ranges[::2], ranges[1::2], strict=False)
        found.add_channels("display_ranges", (_pair(*pair) for pair in pairs), source)
    if "cf" in tags:
        _add_calibration(tags, found)
    version = tags.get("ImageJ")
    if isinstance(version, str) and version:
        found.add_fact("software", f"ImageJ {version}", source)


def _add_calibration(tags: Mapping[str, Any], found: Findings) -> None:
    """Add what the stored numbers mean, where ImageJ's function of them is a straight line.

    It stores signed pixels of 16 bits as unsigned ones, with an offset of -32768.
    """
    offset, factor = as_number(tags.get("c0")), as_number(tags.get("c1"))
    if tags["cf"] != 0 or offset is None or not factor or not math.isfinite(offset + factor):
        found.warn("the calibration of values by ImageJ is no straight line; ignored")
        return
    scales, offsets = (factor,) if factor != 1 else (), (offset,) if offset != 0 else ()
    add_packing(Packing(scales=scales, offsets=offsets), found, "ImageJ")
    unit = str(tags.get("vunit", "")).strip('" ')
    if unit.lower() not in ("", "gray value"):
        found.add_fact("band_units", [unit], "ImageJ")


_COUNTS = re.compile(r"[czt]:\d+/\d+|\d*$")
"""How labels begin that importers write: the number of the plane."""


def _name_channels(labels: Any, subject: Subject, found: Findings) -> None:
    """Add the labels of planes as names of channels, if each channel has a different one.

    A label may have further lines. Importers number the planes, or name the file in each.
    """
    if not isinstance(labels, list | tuple) or not all(isinstance(text, str) for text in labels):
        return
    texts = [text.partition("\n")[0].strip("\0 ") for text in labels]
    channels = values_of_channels(texts, subject.sizes)
    if channels is None or len(set(channels)) < len(channels):
        return
    if not any(_COUNTS.match(text) for text in channels if text):
        found.add_channels("channel_names", channels, "ImageJ")


def _read_steps(
    tags: Mapping[str, Any],
    resolution: Resolution | None,
    found: Findings,
    source: str,
    *,
    is_free: bool = False,
) -> None:
    """Add steps; *is_free* says that anyone may have written the words, not ImageJ alone."""
    x_unit = tags.get("unit")
    texts = {"x": x_unit, "y": tags.get("yunit", x_unit), "z": tags.get("zunit", x_unit)}
    units = {
        dim: None if text is None else found.read_unit(text, source) for dim, text in texts.items()
    }
    found.add_step("z", tags.get("spacing"), units["z"], source, "spacing")
    if resolution is not None and (x_unit is not None or resolution[2] == "none"):
        for dim, per_unit in zip("xy", resolution[:2], strict=True):
            if per_unit != 0 and not (is_free and is_page_setting(per_unit, units[dim])):
                found.add_step(dim, _inverse(per_unit), units[dim], source, "pixel size")
    if "finterval" in tags:
        found.add_interval(tags["finterval"], tags.get("tunit", "s"), source, "finterval")


def _inverse(value: float) -> float:
    """Return 1 / *value*: of the numbers with this inverse, the one a person would type.

    >>> _inverse(1 / 0.104), _inverse(300), _inverse(float("inf"))
    (0.104, 0.0033333333333333335, 0.0)
    """
    typed = float(f"{1 / value:.15g}")
    return typed if typed and 1 / typed == value else 1 / value


def _color(table: Any) -> str | None:
    """Return the brightest color of a lookup table that rises from black to it, else None.

    >>> ramp = np.arange(256, dtype="uint8")
    >>> _color(np.stack([ramp, ramp * 0, ramp])), _color(np.stack([ramp, ramp, ramp[::-1]]))
    ('#ff00ff', None)
    """
    if np.shape(table) != (3, 256):
        return None
    levels = np.asarray(table, dtype=np.float64)
    ramp = levels[:, -1:] * np.arange(256) / 255
    if np.abs(levels - ramp).max() > 1.5:  # a table of many colors has no single one
        return None
    return "#" + "".join(f"{int(level):02x}" for level in levels[:, -1])


def _pair(low: Any, high: Any) -> list[float] | None:
    numbers = as_number(low), as_number(high)
    if None in numbers or not np.isfinite(np.array(numbers, float)).all():
        return None
    return [float(n) for n in numbers if n is not None]


def extract_imagej(image: OpenImage) -> dict[str, Any] | None:
    """Return ImageJ's description and its binary tags."""
    return copy_dict(image.tif.imagej_metadata) if image.is_first else None


def extract_shaped(image: OpenImage) -> dict[str, Any] | None:
    """Return the JSON of the description that tifffile wrote."""
    text = image.page.shaped_description
    if text is None:
        return None
    from tifffile import tifffile

    return copy_dict(tifffile.shaped_description_metadata(text))


def interpret_shaped(tags: Mapping[str, Any], subject: Subject, found: Findings) -> None:
    """Read the words of ImageJ and of OME in the JSON description that tifffile writes.

    Who wrote them chose them freely, so a unit that is not there is not known. Resolution tags that
    state centimetres mean these; the inch is what tifffile states by default.
    """
    source = "description"
    if "unit" in tags or "spacing" in tags or "finterval" in tags:
        own = subject.tags.get("resolution") if "unit" in tags else None
        own = None if own is not None and own[2] == "centimeter" else own
        _read_steps(tags, own, found, source, is_free=True)
    for dim in "zyx":
        key = f"PhysicalSize{dim.upper()}"
        if key in tags:
            unit = tags.get(f"{key}Unit")
            name = None if unit is None else found.read_unit(unit, source)
            found.add_step(dim, tags[key], name, source, key)
    if "TimeIncrement" in tags and "TimeIncrementUnit" in tags:
        found.add_interval(
            tags["TimeIncrement"], tags["TimeIncrementUnit"], source, "TimeIncrement"
        )
    channel = tags.get("Channel")
    names = channel.get("Name") if isinstance(channel, Mapping) else None
    if isinstance(names, list):
        found.add_channels("channel_names", names, source)


IMAGEJ = Reader("imagej", extract_imagej, interpret_imagej)
SHAPED = Reader("shaped", extract_shaped, interpret_shaped)
