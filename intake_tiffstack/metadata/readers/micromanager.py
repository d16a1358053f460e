"""What Micro-Manager writes, into its files and beside them."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from intake_tiffstack.metadata.reader import OpenImage, Reader, Subject, copy_dict
from intake_tiffstack.metadata.units import as_number

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings

__all__ = ["MICROMANAGER", "extract_page"]

_NDTIFF, _SUMMARY = 483729, 2355492  # what Micro-Manager's own blocks begin with


def extract_page(page: Any) -> dict[str, Any] | None:
    """Return the metadata of one page of tifffile, None if Micro-Manager wrote none."""
    return copy_dict(page.tags.valueof(51123))


def extract(image: OpenImage) -> dict[str, Any] | None:
    """Return the metadata of the key frame, and the blocks in front of and behind the pages.

    Its keys are ``Page``, ``Summary`` and ``DisplaySettings``, those there are: a file of one plane
    has pages alone. The index of all pages is not read, since it may be long.
    """
    page = extract_page(image.page)
    if page is None:
        return None
    from tifffile import read_micromanager_metadata

    found: dict[str, Any] = {"Page": page}
    handle = image.tif.filehandle
    handle.seek(8)
    start = handle.read(28)
    if len(start) < 28:
        return found
    numbers = struct.unpack(f"{image.tif.byteorder}7I", start)
    if numbers[0] == _NDTIFF or numbers[6] == _SUMMARY:
        found |= read_micromanager_metadata(handle, {"Summary"})
    summary = found.get("Summary")
    if numbers[6] == _SUMMARY and isinstance(summary, dict) and "ChColors" not in summary:
        found |= read_micromanager_metadata(handle, {"DisplaySettings"})
    return found


def interpret(
    tags: Mapping[str, Any], subject: Subject, found: Findings, source: str = "Micro-Manager"
) -> None:
    """Read the summary, the first page and the display settings, whichever of them are there.

    0 stands for "not calibrated" and "no such axis". What the first page records of time and z
    holds for the file if it has one position along them.
    """
    sizes = subject.sizes
    summary, page = tags.get("Summary"), tags.get("Page")
    if isinstance(summary, Mapping):
        _read_steps(summary, found, source)
        found.add_time("acquired", summary.get("StartTime"), source)
        _add_summary_channels(summary, found, source)
        version = summary.get("MicroManagerVersion")
        if version and isinstance(version, str):
            found.add_fact("software", f"Micro-Manager {version}", source)
    if isinstance(page, Mapping):
        _read_page(page, sizes, found, source)
    _add_display_channels(tags.get("DisplaySettings"), found, source)


def _read_steps(summary: Mapping[str, Any], found: Findings, source: str) -> None:
    size = summary.get("PixelSizeUm", summary.get("PixelSize_um"))
    if as_number(size) != 0:
        found.add_step("y", size, "micrometer", source, "PixelSizeUm")
        found.add_step("x", size, "micrometer", source, "PixelSizeUm")
    distance = as_number(summary.get("z-step_um"))
    if distance:
        # the sign is the way the stage went
        found.add_step("z", abs(distance), "micrometer", source, "z-step_um")
    if "Interval_ms" in summary:
        found.add_interval(summary["Interval_ms"], "ms", source, "Interval_ms")


def _add_summary_channels(summary: Mapping[str, Any], found: Findings, source: str) -> None:
    names, colors = summary.get("ChNames"), summary.get("ChColors")
    if isinstance(names, list | tuple):
        found.add_channels("channel_names", names, source)
    if isinstance(colors, list | tuple):
        found.add_channels("channel_colors", map(_color, colors), source)


def _read_page(
    page: Mapping[str, Any], sizes: Mapping[str, int], found: Findings, source: str
) -> None:
    _read_steps({k: page[k] for k in ("PixelSizeUm", "PixelSize_um") if k in page}, found, source)
    elapsed = as_number(page.get("ElapsedTime-ms"))
    if elapsed is not None and "acquired" in found.facts:
        if sizes.get("t", 1) == 1:
            found.add_times([elapsed / 1e3], source)
    else:
        found.add_time("acquired", page.get("ReceivedTime", page.get("Time")), source)
    height = as_number(page.get("ZPositionUm"))
    if height is not None and sizes.get("z", 1) == 1:
        found.add_heights([height], "micrometer", source)
    for dim in "zyx":  # NDTiff of tiled scans has where the stage was sent
        letter = dim.upper()
        position = page.get(f"{letter}PositionUm", page.get(f"{letter}Position_um_Intended"))
        found.add_stage(dim, [position], "micrometer", source)
    number, names = page.get("ChannelIndex"), found.channels.get("channel_names", ())
    is_one = not found.own_channels and sizes.get("c", 1) == 1
    if isinstance(number, int) and is_one and 0 <= number < len(names):
        found.own_channels = (number,)  # the summary names those of all files
    name = page.get("Channel")
    if isinstance(name, str):
        found.add_channels("channel_names", [name], source)
    objective = page.get("Objective-Label")
    if isinstance(objective, str):
        found.add_fact("objective", {"model": objective}, source)


def _add_display_channels(settings: Any, found: Findings, source: str) -> None:
    channels = list(_display_channels(settings))
    found.add_channels("channel_names", (name for name, _, _ in channels), source)
    found.add_channels("channel_colors", (color for _, color, _ in channels), source)
    found.add_channels("display_ranges", (limits for _, _, limits in channels), source)


def _display_channels(settings: Any) -> Iterator[tuple[str | None, str | None, Any]]:
    """Yield name, color and range of each channel, as 1.4 and 2.0 write them.

    >>> list(_display_channels({"Channels": [{"Name": "DAPI", "Color": -16776961, "Min": 0}]}))
    [('DAPI', '#0000ff', None)]
    >>> dapi = {"Channel": {"type": "STRING", "scalar": "DAPI"}, "Color": {"scalar": -1}}
    >>> list(_display_channels({"map": {"ChannelSettings": {"array": [dapi]}}}))
    [('DAPI', '#ffffff', None)]
    """
    if isinstance(settings, Mapping):
        tree = _dig(settings, "map", "ChannelSettings", "array")
        settings = tree if tree is not None else settings.get("Channels")
    for channel in settings if isinstance(settings, list) else ():
        if not isinstance(channel, Mapping):
            continue
        name = _scalar(channel.get("Name", channel.get("Channel")))
        low, high = (as_number(_scalar(channel.get(key))) for key in ("Min", "Max"))
        is_range = low is not None and high is not None and -math.inf < low < high < math.inf
        yield (
            name if isinstance(name, str) else None,
            _color(_scalar(channel.get("Color"))),
            [low, high] if is_range else None,
        )


def _dig(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _scalar(value: Any) -> Any:
    return value.get("scalar") if isinstance(value, Mapping) else value


def _color(number: Any) -> str | None:
    """Return ``#rrggbb`` from Java's signed ARGB number, None where it is none.

    >>> _color(-16711936), _color(255), _color("red")
    ('#00ff00', '#0000ff', None)
    """
    if isinstance(number, bool) or not isinstance(number, int) or abs(number) >= 2**32:
        return None
    return f"#{number & 0xFFFFFF:06x}"


MICROMANAGER = Reader(
    "micromanager",
    extract,
    interpret,
    interpret_sidecar=lambda name, tags, subject, found: interpret(
        tags, subject, found, f"{name} beside"
    ),
)
