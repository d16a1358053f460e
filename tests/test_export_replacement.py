"""A copy that is replaced: readers see the old or the new one, whatever happens meanwhile."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr

from child_processes import deadly_at
from export_sources import PIXELS, BrokenSource, run, tree, write
from intake_tiffstack import TiffStackZarrSource, export
from intake_tiffstack.copies.open_zarr import open_zarr
from intake_tiffstack.errors import FileChangedError, TargetBusyError
from intake_tiffstack.export.planned_array import PlannedArray
from intake_tiffstack.storage.folder import Folder

OLD, NEW = PIXELS, PIXELS + 1
CHUNKS = (1, 5, 16, 12)


def overwrite(url: Path, **options: Any) -> None:
    with dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}):
        write(url, NEW, chunks=CHUNKS, overwrite=True, **options)


def overwrite_killed(url: Path, number: int, can_exchange: bool) -> None:
    """Overwrite by a process that is killed before its change of that number."""
    deadly = deadly_at(number)
    for name in ("write_document", "create_document", "remove", "remove_all", "take_place_of"):
        setattr(Folder, name, deadly(getattr(Folder, name)))
    PlannedArray.write = deadly(PlannedArray.write)  # type: ignore[method-assign]
    if not can_exchange:
        ctypes.CDLL = lambda name: None  # type: ignore[assignment, misc]
    os.rename, os.unlink = deadly(os.rename), deadly(os.unlink)
    overwrite(url)


@pytest.mark.parametrize("can_exchange", [True, False], ids=["exchange", "renames"])
def test_a_kill_at_any_change_leaves_the_old_or_the_new_copy(
    tmp_path: Path, can_exchange: bool
) -> None:
    number, was_killed, missing, seen = 0, True, 0, set()
    while was_killed:
        number += 1
        url = tmp_path / str(number) / "copy.zarr"
        write(url, OLD, chunks=CHUNKS)
        was_killed = run(overwrite_killed, url, number, can_exchange) == -signal.SIGKILL
        if not url.exists():
            missing += 1
        else:
            found = np.asarray(zarr.open_array(url, mode="r")[:])
            assert np.array_equal(found, OLD) or np.array_equal(found, NEW)
            seen.add(int(found.flat[0]))
        overwrite(url)
        np.testing.assert_array_equal(zarr.open_array(url, mode="r")[:], NEW)
        assert os.listdir(url.parent) == ["copy.zarr"]
        assert not (url / ".tiffstack").exists()
    assert number > 8
    assert seen == {0, 1}
    assert missing == (0 if can_exchange else 1)


def test_an_overwriting_that_failed_is_resumed_beside_the_old_copy(tmp_path: Path) -> None:
    url = tmp_path / "copy.zarr"
    write(url, OLD, chunks=(1, 1, 8, 12))
    options: dict[str, Any] = {"chunks": (1, 1, 8, 12), "overwrite": True}
    with (
        pytest.raises(OSError, match="gone"),
        dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}),
    ):
        write(url, BrokenSource(NEW, NEW.size // 2), **options)
    np.testing.assert_array_equal(zarr.open_array(url, mode="r")[:], OLD)
    source = BrokenSource(NEW, NEW.size)
    with dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}):
        write(url, source, verify=False, **options)
    assert source.reads.sum() < NEW.size
    np.testing.assert_array_equal(zarr.open_array(url, mode="r")[:], NEW)


def test_readers_meanwhile_see_the_old_copy_and_then_the_new_one(tmp_path: Path) -> None:
    url = tmp_path / "copy.zarr"
    write(url, OLD, chunks=CHUNKS)
    before, seen = TiffStackZarrSource(str(url)).to_dask(), list[int]()

    def read(*_: int) -> None:
        np.testing.assert_array_equal(open_zarr(str(url)).array[:], OLD)
        np.testing.assert_array_equal(before.compute(scheduler="sync"), OLD)
        seen.append(1)

    overwrite(url, progress=read)
    assert len(seen) > 2
    np.testing.assert_array_equal(open_zarr(str(url)).array[:], NEW)
    with pytest.raises(FileChangedError):
        before.compute(scheduler="sync")


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "copy.zarr", tmp_path / "link.zarr"
    write(real, OLD)
    link.symlink_to(real)
    overwrite(link)
    assert link.is_symlink()
    np.testing.assert_array_equal(zarr.open_array(real, mode="r")[:], NEW)
    assert os.listdir(real.parent) == ["copy.zarr"]


def test_two_that_overwrite_at_once_are_told_apart(tmp_path: Path) -> None:
    url = tmp_path / "copy.zarr"
    write(url, OLD, chunks=CHUNKS)

    def second(*_: int) -> None:
        with pytest.raises(TargetBusyError):
            write(url, OLD + 2, chunks=CHUNKS, overwrite=True)

    overwrite(url, progress=second)
    np.testing.assert_array_equal(zarr.open_array(url, mode="r")[:], NEW)


def test_levels_and_display_of_a_pyramid_are_those_of_the_new_pixels(tmp_path: Path) -> None:
    url, fresh = tmp_path / "copy.zarr", tmp_path / "fresh" / "copy.zarr"
    for t, pixels in enumerate((OLD, NEW * 7)):
        array = xr.DataArray(pixels, dims=("t", "z", "y", "x"))
        for place in [url, fresh][: 1 + t]:
            export(array, place, format="ome-zarr", levels=3, overwrite=True, progress=False)
    assert tree(url) == tree(fresh)
