"""The Python and the command lines of the pages run as a reader would run them, top to bottom."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import intake
import numpy as np
import pytest
import tifffile

from intake_tiffstack.cli.app import main
from intake_tiffstack.samples import make_lattice
from tiff_files import kind, pixels

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
    "docs/five-minutes.md",
    "docs/from-a-folder.md",
    "docs/catalogs-for-a-lab.md",
    "docs/clusters.md",
    "docs/moving.md",
    "docs/comparison.md",
    "docs/napari.md",
    "docs/xarray.md",
    "docs/command-line.md",
    "docs/options.md",
    "docs/ome-tiff.md",
]
#: A block with one of these in it is left out: it needs a GPU, or a cluster elsewhere.
NEEDS_MORE = ("cupy", "dask_jobqueue", "dask_kubernetes")

# Intake warns so of every parameter that is text, though none asks for a shell command.
pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")


def blocks_of(text: str) -> list[tuple[int, str, str]]:
    """Return the blocks that run anywhere: the lines before each, its language, its text."""
    found = re.finditer(r"^```(python|sh)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [
        (text.count("\n", 0, match.start(2)), match[1], match[2])
        for match in found
        if not any(word in match[2] for word in NEEDS_MORE)
    ]


def run(page: Path, line: int, block: str, names: dict[str, Any]) -> None:
    """Run a block that begins below *line*; what stands alone and is lazy is computed as well."""
    for statement in ast.increment_lineno(ast.parse(block), line).body:
        if isinstance(statement, ast.Expr):
            expression = ast.Expression(statement.value)
            dask.compute(eval(compile(expression, page, "eval"), names))
        else:
            exec(compile(ast.Module([statement], []), page, "exec"), names)


def run_shell(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the lines that are ``tiffstack``; other tests run make, pip and export."""
    for text in block.splitlines():
        words = shlex.split(text, comments=True)
        if words and words[0] == "tiffstack":
            monkeypatch.setattr(sys, "argv", words)
            with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 0, text
        else:
            assert not words or words[0] in {"make", "pip", "export", "napari"}, text


def write_files_of(page: str) -> None:
    """Write the files that a page takes for granted."""
    planes = pixels(2, 3, 4, 16, 24)
    if page in {"README.md", "docs/options.md"}:
        shutil.copytree("demo_output/raw", "raw")
    elif page in {"docs/from-a-folder.md", "docs/command-line.md"}:
        Path("raw").mkdir()
        for t, c in np.ndindex(2, 3):
            is_volume = page == "docs/command-line.md"
            tifffile.imwrite(
                f"raw/scan_t{t:03d}_c{c}.tif",
                planes[t, c] if is_volume else planes[t, c, 0],
                **kind("imagej"),
                metadata={"axes": "ZYX" if is_volume else "YX"},
            )
    elif page == "docs/xarray.md":
        Path("raw").mkdir()
        for t, c in np.ndindex(2, 3):
            tifffile.imwrite(f"raw/c{c}_t{t}.tif", planes[t, c], photometric="minisblack")
        levels = [np.zeros((size, size), np.uint8) for size in (64, 32, 16)]
        with tifffile.TiffWriter("slide.ome.tif", ome=True) as tiff:
            tiff.write(levels[0], subifds=2, tile=(16, 16))
            for level in levels[1:]:
                tiff.write(level, subfiletype=1, tile=(16, 16))


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
def test_a_page_runs_from_top_to_bottom(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    write_files_of(page)
    names: dict[str, Any] = {"__name__": "__main__"}
    for line, language, block in blocks:
        if language == "python":
            run(ROOT / page, line, block, names)
        else:
            run_shell(block, monkeypatch)


@pytest.mark.usefixtures("clone")
def test_the_readme_shows_what_comes_back() -> None:
    source = intake.open_catalog("catalogs/lattice.yml").lattice
    assert f"\n{source.to_dask()!r}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_tree_of_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```{toctree}\n(.*?)```", index, re.DOTALL)
    listed = {line for block in blocks for line in block.split() if not line.startswith(":")}
    pages = [
        path
        for kind in ("md", "rst", "ipynb")
        for path in (ROOT / "docs").rglob(f"*.{kind}")
        if ".ipynb_checkpoints" not in path.parts
    ]
    names = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in pages}
    assert names - {"index"} <= listed
