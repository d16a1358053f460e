"""What one file says its pixels mean, whoever wrote it."""

from __future__ import annotations

from typing import Any

import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack.collection.merge_metadata import describe_file
from intake_tiffstack.metadata.describe_file import FileMetadata
from intake_tiffstack.metadata.units import unit_name
from metadata_files import (
    PLACED,
    UM,
    URL,
    describe,
    ome,
    raw_of,
)
from shared_data import SHARED, needs_shared


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("µm", UM),
        ("μm", UM),
        ("um", UM),
        ("micron", UM),
        ("microns", UM),
        ("Micrometer", UM),
        ("micrometre", UM),
        (r"\u00B5m", UM),
        (r"\xb5m", UM),
        ("nm", "nanometer"),
        ("Å", "angstrom"),
        ("cm", "centimeter"),
        ("inches", "inch"),
        ("Mm", "megameter"),
        ("sec", "second"),
        ("ms", "millisecond"),
        ("min", "minute"),
        ("pixel", None),
        ("reference frame", None),
        ("", None),
        ("furlong", None),
    ],
)
def test_a_unit_has_one_name_however_it_is_written(text: str, name: str | None) -> None:
    assert unit_name(text) == name


def test_the_first_source_that_knows_a_value_gives_it() -> None:
    found = describe(
        ome_xml=ome('PhysicalSizeX="0.1" PhysicalSizeY="-1"'),
        micromanager={"Summary": {"PixelSizeUm": 0.2}},
        imagej={"spacing": 3.0, "unit": "nm"},
        resolution=(5000.0, 5000.0, "centimeter"),
    )
    assert found.scale == {"x": 0.1, "y": 0.2, "z": 3.0}
    assert found.units == {"x": UM, "y": UM, "z": "nanometer"}
    assert found.provenance == {
        "scale.x": "OME-XML of a.ome.tif",
        "units.x": "OME-XML of a.ome.tif",
        "scale.y": "Micro-Manager of a.ome.tif",
        "units.y": "Micro-Manager of a.ome.tif",
        "scale.z": "ImageJ of a.ome.tif",
        "units.z": "ImageJ of a.ome.tif",
    }


def test_a_place_goes_with_the_step_of_its_own_source() -> None:
    found = describe(ome_xml=ome('PhysicalSizeX="0.1"'), geotiff=PLACED)
    assert found.scale == {"x": 0.1, "y": -20.0}
    assert found.translation == {"y": 490.0}


def test_a_coarser_level_has_larger_pixels() -> None:
    found = describe("yx", (2, 5), geotiff=PLACED, base_shape=(4, 20))
    assert found.scale == {"x": 40.0, "y": -40.0}
    assert found.translation == {"x": 1020.0, "y": 480.0}  # corner plus half a pixel


def test_what_the_header_could_not_read_is_reported_on() -> None:
    found = describe(notes=(f"{URL}: stk metadata cannot be read: x",))
    assert found.warnings == (f"{URL}: stk metadata cannot be read: x",)


def test_a_file_in_an_archive_is_named_by_its_own_name() -> None:
    found = describe(url="zip://d/a.tif::s3://b/x.zip", imagej={"spacing": 2.0})
    assert found.provenance == {"scale.z": "ImageJ of a.tif"}


@pytest.mark.parametrize(
    "values", [{"scale": {"x": 0.0}}, {"scale": {"q": 1.0}}, {"units": {"x": UM}}]
)
def test_file_metadata_refuse_what_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="but got"):
        FileMetadata(URL, **values)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


def dict_of(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, anything))


@given(
    micromanager=st.fixed_dictionaries(
        {"Summary": anything | dict_of("PixelSizeUm", "z-step_um", "Interval_ms", "ChNames")}
    ),
    imagej=dict_of("unit", "yunit", "spacing", "finterval", "tunit", "xorigin", "zorigin"),
    stk=dict_of("SpatialCalibration", "XCalibration", "CalibrationUnits", "ZDistance"),
    geotiff=dict_of("GTModelTypeGeoKey", "GTRasterTypeGeoKey", "ProjLinearUnitsGeoKey")
    | dict_of("ModelPixelScale", "ModelTiepoint", "ModelTransformation"),
    resolution=st.tuples(st.floats(), st.floats(), st.sampled_from(["none", "inch", "centimeter"])),
)
def test_no_value_of_any_key_stops_the_pixels(**raw: Any) -> None:
    found = describe(**raw)
    assert all(fault.startswith(f"{URL}: ") for fault in found.warnings)


REAL: dict[str, dict[str, Any]] = {
    "ome/tlnagy_OMETIFF.jl/170918_tn_neutrophil_migration_wave.ome.tif": {
        "scale": {"z": 1.0, "y": 1.0, "x": 1.0},
        "units": {"z": UM, "y": UM, "x": UM},
        "channel_names": ("488 TIRF left",),
    },
    "ome/tlnagy_OMETIFF.jl/multi-channel-z-series.ome.tif": {},
    "ome/glencoesoftware_bioformats2raw/mini-flim-moduloC.ome.tiff": {},
    "ome/glencoesoftware_bioformats2raw/mini-spim-moduloZ.ome.tiff": {},
    "imagej/NEUBIAS_training-resources/image_with_changed_calibration.tif": {
        "scale": {"z": 6.0, "y": 365915881 / 4294967295, "x": 365915881 / 4294967295},
        "units": {"z": UM, "y": UM, "x": UM},
    },
    "imagej/NEUBIAS_training-resources/xyz_8bit__nuclei_autothresh.tif": {
        "scale": {"t": 130.2626645, "z": 4.0, "y": 1 / 1.206792, "x": 1 / 1.206792},
        "units": {"t": "second", "z": UM, "y": UM, "x": UM},
    },
    "imagej/NEUBIAS_training-resources/xyz_8bit__very_dense_local_maxima.tif": {},
    "imagej/CellProfiler_examples/DrosophilaEmbryo_GFPHistone_0004.tif": {},
    "micromanager_ndtiff/micro-manager_NDStorage/Magellan_expolore_multi_channel_NDTiffStack.tif": {
        "scale": {"z": 25.0, "y": 1.0, "x": 1.0},
        "units": {"z": UM, "y": UM, "x": UM},
    },
    "geotiff_striped/rasterio_rasterio/byte.tif": {
        "scale": {"y": -60.0, "x": 60.0},
        "units": {"y": "meter", "x": "meter"},
        "translation": {"y": 3751290.0, "x": 440750.0},  # rasterio: transform * (0.5, 0.5)
    },
    "geotiff_striped/rasterio_rasterio/test_esri_wkt.tif": {
        "scale": {"y": -10.0, "x": 10.0},
        "translation": {"y": 2368520.0, "x": -14060.0},
    },
    "geotiff_striped/cogeotiff_rio-cogeo/slc.tif": {"warning": "210 ground control points"},
    "geotiff_tiled/microsoft_torchgeo/g_0.tif": {
        "scale": {"y": 5.4e-05, "x": 5.4e-05},
        "units": {"y": "degree", "x": "degree"},
        "translation": {"y": 2.7e-05, "x": 2.7e-05},
    },
}


@needs_shared
@pytest.mark.parametrize("name", REAL, ids=lambda name: name.rpartition("/")[2])
def test_real_files_say_what_they_are_known_to(name: str) -> None:
    assert SHARED is not None
    with tifffile.TiffFile(SHARED / "single" / name) as tif:
        raw, series = raw_of(tif), tif.series[0]
        dims, shape = tuple(series.axes.lower()), tuple(series.shape)
    found = describe_file(raw, dims, shape, url=name)
    expected = REAL[name]
    assert found.scale == pytest.approx(expected.get("scale", {}))
    assert found.units == expected.get("units", {})
    assert found.translation == pytest.approx(expected.get("translation", {}))
    assert found.channel_names == expected.get("channel_names")
    assert len(found.warnings) == ("warning" in expected)
    assert expected.get("warning", "") in "".join(found.warnings)
