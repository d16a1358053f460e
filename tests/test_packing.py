"""Nodata, absent blocks, scale and offset: GDAL and the decoding of xarray are the truth."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from xarray.backends.zarr import FillValueCoder

from intake_tiffstack import open_stack
from intake_tiffstack.driver import TiffStackZarrSource
from intake_tiffstack.errors import OptionError, TiffStackWarning, TooLargeError
from intake_tiffstack.metadata.readers.gdal import read_nodata

rasterio = pytest.importorskip("rasterio")
PLACE = rasterio.Affine(30, 0, 500_000, 0, -30, 4_600_000)
pytestmark = pytest.mark.filterwarnings(
    "ignore:Dataset has no geotransform"  # rasterio's, of files that have no place
)
LATE = ("descriptions", "scales", "offsets", "units")
RNG = np.random.default_rng(14)


def write(path: Path, pixels: np.ndarray, **options: Any) -> str:
    """Write bands by GDAL, each property of the data set that is not an option of creation too."""
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    late = {
        k: options.pop(k) for k in ("descriptions", "scales", "offsets", "units") if k in options
    }
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    place = {"crs": "EPSG:32633", "transform": PLACE}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **options) as file:
        file.write(pixels)
        for name, value in late.items():
            setattr(file, name, value)
    return str(path)


BLOCKS: dict[str, dict[str, Any]] = {
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 16},
    "strips": {"blockysize": 7},
    "one strip": {"blockysize": 50},
    "deflate tiles": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
    "lzw strips": {"blockysize": 7, "compress": "lzw", "predictor": 2},
    "zstd big": {
        "tiled": True,
        "blockxsize": 32,
        "blockysize": 16,
        "compress": "zstd",
        "BIGTIFF": "YES",
    },
}


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("rows", [0, 16, 50], ids=["nothing", "some", "all"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("nodata", [None, -9999])
def test_a_sparse_file_reads_as_gdal_reads_it(
    tmp_path: Path, blocks: dict[str, Any], rows: int, count: int, nodata: int | None
) -> None:
    path = tmp_path / "a.tif"
    shape = {"count": count, "height": 50, "width": 40, "dtype": "int16", "nodata": nodata}
    place = {"crs": "EPSG:32633", "transform": PLACE}
    with rasterio.open(path, "w", driver="GTiff", SPARSE_OK=True, **shape, **place, **blocks) as f:
        if rows:
            pixels = RNG.integers(1, 99, (count, rows, 40)).astype("int16")
            f.write(pixels, window=((0, rows), (0, 40)))
    with rasterio.open(path) as file:
        expected = file.read().squeeze()
    stack = open_stack(str(path))
    np.testing.assert_array_equal(_bands_first(stack), expected, strict=True)
    part = (..., slice(3, 47, 5), slice(37, 2, -3))
    np.testing.assert_array_equal(_bands_first(stack)[part], expected[part])


def _bands_first(stack: Any) -> np.ndarray:
    named = stack.to_xarray()
    order = [dim for dim in ("sample", "y", "x") if dim in named.dims]
    return named.transpose(*order).values


def test_a_sparse_file_may_be_of_any_size_and_a_bomb_may_not(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    shape = {"count": 1, "height": 20_000, "width": 20_000, "dtype": "float32", "nodata": -1}
    with rasterio.open(path, "w", driver="GTiff", SPARSE_OK=True, tiled=True, **shape) as file:
        file.write(np.ones((1, 256, 256), "float32"), window=((256, 512), (0, 256)))
    pixels = open_stack(str(path)).to_dask()
    assert pixels[-1, -1].compute() == -1
    assert pixels[300, 5].compute() == 1
    tifffile.imwrite(path, np.zeros((64, 64), "uint8"), compression="zlib", rowsperstrip=32)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags[279].overwrite([9, 0])
        tif.pages.first.tags[256].overwrite(2**30)
    with pytest.raises(TooLargeError):
        open_stack(str(path)).to_dask()


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [
        ("float32", "nan"),
        ("float32", "-3.4028234663852886e+38"),
        ("float32", "3.4028234663852886e+38"),
        ("float32", "-3.4e+38"),
        ("float32", "-3.402823466385289e+38"),
        ("float32", "0.1"),
        ("float32", "-inf"),
        ("float64", "-1.7976931348623157e+308"),
        ("float64", "nan"),
        ("int16", "-9999"),
        ("int16", "-32768"),
        ("int16", "-32769"),
        ("uint8", "255"),
        ("uint8", "256"),
        ("uint8", "-9999"),
        ("uint8", "nan"),
        ("uint8", "0.5"),
        ("uint16", "65535.0"),
        ("uint32", "4294967295"),
        ("int32", "-2147483648"),
    ],
)
def test_absent_blocks_are_what_gdal_gives_for_any_nodata(
    tmp_path: Path, dtype: str, nodata: str
) -> None:
    path = tmp_path / "a.tif"
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": True}
    shape = {"count": 1, "height": 32, "width": 32, "dtype": dtype}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **shape, **options) as file:
        file.write(np.ones((1, 16, 16), dtype), window=((0, 16), (0, 16)))
    with tifffile.TiffFile(path, mode="r+b") as tif:  # GDAL refuses to write some of them
        offset = tif.pages.first.offset
    _add_tag(path, offset, nodata)
    with rasterio.open(path) as file:
        expected = file.read(1)
    stack = open_stack(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiffStackWarning)
        np.testing.assert_array_equal(stack.read(), expected)
        named = stack.to_xarray()
    known = read_nodata(nodata, np.dtype(dtype))
    if known is None:
        assert "_FillValue" not in named.attrs
        assert stack.metadata["nodata"] is None
    else:
        np.testing.assert_array_equal(
            np.dtype(dtype).type(named.attrs["_FillValue"]), expected[-1, -1]
        )


def _add_tag(path: Path, offset: int, text: str) -> None:
    """Write the first directory anew at the end of the file, with GDAL_NODATA."""
    data = bytearray(path.read_bytes())
    count = int.from_bytes(data[offset : offset + 2], "little")
    value = text.encode() + b"\0"
    value += b"\0" * (8 - len(value)) if len(value) < 8 else b""
    at = len(data) + len(data) % 2
    data += b"\0" * (at - len(data)) + value
    entry = (42113).to_bytes(2, "little") + (2).to_bytes(2, "little")
    entry += len(value).to_bytes(4, "little") + at.to_bytes(4, "little")
    entries = data[offset + 2 : offset + 2 + 12 * count] + entry
    start = len(data) + len(data) % 2
    data += b"\0" * (start - len(data))
    data += (count + 1).to_bytes(2, "little") + entries + bytes(4)
    data[4:8] = start.to_bytes(4, "little")
    path.write_bytes(data)


def test_what_is_stored_is_told_and_is_decoded_if_asked(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 1000, (8, 9)).astype("int16")
    pixels[:4] = -9999
    path = write(tmp_path / "a.tif", pixels, nodata=-9999, scales=(0.5,), offsets=(-3.0,))
    stack = open_stack(path)
    assert {k: stack.metadata[k] for k in ("nodata", "scale_factor", "add_offset")} == {
        "nodata": -9999,
        "scale_factor": 0.5,
        "add_offset": -3.0,
    }
    assert stack.metadata["provenance"]["nodata"] == "GDAL of a.tif"
    assert stack.file_metadata(0)["nodata"] == -9999
    raw = stack.to_xarray()
    assert {k: raw.attrs[k] for k in ("_FillValue", "scale_factor", "add_offset")} == {
        "_FillValue": -9999,
        "scale_factor": 0.5,
        "add_offset": -3.0,
    }
    np.testing.assert_array_equal(raw.values, pixels, strict=True)
    with rasterio.open(path) as file:
        truth = file.read(1, masked=True) * file.scales[0] + file.offsets[0]
    for chunks in ("option", None):
        decoded = open_stack(path, mask_and_scale=True).to_xarray(chunks)
        np.testing.assert_allclose(decoded.values, truth.filled(np.nan))
        assert decoded.dims == raw.dims
        assert "_FillValue" not in decoded.attrs
    np.testing.assert_array_equal(open_stack(path, mask_and_scale=True).read(), pixels)


@pytest.mark.parametrize("offsets", [(0.0, 5.0, 0.0), (2.0, 2.0, 2.0)])
def test_bands_that_differ_in_scale(tmp_path: Path, offsets: tuple[float, ...]) -> None:
    pixels = RNG.integers(0, 99, (3, 8, 9)).astype("int16")
    pixels[:, 0] = -1
    given: dict[str, Any] = {
        "scales": (0.1, 1.0, 10.0),
        "offsets": offsets,
        "descriptions": ("B04", "B03", None),
        "units": ("1", "m", ""),
    }
    path = write(tmp_path / "a.tif", pixels, nodata=-1, **given)
    stack = open_stack(path)
    metadata = stack.metadata
    assert metadata["scales"] == [0.1, 1, 10]
    told = metadata["offsets"] or [metadata["add_offset"]] * 3
    assert tuple(told) == offsets
    assert metadata["band_names"] == ["B04", "B03", ""]
    assert metadata["band_units"] == ["1", "m", ""]
    named = stack.to_xarray()
    assert named.coords["band_name"].dims == ("sample",)
    truth = pixels * np.reshape(given["scales"], (3, 1, 1)) + np.reshape(
        given["offsets"], (3, 1, 1)
    )
    decoded = open_stack(path, mask_and_scale=True).to_xarray()
    expected = np.where(pixels == -1, np.nan, truth)
    np.testing.assert_allclose(decoded.transpose("sample", "y", "x").values, expected)
    with pytest.raises(OptionError, match="needs dask"):
        open_stack(path, mask_and_scale=True).to_xarray(None)
    renamed = open_stack(path, file_dims=["y", "x", "band"] if named.dims[2] == "sample" else "cyx")
    assert renamed.metadata["channel_names"] == ["B04", "B03", ""]


def test_a_colour_table_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((4, 5), 10, "uint8"))
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {10: (0, 100, 200, 255), 255: (1, 2, 3, 255)})
    with rasterio.open(path) as file:
        truth = file.colormap(1)
    table = open_stack(path).metadata["color_table"]
    assert [tuple(color) for color in table] == [truth[i][:3] for i in range(256)]


def test_malformed_metadata_of_gdal_is_a_warning_and_nodata_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tags = [(42112, 2, 0, "<GDALMetadata><Item", True), (42113, 2, 0, "7", True)]
    tifffile.imwrite(path, np.ones((4, 5), "uint8"), extratags=tags)
    stack = open_stack(str(path))
    with pytest.warns(TiffStackWarning, match="GDAL_METADATA is ignored"):
        assert stack.metadata["nodata"] == 7


@pytest.mark.parametrize(
    ("one", "two", "text"),
    [
        ({"nodata": -9999}, {"nodata": 0}, r"nodata: .*t1\.tif has -9999 but .*t2\.tif has 0"),
        ({"nodata": -9999}, {}, r"nodata: .*t1\.tif has -9999 but .*t2\.tif has none"),
        ({}, {"scales": (0.1,)}, r"scale: .*t1\.tif has none but .*t2\.tif has 0\.1"),
        ({"offsets": (1.0,)}, {"offsets": (2.0,)}, r"offset: .*t1\.tif has 1 but .*t2\.tif has 2"),
    ],
)
def test_files_that_differ_are_named(
    tmp_path: Path, one: dict[str, Any], two: dict[str, Any], text: str
) -> None:
    for t in range(1, 70):  # more than the files whose metadata are read
        write(tmp_path / f"t{t}.tif", np.full((4, 5), t, "int16"), **(two if t == 2 else one))
    stack = open_stack(str(tmp_path / "*.tif"), pattern="t{t:d}.tif")
    with pytest.warns(TiffStackWarning, match=text) as caught:
        pixels = stack.read()
    assert len(caught) == 1
    assert pixels[:, 0, 0].tolist() == list(range(1, 70))


def test_files_of_one_nodata_are_quiet(tmp_path: Path) -> None:
    for t in range(3):
        write(tmp_path / f"t{t}.tif", np.full((4, 5), t, "float32"), nodata=float("nan"))
    stack = open_stack(str(tmp_path / "*.tif"), pattern="t{t:d}.tif")
    assert stack.metadata["nodata"] == "nan"
    assert np.isnan(stack.to_xarray().attrs["_FillValue"])


@pytest.mark.parametrize(
    ("nodata", "option", "expected"),
    [(-9999, None, -9999), (-9999, 7, 7), (None, None, 0), (None, 7, 7), (0, None, 0)],
)
def test_holes_hold_the_nodata_of_the_files_unless_an_option_says(
    tmp_path: Path, nodata: int | None, option: int | None, expected: int
) -> None:
    for t in (1, 2, 4):
        write(tmp_path / f"t{t}.tif", np.full((4, 5), 250, "int16"), nodata=nodata)
    stack = open_stack(
        str(tmp_path), pattern="t{t:d}.tif", missing="fill", sizes={"t": 4}, fill_value=option
    )
    np.testing.assert_array_equal(stack.read()[:, 0, 0], [250, 250, expected, 250])


def skip_if_xarray_knows_no_complex_nodata(dtype: Any, zarr_format: int) -> None:
    """Skip with the lowest version of xarray, which neither reads nor writes it in format 3."""
    if zarr_format == 3 and np.dtype(dtype).kind == "c":
        try:
            FillValueCoder.encode(1j, np.dtype(dtype))
        except ValueError:
            pytest.skip("this xarray has no complex fill values in format 3")


@pytest.mark.parametrize("count", [1, 3])
def test_a_mask_that_is_not_applied_is_a_warning(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", height=8, width=9, count=count, dtype="int16",
            crs="EPSG:32633", transform=rasterio.Affine(1, 0, 5, 0, -1, 7),
        ) as file,
    ):  # fmt: skip
        file.write(np.ones((count, 8, 9), "int16"))
        file.write_mask(np.eye(8, 9, dtype=bool))
    open_stack(str(path)).to_xarray()
    with pytest.warns(TiffStackWarning, match="a.tif has a mask, which mask_and_scale does not"):
        open_stack(str(path), mask_and_scale=True).to_xarray()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("nodata", [-3, 0])
@pytest.mark.parametrize("dtype", ["int16", "float32", "complex64"])
def test_a_copy_tells_it_as_xarray_reads_it(
    tmp_path: Path, zarr_format: Any, nodata: int, dtype: str
) -> None:
    skip_if_xarray_knows_no_complex_nodata(dtype, zarr_format)
    pixels = RNG.integers(0, 99, (8, 9)).astype(dtype)
    pixels[0] = nodata
    scale = 1 if dtype == "complex64" else 0.5
    path = write(tmp_path / "a.tif", pixels, nodata=nodata, scales=(scale,))
    stack = open_stack(path)
    url = str(tmp_path / "a.zarr")
    stack.export(url, zarr_format=zarr_format)
    truth = np.where(pixels == nodata, np.nan, pixels * scale)
    copy = TiffStackZarrSource(url)
    assert copy.metadata["nodata"] == nodata
    named = copy.to_xarray()
    assert named.attrs["_FillValue"] == nodata
    np.testing.assert_array_equal(named.values, pixels, strict=True)
    decoded = _decoded(url, pixels.dtype)
    np.testing.assert_allclose(decoded, truth)
    masked = TiffStackZarrSource(url, mask_and_scale=True)
    for chunks in ("option", None):
        np.testing.assert_allclose(masked.to_xarray(chunks=chunks), truth)
    assert masked.to_dask().dtype == pixels.dtype
    stack.export(tmp_path / "group.zarr", group=True, zarr_format=zarr_format)
    np.testing.assert_allclose(xr.open_zarr(tmp_path / "group.zarr")["image"].values, truth)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
        named.to_dataset(name="mine").to_zarr(tmp_path / "mine.zarr", zarr_format=zarr_format)
        np.testing.assert_allclose(xr.open_zarr(tmp_path / "mine.zarr")["mine"].values, truth)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "nodata", [np.float32(-9999), np.int16(-1), np.complex64(5), np.float64("nan")]
)
def test_nodata_that_xarray_wrote_is_read(tmp_path: Path, zarr_format: Any, nodata: Any) -> None:
    skip_if_xarray_knows_no_complex_nodata(nodata.dtype, zarr_format)
    pixels = np.ones((3, 4), nodata.dtype)
    pixels[0] = nodata
    written = xr.Dataset({"mine": (("y", "x"), pixels, {"_FillValue": nodata})})
    written.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=False)
    # in format 2 it is the fill value of the array, which means nodata to xarray alone
    for url in ("a.zarr", "a.zarr/mine") if zarr_format == 3 else ("a.zarr",):
        copy = TiffStackZarrSource(str(tmp_path / url))
        assert copy.metadata["nodata"] == (None if np.isnan(nodata) else nodata)
        named = copy.to_xarray()
        assert named.attrs.get("_FillValue") == (None if np.isnan(nodata) else nodata)
        form: Any = {"mode": "w", "consolidated": False, "zarr_format": zarr_format}
        named.to_dataset(name="b").to_zarr(tmp_path / "b.zarr", **form)
        masked = TiffStackZarrSource(str(tmp_path / url), mask_and_scale=True).to_xarray()
        assert np.isnan(masked.values[0]).all()
        assert (masked.values[1:] == 1).all()


@pytest.mark.parametrize("chunks", [None, {}], ids=str)
def test_the_engine_says_what_scales_bands_that_differ(tmp_path: Path, chunks: Any) -> None:
    path = write(tmp_path / "a.tif", np.ones((2, 4, 5), "u1"), scales=(1, 2))
    with pytest.raises(OptionError, match=r"use open_stack\(...\)\.to_xarray\(\)"):
        xr.open_dataset(path, engine="tiffstack", chunks=chunks, mask_and_scale=True)
    named = open_stack(path, mask_and_scale=True).to_xarray()
    assert named.values[0, 0].tolist() == [1, 2]


@pytest.mark.parametrize("chunks", ["option", None], ids=["dask", "no dask"])
def test_complex_pixels_lose_no_imaginary_part(tmp_path: Path, chunks: Any) -> None:
    path = write(tmp_path / "a.tif", np.full((8, 9), 1 + 2j, "c8"), scales=(0.5,))
    with pytest.raises(OptionError, match="complex pixels with a scale or offset"):
        open_stack(path, mask_and_scale=True).to_xarray(chunks)


def _decoded(url: str, dtype: np.dtype[Any]) -> np.ndarray:
    """Return the pixels as xarray decodes a variable with the attributes of the copy."""
    import zarr

    array = zarr.open_array(url, mode="r")
    attrs = dict(array.attrs)
    if array.metadata.zarr_format == 3:
        attrs["_FillValue"] = FillValueCoder.decode(attrs["_FillValue"], dtype)
    kept = {k: attrs[k] for k in ("_FillValue", "scale_factor") if k in attrs}
    named = xr.Dataset({"pixels": (("y", "x"), array[...], kept)})
    return xr.decode_cf(named)["pixels"].values
