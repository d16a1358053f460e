"""The documents of an OME-Zarr, built and checked through yaozarrs. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from yaozarrs import v04, v05

from intake_tiffstack.export.ome_zarr.axes import NgffAxis
from intake_tiffstack.export.ome_zarr.levels import Level
from intake_tiffstack.export.ome_zarr.plates import Field, Plate
from intake_tiffstack.export.ome_zarr.systems import to_v06

__all__ = [
    "Channel",
    "Version",
    "group_documents",
    "image_attributes",
    "label_list",
    "plate_attributes",
    "series_attributes",
    "series_xml",
    "well_attributes",
]

Version = Literal["0.4", "0.5", "0.6"]

_MODELS: Mapping[Version, Any] = {"0.4": v04, "0.5": v05, "0.6": v05}
"""0.6 is written from a document of 0.5 that the model has checked."""


@dataclass(frozen=True)
class Channel:
    """How a channel is shown."""

    label: str
    color: str
    """Six hexadecimal digits."""
    window: tuple[float, float]
    """Pixel values shown black and in full colour."""
    limits: tuple[float, float]
    """Least and greatest value of the window."""


def image_attributes(
    version: Version,
    *,
    names: Sequence[str],
    shifts: Sequence[Mapping[str, float]],
    axes: Sequence[NgffAxis],
    levels: Sequence[Level],
    method: str,
    channels: Sequence[Channel],
    labels_of: str | None = None,
    world: Sequence[Sequence[float]] | None = None,
) -> list[dict[str, Any]]:
    """Return the attributes of the group of each image; they differ in name and place.

    Parameters
    ----------
    version : Version
        Of OME-Zarr.
    names : sequence of str
        Of the images.
    shifts : sequence of mapping
        How far each lies from the first pixel of the collection, by axis, in its unit.
    axes : sequence of NgffAxis
    levels : sequence of Level
        Of the pyramid of each; the arrays are called ``0``, ``1`` ...
    method : str
        How levels were made; ``nearest`` keeps the place of the first pixel, others move it to the
        middle of those it was made of.
    channels : sequence of Channel
        Display settings of each channel; empty to leave them out.
    labels_of : str, optional
        Path of the image that these are labels of; None for an image.
    world : sequence of sequence of float, optional
        Affine from scaled positions to the map or stage, a row per axis; for 0.6.
    """
    model = _MODELS[version]
    datasets = []
    for i, level in enumerate(levels):
        scale = [axis.scale * n for axis, n in zip(axes, level.total, strict=True)]
        shift = [0 if method == "nearest" else (n - 1) / 2 for n in level.total]
        start = [axis.translation + axis.scale * by for axis, by in zip(axes, shift, strict=True)]
        datasets.append(
            {
                "path": str(i),
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": start},
                ],
            }
        )
    multiscale = {
        "name": "",
        "type": method,
        "axes": [_axis_fields(axis) for axis in axes],
        "datasets": datasets,
    }
    image = {"multiscales": [multiscale]}
    if channels:
        image["omero"] = _omero(version, channels)  # type: ignore[assignment]
    kind = model.Image
    if labels_of is not None:
        image["image-label"] = {"source": {"image": labels_of}}  # type: ignore[assignment]
        kind = model.LabelImage
    fields = _dump(version, kind.model_validate(image))  # once: a plate has thousands
    letters = [axis.name for axis in axes]
    named = [
        _named(fields, name, [shift.get(letter, 0.0) for letter in letters])
        for name, shift in zip(names, shifts, strict=True)
    ]
    return [_as_v06(each, world) for each in named] if version == "0.6" else named


def _axis_fields(axis: NgffAxis) -> dict[str, str]:
    """Return the metadata of an axis."""
    fields = {"name": axis.name, "type": axis.name if axis.kind == "other" else axis.kind}
    return fields | ({"unit": axis.unit} if axis.unit else {})


def _as_v06(fields: Mapping[str, Any], world: Sequence[Sequence[float]] | None) -> dict[str, Any]:
    """Return the attributes of an image of 0.5 as 0.6 has them."""
    pyramids = [to_v06(each, world) for each in fields["ome"]["multiscales"]]
    return {"ome": {**fields["ome"], "multiscales": pyramids}}


def _named(fields: Mapping[str, Any], name: str, shift: Sequence[float]) -> dict[str, Any]:
    """Return the attributes of an image with the name and the place of its pyramid."""
    if "ome" in fields:
        return {"ome": _named(fields["ome"], name, shift)}
    (multiscale,) = fields["multiscales"]
    if any(shift):
        datasets = [_shifted(dataset, shift) for dataset in multiscale["datasets"]]
        multiscale = {**multiscale, "datasets": datasets}
    return {**fields, "multiscales": [{**multiscale, "name": name}]}


def _shifted(dataset: Mapping[str, Any], shift: Sequence[float]) -> dict[str, Any]:
    """Return a level that lies elsewhere.

    >>> steps = [{"type": "scale", "scale": [2.0]}, {"type": "translation", "translation": [0.5]}]
    >>> found = _shifted({"path": "0", "coordinateTransformations": steps}, [10.0])
    >>> found["coordinateTransformations"][1]
    {'type': 'translation', 'translation': [10.5]}
    """
    scale, start = dataset["coordinateTransformations"]
    moved = [a + b for a, b in zip(start["translation"], shift, strict=True)]
    return {**dataset, "coordinateTransformations": [scale, {**start, "translation": moved}]}


def _omero(version: Version, channels: Sequence[Channel]) -> dict[str, Any]:
    shown = [
        {
            "label": channel.label,
            "color": channel.color,
            "active": True,
            "coefficient": 1.0,
            "family": "linear",
            "inverted": False,
            "window": {
                "start": channel.window[0],
                "end": channel.window[1],
                "min": channel.limits[0],
                "max": channel.limits[1],
            },
        }
        for channel in channels
    ]
    model = "greyscale" if len(channels) == 1 else "color"
    rendering = {"model": model, "defaultT": 0, "defaultZ": 0, "projection": "normal"}
    return {"version": version, "channels": shown, "rdefs": rendering}


def plate_attributes(version: Version, plate: Plate, name: str) -> dict[str, Any]:
    """Return the attributes of the group of a plate."""
    fields: dict[str, Any] = {
        "name": name,
        "rows": [{"name": row} for row in plate.rows],
        "columns": [{"name": column} for column in plate.columns],
        "wells": [
            {"path": well.path, "rowIndex": well.row, "columnIndex": well.column}
            for well in plate.wells
        ],
        "field_count": plate.most_fields(),
    }
    if plate.acquisitions:
        fields["acquisitions"] = [
            {"id": i, "name": name, "maximumfieldcount": plate.most_fields(i)}
            for i, name in enumerate(plate.acquisitions)
            if plate.most_fields(i)
        ]
    return _dump(version, _MODELS[version].Plate.model_validate({"plate": fields}))


def well_attributes(version: Version, fields: Sequence[Field]) -> dict[str, Any]:
    """Return the attributes of the group of a well."""
    images = [
        {"path": field.path}
        | ({} if field.acquisition is None else {"acquisition": field.acquisition})
        for field in fields
    ]
    well = {"well": {"images": images}}
    return _dump(version, _MODELS[version].Well.model_validate(well))


def label_list(version: Version, names: Sequence[str]) -> dict[str, Any]:
    """Return the attributes of the group that lists the labels of an image."""
    return _dump(version, _MODELS[version].LabelsGroup.model_validate({"labels": list(names)}))


def series_attributes(version: Version, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the attributes of the groups that hold a series of images: name to attributes."""
    fields: dict[str, dict[str, Any]] = {
        "": {"bioformats2raw.layout": 3},
        "OME": {"series": list(paths)},
    }
    if version == "0.4":
        return fields
    return {
        "": _dump(version, v05.Bf2Raw.model_validate(fields[""])),
        "OME": _dump(version, v05.Series.model_validate(fields["OME"])),
    }


_OME_XML = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_PIXEL_TYPES = {
    "bool": "bit",
    **{name: name for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")},
    "float32": "float",
    "float64": "double",
    "complex64": "complex",
    "complex128": "double-complex",
}


def series_xml(
    names: Sequence[str], sizes: Mapping[str, int], dtype: np.dtype[Any], channels: Sequence[str]
) -> bytes | None:
    """Return the OME-XML of a series: the names and sizes of its images.

    None if OME-XML has no such pixel type (64-bit integers); readers do not need it.

    Parameters
    ----------
    names : sequence of str
        Of the images, in their order.
    sizes : mapping[str, int]
        Axis to extent.
    dtype : dtype
        Of a pixel.
    channels : sequence of str
        Their names.
    """
    kind = _PIXEL_TYPES.get(dtype.name)
    if kind is None:
        return None
    root = ElementTree.Element("OME", {"xmlns": _OME_XML, "Creator": "intake-tiffstack"})
    extents = {f"Size{axis.upper()}": str(sizes.get(axis, 1)) for axis in "xyzct"}
    for i, name in enumerate(names):
        image = ElementTree.SubElement(root, "Image", {"ID": f"Image:{i}", "Name": name})
        fields = {"ID": f"Pixels:{i}", "DimensionOrder": "XYZCT", "Type": kind, **extents}
        pixels = ElementTree.SubElement(image, "Pixels", fields)
        for j, channel in enumerate(channels):
            fields = {"ID": f"Channel:{i}:{j}", "Name": channel, "SamplesPerPixel": "1"}
            ElementTree.SubElement(pixels, "Channel", fields)
        ElementTree.SubElement(pixels, "MetadataOnly")
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def group_documents(version: Version, path: str, attributes: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the documents of a group with attributes: name to content."""
    start = f"{path}/" if path else ""
    if version == "0.4":
        return {
            f"{start}.zattrs": _to_bytes(attributes),
            f"{start}.zgroup": _to_bytes({"zarr_format": 2}),
        }
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return {f"{start}zarr.json": _to_bytes(group)}


def _dump(version: Version, model: Any) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(model.model_dump_json(exclude_none=True, by_alias=True))
    return fields if version == "0.4" else {"ome": {**fields, "version": version}}


def _to_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode()
