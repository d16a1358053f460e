"""The audit record of a copy, and the comparison of a copy with its sources."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import intake_tiffstack
from intake_tiffstack import TiffStack, TiffStackZarrSource, open_stack, verify
from intake_tiffstack.copies.record import RECORD, CopyRecord, read_record
from intake_tiffstack.errors import OptionError, StorageError
from servers import serve_s3

PATTERN = "a_w{well}_t{t:d}.tif"
PIXELS = np.random.default_rng(3).integers(0, 4000, (2, 3, 4, 16, 24), np.uint16)
FORMATS: dict[str, dict[str, Any]] = {
    "zarr": {},
    "group": {"group": True},
    "v2": {"zarr_format": 2},
    "ome-zarr": {"format": "ome-zarr", "levels": 2},
    "references": {"format": "references"},
}


def write_tiff(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "ZYX"})


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder of 2 wells x 3 times of 4 planes."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for w, t in np.ndindex(2, 3):
        write_tiff(folder / f"a_w{'AB'[w]}1_t{t}.tif", PIXELS[w, t])
    return folder


def open_raw(raw: Path, **options: Any) -> TiffStack:
    return open_stack(f"{raw}/*.tif", pattern=PATTERN, **options)


def export(raw: Path, form: str, **options: Any) -> Path:
    name = "copy.json" if form == "references" else "copy.zarr"
    open_raw(raw).export(raw.parent / name, **{**FORMATS[form], **options})
    return raw.parent / name


def stored(url: Path) -> dict[str, Any]:
    """Return the record as any reader of JSON finds it."""
    if url.suffix == ".json":
        return json.loads(url.read_text())["tiffstack_record"]
    (path,) = url.rglob(RECORD)
    return json.loads(path.read_text())


every_format = pytest.mark.parametrize("form", FORMATS)


@every_format
def test_a_record_names_files_software_and_what_was_verified(raw: Path, form: str) -> None:
    found = stored(export(raw, form, verify="all", sha256=True))
    assert [row["url"] for row in found["files"]] == sorted(map(str, raw.iterdir()))
    for row in found["files"]:
        stat = os.stat(row["url"])
        assert row["size"] == stat.st_size
        assert int(np.datetime64(row["mtime"].rstrip("Z"), "ns").astype(int)) == stat.st_mtime_ns
        assert row["sha256"] == hashlib.sha256(Path(row["url"]).read_bytes()).hexdigest()
        w, t = "_wB1" in row["url"], int(row["url"][-5])
        assert row["at"] == {"well": int(w), "t": t}
    (only,) = found["history"]
    assert only["software"]["intake-tiffstack"] == intake_tiffstack.__version__
    assert only["software"]["zarr"] == zarr.__version__
    assert only["verified"]["mode"] == "all"
    assert only["verified"]["bytes"] >= PIXELS.nbytes
    assert datetime.fromisoformat(found["created"]).tzinfo is not None
    assert found["source"] == {"urlpath": f"{raw}/*.tif", "options": {"pattern": PATTERN}}


@every_format
def test_a_copy_that_is_as_its_files_are_is_true(raw: Path, form: str) -> None:
    url = export(raw, form, sha256=True)
    check = verify(url, pixels="all", sha256=True)
    assert check, check.problems
    assert (check.files, check.hashed) == (6, 6)
    assert check.compared == check.read > 0


@every_format
def test_what_became_of_the_files_is_named(raw: Path, form: str) -> None:
    url = export(raw, form)
    write_tiff(raw / "a_wA1_t1.tif", PIXELS[0, 1] + 1)
    os.utime(raw / "a_wA1_t1.tif", ns=(1, 1))
    check = verify(url, pixels="all")
    assert not check
    assert check.problems[0] == "of its files 1 changed (a_wA1_t1.tif: time of last change)"
    if form != "references":  # which read the files as they are
        assert "1,536 pixels differ from the files, the first at" in check.problems[1]
    (raw / "a_wB1_t2.tif").unlink()
    write_tiff(raw / "a_wA1_t3.tif", PIXELS[0, 1])
    first = verify(url, pixels=False).problems[0]
    assert "1 new (a_wA1_t3.tif), 1 gone (a_wB1_t2.tif)" in first


def test_bytes_that_keep_size_and_time_are_found_by_their_hash(raw: Path) -> None:
    url = export(raw, "zarr", sha256=True)
    path = raw / "a_wA1_t0.tif"
    before = os.stat(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert verify(url, pixels=False)
    assert f"{path} has other bytes" in verify(url, pixels=False, sha256=True).problems[0]


def test_hashes_that_were_not_asked_for_are_an_error(raw: Path) -> None:
    with pytest.raises(OptionError, match=r"export\(sha256=True\) writes them"):
        verify(export(raw, "zarr"), sha256=True)


def test_pixels_are_compared_image_by_image_of_a_plate(raw: Path) -> None:
    url = export(raw, "ome-zarr")
    array = zarr.open_array(url, path="B/1/0/0", mode="r+")
    array[2, 3, 5, 7] += 1
    (problem,) = verify(url, pixels="all").problems
    assert problem == "1 pixels differ from the files, the first at t 2, z 3, y 5, x 7, well 1"


def test_files_that_are_gone_altogether_are_a_problem_and_no_exception(raw: Path) -> None:
    url = export(raw, "zarr")
    for path in raw.iterdir():
        path.unlink()
    check = verify(url)
    assert "none of its 6 files is found" in check.problems[0]
    assert verify(url, source=False)


def test_a_copy_moves_with_its_record_and_a_source_may_be_given(raw: Path, tmp_path: Path) -> None:
    url = export(raw, "zarr")
    url.rename(tmp_path / "elsewhere.zarr")
    assert verify(tmp_path / "elsewhere.zarr", source=open_raw(raw))


@pytest.mark.parametrize("fill", [float("nan"), float("-inf"), 1 + 2j, np.float32(0.5)], ids=str)
def test_a_fill_value_that_json_lacks_is_recorded(tmp_path: Path, fill: Any) -> None:
    for t in (0, 2):
        tifffile.imwrite(tmp_path / f"t{t}.tif", np.full((4, 5), t, "c8"))
    stack = open_stack(
        str(tmp_path / "t{t:d}.tif"), sizes={"t": 3}, missing="fill", fill_value=fill
    )
    assert stack.shape[0] == 3
    stack.export(tmp_path / "copy.zarr")
    assert verify(tmp_path / "copy.zarr", pixels="all").problems == []


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_coordinates_of_zeros_alone_are_written(tmp_path: Path, zarr_format: Any) -> None:
    tifffile.imwrite(tmp_path / "t0.tif", np.ones((4, 5), "u1"))
    stack = open_stack(
        str(tmp_path / "t{t:d}.tif"), missing="mask", coords={"x": [0] * 5}, scale={"y": 1.5}
    )
    stack.export(tmp_path / "copy.zarr", group=True, zarr_format=zarr_format)
    assert verify(tmp_path / "copy.zarr").problems == []


def test_duplicates_are_recorded_and_not_called_new(raw: Path) -> None:
    write_tiff(raw / "a_wA1_t00.tif", PIXELS[0, 0])
    open_raw(raw, duplicates="last").export(raw.parent / "copy.zarr")
    found = stored(raw.parent / "copy.zarr")
    assert len(found["files"]) == 6
    assert len(found["left_out"]) == 1
    assert verify(raw.parent / "copy.zarr")


def test_the_driver_shows_the_record(raw: Path) -> None:
    source = TiffStackZarrSource(export(raw, "zarr"))
    record = source.record
    assert isinstance(record, CopyRecord)
    assert record.files.urls == tuple(sorted(map(str, raw.iterdir())))
    assert "zarr of 6 files, created" in source.report()
    assert source.verify()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("pattern", [PATTERN, "a_{well}_t{t:d}.tif"])
def test_zarr_finds_nothing_but_nodes_in_an_ome_zarr(raw: Path, version: str, pattern: str) -> None:
    url = raw.parent / "copy.zarr"
    stack = open_stack(f"{raw}/*.tif", pattern=pattern)
    stack.export(url, format="ome-zarr", version=version, levels=2)
    with warnings.catch_warnings(action="error"):
        members = dict(zarr.open_group(url, mode="r").members(max_depth=None))
    assert members
    record = read_record(str(url))
    assert record is not None
    assert len(record.files) == 6
    assert verify(url)


def test_the_place_of_a_record_stays_inside_the_copy(raw: Path) -> None:
    url = export(raw, "ome-zarr")
    document = json.loads((url / "zarr.json").read_text())
    place = document["attributes"]["tiffstack"]["record"]
    (raw.parent / "else.json").write_bytes((url / place).read_bytes())
    (url / place).unlink()
    document["attributes"]["tiffstack"]["record"] = "../else.json"
    (url / "zarr.json").write_text(json.dumps(document))
    assert read_record(str(url)) is None


def test_a_zarr_without_a_record_has_none(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=np.ones((4, 4)), dimension_names=["y", "x"])
    assert read_record(str(tmp_path / "a.zarr")) is None
    source = TiffStackZarrSource(tmp_path / "a.zarr")
    assert source.record is None
    assert "no audit record" in source.report()
    assert verify(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is damaged"), (b'{"version": 9}', "is of version 9"), (b'{"version": 1}', "damaged")],
)
def test_a_damaged_record_is_named(raw: Path, content: bytes, message: str) -> None:
    url = export(raw, "zarr")
    (url / RECORD).write_bytes(content)
    with pytest.raises(StorageError, match=message):
        verify(url)


@every_format
def test_no_secret_is_in_a_record(raw: Path, form: str) -> None:
    options = {"storage_options": {"auto_mkdir": True, "password": "s3cr3t"}}
    url = raw.parent / ("copy.json" if form == "references" else "copy.zarr")
    open_raw(raw, **options).export(url, **FORMATS[form])
    assert "s3cr3t" not in json.dumps(stored(url))


def test_a_copy_and_its_files_on_s3(raw: Path) -> None:
    with serve_s3() as server:
        server.put("lab", {f"raw/{path.name}": path.read_bytes() for path in raw.iterdir()})
        options = server.storage_options
        stack = open_stack("s3://lab/raw/*.tif", pattern=PATTERN, storage_options=options)
        stack.export("s3://lab/copy.zarr", storage_options=options, sha256=True)
        record = read_record("s3://lab/copy.zarr", options)
        assert record is not None
        assert record.files.etags is not None
        both = {"storage_options": options, "source_options": options}
        assert verify("s3://lab/copy.zarr", sha256=True, **both)
        server.put("lab", {"raw/a_wA1_t0.tif": b"other"})
        problems = verify("s3://lab/copy.zarr", pixels=False, **both).problems
        assert "1 changed (a_wA1_t0.tif: size" in problems[0]
