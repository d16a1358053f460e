"""Sources for the tests of export, and what is seen at a place."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from child_processes import FORKS
from intake_tiffstack.copies.open_zarr import open_zarr
from intake_tiffstack.errors import FilesNotFoundError, TargetExistsError
from intake_tiffstack.export.zarr_array import write_zarr
from intake_tiffstack.storage.folder import Folder

DIMS = ("c", "t", "y", "x")
PIXELS = np.arange(3 * 5 * 16 * 12, dtype=np.uint16).reshape(3, 5, 16, 12)


def write(url: Any, array: Any = PIXELS, **options: Any) -> None:
    """Write an array with as little else as there can be."""
    if isinstance(array, np.ndarray):
        array = CountedSource(array)
    dims = [*"abcdefgh"[: len(array.shape)]]
    write_zarr(array, url, **{"dims": dims, "coords": {}, "attrs": {}, **options})


class CountedSource:
    """An array that counts how often each of its pixels is asked for."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.reads = np.zeros(pixels.shape, dtype=int)
        self.shape, self.dtype = pixels.shape, pixels.dtype
        self.lock = threading.Lock()

    def __dask_tokenize__(self) -> Any:
        return self.pixels.tobytes()

    def __getitem__(self, index: Any) -> np.ndarray:
        with self.lock:
            self.reads[index] += 1
        return self.pixels[index]


class BrokenSource(CountedSource):
    """An array of which so many pixels can be read, and no more."""

    def __init__(self, pixels: np.ndarray, most: int) -> None:
        super().__init__(pixels)
        self.most = most

    def __getitem__(self, index: Any) -> np.ndarray:
        if self.reads.sum() >= self.most:
            raise OSError("the disk with the raw data is gone")
        return super().__getitem__(index)


class SlowSource(CountedSource):
    """An array that takes its time."""

    def __getitem__(self, index: Any) -> np.ndarray:
        time.sleep(0.01)
        return super().__getitem__(index)


class DeadlySource(CountedSource):
    """An array whose process is killed when so many pixels were read."""

    def __init__(self, pixels: np.ndarray, most: int) -> None:
        super().__init__(pixels)
        self.most = most

    def __getitem__(self, index: Any) -> np.ndarray:
        if self.reads.sum() >= self.most:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def run(function: Any, *arguments: Any) -> int:
    """Return how a process ends that calls a function of this module; it may kill itself."""
    process = FORKS.Process(target=function, args=arguments)
    process.start()
    process.join(timeout=120)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    return -1000 if code is None else code


def write_deadly(url: str, most: int, workers: int, options: dict[str, Any]) -> None:
    """Write PIXELS by a process that is killed once so many of them were read."""
    with dask.config.set({"tiffstack.block_bytes": 1, "num_workers": workers}):
        write(url, DeadlySource(PIXELS, most), **options)


def write_killed_at(url: str, number: int, after: bool, options: dict[str, Any]) -> None:
    """Write PIXELS by a process that is killed before or after its change of that number."""
    seen = 0

    def make_deadly(plain: Any) -> Any:
        def method(*args: Any) -> Any:
            nonlocal seen
            seen += 1
            is_last = seen == number
            if is_last and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = plain(*args)
            if is_last and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return method

    for name in ("write_document", "create_document", "remove"):
        setattr(Folder, name, make_deadly(getattr(Folder, name)))
    write(url, **options)


def write_slowly(url: str, added: int, start: float) -> None:
    """Write PIXELS and a number from a moment on; exit with 3 where another writes."""
    time.sleep(max(0, start - time.time()))
    try:
        with dask.config.set({"tiffstack.block_bytes": 1}):
            write(url, SlowSource(PIXELS + added), chunks=(1, 1, 8, 12))
    except TargetExistsError:
        sys.exit(3)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_nothing_opens(url: str) -> None:
    """Check that no reader takes what is there for a Zarr."""
    with pytest.raises(FilesNotFoundError, match="no finished Zarr array"):
        open_zarr(url)
    with pytest.raises(FileNotFoundError):
        da.from_zarr(url)
    with pytest.raises(FileNotFoundError):
        zarr.open_array(url, mode="r")
    with pytest.raises(FileNotFoundError):
        zarr.open(url, mode="r")
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(url)
