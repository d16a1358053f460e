"""Secrets are planted everywhere; all that is printed or written is searched for them."""

from __future__ import annotations

import gzip
import io
import json
import logging
import pickle
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import fsspec
import intake
import numpy as np
import pytest
import tifffile
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import intake_tiffstack.errors
from intake_tiffstack import add_to_catalog, open_stack, open_untrusted_catalog, suggest
from intake_tiffstack.cli.app import app
from intake_tiffstack.errors import (
    EntryError,
    FileChangedError,
    OptionError,
    StorageError,
    TiffStackError,
    UnsupportedFileError,
)
from intake_tiffstack.header.cache import clear_headers
from intake_tiffstack.intake2 import TiffCollection
from intake_tiffstack.redact import hide_in_text, mask_secrets
from servers import FileServer, serve_cluster, serve_files

pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")  # Intake

SECRET = "SeKrEt99"
NAMES = ["pwd", "jwt", "sessionid", "bearer", "hmac", "code", "authorization", "st", "Policy"]
NAMES += ["sig", "X-Amz-Signature", "token", "Key-Pair-Id", "x", "a.b[c]"]


@pytest.fixture
def server() -> Iterator[FileServer]:
    content = io.BytesIO()
    tifffile.imwrite(content, np.arange(48, dtype=np.uint16).reshape(8, 6), metadata=None)
    with serve_files({"a.tif": content.getvalue()}) as server:
        yield server


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_of_a_url_is_hidden(name: str) -> None:
    url = f"https://h/a.tif?x=1&{name}={SECRET}"
    assert SECRET not in hide_in_text(url)
    assert SECRET not in mask_secrets(url)


def test_what_names_a_version_is_shown() -> None:
    url = "s3://b/a.tif?versionId=3HL4kqtJlcpXroDTDmJ"
    assert hide_in_text(url) == mask_secrets(url) == url
    assert hide_in_text("https://h/a.tif?sha=4d7a") == "https://h/a.tif?sha=4d7a"
    assert SECRET not in hide_in_text(f"https://h/a.tif?sha=1;pwd={SECRET}")
    assert SECRET not in hide_in_text(f"https://h/a.tif?{SECRET}")


@pytest.mark.parametrize(
    "url",
    [
        f"https://h/a.tif?x=1&{SECRET}",
        f"https://h/a.tif?x=1&{SECRET}&y=2",
        f"https://h/a.tif?{SECRET}==",
        f"https://h/a.tif;jsessionid={SECRET}",
        f"https://h/a.tif#access_token={SECRET}",
        f"https://h/a.tif;token={SECRET}?versionId=1",
        f"//me:{SECRET}@h/a.tif",
    ],
)
def test_a_secret_without_a_name_or_before_the_query_is_hidden(url: str) -> None:
    assert SECRET not in hide_in_text(f"cannot read {url}: refused")
    assert SECRET not in mask_secrets(url)


@pytest.mark.parametrize("text", ["a" * 30_000 + "://", "a" * 30_000 + "?", "http://" * 5000 + "?"])
def test_long_texts_are_searched_once(text: str) -> None:
    began = time.process_time()
    assert hide_in_text(text) == text
    assert time.process_time() - began < 1  # 9 s where each letter may begin a URL


@given(name=st.from_regex(r"[A-Za-z_][\w.-]{0,12}", fullmatch=True))
def test_only_known_names_are_shown(name: str) -> None:
    is_known = name.lower() in ("versionid", "version_id", "sha", "generation")
    assert (SECRET in hide_in_text(f"see https://h/a.tif?{name}={SECRET}&y=2")) == is_known


def test_nothing_that_is_shown_or_written_has_a_secret(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    url = f"{server.url}/a.tif?pwd={SECRET}"
    options = {"client_kwargs": {"headers": {"X-Api-Key": SECRET, "Authorization": SECRET}}}
    source = intake.open_tiffstack([url], storage_options=options)
    stack = source.stack
    shown: dict[str, Any] = {
        "options": repr(stack.options),
        "stack": repr(stack),
        "source": repr(source) + source._repr_html_() + source.yaml() + repr(source.describe()),
        "report": str(stack.report()) + json.dumps(stack.report().to_dict()),
        "graph": str(dict(stack.to_dask().__dask_graph__())),
        "metadata": json.dumps(stack.metadata),
        "files": stack.files.to_csv(),
        "file_metadata": repr(stack.file_metadata(0)),
        "by URL": repr(stack.file_metadata(stack.files["url"][0])),
        "xarray": repr(stack.to_xarray().attrs),
    }
    source.export(str(tmp_path / "o.zarr"), progress=False)
    source.export(str(tmp_path / "o.ome.zarr"), format="ome-zarr", progress=False)
    with pytest.raises(UnsupportedFileError) as refused:
        source.export(str(tmp_path / "o.json"), format="references", progress=False)
    source.persist(progress=False)
    add_to_catalog(source, tmp_path / "lab.yml", "x")
    shown["references"] = "".join(traceback.format_exception(refused.value))
    for path in tmp_path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        shown[str(path)] = content.decode(errors="replace")
    assert [name for name, text in shown.items() if SECRET in text] == []


# -- storage options whose names nobody knows ------------------------------------------------------

PIN = 739041788


class Credential:
    """What some filesystems take instead of a text."""

    def __repr__(self) -> str:
        return f"Credential({SECRET})"

    def __dask_tokenize__(self) -> str:
        return "credential"


ODD: dict[str, Any] = {
    "odd": SECRET,
    "pin": PIN,
    "ratio": float(PIN),
    "raw": SECRET.encode(),
    "object": Credential(),
    "hosts": [SECRET, {"deep": SECRET}, [SECRET]],
    "pair": ("me", SECRET),
    "headers": {"X-Odd": SECRET, "Accept": SECRET},
    "client_kwargs": {"cookies": {"a": SECRET}, "region_name": "eu-known"},
    "profile": "lab-known",
    "endpoint_url": f"https://me:{SECRET}@endpoint-known?x={SECRET}",
    "anon": True,
}


def shows_secret(text: str) -> bool:
    return SECRET in text or str(PIN) in text or SECRET.encode().hex() in text


def shown_by(source: Any, folder: Path) -> dict[str, str]:
    """Return all that a source shows or writes, by what shows it."""
    stack = source.stack
    given = stack.options.storage_options
    found = suggest(stack.options.urlpath, storage_options=given)
    best = found[0]
    shown = {
        "options": repr(stack.options),
        "stack": repr(stack) + stack._repr_html_(),
        "source": repr(source) + source._repr_html_(),
        "yaml": source.yaml(),
        "describe": repr(source.describe()),
        "report": str(stack.report()) + json.dumps(stack.report().to_dict()),
        "html": stack.report()._repr_html_(),
        "graph": str(dict(stack.to_dask().__dask_graph__())) + repr(stack.to_dask()),
        "metadata": json.dumps(stack.metadata) + repr(stack.file_metadata(0)),
        "xarray": repr(stack.to_xarray()) + repr(stack.to_xarray().attrs),
        "suggest": repr(found) + repr(list(found)) + best.to_yaml() + best.to_python(),
        "json": json.dumps(best.to_dict()),
        "no pattern": str(open_stack(stack.options.urlpath, storage_options=given).report()),
        "intake 2": repr(TiffCollection("memory://a/*.tif", storage_options=ODD)),
    }
    copy = source.export(str(folder / "o.zarr"), progress=False, storage_options=ODD)
    shown["copy"] = repr(copy) + copy._repr_html_() + copy.yaml() + repr(copy.describe())
    shown["copy"] += repr(copy.report()) + repr(copy.verify(source=False))
    shown["plan"] = repr(source.export(str(folder / "p.zarr"), dry_run=True, storage_options=ODD))
    source.export(str(folder / "o.ome.zarr"), format="ome-zarr", progress=False)
    source.persist(progress=False)
    shown["persisted"] = repr(source) + repr(source.get_persisted()) + source.yaml()
    add_to_catalog(source, folder / "lab.yml", "x")
    add_to_catalog(stack, folder / "lab.yml", "y")
    add_to_catalog(copy, folder / "lab.yml", "z")
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        shown[str(path)] = content.decode(errors="replace")
    return shown


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two files in memory, which takes any option."""
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "written" / "store"))
    (tmp_path / "written").mkdir()
    content = io.BytesIO()
    tifffile.imwrite(content, np.arange(48, dtype=np.uint16).reshape(8, 6), metadata=None)
    for t in range(2):
        MemoryFileSystem().pipe(f"/a/a_t{t}.tif", content.getvalue())
    yield
    MemoryFileSystem.store.clear()


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_values_of_unknown_storage_options_are_never_shown(
    tmp_path: Path, chain: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "intake_tiffstack")
    cache = {"cache_storage": str(tmp_path / "cache"), **ODD}
    options = {"simplecache": cache, "memory": ODD} if chain else ODD
    source = intake.open_tiffstack(
        f"{chain}memory://a/*.tif", pattern="a_t{t:d}.tif", storage_options=options
    )
    shown = shown_by(source, tmp_path / "written")
    assert [name for name, text in shown.items() if shows_secret(text)] == []
    assert not shows_secret(caplog.text)
    for text in (shown["yaml"], shown["options"]):  # by which a mistake is found
        assert all(known in text for known in ("lab-known", "eu-known", "endpoint-known", "odd"))
    assert "anon: true" in shown["yaml"]


@pytest.mark.usefixtures("memory")
def test_values_of_storage_options_in_an_entry_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(
        f"""
sources:
  plain: {{driver: tiffstack, args: {{urlpath: "memory://a/*.tif", storage_options: {{odd: {SECRET},
    list: [{SECRET}], s3: {{odd: {SECRET}}}}}}}}}
  text: {{driver: tiffstack, args: {{urlpath: "memory://a/*.tif",
    storage_options: "{{odd: {SECRET}, profile: lab}}"}}}}
  parameter:
    driver: tiffstack
    parameters:
      where: {{description: d, type: str, default: {SECRET}}}
      password: {{description: d, type: str, default: {SECRET}}}
    args:
      urlpath: "memory://a/*.tif"
      storage_options: {{odd: "{{{{ where }}}}", two: "{{{{ password }}}}"}}
"""
    )
    catalog = intake.open_catalog(str(tmp_path / "c.yml"))
    for name in ("plain", "text", "parameter"):
        source = catalog[name]
        assert source.options.storage_options["odd"] == SECRET
        written = tmp_path / "written" / name
        written.mkdir()
        shown = shown_by(source, written)
        assert [place for place, text in shown.items() if shows_secret(text)] == []


@pytest.mark.usefixtures("memory")
def test_a_masked_default_of_a_parameter_is_taken_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = """
sources:
  x:
    driver: tiffstack
    parameters:
      where: {description: d, type: str, default: first}
      password: {description: d, type: str, default: word}
    args:
      urlpath: "memory://a/*.tif"
      storage_options: {odd: "{{ where }}", two: "{{ password }}"}
"""
    (tmp_path / "c.yml").write_text(entry)
    (tmp_path / "d.yml").write_text(intake.open_catalog(str(tmp_path / "c.yml")).x.yaml())
    monkeypatch.setenv("WHERE", "second")
    monkeypatch.setenv("PASSWORD", "third")
    options = intake.open_catalog(str(tmp_path / "d.yml")).x.options
    assert options.storage_options == {"odd": "second", "two": "third"}


class TalkativeFileSystem(MemoryFileSystem):
    """A store whose errors repeat all options, as those of some clients do."""

    protocol = "talkative"

    def find(self, path: str, **kwargs: Any) -> Any:
        raise self.fault(f"refused with {self.storage_options}, {SECRET}")

    ls = info = cat_file = pipe_file = find

    fault: type[Exception] = OSError


@pytest.mark.parametrize("fault", [OSError, ValueError, PermissionError])
@pytest.mark.parametrize("nested", [False, True])
def test_errors_of_a_store_do_not_repeat_its_options(
    monkeypatch: pytest.MonkeyPatch, fault: type[Exception], nested: bool
) -> None:
    fsspec.register_implementation("talkative", TalkativeFileSystem, clobber=True)
    monkeypatch.setattr(TalkativeFileSystem, "fault", fault)
    given = {key: value for key, value in ODD.items() if key not in ("raw", "object")}
    url = "simplecache::talkative://a/*.tif" if nested else "talkative://a/*.tif"
    options = {"talkative": given} if nested else given
    with dask.config.set({"tiffstack.retries": 0}), pytest.raises(TiffStackError) as caught:
        open_stack(url, storage_options=options).read()
    text = "".join(traceback.format_exception(caught.value)) + repr(caught.value.details)
    assert "refused with" in text
    assert not shows_secret(text)


@pytest.mark.usefixtures("memory")
def test_the_command_line_shows_no_storage_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = json.dumps({"odd": SECRET, "list": [SECRET], "s3": {"odd": SECRET}})
    monkeypatch.setenv("TIFFSTACK_STORAGE_OPTIONS", given)
    out = tmp_path / "o.zarr"
    for command in (
        ["inspect", "memory://a/*.tif"],
        ["inspect", "memory://a/*.tif", "--json"],
        ["catalog", "memory://a/*.tif", "--output", str(tmp_path / "lab.yml"), "--name", "x"],
        ["export", "memory://a/*.tif", str(out), "--json"],
        ["inspect", "memory://nothing/*.tif"],
    ):
        found = CliRunner().invoke(app, command)
        assert SECRET not in found.output + found.stderr, command
    assert (tmp_path / "lab.yml").exists()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("line", ["secret: *SeKrEt99", "secret: 'SeKrEt99", "secret: !SeKrEt99 x"])
def test_the_error_of_a_broken_catalog_does_not_show_its_lines(tmp_path: Path, line: str) -> None:
    broken = tmp_path / "c.yml"
    broken.write_text(f"sources:\n  x:\n    driver: tiffstack\n    {line}\n")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), "u2"))
    for call in (
        lambda: add_to_catalog(open_stack(str(tmp_path / "a.tif")), broken, "y"),
        lambda: open_untrusted_catalog(str(broken)),
    ):
        with (
            dask.config.set({"tiffstack.allow_protocols": ["file"]}),
            pytest.raises(EntryError, match=r"in line \d") as caught,
        ):
            call()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [403, 404, 416, 500])
def test_no_error_has_a_secret_nor_its_printed_traceback(server: FileServer, status: int) -> None:
    url = f"{server.url}/a.tif?pwd={SECRET}"
    stack = open_stack([url])
    assert stack.shape == (1, 8, 6)
    server.manner = lambda request: status
    clear_headers()
    with dask.config.set({"tiffstack.retries": 0}), pytest.raises(TiffStackError) as caught:
        stack.read()
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in text + repr(caught.value) + repr(caught.value.details)
    with pytest.raises(TiffStackError) as caught:
        _ = open_stack([url]).shape
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_storage_options_that_are_no_mapping_are_not_shown() -> None:
    with pytest.raises(OptionError, match="storage_options must be dict, but got str") as caught:
        open_stack("s3://b/a.tif", storage_options=f"secret={SECRET}")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_details_of_errors_have_no_secret() -> None:
    error = TiffStackError("x", urls=(f"http://h/a?pwd={SECRET}", {"secret": SECRET}))
    assert SECRET not in repr(error.details)


# -- errors that reach another process -------------------------------------------------------------


ERRORS = [
    found
    for name in sorted(intake_tiffstack.errors.__all__)
    if isinstance(found := getattr(intake_tiffstack.errors, name), type)
    and issubclass(found, TiffStackError)
]


@pytest.mark.parametrize("cls", ERRORS)
def test_every_error_survives_pickling(cls: type[TiffStackError]) -> None:
    pickling_support = pytest.importorskip("tblib.pickling_support", reason="dask brings tblib")
    pickling_support.install(cls)
    again = pickle.loads(pickle.dumps(cls("what, where", url="u")))
    assert (type(again), str(again), again.details) == (cls, "what, where", {"url": "u"})


@pytest.mark.parametrize(("status", "kind"), [(403, StorageError), (404, FileChangedError)])
def test_an_error_of_a_store_keeps_its_class_wherever_it_is_computed(
    server: FileServer, status: int, kind: type[TiffStackError]
) -> None:
    array = open_stack(f"{server.url}/a.tif").to_dask()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    server.manner = lambda request: status
    clear_headers()
    with serve_cluster() as client:
        for compute in (
            lambda: array.compute(scheduler="threads"),
            lambda: array.compute(scheduler="processes", num_workers=1),
            lambda: client.compute(array).result(timeout=60),
        ):
            with pytest.raises(kind, match=r"a\.tif"):
                compute()
