"""Every block of the pages runs as a reader would run it, top to bottom."""

from __future__ import annotations

import gc
import inspect
import os
import re
import shutil
import warnings
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import dask.distributed
import intake
import pytest
import s3fs

import intake_tiffstack
from cuda_double import CudaDouble
from intake_tiffstack.pattern.presets import PRESETS, Preset
from intake_tiffstack.samples import make_lattice
from pages import PAGES, ROOT, Reader, blocks_of, same_machine
from test_pattern import read_one

if TYPE_CHECKING:
    from servers import S3Server

#: In the reference by their module.
ERRORS = {"TiffStackError", "TiffStackWarning"}

# Intake warns so of every parameter that is text, though none asks for a shell command.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Shell command not executed:UserWarning",
    "ignore:Use `@` matmul:PendingDeprecationWarning",  # rasterio, which writes a mosaic
)


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
    options = s3_server.storage_options
    store = s3fs.S3FileSystem(**options)
    for bucket in ("bucket", "lab", "my-bucket"):
        if store.exists(bucket):
            store.rm(bucket, recursive=True)
        store.mkdir(bucket)
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
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_runs_from_top_to_bottom(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "import cupy" in page.read_text("utf-8"):
        CudaDouble().install(monkeypatch)
    # the port of its dashboard may be taken, and distributed leaves a socket open then
    quiet = partial(dask.distributed.LocalCluster, dashboard_address="127.0.0.1:0")
    monkeypatch.setattr(dask.distributed, "LocalCluster", quiet)
    reader = Reader()
    with same_machine():
        for block in blocks_of(page):
            with warnings.catch_warnings():
                if "needs" in block.test:  # what other packages warn of, and leave open
                    warnings.simplefilter("ignore")
                reader.follow(block)
                if "needs" in block.test:
                    gc.collect()


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


def test_a_preset_is_added_as_described(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, case = (
        block.text for block in blocks_of(ROOT / "CONTRIBUTING.md") if "by" in block.test
    )
    [(name, preset)] = eval(f"{{{entry}}}", {"Preset": Preset}).items()
    monkeypatch.setitem(PRESETS, name, preset)
    [(called, text, expected)] = eval(f"[{case}]")
    assert called == name
    assert all(read_one(name, example) for example in preset.examples)
    assert read_one(name, text) == expected


def test_the_reference_has_every_public_name_with_an_example() -> None:
    reference = (ROOT / "docs" / "api.rst").read_text("utf-8")
    members = [
        f"{name}.{member}"
        for name in ("TiffStack",)
        for member, value in vars(getattr(intake_tiffstack, name)).items()
        if callable(value) and not member.startswith("_")
    ]
    for name in [*intake_tiffstack.__all__, *members]:
        assert re.search(rf"::\s{name.partition('.')[0]}\b", reference) or name in ERRORS, name
        documented = attrgetter(name)(intake_tiffstack)
        if name == "export":  # a package that is called
            documented = intake_tiffstack.export.export_array
        assert "\nExamples\n---" in (inspect.getdoc(documented) or ""), name
