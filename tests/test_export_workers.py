"""Where a copy is made: threads, the workers of a cluster, and how it tells of itself."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
import types
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile

from export_sources import PIXELS, BrokenSource, CountedSource, assert_nothing_opens, tree, write
from intake_tiffstack import open_stack
from intake_tiffstack.copies.chunk_plan import plan_blocks
from intake_tiffstack.copies.record import RECORD
from intake_tiffstack.errors import OptionError, StorageError, TargetBusyError, UnreadableFileError
from intake_tiffstack.progress import reported
from servers import serve_cluster
from tiff_files import pixels

CHUNKS = {"chunks": (1, 1, 8, 12)}


@pytest.fixture(scope="module")
def cluster_client() -> Iterator[Any]:
    """Return the client of two workers, each a process with two threads."""
    with serve_cluster() as client:
        yield client


@pytest.fixture
def client(cluster_client: Any) -> Iterator[Any]:
    """Return that client, current for one test."""
    with cluster_client.as_current():
        yield cluster_client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of ten files of two planes."""
    (tmp_path / "raw").mkdir()
    for t, volume in enumerate(pixels(10, 2, 16, 12)):
        path = tmp_path / "raw" / f"t{t}.tif"
        tifffile.imwrite(path, volume, photometric="minisblack", compression="zlib")
    return tmp_path


def export(folder: Path, name: str, **options: Any) -> Path:
    stack = open_stack(str(folder / "raw" / "t{t:d}.tif"), file_dims="zyx")
    stack.export(str(folder / name), chunks=(3, 1, 16, 12), **options)
    return folder / name


def test_a_cluster_leaves_the_same_bytes_as_threads(folder: Path, client: Any) -> None:
    with dask.config.set({"tiffstack.block_bytes": 1}):
        on_cluster = export(folder, "a.zarr", shards=(3, 2, 16, 12))
        with dask.config.set(scheduler="threads"):
            on_threads = export(folder, "b.zarr", shards=(3, 2, 16, 12))
    ours, others = tree(on_cluster), tree(on_threads)
    assert ours.pop(RECORD)  # it has the time of writing
    assert others.pop(RECORD)
    assert ours == others
    np.testing.assert_array_equal(da.from_zarr(on_cluster).compute(), pixels(10, 2, 16, 12))


def test_units_run_on_the_workers_of_the_current_client(folder: Path, client: Any) -> None:
    seen: list[tuple[int, int]] = []
    with dask.config.set({"tiffstack.block_bytes": 1}):
        export(folder, "a.zarr", progress=lambda *at: seen.append(at))
    names = {
        key
        for held in client.run(lambda dask_worker: list(dask_worker.state.log)).values()
        for entry in held
        for key in map(str, entry)
        if "write_unit" in key
    }
    assert len(names) >= 8  # four blocks along t, two along z
    assert seen[-1] == (10 * 2 * 16 * 12 * 2,) * 2


def test_the_first_failure_on_a_cluster_comes_home_and_the_copy_resumes(
    folder: Path, client: Any
) -> None:
    whole = (folder / "raw/t7.tif").read_bytes()
    stack = open_stack(str(folder / "raw" / "t{t:d}.tif"), file_dims="zyx", validate="template")
    stack.to_dask()
    (folder / "raw/t7.tif").write_bytes(whole[:-400])
    with (
        dask.config.set({"tiffstack.block_bytes": 1}),
        pytest.raises(UnreadableFileError, match=r"t7\.tif"),
    ):
        stack.export(str(folder / "a.zarr"), chunks=(3, 1, 16, 12))
    assert_nothing_opens(str(folder / "a.zarr"))


def write_slow_or_broken(url: str) -> None:
    with dask.config.set({"tiffstack.block_bytes": 1}):
        write(url, SlowAndBroken(PIXELS), **CHUNKS)


class SlowAndBroken(CountedSource):
    """An array of which the first chunk cannot be read, and others take their time."""

    def __reduce__(self) -> Any:
        return SlowAndBroken, (self.pixels,)

    def __getitem__(self, index: Any) -> np.ndarray:
        if all(part.start == 0 for part in index):
            raise OSError("the disk with the raw data is gone")
        time.sleep(0.3)
        return super().__getitem__(index)


def test_nothing_is_written_on_a_cluster_after_the_failure(tmp_path: Path, client: Any) -> None:
    with pytest.raises(OSError, match="raw data is gone"):
        write_slow_or_broken(str(tmp_path / "a.zarr"))
    before = tree(tmp_path)
    time.sleep(0.7)
    assert tree(tmp_path) == before


def test_tasks_of_a_cluster_export(folder: Path, client: Any) -> None:
    futures = [client.submit(export, folder, f"{n}.zarr") for n in range(5)]  # more than threads
    for copy in client.gather(futures):
        np.testing.assert_array_equal(da.from_zarr(copy).compute(), pixels(10, 2, 16, 12))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_an_export_ends_where_all_workers_are_lost_and_is_resumed(folder: Path) -> None:
    stack = open_stack(str(folder / "raw" / "t{t:d}.tif"), file_dims="zyx")
    with serve_cluster() as client, client.as_current():
        pids = list(client.run(os.getpid).values())

        def kill(done: int, total: int) -> None:
            while pids:
                os.kill(pids.pop(), signal.SIGKILL)

        with (
            dask.config.set({"tiffstack.block_bytes": 1}),
            pytest.raises(StorageError, match="lost the worker that held the data shared"),
        ):
            stack.export(str(folder / "cut.zarr"), chunks=(1, 1, 8, 6), progress=kill)
    assert_nothing_opens(str(folder / "cut.zarr"))
    for name in ("whole.zarr", "cut.zarr"):
        with dask.config.set({"tiffstack.block_bytes": 1, "scheduler": "threads"}):
            stack.export(str(folder / name), chunks=(1, 1, 8, 6))
    cut, whole = tree(folder / "cut.zarr"), tree(folder / "whole.zarr")
    assert cut.pop(RECORD)  # it has the time of writing
    assert whole.pop(RECORD)
    assert cut == whole


def test_a_place_that_workers_do_not_share_is_an_error(folder: Path, client: Any) -> None:
    stack = open_stack(str(folder / "raw" / "t{t:d}.tif"), file_dims="zyx")
    with pytest.raises(TargetBusyError, match=r"does not see the same place"):
        stack.export(f"memory://{uuid.uuid4().hex}", verify=False)


def test_one_thread_is_used_where_dask_would_use_one() -> None:
    used = set()

    class Noted(CountedSource):
        def __getitem__(self, index: Any) -> np.ndarray:
            used.add(threading.current_thread().name)
            return super().__getitem__(index)

    with dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}):
        write(f"memory://{uuid.uuid4().hex}", Noted(PIXELS), verify=False, **CHUNKS)
    assert len(used) == 1


def test_nothing_more_is_begun_after_a_failure() -> None:
    source = BrokenSource(PIXELS, 0)
    tried = []
    source.__class__ = type(
        "Noted",
        (BrokenSource,),
        {"__getitem__": lambda self, i: tried.append(i) or BrokenSource.__getitem__(self, i)},
    )
    with (
        dask.config.set({"num_workers": 2, "tiffstack.block_bytes": 1}),
        pytest.raises(OSError, match="raw data is gone"),
    ):
        write(f"memory://{uuid.uuid4().hex}", source, **CHUNKS)
    assert len(tried) <= 5  # of 30


# --- memory --------------------------------------------------------------------------------------


def test_blocks_stay_within_their_bound_for_a_series_of_large_pages() -> None:
    blocks = plan_blocks(
        (1000, 2048, 2048),
        2,
        unit=(1000, 64, 64),
        granule=(1, 2048, 2048),
        order=(0, 1, 2),
        most_bytes=2**27,
    )
    assert np.prod([max(n) for n in blocks]) * 2 <= 2**27


# --- progress ------------------------------------------------------------------------------------


def test_progress_counts_bytes_up_to_all_and_starts_where_it_resumes() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    first: list[tuple[int, int]] = []
    again: list[tuple[int, int]] = []
    with dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}):
        with pytest.raises(OSError, match="raw data is gone"):
            write(url, BrokenSource(PIXELS, 960), progress=lambda *at: first.append(at), **CHUNKS)
        write(url, progress=lambda *at: again.append(at), **CHUNKS)
    unit = 8 * 12 * 2
    assert first == [(unit * n, PIXELS.nbytes) for n in range(1, 11)]
    assert again == [(unit * n, PIXELS.nbytes) for n in range(11, 31)]


@pytest.mark.parametrize(
    ("progress", "configured", "is_terminal", "is_shown"),
    [
        (True, None, False, True),
        (False, True, True, False),
        (None, None, True, True),
        (None, None, False, False),
        (None, True, False, True),
        (None, False, True, False),
    ],
)
def test_a_bar_is_shown_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch,
    progress: Any,
    configured: Any,
    is_terminal: bool,
    is_shown: bool,
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", shown)
    with (
        dask.config.set({"tiffstack.progress": configured}),
        reported(progress, 2048, title="export", unit="B") as advance,
    ):
        advance(1024)
        advance(1024)
    assert ("export: 100%" in shown.getvalue() and "2.00k/2.00k" in shown.getvalue()) == is_shown


def test_a_notebook_is_somebody_who_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with reported(None, 1, title="export", unit="B") as advance:
        advance(1)
    assert "export: 100%" in sys.stderr.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("progress", ["yes", 1])
def test_progress_is_one_of_four(progress: Any) -> None:
    with pytest.raises(OptionError, match="progress must be True, False, None or a function"):
        write(f"memory://{uuid.uuid4().hex}", progress=progress)


def test_an_unknown_option_of_export_is_named(folder: Path) -> None:
    with pytest.raises(OptionError, match="unknown option of export"):
        export(folder, "a.zarr", compresor=None)


def test_an_export_without_a_cluster_does_not_import_distributed(folder: Path) -> None:
    code = f"""
import sys
from intake_tiffstack import open_stack
stack = open_stack({str(folder / "raw" / "t{t:d}.tif")!r}, file_dims="zyx")
stack.export({str(folder / "a.zarr")!r}, progress=False)
assert stack.to_dask().shape == (10, 2, 16, 12)
print("distributed" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "module", ["storage.folder", "export.compressors", "export.planned_array", "copies.zarr_pixels"]
)
def test_a_thread_may_unpickle_while_another_imports(module: str) -> None:
    code = f"""
import sys, threading, time
import intake_tiffstack.stack

def unpickle():
    while "zarr" not in sys.modules:
        time.sleep(0)
    __import__("intake_tiffstack.{module}")  # as pickle does

thread = threading.Thread(target=unpickle)
thread.start()
import intake_tiffstack.export.formats
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


_IMPORTS = """
import threading
from intake_tiffstack.export.workers import count_threads
thread = threading.Thread(target=__import__, args=("distributed",))
thread.start()
while thread.is_alive():
    count_threads()
count_threads()
"""


def test_an_export_may_begin_while_another_thread_imports_distributed() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
