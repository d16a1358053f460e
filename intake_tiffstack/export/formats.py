"""The formats that a collection is exported to, by name."""

from __future__ import annotations

from collections.abc import Callable

from intake_tiffstack.errors import OptionError

__all__ = ["FORMATS", "find_writer"]

FORMATS = ("zarr", "ome-zarr", "references")


def find_writer(format: str) -> Callable[..., None]:
    """Return the function that writes a format; what only it needs is imported now.

    Raises
    ------
    OptionError
        There is no such format.
    """
    if format == "zarr":
        from intake_tiffstack.export.zarr_array import write_zarr

        return write_zarr
    if format == "ome-zarr":
        from intake_tiffstack.export.ome_zarr.write import write_ome_zarr

        return write_ome_zarr
    if format == "references":
        from intake_tiffstack.references import write_references

        return write_references
    raise OptionError.unknown("format", str(format), FORMATS)
