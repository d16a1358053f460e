"""How each peer opens a collection as a lazy array, as its own documentation says.

A *place* is a local folder, or ``s3://bucket/folder``. Imports are inside the functions: each
contender runs in a process of its own and pays for no other.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from glob import glob
from typing import Any

from benchmarks.case import OURS
from benchmarks.files import PATTERN, REGEX

__all__ = ["PEERS", "RECIPE_IMAGEIO", "RECIPE_TIFFFILE", "TIFFFILE_STORE", "open_ours"]

Open = Callable[[str], Any]

RECIPE_TIFFFILE = "2019 recipe, tifffile"
RECIPE_IMAGEIO = "2019 recipe, imageio"
DASK_IMAGE = "dask-image"
DASK_ARRAY_IMAGE = "dask.array.image"
INTAKE_XARRAY = "intake-xarray"
TIFFFILE_STORE = "tifffile's sequence store"
BIOIO = "bioio-tiff-glob"


def open_ours(place: str, **options: Any) -> Any:
    """Open with this package."""
    from intake_tiffstack import open_stack

    stack = open_stack(f"{place}/*.tif", pattern=PATTERN, concat_dim=["c", "t"], **options)
    return stack.to_dask()


def open_recipe(place: str, imread: Callable[[str], Any]) -> Any:
    """Open by the recipe of 2019: one delayed read per file, combined by ``da.block``."""
    import dask
    import dask.array as da
    import numpy as np

    names = sorted(_list(place))
    cells = [_cell(name) for name in names]
    sample = imread(names[0])
    lazy_read = dask.delayed(imread)
    grid = np.empty([n + 1 for n in np.max(cells, axis=0)] + [1] * sample.ndim, dtype=object)
    for name, cell in zip(names, cells, strict=True):
        lazy = da.from_delayed(lazy_read(name), shape=sample.shape, dtype=sample.dtype)
        grid[(*cell, *[0] * sample.ndim)] = lazy
    return da.block(grid.tolist())


def open_recipe_tifffile(place: str) -> Any:
    """Open by the recipe, reading with tifffile."""
    import tifffile

    return open_recipe(place, _remote(place, tifffile.imread))


def open_recipe_imageio(place: str) -> Any:
    """Open by the recipe, reading with imageio."""
    import imageio.v3

    imread = functools.partial(imageio.v3.imread, plugin="tifffile")  # else page 0 of an object
    return open_recipe(place, _remote(place, imread))


def open_dask_image(place: str) -> Any:
    """Open with dask-image, which treats each file as one plane."""
    from dask_image.imread import imread

    return imread(f"{place}/*.tif")


def open_dask_array_image(place: str) -> Any:
    """Open with dask.array.image: one new axis, files in alphabetical order."""
    import tifffile
    from dask.array.image import imread

    return imread(f"{place}/*.tif", imread=tifffile.imread)  # faster than its default


def open_intake_xarray(place: str) -> Any:
    """Open with intake-xarray; it reads the first page of each file."""
    from intake_xarray import ImageSource

    pattern = PATTERN.replace("{}", "scan")  # it cannot leave a field without a name
    return ImageSource(f"{place}/{pattern}", concat_dim=["c", "t"]).to_dask().data


def open_tifffile_store(place: str) -> Any:
    """Open with tifffile's sequence of files as a Zarr store."""
    import dask.array as da
    import tifffile
    import zarr

    pattern = r"_ch(?P<c>\d+)_CAM1_stack(?P<t>\d+)_"
    sequence = tifffile.TiffSequence(f"{place}/*.tif", pattern=pattern)
    return da.from_zarr(zarr.open(sequence.aszarr(), mode="r"))


def open_bioio(place: str, dims: str) -> Any:
    """Open with bioio-tiff-glob, which has time before channel."""
    import pandas as pd
    from bioio_tiff_glob import Reader

    def find_cell(path: str) -> Any:
        return pd.Series([0, *_cell(path)], index=["S", "C", "T"])

    array = Reader(f"{place}/*.tif", indexer=find_cell, single_file_dims=tuple(dims)).dask_data
    return array.swapaxes(0, 1)


PEERS: dict[str, Open] = {
    RECIPE_TIFFFILE: open_recipe_tifffile,
    RECIPE_IMAGEIO: open_recipe_imageio,
    DASK_IMAGE: open_dask_image,
    DASK_ARRAY_IMAGE: open_dask_array_image,
    INTAKE_XARRAY: open_intake_xarray,
    TIFFFILE_STORE: open_tifffile_store,
    BIOIO: functools.partial(open_bioio, dims="ZYX"),
}
"""All peers, for files that hold volumes."""

ALL: dict[str, Open] = {OURS: functools.partial(open_ours, file_dims="zyx"), **PEERS}
"""This package and all peers, for files that hold volumes."""

MAIN: dict[str, Open] = {
    name: ALL[name] for name in (OURS, RECIPE_TIFFFILE, RECIPE_IMAGEIO, TIFFFILE_STORE)
}
"""A subset, for work in which the others would show nothing new."""

ALL_PLANES: dict[str, Open] = {
    **ALL,
    OURS: functools.partial(open_ours, file_dims="yx"),
    BIOIO: functools.partial(open_bioio, dims="YX"),
}
"""The same, for files that hold one plane."""


def _list(place: str) -> list[str]:
    if "://" not in place:
        return glob(f"{place}/*.tif")
    import fsspec

    return [file.full_name for file in fsspec.open_files(f"{place}/*.tif")]


def _remote(place: str, imread: Callable[[Any], Any]) -> Callable[[str], Any]:
    """Return *imread*, for an object store by way of fsspec's file objects."""
    if "://" not in place:
        return imread

    def read(url: str) -> Any:
        import fsspec

        with fsspec.open(url) as file:
            return imread(file)

    return read


_find_cell = re.compile(REGEX).search


def _cell(path: str) -> tuple[int, int]:
    """Return channel and time point of a file."""
    found = _find_cell(path)
    if found is None:
        raise ValueError(f"{path} is not named as the pattern says")
    return int(found["c"]), int(found["t"])
