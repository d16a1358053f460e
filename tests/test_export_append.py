"""Copies that grow: what has arrived is added, and a kill at any moment loses nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from ome_zarr_models import open_ome_zarr as open_model

from child_processes import deadly_at
from export_sources import run, tree
from intake_tiffstack import TiffStack, TiffStackZarrSource, open_stack, verify
from intake_tiffstack.copies.record import RECORD, read_record
from intake_tiffstack.errors import (
    FileChangedError,
    OptionError,
    TargetBusyError,
    TargetExistsError,
)
from intake_tiffstack.export import write_copy
from intake_tiffstack.storage.folder import Folder
from servers import serve_s3

PATTERN = "a_c{c:d}_t{t:d}.tif"
TIMES = 7
PIXELS = np.random.default_rng(4).integers(0, 4000, (TIMES, 2, 3, 16, 24), np.uint16)
KINDS: dict[str, dict[str, Any]] = {
    "v3": {"chunks": [2, 1, 3, 8, 24]},
    "v2": {"chunks": [2, 1, 3, 8, 24], "zarr_format": 2},
    "shards": {"chunks": [1, 1, 3, 8, 24], "shards": [3, 2, 3, 16, 24]},
    "pyramid": {"format": "ome-zarr", "levels": 3, "chunks": [2, 1, 3, 8, 24]},
    "pyramid-0.4": {"format": "ome-zarr", "version": "0.4", "levels": 2},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def acquire(raw: Path, *times: int) -> None:
    """Write the files of some times."""
    raw.mkdir(exist_ok=True)
    for t in times:
        for c in range(2):
            tifffile.imwrite(
                raw / f"a_c{c}_t{t}.tif",
                PIXELS[t, c],
                photometric="minisblack",
                metadata={"axes": "ZYX"},
            )


def open_raw(raw: Path, **options: Any) -> TiffStack:
    given = {"pattern": PATTERN, "concat_dim": ["t", "c"], **options}
    return open_stack(f"{raw}/*.tif", **given)


def append(raw: Path, url: Path | str, kind: str, **options: Any) -> Any:
    return open_raw(raw).export(url, append="t", **{**KINDS[kind], **options})


def levels(url: Path) -> list[np.ndarray]:
    """Return all levels of a copy as zarr reads them."""
    node = zarr.open(url, mode="r")
    if isinstance(node, zarr.Array):
        return [node[:]]
    return [node[name][:] for name in "0123" if (url / name).exists()]


def expected(raw: Path, kind: str, tmp_path: Path) -> list[np.ndarray]:
    """Return the levels of a copy that is written in one go."""
    url = tmp_path / f"whole-{kind}-{len(list(raw.iterdir()))}.zarr"
    if not url.exists():
        open_raw(raw).export(url, **KINDS[kind])
    return levels(url)


@every_kind
@pytest.mark.parametrize("steps", [(3, 7), (2, 4, 7), (1, 2, 3, 7)])
def test_a_copy_that_grew_is_the_copy_of_all(tmp_path: Path, kind: str, steps: Any) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    done = 0
    for n in steps:
        acquire(raw, *range(done, n))
        append(raw, url, kind)
        done = n
        np.testing.assert_array_equal(levels(url)[0], PIXELS[:n])
    for grown, whole in zip(levels(url), expected(raw, kind, tmp_path), strict=True):
        np.testing.assert_array_equal(grown, whole)
    shown = TiffStackZarrSource(url).to_xarray()
    np.testing.assert_array_equal(shown.t, range(TIMES))
    check = verify(url, pixels="all")
    assert check, check.problems
    record = read_record(str(url))
    assert record is not None
    assert [entry["sizes"]["t"] for entry in record.history] == list(steps)
    assert not (url / ".tiffstack").exists()


def test_other_readers_read_what_grew(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0, 1, 2)
    append(raw, url, "pyramid")
    acquire(raw, 3, 4)
    append(raw, url, "pyramid")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{url}/0/"}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), PIXELS[:5])
    model = open_model(zarr.open_group(url, mode="r"))
    assert model.ome_attributes.multiscales[0].datasets[1].path == "1"


@every_kind
def test_only_what_has_arrived_is_read_and_written(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, *range(6))
    append(raw, url, kind)
    before = {path: os.stat(url / path).st_mtime_ns for path in tree(url)}
    acquire(raw, 6)
    plan = append(raw, url, kind, dry_run=True)
    assert plan.read_nbytes == PIXELS[6:].nbytes
    assert {path: os.stat(url / path).st_mtime_ns for path in tree(url)} == before
    append(raw, url, kind)
    changed = [path for path, time in before.items() if os.stat(url / path).st_mtime_ns != time]
    documents = {"zarr.json", ".zarray", ".zattrs", ".zgroup", RECORD, "METADATA.ome.xml"}
    assert {Path(path).name for path in changed} <= documents


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0, 1)
    append(raw, url, "v3")
    before = {path: os.stat(url / path).st_mtime_ns for path in tree(url)}
    append(raw, url, "v3")
    assert {path: os.stat(url / path).st_mtime_ns for path in tree(url)} == before


def change(raw: Path) -> str:
    os.utime(raw / "a_c1_t1.tif", ns=(1, 1))
    return r"1 changed \(a_c1_t1.tif: time of last change\)"


def lose(raw: Path) -> str:
    for c in range(2):
        (raw / f"a_c{c}_t0.tif").unlink()
    return r"2 gone \(a_c0_t0.tif, a_c1_t0.tif\)"


@pytest.mark.parametrize("how", [change, lose])
@every_kind
def test_an_earlier_file_that_changed_is_an_error(tmp_path: Path, kind: str, how: Any) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0, 1, 2)
    append(raw, url, kind)
    before = tree(url)
    acquire(raw, 3, 4)
    message = how(raw)
    with pytest.raises(FileChangedError, match=message):
        append(raw, url, kind)
    assert tree(url) == before
    append(raw, url, kind, overwrite=True)
    assert levels(url)[0].shape[0] == len(list(raw.iterdir())) // 2


def test_a_file_between_those_copied_is_an_error(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0, 2)
    append(raw, url, "v3")
    acquire(raw, 1)
    with pytest.raises(FileChangedError, match=r"2 new \(a_c0_t1.tif, a_c1_t1.tif\)"):
        append(raw, url, "v3")


def test_a_hole_that_is_filled_late_is_an_error(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0, 1)
    (raw / "a_c1_t0.tif").unlink()
    open_raw(raw, missing="fill").export(url)
    acquire(raw, 0, 1, 2)
    with pytest.raises(FileChangedError, match=r"1 new \(a_c1_t0.tif\)"):
        open_raw(raw, missing="fill").export(url, append="t")


def test_options_are_those_of_the_copy(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0, 1)
    append(raw, url, "pyramid", name="cells")
    acquire(raw, 2)
    open_raw(raw).export(url, append="t", format="ome-zarr")  # chunks and levels as before
    assert zarr.open_array(url / "1", mode="r").chunks == (2, 1, 3, 8, 12)
    assert len(levels(url)) == 3
    with pytest.raises(OptionError, match="written with levels=3, but got 2"):
        append(raw, url, "pyramid", levels=2)
    with pytest.raises(OptionError, match="has the format 'ome-zarr', but got format='zarr'"):
        append(raw, url, "v3")
    with pytest.raises(OptionError, match="extended along an axis of its images: t, c, z"):
        open_raw(raw).export(url, append="q", format="ome-zarr")


@pytest.mark.parametrize("dim", ["z", "y"])
def test_a_dim_of_the_files_does_not_grow(tmp_path: Path, dim: str) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0)
    open_raw(raw).export(url)
    with pytest.raises(OptionError, match=f"{dim} is a dim inside the files"):
        open_raw(raw).export(url, append=dim)


def test_what_has_no_record_and_a_group_are_refused(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0)
    open_raw(raw).export(url)
    (url / RECORD).unlink()
    with pytest.raises(TargetExistsError, match="no audit record"):
        open_raw(raw).export(url, append="t")
    with pytest.raises(OptionError, match="a group cannot be extended"):
        open_raw(raw).export(tmp_path / "g.zarr", append="t", group=True)


def test_files_that_extend_a_dim_are_appended(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    raw.mkdir()
    volume = np.arange(10 * 8 * 6, dtype=np.uint16).reshape(10, 8, 6)

    def write(number: int, start: int, stop: int) -> None:
        tifffile.imwrite(
            raw / f"p_z{number}.tif",
            volume[start:stop],
            photometric="minisblack",
            metadata={"axes": "ZYX"},
        )

    def export() -> None:
        open_stack(f"{raw}/*.tif", pattern="p_z{z:d}.tif").export(url, append="z", chunks=(3, 8, 6))

    write(0, 0, 4)
    export()
    write(1, 4, 10)
    export()
    np.testing.assert_array_equal(zarr.open_array(url, mode="r")[:], volume)


def test_a_copy_on_s3_grows(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with serve_s3() as server:
        server.put("lab", {"x": b""})
        for times in [(0, 1, 2), (3, 4)]:
            acquire(raw, *times)
            append(raw, "s3://lab/copy.zarr", "pyramid", storage_options=server.storage_options)
        group = zarr.open_group(
            "s3://lab/copy.zarr", mode="r", storage_options=server.storage_options
        )
        np.testing.assert_array_equal(group["0"][:], PIXELS[:5])


# -- kills ---------------------------------------------------------------------------------------


def append_killed(raw: Path, url: Path, kind: str, number: int) -> None:
    """Append by a process that is killed before its change of that number, chunks included."""
    deadly = deadly_at(number)

    from intake_tiffstack.export.planned_array import PlannedArray

    for name in ("write_document", "create_document", "remove"):
        setattr(Folder, name, deadly(getattr(Folder, name)))
    PlannedArray.write = deadly(PlannedArray.write)  # type: ignore[method-assign]
    with dask.config.set({"scheduler": "sync", "tiffstack.block_bytes": 1}):
        append(raw, url, kind)


@pytest.mark.parametrize("kind", ["v3", "v2", "shards", "pyramid"])
def test_a_kill_at_any_change_leaves_the_old_or_the_new_copy(tmp_path: Path, kind: str) -> None:
    raw, fresh = tmp_path / "raw", tmp_path / "fresh.zarr"
    acquire(raw, 0, 1, 2)
    append(raw, fresh, kind)
    acquire(raw, 3, 4)
    whole = expected(raw, kind, tmp_path)
    number, was_killed, lengths = 0, True, set()
    while was_killed:
        number += 1
        url = tmp_path / f"copy-{number}.zarr"
        url.mkdir()
        for path, content in tree(fresh).items():
            (url / path).parent.mkdir(parents=True, exist_ok=True)
            (url / path).write_bytes(content)
        was_killed = run(append_killed, raw, url, kind, number) == -signal.SIGKILL
        found = levels(url)
        for level, truth in zip(found, whole, strict=True):  # any reader
            assert level.shape[0] in (3, 5)
            np.testing.assert_array_equal(level, truth[: len(level)])
        shown = TiffStackZarrSource(url).to_xarray()  # this one
        lengths.add(shown.sizes["t"])
        assert shown.t.values.tolist() == list(range(shown.sizes["t"]))
        np.testing.assert_array_equal(shown, PIXELS[: shown.sizes["t"]])
        append(raw, url, kind)
        for level, truth in zip(levels(url), whole, strict=True):
            np.testing.assert_array_equal(level, truth)
        check = verify(url, pixels="all")
        assert check, check.problems
        assert not (url / ".tiffstack").exists()
    assert number > 5
    assert lengths == {3, 5}


def test_what_a_killed_attempt_left_is_not_taken_for_other_pixels(tmp_path: Path) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0, 1)
    append(raw, url, "v3")
    acquire(raw, 2, 3, 4)
    assert run(append_killed, raw, url, "v3", 12) == -signal.SIGKILL
    for t in (2, 3, 4):
        for c in range(2):
            tifffile.imwrite(
                raw / f"a_c{c}_t{t}.tif",
                PIXELS[t, c] + 1,
                photometric="minisblack",
                metadata={"axes": "ZYX"},
            )
    assert run(append_killed, raw, url, "v3", 7) == -signal.SIGKILL
    append(raw, url, "v3")
    found = levels(url)[0]
    np.testing.assert_array_equal(found[:2], PIXELS[:2])
    np.testing.assert_array_equal(found[2:], PIXELS[2:5] + 1)


@every_kind
def test_a_copy_that_grew_since_it_was_planned_to_is_left_as_it_is(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, url = tmp_path / "raw", tmp_path / "copy.zarr"
    acquire(raw, 0, 1, 2)
    append(raw, url, kind)
    acquire(raw, 3, 4)
    plan = write_copy.plan_export

    def overtaken(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        acquire(raw, 5)
        append(raw, url, kind)
        return plan(*args, **options)

    monkeypatch.setattr(write_copy, "plan_export", overtaken)
    with pytest.raises(TargetBusyError, match="another process has changed"):
        append(raw, url, kind)
    assert not (url / ".tiffstack").exists()
    for found, wanted in zip(levels(url), expected(raw, kind, tmp_path), strict=True):
        np.testing.assert_array_equal(found, wanted)
    append(raw, url, kind)
    assert verify(url, pixels="all")
