"""References: one Zarr over the bytes of the original files, with no pixel moved."""

from __future__ import annotations

from intake_tiffstack.references.open import open_references
from intake_tiffstack.references.write import write_references

__all__ = ["open_references", "write_references"]
