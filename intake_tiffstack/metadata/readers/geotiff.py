"""Where on the map the pixels are, from the tags of GeoTIFF."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from intake_tiffstack.metadata.crs import code_of, describes_system, name_crs
from intake_tiffstack.metadata.reader import OpenImage, Reader, copy_dict
from intake_tiffstack.metadata.units import is_place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = ["GEOTIFF", "Affine", "add_affine", "floats"]

# The codes of EPSG that GeoTIFF 1.1 names in its annex B.
_UNITS = {
    9001: "meter", 9002: "foot", 9003: "US_survey_foot", 9101: "radian", 9102: "degree",
}  # fmt: skip
_UNIT_KEYS = {1: "ProjLinearUnitsGeoKey", 2: "GeogAngularUnitsGeoKey"}
_TAGS = {"ModelPixelScale": 33550, "ModelTiepoint": 33922, "ModelTransformation": 34264}
_PIXEL_IS_POINT = 2


class Affine(NamedTuple):
    """From pixel corner to map: ``x = a * column + b * row + c``, ``y = d * column + ...``."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float


def interpret(tags: Mapping[str, Any], _: Subject, found: Findings) -> None:
    """Read the affine from raster to map (GeoTIFF 1.1, section 7.3), and which map it is.

    North is up, so a step along y is negative; where a pixel is an area, its centre lies half a
    step from the corner that the tags give. An image that is turned against the map has no step
    along x or y, since these are not its axes; the affine has all of it.
    """
    source = "GeoTIFF"
    model = code_of(tags, "GTModelTypeGeoKey")
    try:
        crs = name_crs(tags)
        found.add_fact("crs", crs, source)
        if crs is None and describes_system(tags):
            found.warn(
                f"{source}: the coordinate reference system of the map is of a kind that is not "
                "read, so it has none"
            )
    except ImportError as exc:
        found.warn(f"{source}: {exc}")
    try:
        affine, steps = _read_affine(tags)
        points = floats(tags, "ModelTiepoint").size // 6
    except ValueError as exc:
        found.warn(f"{source} tags are ignored, since {exc}")
        return
    if "affine" in found.facts:  # a sidecar says otherwise
        return
    unit = _UNITS.get(code_of(tags, _UNIT_KEYS.get(model, "")))
    if affine is not None:
        if code_of(tags, "GTRasterTypeGeoKey") == _PIXEL_IS_POINT:  # the tags give its centre
            a, b, c, d, e, f = affine
            affine = Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
        add_affine(affine, unit, found, source)
        return
    if points > 1:
        found.warn(
            f"{source}: the image is placed by {points:,} ground control points, which are not "
            "read, so it has no place on the map; warp it first (gdalwarp)"
        )
    for dim, step in steps.items():
        found.add_step(dim, step, unit, source, "pixel size", on_map=True)


def add_affine(affine: Affine, unit: str | None, found: Findings, source: str) -> None:
    """Add the affine of a map, and the steps and positions along x and y of an upright image."""
    found.add_fact("affine", list(affine), source)
    if affine.b != 0 or affine.d != 0:
        found.warn(
            f"{source}: the image is turned against the map, so x and y have no positions; the "
            "affine of its metadata has them"
        )
        return
    for dim, step, corner in (("x", affine.a, affine.c), ("y", affine.e, affine.f)):
        found.add_step(dim, step, unit, source, "pixel size", on_map=True)
        if found.scale.get(dim) == step:
            found.add_origin(dim, corner + step / 2, source)


def _read_affine(tags: Mapping[str, Any]) -> tuple[Affine | None, dict[str, float]]:
    """Return the affine of the tags as they are, and the steps along x and y.

    Both are none for ground control points alone; a size of pixels without a place has steps.
    """
    if "ModelTransformation" in tags:
        matrix = floats(tags, "ModelTransformation")
        if matrix.size != 16:
            raise ValueError(f"ModelTransformation should have 16 numbers, but got {matrix.size}")
        (a, b, _, c), (d, e, _, f) = matrix.reshape(4, 4)[:2].tolist()
        affine = Affine(a, b, c, d, e, f)
        if not all(map(is_place, affine)) or a * e == b * d:
            raise ValueError(f"ModelTransformation maps no area, but got {list(affine)}")
        return affine, {"x": a, "y": e}
    if "ModelPixelScale" not in tags:
        return None, {}
    size = floats(tags, "ModelPixelScale").ravel()
    if size.size < 2 or not (size[:2] > 0).all() or not all(map(is_place, size[:2].tolist())):
        raise ValueError(f"ModelPixelScale should be positive, but got {size[:3].tolist()}")
    a, e = float(size[0]), -float(size[1])
    tie = floats(tags, "ModelTiepoint").ravel()
    if tie.size != 6 or not all(
        map(is_place, tie.tolist())
    ):  # none, or the many of ground control points
        return None, {"x": a, "y": e}
    i, j, _, x, y, _ = tie.tolist()
    return Affine(a, 0.0, x - i * a, 0.0, e, y - j * e), {"x": a, "y": e}


def floats(tags: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    """Return the numbers under a key, none where it is absent; raise ValueError for others."""
    try:
        return np.asarray(tags.get(key, ()), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ValueError(f"{key} holds no numbers, but {reprlib.repr(tags[key])}") from exc


def extract(image: OpenImage) -> dict[str, Any] | None:
    """Return the keys and tags of GeoTIFF; tifffile knows the tags only beside keys."""
    found = (copy_dict(image.page.geotiff_tags) if image.page.is_geotiff else None) or {}
    for name, code in _TAGS.items():
        value = image.page.tags.valueof(code)
        if name not in found and value is not None:
            found[name] = list(value)
    return found or None


GEOTIFF = Reader("geotiff", extract, interpret)
