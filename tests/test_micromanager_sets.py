"""Sets of Micro-Manager by their own indexes: tifffile reads files and indexes as the truth."""

from __future__ import annotations

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from intake_tiffstack import open_stack
from intake_tiffstack.errors import LayoutError, MissingFilesError, UnreadableFileError
from servers import serve_s3

SHAPE = (6, 8)


def write_pages(path: Path, pages: list[tuple[NDArray[Any], dict[str, Any]]], head: bytes) -> None:
    """Write a TIFF of 16-bit pages, each with its JSON; *head* follows the first eight bytes."""
    content = bytearray(struct.pack("<2sHI", b"II", 42, 8 + len(head)) + head)
    for number, (pixels, record) in enumerate(pages):
        text = json.dumps(record).encode() + b"\0"
        height, width = pixels.shape
        data = len(content) + 2 + 9 * 12 + 4
        tags = [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1),
            (262, 3, 1, 1), (273, 4, 1, data), (278, 4, 1, height), (279, 4, 1, pixels.nbytes),
            (51123, 2, len(text), data + pixels.nbytes),
        ]  # fmt: skip
        following = 0 if number == len(pages) - 1 else data + pixels.nbytes + len(text)
        content += struct.pack("<H", len(tags))
        content += b"".join(struct.pack("<HHII", *tag) for tag in tags)
        content += struct.pack("<I", following) + pixels.astype("<u2").tobytes() + text
    path.write_bytes(content)


def plane(value: int) -> NDArray[Any]:
    return np.arange(48, dtype="u2").reshape(SHAPE) + 50 * value


def ndtiff_head(summary: dict[str, Any]) -> bytes:
    text = json.dumps(summary).encode()
    return struct.pack("<5I", 483729, 3, 0, 2355492, len(text)) + text


def write_ndtiff(folder: Path, *, per_file: int = 5) -> dict[tuple[Any, ...], NDArray[Any]]:
    """Write an NDTiff set of 24 planes in files of some; return them by axes."""
    folder.mkdir(exist_ok=True)
    places = list(itertools.product((0, 1), (0, 1, 2), ("GFP", "DAPI"), (-1, 1)))
    head = ndtiff_head({"ChNames": ["DAPI", "GFP"], "ChColors": [255, 65280], "PixelSizeUm": 0.5})
    index, expected = b"", {}
    for number, start in enumerate(range(0, len(places), per_file)):
        pages = []
        for value, (p, t, channel, z) in enumerate(places[start : start + per_file], start):
            record = {
                "XPositionUm": 1000.0 * p,
                "YPositionUm": -7.5,
                "ZPositionUm": 20 + 3.0 * z,
                "ElapsedTime-ms": 250.0 * t,
            }
            pages.append((plane(value), record))
            expected[p, t, channel, z] = plane(value)
        name = f"run_NDTiffStack{f'_{number}' if number else ''}.tif"
        write_pages(folder / name, pages, head)
        with tifffile.TiffFile(folder / name) as tif:
            for page, (p, t, channel, z) in zip(tif.pages, places[start:], strict=False):
                axes = json.dumps({"position": p, "time": t, "channel": channel, "z": z}).encode()
                tag = page.tags[51123]
                index += struct.pack("<I", len(axes)) + axes
                index += struct.pack("<I", len(name)) + name.encode()
                index += struct.pack(
                    "<8I", page.dataoffsets[0], 8, 6, 1, 0, tag.valueoffset, tag.count - 1, 0
                )
    (folder / "NDTiff.index").write_bytes(index)
    return expected


@pytest.mark.parametrize("per_file", [1, 5, 24])
@pytest.mark.parametrize("name", ["", "NDTiff.index", "run_NDTiffStack.tif"])
def test_an_ndtiff_set_opens_by_its_index(tmp_path: Path, per_file: int, name: str) -> None:
    expected = write_ndtiff(tmp_path, per_file=per_file)
    assert len(list(tifffile.read_ndtiff_index(tmp_path / "NDTiff.index"))) == 24
    stack = open_stack(tmp_path / name, sets="ndtiff")
    array = stack.to_xarray()
    assert array.dims == ("position", "time", "channel", "z", "y", "x")
    for (p, t, channel, z), pixels in expected.items():
        own = array.sel(position=p, time=t, channel=channel, z=z)
        np.testing.assert_array_equal(own, pixels)
    assert array.channel.values.tolist() == ["GFP", "DAPI"]
    assert stack.channel_names == ["GFP", "DAPI"]
    assert stack.metadata["channel_colors"] == ["#00ff00", "#0000ff"]
    np.testing.assert_array_equal(array.stage_x_um, [0, 1000])
    np.testing.assert_array_equal(array.stage_y_um, [-7.5, -7.5])
    np.testing.assert_array_equal(array.z_um, [17, 23])
    np.testing.assert_array_equal(array.time_s, [0, 0.25, 0.5])


def test_planes_and_files_that_are_gone_are_holes(tmp_path: Path) -> None:
    expected = write_ndtiff(tmp_path)
    (tmp_path / "run_NDTiffStack_2.tif").unlink()
    with pytest.raises(MissingFilesError, match=r"5 of 24 planes .* absent: run_NDTiffStack_2.tif"):
        _ = open_stack(tmp_path, sets="ndtiff").sizes
    array = open_stack(tmp_path, sets="ndtiff", missing="mask", fill_value=9).to_xarray()
    for number, ((p, t, channel, z), pixels) in enumerate(expected.items()):
        own = array.sel(position=p, time=t, channel=channel, z=z)
        is_gone = number // 5 == 2
        assert bool(own.is_missing) is is_gone
        np.testing.assert_array_equal(own, np.full(SHAPE, 9) if is_gone else pixels)


def test_an_index_that_a_crash_cut_gives_what_it_has(tmp_path: Path) -> None:
    expected = write_ndtiff(tmp_path, per_file=24)
    index = tmp_path / "NDTiff.index"
    content = index.read_bytes()
    length = len(content) // 24
    index.write_bytes(content[: 14 * length + 3] + b"\0" * 100)
    with pytest.warns(UserWarning, match=r"knows 1[34] of the 24 pages of .*: those at the end"):
        array = open_stack(tmp_path, sets="ndtiff", missing="fill").to_xarray()
    for (p, t, channel, z), pixels in list(expected.items())[:13]:
        own = array.sel(position=p, time=t, channel=channel, z=z)
        np.testing.assert_array_equal(own, pixels)
    assert (array.sel(position=1, time=0, channel="DAPI", z=1) == 0).all()
    index.write_bytes(b"\0" * 100)
    with pytest.raises(UnreadableFileError, match="lists no plane"):
        _ = open_stack(tmp_path, sets="ndtiff").sizes


def test_an_index_that_is_nested_without_end_ends_there(tmp_path: Path) -> None:
    write_ndtiff(tmp_path, per_file=24)
    with open(tmp_path / "NDTiff.index", "ab") as index:
        index.write(struct.pack("<I", 100_000) + b"[" * 100_000)
    assert open_stack(tmp_path, sets="ndtiff").read().shape == (2, 3, 2, 2, *SHAPE)


def test_a_set_of_one_plane_without_axes(tmp_path: Path) -> None:
    write_pages(tmp_path / "run_NDTiffStack.tif", [(plane(3), {})], ndtiff_head({}))
    name = b"run_NDTiffStack.tif"
    index = struct.pack("<I", 2) + b"{}" + struct.pack("<I", len(name)) + name
    (tmp_path / "NDTiff.index").write_bytes(index + struct.pack("<8I", 512, 8, 6, 1, 0, 0, 0, 0))
    stack = open_stack(tmp_path, sets="ndtiff")
    assert stack.dims == ("y", "x")
    np.testing.assert_array_equal(stack.read(), plane(3))
    np.testing.assert_array_equal(stack.to_dask()[2, 1:].compute(), plane(3)[2, 1:])


def test_one_file_of_an_ndtiff_set_names_the_set(tmp_path: Path) -> None:
    write_ndtiff(tmp_path)
    with pytest.warns(UserWarning, match="NDTiff.index beside it lists: sets='ndtiff' opens"):
        assert open_stack(tmp_path / "run_NDTiffStack_1.tif").shape == (5, *SHAPE)


def test_an_ndtiff_set_on_s3(tmp_path: Path) -> None:
    expected = write_ndtiff(tmp_path)
    with serve_s3() as server:
        server.put("sets", {f"a/{path.name}": path.read_bytes() for path in tmp_path.iterdir()})
        options = {"storage_options": server.storage_options, "sets": "ndtiff"}
        array = open_stack("s3://sets/a/NDTiff.index", **options).to_xarray()
        own = array.sel(position=1, time=2, channel="DAPI", z=-1)
        np.testing.assert_array_equal(own, expected[1, 2, "DAPI", -1])
        np.testing.assert_array_equal(array.stage_x_um, [0, 1000])


def write_mmstack(folder: Path, *, has_map: bool = True) -> NDArray[Any]:
    """Write Micro-Manager stacks without OME-XML: two positions, the first in two files."""
    places = list(itertools.product((0, 1), (0, 1, 2), (0, 1), (0, 1)))
    files = {
        "run_MMStack_Pos0.tif": places[:7],
        "run_MMStack_Pos0_1.tif": places[7:12],
        "run_MMStack_Pos1.tif": places[12:],
    }
    expected = np.zeros((2, 3, 2, 2, *SHAPE), "u2")
    for name, own in files.items():
        values = [places.index(place) for place in own]
        pages = [(plane(value), {"PixelSizeUm": 0.5}) for value in values]
        write_pages(folder / name, pages, b"\0" * 32)
        content = bytearray((folder / name).read_bytes())
        with tifffile.TiffFile(folder / name) as tif:
            offsets = [page.offset for page in tif.pages]
        entries = [
            struct.pack("<5I", c, z, t, p, offset)
            for (p, t, z, c), offset in zip(own, offsets, strict=True)
        ]
        if has_map:
            content[8:16] = struct.pack("<2I", 54773648, len(content))
            content += struct.pack("<2I", 3453623, len(own)) + b"".join(reversed(entries))
        (folder / name).write_bytes(content)
        for value, place in zip(values, own, strict=True):
            expected[place] = plane(value)
    return expected


def test_stacks_without_ome_xml_open_by_their_index_maps(tmp_path: Path) -> None:
    expected = write_mmstack(tmp_path)
    with open(tmp_path / "run_MMStack_Pos0_1.tif", "rb") as file:
        found = tifffile.read_micromanager_metadata(file, {"IndexMap"})
    assert len(found["IndexMap"]) == 5  # as tifffile reads it
    stack = open_stack(tmp_path / "run_MMStack_Pos0_1.tif", sets="mmstack")
    assert stack.dims == ("position", "t", "c", "z", "y", "x")
    np.testing.assert_array_equal(stack.read(), expected.transpose(0, 1, 3, 2, 4, 5))
    assert stack.metadata["scale"] == {"y": 0.5, "x": 0.5}


def test_what_is_no_set_of_stacks_is_told(tmp_path: Path) -> None:
    write_mmstack(tmp_path, has_map=False)
    with pytest.raises(UnreadableFileError, match="has no index map of Micro-Manager"):
        _ = open_stack(tmp_path / "run_MMStack_Pos0.tif", sets="mmstack").sizes
    tifffile.imwrite(tmp_path / "a.tif", plane(0))
    with pytest.raises(LayoutError, match="named as Micro-Manager does"):
        _ = open_stack(tmp_path / "a.tif", sets="mmstack").sizes
    write_mmstack(tmp_path)
    twin = tmp_path / "run_MMStack_Pos1_copy.tif"
    twin.write_bytes((tmp_path / "run_MMStack_Pos1.tif").read_bytes())
    with pytest.raises(LayoutError, match=r"both have the plane c=\d, z=\d, t=\d, position=1"):
        _ = open_stack(tmp_path / "run_MMStack_Pos0.tif", sets="mmstack").sizes
