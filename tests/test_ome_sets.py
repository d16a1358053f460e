"""OME-XML that names files: each file has the dims, names and scale of its own planes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.errors import TiffStackWarning
from intake_tiffstack.header.own_ome import own_part_of_set
from ome_sets import write_set


@pytest.mark.parametrize("has_uuid", [True, False], ids=["uuid", "base-name"])
@pytest.mark.parametrize("reverse", [False, True], ids=["in-order", "reversed"])
@pytest.mark.parametrize("along", ["T", "C", "Z", "TC", "TZ", "CZ"])
def test_each_file_of_a_set_has_its_own_dims(
    tmp_path: Path, along: str, reverse: bool, has_uuid: bool
) -> None:
    pattern, pixels = write_set(tmp_path, along, reverse=reverse, has_uuid=has_uuid)
    stack = open_stack(str(tmp_path), pattern=pattern, dims="tczyx")
    np.testing.assert_array_equal(stack.to_dask().compute(), pixels)
    assert stack.channel_names == ["ch0", "ch1"]
    assert stack.scale == {"z": 5.0, "y": 0.5, "x": 0.5}


def test_what_tifffile_reads_of_the_whole_set_is_the_same(tmp_path: Path) -> None:
    pattern, pixels = write_set(tmp_path, "T", reverse=True)
    whole = tifffile.imread(tmp_path / "exp_T0.ome.tif")
    np.testing.assert_array_equal(whole, pixels)
    np.testing.assert_array_equal(open_stack(str(tmp_path), pattern=pattern).to_dask(), whole)


def test_a_file_alone_has_its_own_planes_and_a_folder_in_the_name_does_not_matter(
    tmp_path: Path,
) -> None:
    _, pixels = write_set(tmp_path, "T", has_uuid=False, prefix="D:\\data\\")
    stack = open_stack(str(tmp_path / "exp_T1.ome.tif"))
    with pytest.warns(TiffStackWarning, match=r"2 more files beside it, .*sets='ome'"):
        _ = stack.shape
    assert stack.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(stack.to_dask().compute(), pixels[1])


def test_files_in_a_store_find_theirs_too(tmp_path: Path) -> None:
    pattern, pixels = write_set(tmp_path, "T", has_uuid=False)
    memory = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        memory.pipe(f"/ome-set/{path.name}", path.read_bytes())
    try:
        stack = open_stack("memory://ome-set", pattern=pattern)
        assert stack.dims == ("t", "c", "z", "y", "x")
        np.testing.assert_array_equal(stack.to_dask().compute(), pixels)
        assert stack.scale["z"] == 5.0
    finally:
        memory.rm("/ome-set", recursive=True)


def test_a_single_file_that_was_renamed_is_still_itself(tmp_path: Path) -> None:
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="{t}" PlaneCount="1"><UUID FileName="old.ome.tif">urn:uuid:1'
        "</UUID></TiffData>"
        for t in range(3)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="8" '
        f'SizeY="8" SizeZ="1" SizeC="1" SizeT="3">{data}</Pixels></Image></OME>'
    )
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(
        tmp_path / "new.ome.tif", np.zeros((3, 8, 8), "u2"), description=xml, **options
    )
    assert open_stack(str(tmp_path / "new.ome.tif")).dims == ("t", "y", "x")


def test_planes_that_fill_no_box_are_opened_as_pages_with_a_warning(tmp_path: Path) -> None:
    refs = [(0, 0), (0, 1), (1, 0)]
    data = "".join(
        f'<TiffData FirstT="{t}" FirstC="{c}" IFD="{i}" PlaneCount="1">'
        '<UUID FileName="a.ome.tif">urn:uuid:1</UUID></TiffData>'
        for i, (t, c) in enumerate(refs)
    )
    data += (
        '<TiffData FirstT="1" FirstC="1" IFD="0" PlaneCount="1">'
        '<UUID FileName="b.ome.tif">urn:uuid:2</UUID></TiffData>'
    )
    xml = (
        '<?xml version="1.0"?><OME UUID="urn:uuid:1" xmlns="http://www.openmicroscopy.org/Schemas/'
        'OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" '
        f'Type="uint16" SizeX="8" SizeY="8" SizeZ="1" SizeC="2" SizeT="2">{data}</Pixels></Image>'
        "</OME>"
    )
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 8, 8), "u2"), description=xml, **options)
    with pytest.warns(TiffStackWarning, match="the 3 planes of this file fill no box"):
        metadata = open_stack(str(tmp_path / "a.ome.tif")).metadata
    assert (metadata["dims"], metadata["shape"]) == (["page", "y", "x"], [3, 8, 8])


def test_ome_goes_before_the_json_of_tifffile(tmp_path: Path) -> None:
    channels = "".join(
        f'<Channel ID="Channel:0:{c}" Name="m{c}" SamplesPerPixel="1"/>' for c in range(3)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
        f'SizeX="16" SizeY="16" SizeZ="1" SizeC="3" SizeT="1">{channels}'
        '<TiffData IFD="0" PlaneCount="3"/></Pixels></Image></OME>'
    )
    pixels = np.arange(3 * 256, dtype="u2").reshape(1, 1, 3, 16, 16, 1)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels, description=xml, photometric="minisblack", metadata={})
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert tif.is_shaped
    stack = open_stack(str(path))
    assert (stack.dims, stack.channel_names) == (("c", "y", "x"), ["m0", "m1", "m2"])
    np.testing.assert_array_equal(stack.to_dask().compute(), pixels.squeeze())


def test_xml_about_one_file_is_left_as_it_is() -> None:
    assert own_part_of_set("<OME><Image/></OME>", "a.tif") is None
    one = '<OME UUID="u:1"><TiffData><UUID FileName="a.tif">u:1</UUID></TiffData></OME>'
    assert own_part_of_set(one, "a.tif") is None
    other = "<OME><UUID FileName='b.tif'>u:1</UUID><UUID FileName='c.tif'>u:2</UUID></OME>"
    assert own_part_of_set(other, "a.tif") is None  # neither is known to be this file
    with pytest.raises(ValueError, match="cannot be parsed"):
        own_part_of_set(other.removesuffix("</OME>"), "b.tif")
