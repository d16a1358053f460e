"""Channels keep their names and colours: a single one, some of a set, named in other places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.metadata.planes import values_of_channels
from metadata_files import describe, known_of, ome, said, stacked
from tiff_files import kind

NAMES = ["DAPI", "Boundary", "18S", "SMA"]
COLORS = [65535, 16711935, -16776961, -1]  # RGBA, as the schema of OME has it


# -- one channel, that no dim is for ---------------------------------------------------------------


@pytest.fixture
def plane(tmp_path: Path) -> Path:
    path = tmp_path / "a.ome.tif"
    said = {
        "axes": "YX", "PhysicalSizeZ": 5.0, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
        "Channel": {"Name": "GFP", "Color": 16711935, "EmissionWavelength": 509.0},
    }  # fmt: skip
    tifffile.imwrite(path, np.arange(64, dtype="u2").reshape(8, 8), metadata=said, **kind("ome"))
    return path


def test_a_single_channel_keeps_its_name_its_colour_and_its_step(plane: Path) -> None:
    ome_types = pytest.importorskip("ome_types")
    pixels = ome_types.from_tiff(plane).images[0].pixels
    (channel,) = pixels.channels
    stack = open_stack(str(plane))
    assert stack.dims == ("y", "x")
    assert stack.channel_names == [channel.name] == ["GFP"]
    r, g, b = channel.color.as_rgb_tuple()[:3]
    assert stack.metadata["channel_colors"] == [f"#{r:02x}{g:02x}{b:02x}"] == ["#00ff00"]
    assert stack.metadata["emission_wavelengths"] == [channel.emission_wavelength]
    assert stack.scale == {"z": pixels.physical_size_z, "y": 0.5, "x": 0.5}
    assert stack.physical_pixel_sizes == (5.0, 0.5, 0.5)
    assert stack.to_xarray().attrs["channel_names"] == ["GFP"]
    assert "z" not in stack.to_xarray().coords


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_copy_keeps_the_name_and_colour_of_a_single_channel(
    plane: Path, tmp_path: Path, version: str
) -> None:
    url = str(tmp_path / "a.ome.zarr")
    open_stack(str(plane)).export(url, format="ome-zarr", version=version, progress=False)
    attributes = dict(zarr.open_group(url, mode="r").attrs)
    (channel,) = attributes.get("ome", attributes)["omero"]["channels"]
    assert (channel["label"], channel["color"]) == ("GFP", "00FF00")
    assert attributes["tiffstack"]["attrs"]["scale"]["z"] == 5.0


def test_files_of_one_channel_each_have_a_name_only_if_it_is_one_channel() -> None:
    layout = stacked(t=[0, 1])
    same = {row: said(row, channel_names=("GFP",), display_ranges=([0, row],)) for row in (0, 1)}
    assert known_of(layout, same)["channel_names"] == ["GFP"]
    assert known_of(layout, same)["display_ranges"] == [[0, 0]]
    other = {row: said(row, channel_names=(name,)) for row, name in enumerate("ab")}
    assert known_of(layout, other)["channel_names"] is None
    several = {0: said(channel_names=("a", "b"))}
    assert known_of(layout, several)["channel_names"] is None


# -- some files of a set ---------------------------------------------------------------------------


def write_set(folder: Path, *, first: int = 0, has_uuid: bool = True) -> str:
    """Write one file per channel, each with the XML of the whole set; return the pattern."""
    uuids = [f"urn:uuid:{c}0000000-0000-4000-8000-000000000000" for c in range(4)]
    files = [f"focus_{c + first:04d}.ome.tif" for c in range(4)]
    channels = "".join(
        f'<Channel ID="Channel:{c}" Name="{name}" Color="{color}" SamplesPerPixel="1"/>'
        for c, (name, color) in enumerate(zip(NAMES, COLORS, strict=True))
    )
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="{files[c]}">{uuids[c]}'
        "</UUID></TiffData>"
        for c in range(4)
    )
    for c in range(4):
        own = f'UUID="{uuids[c]}" ' if has_uuid else ""
        xml = (
            f'<?xml version="1.0"?><OME {own}xmlns="http://www.openmicroscopy.org/Schemas/OME/'
            '2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" '
            'Type="uint16" SizeX="8" SizeY="8" SizeZ="1" SizeC="4" SizeT="1">'
            f"{channels}{data}</Pixels></Image></OME>"
        )
        pixels = np.full((8, 8), c, "uint16")
        tifffile.imwrite(folder / files[c], pixels, metadata=None, description=xml)
    return str(folder / "focus_{c:04d}.ome.tif")


@pytest.mark.parametrize("has_uuid", [True, False], ids=["uuid", "base-name"])
@pytest.mark.parametrize("first", [0, 1, 5])
def test_selected_channels_keep_their_own_names(tmp_path: Path, first: int, has_uuid: bool) -> None:
    ome_types = pytest.importorskip("ome_types")
    pattern = write_set(tmp_path, first=first, has_uuid=has_uuid)
    channels = (
        ome_types.from_tiff(tmp_path / f"focus_{first:04d}.ome.tif").images[0].pixels.channels
    )
    colors = ["#{:02x}{:02x}{:02x}".format(*c.color.as_rgb_tuple()[:3]) for c in channels]
    for chosen in ([0, 1, 2, 3], [1, 3], [2], [3]):
        found = open_stack(pattern, sel={"c": [first + c for c in chosen]})
        assert found.to_dask().compute()[:, 0, 0].tolist() == chosen
        assert found.channel_names == [channels[c].name for c in chosen]
        assert found.metadata["channel_colors"] == [colors[c] for c in chosen]


@pytest.mark.filterwarnings("ignore:.*is of an OME-TIFF set")
@pytest.mark.parametrize("first", [0, 1])
def test_what_is_left_of_a_set_keeps_its_own_names(tmp_path: Path, first: int) -> None:
    pattern = write_set(tmp_path, first=first)
    for gone in (0, 2):
        (tmp_path / f"focus_{gone + first:04d}.ome.tif").unlink()
    stack = open_stack(pattern)
    assert stack.channel_names == ["Boundary", "SMA"]
    alone = open_stack(str(tmp_path / f"focus_{3 + first:04d}.ome.tif"))
    assert alone.channel_names == ["SMA"]
    assert alone.metadata["channel_colors"] == ["#ffffff"]


def test_channels_of_files_that_were_not_asked_go_by_number() -> None:
    values = list(range(2, 10))
    names = tuple(f"n{i}" for i in range(8))
    files = {3: said(3, channel_names=names, own_channels=(3,))}
    assert known_of(stacked(c=values), files)["channel_names"] == list(names)
    some = {1: said(1, channel_names=names, own_channels=(5,))}
    assert known_of(stacked(c=[2, 7, 9]), some)["channel_names"] == ["n0", "n5", "n7"]


@pytest.mark.parametrize(
    ("listed", "left", "names"),
    [
        ([0, 1, 2], [0, 2], ["a", "c"]),
        ([0, 1, 2], [1, 2], ["b", "c"]),
        ([1, 2, 3], [2, 3], ["b", "c"]),
        ([1, 2, 3], [3], ["c"]),
        ([2, 3], [2, 3], None),
        ([1, 3], [3], None),
        ([0, 3], [0], None),
    ],
)
def test_numbers_before_the_selection_tell_from_where_names_count(
    listed: list[int], left: list[int], names: list[str] | None
) -> None:
    files = {i: said(i, channel_names=("a", "b", "c")) for i in range(len(left))}
    numbers = {"c": np.array(listed)}
    assert known_of(stacked(c=left), files, numbers=numbers)["channel_names"] == names


def test_micromanager_numbers_the_channel_of_a_file() -> None:
    summary = {"Summary": {"ChNames": ["a", "b", "c"]}, "Page": {"ChannelIndex": 2, "Channel": "c"}}
    found = describe(micromanager=summary)
    assert (found.channel_names, found.own_channels) == (("a", "b", "c"), (2,))
    assert found.channel_values("channel_names") == ("c",)


# -- named in other places -------------------------------------------------------------------------


def write_named_pages(path: Path, names: Sequence[str]) -> None:
    with tifffile.TiffWriter(path) as tif:
        for i, name in enumerate(names):
            pixels = np.full((16, 16), i, "float32")
            tags = [(285, 2, 0, name, True)]
            tif.write(pixels, metadata=None, contiguous=False, extratags=tags)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["DNA1", "CD3", "CD20"], ["DNA1", "CD3", "CD20"]),
        (["191Ir-DNA1", "CD3", "7"], ["191Ir-DNA1", "CD3", "7"]),
        (["Page 1", "Page 2", "Page 3"], None),
        (["1", "2", "3"], None),
        (["scan", "scan", "scan"], None),
    ],
    ids=["markers", "metals", "pages", "numbers", "same"],
)
def test_page_names_are_the_names_of_channels(
    tmp_path: Path, names: list[str], wanted: list[str] | None
) -> None:
    write_named_pages(tmp_path / "a.tif", names)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert [page.tags["PageName"].value for page in tif.pages] == names
    assert open_stack(str(tmp_path / "a.tif"), file_dims="cyx").channel_names == wanted
    assert open_stack(str(tmp_path / "a.tif"), file_dims="zyx").channel_names is None


def write_qptiff(path: Path, names: Sequence[str], element: str) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for i, name in enumerate(names):
            xml = (
                "<PerkinElmer-QPI-ImageDescription><ImageType>FullResolution</ImageType>"
                f"<Objective>20x</Objective><{element}>{name}</{element}><Color>{i * 50},0,255"
                "</Color></PerkinElmer-QPI-ImageDescription>"
            )
            tif.write(
                np.full((32, 32), i, "uint8"), metadata=None, contiguous=False, tile=(16, 16),
                description=xml, software="PerkinElmer-QPI",
            )  # fmt: skip


@pytest.mark.parametrize("element", ["Biomarker", "Name"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_qptiff_names_its_channels(tmp_path: Path, element: str, count: int) -> None:
    names = ["DAPI", "CD8 <Opal 570>".replace("<", "&lt;").replace(">", "&gt;"), "CD20"][:count]
    write_qptiff(tmp_path / "a.qptiff", names, element)
    stack = open_stack(str(tmp_path / "a.qptiff"))
    assert stack.channel_names == ["DAPI", "CD8 <Opal 570>", "CD20"][:count]
    assert stack.metadata["channel_colors"] == ["#0000ff", "#3200ff", "#6400ff"][:count]
    assert stack.metadata["objective"] == {"model": "20x"}


@pytest.mark.parametrize(
    ("axes", "labels", "names"),
    [
        ("CYX", ["DNA1", "CD3", "CD20"], ["DNA1", "CD3", "CD20"]),
        ("ZCYX", ["DNA1", "CD3", "CD20"] * 2, ["DNA1", "CD3", "CD20"]),
        ("CYX", ["DNA1\nexposure: 5", "CD3", "CD20"], ["DNA1", "CD3", "CD20"]),
        ("ZCYX", [f"slice {i}" for i in range(6)], None),
        ("CYX", ["c:1/3 - a", "c:2/3 - a", "c:3/3 - a"], None),
        ("CYX", ["a.lif", "a.lif", "a.lif"], None),
    ],
    ids=["c", "zc", "lines", "planes", "counted", "same"],
)
def test_labels_of_imagej_that_go_by_channel_name_it(
    tmp_path: Path, axes: str, labels: list[str], names: list[str] | None
) -> None:
    shape = (2, 3, 16, 16)[-len(axes) :]
    said: dict[str, Any] = {"axes": axes, "mode": "composite", "Labels": labels}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros(shape, "u2"), metadata=said, **kind("imagej"))
    with tifffile.TiffFile(path) as tif:
        assert tif.imagej_metadata is not None
        assert tif.imagej_metadata["Labels"] == labels
    assert open_stack(str(path)).channel_names == names


@given(
    sizes=st.permutations(["t", "c", "z"]),
    extents=st.fixed_dictionaries({axis: st.integers(1, 4) for axis in "tcz"}),
)
def test_planes_are_counted_in_any_order(sizes: list[str], extents: dict[str, int]) -> None:
    shape = [extents[axis] for axis in sizes]
    index = np.indices(shape)[sizes.index("c")].ravel().tolist()
    found = values_of_channels(index, {axis: extents[axis] for axis in sizes} | {"y": 7, "x": 9})
    assert found == tuple(range(extents["c"]))


# -- a field beside the channel's number -----------------------------------------------------------


def touch(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        tifffile.imwrite(folder / name, np.zeros((4, 5), "u2"), metadata=None)


def test_a_wavelength_beside_the_number_names_the_channel(tmp_path: Path) -> None:
    touch(
        tmp_path, [f"ch{c}_t{t}_{w}nm.tif" for t in (0, 1) for c, w in enumerate((488, 560, 642))]
    )
    pattern = "ch{c:d}_t{t:d}_{wavelength:d}nm.tif"
    stack = open_stack(str(tmp_path), pattern=pattern)
    assert stack.channel_names == ["488", "560", "642"]
    named = stack.to_xarray()
    assert named.c.values.tolist() == [0, 1, 2]
    assert named.channel.values.tolist() == ["488", "560", "642"]
    assert open_stack(str(tmp_path), pattern=pattern, sel={"c": [0, 2]}).channel_names == [
        "488",
        "642",
    ]
    one = open_stack(str(tmp_path), pattern=pattern, sel={"c": 1})
    assert one.channel_names == ["560"]


def test_names_of_files_go_before_a_number_and_after_a_telling_text(tmp_path: Path) -> None:
    layout = stacked(c=[0, 1])
    files = {row: said(row, channel_names=(name,)) for row, name in enumerate("ab")}
    numbers = {"wavelength": (("c",), np.array([488, 560]))}
    texts = {"dye": (("c",), np.array(["DAPI", "GFP"]))}
    cameras = {"cam": (("c",), np.array(["left", "right"]))}

    def names(*coords: dict[str, Any], known: Any = files) -> list[str] | None:
        extra = {name: value for one in coords for name, value in one.items()}
        found = known_of(replace(layout, coords={**layout.coords, **extra}), known)
        return found["channel_names"]  # type: ignore[no-any-return]

    assert names(numbers) == ["a", "b"]
    assert names(texts) == ["DAPI", "GFP"]
    assert names(cameras) == ["a", "b"]
    assert names(cameras, known={}) == ["left", "right"]
    assert names(cameras, numbers, known={}) == ["488", "560"]
    assert names({"wavelength": (("c",), np.array([488, 488]))}, known={}) is None
    assert names({"msec": (("t",), np.array([0, 10]))}, known={}) is None
    # a channel without a file
    assert names({"dye": (("c",), np.array(["DAPI", None], object))}, known={}) == ["DAPI", ""]
    assert names({"wavelength": (("c",), np.array([np.nan, 560]))}, known={}) == ["", "560"]


def test_an_xml_that_lists_its_own_channels_alone_needs_no_number() -> None:
    xml = ome('SizeC="2"', '<Channel Name="a"/><Channel Name="b"/>', "<TiffData/>")
    found = describe("cyx", (2, 4, 5), ome_xml=xml)
    assert (found.channel_names, found.own_channels) == (("a", "b"), ())
