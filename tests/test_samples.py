"""The collections made for the demo, the docs and the tests are what they say they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from intake_tiffstack.errors import OptionError
from intake_tiffstack.samples import make_lattice, make_movie, make_plate, make_satellite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAKERS = [
    pytest.param(make_lattice, id="lattice"),
    pytest.param(make_plate, id="plate"),
    pytest.param(make_satellite, id="satellite"),
]


@pytest.mark.parametrize("maker", MAKERS)
def test_the_same_arguments_give_the_same_pixels(
    maker: Callable[..., list[Path]], tmp_path: Path
) -> None:
    first, second = maker(tmp_path / "a"), maker(tmp_path / "b")
    other = maker(tmp_path / "c", seed=1)
    names = [path.relative_to(tmp_path / "a") for path in first]
    assert names == [path.relative_to(tmp_path / "b") for path in second]
    assert len(set(names)) == len(names)
    for one, same in zip(first, second, strict=True):
        np.testing.assert_array_equal(tifffile.imread(one), tifffile.imread(same))
    assert not np.array_equal(tifffile.imread(first[0]), tifffile.imread(other[0]))


@pytest.mark.parametrize("maker", MAKERS)
def test_no_two_files_have_the_same_pixels(
    maker: Callable[..., list[Path]], tmp_path: Path
) -> None:
    # Only then does a test see a file read into the wrong cell.
    paths = maker(tmp_path)
    contents = {tifffile.imread(path).tobytes() for path in paths}
    assert len(contents) == len(paths)


def test_lattice_names_are_the_instruments(tmp_path: Path) -> None:
    paths = make_lattice(tmp_path, channels=2, times=3)
    pattern = (
        r"scan_Cam1_ch(\d)_CAM1_stack(\d{4})_(\d+)nm_(\d{7})msec_(\d{10})msecAbs"
        r"_000x_000y_000z_0000t\.tif"
    )
    fields = [tuple(map(int, re.fullmatch(pattern, path.name).groups())) for path in paths]  # type: ignore[union-attr]
    assert [row[:4] for row in fields] == [
        *((0, time, 488, 2500 * time) for time in range(3)),
        *((1, time, 560, 2500 * time) for time in range(3)),
    ]
    assert len({row[4] for row in fields}) == len(paths)


def test_lattice_shows_a_tissue_that_moves(tmp_path: Path) -> None:
    first, second = (
        tifffile.imread(path).max(axis=0).astype(float)
        for path in make_lattice(tmp_path, channels=1, times=2)
    )
    assert np.quantile(first, 0.99) > 3 * np.quantile(first, 0.05)
    assert 0.3 < np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.99


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool"])
def test_lattice_has_the_shape_and_dtype_asked_for(dtype: str, tmp_path: Path) -> None:
    (path,) = make_lattice(
        tmp_path, channels=1, times=1, shape=(3, 20, 30), dtype=dtype, metadata="none"
    )
    volume = tifffile.imread(path)
    assert volume.shape == (3, 20, 30)
    assert volume.dtype == dtype
    assert volume.min() < volume.max()


def test_imagej_calibration_is_in_the_files(tmp_path: Path) -> None:
    path = make_lattice(tmp_path, channels=1, times=1)[0]
    with tifffile.TiffFile(path) as file:
        assert file.imagej_metadata is not None
        assert file.imagej_metadata["spacing"] == 0.3
        assert file.imagej_metadata["unit"] == "um"
        resolution = file.pages[0].tags["XResolution"].value  # type: ignore[union-attr]
    assert resolution[1] / resolution[0] == pytest.approx(0.1, rel=1e-4)


def test_ome_calibration_is_in_the_files(tmp_path: Path) -> None:
    path = make_lattice(tmp_path, channels=1, times=1, metadata="ome", compression="zlib")[0]
    assert path.name.endswith("t.ome.tif")
    with tifffile.TiffFile(path) as file:
        assert file.ome_metadata is not None
        assert 'PhysicalSizeZ="0.3" PhysicalSizeZUnit="µm"' in file.ome_metadata
        assert 'PhysicalSizeX="0.1"' in file.ome_metadata


def test_plate_writes_one_plane_a_file_and_strays_on_request(tmp_path: Path) -> None:
    paths = make_plate(tmp_path, wells=("A01", "H12"), fields=1, planes=2, channels=2, strays=True)
    assert [path.name for path in paths[:3]] == [
        "plate_A01_T0001F001L01A01Z01C01.tif",
        "plate_A01_T0001F001L01A02Z01C02.tif",
        "plate_A01_T0001F001L01A01Z02C01.tif",
    ]
    assert len(paths) == 8
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in paths} == {
        "DC_CAM1.tif",
        "SC_M01_CH01.tif",
    }
    assert tifffile.imread(paths[0]).shape == (48, 64)


def test_satellite_writes_a_folder_a_pass_and_georeferences(tmp_path: Path) -> None:
    paths = make_satellite(tmp_path, times=2, bands=("B04", "B8A"))
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "20240105T103021_T32UPU/B04.tif",
        "20240105T103021_T32UPU/B8A.tif",
        "20240204T103021_T32UPU/B04.tif",
        "20240204T103021_T32UPU/B8A.tif",
    ]
    with tifffile.TiffFile(paths[0]) as file:
        tags = file.geotiff_metadata
    assert tags is not None
    assert tags["ModelPixelScale"] == [10.0, 10.0, 0.0]
    assert tags["ProjectedCSTypeGeoKey"] == 32632


@pytest.mark.parametrize(
    ("metadata", "name", "axes"),
    [
        ("imagej", "movie.tif", "TCYX"),
        ("ome", "movie.ome.tif", "TCYX"),
        ("none", "movie.tif", None),
    ],
    ids=["imagej", "ome", "bare pages"],
)
def test_movie_is_one_file_of_many_pages(
    metadata: Any, name: str, axes: str | None, tmp_path: Path
) -> None:
    path = make_movie(tmp_path / name, times=3, channels=2, metadata=metadata)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 6
        if axes is not None:
            assert file.series[0].axes == axes
        else:
            assert file.pages[0].tags.get("ImageDescription") is None  # type: ignore[union-attr]
    assert tifffile.imread(path).size == 6 * 64 * 48


@pytest.mark.parametrize(
    ("make", "match"),
    [
        pytest.param(lambda f: make_lattice(f, times=0), "times must be at least 1, but got 0"),
        pytest.param(lambda f: make_plate(f, shape=(0, 9)), "rows must be at least 1"),
        pytest.param(lambda f: make_lattice(f, metadata="imagj"), "'imagj'; did you mean 'imagej'"),
        pytest.param(lambda f: make_movie(f / "movie.tif", metadata="ome"), r"ends in \.ome\.tif"),
    ],
    ids=["no times", "no rows", "metadata misspelt", "not an OME name"],
)
def test_bad_arguments_are_refused(make: Callable[[Path], Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=match):
        make(tmp_path)
    assert not list(tmp_path.rglob("*.tif"))
