"""A copy is never half done: targets that exist, writers that fail, are killed, or meet."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from fsspec.implementations.memory import MemoryFileSystem

from export_sources import (
    PIXELS,
    BrokenSource,
    CountedSource,
    assert_nothing_opens,
    run,
    tree,
    write,
    write_deadly,
    write_killed_at,
    write_slowly,
)
from intake_tiffstack.copies import claim as claims
from intake_tiffstack.copies.open_zarr import open_zarr
from intake_tiffstack.errors import (
    OptionError,
    StorageError,
    TargetBusyError,
    TargetExistsError,
    TiffStackError,
    VerificationError,
)
from intake_tiffstack.storage.folder import Folder
from servers import S3Server, serve_folder

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3], ids=["v2", "v3"])
CLAIM = ".tiffstack/claim-00001.json"


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL at which nothing is."""
    if request.param == "local":
        return str(tmp_path / "copy.zarr")
    return f"memory://{uuid.uuid4().hex}/copy.zarr"


def claim_of(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return what the first claim on a folder says, with changes written back."""
    reported = json.loads((folder / CLAIM).read_text()) | changes
    (folder / CLAIM).write_text(json.dumps(reported))
    return reported


def begin(target: Path | str, array: np.ndarray = PIXELS, most: int = 1000, **options: Any) -> Any:
    """Begin a copy that fails once so many pixels are read, and return its source."""
    source = BrokenSource(array, most)
    with (
        dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}),
        pytest.raises(OSError, match="raw data is gone"),
    ):
        write(target, source, **{"chunks": (1, 1, 8, 12), **options})
    return source


# --- targets that exist --------------------------------------------------------------------------


@pytest.mark.parametrize("present", ["file", "folder", "zarr", "group"])
def test_a_local_target_that_exists_is_refused_and_left(tmp_path: Path, present: str) -> None:
    target = tmp_path / "copy.zarr"
    match present:
        case "file":
            target.write_text("mine")
        case "folder":
            (target / "deep" / "er").mkdir(parents=True)
            (target / "deep" / "er" / "note.txt").write_text("mine")
        case "zarr":
            write(target)
        case "group":
            zarr.create_group(target)
    before = tree(tmp_path)
    with pytest.raises(TargetExistsError, match=r"copy\.zarr exists already") as caught:
        write(target)
    assert isinstance(caught.value, FileExistsError)
    assert tree(tmp_path) == before


def test_a_remote_target_that_exists_is_refused_and_left() -> None:
    files = MemoryFileSystem()
    root = f"memory://{uuid.uuid4().hex}"
    files.pipe_file(f"{root}/object", b"mine")
    files.pipe_file(f"{root}/prefix/a/b", b"mine")
    for name in ("object", "prefix"):
        with pytest.raises(TargetExistsError, match=f"{root}/{name} exists already"):
            write(f"{root}/{name}")
    assert sorted(files.find(root)) == sorted(
        f"{root.removeprefix('memory:/')}/{name}" for name in ("object", "prefix/a/b")
    )


def test_an_empty_folder_is_no_target_that_exists(tmp_path: Path) -> None:
    (tmp_path / "copy.zarr").mkdir()
    write(tmp_path / "copy.zarr")
    np.testing.assert_array_equal(da.from_zarr(tmp_path / "copy.zarr").compute(), PIXELS)


@FORMATS
@pytest.mark.parametrize("old", ["v2", "v3", "group"])
def test_overwrite_replaces_a_zarr_and_leaves_nothing_of_it(
    url: str, zarr_format: Any, old: str
) -> None:
    if old == "group":
        group = zarr.create_group(url)
        group.create_array("a/b", data=np.ones((9, 9)))
    else:
        write(url, np.ones((9, 9), "f4"), chunks=(2, 2), zarr_format=int(old[1]))
    write(url, overwrite=True, zarr_format=zarr_format)
    fresh = f"memory://{uuid.uuid4().hex}"
    write(fresh, zarr_format=zarr_format)
    assert Folder.at(url).find() == Folder.at(fresh).find()
    np.testing.assert_array_equal(da.from_zarr(url).compute(), PIXELS)


@pytest.mark.parametrize("foreign", ["notes.txt", "c/notes.txt", "c/0/0/x.tif", "deep/er/7"])
def test_overwrite_never_removes_what_is_no_zarr(tmp_path: Path, foreign: str) -> None:
    target = tmp_path / "copy.zarr"
    write(target)
    (target / foreign).parent.mkdir(parents=True, exist_ok=True)
    (target / foreign).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(TargetExistsError, match=rf"{foreign}.*nothing but a Zarr is overwritten"):
        write(target, overwrite=True)
    assert tree(tmp_path) == before


def test_overwrite_of_a_folder_that_is_no_zarr_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0").write_text("mine")
    with pytest.raises(TargetExistsError, match="nothing but a Zarr is overwritten"):
        write(tmp_path, overwrite=True)
    assert tree(tmp_path) == {"c/0": b"mine"}


# --- writers that fail or are killed ---------------------------------------------------------


@FORMATS
def test_a_copy_that_fails_midway_does_not_open_and_resumes(url: str, zarr_format: Any) -> None:
    source = begin(url, zarr_format=zarr_format)
    assert 1000 <= source.reads.sum() < PIXELS.size
    assert_nothing_opens(url)
    again = CountedSource(PIXELS)
    with dask.config.set({"tiffstack.block_bytes": 1}):
        write(url, again, chunks=(1, 1, 8, 12), zarr_format=zarr_format, verify=False)
    np.testing.assert_array_equal(again.reads + source.reads, 1)  # only what was left
    np.testing.assert_array_equal(da.from_zarr(url).compute(), PIXELS)
    undisturbed = f"memory://{uuid.uuid4().hex}"
    write(undisturbed, chunks=(1, 1, 8, 12), zarr_format=zarr_format)
    assert contents(url) == contents(undisturbed)


def contents(url: str) -> dict[str, bytes]:
    place = Folder.at(url)
    return {key: place.filesystem.cat_file(f"{place.path}/{key}") for key in place.find()}


def test_an_error_of_the_source_is_not_said_to_be_of_the_target(url: str) -> None:
    with pytest.raises(OSError, match="raw data is gone") as caught:
        write(url, BrokenSource(PIXELS, 0))
    assert not isinstance(caught.value, TiffStackError)


@pytest.mark.parametrize("seed", range(8))
def test_a_writer_that_is_killed_again_and_again_ends_as_an_undisturbed_one(
    tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    options = {"zarr_format": dice.choice([2, 3]), "chunks": (1, 1, 8, 12)}
    target = tmp_path / "a.zarr"
    for _ in range(3):
        most, workers = dice.randrange(PIXELS.size // 3), dice.choice([1, 4])
        assert run(write_deadly, str(target), most, workers, options) == -signal.SIGKILL
        assert (target / ".tiffstack").exists()
        assert_nothing_opens(str(target))
    assert run(write_deadly, str(target), 10**9, 2, options) == 0
    write(tmp_path / "b.zarr", **options)
    assert tree(target) == tree(tmp_path / "b.zarr")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["fresh", "overwriting"])
def test_killed_at_any_change_but_a_chunk_the_same_call_ends_it(
    tmp_path: Path, after: bool, overwrite: bool
) -> None:
    options = {"zarr_format": 2, "chunks": (1, 1, 8, 12), "overwrite": overwrite}
    write(tmp_path / "b.zarr", **options)
    expected = tree(tmp_path / "b.zarr")
    for number in range(1, 20):
        target = tmp_path / f"{number}.zarr"
        if overwrite:
            write(target, PIXELS[::-1].copy(), chunks=(1, 5, 16, 12), zarr_format=3)
        code = run(write_killed_at, str(target), number, after, options)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if tree(target) == expected:  # it was killed after its last change
            continue
        write(target, **options)
        assert tree(target) == expected
    assert 4 <= number < 19  # claim, two documents, release; and two removals where there was one


def test_what_was_begun_of_other_pixels_is_refused_without_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "a.zarr"
    begin(target)
    before = {key for key in tree(target) if key.startswith("c/")}
    with pytest.raises(TargetExistsError, match="not whole, of other pixels"):
        write(target, PIXELS + 1, chunks=(1, 1, 8, 12))
    with pytest.raises(TargetExistsError, match=r"not whole, of another layout \(chunk_grid"):
        write(target, chunks=(1, 1, 16, 12))
    assert {key for key in tree(target) if key.startswith("c/")} == before
    write(target, PIXELS + 1, chunks=(1, 1, 16, 12), overwrite=True)
    np.testing.assert_array_equal(da.from_zarr(target).compute(), PIXELS + 1)


def test_without_resume_every_unit_is_written_again(url: str) -> None:
    begin(url)
    again = CountedSource(PIXELS)
    write(url, again, chunks=(1, 1, 8, 12), resume=False, verify=False)
    np.testing.assert_array_equal(again.reads, 1)
    np.testing.assert_array_equal(da.from_zarr(url).compute(), PIXELS)


def test_metadata_may_change_before_a_copy_is_resumed(url: str) -> None:
    begin(url, attrs={"units": {"d": "um"}})
    write(url, chunks=(1, 1, 8, 12), attrs={"units": {"d": "nm"}})
    assert open_zarr(url).attrs == {"units": {"d": "nm"}}


def test_a_copy_that_lacks_only_the_end_of_its_claim_takes_new_attributes(tmp_path: Path) -> None:
    write(tmp_path, chunks=(1, 1, 8, 12), attrs={"units": {"d": "um"}})
    document = (tmp_path / "zarr.json").read_bytes()
    (tmp_path / "zarr.json").unlink()
    begin_claim(tmp_path)
    (tmp_path / "zarr.json").write_bytes(document)
    again = CountedSource(PIXELS)
    write(tmp_path, again, chunks=(1, 1, 8, 12), attrs={"units": {"d": "nm"}})
    assert not again.reads.any()
    assert open_zarr(tmp_path).attrs == {"units": {"d": "nm"}}
    assert not (tmp_path / ".tiffstack").exists()


def begin_claim(folder: Path) -> None:
    """Leave the claim that a writer of PIXELS has who is killed."""
    other = folder.parent / f"{uuid.uuid4().hex}.zarr"
    begin(other)
    (other / ".tiffstack").rename(folder / ".tiffstack")


def test_what_a_killed_write_left_is_removed(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / "c/0/0/0/0.abc.partial").write_bytes(b"half")
    write(tmp_path, chunks=(1, 1, 8, 12))
    assert not [key for key in tree(tmp_path) if "partial" in key or "tiffstack" in key]


# --- writers that meet ---------------------------------------------------------------------------


def test_of_writers_that_meet_one_wins_and_nothing_is_mixed(tmp_path: Path) -> None:
    target, start = str(tmp_path / "a.zarr"), time.time() + 2
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda n: run(write_slowly, target, n, start), range(4)))
    assert sorted(codes) == [0, 3, 3, 3]
    np.testing.assert_array_equal(da.from_zarr(target).compute(), PIXELS + codes.index(0))


def test_a_living_writer_is_not_disturbed(tmp_path: Path) -> None:
    begin(tmp_path)
    claim_of(tmp_path, is_stopped=False, host="elsewhere", machine="elsewhere", beat=time.time())
    before = tree(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(TargetBusyError, match=r"process \d+ on elsewhere is writing"):
            write(tmp_path, chunks=(1, 1, 8, 12), overwrite=overwrite)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"machine": "elsewhere", "beat": time.time() - 61},
        {"pid": 2**22 + 1, "beat": time.time() + 1000},
        {"pid": os.getpid(), "beat": time.time() + 1000},
    ],
    ids=["silent", "pid is gone", "pid was given again"],
)
def test_a_dead_writers_claim_does_not_block_the_next(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    begin(tmp_path)
    claim_of(tmp_path, is_stopped=False, **changes)
    write(tmp_path, chunks=(1, 1, 8, 12))
    np.testing.assert_array_equal(da.from_zarr(tmp_path).compute(), PIXELS)
    assert not (tmp_path / ".tiffstack").exists()


def test_a_claim_that_was_cut_counts_as_silent_by_its_age(tmp_path: Path) -> None:
    (tmp_path / ".tiffstack").mkdir()
    (tmp_path / CLAIM).write_text("")
    with pytest.raises(TargetBusyError):
        write(tmp_path)
    os.utime(tmp_path / CLAIM, (time.time() - 61,) * 2)
    write(tmp_path)
    np.testing.assert_array_equal(da.from_zarr(tmp_path).compute(), PIXELS)


def test_a_writer_that_was_taken_over_stops(tmp_path: Path) -> None:
    class Overtaken(CountedSource):
        def __getitem__(self, index: Any) -> np.ndarray:
            block = super().__getitem__(index)
            if self.reads.sum() > 1000:  # as another would that thinks this one dead
                reported = {**json.loads((tmp_path / CLAIM).read_text()), "number": 2}
                (tmp_path / ".tiffstack/claim-00002.json").write_text(json.dumps(reported))
            return block

    source = Overtaken(PIXELS)
    with (
        dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}),
        pytest.raises(TargetBusyError, match=r"has taken over|the claim of this writer is gone"),
    ):
        write(tmp_path, source, chunks=(1, 1, 8, 12))
    assert source.reads.sum() < 1500
    assert_nothing_opens(str(tmp_path))


def test_a_writer_that_was_taken_over_by_one_that_has_ended_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The taker's claims are gone by then, and the numbers begin anew."""
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.05)
    target = tmp_path / "a.zarr"

    class Suspended(CountedSource):
        def __getitem__(self, index: Any) -> np.ndarray:
            block = super().__getitem__(index)
            if not (target / "zarr.json").exists() and self.reads.sum() > 1000:
                reported = claim_of(target, is_stopped=True)  # as after a minute of silence
                claims._HELD.discard(reported["writer"])
                write(target, PIXELS + 1, overwrite=True)
                time.sleep(0.3)
            return block

    with (
        dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}),
        pytest.raises(TargetBusyError, match=r"has taken over|the claim of this writer is gone"),
    ):
        write(target, Suspended(PIXELS), chunks=(1, 1, 8, 12))
    fresh = tmp_path / "b.zarr"
    write(fresh, PIXELS + 1)
    assert tree(target) == tree(fresh)


@pytest.mark.parametrize("overwrite", [False, True], ids=["resuming", "overwriting"])
def test_what_came_between_a_look_and_the_claim_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    begin(tmp_path)
    plain = Folder.create_document

    def after_another(self: Folder, key: str, content: bytes) -> None:
        monkeypatch.undo()
        write(tmp_path, PIXELS + 1, overwrite=True, zarr_format=2)
        plain(self, key, content)

    monkeypatch.setattr(Folder, "create_document", after_another)
    with pytest.raises(TargetBusyError):
        write(tmp_path, chunks=(1, 1, 8, 12), overwrite=overwrite)
    np.testing.assert_array_equal(da.from_zarr(tmp_path).compute(), PIXELS + 1)
    assert not (tmp_path / ".tiffstack").exists()


def test_another_machine_of_that_name_may_count_its_processes_otherwise(tmp_path: Path) -> None:
    begin(tmp_path)  # as two containers of one image do: one name, and each is process 1
    claim_of(tmp_path, is_stopped=False, machine="elsewhere", pid=os.getpid(), beat=time.time())
    with pytest.raises(TargetBusyError):
        write(tmp_path, chunks=(1, 1, 8, 12))


def test_a_writer_says_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    beats = []

    class Slow(CountedSource):
        def __getitem__(self, index: Any) -> np.ndarray:
            time.sleep(0.1)
            beats.append(json.loads((tmp_path / CLAIM).read_text())["beat"])
            return super().__getitem__(index)

    with dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 2000}):
        write(tmp_path, Slow(PIXELS), verify=False, chunks=(1, 5, 16, 12))
    assert beats == sorted(set(beats))
    assert len(beats) == 3


# --- verifying -----------------------------------------------------------------------------------


class LyingSource(CountedSource):
    """An array that is another when it is read again."""

    def __getitem__(self, index: Any) -> np.ndarray:
        block = super().__getitem__(index)
        return block + (self.reads[index].max() > 1)


@pytest.mark.parametrize("verify", ["sample", "all"])
def test_a_copy_that_does_not_read_back_is_an_error_that_names_the_region(
    url: str, verify: Any
) -> None:
    with (
        dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}),
        pytest.raises(VerificationError, match=r"region .* was removed") as caught,
    ):
        write(url, LyingSource(PIXELS), chunks=(1, 1, 8, 12), verify=verify)
    chunks = {
        f"[{t}:{t + 1}, {z}:{z + 1}, {y}:{y + 8}, 0:12]"
        for t, z, y in itertools.product(*map(range, PIXELS.shape[:2]), (0, 8))
    }
    # which of them is seen first depends on the threads
    assert [chunk for chunk in chunks if f"the region {chunk} of" in str(caught.value)]
    assert_nothing_opens(url)
    write(url, chunks=(1, 1, 8, 12), verify="all")
    np.testing.assert_array_equal(da.from_zarr(url).compute(), PIXELS)


def test_all_sees_a_chunk_that_was_spoilt_before_the_copy_was_resumed(tmp_path: Path) -> None:
    begin(tmp_path, most=PIXELS.size - 1)
    spoilt = tmp_path / "c/0/4/1/0"
    spoilt.write_bytes((tmp_path / "c/0/0/0/0").read_bytes())
    with (
        dask.config.set({"tiffstack.block_bytes": 1}),
        pytest.raises(VerificationError, match=r"\[0:1, 4:5, 8:16, 0:12\]"),
    ):
        write(tmp_path, chunks=(1, 1, 8, 12), verify="all")
    write(tmp_path, chunks=(1, 1, 8, 12), verify="all")
    np.testing.assert_array_equal(da.from_zarr(tmp_path).compute(), PIXELS)


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, None], ids=["empty", "rubbish", "gone"])
@pytest.mark.parametrize("shards", [None, (1, 1, 16, 12)], ids=["chunks", "shards"])
def test_a_chunk_that_cannot_be_decoded_is_written_again(
    tmp_path: Path, damage: bytes | None, shards: Any
) -> None:
    layout = {"chunks": (1, 1, 8, 12), "shards": shards}
    begin(tmp_path, most=PIXELS.size - 1, **layout)
    spoilt = next(path for path in sorted((tmp_path / "c").rglob("*")) if path.is_file())
    spoilt.unlink() if damage is None else spoilt.write_bytes(damage)
    with dask.config.set({"tiffstack.block_bytes": 1}):
        if damage:
            with pytest.raises(VerificationError, match="was removed"):
                write(tmp_path, verify="all", **layout)
        write(tmp_path, verify="all", **layout)
    np.testing.assert_array_equal(da.from_zarr(tmp_path).compute(), PIXELS)


def test_a_chunk_that_is_gone_before_the_end_is_an_error_and_never_zeros(tmp_path: Path) -> None:
    class Losing(CountedSource):
        def __getitem__(self, index: Any) -> np.ndarray:
            (tmp_path / "c/0/0/0/0").unlink(missing_ok=True)  # as on a disk of another machine
            return super().__getitem__(index)

    with (
        dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}),
        pytest.raises(StorageError, match=r"c/0/0/0/0 was written and does not exist"),
    ):
        write(tmp_path, Losing(PIXELS), chunks=(1, 1, 8, 12), verify=False)
    assert_nothing_opens(str(tmp_path))


def test_verifying_knows_nan_and_the_sign_of_zero(url: str) -> None:
    write(url, np.array([[np.nan, -0.0], [np.inf, 1]]), verify="all")


# --- stores that refuse --------------------------------------------------------------------------


def test_format_2_becomes_an_array_by_its_last_write(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    plain_write = MemoryFileSystem.pipe_file

    def noted_write(self: Any, path: str, value: bytes, **options: Any) -> None:
        keys.append(path.rpartition("/")[2])
        plain_write(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", noted_write)
    write(f"memory://{uuid.uuid4().hex}", chunks=(3, 5, 8, 12), zarr_format=2)
    assert keys[:2] == ["claim-00001.json"] * 2
    assert sorted(keys[2:4]) == ["0.0.0.0", "0.0.1.0"]
    assert keys[4:] == [".zattrs", ".zarray"]


@pytest.mark.parametrize("failing", ["0", "zarr.json"], ids=["chunk", "metadata"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES], ids=["disk full", "permission"])
def test_a_store_that_refuses_is_named_with_the_cause_and_the_copy_resumes(
    monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    plain_write = MemoryFileSystem.pipe_file

    def refuse(self: Any, path: str, value: bytes, **options: Any) -> None:
        if path.rpartition("/")[2] == failing:
            raise OSError(number, "sorry, hunter22")
        plain_write(self, path, value, **options)

    url = f"memory://{uuid.uuid4().hex}/copy.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", refuse)
        with pytest.raises(StorageError, match=rf"cannot write {url}: .*sorry") as caught:
            write(url, storage_options={"password": "hunter22"})
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == number
    assert "hunter22" not in str(caught.value)
    assert_nothing_opens(url)
    write(url)
    np.testing.assert_array_equal(da.from_zarr(url).compute(), PIXELS)


def test_a_disk_that_is_full_for_the_claim_too_blocks_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain_write = MemoryFileSystem.pipe_file

    def full(self: Any, path: str, value: bytes, **options: Any) -> None:
        if options.get("mode") != "create":  # the first claim still had room
            raise OSError(errno.ENOSPC, "No space left on device")
        plain_write(self, path, value, **options)

    url = f"memory://{uuid.uuid4().hex}"
    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", full)
        with pytest.raises(StorageError, match="No space left"):
            write(url)
    assert "the claim on" in caplog.text
    write(url)
    np.testing.assert_array_equal(da.from_zarr(url).compute(), PIXELS)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"cannot write .*copy\.zarr: NotADirectoryError"):
        write(tmp_path / "file" / "copy.zarr")


def test_a_web_server_that_takes_no_writes_is_a_storage_error(tmp_path: Path) -> None:
    with serve_folder(tmp_path) as server:
        url = f"{server.url}/a.zarr"
        with pytest.raises(StorageError, match=rf"cannot write {url}: ClientResponseError: 501"):
            write(url)


def test_a_store_without_writes_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.raises(StorageError, match=r"cannot write memory://\S+: .* read-only"):
        write(f"memory://{uuid.uuid4().hex}")


def test_a_first_claim_that_finds_the_disk_full_blocks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(StorageError, match="No space left"):
            write(tmp_path / "a.zarr")
    assert tree(tmp_path) == {}
    write(tmp_path / "a.zarr")


def test_a_disk_without_links_has_exclusive_claims_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    place = Folder.at(tmp_path / "a.zarr")
    place.create_document(CLAIM, b"mine")
    with pytest.raises(FileExistsError):
        place.create_document(CLAIM, b"yours")
    assert tree(tmp_path) == {f"a.zarr/{CLAIM}": b"mine"}


@pytest.mark.parametrize("name", ["run[1].zarr", "run?.zarr", "run*.zarr", "{a,b}.zarr"])
@pytest.mark.parametrize("store", ["memory", "s3", "local"])
def test_a_name_that_looks_like_a_glob_is_a_name(
    s3_server: S3Server, tmp_path: Path, name: str, store: str
) -> None:
    bucket = f"b{uuid.uuid4().hex}"
    s3_server.put(bucket, {})
    root = {"memory": f"memory://{bucket}", "s3": f"s3://{bucket}", "local": str(tmp_path)}[store]
    options = {"storage_options": s3_server.storage_options} if store == "s3" else {}
    neighbours = [f"{root}/{other}.zarr" for other in ("run1", "runX", "a")]
    for neighbour in neighbours:
        write(neighbour, **options)
    write(f"{root}/{name}", **options)
    write(f"{root}/{name}", PIXELS + 1, overwrite=True, **options)
    copy = da.from_zarr(f"{root}/{name}", **options) if store != "s3" else None
    if copy is not None:
        np.testing.assert_array_equal(copy.compute(), PIXELS + 1)
    for neighbour in neighbours:
        np.testing.assert_array_equal(da.from_zarr(neighbour, **options).compute(), PIXELS)


@pytest.mark.parametrize("start", ["file://{}", "local://{}", "~", "relative"])
def test_a_local_url_is_the_same_place_in_every_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    url = {"~": "~/a.zarr", "relative": "a.zarr"}.get(start, f"{start.format(tmp_path)}/a.zarr")
    write(url)
    np.testing.assert_array_equal(open_zarr(url).array.compute(), PIXELS)
    np.testing.assert_array_equal(da.from_zarr(tmp_path / "a.zarr").compute(), PIXELS)


def test_an_empty_url_is_an_option_error() -> None:
    with pytest.raises(OptionError, match="must not be empty"):
        write("")


# --- S3 ------------------------------------------------------------------------------------------


def writes_seen(server: S3Server) -> list[str]:
    """Return the paths of all requests that wrote an object, in order."""
    return [r.path for r in server.requests if r.method == "PUT"]


@FORMATS
def test_a_copy_on_s3_is_equal_and_its_metadata_is_the_last_object(
    s3_server: S3Server, zarr_format: Any
) -> None:
    s3_server.put("exports", {})
    url, options = f"s3://exports/{uuid.uuid4().hex}.zarr", s3_server.storage_options
    s3_server.requests.clear()
    write(url, storage_options=options, zarr_format=zarr_format)
    written = [path.rpartition(".zarr/")[2] for path in writes_seen(s3_server)]
    documents = ["zarr.json"] if zarr_format == 3 else [".zattrs", ".zarray"]
    assert written[:2] == [CLAIM, CLAIM]
    assert written[2] in ("c/0/0/0/0", "0.0.0.0")
    assert written[3:] == documents
    assert Folder.at(url, options).find() == {written[2], *documents}
    np.testing.assert_array_equal(open_zarr(url, options).array.compute(), PIXELS)
    np.testing.assert_array_equal(da.from_zarr(url, storage_options=options).compute(), PIXELS)


def test_a_chunk_on_s3_is_read_by_one_request(s3_server: S3Server) -> None:
    s3_server.put("exports", {})
    url, options = f"s3://exports/{uuid.uuid4().hex}.zarr", s3_server.storage_options
    write(url, storage_options=options, chunks=(1, 5, 16, 12))
    copy = open_zarr(url, options)
    s3_server.requests.clear()
    np.testing.assert_array_equal(copy.array.compute(), PIXELS)
    asked = [(r.method, r.path) for r in s3_server.requests if "/c/" in r.path]
    assert len(asked) == len(set(asked)) == 3


def test_a_claim_on_s3_is_exclusive_and_a_copy_resumes(s3_server: S3Server) -> None:
    s3_server.put("exports", {})
    url, options = f"s3://exports/{uuid.uuid4().hex}.zarr", s3_server.storage_options
    source = begin(url, storage_options=options)
    place = Folder.at(url, options)
    with pytest.raises(FileExistsError):
        place.create_document(CLAIM, b"mine")
    reported = json.loads(place.filesystem.cat_file(f"{place.path}/{CLAIM}")) | {
        "is_stopped": False,
        "machine": "elsewhere",
    }
    place.write_document(CLAIM, json.dumps({**reported, "beat": time.time()}).encode())
    with pytest.raises(TargetBusyError):
        write(url, chunks=(1, 1, 8, 12), storage_options=options)
    place.write_document(CLAIM, json.dumps({**reported, "beat": time.time() - 61}).encode())
    again = CountedSource(PIXELS)
    with dask.config.set({"tiffstack.block_bytes": 1}):
        write(url, again, chunks=(1, 1, 8, 12), storage_options=options, verify=False)
    np.testing.assert_array_equal(again.reads + source.reads, 1)
    np.testing.assert_array_equal(da.from_zarr(url, storage_options=options).compute(), PIXELS)


def test_the_folder_that_a_console_makes_on_s3_is_empty(s3_server: S3Server) -> None:
    bucket = f"b{uuid.uuid4().hex}"
    s3_server.put(bucket, {"a.zarr/": b""})
    write(f"s3://{bucket}/a.zarr", storage_options=s3_server.storage_options)


def test_overwrite_on_s3_leaves_nothing_of_the_old(s3_server: S3Server) -> None:
    s3_server.put("exports", {})
    url, options = f"s3://exports/{uuid.uuid4().hex}.zarr", s3_server.storage_options
    write(url, storage_options=options, chunks=(1, 1, 8, 12), zarr_format=2)
    write(url, storage_options=options, overwrite=True)
    assert Folder.at(url, options).find() == {"zarr.json", "c/0/0/0/0"}


@pytest.mark.parametrize("key", ["taken.zarr", "taken.zarr/c/0/0"], ids=["object", "prefix"])
def test_a_target_on_s3_that_exists_is_refused_with_no_write(s3_server: S3Server, key: str) -> None:
    bucket = f"b{uuid.uuid4().hex}"
    s3_server.put(bucket, {key: b"mine"})
    s3_server.requests.clear()
    with pytest.raises(TargetExistsError, match=r"taken\.zarr exists already"):
        write(f"s3://{bucket}/taken.zarr", storage_options=s3_server.storage_options)
    assert writes_seen(s3_server) == []


def test_a_bucket_that_is_not_there_is_a_storage_error(s3_server: S3Server) -> None:
    url = "s3://no-such-bucket-here/a.zarr"
    with pytest.raises(StorageError, match=f"cannot write {url}: .*bucket") as caught:
        write(url, storage_options=s3_server.storage_options)
    assert isinstance(caught.value.__cause__, OSError)
