"""What Micro-Manager and MetaMorph say of one file, in it and beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.collection.merge_metadata import describe_file
from intake_tiffstack.errors import TiffStackWarning
from intake_tiffstack.header.raw_metadata import read_raw_metadata
from intake_tiffstack.metadata.describe_file import FileMetadata
from intake_tiffstack.storage.store import stat_file
from metadata_files import (
    UM,
    URL,
    describe,
)
from shared_data import SHARED, needs_shared


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
        f"{URL}: MetaMorph has planes at unequal distances along z; ignored",
    )


# -- pages, and what lies beside -----------------------------------------------------------------

PAGE = {
    "PixelSizeUm": 0.25,
    "ElapsedTime-ms": 1500.0,
    "ReceivedTime": "2024-05-01 10:00:01.500 +0200",
    "ZPositionUm": 12.5,
    "Channel": "Cy5",
    "Objective-Label": "40x",
}


def write_pages(path: Path, page: dict[str, Any] | None, shape: tuple[int, ...] = (4, 5)) -> None:
    tags = [] if page is None else [(51123, 2, 0, json.dumps(page), False)]
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(
        path, np.zeros(shape, "u2"), photometric="minisblack", metadata=None, extratags=tags
    )


def test_what_a_page_says_holds_where_it_is_the_only_one(tmp_path: Path) -> None:
    write_pages(tmp_path / "a.tif", PAGE)
    raw = read_raw_metadata(stat_file(str(tmp_path / "a.tif"), {}))
    found = describe_file(raw, ("y", "x"), (4, 5), url="/d/a.tif")
    assert found.scale == {"y": 0.25, "x": 0.25}
    assert found.heights == (12.5,)
    assert found.channel_names == ("Cy5",)
    assert found.facts["acquired"] == "2024-05-01T08:00:01.500000"
    assert found.facts["objective"] == {"model": "40x"}
    assert found.provenance["acquired"] == "Micro-Manager of a.tif"
    assert not found.warnings
    of_many = describe_file(raw, ("z", "y", "x"), (3, 4, 5), url="/d/a.tif")
    assert of_many.heights == ()


def test_elapsed_time_counts_from_the_start() -> None:
    said = {"Summary": {"StartTime": "2024-05-01 10:00:00 +0200"}, "Page": PAGE}
    found = describe(micromanager=said)
    assert found.facts["acquired"] == "2024-05-01T08:00:00"
    assert found.times == (1.5,)


SUMMARY = {"PixelSize_um": 0.5, "ChNames": ["DAPI", "GFP"], "ChColors": [-16776961, 65280]}
SETTINGS_1_4 = {"Channels": [{"Name": "DAPI", "Color": 255, "Min": 1, "Max": 9}]}
SETTINGS_2_0 = {
    "map": {
        "ChannelSettings": {
            "array": [
                {"Channel": {"type": "STRING", "scalar": name}, "Color": {"scalar": color}}
                for name, color in (("DAPI", -16776961), ("GFP", -16711936))
            ]
        }
    }
}


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the URL of a folder, and where to put what should be in it."""
    if request.param == "local":
        yield str(tmp_path), tmp_path
        return
    memory = fsspec.filesystem("memory")
    yield "memory://acquired", tmp_path
    memory.rm("/acquired", recursive=True)


def publish(url: str, path: Path) -> None:
    if url.startswith("memory"):
        memory = fsspec.filesystem("memory")
        for file in path.rglob("*.*"):
            memory.pipe_file(f"/acquired/{file.relative_to(path)}", file.read_bytes())


def test_the_summary_beside_the_files_names_channels(folder: tuple[str, Path]) -> None:
    url, path = folder
    for c in range(2):
        write_pages(path / f"img_00000000{c}_ch_000.tif", None)
    # cut behind the summary, as a crash leaves it
    text = json.dumps({"Summary": SUMMARY, "FrameKey-0-0-0": {}})[:-9]
    (path / "metadata.txt").write_text(text)
    publish(url, path)
    stack = open_stack(f"{url}/*.tif", pattern="img_{c:d}_ch_000.tif")
    known = stack.metadata
    assert known["scale"] == {"y": 0.5, "x": 0.5}
    assert known["channel_names"] == ["DAPI", "GFP"]
    assert known["channel_colors"] == ["#0000ff", "#00ff00"]
    source = "metadata.txt beside img_000000000_ch_000.tif"
    assert known["provenance"]["channel_names"] == source


@pytest.mark.parametrize(
    ("name", "settings"),
    [("DisplaySettings.json", SETTINGS_2_0), ("display_and_comments.txt", SETTINGS_1_4)],
)
def test_display_settings_beside_the_files_or_one_above(
    folder: tuple[str, Path], name: str, settings: dict[str, Any]
) -> None:
    url, path = folder
    write_pages(path / "Pos0" / "img_000000000_ch_000.tif", None)
    (path / name).write_text(json.dumps(settings))
    publish(url, path)
    found = open_stack(f"{url}/Pos0/img_000000000_ch_000.tif").file_metadata()
    assert found["channel_names"][0] == "DAPI"
    assert found["channel_colors"][0] == "#0000ff"
    assert found["provenance"]["channel_colors"] == f"{name} beside img_000000000_ch_000.tif"


def test_a_file_beside_that_is_broken_is_reported(folder: tuple[str, Path]) -> None:
    url, path = folder
    write_pages(path / "img_000000000_ch_000.tif", None)
    (path / "metadata.txt").write_text('{"Summary": {"PixelSize_um": ')
    publish(url, path)
    with pytest.warns(TiffStackWarning, match=r"metadata.txt is not JSON"):
        assert open_stack(f"{url}/img_000000000_ch_000.tif").read().shape == (4, 5)


@pytest.mark.parametrize("name", ["metadata.txt", "DisplaySettings.json"])
def test_a_file_beside_that_is_nested_without_end_is_reported(tmp_path: Path, name: str) -> None:
    write_pages(tmp_path / "img_000000000_ch_000.tif", None)
    (tmp_path / name).write_text('{"Summary": ' + "[" * 100_000)
    with pytest.warns(
        TiffStackWarning, match=rf"{name} is not JSON: its JSON is nested too deeply"
    ):
        assert open_stack(str(tmp_path / "img_000000000_ch_000.tif")).read().shape == (4, 5)


def test_files_of_others_are_not_looked_for(tmp_path: Path) -> None:
    write_pages(tmp_path / "a.tif", None)
    (tmp_path / "metadata.txt").write_text(json.dumps({"Summary": SUMMARY}))
    assert open_stack(str(tmp_path / "a.tif")).metadata["scale"] == {}


def test_all_pages_are_reported_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for i in range(3):
            tags = [(51123, 2, 0, json.dumps({"FrameIndex": i}), False)]
            tif.write(np.zeros((4, 5), "u1"), metadata=None, extratags=tags, contiguous=False)
    pages = open_stack(str(path)).file_metadata()["raw_pages"]
    assert [page["FrameIndex"] for page in pages] == [0, 1, 2]


# -- MetaMorph's planes --------------------------------------------------------------------------


@needs_shared
def test_what_metaxpress_tells_of_a_plane() -> None:
    assert SHARED is not None
    folder = SHARED / "sequences" / "faim_metaxpress_timepoint_dirs" / "TimePoint_1"
    path = folder / "9987_B02_s1_w1.TIF"
    raw = read_raw_metadata(stat_file(str(path), {}))
    found = describe_file(raw, ("y", "x"), (256, 256), url=path.name)
    assert found.scale == {"y": 1.3672, "x": 1.3672}
    assert found.units == {"y": UM, "x": UM}
    assert found.heights == (9994.76,)
    assert found.channels == {"channel_names": ("DAPI",), "emission_wavelengths": (452.0,)}
    assert found.facts["acquired"] == "2024-07-09T13:15:50.916000"
    assert found.facts["objective"] == {
        "model": "40X Plan Apo Lambda",
        "numerical_aperture": 0.95,
    }
    assert found.provenance["scale.y"] == "MetaSeries of 9987_B02_s1_w1.TIF"


def test_the_times_of_a_stack_are_those_of_its_planes() -> None:
    times = np.array(["2024-01-01T00:00:00", "2024-01-01T00:00:02.5"], "datetime64[ns]")
    stk = {"DatetimeCreated": times, "PlaneProperty": [{"name": "_IllumSetting_", "value": "GFP"}]}
    found = describe("tyx", (2, 4, 5), stk=stk)
    assert found.facts == {"acquired": "2024-01-01T00:00:00"}
    assert found.times == (0.0, 2.5)
    assert found.channel_names == ("GFP",)
    assert describe("zyx", (2, 4, 5), stk=stk).times == ()
