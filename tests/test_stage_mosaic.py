"""Tiles placed by the stage: the scene they were cut from is the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.errors import LayoutError, MissingFilesError
from servers import serve_s3
from shared_data import SHARED, needs_shared

SCENE = np.arange(1, 1 + 40 * 50, dtype="u2").reshape(40, 50)
STEP = 0.25
PLACE = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(3, 20)] * 2)
WHOLE = [(0, 0, 20, 30), (0, 30, 20, 20), (20, 0, 20, 30), (20, 30, 20, 20)]  # y, x, height, width


def write_tiles(
    folder: Path, places: list[tuple[int, int, int, int]], *, jitter: float = 0.0, start: str = "m"
) -> list[Path]:
    """Write tiles with Micro-Manager's page metadata, each shifted by a part of a pixel."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i, (y, x, height, width) in enumerate(places):
        off = jitter * (-1) ** i if i else 0.0
        page = {
            "XPositionUm": 1000 + STEP * (x + off),
            "YPositionUm": -200 + STEP * (y - off),
            "PixelSizeUm": STEP,
        }
        paths.append(folder / f"{start}{i}.tif")
        tifffile.imwrite(
            paths[-1],
            SCENE[y : y + height, x : x + width],
            metadata=None,
            extratags=[(51123, "s", 0, json.dumps(page), True)],
        )
    return paths


def opened(source: Any, **options: Any) -> Any:
    return open_stack(source, place="stage", **options)


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_tiles_lie_where_the_stage_was(tmp_path: Path, jitter: float) -> None:
    write_tiles(tmp_path, WHOLE, jitter=jitter)
    stack = opened(str(tmp_path))
    array = stack.to_xarray()
    np.testing.assert_array_equal(array, SCENE)
    np.testing.assert_allclose(array.y, -200 + STEP * np.arange(40))
    np.testing.assert_allclose(array.x, 1000 + STEP * np.arange(50))
    assert array.y.attrs["units"] == "micrometer"
    assert "stage_x_um" not in array.coords
    assert ("moved by up to 0.2 pixels" in str(stack.report())) is bool(jitter)
    assert stack.metadata["affine"] is None


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(PLACE, min_size=1, max_size=5))
def test_any_tiles_make_the_part_of_the_scene_that_they_cover(
    tmp_path: Path, places: list[tuple[int, int, int, int]]
) -> None:
    for path in tmp_path.glob("*.tif"):
        path.unlink()
    write_tiles(tmp_path, places)
    seen = np.zeros(SCENE.shape, bool)
    for y, x, height, width in places:
        seen[y : y + height, x : x + width] = True
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    stack = opened([str(path) for path in tmp_path.iterdir()], missing="fill", overlap="first")
    np.testing.assert_array_equal(stack.read(), np.where(seen, SCENE, 0)[part])


def test_overlaps_and_gaps_are_told(tmp_path: Path) -> None:
    write_tiles(tmp_path / "over", [(0, 0, 20, 30), (0, 25, 20, 25)])
    with pytest.raises(LayoutError, match=r"share 20 x 5 pixels"):
        _ = opened(str(tmp_path / "over")).shape
    assert opened(str(tmp_path / "over"), overlap="mean").read().tolist() == SCENE[:20].tolist()
    write_tiles(tmp_path / "gap", [(0, 0, 20, 20), (0, 30, 20, 20)])
    with pytest.raises(MissingFilesError, match=r"200 of 1,000 pixels"):
        _ = opened(str(tmp_path / "gap")).shape


def test_columns_of_a_table_say_where_the_stage_was(tmp_path: Path) -> None:
    rows = []
    for t in range(2):
        for i, (y, x, height, width) in enumerate(WHOLE):
            path = tmp_path / f"{t}_{i}.tif"
            tifffile.imwrite(path, SCENE[y : y + height, x : x + width] + t, metadata=None)
            rows.append(
                {"url": str(path), "t": t, "stage_y_um": y * 0.5, "stage_x_um": 7 + x * 0.5}
            )
    stack = opened(pd.DataFrame(rows), scale={"y": 0.5, "x": 0.5}, units={"y": "um", "x": "um"})
    np.testing.assert_array_equal(stack.read(), [SCENE, SCENE + 1])
    np.testing.assert_allclose(stack.to_xarray().x, 7 + 0.5 * np.arange(50))
    assert stack.to_xarray().x.attrs["units"] == "micrometer"
    pd.DataFrame(rows).to_csv(tmp_path / "tiles.csv", index=False)
    metres = {"scale": {"y": 5e-7, "x": 5e-7}, "units": {"y": "m", "x": "m"}}
    again = opened(str(tmp_path / "tiles.csv"), **metres)
    np.testing.assert_array_equal(again.read(), [SCENE, SCENE + 1])
    np.testing.assert_allclose(again.to_xarray().x, 7e-6 + 5e-7 * np.arange(50))


def test_a_stage_that_counts_the_other_way(tmp_path: Path) -> None:
    rows = []
    for i, (y, x, height, width) in enumerate(WHOLE):
        path = tmp_path / f"{i}.tif"
        tifffile.imwrite(path, SCENE[y : y + height, x : x + width], metadata=None)
        rows.append({"url": str(path), "stage_y_um": 30 - 0.5 * y, "stage_x_um": 0.5 * x})
    stack = opened(pd.DataFrame(rows), scale={"y": -0.5, "x": 0.5})
    np.testing.assert_array_equal(stack.read(), SCENE)
    np.testing.assert_allclose(stack.to_xarray().y, 30 - 0.5 * np.arange(40))


def test_tiles_without_a_place_or_a_scale_are_errors(tmp_path: Path) -> None:
    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.tif", SCENE)
    with pytest.raises(LayoutError, match=r"does not say where the stage was .*stage_y_um"):
        _ = opened(str(tmp_path)).shape


def write_wells(folder: Path, origin: dict[str, tuple[float, float]], skip: set[str]) -> str:
    """Write a table of four tiles a well, whose first pixel is at an origin."""
    rows = []
    for number, (well, (top, left)) in enumerate(origin.items()):
        for i, (y, x, height, width) in enumerate(WHOLE):
            if f"{well}{i}" in skip:
                continue
            name = f"{well}_{i}.tif"
            pixels = SCENE[y : y + height, x : x + width] + 10_000 * number
            tifffile.imwrite(folder / name, pixels, metadata=None)
            place = {"stage_y_um": top + 0.5 * y, "stage_x_um": left + 0.5 * x}
            rows.append(
                {
                    "url": name,
                    "well": well,
                    "field": i,
                    **place,
                    "pixel_y_um": 0.5,
                    "pixel_x_um": 0.5,
                }
            )
    pd.DataFrame(rows).to_csv(folder / "tiles.csv", index=False)
    return str(folder / "tiles.csv")


def test_wells_far_apart_are_images_of_their_own(tmp_path: Path) -> None:
    table = write_wells(tmp_path, {"A01": (0, 0), "B02": (9000.1, 9000.2)}, skip={"B020"})
    stack = opened(table, missing="fill", fill_value=7)
    array = stack.to_xarray()
    second = SCENE + 10_000
    second[:20, :30] = 7
    np.testing.assert_array_equal(array, [SCENE, second])
    assert array.stage_y_um.dims == ("well",)
    np.testing.assert_allclose(array.stage_y_um, [0, 9000.1])
    np.testing.assert_allclose(array.stage_x_um, [0, 9000.2])
    np.testing.assert_allclose(array.x, 0.5 * np.arange(50))
    assert "each well at a separate place" in str(stack.report())
    stack.export(str(tmp_path / "p.zarr"), format="ome-zarr")
    text = (tmp_path / "p.zarr/B/02/0/zarr.json").read_text()
    (multiscale,) = json.loads(text)["attributes"]["ome"]["multiscales"]
    assert multiscale["datasets"][0]["coordinateTransformations"][1]["translation"] == [
        9000.1,
        9000.2,
    ]


def test_positions_that_count_from_the_middle_of_each_well_share_a_frame(tmp_path: Path) -> None:
    table = write_wells(tmp_path, {"A01": (-5, -8), "B02": (-5, -8)}, skip={"B020", "B022"})
    stack = opened(table, missing="fill", fill_value=7)
    second = SCENE + 10_000
    second[:, :30] = 7  # the left half, which B02 lacks, stays where it is in A01
    np.testing.assert_array_equal(stack.read(), [SCENE, second])
    np.testing.assert_allclose(stack.to_xarray().x, -8 + 0.5 * np.arange(50))


def test_tiles_on_s3_are_placed_by_the_columns_of_their_table(tmp_path: Path) -> None:
    table = write_wells(tmp_path, {"A01": (3, 4)}, skip=set())
    with serve_s3() as server:
        server.put("tiles", {f"a/{p.name}": p.read_bytes() for p in tmp_path.iterdir()})
        url = f"s3://tiles/a/{Path(table).name}"
        stack = opened(url, storage_options=server.storage_options)
        np.testing.assert_array_equal(stack.read()[0], SCENE)


RECORD = (
    '<bts:MeasurementRecord bts:Type="IMG" bts:Column="8" bts:Row="4" bts:TimePoint="1" '
    'bts:FieldIndex="{field}" bts:ZIndex="1" bts:ActionIndex="1" bts:X="{x}" bts:Y="{y}" '
    'bts:Z="0.0" bts:Ch="1">f{field}.tif</bts:MeasurementRecord>'
)
CHANNEL = (
    '<bts:MeasurementChannel bts:Ch="1" bts:HorizontalPixelDimension="26.0" '
    'bts:VerticalPixelDimension="26.0"/>'
)


def test_fields_of_a_cellvoyager_make_the_image_of_a_well(tmp_path: Path) -> None:
    # positions of a public plate of four fields of 2,000 pixels, of which every 80th is written
    bts = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
    places = [(-567.1, 402.9), (82.8, 402.9), (-567.1, -247.0), (82.8, -247.0)]
    records = ""
    scene = np.arange(50 * 50, dtype="u2").reshape(50, 50)
    for field, (x, y) in enumerate(places, 1):
        top, left = 25 * (field > 2), 25 * (field % 2 == 0)
        tifffile.imwrite(tmp_path / f"f{field}.tif", scene[top : top + 25, left : left + 25])
        records += RECORD.format(field=field, x=x, y=y)
    (tmp_path / "MeasurementData.mlf").write_text(
        f"<bts:MeasurementData {bts}>{records}</bts:MeasurementData>"
    )
    (tmp_path / "MeasurementDetail.mrf").write_text(
        f"<bts:MeasurementDetail {bts}>{CHANNEL}</bts:MeasurementDetail>"
    )
    stack = opened(tmp_path)
    np.testing.assert_array_equal(stack.to_xarray().squeeze(), scene)
    assert stack.metadata["scale"] == {"y": 26.0, "x": 26.0}
    assert stack.metadata["translation"] == {"y": -402.9, "x": -567.1}


@needs_shared
def test_wells_of_a_metaxpress_plate_lie_apart() -> None:
    assert SHARED is not None
    folder = SHARED / "sequences/faim_metaxpress_timepoint_dirs"
    stack = opened(str(folder), overlap="last", missing="fill")
    assert stack.sizes["y"] == 256
    assert stack.sizes["x"] == 486  # two sites of 256, 314.7 um apart at 1.3672 um
    array = stack.to_xarray().sel(well="B03", t=2).squeeze()
    sites = [tifffile.imread(folder / f"TimePoint_2/9987_B03_s{i}_w1.TIF") for i in (1, 2)]
    np.testing.assert_array_equal(array[:, -256:], sites[1])
    np.testing.assert_array_equal(array[:, : 486 - 256], sites[0][:, : 486 - 256])


def test_a_tile_that_lies_elsewhere_is_named(tmp_path: Path) -> None:
    rows = []
    for name, y in (("a", 0.0), ("b", 10.0), ("lost", 1e9)):
        tifffile.imwrite(tmp_path / f"{name}.tif", SCENE[:20])
        rows.append({"url": str(tmp_path / f"{name}.tif"), "stage_y_um": y, "stage_x_um": 0.0})
    with pytest.raises(LayoutError, match=r"spread over 2,000,000,020 x 50 pixels: .*lost.tif"):
        _ = opened(pd.DataFrame(rows), scale={"y": 0.5, "x": 0.5}, missing="fill").shape
