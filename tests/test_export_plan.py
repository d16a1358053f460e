"""What a copy consists of, known before it is written."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import TiffStackSource
from intake_tiffstack.copies.chunk_plan import choose_shards, choose_zarr_chunks
from intake_tiffstack.errors import TargetExistsError, TiffStackWarning
from intake_tiffstack.export.ome_zarr.write import write_ome_zarr
from intake_tiffstack.export.zarr_array import write_zarr
from servers import S3Server


def stored_files(url: Path) -> list[Path]:
    return [path for path in url.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("zarr", {}),
        ("zarr", {"zarr_format": 2, "chunks": {"z": 1}}),
        ("zarr", {"chunks": {"z": 1}, "shards": {"z": -1}}),
        ("zarr", {"group": True}),
        ("ome-zarr", {"levels": 3}),
        ("ome-zarr", {"version": "0.4", "levels": 2}),
        ("references", {}),
    ],
    ids=["chunks", "v2", "shards", "group", "pyramid", "0.4", "references"],
)
def test_a_dry_run_says_what_is_written_and_writes_nothing(
    tmp_path: Path, format: Any, options: dict[str, Any]
) -> None:
    pixels = np.arange(3 * 64 * 48, dtype="uint16").reshape(3, 64, 48)
    for t in range(2):
        tifffile.imwrite(tmp_path / f"t{t}.tif", pixels + t, photometric="minisblack")
    source = TiffStackSource(str(tmp_path / "t{t:d}.tif"), file_dims="zyx")
    url = tmp_path / "out" / "copy.json" if format == "references" else tmp_path / "out"
    plan = source.export(url, format=format, dry_run=True, **options)
    assert not (tmp_path / "out").exists()
    source.export(url, format=format, progress=False, **options)
    files = stored_files(tmp_path / "out")
    assert plan.objects == len(files)
    assert plan.format == format
    assert str(url) in str(plan)
    if format != "references":
        arrays = [path.parent for path in files if path.name == ".zarray"] + [
            path.parent
            for path in files
            if path.name == "zarr.json" and json.loads(path.read_text())["node_type"] == "array"
        ]
        opened = {str(p.relative_to(tmp_path / "out")): zarr.open_array(p) for p in arrays}
        for array in plan.arrays:
            found = opened[array.path or "."]
            assert (found.shape, found.chunks, found.shards) == (
                array.shape,
                array.chunks,
                array.shards,
            )
        assert plan.read_nbytes == 2 * pixels.nbytes
        assert plan.nbytes >= 2 * pixels.nbytes
    with pytest.raises(TargetExistsError):
        source.export(url, format=format, dry_run=True, **options)


class Empty:
    """A large array that nothing reads."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)

    def __getitem__(self, region: Any) -> Any:
        raise AssertionError("read")

    def __dask_tokenize__(self) -> Any:
        return self.shape, self.dtype.str


def test_a_large_copy_has_shards_by_default(tmp_path: Path, s3_server: S3Server) -> None:
    movie = Empty((5000, 120, 2048, 1024), "uint16")  # 2.5 TB
    named = {"dims": tuple("tzyx"), "coords": {}, "attrs": {}, "dry_run": True}
    plan = write_zarr(movie, tmp_path / "a", **named)
    assert plan.nbytes == 5000 * 120 * 2048 * 1024 * 2
    assert plan.objects < 50_000
    (array,) = plan.arrays
    assert prod(array.shards) * 2 <= 64_000_000
    assert all(s % c == 0 for s, c in zip(array.shards, array.chunks, strict=True))
    assert plan.memory < 1e9
    with pytest.warns(TiffStackWarning, match="will consist of 1,200,001 objects"):
        assert write_zarr(movie, tmp_path / "a", shards=None, **named).arrays[0].shards is None
    with pytest.warns(TiffStackWarning, match="objects"):
        write_zarr(movie, tmp_path / "a", zarr_format=2, **named)
    small = Empty((4000, 1, 2048, 1024), "uint16")
    assert write_zarr(small, tmp_path / "a", **named).arrays[0].shards is None
    s3_server.put("planned", {"x": b"x"})
    remote = {**named, "storage_options": s3_server.storage_options}
    assert write_zarr(small, "s3://planned/a", **remote).arrays[0].shards is not None
    pyramid = write_ome_zarr(Empty((20_000, 1024, 1024), "uint16"), tmp_path / "b", dims="tyx",
                             coords={}, attrs={}, levels=3, dry_run=True)  # fmt: skip
    assert [array.shards is None for array in pyramid.arrays] == [False] * 3
    assert pyramid.objects < 3000


@given(data=st.data())
def test_chosen_shards_are_whole_chunks_within_the_limit(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=5)))
    itemsize = data.draw(st.sampled_from([1, 2, 8]))
    chunks = choose_zarr_chunks(shape, itemsize, min(2, len(shape)))
    shards = choose_shards(shape, itemsize, chunks, range(len(shape)))
    assert all(s % c == 0 for s, c in zip(shards, chunks, strict=True))
    assert prod(shards) * itemsize <= max(64_000_000, prod(chunks) * itemsize)
    if prod(shape) * itemsize > 1_000_000_000:
        assert prod(shards) * itemsize >= 15_000_000
