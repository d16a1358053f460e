"""What one file says its pixels mean: steps, units, origin and channel names.

Each source has its reader; each value carries where it stands. Bad metadata never stop the pixels:
a fault becomes a sentence that names the file, and what is not known is absent, never guessed.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.metadata.ome import read_ome_image
from intake_tiffstack.metadata.units import (
    METRES,
    SECONDS,
    UNCALIBRATED,
    as_number,
    fault_of_step,
    unit_name,
)
from intake_tiffstack.pattern.matching import role_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from intake_tiffstack.header import RawMetadata

__all__ = ["FileMetadata", "describe_file"]

_DIMS = frozenset("tzyx")


@dataclass(frozen=True)
class FileMetadata:
    """What one file says of its pixels, as numbers.

    Steps and origins are keyed by ``t``, ``z``, ``y`` and ``x``, whatever the file calls its dims
    and also where it has no such dim: a plane knows how far the next one is.
    """

    url: str
    scale: Mapping[str, float] = field(default_factory=dict)
    """Distance from one position to the next; negative where the axis runs the other way."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of ``scale`` and ``translation``; a unit that is not known is absent."""
    translation: Mapping[str, float] = field(default_factory=dict)
    """Where the centre of position 0 is."""
    channel_names: tuple[str, ...] | None = None
    """One a channel, ``""`` for one without a name; None where no channel has a name."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """``scale.y``, ``units.y``, ``translation.y`` or ``channel_names``: where it was learnt."""
    warnings: tuple[str, ...] = ()
    """What was left out and why, one sentence each, naming the file."""

    def __post_init__(self) -> None:
        """Raise ValueError for a step that is none, or a unit of nothing."""
        if not all(math.isfinite(step) and step != 0 for step in self.scale.values()):
            raise ValueError(f"steps should be finite and not 0, but got {dict(self.scale)}")
        if not self.units.keys() <= self.scale.keys() <= _DIMS:
            raise ValueError(
                f"scale {dict(self.scale)} should be of t, z, y and x, and units of those in it, "
                f"but got {dict(self.units)}"
            )


def describe_file(
    raw: RawMetadata,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    *,
    url: str,
    series: int = 0,
    base_shape: tuple[int, ...] | None = None,
) -> FileMetadata:
    """Return what one file says of its pixels, each value with where it stands. Pure.

    The first source that knows a value wins: OME-XML, Micro-Manager, ImageJ, MetaMorph, GeoTIFF,
    resolution tags.

    Parameters
    ----------
    raw
        The file's metadata as they are.
    dims, shape
        Of the pixels; the pixels win over what the metadata claim.
    url
        Names the file in warnings; its last part in the provenance.
    series
        Which image of an OME-XML.
    base_shape
        Shape of pyramid level 0 where ``shape`` is that of another level: steps along y and x
        grow by the ratio.
    """
    found = _Findings(url, list(raw.notes))
    if raw.ome_xml is not None:
        _read_ome(raw.ome_xml, series, found)
    if raw.micromanager is not None:
        _read_micromanager(raw.micromanager, found)
    if raw.imagej is not None:
        _read_imagej(raw.imagej, raw.resolution, found)
    if raw.stk is not None:
        _read_stk(raw.stk, found)
    if raw.geotiff is not None:
        _read_geotiff(raw.geotiff, found)
    if raw.resolution is not None:
        _read_resolution(raw.resolution, found)
    found.check_channels(dims, shape)
    if base_shape is not None:
        found.coarsen({d: base / n for d, n, base in zip(dims, shape, base_shape, strict=True)})
    return found.freeze()


class _Findings:
    """What one file says, gathered source by source: the first that knows a value keeps it."""

    def __init__(self, url: str, notes: list[str]) -> None:
        self.url = url
        self.scale: dict[str, float] = {}
        self.units: dict[str, str] = {}
        self.translation: dict[str, float] = {}
        self.channel_names: tuple[str, ...] | None = None
        self.provenance: dict[str, str] = {}
        self.warnings = dict.fromkeys(notes)  # ordered, each sentence once

    def warn(self, text: str) -> None:
        self.warnings[f"{self.url}: {text}"] = None

    def note(self, key: str, source: str) -> None:
        name = self.url.partition("::")[0].rpartition("/")[2]
        self.provenance[key] = f"{source} of {name}"

    def read_unit(self, value: Any, source: str) -> str | None:
        text = str(value)
        unit = unit_name(text)
        if unit is None and text.strip().lower() not in UNCALIBRATED:
            self.warn(f"unit {reprlib.repr(text)} of {source} is not known; left out")
        return unit

    def add_step(
        self, dim: str, step: Any, unit: str | None, source: str, key: str, *, signed: bool = False
    ) -> None:
        """Keep a step unless it is known, absent, or wrong; a 1 without a unit says nothing."""
        if dim in self.scale or step is None:
            return
        value = as_number(step)
        fault = (
            "is not a number"
            if value is None
            else fault_of_step(abs(value) if signed else value, unit)
        )
        if value is None or fault is not None:
            self.warn(f"{key} of {source} is {reprlib.repr(step)}, which {fault}; left out")
        elif unit is not None or value != 1:
            self.scale[dim] = value
            self.note(f"scale.{dim}", source)
            if unit is not None:
                self.units[dim] = unit
                self.note(f"units.{dim}", source)

    def add_interval(self, interval: Any, unit: Any, source: str, key: str) -> None:
        """Keep the time step in seconds; 0 is how every writer says that there is none."""
        value = as_number(interval)
        if value == 0:
            return
        name = self.read_unit(unit, source)
        if name in SECONDS:
            step = interval if value is None else value * SECONDS[name]
            self.add_step("t", step, "second", source, key)
        elif name is not None:
            self.warn(f"{key} of {source} is in {name}, which is no time; left out")

    def add_origin(self, dim: str, origin: float, source: str) -> None:
        """Keep where position 0 is, for a step that is known and an origin that is a number."""
        if dim in self.scale and dim not in self.translation and math.isfinite(origin):
            self.translation[dim] = origin
            self.note(f"translation.{dim}", source)

    def add_channels(self, names: Iterable[Any], source: str) -> None:
        """Keep the names, if there is any; a channel without one is ``""``."""
        texts = tuple(str(name or "") for name in names)
        if self.channel_names is None and any(texts):
            self.channel_names = texts
            self.note("channel_names", source)

    def check_channels(self, dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Drop names that do not fit the channels inside the file; the pixels win."""
        sizes = [n for dim, n in zip(dims, shape, strict=True) if role_of(dim) == "channel"]
        names = self.channel_names
        if names is None or not sizes or len(names) == sizes[0]:
            return
        source = self.provenance.pop("channel_names")
        self.warn(f"{source} names {len(names)} channels, but the pixels have {sizes[0]}; left out")
        self.channel_names = None

    def coarsen(self, factors: Mapping[str, float]) -> None:
        """Scale y and x to another pyramid level; the centre of pixel 0 moves with its size."""
        for dim in ("y", "x"):
            if dim in self.scale and dim in factors:
                step = self.scale[dim]
                self.scale[dim] = step * factors[dim]
                if dim in self.translation:
                    self.translation[dim] += step * (factors[dim] - 1) / 2

    def freeze(self) -> FileMetadata:
        return FileMetadata(
            self.url,
            self.scale,
            self.units,
            self.translation,
            self.channel_names,
            self.provenance,
            tuple(self.warnings),
        )


def _read_ome(xml: str, series: int, found: _Findings) -> None:
    """Read Pixels as the schema 2016-06 has it; older ones have no units.

    A unit that is not written is the schema's own default, the micrometre or the second.
    """
    source = "OME-XML"
    try:
        image = read_ome_image(xml, series)
    except ValueError as exc:
        found.warn(f"{source} is left out, since {exc}")
        return
    pixels = image.pixels
    if not pixels and not image.is_elsewhere:
        found.warn(f"{source} has no pixels for series {series}, its images are {image.images}")
    for dim in "zyx":
        key = f"PhysicalSize{dim.upper()}"
        if key in pixels:
            unit = found.read_unit(pixels.get(f"{key}Unit", "µm"), source)
            found.add_step(dim, pixels[key], unit, source, key)
    if "TimeIncrement" in pixels:
        unit = pixels.get("TimeIncrementUnit", "s")
        found.add_interval(pixels["TimeIncrement"], unit, source, "TimeIncrement")
    found.add_channels(image.channel_names, source)


def _read_micromanager(tags: Mapping[str, Any], found: _Findings) -> None:
    """Read the summary, where 0 stands for "not calibrated" and "no such axis"."""
    summary = tags.get("Summary")
    if not isinstance(summary, Mapping):
        return
    source = "Micro-Manager"
    size = summary.get("PixelSizeUm", summary.get("PixelSize_um"))
    distance = as_number(summary.get("z-step_um"))
    if as_number(size) != 0:
        found.add_step("y", size, "micrometer", source, "PixelSizeUm")
        found.add_step("x", size, "micrometer", source, "PixelSizeUm")
    if distance:
        # the sign is the way the stage went
        found.add_step("z", abs(distance), "micrometer", source, "z-step_um")
    if "Interval_ms" in summary:
        found.add_interval(summary["Interval_ms"], "ms", source, "Interval_ms")
    names = summary.get("ChNames")
    if isinstance(names, list | tuple):
        found.add_channels(names, source)


def _read_imagej(
    tags: Mapping[str, Any], resolution: tuple[float, float, str] | None, found: _Findings
) -> None:
    """Read as ImageJ's TiffDecoder and FileOpener do.

    Its unit holds for the resolution tags, whatever unit they state; y and z units are written
    only where they differ from x. ``fps`` is the speed of playing, so it says nothing of time.
    """
    source = "ImageJ"
    x_unit = tags.get("unit")
    texts = {"x": x_unit, "y": tags.get("yunit", x_unit), "z": tags.get("zunit", x_unit)}
    units = {
        dim: None if text is None else found.read_unit(text, source) for dim, text in texts.items()
    }
    found.add_step("z", tags.get("spacing"), units["z"], source, "spacing")
    if resolution is not None and (x_unit is not None or resolution[2] == "none"):
        for dim, per_unit in zip("xy", resolution[:2], strict=True):
            if per_unit != 0 and not _is_page_setting(per_unit, units[dim]):
                found.add_step(dim, 1 / per_unit, units[dim], source, "pixel size")
    if "finterval" in tags:
        found.add_interval(tags["finterval"], tags.get("tunit", "s"), source, "finterval")
    for dim in "zyx":
        origin = as_number(tags.get(f"{dim}origin"))
        if origin is not None and dim in found.scale:
            found.add_origin(dim, -origin * found.scale[dim], source)


def _read_stk(tags: Mapping[str, Any], found: _Findings) -> None:
    """Read MetaMorph's calibration, in its own unit; zero means not calibrated."""
    source = "MetaMorph"
    unit = found.read_unit(tags.get("CalibrationUnits", ""), source)
    if tags.get("SpatialCalibration", 1):
        for dim in "yx":
            key = f"{dim.upper()}Calibration"
            found.add_step(dim, tags.get(key) or None, unit, source, key)
    try:
        distances = [d for d in _floats(tags, "ZDistance").ravel().tolist() if d != 0]
    except ValueError as exc:
        found.warn(f"{source} is left out along z, since {exc}")
        return
    if not all(math.isclose(distance, distances[0], rel_tol=1e-3) for distance in distances):
        found.warn(f"{source} has planes at unequal distances along z; left out")
    elif distances:
        found.add_step("z", distances[0], unit, source, "ZDistance")


def _floats(tags: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    """Return the numbers under a key, none where it is absent; raise ValueError for others."""
    try:
        return np.asarray(tags.get(key, ()), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ValueError(f"{key} holds no numbers, but {reprlib.repr(tags[key])}") from exc


# The codes of EPSG that GeoTIFF 1.1 names in its annex B.
_GEO_UNITS = {
    9001: "meter", 9002: "foot", 9003: "US_survey_foot", 9101: "radian", 9102: "degree",
}  # fmt: skip
_GEO_UNIT_KEYS = {1: "ProjLinearUnitsGeoKey", 2: "GeogAngularUnitsGeoKey"}
_PIXEL_IS_POINT = 2


def _read_geotiff(tags: Mapping[str, Any], found: _Findings) -> None:
    """Read the affine from raster to map (GeoTIFF 1.1, section 7.3).

    North is up, so a step along y is negative; where a pixel is an area, its centre lies half a
    step from the corner that the tags give.
    """
    source = "GeoTIFF"
    try:
        steps, corner = _geo_affine(tags)
    except ValueError as exc:
        found.warn(f"{source} tags are left out, since {exc}")
        return
    unit_key = _GEO_UNIT_KEYS.get(_geo_code(tags, "GTModelTypeGeoKey"), "")
    unit = _GEO_UNITS.get(_geo_code(tags, unit_key))
    half = 0.0 if _geo_code(tags, "GTRasterTypeGeoKey") == _PIXEL_IS_POINT else 0.5
    for dim, step in steps.items():
        if dim not in found.scale:
            found.add_step(dim, step, unit, source, "pixel size", signed=True)
            found.add_origin(dim, corner.get(dim, math.nan) + half * step, source)


def _geo_code(tags: Mapping[str, Any], key: str) -> int:
    code = tags.get(key)
    return int(code) if isinstance(code, int) else 0


def _geo_affine(tags: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Return step and origin along x and y; both empty for ground control points alone."""
    if "ModelTransformation" in tags:
        matrix = _floats(tags, "ModelTransformation")
        if matrix.size != 16:
            raise ValueError(f"ModelTransformation should have 16 numbers, but got {matrix.size}")
        (x_step, x_turn, _, x), (y_turn, y_step, _, y) = matrix.reshape(4, 4)[:2].tolist()
        if x_turn != 0 or y_turn != 0:
            raise ValueError("the image is turned against the map, so its axes are not the map's")
        return {"x": x_step, "y": y_step}, {"x": x, "y": y}
    if "ModelPixelScale" not in tags:
        return {}, {}
    size = _floats(tags, "ModelPixelScale").ravel()
    if size.size < 2 or not (size[:2] > 0).all():
        raise ValueError(f"ModelPixelScale should be positive, but got {size[:3].tolist()}")
    steps = {"x": float(size[0]), "y": -float(size[1])}
    tie = _floats(tags, "ModelTiepoint").ravel()
    if tie.size != 6:  # none, or the many of ground control points
        return steps, {}
    i, j, _, x, y, _ = tie.tolist()
    return steps, {"x": x - i * steps["x"], "y": y - j * steps["y"]}


def _read_resolution(resolution: tuple[float, float, str], found: _Findings) -> None:
    """Read the tags XResolution and YResolution (TIFF 6.0, section 8), where they mean a size."""
    x, y, unit = resolution
    if unit == "none" or _is_page_setting(x, unit) or _is_page_setting(y, unit):
        return
    for dim, per_unit in (("x", x), ("y", y)):
        step = METRES[unit] * 1e6 / per_unit
        found.add_step(dim, step, "micrometer", "resolution tags", "pixel size")


def _is_page_setting(per_unit: float, unit: str | None) -> bool:
    """Return whether pixels per inch or centimetre say how to print and nothing of the world.

    Writers that know no size put 72, 96, 150, 300 ... dots an inch, so a whole number up to 1,200
    says nothing, nor does one rounded to two decimals a centimetre. A pixel an inch or more of
    them is no picture: 0 and 1 are what writers put for nothing.

    >>> _is_page_setting(96, "inch"), _is_page_setting(37.79, "centimeter")
    (True, True)
    >>> _is_page_setting(10000, "centimeter"), _is_page_setting(100, "micrometer")
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
