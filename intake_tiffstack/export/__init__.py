"""Copies of a collection in other formats: Zarr. Knows arrays and metadata, no TIFF."""

from __future__ import annotations

from intake_tiffstack.export.chunks import choose_zarr_chunks
from intake_tiffstack.export.opening import ZarrCopy, open_zarr
from intake_tiffstack.export.zarr import write_zarr

__all__ = ["ZarrCopy", "choose_zarr_chunks", "open_zarr", "write_zarr"]
