"""Copies of a collection in other formats: Zarr and OME-Zarr. ``formats`` is the registry."""

from intake_tiffstack.copies.open_zarr import ZarrCopy, open_zarr

__all__ = ["ZarrCopy", "open_zarr"]
