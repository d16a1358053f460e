"""A copy of any format as a lazy array."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import zarr

from intake_tiffstack.copies.open_zarr import ZarrCopy, open_zarr
from intake_tiffstack.errors import OptionError
from intake_tiffstack.storage.folder import Folder

__all__ = ["open_copy"]


def open_copy(
    url: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    level: int = 0,
    image: str | None = None,
    remote_options: Mapping[str, Any] | None = None,
    arraytype: str = "numpy",
    sel: Mapping[str, Any] | None = None,
) -> ZarrCopy:
    """Return what is at *url* as a lazy array, whichever of the formats it is.

    A URL that ends in ``.json`` is a document of references; a Zarr group is an OME-Zarr.

    Parameters
    ----------
    url, storage_options, arraytype, sel
        As :func:`~intake_tiffstack.export.open_zarr` has them.
    level, image
        Of an OME-Zarr, as :func:`~intake_tiffstack.export.ome_zarr.open_ome_zarr` has them.
    remote_options
        Of references, as :func:`~intake_tiffstack.references.open_references` has them.

    Raises
    ------
    FilesNotFoundError, StorageError
        As those three do.
    OptionError
        If an option is of another format.
    """
    common: dict[str, Any] = {"arraytype": arraytype, "sel": sel}
    of_image = bool(level or image)
    if os.fspath(url).endswith(".json"):
        if of_image:
            raise OptionError(f"level and image are of an OME-Zarr, but {url} holds references")
        from intake_tiffstack.references import open_references

        return open_references(url, storage_options, remote_options=remote_options, **common)
    if remote_options:
        raise OptionError(f"remote_options are of references, but {url} does not end in .json")
    if _is_group(Folder.at(url, storage_options)):
        from intake_tiffstack.copies.open_ome_zarr import open_ome_zarr

        return open_ome_zarr(url, storage_options, level=level, image=image, **common)
    copy = open_zarr(url, storage_options, **common)
    if of_image:
        raise OptionError(f"level and image are of an OME-Zarr, but {url} is none")
    return copy


def _is_group(place: Folder) -> bool:
    """Return whether a Zarr group is there; of what is no Zarr the opening tells."""
    with place.read_errors():
        try:
            return isinstance(zarr.open(place.open_store(read_only=True), mode="r"), zarr.Group)
        except (FileNotFoundError, ValueError):
            return False
