"""Bytes of remote files: what is asked, what counts as an answer, and what is an error."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import dask
import fsspec
import numpy as np
import pytest
import s3fs
import tifffile
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    StorageError,
    TiffStackError,
    UnreadableFileError,
)
from intake_tiffstack.header.cache import clear_headers
from intake_tiffstack.listing.list_files import list_files, stat_file
from intake_tiffstack.storage import attempts, filesystem, folder, obstore_s3, s3
from intake_tiffstack.storage import remote_ranges as remote
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.ranges import open_bytes
from intake_tiffstack.storage.remote_ranges import RemoteBytes, get_ranges
from servers import KEY, SECRET, FileServer, Manner, Request, S3Server, serve_files
from tiff_files import pixels

CONTENT = np.random.default_rng(0).bytes(5000)
SPANS = [(4990, 10), (0, 1), (7, 0), (1000, 3000), (1000, 10), (3999, 2), (0, 5000)]


@dataclass
class Folder:
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


def _memory_place(stack: ExitStack, tmp_path: Path) -> Folder:
    fs = fsspec.filesystem("memory")
    stack.callback(MemoryFileSystem.store.clear)

    def put(files: dict[str, bytes]) -> None:
        fs.pipe({f"/raw/{name}": content for name, content in files.items()})

    return Folder("memory://raw/", "", {}, put)


def _zip_place(stack: ExitStack, tmp_path: Path) -> Folder:
    def put(files: dict[str, bytes]) -> None:
        # as editors do: written beside, then moved into place
        with zipfile.ZipFile(tmp_path / "new.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(f"raw/{name}", content)
        os.replace(tmp_path / "new.zip", tmp_path / "raw.zip")

    return Folder("zip://raw/", f"::{tmp_path}/raw.zip", {}, put)


def _tar_place(stack: ExitStack, tmp_path: Path) -> Folder:
    def put(files: dict[str, bytes]) -> None:
        with tarfile.open(tmp_path / "new.tar", "w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"raw/{name}")
                info.size, info.mtime = len(content), put.time
                archive.addfile(info, BytesIO(content))
        put.time += 1
        os.replace(tmp_path / "new.tar", tmp_path / "raw.tar")

    put.time = 1_000_000
    return Folder("tar://raw/", f"::{tmp_path}/raw.tar", {}, put)


def _http_place(stack: ExitStack, tmp_path: Path, start: str = "", **settings: Any) -> Folder:
    server = stack.enter_context(serve_files({}, **settings))
    return Folder(f"{start}{server.url}/", "", {}, server.files.update, server)


def _s3_place(server: S3Server, tmp_path: Path, start: str = "") -> Folder:
    bucket = f"remote-{tmp_path.name.lower().replace('_', '-')}"[:63].rstrip("-")

    def put(files: dict[str, bytes]) -> None:
        server.put(bucket, {f"raw/{name}": content for name, content in files.items()})

    options = server.storage_options
    options = {"s3": options} if start else options
    return Folder(f"{start}s3://{bucket}/raw/", "", options, put, server)


def _ignore_ranges(request: Request) -> Manner:
    return "whole"


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """Return an empty folder on the kind of store that the test names."""
    kind: str = request.param
    with ExitStack() as stack:
        if kind == "s3 without obstore":
            monkeypatch = request.getfixturevalue("monkeypatch")
            monkeypatch.setattr(obstore_s3, "_store_class", lambda: None)
            yield _s3_place(request.getfixturevalue("s3_server"), tmp_path)
        elif kind.endswith("s3"):
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
    "s3 without obstore",
    "simplecache::s3",
]
every_store = pytest.mark.parametrize("place", STORES, indirect=True)
on_s3 = pytest.mark.parametrize("place", ["s3", "s3 without obstore"], indirect=True)
on_http = pytest.mark.parametrize("place", ["http"], indirect=True)
on_both = pytest.mark.parametrize("place", ["s3", "s3 without obstore", "http"], indirect=True)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PAUSES", (0.01, 0.02))


def read(file: File, options: dict[str, Any], *spans: tuple[int, int]) -> list[bytes]:
    buffers = [bytearray(count) for _, count in spans]
    source = open_bytes(file, options)
    assert isinstance(source, RemoteBytes)
    source.fill([(start, memoryview(b)) for (start, _), b in zip(spans, buffers, strict=True)])
    return [bytes(buffer) for buffer in buffers]


def refuse(place: Folder, file: File, error: type[TiffStackError], match: str) -> None:
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
    place: Folder, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PART_BYTES", part)
    place.put({"a.tif": CONTENT})
    want = [CONTENT[start : start + count] for start, count in SPANS]
    assert read(place.listed("a.tif"), place.storage_options, *SPANS) == want


@every_store
def test_stack_has_the_pixels_of_the_files(place: Folder) -> None:
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
            file_dims="zyx",
            chunks={"z": 1},
        )
        a = stack.to_dask()
        np.testing.assert_array_equal(a.compute(), data)
        np.testing.assert_array_equal(a[1, 2, 3:5].compute(), data[1, 2, 3:5])


@every_store
def test_file_that_was_replaced_is_an_error_and_never_bytes(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    if place.server is not None and getattr(place.server, "has_etags", True) is False:
        place.server.modified = "Wed, 21 Oct 2015 07:28:01 GMT"
    place.put({"a.tif": CONTENT[::-1]})  # of the same size
    with pytest.raises(FileChangedError, match=r"changed since it was listed.* call relist\(\)"):
        read(file, place.storage_options, (0, 10))
    assert read(place.listed("a.tif"), place.storage_options, (0, 10)) == [CONTENT[:-11:-1]]


@every_store
def test_file_that_is_gone_is_an_error(place: Folder) -> None:
    place.put({"a.tif": CONTENT, "b.tif": CONTENT})
    gone = replace(place.listed("a.tif"), url=place.url("never.tif"))
    with pytest.raises(FileChangedError, match=r"never\.tif.* no longer exists; call relist\(\)"):
        read(gone, place.storage_options, (0, 10))


@every_store
def test_range_beyond_the_listed_size_is_never_asked_for(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    if place.server is not None:
        place.server.requests.clear()
    with pytest.raises(UnreadableFileError, match=r"ends at byte 5,000, but 11 bytes from byte 4,"):
        read(file, place.storage_options, (0, 10), (4990, 11))
    assert place.server is None or place.server.requests == []


@every_store
def test_many_threads_read_at_once(place: Folder) -> None:
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
def test_reading_inside_an_event_loop(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")

    async def cell_of_a_notebook() -> list[bytes]:
        return read(file, place.storage_options, (5, 10))

    assert asyncio.run(cell_of_a_notebook()) == [CONTENT[5:15]]


_AFTER_FORK = """
import multiprocessing, sys, warnings
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.remote_ranges import get_ranges

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
    for method in sys.argv[3:]:
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue, url, options))
        process.start()
        assert queue.get(timeout=30) == here, method
        process.join()
    print(here.hex())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(
    ("place", "methods"),
    [("s3", ["fork", "forkserver"]), ("zip", ["fork"]), ("simplecache::http", ["fork"])],
    indirect=["place"],
    ids=["s3", "zip", "simplecache::http"],
)
def test_reading_after_a_fork(place: Folder, methods: list[str], tmp_path: Path) -> None:
    place.put({"a.tif": CONTENT})
    (tmp_path / "after_fork.py").write_text(_AFTER_FORK)
    arguments = [place.url("a.tif"), repr(place.storage_options), *methods]
    done = subprocess.run(
        [sys.executable, tmp_path / "after_fork.py", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == CONTENT[5:15].hex()


_COMPUTE_AFTER_FORK = """
import multiprocessing, sys, warnings
from intake_tiffstack import open_stack

warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside a thread

def child(queue, array):
    queue.put(int(array.sum().compute()))

if __name__ == "__main__":
    urls, options = eval(sys.argv[1]), eval(sys.argv[2])
    array = open_stack(urls, storage_options=options, chunks="file").to_dask()
    here = int(array.sum().compute())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue, array), daemon=True)
    process.start()
    assert queue.get(timeout=40) == here
    process.join()
    print(here)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("place", ["zip", "s3", "http"], indirect=True)
def test_compute_after_a_fork(place: Folder, tmp_path: Path) -> None:
    """The threads of dask's pool, of fsspec's loop and of obstore stay behind in the parent."""
    place.put({f"t{t}.tif": _tiff(t) for t in range(20)})
    (tmp_path / "after_fork.py").write_text(_COMPUTE_AFTER_FORK)
    urls = [place.url(f"t{t}.tif") for t in range(20)]
    done = subprocess.run(
        [sys.executable, tmp_path / "after_fork.py", repr(urls), repr(place.storage_options)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(8 * 9 * sum(range(20)))


# --- what is asked ------------------------------------------------------------------------------


@on_both
def test_one_request_a_range_and_none_to_look(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    assert place.server is not None
    place.server.requests.clear()
    read(file, place.storage_options, (0, 10), (3000, 100), (7, 0))
    assert sorted(request.range or "" for request in place.server.requests) == [
        "bytes=0-9",
        "bytes=3000-3099",
    ]


@given(
    size=st.integers(0, 60),
    part=st.integers(1, 20),
    spans=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)), max_size=5),
)
def test_parts_cover_the_ranges_once(size: int, part: int, spans: list[tuple[int, int]]) -> None:
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
    assert all(0 < p.count <= part for p in parts)
    content = bytes(range(size))
    for p in parts:  # as it may arrive: byte by byte, and all the rest
        done = p.take(0, content[p.start : p.start + 1])
        assert p.take(done, content[p.start + 1 : p.stop]) == p.count
        with pytest.raises(StorageError, match="but got more"):
            p.take(p.count, b"x")
    for start, buffer in ranges:
        assert bytes(buffer) == content[start : start + len(buffer)]


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
def test_setting_of_no_use_is_refused(place: Folder, name: str, value: Any) -> None:
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
    ("manner", "reported"),
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
def test_http_answer_with_other_bytes_is_an_error(
    place: Folder, manner: Manner, reported: str
) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    place.server.manner = lambda request: manner
    with dask.config.set({"tiffstack.retries": 0}):
        refuse(place, file, StorageError, reported)
    assert len(place.server.reads) == 1


@on_http
def test_server_without_ranges_says_what_to_do_and_may_give_all(place: Folder) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    place.server.manner = _ignore_ranges
    refuse(place, file, StorageError, f"simplecache::{file.url}")
    assert read(file, {}, (0, 5000)) == [CONTENT]


@on_http
def test_body_that_is_not_wanted_is_not_fetched(place: Folder) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": bytes(2**26)})
    file = place.listed("a.tif")
    place.server.manner = _ignore_ranges
    with pytest.raises(StorageError, match="got all 67,108,864"):
        read(file, {}, (0, 10))


@on_http
def test_body_that_breaks_off_is_an_error_after_the_attempts(place: Folder) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    place.server.manner = lambda request: "cut"
    with (
        dask.config.set({"tiffstack.retries": 2}),
        pytest.raises(StorageError, match=r"a\.tif: (ClientPayload|ContentLength)Error"),
    ):
        read(file, {}, (1000, 100))
    assert len(place.server.reads) == 3


@on_http
def test_server_that_says_nothing_is_given_up(place: Folder) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    place.server.manner = lambda request: "silent"
    with dask.config.set({"tiffstack.retries": 1, "tiffstack.timeout": 0.1}):
        refuse(place, file, StorageError, "TimeoutError: nothing came for 0.1 seconds")
    assert len(place.server.reads) == 2


@on_http
@pytest.mark.parametrize("is_listed", [False, True])
def test_an_array_over_a_server_that_says_nothing_says_for_how_long(
    place: Folder, is_listed: bool
) -> None:
    assert isinstance(place.server, FileServer)
    content = BytesIO()
    tifffile.imwrite(content, np.zeros((8, 8), np.uint16), metadata=None)
    place.put({"a.tif": content.getvalue()})
    stack = open_stack(place.url("a.tif"))
    if is_listed:
        stack.to_dask()
        clear_headers()
    place.server.manner = lambda request: "silent"
    with (
        dask.config.set({"tiffstack.retries": 0, "tiffstack.timeout": 0.3}),
        pytest.raises(StorageError, match=r"a\.tif: TimeoutError: nothing came for 0\.3 seconds"),
    ):
        stack.read()


@on_http
def test_other_settings_of_the_store_hold(place: Folder) -> None:
    """What storage_options say of headers and waiting is not overwritten."""
    aiohttp = pytest.importorskip("aiohttp")
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    options: dict[str, Any] = {"headers": {"X-Who": "me"}}
    assert read(file, options, (5, 10)) == [CONTENT[5:15]]
    assert place.server.requests[-1].headers["X-Who"] == "me"
    place.server.manner = lambda request: "silent"
    options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=0.1)}}
    with dask.config.set({"tiffstack.retries": 0}), pytest.raises(StorageError, match="Timeout"):
        read(file, options, (5, 10))


# --- what may pass ------------------------------------------------------------------------------


def _fail_first(count: int, status: int) -> Any:
    """Return what answers the first *count* reads of a range with *status*."""
    left = [status] * count

    def manner(request: Request) -> int | None:
        return left.pop() if left and request.range else None

    return manner


def _set_failures(place: Folder, count: int, status: int) -> None:
    fails = _fail_first(count, status)
    if isinstance(place.server, S3Server):
        place.server.refuses = fails
    elif place.server is not None:
        place.server.manner = lambda request: fails(request) or "good"


@on_both
@pytest.mark.parametrize("status", [500, 503, 429])
def test_failure_that_passes_is_tried_again(place: Folder, status: int) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    _set_failures(place, 2, status)
    assert place.server is not None
    assert read(file, place.storage_options, (5, 10)) == [CONTENT[5:15]]
    assert len(place.server.reads) == 3


@on_both
def test_failure_that_stays_ends_after_the_retries(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    _set_failures(place, 1000, 503)
    assert place.server is not None
    with dask.config.set({"tiffstack.retries": 2}):
        refuse(place, file, StorageError, r"cannot list or read .*a\.tif: Client.*Error.* 503|503")
    assert len(place.server.reads) == 3


@on_both
@pytest.mark.parametrize(
    ("status", "error", "reported"),
    [
        (403, StorageError, r"cannot list or read .*a\.tif: .*403"),
        (404, FileChangedError, r"a\.tif was listed but no longer exists"),
        (412, FileChangedError, r"a\.tif changed since it was listed \(.*412"),
        (416, FileChangedError, r"a\.tif changed since it was listed \(.*416"),
    ],
)
def test_failure_that_will_not_pass_is_not_tried_again(
    place: Folder, status: int, error: type[TiffStackError], reported: str
) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    _set_failures(place, 1000, status)
    assert place.server is not None
    refuse(place, file, error, reported)
    # S3 is asked once more with new credentials, since those of a filesystem may have expired
    is_renewed = status == 403 and file.url.startswith("s3://")
    assert len(place.server.reads) == 1 + is_renewed


@on_both
def test_one_failed_range_fails_all_and_ends_the_others(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    _set_failures(place, 1, 405)  # a 400 of S3 may mean another region, and is asked again
    with pytest.raises(StorageError, match="405"):
        read(file, place.storage_options, *[(n, 10) for n in range(40)])


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Return how often aiohttp has tried to connect, by port."""
    counts: Counter[int] = Counter()
    loop = asyncio.selector_events.BaseSelectorEventLoop
    connect = loop.sock_connect

    async def sock_connect(self: Any, sock: socket.socket, address: Any) -> None:
        counts[address[1]] += 1
        await connect(self, sock, address)

    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    return counts


def test_store_that_went_away_is_asked_as_often_as_the_settings_say(
    connects: Counter[int],
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = {"key": KEY, "secret": SECRET, "endpoint_url": url}
    with dask.config.set({"tiffstack.retries": 1, "tiffstack.timeout": 20}):
        with pytest.raises(StorageError, match=rf"{url}/a\.tif: .*Connect"):
            read(File(f"{url}/a.tif", 5000, -1, None), {}, (5, 10))
        assert connects.pop(port) == 2
        with pytest.raises(StorageError, match=r"s3://bucket/a\.tif: ") as caught:
            read(File("s3://bucket/a.tif", 5000, -1, '"e"'), options, (5, 10))
        assert 1 <= connects[port] <= 2  # with obstore its own attempt is the other one
    assert SECRET not in repr(caught.value) + str(caught.value) + repr(caught.value.details)


def _count_waiting(server: socket.socket) -> int:
    """Return how many connections were made to a server that accepted none."""
    server.setblocking(False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize("name", ["a.tif", "raw/*.tif", "{a,b}.tif", "list.csv"])
@pytest.mark.parametrize("start", ["http", "s3"])
def test_a_store_that_never_answers_ends_a_listing(start: str, name: str) -> None:
    """It accepts connections, which a host behind a firewall's hole or a hung server does."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        options = {} if start == "http" else {"key": KEY, "secret": SECRET, "endpoint_url": url}
        place = url if start == "http" else "s3://bucket"
        with (
            dask.config.set({"tiffstack.retries": 1, "tiffstack.timeout": 0.5}),
            pytest.raises(StorageError, match=r"(?i)timeout|nothing came"),
        ):
            list_files(f"{place}/{name}", storage_options=options)
        assert _count_waiting(hole) <= 4  # is it a file, and if not, a folder: twice each


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [100, 900_000])
def test_a_store_that_never_answers_ends_a_write(size: int) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        options = {"key": KEY, "secret": SECRET, "endpoint_url": url}
        with dask.config.set({"tiffstack.retries": 1, "tiffstack.timeout": 0.5}):
            copy = folder.Folder.at("s3://bucket/a.zarr", options)
            with pytest.raises(StorageError, match=r"(?i)timeout"):
                copy.write_document("c/0", bytes(size))


@pytest.mark.parametrize(
    ("place", "urlpath"),
    [("s3", "raw/a.tif"), ("s3", "raw/*.tif"), ("s3", "raw/{name}.tif"), ("http", "raw/a.tif")],
    indirect=["place"],
)
def test_listing_has_the_retries_of_the_setting(place: Folder, urlpath: str) -> None:
    place.put({"a.tif": CONTENT})
    assert place.server is not None
    failed: list[str] = []

    def fail(request: Request) -> int | None:
        failed.append(request.method)
        return 503

    if isinstance(place.server, S3Server):
        place.server.refuses = fail
    else:
        place.server.manner = lambda request: fail(request) or "good"
    url = place.url("a.tif").replace("raw/a.tif", urlpath)
    with dask.config.set({"tiffstack.retries": 1}), pytest.raises(StorageError):
        list_files(url, storage_options=place.storage_options)
    # A web server is asked by HEAD and by GET in each attempt. Before, a single file is asked for
    # its first and its last bytes, once.
    at_first = 2 * ("*" not in urlpath)
    assert len(failed) <= at_first + 2 * (1 if isinstance(place.server, S3Server) else 2)


# --- S3 -----------------------------------------------------------------------------------------


def _tiff(value: int) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, np.full((8, 9), value, "uint16"))
    return buffer.getvalue()


def test_opening_again_costs_one_listing_and_the_headers_of_new_files(s3_server: S3Server) -> None:
    files = {f"raw/t{t}.tif": _tiff(t) for t in range(12)}
    s3_server.put("remote-again", files)

    def open_again() -> int:
        s3_server.requests.clear()
        stack = open_stack(
            "s3://remote-again/raw/t{t:d}.tif",
            validate="all",
            storage_options=s3_server.storage_options,
        )
        return stack.to_dask().shape[0]

    assert open_again() == 12
    assert open_again() == 12
    assert [request.range for request in s3_server.requests] == [None]
    s3_server.put(
        "remote-again", {"raw/t3.tif": files["raw/t4.tif"], "raw/t12.tif": files["raw/t3.tif"]}
    )
    assert open_again() == 13
    read = {request.path for request in s3_server.requests if request.range}
    assert {path.rpartition("/")[2] for path in read} == {"t3.tif", "t12.tif"}


def test_opening_and_one_plane_take_few_requests(s3_server: S3Server) -> None:
    data = pixels(6, 16, 256, 256)
    files = {}
    for t, volume in enumerate(data):
        buffer = BytesIO()
        tifffile.imwrite(buffer, volume, photometric="minisblack")
        files[f"raw/t{t}.tif"] = buffer.getvalue()
    s3_server.put("remote-few-requests", files)
    a = open_stack(
        "s3://remote-few-requests/raw/t{t:d}.tif",
        file_dims="zyx",
        storage_options=s3_server.storage_options,
    ).to_dask()
    assert len(s3_server.requests) <= 6
    assert sum(request.nbytes for request in s3_server.requests) <= 300_000
    s3_server.requests.clear()
    np.testing.assert_array_equal(a[3, 5].compute(), data[3, 5])
    assert len(s3_server.requests) <= 3
    assert sum(request.nbytes for request in s3_server.requests) <= data[3, 5].nbytes + 2**15
    s3_server.requests.clear()
    np.testing.assert_array_equal(a.compute(), data)
    assert len(s3_server.requests) <= 4 * len(files)
    assert sum(request.nbytes for request in s3_server.requests) <= 1.1 * data.nbytes
    assert {request.method for request in s3_server.requests} == {"GET"}


@on_s3
def test_changed_object_costs_the_refused_read_and_no_look(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    place.put({"a.tif": CONTENT[::-1]})
    refuse(place, file, FileChangedError, r"PreconditionFailed.*call relist\(\)")
    assert place.server is not None
    assert [request.method for request in place.server.requests] == ["GET"]


@on_s3
def test_store_that_does_not_know_if_match_is_found_out(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    place.put({"a.tif": CONTENT[::-1]})
    place.storage_options["local_expiry_check"] = True  # s3fs's word for such a store
    refuse(place, file, FileChangedError, r"ETag .*, now ")


@on_s3
def test_size_alone_is_checked_where_the_list_gave_no_etag(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = replace(place.listed("a.tif"), etag=None)
    assert read(file, place.storage_options, (5, 10)) == [CONTENT[5:15]]
    place.put({"a.tif": CONTENT + b"x"})
    refuse(place, file, FileChangedError, "size 5,000, now 5,001")


@on_s3
def test_etag_without_quotes_is_the_same(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    assert file.etag is not None
    bare = replace(file, etag=file.etag.strip('"'))
    assert read(bare, place.storage_options, (5, 10)) == [CONTENT[5:15]]


@on_s3
def test_bucket_that_is_not_there_and_key_that_is_wrong(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    nowhere = replace(file, url="s3://no-such-bucket/a.tif")
    with pytest.raises(
        FileChangedError, match=r"no-such-bucket/a\.tif was listed but no longer exists"
    ):
        read(nowhere, place.storage_options, (5, 10))


@on_s3
def test_no_text_shows_a_secret(place: Folder) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    source = open_bytes(file, place.storage_options)
    assert SECRET not in repr(source)
    assert isinstance(place.server, S3Server)
    place.server.refuses = lambda request: 403 if request.range else None
    with pytest.raises(StorageError) as caught:
        read(file, place.storage_options, (5, 10))
    shown = f"{caught.value} {caught.value!r} {caught.value.details}"
    assert KEY not in shown
    assert SECRET not in shown


@on_s3
def test_version_of_an_object_is_read_as_such(place: Folder) -> None:
    import s3fs

    fs = s3fs.S3FileSystem(**place.storage_options, version_aware=True)
    place.put({"a.tif": CONTENT})
    bucket = place.start.split("/")[2]
    fs.call_s3(
        "put_bucket_versioning", Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    place.put({"b.tif": CONTENT})
    version = fs.info(f"{bucket}/raw/b.tif")["VersionId"]
    place.put({"b.tif": CONTENT[::-1]})
    file = place.listed(f"b.tif?versionId={version}")
    assert read(file, place.storage_options, (5, 10)) == [CONTENT[5:15]]


@pytest.fixture
def by_obstore(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the keys that are read through obstore from now on."""
    obstore = pytest.importorskip("obstore")
    keys: list[str] = []
    plain = obstore.get_async

    def counting(store: Any, key: str, **options: Any) -> Any:
        keys.append(key)
        return plain(store, key, **options)

    monkeypatch.setattr(obstore, "get_async", counting)
    return keys


S3_PLACE = pytest.mark.parametrize("place", ["s3"], indirect=True)


@S3_PLACE
def test_obstore_reads_any_key_or_leaves_it_to_s3fs(place: Folder, by_obstore: list[str]) -> None:
    names = ["a b+c%20[1].tif", "ü/é.tif", "x//y.tif", "?q#h&=.tif", "..tif", "~'(!)*.tif"]
    place.put({name: CONTENT[n:] for n, name in enumerate(names)})
    for n, name in enumerate(names):
        if "?" in name:  # s3fs reads a version from it
            continue
        file = place.listed(name)
        assert read(file, place.storage_options, (5, 10)) == [CONTENT[n:][5:15]], name
    assert len(by_obstore) >= 4


@S3_PLACE
@pytest.mark.parametrize(
    ("options", "is_used"),
    [
        ({}, True),
        ({"client_kwargs": {"region_name": "us-east-1"}}, True),
        ({"config_kwargs": {"signature_version": "s3v4"}}, False),
        ({"requester_pays": True}, False),
        ({"s3_additional_kwargs": {"RequestPayer": "requester"}}, False),
    ],
    ids=str,
)
def test_obstore_is_used_where_it_knows_all_options(
    place: Folder, by_obstore: list[str], options: dict[str, Any], is_used: bool
) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    assert read(file, {**place.storage_options, **options}, (5, 10)) == [CONTENT[5:15]]
    assert bool(by_obstore) == is_used


@S3_PLACE
def test_credentials_of_the_environment_serve_obstore_too(
    place: Folder, by_obstore: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put({"a.tif": CONTENT})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    options = {"endpoint_url": place.storage_options["endpoint_url"]}
    file = stat_file(place.url("a.tif"), options)
    assert read(file, options, (5, 10)) == [CONTENT[5:15]]
    assert len(by_obstore) == 1


@S3_PLACE
def test_long_body_comes_in_pieces_and_may_break_off(place: Folder, by_obstore: list[str]) -> None:
    content = np.random.default_rng(1).bytes(5 * 2**20)
    place.put({"a.tif": content})
    file = place.listed("a.tif")
    assert read(file, place.storage_options, (7, 4 * 2**20)) == [content[7 : 7 + 4 * 2**20]]
    assert by_obstore


_READ_AND_END = """
import atexit, sys, time

def see_wait():  # runs last, because it is registered first
    print(start <= obstore_s3._STATE.answered <= time.monotonic() - 0.1)

atexit.register(see_wait)
from intake_tiffstack.storage import obstore_s3
from intake_tiffstack.storage.remote_ranges import get_ranges
from intake_tiffstack.storage.store import stat_file

url, options = sys.argv[1], eval(sys.argv[2])
start = time.monotonic()
get_ranges(stat_file(url, options), [(5, memoryview(bytearray(10)))], options)
"""


@S3_PLACE
def test_process_waits_at_its_end_for_the_threads_of_obstore(
    place: Folder, by_obstore: list[str], tmp_path: Path
) -> None:
    """Without it some of a hundred processes abort, because such a thread still wants Python."""
    place.put({"a.tif": CONTENT})
    (tmp_path / "ends.py").write_text(_READ_AND_END)
    done = subprocess.run(
        [sys.executable, tmp_path / "ends.py", place.url("a.tif"), repr(place.storage_options)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


@S3_PLACE
def test_bucket_that_obstore_is_sent_away_from_is_read_by_s3fs(
    place: Folder, by_obstore: list[str]
) -> None:
    place.put({"a.tif": CONTENT})
    file = place.listed("a.tif")
    assert isinstance(place.server, S3Server)
    place.server.refuses = lambda request: (
        301 if request.range and len(place.server.reads) == 1 else None
    )
    for _ in range(2):
        assert read(file, place.storage_options, (5, 10)) == [CONTENT[5:15]]
    assert len(by_obstore) == 1  # s3fs from then on


# --- any other store ----------------------------------------------------------------------------


def test_other_asynchronous_store_is_looked_up_once_behind_the_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HTTP without what is known of HTTP stands for GCS and Azure."""
    monkeypatch.setattr(remote, "speaks", lambda fs, *protocols: False)
    with serve_files({"a.tif": CONTENT}) as server:
        file = stat_file(f"{server.url}/a.tif", {})
        server.requests.clear()
        assert read(file, {}, (5, 10), (50, 10)) == [CONTENT[5:15], CONTENT[50:60]]
        assert [request.method for request in server.requests] == ["GET", "GET", "HEAD"]
        server.manner = lambda request: "short"
        with pytest.raises(StorageError, match="asked for 10 bytes from byte 5, but got 9"):
            read(file, {}, (5, 10))
        server.files["a.tif"] = CONTENT[::-1]
        server.manner = lambda request: "good"
        with pytest.raises(FileChangedError, match=r"ETag .*, now"):
            read(file, {}, (5, 10))


@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_file_that_ends_early_is_an_error(place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put({"a.tif": CONTENT[:1050]})
    file = replace(place.listed("a.tif"), size=5000)
    monkeypatch.setattr(remote, "stat_file", lambda url, options: file)
    buffer = bytearray(100)
    with pytest.raises(StorageError, match="asked for 100 bytes from byte 1,000, but got 50"):
        get_ranges(file, [(1000, memoryview(buffer))], {})


# --- archives and copies ------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the URLs of what is opened anew, from now on."""
    urls: list[str] = []
    plain = filesystem.url_to_fs

    def counting(url: str, **options: Any) -> Any:
        urls.append(url)
        return plain(url, **options)

    filesystem._open_once.cache_clear()
    monkeypatch.setattr(filesystem, "url_to_fs", counting)
    return urls


@pytest.mark.parametrize("place", ["zip", "tar"], indirect=True)
def test_archive_is_opened_once_until_it_changes(place: Folder, opened: list[str]) -> None:
    place.put({"a.tif": CONTENT, "b.tif": CONTENT})
    listing = list_files(place.url("*.tif"))
    for file in listing.files:
        read(file, {}, (5, 10))
    assert len(opened) == 1
    place.put({"a.tif": CONTENT, "b.tif": CONTENT, "c.tif": CONTENT})
    assert len(list_files(place.url("*.tif")).files) == 3
    assert len(opened) == 2
    if place.start.startswith("zip"):  # a.tif is what it was: a ZIP keeps its checksum
        assert read(listing.files[0], {}, (5, 10)) == [CONTENT[5:15]]
    assert len(opened) == 2


def test_few_archives_stay_open(tmp_path: Path, opened: list[str]) -> None:
    for n in range(20):
        with zipfile.ZipFile(tmp_path / f"{n}.zip", "w") as archive:
            archive.writestr("a.tif", CONTENT)
        assert list_files(f"zip://*.tif::{tmp_path}/{n}.zip").files[0].size == 5000
    assert len(opened) == 20
    info = filesystem._open_once.cache_info()
    assert info.currsize == info.maxsize == 8


def test_archive_on_s3_is_looked_at_and_not_opened_again(s3_server: S3Server) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.tif", CONTENT)
    s3_server.put("remote-archive", {"x.zip": buffer.getvalue()})
    options = {"s3": s3_server.storage_options}
    file = list_files("zip://*.tif::s3://remote-archive/x.zip", storage_options=options).files[0]
    read(file, options, (5, 10))
    s3_server.requests.clear()
    assert read(file, options, (5, 10)) == [CONTENT[5:15]]
    assert [request.method for request in s3_server.requests] == ["HEAD", "HEAD"]


@pytest.mark.parametrize("place", ["simplecache::http"], indirect=True)
def test_threads_share_one_local_copy(place: Folder) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    place.server.pause = 0.05
    file = place.listed("a.tif")
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda n: read(file, {}, (n, 10)), range(6)))
    assert got == [[CONTENT[n : n + 10]] for n in range(6)]
    assert len(place.server.reads) == 2  # fsspec sees by a GET whether there is a file to copy


@pytest.mark.parametrize("place", ["simplecache::http"], indirect=True)
def test_local_copy_of_an_older_file_is_not_read(place: Folder) -> None:
    assert isinstance(place.server, FileServer)
    place.put({"a.tif": CONTENT})
    assert read(place.listed("a.tif"), {}, (5, 10)) == [CONTENT[5:15]]
    place.put({"a.tif": CONTENT[::-1]})
    place.server.modified = "Fri, 31 Dec 2100 23:59:59 GMT"
    assert read(place.listed("a.tif"), {}, (5, 10)) == [CONTENT[::-1][5:15]]


# --- lists of keys ------------------------------------------------------------------------------


def _keys(count: int) -> list[str]:
    return [f"raw/t{n:04d}.tif" for n in range(count)]


def test_many_keys_of_a_folder_are_found_by_one_listing(s3_server: S3Server) -> None:
    extra = ["raw/t0000.zarr/0", "raw/a.tif", "raw/t0000.xml", "top.tif"]
    s3_server.put("remote-keys", dict.fromkeys([*_keys(30), *extra], b"123"))
    urls = [f"s3://remote-keys/{key}" for key in [*_keys(30), "top.tif"]]
    options = s3_server.storage_options
    listing = list_files(urls, storage_options=options)
    assert [request.method for request in s3_server.requests] == ["GET", "HEAD"]
    assert listing.files.urls == tuple(sorted(urls))
    assert list(listing.files) == [stat_file(url, options) for url in listing.files.urls]


def test_few_keys_and_globs_are_asked_for_one_by_one(s3_server: S3Server) -> None:
    s3_server.put("remote-few", dict.fromkeys(_keys(20), b"123"))
    options = s3_server.storage_options
    urls = [f"s3://remote-few/{key}" for key in _keys(20)]
    list_files(urls[:5], storage_options=options)
    assert [request.range for request in s3_server.requests] == ["bytes=0-16383"] * 5
    s3_server.requests.clear()
    list_files([url.replace("t0", "t0*") for url in urls], storage_options=options)
    assert len(s3_server.requests) == 20


def test_missing_key_among_many_is_named(s3_server: S3Server) -> None:
    s3_server.put("remote-missing", dict.fromkeys(_keys(20), b"123"))
    urls = [f"s3://remote-missing/{key}" for key in [*_keys(20), "raw/t0007.tiff"]]
    with pytest.raises(FilesNotFoundError, match=r"raw/t0007\.tiff.* did you mean 't0007\.tif'"):
        list_files(urls, storage_options=s3_server.storage_options)


def test_keys_are_asked_for_one_by_one_where_listing_is_not_allowed(s3_server: S3Server) -> None:
    s3_server.put("remote-closed", dict.fromkeys(_keys(20), b"123"))
    s3_server.refuses = lambda request: 403 if "list-type" in request.query else None
    urls = [f"s3://remote-closed/{key}" for key in _keys(20)]
    listing = list_files(urls, storage_options=s3_server.storage_options)
    assert len(listing.files) == 20
    assert [request.method for request in s3_server.requests].count("HEAD") == 20


def test_keys_far_apart_cost_no_more_than_asking_for_each(s3_server: S3Server) -> None:
    s3_server.put("remote-apart", dict.fromkeys(_keys(100), b"123"))
    urls = [f"s3://remote-apart/{key}" for key in _keys(100)[::9]]
    options = {**s3_server.storage_options, "s3_additional_kwargs": {"MaxKeys": 3}}
    listing = list_files(urls, storage_options=options)
    assert [request.method for request in s3_server.requests] == ["GET"] * len(urls)
    assert list(listing.files) == [stat_file(url, options) for url in sorted(urls)]


@pytest.mark.parametrize("name", s3.USED)
def test_s3fs_has_what_is_used_beyond_its_interface(name: str) -> None:
    filesystem = s3fs.S3FileSystem(anon=True, skip_instance_cache=True)
    assert hasattr(filesystem, name), f"s3fs {s3fs.__version__} has no {name}: mend storage/s3.py"
