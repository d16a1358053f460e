"""Metadata that are wrong: the pixels open all the same, and a warning names file and fault."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tifffile import TIFF

from intake_tiffstack import open_stack
from intake_tiffstack.errors import TiffStackWarning
from metadata_files import describe, ome
from vendor_files import VENDORS, tag_at

PLANES = np.arange(3 * 4 * 5, dtype="u2").reshape(3, 4, 5)
SIZES = 'SizeY="4" SizeZ="1" SizeC="1" SizeT="3" Type="uint16" DimensionOrder="XYZCT"'


def write(path: Path, description: str) -> None:
    with tifffile.TiffWriter(path) as tif:
        for i, plane in enumerate(PLANES):
            text = description.encode() if i == 0 else None
            tif.write(
                plane, description=text, metadata=None, contiguous=False, photometric="minisblack"
            )


def xml(sizes: str = SIZES, more: str = "") -> str:
    return ome(f"{sizes} {more}", planes="<TiffData/>")


BOMB = '<!DOCTYPE OME [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'

FAULTS = {
    "cut": (xml()[:-25], "OME-XML is ignored, since it cannot be parsed"),
    "broken": (xml().replace("</Pixels>", ""), "OME-XML is ignored, since it cannot be parsed"),
    "bomb": (xml().replace("<OME ", f"{BOMB}<OME "), "it declares the entity 'a'"),
    "no sizes": (
        ome('Type="uint16"', planes="<TiffData/>"),
        "OME series cannot be made of the XML",
    ),
    "no number": (xml(SIZES.replace('"3"', '"three"')), "OME series cannot be made of the XML"),
    "negative": (xml(SIZES.replace('SizeZ="1"', 'SizeZ="-1"')), "OME series contains invalid"),
    "none": (xml(SIZES.replace('SizeZ="1"', 'SizeZ="0"')), "OME series contains invalid"),
    "impossible": (xml(SIZES.replace('"1"', '"99999"')), "the XML claims 29,999,400,003 planes"),
    "digits": (
        xml(SIZES.replace('"3"', f'"{"9" * 5000}"')),
        "OME series cannot be made of the XML",
    ),
    "wide": (xml().replace('SizeX="5"', 'SizeX="7"'), "says SizeX=7, but the pixels have 5"),
    "pixel size": (xml(more='PhysicalSizeX="-1"'), "PhysicalSizeX of OME-XML is '-1'"),
    "no size": (xml(more='PhysicalSizeX="0"'), "PhysicalSizeX of OME-XML is '0'"),
    "unit": (xml(more='PhysicalSizeX="2" PhysicalSizeXUnit="ell"'), "unit 'ell' of OME-XML"),
    "imagej spacing": ("ImageJ=1.54\nimages=3\nslices=3\nspacing=-2.0\n", "spacing of ImageJ is"),
    "imagej unit": ("ImageJ=1.54\nimages=3\nslices=3\nspacing=2\nunit=ell\n", "unit 'ell' of"),
}


@pytest.mark.parametrize("description", [d for d, _ in FAULTS.values()], ids=FAULTS)
def test_the_pixels_open_and_the_fault_is_reported(
    tmp_path: Path, request: pytest.FixtureRequest, description: str
) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, description)
    fault = FAULTS[request.node.callspec.id][1]
    with pytest.warns(TiffStackWarning) as caught:
        pixels = open_stack(str(path)).read()
    assert len(caught) == 1
    text = str(caught[0].message)
    assert re.search(rf"{re.escape(str(path))}: .*{re.escape(fault)}", text), text
    np.testing.assert_array_equal(pixels, PLANES)


def tiff_data(count: int) -> str:
    return "".join(f'<TiffData FirstT="{t}" IFD="{t}" PlaneCount="1"/>' for t in range(count))


@pytest.mark.parametrize(
    ("sizes", "planes", "fault", "dims"),
    [
        ('SizeZ="1" SizeT="5"', "<TiffData/>", "has 5 positions along t in the XML, but", "tyx"),
        ('SizeZ="1" SizeT="5"', tiff_data(3), "has 5 positions along t in the XML, but", "tyx"),
        ('SizeZ="1" SizeT="5"', tiff_data(5), "has 5 positions along t in the XML, but", "tyx"),
        ('SizeZ="5" SizeT="1"', "<TiffData/>", "has 5 positions along z in the XML, but", "zyx"),
        ('SizeZ="1" SizeT="999999"', "<TiffData/>", "but pages for 3: these are opened", "tyx"),
        ('SizeZ="1" SizeT="2"', "<TiffData/>", "expected 2 frames, got 3; its pages", "pyx"),
        ('SizeZ="1" SizeT="1"', "<TiffData/>", "expected 1 frames, got 3; its pages", "pyx"),
    ],
    ids=["more", "named", "named too far", "more z", "far more", "fewer", "one"],
)
def test_the_pages_win_over_what_the_xml_counts(
    tmp_path: Path, sizes: str, planes: str, fault: str, dims: str
) -> None:
    more = 'SizeY="4" SizeC="1" Type="uint16" DimensionOrder="XYZCT"'
    path = tmp_path / "a.ome.tif"
    write(path, ome(f"{more} {sizes}", planes=planes))
    stack = open_stack(str(path))
    with pytest.warns(TiffStackWarning, match=rf"a.ome.tif: OME series .*{fault}"):
        np.testing.assert_array_equal(stack.read(), PLANES, strict=True)
    assert [dim[0] for dim in stack.dims] == list(dims)


@pytest.mark.parametrize(
    ("first", "shape"), [((0, 1, 4), (5, 4, 5)), ((0, 2, 3), (4, 4, 5))], ids=["end", "middle"]
)
def test_planes_between_others_that_are_not_there_are_zero(
    tmp_path: Path, first: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    planes = "".join(
        f'<TiffData FirstT="{t}" IFD="{i}" PlaneCount="1"/>' for i, t in enumerate(first)
    )
    write(tmp_path / "a.ome.tif", xml(SIZES.replace('"3"', '"5"')).replace("<TiffData/>", planes))
    expected = np.zeros(shape, "u2")
    expected[list(first)] = PLANES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        pixels = open_stack(str(tmp_path / "a.ome.tif")).read()
    np.testing.assert_array_equal(pixels, expected, strict=True)


def test_a_last_position_that_is_half_there_is_zero_where_it_is_not(tmp_path: Path) -> None:
    sizes = SIZES.replace('SizeZ="1"', 'SizeZ="2"').replace('"3"', '"9"')
    write(tmp_path / "a.ome.tif", xml(sizes))
    with pytest.warns(TiffStackWarning, match="has 9 positions along t in the XML"):
        pixels = open_stack(str(tmp_path / "a.ome.tif")).read()
    expected = np.concatenate([PLANES, np.zeros((1, 4, 5), "u2")]).reshape(2, 2, 4, 5)
    np.testing.assert_array_equal(pixels, expected, strict=True)


def test_a_page_that_is_no_plane_is_left_over(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, xml())
    tifffile.imwrite(path, np.zeros((2, 2), "u2"), append="force", metadata=None)
    stack = open_stack(str(path))
    with pytest.warns(TiffStackWarning, match="OME series expected 3 frames, got 4"):
        np.testing.assert_array_equal(stack.read(), PLANES, strict=True)
    assert stack.dims == ("t", "y", "x")


def test_tags_that_never_end_cost_nothing(tmp_path: Path) -> None:
    # so many that an hour would not do if each were read to the end of the text
    comment = f"<!--{'<Pixels ' * 500_000}{'<TiffData ' * 500_000}-->"
    write(tmp_path / "a.ome.tif", xml().replace("<Description/>", comment))
    np.testing.assert_array_equal(open_stack(str(tmp_path / "a.ome.tif")).read(), PLANES)


def test_counts_beyond_belief_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, xml().replace("<TiffData/>", '<TiffData PlaneCount="999999999"/>'))
    with pytest.warns(TiffStackWarning, match="the XML claims 999,999,999 planes"):
        np.testing.assert_array_equal(open_stack(str(path)).read(), PLANES)


def test_a_bomb_costs_nothing(tmp_path: Path) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(12)
    )
    text = xml().replace("<OME ", f"<!DOCTYPE OME [{entities}]><OME ")
    write(
        tmp_path / "a.ome.tif", text.replace("<Description/>", "<Description>&a12;</Description>")
    )
    stack = open_stack(str(tmp_path / "a.ome.tif"))
    with pytest.warns(TiffStackWarning, match="declares the entity 'a0'"):
        np.testing.assert_array_equal(stack.read(), PLANES)
    pytest.importorskip("ome_types")
    with pytest.raises(OSError, match="declares the entity 'a0'"):
        _ = stack.ome_metadata


def test_the_same_fault_in_many_files_is_reported_in_a_few_lines(tmp_path: Path) -> None:
    for i in range(8):
        write(tmp_path / f"t{i}.ome.tif", xml(more='PhysicalSizeX="-1"'))
    stack = open_stack(str(tmp_path), pattern="t{time:d}.ome.tif", file_dims="zyx", validate="all")
    with pytest.warns(TiffStackWarning, match="and 5 more") as caught:
        assert stack.metadata["scale"] == {}
    assert len(caught) == 1


anything = st.text(st.characters(codec="ascii"), max_size=80) | st.text(
    alphabet='<>/="OMEImagePixelsSizeXYZCT019- &;!', max_size=120
)


@given(text=anything, end=st.sampled_from(["", "</OME>"]), start=st.sampled_from(["", "<OME>"]))
def test_no_description_stops_the_pixels(
    tmp_path_factory: pytest.TempPathFactory, text: str, start: str, end: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.tif"
    write(path, start + text.replace("\0", "") + end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        np.testing.assert_array_equal(open_stack(str(path)).read().reshape(PLANES.shape), PLANES)


@pytest.mark.parametrize("names", ["a", "abcd"], ids=["fewer", "more"])
def test_channel_names_of_another_number_are_left_out(tmp_path: Path, names: str) -> None:
    channels = "".join(f'<Channel Name="{name}"/>' for name in names)
    sizes = SIZES.replace('SizeC="1" SizeT="3"', 'SizeC="3" SizeT="1"')
    write(tmp_path / "a.ome.tif", ome(sizes, channels, "<TiffData/>"))
    stack = open_stack(str(tmp_path / "a.ome.tif"))
    with pytest.warns(TiffStackWarning, match=f"names {len(names)} channels, but the pixels"):
        assert stack.channel_names is None
    np.testing.assert_array_equal(stack.read(), PLANES)


def test_broken_metaseries_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    said = "<MetaData><PlaneInfo></MetaData>"
    options = {"software": "MetaSeries", "metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(path, PLANES[0], description=said, **options)
    with pytest.warns(TiffStackWarning, match=r"a.tif: metaseries metadata cannot be read"):
        np.testing.assert_array_equal(open_stack(str(path)).read(), PLANES[0])


def test_a_tag_that_cannot_be_read_is_reported_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANES[0], metadata=None, datetime="2024:05:01 12:00:00")
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages.first.tags[306]
    data = bytearray(path.read_bytes())
    data[tag.offset + 8 : tag.offset + 12] = b"\xff" * 4  # where its text is said to be
    path.write_bytes(data)
    with pytest.warns(TiffStackWarning, match=rf"{re.escape(str(path))}: .*TiffTag 306"):
        np.testing.assert_array_equal(open_stack(str(path)).read(), PLANES[0])


def test_no_data_that_tifffile_does_not_take_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = PLANES[0].astype("f4")
    tifffile.imwrite(path, pixels, metadata=None, extratags=[(42113, "s", 0, "-3.4e+38", True)])
    assert open_stack(str(path)).metadata["scale"] == {}  # pytest makes a warning an error


# -- metadata of vendors that decide what the pages are ------------------------------------------


@pytest.mark.parametrize("name", VENDORS)
def test_a_file_of_a_vendor_has_its_pixels(tmp_path: Path, name: str) -> None:
    expected = VENDORS[name](tmp_path / name)
    stack = open_stack(str(tmp_path / name))
    np.testing.assert_array_equal(stack.read(), expected, strict=name != "map.tif")


def at_tag(code: int, place: int, form: str, *values: float) -> Callable[[Path], None]:
    """Return what writes numbers into the value of a tag."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        struct.pack_into(form, content, tag_at(path, code) + place, *values)
        path.write_bytes(content)

    return change


def of_kind(code: int) -> Callable[[Path], None]:
    """Return what makes a tag one of bytes, which no vendor writes."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as tif:
            struct.pack_into("<H", content, tif.pages.first.tags[code].offset + 2, 6)
        path.write_bytes(content)

    return change


def replaced(old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))

    return change


LSM = np.dtype([(name or f"r{i}", kind) for i, (name, kind) in enumerate(TIFF.CZ_LSMINFO)])
DIMS_OF_FLUOVIEW = np.dtype(TIFF.MM_HEADER).fields["Dimensions"]  # type: ignore[index]
NO_IMAGE = "the pages are opened as they are, since {} metadata make no image"
VENDOR_FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "lsm magic": ("a.lsm", at_tag(34412, 0, "<I", 0), NO_IMAGE.format("lsm")),
    "lsm kind": (
        "a.lsm",
        at_tag(34412, LSM.fields["ScanType"][1], "<H", 99),  # type: ignore[index]
        NO_IMAGE.format("lsm"),
    ),
    "lsm size": (
        "a.lsm",
        at_tag(34412, LSM.fields["DimensionZ"][1], "<i", 2**31 - 1),  # type: ignore[index]
        NO_IMAGE.format("lsm"),
    ),
    "stk UIC1": ("a.stk", of_kind(33628), "invalid UIC1Tag"),
    "stk UIC2": ("a.stk", of_kind(33629), "invalid UIC2Tag"),
    "stk UIC3": ("a.stk", of_kind(33630), "invalid UIC3Tag"),
    "stk UIC4": ("a.stk", of_kind(33631), "invalid UIC4Tag"),
    "fluoview": (
        "fluoview.tif",
        at_tag(34361, DIMS_OF_FLUOVIEW[1] + 2 * DIMS_OF_FLUOVIEW[0].base.itemsize + 16, "<I", 7),
        NO_IMAGE.format("fluoview"),
    ),
    "scn": ("a.scn", replaced(b"</image>", b"</imago>"), NO_IMAGE.format("scn")),
    "scn size": ("a.scn", replaced(b'ifd="0"', b'ifd="x"'), NO_IMAGE.format("scn")),
    "mmstack": (
        "a_MMStack.tif",
        lambda path: path.write_bytes(path.read_bytes()[:-8] + struct.pack("<2I", 2**31, 0)),
        NO_IMAGE.format("micromanager"),
    ),
}


@pytest.mark.parametrize("fault", VENDOR_FAULTS)
def test_pixels_of_a_vendor_open_whatever_its_metadata_say(tmp_path: Path, fault: str) -> None:
    name, change, told = VENDOR_FAULTS[fault]
    path = tmp_path / name
    expected = VENDORS[name](path)
    change(path)
    with pytest.warns(TiffStackWarning, match=f"{re.escape(str(path))}: .*{re.escape(told)}"):
        pixels = open_stack(str(path)).read()
    np.testing.assert_array_equal(pixels.reshape(expected.shape), expected, strict=True)


def test_more_planes_than_pages_that_are_stored_differently(tmp_path: Path) -> None:
    path = tmp_path / "fluoview.tif"
    expected = VENDORS[path.name](path)
    VENDOR_FAULTS["fluoview"][1](path)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        struct.pack_into("<H", content, tif.pages[3].tags[278].valueoffset, 99)  # RowsPerStrip
    path.write_bytes(content)
    with pytest.warns(
        TiffStackWarning, match="6 pages of .* were found, but the image is declared"
    ):
        pixels = open_stack(str(path)).read()
    np.testing.assert_array_equal(pixels.reshape(expected.shape), expected)


def test_planes_that_a_stack_of_metamorph_does_not_count_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.stk"
    pixels = VENDORS[path.name](path)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        struct.pack_into("<I", content, tif.pages.first.tags[33629].offset + 4, 4)
    path.write_bytes(content)
    with pytest.warns(TiffStackWarning, match="a.stk: MetaMorph describes 6 planes, but counts 4"):
        np.testing.assert_array_equal(open_stack(str(path)).read(), pixels[:4])


def test_a_description_of_tifffile_that_is_no_json_costs_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANES, metadata={"axes": "TYX"}, photometric="minisblack")
    replaced(b'{"shape": [3', b'{"shape": ]3')(path)
    with pytest.warns(TiffStackWarning, match=NO_IMAGE.format("shaped")):
        np.testing.assert_array_equal(open_stack(str(path)).read(), PLANES, strict=True)


def test_planes_that_an_index_map_lacks_are_zero_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a_MMStack.tif"
    pixels = VENDORS[path.name](path)
    content = path.read_bytes()
    path.write_bytes(content[:-16] + struct.pack("<I", 4) + content[-12:])  # z of the last is 4
    with pytest.warns(TiffStackWarning, match="the index map has no page for 1 of its 5 planes"):
        found = open_stack(str(path)).read()
    expected = np.concatenate([pixels[:3], np.zeros_like(pixels[:1]), pixels[3:]])
    np.testing.assert_array_equal(found, expected, strict=True)


def test_micromanager_with_other_directories_has_the_pixels_of_its_pages(tmp_path: Path) -> None:
    path = tmp_path / "a_MMStack.tif"
    expected = VENDORS[path.name](path)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:  # pages that another program has moved
        places = [(page.tags[273].valueoffset, page.dataoffsets[0]) for page in tif.pages]
    for (at, _), (_, start) in zip(places, reversed(places), strict=True):
        struct.pack_into("<I", content, at, start)
    path.write_bytes(content)
    with pytest.warns(TiffStackWarning, match="elsewhere than Micro-Manager writes them"):
        np.testing.assert_array_equal(open_stack(str(path)).read(), expected[::-1], strict=True)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"lsm": {"VoxelSizeX": 2e-7, "ChannelColors": {"Colors": [[255]]}}}, "lsm metadata are"),
        ({"fluoview": [["X", 16, 0, 0.5, "um"], ["Y"]]}, "fluoview metadata are"),
    ],
    ids=["lsm", "fluoview"],
)
def test_values_of_another_form_are_a_warning_and_the_others_stay(
    tags: dict[str, object], expected: str
) -> None:
    found = describe(**tags)
    assert expected in found.warnings[0]
    assert found.scale["x"] in (0.2, 0.5)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000], ids=["400 digits", "5000 digits"])
def test_no_data_beyond_all_numbers_costs_no_pixels(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.tif"
    tags = [(42113, 2, 0, text, True)]
    tifffile.imwrite(path, PLANES[0].astype("f4"), metadata=None, extratags=tags)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        np.testing.assert_array_equal(open_stack(str(path)).read(), PLANES[0])


def test_no_data_that_is_no_text_costs_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tags = [(42113, 3, 2, (1, 2), True)]
    tifffile.imwrite(path, PLANES[0], metadata=None, extratags=tags, compression="zlib")
    np.testing.assert_array_equal(open_stack(str(path)).read(), PLANES[0])


@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324])
def test_coordinates_are_numbers_with_which_one_can_reckon(value: float) -> None:
    found = describe(ome_xml=ome(f'PhysicalSizeX="{value}" PhysicalSizeXUnit="pixel"'))
    assert found.scale == {}
    page = {"ZPositionUm": 1e308, "XPositionUm": 1e308}
    found = describe(micromanager={"Page": page})
    assert (found.heights, found.stage) == ((), {})


def test_colors_of_a_slide_are_three_small_numbers() -> None:
    assert "channel_colors" not in describe(qptiff=[{"Color": f"1,2,{'3' * 5000}"}]).channels


def test_channels_of_scanimage_that_are_empty_lists_have_no_names() -> None:
    tags = {"SI.hChannels.channelName": ["red"], "SI.hChannels.channelSave": [[]]}
    assert describe(scanimage=tags).warnings == ()


def test_a_fault_of_one_file_is_none_of_another_of_its_size(tmp_path: Path) -> None:
    for folder in ("broken", "whole"):
        (tmp_path / folder).mkdir()
        expected = VENDORS["a_MMStack.tif"](tmp_path / folder / "a_MMStack.tif")
    VENDOR_FAULTS["mmstack"][1](tmp_path / "broken" / "a_MMStack.tif")
    with pytest.warns(TiffStackWarning, match="the index map puts 4 planes on"):
        assert open_stack(str(tmp_path / "broken" / "a_MMStack.tif")).dims == ("page", "y", "x")
    stack = open_stack(str(tmp_path / "whole" / "a_MMStack.tif"))
    assert stack.dims == ("z", "y", "x")
    np.testing.assert_array_equal(stack.read(), expected)


def test_a_single_page_with_the_tag_of_an_lsm_is_a_page(tmp_path: Path) -> None:
    VENDORS["a.lsm"](tmp_path / "a.lsm")
    with tifffile.TiffFile(tmp_path / "a.lsm") as tif:
        tag = tif.pages.first.tags[34412]
        info = (tmp_path / "a.lsm").read_bytes()[tag.valueoffset :][: tag.count]
    tags = [(34412, 1, len(info), info, True)]
    tifffile.imwrite(tmp_path / "b.tif", PLANES[0], metadata=None, extratags=tags)
    np.testing.assert_array_equal(open_stack(str(tmp_path / "b.tif")).read(), PLANES[0])
