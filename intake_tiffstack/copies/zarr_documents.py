"""Names of the objects in a Zarr folder that are not chunks."""

from __future__ import annotations

__all__ = ["CLAIMS", "OPENING"]

OPENING = frozenset({"zarr.json", ".zarray", ".zgroup"})
"""The documents that make a folder a Zarr array or group."""

CLAIMS = ".tiffstack"
"""The folder of the claims of writers, below the folder of a copy."""
