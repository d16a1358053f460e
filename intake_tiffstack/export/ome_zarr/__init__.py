"""OME-Zarr: pyramids, plates and series that other programs open."""

from __future__ import annotations

from intake_tiffstack.export.ome_zarr.opening import open_ome_zarr
from intake_tiffstack.export.ome_zarr.writing import write_ome_zarr

__all__ = ["open_ome_zarr", "write_ome_zarr"]
