"""Maps: place without keys, systems without a code, codes of another unit; against rasterio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.metadata.crs import name_crs

PLACE = [(33550, "d", 3, (30.0, 20.0, 0.0), True), (33922, "d", 6, (0, 0, 0, 5e5, 4.6e6, 0), True)]
MATRIX = (30, 0, 0, 5e5, 0, -20, 0, 4.6e6, 0, 0, 0, 0, 0, 0, 0, 1)


def write_map(path: Path, tags: list[Any], **options: Any) -> None:
    tifffile.imwrite(path, np.zeros((4, 6), "u1"), metadata=None, extratags=tags, **options)


@pytest.mark.parametrize(
    "tags",
    [
        PLACE,
        [(34264, "d", 16, MATRIX, True)],
        [(33550, "d", 3, (1.0, 1.0, 0.0), True), (33922, "d", 6, (0, 0, 0, 7, 9, 0), True)],
        [(33550, "d", 3, (0.5, 0.5, 0.0), True), (33922, "d", 6, (2, 1, 0, -180, 90, 0), True)],
    ],
    ids=["scale-and-tie", "matrix", "a-pixel-of-one", "tied-inside"],
)
def test_tags_without_keys_place_the_array(tmp_path: Path, tags: list[Any]) -> None:
    rasterio = pytest.importorskip("rasterio")
    write_map(tmp_path / "a.tif", tags, resolution=(300.5, 300.5), resolutionunit="INCH")
    stack = open_stack(str(tmp_path / "a.tif"))
    with rasterio.open(tmp_path / "a.tif") as file:
        assert stack.metadata["affine"] == list(file.transform)[:6]
        first, last = file.transform @ (0.5, 0.5), file.transform @ (5.5, 3.5)
    named = stack.to_xarray()
    assert (named.x.values[[0, -1]].tolist(), named.y.values[[0, -1]].tolist()) == (
        [first[0], last[0]],
        [first[1], last[1]],
    )
    assert not stack.metadata["units"]  # not that of the resolution on paper
    assert stack.metadata["crs"] is None


def test_a_turned_map_has_no_size_on_paper(tmp_path: Path) -> None:
    matrix = (30, 5, 0, 5e5, 5, -20, 0, 4.6e6, 0, 0, 0, 0, 0, 0, 0, 1)
    write_map(
        tmp_path / "a.tif",
        [(34264, "d", 16, matrix, True)],
        resolution=(300.5, 300.5),
        resolutionunit="INCH",
    )
    with pytest.warns(UserWarning, match="turned against the map"):
        assert open_stack(str(tmp_path / "a.tif")).scale == {}


WITHOUT_CODE = {
    "sinusoidal": "+proj=sinu +lon_0=10 +x_0=5 +y_0=7 +R=6371007.181 +units=m",
    "albers": "+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +datum=WGS84 +units=m",
    "lambert": "+proj=lcc +lat_1=33 +lat_2=45 +lat_0=40 +lon_0=-97 +x_0=1000 +ellps=GRS80 +units=m",
    "lambert-1sp": "+proj=lcc +lat_1=46 +lat_0=46 +lon_0=3 +k_0=0.999 +x_0=6e5 +ellps=GRS80",
    "polar": "+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0=30 +datum=WGS84 +units=m",
    "polar-north": "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +datum=WGS84 +units=m",
    "equal-area": "+proj=laea +lat_0=45 +lon_0=-100 +R=6370997 +units=m",
    "mercator": "+proj=tmerc +lat_0=1 +lon_0=11 +k_0=0.9999 +x_0=5e5 +ellps=bessel +units=m",
    "feet": "+proj=tmerc +lat_0=30 +lon_0=-84 +k_0=0.9999 +x_0=7e5 +datum=NAD83 +units=us-ft",
    "cylinder": "+proj=cea +lat_ts=30 +lon_0=0 +datum=WGS84 +units=m",
    "sphere": "+proj=longlat +R=6371000",
    "oblique": "+proj=omerc +lat_0=4 +lonc=-100 +alpha=53 +gamma=51 +ellps=GRS80 +no_uoff",
    "oblique-centre": "+proj=omerc +lat_0=4 +lonc=-100 +alpha=53 +x_0=5e5 +y_0=4e5 +ellps=GRS80",
    "paris": "+proj=lcc +lat_1=46 +lat_0=46 +lon_0=0 +k_0=0.999 +x_0=6e5 +ellps=GRS80 +pm=paris",
    "paris-geographic": "+proj=longlat +ellps=GRS80 +pm=paris",
    "mollweide": "ESRI:54009",
    "goode": "+proj=igh +lon_0=0 +datum=WGS84 +units=m",
    "zone": "+proj=utm +zone=17 +ellps=intl",
    "zone-south": "ESRI:102401",
}


def write_with_crs(path: Path, crs: str) -> Any:
    """Write a small map and return the system that rasterio reads from it."""
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(
        path, "w", driver="GTiff", height=4, width=5, count=1, dtype="uint8", crs=crs,
        transform=rasterio.Affine(0.5, 0, -100, 0, -0.5, 40),
    ) as file:  # fmt: skip
        file.write(np.zeros((1, 4, 5), "u1"))
    with rasterio.open(path) as file:
        return file.crs


@pytest.mark.parametrize("definition", WITHOUT_CODE.values(), ids=WITHOUT_CODE)
def test_a_system_without_a_code_is_wkt(tmp_path: Path, definition: str) -> None:
    rasterio = pytest.importorskip("rasterio")
    warp = pytest.importorskip("rasterio.warp")
    pyproj = pytest.importorskip("pyproj")
    path = tmp_path / "a.tif"
    theirs = write_with_crs(path, definition)
    wkt = open_stack(str(path)).metadata["crs"]
    assert "CRS[" in wkt
    ours = rasterio.crs.CRS.from_wkt(wkt)
    assert ours.is_projected == theirs.is_projected
    if ours.is_projected:
        assert ours.linear_units_factor[1] == pytest.approx(theirs.linear_units_factor[1])
    ball = pyproj.CRS.from_wkt(wkt).geodetic_crs.to_wkt()
    there = [[-100.0, -80.0, 12.0], [-72.0, -75.0, -80.0]]
    if "lat_0=-90" not in definition:
        there[1] = [40.0, 35.0, 50.0]
    points = [warp.transform(ball, crs.to_wkt(), *there) for crs in (ours, theirs)]
    np.testing.assert_allclose(points[0], points[1], atol=0.01)


DATUMS = {
    "NAD27": "+datum=NAD27",
    "NAD83": "+datum=NAD83",
    "WGS84": "+datum=WGS84",
    "potsdam": "+datum=potsdam",
    "three": "+ellps=bessel +towgs84=598.1,73.7,418.2",
    "seven": "+ellps=airy +towgs84=446.448,-125.157,542.06,0.15,0.247,0.842,-20.489",
}


@pytest.mark.parametrize("datum", DATUMS.values(), ids=DATUMS)
def test_a_system_without_a_code_keeps_its_datum(tmp_path: Path, datum: str) -> None:
    pyproj = pytest.importorskip("pyproj")
    path = tmp_path / "a.tif"
    theirs = pyproj.CRS.from_wkt(
        write_with_crs(path, f"+proj=laea +lat_0=45 +lon_0=-100 {datum}").to_wkt()
    )
    ours = pyproj.CRS.from_wkt(open_stack(str(path)).metadata["crs"])
    points = [
        pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(1e5, 1e5)
        for crs in (ours, theirs)
    ]
    np.testing.assert_allclose(points[0], points[1], atol=1e-9)


LAMBERT_II = {
    "GTModelTypeGeoKey": 1, "ProjectedCSTypeGeoKey": 32767, "GeographicTypeGeoKey": 32767,
    "GeogSemiMajorAxisGeoKey": 6378249.2, "GeogInvFlatteningGeoKey": 293.466021293627,
    "GeogAngularUnitsGeoKey": 9105, "GeogGeodeticDatumGeoKey": 6807, "ProjCoordTransGeoKey": 9,
    "ProjLinearUnitsGeoKey": 9001, "ProjNatOriginLongGeoKey": 0.0, "ProjNatOriginLatGeoKey": 52.0,
    "ProjFalseEastingGeoKey": 600000.0, "ProjFalseNorthingGeoKey": 2200000.0,
    "ProjScaleAtNatOriginGeoKey": 0.99987742,
}  # fmt: skip


@pytest.mark.parametrize(
    "meridian",
    [
        {"GeogPrimeMeridianLongGeoKey": 0.0367},  # GDAL's of IGNF:LAMBE
        {"GeogPrimeMeridianLongGeoKey": 2.5969213},
        {"GeogPrimeMeridianGeoKey": 8903},
        {"GeogPrimeMeridianGeoKey": 8903, "GeogGeodeticDatumGeoKey": 32767},
    ],
)
def test_a_map_in_grads_lies_on_its_meridian(meridian: dict[str, Any]) -> None:
    pyproj = pytest.importorskip("pyproj")
    ours = name_crs(LAMBERT_II | meridian)
    assert ours is not None
    x, y = pyproj.Transformer.from_crs(ours, "EPSG:27572").transform(7e5, 2e6)
    assert (x, y) == pytest.approx((7e5, 2e6), abs=0.01)


def test_positions_in_grads_are_no_degrees() -> None:
    pyproj = pytest.importorskip("pyproj")
    tags = LAMBERT_II | {"GTModelTypeGeoKey": 2, "GeogPrimeMeridianGeoKey": 8903}
    axes = pyproj.CRS(name_crs(tags)).axis_info
    assert [axis.unit_name for axis in axes] == ["grad", "grad"]


def test_a_datum_without_a_code_has_the_name_of_the_citation() -> None:
    pyproj = pytest.importorskip("pyproj")
    tags = {
        "GTModelTypeGeoKey": 2, "GeographicTypeGeoKey": 32767,
        "GeogCitationGeoKey": "GCS Name = GCS_Moon_2000|Datum = D_Moon_2000|Primem = Zero|",
        "GeogSemiMajorAxisGeoKey": 1737400.0, "GeogInvFlatteningGeoKey": 0.0,
    }  # fmt: skip
    ours = pyproj.CRS(name_crs(tags))
    assert (ours.name, ours.datum.name) == ("GCS_Moon_2000", "D_Moon_2000")


def test_a_system_that_is_not_read_is_a_warning(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=4, width=5, count=1, dtype="uint8",
        crs="+proj=tmerc +axis=wsu +lon_0=29 +ellps=WGS84",
        transform=rasterio.Affine(0.5, 0, -100, 0, -0.5, 40),
    ) as file:  # fmt: skip
        file.write(np.zeros((1, 4, 5), "u1"))
    with pytest.warns(UserWarning, match="kind that is not read"):
        assert open_stack(str(path)).metadata["crs"] is None


def test_what_cf_cannot_say_is_no_warning(tmp_path: Path) -> None:
    pytest.importorskip("pyproj")
    path = tmp_path / "a.tif"
    write_map(path, [*PLACE, (34735, "H", 20, keys(29873, 9001), True)])
    assert "Hotine" in open_stack(str(path)).to_xarray().spatial_ref.attrs["crs_wkt"]


def keys(code: int, unit: int) -> tuple[int, ...]:
    return (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, code, 3076, 0, 1, unit)


@pytest.mark.parametrize(
    ("code", "unit", "is_its_own"),
    [
        (26967, 9003, False),
        (32633, 9002, False),
        (2263, 9003, True),
        (2263, 9001, False),
        (26967, 9001, True),
        (32633, 9001, True),
    ],
)
def test_a_code_stands_only_for_its_own_unit(
    tmp_path: Path, code: int, unit: int, is_its_own: bool
) -> None:
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("pyproj")
    path = tmp_path / "a.tif"
    write_map(path, [*PLACE, (34735, "H", 20, keys(code, unit), True)])
    with rasterio.open(path) as file:
        assert (file.crs.to_epsg() == code) == is_its_own
        factor = file.crs.linear_units_factor[1]
    metadata = open_stack(str(path)).metadata
    ours = rasterio.crs.CRS.from_user_input(metadata["crs"])
    assert (metadata["crs"] == f"EPSG:{code}") == is_its_own
    assert (ours.to_epsg() == code) == is_its_own
    assert ours.linear_units_factor[1] == pytest.approx(factor)
    assert metadata["units"]["x"] == {9001: "meter", 9002: "foot", 9003: "US_survey_foot"}[unit]


@pytest.mark.parametrize(
    "shift", [("a", 1.0, 2.0), ((1,), 1.0, 2.0), (float("nan"), 1.0, 2.0), 5.0]
)
def test_a_shift_that_is_none_is_ignored(shift: Any) -> None:
    pytest.importorskip("pyproj")
    tags = LAMBERT_II | {"GeogPrimeMeridianGeoKey": 8903, "GeogGeodeticDatumGeoKey": 32767}
    assert name_crs(tags | {"GeogTOWGS84GeoKey": shift}) == name_crs(tags)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"GTModelTypeGeoKey": 3},
        LAMBERT_II | {"GeogPrimeMeridianGeoKey": 8903, "ProjectionGeoKey": 1133},
        {"GTModelTypeGeoKey": 1, "ProjectedCSTypeGeoKey": 32767},
        {"GTModelTypeGeoKey": 2, "GeographicTypeGeoKey": 32767},
        {"GTModelTypeGeoKey": 1, "ProjCoordTransGeoKey": 24, "GeogSemiMajorAxisGeoKey": "wide"},
        {"GTModelTypeGeoKey": 1, "ProjCoordTransGeoKey": 11, "GeographicTypeGeoKey": 4326,
         "ProjStdParallel1GeoKey": 400.0, "ProjStdParallel2GeoKey": -400.0},
    ],
)  # fmt: skip
def test_keys_that_describe_no_system_name_none(tags: dict[str, Any]) -> None:
    pytest.importorskip("pyproj")
    assert name_crs(tags) is None


@pytest.mark.parametrize(
    ("resolution", "unit"),
    [((10, 10), "CENTIMETER"), ((25.4, 25.4), "INCH"), ((10, 10.0001), "CENTIMETER")],
)
def test_a_pixel_per_millimetre_means_that_nothing_is_known(
    tmp_path: Path, resolution: tuple[float, float], unit: str
) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"resolution": resolution, "resolutionunit": unit}
    tifffile.imwrite(path, np.zeros((4, 6), "u1"), metadata=None, **options)
    assert open_stack(str(path)).scale == {}


@pytest.mark.parametrize(
    ("unit", "per_unit", "size"),
    [("cm", 0.5, 2.0), ("inch", 300.0, 1 / 300), ("cm", 10.0, 0.1), ("inch", 72.0, 1 / 72)],
)
def test_calibration_of_imagej_is_kept_whatever_its_size(
    tmp_path: Path, unit: str, per_unit: float, size: float
) -> None:
    path = tmp_path / "a.tif"
    said = f"ImageJ=1.54p\nunit={unit}\nyunit=nm\n"
    with tifffile.TiffWriter(path, byteorder=">") as tif:
        tif.write(
            np.zeros((16, 16), "u1"), metadata=None, description=said,
            resolution=(per_unit, 1 / 7), resolutionunit="CENTIMETER",
        )  # fmt: skip
    stack = open_stack(str(path))
    assert stack.scale == pytest.approx({"y": 7.0, "x": size})
    assert stack.metadata["units"] == {
        "y": "nanometer",
        "x": {"cm": "centimeter", "inch": "inch"}[unit],
    }
