"""Metadata as attributes that xarray, netCDF and Zarr hold, and back. Pure.

An attribute is text, a number, or a list of either. All other metadata (steps and units by dim,
nested values, lists with gaps) are one JSON text under :data:`METADATA_KEY`. To xarray the
attribute ``units`` is the unit of the pixels, so units by dim are never there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from intake_tiffstack.to_json import to_json

__all__ = ["METADATA_KEY", "NOT_ATTRIBUTES", "decode_attrs", "encode_attrs", "has_value"]

METADATA_KEY = "tiffstack_metadata"
"""The attribute with the JSON of what no other attribute can hold."""

NOT_ATTRIBUTES = frozenset({"dims", "shape", "dtype", "coords", "coord_units", "provenance"})
"""Metadata that are not attributes: those of the array and its coordinates, and their sources."""

_RESERVED = frozenset({METADATA_KEY, "_ARRAY_DIMENSIONS", "coordinates", "grid_mapping"})
"""Attributes that xarray or this package write themselves."""

_is_name = re.compile(r"[A-Za-z_][^\x00-\x1f/\x7f]*(?<! )").fullmatch
"""Whether netCDF takes a name (NetCDF Users Guide, "Permitted characters in names")."""


def has_value(value: Any) -> bool:
    """Return whether a key of the metadata is known; 0, False and an empty text are values.

    >>> has_value(0), has_value(None), has_value({})
    (True, False, False)
    """
    return value is not None and value not in ({}, [])


def encode_attrs(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as attributes of an xarray object; those without a value are left out.

    >>> encode_attrs({"crs": "EPSG:4326", "units": {"x": "degree"}, "instrument": None})
    {'crs': 'EPSG:4326', 'tiffstack_metadata': '{"units": {"x": "degree"}}'}
    """
    attrs: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in metadata.items():
        if key in NOT_ATTRIBUTES or not has_value(value):
            continue
        (attrs if _is_attribute(key, value) else rest)[key] = deepcopy(value)
    if rest:
        attrs[METADATA_KEY] = json.dumps(to_json(rest))
    return attrs


def decode_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that :func:`encode_attrs` wrote as attributes.

    Raises
    ------
    ValueError
        If the JSON text is damaged.

    Examples
    --------
    >>> decode_attrs({"crs": "EPSG:4326", "tiffstack_metadata": '{"units": {"x": "degree"}}'})
    {'crs': 'EPSG:4326', 'units': {'x': 'degree'}}
    """
    plain = {key: to_json(value) for key, value in attrs.items() if key not in _RESERVED}
    if "nodata" in plain:
        plain.pop("_FillValue", None)  # the same, where xarray looks for it
    stored = json.loads(attrs.get(METADATA_KEY, "{}"))
    if not isinstance(stored, dict):
        raise ValueError(f"{METADATA_KEY} holds no JSON object, but {stored!r:.80}")
    return plain | stored


def _is_attribute(key: str, value: Any) -> bool:
    """Return whether netCDF, Zarr and xarray can all store a value as an attribute."""
    if key in _RESERVED or _is_name(key) is None:
        return False
    if not isinstance(value, (list, tuple)):
        return _is_text(value) or _is_number(value)
    return all(map(_is_text, value)) or all(map(_is_number, value))


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which a file name may have
        return False
    return "\0" not in value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and (isinstance(value, float) or -(2**63) <= value < 2**63)
