"""Secrets are planted everywhere; all that is printed or written is searched for them."""

from __future__ import annotations

import gzip
import io
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import intake
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import intake_tiffstack.errors
from intake_tiffstack import add_to_catalog, open_stack
from intake_tiffstack.errors import (
    FileChangedError,
    OptionError,
    StorageError,
    TiffStackError,
    UnsupportedFileError,
)
from intake_tiffstack.header.cache import clear_headers
from intake_tiffstack.redact import hide_in_text, mask_secrets
from servers import FileServer, serve_cluster, serve_files

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
