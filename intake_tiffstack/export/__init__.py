"""Copies of a collection in other formats: Zarr and OME-Zarr. ``formats`` is the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intake_tiffstack.copies.open_zarr import ZarrCopy, open_zarr

__all__ = ["ZarrCopy", "open_zarr"]


def __getattr__(name: str) -> Any:
    # Lazy: opening files needs the types in ``export.options``, and no zarr.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from intake_tiffstack.copies import open_zarr as home

    return getattr(home, name)
