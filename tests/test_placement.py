"""Tiles lie where rasterio puts them, or have no coordinates, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.merge
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin

from intake_tiffstack import TiffStackSource, TiffStackZarrSource, open_stack
from intake_tiffstack.errors import LayoutError, TiffStackWarning

# rasterio multiplies transforms with the operator that affine 3.1 is to give up
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

SCENE = np.arange(24 * 30, dtype="uint16").reshape(24, 30)
WEST, NORTH, STEP = 500_000, 4_600_000, 30


def write(path: Path, pixels: Any, transform: Affine, crs: str = "EPSG:32633") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels)
    kinds = {"driver": "GTiff", "count": 1, "dtype": pixels.dtype, "crs": crs}
    height, width = pixels.shape
    with rasterio.open(path, "w", height=height, width=width, transform=transform, **kinds) as file:
        file.write(pixels[None])
    return path


def at(x: float, y: float) -> Affine:
    """Return the place of a tile by the pixel of the scene that it begins at."""
    return from_origin(WEST + STEP * x, NORTH - STEP * y, STEP, STEP)


def tile(path: Path, x: int, y: int, width: int = 10, height: int = 8, add: int = 0) -> Path:
    return write(path, SCENE[y : y + height, x : x + width] + add, at(x, y))


def assert_as_merged(array: xr.DataArray, paths: list[Path]) -> None:
    """Compare pixels and the coordinates of their centres with rasterio's mosaic."""
    merged, transform = rasterio.merge.merge(paths)
    np.testing.assert_array_equal(array.values, merged[0])
    np.testing.assert_allclose(array.x, [transform.c + transform.a * (i + 0.5) for i in range(30)])
    np.testing.assert_allclose(array.y, [transform.f + transform.e * (i + 0.5) for i in range(24)])


def write_scene(folder: Path, name: Any) -> list[Path]:
    places = [(row, column) for row in range(3) for column in range(3)]
    return [tile(folder / name(r, c), c * 10, r * 8) for r, c in places]


@pytest.mark.parametrize("validate", ["auto", "all", "template"])
@pytest.mark.parametrize(
    ("name", "pattern", "turned"),
    [
        (lambda r, c: f"N{48 - r}E{c:03d}.tif", "N{y:d}E{x:d}.tif", "y"),
        (lambda r, c: f"7/{c}/{2 - r}.tif", "{x:d}/{y:d}.tif", "y"),  # TMS
        (lambda r, c: f"r{r}_W{9 - c:03d}.tif", "r{y:d}_W{x:d}.tif", "x"),
        (lambda r, c: f"N{48 - r}W{9 - c:03d}.tif", "N{y:d}W{x:d}.tif", "yx"),
        (lambda r, c: f"{'cab'[r]}{c}.tif", r"^(?P<y>[a-c])(?P<x>\d)", "y"),
        (lambda r, c: f"r{r}c{c}.tif", "r{y:d}c{x:d}.tif", ""),
        (lambda r, c: f"r{10 * r}c{10 * c}.tif", "r{y:d}c{x:d}.tif", ""),
    ],
    ids=["latitude", "tms", "west", "both", "letters", "as they are", "tens"],
)
@pytest.mark.filterwarnings("ignore:.*in the order of the map:UserWarning")
def test_rows_and_columns_lie_as_on_the_map(
    tmp_path: Path, name: Any, pattern: str, turned: str, validate: Any
) -> None:
    paths = write_scene(tmp_path, name)
    stack = open_stack(
        f"{tmp_path}/**/*.tif", pattern=pattern, concat_dim=["y", "x"], validate=validate
    )
    assert_as_merged(stack.to_xarray(), paths)
    lines = [line for line in str(stack.report()).splitlines() if "order of the map" in line]
    assert len(lines) == len(turned)
    assert stack.metadata["affine"] == list(at(0, 0)[:6])


def test_that_an_axis_is_turned_is_said(tmp_path: Path) -> None:
    write_scene(tmp_path, lambda r, c: f"N{48 - r}E{c}.tif")
    with pytest.warns(TiffStackWarning, match="y is in the order of the map, 48, 47, 46, and not"):
        open_stack(tmp_path, pattern="N{y:d}E{x:d}.tif", concat_dim=["y", "x"]).to_dask()


@pytest.mark.filterwarnings("ignore:.*in the order of the map:UserWarning")
def test_what_lies_along_a_turned_axis_is_turned(tmp_path: Path) -> None:
    for t in (0, 1):
        for row in range(3):
            tile(tmp_path / f"t{t}_N{48 - row}_{'abc'[row]}.tif", 0, row * 8, 30, add=1000 * t)
    stack = open_stack(tmp_path, pattern="t{t:d}_N{y:d}_{strip}.tif", concat_dim=["t", "y"])
    array = stack.to_xarray()
    np.testing.assert_array_equal(array.values, np.stack([SCENE, SCENE + 1000]))
    assert array.y_file[::8].values.tolist() == [48, 47, 46]
    assert array.strip[::8].values.tolist() == ["a", "b", "c"]
    cells = {Path(f["url"]).name: f["cell"] for f in stack.report().to_dict()["files"]}
    assert cells["t1_N46_c.tif"] == {"t": 1, "y": 46}
    files = stack.files
    assert files.cell[files.url.str.endswith("t1_N46_c.tif")].tolist() == [(1, 2)]


@pytest.mark.filterwarnings("ignore:.*in the order of the map:UserWarning")
def test_a_copy_and_a_chosen_part_lie_as_on_the_map(tmp_path: Path) -> None:
    paths = write_scene(tmp_path / "raw", lambda r, c: f"N{48 - r}E{c}.tif")
    options: dict[str, Any] = {"pattern": "N{y:d}E{x:d}.tif", "concat_dim": ["y", "x"]}
    open_stack(tmp_path / "raw", **options).export(tmp_path / "copy.zarr")
    assert_as_merged(TiffStackZarrSource(str(tmp_path / "copy.zarr")).to_xarray(), paths)
    part = open_stack(tmp_path / "raw", **options, sel={"y": {"to": 47}}).to_xarray()
    np.testing.assert_array_equal(part, SCENE[8:])
    assert part.y[0] == NORTH - STEP * 8.5


@pytest.mark.filterwarnings("ignore:.*in the order of the map:UserWarning")
def test_a_missing_tile_of_a_turned_axis_is_a_hole_in_its_place(tmp_path: Path) -> None:
    paths = write_scene(tmp_path, lambda r, c: f"N{48 - r}E{c}.tif")
    paths.pop(4).unlink()
    array = open_stack(
        tmp_path, pattern="N{y:d}E{x:d}.tif", concat_dim=["y", "x"], missing="fill"
    ).to_xarray()
    assert_as_merged(array, paths)


def test_unequal_edge_tiles_lie_where_they_are(tmp_path: Path) -> None:
    paths = [
        tile(tmp_path / f"r{r}c{c}.tif", x, y, width, height)
        for r, (y, height) in enumerate([(0, 8), (8, 8), (16, 8)])
        for c, (x, width) in enumerate([(0, 12), (12, 12), (24, 6)])
    ]
    array = open_stack(tmp_path, pattern="r{y:d}c{x:d}.tif", concat_dim=["y", "x"]).to_xarray()
    assert_as_merged(array, paths)


def test_an_order_that_labels_give_is_kept(tmp_path: Path) -> None:
    write_scene(tmp_path, lambda r, c: f"N{48 - r}E{c}.tif")
    options: dict[str, Any] = {"pattern": "N{y:d}E{x:d}.tif", "concat_dim": ["y", "x"]}
    right = open_stack(tmp_path, **options, labels={"y": ["48", "47", "46"]}).to_xarray()
    np.testing.assert_array_equal(right, SCENE)
    assert right.y[0] == NORTH - STEP / 2
    with pytest.warns(TiffStackWarning, match="disagree on the place along y"):
        wrong = open_stack(tmp_path, **options, labels={"y": ["46", "47", "48"]}).to_xarray()
    assert "y" not in wrong.coords
    assert "x" in wrong.coords


@pytest.mark.parametrize(
    ("rows", "shift"), [((0, 14), "6 pixels further"), ((0, 5), "3 pixels before that")]
)
def test_tiles_with_a_gap_or_an_overlap_have_no_coordinates(
    tmp_path: Path, rows: tuple[int, int], shift: str
) -> None:
    for number, row in enumerate(rows):
        tile(tmp_path / f"r{number}.tif", 0, row)
    options: dict[str, Any] = {"pattern": "r{y:d}.tif", "concat_dim": "y"}
    stack = open_stack(tmp_path, **options)
    with pytest.warns(TiffStackWarning, match=f"place along y, so there are no .*{shift}"):
        array = stack.to_xarray()
    assert "y" not in array.coords
    assert array.x[0] == WEST + STEP / 2
    assert stack.metadata["affine"] is None
    assert "y" not in stack.metadata["translation"]
    assert stack.metadata["scale"] == {"y": -STEP, "x": STEP}
    with pytest.warns(TiffStackWarning, match="give the option translation to settle it"):
        settled = open_stack(tmp_path, **options, translation={"y": 5.0}).to_xarray()
    assert settled.y[0] == 5


def test_tiles_that_a_line_of_names_puts_elsewhere_are_refused(tmp_path: Path) -> None:
    for name, x, y in (("r0c0", 0, 0), ("r0c1", 10, 8), ("r1c0", 0, 8), ("r1c1", 10, 0)):
        tile(tmp_path / f"{name}.tif", x, y)
    stack = open_stack(tmp_path, pattern="r{y:d}c{x:d}.tif", concat_dim=["y", "x"])
    with pytest.raises(LayoutError, match=r"one row along y .*r0c0\.tif begins .* 8 pixels away"):
        stack.to_dask()
    assert "do not lie in one" in stack.report().to_dict()["problems"][0]


def test_sites_have_no_coordinates_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "A.tif", SCENE, at(0, 0))
    write(tmp_path / "B.tif", SCENE, at(3000, -700))
    array = open_stack(tmp_path, pattern="{tile}.tif").to_xarray()
    assert not {"x", "y"} & set(array.coords)
    assert array.attrs["crs"] == "EPSG:32633"
    assert "affine" not in array.attrs


def test_mosaics_of_several_sites_have_none_either(tmp_path: Path) -> None:
    for site, x in (("A", 0), ("B", 3000)):
        for number in range(3):
            pixels = SCENE[number * 8 : number * 8 + 8]
            write(tmp_path / f"{site}_r{number}.tif", pixels, at(x, number * 8))
    with pytest.warns(TiffStackWarning, match="disagree on the place along x"):
        array = open_stack(
            tmp_path, pattern="{site}_r{y:d}.tif", concat_dim=["site", "y"]
        ).to_xarray()
    assert "x" not in array.coords
    assert array.y[0] == NORTH - STEP / 2


@given(shift=st.floats(0.02, 0.98), dim=st.sampled_from("yx"))
def test_a_time_series_that_is_shifted_has_no_coordinates(
    tmp_path_factory: pytest.TempPathFactory, shift: float, dim: str
) -> None:
    folder = tmp_path_factory.mktemp("shifted")
    write(folder / "t0.tif", SCENE, at(0, 0))
    write(folder / "t1.tif", SCENE, at(0, shift) if dim == "y" else at(shift, 0))
    with pytest.warns(TiffStackWarning, match=f"disagree on the place along {dim}"):
        array = open_stack(folder, pattern="t{t:d}.tif").to_xarray()
    assert {"x", "y"} - set(array.coords) == {dim}


def test_every_file_whose_header_was_read_counts(tmp_path: Path) -> None:
    """The odd one is neither the first at its time nor in its channel."""
    for t in range(3):
        for c in range(3):
            shift = 4 if (t, c) == (2, 2) else 0
            write(tmp_path / f"t{t}_c{c}.tif", SCENE, at(shift, 0))
    with pytest.warns(TiffStackWarning, match=r"disagree on the place along x, .*t2_c2\.tif"):
        array = open_stack(tmp_path, pattern="t{t:d}_c{c:d}.tif").to_xarray()
    assert "x" not in array.coords
    assert "y" in array.coords


def test_tiles_on_two_maps_have_no_coordinates(tmp_path: Path) -> None:
    write(tmp_path / "c0.tif", SCENE[:, :15], at(0, 0))
    write(tmp_path / "c1.tif", SCENE[:, 15:], at(15, 0), crs="EPSG:32632")
    with pytest.warns(TiffStackWarning) as caught:
        array = open_stack(tmp_path, pattern="c{x:d}.tif", concat_dim="x").to_xarray()
    assert any("is on EPSG:32633, but" in str(warning.message) for warning in caught)
    assert not {"x", "y"} & set(array.coords)


@pytest.mark.filterwarnings("ignore:.*in the order of the map:UserWarning")
def test_a_persisted_copy_lies_as_on_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    paths = write_scene(tmp_path / "raw", lambda r, c: f"N{48 - r}E{c}.tif")
    options: dict[str, Any] = {"pattern": "N{y:d}E{x:d}.tif", "concat_dim": ["y", "x"]}
    TiffStackSource(str(tmp_path / "raw"), **options).persist()
    again = TiffStackSource(str(tmp_path / "raw"), **options)
    assert_as_merged(again.to_xarray(), paths)
    assert "from the copy of" in repr(again)
