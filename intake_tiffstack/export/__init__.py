"""Copies of a stack in other formats. Knows arrays and what describes them, and no TIFF."""

from __future__ import annotations

from intake_tiffstack.export.chunks import choose_zarr_chunks
from intake_tiffstack.export.zarr import ZarrCopy, open_zarr, write_zarr

__all__ = ["ZarrCopy", "choose_zarr_chunks", "open_zarr", "write_zarr"]
