"""Many requests at once: in order, within the setting, with the first error raised."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.reading.reader import CollectionReader
from intake_tiffstack.storage.concurrency import map_concurrently


class Counted:
    """A function that notes how many calls run at the same time."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        threading.Event().wait(0.01)
        with self._lock:
            self._now -= 1
        if item == 70:
            raise OSError("item 70")
        return item


@pytest.mark.parametrize("concurrency", [1, 3, 10])
def test_the_setting_bounds_the_calls_at_a_time(concurrency: int) -> None:
    counted = Counted()
    with dask.config.set({"tiffstack.concurrency": concurrency}):
        assert list(map_concurrently(counted, range(40))) == list(range(40))
    assert counted.most == concurrency


def test_the_first_error_is_raised() -> None:
    with pytest.raises(OSError, match="item 70"):
        list(map_concurrently(Counted(), range(100)))


def test_headers_of_remote_files_keep_to_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = f"memory://{uuid.uuid4().hex}"
    for t in range(12):
        with fsspec.open(f"{folder}/t{t}.tif", "wb") as file:
            tifffile.imwrite(file, np.full((4, 5), t, np.uint8), compression="zlib")
    counted, read = Counted(), CollectionReader.read_header

    def read_counted(self: CollectionReader, *args: Any, **options: Any) -> Any:
        counted(0)
        return read(self, *args, **options)

    monkeypatch.setattr(CollectionReader, "read_header", read_counted)
    with dask.config.set({"tiffstack.concurrency": 2}):
        open_stack(f"{folder}/t{{t:d}}.tif", validate="all").to_dask()
    assert counted.most == 2
