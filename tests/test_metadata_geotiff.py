"""Where on the map GeoTIFF says that one file is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack.collection.merge_metadata import describe_file
from metadata_files import (
    PLACED,
    UTM,
    describe,
    raw_of,
)
from shared_data import SHARED, needs_shared


@pytest.mark.parametrize(
    ("tags", "translation"),
    [
        (PLACED, {"x": 1005.0, "y": 490.0}),
        (PLACED | {"GTRasterTypeGeoKey": 2}, {"x": 1000.0, "y": 500.0}),
        (PLACED | {"ModelTiepoint": [2, 1, 0, 1000.0, 500.0, 0]}, {"x": 985.0, "y": 510.0}),
        (
            UTM | {"ModelTransformation": [[10, 0, 0, 7], [0, -20, 0, 8], [0] * 4, [0, 0, 0, 1]]},
            {"x": 12.0, "y": -2.0},
        ),
    ],
    ids=["area", "point", "tied-inside", "matrix"],
)
def test_geotiff_gives_centres_of_pixels(tags: dict[str, Any], translation: dict[str, Any]) -> None:
    found = describe(geotiff=tags)
    assert found.scale == {"x": 10.0, "y": -20.0}
    assert found.translation == translation
    assert found.units == {"x": "meter", "y": "meter"}
    assert not found.warnings


def test_control_points_are_a_warning() -> None:
    found = describe(geotiff=PLACED | {"ModelTiepoint": [[0, 0, 0, 1, 2, 0], [9, 9, 0, 3, 4, 0]]})
    assert found.scale == {"x": 10.0, "y": -20.0}
    assert not found.translation
    assert "by 2 ground control points, which are not read" in found.warnings[0]


@pytest.mark.parametrize(
    ("keys", "unit"),
    [
        ({"GTModelTypeGeoKey": 2, "GeogAngularUnitsGeoKey": 9102}, "degree"),
        ({"GTModelTypeGeoKey": 1, "GeogAngularUnitsGeoKey": 9102}, None),
        ({"GTModelTypeGeoKey": 1, "ProjLinearUnitsGeoKey": 32767}, None),
        ({}, None),
    ],
    ids=["degree", "projected-without-unit", "user-defined", "nothing"],
)
def test_the_unit_of_a_map_is_known_or_absent(keys: dict[str, Any], unit: str | None) -> None:
    found = describe(geotiff=keys | {"ModelPixelScale": [0.5, 0.5, 0]})
    assert found.scale == {"x": 0.5, "y": -0.5}
    assert found.units.get("x") == unit
    assert not found.translation


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ({"ModelPixelScale": [0.0, 1.0, 0]}, "should be positive, but got [0.0, 1.0, 0.0]"),
        ({"ModelPixelScale": [math.nan, 1.0, 0]}, "should be positive"),
        ({"ModelPixelScale": [1.0]}, "should be positive"),
        ({"ModelTransformation": [1.0, 2.0]}, "should have 16 numbers, but got 2"),
        ({"ModelTransformation": np.ones((4, 4)).tolist()}, "maps no area"),
        ({"ModelTransformation": [[1, 2, 0, 3], [4, 5, 0, 6], [0] * 4, [0] * 4]}, "turned against"),
        ({"ModelPixelScale": "wide"}, "ModelPixelScale holds no numbers, but 'wide'"),
    ],
    ids=["zero", "nan", "short", "short-matrix", "flat", "turned", "text"],
)
def test_a_map_that_cannot_be_is_left_out_and_reported(tags: dict[str, Any], fault: str) -> None:
    found = describe(geotiff=UTM | tags)
    assert not found.scale
    assert len(found.warnings) == 1
    assert fault in found.warnings[0]


# -- against rasterio ----------------------------------------------------------------------------

MAPS = sorted((SHARED / "single").glob("geotiff*/*/*")) if SHARED is not None else []


@needs_shared
@pytest.mark.filterwarnings("ignore::UserWarning")  # rasterio's, of files that have no place
@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.name)
def test_a_map_lies_where_rasterio_puts_it(path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    with tifffile.TiffFile(path) as tif:
        raw = raw_of(tif)
        dims, shape = tuple(tif.series[0].axes.lower()), tif.series[0].shape
    found = describe_file(raw, dims, shape, url=str(path))
    try:
        file = rasterio.open(path)
    except rasterio.errors.RasterioIOError:
        pytest.skip("this GDAL lacks the codec")
    with file:
        if "affine" not in found.facts:
            assert file.transform.is_identity or file.gcps[0]
            assert not {"x", "y"} & found.translation.keys()
        else:
            a, b, c, d, e, f = file.transform[:6]
            assert found.facts["affine"] == pytest.approx([a, b, c, d, e, f], rel=1e-12)
            assert (found.translation["x"], found.translation["y"]) == pytest.approx(
                (c + a / 2 + b / 2, f + d / 2 + e / 2), abs=1e-6
            )
            assert (found.scale["x"], found.scale["y"]) == pytest.approx((a, e))
        crs = found.facts.get("crs")
        theirs = file.crs or file.gcps[1]
        if crs is not None:
            ours = rasterio.crs.CRS.from_user_input(crs)
            assert ours.to_epsg() == theirs.to_epsg()
            assert ours.is_projected == theirs.is_projected


@given(
    affine=st.tuples(*[st.floats(-1e3, 1e3)] * 6).filter(
        lambda m: abs(m[0] * m[4] - m[1] * m[3]) > 1e-3
    ),
    is_point=st.booleans(),
)
def test_a_turned_image_has_its_affine_and_no_axes(
    affine: tuple[float, ...], is_point: bool
) -> None:
    a, b, c, d, e, f = affine
    matrix = [[a, b, 0, c], [d, e, 0, f], [0] * 4, [0, 0, 0, 1]]
    tags = UTM | {"ModelTransformation": matrix, "GTRasterTypeGeoKey": 2 if is_point else 1}
    found = describe(geotiff=tags)
    half = 0.5 if is_point else 0.0
    corner = (c - half * (a + b), f - half * (d + e))
    assert found.facts["affine"] == pytest.approx([a, b, corner[0], d, e, corner[1]], abs=1e-9)
    is_turned = b != 0 or d != 0
    assert ("x" in found.scale) == (not is_turned)
    assert bool(found.warnings) == is_turned


def test_the_map_is_named_by_its_code() -> None:
    assert describe(geotiff=UTM | {"ProjectedCSTypeGeoKey": 32618}).facts == {"crs": "EPSG:32618"}
    assert describe(geotiff=UTM | {"ProjectedCSTypeGeoKey": 32767}).facts == {}
    assert describe(geotiff={"GTModelTypeGeoKey": 2, "GeographicTypeGeoKey": 4326}).facts == {
        "crs": "EPSG:4326"
    }


def test_a_coarser_level_keeps_the_corner() -> None:
    found = describe("yx", (2, 5), geotiff=PLACED, base_shape=(4, 20))
    assert found.facts["affine"] == [40.0, 0.0, 1000.0, 0.0, -40.0, 500.0]
