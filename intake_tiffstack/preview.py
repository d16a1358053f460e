"""A picture of an array: middle planes and maximum projections, channels in colour."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.ome_zarr.channels import choose_colors
from intake_tiffstack.formatting import format_value
from intake_tiffstack.metadata.units import METRES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intake_tiffstack.arrays.lazy_array import LazyArray

__all__ = ["Drawable", "draw_preview"]

_ROWS = 6
"""Time points, positions ... that are shown, evenly spread."""
_CHANNELS = 6
"""Channels that are shown."""
_COLUMNS = 3
"""Pictures per line where each row has one."""
_GAP, _BAND, _MARGIN = 6, 22, 12
_BACKGROUND = (16, 16, 18)
_MAX_PLANE = 4096
"""Rows and columns that are read of a plane; of larger ones every nth."""


@dataclass(frozen=True, eq=False)
class _Picture:
    """What one cell of the montage shows."""

    title: str
    planes: list[NDArray[np.float32]]
    """A plane per channel, or one with samples."""


@dataclass(frozen=True, eq=False)
class Drawable:
    """An array and what is known of it."""

    array: LazyArray
    """Indexing reads into host memory."""
    dims: Sequence[str]
    """Names of its dims."""
    coords: Mapping[Any, Any]
    """Coordinates by name, with ``values``."""
    metadata: Mapping[str, Any]
    """With ``scale``, ``units``, ``channel_names`` and ``channel_colors``."""

    @property
    def sizes(self) -> dict[str, int]:
        """Extent of each dim."""
        return dict(zip(self.dims, self.array.shape, strict=True))


def draw_preview(
    stack: Drawable, *, percentiles: tuple[float, float] = (0.5, 99.8), width: int = 384
) -> Image.Image:
    """Return a picture as RGB; planes are read one by one.

    A row per time point, position ... (at most six): the middle plane of z, the maximum projection
    where there is a z, and each channel by itself where there are several. Contrast is the same in
    all pictures of a channel.

    Raises
    ------
    OptionError
        If the array has no y and x, or the percentiles do not ascend.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise OptionError(f"percentiles must ascend from 0 to 100, but got {low:g} and {high:g}")
    dims = stack.dims
    if not {"y", "x"} <= set(dims):
        raise OptionError(f"a preview needs the dims y and x, but the array has {', '.join(dims)}")
    channel = _dim_of(dims, Role.CHANNEL)
    rows = [list(_pictures(stack, cell, channel, width)) for cell in _cells(stack, channel)]
    limits = _limits(rows, low, high)
    known, n = stack.metadata, len(limits)
    names = [(known["channel_names"] or [])[i : i + 1] for i in range(n)]
    called = [name[0] if name and name[0] else f"channel {i}" for i, name in enumerate(names)]
    colors = choose_colors(None, called, known=known["channel_colors"], is_rgb=False)
    tints = [tuple(int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)) for color in colors]
    drawn = []
    for row in rows:
        cells = [(p.title, _composite(p.planes, limits, tints)) for p in row]
        if len(row[0].planes) > 1:
            for i, plane in enumerate(row[-1].planes):
                cells.append((called[i], _composite([plane], [limits[i]], [tints[i]])))
        drawn.append(cells)
    if all(len(row) == 1 for row in drawn):  # no z and no channels: fill lines
        flat = [row[0] for row in drawn]
        drawn = [flat[i : i + _COLUMNS] for i in range(0, len(flat), _COLUMNS)]
    return _montage(drawn, _bar(stack, drawn[0][0][1].shape[1]))


def _dim_of(dims: Sequence[str], role: Role) -> str | None:
    return next((dim for dim in dims if role_of(dim) is role), None)


def _cells(stack: Drawable, channel: str | None) -> Iterator[dict[str, int]]:
    """Yield positions along all dims but those of a picture: at most a few, evenly spread."""
    inside = {"y", "x", "sample", "z", channel}
    others = [dim for dim in stack.dims if dim not in inside]
    shape = tuple(stack.sizes[dim] for dim in others)
    total = math.prod(shape)
    for flat in np.unique(np.linspace(0, total - 1, min(_ROWS, total)).astype(int)).tolist():
        index = np.unravel_index(flat, shape) if others else ()
        yield {dim: int(i) for dim, i in zip(others, index, strict=True)}


def _pictures(
    stack: Drawable, cell: dict[str, int], channel: str | None, width: int
) -> Iterator[_Picture]:
    """Yield the middle plane and the maximum projection of a cell. Planes are read one by one."""
    sizes = stack.sizes
    depth = sizes.get("z", 1)
    count = min(sizes[channel], _CHANNELS) if channel else 1
    middle: list[NDArray[np.float32]] = []
    greatest: list[NDArray[np.float32]] = []
    for c in range(count):
        at = {**cell, **({channel: c} if channel else {})}
        most: NDArray[Any] | None = None
        for z in range(depth):
            plane = _plane(stack, {**at, **({"z": z} if "z" in sizes else {})})
            most = plane if most is None else np.fmax(most, plane)
            if z == depth // 2:
                middle.append(_shrink(plane, width))
        if most is not None:
            greatest.append(_shrink(most, width))
    place = _label(stack, cell)
    if depth > 1:
        yield _Picture(f"{place}z {depth // 2}".strip(), middle)
        yield _Picture(f"{place}max of {depth} z".strip(), greatest)
    else:
        yield _Picture(place.strip() or "image", middle)


def _label(stack: Drawable, cell: dict[str, int]) -> str:
    coords = stack.coords
    texts = [
        f"{dim} {format_value(coords[dim].values[i]) if dim in coords else i}"
        for dim, i in cell.items()
        if stack.sizes[dim] > 1
    ]
    return "  ".join([*texts, ""]) if texts else ""


def _plane(stack: Drawable, at: dict[str, int]) -> NDArray[Any]:
    """Return one plane, y and x first; of its samples red, green and blue, or the first alone."""
    index: list[int | slice] = []
    for dim in stack.dims:
        if dim == "sample":
            index.append(slice(3) if stack.sizes[dim] >= 3 else 0)
            continue
        step = max(1, math.ceil(stack.sizes[dim] / _MAX_PLANE)) if dim in ("y", "x") else 1
        index.append(at[dim] if dim in at else slice(None, None, step))
    plane = np.asarray(stack.array[tuple(index)])
    left = [d for d, i in zip(stack.dims, index, strict=True) if isinstance(i, slice)]
    plane = plane.transpose([left.index(dim) for dim in ("y", "x", "sample") if dim in left])
    return plane.real if plane.dtype.kind == "c" else plane


def _shrink(plane: NDArray[Any], width: int) -> NDArray[np.float32]:
    """Return a plane at most *width* wide and high, each pixel the mean of those it covers.

    A plane of less than half that is enlarged by whole pixels.
    """
    values = plane.astype(np.float32)
    longest = max(values.shape[:2])
    if 2 * longest <= width:
        times = width // longest
        return values.repeat(times, axis=0).repeat(times, axis=1)
    factor = min(1.0, width / longest)
    size = (max(1, round(values.shape[1] * factor)), max(1, round(values.shape[0] * factor)))
    layers = values[..., None] if values.ndim == 2 else values
    pictures = [
        Image.fromarray(np.ascontiguousarray(layer)) for layer in np.moveaxis(layers, -1, 0)
    ]
    small = [np.asarray(picture.resize(size, Image.Resampling.BOX)) for picture in pictures]
    return small[0] if values.ndim == 2 else np.stack(small, axis=-1)


def _limits(
    rows: Sequence[Sequence[_Picture]], low: float, high: float
) -> list[tuple[float, float]]:
    """Return what is black and what is full colour in each channel, over all pictures."""
    found = []
    for i in range(len(rows[0][0].planes)):
        values = np.concatenate([p.planes[i].ravel() for row in rows for p in row])
        values = values[np.isfinite(values)]
        darkest, brightest = np.percentile(values, (low, high)) if values.size else (0.0, 1.0)
        found.append((float(darkest), float(max(brightest, darkest + 1e-9))))
    return found


def _composite(
    planes: Sequence[NDArray[np.float32]],
    limits: Sequence[tuple[float, float]],
    tints: Sequence[tuple[float, ...]],
) -> NDArray[np.uint8]:
    """Return the sum of the channels in their colours, as RGB."""
    total = np.zeros((*planes[0].shape[:2], 3), np.float32)
    for plane, (dark, bright), tint in zip(planes, limits, tints, strict=True):
        level = np.clip((np.nan_to_num(plane) - dark) / (bright - dark), 0, 1)
        if level.ndim == 3:  # samples have colours of their own
            total += level
        else:
            total += level[..., None] * np.array(tint, np.float32)
    return (np.clip(total, 0, 1) * 255).astype(np.uint8)


def _bar(stack: Drawable, width: int) -> tuple[int, str] | None:
    """Return the length of the scale bar in pixels and its label, None if no scale is known."""
    step, unit = stack.metadata["scale"].get("x"), stack.metadata["units"].get("x", "")
    if not step:
        return None
    per_pixel = step * stack.sizes["x"] / width
    aim = per_pixel * width / 4
    power = 10.0 ** math.floor(math.log10(aim))
    length = max(m * power for m in (1, 2, 5) if m * power <= aim)
    return max(1, round(length / per_pixel)), _length_text(length, unit)


def _length_text(length: float, unit: str) -> str:
    """Return a length in the unit that is read best. Pure.

    >>> _length_text(0.5, "micrometer"), _length_text(2000, "meter"), _length_text(5, "pixel")
    ('500 nm', '2 km', '5 pixel')
    """
    if unit not in METRES:
        return f"{length:g} {unit}".strip()
    metres = length * METRES[unit]
    for size, symbol in ((1e3, "km"), (1.0, "m"), (1e-3, "mm"), (1e-6, "um"), (1e-9, "nm")):
        if metres >= size * (1 - 1e-9):
            return f"{metres / size:.4g} {symbol}"
    return f"{metres / 1e-9:.4g} nm"


def _montage(
    rows: Sequence[Sequence[tuple[str, NDArray[np.uint8]]]], bar: tuple[int, str] | None
) -> Image.Image:
    height, width = (max(p.shape[i] for row in rows for _, p in row) for i in (0, 1))
    width = max(width, 120)
    columns = max(len(row) for row in rows)
    total_width = 2 * _MARGIN + columns * width + (columns - 1) * _GAP
    total_height = 2 * _MARGIN + len(rows) * (height + _BAND + _GAP) - _GAP + (_BAND if bar else 0)
    image = Image.new("RGB", (total_width, total_height), _BACKGROUND)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for r, row in enumerate(rows):
        for c, (title, pixels) in enumerate(row):
            x = _MARGIN + c * (width + _GAP)
            y = _MARGIN + r * (height + _BAND + _GAP)
            pen.text((x, y + 2), _fitted(title, width, font), fill=(220, 220, 220), font=font)
            image.paste(Image.fromarray(pixels), (x, y + _BAND))
    if bar:
        length, text = bar
        y = total_height - _MARGIN - 8
        pen.rectangle((_MARGIN, y, _MARGIN + length, y + 4), fill=(240, 240, 240))
        pen.text((_MARGIN + length + 8, y - 7), text, fill=(240, 240, 240), font=font)
    return image


def _fitted(text: str, width: int, font: Any) -> str:
    while len(text) > 4 and font.getlength(text) > width:
        text = f"{text[:-2].rstrip('…')}…"
    return text
