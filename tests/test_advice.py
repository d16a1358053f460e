"""Errors name the cure: what to write where a path, an option or credentials are not as wanted."""

from __future__ import annotations

import io
import os
import pickle
import re
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
from fsspec.implementations.cached import WholeFileCacheFileSystem

from intake_tiffstack import TiffStackSource, TiffStackZarrSource, add_to_catalog, open_stack
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    PatternError,
    StorageError,
)
from intake_tiffstack.progress import reported
from servers import S3Server, serve_files


def tiff(value: int, size: int = 16) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.full((size, size), value, "uint16"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("urlpath", "cure"),
    [
        (r"C:\data\*.tif", "Windows path.*/mnt/c"),
        ("D:/data/raw", "Windows path"),
        (r"\\server\share\a.tif", "Windows path"),
        ("/data/scene.zip", r"write zip://\*\.tif::/data/scene\.zip"),
        ("s3://b/scene.tar.gz", r"write tar://\*\.tif::s3://b/scene\.tar\.gz"),
        ("/data/S2_*.zip", "give a list"),
        ("zip://*.tif::/data/S2_*.zip", "give a list"),
        ("/data/copy.zarr", "driver tiffstack_zarr"),
        ("/data/copy.ozx", "driver tiffstack_zarr"),
        ("/data/copy.zarr.zip", r"open_tiffstack_zarr\('zip://::/data/copy\.zarr\.zip'\)"),
        ("s3://b/copy.zarr/", "driver tiffstack_zarr"),
        ("s3:/b/a.tif", "write s3://b/a.tif"),
        ("s3:b/a.tif", "write s3://b/a.tif"),
        ("file:/data/a.tif", "write /data/a.tif"),
        ("simplecache:/data/a.tif", "write simplecache::/data/a.tif"),
        ("blockcache::s3:/b/a.tif", "write blockcache::s3://b/a.tif"),
        ("zip:///data/x.zip", r"write zip://\*\.tif::/data/x\.zip"),
        ("zip+https://h/x.zip", r"write zip://\*\.tif::https://h/x\.zip"),
        ("file:///C:/data/a.tif", "Windows path"),
        (r".\raw\*.tif", "Windows path"),
        ("https:/host/a.tif", "write https://host/a.tif"),
        ("/vsis3/b/a.tif", "write s3://b/a.tif"),
        ("/vsicurl/https://h/a.tif", "write https://h/a.tif"),
        ("/vsizip//data/x.zip/in/a.tif", "write zip://in/a.tif::/data/x.zip"),
        ("/vsizip/vsis3/b/x.zip", r"write zip://\*\.tif::s3://b/x\.zip"),
        ("/vsigzip//data/a.tif.gz", "unpack the file"),
        ("/vsicurl_streaming/https://h/a.tif", "write https://h/a.tif"),
        ("/data/chirps.tif.gz", "unpack it"),
        ("s3://b/x//*.tif", "write one slash"),
    ],
)
def test_a_path_of_another_kind_says_what_to_write(urlpath: str, cure: str) -> None:
    with pytest.raises(OptionError, match=cure):
        open_stack(urlpath).to_dask()
    with pytest.raises(OptionError, match=cure):
        open_stack(["/data/a.tif", urlpath]).to_dask()


def test_a_path_into_a_local_archive_says_what_to_write(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a.tif", tiff(7))
    url = f"zip://in/a.tif::{tmp_path}/x.zip"
    with pytest.raises(OptionError, match=f"write {re.escape(url)}"):
        open_stack(f"{tmp_path}/x.zip/in/a.tif").to_dask()
    assert open_stack(url).read()[0, 0] == 7


@pytest.mark.parametrize(
    "url", ["s3:/bucket/a.zarr", r"C:\data\a.zarr", "/vsis3/b/a.zarr", "s3://"]
)
def test_a_copy_is_not_written_to_a_folder_named_like_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").write_bytes(tiff(1))
    with pytest.raises(OptionError, match=r"write|must name a bucket"):
        open_stack("a.tif").export(url, progress=False)
    assert os.listdir() == ["a.tif"]
    with pytest.raises(OptionError, match=r"write|must name a bucket"):
        TiffStackZarrSource(url).to_dask()


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.ome.zarr", "ome-zarr"),
        ("a.ozx", "ome-zarr"),
        ("a.ome.tif", "ome-tiff"),
        ("a.json", "references"),
        ("a.parquet", "references"),
        ("a.icechunk", "icechunk"),
    ],
)
def test_no_format_is_written_to_a_folder_named_like_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, format: str
) -> None:
    if format == "icechunk":
        pytest.importorskip("icechunk")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").write_bytes(tiff(1))
    with pytest.raises(OptionError, match=f"write s3://bucket/{name}"):
        open_stack("a.tif").export(f"s3:/bucket/{name}", format=format, progress=False)
    assert os.listdir() == ["a.tif"]


def test_catalogs_lists_and_persisted_copies_are_not_at_a_misspelled_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").write_bytes(tiff(1))
    (tmp_path / "list.txt").write_text("s3:/bucket/a.tif\n")
    with pytest.raises(OptionError, match=r"write s3://bucket/lab\.yml"):
        add_to_catalog(open_stack("a.tif"), "s3:/bucket/lab.yml", "a")
    with pytest.raises(OptionError, match=r"write s3://bucket/a\.tif"):
        open_stack("list.txt").to_dask()
    monkeypatch.setenv("INTAKE_PERSIST_PATH", "s3:/bucket/copies")
    with pytest.raises(OptionError, match=r"persisted copies, .* write s3://bucket/copies"):
        TiffStackSource("a.tif").persist(progress=False)
    assert sorted(os.listdir()) == ["a.tif", "list.txt"]


@pytest.mark.parametrize(
    ("below", "cure"),
    [
        ("a.tif/", r"'a\.tif' is a file: write no '/' behind it$"),
        ("$RAW/*.tif", r"only a shell fills in '\$RAW': .* \{\{ env\('RAW'\) \}\}$"),
        ("${RAW}/*.tif", r"\{\{ env\('RAW'\) \}\}$"),
        ("%RAW%/*.tif", r"\{\{ env\('RAW'\) \}\}$"),
        (r"raw\*.tif", "a backslash is part of a name: write '/'"),
        ("{CATALOG_DIR}/*.tif", r"write \{\{ CATALOG_DIR \}\}, with two braces$"),
        ("{{ CATALOG_DIR }}/*.tif", r"only a catalog fills in '\{\{ \}\}'$"),
        ("b.tif ", "it ends in a blank"),
        ("copy", "a Zarr, which the driver tiffstack_zarr opens"),
    ],
)
@pytest.mark.parametrize("is_relative", [True, False])
def test_a_path_that_matches_nothing_says_what_is_odd_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, cure: str, is_relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").write_bytes(tiff(1))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "zarr.json").write_text("{}")
    # of paths that somebody would fill in, nothing is said of the current folder
    end = cure if cure.endswith("$") and below != "a.tif/" else cure.rstrip("$")
    with pytest.raises(FilesNotFoundError, match=end):
        open_stack(below if is_relative else f"{tmp_path}/{below}").to_dask()


def test_a_file_whose_name_looks_like_another_kind_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C:").mkdir()
    (tmp_path / "C:" / "a.tif").write_bytes(tiff(3))
    assert open_stack("C:/a.tif").read()[0, 0] == 3
    (tmp_path / "data:1").mkdir()
    (tmp_path / "data:1" / "a.tif").write_bytes(tiff(5))
    assert open_stack("data:1/*.tif").read()[0, 0, 0] == 5
    (tmp_path / "all.zip").mkdir()
    (tmp_path / "all.zip" / "a.tif").write_bytes(tiff(4))
    assert open_stack(f"{tmp_path}/all.zip").read()[0, 0, 0] == 4


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"axes": "tzyx"}, "here it is file_dims"),
        ({"path_as_pattern": "x"}, "here it is pattern"),
        ({"patern": "x"}, "did you mean 'pattern'"),
    ],
)
def test_an_option_of_another_package_says_what_it_is_called(
    options: dict[str, Any], cure: str
) -> None:
    with pytest.raises(OptionError, match=cure):
        open_stack("a.tif", **options)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for c, t in np.ndindex(2, 3):
        (tmp_path / f"x_c{c}_t{t}.tif").write_bytes(tiff(c))
    return str(tmp_path)


def test_a_text_of_letters_in_concat_dim_says_to_write_a_list(folder: str) -> None:
    stack = open_stack(folder, pattern="x_c{c:d}_t{t:d}.tif", concat_dim="ct")
    with pytest.raises(OptionError, match=r"write a list: \[c, t\]"):
        stack.to_dask()


def test_an_asterisk_in_a_pattern_says_what_any_text_is(folder: str) -> None:
    with pytest.raises(PatternError, match=r"write '\{\}_c\{c:d\}_t\{t:d\}\.tif'"):
        open_stack(folder, pattern="*_c{c:d}_t{t:d}.tif").to_dask()


def test_the_report_tells_of_numbers_that_are_read_as_text(folder: str) -> None:
    report = str(open_stack(folder, pattern="x_c{c:d}_t{t}.tif").report())
    assert "the texts of t are numbers: write {t:d}" in report
    assert "hint" not in str(open_stack(folder, pattern="x_c{c:d}_t{t:d}.tif").report())


def test_a_worker_that_lacks_the_folder_says_so_with_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.tif").write_bytes(tiff(1))
    array = open_stack(str(tmp_path / "raw")).to_dask()
    monkeypatch.setattr("socket.gethostname", lambda: "node-7")
    (tmp_path / "raw" / "a.tif").rename(tmp_path / "b.tif")
    with pytest.raises(FileChangedError, match="no longer exists"):
        array.compute(scheduler="sync")
    (tmp_path / "raw").rmdir()
    with pytest.raises(FileNotFoundError, match=r"does not exist on the host 'node-7'") as raised:
        array.compute(scheduler="sync")
    assert isinstance(raised.value, FilesNotFoundError)
    assert "node-7" in str(pickle.loads(pickle.dumps(raised.value)))


# -- storage options and credentials ---------------------------------------------------------------


@pytest.fixture
def bucket(s3_server: S3Server) -> S3Server:
    s3_server.put("advice", {f"raw/t{t}.tif": tiff(t) for t in range(3)})
    return s3_server


@pytest.fixture
def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


# s3fs waits a tenth of a second for the connections of a filesystem that is dropped
unclosed = pytest.mark.filterwarnings("ignore:Unclosed client session:ResourceWarning")


def _without_others(server: S3Server, region: str) -> dict[str, Any]:
    """Return options that no other test has, whose filesystem s3fs keeps with its keys."""
    return {"endpoint_url": server.url, "client_kwargs": {"region_name": region}}


# fsspec's cache of blocks leaves it to Python to close its own file
@pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedRandom:ResourceWarning")
@pytest.mark.parametrize("cache", ["simplecache", "filecache", "blockcache"])
def test_each_cache_in_front_of_a_bucket_reads_the_pixels(
    bucket: S3Server, tmp_path: Path, cache: str
) -> None:
    options = {"s3": bucket.storage_options, cache: {"cache_storage": str(tmp_path)}}
    stack = open_stack(
        f"{cache}::s3://advice/raw/*.tif", pattern="t{t:d}.tif", storage_options=options
    )
    assert stack.read()[:, 0, 0].tolist() == [0, 1, 2]


def test_threads_take_turns_at_a_cache(
    bucket: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most, plain = 0, 0, WholeFileCacheFileSystem._open

    def opened(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.02)  # so that another thread would come in
        try:
            return plain(self, *args, **kwargs)
        finally:
            inside -= 1

    monkeypatch.setattr(WholeFileCacheFileSystem, "_open", opened)
    options = {"s3": bucket.storage_options, "filecache": {"cache_storage": str(tmp_path)}}
    stack = open_stack("filecache::s3://advice/raw/*.tif", storage_options=options)
    assert stack.to_dask().compute(num_workers=4)[:, 0, 0].tolist() == [0, 1, 2]
    assert most == 1


def test_options_that_belong_to_another_link_of_a_chain_say_where(bucket: S3Server) -> None:
    stack = open_stack("simplecache::s3://advice/raw/*.tif", storage_options=bucket.storage_options)
    with pytest.raises(OptionError, match=r"write storage_options: \{s3: \{key: "):
        stack.to_dask()


@pytest.mark.parametrize("name", ["S3", "s3a"])
def test_options_of_a_link_that_a_chain_lacks_say_which_it_has(bucket: S3Server, name: str) -> None:
    options = {name: bucket.storage_options}
    with pytest.raises(OptionError, match=f"of '{name}' are of no link .* s3: {{...}}"):
        open_stack("simplecache::s3://advice/raw/*.tif", storage_options=options).to_dask()


def test_a_misspelled_option_of_a_store_suggests_the_near_one(bucket: S3Server) -> None:
    options = {**bucket.storage_options, "endpont_url": bucket.url}
    with pytest.raises(OptionError, match=r"did you mean 'endpoint_url'\?$"):
        open_stack("s3://advice/raw/*.tif", storage_options=options).to_dask()


@pytest.mark.parametrize(
    "options", [{"header": {}}, {"headers": 3}, {"client_kwargs": {"header": {}}}]
)
def test_a_wrong_option_for_http_is_an_option_error(options: dict[str, Any]) -> None:
    with serve_files({"a.tif": tiff(1)}) as server:
        stack = open_stack(f"{server.url}/a.tif", storage_options=options)
        with pytest.raises(OptionError, match=f"given: {next(iter(options))}"):
            stack.to_dask()


def test_a_slash_behind_a_file_in_a_bucket_is_no_file(bucket: S3Server) -> None:
    stack = open_stack("s3://advice/raw/t1.tif/", storage_options=bucket.storage_options)
    with pytest.raises(FilesNotFoundError, match="nothing at s3://advice/raw/t1"):
        stack.to_dask()


@unclosed
def test_refused_credentials_say_what_to_check(bucket: S3Server) -> None:
    bucket.put("advice-refused", {"t.tif": tiff(1, 1024)})
    url = "s3://advice-refused/*.tif"
    array = open_stack(url, storage_options=bucket.storage_options).to_dask()
    bucket.refuses = lambda r: 403
    cure = r"[^:]; check which credentials .* expired$"
    with pytest.raises(StorageError, match=cure):
        open_stack(url, storage_options=bucket.storage_options).to_dask()
    with pytest.raises(StorageError, match=cure):
        array.compute(scheduler="sync")


@unclosed
@pytest.mark.usefixtures("without_keys")
def test_no_credentials_at_all_mentions_anon(bucket: S3Server) -> None:
    where = _without_others(bucket, "eu-central-1")
    with pytest.raises(StorageError, match=r"storage_options: \{anon: true\}"):
        open_stack("s3://advice/raw/*.tif", storage_options=where).to_dask()


@unclosed
@pytest.mark.usefixtures("without_keys")
def test_credentials_that_come_later_are_picked_up(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = _without_others(bucket, "us-east-2")
    stack = open_stack("s3://advice/raw/*.tif", storage_options=where)
    with pytest.raises(StorageError, match="credentials"):
        stack.to_dask()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert stack.to_dask().shape == (3, 16, 16)


@unclosed
@pytest.mark.usefixtures("without_keys")
def test_credentials_that_expire_are_renewed_while_pixels_are_read(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "EXPIRES")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    where = _without_others(bucket, "us-west-2")
    bucket.put("advice-renewed", {f"t{t}.tif": tiff(t, 1024) for t in range(3)})
    array = open_stack("s3://advice-renewed/*.tif", storage_options=where).to_dask()
    bucket.refuses = lambda r: 403 if "EXPIRES" in r.headers.get("Authorization", "") else None
    with pytest.raises(StorageError):
        array.compute(scheduler="sync")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "RENEWED")
    assert array.compute(scheduler="sync")[:, 0, 0].tolist() == [0, 1, 2]
    assert open_stack("s3://advice-renewed/*.tif", storage_options=where).dims[0] == "file"


def test_profile_and_endpoint_are_shown_and_keys_are_not(tmp_path: Path) -> None:
    options = {"profile": "no-such-profile", "endpoint_url": "http://127.0.0.1:1", "key": "hidden"}
    with pytest.raises((StorageError, OptionError), match="no-such-profile") as raised:
        open_stack("s3://advice/raw/*.tif", storage_options=options).to_dask()
    assert "hidden" not in str(raised.value)


def test_a_store_without_conditional_reads_names_the_option(
    bucket: S3Server,
) -> None:
    bucket.put("advice-501", {"t.tif": tiff(5)})
    bucket.refuses = lambda r: 501 if r.range else None
    stack = open_stack("s3://advice-501/t.tif", storage_options=bucket.storage_options)
    with (
        dask.config.set({"tiffstack.retries": 0}),
        pytest.raises(StorageError, match=r"local_expiry_check: true"),
    ):
        stack.to_dask()


def test_the_bar_of_a_notebook_without_widgets_warns_of_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("intake_tiffstack.progress._is_notebook", lambda: True)
    monkeypatch.setattr("intake_tiffstack.progress.find_spec", lambda name: None)
    for name in [name for name in sys.modules if name.startswith("tqdm.")]:
        monkeypatch.delitem(sys.modules, name)
    with (
        warnings.catch_warnings(action="error"),
        reported(None, 2, title="files", unit="file") as advance,
    ):
        advance(2)
    assert "files" in capsys.readouterr().err
