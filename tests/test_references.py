"""References: the bytes of the files as a Zarr, or a clear word why not."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import threading
import uuid
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import fsspec
import intake
import numpy as np
import pyarrow.parquet
import pytest
import tifffile
import xarray as xr
import zarr
from fsspec.implementations.reference import ReferenceFileSystem
from zarr.storage import FsspecStore

from child_processes import FORKS, deadly_at
from export_sources import run
from intake_tiffstack import open_stack, verify
from intake_tiffstack.copies.claim import hold, last_claim
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    StorageError,
    TargetBusyError,
    TargetExistsError,
    UnsupportedFileError,
    VerificationError,
)
from intake_tiffstack.reading.reader import CollectionReader
from intake_tiffstack.references import open_references, parquet
from intake_tiffstack.references import write as references_writing
from intake_tiffstack.storage import concurrency as each
from intake_tiffstack.storage.folder import Folder
from servers import KEY, SECRET, S3Server, serve_s3

RNG = np.random.default_rng(11)


def write_files(folder: Path, shape: tuple[int, ...], count: int = 2, **how: Any) -> np.ndarray:
    """Write files a_t0.tif, ... and return all their pixels."""
    dtype = np.dtype(how.pop("dtype", "u2"))
    how.setdefault("photometric", "minisblack")  # three planes are no red, green and blue
    array = RNG.integers(0, 200, (count, *shape)).astype(dtype)
    for t in range(count):
        tifffile.imwrite(folder / f"a_t{t}.tif", array[t], **how)
    return array


def export(folder: Path, pattern: str = "a_t{t:d}.tif", **options: Any) -> str:
    """Export the files in a folder, every chunk compared, and return the URL of the document."""
    url = str(folder / "refs.json")
    stack = open_stack(str(folder / "*.tif"), pattern=pattern, **options)
    stack.export(url, format="references", verify="all")
    return url


def metadata_of(url: str) -> dict[str, Any]:
    document = json.loads(Path(url).read_text())
    return json.loads(document["refs"]["pixels/.zarray"])


@pytest.mark.parametrize("byteorder", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("predictor", [None, 2])
@pytest.mark.parametrize("compression", ["zlib", "zstd", "lzw"])
@pytest.mark.parametrize(
    ("shape", "how", "chunk"),
    [
        ((3, 48, 30), {"rowsperstrip": 16}, [1, 1, 16, 30]),
        ((3, 45, 30), {}, [1, 1, 45, 30]),
        ((3, 45, 30), {"tile": (32, 16)}, [1, 1, 32, 16]),
        ((45, 30, 3), {"tile": (32, 16), "photometric": "rgb", "dtype": "u1"}, [1, 32, 16, 3]),
        (
            (3, 45, 30),
            {"photometric": "rgb", "planarconfig": "separate", "dtype": "u1"},
            [1, 1, 45, 30],
        ),
    ],
    ids=["strips", "pages", "tiles", "rgb tiles", "planes"],
)
def test_compressed_segments_are_chunks(
    tmp_path: Path,
    shape: tuple[int, ...],
    how: dict[str, Any],
    chunk: list[int],
    compression: str,
    predictor: int | None,
    byteorder: Any,
) -> None:
    array = write_files(
        tmp_path, shape, compression=compression, predictor=predictor, byteorder=byteorder, **how
    )
    url = export(tmp_path)
    assert metadata_of(url)["chunks"] == chunk
    np.testing.assert_array_equal(open_references(url).array.compute(), array)


@pytest.mark.parametrize("byteorder", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize(
    ("shape", "how", "chunk"),
    [
        ((3, 45, 30), {}, [1, 3, 45, 30]),
        ((3, 45, 30), {"contiguous": False, "metadata": None}, [1, 3, 45, 30]),
        ((2, 45, 30), {"tile": (16, 16)}, [1, 1, 16, 16]),
        ((24, 512, 512), {}, [1, 8, 512, 512]),
        ((7, 1024, 2048), {"dtype": "u1"}, [1, 1, 1024, 2048]),
        ((1, 4096, 2048), {}, [1, 1, 1024, 2048]),
    ],
    ids=["small", "pages", "tiles", "planes", "odd count", "part of a page"],
)
def test_pixels_that_lie_as_they_are_are_cut_where_it_suits(
    tmp_path: Path, shape: tuple[int, ...], how: dict[str, Any], chunk: list[int], byteorder: Any
) -> None:
    array = write_files(tmp_path, shape, count=2, byteorder=byteorder, **how)
    url = export(tmp_path)
    assert metadata_of(url)["chunks"] == chunk
    assert metadata_of(url)["dtype"][0] in (byteorder, "|")
    np.testing.assert_array_equal(open_references(url).array.compute(), array)


@pytest.mark.parametrize(
    ("shape", "how", "message"),
    [
        ((40, 30), {"compression": "jpeg", "dtype": "u1"}, r"compressed by JPEG, which is none of"),
        ((40, 30), {"compression": "packbits", "dtype": "u1"}, r"compressed by PACKBITS"),
        (
            (45, 30),
            {"compression": "zlib", "rowsperstrip": 16},
            r"strips of 16 rows do not divide the 45 rows",
        ),
        (
            (40, 30),
            {"compression": "zlib", "predictor": 3, "dtype": "f4"},
            r"predictor is number 3 on float32",
        ),
        ((40, 30), {"dtype": "?"}, r"packed bits"),
    ],
    ids=["codec", "packbits", "strips", "predictor", "bits"],
)
def test_what_cannot_be_referred_to_is_reported_by_name(
    tmp_path: Path, shape: tuple[int, ...], how: dict[str, Any], message: str
) -> None:
    write_files(tmp_path, shape, **how)
    with pytest.raises(
        UnsupportedFileError, match=rf"a_t0\.tif cannot be referred to: .*{message}"
    ):
        export(tmp_path)
    assert not (tmp_path / "refs.json").exists()


def test_files_that_are_cut_differently_are_reported_by_name(tmp_path: Path) -> None:
    write_files(tmp_path, (48, 32), count=1, compression="zlib", tile=(16, 16))
    tifffile.imwrite(tmp_path / "a_t1.tif", np.zeros((48, 32), "u2"), compression="zstd")
    with pytest.raises(
        UnsupportedFileError, match=r"a_t1\.tif .*48x32 <u2, ZSTD.*16x16 <u2, ADOBE"
    ):
        export(tmp_path)


def test_files_with_gaps_between_pages_are_cut_by_pages_all_of_them(tmp_path: Path) -> None:
    array = write_files(tmp_path, (4, 20, 30), count=3)
    with tifffile.TiffWriter(tmp_path / "a_t1.tif") as tif:
        for page in array[1]:
            tif.write(page, contiguous=False, metadata=None, photometric="minisblack")
    url = export(tmp_path, file_dims="zyx")
    assert metadata_of(url)["chunks"] == [1, 1, 20, 30]
    np.testing.assert_array_equal(open_references(url).array.compute(), array)


def test_a_dim_that_files_extend(tmp_path: Path) -> None:
    array = RNG.integers(0, 99, (10, 20, 30), dtype=np.uint16)
    for i, (start, stop) in enumerate([(0, 4), (4, 8), (8, 10)]):
        tifffile.imwrite(tmp_path / f"a_z{i}.tif", array[start:stop], photometric="minisblack")
    url = export(tmp_path, "a_z{z:d}.tif", file_dims="zyx", concat_dim="z")
    assert metadata_of(url)["chunks"] == [2, 20, 30]
    np.testing.assert_array_equal(open_references(url).array.compute(), array)


def test_tiles_do_not_reach_from_one_file_into_the_next(tmp_path: Path) -> None:
    for i in range(2):
        tile = np.full((40, 32), i, "u1")
        tifffile.imwrite(tmp_path / f"a_y{i}.tif", tile, tile=(16, 16), compression="zlib")
    with pytest.raises(UnsupportedFileError, match="16 along y do not end where a file ends"):
        export(tmp_path, "a_y{y:d}.tif", concat_dim="y", file_dims="yx")


def test_cells_without_a_file_read_as_the_fill_value(tmp_path: Path) -> None:
    array = RNG.integers(0, 99, (2, 2, 20, 30), dtype=np.uint16)
    for c, t in ((0, 0), (0, 1), (1, 0)):
        tifffile.imwrite(tmp_path / f"a_c{c}_t{t}.tif", array[c, t])
    array[1, 1] = 7
    url = export(tmp_path, "a_c{c:d}_t{t:d}.tif", missing="fill", fill_value=7)
    copy = open_references(url)
    assert copy.dims == ("t", "c", "y", "x")
    np.testing.assert_array_equal(copy.array.compute(), array.transpose(1, 0, 2, 3))


@pytest.mark.parametrize(
    ("dtype", "fill", "stored"),
    [
        ("c8", 0, [0.0, 0.0]),
        ("c16", complex(1, float("nan")), [1.0, "NaN"]),
        ("f4", float("inf"), "Infinity"),
        ("f8", float("-inf"), "-Infinity"),
        ("f4", float("nan"), "NaN"),
        ("u8", 2**64 - 1, 2**64 - 1),
    ],
)
def test_any_fill_value_is_said_in_plain_json(
    tmp_path: Path, dtype: str, fill: Any, stored: Any
) -> None:
    array = RNG.integers(0, 99, (2, 2, 20, 30)).astype(dtype)
    for c, t in ((0, 0), (0, 1), (1, 0)):
        tifffile.imwrite(tmp_path / f"a_c{c}_t{t}.tif", array[c, t])
    array[1, 1] = fill
    url = export(tmp_path, "a_c{c:d}_t{t:d}.tif", missing="fill", fill_value=fill, dims="ctyx")
    assert metadata_of(url)["fill_value"] == stored
    np.testing.assert_array_equal(open_references(url).array.compute(), array)
    filesystem = fsspec.filesystem("reference", fo=url, asynchronous=True)
    group = zarr.open_group(FsspecStore(filesystem, read_only=True), mode="r")
    np.testing.assert_array_equal(group["pixels"][...], array)


def test_the_order_of_dims_may_not_cut_across_the_files(tmp_path: Path) -> None:
    array = write_files(tmp_path, (20, 30), count=3)
    with pytest.raises(OptionError, match="not in the order that the files have"):
        export(tmp_path, dims="xyt")
    url = export(tmp_path, dims="ytx")
    np.testing.assert_array_equal(open_references(url).array.compute(), array.transpose(1, 0, 2))


# --- the document ---------------------------------------------------------------------------------


def test_fsspec_zarr_and_xarray_open_it_as_their_own_words_go(tmp_path: Path) -> None:
    array = write_files(tmp_path, (3, 20, 30))
    url = export(tmp_path, file_dims="zyx")
    filesystem = fsspec.filesystem("reference", fo=url, asynchronous=True)
    group = zarr.open_group(FsspecStore(filesystem, read_only=True), mode="r")
    np.testing.assert_array_equal(group["pixels"][...], array)
    options = {"fo": url}
    dataset = xr.open_dataset(
        "reference://",
        engine="zarr",
        backend_kwargs={"storage_options": options, "consolidated": False},
    )
    assert dataset.pixels.dims == ("t", "z", "y", "x")
    np.testing.assert_array_equal(dataset.pixels, array)


def test_the_driver_opens_it_with_coordinates_and_metadata(tmp_path: Path) -> None:
    array = write_files(tmp_path, (20, 30), count=3)
    source = intake.open_tiffstack(
        str(tmp_path / "*.tif"), pattern="a_t{t:d}.tif", scale={"y": 0.5, "x": 0.5}
    )
    copy = source.export(str(tmp_path / "refs.json"), format="references")
    np.testing.assert_array_equal(copy.read(), array)
    xr.testing.assert_equal(copy.to_xarray().drop_attrs(), source.to_xarray().drop_attrs())
    assert copy.metadata["scale"] == {"y": 0.5, "x": 0.5}
    again = intake.open_tiffstack_zarr(str(tmp_path / "refs.json"), sel={"t": 2})
    np.testing.assert_array_equal(again.read()[0], array[2])


def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_files(tmp_path, (20, 30))
    url = export(tmp_path)
    with pytest.raises(TargetExistsError, match=r"refs\.json exists already .*overwrite=True"):
        export(tmp_path)
    stack = open_stack(str(tmp_path / "*.tif"), pattern="a_t{t:d}.tif")
    stack.export(url, format="references", overwrite=True)
    assert list(tmp_path.glob("*.partial")) == []


def test_a_name_that_is_not_json_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, (20, 30))
    stack = open_stack(str(tmp_path / "*.tif"), pattern="a_t{t:d}.tif")
    with pytest.raises(OptionError, match=r"ends in \.json, or .* \.parquet, but got .*refs"):
        stack.export(str(tmp_path / "refs.zarr"), format="references")


def test_references_that_do_not_give_the_pixels_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, (20, 30))
    refer = references_writing.refer

    def shifted(*args: Any) -> dict[str, Any]:
        found = refer(*args)
        found["1.0.0"][1] += 2
        return found

    monkeypatch.setattr(references_writing, "refer", shifted)
    with pytest.raises(VerificationError, match="do not give the pixels of"):
        export(tmp_path)
    assert not (tmp_path / "refs.json").exists()


def write_two_series(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Write files of two images, and a document for each; they differ in offsets alone."""
    array, urls = RNG.integers(0, 99, (2, 2, 20, 30), dtype=np.uint16), []
    for t in range(2):
        with tifffile.TiffWriter(folder / f"a_t{t}.tif") as tif:
            for page in array[:, t]:
                tif.write(page, contiguous=False, metadata={"axes": "YX"})
    for series in range(2):
        urls.append(str(folder / f"series {series}.json"))
        stack = open_stack(str(folder / "*.tif"), pattern="a_t{t:d}.tif", series=series)
        stack.export(urls[-1], format="references")
    return array, urls


@pytest.mark.filterwarnings("ignore:.*1 more image")
def test_documents_that_differ_in_their_offsets_alone_are_different_arrays(tmp_path: Path) -> None:
    array, urls = write_two_series(tmp_path)
    found = dask.compute(*(open_references(url).array for url in urls))
    np.testing.assert_array_equal(found, array)


@pytest.mark.filterwarnings("ignore:.*1 more image")
def test_a_document_that_is_replaced_is_reported_by_what_was_opened_before(tmp_path: Path) -> None:
    array, (first, second) = write_two_series(tmp_path)
    old = open_references(first)
    np.testing.assert_array_equal(old.array.compute(), array[0])
    Path(first).write_bytes(Path(second).read_bytes() + b" ")
    with pytest.raises(FileChangedError, match="replaced since"):
        old.array.compute()
    np.testing.assert_array_equal(open_references(first).array.compute(), array[1])
    Path(first).unlink()
    with pytest.raises(FileChangedError, match="was removed"):
        old.array.compute()


@pytest.mark.filterwarnings("ignore:.*1 more image")
def test_a_document_that_could_not_be_used_is_looked_at_again(tmp_path: Path) -> None:
    array, (first, _) = write_two_series(tmp_path)
    good = Path(first).read_bytes()
    Path(first).write_text('{"version": 1, "refs": {}}')
    with pytest.raises(StorageError, match="none to an array"):
        open_references(first)
    Path(first).write_bytes(good)
    np.testing.assert_array_equal(open_references(first).array.compute(), array[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{no", "holds no references that can be used"),
        ('{"version": 1, "refs": {}}', "none to an array named 'pixels'"),
    ],
)
def test_a_document_that_is_none_is_reported(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(StorageError, match=message):
        open_references(tmp_path / "a.json")


def test_a_document_that_is_not_there_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(FilesNotFoundError, match=r"a\.json"):
        open_references(tmp_path / "a.json")


# --- in an object store ---------------------------------------------------------------------------


def test_on_s3_no_secret_is_written_and_options_open_it(
    tmp_path: Path, s3_server: S3Server
) -> None:
    array = write_files(tmp_path, (3, 64, 48), compression="zlib", predictor=2, tile=(32, 16))
    options = s3_server.storage_options
    filesystem = fsspec.filesystem("s3", **options)
    filesystem.makedirs("references-bucket", exist_ok=True)
    filesystem.put([str(p) for p in sorted(tmp_path.glob("*.tif"))], "references-bucket/raw/")
    stack = open_stack(
        "s3://references-bucket/raw/*.tif", pattern="a_t{t:d}.tif", storage_options=options
    )
    where = "s3://references-bucket/refs.json"
    stack.export(where, format="references", storage_options=options, verify="all")
    text = filesystem.cat_file("references-bucket/refs.json").decode()
    assert SECRET not in text
    assert KEY not in text
    assert "s3://references-bucket/raw/a_t0.tif" in text
    source = intake.open_tiffstack_zarr(where, storage_options=options)
    np.testing.assert_array_equal(source.read(), array)
    local = tmp_path / "here.json"
    local.write_text(text)
    elsewhere = intake.open_tiffstack_zarr(str(local), remote_options=options)
    with dask.config.set({"tiffstack.allow_references": ["s3://references-bucket"]}):
        np.testing.assert_array_equal(elsewhere.read(), array)
    assert SECRET not in repr(elsewhere) + elsewhere.yaml()


def test_a_document_is_parsed_once_however_many_blocks_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = write_files(tmp_path, (6, 5), count=8)
    opened = open_references(export(tmp_path)).array
    made, make = [], ReferenceFileSystem.__init__

    def count(self: Any, *args: Any, **options: Any) -> None:
        made.append(self)
        make(self, *args, **options)

    monkeypatch.setattr(ReferenceFileSystem, "__init__", count)
    for t in range(8):
        np.testing.assert_array_equal(opened[t].compute(scheduler="sync"), array[t])
    assert len(made) == 1


def test_headers_of_remote_files_are_read_side_by_side_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = write_files(tmp_path, (6, 5), count=12)
    folder = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(str(tmp_path), folder, recursive=True)
    stack = open_stack(f"{folder}/*.tif", pattern="a_t{t:d}.tif")
    stack.to_dask()
    meeting, read = threading.Barrier(4), CollectionReader.read_header

    def read_with_others(*args: Any, **options: Any) -> Any:
        meeting.wait(timeout=30)
        return read(*args, **options)

    monkeypatch.setattr(CollectionReader, "read_header", read_with_others)
    monkeypatch.setattr(each, "AHEAD", 4)
    stack.export(f"{folder}/refs.json", format="references", verify=False)
    np.testing.assert_array_equal(open_references(f"{folder}/refs.json").array.compute(), array)


def test_a_url_with_a_secret_in_it_is_refused() -> None:
    url = "https://me:word@host/a.tif"
    with pytest.raises(UnsupportedFileError, match=r"its URL may hold a secret") as caught:
        references_writing._plain_url(url)
    assert "word" not in str(caught.value)


def test_a_file_in_an_archive_is_refused() -> None:
    with pytest.raises(UnsupportedFileError, match="inside of an archive"):
        references_writing._plain_url("zip://a.tif::s3://bucket/raw.zip")


# -- Parquet, VirtualiZarr, and a last file that is shorter ---------------------------------------


by_fastparquet = pytest.mark.filterwarnings(
    "ignore:The 'fastparquet' engine is deprecated"  # by pandas; fsspec knows no other by itself
)


def manifests_of(url: str) -> Any:
    """Return the references as VirtualiZarr parses them, and check them against the document."""
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore
    from virtualizarr.parsers import KerchunkJSONParser, KerchunkParquetParser

    registry = ObjectStoreRegistry({"file://": LocalStore()})
    parser = KerchunkJSONParser if url.endswith(".json") else KerchunkParquetParser
    return parser()(url=f"file://{url}", registry=registry)


@by_fastparquet
@pytest.mark.parametrize("suffix", ["json", "parquet"])
@pytest.mark.parametrize("compression", ["zlib", "zstd", None])
@pytest.mark.parametrize("layout", [{"tile": (32, 16)}, {"rowsperstrip": 15}, {}])
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 spec")
def test_virtualizarr_parses_references_and_reads_the_pixels(
    tmp_path: Path, suffix: str, compression: Any, layout: dict[str, Any]
) -> None:
    array = write_files(tmp_path, (3, 45, 30), compression=compression, **layout)
    url = str(tmp_path / f"refs.{suffix}")
    stack = open_stack(str(tmp_path / "*.tif"), pattern="a_t{t:d}.tif")
    stack.export(url, format="references")
    found = zarr.open_group(manifests_of(url), mode="r")["pixels"]
    assert found.metadata.dimension_names == tuple(stack.dims)
    np.testing.assert_array_equal(found[:], array)


@by_fastparquet
@pytest.mark.parametrize("rows", [100_000, 4])
def test_parquet_holds_the_references_of_the_document(
    tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intake_tiffstack.references.parquet.RECORD_SIZE", rows)
    array = RNG.integers(0, 99, (3, 2, 45, 30), dtype=np.uint16)
    for t, c in ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1)):
        path = tmp_path / f"a_c{c}_t{t}.tif"
        tifffile.imwrite(path, array[t, c], compression="zlib", tile=(32, 16))
    array[1, 1] = 9  # no file, and no reference
    stack = open_stack(
        str(tmp_path / "*.tif"), pattern="a_c{c:d}_t{t:d}.tif", missing="fill", fill_value=9
    )
    url = str(tmp_path / "refs.parquet")
    stack.export(url, format="references", verify="all", sha256=True)
    fs = fsspec.filesystem("reference", fo=url, asynchronous=True)
    plain = zarr.open_group(FsspecStore(fs, read_only=True), mode="r")["pixels"]
    np.testing.assert_array_equal(plain[:], array)
    copy = open_references(url)
    np.testing.assert_array_equal(copy.array.compute(), array)
    np.testing.assert_array_equal(copy.coords["t"][1], [0, 1, 2])
    check = verify(url, pixels="all", sha256=True)
    assert check, check.problems
    count = len(list((tmp_path / "refs.parquet" / "pixels").iterdir()))
    assert count == -(-3 * 2 * 4 // rows)


def test_parquet_is_replaced_only_when_asked_and_nothing_else_is(tmp_path: Path) -> None:
    write_files(tmp_path, (45, 30))
    url = tmp_path / "refs.parquet"
    stack = open_stack(str(tmp_path / "*.tif"), pattern="a_t{t:d}.tif")
    stack.export(url, format="references")
    with pytest.raises(TargetExistsError):
        stack.export(url, format="references")
    stack.export(url, format="references", overwrite=True)
    (url / "notes.txt").write_text("mine")
    with pytest.raises(TargetExistsError, match=r"'notes.txt' in it"):
        stack.export(url, format="references", overwrite=True)
    assert (url / ".zmetadata").exists()


def test_parquet_may_name_files_in_its_own_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, other = tmp_path / "raw", tmp_path / "other"
    raw.mkdir()
    write_files(raw, (45, 30))
    stack = open_stack(str(raw / "*.tif"), pattern="a_t{t:d}.tif")
    stack.export(other / "refs.parquet", format="references")
    monkeypatch.setattr("intake_tiffstack.storage.reference_targets._OWN", set())
    with pytest.raises(StorageError, match="lies in another folder"):
        open_references(str(other / "refs.parquet"))


@pytest.mark.parametrize(
    "how", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"contiguous": False}]
)
@pytest.mark.parametrize("lengths", [(4, 4, 3), (4, 1), (6, 6, 4)])
def test_the_last_file_along_an_extended_dim_may_be_shorter(
    tmp_path: Path, how: dict[str, Any], lengths: tuple[int, ...]
) -> None:
    volume = RNG.integers(0, 200, (sum(lengths), 45, 30)).astype("u2")
    start = 0
    for i, n in enumerate(lengths):
        tifffile.imwrite(
            tmp_path / f"a_z{i}.tif",
            volume[start : start + n],
            photometric="minisblack",
            metadata={"axes": "ZYX"},
            **how,
        )
        start += n
    url = export(tmp_path, "a_z{z:d}.tif")
    np.testing.assert_array_equal(open_references(url).array.compute(), volume)


def test_tiles_of_a_last_file_that_is_lower_are_referred_to(tmp_path: Path) -> None:
    image = RNG.integers(0, 200, (32 + 32 + 21, 30)).astype("u2")
    for i, (start, stop) in enumerate([(0, 32), (32, 64), (64, 85)]):
        tifffile.imwrite(
            tmp_path / f"a_y{i}.tif", image[start:stop], tile=(16, 16), compression="zlib"
        )
    url = export(tmp_path, "a_y{y:d}.tif", concat_dim="y")
    np.testing.assert_array_equal(open_references(url).array.compute(), image)


# -- references that are replaced ------------------------------------------------------------------

IMAGES = np.arange(2 * 6 * 20 * 30, dtype=np.uint16).reshape(2, 6, 20, 30)


def write_images(folder: Path) -> None:
    """Write six files of two images each, whose references differ in offsets alone."""
    for t in range(6):
        with tifffile.TiffWriter(folder / f"a_t{t}.tif") as tif:
            for page in IMAGES[:, t]:
                tif.write(page, contiguous=False, metadata={"axes": "YX"})


def refer_to(folder: Path, image: int, url: Any, **options: Any) -> None:
    """Refer to one of the images, in parts of three chunks."""
    stack = open_stack(str(folder / "*.tif"), pattern="a_t{t:d}.tif", series=image)
    with (
        patch.object(parquet, "RECORD_SIZE", 3),
        warnings.catch_warnings(action="ignore"),  # of the other image
    ):
        stack.export(url, format="references", verify=False, progress=False, **options)


def image_of(url: Path) -> int:
    """Return which image is there: to this package, and to fsspec and Zarr alone."""
    document: Any = str(url)
    fs = fsspec.filesystem("reference", fo=document, asynchronous=True, skip_instance_cache=True)
    plain = zarr.open_group(FsspecStore(fs, read_only=True), mode="r")["pixels"][:]
    np.testing.assert_array_equal(open_references(document).array.compute(), plain)
    found = int(plain.flat[0] == IMAGES[1].flat[0])
    np.testing.assert_array_equal(plain, IMAGES[found])
    return found


def replace_killed(folder: Path, url: Path, number: int, can_exchange: bool) -> None:
    """Replace references by a process that is killed before its change of that number."""
    deadly = deadly_at(number)
    for name in ("write_document", "create_document", "remove", "remove_all", "take_place_of"):
        setattr(Folder, name, deadly(getattr(Folder, name)))
    if not can_exchange:
        ctypes.CDLL = lambda name: None  # type: ignore[assignment, misc]
    os.rename, os.unlink, os.replace = deadly(os.rename), deadly(os.unlink), deadly(os.replace)
    refer_to(folder, 1, url, overwrite=True)


@by_fastparquet
@pytest.mark.parametrize(
    ("suffix", "can_exchange"),
    [("json", True), ("parquet", True), ("parquet", False)],
    ids=["json", "exchange", "renames"],
)
def test_a_kill_at_any_change_leaves_the_old_or_the_new_references(
    tmp_path: Path, suffix: str, can_exchange: bool
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_images(raw)
    number, was_killed, missing, seen = 0, True, 0, set()
    while was_killed:
        number += 1
        url = tmp_path / str(number) / f"refs.{suffix}"
        refer_to(raw, 0, url)
        was_killed = run(replace_killed, raw, url, number, can_exchange) == -signal.SIGKILL
        if url.exists():
            seen.add(image_of(url))
        else:
            missing += 1
        refer_to(raw, 1, url, overwrite=True)
        assert image_of(url) == 1
        if suffix == "parquet":
            assert os.listdir(url.parent) == ["refs.parquet"]
            assert sorted(os.listdir(url)) == [".zmetadata", "pixels", "tiffstack-record.json"]
    assert number > (15 if suffix == "parquet" else 2)
    assert seen == {0, 1}
    assert missing == (0 if can_exchange else 1)


@by_fastparquet
def test_what_a_killed_writer_of_parquet_left_does_not_open_and_is_written_anew(
    tmp_path: Path,
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_images(raw)
    for number in (1, 4, 8):
        url = tmp_path / str(number) / "refs.parquet"
        assert run(replace_killed, raw, url, number, True) == -signal.SIGKILL
        with pytest.raises(FilesNotFoundError):
            open_references(str(url))
        refer_to(raw, 0, url)
        assert image_of(url) == 0


def replace_in_turns(folder: Path, url: Path, is_over: Any) -> None:
    """Replace references until the reader has seen enough, with longer and longer pauses."""
    image, pause = 0, 0.0
    while not is_over.wait(pause):
        image, pause = 1 - image, pause + 0.01
        refer_to(folder, image, url, overwrite=True)


@by_fastparquet
@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_readers_meanwhile_see_the_old_references_or_the_new_ones(
    tmp_path: Path, suffix: str
) -> None:
    raw, url = tmp_path / "raw", tmp_path / f"refs.{suffix}"
    raw.mkdir()
    write_images(raw)
    refer_to(raw, 0, url)
    is_over, seen = FORKS.Event(), list[int]()
    process = FORKS.Process(target=replace_in_turns, args=(raw, url, is_over))
    process.start()
    while (len(seen) < 20 or len(set(seen)) < 2) and process.is_alive():
        copy = open_references(str(url))
        try:
            found = copy.array.compute(scheduler="sync")
        except FileChangedError:  # between opening and reading
            continue
        seen.append(int(found.flat[0] == IMAGES[1].flat[0]))
        np.testing.assert_array_equal(found, IMAGES[seen[-1]])
    is_over.set()
    process.join()
    assert process.exitcode == 0
    process.close()
    assert set(seen) == {0, 1}


@by_fastparquet
def test_parquet_that_is_replaced_by_fewer_parts_while_it_is_opened_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, url = tmp_path / "raw", tmp_path / "refs.parquet"
    raw.mkdir()
    write_images(raw)
    refer_to(raw, 0, url)
    read = pyarrow.parquet.read_table

    def replace_and_read(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        (raw / "a_t5.tif").unlink()
        (raw / "a_t4.tif").unlink()
        (raw / "a_t3.tif").unlink()
        refer_to(raw, 1, url, overwrite=True)
        return read(*args, **options)

    monkeypatch.setattr(pyarrow.parquet, "read_table", replace_and_read)
    found = open_references(str(url)).array.compute()
    np.testing.assert_array_equal(found, IMAGES[1, :3])


def test_two_that_write_parquet_at_once_are_told_apart(tmp_path: Path) -> None:
    write_images(tmp_path)
    with serve_s3() as s3:
        s3.put("bkt", {"other": b""})
        for place, options in (
            (tmp_path / "refs.parquet", {}),
            ("s3://bkt/refs.parquet", s3.storage_options),
        ):
            refer_to(tmp_path, 0, place, storage_options=options)
            folder = Folder.at(place, options)
            with (
                hold(folder, {}, last_claim(folder)),
                pytest.raises(TargetBusyError, match="is writing"),
            ):
                refer_to(tmp_path, 1, place, storage_options=options, overwrite=True)
            refer_to(tmp_path, 1, place, storage_options=options, overwrite=True)


@by_fastparquet
def test_in_a_store_nothing_opens_while_parquet_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path)
    seen = []
    with serve_s3() as s3:
        s3.put("bkt", {"other": b""})
        where, options = "s3://bkt/refs.parquet", s3.storage_options
        refer_to(tmp_path, 0, where, storage_options=options)
        before = open_references(where, options, remote_options={})
        write = Folder.write_document

        def write_and_look(self: Folder, key: str, content: bytes) -> None:
            write(self, key, content)
            if key.endswith(".parq"):
                with pytest.raises(FileChangedError):
                    before.array.compute(scheduler="sync")
                with pytest.raises(FilesNotFoundError):
                    open_references(where, options, remote_options={})
                seen.append(key)

        monkeypatch.setattr(Folder, "write_document", write_and_look)
        refer_to(tmp_path, 1, where, storage_options=options, overwrite=True)
        assert len(seen) == 2
        after = open_references(where, options, remote_options={})
        np.testing.assert_array_equal(after.array.compute(), IMAGES[1])


def test_of_two_that_create_a_document_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path)
    refer = references_writing.refer

    def overtaken(*args: Any) -> dict[str, Any]:
        (tmp_path / "refs.json").write_text("another writer was faster")
        return refer(*args)

    monkeypatch.setattr(references_writing, "refer", overtaken)
    with pytest.raises(TargetExistsError, match=r"refs\.json exists already"):
        refer_to(tmp_path, 0, tmp_path / "refs.json")
    assert (tmp_path / "refs.json").read_text() == "another writer was faster"
