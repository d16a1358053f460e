"""Where copies lie, and that no process spoils what another reads or writes."""

# ruff: noqa: F811 - pytest hands fixtures in by their names

from __future__ import annotations

import gzip
import json
import logging
import math
import signal
import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dask
import fsspec
import fsspec.config
import intake
import numcodecs
import numpy as np
import pytest
import zarr.codecs

from intake_tiffstack import TiffStackSource, open_stack
from intake_tiffstack.collection.examination import Examination
from intake_tiffstack.collection.open import open_collection
from intake_tiffstack.copies.claim import hold
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    StorageError,
    TiffStackWarning,
)
from intake_tiffstack.persist import CollectionCopies, pixel_key, prune
from intake_tiffstack.persist.file_record import pack_seen, unpack_seen
from intake_tiffstack.persist.store import find_store
from intake_tiffstack.storage.file_changes import without_secrets
from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.structure import OtherSeries, Packing
from persist_scans import (  # noqa: F401 - fixtures
    PATTERN,
    finish,
    open_scan,
    persist_and_read,
    persist_half,
    scan,
    source,
    start,
    store,
    write_file,
    write_scan,
)
from servers import S3Server, serve_files, serve_s3


def copies_of(source: TiffStackSource) -> CollectionCopies:
    return CollectionCopies.of(pixel_key(source.options))


def generations(source: TiffStackSource) -> list[str]:
    """Return the folders of a source's generations, oldest first."""
    copies = copies_of(source)
    return sorted(name for name in copies.store.names(copies.key) if name != "current.json")


def choose_no_store(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Leave it to Intake's configuration, in *folder*, which names no store."""
    monkeypatch.delenv("INTAKE_PERSIST_PATH", raising=False)
    monkeypatch.delitem(intake.config.conf, "persist_path", raising=False)  # Intake took it there
    monkeypatch.setattr("intake.config.confdir", str(folder))


# --- where it is --------------------------------------------------------------------------------


def test_the_store_is_where_somebody_said(monkeypatch, tmp_path):
    choose_no_store(monkeypatch, tmp_path / "conf")
    assert find_store() == (f"{tmp_path}/conf/persisted", False)
    monkeypatch.setitem(intake.config.conf, "persist_path", str(tmp_path / "two/"))
    assert find_store() == (f"{tmp_path}/two", True)
    monkeypatch.setenv("INTAKE_PERSIST_PATH", "s3://bucket/store/")
    assert find_store() == ("s3://bucket/store", True)
    monkeypatch.setenv("INTAKE_PERSIST_PATH", "~/store")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_store() == (f"{tmp_path}/store", True)


def test_a_large_copy_is_refused_where_nobody_chose_a_store(source, scan, monkeypatch, tmp_path):
    choose_no_store(monkeypatch, tmp_path / "conf")
    with dask.config.set({"tiffstack.persist_limit": scan.nbytes - 1}):
        with pytest.raises(StorageError, match=r"2.25 kiB are more than persist_limit .*/conf/"):
            source.persist()
        assert not (tmp_path / "conf").exists()
        monkeypatch.setitem(intake.config.conf, "persist_path", str(tmp_path / "chosen"))
        source.persist()
    monkeypatch.delitem(intake.config.conf, "persist_path")
    assert not source.has_been_persisted
    with dask.config.set({"tiffstack.persist_limit": scan.nbytes}):
        source.persist()
    assert (tmp_path / "conf" / "persisted").is_dir()


def test_a_store_in_memory(source, scan, monkeypatch):
    monkeypatch.setenv("INTAKE_PERSIST_PATH", f"memory://{uuid.uuid4().hex}/store")
    source.persist()
    source.repersist()
    source.repersist()
    assert len(generations(source)) == 3
    assert len(prune(0)) == 2
    assert len(generations(source)) == 1
    np.testing.assert_array_equal(source.get_persisted().read(), scan)
    source.unpersist()
    assert not source.has_been_persisted
    assert generations(source) == []


def test_a_store_in_a_bucket(source, scan, monkeypatch, s3_server: S3Server):
    s3_server.put("shelves", {"other": b"x"})
    monkeypatch.setenv("INTAKE_PERSIST_PATH", "s3://shelves/store")
    with dask.config.set({"tiffstack.persist_storage_options": s3_server.storage_options}):
        source.persist()
        source.repersist()
        source.repersist()
        assert len(prune(0)) == 2
        assert len(generations(source)) == 1
        s3_server.requests.clear()
        array = source.to_dask()
        assert len(s3_server.requests) < 12
        np.testing.assert_array_equal(array.compute(), scan)
        source.unpersist()
        fs = fsspec.filesystem("s3", **s3_server.storage_options)
        fs.invalidate_cache()
        assert fs.find("shelves") == ["shelves/other"]
        assert not source.has_been_persisted


def test_the_options_of_the_store_must_be_a_mapping(source):
    with (
        dask.config.set({"tiffstack.persist_storage_options": "anon"}),
        pytest.raises(OptionError, match="persist_storage_options must be a mapping"),
    ):
        source.persist()


def test_files_are_read_where_the_store_cannot_be(monkeypatch, source, scan, s3_server: S3Server):
    s3_server.put("gone", {"x": b"x"})
    options = {**s3_server.storage_options, "config_kwargs": {"retries": {"max_attempts": 0}}}
    monkeypatch.setenv("INTAKE_PERSIST_PATH", "s3://gone/store")
    with dask.config.set({"tiffstack.persist_storage_options": options}):
        source.persist()
        np.testing.assert_array_equal(source.read(), scan)
        s3_server.refuses = lambda request: 403
        reported = "the persisted copy cannot be read, and the files are: "
        with pytest.warns(TiffStackWarning, match=reported):
            np.testing.assert_array_equal(source.read(), scan)
        with pytest.raises(StorageError, match="s3://gone/store"):
            source(persist_mode="always").to_dask()


def test_the_copy_serves_where_the_server_of_the_files_is_stopped(store, tmp_path):
    pixels = write_scan(tmp_path / "raw")
    with serve_s3() as server:
        server.put("raw", {f"a/{p.name}": p.read_bytes() for p in (tmp_path / "raw").iterdir()})
        options = {**server.storage_options, "config_kwargs": {"retries": {"max_attempts": 0}}}
        source = open_scan("s3://raw/a", storage_options=options)
        source.persist()
    with pytest.warns(TiffStackWarning, match="the files cannot be reached: .*s3://raw/a"):
        np.testing.assert_array_equal(source.read(), pixels)


# --- generations --------------------------------------------------------------------------------


def test_persist_returns_a_copy_that_holds(source, scan, tmp_path, capsys):
    source.persist()
    (name,) = generations(source)
    capsys.readouterr()
    for again in (source, open_scan(tmp_path / "raw")):
        np.testing.assert_array_equal(again.persist().read(), scan)
        again.persist(verify="sample", zarr_format=3)  # the defaults
    assert generations(source) == [name]
    assert capsys.readouterr().out == ""
    source.persist(ttl=3600)
    limited = copies_of(source).current()
    assert (limited.name, limited.ttl) == (name, 3600)
    source.persist()
    assert copies_of(source).current().expires is None


@pytest.mark.parametrize("reason", ["file", "options", "expired", "damaged", "asked"])
def test_persist_writes_a_new_copy_where_the_old_one_does_not_hold(
    source, scan, tmp_path, reason, recwarn
):
    source.persist()
    (name,) = generations(source)
    options: dict[str, Any] = {}
    if reason == "file":
        scan = scan.copy()
        scan[1, 2] = 5
        write_file(tmp_path / "raw" / "c1_t2_561nm.tif", scan[1, 2])
    elif reason == "options":
        options = {"chunks": (1, 1, 4, 8, 6)}
    elif reason == "expired":
        source.persist(ttl=0)
    elif reason == "damaged":
        Path(copies_of(source).pixels_url(name), "zarr.json").unlink()
    source.repersist() if reason == "asked" else source.persist(**options)
    current = copies_of(source).current()
    assert current.name[:6] == "000002"
    np.testing.assert_array_equal(source.get_persisted().read(), scan)


def test_superseded_generations_stay_for_their_readers(source, scan, tmp_path):
    source.persist()
    arrays = [source.to_dask()]
    for _ in range(3):
        source.repersist()
        arrays.append(source.to_dask())
    assert [name[:6] for name in generations(source)] == [f"00000{n}" for n in (1, 2, 3, 4)]
    assert prune() == prune(3600) == []
    for array in arrays:
        np.testing.assert_array_equal(array.compute(), scan)
    marker = Path(copies_of(source).url, generations(source)[0], "superseded")
    hours_ago = datetime.fromisoformat(marker.read_text()) - timedelta(hours=25)
    marker.write_text(hours_ago.isoformat())
    source.repersist()
    assert [name[:6] for name in generations(source)] == [f"00000{n}" for n in (2, 3, 4, 5)]
    with pytest.raises(FileChangedError, match="was removed since this array was made from it"):
        arrays[0].compute()
    np.testing.assert_array_equal(arrays[1].compute(), scan)
    with dask.config.set({"tiffstack.persist_grace": "0 s"}):
        assert len(prune()) == 3
    assert [name[:6] for name in generations(source)] == ["000005"]
    assert len({array.name for array in arrays}) == 4
    np.testing.assert_array_equal(source.read(), scan)


def test_a_mark_that_is_damaged_is_named(source):
    source.persist()
    source.repersist()
    marker = Path(copies_of(source).url, generations(source)[0], "superseded")
    marker.write_text("yesterday")
    with pytest.raises(StorageError, match=r"superseded is damaged: .*; remove this file"):
        prune()
    source.repersist()  # it only warns in the log
    assert copies_of(source).current().name[:6] == "000003"


@pytest.mark.parametrize("grace", ["long", -1, None])
def test_a_grace_that_is_not_a_time_is_refused(source, grace):
    source.persist()
    config = dask.config.set({"tiffstack.persist_grace": grace})
    with config, pytest.raises(OptionError, match="persist_grace must"):
        prune()


def test_a_copy_made_anew_after_unpersist_is_another_array(source, scan):
    source.persist()
    first = source.to_dask()
    source.unpersist()
    source.persist()
    assert [name[:6] for name in generations(source)] == ["000001"]
    assert source.to_dask().name != first.name
    np.testing.assert_array_equal(source.read(), scan)


@pytest.mark.parametrize(
    "options",
    [
        {"compressor": numcodecs.Blosc("lz4", clevel=1), "chunks": (1, 3, 1, 8, 6)},
        {"compressor": zarr.codecs.GzipCodec(level=2), "shards": (2, 3, 4, 8, 6)},
        {"compressor": None, "zarr_format": 2},
        {"compressor": {"id": "zstd", "level": 1}, "verify": "all"},
    ],
    ids=["numcodecs", "zarr", "none", "config"],
)
def test_repersist_writes_as_it_was_written(source, scan, options: dict[str, Any]):
    def stored() -> str:
        copies = copies_of(source)
        name = copies.current().name
        found = zarr.open_array(copies.pixels_url(name), mode="r")
        reported = found.metadata.to_dict()
        reported.pop("attributes", None)
        return repr(reported)

    source.persist(ttl=3600, **options)
    first = stored()
    persisted = source.repersist()
    assert stored() == first
    assert copies_of(source).current().ttl == 3600
    assert copies_of(source).current().number == 2
    assert persisted.is_persisted
    np.testing.assert_array_equal(persisted.read(), scan)
    source.repersist(chunks=(1, 1, 1, 8, 6), shards=None)
    assert stored() != first


def test_unpersist_leaves_a_writer_alone(source):
    source.persist()
    copies = copies_of(source)
    other = "000007-ffff"
    place = Folder.at(copies.pixels_url(other))
    with hold(place, {"token": "x", "arrays": []}, None):
        source.unpersist()
        assert generations(source) == [other]
    source.unpersist()
    assert generations(source) == []


def test_what_is_left_of_a_generation_is_no_copy(source, scan):
    """Cut while it was removed: its documents may stand, its chunks not."""
    source.persist()
    copies = copies_of(source)
    (name,) = generations(source)
    Path(copies.url, "current.json").unlink()
    Path(copies.url, name, "removed").write_bytes(b"")
    for path in Path(copies.url).rglob("c/**/*"):
        if path.is_file():
            path.unlink()
    source.persist()
    assert generations(source) == [name], "the same files, the same name"
    np.testing.assert_array_equal(source.get_persisted().read(), scan)


def test_a_copy_that_was_finished_and_not_published_is_taken(source, scan, capsys):
    source.persist()
    copies = copies_of(source)
    Path(copies.url, "current.json").unlink()
    assert not source.has_been_persisted
    seen: list[int] = []
    source.persist(progress=lambda done, total: seen.append(done))
    assert seen == [], "it was written again"
    np.testing.assert_array_equal(source.get_persisted().read(), scan)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", "current.json is damaged"),
        (b"[]", "current.json is damaged"),
        (b'{"version": 1}', "current.json is damaged"),
        (b'{"version": 2}', "is of version 2, and this version of intake-tiffstack reads 1"),
    ],
    ids=["cut", "a list", "empty", "later"],
)
def test_a_damaged_publication_is_reported_and_the_files_are_read(source, scan, content, match):
    source.persist()
    Path(copies_of(source).url, "current.json").write_bytes(content)
    with pytest.warns(TiffStackWarning, match=match):
        np.testing.assert_array_equal(source.read(), scan)
    with pytest.raises(StorageError, match=match):
        source(persist_mode="always").to_dask()
    source.unpersist()
    assert generations(source) == []
    source.persist()
    np.testing.assert_array_equal(source.get_persisted().read(), scan)


def damage_document(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def store_another_shape(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"shape": [\n    2,', b'"shape": [\n    3,'))


@pytest.mark.parametrize(
    ("part", "change", "error"),
    [
        ("seen.json.gz", Path.unlink, "seen.json.gz is gone"),
        ("seen.json.gz", damage_document, "seen.json.gz is damaged"),
        ("pixels.zarr/zarr.json", Path.unlink, "no longer there"),
        ("pixels.zarr/zarr.json", damage_document, "pixels.zarr is damaged"),
        ("pixels.zarr/zarr.json", store_another_shape, r"has \(3, 3, 4, 8, 6\) uint16, but what"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_files_are_read_where_the_copy_is_spoilt(source, scan, part, change, error):
    source.persist()
    (name,) = generations(source)
    change(Path(copies_of(source).url, name, part))
    with pytest.warns(TiffStackWarning, match=f"copy cannot be read, and the files are: .*{error}"):
        np.testing.assert_array_equal(source.read(), scan)
    with pytest.raises((FilesNotFoundError, StorageError), match=error):
        source(persist_mode="always").to_dask()
    source.persist()
    np.testing.assert_array_equal(source.get_persisted().read(), scan)


@pytest.mark.parametrize(
    "how",
    [{}, {"shards": (2, 3, 4, 8, 6)}, {"zarr_format": 2}, {"compressor": zarr.codecs.GzipCodec()}],
    ids=["blosc", "shards", "v2", "gzip"],
)
def test_a_chunk_that_is_lost_is_no_zeros(source, how):
    source.persist(**{"chunks": (1, 1, 4, 8, 6), **how})
    array = source.to_dask()
    (name,) = generations(source)
    parts = Path(copies_of(source).url, name, "pixels.zarr").rglob("*")
    chunks = [path for path in parts if path.is_file() and path.name[0] not in "z."]
    chunks[-1].unlink()
    with pytest.raises(FileChangedError, match="or a part of it is lost"):
        array.compute()


def test_other_credentials_are_used_from_then_on(source, monkeypatch, s3_server: S3Server):
    s3_server.put("rotated", {"x": b"x"})
    monkeypatch.setenv("INTAKE_PERSIST_PATH", "s3://rotated/store")
    for key in ("first", "second"):
        options = {**s3_server.storage_options, "key": key}
        with dask.config.set({"tiffstack.persist_storage_options": options}):
            if key == "first":
                source.persist()
            source.to_dask()
        assert source._in_use.collection.array.storage_options["key"] == key


def test_what_a_copy_remembers_comes_back(source, tmp_path):
    seen = source.stack.collection.discovery
    found = unpack_seen(pack_seen(seen), "here")
    assert found.listing == replace(seen.listing, files=without_secrets(seen.listing.files))
    assert found.structures == seen.structures
    assert found.described == seen.described
    assert pack_seen(found) == pack_seen(seen)
    again = open_collection(Examination(source.options, found))
    assert again.metadata == source.stack.collection.metadata
    other = OtherSeries(1, "preview", (4, 3), "uint8", ("y", "x"), True)
    rest = {"others": (other,), "packing": Packing(math.nan, (0.1, 0.2), (1.0,))}
    kinds = {row: replace(kind, **rest) for row, kind in seen.structures.items()}
    with_others = pack_seen(replace(seen, structures=kinds))
    assert repr(unpack_seen(with_others, "here").structures) == repr(kinds)  # NaN is not NaN
    for damaged in (b"", pack_seen(seen)[:-9], b"\x1f\x8b"):
        with pytest.raises(StorageError, match="here is damaged"):
            unpack_seen(damaged, "here")


# --- many processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["six alike", "three, each otherwise"])
def test_many_processes_persist_at_once(source, scan, tmp_path, how):
    options = (
        [{}] * 6 if how == "six alike" else [{"chunks": (1, 1, n, 8, 6)} for n in (1, 2, 4)] * 2
    )
    started = [
        start(persist_and_read, tmp_path / "raw", ("auto", "file")[i % 2], options[i])
        for i in range(6)
    ]
    for process, reported in started:
        assert finish(process) == 0
        assert reported.recv() == [int(scan.sum())] * 2
    np.testing.assert_array_equal(source.get_persisted().read(), scan)
    np.testing.assert_array_equal(source.read(), scan)
    copies = copies_of(source)
    assert list(Path(copies.url).rglob("claim-*")) == []
    assert copies.current().name in generations(source)
    source.repersist()
    prune(0)
    assert len(generations(source)) == 1


CHUNKS = (1, 1, 4, 8, 6)


def test_a_killed_process_leaves_no_copy_and_the_next_goes_on(source, scan, tmp_path):
    process, reported = start(persist_half, tmp_path / "raw", CHUNKS)
    assert finish(process) == -signal.SIGKILL
    done = reported.recv()
    assert 0 < done < scan.nbytes
    assert not source.has_been_persisted
    assert len(generations(source)) == 1
    np.testing.assert_array_equal(source.read(), scan)
    seen: list[int] = []
    with dask.config.set({"tiffstack.block_bytes": 400}):
        source.persist(progress=lambda now, total: seen.append(now), chunks=CHUNKS)
    assert seen[0] > done, "what was written was written again"
    assert seen[-1] == scan.nbytes
    assert len(generations(source)) == 1
    np.testing.assert_array_equal(source.get_persisted().read(), scan)


def test_files_that_change_under_a_killed_process_make_another_copy(source, scan, tmp_path):
    process, _ = start(persist_half, tmp_path / "raw", CHUNKS)
    assert finish(process) == -signal.SIGKILL
    changed = scan.copy()
    changed[1, 2] = 5
    write_file(tmp_path / "raw" / "c1_t2_561nm.tif", changed[1, 2])
    source.persist(chunks=CHUNKS)
    np.testing.assert_array_equal(source.get_persisted().read(), changed)
    assert [name[:6] for name in generations(source)] == ["000001", "000001"]
    source.repersist()
    prune(0)
    assert [name[:6] for name in generations(source)] == ["000002"]


# --- secrets ------------------------------------------------------------------------------------

MARK = "MARKED"


def test_no_secret_is_written_logged_shown_or_raised(
    s3_server: S3Server, tmp_path, monkeypatch, capsys, caplog
):
    caplog.set_level(logging.DEBUG, "intake_tiffstack")
    pixels = write_scan(tmp_path / "raw")
    files = {f"raw/{path.name}": path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    s3_server.put("secret", files)
    marked = {**s3_server.storage_options, "key": f"{MARK}1", "secret": f"{MARK}2",
              "token": f"{MARK}3"}  # fmt: skip
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    source = open_scan("s3://secret/raw", storage_options=marked)
    texts: list[str] = []
    source.persist(ttl=0)
    with pytest.warns(TiffStackWarning) as warned:
        np.testing.assert_array_equal(source.read(), pixels)
    s3_server.refuses = lambda request: 403
    with pytest.warns(TiffStackWarning) as warned_too:
        source.to_dask()
    texts += [str(warning.message) for warning in [*warned, *warned_too]]
    source.relist()
    with pytest.raises(StorageError) as refused:
        source(persist_mode="never").to_dask()
    texts += [str(refused.value), repr(refused.value.details)]
    persisted = source.get_persisted()
    texts += [repr(persisted), persisted.yaml(), persisted._repr_html_(), str(persisted.describe())]
    texts += [repr(persisted.to_dask()), repr(persisted._in_use), repr(copies_of(source))]
    texts += [repr(persisted._in_use.collection.array), str(persisted.metadata)]
    texts += [*capsys.readouterr(), caplog.text]
    for text in texts:
        assert MARK not in text
    written = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(written) > 3
    for path in written:
        assert MARK.encode() not in path.read_bytes(), path
        if path.name == "seen.json.gz":
            assert MARK.encode() not in gzip.decompress(path.read_bytes())


def test_no_secret_of_a_url_is_remembered(source):
    seen = source.stack.collection.discovery
    files = seen.listing.files
    urls = tuple(
        f"https://me:{MARK}@host/raw/{url.rpartition('/')[2]}?sig={MARK}" for url in files.urls
    )
    hot = replace(
        seen,
        listing=replace(
            seen.listing,
            files=FileTable(urls, files.sizes, files.mtimes, files.etags),
            root=f"https://me:{MARK}@host/raw/",
            pattern=f"c{{c:d}}_t{{t:d}}.tif?sig={MARK}",
        ),
        described={
            row: replace(file, url=urls[row], warnings=(f"{urls[row]}: odd",))
            for row, file in seen.described.items()
        },
    )
    reported = json.loads(gzip.decompress(pack_seen(hot)))
    assert MARK not in json.dumps(reported)
    assert reported["root"] == "https://me:***@host/raw/"
    assert reported["files"]["urls"][0] == "https://me:***@host/raw/c0_t0_488nm.tif?sig=***"
    assert reported["pattern"] == "c{c:d}_t{t:d}.tif?sig=***"


def test_no_secret_of_the_url_of_files_or_store_is_reported(store, tmp_path, monkeypatch):
    pixels = write_scan(tmp_path / "raw")
    files = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    with serve_files(files) as server:
        root = server.url.replace("//", f"//me:{MARK}@")
        source = TiffStackSource(
            [f"{root}/{name}?sig={MARK}" for name in sorted(files)],
            pattern=r"c(?P<c>\d)_t(?P<t>\d)_",
            concat_dim=["c", "t"],
            file_dims="zyx",
        )
        source.persist(ttl=0)
        with pytest.warns(TiffStackWarning) as warned:
            np.testing.assert_array_equal(source.read(), pixels)
    for path in store.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert MARK.encode() not in (gzip.decompress(content) if path.suffix == ".gz" else content)
    monkeypatch.setenv("INTAKE_PERSIST_PATH", f"https://me:{MARK}@host/store")
    texts = [*(str(warning.message) for warning in warned), repr(copies_of(source))]
    assert MARK not in "".join(texts)


def test_a_stack_without_intake_reads_its_files(source, scan, tmp_path):
    """Persisting is the source's: open_stack() always reads what it is given."""
    source.persist()
    options = {"pattern": PATTERN, "concat_dim": ["c", "t"], "file_dims": "zyx"}
    stack = open_stack(f"{tmp_path}/raw/*.tif", **options)
    assert "CopyArray" not in repr(stack.collection.array)
