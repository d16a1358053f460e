"""Metadata that are wrong: the pixels open all the same, and a warning names file and fault."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.errors import TiffStackWarning
from metadata_files import ome

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
