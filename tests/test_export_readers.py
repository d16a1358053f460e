"""Other readers see the same pixels and dims in what is exported, in both formats."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numcodecs
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

from intake_tiffstack import open_stack

ts = pytest.importorskip("tensorstore")

LAYOUTS: dict[str, dict[str, Any]] = {
    "default": {},
    "odd chunks": {"chunks": (1, 2, 5, 7)},
    "none": {"compressor": None},
    "gzip": {"compressor": numcodecs.GZip(1)},
    "shards": {"chunks": (1, 1, 4, 8), "shards": (2, 3, 8, 16)},
}
COPIES = pytest.mark.parametrize(
    ("zarr_format", "layout"),
    [
        pytest.param(zarr_format, layout, id=f"v{zarr_format} {name}")
        for name, layout in LAYOUTS.items()
        for zarr_format in ([3] if name == "shards" else [2, 3])  # format 2 has no shards
    ],
)
DIMS = ("c", "t", "y", "x")
PIXELS = np.random.default_rng(7).integers(0, 2**16, (2, 3, 11, 13), np.uint16)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """Return a folder with six TIFFs, below which a copy is written."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for c, t in np.ndindex(2, 3):
        tifffile.imwrite(raw / f"ch{c}_t{t}.tif", PIXELS[c, t], photometric="minisblack")
    return tmp_path / "group.zarr"


def export(group: Path, zarr_format: Any, layout: dict[str, Any]) -> Path:
    stack = open_stack(
        str(group.parent / "raw" / "ch{c:d}_t{t:d}.tif"), concat_dim=["c", "t"], file_dims="yx"
    )
    stack.export(group / "pixels", zarr_format=zarr_format, **layout)
    return group / "pixels"


@COPIES
def test_dask_and_zarr_see_the_pixels(group: Path, zarr_format: Any, layout: Any) -> None:
    copy = export(group, zarr_format, layout)
    np.testing.assert_array_equal(da.from_zarr(copy).compute(), PIXELS)
    opened = zarr.open_array(copy, mode="r")
    np.testing.assert_array_equal(opened[:], PIXELS)
    dims = opened.attrs.get("_ARRAY_DIMENSIONS") or opened.metadata.dimension_names  # type: ignore[union-attr]
    assert tuple(dims) == DIMS


@COPIES
def test_tensorstore_sees_the_pixels_and_the_dims_that_it_knows(
    group: Path, zarr_format: Any, layout: Any
) -> None:
    copy = export(group, zarr_format, layout)
    driver = "zarr3" if zarr_format == 3 else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{copy}/"}}
    opened = ts.open(spec, read=True).result()
    np.testing.assert_array_equal(opened.read().result(), PIXELS)
    if zarr_format == 3:  # tensorstore does not know _ARRAY_DIMENSIONS
        assert opened.domain.labels == DIMS


@COPIES
def test_xarray_sees_a_copy_in_a_group_as_a_variable(
    group: Path, zarr_format: Any, layout: Any
) -> None:
    zarr.create_group(group, zarr_format=zarr_format)
    export(group, zarr_format, layout)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        variable = xr.open_zarr(group, consolidated=False)["pixels"]
    assert variable.dims == DIMS
    np.testing.assert_array_equal(variable.values, PIXELS)
