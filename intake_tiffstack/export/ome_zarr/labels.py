"""Labels of an image of an existing OME-Zarr."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from intake_tiffstack.copies.open_ome_zarr import OmeImage, read_image
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.errors import OptionError, warn
from intake_tiffstack.export.ome_zarr.metadata import group_documents, label_list
from intake_tiffstack.export.ome_zarr.write import write_ome_zarr
from intake_tiffstack.export.passes import Source
from intake_tiffstack.storage.folder import Folder

__all__ = ["write_labels"]

_GIVEN = ("version", "zarr_format", "levels", "downsample", "colors", "windows")
"""Options that the image decides."""


def write_labels(
    source: Source,
    url: str | os.PathLike[str],
    name: str,
    *,
    dims: Sequence[str],
    coords: Mapping[str, Any],
    attrs: Mapping[str, Any],
    granule: Sequence[int] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> ExportPlan:
    """Write integers as labels of the OME-Zarr image at *url*, with its levels, scale and version.

    The labels are listed once they are whole. Two programs must not add labels to one image at the
    same time.

    Parameters
    ----------
    source, dims, coords, attrs, granule, storage_options
        See :func:`~intake_tiffstack.export.ome_zarr.write.write_ome_zarr`.
    url : str or path
        Of the image.
    name : str
        Of the labels.
    **options
        Further options of ``write_ome_zarr``, except those that the image decides.

    Raises
    ------
    OptionError
        If the array is not of integers or has another size than the image, or an option is decided
        by the image.
    FilesNotFoundError
        If there is no OME-Zarr image at *url*.
    TargetExistsError
        If there are labels of this name, unless ``overwrite=True``.
    """
    for option in _GIVEN:
        if option in options:
            raise OptionError(f"{option} of labels is that of their image; leave it out")
    if source.dtype.kind not in "iu":
        raise OptionError(
            f"labels are integers, but got {source.dtype}; astype('uint32') makes them integers"
        )
    if not name or "/" in name or name.startswith("."):  # not all readers find those further below
        raise OptionError(f"labels must be a name such as 'nuclei', but got {name!r}")
    folder = Folder.at(url, storage_options)
    image = read_image(folder)
    sizes = {**dict(zip(dims, source.shape, strict=True))}
    _check_sizes(image, sizes, folder.url)
    own = _place(image, dims)
    plan = write_ome_zarr(
        source,
        folder.below(f"labels/{name}").url,
        dims=dims,
        coords=coords,
        attrs={**attrs, **own},
        granule=granule,
        storage_options=storage_options,
        version=image.version,
        levels=image.factors(tuple(sizes)) or 1,
        downsample="mode",
        labels_of="../../",
        **options,
    )
    if not options.get("dry_run"):
        _list_labels(folder, image, name)
    return plan


def _check_sizes(image: OmeImage, sizes: Mapping[str, int], url: str) -> None:
    """Raise unless each dim of the labels is that of the image, or is of one position."""
    for dim, n in sizes.items():
        expected = image.sizes.get(dim)
        if expected is None or n not in (expected, 1):
            of_image = ", ".join(f"{dim}={n}" for dim, n in image.sizes.items())
            raise OptionError(
                f"labels must have the dims of their image or fewer, {of_image} at {url}, but got "
                f"{', '.join(f'{dim}={n}' for dim, n in sizes.items())}"
            )
    if {"y", "x"} - {dim for dim, n in sizes.items() if n == image.sizes[dim]}:
        raise OptionError(f"labels must cover y and x of their image at {url}")


def _place(image: OmeImage, dims: Sequence[str]) -> dict[str, Any]:
    """Return scale, translation and units of the image, along the dims of the labels."""
    return {
        key: {dim: value for dim, value in values.items() if dim in dims}
        for key, values in (
            ("scale", image.scale),
            ("translation", image.translation),
            ("units", image.units),
        )
    }


def _list_labels(folder: Folder, image: OmeImage, name: str) -> None:
    """Add the name to the labels that the image lists."""
    below = folder.below("labels")
    document = ".zattrs" if image.version == "0.4" else "zarr.json"
    try:
        with below.read_errors():
            stored = json.loads(below.filesystem.cat_file(f"{below.path}/{document}"))
    except FileNotFoundError:
        stored = {}
    attributes = stored if image.version == "0.4" else stored.get("attributes") or {}
    listed = (attributes if image.version == "0.4" else attributes.get("ome") or {}).get("labels")
    names = [*(listed or [])]
    if name not in names:
        names.append(name)
    merged = {**attributes, **label_list(image.version, names)}
    for key, content in group_documents(image.version, "labels", merged).items():
        folder.write_document(key, content)
    if image.is_consolidated:
        warn(
            f"{folder.url} has consolidated metadata, in which the labels are not: "
            "zarr.consolidate_metadata() renews them"
        )
