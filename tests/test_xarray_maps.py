"""Maps: rioxarray reads CRS and transform without help; rasterio is the truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from rasterio.transform import Affine

from intake_tiffstack import TiffStackSource, export, open_stack
from intake_tiffstack.driver import TiffStackZarrSource
from intake_tiffstack.errors import OptionError
from intake_tiffstack.labelled import crs as crs_module

SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m"
# rasterio and rioxarray multiply affines with an operator that affine 3 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

EASTING = "projection_x_coordinate"
NORTH_UP = Affine(30, 0, 500_000, 0, -30, 4_600_000)

MAPS = {
    "projected": ("EPSG:32633", NORTH_UP, "meter", EASTING),
    "geographic": ("EPSG:4326", Affine(0.25, 0, -120.5, 0, -0.25, 45.25), "degree", "longitude"),
    "no code": (SINUSOIDAL, Affine(463.3, 0, -1e6, 0, -463.3, 5e6), "meter", EASTING),
    "feet": ("EPSG:2263", Affine(10, 0, 9e5, 0, -10, 2e5), "US_survey_foot", EASTING),
}  # fmt: skip


def write_map(path: Path, crs: Any, transform: Any) -> str:
    pixels = np.arange(20, dtype="int16").reshape(1, 4, 5)
    with rasterio.open(
        path, "w", driver="GTiff", height=4, width=5, count=1, dtype="int16",
        crs=crs, transform=transform,
    ) as file:  # fmt: skip
        file.write(pixels)
    return str(path)


@pytest.mark.parametrize(("crs", "transform", "unit", "name"), MAPS.values(), ids=MAPS)
def test_rioxarray_reads_place_and_system(
    tmp_path: Path, crs: str, transform: Affine, unit: str, name: str
) -> None:
    url = write_map(tmp_path / "a.tif", crs, transform)
    named = open_stack(url).to_xarray()
    with rasterio.open(url) as truth:
        assert named.rio.crs == truth.crs
        assert named.rio.transform() == truth.transform
        assert named.rio.bounds() == pytest.approx(tuple(truth.bounds))
    assert named.attrs["grid_mapping"] == "spatial_ref"
    assert named.spatial_ref.attrs["grid_mapping_name"]
    assert named.x.attrs == {"axis": "X", "standard_name": name, "units": unit}
    assert named.y.attrs["axis"] == "Y"


def test_a_field_with_the_name_of_the_grid_mapping_is_an_error(tmp_path: Path) -> None:
    write_map(tmp_path / "a_1.tif", "EPSG:32633", NORTH_UP)
    stack = open_stack(str(tmp_path), pattern="a_{spatial_ref:d}.tif", concat_dim="spatial_ref")
    with pytest.raises(OptionError, match="'spatial_ref' has the name of the coordinate"):
        stack.to_xarray()


@pytest.mark.parametrize(
    ("options", "transform"),
    [
        ({"translation": {"x": 5, "y": 95}}, "-10.0 30.0 0.0 110.0 0.0 -30.0"),
        (
            {"scale": {"x": 2, "y": -2}, "translation": {"x": 1, "y": 9}},
            "0.0 2.0 0.0 10.0 0.0 -2.0",
        ),
        ({"scale": {"x": 2, "y": 2}}, None),
        ({"coords": {"x": [0, 1, 2, 3, 4]}}, None),
    ],
)
def test_the_transform_follows_options(
    tmp_path: Path, options: dict[str, Any], transform: str | None
) -> None:
    named = open_stack(write_map(tmp_path / "a.tif", "EPSG:32633", NORTH_UP), **options).to_xarray()
    assert named.spatial_ref.attrs.get("GeoTransform") == transform
    a, _, c, _, e, f = named.rio.transform()[:6]
    np.testing.assert_allclose(named.x, c + a * (np.arange(5) + 0.5))
    np.testing.assert_allclose(named.y, f + e * (np.arange(4) + 0.5))


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326", "EPSG:32633"])
def test_a_warped_map_is_written_with_its_own_system(tmp_path: Path, crs: str) -> None:
    stack = open_stack(write_map(tmp_path / "a.tif", "EPSG:32633", NORTH_UP))
    warped = stack.to_xarray().rio.reproject(crs)
    for name, like in {"like": stack, "alone": None}.items():
        export(warped, tmp_path / name, like=like)
        copy = TiffStackZarrSource(str(tmp_path / name)).to_xarray()
        assert copy.rio.crs == rasterio.crs.CRS.from_user_input(crs)
        assert copy.rio.transform().almost_equals(warped.rio.transform(), 1e-6)
        if like is not None:
            assert copy.x.attrs["units"] == ("degree" if crs == "EPSG:4326" else "meter")
            assert (copy.attrs["crs"] == "EPSG:32633") == (crs == "EPSG:32633")


def test_an_image_that_is_turned_keeps_its_transform(tmp_path: Path) -> None:
    turned = Affine(8.66, 5.0, 5e5, 5.0, -8.66, 4.6e6)
    url = write_map(tmp_path / "a.tif", "EPSG:32633", turned)
    with pytest.warns(UserWarning, match="turned against the map"):
        named = open_stack(url).to_xarray()
    assert named.rio.transform().almost_equals(turned)


def test_a_map_saved_as_netcdf_is_one_to_rioxarray_and_gdal(tmp_path: Path) -> None:
    named = open_stack(write_map(tmp_path / "a.tif", "EPSG:32633", NORTH_UP)).to_xarray()
    named.to_dataset(name="height").to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as opened:
        assert opened.height.rio.crs.to_epsg() == 32633
        assert opened.height.rio.transform() == NORTH_UP
    again = named.rio.reproject("EPSG:4326")
    assert again.rio.crs.to_epsg() == 4326


def test_a_copy_is_a_map_too(tmp_path: Path) -> None:
    source = TiffStackSource(write_map(tmp_path / "a.tif", "EPSG:32633", NORTH_UP))
    copy = source.export(str(tmp_path / "a.zarr")).to_xarray()
    assert copy.rio.crs.to_epsg() == 32633
    assert copy.rio.transform() == NORTH_UP
    xr.testing.assert_identical(copy.spatial_ref, source.to_xarray().spatial_ref)


def test_without_pyproj_a_code_is_kept(tmp_path: Path) -> None:
    url = write_map(tmp_path / "a.tif", "EPSG:32633", NORTH_UP)
    crs_module._parse.cache_clear()
    with patch.dict(sys.modules, {"pyproj": None}):
        named = open_stack(url).to_xarray()
    crs_module._parse.cache_clear()
    assert named.spatial_ref.attrs["spatial_ref"] == "EPSG:32633"
    assert named.x.attrs["units"] == "meter"
    assert named.rio.crs.to_epsg() == 32633


def test_pixels_off_the_map_have_no_grid_mapping(tmp_path: Path) -> None:
    url = write_map(tmp_path / "a.tif", None, NORTH_UP)
    named = open_stack(url).to_xarray()
    assert "crs_wkt" not in named.spatial_ref.attrs
    assert named.rio.transform() == NORTH_UP
    assert named.rio.crs is None
