"""The coordinate reference system that the keys of a GeoTIFF describe, as a code or as WKT. Pure.

References
----------
OGC GeoTIFF 1.1, annexes B and C; the parameters of PROJ, https://proj.org/operations/projections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

__all__ = ["code_of", "describes_system", "name_crs"]

_EPSG_CODES = range(1024, 32767)  # GeoTIFF 1.1, section 7.4: 32767 is the user's own
_USER_DEFINED = 32767
_PROJECTED, _GEOGRAPHIC = 1, 2
_SYSTEM_KEYS = {_PROJECTED: "ProjectedCSTypeGeoKey", _GEOGRAPHIC: "GeographicTypeGeoKey"}
_DATUM = "GeogGeodeticDatumGeoKey"
_METRE, _DEGREE = 9001, 9102

# The prime meridians of EPSG by their names in PROJ.
_MERIDIANS = {
    8901: "greenwich", 8902: "lisbon", 8903: "paris", 8904: "bogota", 8905: "madrid",
    8906: "rome", 8907: "bern", 8908: "jakarta", 8909: "ferro", 8910: "brussels",
    8911: "stockholm", 8912: "athens", 8913: "oslo",
}  # fmt: skip

# Codes in metres that nearly all files have: no need to look them up.
_IN_METRES = (range(32601, 32661), range(32701, 32761), range(25828, 25839), (3857, 3035))

_METRES = {9001: 1.0, 9002: 0.3048, 9003: 1200 / 3937, 9036: 1000.0}
_DEGREES = {9101: 180 / math.pi, 9102: 1.0, 9103: 1 / 60, 9104: 1 / 3600, 9105: 0.9}

_LATITUDE = ("ProjNatOriginLatGeoKey", "ProjFalseOriginLatGeoKey", "ProjCenterLatGeoKey")
_LONGITUDE = (
    "ProjNatOriginLongGeoKey",
    "ProjFalseOriginLongGeoKey",
    "ProjCenterLongGeoKey",
    "ProjStraightVertPoleLongGeoKey",
)
_SCALE = ("ProjScaleAtNatOriginGeoKey", "ProjScaleAtCenterGeoKey")
_PARALLELS = {"lat_1": ("ProjStdParallel1GeoKey",), "lat_2": ("ProjStdParallel2GeoKey",)}
_ORIGIN = {"lat_0": _LATITUDE, "lon_0": _LONGITUDE}
_SCALED = {**_ORIGIN, "k_0": _SCALE}
_OBLIQUE = {
    "lat_0": _LATITUDE, "lonc": _LONGITUDE, "alpha": ("ProjAzimuthAngleGeoKey",),
    "gamma": ("ProjRectifiedGridAngleGeoKey",), "k_0": _SCALE,
}  # fmt: skip
_FALSE = {
    "x_0": (
        "ProjFalseEastingGeoKey", "ProjFalseOriginEastingGeoKey", "ProjCenterEastingGeoKey",
    ),
    "y_0": (
        "ProjFalseNorthingGeoKey", "ProjFalseOriginNorthingGeoKey", "ProjCenterNorthingGeoKey",
    ),
}  # fmt: skip

# ProjCoordTransGeoKey: name in PROJ, and which keys give its parameters.
_PROJECTIONS: Mapping[int, tuple[str, Mapping[str, tuple[str, ...]]]] = {
    1: ("tmerc", _SCALED),
    3: ("omerc", _OBLIQUE),
    7: ("merc", {"lon_0": _LONGITUDE, "k_0": _SCALE, "lat_ts": ("ProjStdParallel1GeoKey",)}),
    8: ("lcc", {**_ORIGIN, **_PARALLELS}),
    9: ("lcc", {**_SCALED, "lat_1": _LATITUDE}),
    10: ("laea", _ORIGIN),
    11: ("aea", {**_ORIGIN, **_PARALLELS}),
    12: ("aeqd", _ORIGIN),
    13: ("eqdc", {**_ORIGIN, **_PARALLELS}),
    14: ("stere", _SCALED),
    15: ("stere", {"lat_ts": _LATITUDE, "lon_0": _LONGITUDE[::-1], "k_0": _SCALE}),
    16: ("sterea", _SCALED),
    17: ("eqc", {**_ORIGIN, "lat_ts": ("ProjStdParallel1GeoKey",)}),
    18: ("cass", _ORIGIN),
    19: ("gnom", _ORIGIN),
    20: ("mill", {"lon_0": _LONGITUDE}),
    21: ("ortho", _ORIGIN),
    22: ("poly", _ORIGIN),
    23: ("robin", {"lon_0": _LONGITUDE}),
    24: ("sinu", {"lon_0": _LONGITUDE}),
    25: ("vandg", {"lon_0": _LONGITUDE}),
    28: ("cea", {"lon_0": _LONGITUDE, "lat_ts": ("ProjStdParallel1GeoKey",)}),
    9815: ("omerc", _OBLIQUE),  # GDAL's, with the false origin at the centre
}
_OBLIQUE_FROM_EQUATOR, _POLAR_STEREOGRAPHIC = 3, 15

_ESRI = "ESRI PE String = "
"""How ArcGIS and GDAL begin a citation that is the WKT of a system without keys."""


def code_of(tags: Mapping[str, Any], key: str) -> int:
    """Return the code under a key, 0 if there is none."""
    code = tags.get(key)
    return int(code) if isinstance(code, int) else 0


def describes_system(tags: Mapping[str, Any]) -> bool:
    """Whether keys name a system or a projection, be it one that `name_crs` does not know."""
    keys = (*_SYSTEM_KEYS.values(), "ProjectionGeoKey", "ProjCoordTransGeoKey")
    return any(0 < code_of(tags, key) < _USER_DEFINED for key in keys)


def name_crs(tags: Mapping[str, Any]) -> str | None:
    """Return ``EPSG:<code>`` or WKT of the system of a map, None if the keys do not describe it.

    A code stands for its own unit: where another key states a different one, the result is the WKT
    of the system in that unit.

    Raises
    ------
    ImportError
        If the system has no code, and pyproj is not installed.

    Examples
    --------
    >>> name_crs({"GTModelTypeGeoKey": 1, "ProjectedCSTypeGeoKey": 32618})
    'EPSG:32618'
    """
    model = code_of(tags, "GTModelTypeGeoKey")
    units = {_PROJECTED: "ProjLinearUnitsGeoKey", _GEOGRAPHIC: "GeogAngularUnitsGeoKey"}
    code = code_of(tags, _SYSTEM_KEYS.get(model, ""))
    if code not in _EPSG_CODES:
        return _describe(tags, model)
    unit = code_of(tags, units[model])
    if unit not in (_METRES if model == _PROJECTED else _DEGREES):
        return f"EPSG:{code}"
    if (unit == _METRE and any(code in codes for codes in _IN_METRES)) or (
        unit == _DEGREE and code == 4326
    ):
        return f"EPSG:{code}"
    try:
        return _in_unit(code, unit)
    except ImportError:
        return f"EPSG:{code}"  # nothing here knows its unit


@lru_cache(maxsize=64)
def _in_unit(code: int, unit: int) -> str | None:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_epsg(code)
    except CRSError:
        return f"EPSG:{code}"  # newer than this table of codes
    factor = _METRES.get(unit) or math.radians(_DEGREES[unit])
    axes = crs.axis_info
    if not axes or math.isclose(axes[0].unit_conversion_factor, factor, rel_tol=1e-9):
        return f"EPSG:{code}"
    document = crs.to_json_dict()
    if crs.is_compound or crs.is_bound or "coordinate_system" not in document:
        return None
    for key in ("id", "usages", "scope", "area", "bbox"):
        document.pop(key, None)
    document["name"] = f"{document['name']} in another unit"
    return str(CRS.from_json_dict(_with_unit(document, unit)).to_wkt())


def _with_unit(document: dict[str, Any], code: int) -> dict[str, Any]:
    """Return the PROJJSON of a system with the unit of a code on its axes, changed in place."""
    names = {
        9001: "metre", 9002: "foot", 9003: "US survey foot", 9036: "kilometre", 9101: "radian",
        9102: "degree", 9103: "arc-minute", 9104: "arc-second", 9105: "grad",
    }  # fmt: skip
    is_linear = code in _METRES
    unit = {
        "type": "LinearUnit" if is_linear else "AngularUnit",
        "name": names[code],
        "conversion_factor": _METRES[code] if is_linear else math.radians(_DEGREES[code]),
    }
    for axis in document["coordinate_system"]["axis"]:
        axis["unit"] = unit
        axis.pop("id", None)
    document["coordinate_system"].pop("id", None)
    return document


def _describe(tags: Mapping[str, Any], model: int) -> str | None:
    """Return the WKT of a system that has no code, from its parameters."""
    citations = (tags.get("PCSCitationGeoKey"), tags.get("GTCitationGeoKey"))
    texts = [c for c in citations if isinstance(c, str) and c.startswith(_ESRI)]
    base = _ellipsoid(tags)
    projection = _projection(tags) if model == _PROJECTED else None
    has_keys = base is not None and (model == _GEOGRAPHIC or projection is not None)
    if not has_keys and not texts:
        return None
    try:
        from pyproj import CRS
        from pyproj.crs import BoundCRS
        from pyproj.crs.coordinate_operation import ToWGS84Transformation
        from pyproj.exceptions import CRSError
    except ImportError as exc:
        raise ImportError(
            "the map has a coordinate reference system without a code, which pyproj can name: "
            "pip install 'intake-tiffstack[geo]'"
        ) from exc
    try:
        if has_keys:
            geographic = _with_datum(_named(CRS.from_user_input(base), tags), code_of(tags, _DATUM))
            found = geographic if projection is None else _project(geographic, projection, tags)
            unit = code_of(tags, "GeogAngularUnitsGeoKey") or _DEGREE
            if projection is None and unit != _DEGREE and unit in _DEGREES:
                found = CRS.from_json_dict(_with_unit(found.to_json_dict(), unit))
        else:
            found = CRS.from_wkt(texts[0].removeprefix(_ESRI))
            geographic = found.geodetic_crs
        shift = tags.get("GeogTOWGS84GeoKey")
        if (
            isinstance(shift, tuple | list)
            and len(shift) in (3, 7)
            and all(isinstance(n, int | float) and math.isfinite(n) for n in shift)
            and geographic is not None
            and geographic.to_epsg() is None
        ):
            to_wgs84 = ToWGS84Transformation(geographic, *shift)
            found = BoundCRS(found, CRS.from_epsg(4326), to_wgs84)
        return str(found.to_wkt())
    except CRSError:
        return None  # parameters that do not make a projection


def _project(geographic: Any, projection: Mapping[str, Any], tags: Mapping[str, Any]) -> Any:
    """Return pyproj's projected system of a geographic one."""
    from pyproj import CRS
    from pyproj.crs import CoordinateOperation  # type: ignore[attr-defined]  # documented there
    from pyproj.exceptions import CRSError

    radii = geographic.ellipsoid
    shape = {"a": radii.semi_major_metre, "b": radii.semi_minor_metre}
    document = CRS.from_dict({**projection, **shape}).to_json_dict()
    operation = code_of(tags, "ProjectionGeoKey")
    if operation in _EPSG_CODES:
        document["conversion"] = CoordinateOperation.from_epsg(operation).to_json_dict()
        if document["conversion"]["type"] != "Conversion":
            raise CRSError(f"EPSG:{operation} is no projection")
    document["base_crs"] = geographic.to_json_dict()
    citation = tags.get("PCSCitationGeoKey") or tags.get("GTCitationGeoKey")
    document["name"] = citation if isinstance(citation, str) and citation else "unnamed"
    return CRS.from_json_dict(document)


def _named(geographic: Any, tags: Mapping[str, Any]) -> Any:
    """Return pyproj's system with the names that GDAL writes into the citation."""
    from pyproj import CRS

    citation = tags.get("GeogCitationGeoKey")
    if not isinstance(citation, str) or geographic.to_epsg() is not None:
        return geographic
    names = dict(part.split(" = ", 1) for part in citation.split("|") if " = " in part)
    document = geographic.to_json_dict()
    document["name"] = names.get("GCS Name") or document["name"]
    if "datum" in document and names.get("Datum"):
        document["datum"]["name"] = names["Datum"]
    return CRS.from_json_dict(document)


def _with_datum(geographic: Any, code: int) -> Any:
    """Return pyproj's system on the datum of a code, as it is where the shapes differ.

    A datum that has a meridian of its own keeps it: GDAL writes that of Paris in grads as 0.0367.
    One of Greenwich is no datum of a system on another meridian.
    """
    from pyproj import CRS
    from pyproj.crs.datum import Datum  # type: ignore[attr-defined]  # documented there
    from pyproj.exceptions import CRSError

    if code not in _EPSG_CODES or geographic.to_epsg() is not None:
        return geographic
    document = geographic.to_json_dict()
    for key in ("datum", "datum_ensemble"):
        document.pop(key, None)
    try:
        datum = Datum.from_epsg(code).to_json_dict()
        kind = "datum_ensemble" if datum["type"] == "DatumEnsemble" else "datum"
        found: Any = CRS.from_json_dict({**document, kind: datum})
    except CRSError:
        return geographic  # the code is newer than this table of codes
    old, new = geographic.ellipsoid, found.ellipsoid
    pairs = (
        (old.semi_major_metre, new.semi_major_metre),
        (old.semi_minor_metre, new.semi_minor_metre),
    )
    if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in pairs):
        return geographic
    stated, own = geographic.prime_meridian.longitude, found.prime_meridian.longitude
    return found if own or not stated else geographic


def _ellipsoid(tags: Mapping[str, Any]) -> int | dict[str, Any] | None:
    """Return the geographic system that a map is based on: its code or its ellipsoid."""
    code = code_of(tags, "GeographicTypeGeoKey")
    if code in _EPSG_CODES:
        return code
    a, b = _number(tags, ("GeogSemiMajorAxisGeoKey",)), _number(tags, ("GeogSemiMinorAxisGeoKey",))
    flattening = _number(tags, ("GeogInvFlatteningGeoKey",))
    meridian = _number(tags, ("GeogPrimeMeridianLongGeoKey",))
    name = _MERIDIANS.get(code_of(tags, "GeogPrimeMeridianGeoKey") or 8901)
    degree = _DEGREES.get(code_of(tags, "GeogAngularUnitsGeoKey") or _DEGREE)
    if a is None or degree is None or (meridian is None and name is None):
        return None
    if flattening is not None:
        shape = {"a": a, "rf": flattening} if flattening else {"R": a}
    else:
        shape = {"R": a} if b in (None, a) else {"a": a, "b": b}
    pm = name if meridian is None else meridian * degree
    return {"proj": "longlat", **shape, **({"pm": pm} if pm and pm != "greenwich" else {})}


def _projection(tags: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the projection's parameters as PROJ names them, None for one that is not known."""
    method = code_of(tags, "ProjCoordTransGeoKey")
    linear = code_of(tags, "ProjLinearUnitsGeoKey") or _METRE
    angular = code_of(tags, "GeogAngularUnitsGeoKey") or _DEGREE
    metres = _METRES.get(linear, _number(tags, ("ProjLinearUnitSizeGeoKey",)))
    degrees = _DEGREES.get(angular)
    keys: Mapping[str, tuple[str, ...]] = {}
    if code_of(tags, "ProjectionGeoKey") in _EPSG_CODES:
        name = "tmerc"  # its parameters are those of the code
    elif method in _PROJECTIONS:
        name, keys = _PROJECTIONS[method]
    else:
        return None
    if metres is None or degrees is None:
        return None
    found: dict[str, Any] = {"proj": name}
    for parameter, options in (*keys.items(), *_FALSE.items()):
        value = _number(tags, options)
        if value is not None:
            factor = metres if parameter in _FALSE else 1.0 if parameter == "k_0" else degrees
            found[parameter] = value * factor
    if method == _POLAR_STEREOGRAPHIC:
        found["lat_0"] = math.copysign(90, found.get("lat_ts", 90))
        if "k_0" in found and abs(found.get("lat_ts", 90)) == 90:
            del found["lat_ts"]
    if method == _OBLIQUE_FROM_EQUATOR:
        found["no_uoff"] = True  # the false origin is where the line crosses the equator
    unit = {9001: "m", 9002: "ft", 9003: "us-ft", 9036: "km"}.get(linear)
    return found | ({"units": unit} if unit else {"to_meter": metres})


def _number(tags: Mapping[str, Any], keys: tuple[str, ...]) -> float | None:
    for key in keys:
        value = tags.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None
