"""A small scan to persist, and a store of its own, for the tests of persisting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

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
