"""What OME-XML says of one file, of every schema, and what is said of it where it is wrong."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st

from intake_tiffstack.collection.merge_metadata import describe_file
from intake_tiffstack.metadata.describe_file import FileMetadata
from intake_tiffstack.metadata.reader import RawMetadata
from intake_tiffstack.metadata.readers.ome import read_ome_image
from metadata_files import (
    UM,
    URL,
    describe,
    ome,
    words,
    written,
)
from shared_data import SHARED, needs_shared

LENGTHS = {"nm": "nanometer", "µm": UM, "mm": "millimeter", "Å": "angstrom", "in": "inch"}
SECONDS = {"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0, "d": 86400.0}
sizes = st.floats(1e-2, 1e3)


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


def test_a_unit_that_is_not_known_is_absent_and_reported() -> None:
    found = describe(ome_xml=ome('PhysicalSizeX="2" PhysicalSizeXUnit="furlong"'))
    assert (found.scale, found.units) == ({"x": 2.0}, {})
    assert found.warnings == (f"{URL}: unit 'furlong' of OME-XML is not known; ignored",)


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        ('PhysicalSizeX="0"', "PhysicalSizeX of OME-XML is '0', which is not positive"),
        ('PhysicalSizeX="-0.1"', "PhysicalSizeX of OME-XML is '-0.1', which is not positive"),
        ('PhysicalSizeX="NaN"', "PhysicalSizeX of OME-XML is 'NaN', which is not finite"),
        ('PhysicalSizeX="inf"', "PhysicalSizeX of OME-XML is 'inf', which is not finite"),
        (
            'PhysicalSizeX="1e30"',
            "PhysicalSizeX of OME-XML is '1e30', which is outside the plausible range",
        ),
        ('PhysicalSizeX="0,1"', "PhysicalSizeX of OME-XML is '0,1', which is not a number"),
        ('TimeIncrement="-5"', "TimeIncrement of OME-XML is -5.0, which is not positive"),
        ('TimeIncrement="soon"', "TimeIncrement of OME-XML is 'soon', which is not a number"),
        (
            'TimeIncrement="5" TimeIncrementUnit="nm"',
            "TimeIncrement of OME-XML is in nanometer, which is not a time",
        ),
    ],
)
def test_a_size_that_cannot_be_is_left_out_and_reported(attributes: str, fault: str) -> None:
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
    assert found.warnings[0].startswith(f"{URL}: OME-XML is ignored, since it ")
    assert fault in found.warnings[0]


def test_nothing_behind_the_image_is_parsed() -> None:
    planes = '<TiffData IFD="0"/><Plane TheZ="0"/>' * 10_000
    xml = ome('PhysicalSizeX="0.5"', '<Channel Name="A"/><Channel Name="B"/>', planes)
    image = read_ome_image(xml + "<this is no XML")
    assert [channel["Name"] for channel in image.channels] == ["A", "B"]
    assert image.pixels == {"SizeX": "5", "PhysicalSizeX": "0.5"}


@pytest.mark.parametrize(
    "before",
    [
        '<Image ID="Image:7"><Description/></Image>',
        '<Image ID="Image:7"><Pixels PhysicalSizeX="9"><MetadataOnly/></Pixels></Image>',
        '<Image ID="Image:7"><Pixels PhysicalSizeX="9"/></Image>',
    ],
)
def test_images_without_planes_are_no_series(before: str) -> None:
    first = '<Image><Pixels PhysicalSizeX="0.25"><TiffData/></Pixels></Image>'
    xml = ome('PhysicalSizeX="0.5"', planes='<TiffData IFD="1"/>', before=before + first)
    assert describe(ome_xml=xml).scale == {"x": 0.25}
    assert describe(ome_xml=xml, series=1).scale == {"x": 0.5}


def test_images_that_are_opened_as_one_but_differ_are_told() -> None:
    first = (
        '<Image><Pixels PhysicalSizeX="0.50"><Channel Name="GFP"/><TiffData/></Pixels></Image>'
        '<Image><Pixels PhysicalSizeX="0.5"><Channel Name="GFP"/><TiffData/></Pixels></Image>'
    )
    xml = ome('PhysicalSizeX="0.25"', '<Channel Name="RFP"/>', "<TiffData/>", before=first)
    found = describe_file(RawMetadata({"ome_xml": xml}), ("position", "y", "x"), (3, 4, 5), url=URL)
    assert found.scale == {"x": 0.5}
    assert found.warnings == (
        f"{URL}: images 0 and 2 of OME-XML differ in PhysicalSizeX: '0.5' but '0.25'; the first is "
        "used",
        f"{URL}: images 0 and 2 of OME-XML differ in the names of channels: 'GFP' but 'RFP'; the "
        "first is used",
    )


@pytest.mark.parametrize("known", [(0, 2, 4), (1, 2, 3)])
def test_planes_that_are_not_listed_leave_no_wrong_interval_or_height(known: Any) -> None:
    planes = "".join(
        f'<Plane TheT="{i}" TheZ="{i}" DeltaT="{i * 10}" PositionZ="{i}" PositionZUnit="nm"/>'
        for i in known
    )
    found = describe("tyx", (3, 4, 5), ome_xml=ome(planes="<TiffData/>" + planes))
    assert (found.times, found.heights, found.scale) == ((), (), {})


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


def test_channels_that_the_pixels_do_not_have_are_left_out_and_reported() -> None:
    found = describe("cyx", (3, 4, 5), ome_xml=ome("", '<Channel Name="a"/><Channel Name="b"/>'))
    assert found.channel_names is None
    assert "channel_names" not in found.provenance
    assert found.warnings == (
        f"{URL}: OME-XML of a.ome.tif names 2 channels, but the pixels have 3; ignored",
    )


def test_a_file_without_a_channel_dim_may_name_those_of_its_set() -> None:
    found = describe(ome_xml=ome("", '<Channel Name="a"/><Channel Name="b"/>'))
    assert found.channel_names == ("a", "b")


# -- channels, times, places and what took them --------------------------------------------------

COLORED = (
    '<Channel Name="a" Color="16711935" EmissionWavelength="520" ExcitationWavelength="0.488" '
    'ExcitationWavelengthUnit="µm"/><Channel Color="-2147483648"/>'
)


def test_colors_and_wavelengths_of_channels() -> None:
    found = describe("cyx", (2, 4, 5), ome_xml=ome("", COLORED))
    assert found.channels == {
        "channel_names": ("a", ""),
        "channel_colors": ("#00ff00", None),  # the second is what old schemas gave for none
        "emission_wavelengths": (520.0, None),
        "excitation_wavelengths": (488.0, None),
    }
    assert set(found.provenance.values()) == {"OME-XML of a.ome.tif"}


# one color is what old schemas gave for none
rgba_colors = st.tuples(*[st.integers(0, 255)] * 4).filter(lambda color: color != (128, 0, 0, 0))


@given(st.lists(rgba_colors, min_size=1, max_size=3))
@example([(255, 0, 1, 0)])
@example([(255, 0, 1, 0), (255, 0, 0, 0)])
def test_a_color_is_what_ome_types_reads(rgba: list[tuple[int, int, int, int]]) -> None:
    ome_types = pytest.importorskip("ome_types")
    channels = [
        ome_types.model.Channel(color=(r, g, b, a / 255), samples_per_pixel=1)
        for r, g, b, a in rgba
    ]
    pixels = ome_types.model.Pixels(
        channels=channels, size_c=len(rgba), size_x=5, size_y=4, size_z=1, size_t=1,
        dimension_order="XYCZT", type="uint8", metadata_only=True,
    )  # fmt: skip
    xml = ome_types.OME(images=[ome_types.model.Image(pixels=pixels)]).to_xml()
    colors = describe("cyx", (len(rgba), 4, 5), ome_xml=xml).channels["channel_colors"]
    # transparent as RGBA and opaque as ARGB, all of them: those of Micro-Manager 1.4
    is_argb = all(r == 255 and (g, b, a) != (0, 0, 0) for r, g, b, a in rgba)
    kept = slice(1, 4) if is_argb and any(a == 0 for *_, a in rgba) else slice(3)
    assert list(colors) == ["#" + "".join(f"{n:02x}" for n in one[kept]) for one in rgba]


def planes(*, times: list[float], heights: list[float] = [0.0], **units: str) -> str:  # noqa: B006
    more = "".join(f' {key}="{value}"' for key, value in units.items())
    return "".join(
        f'<Plane TheT="{t}" TheC="{c}" TheZ="{z}" DeltaT="{time + c}" PositionZ="{height}"{more}/>'
        for t, time in enumerate(times)
        for c in range(2)
        for z, height in enumerate(heights)
    )


def test_times_are_those_of_the_first_plane_of_each_time_point() -> None:
    xml = ome("", "", planes(times=[0, 250], DeltaTUnit="ms", PositionZUnit="nm", heights=[500, 0]))
    found = describe("tzyx", (2, 2, 4, 5), ome_xml=xml)
    assert found.times == (0.0, 0.25)
    assert found.heights == (0.5, 0.0)


def test_a_height_in_the_default_unit_of_ome_is_none_that_anyone_knows() -> None:
    found = describe(ome_xml=ome("", "", planes(times=[0])))
    assert found.times == (0.0,)
    assert found.heights == ()


def test_times_that_are_not_there_for_all_are_for_none() -> None:
    xml = ome("", "", planes(times=[0, 1]).replace('TheT="1" TheC="0"', 'TheT="2" TheC="0"', 1))
    found = describe(ome_xml=xml.replace('DeltaT="1"', "").replace('DeltaT="2"', ""))
    assert found.times == ()


def test_times_of_an_axis_that_is_split_are_not_those_of_time() -> None:
    xml = ome("", "", planes(times=[0, 1, 2, 3, 4, 5]))
    split = {"t": 2, "lifetime": 3, "y": 4, "x": 5}
    found = describe_file(RawMetadata({"ome_xml": xml}), (*split,), (*split.values(),), url=URL)
    assert (found.times, found.scale) == ((), {})
    assert describe("tyx", (6, 4, 5), ome_xml=xml).scale == {"t": 1.0}


TAKEN = (
    '<Instrument ID="I:0"><Microscope Manufacturer="Zeiss" Model="LSM"/>'
    '<Objective ID="O:0" Model="no"/><Objective ID="O:1" Model="Plan" NominalMagnification="40" '
    'LensNA="1.2" Immersion="Water" WorkingDistance="3"/></Instrument>'
)


@pytest.mark.parametrize(
    ("url", "stage"),
    [("/d/a.tif", {"x": (1.0,)}), ("/d/b.tif", {"x": (2.0,)}), ("/d/renamed.tif", {})],
)
def test_a_renamed_file_of_a_set_is_not_taken_for_the_first(url: str, stage: Any) -> None:
    said = (
        "<Image><AcquisitionDate>2024-05-0{0}T12:00:00</AcquisitionDate>"
        '<StageLabel X="{0}" XUnit="µm"/><Pixels PhysicalSizeX="0.5"><Channel Name="GFP"/>'
        '<TiffData IFD="0"><UUID FileName="{1}.tif">urn:uuid:{0}</UUID></TiffData>'
        '<Plane TheT="0" TheC="0" TheZ="0" DeltaT="{0}"/></Pixels></Image>'
    )
    found = describe(url=url, ome_xml=f"<OME>{said.format(1, 'a')}{said.format(2, 'b')}</OME>")
    assert found.stage == stage
    assert found.times == tuple(value for (value,) in stage.values())
    assert ("acquired" in found.facts) is bool(stage)
    assert (found.scale, found.channel_names) == ({"x": 0.5}, ("GFP",))


def test_when_and_with_what_it_was_taken() -> None:
    xml = ome("", "", before=TAKEN).replace(
        "<Description/>",
        '<AcquisitionDate>2024-05-01T12:00:00+02:00</AcquisitionDate><ObjectiveSettings ID="O:1"/>',
    )
    assert describe(ome_xml=xml).facts == {
        "acquired": "2024-05-01T10:00:00",
        "objective": {
            "model": "Plan",
            "magnification": 40.0,
            "numerical_aperture": 1.2,
            "immersion": "Water",
        },
        "instrument": {"manufacturer": "Zeiss", "model": "LSM"},
    }


@pytest.mark.parametrize(
    ("ref", "model"),
    [('<InstrumentRef ID="I:0"/>', "LSM"), ('<InstrumentRef ID="I:1"/>', "other"), ("", None)],
)
def test_of_several_instruments_the_one_that_the_image_refers_to(
    ref: str, model: str | None
) -> None:
    before = TAKEN + '<Instrument ID="I:1"><Microscope Model="other"/></Instrument>'
    found = describe(ome_xml=ome(before=before).replace("<Description/>", ref))
    assert found.facts.get("instrument", {}).get("model") == model


def test_an_objective_that_is_not_said_to_be_used_is_not_known() -> None:
    assert "objective" not in describe(ome_xml=ome("", "", before=TAKEN)).facts


def test_of_a_set_of_files_each_knows_its_own_planes() -> None:
    parts = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{t}.tif">urn:{t}</UUID>'
        "</TiffData>"
        for t in range(3)
    )
    xml = ome("", "", parts + planes(times=[5, 6, 9]))
    found = [
        describe(ome_xml=xml.replace("<OME ", f'<OME UUID="urn:{t}" ')).times for t in range(3)
    ]
    assert found == [(5.0,), (6.0,), (9.0,)]
    elsewhere = describe(ome_xml=xml.replace("<OME ", '<OME UUID="urn:x" '))
    assert elsewhere.times == (5.0, 6.0, 9.0)  # the file was copied: nothing tells them apart


def test_a_file_of_a_set_finds_the_image_that_is_in_it() -> None:
    def image(n: int) -> str:
        return (
            f'<Image><AcquisitionDate>2024-01-0{n}T00:00:00</AcquisitionDate><Pixels SizeX="5">'
            f'<TiffData><UUID FileName="{n}.tif">urn:{n}</UUID></TiffData></Pixels></Image>'
        )

    xml = f'<OME UUID="urn:2">{image(1)}{image(2)}</OME>'
    assert describe(ome_xml=xml).facts["acquired"] == "2024-01-02T00:00:00"


def test_the_words_of_2008_are_understood() -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2008-09"><Image>'
        '<CreationDate>2009-01-02T03:04:05</CreationDate><LogicalChannel Name="A" EmWave="520"/>'
        '<Pixels SizeX="5" PhysicalSizeX="0.5"><Plane TheT="0"><PlaneTiming DeltaT="2.5"/>'
        "</Plane></Pixels></Image></OME>"
    )
    found = describe("cyx", (1, 4, 5), ome_xml=xml)
    assert found.channels == {"channel_names": ("A",), "emission_wavelengths": (520.0,)}
    assert found.times == (2.5,)
    assert found.facts == {"acquired": "2009-01-02T03:04:05"}


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "tlnagy_OMETIFF.jl/170918_tn_neutrophil_migration_wave.ome.tif",
        "tlnagy_OMETIFF.jl/multi-channel-z-series.ome.tif",
        "glencoesoftware_bioformats2raw/mini-spim-moduloZ.ome.tiff",
    ],
)
def test_real_files_say_what_ome_types_reads(name: str) -> None:
    ome_types = pytest.importorskip("ome_types")
    assert SHARED is not None
    with tifffile.TiffFile(SHARED / "single" / "ome" / name) as tif:
        xml = tif.ome_metadata
        dims, shape = tuple(tif.series[0].axes.lower()), tif.series[0].shape
    assert xml is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of IDs that are none
        image = ome_types.from_xml(xml).images[0]
    found = describe_file(RawMetadata({"ome_xml": xml}), dims, shape, url=name)
    assert not found.warnings
    if image.acquisition_date is None:
        assert "acquired" not in found.facts
    else:
        assert found.facts["acquired"] == image.acquisition_date.isoformat()
    names = tuple(channel.name or "" for channel in image.pixels.channels)
    assert (found.channel_names or ("",) * len(names)) == names
    seconds = {"ms": 1e-3, "s": 1.0}
    deltas = {
        plane.the_t: plane.delta_t * seconds[plane.delta_t_unit.value]
        for plane in reversed(image.pixels.planes)
        if plane.delta_t is not None
    }
    assert found.times == pytest.approx([deltas[t] for t in sorted(deltas)])
    for dim in "zyx":
        assert found.scale.get(dim) == getattr(image.pixels, f"physical_size_{dim}")
