"""Intake 2: the data type of a collection, its readers, pipelines and catalogs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dask.array as da
import intake
import numpy as np
import pytest
import tifffile
import xarray as xr
from intake.readers.datatypes import TIFF
from intake.readers.entry import Catalog
from intake.readers.readers import recommend

from intake_tiffstack.intake2 import TiffCollection, TiffCollectionToDask, TiffCollectionToXarray

OPTIONS = {"pattern": "c{c:d}_t{t:d}.tif", "concat_dim": ["c", "t"]}


@pytest.fixture
def pixels(tmp_path: Path) -> np.ndarray:
    """Write 2 channels x 3 times, and return them stacked."""
    pixels = np.arange(120, dtype="uint16").reshape(2, 3, 4, 5)
    for c, t in np.ndindex(2, 3):
        tifffile.imwrite(tmp_path / f"c{c}_t{t}.tif", pixels[c, t])
    return pixels


@pytest.mark.parametrize("below", ["", "/*.tif", "/*.tif*", "/c{c:d}_t{t:d}.tif"])
def test_a_collection_is_recommended_before_a_single_tiff(
    pixels: np.ndarray, tmp_path: Path, below: str
) -> None:
    found = intake.readers.datatypes.recommend(f"{tmp_path}{below}")
    assert found[0] is TiffCollection
    first = recommend(TiffCollection)["importable"][:2]
    assert set(first) == {TiffCollectionToDask, TiffCollectionToXarray}


def test_a_folder_of_tiffs_in_capitals_is_a_collection(pixels: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "c0_t0.tif").rename(tmp_path / "scans" / "A.TIF")
    assert intake.readers.datatypes.recommend(f"{tmp_path}/scans") == [TiffCollection]
    assert TiffCollection(f"{tmp_path}/scans").to_reader("dask").read().shape == (1, 4, 5)


def test_a_single_file_stays_a_tiff(pixels: np.ndarray, tmp_path: Path) -> None:
    found = intake.readers.datatypes.recommend(f"{tmp_path}/c0_t0.tif")
    assert TIFF in found
    assert TiffCollection not in found
    reader = TIFF(f"{tmp_path}/c0_t0.tif").to_reader("dask")
    np.testing.assert_array_equal(reader.read().compute(), pixels[0, 0])


def test_readers_give_the_pixels(pixels: np.ndarray, tmp_path: Path) -> None:
    data = TiffCollection(str(tmp_path))
    array = data.to_reader("dask", **OPTIONS).read()
    assert isinstance(array, da.Array)
    np.testing.assert_array_equal(array.compute(), pixels)
    named = data.to_reader("xarray", **OPTIONS).read()
    assert isinstance(named, xr.DataArray)
    assert named.dims == ("c", "t", "y", "x")
    np.testing.assert_array_equal(named.to_numpy(), pixels)


def test_pipelines_go_on_from_the_array(pixels: np.ndarray, tmp_path: Path) -> None:
    pipeline = TiffCollection(str(tmp_path)).to_reader("xarray", **OPTIONS).sum(dim="t")
    np.testing.assert_array_equal(pipeline.read().to_numpy(), pixels.sum(axis=1))


def test_a_catalog_of_version_2_keeps_pattern_and_options(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    catalog = Catalog()
    data = TiffCollection(f"{tmp_path}/*.tif")
    catalog["scan"] = data.to_reader("xarray", **OPTIONS)
    catalog["array"] = data.to_reader("dask", **OPTIONS)
    catalog.to_yaml_file(f"{tmp_path}/lab.yaml")
    again = intake.open_catalog(f"{tmp_path}/lab.yaml")
    assert again.scan.read().dims == ("c", "t", "y", "x")
    np.testing.assert_array_equal(again.array.read().compute(), pixels)


def test_intake_finds_the_readers_by_itself_and_cheaply() -> None:
    code = (
        "import sys, intake.readers; "
        "from intake.readers.utils import subclasses; "
        "from intake.readers.datatypes import BaseData; "
        "assert any(c.__name__ == 'TiffCollection' for c in subclasses(BaseData)); "
        "assert 'intake_tiffstack.intake2' in sys.modules; "
        "assert not {'tifffile', 'xarray', 'dask.array'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
