"""A catalog from others opens only as data, and only the protocols that are allowed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import intake
import numpy as np
import pytest
import tifffile
import yaml

from intake_tiffstack import open_stack, open_untrusted_catalog
from intake_tiffstack.errors import EntryError, FilesNotFoundError, OptionError, StorageError

pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for t in range(3):
        tifffile.imwrite(tmp_path / f"t{t}.tif", np.full((4, 5), t, "u2"))
    return tmp_path


@pytest.fixture(autouse=True)
def local_only() -> Iterator[None]:
    with dask.config.set({"tiffstack.allow_protocols": ["file"]}):
        yield


def write(folder: Path, entry: dict[str, Any], **at_top: Any) -> str:
    entry = {"driver": "tiffstack", **entry}
    path = folder / "theirs.yml"
    path.write_text(yaml.safe_dump({**at_top, "sources": {"scan": entry}}))
    return str(path)


URLPATH = "{{ CATALOG_DIR }}/t*.tif"


def test_data_opens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_GLOB", "*.tif")
    url = write(
        folder,
        {
            "args": {
                "urlpath": "{{CATALOG_DIR}}/{{ start }}{{ env(SCAN_GLOB) }}",
                "pattern": "t{t:d}.tif",
            },
            "parameters": {"start": {"type": "str", "default": "t", "description": ""}},
            "metadata": {"plate": "7"},
        },
    )
    with pytest.raises(EntryError, match="SCAN_GLOB"):
        open_untrusted_catalog(url)
    with dask.config.set({"tiffstack.allow_variables": ["SCAN_GLOB"]}):
        source = open_untrusted_catalog(url).scan
        assert source.read().tolist() == [np.full((4, 5), t).tolist() for t in range(3)]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"args": {"urlpath": "{{ ''.__class__ }}"}}, "template"),
        ({"args": {"urlpath": "{{ cycler.__init__.__globals__.os.mkdir('RAN') }}"}}, "template"),
        ({"args": {"urlpath": "{% for x in [1] %}{{ x }}{% endfor %}"}}, "template"),
        ({"args": {"urlpath": "{{ shell('mkdir RAN') }}"}}, "template"),
        ({"args": {"urlpath": "{{ CATALOG_DIR.__class__ }}"}}, "template"),
        ({"args": {"urlpath": "{{ other }}"}}, "other"),
        ({"args": {"urlpath": "{{ env(HOME) }}/*.tif"}}, "HOME"),
        ({"args": {"urlpath": URLPATH, "storage_options": {"{{ 7*7 }}": 1}}}, "template"),
        ({"args": {"urlpath": URLPATH}, "metadata": {"a": ["{{ 7*7 }}"]}}, "template"),
        ({"args": {"urlpath": URLPATH}, "description": "{{ 7*7 }}"}, "template"),
        ({"args": {"urlpath": URLPATH}, "parameters": {"p": {"default": "shell(mkdir RAN)"}}}, "p"),
        ({"args": {"urlpath": URLPATH}, "parameters": {"p": {"default": "env(HOME)"}}}, "HOME"),
        ({"args": {"urlpath": URLPATH}, "parameters": {"p": {"driver": "os.path"}}}, "driver"),
        ({"args": {"urlpath": URLPATH}, "driver": "csv"}, "csv"),
        ({"args": {"urlpath": URLPATH}, "driver": {"a": {"class": "os.path"}}}, "the driver"),
        ({"args": {"urlpath": URLPATH}, "cache": [{"argkey": "urlpath"}]}, "cache"),
        ({"args": {"urlpath": URLPATH}, "metadata": {"cache": [{"type": "file"}]}}, "cache"),
        ({"args": {"urlpath": URLPATH, "header_index": "/tmp/x.parquet"}}, "header_index"),
        ({"args": {"urlpath": URLPATH, "arraytype": "os:path"}}, "arraytype"),
        ({"args": [1]}, "args"),
        ({"args": {"urlpath": URLPATH, "metadata": {"cache": [{"type": "file"}]}}}, "metadata"),
        (
            {"args": {"urlpath": URLPATH}, "parameters": {"header_index": {"default": "RAN"}}},
            "RAN|h",
        ),
        ({"args": {"urlpath": URLPATH}, "parameters": {"arraytype": {"default": "a:b"}}}, "arrayt"),
        (
            {"args": {"urlpath": URLPATH}, "parameters": {"p": {"type": "int", "default": "[1,"}}},
            "re",
        ),
    ],
)
def test_programs_are_refused_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any], named: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(EntryError, match=named):
        open_untrusted_catalog(write(folder, entry))
    assert not (folder / "RAN").exists()


@pytest.mark.parametrize(
    "at_top",
    [
        {"plugins": {"source": [{"module": "os"}]}},
        {"metadata": {"a": "{{ 7*7 }}"}},
        {"metadata": {"parameters": {"CATALOG_DIR": {"default": "env(HOME)"}}}},
        {"metadata": {"parameters": {"p": {"default": "shell(ls)"}}}},
        {"metadata": {"parameters": {"p": None}}},
        {"metadata": [1]},
    ],
)
def test_programs_beside_the_entries_are_refused(folder: Path, at_top: dict[str, Any]) -> None:
    with pytest.raises(EntryError):
        open_untrusted_catalog(write(folder, {"args": {"urlpath": URLPATH}}, **at_top))


def test_a_folder_whose_name_is_a_program_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = folder / "{{ cycler.__init__.__globals__.os.mkdir('RAN') }}"
    below.mkdir()
    write(below, {"args": {"urlpath": URLPATH}})
    monkeypatch.chdir(below)
    with pytest.raises(EntryError, match="its own name is a template"):
        open_untrusted_catalog("theirs.yml").scan.read()
    assert not (below / "RAN").exists()


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ("&a {b: *a}", "aliases"),
        (
            "".join(f"\n  a{i}: &a{i} [{f'*a{i - 1},' * 99 if i else 'x'}]" for i in range(9)),
            "alia",
        ),
        ("[" * 3000 + "]" * 3000, "nested too deeply"),
        ("{a: 1, a: 2}", "DuplicateKeyError"),
        ("{<<: {a: 1}}", "ConstructorError"),
    ],
    ids=["circle", "bomb", "deep", "twice", "merged"],
)
def test_texts_that_intake_cannot_read_are_refused(folder: Path, metadata: str, named: str) -> None:
    url = write(folder, {"args": {"urlpath": URLPATH}})
    Path(url).write_text(f"{Path(url).read_text()}\nmetadata: {metadata}\n")
    with pytest.raises(EntryError, match=named):
        open_untrusted_catalog(url)


def test_aliases_are_read(folder: Path) -> None:
    url = write(folder, {"args": {"urlpath": URLPATH}})
    text = Path(url).read_text().replace("scan:", "scan: &scan") + "  again: *scan\n"
    Path(url).write_text(text)
    assert open_untrusted_catalog(url).again.read().shape == (3, 4, 5)


def test_a_catalog_that_changes_is_checked_again(folder: Path) -> None:
    catalog = open_untrusted_catalog(write(folder, {"args": {"urlpath": URLPATH}}))
    write(folder, {"args": {"urlpath": "{{ 7*7 }}"}})
    with pytest.raises(EntryError, match="template"):
        catalog.force_reload()


def test_a_server_that_never_answers_is_an_error_within_the_settings() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as hole,
        dask.config.set({"tiffstack.retries": 1, "tiffstack.timeout": 0.5}),
        pytest.raises(StorageError, match=r"(?i)timeout"),
    ):
        open_untrusted_catalog(f"http://127.0.0.1:{hole.getsockname()[1]}/theirs.yml")


def test_a_catalog_that_cannot_be_read_is_an_error_of_this_package(folder: Path) -> None:
    with pytest.raises(FilesNotFoundError, match=r"none\.yml"):
        open_untrusted_catalog(str(folder / "none.yml"))
    (folder / "theirs.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(EntryError, match="is not YAML"):
        open_untrusted_catalog(str(folder / "theirs.yml"))


def test_only_listed_protocols_open(folder: Path) -> None:
    for url in ("s3://b/a.tif", "https://h/a.tif", "simplecache::file:///a.tif", "zip://a::/x.zip"):
        with pytest.raises(OptionError, match="allow_protocols lacks"):
            _ = open_stack(url).shape
    (folder / "list.txt").write_text("memory://a.tif\n")
    with pytest.raises(OptionError, match="allow_protocols lacks 'memory'"):
        _ = open_stack(str(folder / "list.txt")).shape
    assert open_stack(str(folder / "t*.tif"), pattern="t{t:d}.tif").shape == (3, 4, 5)
    with dask.config.set({"tiffstack.allow_protocols": ["https"]}):
        with pytest.raises(OptionError, match="allow_protocols lacks 'file'"):
            _ = open_stack(str(folder / "t*.tif")).shape
        with pytest.raises(OptionError, match="allow_protocols lacks 'file'"):
            open_untrusted_catalog(write(folder, {"args": {"urlpath": URLPATH}})).scan.read()


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "simplecache", "target_protocol": "http"},
        {"target_protocol": "memory"},
        {"deep": [{"remote_protocol": "memory"}]},
        {"fo": "memory://a.zip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.tif", "zip://a.tif"])
def test_storage_options_name_no_other_protocol(options: dict[str, Any], url: str) -> None:
    with (
        dask.config.set({"tiffstack.allow_protocols": ["file", "http", "zip"]}),
        pytest.raises(OptionError, match=r"allow_protocols lacks '(memory|simplecache)'"),
    ):
        _ = open_stack(url, storage_options=options).shape


def test_references_name_no_other_protocol(folder: Path) -> None:
    (folder / "a.json").write_text('{"a": ["memory://a", 0, 4]}')
    settings = {"tiffstack.allow_protocols": ["file"], "tiffstack.allow_references": True}
    with dask.config.set(settings), pytest.raises(OptionError, match="lacks 'memory'"):
        intake.open_tiffstack_zarr(str(folder / "a.json")).read()


def test_without_listed_protocols_no_catalog_opens(folder: Path) -> None:
    url = write(folder, {"args": {"urlpath": URLPATH}})
    with dask.config.set({"tiffstack.allow_protocols": None}), pytest.raises(OptionError):
        open_untrusted_catalog(url)
