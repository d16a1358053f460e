"""The tutorial runs from top to bottom, and what it shows is what is saved in it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"

# of zmq and ipykernel, about event loops and unencrypted ports of 127.0.0.1
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")


def printed(notebook: Any) -> list[list[str]]:
    """Return what each cell prints; the looks of results differ between versions."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[out.text for out in cell.outputs if out.get("name") == "stdout"] for cell in cells]


def drawn(notebook: Any) -> list[list[str]]:
    """Return which kinds of output each cell has."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        sorted({kind for out in cell.outputs for kind in out.get("data", {})} - {"image/jpeg"})
        for cell in cells
    ]


def test_the_tutorial_runs_and_shows_what_is_saved(tmp_path: Path) -> None:
    saved = nbformat.read(TUTORIAL, as_version=4)
    run = nbformat.read(TUTORIAL, as_version=4)
    client = NotebookClient(
        run,
        timeout=240,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
        record_timing=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.execute()
    assert printed(run) == printed(saved)
    assert drawn(run) == drawn(saved)
    assert any("image/png" in kinds for kinds in drawn(run))
    errors = [
        out for cell in run.cells for out in cell.get("outputs", []) if out.get("name") == "stderr"
    ]
    assert not errors


def test_the_tutorial_names_no_machine() -> None:
    text = TUTORIAL.read_text("utf-8")
    assert "/tmp/" not in text
