"""What ImageJ, and the resolution tags that any TIFF has, say of one file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.collection.merge_metadata import describe_file
from intake_tiffstack.metadata.describe_file import FileMetadata
from intake_tiffstack.metadata.units import unit_name
from metadata_files import (
    UM,
    URL,
    describe,
    written,
)


@given(
    x=st.floats(0.05, 50), y=st.floats(0.05, 50), z=st.floats(0.05, 50),
    interval=st.floats(1e-3, 1e4), unit=st.sampled_from(["micron", "um", "nm", r"\u00B5m"]),
)  # fmt: skip
def test_what_tifffile_writes_as_imagej_comes_back(
    x: float, y: float, z: float, interval: float, unit: str
) -> None:
    said = {"axes": "TZYX", "spacing": z, "unit": unit, "finterval": interval}
    raw = written("imagej", (2, 3, 4, 5), resolution=(1 / x, 1 / y), metadata=said)
    found = describe_file(raw, ("t", "z", "y", "x"), (2, 3, 4, 5), url="/d/s.tif")
    assert found.scale == pytest.approx({"t": interval, "z": z, "y": y, "x": x}, rel=1e-5)
    name = unit_name(unit)
    assert found.units == {"t": "second", "z": name, "y": name, "x": name}
    assert set(found.provenance.values()) == {"ImageJ of s.tif"}


@pytest.mark.parametrize(
    ("imagej", "resolution", "scale", "units"),
    [
        ({}, (1.0, 1.0, "none"), {}, {}),
        ({}, (2.0, 2.0, "none"), {"x": 0.5, "y": 0.5}, {}),
        ({}, (72.0, 72.0, "inch"), {}, {}),
        ({}, (5000.0, 5000.0, "centimeter"), {"x": 2.0, "y": 2.0}, {"x": UM, "y": UM}),
        ({"unit": "pixel"}, (1.0, 1.0, "none"), {}, {}),
        ({"unit": "um"}, None, {}, {}),
        ({"unit": "um"}, (0.0, 0.0, "none"), {}, {}),
        ({"unit": "um"}, (2.0, 4.0, "inch"), {"x": 0.5, "y": 0.25}, {"x": UM, "y": UM}),
        (
            {"unit": "cm"},
            (200.0, 200.0, "centimeter"),
            {"x": 0.005, "y": 0.005},
            {"x": "centimeter", "y": "centimeter"},
        ),
        (
            {"unit": "inch"},
            (300.0, 300.0, "inch"),
            {"x": 1 / 300, "y": 1 / 300},
            {"x": "inch", "y": "inch"},
        ),
        (
            {"unit": "um", "yunit": "nm", "zunit": "mm", "spacing": 3},
            (2.0, 2.0, "none"),
            {"x": 0.5, "y": 0.5, "z": 3.0},
            {"x": UM, "y": "nanometer", "z": "millimeter"},
        ),
        ({"spacing": 0.3}, None, {"z": 0.3}, {}),
        ({"finterval": 2, "tunit": "min"}, None, {"t": 120.0}, {"t": "second"}),
        ({"finterval": 0}, None, {}, {}),
        ({"fps": 10, "Labels": ["a", "b"]}, None, {}, {}),
    ],
    ids=[
        "nothing", "aspect", "screen", "tag-unit", "pixel", "no-tags", "zero-tags", "its-unit-wins",
        "cm", "page-in-inch", "units-differ", "spacing-alone", "minutes", "no-interval",
        "speed-of-playing",
    ],
)  # fmt: skip
def test_imagej_reads_as_imagej_does(
    imagej: dict[str, Any],
    resolution: tuple[float, float, str] | None,
    scale: dict[str, float],
    units: dict[str, str],
) -> None:
    found = describe(imagej=imagej, resolution=resolution)
    assert (found.scale, found.units) == (scale, units)
    assert not found.warnings


def test_the_origin_of_imagej_is_where_pixel_zero_is() -> None:
    said = {"unit": "um", "spacing": 2.0, "xorigin": 10, "zorigin": -3, "yorigin": "top"}
    found = describe(imagej=said, resolution=(2.0, 2.0, "none"))
    assert found.translation == {"x": -5.0, "z": 6.0}


@pytest.mark.parametrize("spacing", [0, -1.0, math.nan, "thick", 1e300])
def test_a_spacing_that_cannot_be_is_left_out_and_reported(spacing: Any) -> None:
    found = describe(imagej={"spacing": spacing, "unit": "um"})
    assert not found.scale
    assert len(found.warnings) == 1
    assert f"{URL}: spacing of ImageJ is {spacing!r}, which " in found.warnings[0]


@pytest.mark.parametrize(
    "dots", [(72, 72), (96, 96), (150, 150), (300, 300), (204, 98), (1200, 1200), (1, 1), (0, 0)]
)
def test_dots_per_inch_of_a_page_are_no_calibration(dots: tuple[float, float]) -> None:
    raw = written("none", (4, 5), resolution=dots, resolutionunit="INCH")
    assert raw.tags["resolution"][2] == "inch"
    assert describe_file(raw, ("y", "x"), (4, 5), url=URL) == FileMetadata(URL)


@pytest.mark.parametrize("per_cm", [28.35, 37.79, 37.8, 118.11, 59.06, 236.22, 1, 0, 0.5])
def test_nor_are_they_per_centimetre(per_cm: float) -> None:
    assert not describe(resolution=(per_cm, per_cm, "centimeter")).scale


@pytest.mark.parametrize("x", [0.05, 0.325, 1.0, 6.45, 20.0, 100.0])
def test_a_pixel_size_per_centimetre_is_one(x: float) -> None:
    raw = written("none", (4, 5), resolution=(1e4 / x, 2e4 / x), resolutionunit="CENTIMETER")
    found = describe_file(raw, ("y", "x"), (4, 5), url=URL)
    assert found.scale == pytest.approx({"x": x, "y": x / 2}, rel=1e-6)
    assert found.units == {"x": UM, "y": UM}
    assert found.provenance["scale.y"] == "resolution tags of a.ome.tif"


def test_inches_become_micrometres() -> None:
    found = describe(resolution=(25400.0, 50800.0, "inch"))
    assert found.scale == pytest.approx({"x": 1.0, "y": 0.5})


def test_tags_without_a_unit_say_nothing() -> None:
    assert not describe(resolution=(25400.0, 25400.0, "none")).scale


def test_a_resolution_that_is_no_number_is_reported() -> None:
    found = describe(resolution=(math.nan, 5000.0, "centimeter"))
    assert found.scale == {"y": 2.0}
    assert found.warnings == (
        f"{URL}: pixel size of resolution tags is nan, which is not finite; ignored",
    )


# -- lookup tables and display ranges ------------------------------------------------------------


def test_lookup_tables_and_ranges_are_those_of_channels() -> None:
    ramp = np.arange(256, dtype=np.uint8)
    none = np.zeros(256, np.uint8)
    tables = [np.stack([ramp, none, none]), np.stack([none, ramp, ramp]), np.stack([ramp] * 3)]
    said = {"axes": "CYX", "LUTs": tables, "Ranges": (0.0, 9.0, 1.0, 8.0, 2.0, 7.0)}
    raw = written("imagej", (3, 4, 5), metadata=said)
    found = describe_file(raw, ("c", "y", "x"), (3, 4, 5), url="/d/s.tif")
    assert found.channels == {
        "channel_colors": ("#ff0000", "#00ffff", "#ffffff"),
        "display_ranges": ([0.0, 9.0], [1.0, 8.0], [2.0, 7.0]),
    }
    assert set(found.provenance.values()) >= {"ImageJ of s.tif"}


def test_a_table_of_many_colors_is_no_color() -> None:
    fire = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 3)]).astype(np.uint8)
    assert describe(imagej={"LUTs": [fire]}).channels == {}


# -- tifffile's own description ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "scale", "units"),
    [
        ({"axes": "ZYX"}, {}, {}),
        (
            {"spacing": 2.0, "unit": "um", "finterval": 3},
            {"z": 2.0, "y": 0.5, "x": 0.5, "t": 3.0},
            {"z": UM, "y": UM, "x": UM, "t": "second"},
        ),
        ({"PhysicalSizeX": 0.3, "PhysicalSizeXUnit": "nm"}, {"x": 0.3}, {"x": "nanometer"}),
        ({"PhysicalSizeX": 0.3}, {"x": 0.3}, {}),
        ({"TimeIncrement": 2}, {}, {}),
    ],
    ids=["nothing", "imagej-words", "ome-words", "no-unit", "no-unit-of-time"],
)
def test_the_words_of_others_in_its_description(
    said: dict[str, Any], scale: dict[str, float], units: dict[str, str]
) -> None:
    tags = {"resolution": (2.0, 2.0), "resolutionunit": "NONE"}
    raw = written("shaped", (3, 4, 5), metadata=said, **tags)
    found = describe_file(raw, ("z", "y", "x"), (3, 4, 5), url=URL)
    assert (found.scale, found.units) == (pytest.approx(scale), units)
    assert not found.warnings


def test_channels_named_in_its_description() -> None:
    raw = written("shaped", (2, 4, 5), metadata={"axes": "CYX", "Channel": {"Name": ["a", "b"]}})
    found = describe_file(raw, ("c", "y", "x"), (2, 4, 5), url=URL)
    assert found.channel_names == ("a", "b")


# -- software and dates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024:05:01 12:30:00", "2024-05-01T12:30:00"),
        ("20240501 12:30:00.250", "2024-05-01T12:30:00.250000"),
        ("    :  :     :  :  ", None),
        ("0000:00:00 00:00:00", None),
    ],
)
def test_the_tag_of_the_date(text: str, time: str | None) -> None:
    found = describe(datetime=text, software="Scope 1\0")
    assert found.facts.get("created") == time
    assert found.facts["software"] == "Scope 1"
    assert not found.warnings


def test_a_date_that_is_none_is_reported() -> None:
    found = describe(datetime="yesterday")
    assert found.facts == {}
    assert found.warnings == (
        f"{URL}: created of DateTime tag is 'yesterday', which is not a time; ignored",
    )


def test_a_straight_line_of_imagej_is_scale_and_offset(tmp_path: Path) -> None:
    """ImageJ stores signed pixels of 16 bits as unsigned ones, and says so."""
    stored = np.array([[0, 32768], [32769, 65535]], np.uint16)
    said = 'ImageJ=1.53t\nimages=1\ncf=0\nc0=-32768.0\nc1=1.0\nvunit="Gray Value"\n'
    tifffile.imwrite(tmp_path / "a.tif", stored, description=said, metadata=None)
    stack = open_stack(str(tmp_path / "a.tif"), mask_and_scale=True)
    assert stack.metadata["add_offset"] == -32768
    assert stack.metadata["scale_factor"] is stack.metadata["band_units"] is None
    assert stack.to_xarray().values.tolist() == [[-32768, 0], [1, 32767]]


def test_other_functions_of_values_are_told() -> None:
    line = describe(imagej={"cf": 0, "c0": 0.5, "c1": 2.0, "vunit": '"nM"'})
    assert line.facts == {"scale_factor": 2.0, "add_offset": 0.5, "band_units": ["nM"]}
    curve = describe(imagej={"cf": 1, "c0": 0.5, "c1": 2.0, "c2": 3.0})
    assert (curve.facts, len(curve.warnings)) == ({}, 1)
    assert "no straight line" in curve.warnings[0]


@pytest.mark.parametrize(
    ("unit", "per_unit", "step"),
    [("inch", 10.0, 0.1), ("none", 10.0, 0.1), ("centimeter", 1e5, 0.1)],
)
def test_centimetres_of_the_tags_win_over_the_unit_in_the_json_of_tifffile(
    unit: str, per_unit: float, step: float
) -> None:
    said = {"axes": "ZYX", "unit": "um", "spacing": 0.5}
    found = describe("zyx", (3, 4, 5), shaped=said, resolution=(per_unit, per_unit, unit))
    assert found.scale == {"z": 0.5, "y": step, "x": step}
    assert found.units == {"z": UM, "y": UM, "x": UM}
