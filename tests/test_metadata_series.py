"""Metadata of the image that is read, where a file holds several: from its own key frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from tiff_files import kind

pytestmark = pytest.mark.filterwarnings(r"ignore:.* more images? that")

SIDES = ((32, 5.0, 2020), (64, 0.5, 2021), (48, 0.25, 2022))


def write_images(path: Path, **options: Any) -> None:
    """Write images of other size, pixel size, date and description into one file."""
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for side, size, year in SIDES:
            tif.write(
                np.full((side, side), year % 100, "uint8"),
                metadata=None,
                contiguous=False,
                description=f"image of {year}",
                resolution=(1e4 / size,) * 2,
                resolutionunit="CENTIMETER",
                datetime=f"{year}:01:01 00:00:00",
                software="scanner" if year == 2020 else False,
                **options,
            )


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zlib"}], ids=str)
@pytest.mark.parametrize("series", range(3))
def test_sizes_and_dates_are_those_of_the_image(
    tmp_path: Path, series: int, options: dict[str, Any]
) -> None:
    write_images(tmp_path / "a.tif", **options)
    stack = open_stack(str(tmp_path / "a.tif"), series=series)
    side, size, year = SIDES[series]
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.series[series].keyframe
        numerator, denominator = page.tags["XResolution"].value
        assert stack.scale["x"] == pytest.approx(1e4 * denominator / numerator)
        assert page.tags["DateTime"].value == f"{year}:01:01 00:00:00"
    assert stack.shape == (side, side)
    assert stack.metadata["created"] == f"{year}-01-01T00:00:00"
    assert stack.metadata["software"] == "scanner"  # wrote the file, and says so once
    assert stack.scale == pytest.approx({"y": size, "x": size})
    found = stack.file_metadata(0)
    assert found["raw_description"] == f"image of {year}"
    assert found["created"] == f"{year}-01-01T00:00:00"


def test_files_built_alike_have_the_sizes_of_that_image_each(tmp_path: Path) -> None:
    for i in range(5):
        write_images(tmp_path / f"s{i}.tif")
    stack = open_stack(str(tmp_path), pattern="s{t:d}.tif", series=1)
    assert stack.scale == pytest.approx({"y": 0.5, "x": 0.5})
    assert [stack.file_metadata(i)["scale"]["x"] for i in range(5)] == pytest.approx([0.5] * 5)


def test_a_remote_file_has_them_too(tmp_path: Path) -> None:
    write_images(tmp_path / "a.tif")
    memory = fsspec.filesystem("memory")
    memory.pipe("/series/a.tif", (tmp_path / "a.tif").read_bytes())
    try:
        stack = open_stack("memory://series/a.tif", series=2)
        assert stack.file_metadata(0)["scale"]["x"] == pytest.approx(0.25)
        assert stack.metadata["scale"] == pytest.approx({"y": 0.25, "x": 0.25})
    finally:
        memory.rm("/series", recursive=True)


def test_the_first_image_of_an_ome_tiff_need_not_be_its_first_page(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        + "".join(
            f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYCZT" Type="uint8" '
            f'SizeX="{side}" SizeY="{side}" SizeZ="1" SizeC="1" SizeT="1">'
            f'<Channel ID="C:{i}" SamplesPerPixel="1"/><TiffData IFD="{ifd}" PlaneCount="1"/>'
            "</Pixels></Image>"
            for i, (side, ifd) in enumerate(((64, 1), (32, 0)))
        )
        + "</OME>"
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for side, size in ((32, 5.0), (64, 0.5)):
            tif.write(
                np.zeros((side, side), "uint8"),
                metadata=None,
                contiguous=False,
                description=xml if side == 32 else None,
                resolution=(1e4 / size,) * 2,
                resolutionunit="CENTIMETER",
            )
    for series, (side, size) in enumerate(((64, 0.5), (32, 5.0))):
        stack = open_stack(str(tmp_path / "a.ome.tif"), series=series)
        assert stack.shape == (side, side)
        assert stack.scale == pytest.approx({"y": size, "x": size})


def test_a_level_has_the_tags_of_its_image(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", **kind("ome")) as tif:
        for side, size in ((64, 5.0), (128, 0.5)):
            common: dict[str, Any] = {"photometric": "minisblack", "tile": (16, 16)}
            resolution = {"resolution": (1e4 / size,) * 2, "resolutionunit": "CENTIMETER"}
            tif.write(np.zeros((side, side), "u1"), subifds=1, **common, **resolution)
            tif.write(np.zeros((side // 2, side // 2), "u1"), subfiletype=1, **common)
    stack = open_stack(str(tmp_path / "a.ome.tif"), series=1, level=1)
    assert stack.shape == (64, 64)
    assert stack.scale == pytest.approx({"y": 1.0, "x": 1.0})


def test_each_subdataset_of_gdal_lies_where_rasterio_puts_it(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    places = (
        ((8, 9), (500000, 4600000, 30, 30), "EPSG:32633"),
        ((5, 6), (700000, 5000000, 10, 20), "EPSG:32634"),
        ((4, 7), (10.5, 50.5, 0.25, 0.25), "EPSG:4326"),
    )
    for i, (shape, place, crs) in enumerate(places):
        options = {"APPEND_SUBDATASET": True} if i else {}
        with rasterio.open(
            path, "w", driver="GTiff", height=shape[0], width=shape[1], count=1, dtype="uint16",
            crs=crs, transform=rasterio.Affine(place[2], 0, place[0], 0, -place[3], place[1]),
            **options,
        ) as file:  # fmt: skip
            file.write(np.full((1, *shape), i, "uint16"))
    for i in range(len(places)):
        stack = open_stack(str(path), series=i)
        with rasterio.open(f"GTIFF_DIR:{i + 1}:{path}") as file:
            assert stack.shape == file.shape
            assert stack.metadata["crs"] == file.crs.to_string()
            assert stack.metadata["affine"] == list(file.transform)[:6]
            first = file.transform @ (0.5, 0.5)
        named = stack.to_xarray()
        assert (float(named.x[0]), float(named.y[0])) == first
