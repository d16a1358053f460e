"""Claims on a copy when answers are lost and clocks differ."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import intake
import numpy as np
import pytest
import tifffile

from intake_tiffstack import TiffStackSource, open_stack
from intake_tiffstack.errors import TargetBusyError
from intake_tiffstack.persist import write
from intake_tiffstack.storage.folder import Folder


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
