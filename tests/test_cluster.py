"""The same array on a cluster of two processes, that knows the files by their table alone."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import dask.array as da
import intake
import numpy as np
import pytest
import tifffile
from dask.base import collections_to_expr
from dask.core import flatten

import intake_tiffstack
from intake_tiffstack import TiffStack, open_stack
from intake_tiffstack.errors import StorageError
from intake_tiffstack.storage import files as filetable
from servers import Request, S3Server, serve_cluster
from tiff_files import pixels

distributed = pytest.importorskip("distributed")

DATA = pixels(40, 3, 16, 20)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Return the client of two workers, each a process with two threads."""
    with serve_cluster() as client, client.as_current():
        yield client


@pytest.fixture
def stack(s3_server: S3Server) -> TiffStack:
    """Return a collection of 40 files on S3, one a chunk."""
    files = {}
    for t, volume in enumerate(DATA):
        buffer = BytesIO()
        tifffile.imwrite(buffer, volume, photometric="minisblack", compression="zlib")
        files[f"raw/t{t}.tif"] = buffer.getvalue()
    s3_server.put("cluster", files)
    return open_stack(
        "s3://cluster/raw/t{t:d}.tif",
        file_dims="zyx",
        chunks="file",
        storage_options=s3_server.storage_options,
    )


def test_a_source_with_parameters_of_its_catalog_opens_on_a_worker(
    client: Any, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "t0.tif", DATA[0], photometric="minisblack")
    (tmp_path / "lab.yml").write_text(
        "metadata: {parameters: {start: {description: s, type: str, default: t}}}\n"
        "sources: {scan: {driver: tiffstack, args: {urlpath: '{{ CATALOG_DIR }}{{ start }}0.tif'}}}"
    )
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # "Shell command"
        source = intake.open_catalog(str(tmp_path / "lab.yml")).scan
    read = client.submit(lambda source: source.read(), source, pure=False)
    np.testing.assert_array_equal(read.result(timeout=60), DATA[0])


def test_pixels_are_the_same_from_s3_and_from_disk(
    client: Any, stack: TiffStack, tmp_path: Path
) -> None:
    for t, volume in enumerate(DATA):
        tifffile.imwrite(tmp_path / f"t{t}.tif", volume, photometric="minisblack")
    local = open_stack(f"{tmp_path}/t{{t:d}}.tif", file_dims="zyx", chunks={"t": 7, "y": 5})
    near, far = local.to_dask(), stack.to_dask()
    np.testing.assert_array_equal(far.compute(), DATA)
    np.testing.assert_array_equal(near.compute(), DATA)
    assert int((far.rechunk(near.chunks) != near).sum().compute()) == 0
    np.testing.assert_array_equal(far[11, 2, 3:5].compute(), DATA[11, 2, 3:5])


def _count_tables() -> None:
    """Count on a worker how many tables arrive."""
    plain = filetable._unpack
    filetable.arrived = 0  # type: ignore[attr-defined]

    def unpack(*args: Any) -> Any:
        filetable.arrived += 1  # type: ignore[attr-defined]
        return plain(*args)

    filetable._unpack = unpack


def _tables() -> int:
    return int(filetable.arrived)  # type: ignore[attr-defined]


def test_table_travels_once_and_tasks_spread(client: Any, stack: TiffStack) -> None:
    client.run(_count_tables)
    result = stack.to_dask().persist()
    distributed.wait(result)
    arrived = client.run(_tables).values()
    assert all(1 <= count <= 2 for count in arrived), arrived  # once sent, once handed on
    chunks = set(flatten(result.__dask_keys__()))
    spread = [len(chunks.intersection(held)) for held in client.has_what().values()]
    assert sum(spread) == 40
    assert min(spread) >= 10
    np.testing.assert_array_equal(result.compute(), DATA)


def test_failed_tasks_are_repeated_on_request(
    client: Any, stack: TiffStack, s3_server: S3Server
) -> None:
    a = stack.to_dask()

    def refuse(count: int) -> None:
        left = [403] * count  # a worker tries once more, with renewed credentials

        def answer(request: Request) -> int | None:
            return left.pop() if left and request.range else None

        s3_server.refuses = answer

    refuse(1000)
    with pytest.raises(
        StorageError, match=r"cannot list or read s3://cluster/raw/t\d+\.tif: .*403"
    ):
        (a + 1).compute()
    refuse(5)
    np.testing.assert_array_equal((a + 2).compute(retries=10), DATA + np.uint16(2))


_SCHEDULER = """
import pickle, sys

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tifffile", "imagecodecs", "s3fs", "botocore", "aiobotocore"):
            raise ImportError(f"{name} is not on the scheduler")

sys.meta_path.insert(0, Lacking())
import dask
from distributed.protocol import deserialize
from distributed.scheduler import _materialize_graph

with open(sys.argv[1], "rb") as handle:
    header, frames = pickle.load(handle)
tasks, _ = _materialize_graph(deserialize(header, frames), validate=True)
dask.order.order(dsk=tasks)
print(len(tasks))
"""


def test_scheduler_needs_this_package_and_no_more(stack: TiffStack, tmp_path: Path) -> None:
    """It unpacks, optimizes and orders the graph with no tifffile and no way to the store."""
    from distributed.protocol import serialize, to_serialize

    graph = collections_to_expr([stack.to_dask().sum(axis=0)])
    header, frames = serialize(to_serialize(graph), on_error="raise")  # as a client sends it
    (tmp_path / "graph").write_bytes(pickle.dumps((header, [bytes(frame) for frame in frames])))
    (tmp_path / "scheduler.py").write_text(_SCHEDULER)
    done = subprocess.run(
        [sys.executable, tmp_path / "scheduler.py", tmp_path / "graph"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_workers_compute_what_is_written(client: Any, stack: TiffStack, tmp_path: Path) -> None:
    url = str(tmp_path / "max.zarr")
    maximum = stack.to_dask().max(axis=1)
    intake_tiffstack.export(maximum, url, like=stack, dims="tyx", verify="all")
    np.testing.assert_array_equal(da.from_zarr(url).compute(), DATA.max(axis=1))
