"""What files, names and options say the pixels mean, and what is said of it where they fail."""

from __future__ import annotations

import inspect
import io
import json
import math
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack.errors import OptionError, TiffStackWarning
from intake_tiffstack.header import RawMetadata
from intake_tiffstack.layout.combining import Dim, Layout
from intake_tiffstack.metadata.file_metadata import FileMetadata
from intake_tiffstack.metadata.merging import describe_file, merge
from intake_tiffstack.metadata.ome import read_ome_image
from intake_tiffstack.metadata.units import unit_name
from shared_data import SHARED, needs_shared

URL = "/data/a.ome.tif"
UM = "micrometer"


def describe(
    dims: str = "yx", shape: tuple[int, ...] = (4, 5), *, url: str = URL, **raw: Any
) -> FileMetadata:
    series = raw.pop("series", 0)
    base_shape = raw.pop("base_shape", None)
    return describe_file(
        RawMetadata(**raw), tuple(dims), shape, url=url, series=series, base_shape=base_shape
    )


def raw_of(tif: tifffile.TiffFile) -> RawMetadata:
    """Return a file's metadata by tifffile's own parsers."""
    tags = tif.pages.first.tags
    resolution = None
    if 282 in tags and 283 in tags:
        x, y = (n / d if d else math.nan for n, d in (tags[282].value, tags[283].value))
        units = {2: "inch", 3: "centimeter"}
        resolution = (x, y, units.get(int(tags.valueof(296, 2)), "none"))
    shaped = tif.shaped_metadata
    return RawMetadata(
        ome_xml=tif.ome_metadata,
        imagej=tif.imagej_metadata,
        micromanager=tif.micromanager_metadata,
        stk=tif.stk_metadata,
        geotiff=tif.geotiff_metadata,
        shaped=shaped[0] if shaped else None,
        resolution=resolution,
    )


def written(kind: str, shape: tuple[int, ...], **options: Any) -> RawMetadata:
    """Return the metadata of a file as tifffile writes and parses it."""
    # tifffile 2026.5.2 took kind= for the flags that it deprecates
    is_new = "kind" in inspect.signature(tifffile.imwrite).parameters
    flags: dict[str, Any] = {"kind": kind} if is_new else {kind: True}
    if kind == "none":
        flags = {"metadata": None}
    with io.BytesIO() as file:
        pixels = np.zeros(shape, np.uint8)
        tifffile.imwrite(file, pixels, photometric="minisblack", **flags, **options)
        file.seek(0)
        with tifffile.TiffFile(file) as tif:
            return raw_of(tif)


def ome(pixels: str = "", channels: str = "", planes: str = "", *, before: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'{before}<Image ID="Image:0"><Description/><Pixels SizeX="5" {pixels}>'
        f"{channels}{planes}</Pixels></Image></OME>"
    )


# -- units -------------------------------------------------------------------------------------


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


# -- OME-XML -----------------------------------------------------------------------------------

LENGTHS = {"nm": "nanometer", "µm": UM, "mm": "millimeter", "Å": "angstrom", "in": "inch"}
SECONDS = {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0, "d": 86400.0}
sizes = st.floats(1e-2, 1e3)
words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=9)


@given(
    steps=st.fixed_dictionaries(
        {}, optional={d: st.tuples(sizes, st.sampled_from(list(LENGTHS))) for d in "XYZ"}
    ),
    interval=st.none() | st.tuples(sizes, st.sampled_from(list(SECONDS))),
    names=st.lists(words, min_size=3, max_size=3),
)
def test_what_tifffile_writes_as_ome_comes_back(
    steps: dict[str, tuple[float, str]], interval: tuple[float, str] | None, names: list[str]
) -> None:
    said: dict[str, Any] = {"axes": "CYX", "Channel": {"Name": names}}
    for dim, (size, unit) in steps.items():
        said |= {f"PhysicalSize{dim}": size, f"PhysicalSize{dim}Unit": unit}
    if interval is not None:
        said |= {"TimeIncrement": interval[0], "TimeIncrementUnit": interval[1]}
    raw = written("ome", (3, 4, 5), metadata=said)
    found = describe_file(raw, ("c", "y", "x"), (3, 4, 5), url=URL)
    scale = {dim.lower(): size for dim, (size, _) in steps.items()}
    units = {dim.lower(): LENGTHS[unit] for dim, (_, unit) in steps.items()}
    if interval is not None:
        scale["t"], units["t"] = interval[0] * SECONDS[interval[1]], "second"
    assert found.scale == pytest.approx(scale)
    assert found.units == units
    assert found.channel_names == tuple(names)
    assert set(found.provenance.values()) == {"OME-XML of a.ome.tif"}
    assert not found.warnings


def test_the_default_unit_of_ome_is_the_schemas_own() -> None:
    found = describe(ome_xml=ome('PhysicalSizeX="0.1" TimeIncrement="2"'))
    assert found.scale == {"x": 0.1, "t": 2.0}
    assert found.units == {"x": UM, "t": "second"}


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_a_size_in_pixels_has_no_unit(unit: str) -> None:
    xml = ome(f'PhysicalSizeX="1" PhysicalSizeXUnit="{unit}" PhysicalSizeZ="3" '
              f'PhysicalSizeZUnit="{unit}"')  # fmt: skip
    found = describe(ome_xml=xml)
    assert found.scale == {"z": 3.0}  # 1 pixel a pixel says nothing, 3 is the aspect
    assert not found.units
    assert not found.warnings


def test_a_unit_that_is_not_known_is_absent_and_told() -> None:
    found = describe(ome_xml=ome('PhysicalSizeX="2" PhysicalSizeXUnit="furlong"'))
    assert (found.scale, found.units) == ({"x": 2.0}, {})
    assert found.warnings == (f"{URL}: unit 'furlong' of OME-XML is not known; left out",)


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        ('PhysicalSizeX="0"', "PhysicalSizeX of OME-XML is '0', which is not positive"),
        ('PhysicalSizeX="-0.1"', "PhysicalSizeX of OME-XML is '-0.1', which is not positive"),
        ('PhysicalSizeX="NaN"', "PhysicalSizeX of OME-XML is 'NaN', which is not finite"),
        ('PhysicalSizeX="inf"', "PhysicalSizeX of OME-XML is 'inf', which is not finite"),
        ('PhysicalSizeX="1e30"', "PhysicalSizeX of OME-XML is '1e30', which is beyond belief"),
        ('PhysicalSizeX="0,1"', "PhysicalSizeX of OME-XML is '0,1', which is not a number"),
        ('TimeIncrement="-5"', "TimeIncrement of OME-XML is -5.0, which is not positive"),
        ('TimeIncrement="soon"', "TimeIncrement of OME-XML is 'soon', which is not a number"),
        (
            'TimeIncrement="5" TimeIncrementUnit="nm"',
            "TimeIncrement of OME-XML is in nanometer, which is no time",
        ),
    ],
)
def test_a_size_that_cannot_be_is_left_out_and_told(attributes: str, fault: str) -> None:
    found = describe(ome_xml=ome(attributes + ' PhysicalSizeY="0.2"'))
    assert found.scale == {"y": 0.2}
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(f"{URL}: {fault}")


def test_a_time_increment_of_zero_is_none() -> None:
    found = describe(ome_xml=ome('TimeIncrement="0.0" TimeIncrementUnit="s"'))
    assert not found.scale
    assert not found.warnings


def test_a_series_is_its_own_image() -> None:
    first = '<Image ID="Image:9"><Pixels PhysicalSizeX="9"><Channel Name="no"/></Pixels></Image>'
    xml = ome('PhysicalSizeX="0.5"', '<Channel Name="yes"/>', before=first)
    assert describe(ome_xml=xml).scale == {"x": 9.0}
    found = describe(ome_xml=xml, series=1)
    assert (found.scale, found.channel_names) == ({"x": 0.5}, ("yes",))
    missing = describe(ome_xml=xml, series=2)
    assert not missing.scale
    assert missing.warnings == (f"{URL}: OME-XML has no pixels for series 2, its images are 2",)


def test_prefixes_and_older_schemas_read_alike() -> None:
    xml = (
        '<OME:OME xmlns:OME="http://www.openmicroscopy.org/Schemas/OME/2010-06"><OME:Image>'
        '<OME:Pixels PhysicalSizeX="0.3"><OME:Channel Name="GFP"><OME:LightPath/></OME:Channel>'
        "</OME:Pixels></OME:Image></OME:OME>"
    )
    found = describe(ome_xml=xml)
    assert (found.scale, found.units) == ({"x": 0.3}, {"x": UM})
    assert found.channel_names == ("GFP",)


def test_what_only_points_to_another_file_is_no_fault() -> None:
    found = describe(ome_xml='<OME><BinaryOnly MetadataFile="b.ome.tif" UUID="u"/></OME>')
    assert found == FileMetadata(URL)


@pytest.mark.parametrize(
    ("xml", "fault"),
    [
        ("<OME><Image><Pixels PhysicalSizeX='1'></Image></OME>", "cannot be parsed: mismatched"),
        ("<OME><Image>", "cannot be parsed: no element found"),
        ("", "cannot be parsed: no element found"),
        ("not XML", "cannot be parsed: syntax error"),
        ("<OME>\ud800</OME>", "cannot be parsed: "),
        (
            '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><OME>&b;</OME>',
            "it declares the entity 'a'",
        ),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><OME/>', "the entity 'a'"),
    ],
    ids=["mismatched", "cut", "empty", "text", "surrogate", "bomb", "external"],
)
def test_broken_xml_leaves_the_other_sources(xml: str, fault: str) -> None:
    found = describe(ome_xml=xml, imagej={"unit": "nm"}, resolution=(0.5, 0.25, "none"))
    assert found.scale == {"x": 2.0, "y": 4.0}
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(f"{URL}: OME-XML is left out, since it ")
    assert fault in found.warnings[0]


def test_nothing_behind_the_channels_is_parsed() -> None:
    planes = '<TiffData IFD="0"/><Plane TheZ="0"/>' * 10_000
    xml = ome('PhysicalSizeX="0.5"', '<Channel Name="A"/><Channel Name="B"/>', planes)
    image = read_ome_image(xml + "<this is no XML")
    assert image.channel_names == ("A", "B")
    assert image.pixels == {"SizeX": "5", "PhysicalSizeX": "0.5"}


def test_planes_of_the_images_before_are_passed_over() -> None:
    first = "<Image><Pixels>" + '<TiffData IFD="0"/>' * 10_000 + "</Pixels></Image>"
    image = read_ome_image(ome('PhysicalSizeX="0.5"', before=first), 1)
    assert image.pixels["PhysicalSizeX"] == "0.5"


@given(st.text(max_size=60) | st.text(alphabet='<>/="OMEImagePixels &;!', max_size=60))
def test_any_text_for_xml_gives_an_answer(text: str) -> None:
    found = describe(ome_xml=text)
    assert found.scale == {}
    assert found.warnings


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        ('<Channel Name="a"/><Channel Name="b"/>', ("a", "b")),
        ('<Channel Name="a"/><Channel/>', ("a", "")),
        ("<Channel/><Channel/>", None),
    ],
    ids=["all", "one", "none"],
)
def test_a_channel_without_a_name_has_none(channels: str, names: tuple[str, ...] | None) -> None:
    assert describe("cyx", (2, 4, 5), ome_xml=ome("", channels)).channel_names == names


def test_channels_that_the_pixels_do_not_have_are_left_out_and_told() -> None:
    found = describe("cyx", (3, 4, 5), ome_xml=ome("", '<Channel Name="a"/><Channel Name="b"/>'))
    assert found.channel_names is None
    assert "channel_names" not in found.provenance
    assert found.warnings == (
        f"{URL}: OME-XML of a.ome.tif names 2 channels, but the pixels have 3; left out",
    )


def test_a_file_without_a_channel_dim_may_name_those_of_its_set() -> None:
    found = describe(ome_xml=ome("", '<Channel Name="a"/><Channel Name="b"/>'))
    assert found.channel_names == ("a", "b")


# -- ImageJ ------------------------------------------------------------------------------------


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
        ({"unit": "inch"}, (300.0, 300.0, "inch"), {}, {}),
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
def test_a_spacing_that_cannot_be_is_left_out_and_told(spacing: Any) -> None:
    found = describe(imagej={"spacing": spacing, "unit": "um"})
    assert not found.scale
    assert len(found.warnings) == 1
    assert f"{URL}: spacing of ImageJ is {spacing!r}, which " in found.warnings[0]


# -- resolution tags ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dots", [(72, 72), (96, 96), (150, 150), (300, 300), (204, 98), (1200, 1200), (1, 1), (0, 0)]
)
def test_dots_per_inch_of_a_page_are_no_calibration(dots: tuple[float, float]) -> None:
    raw = written("none", (4, 5), resolution=dots, resolutionunit="INCH")
    assert raw.resolution is not None
    assert raw.resolution[2] == "inch"
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


def test_a_resolution_that_is_no_number_is_told() -> None:
    found = describe(resolution=(math.nan, 5000.0, "centimeter"))
    assert found.scale == {"y": 2.0}
    assert found.warnings == (
        f"{URL}: pixel size of resolution tags is nan, which is not finite; left out",
    )


# -- Micro-Manager, MetaMorph, GeoTIFF ---------------------------------------------------------


@pytest.mark.parametrize("key", ["PixelSizeUm", "PixelSize_um"])
def test_micromanager_gives_sizes_interval_and_names(key: str) -> None:
    summary = {key: 0.1, "z-step_um": -0.5, "Interval_ms": 250, "ChNames": ["DAPI", "Cy5"]}
    found = describe("cyx", (2, 4, 5), micromanager={"Summary": summary})
    assert found.scale == {"y": 0.1, "x": 0.1, "z": 0.5, "t": 0.25}
    assert found.units == {"y": UM, "x": UM, "z": UM, "t": "second"}
    assert found.channel_names == ("DAPI", "Cy5")


def test_zero_is_how_micromanager_says_nothing() -> None:
    summary = {"PixelSizeUm": 0.0, "z-step_um": 0, "Interval_ms": 0, "ChNames": "Default"}
    assert describe(micromanager={"Summary": summary}) == FileMetadata(URL)
    assert describe(micromanager={"Summary": None}) == FileMetadata(URL)


def test_metamorph_gives_sizes_in_its_own_unit() -> None:
    stk = {
        "SpatialCalibration": 1, "XCalibration": 0.2, "YCalibration": 0.4, "CalibrationUnits": "um",
        "ZDistance": np.array([0.0, 1.5, 1.5]),
    }  # fmt: skip
    found = describe(stk=stk)
    assert found.scale == {"y": 0.4, "x": 0.2, "z": 1.5}
    assert found.units == {"y": UM, "x": UM, "z": UM}
    uncalibrated = describe(stk=stk | {"SpatialCalibration": 0, "ZDistance": np.zeros(3)})
    assert not uncalibrated.scale
    uneven = describe(stk=stk | {"ZDistance": np.array([1.0, 2.0])})
    assert "z" not in uneven.scale
    assert uneven.warnings == (
        f"{URL}: MetaMorph has planes at unequal distances along z; left out",
    )


UTM = {"GTModelTypeGeoKey": 1, "ProjLinearUnitsGeoKey": 9001, "GTRasterTypeGeoKey": 1}
PLACED = UTM | {"ModelPixelScale": [10.0, 20.0, 0.0], "ModelTiepoint": [0, 0, 0, 1000.0, 500.0, 0]}


@pytest.mark.parametrize(
    ("tags", "translation"),
    [
        (PLACED, {"x": 1005.0, "y": 490.0}),
        (PLACED | {"GTRasterTypeGeoKey": 2}, {"x": 1000.0, "y": 500.0}),
        (PLACED | {"ModelTiepoint": [2, 1, 0, 1000.0, 500.0, 0]}, {"x": 985.0, "y": 510.0}),
        (PLACED | {"ModelTiepoint": [[0, 0, 0, 1, 2, 0], [9, 9, 0, 3, 4, 0]]}, {}),
        (
            UTM | {"ModelTransformation": [[10, 0, 0, 7], [0, -20, 0, 8], [0] * 4, [0, 0, 0, 1]]},
            {"x": 12.0, "y": -2.0},
        ),
    ],
    ids=["area", "point", "tied-inside", "control-points", "matrix"],
)
def test_geotiff_gives_centres_of_pixels(tags: dict[str, Any], translation: dict[str, Any]) -> None:
    found = describe(geotiff=tags)
    assert found.scale == {"x": 10.0, "y": -20.0}
    assert found.translation == translation
    assert found.units == {"x": "meter", "y": "meter"}
    assert not found.warnings


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
        ({"ModelTransformation": np.ones((4, 4)).tolist()}, "turned against the map"),
        ({"ModelPixelScale": "wide"}, "ModelPixelScale holds no numbers, but 'wide'"),
    ],
    ids=["zero", "nan", "short", "short-matrix", "turned", "text"],
)
def test_a_map_that_cannot_be_is_left_out_and_told(tags: dict[str, Any], fault: str) -> None:
    found = describe(geotiff=UTM | tags)
    assert not found.scale
    assert len(found.warnings) == 1
    assert fault in found.warnings[0]


# -- the file as a whole -----------------------------------------------------------------------


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


def test_what_the_header_could_not_read_is_told_on() -> None:
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


# -- real files --------------------------------------------------------------------------------

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
    "geotiff_striped/cogeotiff_rio-cogeo/slc.tif": {},
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
    assert not found.warnings


# -- the collection ----------------------------------------------------------------------------

Y, X = Dim("y", 4, file_dim=0), Dim("x", 5, file_dim=1)


def stacked(**axes: list[Any]) -> Layout:
    """Return the layout of planes stacked along axes with these values."""
    sizes = [len(values) for values in axes.values()]
    made = [Dim(name, len(values), axis=i) for i, (name, values) in enumerate(axes.items())]
    return Layout(
        dims=(*made, Y, X),
        cells=np.arange(math.prod(sizes), dtype=np.int32).reshape(sizes),
        file_dims=("y", "x"),
        file_shape=(4, 5),
        dtype=np.dtype("uint16"),
        coords={name: ((name,), np.array(values)) for name, values in axes.items()},
    )


def said(n: int = 0, **values: Any) -> FileMetadata:
    """Return what file n says, each value from its OME-XML."""
    keys = [
        f"{key}.{dim}" for key in ("scale", "units", "translation") for dim in values.get(key, ())
    ]
    keys += ["channel_names"] if "channel_names" in values else []
    return FileMetadata(
        f"/d/f{n}.tif", provenance=dict.fromkeys(keys, f"OME-XML of f{n}.tif"), **values
    )


def test_all_keys_are_there_and_json_holds_them() -> None:
    known = merge(stacked(t=[0, 10]), {})
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert known == {
        "dims": ["t", "y", "x"],
        "shape": [2, 4, 5],
        "dtype": "uint16",
        "coords": {"t": {"dims": ["t"], "size": 2, "values": [0, 10]}},
        "scale": {},
        "translation": {},
        "units": {},
        "channel_names": None,
        "time_interval": None,
        "provenance": {},
    }


def test_a_single_file_says_it_all() -> None:
    layout = Layout(
        (Dim("c", 2, file_dim=0), Dim("y", 4, file_dim=1), Dim("x", 5, file_dim=2)),
        np.zeros((), np.int32), ("c", "y", "x"), (2, 4, 5), np.dtype("float32"), {},
    )  # fmt: skip
    file = said(scale={"x": -10.0, "z": 2.0}, units={"x": "meter"}, translation={"x": 5.0},
                channel_names=("a", "b"))  # fmt: skip
    known = merge(layout, {0: file})
    assert known["scale"] == {"x": -10.0}  # there is no z to have a step
    assert known["units"] == {"x": "meter"}
    assert known["translation"] == {"x": 5.0}
    assert known["channel_names"] == ["a", "b"]
    assert known["provenance"] == dict.fromkeys(
        ["scale.x", "units.x", "translation.x", "channel_names"], "OME-XML of f0.tif"
    )


def test_options_beat_files_and_a_step_without_a_unit_has_none() -> None:
    file = said(scale={"x": 0.1, "y": 0.1}, units={"x": UM, "y": UM})
    known = merge(
        stacked(t=[0, 1]), {0: file}, scale={"x": 65, "t": 2}, units={"y": "nm", "t": "min"},
        translation={"y": -1},
    )  # fmt: skip
    assert known["scale"] == {"x": 65.0, "y": 0.1, "t": 2.0}
    assert known["units"] == {"y": "nanometer", "t": "minute"}
    assert known["translation"] == {"y": -1.0}
    assert known["time_interval"] == 120.0
    assert known["provenance"] == {
        "scale.x": "option",
        "scale.y": "OME-XML of f0.tif",
        "scale.t": "option",
        "units.y": "option",
        "units.t": "option",
        "translation.y": "option",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": {"tt": 1}}, "unknown dim in scale 'tt'; did you mean 't'"),
        ({"units": {"z": "um"}}, "unknown dim in units 'z'; known: t, x, y"),
        ({"scale": {"t": 0}}, "scale of t should be a number other than 0, but got 0"),
        ({"scale": {"t": math.nan}}, "scale of t should be a number other than 0, but got nan"),
        ({"translation": {"t": "far"}}, "translation of t should be a number, but got 'far'"),
        ({"units": {"t": 3}}, "units of t should be the name of a unit, but got 3"),
        ({"channel_names": ["a"]}, "no channel dim: its dims are t, y, x"),
    ],
)
def test_an_option_that_fits_nothing_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        merge(stacked(t=[0, 1]), {}, **options)


def test_steps_go_by_role() -> None:
    file = said(scale={"t": 5.0, "z": 2.0}, units={"t": "second", "z": UM})
    known = merge(stacked(frame=[4, 5, 6], slice=[1, 2]), {0: file})
    assert known["scale"] == {"frame": 5.0, "slice": 2.0}
    assert known["time_interval"] == 5.0


@pytest.mark.parametrize("values", [[0, 10, 20], [0, 1, 3], [0.0, 1.0], ["a", "b"]])
def test_the_step_of_files_holds_only_where_names_count_by_one(values: list[Any]) -> None:
    known = merge(stacked(t=values), {0: said(scale={"t": 5.0}, units={"t": "second"})})
    assert known["scale"] == {}
    assert known["time_interval"] is None


def test_times_in_names_beat_the_interval_of_files() -> None:
    times = np.array(["2024-05-01T10:00", "2024-05-01T10:05", "2024-05-01T10:10"], "datetime64[m]")
    known = merge(stacked(t=list(times)), {0: said(scale={"t": 5.0}, units={"t": "second"})})
    assert known["time_interval"] == 300.0
    assert known["provenance"] == {"scale.t": "coordinate t", "units.t": "coordinate t"}
    assert known["coords"]["t"]["values"][1] == "2024-05-01T10:05"
    uneven = merge(stacked(t=list(times[[0, 2, 1]])), {0: said(scale={"t": 5.0})})
    assert uneven["scale"] == {}


def test_files_that_disagree_are_named_with_both_values() -> None:
    files = {
        0: said(0, scale={"x": 0.1}, units={"x": UM}),
        1: said(1),
        2: said(2, scale={"x": 0.2}, units={"x": UM}),
        3: said(3, scale={"x": 0.3}),
    }
    told = r"scale along x: /d/f0.tif has 0.1 micrometer but /d/f2.tif has 0.2 micrometer"
    with pytest.warns(TiffStackWarning, match=told) as caught:
        known = merge(stacked(t=[0, 1, 2, 3]), files)
    assert len(caught) == 1
    assert known["scale"] == {"x": 0.1}
    merge(stacked(t=[0, 1, 2, 3]), files, scale={"x": 0.1})  # settled, so nothing is told


@pytest.mark.parametrize(
    ("step", "units"),
    [(100.0, {"x": "nanometer"}), (0.1000001, {"x": UM}), (0.1, {})],
    ids=["in-other-unit", "rounded", "without-unit"],
)
def test_steps_that_are_one_agree(step: float, units: dict[str, str]) -> None:
    files = {
        0: said(0, scale={"x": 0.1}, units={"x": UM}),
        1: said(1, scale={"x": step}, units=units),
    }
    known = merge(stacked(t=[0, 1]), files)
    assert (known["scale"], known["units"]) == ({"x": 0.1}, {"x": UM})


def test_units_that_cannot_be_compared_disagree() -> None:
    files = {
        0: said(0, scale={"x": 1.0}, units={"x": "degree"}),
        1: said(1, scale={"x": 1.0}, units={"x": "meter"}),
    }
    with pytest.warns(TiffStackWarning, match="1 degree but .* 1 meter"):
        merge(stacked(t=[0, 1]), files)


def test_places_that_differ_are_left_out_and_told_only_where_they_should_be_one() -> None:
    files = {i: said(i, scale={"x": 1.0}, translation={"x": 10.0 * i}) for i in range(2)}
    with pytest.warns(TiffStackWarning, match="f0.tif begins at 0 but /d/f1.tif begins at 10"):
        assert merge(stacked(t=[0, 1]), files)["translation"] == {}
    assert merge(stacked(site=[0, 1]), files)["translation"] == {}


def test_an_extended_dim_begins_where_its_first_file_does() -> None:
    layout = Layout(
        (Dim("z", 4, axis=0, file_dim=0, offsets=(0, 2, 4)),), np.array([1, 0], np.int32), ("z",),
        (2,), np.dtype("uint8"), {"z": (("z",), np.arange(4))},
    )  # fmt: skip
    files = {i: said(i, scale={"z": 1.0}, translation={"z": 10.0 * i}) for i in range(2)}
    known = merge(layout, files)
    assert known["scale"] == {"z": 1.0}
    assert known["translation"] == {"z": 10.0}


def test_faults_of_many_files_are_told_in_a_few_lines() -> None:
    files = {i: FileMetadata(f"/d/f{i}.tif", warnings=(f"/d/f{i}.tif: bad",)) for i in range(500)}
    with pytest.warns(TiffStackWarning, match="f0.tif: bad(.|\n)*and 497 more") as caught:
        merge(stacked(t=list(range(500))), files)
    assert len(caught) == 1
    assert str(caught[0].message).count("\n") == 3


@given(
    values=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8, unique=True)
    | st.lists(st.floats(), min_size=1, max_size=8)
    | st.lists(words, min_size=1, max_size=8, unique=True)
    | st.lists(st.datetimes().map(np.datetime64), min_size=1, max_size=8)
)
def test_any_coordinate_fits_into_json(values: list[Any]) -> None:
    coords = merge(stacked(q=values), {})["coords"]
    assert json.loads(json.dumps(coords, allow_nan=False)) == coords
    assert coords["q"]["size"] == len(values)


def test_a_long_coordinate_is_told_by_its_ends() -> None:
    coords = merge(stacked(q=list(range(1001))), {})["coords"]
    assert coords["q"] == {"dims": ["q"], "size": 1001, "first": 0, "last": 1000}


# -- channels ----------------------------------------------------------------------------------


def test_channels_of_stacked_files_are_named_file_by_file() -> None:
    files = {i: said(i, channel_names=("GFP" if i % 2 else "DAPI",)) for i in range(4)}
    known = merge(stacked(t=[0, 1], c=[0, 1]), files)
    assert known["channel_names"] == ["DAPI", "GFP"]
    assert known["provenance"]["channel_names"] == "OME-XML of f0.tif and others"


def test_a_channel_that_no_file_names_has_no_name() -> None:
    known = merge(stacked(t=[0, 1], c=[0, 1]), {3: said(3, channel_names=("GFP",))})
    assert known["channel_names"] == ["", "GFP"]


@pytest.mark.parametrize(
    ("values", "names"),
    [([0, 1, 2], ["a", "b", "c"]), ([1, 2, 3], ["a", "b", "c"]), ([0, 2, 3], None), ([2, 3], None)],
)
def test_a_list_of_all_channels_in_each_file_goes_by_number(
    values: list[int], names: list[str] | None
) -> None:
    files = {i: said(i, channel_names=("a", "b", "c")) for i in range(len(values))}
    assert merge(stacked(c=values), files)["channel_names"] == names


def test_channels_named_in_file_names_keep_those() -> None:
    known = merge(stacked(channel=["DAPI", "w2"]), {0: said(channel_names=("Default",))})
    assert known["channel_names"] == ["DAPI", "w2"]
    assert known["provenance"]["channel_names"] == "coordinate channel"


def test_an_extended_channel_dim_joins_the_names_of_its_files() -> None:
    layout = Layout(
        (Dim("c", 3, axis=0, file_dim=0, offsets=(0, 2, 3)),), np.array([0, 1], np.int32), ("c",),
        (2,), np.dtype("uint8"), {"c": (("c",), np.arange(3))},
    )  # fmt: skip
    files = {0: said(0, channel_names=("a", "b")), 1: said(1, channel_names=("z",))}
    assert merge(layout, files)["channel_names"] == ["a", "b", "z"]
    assert merge(layout, {0: files[0]})["channel_names"] == ["a", "b", ""]


def test_files_that_name_a_channel_differently_are_told() -> None:
    layout = stacked(t=[0, 1], c=[4, 5])
    files = {row: said(row, channel_names=(name,)) for row, name in ((0, "a"), (2, "b"), (3, "c"))}
    with pytest.warns(TiffStackWarning, match=r"/d/f0.tif has \['a'\] but /d/f2.tif has \['b'\]"):
        known = merge(layout, files)
    assert known["channel_names"] == ["a", "c"]
    merge(layout, files, channel_names=["a", "b"])


@pytest.mark.parametrize(
    ("option", "names"),
    [
        (["x", "y"], ["x", "y"]),
        ({0: "x", 1: "y"}, ["x", "y"]),
        ({"1": "y"}, ["a", "y"]),
        (None, ["a", "b"]),
        ({}, ["a", "b"]),
    ],
    ids=["list", "by-value", "some-by-value", "none", "empty"],
)
def test_the_option_names_channels(option: Any, names: list[str]) -> None:
    files = {0: said(0, channel_names=("a",)), 1: said(1, channel_names=("b",))}
    assert merge(stacked(c=[0, 1]), files, channel_names=option)["channel_names"] == names


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["a"], r"should list 2 names, one a position along c, but got \['a'\]"),
        ([], "should list 2 names"),
        ("ab", "should list 2 names, one a position along c, but got 'ab'"),
        ({5: "a"}, "unknown value of c in channel_names '5'; known: 0, 1"),
    ],
)
def test_channel_names_that_do_not_fit_are_an_error(option: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        merge(stacked(c=[0, 1]), {}, channel_names=option)
