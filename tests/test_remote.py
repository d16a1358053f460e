"""Bytes of remote files: what is asked, what counts as an answer, and what is an error."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
import tifffile
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from intake_tiffstack import filesystem, open_stack, remote, store
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    StorageError,
    TiffStackError,
    UnreadableFileError,
)
from intake_tiffstack.filetable import File
from intake_tiffstack.listing import list_files, stat_file
from intake_tiffstack.ranges import open_bytes
from intake_tiffstack.remote import RemoteBytes, get_ranges

from servers import KEY, SECRET, FileServer, Manner, Request, S3Server, serve_files
from tiff_files import pixels

CONTENT = np.random.default_rng(0).bytes(5000)
SPANS = [(4990, 10), (0, 1), (7, 0), (1000, 3000), (1000, 10), (3999, 2), (0, 5000)]


@dataclass
class Place:
    """A folder on some store."""

    start: str
    end: str
    storage_options: dict[str, Any]
    fs: Any
    """What puts files there, behind the back of any cache."""
    server: S3Server | FileServer | None = None

    def url(self, name: str) -> str:
        return f"{self.start}{name}{self.end}"

    def put(self, files: dict[str, bytes]) -> None:
        self.fs(files)

    def listed(self, name: str) -> File:
        return stat_file(self.url(name), self.storage_options)


def _memory_place(stack: ExitStack, tmp_path: Path) -> Place:
    fs = fsspec.filesystem("memory")
    stack.callback(MemoryFileSystem.store.clear)

    def put(files: dict[str, bytes]) -> None:
        fs.pipe({f"/raw/{name}": content for name, content in files.items()})

    return Place("memory://raw/", "", {}, put)


def _zip_place(stack: ExitStack, tmp_path: Path) -> Place:
    def put(files: dict[str, bytes]) -> None:
        # as editors do: written beside, then moved into place
        with zipfile.ZipFile(tmp_path / "new.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(f"raw/{name}", content)
        os.replace(tmp_path / "new.zip", tmp_path / "raw.zip")

    return Place("zip://raw/", f"::{tmp_path}/raw.zip", {}, put)


def _tar_place(stack: ExitStack, tmp_path: Path) -> Place:
    def put(files: dict[str, bytes]) -> None:
        with tarfile.open(tmp_path / "new.tar", "w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"raw/{name}")
                info.size, info.mtime = len(content), put.time
                archive.addfile(info, BytesIO(content))
        put.time += 1
        os.replace(tmp_path / "new.tar", tmp_path / "raw.tar")

    put.time = 1_000_000
    return Place("tar://raw/", f"::{tmp_path}/raw.tar", {}, put)


def _http_place(stack: ExitStack, tmp_path: Path, start: str = "", **settings: Any) -> Place:
    server = stack.enter_context(serve_files({}, **settings))
    return Place(f"{start}{server.url}/", "", {}, server.files.update, server)


def _s3_place(server: S3Server, tmp_path: Path, start: str = "") -> Place:
    bucket = f"remote-{tmp_path.name.lower().replace('_', '-')}"[:63].rstrip("-")

    def put(files: dict[str, bytes]) -> None:
        server.put(bucket, {f"raw/{name}": content for name, content in files.items()})

    options = server.storage_options
    options = {"s3": options} if start else options
    return Place(f"{start}s3://{bucket}/raw/", "", options, put, server)


def _ignore_ranges(request: Request) -> Manner:
    return "whole"


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Return an empty folder on the kind of store that the test names."""
    kind: str = request.param
    with ExitStack() as stack:
        if kind.endswith("s3"):
            server = request.getfixturevalue("s3_server")
            yield _s3_place(server, tmp_path, kind.removesuffix("s3"))
        elif kind == "http":
            yield _http_place(stack, tmp_path)
        elif kind == "http without etags":
            yield _http_place(stack, tmp_path, has_etags=False)
        elif kind == "simplecache::http":
            yield _http_place(stack, tmp_path, "simplecache::", manner=_ignore_ranges)
        else:
            make = {"memory": _memory_place, "zip": _zip_place, "tar": _tar_place}[kind]
            yield make(stack, tmp_path)


STORES = [
    "memory",
    "zip",
    "tar",
    "http",
    "http without etags",
    "simplecache::http",
    "s3",
    "simplecache::s3",
]
every_store = pytest.mark.parametrize("place", STORES, indirect=True)
on_s3 = pytest.mark.parametrize("place", ["s3"], indirect=True)
on_http = pytest.mark.parametrize("place", ["http"], indirect=True)
on_both = pytest.mark.parametrize("place", ["s3", "http"], indirect=True)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Make pauses and patience short."""
    with dask.config.set({"tiffstack.retries": 1, "tiffstack.timeout": 5}):
        yield


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAUSES", (0.01, 0.02))


def read(file: File, options: dict[str, Any], *spans: tuple[int, int]) -> list[bytes]:
    buffers = [bytearray(count) for _, count in spans]
    source = open_bytes(file, options)
    assert isinstance(source, RemoteBytes)
    source.fill([(start, memoryview(b)) for (start, _), b in zip(spans, buffers, strict=True)])
    return [bytes(buffer) for buffer in buffers]


def refuse(place: Place, file: File, error: type[TiffStackError], match: str) -> None:
    """See that a read raises, names the file, and leaves what it should have filled as it was."""
    buffer = bytearray(b"\xaa" * 100)
    with pytest.raises(error, match=match) as caught:
        get_ranges(file, [(1000, memoryview(buffer))], place.storage_options)
    assert file.url in str(caught.value)
    assert len(str(caught.value)) < 800
    assert buffer == b"\xaa" * 100


# --- on every store -----------------------------------------------------------------------------


@every_store
@pytest.mark.parametrize("part", [2**24, 512], ids=["whole ranges", "ranges in parts"])
def test_ranges_hold_what_the_file_holds(
    place: Place, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", part)
    place.put({"a.tif": CONTENT})
    want = [CONTENT[start : start + count] for start, count in SPANS]
    assert read(place.listed("a.tif"), place.storage_options, *SPANS) == want


@every_store
def test_stack_has_the_pixels_of_the_files(place: Place) -> None:
    data = pixels(2, 3, 40, 30)
    compression = {"compression": "zlib", "rowsperstrip": 7}
    for name, options in [("raw", {}), ("zlib", compression)]:
        files = {}
        for t, volume in enumerate(data):
            buffer = BytesIO()
            tifffile.imwrite(buffer, volume, photometric="minisblack", **options)
            files[f"{name}_t{t}.tif"] = buffer.getvalue()
        place.put(files)
        stack = open_stack(
            [place.url(file) for file in files],
            pattern=f"{name}_t{{t:d}}.tif",
            storage_options=place.storage_options,
            chunks={"z": 1},
        )
        a = stack.to_dask()
        np.testing.assert_array_equal(a.compute(), data)
        np.testing.assert_array_equal(a[1, 2, 3:5].compute(), data[1, 2, 3:5])


@every_store
def test_file_that_was_replaced_is_an_error_and_never_bytes(place: Place) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    if place.server is not None and getattr(place.server, "has_etags", True) is False:
        place.server.modified = "Wed, 21 Oct 2015 07:28:01 GMT"
    place.put({"a.tif": CONTENT[::-1]})  # of the same size
    with pytest.raises(FileChangedError, match=r"changed since it was listed.* call relist\(\)"):
        read(file, place.storage_options, (0, 10))
    assert read(place.listed("a.tif"), place.storage_options, (0, 10)) == [CONTENT[:-11:-1]]


@every_store
def test_file_that_is_gone_is_an_error(place: Place) -> None:
    place.put({"a.tif": CONTENT, "b.tif": CONTENT})
    gone = replace(place.listed("a.tif"), url=place.url("never.tif"))
    with pytest.raises(FileChangedError, match=r"never\.tif.* not there any more; call relist\(\)"):
        read(gone, place.storage_options, (0, 10))


@every_store
def test_range_beyond_the_listed_size_is_never_asked_for(place: Place) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    if place.server is not None:
        place.server.requests.clear()
    with pytest.raises(UnreadableFileError, match=r"ends at byte 5,000, but 11 bytes from byte 4,"):
        read(file, place.storage_options, (0, 10), (4990, 11))
    assert place.server is None or place.server.requests == []


@every_store
def test_many_threads_read_at_once(place: Place) -> None:
    names = [f"{n}.tif" for n in range(8)]
    place.put({name: CONTENT[n:] for n, name in enumerate(names)})
    files = [place.listed(name) for name in names] * 4

    def check(n: int) -> bool:
        shift = n % 8
        got = read(files[n], place.storage_options, (100, 50), (4000, 60))
        return got == [CONTENT[100 + shift :][:50], CONTENT[4000 + shift :][:60]]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(len(files))))


@every_store
def test_reading_inside_an_event_loop(place: Place) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")

    async def cell_of_a_notebook() -> list[bytes]:
        return read(file, place.storage_options, (5, 10))

    assert asyncio.run(cell_of_a_notebook()) == [CONTENT[5:15]]


_AFTER_FORK = """
import multiprocessing, sys, warnings
from intake_tiffstack.listing import stat_file
from intake_tiffstack.remote import get_ranges

warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside a thread

def read(url, options):
    buffer = bytearray(10)
    get_ranges(stat_file(url, options), [(5, memoryview(buffer))], options)
    return bytes(buffer)

def child(queue, url, options):
    queue.put(read(url, options))

if __name__ == "__main__":
    url, options = sys.argv[1], eval(sys.argv[2])
    here = read(url, options)
    for method in ("fork", "forkserver"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue, url, options))
        process.start()
        assert queue.get(timeout=30) == here, method
        process.join()
    print(here.hex())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("place", ["s3", "http", "zip", "simplecache::http"], indirect=True)
def test_reading_after_a_fork(place: Place, tmp_path: Path) -> None:
    place.put({"a.tif": CONTENT})
    (tmp_path / "after_fork.py").write_text(_AFTER_FORK)
    arguments = [place.url("a.tif"), repr(place.storage_options)]
    done = subprocess.run(
        [sys.executable, tmp_path / "after_fork.py", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == CONTENT[5:15].hex()


# --- what is asked ------------------------------------------------------------------------------


@on_both
def test_one_request_a_range_and_none_to_look(place: Place) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    assert place.server is not None
    place.server.requests.clear()
    read(file, place.storage_options, (0, 10), (3000, 100), (7, 0))
    assert sorted(request.range or "" for request in place.server.requests) == [
        "bytes=0-9",
        "bytes=3000-3099",
    ]


@pytest.mark.parametrize("place", ["memory"], indirect=True)
@given(
    size=st.integers(0, 60),
    part=st.integers(1, 20),
    spans=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)), max_size=5),
)
def test_parts_cover_the_ranges_once(
    place: Place, size: int, part: int, spans: list[tuple[int, int]]
) -> None:
    file = File("memory://raw/a.tif", size, -1, None)
    ranges = [(start, memoryview(bytearray(count))) for start, count in spans]
    wanted = [at for start, count in spans for at in range(start, start + count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "PART_BYTES", part)
        if wanted and max(wanted) >= size:
            with pytest.raises(UnreadableFileError, match="ends at byte"):
                remote._split_ranges(file, ranges)
            return
        parts = remote._split_ranges(file, ranges)
    assert [at for p in parts for at in range(p.start, p.stop)] == wanted
    assert all(0 < len(p.buffer) <= part for p in parts)


def test_requests_at_a_time_are_bounded_for_all_threads_together() -> None:
    with (
        serve_files({"a.tif": CONTENT}, pause=0.02) as server,
        dask.config.set({"tiffstack.concurrency": 3}),
    ):
        file = stat_file(f"{server.url}/a.tif", {})
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: read(file, {}, *[(n, 9)] * 5), range(4)))
        assert len(server.reads) == 20
        assert server.most_at_once == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("retries", -1), ("retries", "x"), ("timeout", 0), ("concurrency", 0), ("retries", True)],
)
@on_http
def test_setting_of_no_use_is_refused(place: Place, name: str, value: Any) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    with (
        dask.config.set({f"tiffstack.{name}": value}),
        pytest.raises(OptionError, match=f"tiffstack.{name} must be a number of at least"),
    ):
        read(file, {}, (0, 1))


# --- what is no answer --------------------------------------------------------------------------


@on_http
@pytest.mark.parametrize(
    ("manner", "told"),
    [
        ("whole", r"asked for 100 bytes from byte 1,000, but got all 5,000: the server ignores .*"),
        ("short", r"asked for 100 bytes from byte 1,000, but got 99 \(bytes 1000-1098/5000\)"),
        ("other", r"asked for 100 bytes from byte 1,000, but got 100 \(bytes 999-1098/5000\)"),
        ("long", r"asked for 100 bytes from byte 1,000, but got more"),
        (403, r"ClientResponseError: 403.*Forbidden"),
        (501, r"ClientResponseError: 501"),
    ],
    ids=str,
)
def test_http_answer_with_other_bytes_is_an_error(place: Place, manner: Manner, told: str) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    place.server.manner = lambda request: manner
    with dask.config.set({"tiffstack.retries": 0}):
        refuse(place, file, StorageError, told)
    assert len(place.server.reads) == 1


@on_http
def test_server_without_ranges_says_what_to_do_and_may_give_all(place: Place) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    place.server.manner = _ignore_ranges
    refuse(place, file, StorageError, f"simplecache::{file.url}")
    assert read(file, {}, (0, 5000)) == [CONTENT]


@on_http
def test_body_that_is_not_wanted_is_not_fetched(place: Place) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": bytes(2**26)})
    file = place.listed("a.tif")
    place.server.manner = _ignore_ranges
    with pytest.raises(StorageError, match="got all 67,108,864"):
        read(file, {}, (0, 10))
