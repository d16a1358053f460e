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
    with pytest.raises(LayoutError, match=r"does not say where the stage was.*stage_y_um"):
        _ = opened(str(tmp_path)).shape
