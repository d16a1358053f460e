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
    "cut": (xml()[:-25], "OME-XML is left out, since it cannot be parsed"),
    "broken": (xml().replace("</Pixels>", ""), "OME-XML is left out, since it cannot be parsed"),
    "bomb": (xml().replace("<OME ", f"{BOMB}<OME "), "it declares the entity 'a'"),
    "no sizes": (
        ome('Type="uint16"', planes="<TiffData/>"),
        "OME series cannot be made of the XML",
    ),
    "no number": (xml(SIZES.replace('"3"', '"three"')), "OME series cannot be made of the XML"),
    "negative": (xml(SIZES.replace('SizeZ="1"', 'SizeZ="-1"')), "OME series contains invalid"),
    "none": (xml(SIZES.replace('SizeZ="1"', 'SizeZ="0"')), "OME series contains invalid"),
    "impossible": (xml(SIZES.replace('"1"', '"99999"')), "the XML claims 29,999,400,003 planes"),
    "wide": (xml().replace('SizeX="5"', 'SizeX="7"'), "says SizeX=7, but the pixels have 5"),
    "pixel size": (xml(more='PhysicalSizeX="-1"'), "PhysicalSizeX of OME-XML is '-1'"),
    "no size": (xml(more='PhysicalSizeX="0"'), "PhysicalSizeX of OME-XML is '0'"),
    "unit": (xml(more='PhysicalSizeX="2" PhysicalSizeXUnit="ell"'), "unit 'ell' of OME-XML"),
    "imagej spacing": ("ImageJ=1.54\nimages=3\nslices=3\nspacing=-2.0\n", "spacing of ImageJ is"),
    "imagej unit": ("ImageJ=1.54\nimages=3\nslices=3\nspacing=2\nunit=ell\n", "unit 'ell' of"),
}


@pytest.mark.parametrize("description", [d for d, _ in FAULTS.values()], ids=FAULTS)
def test_the_pixels_open_and_the_fault_is_told(
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


@pytest.mark.parametrize(
    ("sizes", "fault", "kept"),
    [
        (SIZES.replace('"3"', '"5"'), "OME series is missing 2 frames", 3),
        (SIZES.replace('"3"', '"2"'), "OME series expected 2 frames, got 3", 2),
    ],
    ids=["more", "fewer"],
)
def test_planes_that_the_xml_counts_wrongly_are_told(
    tmp_path: Path, sizes: str, fault: str, kept: int
) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, xml(sizes))
    with pytest.warns(TiffStackWarning, match=rf"a.ome.tif: {fault}"):
        pixels = open_stack(str(path)).read()
    np.testing.assert_array_equal(pixels[:kept], PLANES[:kept])


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


def test_the_same_fault_in_many_files_is_told_in_a_few_lines(tmp_path: Path) -> None:
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


def test_broken_metaseries_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    said = "<MetaData><PlaneInfo></MetaData>"
    options = {"software": "MetaSeries", "metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(path, PLANES[0], description=said, **options)
    with pytest.warns(TiffStackWarning, match=r"a.tif: metaseries metadata cannot be read"):
        np.testing.assert_array_equal(open_stack(str(path)).read(), PLANES[0])
