"""Headers of remote files kept in a Parquet file: what is asked, and that it is never believed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyarrow import parquet

from intake_tiffstack import open_stack
from intake_tiffstack.errors import OptionError, TiffStackWarning
from intake_tiffstack.header.cache import clear_headers
from intake_tiffstack.header.index import _outside, read_index
from intake_tiffstack.header.twins import Templates
from intake_tiffstack.storage.files import File
from servers import S3Server
from test_together import tiff

COUNT = 12
KINDS: dict[str, dict[str, Any]] = {
    "tiles": {"tile": (32, 32), "compression": "zlib"},
    "strips": {"compression": "zlib", "rowsperstrip": 8},
    "plain": {},
    "directory at the end": {"at_end": True},
}


@pytest.fixture
def data() -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 2**16, (COUNT, 128, 256)).astype("u2")


def put(server: S3Server, bucket: str, data: NDArray[Any], **options: Any) -> None:
    contents = {f"raw/t{t:02d}.tif": tiff(plane, **options) for t, plane in enumerate(data)}
    server.put(bucket, contents)


def open_(server: S3Server, bucket: str, index: str | Path, **options: Any) -> Any:
    """Open as another process does, which knows no header."""
    clear_headers()
    server.requests.clear()
    return open_stack(
        f"s3://{bucket}/raw/t{{t:d}}.tif",
        storage_options=server.storage_options,
        header_index=index,
        **options,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["local", "in the store"])
def test_the_second_opening_lists_and_reads_the_index(s3_server, data, tmp_path, kind, where):
    bucket = f"index-{where}-{kind}".replace(" ", "-")
    put(s3_server, bucket, data, **KINDS[kind])
    index = tmp_path / "headers.parquet" if where == "local" else f"s3://{bucket}/headers.parquet"
    a = open_(s3_server, bucket, index).to_dask()
    np.testing.assert_array_equal(a.compute(), data)
    again = open_(s3_server, bucket, index).to_dask()
    asked = [request for request in s3_server.requests if "list-type" not in request.query]
    expected = [] if where == "local" else [f"/{bucket}/headers.parquet"]
    assert [(r.method, r.path) for r in asked] == [("GET", path) for path in expected]
    s3_server.requests.clear()
    np.testing.assert_array_equal(again[:, 40:50].compute(), data[:, 40:50])
    assert len(s3_server.requests) == COUNT  # pixels alone
    assert again.name == a.name


def test_an_object_that_changed_is_read_anew(s3_server, data, tmp_path):
    bucket, index = "index-changed", tmp_path / "headers.parquet"
    put(s3_server, bucket, data, compression="zlib")
    open_(s3_server, bucket, index).to_dask()
    data[3] = 7  # other sizes of strips
    s3_server.put(bucket, {"raw/t03.tif": tiff(data[3], compression="zlib")})
    np.testing.assert_array_equal(open_(s3_server, bucket, index).read(), data)
    open_(s3_server, bucket, index).to_dask()
    assert not s3_server.reads  # the index was written again


def test_files_that_come_and_go(s3_server, data, tmp_path):
    bucket, index = "index-more", tmp_path / "headers.parquet"
    put(s3_server, bucket, data[:5], compression="zlib")
    open_(s3_server, bucket, index).to_dask()
    put(s3_server, bucket, data, compression="zlib")
    np.testing.assert_array_equal(open_(s3_server, bucket, index).read(), data)
    found = read_index(str(index), {})
    assert found is not None
    assert len(found) == COUNT


def test_the_index_is_a_list_of_urls_too(s3_server, data, tmp_path):
    bucket, index = "index-list", tmp_path / "headers.parquet"
    put(s3_server, bucket, data, compression="zlib")
    open_(s3_server, bucket, index).to_dask()
    clear_headers()
    s3_server.requests.clear()
    stack = open_stack(
        index,
        pattern="t{t:d}.tif",
        header_index=index,
        storage_options=s3_server.storage_options,
    )
    assert stack.shape == data.shape
    assert not s3_server.requests
    np.testing.assert_array_equal(stack.read(), data)


def test_the_index_holds_headers_and_no_pixels(s3_server, data, tmp_path):
    bucket, index = "index-small", tmp_path / "headers.parquet"
    put(s3_server, bucket, data, compression="zlib")
    open_(s3_server, bucket, index).to_dask()
    table = parquet.read_table(index)
    assert table.column_names[:4] == ["url", "size", "mtime_ns", "etag"]
    kept = [sum(map(len, pieces)) for pieces in table.column("bytes").to_pylist()]
    assert max(kept) < 1000
    assert s3_server.storage_options["secret"] not in index.read_bytes().decode("latin-1")


def test_workers_read_the_index_instead_of_headers(s3_server, data, tmp_path):
    import pickle

    bucket, index = "index-worker", tmp_path / "headers.parquet"
    put(s3_server, bucket, data, compression="zlib")
    array = open_(s3_server, bucket, index).host_array
    (tmp_path / "array.pickle").write_bytes(pickle.dumps(array))
    s3_server.requests.clear()
    code = (
        "import pickle, sys\n"
        "a = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(int(a[...].sum(dtype='u8')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "array.pickle"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) == int(data.sum(dtype="u8"))
    assert len(s3_server.requests) == COUNT


def test_a_file_that_is_no_index_is_an_error(s3_server, data, tmp_path):
    index = tmp_path / "headers.parquet"
    index.write_bytes(b"something else")
    put(s3_server, "index-wrong", data[:2])
    with pytest.raises(OptionError, match=r"headers\.parquet is not an index of headers"):
        open_(s3_server, "index-wrong", index).to_dask()
    assert index.read_bytes() == b"something else"


def test_an_index_that_cannot_be_written_is_a_warning(s3_server, data, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    put(s3_server, "index-nowhere", data[:2])
    with pytest.warns(TiffStackWarning, match="header_index is not written"):
        a = open_(s3_server, "index-nowhere", tmp_path / "file" / "x.parquet").to_dask()
    np.testing.assert_array_equal(a.compute(), data[:2])


def test_local_files_need_none(tmp_path, data):
    (tmp_path / "t0.tif").write_bytes(tiff(data[0]))
    index = tmp_path / "headers.parquet"
    stack = open_stack(tmp_path / "t*.tif", pattern="t{t:d}.tif", header_index=index)
    np.testing.assert_array_equal(stack.read(), data[:1])
    assert not index.exists()


@given(
    st.integers(0, 40),
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 20)), max_size=6),
)
def test_what_lies_outside_of_pixels_is_kept(at, count, runs):
    content = bytes(range(100))
    window = bytearray(content[at : at + count])
    runs = sorted((start, start + n) for start, n in runs)
    starts = [start for start, _ in runs]
    stops = np.maximum.accumulate([stop for _, stop in runs] or [0]).tolist()[: len(starts)]
    inside = {place for start, stop in runs for place in range(start, stop)}
    found = {
        begin + i: byte
        for begin, piece in _outside(at, window, starts, stops)
        for i, byte in enumerate(piece)
    }
    assert found == {
        place: content[place] for place in range(at, at + count) if place not in inside
    }


def test_the_command_line_writes_an_index(s3_server, data, tmp_path, monkeypatch, capsys):
    from intake_tiffstack.cli.app import main

    bucket, index = "index-command", tmp_path / "headers.parquet"
    put(s3_server, bucket, data, compression="zlib")
    clear_headers()

    def run(*words: object) -> Any:
        monkeypatch.setattr(sys, "argv", ["tiffstack", "index", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code

    words = ("-o", index, "--pattern", "t{t:d}.tif")
    options = ("--storage-options", json.dumps(s3_server.storage_options))
    assert run(f"s3://{bucket}/raw/*.tif", *words, *options) == 0
    assert f"headers of {COUNT} files" in " ".join(capsys.readouterr().out.split())
    stack = open_(s3_server, bucket, index)
    assert stack.shape == data.shape
    assert not s3_server.reads

    (tmp_path / "t0.tif").write_bytes(tiff(data[0]))
    assert run(tmp_path / "t*.tif", *words) == 1
    assert "all files are local" in capsys.readouterr().err


def test_headers_of_an_index_are_looked_at_once_without_threads(
    s3_server, data, tmp_path, monkeypatch
):
    bucket = "index-once"
    put(s3_server, bucket, data)
    looked: list[tuple[str, str]] = []
    find = Templates.find

    def noting(self: Templates, file: File, *args: Any) -> Any:
        found = find(self, file, *args)
        if found is not None:
            looked.append((file.url, threading.current_thread().name))
        return found

    monkeypatch.setattr(Templates, "find", noting)
    open_(s3_server, bucket, tmp_path / "headers.parquet").to_dask()
    urls = [url for url, _ in looked]
    assert len(urls) == len(set(urls)) == COUNT
    assert {name for _, name in looked} == {"MainThread"}
