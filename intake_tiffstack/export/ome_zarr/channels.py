"""How the channels of an image are shown: names, colours, windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.ome_zarr.metadata import Channel
from intake_tiffstack.export.planned_array import PlannedArray
from intake_tiffstack.storage.folder import Folder

__all__ = ["ChannelDisplay", "choose_colors", "find_windows", "name_channels", "window_of"]

_RGB = ("FF0000", "00FF00", "0000FF")
_PALETTE = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")

SAMPLES = 8
"""Planes that are read for each channel."""

SAMPLE_EDGE = 1024
"""Greatest extent of the middle of a plane that is read."""

PERCENTILES = (0.1, 99.9)
"""Percentiles of the pixels shown black and in full colour."""

Window = tuple[float, float]


def name_channels(names: Sequence[Any] | None, labels: Sequence[str], *, is_rgb: bool) -> list[str]:
    """Return a name for each channel: from the metadata, else its coordinate. Pure.

    >>> name_channels(["GFP", ""], ["0", "1"], is_rgb=False)
    ['GFP', '1']
    """
    if is_rgb and len(labels) in (3, 4):
        return ["red", "green", "blue", "alpha"][: len(labels)]
    if names is None or len(names) != len(labels):
        return list(labels)
    return [str(name) if name else label for name, label in zip(names, labels, strict=True)]


def choose_colors(
    given: Sequence[str] | Mapping[str, str] | None,
    names: Sequence[str],
    *,
    known: Sequence[Any] | None = None,
    is_rgb: bool,
) -> list[str]:
    """Return a colour for each channel: as given, else from the metadata.

    Without either, a single channel is white, and several take the colours of a palette.

    Raises
    ------
    OptionError
        If a colour is not six hexadecimal digits, or their number or names do not fit.

    Examples
    --------
    >>> choose_colors({"DAPI": "#0000ff"}, ["GFP", "DAPI"], is_rgb=False)
    ['00FF00', '0000FF']
    """
    palette = _RGB if is_rgb else _PALETTE
    chosen = [palette[i % len(palette)] for i in range(len(names))]
    if len(names) == 1:
        chosen = ["FFFFFF"]
    if not is_rgb:
        for i, digits in _metadata_colors(known, len(names)).items():
            chosen[i] = digits
    for i, color in by_channel("colors", given, names).items():
        parsed = _read_color(color)
        if parsed is None:
            raise OptionError(f"colors must be six hexadecimal digits, but got {color!r}")
        chosen[i] = parsed
    return chosen


def _metadata_colors(known: Sequence[Any] | None, count: int) -> dict[int, str]:
    """Return the colours in the metadata that distinguish channels, by channel index.

    >>> _metadata_colors(["#f00000", None, "#000000"], 3), _metadata_colors(["#ffffff"] * 2, 2)
    ({0: 'F00000'}, {})
    """
    if known is None or len(known) != count:
        return {}
    read = {i: _read_color(color) for i, color in enumerate(known)}
    found = {i: color for i, color in read.items() if color not in (None, "000000")}
    is_same = len(found) > 1 and len(set(found.values())) == 1  # a default of some writers
    return {} if is_same else {i: color for i, color in found.items() if color is not None}


def _read_color(color: Any) -> str | None:
    """Return the six digits of a colour, None if it is not one."""
    digits = str(color).removeprefix("#").upper()
    return digits if len(digits) == 6 and set(digits) <= set("0123456789ABCDEF") else None


def by_channel(option: str, given: Any, names: Sequence[str]) -> dict[int, Any]:
    """Return the values of an option by channel index.

    Raises
    ------
    OptionError
        If a list has another length, or a mapping names an unknown channel.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise OptionError.unknown(f"channel in {option}", str(name), names)
        return {i: given[name] for i, name in enumerate(names) if name in given}
    if isinstance(given, str) or len(given) != len(names):
        raise OptionError(
            f"{option} must be one for each of the {len(names)} channels, or by their names, "
            f"but got {given!r}"
        )
    return dict(enumerate(given))


def limits_of(dtype: np.dtype[Any], window: tuple[float, float]) -> tuple[float, float]:
    """Return the least and greatest pixel value; of wide types, the window itself. Pure.

    >>> limits_of(np.dtype("uint16"), (10, 200)), limits_of(np.dtype("float32"), (0.5, 2.0))
    ((0, 65535), (0.5, 2.0))
    """
    if dtype.kind == "b":
        return (0, 1)
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        found = np.iinfo(dtype)
        return (int(found.min), int(found.max))
    return window


# -- windows -------------------------------------------------------------------------------------


def find_windows(
    folder: Folder, arrays: Sequence[PlannedArray], channel_axis: int | None, count: int
) -> list[Window]:
    """Return the display window of each channel, from a few planes of the written copy.

    Parameters
    ----------
    folder : Folder
        Of the copy.
    arrays : sequence of PlannedArray
        The last level of each image, already written.
    channel_axis : int, optional
        Index of the channel dim, None if there is none.
    count : int
        How many channels there are.
    """
    spread = np.linspace(0, len(arrays) - 1, min(len(arrays), SAMPLES)).astype(int)
    chosen = [arrays[i] for i in sorted(set(spread.tolist()))]
    per_array = -(-SAMPLES // len(chosen))
    windows = []
    for channel in range(count):
        planes = [
            plane
            for array in chosen
            for plane in _sample(folder, array, channel_axis, channel, per_array)
        ]
        varied = [plane for plane in planes if (plane != plane[0]).any()]  # not blank ones
        windows.append(window_of(np.concatenate(varied or planes)))
    return windows


def _sample(
    folder: Folder, array: PlannedArray, channel_axis: int | None, channel: int, count: int
) -> list[NDArray[Any]]:
    """Return the pixels of some planes of a channel."""
    outer = list(array.shape[:-2])
    if channel_axis is not None:
        outer[channel_axis] = 1
    size = int(np.prod(outer))
    middle = [
        slice(max(0, (n - SAMPLE_EDGE) // 2), min(n, (n + SAMPLE_EDGE) // 2))
        for n in array.shape[-2:]
    ]
    found = []
    parts = min(size, count)
    for number in ((2 * part + 1) * size // (2 * parts) for part in range(parts)):  # their middles
        at = [int(i) for i in np.unravel_index(number, outer)] if outer else []
        if channel_axis is not None:
            at[channel_axis] = channel
        region = (*(slice(i, i + 1) for i in at), *middle)
        found.append(array.read(folder, region).ravel())
    return found


def window_of(pixels: NDArray[Any]) -> Window:
    """Return the window that shows nearly all pixels; never empty. Pure.

    >>> window_of(np.arange(10_000, dtype="u2")), window_of(np.zeros(4, "f4"))
    ((9, 9990), (0.0, 1.0))
    """
    if pixels.dtype.kind == "b":
        return (0, 1)
    if pixels.dtype.kind == "f":
        pixels = pixels[np.isfinite(pixels)]
    is_whole = pixels.dtype.kind in "iu"
    pixels = pixels.astype(np.float64)  # differences of integers could wrap around
    low, high = np.percentile(pixels, PERCENTILES).tolist() if pixels.size else (0.0, 1.0)
    if is_whole:
        low, high = math.floor(low), math.ceil(high)
    return (low, high if high > low else low + max(1, abs(low) / 2**20))  # above rounding


@dataclass(frozen=True)
class ChannelDisplay:
    """Display settings of the channels, as far as they are known before pixels are written."""

    names: tuple[str, ...]
    colors: tuple[str, ...]
    windows: Mapping[int, Window]
    """Windows that are not derived from the pixels, by channel index."""

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        names: Sequence[Any] | None,
        *,
        colors: Any,
        windows: Any,
        is_rgb: bool,
        known_colors: Sequence[Any] | None = None,
        dtype: np.dtype[Any],
    ) -> Self:
        """Return the settings from the options and the metadata.

        Parameters
        ----------
        labels : sequence of str
            Coordinate of each channel.
        names : sequence of object, optional
            Names in the metadata, or None.
        colors, windows : object
            The options: one for each channel, by its name, or None.
        is_rgb : bool
            Whether they are the samples of a pixel; of one byte each they are shown as they are.
        known_colors : sequence of object, optional
            Colours in the metadata, or None.
        dtype : dtype
            Of a pixel.

        Raises
        ------
        OptionError
            If an option does not fit the channels.
        """
        called = name_channels(names, labels, is_rgb=is_rgb)
        as_is = {i: (0, 255) for i in range(len(called)) if is_rgb and dtype == np.uint8}
        given = {i: _read_window(w) for i, w in by_channel("windows", windows, called).items()}
        chosen = choose_colors(colors, called, known=known_colors, is_rgb=is_rgb)
        return cls(tuple(called), tuple(chosen), as_is | given)

    def channels(
        self, folder: Folder, arrays: Sequence[PlannedArray], channel_axis: int | None
    ) -> list[Channel]:
        """Return the settings of each channel; reads a few planes if windows are not given.

        Parameters
        ----------
        folder : Folder
        arrays : sequence of PlannedArray
        channel_axis : int, optional
            See :func:`find_windows`.
        """
        windows = dict(self.windows)
        if len(windows) < len(self.names):
            found = find_windows(folder, arrays, channel_axis, len(self.names))
            windows = {**dict(enumerate(found)), **windows}
        dtype = arrays[0].dtype
        return [
            Channel(name, color, windows[i], limits_of(dtype, windows[i]))
            for i, (name, color) in enumerate(zip(self.names, self.colors, strict=True))
        ]


def _read_window(given: Any) -> Window:
    """Return a window if *given* is two numbers, the lower first."""
    try:
        low, high = map(float, given)
    except (TypeError, ValueError) as exc:
        raise OptionError(f"windows must be pairs of numbers, but got {given!r}") from exc
    if not (low < high and math.isfinite(high - low)):
        raise OptionError(
            f"windows must be two finite numbers and begin with the lower number, but got {given!r}"
        )
    return low, high
