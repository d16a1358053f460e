"""Claims on a copy when answers are lost and clocks differ."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import intake
import numpy as np
import pytest
import tifffile

from intake_tiffstack import TiffStackSource, TiffStackZarrSource, open_stack
from intake_tiffstack.errors import StorageError, TargetBusyError
from intake_tiffstack.persist import write
from intake_tiffstack.storage.folder import Folder
from servers import Fault, S3Server, serve_s3, spoil

needs_icechunk = pytest.mark.skipif(
    not importlib.util.find_spec("icechunk"), reason="the extra icechunk installs it"
)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    for t in range(3):
        tifffile.imwrite(tmp_path / f"t{t}.tif", np.full((8, 6), t, np.uint16))
    return f"{tmp_path}/t*.tif"


def test_an_own_claim_whose_answer_was_lost_is_held(
    raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a store's client repeats the write, and the store says that the object exists."""
    create, answers = Folder.create_document, []

    def lost(self: Folder, key: str, content: bytes) -> None:
        create(self, key, content)
        answers.append(key)
        raise FileExistsError(key)

    monkeypatch.setattr(Folder, "create_document", lost)
    open_stack(raw).export(str(tmp_path / "o.zarr"), progress=False)
    assert answers
    assert intake.open_tiffstack_zarr(str(tmp_path / "o.zarr")).read()[:, 0, 0].tolist() == [
        0,
        1,
        2,
    ]


def test_a_dead_claim_from_a_clock_that_was_ahead_is_named_and_unpersist_removes_it(
    raw: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any) -> None:
        raise Killed

    source = TiffStackSource(raw)
    with pytest.raises(Killed):
        source.persist(progress=kill, chunks=(1, 8, 6))
    (claim,) = Path(raw).parent.glob("store/*/*/pixels.zarr/.tiffstack/claim-*")
    content = json.loads(claim.read_text())
    content |= {"machine": "other", "host": "microscope-pc", "beat": time.time() + 3600}
    claim.write_text(json.dumps(content | {"is_stopped": False}))

    def give_up(seconds: float) -> None:
        raise Killed

    monkeypatch.setattr(write.time, "sleep", give_up)
    with caplog.at_level(logging.WARNING), pytest.raises(Killed):
        source.persist(progress=False, chunks=(1, 8, 6))
    text = caplog.text
    assert "microscope-pc is writing" in text
    assert "which this machine's clock has not reached" in text
    assert f"remove {claim}" in text
    with pytest.raises(TargetBusyError, match="microscope-pc"):
        open_stack(raw).export(str(claim.parents[1]), progress=False, overwrite=True)
    monkeypatch.undo()
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(Path(raw).parent / "store"))
    source.unpersist()
    assert not claim.exists()
    assert source.persist(progress=False).read()[2, 0, 0] == 2


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"null",
        b"{}",
        {"beat": "yesterday"},
        {"beat": 1e300},
        {"beat": None},
        {"pid": 10**30},
        {"pid": -1},
        {"pid": "1"},
        {"phase": 3},
        {"number": "x"},
        {"spec": []},
        {"is_stopped": "no"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_claim_damaged_by_hand_is_an_error_until_it_is_old(
    raw: str, tmp_path: Path, damage: bytes | dict[str, Any]
) -> None:
    target = tmp_path / "o.zarr"

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_stack(raw).export(str(target), progress=kill, chunks=(1, 8, 6))
    (claim,) = target.glob(".tiffstack/claim-*")
    whole = json.loads(claim.read_text())
    claim.write_bytes(damage if isinstance(damage, bytes) else json.dumps(whole | damage).encode())
    (claim.parent / "claim-copy of it.json").write_text("by hand")
    with pytest.raises(TargetBusyError, match="another process"):
        open_stack(raw).export(str(target), progress=False, chunks=(1, 8, 6))
    os.utime(claim, (1, 1))
    open_stack(raw).export(str(target), progress=False, chunks=(1, 8, 6), overwrite=True)
    assert intake.open_tiffstack_zarr(str(target)).read()[:, 0, 0].tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with serve_s3() as server:
        server.put("bkt", {"there.txt": b""})
        yield server


@pytest.mark.parametrize(
    ("format", "suffix", "most"),
    [
        ("zarr", ".zarr", 100),
        ("references", ".json", 100),
        ("ome-tiff", ".ome.tif", 100),
        pytest.param(
            "icechunk", ".icechunk", 1, marks=needs_icechunk
        ),  # itself it repeats for long
    ],
)
def test_an_export_whose_answers_are_lost_is_whole_after_the_same_call(
    s3_server: S3Server, format: Any, suffix: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request that changes the store is in turn carried out, and not answered."""
    good, lines, lost = s3_server.storage_options, list[str](), dict[str, int]()
    content = io.BytesIO()
    tifffile.imwrite(content, np.arange(48, dtype="u2").reshape(1, 8, 6), photometric="minisblack")
    s3_server.put("bkt", {"raw/t0.tif": content.getvalue()})
    stack = open_stack("s3://bkt/raw/t*.tif", pattern="t{t:d}.tif", storage_options=good)
    pixels = stack.read()

    def fault(line: str) -> Fault:
        lines.append(line)
        lost[line] = lost.get(line, 0) - 1
        return "lost" if lost[line] >= 0 else ""

    def export(number: int, options: dict[str, Any]) -> str:
        url = f"s3://bkt/{format}{number}{suffix}"
        stack.export(url, format=format, storage_options=options, progress=False)
        return url

    with spoil(s3_server.url, fault) as spoiled, dask.config.set({"tiffstack.retries": 0}):
        bad = good | {"endpoint_url": spoiled}
        export(0, bad)
        changes = list(dict.fromkeys(line for line in lines if line[0] in "PD"))
        assert changes
        for number, change in enumerate(changes, 1):
            lost[change.replace(f"{format}0", f"{format}{number}")] = most
            try:
                url = export(number, bad)
            except StorageError:
                lost.clear()
                with monkeypatch.context() as later:
                    # Icechunk repeats the write whose answer was lost, takes its own file for that
                    # of another, and stops: with or without a branch, as its writes are at once.
                    # Without one, the call has to be made a minute later
                    later.setattr("intake_tiffstack.export.icechunk.STALE_SECONDS", 0)
                    url = export(number, bad)
            opened = open_stack if format == "ome-tiff" else TiffStackZarrSource
            copy = opened(url, storage_options=good).read()
            assert np.array_equal(copy.squeeze(), pixels.squeeze()), change
