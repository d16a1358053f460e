"""Many at once: processes that extend one persisted copy, threads that read while others write."""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from child_processes import FORKS
from intake_tiffstack import TiffStackSource
from intake_tiffstack.errors import FileChangedError, TiffStackError
from intake_tiffstack.storage.folder import Folder

TIMES = 12


def plane(c: int, t: int) -> np.ndarray:
    """Return the pixels of a file, which no other file has."""
    return np.arange(8 * 6, dtype=np.uint16).reshape(8, 6) + 100 * (2 * t + c)


def write_time(folder: Path, t: int) -> None:
    """Write the files of one time, each complete when it appears."""
    for c in range(2):
        partial = folder / f".c{c}_t{t}.part"
        tifffile.imwrite(partial, plane(c, t))
        os.rename(partial, folder / f"c{c}_t{t}.tif")


def open_scan(folder: Path) -> TiffStackSource:
    return TiffStackSource(
        f"{folder}/*.tif",
        pattern="c{c:d}_t{t:d}.tif",
        concat_dim=["c", "t"],
        missing="trim",
        on_stale="extend",
    )


def expected(times: int) -> np.ndarray:
    return np.array([[plane(c, t) for t in range(times)] for c in range(2)])


def extend_and_read(folder: Path, store: str, seed: int, results: Any) -> None:
    """Open the scan again and again until all times are there; report what was wrong."""
    os.environ["INTAKE_PERSIST_PATH"] = store
    warnings.simplefilter("ignore")
    pause, count, lengths = random.Random(seed), 0, [0]
    try:
        while lengths[-1] < TIMES:
            found = open_scan(folder).to_dask().compute(scheduler="sync")
            np.testing.assert_array_equal(found, expected(found.shape[1]))
            lengths.append(found.shape[1])
            count += 1
            time.sleep(pause.uniform(0, 0.05))
        results.put((count, lengths, None))
    except (TiffStackError, AssertionError):
        results.put((count, lengths, traceback.format_exc()))


def test_six_processes_extend_one_copy_while_files_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = tmp_path / "raw", str(tmp_path / "store")
    monkeypatch.setenv("INTAKE_PERSIST_PATH", store)
    folder.mkdir()
    for t in range(2):
        write_time(folder, t)
    open_scan(folder).persist(progress=False)
    results = FORKS.Queue()
    processes = [
        FORKS.Process(target=extend_and_read, args=(folder, store, seed, results))
        for seed in range(6)
    ]
    for process in processes:
        process.start()
    for t in range(2, TIMES):
        time.sleep(0.25)
        write_time(folder, t)
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert not "".join(error for _, _, error in found if error)
    for _, lengths, _ in found:
        assert lengths == sorted(lengths), "nobody sees a copy become shorter"
    copy = open_scan(folder)(persist_mode="always")
    np.testing.assert_array_equal(copy.read(), expected(TIMES))
    assert len(copy.stack.files) == 2 * TIMES


@pytest.mark.parametrize("way", ["write_document", "create_document"])
def test_documents_of_a_folder_that_others_leave_empty_are_written(
    tmp_path: Path, way: str
) -> None:
    place = Folder.at(tmp_path / "a.zarr")

    def write_and_remove(number: int) -> None:
        key = f".tiffstack/claim-{number:05d}.json"
        for _ in range(500):
            getattr(place, way)(key, b"{}")
            place.remove([key])  # and the folder, if no other document is in it

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_and_remove, range(4)))
    assert place.find() == frozenset()


# -- threads that read while another lists, copies and persists ------------------------------------


def read_regions(
    source: TiffStackSource, pixels: np.ndarray, seed: int, is_over: Any, is_removed: bool
) -> int:
    """Read regions of a source, by each of its ways; return how many were read.

    Where copies are removed, an error may say so.
    """
    choose, count = random.Random(seed), 0
    while not is_over.is_set():
        try:
            read_region(source, pixels, choose)
            count += 1
        except FileChangedError as exc:
            if not is_removed or "was removed since this array was made" not in str(exc):
                raise
    return count


def read_region(source: TiffStackSource, pixels: np.ndarray, choose: random.Random) -> None:
    c, t = choose.randrange(2), choose.randrange(TIMES)
    y, x = choose.randrange(8), choose.randrange(6)
    region = (c, slice(t, None), slice(y, None), slice(x, None))
    way = choose.randrange(5)
    if way == 0:
        found = source.to_dask()[region].compute(scheduler="sync")
    elif way == 1:
        found = source.to_xarray()[region].to_numpy()
    elif way == 2:
        found = source.stack.read()[region]
    elif way == 3:
        source.discover()
        found = source.read()[region]
    else:
        found = source.stack.host_array[region]
    np.testing.assert_array_equal(found, pixels[region])


@pytest.mark.parametrize("is_removed", [False, True], ids=["repersist", "unpersist"])
def test_threads_read_while_another_relists_exports_and_persists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_removed: bool
) -> None:
    folder = tmp_path / "raw"
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    folder.mkdir()
    for t in range(TIMES):
        write_time(folder, t)
    source, pixels, is_over = open_scan(folder), expected(TIMES), threading.Event()
    with ThreadPoolExecutor(16) as pool:
        tasks = [
            pool.submit(read_regions, source, pixels, seed, is_over, is_removed)
            for seed in range(16)
        ]
        try:
            for i in range(6):
                source.relist()
                copy = source.export(tmp_path / "o.zarr", overwrite=i > 0, progress=False)
                np.testing.assert_array_equal(copy.read(), pixels)
                np.testing.assert_array_equal(source.persist(progress=False).read(), pixels)
                source.relist()
                if is_removed:
                    source.unpersist()
                else:
                    source.repersist(progress=False)
        finally:
            is_over.set()
        counts = [task.result() for task in tasks]
    assert min(counts) > 0
