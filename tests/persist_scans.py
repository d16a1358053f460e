"""A small scan to persist, and a store of its own, for the tests of persisting."""

from __future__ import annotations

import os
import signal
import warnings
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile

from child_processes import FORKS
from intake_tiffstack import TiffStackSource

PATTERN = "c{c:d}_t{t:d}_{wave:d}nm.tif"
WAVES = (488, 561)


def write_scan(folder: Path, *, times: int = 3) -> np.ndarray:
    """Write 2 channels of some times, 4 planes of 8 x 6 a file; return them, dims c t z y x."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(2 * times * 4 * 8 * 6, dtype=np.uint16).reshape(2, times, 4, 8, 6)
    for c, t in np.ndindex(2, times):
        write_file(folder / f"c{c}_t{t}_{WAVES[c]}nm.tif", pixels[c, t])
    return pixels


def write_file(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(
        path, pixels, photometric="minisblack", resolution=(2e4, 2e4), resolutionunit="CENTIMETER"
    )


def open_scan(folder: Path | str, **options: Any) -> TiffStackSource:
    """Return a source over what :func:`write_scan` wrote."""
    given = {"pattern": PATTERN, "concat_dim": ["c", "t"], "file_dims": "zyx", **options}
    return TiffStackSource(f"{folder}/*.tif", **given)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which this test persists; made at the first use."""
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def scan(tmp_path: Path) -> np.ndarray:
    """The pixels of the files in ``raw``."""
    return write_scan(tmp_path / "raw")


@pytest.fixture
def source(scan: np.ndarray, store: Path, tmp_path: Path) -> TiffStackSource:
    """A source over the files in ``raw``, with an empty store."""
    return open_scan(tmp_path / "raw")


# --- in other processes -------------------------------------------------------------------------


def start(function: Any, *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Start a process that calls a function of this module with the end of a pipe to tell by.

    It persists where this process does now.
    """
    ours, theirs = FORKS.Pipe(duplex=False)
    store = os.environ["INTAKE_PERSIST_PATH"]
    process = FORKS.Process(target=_run, args=(store, function, theirs, *arguments))
    process.start()
    theirs.close()
    return process, ours


def finish(process: BaseProcess) -> int | None:
    """Return how a process ended, None where it does not."""
    process.join(timeout=120)
    code = process.exitcode
    process.kill()
    process.join()
    return code


def _run(store: str, function: Any, *arguments: Any) -> None:
    os.environ["INTAKE_PERSIST_PATH"] = store
    warnings.simplefilter("error", UserWarning)
    function(*arguments)


def persist_and_read(
    reported: Connection, folder: Path, chunks: str, options: dict[str, Any]
) -> None:
    """Persist a scan and tell the sum of its pixels, of the copy and of what is read then."""
    source = open_scan(folder, chunks=chunks)
    persisted = source.persist(progress=False, **options)
    reported.send([int(persisted.read().sum()), int(source.read().sum())])


def persist_half(reported: Connection, folder: Path, chunks: tuple[int, ...]) -> None:
    """Persist a scan and be killed when half of it is written."""

    def report(done: int, total: int) -> None:
        if 2 * done >= total:
            reported.send(done)
            os.kill(os.getpid(), signal.SIGKILL)

    with dask.config.set({"tiffstack.block_bytes": 400, "scheduler": "sync"}):
        open_scan(folder).persist(progress=report, chunks=chunks)
