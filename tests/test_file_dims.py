"""What a page says of its own dims: interleaved or planar samples, and the option ``file_dims``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.errors import OptionError, StructureMismatchError, UnsupportedFileError

BANDS = np.random.default_rng(6).integers(0, 60_000, (4, 3, 18, 20)).astype("uint16")
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tiles": {"tile": (16, 16), "compression": "zlib", "predictor": True},
    "strips": {"rowsperstrip": 5, "compression": "lzw"},
}


def write(folder: Path, is_planar: list[bool], **options: Any) -> None:
    """Write BANDS as one file per time, its samples in planes or side by side."""
    for t, planar in enumerate(is_planar):
        pixels = BANDS[t] if planar else np.moveaxis(BANDS[t], 0, -1)
        tifffile.imwrite(
            folder / f"t{t}.tif",
            pixels,
            photometric="rgb",
            planarconfig="separate" if planar else "contig",
            metadata=None,
            **options,
        )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("validate", ["auto", "template"])
@pytest.mark.parametrize("first", [True, False], ids=["planes first", "pixels first"])
def test_files_that_differ_in_interleave_alone_stack(
    tmp_path: Path, options: dict[str, Any], validate: Any, first: bool
) -> None:
    write(tmp_path, [first, not first, not first, first], **options)
    stack = open_stack(str(tmp_path), pattern="t{t:d}.tif", validate=validate)
    expected = BANDS if first else np.moveaxis(BANDS, 1, -1)
    assert stack.dims == (("t", "sample", "y", "x") if first else ("t", "y", "x", "sample"))
    np.testing.assert_array_equal(stack.read(), expected, strict=True)
    part = (slice(3, 0, -1), slice(2, None, 2), slice(1, 17, 3), slice(2, 20, 4))
    np.testing.assert_array_equal(stack.to_dask()[part].compute(), expected[part])
    named = open_stack(
        str(tmp_path), pattern="t{t:d}.tif", validate=validate, dims=["sample", "x", "t", "y"]
    )
    np.testing.assert_array_equal(named.read(), BANDS.transpose(1, 3, 0, 2))


def test_names_of_the_option_follow_the_samples(tmp_path: Path) -> None:
    write(tmp_path, [True, False, True, False])
    stack = open_stack(str(tmp_path), pattern="t{t:d}.tif", file_dims="cyx")
    assert stack.dims == ("t", "c", "y", "x")
    np.testing.assert_array_equal(stack.read(), BANDS)


def test_files_of_other_dims_stay_an_error(tmp_path: Path) -> None:
    write(tmp_path, [True, True])
    tifffile.imwrite(tmp_path / "t1.tif", BANDS[1], photometric="minisblack", metadata=None)
    with pytest.raises(StructureMismatchError):
        open_stack(str(tmp_path), pattern="t{t:d}.tif").to_dask()


@pytest.mark.parametrize(
    ("planar", "file_dims"),
    [(False, "cyx"), (False, "zyx"), (True, "yxc"), (False, "xyc"), (True, "cxy")],
)
def test_names_that_the_page_contradicts_are_an_error(
    tmp_path: Path, planar: bool, file_dims: str
) -> None:
    write(tmp_path, [planar])
    with pytest.raises(OptionError, match=r"call the dim \w+ of a page \w+, but .*sample"):
        open_stack(str(tmp_path / "t0.tif"), file_dims=file_dims).to_dask()


@pytest.mark.parametrize("file_dims", ["zyx", "tzx", ["y", "z", "x"], ["t", "y", "wavelength"]])
def test_other_names_for_the_dims_of_a_page_are_taken(tmp_path: Path, file_dims: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", BANDS[0], photometric="minisblack", metadata=None)
    stack = open_stack(str(tmp_path / "a.tif"), file_dims=file_dims)
    assert stack.dims == tuple(file_dims)
    np.testing.assert_array_equal(stack.read(), BANDS[0])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    ("file_dims", "dims"), [("zyx", "tzyx"), ({"z": -1}, "tzyx"), ("czyx", "tczyx")], ids=str
)
def test_volumes_of_one_plane_have_the_dims_of_the_entry(
    tmp_path: Path, options: dict[str, Any], file_dims: Any, dims: str
) -> None:
    planes = BANDS[:, 0]
    for t, plane in enumerate(planes):
        tifffile.imwrite(tmp_path / f"t{t}.tif", plane, metadata=None, **options)
    stack = open_stack(str(tmp_path), pattern="t{t:d}.tif", file_dims=file_dims)
    assert stack.dims == tuple(dims)
    expected = planes.reshape(4, *[1] * (len(dims) - 3), 18, 20)
    np.testing.assert_array_equal(stack.read(), expected, strict=True)
    part = (2, ..., slice(3, 9), slice(None, None, -2))
    np.testing.assert_array_equal(stack.to_dask()[part].compute(), expected[part])


def test_an_rgb_page_has_its_samples_last(tmp_path: Path) -> None:
    write(tmp_path, [False])
    stack = open_stack(str(tmp_path / "t0.tif"), file_dims="zyxc")
    assert stack.shape == (1, 18, 20, 3)


@pytest.mark.parametrize("factors", [(2, 2), (2, 1), None])
def test_subsampled_chroma_is_named(tmp_path: Path, factors: tuple[int, int] | None) -> None:
    path = tmp_path / "a.tif"
    extra = [] if factors is None else [(530, 3, 2, factors, True)]
    tifffile.imwrite(path, np.zeros((16, 16, 3), "uint8"), photometric="rgb", extratags=extra)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags[262].overwrite(6)
        tif.pages.first.tags[279].overwrite(16 * 16 * 3 // 2)
    with pytest.raises(UnsupportedFileError, match=r"YCbCr with chroma subsampling \(2, \d\)"):
        open_stack(str(path)).to_dask()


def test_chroma_of_every_pixel_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = BANDS[0].astype("uint8").transpose(1, 2, 0).copy()
    tifffile.imwrite(path, pixels, photometric="rgb", extratags=[(530, 3, 2, (1, 1), True)])
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags[262].overwrite(6)
    np.testing.assert_array_equal(open_stack(str(path)).read(), pixels)
