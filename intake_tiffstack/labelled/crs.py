"""The place of pixels on a map, in the form of the CF conventions and GDAL. Pure.

References
----------
CF conventions 1.11, section 5.6 and appendix F; GDAL's netCDF driver for ``GeoTransform``.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

from intake_tiffstack.dims import Role, role_of

__all__ = [
    "GRID_MAPPING",
    "axis_attrs",
    "grid_mapping_attrs",
    "is_same_crs",
    "read_grid_mapping",
]

GRID_MAPPING = "spatial_ref"
"""Name of the coordinate without dims whose attributes are the reference system."""

_ANGLES = frozenset({"degree", "radian"})
_AXES = {Role.Y: ("Y", "latitude"), Role.X: ("X", "longitude")}


def grid_mapping_attrs(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the grid mapping, none if the pixels are not on a map.

    ``spatial_ref`` is WKT, or ``EPSG:<code>`` where pyproj is not installed; all parameters of CF
    come from pyproj. ``GeoTransform`` is the affine in GDAL's order.

    >>> grid_mapping_attrs({"affine": [10.0, 0.0, 500.0, 0.0, -10.0, 90.0]})
    {'GeoTransform': '500.0 10.0 0.0 90.0 0.0 -10.0'}
    """
    attrs: dict[str, Any] = {}
    crs, affine = metadata.get("crs"), metadata.get("affine")
    if isinstance(crs, str) and crs:
        attrs |= _describe(crs)
    if (
        isinstance(affine, Sequence)
        and len(affine) == 6
        and all(isinstance(number, Real) for number in affine)
    ):
        a, b, c, d, e, f = affine
        attrs["GeoTransform"] = " ".join(repr(float(n)) for n in (c, a, b, f, d, e))
    return attrs


def read_grid_mapping(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``crs`` and ``affine`` from the attributes of a grid mapping.

    >>> read_grid_mapping({"GeoTransform": "500.0 10.0 0.0 90.0 0.0 -10.0"})
    {'affine': [10.0, 0.0, 500.0, 0.0, -10.0, 90.0]}
    """
    found: dict[str, Any] = {}
    crs = attrs.get("spatial_ref") or attrs.get("crs_wkt")
    if isinstance(crs, str):
        found["crs"] = crs
    numbers = str(attrs.get("GeoTransform", "")).split()
    if len(numbers) == 6:
        c, a, b, f, d, e = map(float, numbers)
        found["affine"] = [a, b, c, d, e, f]
    return found


def is_same_crs(one: str, other: str) -> bool:
    """Return whether two texts mean one system, in any order of its axes."""
    if one == other:
        return True
    first, second = _parse(one), _parse(other)
    if first is None or second is None:
        return False
    return bool(first.equals(second, ignore_axis_order=True))


def axis_attrs(metadata: Mapping[str, Any], coords: Collection[str]) -> dict[str, dict[str, str]]:
    """Return what CF says of the coordinates along y and x of a map, by name of the dim."""
    crs, units = metadata.get("crs"), metadata.get("units")
    if not isinstance(crs, str) or not crs:
        return {}
    found = {}
    for dim in metadata.get("scale") or {}:
        role = role_of(dim)
        if role not in (Role.Y, Role.X) or dim not in coords:
            continue
        unit = (units.get(dim) if isinstance(units, Mapping) else None) or _unit_of(crs)
        axis, angle = _AXES[role]
        attrs = {"axis": axis}
        if unit:
            name = angle if unit in _ANGLES else f"projection_{axis.lower()}_coordinate"
            attrs |= {"standard_name": name, "units": unit}
        found[dim] = attrs
    return found


@lru_cache(maxsize=64)
def _parse(crs: str) -> Any:
    """Return pyproj's CRS, None if pyproj is not installed or does not know it."""
    try:
        from pyproj import CRS
        from pyproj.exceptions import CRSError
    except ImportError:
        return None
    try:
        return CRS.from_user_input(crs)
    except CRSError:
        return None


def _describe(crs: str) -> dict[str, Any]:
    parsed = _parse(crs)
    if parsed is None:
        is_wkt = "[" in crs
        return {"crs_wkt": crs, "spatial_ref": crs} if is_wkt else {"spatial_ref": crs}
    with warnings.catch_warnings():
        # pyproj says which parameters CF has no name for; the WKT beside them has all
        warnings.filterwarnings("ignore", message=".* lost in conversion to CF")
        attrs = dict(parsed.to_cf())
    return attrs | {"spatial_ref": attrs["crs_wkt"]}


_PYPROJ_UNITS = {
    "metre": "meter", "degree": "degree", "foot": "foot", "US survey foot": "US_survey_foot",
    "kilometre": "kilometer", "radian": "radian",
}  # fmt: skip


def _unit_of(crs: str) -> str | None:
    parsed = _parse(crs)
    if parsed is None or not parsed.axis_info:
        return None
    return _PYPROJ_UNITS.get(parsed.axis_info[0].unit_name)
