"""Remote files of a chunk are asked for together: how many requests, how many at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from intake_tiffstack import open_stack
from intake_tiffstack.errors import FileChangedError, StorageError
from intake_tiffstack.header.cache import clear_headers
from intake_tiffstack.reading.region import PartRead
from intake_tiffstack.storage import attempts, obstore_s3
from intake_tiffstack.storage.gate import FIRST, LEAST, Gate
from intake_tiffstack.storage.remote_ranges import Downloads, Fill, RemoteBytes
from intake_tiffstack.storage.store import stat_file
from servers import FileServer, Request, S3Server, serve_files

COUNT = 24
SHAPE = (96, 512)
"""Of noise: each file takes 96 kB, more than the first bytes, compressed too."""


def tiff(plane: NDArray[Any], *, at_end: bool = False, **options: Any) -> bytes:
    """Return a TIFF; its directory is the last of it if that is wanted, as libtiff writes it."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, plane, photometric="minisblack", metadata=None, **options)
    content = buffer.getvalue()
    if not at_end:
        return content
    start = int.from_bytes(content[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little") + 4
    content += b"\0" * (len(content) % 2)
    place = len(content).to_bytes(4, "little")
    return content[:4] + place + content[8:] + content[start:end]


@pytest.fixture
def data() -> NDArray[Any]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**16, (COUNT, *SHAPE)).astype("u2")


@pytest.fixture
def server() -> Iterator[FileServer]:
    clear_headers()
    with serve_files({}) as server:
        yield server


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PAUSES", (0.01, 0.02))


def put(server: FileServer, data: NDArray[Any], **options: Any) -> list[str]:
    names = [f"t{t:02d}.tif" for t in range(len(data))]
    server.files.update(
        {name: tiff(plane, **options) for name, plane in zip(names, data, strict=True)}
    )
    return [f"{server.url}/{name}" for name in names]


def wait_for_all(count: int, good: Any) -> Any:
    """Return what answers no request until *count* have come, and 500 if they do not come."""
    are_there = threading.Event()
    came: list[Request] = []

    def answer(request: Request) -> Any:
        came.append(request)
        if len(came) >= count:
            are_there.set()
        return good if are_there.wait(30) else 500

    return answer


# --- how many requests --------------------------------------------------------------------------


def test_files_on_a_web_server_open_and_read_in_one_request_each(server, data):
    urls = put(server, data, tile=(16, 128), compression="zlib")
    server.manner = wait_for_all(COUNT, "good")
    a = open_stack(urls, pattern="t{t:d}.tif").to_dask()
    assert [request.method for request in server.requests] == ["GET"] * COUNT
    assert {request.range for request in server.requests} == {"bytes=0-16383"}
    server.requests.clear()
    np.testing.assert_array_equal(a[:, 33:40, 260:300].compute(), data[:, 33:40, 260:300])
    assert len(server.requests) == COUNT
    server.manner = lambda request: "good"
    np.testing.assert_array_equal(a.compute(), data)


def test_the_directory_at_the_end_comes_with_the_first_bytes(server, data):
    urls = put(server, data, compression="zlib", rowsperstrip=8, at_end=True)
    a = open_stack(urls, pattern="t{t:d}.tif").to_dask()
    assert len(server.requests) == COUNT + 1  # the end of the first
    server.requests.clear()
    np.testing.assert_array_equal(a[:, 50].compute(), data[:, 50])
    ends = [request for request in server.requests if request.nbytes < 2**13]
    assert len(server.requests) <= 2 * COUNT
    assert len(ends) == COUNT - 1


def many_pages() -> tuple[NDArray[Any], bytes]:
    """Return a volume, and a file of it with all directories but the first behind the pixels."""
    volume = np.random.default_rng(1).integers(0, 2**16, (40, 64, 96)).astype("u2")
    buffer = BytesIO()
    tifffile.imwrite(buffer, volume, photometric="minisblack")
    return volume, buffer.getvalue()


def test_a_file_alone_on_a_web_server_opens_in_one_round_trip(server):
    volume, server.files["a.tif"] = many_pages()
    server.manner = wait_for_all(2, "good")
    a = open_stack(f"{server.url}/a.tif").to_dask()
    assert {request.range for request in server.requests} == {"bytes=0-16383", "bytes=-65536"}
    server.requests.clear()
    np.testing.assert_array_equal(a[20].compute(), volume[20])
    assert len(server.requests) == 1


@pytest.mark.parametrize("client", ["obstore", "s3fs"])
@pytest.mark.parametrize("name", ["a.tif", "*.tif"])
def test_a_file_alone_on_s3_opens_in_one_round_trip(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, name: str, client: str
) -> None:
    clear_headers()
    if client == "s3fs":
        monkeypatch.setattr(obstore_s3, "_store_class", lambda: None)
    bucket = f"together-alone-{client}-{len(name)}"
    volume, content = many_pages()
    s3_server.put(bucket, {"a.tif": content})
    answer = wait_for_all(2, None)
    s3_server.refuses = lambda request: answer(request) if request.range else None
    options = s3_server.storage_options
    a = open_stack(f"s3://{bucket}/{name}", storage_options=options).to_dask()
    ranges = [request.range for request in s3_server.requests if request.range]
    assert len(ranges) == 2
    assert "bytes=0-16383" in ranges
    assert len(s3_server.requests) == 2 + (name == "*.tif")
    s3_server.requests.clear()
    np.testing.assert_array_equal(a[..., 20, :, :].compute().squeeze(), volume[20])
    assert len(s3_server.requests) == 1


def test_last_bytes_of_another_version_are_not_taken(server):
    volume, new = many_pages()
    buffer = BytesIO()
    tifffile.imwrite(buffer, volume[::-1], photometric="minisblack", description="another")
    asked = threading.local()

    class Replaced(dict[str, bytes]):
        def __getitem__(self, name: str) -> bytes:
            return buffer.getvalue() if asked.range == "bytes=-65536" else new

    def note(request: Request) -> Any:
        asked.range = request.range
        return "good"

    server.files, server.manner = Replaced({"a.tif": b""}), note
    np.testing.assert_array_equal(open_stack(f"{server.url}/a.tif").read(), volume)


def test_what_has_arrived_is_opened_while_other_files_are_on_their_way(
    s3_server: S3Server, data: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clear_headers()
    bucket = "together-meanwhile"
    contents = {f"t{t:02d}.tif": tiff(p, compression="zlib") for t, p in enumerate(data)}
    s3_server.put(bucket, contents)
    options = s3_server.storage_options
    a = open_stack(f"s3://{bucket}/t{{t:d}}.tif", storage_options=options).to_dask()
    is_open = threading.Event()
    plain = PartRead.open

    def note(self: PartRead, *guessed: Any) -> Any:
        is_open.set()
        return plain(self, *guessed)

    def wait(request: Request) -> int | None:
        return 500 if request.path.endswith("t07.tif") and not is_open.wait(20) else None

    monkeypatch.setattr(PartRead, "open", note)
    s3_server.refuses = wait
    with dask.config.set({"tiffstack.retries": 0}):
        np.testing.assert_array_equal(a[1:].compute(), data[1:])  # the first is known


def test_small_files_in_a_store_are_read_whole_by_one_request(s3_server: S3Server, data):
    clear_headers()
    bucket = "together-small"
    s3_server.put(bucket, {f"t{t:02d}.tif": tiff(plane) for t, plane in enumerate(data)})
    options = s3_server.storage_options
    a = open_stack(f"s3://{bucket}/t{{t:d}}.tif", storage_options=options).to_dask()
    s3_server.requests.clear()
    s3_server.refuses = wait_for_all(COUNT - 1, None)  # the header of the first is known
    np.testing.assert_array_equal(a.compute(), data)
    assert len(s3_server.reads) == COUNT


def test_uncompressed_files_are_read_with_their_headers(s3_server: S3Server):
    clear_headers()
    rng = np.random.default_rng(0)
    data = rng.integers(0, 2**16, (6, 3, 300, 256)).astype("u2")
    bucket, options = "together-raw", s3_server.storage_options
    s3_server.put(bucket, {f"t{t}.tif": tiff(volume) for t, volume in enumerate(data)})
    a = open_stack(f"s3://{bucket}/t{{t:d}}.tif", storage_options=options).to_dask()
    s3_server.requests.clear()
    np.testing.assert_array_equal(a[3, 1].compute(), data[3, 1])
    wanted = sorted(request.range for request in s3_server.reads)
    assert len(wanted) == 3  # at once: the plane, the first directory, and the others at the end
    s3_server.requests.clear()
    s3_server.refuses = wait_for_all(len(data), None)
    np.testing.assert_array_equal(a.compute(), data)
    assert len(s3_server.reads) == len(data)


def test_a_file_of_the_same_size_that_is_built_otherwise_is_read_again(server):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 2**16, (6, 600, 256)).astype("u2")
    contents = [tiff(plane) for plane in data]
    odd = tiff(data[2], byteorder=">")
    assert len(odd) == len(contents[2])
    contents[2] = odd
    moved = contents[4]  # its pixels begin later, and something else ends the file
    contents[4] = tiff(data[4], software="x" * 600)
    short = len(moved) - len(contents[4])
    longest = max(map(len, contents))
    assert short < 0
    contents = [content + b"\0" * (longest - len(content)) for content in contents]
    names = [f"t{t}.tif" for t in range(len(data))]
    server.files.update(zip(names, contents, strict=True))
    a = open_stack([f"{server.url}/{name}" for name in names], pattern="t{t:d}.tif").to_dask()
    clear_headers()  # on a worker: nothing is known but what the first chunk shows
    np.testing.assert_array_equal(a[0].compute(), data[0])
    np.testing.assert_array_equal(a.compute(), data)


def test_every_way_of_storing_pixels_reads_the_same_together(server, data):
    kinds: list[dict[str, Any]] = [
        {},
        {"byteorder": ">"},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw", "rowsperstrip": 5},
        {"tile": (32, 32), "compression": "zstd"},
        {"bigtiff": True},
    ]
    for options in kinds:
        clear_headers()
        a = open_stack(put(server, data, **options), pattern="t{t:d}.tif").to_dask()
        np.testing.assert_array_equal(a[2:, 5:50:3, 7:].compute(), data[2:, 5:50:3, 7:])


def test_files_that_differ_read_as_they_are(server):
    rng = np.random.default_rng(1)
    data = rng.integers(0, 2**16, (8, 40, 50)).astype("u2")
    for i, options in enumerate(
        [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"at_end": True}]
    ):
        server.files |= {f"t{i + k}.tif": tiff(data[i + k], **options) for k in (0, 4)}
    urls = [f"{server.url}/t{t}.tif" for t in range(8)]
    np.testing.assert_array_equal(open_stack(urls, pattern="t{t:d}.tif").read(), data)


def test_more_bytes_than_first_fetched_are_asked_for_by_the_ordinary_lookup(server, data):
    urls = put(server, data)
    with dask.config.set({"tiffstack.header_cache": "64 kB"}):
        np.testing.assert_array_equal(open_stack(urls, pattern="t{t:d}.tif").read(), data)
    assert [r.method for r in server.requests[:COUNT]] == ["HEAD"] * COUNT


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", ["whole", "short", "other", 403, 500], ids=str)
def test_a_lookup_that_is_answered_otherwise_is_made_again(server, data, manner):
    """Only what the ordinary lookup says counts: here it finds the files."""
    urls = put(server, data[:4])
    server.manner = lambda request: manner if request.range == "bytes=0-16383" else "good"
    files = open_stack(urls, pattern="t{t:d}.tif").to_dask  # fails later, as the header is refused
    with dask.config.set({"tiffstack.retries": 0}), pytest.raises(StorageError, match=r"t00\.tif"):
        files()
    assert [request.method for request in server.requests].count("HEAD") == 4


def test_a_missing_file_is_named_as_ever(server, data):
    urls = put(server, data[:4])
    del server.files["t02.tif"]
    with pytest.raises(FileNotFoundError, match=r"t02\.tif"):
        open_stack(urls, pattern="t{t:d}.tif").to_dask()


def fail_one(server: FileServer, name: str, manner: Any) -> None:
    def answer(request: Request) -> Any:
        return manner if request.path == name else "good"

    server.manner = answer


@pytest.mark.parametrize("manner", [403, "cut", "short", 404, 412], ids=str)
def test_one_file_that_fails_is_raised_or_filled(server, data, manner):
    urls = put(server, data, compression="zlib", tile=(16, 128))
    a, b = (
        open_stack(urls, pattern="t{t:d}.tif", on_error=choice, fill_value=7).to_dask()
        for choice in ("raise", "fill")
    )
    fail_one(server, "t11.tif", manner)
    with dask.config.set({"tiffstack.retries": 1}):
        with pytest.raises((StorageError, FileChangedError), match=r"t11\.tif"):
            a.compute()
        filled = b.compute()
    assert (filled[11] == 7).all()
    np.testing.assert_array_equal(np.delete(filled, 11, 0), np.delete(data, 11, 0))


def test_a_file_that_was_replaced_after_opening_is_an_error(server, data):
    urls = put(server, data, compression="zlib", tile=(16, 128))
    a = open_stack(urls, pattern="t{t:d}.tif").to_dask()
    put(server, data[:1] + 1, compression="zlib", tile=(16, 128))
    with pytest.raises(FileChangedError, match=r"t00\.tif changed since it was listed"):
        a.compute()


def test_what_passes_is_tried_again(server, data):
    urls = put(server, data, compression="zlib", tile=(16, 128))
    a = open_stack(urls, pattern="t{t:d}.tif").to_dask()
    refused: set[str] = set()

    def refuse_first(request: Request) -> Any:
        is_new = request.path not in refused
        refused.add(request.path)
        return 503 if is_new else "good"

    server.manner = refuse_first
    np.testing.assert_array_equal(a.compute(), data)
    assert len(refused) == COUNT


def test_nothing_is_written_once_downloads_have_ended(server, data):
    urls = put(server, data)
    came = threading.Event()

    def answer_late(request: Request) -> Any:
        came.set()
        time.sleep(0.2)
        return "good"

    server.manner = answer_late
    buffers = [bytearray(1000) for _ in urls]
    with Downloads() as downloads:
        downloads.start(
            [
                Fill(url, RemoteBytes(stat_file(url, {}), {}), [(1000, memoryview(buffer))])
                for url, buffer in zip(urls[:4], buffers, strict=False)
            ]
        )
        assert came.wait(10)
    then = [bytes(buffer) for buffer in buffers]
    time.sleep(0.4)
    assert [bytes(buffer) for buffer in buffers] == then


# --- the gate -----------------------------------------------------------------------------------


def run_rounds(gate: Gate, latency_of: Any, rounds: int, count: int = 400) -> None:
    """Let *count* requests wait at the gate, each round answered after a latency."""

    async def run() -> None:
        async def one() -> None:
            async with gate:
                gate.learn(latency_of(gate))
                await asyncio.sleep(0)

        for _ in range(rounds):
            await asyncio.gather(*(one() for _ in range(count)))

    asyncio.run(run())


def test_prompt_answers_admit_up_to_the_setting():
    gate = Gate(200)
    run_rounds(gate, lambda gate: 0.03, 2)
    assert gate.limit == 200


def test_answers_that_wait_for_each_other_admit_fewer():
    gate = Gate(200)
    gate.learn(0.03)
    run_rounds(gate, lambda gate: 0.004 * gate.limit, 3)
    assert LEAST <= gate.limit < FIRST
    run_rounds(gate, lambda gate: 10.0, 3)
    assert gate.limit == LEAST


def test_a_refusal_halves_and_the_setting_bounds():
    gate = Gate(100)
    gate.slow_down()
    assert gate.limit == FIRST // 2
    for _ in range(10):
        gate.slow_down()
    assert gate.limit == LEAST
    assert Gate(3).limit == 3


def test_requests_cancelled_at_the_gate_leave_their_place():
    async def run() -> int:
        gate = Gate(1)
        entered = []

        async def one(name: int) -> None:
            async with gate:
                entered.append(name)
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(one(n)) for n in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(1):
            async with gate:
                return len(entered)

    assert asyncio.run(run()) == 3
