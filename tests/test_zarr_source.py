"""What a source of a Zarr takes: chunks, names of dims, no dask; and what others wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from intake_tiffstack import TiffStackZarrSource
from intake_tiffstack.errors import OptionError, StorageError

PIXELS = np.arange(6 * 8 * 10, dtype="u2").reshape(6, 8, 10)


def write_array(path: Path, zarr_format: Any, **options: Any) -> str:
    zarr.create_array(str(path), data=PIXELS, chunks=(2, 8, 10), zarr_format=zarr_format, **options)
    return str(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_dims_name_those_of_an_array_without_names(tmp_path: Path, zarr_format: Any) -> None:
    url = write_array(tmp_path / "a.zarr", zarr_format)
    with pytest.raises(StorageError, match="name them with the option `dims`"):
        TiffStackZarrSource(url).to_dask()
    source = TiffStackZarrSource(url, dims=["t", "y", "x"], sel={"t": [1, 3]})
    assert source.to_xarray().dims == ("t", "y", "x")
    np.testing.assert_array_equal(source.read(), PIXELS[[1, 3]])
    with pytest.raises(OptionError, match="dims must be 3 different names"):
        TiffStackZarrSource(url, dims="yx").to_dask()


def test_names_of_the_array_are_not_replaced(tmp_path: Path) -> None:
    url = write_array(tmp_path / "a.zarr", 3, dimension_names=["t", "y", "x"])
    assert TiffStackZarrSource(url, dims="tyx").dims == ("t", "y", "x")
    with pytest.raises(OptionError, match="names its own: t, y, x"):
        TiffStackZarrSource(url, dims="zyx").to_dask()


def test_a_copy_that_was_migrated_keeps_its_names(tmp_path: Path) -> None:
    """zarr's ``migrate`` leaves the names of format 2 in the attributes of format 3."""
    attributes = {"_ARRAY_DIMENSIONS": ["z", "y", "x"], "owner": "lab"}
    url = write_array(tmp_path / "a.zarr", 3, attributes=attributes)
    source = TiffStackZarrSource(url)
    assert source.dims == ("z", "y", "x")
    assert source.to_xarray().attrs == {"owner": "lab"}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ({"t": 4}, ((4, 2), (8,), (10,))),
        (3, ((3, 3), (3, 3, 2), (3, 3, 3, 1))),
        ((2, -1, 5), ((2, 2, 2), (8,), (5, 5))),
        ("auto", ((6,), (8,), (10,))),
    ],
    ids=str,
)
def test_chunks_of_a_copy(tmp_path: Path, chunks: Any, expected: Any) -> None:
    url = write_array(tmp_path / "a.zarr", 3, dimension_names=["t", "y", "x"])
    source = TiffStackZarrSource(url, chunks=chunks)
    assert source.to_dask().chunks == source.chunks == expected
    np.testing.assert_array_equal(source.read(), PIXELS, strict=True)
    assert source.discover()["npartitions"] == source.to_dask().npartitions


def test_chunks_of_files_are_refused(tmp_path: Path) -> None:
    url = write_array(tmp_path / "a.zarr", 3, dimension_names=["t", "y", "x"])
    with pytest.raises(OptionError, match="a Zarr has none"):
        TiffStackZarrSource(url, chunks="page").to_dask()


def test_without_dask(tmp_path: Path) -> None:
    url = write_array(tmp_path / "a.zarr", 3, dimension_names=["t", "y", "x"])
    named = TiffStackZarrSource(url).to_xarray(chunks=None)
    assert named.chunks is None
    part = named.isel(t=slice(1, None, 2)).transpose("x", ...)[3]
    np.testing.assert_array_equal(part.values, PIXELS[1::2, :, 3])


def test_channels_of_an_ome_zarr_of_another_program(tmp_path: Path) -> None:
    ome = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [
                    {"name": "c", "type": "channel"},
                    *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx"),
                ],
                "datasets": [{"path": "0", "coordinateTransformations": [
                    {"type": "scale", "scale": [1, 0.5, 0.5]}]}],
            }
        ],
        "omero": {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP"}]},
    }  # fmt: skip
    group = zarr.create_group(str(tmp_path / "a.zarr"), attributes={"ome": ome})
    group.create_array("0", data=PIXELS[:2], dimension_names=["c", "y", "x"])
    source = TiffStackZarrSource(str(tmp_path / "a.zarr"))
    named = source.to_xarray()
    assert named.channel.dims == ("c",)
    assert named.channel.values.tolist() == ["DAPI", "GFP"]
    assert source.metadata["channel_colors"] == ["#0000ff", None]
    assert {name: c.attrs for name, c in named.coords.items() if c.attrs} == {
        dim: {"units": "micrometer"} for dim in "yx"
    }
    assert source.metadata["coord_units"] == {"y": "micrometer", "x": "micrometer"}
    only = source(sel={"channel": "GFP"})
    np.testing.assert_array_equal(only.read(), PIXELS[1:2])
