"""Many requests at once: in order, within the setting, with the first error raised."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.listing.list_files import list_files
from intake_tiffstack.reading.reader import CollectionReader
from intake_tiffstack.storage.concurrency import map_concurrently
from servers import S3Server


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


@pytest.mark.parametrize("concurrency", [2, 5])
def test_listing_and_headers_on_s3_keep_to_the_setting(
    s3_server: S3Server, concurrency: int, tmp_path: Path
) -> None:
    bucket = f"concurrency-{concurrency}"
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8), compression="zlib")
    content = path.read_bytes()
    s3_server.put(bucket, {f"t{t}/z{z}.tif": content for t in range(12) for z in range(2)})
    most = {}
    s3_server.pause = 0.1
    try:
        with dask.config.set({"tiffstack.concurrency": concurrency}):
            options = s3_server.storage_options
            s3_server.most_at_once = 0
            list_files(f"s3://{bucket}/t*/*.tif", storage_options=options)
            most["listing"], s3_server.most_at_once = s3_server.most_at_once, 0
            url = f"s3://{bucket}/t{{t:d}}/z{{z:d}}.tif"
            open_stack(url, validate="all", storage_options=options).to_dask()
            most["listing and headers"] = s3_server.most_at_once
    finally:
        s3_server.pause = 0.0
    assert most == dict.fromkeys(("listing", "listing and headers"), concurrency)
