"""The levels of a pyramid as one xarray.DataTree."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr

__all__ = ["IMAGE", "label_levels"]

IMAGE = "image"
"""Name of the pixels where a Dataset needs one."""


def label_levels(levels: Iterable[xr.DataArray]) -> xr.DataTree:
    """Return a tree with a node per level: ``0``, ``1`` ..., each with its own coordinates."""
    datasets = {str(i): level.to_dataset(name=IMAGE) for i, level in enumerate(levels)}
    return xr.DataTree.from_dict(datasets)
