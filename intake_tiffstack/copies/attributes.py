"""The attributes of a Zarr copy: coordinates and metadata to JSON and back. Pure.

The attributes of the array are the caller's own (scale, units, provenance ...), plus one key,
``tiffstack``, with the coordinates::

    "tiffstack": {
        "version": 1,
        "coords": {"channel": {"dims": ["c"], "dtype": "str", "values": ["GFP", "RFP"]}}
    }

The names of the dims are where other readers look for them: ``dimension_names`` in the metadata
of format 3, the attribute ``_ARRAY_DIMENSIONS`` on format 2.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.errors import OptionError, StorageError
from intake_tiffstack.to_json import to_strict_json

__all__ = [
    "ARRAY_DIMENSIONS",
    "FILL_VALUE",
    "OWN_KEY",
    "Coords",
    "checked_coords",
    "checked_dims",
    "decode_coords",
    "encode_attributes",
    "encode_coords",
    "take_fill_value",
]

OWN_KEY = "tiffstack"
ARRAY_DIMENSIONS = "_ARRAY_DIMENSIONS"
FILL_VALUE = "_FillValue"
"""Attribute in which xarray looks for the stored number that means no data; ours is ``nodata``."""
_VERSION = 1

Coords = Mapping[str, tuple[tuple[str, ...], NDArray[Any]]]


def checked_dims(dims: Sequence[str], shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return *dims* if they name each dim of *shape* once."""
    if len(dims) != len(shape) or len(set(dims)) != len(shape):
        raise OptionError(
            f"dims must be {len(shape)} different names, one for each of {shape}, "
            f"but got {list(dims)}"
        )
    return tuple(dims)


def encode_attributes(
    sizes: Mapping[str, int],
    dtype: np.dtype[Any],
    coords: Coords,
    attrs: Mapping[str, Any],
    zarr_format: int,
) -> dict[str, Any]:
    """Return all attributes of the array as JSON."""
    for key in (OWN_KEY, ARRAY_DIMENSIONS):
        if key in attrs:
            raise OptionError(f"attrs must not have the key {key!r}: a copy keeps its own there")
    attributes: dict[str, Any] = to_strict_json(attrs, "attrs")
    attributes[OWN_KEY] = encode_coords(coords, sizes)
    if FILL_VALUE not in attributes:
        attributes |= _encode_nodata(attributes.get("nodata"), dtype, zarr_format)
    if zarr_format == 2:
        attributes[ARRAY_DIMENSIONS] = list(sizes)
    return attributes


def _encode_nodata(nodata: Any, dtype: np.dtype[Any], zarr_format: int) -> dict[str, Any]:
    """Return nodata where xarray looks for it: on format 3 a float is text of its bytes.

    >>> _encode_nodata(-9999, np.dtype("i2"), 3), _encode_nodata("nan", np.dtype("f4"), 2)
    ({'_FillValue': -9999}, {})
    >>> _encode_nodata(1.5, np.dtype("f4"), 3), _encode_nodata(1.5, np.dtype("c8"), 3)
    ({'_FillValue': 'AAAAAAAA+D8='}, {'_FillValue': ['AAAAAAAA+D8=', 'AAAAAAAAAAA=']})
    """
    if isinstance(nodata, int):
        return {FILL_VALUE: nodata}
    if not isinstance(nodata, float) and nodata not in ("nan", "inf", "-inf"):
        return {}
    number = float(nodata)
    if zarr_format == 3:
        parts = (number, 0.0) if dtype.kind == "c" else (number,)
        texts = [base64.b64encode(struct.pack("<d", part)).decode() for part in parts]
        return {FILL_VALUE: texts if dtype.kind == "c" else texts[0]}
    return {FILL_VALUE: number} if math.isfinite(number) else {}  # JSON has no such number


def take_fill_value(attrs: dict[str, Any]) -> None:
    """Turn the ``_FillValue`` that xarray wrote into ``nodata``, in place.

    NaN is left out, since xarray writes it for all floats.

    >>> attrs = {"_FillValue": "AAAAAAAA+D8=", "owner": "lab"}
    >>> take_fill_value(attrs)
    >>> attrs
    {'owner': 'lab', 'nodata': 1.5}
    """
    value = attrs.pop(FILL_VALUE, None)
    try:
        parts = [
            struct.unpack("<d", base64.b64decode(part))[0] if isinstance(part, str) else part
            for part in (value if isinstance(value, list) else [value])
        ]
        number = complex(*parts)
    except (TypeError, ValueError, OverflowError, struct.error):
        return  # none, or of another program
    if "nodata" not in attrs and math.isfinite(number.real) and not number.imag:
        attrs["nodata"] = parts[0].real


def encode_coords(coords: Coords, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the value stored under the key ``tiffstack``. Pure.

    Parameters
    ----------
    coords : Coords
        Name to dims and values: booleans, integers, floats, text, datetime64 or timedelta64, or an
        object array of text, numbers and None. NaN and infinities are stored as text, NaT of a
        datetime64 as ``"NaT"``.
    sizes : mapping[str, int]
        The array's dims and their lengths.

    Raises
    ------
    OptionError
        If values do not fit their dims, or are of an unsupported type.
    """
    checked_coords(coords, sizes)
    return {
        "version": _VERSION,
        "coords": {
            name: {"dims": list(dims), **_encode_values(np.asarray(values), f"coord {name!r}")}
            for name, (dims, values) in coords.items()
        },
    }


def checked_coords(coords: Coords, sizes: Mapping[str, int]) -> Coords:
    """Return *coords* if each lies along dims of the array.

    Raises
    ------
    OptionError
        If not.
    """
    for name, (dims, values) in coords.items():
        unknown = next((dim for dim in dims if dim not in sizes), None)
        if unknown is not None:
            raise OptionError.unknown(f"dim of coord {name!r}", unknown, sizes)
        expected = tuple(sizes[dim] for dim in dims)
        if np.shape(values) != expected:
            raise OptionError(
                f"coord {name!r} along {dims} must have shape {expected}, "
                f"but got {np.shape(values)}"
            )
    return coords


def _encode_values(values: NDArray[Any], where: str) -> dict[str, Any]:
    """Return the dtype of *values* and their JSON."""
    kind = values.dtype.kind
    if kind in "biu":
        return {"dtype": values.dtype.name, "values": values.tolist()}
    if kind == "f":
        plain = values.astype(object)
        plain[np.isnan(values)] = "NaN"
        plain[np.isposinf(values)] = "Infinity"
        plain[np.isneginf(values)] = "-Infinity"
        return {"dtype": values.dtype.name, "values": plain.tolist()}
    if kind == "M":
        return {"dtype": values.dtype.name, "values": np.datetime_as_string(values).tolist()}
    if kind == "m":
        return {"dtype": values.dtype.name, "values": values.astype(np.int64).tolist()}
    if kind == "U":
        return {"dtype": "str", "values": values.tolist()}
    if kind == "O":
        return {"dtype": "object", "values": to_strict_json(values.tolist(), where)}
    raise OptionError(
        f"{where} cannot be stored: its values must be booleans, integers, floats, text, "
        f"datetime64, timedelta64, or objects of these with None, but got dtype {values.dtype}"
    )


def decode_coords(stored: Any, url: str) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Return the coordinates from the output of :func:`encode_coords`. Pure.

    Parameters
    ----------
    stored : object
        The attribute ``tiffstack``; None for a Zarr that another program wrote.
    url : str
        Of the copy, for an error.

    Raises
    ------
    StorageError
        If it is of a later version, or damaged.
    """
    if stored is None:
        return {}
    version = stored.get("version") if isinstance(stored, dict) else None
    if version != _VERSION:
        raise StorageError(
            f"{url}: this version of intake-tiffstack reads version {_VERSION} of the attribute "
            f"{OWN_KEY!r}, but got {version!r}; dask.array.from_zarr opens the pixels of any Zarr",
            url=url,
        )
    try:
        return {
            name: (tuple(coord["dims"]), _decode_values(coord["dtype"], coord["values"]))
            for name, coord in stored["coords"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise StorageError(
            f"{url}: the coords in its attribute {OWN_KEY!r} are damaged: {exc!r}", url=url
        ) from exc


def _decode_values(dtype: str, values: Any) -> NDArray[Any]:
    """Return the array of a dtype from its JSON."""
    return np.array(values, dtype=np.dtype(dtype))
