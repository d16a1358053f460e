"""Whether a copy still holds: what has changed is named, and what is done then is asked for."""

# ruff: noqa: F811 - pytest hands fixtures in by their names

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from intake_tiffstack import TiffStack, TiffStackSource
from intake_tiffstack.errors import FileChangedError, TiffStackError, TiffStackWarning
from intake_tiffstack.persist import CollectionCopies, pixel_key
from intake_tiffstack.storage.file_changes import describe_changes
from intake_tiffstack.storage.files import File, FileTable
from persist_scans import (  # noqa: F401 - fixtures
    PATTERN,
    WAVES,
    open_scan,
    scan,
    source,
    store,
    write_file,
    write_scan,
)
from servers import S3Server, serve_files


def touch(raw: Path) -> None:
    os.utime(raw / "c0_t0_488nm.tif", ns=(1, 1))


def grow(raw: Path) -> None:
    with (raw / "c1_t2_561nm.tif").open("ab") as file:
        file.write(b"more")


def add(raw: Path, t: int = 3) -> None:
    for c in range(2):
        write_file(raw / f"c{c}_t{t}_{WAVES[c]}nm.tif", np.full((4, 8, 6), 4 + t, np.uint16))


def remove(raw: Path) -> None:
    for c in range(2):
        (raw / f"c{c}_t2_{WAVES[c]}nm.tif").unlink()


def rewrite(raw: Path) -> None:
    write_file(raw / "c0_t0_488nm.tif", np.full((4, 8, 6), 9, np.uint16))


CHANGES = pytest.mark.parametrize(
    ("change", "reported"),
    [
        (touch, r"1 changed \(c0_t0_488nm.tif: time of last change\)$"),
        (grow, r"1 changed \(c1_t2_561nm.tif: size (\d+) to (\d+)\)$"),
        (add, r"2 new \(c0_t3_488nm.tif, c1_t3_561nm.tif\)$"),
        (remove, r"2 gone \(c0_t2_488nm.tif, c1_t2_561nm.tif\)$"),
        (rewrite, r"1 changed \(c0_t0_488nm.tif: time of last change\)$"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)


@CHANGES
def test_files_are_read_where_they_changed(
    source, tmp_path, change: Callable[[Path], None], reported
):
    source.persist()
    change(tmp_path / "raw")
    with pytest.warns(
        TiffStackWarning, match="is stale, the files are read: of its files " + reported
    ):
        array = source.to_dask()
    expected = open_scan(tmp_path / "raw", persist_mode="never").read()
    np.testing.assert_array_equal(array.compute(), expected)
    assert source.metadata["shape"] == list(expected.shape)


@CHANGES
def test_the_copy_is_used_all_the_same_where_that_is_asked_for(
    source, scan, tmp_path, change, reported
):
    source.persist()
    change(tmp_path / "raw")
    with pytest.warns(TiffStackWarning, match="is stale, it is used all the same: .*" + reported):
        np.testing.assert_array_equal(source(on_stale="use").read(), scan)
    np.testing.assert_array_equal(source(persist_mode="always").read(), scan)


@CHANGES
def test_it_is_an_error_where_that_is_asked_for(source, tmp_path, change, reported):
    source.persist()
    change(tmp_path / "raw")
    with pytest.raises(
        FileChangedError, match=r"is stale, persist\(\) makes a new one: .*" + reported
    ):
        source(on_stale="error").to_dask()


@CHANGES
def test_the_copy_is_made_anew_where_that_is_asked_for(source, tmp_path, change, reported):
    source.persist(chunks=(1, 1, 4, 8, 6))
    change(tmp_path / "raw")
    with pytest.warns(TiffStackWarning, match="is stale, it is made anew: .*" + reported):
        array = source(on_stale="refresh").to_dask()
    expected = open_scan(tmp_path / "raw", persist_mode="never").read()
    np.testing.assert_array_equal(array.compute(), expected)
    np.testing.assert_array_equal(source.read(), expected)  # and no warning any more
    blocks = source._in_use.collection.granule
    assert blocks == (1, 1, 4, 8, 6), "written as the one before"


def test_a_copy_holds_again_when_its_files_are_back(source, scan, tmp_path):
    source.persist()
    shutil.move(tmp_path / "raw" / "c0_t2_488nm.tif", tmp_path)
    with pytest.warns(TiffStackWarning, match="1 gone"), pytest.raises(TiffStackError):
        source.to_dask()  # a hole
    shutil.move(tmp_path / "c0_t2_488nm.tif", tmp_path / "raw")
    np.testing.assert_array_equal(source.read(), scan)


def test_what_does_not_take_part_is_no_change(source, scan, tmp_path):
    source.persist()
    (tmp_path / "raw" / "notes.tif").write_bytes(b"no TIFF")  # the pattern does not match
    (tmp_path / "raw" / ".hidden.tif").write_bytes(b"no TIFF")
    np.testing.assert_array_equal(source.read(), scan)


def test_none_of_the_names_matches_any_more(source, scan, tmp_path):
    source.persist()
    for path in (tmp_path / "raw").iterdir():
        path.rename(path.with_name(f"old_{path.name}"))
    with pytest.warns(
        TiffStackWarning, match="is stale, it is used .* of its files none is left: "
    ):
        np.testing.assert_array_equal(source(on_stale="use").read(), scan)
    with pytest.warns(TiffStackWarning, match="is stale"), pytest.raises(TiffStackError):
        source.to_dask()


# --- its time is over ---------------------------------------------------------------------------


def test_a_copy_is_used_until_its_time_is_over(source, scan):
    source.persist(ttl=np.int64(3600))
    np.testing.assert_array_equal(source.read(), scan)
    source.persist(ttl=0)
    with pytest.warns(TiffStackWarning, match="the files are read: it expired at 2"):
        source.to_dask()
    np.testing.assert_array_equal(source.get_persisted().read(), scan)  # asked for by name
    with pytest.warns(TiffStackWarning, match="it is made anew: it expired"):
        source(on_stale="refresh").to_dask()
    with pytest.warns(TiffStackWarning, match="expired"):  # its time is as short as before
        source.to_dask()
    source.persist()
    np.testing.assert_array_equal(source.read(), scan)


def test_both_reasons_are_reported(source, tmp_path):
    source.persist(ttl=0)
    touch(tmp_path / "raw")
    with pytest.warns(TiffStackWarning, match=r"it expired at .*; of its files 1 changed"):
        source.to_dask()


# --- files that cannot be reached ---------------------------------------------------------------


@pytest.mark.parametrize("on_stale", ["original", "refresh", "error"])
def test_the_copy_serves_where_the_folder_is_gone(source, scan, tmp_path, on_stale):
    source.persist(ttl=0)
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    away = source(on_stale=on_stale, scale={"z": 3}, chunks="file")
    with pytest.warns(TiffStackWarning, match="used unchecked, since the files cannot be reached"):
        array = away.to_dask()
    np.testing.assert_array_equal(array.compute(), scan)
    with pytest.warns(TiffStackWarning, match="cannot be reached"):
        labelled = away.to_xarray()
    assert labelled.z.values.tolist() == [0, 3, 6, 9]
    assert labelled.wave.values.tolist() == list(WAVES)
    assert array.numblocks == (2, 3, 1, 1, 1)


def test_the_copy_serves_where_a_store_is_gone(store, tmp_path):
    pixels = write_scan(tmp_path / "raw")
    name = uuid.uuid4().hex
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "raw"), f"/{name}/raw", recursive=True)
    source = open_scan(f"memory://{name}/raw")
    source.persist()
    np.testing.assert_array_equal(source.read(), pixels)
    assert memory.rm(f"/{name}", recursive=True) is None
    with pytest.warns(TiffStackWarning, match="cannot be reached"):
        np.testing.assert_array_equal(source.read(), pixels)
    assert not [key for key in MemoryFileSystem.store if name in key]


def test_files_in_a_bucket_are_known_by_their_etags(s3_server: S3Server, store, tmp_path):
    pixels = write_scan(tmp_path / "raw")
    files = {f"raw/{path.name}": path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    s3_server.put("stale", files)
    source = open_scan("s3://stale/raw", storage_options=s3_server.storage_options)
    source.persist()
    s3_server.put("stale", files)  # the same once more: another time, the same content
    np.testing.assert_array_equal(source.read(), pixels)
    assert s3_server.reads == [], "pixels were asked for"
    other = dict(files)
    other["raw/c0_t0_488nm.tif"] = files["raw/c0_t0_488nm.tif"][:-2] + b"xx"
    s3_server.put("stale", other)
    with pytest.warns(TiffStackWarning, match=r"c0_t0_488nm.tif: ETag \S+ to \S+\)"):
        source.to_dask()
    s3_server.refuses = lambda request: 403
    with pytest.warns(TiffStackWarning, match="cannot be reached: .*PermissionError"):
        np.testing.assert_array_equal(source.read(), pixels)


def test_it_is_reported_where_nothing_proves_that_files_stayed_the_same(store, tmp_path):
    pixels = write_scan(tmp_path / "raw")
    files = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    with serve_files(files, has_etags=False, modified="") as server:
        urls = [f"{server.url}/{name}" for name in sorted(files)]
        options = {"pattern": PATTERN, "concat_dim": ["c", "t"], "file_dims": "zyx"}
        source = TiffStackSource(urls, **options)
        source.persist()
        message = r"whether 6 of its 6 files changed is unknown: their server gives neither"
        with pytest.warns(TiffStackWarning, match=message):
            np.testing.assert_array_equal(source.read(), pixels)


def test_the_warning_is_at_the_line_of_the_user(source):
    source.persist(ttl=0)
    for use in (source.to_dask, source.to_xarray, source.discover, source.read):
        with pytest.warns(TiffStackWarning, match="expired") as warned:
            use()
        assert {warning.filename for warning in warned} == {__file__}


# --- what is reported ---------------------------------------------------------------------------


def table(*files: tuple[str, int, int, str | None]) -> FileTable:
    return FileTable.from_files([File(*file) for file in files])


@pytest.mark.parametrize(
    ("before", "now", "reported"),
    [
        ([("/a", 1, 5, None)], [("/a", 1, 5, None)], None),
        ([("http://h/a", 1, -1, '"x"')], [("http://h/a", -1, -1, 'W/"x"')], None),
        ([("/a", 1, 5, None)], [("/a", 2, 5, None)], "1 changed (a: size 1 to 2)"),
        ([("s3://b/a", 1, -1, '"x"')], [("s3://b/a", 1, -1, '"y"')],
         '1 changed (a: ETag "x" to "y")'),
        ([("/d/a", 1, 5, None)], [("/e/a", 1, 5, None)], "1 new (a), 1 gone (a)"),
        ([("http://h/a?key=***", 1, 5, None), ("http://h/a?key=***", 1, 5, None)],
         [("http://h/a?key=***", 2, 5, None), ("http://h/a?key=***", 1, 5, None)],
         "1 changed (a?key=***: size 1 to 2)"),
        ([("/a", 1, 5, None)], [(f"/b{i:04}", 1, 5, None) for i in range(1200)],
         "1,200 new (b0000, ... b1199 (1200 in all)), 1 gone (a)"),
    ],
    ids=["the same", "weak tag", "size", "tag", "moved", "alike", "many"],
)  # fmt: skip
def test_changes_are_reported_in_one_line(before, now, reported):
    assert describe_changes(table(*before), table(*now)) == reported


def test_the_array_that_was_opened_stays_what_it_was(source, scan, tmp_path):
    source.persist()
    array = source.to_dask()
    add(tmp_path / "raw")
    np.testing.assert_array_equal(array.compute(), scan)


def test_sources_share_what_was_listed_and_none_reads_old_files(source, tmp_path):
    """Files that change between two uses are listed anew, also where they were open before."""
    assert isinstance(source, TiffStackSource)
    source(persist_mode="never").to_dask()
    source.to_dask()
    source.persist()
    rewrite(tmp_path / "raw")
    with pytest.warns(TiffStackWarning, match="1 changed"):
        pixels = source.read()
    assert (pixels[0, 0] == 9).all()


# -- extend --------------------------------------------------------------------------------------


def chunk_times(store: Path) -> dict[str, int]:
    """Return when each chunk in a store was written."""
    return {
        str(path.relative_to(store)): path.stat().st_mtime_ns
        for path in store.rglob("c/**/*")
        if path.is_file()
    }


def test_a_copy_is_extended_by_what_has_arrived(source, scan, store, tmp_path):
    source.persist(chunks=(1, 1, 4, 8, 6))
    opened = source.to_dask()
    written = chunk_times(store)
    add(tmp_path / "raw")
    with pytest.warns(TiffStackWarning, match=r"is stale, it is extended: of its files 2 new"):
        array = source(on_stale="extend").to_dask()
    expected = open_scan(tmp_path / "raw", persist_mode="never").read()
    np.testing.assert_array_equal(array.compute(), expected)
    assert array.name != opened.name
    np.testing.assert_array_equal(opened.compute(), scan)  # what it was
    assert chunk_times(store).items() >= written.items()
    assert len(chunk_times(store)) == len(written) + 2
    np.testing.assert_array_equal(source.read(), expected)  # and no warning any more
    np.testing.assert_array_equal(source(persist_mode="always").to_xarray().t, range(4))


@pytest.mark.parametrize("change", [touch, grow, remove, rewrite])
def test_a_change_that_is_no_arrival_cannot_extend(source, scan, tmp_path, change):
    source.persist()
    change(tmp_path / "raw")
    with (
        pytest.warns(TiffStackWarning, match="it is extended"),
        pytest.raises(FileChangedError, match="extended"),
    ):
        source(on_stale="extend").to_dask()
    np.testing.assert_array_equal(source(persist_mode="always").read(), scan)


def test_pixels_that_were_added_and_not_published_count_once_they_are(
    source, scan, tmp_path, monkeypatch
):
    source.persist()
    add(tmp_path / "raw")

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CollectionCopies, "publish", die)
        with pytest.warns(TiffStackWarning), pytest.raises(KeyboardInterrupt):
            source(on_stale="extend").to_dask()
    np.testing.assert_array_equal(source(persist_mode="always").read(), scan)
    with pytest.warns(TiffStackWarning, match="it is extended"):
        array = source(on_stale="extend").to_dask()
    assert array.shape[1] == 4
    np.testing.assert_array_equal(
        array.compute(), open_scan(tmp_path / "raw", persist_mode="never").read()
    )


@pytest.mark.parametrize("where", [(TiffStack, "export"), (CollectionCopies, "publish_extended")])
@pytest.mark.filterwarnings("ignore:.*it is extended")
def test_who_is_overtaken_while_extending_takes_the_longer_copy(
    source, store, tmp_path, monkeypatch, where
):
    source.persist()
    raw = tmp_path / "raw"
    add(raw, t=3)
    plain = getattr(*where)

    def overtaken(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setenv("INTAKE_PERSIST_PATH", str(store))
        add(raw, t=4)
        assert open_scan(raw, on_stale="extend").to_dask().shape[1] == 5
        return plain(*args, **options)

    monkeypatch.setattr(*where, overtaken)
    array = source(on_stale="extend").to_dask()
    expected = open_scan(raw, persist_mode="never").read()
    np.testing.assert_array_equal(array.compute(), expected)
    np.testing.assert_array_equal(source(persist_mode="always").read(), expected)


def test_a_time_limit_does_not_bring_back_a_shorter_copy(source, scan, store, tmp_path):
    source.persist()
    copies = CollectionCopies.of(pixel_key(source.options))
    before = copies.current()
    add(tmp_path / "raw")
    with pytest.warns(TiffStackWarning, match="it is extended"):
        source(on_stale="extend").to_dask()
    assert copies.extend(before, 60.0) == copies.current()
    assert source(persist_mode="always").to_dask().shape[1] == 4
