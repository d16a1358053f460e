"""World files and GDAL's .aux.xml beside a TIFF, as rasterio reads them."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - makes DataArray.rio
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from intake_tiffstack import open_stack
from intake_tiffstack.errors import OptionError, TiffStackWarning
from servers import serve_folder

PIXELS = np.arange(20, dtype=np.int16).reshape(4, 5)
UTM = Affine(30.0, 0.0, 440_720.0, 0.0, -30.0, 3_751_320.0)
WORLD = "30.0\n0.0\n0.0\n-30.0\n440735.0\n3751305.0\n"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return a TIFF without georeference."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, metadata=None)
    return path


def write_bands(path: Path, *bands: str) -> Path:
    """Write a TIFF of as many bands as there are XML texts for its .aux.xml, return its path."""
    shape = (*PIXELS.shape, len(bands)) if len(bands) > 1 else PIXELS.shape
    pixels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    tifffile.imwrite(
        path,
        pixels,
        metadata=None,
        photometric="minisblack",
        planarconfig="contig" if len(bands) > 1 else None,
    )
    texts = [f'<PAMRasterBand band="{i}">{text}</PAMRasterBand>' for i, text in enumerate(bands, 1)]
    path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{''.join(texts)}</PAMDataset>")
    return path


def write_pam(path: Path, **profile: Any) -> Path:
    """Write a TIFF whose georeference GDAL keeps in the .aux.xml, and return its path."""
    with (
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=1,
            height=4,
            width=5,
            dtype="int16",
            profile="BASELINE",  # tags of TIFF 6.0 alone
            **profile,
        ) as raster,
    ):
        raster.write(PIXELS, 1)
    return path


def truth(path: Path) -> Any:
    """Return the dataset as rasterio opens it."""
    with warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning):
        return rasterio.open(path)


@pytest.mark.parametrize("suffix", ["tfw", "tifw", "wld", "TFW"])
def test_world_file_places_the_array(plain: Path, suffix: str) -> None:
    plain.with_suffix(f".{suffix}").write_text(WORLD)
    assert open_stack(str(plain)).metadata["affine"] is None
    found = open_stack(str(plain), sidecars="worldfile")
    with truth(plain) as raster:
        if suffix in ("tfw", "wld"):  # the others are not looked for by every version of GDAL
            assert raster.transform == UTM
    assert found.metadata["affine"] == list(UTM)[:6]
    named = found.to_xarray()
    assert (named.x[0], named.y[0]) == (UTM.c + 15, UTM.f - 15)
    assert found.metadata["provenance"]["affine"] == f"a.{suffix} beside a.tif"


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15
)
@given(
    a=st.floats(0.01, 100),
    e=st.floats(-100, -0.01),
    x=st.floats(-1e6, 1e6),
    y=st.floats(-1e6, 1e6),
)
def test_any_world_file_is_that_of_rasterio(
    plain: Path, a: float, e: float, x: float, y: float
) -> None:
    plain.with_suffix(".tfw").write_text("\n".join(map(repr, (a, 0.0, 0.0, e, x, y))))
    affine = open_stack(str(plain), sidecars=True).metadata["affine"]
    with truth(plain) as raster:
        np.testing.assert_allclose(affine, list(raster.transform)[:6], rtol=1e-12, atol=1e-9)


def test_tags_of_the_file_go_before_its_world_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=4, width=5, dtype="int16",
        transform=UTM, crs="EPSG:32611",
    ) as raster:  # fmt: skip
        raster.write(PIXELS, 1)
    path.with_suffix(".tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    with truth(path) as raster:
        assert list(raster.transform)[:6] == list(UTM)[:6]
    assert open_stack(str(path), sidecars=True).metadata["affine"] == list(UTM)[:6]


@pytest.mark.parametrize("crs", ["EPSG:32611", "EPSG:4326", "EPSG:2263", "ESRI:54009"])
def test_pam_gives_place_and_system(tmp_path: Path, crs: str) -> None:
    path = write_pam(tmp_path / "a.tif", transform=UTM, crs=crs)
    assert (tmp_path / "a.tif.aux.xml").exists()
    plain = open_stack(str(path)).metadata
    assert (plain["affine"], plain["crs"]) == (None, None)
    found = open_stack(str(path), sidecars="pam")
    named = found.to_xarray()
    with truth(path) as raster:
        assert found.metadata["affine"] == list(raster.transform)[:6]
        assert named.rio.crs == raster.crs
        assert list(map(float, named.spatial_ref.attrs["GeoTransform"].split())) == list(
            raster.transform.to_gdal()
        )
    if crs.startswith("EPSG"):
        assert found.metadata["crs"] == crs
    assert named.x.attrs["units"] == {
        "EPSG:32611": "meter", "EPSG:4326": "degree", "EPSG:2263": "US_survey_foot",
        "ESRI:54009": "meter",
    }[crs]  # fmt: skip


def test_pam_goes_before_the_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=4, width=5, dtype="int16",
        transform=Affine(1, 0, 7, 0, -1, 9), crs="EPSG:3857", nodata=3,
    ) as raster:  # fmt: skip
        raster.write(PIXELS, 1)
    wkt = rasterio.CRS.from_epsg(32611).to_wkt()
    (tmp_path / "a.tif.aux.xml").write_text(
        f"<PAMDataset><SRS>{wkt}</SRS><GeoTransform>440720, 30, 0, 3751320, 0, -30</GeoTransform>"
        '<PAMRasterBand band="1"><NoDataValue>-9999</NoDataValue><Offset>2</Offset>'
        "<Scale>0.5</Scale></PAMRasterBand></PAMDataset>"
    )
    found = open_stack(str(path), sidecars=True).metadata
    with truth(path) as raster:
        assert found["affine"] == list(raster.transform)[:6] == list(UTM)[:6]
        assert found["crs"] == raster.crs.to_string() == "EPSG:32611"
        assert found["nodata"] == raster.nodata == -9999
        assert (found["scale_factor"],) == raster.scales
        assert (found["add_offset"],) == raster.offsets


def test_pam_says_what_numbers_of_bands_mean(tmp_path: Path) -> None:
    path = write_bands(
        tmp_path / "a.tif",
        "<Description>red</Description><NoDataValue>4</NoDataValue><UnitType>W</UnitType>"
        "<Offset>1</Offset><Scale>0.5</Scale>",
        "<Description>nir</Description><NoDataValue>4</NoDataValue><UnitType>K</UnitType>"
        "<Offset>2</Offset><Scale>0.25</Scale>",
    )
    found = open_stack(str(path), sidecars="pam", mask_and_scale=True)
    with truth(path) as raster:
        assert found.metadata["nodata"] == raster.nodata
        assert tuple(found.metadata["scales"]) == raster.scales
        assert tuple(found.metadata["offsets"]) == raster.offsets
        assert tuple(found.metadata["band_names"]) == raster.descriptions
        assert tuple(found.metadata["band_units"]) == raster.units
        stored = raster.read(masked=True)
        scale, offset = (np.reshape(v, (2, 1, 1)) for v in (raster.scales, raster.offsets))
    values = found.to_xarray().transpose("sample", "y", "x").to_numpy()
    np.testing.assert_allclose(values, (stored * scale + offset).filled(np.nan), rtol=1e-6)


def test_one_scale_for_all_bands_replaces_those_of_the_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=2, height=4, width=5, dtype="int16", transform=UTM
    ) as raster:
        raster.write(np.stack([PIXELS, PIXELS]))
        raster.scales = (0.1, 0.2)
    own = open_stack(str(path)).metadata
    assert own["scales"] == [0.1, 0.2]
    scale = "<Scale>4</Scale>"
    aux = write_bands(tmp_path / "b.tif", scale, scale).with_name("b.tif.aux.xml")
    aux.rename(tmp_path / "a.tif.aux.xml")
    found = open_stack(str(path), sidecars=True).metadata
    with truth(path) as raster:
        assert raster.scales == (4, 4)
    assert (found["scale_factor"], found["scales"]) == (4, None)


def test_holes_are_the_nodata_of_the_pam(tmp_path: Path) -> None:
    for name in ("t0", "t1"):
        write_bands(tmp_path / f"{name}.tif", "<NoDataValue>-1</NoDataValue>")
    found = open_stack(
        str(tmp_path / "*.tif"), pattern="t{t:d}.tif", sizes={"t": 3}, missing="fill", sidecars=True
    )
    assert (found.read()[2] == -1).all()


def test_files_that_differ_in_the_nodata_of_their_pam_are_named(tmp_path: Path) -> None:
    for t in (0, 1):
        write_bands(tmp_path / f"t{t}.tif", f"<NoDataValue>{-1 - t}</NoDataValue>")
    with pytest.warns(TiffStackWarning, match=r"disagree on the nodata: .*t0.* -1 .*t1.* -2"):
        open_stack(str(tmp_path / "*.tif"), pattern="t{t:d}.tif", sidecars=True).read()


def test_tiles_are_placed_by_their_world_files(tmp_path: Path) -> None:
    for name, left in (("b", 0), ("a", 5)):
        tifffile.imwrite(tmp_path / f"{name}.tif", PIXELS + left, metadata=None)
        (tmp_path / f"{name}.tfw").write_text(f"1\n0\n0\n-1\n{left + 0.5}\n-0.5\n")
    found = open_stack(str(tmp_path / "*.tif"), place="georeference", sidecars="worldfile")
    np.testing.assert_array_equal(found.read(), np.hstack([PIXELS, PIXELS + 5]))


def test_tile_whose_world_file_contradicts_its_name_is_seen(tmp_path: Path) -> None:
    for x in range(3):
        tifffile.imwrite(tmp_path / f"x{x}.tif", PIXELS, metadata=None)
        (tmp_path / f"x{x}.tfw").write_text(f"1\n0\n0\n-1\n{-5 * x + 0.5}\n-0.5\n")
    with pytest.warns(TiffStackWarning, match="x is in the order of the map"):
        open_stack(
            str(tmp_path / "*.tif"), pattern="x{x:d}.tif", concat_dim="x", sidecars="worldfile"
        ).read()


def test_world_file_turned_against_the_map(plain: Path) -> None:
    plain.with_suffix(".tfw").write_text("1\n0.5\n0.5\n-1\n10\n20\n")
    with pytest.warns(TiffStackWarning, match="turned against the map"):
        found = open_stack(str(plain), sidecars=True).metadata
    with truth(plain) as raster:
        assert found["affine"] == list(raster.transform)[:6]


@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        ("a.tfw", "1 2 three", r"a\.tfw is ignored, since a world file has six numbers"),
        ("a.tfw", "0 0 0 0 1 1", r"which maps no area"),
        (
            "a.tif.aux.xml",
            "<PAMDataset>",
            r"a\.tif\.aux\.xml is ignored, since it cannot be parsed",
        ),
        ("a.tif.aux.xml", "<Other/>", r"a\.tif\.aux\.xml is ignored, since it holds a Other"),
        (
            "a.tif.aux.xml",
            "<PAMDataset><GeoTransform>1,2</GeoTransform></PAMDataset>",
            r"GeoTransform of a\.tif\.aux\.xml is '1,2', not six numbers",
        ),
        (
            "a.tif.aux.xml",
            '<!DOCTYPE x [<!ENTITY a "b">]><PAMDataset>&a;</PAMDataset>',
            r"a\.tif\.aux\.xml is ignored, since",
        ),
    ],
)
def test_faulty_sidecar_is_a_warning(plain: Path, name: str, content: str, reported: str) -> None:
    (plain.parent / name).write_text(content)
    found = open_stack(str(plain), sidecars=True)
    with pytest.warns(TiffStackWarning, match=reported):
        pixels = found.read()
    np.testing.assert_array_equal(pixels, PIXELS)
    assert found.metadata["affine"] is None


def test_sidecars_on_a_web_server_and_in_an_archive(plain: Path) -> None:
    plain.with_suffix(".tfw").write_text(WORLD)
    with serve_folder(plain.parent) as server:
        found = open_stack(f"{server.url}/a.tif", sidecars=True)
        assert found.metadata["affine"] == list(UTM)[:6]
    archive = plain.parent / "a.zip"
    with zipfile.ZipFile(archive, "w") as inside:
        for path in (plain, plain.with_suffix(".tfw")):
            inside.write(path, path.name)
    found = open_stack(f"zip://a.tif::{archive}", sidecars=True)
    assert found.metadata["affine"] == list(UTM)[:6]


def test_file_metadata_have_the_sidecars_as_they_stand(plain: Path) -> None:
    plain.with_suffix(".tfw").write_text(WORLD)
    found = open_stack(str(plain), sidecars=True).file_metadata(0)
    assert found["raw_beside"] == {"a.tfw": {"WorldFile": list(map(float, WORLD.split()))}}
    assert found["affine"] == list(UTM)[:6]


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (True, ["pam", "worldfile"]),
        ("true", ["pam", "worldfile"]),
        (False, []),
        ("worldfile", ["worldfile"]),
        ("[worldfile, pam]", ["worldfile", "pam"]),
    ],
)
def test_the_option_takes_kinds_or_all(plain: Path, given: Any, kinds: list[str]) -> None:
    assert open_stack(str(plain), sidecars=given).options.sidecars == kinds


def test_unknown_kind_is_refused(plain: Path) -> None:
    with pytest.raises(OptionError, match="sidecars must be `pam`, `worldfile`"):
        open_stack(str(plain), sidecars="tfw")


@pytest.mark.parametrize("number", ["1e308", "1e-320", "nan"])
@pytest.mark.parametrize("line", range(6))
def test_a_world_file_beyond_the_world_is_ignored(plain: Path, number: str, line: int) -> None:
    lines = WORLD.splitlines()
    lines[line] = number
    plain.with_suffix(".tfw").write_text("\n".join(lines))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        stack = open_stack(str(plain), sidecars="worldfile")
        array = stack.to_xarray()
    np.testing.assert_array_equal(array, PIXELS)
    assert all(np.isfinite(coord).all() for coord in array.coords.values())
    assert all(abs(step) > 1e-100 for step in stack.metadata["scale"].values())


@pytest.mark.parametrize("level", ["blue", "nan", "-1", "1e400", ""])
def test_a_colour_that_is_none_costs_no_pixels(tmp_path: Path, level: str) -> None:
    table = f'<ColorTable><Entry c1="1" c2="{level}" c3="3"/></ColorTable>'
    path = write_bands(tmp_path / "a.tif", f"<Description>red</Description>{table}")
    with pytest.warns(TiffStackWarning, match="ColorTable of a.tif.aux.xml holds other than"):
        metadata = open_stack(str(path), sidecars="pam").metadata
    assert metadata["band_names"] == ["red"]


@pytest.mark.parametrize("number", ["0", "-1", "99999999999", "\u00b2", "1" * 5000])
def test_a_band_that_cannot_be_is_no_band(tmp_path: Path, number: str) -> None:
    path = write_bands(tmp_path / "a.tif", "<Description>red</Description>")
    beside = path.with_name("a.tif.aux.xml")
    band = f'<PAMRasterBand band="{number}"><Description>far</Description></PAMRasterBand>'
    beside.write_text(beside.read_text().replace("</PAMDataset>", f"{band}</PAMDataset>"))
    assert open_stack(str(path), sidecars="pam").metadata["band_names"] == ["red"]
