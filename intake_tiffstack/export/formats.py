"""The formats that a collection is exported to, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import zarr

from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.opening import ZarrCopy, open_zarr
from intake_tiffstack.export.place import Place

__all__ = ["FORMATS", "find_writer", "open_copy"]

FORMATS = ("zarr", "ome-zarr", "references")


def find_writer(format: str) -> Callable[..., None]:
    """Return the function that writes a format; what only it needs is imported now.

    Raises
    ------
    OptionError
        There is no such format.
    """
    if format == "zarr":
        from intake_tiffstack.export.zarr import write_zarr

        return write_zarr
    if format == "ome-zarr":
        from intake_tiffstack.export.ome_zarr import write_ome_zarr

        return write_ome_zarr
    if format == "references":
        from intake_tiffstack.export.references import write_references

        return write_references
    raise OptionError.unknown("format", str(format), FORMATS)


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
        Of references, as :func:`~intake_tiffstack.export.references.open_references` has them.

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
        from intake_tiffstack.export.references import open_references

        return open_references(url, storage_options, remote_options=remote_options, **common)
    if remote_options:
        raise OptionError(f"remote_options are of references, but {url} does not end in .json")
    if _is_group(Place.at(url, storage_options)):
        from intake_tiffstack.export.ome_zarr import open_ome_zarr

        return open_ome_zarr(url, storage_options, level=level, image=image, **common)
    copy = open_zarr(url, storage_options, **common)
    if of_image:
        raise OptionError(f"level and image are of an OME-Zarr, but {url} is none")
    return copy


def _is_group(place: Place) -> bool:
    """Return whether a Zarr group is there; of what is no Zarr the opening tells."""
    with place.read_errors():
        try:
            return isinstance(zarr.open(place.open_store(read_only=True), mode="r"), zarr.Group)
        except (FileNotFoundError, ValueError):
            return False
