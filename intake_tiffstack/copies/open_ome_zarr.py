"""Opens one level of one image of an OME-Zarr as a lazy array, whoever wrote it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import zarr
from pydantic import ValidationError
from yaozarrs import v04, v05

from intake_tiffstack.copies.attributes import OWN_KEY, decode_coords
from intake_tiffstack.copies.open_xarray_group import open_xarray_group
from intake_tiffstack.copies.open_zarr import (
    ZarrCopy,
    ZarrLabels,
    find_document,
    lazy_copy,
    open_array,
)
from intake_tiffstack.copies.transformations import V06, read_v06
from intake_tiffstack.copies.zarr_store import open_zarr_store
from intake_tiffstack.errors import FilesNotFoundError, OptionError, StorageError
from intake_tiffstack.labelled.attributes import has_value
from intake_tiffstack.labelled.positions import regular_positions
from intake_tiffstack.metadata.units import unit_name
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.folder import Folder

__all__ = ["OmeImage", "is_ome_zarr", "open_ome_zarr", "read_image"]

_KEYS = ("multiscales", "plate", "well", "bioformats2raw.layout")

MOST_NAMED = 8
"""Images that an error names."""


def is_ome_zarr(attributes: Mapping[str, Any]) -> bool:
    """Return whether the attributes of a group are those of an OME-Zarr. Pure.

    >>> is_ome_zarr({"ome": {"version": "0.5"}}), is_ome_zarr({"plate": {}}), is_ome_zarr({"a": 1})
    (True, True, False)
    """
    return "ome" in attributes or any(key in attributes for key in _KEYS)


def open_ome_zarr(
    url: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    level: int = 0,
    image: str | None = None,
    arraytype: str = "numpy",
    sel: Mapping[str, Any] | None = None,
) -> ZarrCopy:
    """Return the lazy array, dims, coordinates and attributes of an image of an OME-Zarr.

    Only metadata are read: a few small requests. Supports versions 0.4, 0.5 and 0.6 of any writer.

    Parameters
    ----------
    url : str or path
        Of the image, or of the plate or series that it is in.
    storage_options : dict, optional
        Passed to fsspec.
    level : int
        Of the pyramid; 0 is full resolution.
    image : str, optional
        Path of the image below *url*, such as ``B/03/0``; needed if there are several.
    arraytype : str
    sel : mapping of str, optional
        See :func:`~intake_tiffstack.copies.open_zarr.open_zarr`.

    Returns
    -------
    ZarrCopy
        Its ``attrs`` have ``scale``, ``translation`` and ``units`` by axis at this level, and
        ``channel_names``; for a copy that this package wrote, also the attributes of the source.

    Raises
    ------
    FilesNotFoundError
        If there is no OME-Zarr, or the image does not exist.
    OptionError
        If there are several images and none is named, or the level does not exist.
    StorageError
        If it cannot be read, or its version is not supported.
    """
    folder = Folder.at(url, storage_options)
    root, path = _open_group(folder, ""), ""
    attributes = dict(root.attrs)
    if not is_ome_zarr(attributes):
        if level:
            raise OptionError(f"level={level}, but {folder.url} is not an OME-Zarr")
        return open_xarray_group(folder, image, arraytype, sel or {})
    own = attributes.get(OWN_KEY)
    if image is None and "multiscales" not in _ome(attributes):
        image = _only_image(folder, root)
    if image:
        path = image.strip("/")
        try:
            attributes = dict(_open_group(folder, path).attrs)
        except FilesNotFoundError:
            attributes = {}  # the error below lists the images
    if not _ome(attributes).get("multiscales"):
        raise FilesNotFoundError(
            f"{folder.url} has no image at {image!r}; {_hint(_list_images(folder, root))}",
            url=folder.url,
        )
    within = folder.below(path)
    multiscale = _read_multiscale(within, attributes)
    array, document, place_of_array = _open_level(within, multiscale, level)
    labels = _label(within, array, attributes, multiscale, level, _own_of(attributes, own))
    return lazy_copy(place_of_array, array, document, labels, arraytype, sel or {})


@dataclass(frozen=True)
class OmeImage:
    """What an image of an OME-Zarr says of its pyramid."""

    version: Any
    """Of OME-Zarr."""
    shapes: tuple[tuple[int, ...], ...]
    """Of each level."""
    axes: tuple[str, ...]
    scale: Mapping[str, float]
    translation: Mapping[str, float]
    units: Mapping[str, str]
    is_consolidated: bool
    """Whether its document repeats those of what is below it."""

    @property
    def sizes(self) -> dict[str, int]:
        """Extent of the first level by axis."""
        return dict(zip(self.axes, self.shapes[0], strict=True))

    def factors(self, dims: Sequence[str]) -> list[dict[str, int]]:
        """Return by how much each further level is smaller along those of z, y, x in *dims*."""
        return [
            {
                axis: max(round(n / smaller), 1)
                for axis, n, smaller in zip(self.axes, before, after, strict=True)
                if axis in dims and axis in ("z", "y", "x")
            }
            for before, after in pairwise(self.shapes)
        ]


def read_image(folder: Folder) -> OmeImage:
    """Return the pyramid of an image of an OME-Zarr, whoever wrote it; a request per level.

    Raises
    ------
    FilesNotFoundError
        If there is none.
    StorageError
        If it cannot be read, or its version is not supported.
    """
    group = _open_group(folder, "")
    attributes = dict(group.attrs)
    if not _ome(attributes).get("multiscales"):
        raise FilesNotFoundError(f"{folder.url} is not an image of an OME-Zarr", url=folder.url)
    multiscale = _read_multiscale(folder, attributes)
    scale, translation = _place_of(multiscale, 0)
    units = {axis.name: unit_name(axis.unit) for axis in multiscale.axes if axis.unit}
    return OmeImage(
        version=_version_of(attributes),
        shapes=tuple(
            tuple(_open_level(folder, multiscale, i)[0].shape)
            for i in range(len(multiscale.datasets))
        ),
        axes=tuple(axis.name for axis in multiscale.axes),
        scale=scale,
        translation=translation,
        units={axis: unit for axis, unit in units.items() if unit},
        is_consolidated=group.metadata.consolidated_metadata is not None,
    )


def _version_of(attributes: Mapping[str, Any]) -> str:
    """Return the version of OME-Zarr of an image."""
    ome = _ome(attributes)
    first = next(iter(ome["multiscales"]), None)
    own = first.get("version") if isinstance(first, Mapping) else None
    version = str(ome.get("version") or own or "0.4")
    return V06 if version.startswith(V06) else version


def _list_images(folder: Folder, root: zarr.Group) -> Iterator[str]:
    """Yield the paths of the images of a plate, a well or a series; one read per well."""
    found = _ome(dict(root.attrs))
    try:
        if "plate" in found:
            for well in found["plate"]["wells"]:
                with suppress(FilesNotFoundError):  # some writers list wells that they left out
                    fields = _ome(dict(_open_group(folder, well["path"]).attrs))["well"]["images"]
                    yield from [f"{well['path']}/{field['path']}" for field in fields]
            return
        if "well" in found:
            yield from [field["path"] for field in found["well"]["images"]]
            return
        if "labels" in found:
            yield from list(found["labels"])
            return
    except (KeyError, TypeError) as exc:
        raise StorageError(
            f"{folder.url} is not a valid OME-Zarr: its plate or a well of it names no images; "
            "`image` opens one by its path",
            url=folder.url,
        ) from exc
    try:
        yield from list(_ome(dict(_open_group(folder, "OME").attrs))["series"])
    except (FilesNotFoundError, KeyError):  # then they are numbered from 0
        with folder.read_errors():
            yield from sorted((name for name in root.group_keys() if name.isdigit()), key=int)


def _only_image(folder: Folder, root: zarr.Group) -> str:
    """Return the path of the only image."""
    images = list(islice(_list_images(folder, root), MOST_NAMED + 1))  # a plate has hundreds
    if len(images) != 1:
        count = len(images) if len(images) <= MOST_NAMED else f"more than {MOST_NAMED}"
        raise OptionError(
            f"{folder.url} holds {count} images: choose one with `image`; {_hint(images)}",
            images=images,
        )
    return images[0]


def _hint(images: Iterable[str]) -> str:
    """Return a hint that lists the first few images."""
    first = list(islice(images, MOST_NAMED + 1))
    named = ", ".join(map(repr, first[:MOST_NAMED]))
    return f"there are {named or 'none'}" + (" ..." if len(first) > MOST_NAMED else "")


def _ome(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME metadata in attributes: version 0.5 has a key for them."""
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, Mapping) else {}


def _open_group(folder: Folder, path: str) -> zarr.Group:
    where = f"{folder.url}/{path}".rstrip("/")
    with folder.read_errors():
        try:
            return zarr.open_group(open_zarr_store(folder, read_only=True), path=path, mode="r")
        except FileNotFoundError as exc:
            raise FilesNotFoundError(f"{where} holds no Zarr group", url=where) from exc
        except ValueError as exc:
            raise StorageError(f"{where} is not a readable Zarr group: {exc}", url=where) from exc


def _open_level(folder: Folder, multiscale: Any, level: int) -> tuple[Any, File, Folder]:
    """Return the array of a level, its metadata document, and its folder."""
    datasets = multiscale.datasets
    if not 0 <= level < len(datasets):
        raise OptionError(
            f"level={level}, but the pyramid of {folder.url} has {len(datasets)} level(s)"
        )
    below = folder.below(datasets[level].path)
    document = find_document(below)  # first: one that is replaced meanwhile does not agree
    array = open_array(below)
    if array.ndim != len(multiscale.axes):
        raise StorageError(
            f"{below.url} is damaged: an array of {array.ndim} dims cannot be along the axes "
            f"{' '.join(axis.name for axis in multiscale.axes)}",
            url=below.url,
        )
    return array, document, below


def _label(
    folder: Folder,
    array: Any,
    attributes: Mapping[str, Any],
    multiscale: Any,
    level: int,
    own: Any,
) -> ZarrLabels:
    """Return dims, coordinates and attributes of a level."""
    sizes = {axis.name: n for axis, n in zip(multiscale.axes, array.shape, strict=True)}
    scale, translation = _place_of(multiscale, level)
    named = {axis.name: unit_name(axis.unit) for axis in multiscale.axes if axis.unit}
    units = {dim: unit for dim, unit in named.items() if unit}  # "pixel" is none
    is_known = {
        dim for dim in sizes if dim in units or scale[dim] != 1 or translation[dim] != 0
    }  # 1 is the default
    full, origin = _place_of(multiscale, 0)
    kept = {dim for dim in sizes if scale[dim] == full[dim]}  # not made smaller
    given = _own_attrs(own)
    if "affine" in given:
        step = {dim: scale[dim] / full[dim] for dim in "yx"}
        by = {dim: (translation[dim] - origin[dim]) / full[dim] for dim in "yx"}
        given["affine"] = _affine_of(given["affine"], step, by)
    for dim in _reversed_dims(given, sizes):
        start = given.get("translation", {}).get(dim, 0.0)
        translation[dim] = start - (translation[dim] - origin[dim])
        scale[dim] = -scale[dim]
    coords: dict[str, Any] = {
        dim: ((dim,), regular_positions(translation[dim], scale[dim], sizes[dim]))
        for dim in is_known
    }
    stored = decode_coords(attributes.get(OWN_KEY), folder.url)
    described = _describe_channels(attributes, sizes)
    # how the channels of our own copies are shown was decided when they were written
    shown = {key: values for key, values in described.items() if key != "channel_names"}
    channels = {**shown, **given} if given else described
    if not given and "channel_names" in channels:
        coords["channel"] = (("c",), np.array(channels["channel_names"], dtype=str))
    if not given:
        channels = {**channels, "coord_units": units}
    coords |= {name: coord for name, coord in stored.items() if kept.issuperset(coord[0])}
    attrs = {
        **channels,
        "scale": {dim: scale[dim] for dim in sizes if dim in is_known},
        "translation": {dim: n for dim, n in translation.items() if n},
        "units": units,
    }
    return ZarrLabels(tuple(sizes), coords, {k: v for k, v in attrs.items() if has_value(v)})


def _read_multiscale(folder: Folder, attributes: Mapping[str, Any]) -> Any:
    """Return the first pyramid of an image, as yaozarrs checks it."""
    found = next(iter(_ome(attributes)["multiscales"]), None)
    if not isinstance(found, Mapping):
        raise StorageError(
            f"{folder.url} is not a valid OME-Zarr: multiscales is not a list of pyramids",
            url=folder.url,
        )
    version = _version_of(attributes)
    models: Mapping[str, Any] = {"0.4": v04.Multiscale, "0.5": v05.Multiscale}
    if version.startswith(V06):  # its release candidates too
        version, found = "0.5", read_v06(found, folder.url)
    if version not in models:
        raise StorageError(
            f"{folder.url} is OME-Zarr {version}: this version of intake-tiffstack opens "
            f"{', '.join(models)} and {V06}; dask.array.from_zarr opens the array of any level",
            url=folder.url,
        )
    try:
        with warnings.catch_warnings():  # of units that are spelled otherwise: they are read too
            warnings.simplefilter("ignore")
            return models[version].model_validate(found)
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors()[:3]
        )
        raise StorageError(
            f"{folder.url} is not a valid OME-Zarr {version}: {problems}", url=folder.url
        ) from exc


def _place_of(multiscale: Any, level: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return scale and translation of a level by axis: its own, then that of all levels."""
    dims = [axis.name for axis in multiscale.axes]
    scale, start = np.ones(len(dims)), np.zeros(len(dims))
    steps = [
        *multiscale.datasets[level].coordinateTransformations,
        *(multiscale.coordinateTransformations or ()),
    ]
    for step in steps:
        if step.type == "scale":
            scale, start = scale * step.scale, start * step.scale
        else:
            start = start + step.translation
    return (
        dict(zip(dims, scale.tolist(), strict=True)),
        dict(zip(dims, start.tolist(), strict=True)),
    )


def _reversed_dims(given: Mapping[str, Any], dims: Iterable[str]) -> list[str]:
    """Return the dims of negative scale, which is stored as an absolute value."""
    scale = given.get("scale") or {}
    return [dim for dim in dims if scale.get(dim, 1) < 0]


def _affine_of(
    affine: Sequence[float], step: Mapping[str, float], by: Mapping[str, float]
) -> list[float]:
    """Return the affine of larger pixels, the first of which lies *by* pixels further.

    Of a mean the corner stays where it was; of the nearest pixel the centre does.

    >>> _affine_of([10.0, 0.0, 500.0, 0.0, -10.0, 90.0], {"y": 2, "x": 2}, {"y": 0.5, "x": 0.5})
    [20.0, 0.0, 500.0, 0.0, -20.0, 90.0]
    """
    a, b, c, d, e, f = affine
    x, y = (by[dim] + (1 - step[dim]) / 2 for dim in ("x", "y"))
    return [
        *(a * step["x"], b * step["y"], c + a * x + b * y),
        *(d * step["x"], e * step["y"], f + d * x + e * y),
    ]


def _describe_channels(
    attributes: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, list[Any]]:
    """Return names, colours and ranges of the channels, each if any channel has one.

    Not through yaozarrs: many writers leave out required fields of a channel.
    """
    omero = _ome(attributes).get("omero")
    channels = (omero.get("channels") or []) if isinstance(omero, Mapping) else []
    if len(channels) != sizes.get("c") or not all(isinstance(c, Mapping) for c in channels):
        return {}
    found: dict[str, list[Any]] = {
        "channel_names": [str(channel.get("label") or "") for channel in channels],
        "channel_colors": [_color_of(channel.get("color")) for channel in channels],
        "display_ranges": [_range_of(channel.get("window")) for channel in channels],
    }
    return {key: values for key, values in found.items() if any(values)}


def _range_of(window: Any) -> list[float] | None:
    """Return ``[darkest, brightest]`` that are shown of a channel, None if that is not known.

    >>> _range_of({"start": 10, "end": 900, "min": 0, "max": 4095}), _range_of({"min": 0})
    ([10.0, 900.0], None)
    """
    if not isinstance(window, Mapping):
        return None
    darkest, brightest = window.get("start"), window.get("end")
    if not (isinstance(darkest, (int, float)) and isinstance(brightest, (int, float))):
        return None
    return [float(darkest), float(brightest)] if darkest < brightest else None


def _color_of(text: Any) -> str | None:
    """Return a colour as ``#rrggbb``, None for anything else.

    >>> _color_of("00FF00"), _color_of("green"), _color_of(None)
    ('#00ff00', None, None)
    """
    digits = str(text).removeprefix("#")
    return f"#{digits.lower()}" if re.fullmatch("[0-9a-fA-F]{6}", digits) else None


def _own_of(attributes: Mapping[str, Any], root: Any) -> Any:
    """Return this package's attribute of an image: its own, else that of the root of a plate."""
    own = attributes.get(OWN_KEY)
    if "image-label" in _ome(attributes) or _own_attrs(own):
        return own
    return root


def _own_attrs(own: Any) -> dict[str, Any]:
    """Return the attributes of the source, if this package wrote the copy."""
    return dict(own.get("attrs") or {}) if isinstance(own, Mapping) else {}
