"""Examples in docstrings run in a folder of their own; ``raw/`` in it is a small time lapse."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from intake_tiffstack.samples import make_lattice

    folder = tmp_path_factory.mktemp("examples") / "raw"
    make_lattice(folder, channels=2, times=3)
    return folder


@pytest.fixture(autouse=True)
def _example_folder(request: pytest.FixtureRequest) -> None:
    if not isinstance(request.node, pytest.DoctestItem):
        return
    folder = request.getfixturevalue("tmp_path")
    patch = request.getfixturevalue("monkeypatch")
    patch.chdir(folder)
    patch.setenv("INTAKE_PERSIST_PATH", str(folder / "persisted"))
    if '"raw' in (request.node.dtest.docstring or ""):
        shutil.copytree(request.getfixturevalue("_raw"), folder / "raw")
