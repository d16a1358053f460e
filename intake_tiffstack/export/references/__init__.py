"""References: one Zarr over the bytes of the original files, with no pixel moved."""

from __future__ import annotations

from intake_tiffstack.export.references.opening import open_references
from intake_tiffstack.export.references.writing import write_references

__all__ = ["open_references", "write_references"]
