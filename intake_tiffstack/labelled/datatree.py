"""The levels of a pyramid as one xarray.DataTree."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import xarray as xr

__all__ = ["label_levels", "name_pixels"]


def name_pixels(taken: Collection[str]) -> str:
    """Return the name of the pixels where a Dataset needs one.

    >>> name_pixels(["x"]), name_pixels(["image", "x"])
    ('image', 'pixels')
    """
    return next(name for name in ("image", "pixels", "array") if name not in taken)


def label_levels(levels: Iterable[xr.DataArray]) -> xr.DataTree:
    """Return a tree with a node per level: ``0``, ``1`` ..., each with its own coordinates."""
    datasets = {}
    for i, level in enumerate(levels):
        name = name_pixels([*map(str, level.dims), *map(str, level.coords)])
        datasets[str(i)] = level.to_dataset(name=name)
    return xr.DataTree.from_dict(datasets)
