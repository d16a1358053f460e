"""Tiles placed by their georeference: pixels and coordinates are those of rasterio's mosaic."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import pytest
import rasterio
import rasterio.merge
import zarr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.transform import from_origin

from intake_tiffstack import TiffStackZarrSource, open_stack
from intake_tiffstack.errors import LayoutError, MissingFilesError, OptionError, TiffStackError
from intake_tiffstack.layout.mosaic import Tile, count_covers

# rasterio multiplies transforms with the operator that affine 3.1 is to give up
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

WEST, NORTH, STEP = 6.0, 47.0, 0.125
SCENE = np.arange(1, 1 + 40 * 50, dtype="uint16").reshape(40, 50)


def write(
    path: Path, pixels: Any, x: float, y: float, *, crs: str = "EPSG:4326", **options: Any
) -> Path:
    """Write a tile that begins at a line and a column of the scene."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.atleast_3d(np.asarray(pixels).T).T
    transform = from_origin(WEST + STEP * x, NORTH - STEP * y, STEP, STEP)
    kinds = {"driver": "GTiff", "dtype": pixels.dtype, "crs": crs, "transform": transform}
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", count=count, height=height, width=width, **(kinds | options)
    ) as file:
        file.write(pixels)
    return path


def write_tiles(
    folder: Path, places: list[tuple[int, int, int, int]], **options: Any
) -> list[Path]:
    """Write tiles of the scene, (x, y, width, height), each a little brighter than the last."""
    return [
        write(folder / f"tile_{i}.tif", SCENE[y : y + h, x : x + w] + 10 * i, x, y, **options)
        for i, (x, y, w, h) in enumerate(places)
    ]


def mean_of(paths: list[Path], nodata: float | None = None) -> NDArray[Any]:
    """Return rasterio's sum over its count; NaN where there is none."""
    merged, _ = rasterio.merge.merge(paths, method="sum", nodata=nodata, dtype="float64")
    counts, _ = rasterio.merge.merge(paths, method="count", nodata=nodata, dtype="float64")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts[0] >= 1, merged[0] / counts[0], math.nan)


def opened(folder: Path, **options: Any) -> Any:
    return open_stack(folder, **({"place": "georeference", "missing": "fill"} | options))


def assert_as_merged(stack: Any, paths: list[Path], **options: Any) -> None:
    merged, transform = rasterio.merge.merge(paths, **options)
    array = stack.to_xarray()
    np.testing.assert_array_equal(array.values, merged[0])
    assert_in_place(stack, transform)


def test_the_table_of_files_has_all_tiles(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, [(0, 0, 10, 8), (10, 0, 5, 8)])
    assert list(opened(tmp_path).files.url) == [str(path) for path in paths]


def assert_in_place(stack: Any, transform: Affine) -> None:
    array = stack.to_xarray()
    height, width = array.shape[-2:]
    np.testing.assert_allclose(array.x, transform.c + transform.a * (np.arange(width) + 0.5))
    np.testing.assert_allclose(array.y, transform.f + transform.e * (np.arange(height) + 0.5))
    np.testing.assert_allclose(stack.metadata["affine"], tuple(transform)[:6])


WHOLE = [(0, 0, 20, 20), (20, 0, 30, 20), (0, 20, 20, 20), (20, 20, 30, 20)]


def test_tiles_without_overlap_are_placed_exactly(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, WHOLE)
    stack = opened(tmp_path, missing="raise")
    assert stack.dims == ("y", "x")
    assert_as_merged(stack, paths)
    assert "4 tiles placed by georeference; 0.000% of the pixels" in str(stack.report())


def test_unequal_edge_tiles_fit(tmp_path: Path) -> None:
    paths = write_tiles(
        tmp_path, [(0, 0, 32, 32), (32, 0, 18, 32), (0, 32, 32, 8), (32, 32, 18, 8)]
    )
    assert_as_merged(opened(tmp_path, missing="raise"), paths)


def test_gaps_are_holes(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, [(0, 0, 20, 20), (30, 5, 20, 20), (0, 30, 50, 10)])
    with pytest.raises(MissingFilesError, match=r"leave 700 of 2,000 pixels \(35\.00%\)"):
        opened(tmp_path, missing="raise").to_dask()
    assert_as_merged(opened(tmp_path), paths)
    assert_as_merged(opened(tmp_path, fill_value=7), paths, nodata=7)


@pytest.mark.parametrize("overlap", ["last", "first", "max"])
def test_overlaps_are_composed_as_by_rasterio(
    tmp_path: Path, overlap: Literal["last", "first", "max"]
) -> None:
    paths = write_tiles(tmp_path, [(0, 0, 30, 24), (20, 0, 30, 20), (5, 16, 40, 24), (2, 2, 3, 3)])
    assert_as_merged(opened(tmp_path, overlap=overlap), paths, method=overlap)


def test_the_mean_is_that_of_all_that_have_the_pixel(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, [(0, 0, 30, 40), (20, 0, 30, 40), (10, 10, 30, 20)])
    expected = np.rint(mean_of(paths)).astype("uint16")
    np.testing.assert_array_equal(opened(tmp_path, overlap="mean").read(), expected)


@pytest.mark.parametrize("overlap", ["last", "first", "max"])
@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("float32", math.nan)])
def test_nodata_never_counts_where_another_tile_has_data(
    tmp_path: Path, overlap: Literal["last", "first", "max"], dtype: str, nodata: float
) -> None:
    rng = np.random.default_rng(3)
    paths = []
    for i, (x, y) in enumerate([(0, 0), (8, 0), (4, 6)]):
        pixels = rng.integers(-99, 99, (12, 14)).astype(dtype)
        pixels[rng.random(pixels.shape) < 0.3] = nodata
        paths.append(write(tmp_path / f"tile_{i}.tif", pixels, x, y, nodata=nodata))
    assert_as_merged(opened(tmp_path, overlap=overlap), paths, method=overlap)
    mean = opened(tmp_path, overlap="mean").read().astype("float64")
    mean[mean == nodata] = math.nan
    expected = mean_of(paths, nodata)
    np.testing.assert_allclose(mean, np.rint(expected) if dtype == "int16" else expected, rtol=1e-6)


def test_an_overlap_without_the_option_is_told_with_its_amount(tmp_path: Path) -> None:
    write_tiles(tmp_path, [(0, 0, 30, 40), (20, 0, 30, 40)])
    with pytest.raises(
        LayoutError, match=r"tile_0\.tif and .*tile_1\.tif share 40 x 10 pixels; 20"
    ):
        opened(tmp_path).to_dask()
    assert any("tiles overlap" in text for text in opened(tmp_path).report().to_dict()["problems"])


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("N{la}E{lo}", "N{y:d}E{x:d}.tif"),
        ("8/{c}/{r}", "{x:d}/{y:d}.tif"),
        ("ESA_WorldCover_10m_2021_v200_N{la}E00{lo}_Map", "{}_v200_{tile}_Map.tif"),
        ("N{la}E{lo}", None),
    ],
    ids=["srtm", "tms", "worldcover", "no pattern"],
)
def test_names_need_not_say_where_a_tile_is(tmp_path: Path, name: str, pattern: str | None) -> None:
    paths = [
        write(
            tmp_path / f"{name.format(la=46 - r, lo=6 + c, r=7 - r, c=c)}.tif",
            SCENE[r * 8 : r * 8 + 8, c * 8 : c * 8 + 8],
            c * 8,
            r * 8,
        )
        for r in range(3)
        for c in range(4)
    ]
    paths.pop(5).unlink()
    stack = open_stack(
        f"{tmp_path}/**/*.tif", pattern=pattern, place="georeference", missing="fill"
    )
    assert_as_merged(stack, paths)


def test_times_and_bands_are_dims_and_tiles_are_not(tmp_path: Path) -> None:
    expected = np.zeros((2, 2, 40, 50), "uint16")
    for t in (0, 1):
        for c, band in enumerate(("B02", "B8A")):
            for i, (x, y, w, h) in enumerate(WHOLE):
                if (t, c, i) == (1, 1, 3):
                    continue
                pixels = SCENE[y : y + h, x : x + w] + 3000 * t + 9000 * c
                write(tmp_path / f"{t}_{band}_{'abcd'[i]}.tif", pixels, x, y)
                expected[t, c, y : y + h, x : x + w] = pixels
    stack = opened(tmp_path, pattern="{t:d}_{band}_{tile}.tif")
    assert stack.dims == ("t", "band", "y", "x")
    array = stack.to_xarray()
    np.testing.assert_array_equal(array.values, expected)
    assert array.band.values.tolist() == ["B02", "B8A"]
    chosen = opened(tmp_path, pattern="{t:d}_{band}_{tile}.tif", sel={"band": "B8A", "t": 1})
    np.testing.assert_array_equal(chosen.read()[0, 0], expected[1, 1])
    turned = opened(tmp_path, pattern="{t:d}_{band}_{tile}.tif", dims=["y", "t", "x", "band"])
    np.testing.assert_array_equal(turned.read(), expected.transpose(2, 0, 3, 1))


def test_bands_inside_the_files(tmp_path: Path) -> None:
    pixels = np.stack([SCENE, SCENE + 5000, SCENE + 9000])
    paths = [
        write(tmp_path / f"{i}.tif", pixels[:, y : y + h, x : x + w], x, y, interleave="band")
        for i, (x, y, w, h) in enumerate(WHOLE)
    ]
    merged, _ = rasterio.merge.merge(paths)
    np.testing.assert_array_equal(opened(tmp_path).read(), merged)


places = st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=15)
@given(
    tiles=st.lists(places, min_size=1, max_size=5),
    overlap=st.sampled_from(["last", "first", "max"]),
    index=st.tuples(*[st.slices(20)] * 2),
    chunk=st.integers(1, 30),
)
def test_any_tiles_and_any_index(
    tmp_path_factory: pytest.TempPathFactory,
    tiles: list[tuple[int, int, int, int]],
    overlap: Literal["last", "first", "max"],
    index: tuple[slice, slice],
    chunk: int,
) -> None:
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(len(tiles))
    paths = [
        write(folder / f"{i}.tif", rng.integers(1, 255, (h, w), dtype="uint8"), x, y)
        for i, (x, y, w, h) in enumerate(tiles)
    ]
    merged, transform = rasterio.merge.merge(paths, method=overlap)
    stack = opened(folder, overlap=overlap, chunks=chunk)
    assert_in_place(stack, transform)
    np.testing.assert_array_equal(stack.read(), merged[0])
    np.testing.assert_array_equal(stack.host_array[index], merged[0][index])


@given(tiles=st.lists(places, min_size=1, max_size=6))
def test_gaps_and_overlaps_are_counted_pixel_by_pixel(tiles: list[tuple[int, ...]]) -> None:
    counts = np.zeros((40, 40), int)
    for x, y, w, h in tiles:
        counts[y + 9 : y + 9 + h, x + 9 : x + 9 + w] += 1
    own = [Tile(i, 0, y + 9, x + 9, h, w) for i, (x, y, w, h) in enumerate(tiles)]
    assert count_covers(own, 40, 40) == ((counts == 0).sum(), (counts > 1).sum())


def test_a_copy_and_a_pickle_are_the_same_mosaic(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path / "raw", [(0, 0, 30, 40), (20, 0, 30, 40)])
    stack = opened(tmp_path / "raw", overlap="max")
    merged, transform = rasterio.merge.merge(paths, method="max")
    array = stack.to_dask()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)).compute(), merged[0])
    assert array.name != opened(tmp_path / "raw", overlap="last").to_dask().name
    stack.export(tmp_path / "copy.zarr")
    copy = TiffStackZarrSource(str(tmp_path / "copy.zarr")).to_xarray()
    np.testing.assert_array_equal(copy, merged[0])
    assert copy.x[0] == transform.c + transform.a / 2
    with pytest.raises(TiffStackError, match="overlap, or do not stand in rows"):
        stack.export(tmp_path / "copy.json", format="references")


def test_only_the_tiles_of_a_region_are_read(tmp_path: Path) -> None:
    paths = write_tiles(tmp_path, WHOLE)
    array = opened(tmp_path).to_dask()
    for path in paths[1:]:
        path.unlink()
    np.testing.assert_array_equal(array[3:9, 2:20].compute(), SCENE[3:9, 2:20])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 20.4}, r"b\.tif lies \+0\.4 pixels beside .* along x; warp them"),
        ({"crs": "EPSG:32632"}, "is on EPSG:4326, but .* on EPSG:32632; warp them"),
        ({"dtype": "uint8"}, "the tiles are not alike: .*uint16.*uint8"),
        (
            {"transform": Affine(STEP * 2, 0, WEST, 0, -STEP, NORTH)},
            "have unequal pixels along x: .* of 0.125, but .* of 0.25",
        ),
        ({"transform": Affine(0.1, 0.1, 6, 0.1, -0.1, 47)}, "has no place on a map"),
    ],
    ids=["beside", "map", "dtype", "pixels", "turned"],
)
@pytest.mark.filterwarnings("ignore::intake_tiffstack.errors.TiffStackWarning")
def test_tiles_that_make_no_mosaic_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write(tmp_path / "a.tif", SCENE[:20, :20], 0, 0)
    given_ = {"x": 20, "y": 0} | change
    pixels = SCENE[:20, 20:40].astype(given_.pop("dtype", "uint16"))
    write(tmp_path / "b.tif", pixels, **given_)
    with pytest.raises(LayoutError, match=message):
        opened(tmp_path).to_dask()


def test_what_a_mosaic_cannot_do_says_so(tmp_path: Path) -> None:
    write_tiles(tmp_path, WHOLE)
    with pytest.raises(OptionError, match="gaps of a mosaic are parts of one"):
        opened(tmp_path, missing="mask").to_dask()
    with pytest.raises(OptionError, match="shortens a time-like axis"):
        opened(tmp_path, missing="trim").to_dask()
    with pytest.raises(OptionError, match=r"place must be one of .*, but got"):
        opened(tmp_path, place="table")


def test_a_mosaic_on_s3_is_that_of_local_files(tmp_path: Path, s3_server: Any) -> None:
    paths = write_tiles(tmp_path, [(0, 0, 30, 24), (20, 0, 30, 20), (5, 16, 40, 24)])
    s3_server.put("tiles", {path.name: path.read_bytes() for path in paths})
    stack = open_stack(
        "s3://tiles/*.tif",
        storage_options=s3_server.storage_options,
        place="georeference",
        overlap="max",
        missing="fill",
    )
    assert_as_merged(stack, paths, method="max")


def write_times(folder: Path, missing: list[tuple[int, int]]) -> None:
    """Write three time points of four tiles without those that are missing."""
    for t in range(3):
        for i, (x, y, w, h) in enumerate(WHOLE):
            if (t, i) not in missing:
                write(folder / f"t{t}_{i}.tif", SCENE[y : y + h, x : x + w] + 100 * t, x, y)


def test_a_running_scan_is_cut_before_its_first_incomplete_time(tmp_path: Path) -> None:
    write_times(tmp_path / "a", missing=[(2, 3)])
    stack = opened(tmp_path / "a", pattern="t{t:d}_{i:d}.tif", missing="trim")
    np.testing.assert_array_equal(stack.read(), [SCENE, SCENE + 100])
    with pytest.raises(MissingFilesError, match="no file"):
        opened(tmp_path / "a", pattern="t{t:d}_{i:d}.tif", missing="raise").to_dask()
    write_times(tmp_path / "b", missing=[(0, 0), (2, 1)])
    with pytest.raises(MissingFilesError, match="its first position is incomplete"):
        opened(tmp_path / "b", pattern="t{t:d}_{i:d}.tif", missing="trim").to_dask()
    write_times(tmp_path / "c", missing=[])
    stack = opened(tmp_path / "c", pattern="t{t:d}_{i:d}.tif", missing="trim")
    np.testing.assert_array_equal(stack.read(), [SCENE, SCENE + 100, SCENE + 200])


def test_tiles_in_rows_and_columns_have_references(tmp_path: Path) -> None:
    write_times(tmp_path / "tiles", missing=[(1, 2)])
    stack = opened(tmp_path / "tiles", pattern="t{t:d}_{i:d}.tif", fill_value=7)
    target = str(tmp_path / "mosaic.json")
    stack.export(target, format="references", verify="all")
    files = fsspec.filesystem("reference", fo=target, asynchronous=True)
    array = zarr.open_group(zarr.storage.FsspecStore(files, read_only=True), mode="r")["pixels"]
    expected = np.stack([SCENE, SCENE + 100, SCENE + 200])
    x, y, w, h = WHOLE[2]
    expected[1, y : y + h, x : x + w] = 7
    np.testing.assert_array_equal(array[:], expected)
    write_tiles(tmp_path / "over", [(0, 0, 30, 20), (20, 0, 30, 20)])
    over = opened(tmp_path / "over", overlap="last")
    with pytest.raises(LayoutError, match="overlap, or do not stand in rows and columns"):
        over.export(str(tmp_path / "over.json"), format="references")
