"""The metadata of an OME-TIFF, as tifffile's writer takes them. Pure.

References
----------
OME schema 2016-06, https://www.openmicroscopy.org/Schemas/OME/2016-06.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.copies.attributes import OWN_KEY
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.ome_zarr.axes import NgffAxis
from intake_tiffstack.export.ome_zarr.channels import name_channels
from intake_tiffstack.export.ome_zarr.coords import image_coords
from intake_tiffstack.export.ome_zarr.images import ImageSet
from intake_tiffstack.export.ome_zarr.plates import Position
from intake_tiffstack.metadata.units import METRES, SECONDS, unit_symbol

__all__ = ["CREATOR", "PIXEL_TYPES", "check_dtype", "image_metadata"]

PIXEL_TYPES = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
"""The types of pixels of OME, and the complex ones."""

CREATOR = f"intake-tiffstack {version('intake-tiffstack')}"
"""The program that writes the file."""

NAMESPACE = "intake-tiffstack"
"""Of the annotation with all metadata and coordinates."""

_is_time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?").fullmatch
_illegal = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise unless OME has pixels of this type.

    Raises
    ------
    OptionError
        If it has none.
    """
    if dtype.name not in (*PIXEL_TYPES, "complex64", "complex128"):
        raise OptionError(
            f"OME-TIFF has no pixels of type {dtype}; export as 'zarr' or 'ome-zarr', or convert "
            "them, as in intake_tiffstack.export(src.to_xarray().astype('uint32'), ..., like=src)"
        )


def image_metadata(
    images: ImageSet,
    position: Position,
    shape: Sequence[int],
    *,
    name: str,
    is_rgb: bool,
    attrs: Mapping[str, Any],
    kept: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the metadata of one image of an OME-TIFF.

    Parameters
    ----------
    images : ImageSet
        All images; its axes in the order that they are stored.
    position : Position
        Which image it is.
    shape : sequence of int
        Of the image.
    name : str
        Of the image.
    is_rgb : bool
        Whether the last axis holds the samples of each pixel.
    attrs : mapping of str
        Metadata of the collection.
    kept : mapping of str
        Metadata stored as JSON with this image; empty for all images but the first.

    Raises
    ------
    OptionError
        If a coordinate cannot be stored.
    """
    axes = images.axes
    found: dict[str, Any] = {
        "axes": "".join(axis.name for axis in axes).upper(),
        "Name": _clean(name),
    }
    if is_rgb:
        found["axes"] = found["axes"][:-1] + "S"
    for axis in axes:
        found |= _describe_step(axis, attrs)
    if not is_rgb:
        found["Channel"] = _describe_channels(images, attrs)
    planes = _describe_planes(images, position, shape[: -3 if is_rgb else -2])
    if planes:
        found["Plane"] = planes
    acquired = str(attrs.get("acquired") or "")
    if _is_time(acquired):
        found["AcquisitionDate"] = acquired
    if kept:
        found["Creator"] = CREATOR
    own = images.own_attributes(position, shape, kept)[OWN_KEY]
    own["coords"] = {n: coord for n, coord in own["coords"].items() if not _is_step(n, coord, axes)}
    found["CommentAnnotation"] = {"Namespace": NAMESPACE, "Value": json.dumps(own)}
    return found


def _is_step(name: str, coord: Mapping[str, Any], axes: Sequence[NgffAxis]) -> bool:
    """Return whether a coordinate is what step and translation of its axis say."""
    axis = next((axis for axis in axes if axis.name == name and axis.kind == "space"), None)
    if axis is None or coord["dims"] != [name]:
        return False
    values = np.asarray(coord["values"], dtype=object)
    if not all(isinstance(value, (int, float)) for value in values.flat):
        return False
    steps = axis.translation + np.arange(len(values)) * axis.scale
    return bool(np.allclose(values.astype(float), steps, rtol=0, atol=1e-6 * axis.scale))


def _describe_step(axis: NgffAxis, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the size of a pixel, or the interval, along an axis."""
    is_given = axis.dim in (attrs.get("scale") or {}) or axis.unit is not None
    if axis.kind == "time" and axis.unit in SECONDS and is_given:
        return {"TimeIncrement": axis.scale, "TimeIncrementUnit": unit_symbol(axis.unit)}
    if axis.kind != "space" or not is_given:
        return {}
    key = f"PhysicalSize{axis.name.upper()}"
    unit = unit_symbol(axis.unit) if axis.unit in METRES else "reference frame"
    return {key: axis.scale, f"{key}Unit": unit}


def _describe_channels(images: ImageSet, attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the attributes of each channel."""
    names = name_channels(
        images.of_channels(attrs.get("channel_names")), images.channel_labels(), is_rgb=False
    )
    found: list[dict[str, Any]] = [{"Name": _clean(name)} for name in names]
    per_channel = {
        key: images.of_channels(attrs.get(key))
        for key in ("channel_colors", "emission_wavelengths", "excitation_wavelengths")
    }
    for key, values in per_channel.items():
        if values is None or len(values) != len(found):
            continue
        for channel, value in zip(found, values, strict=True):
            if value is None:
                continue
            if key == "channel_colors":
                channel |= _describe_color(str(value))
            else:
                name = f"{key.partition('_')[0].capitalize()}Wavelength"
                channel |= {name: float(value), f"{name}Unit": "nm"}
    return found


def _describe_color(color: str) -> dict[str, int]:
    """Return a colour as OME has it: red, green, blue and alpha in a signed number.

    >>> _describe_color("#00ff00"), _describe_color("#ff0000"), _describe_color("green")
    ({'Color': 16711935}, {'Color': -16776961}, {})
    """
    digits = color.removeprefix("#")
    if not re.fullmatch("[0-9a-fA-F]{6}", digits):
        return {}
    number = int(digits + "ff", 16)
    return {"Color": number - 2**32 if number >= 2**31 else number}


def _describe_planes(
    images: ImageSet, position: Position, outer: Sequence[int]
) -> list[dict[str, Any]]:
    """Return time and height of each plane, where these are not the steps of the axes."""
    names = {axis.dim: axis.name for axis in images.axes}
    coords = image_coords(images.coords, {**images.chosen, **position.chosen}, names)
    steps = {axis.name: axis.scale for axis in images.axes}
    axes = [axis.name for axis in images.axes[: len(outer)]]
    planes: list[dict[str, Any]] = [{} for _ in range(int(np.prod(outer)))]
    for name, key, unit, along in (
        ("time_s", "DeltaT", "s", "t"),
        ("z_um", "PositionZ", "µm", "z"),
    ):
        if name not in coords or not set(coords[name][0]) <= set(axes):
            continue
        dims, values = coords[name]
        if dims == (along,) and _is_regular(values, steps[along]):
            continue
        for plane, value in zip(planes, _spread(dims, values, axes, outer), strict=True):
            if np.isfinite(value):
                plane |= {key: float(value), f"{key}Unit": unit}
    return planes if any(planes) else []


def _is_regular(values: NDArray[Any], step: float) -> bool:
    """Return whether positions are multiples of a step from 0."""
    return bool(np.allclose(values, np.arange(len(values)) * step, equal_nan=False))


def _spread(
    dims: Sequence[str], values: NDArray[Any], axes: Sequence[str], outer: Sequence[int]
) -> Any:
    """Return the value of each plane, in the order of the planes."""
    order = [dims.index(axis) for axis in axes if axis in dims]
    shape = [n if axis in dims else 1 for axis, n in zip(axes, outer, strict=True)]
    return np.broadcast_to(values.transpose(order).reshape(shape), outer).ravel()


def _clean(text: str) -> str:
    r"""Return text without the characters that XML cannot hold.

    >>> _clean("GFP\x00 <1>")
    'GFP <1>'
    """
    return _illegal.sub("", text)
