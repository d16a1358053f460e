"""Files of unequal shapes, padded to the largest: NumPy's pad is the truth."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from intake_tiffstack import TiffStackZarrSource, open_stack
from intake_tiffstack.errors import LayoutError, StructureMismatchError

SHAPES = {(0, 0): (5, 9), (0, 1): (5, 9), (1, 0): (8, 6), (1, 1): (8, 6), (2, 0): (3, 12)}


def write_sections(folder: Path, fill: int = 0, **options: Any) -> NDArray[Any]:
    """Write sections of unequal sizes; return them padded, the one that is absent too."""
    expected = np.full((3, 2, 8, 12), fill, "u2")
    for (z, c), (height, width) in SHAPES.items():
        pixels = np.arange(1, height * width + 1, dtype="u2").reshape(height, width) + 100 * z + c
        tifffile.imwrite(folder / f"s{z}_c{c}.tif", pixels, **options)
        expected[z, c, :height, :width] = pixels
    return expected


def opened(folder: Path, **options: Any) -> Any:
    given = {"pattern": "s{z:d}_c{c:d}.tif", "concat_dim": ["z", "c"], "missing": "fill"}
    return open_stack(str(folder), **{**given, "unequal": "pad", **options})


@pytest.mark.parametrize(
    "storage",
    [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 2, "byteorder": ">"}],
    ids=["plain", "zlib", "tiles", "strips"],
)
def test_files_are_padded_to_the_largest(tmp_path: Path, storage: dict[str, Any]) -> None:
    expected = write_sections(tmp_path, fill=7, **storage)
    stack = opened(tmp_path, fill_value=7)
    assert stack.sizes == {"z": 3, "c": 2, "y": 8, "x": 12}
    np.testing.assert_array_equal(stack.read(), expected)
    array = stack.to_xarray()
    np.testing.assert_array_equal(array.y_extent, [5, 8, 3])  # z alone decides it
    assert array.y_extent.dims == array.x_extent.dims == ("z",)
    np.testing.assert_array_equal(array.x_extent, [9, 6, 12])
    first = array.isel(z=1, c=0, y=slice(int(array.y_extent[1])), x=slice(int(array.x_extent[1])))
    np.testing.assert_array_equal(first, tifffile.imread(tmp_path / "s1_c0.tif"))


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_region_is_that_of_the_padded_array(tmp_path: Path, data: st.DataObject) -> None:
    expected = write_sections(tmp_path)
    stack = opened(tmp_path)
    index = tuple(data.draw(st.one_of(st.integers(0, n - 1), st.slices(n))) for n in stack.shape)
    np.testing.assert_array_equal(stack.host_array[index], expected[index])
    again = pickle.loads(pickle.dumps(stack.host_array))
    np.testing.assert_array_equal(again[index], expected[index])


def test_without_the_option_it_is_an_error(tmp_path: Path) -> None:
    write_sections(tmp_path)
    with pytest.raises(StructureMismatchError, match=r"unequal='pad'"):
        _ = opened(tmp_path, unequal="raise").shape


def test_volumes_of_unequal_depth_are_padded_and_extended_dims_are_not(tmp_path: Path) -> None:
    volumes = [np.arange(1, n * 24 + 1, dtype="u2").reshape(n, 4, 6) for n in (2, 5)]
    for t, volume in enumerate(volumes):
        tifffile.imwrite(tmp_path / f"t{t}.tif", volume, photometric="minisblack")
    stack = open_stack(str(tmp_path), pattern="t{t:d}.tif", file_dims="zyx", unequal="pad")
    expected = np.zeros((2, 5, 4, 6), "u2")
    expected[0, :2], expected[1] = volumes
    np.testing.assert_array_equal(stack.read(), expected)
    np.testing.assert_array_equal(stack.to_xarray().z_extent, [2, 5])
    joined = open_stack(str(tmp_path), pattern="t{z:d}.tif", file_dims="zyx", unequal="pad")
    np.testing.assert_array_equal(joined.read(), np.concatenate(volumes))
    assert "z_extent" not in joined.coords


def test_files_that_differ_in_more_than_extent_are_still_refused(tmp_path: Path) -> None:
    write_sections(tmp_path)
    tifffile.imwrite(tmp_path / "s2_c1.tif", np.zeros((3, 12), "u1"))
    with pytest.raises(StructureMismatchError, match="dtype"):
        _ = opened(tmp_path).shape
    for c, samples in enumerate((3, 4)):
        path = tmp_path / "rgb" / f"c{c}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, np.zeros((4, 5, samples), "u1"), photometric="rgb")
    with pytest.raises(StructureMismatchError, match="shape"):
        _ = open_stack(str(tmp_path / "rgb"), pattern="c{c:d}.tif", unequal="pad").shape


def test_equal_files_are_as_without(tmp_path: Path) -> None:
    for t in range(3):
        tifffile.imwrite(tmp_path / f"t{t}.tif", np.full((4, 5), t, "u1"))
    stack = open_stack(str(tmp_path), pattern="t{t:d}.tif", unequal="pad")
    assert stack.read().tolist() == [np.full((4, 5), t).tolist() for t in range(3)]
    assert set(stack.coords) == {"t"}


def test_padded_files_export_but_have_no_references(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    expected = write_sections(tmp_path / "raw")
    stack = opened(tmp_path / "raw")
    stack.export(tmp_path / "copy.zarr", verify="all")
    copy = TiffStackZarrSource(str(tmp_path / "copy.zarr"))
    np.testing.assert_array_equal(copy.read(), expected)
    np.testing.assert_array_equal(copy.to_xarray().y_extent, [5, 8, 3])
    with pytest.raises(LayoutError, match="no references"):
        stack.export(tmp_path / "copy.json", format="references")


def test_a_file_that_grew_beyond_the_largest_is_an_error(tmp_path: Path) -> None:
    write_sections(tmp_path)
    stack = opened(tmp_path)
    _ = stack.shape
    tifffile.imwrite(tmp_path / "s0_c0.tif", np.zeros((20, 30), "u2"))
    with pytest.raises(OSError, match="changed"):
        stack.read()
