"""The Python of the pages runs as a reader would run it: top to bottom, after ``make demo``."""

from __future__ import annotations

import ast
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import intake
import pytest

from intake_tiffstack.samples import make_lattice

if TYPE_CHECKING:
    from servers import S3Server

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/index.md",
    "docs/how-to-zarr.md",
    "docs/ome-zarr.md",
    "docs/references.md",
    "docs/export.md",
    "docs/persist.md",
]
#: A block with one of these in it is left out: it needs a GPU, or a cluster.
NEEDS_MORE = ("cupy", "Client(")

# Intake warns so of every parameter that is text, though none asks for a shell command.
pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")


def blocks_of(text: str) -> list[tuple[int, str]]:
    """Return the Python blocks of a page that run anywhere, each with the lines before it."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [
        (text.count("\n", 0, match.start(1)), match[1])
        for match in found
        if not any(word in match[1] for word in NEEDS_MORE)
    ]


def run(page: Path, line: int, block: str, names: dict[str, Any]) -> None:
    """Run a block that begins below *line*; what stands alone and is lazy is computed as well."""
    for statement in ast.increment_lineno(ast.parse(block), line).body:
        if isinstance(statement, ast.Expr):
            expression = ast.Expression(statement.value)
            dask.compute(eval(compile(expression, page, "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), page, "exec"), names)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of files that ``make demo`` writes."""
    folder = tmp_path_factory.mktemp("raw")
    make_lattice(folder, channels=3, times=5, shape=(12, 128, 160))
    return folder


@pytest.fixture
def clone(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, which has what a reader's has after ``make demo``."""
    shutil.copytree(ROOT / "catalogs", tmp_path / "catalogs")
    shutil.copytree(raw, tmp_path / "demo_output" / "raw")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATTICE", raising=False)
    return tmp_path


@pytest.fixture
def _cloud(s3_server: S3Server, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the buckets and the profile that the pages name, and nothing of who runs this."""
    for bucket in ("bucket", "lab"):
        s3_server.put(bucket, {})
    options = s3_server.storage_options
    account = (
        f"aws_access_key_id = {options['key']}\naws_secret_access_key = {options['secret']}\n"
        f"endpoint_url = {options['endpoint_url']}\n"
    )
    (clone / "aws").write_text(f"[default]\n{account}[profile lab]\n{account}")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(clone / "aws"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(clone / "none"))
    monkeypatch.setenv("INTAKE_PERSIST_PATH", "s3://lab/persisted")


@pytest.mark.usefixtures("_cloud")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom(page: str) -> None:
    blocks = blocks_of((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, Any] = {}
    for line, block in blocks:
        run(ROOT / page, line, block, names)


@pytest.mark.usefixtures("clone")
def test_the_readme_shows_what_comes_back() -> None:
    source = intake.open_catalog("catalogs/lattice.yml").lattice
    assert f"\n{source.to_dask()!r}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
