"""Zarr copies and references from others: no code of theirs runs, no other file of ours is read."""

from __future__ import annotations

import base64
import json
import os
import pickle
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import dask
import intake
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr

from intake_tiffstack import open_stack
from intake_tiffstack.errors import OptionError, StorageError, TiffStackError, TooLargeError
from intake_tiffstack.storage import reference_targets

PIXELS = {
    "zarr_format": 2,
    "shape": [1, 8],
    "chunks": [1, 8],
    "dtype": "|u1",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}


class _Runs:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("RAN",))


def write_document(path: Path, reference: Any, **array: Any) -> str:
    refs = {
        ".zgroup": json.dumps({"zarr_format": 2}),
        "pixels/.zarray": json.dumps({**PIXELS, **array}),
        "pixels/.zattrs": json.dumps({"_ARRAY_DIMENSIONS": ["y", "x"]}),
        "pixels/0.0": reference,
    }
    path.write_text(json.dumps({"version": 1, "refs": refs}))
    return str(path)


@pytest.mark.parametrize(
    "array",
    [
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "pickle"}},
        {"dtype": "|O", "filters": [{"id": "pickle"}], "fill_value": ""},
        {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "fill_value": ""},
        {"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle"}},
        {"dtype": "|O", "filters": [{"id": "vlen-utf8"}], "fill_value": ""},
        {"dtype": "|S8", "fill_value": ""},
    ],
    ids=["filter", "compressor", "object", "text and pickle", "compressed text", "text", "bytes"],
)
def test_arrays_of_objects_are_refused_at_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: dict[str, Any]
) -> None:
    """Whatever numcodecs allows: here it unpickles, as it did before 0.16.6."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(numcodecs.Pickle, "decode", lambda self, buf, out=None: pickle.loads(buf))
    payload = "base64:" + base64.b64encode(pickle.dumps(_Runs())).decode()
    url = write_document(tmp_path / "shared.json", payload, **array)
    with pytest.raises(StorageError):
        intake.open_tiffstack_zarr(url).to_dask()
    assert not os.path.exists("RAN")


def test_coordinates_that_unpickle_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(numcodecs.Pickle, "decode", lambda self, buf, out=None: pickle.loads(buf))
    filters = [{"id": "vlen-utf8"}, {"id": "pickle"}]
    texts = {"shape": [1], "chunks": [1], "dtype": "|O", "fill_value": "", "filters": filters}
    for name, array, dims, chunk in (
        ("pixels", {}, ["y", "x"], b"12345678"),
        ("y", texts, ["y"], pickle.dumps(_Runs())),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".zarray").write_text(json.dumps({**PIXELS, **array}))
        (tmp_path / name / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": dims}))
        (tmp_path / name / ("0.0" if len(dims) == 2 else "0")).write_bytes(chunk)
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(StorageError, match="codec 'pickle'"):
        intake.open_tiffstack_zarr(str(tmp_path)).to_dask()
    assert not os.path.exists("RAN")


# -- documents that say the impossible -------------------------------------------------------------

NONSENSE: list[Any] = [None, -1, 0, 2**40, 2**70, 1.5, float("nan"), "x", "", [], {}, [[]], True]
NONSENSE += ["9" * 5000, [1] * 40, {"a": {"b": 1}}, "|O", "<M8[ns]", "\0", 1e300]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value in a JSON document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value[:4]):
            yield from leaves(item, (*path, number))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Zarr 3.4 repairs some, with a warning
@pytest.mark.parametrize(
    "options",
    [{"zarr_format": 2}, {"zarr_format": 3}, {"group": True}]
    + [{"format": "ome-zarr", "version": version} for version in ("0.4", "0.6")],
    ids=str,
)
def test_nonsense_in_documents_of_copies_is_an_error_of_this_package(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    for t in range(2):
        tifffile.imwrite(tmp_path / f"a_t{t}.tif", np.full((4, 5), t, np.uint16), metadata=None)
    copy = tmp_path / "copy.zarr"
    stack = open_stack(f"{tmp_path}/a_t*.tif", pattern="a_t{t:d}.tif", scale={"y": 0.5})
    stack.export(str(copy), progress=False, **options)
    documents = [
        path for path in copy.rglob("*") if path.name in ("zarr.json", ".zarray", ".zattrs")
    ]
    documents += copy.rglob("tiffstack-record.json")
    choose = random.Random(7)
    for _ in range(120):
        path = choose.choice(documents)
        before = path.read_text()
        document = json.loads(before)
        place = choose.choice([*leaves(document)] or [("a",)])
        inside = document
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = choose.choice(NONSENSE)
        path.write_text(json.dumps(document))
        try:
            opened = intake.open_tiffstack_zarr(str(copy))
            opened.to_xarray()
            assert str(opened.report())
        except TiffStackError:
            pass
        except Exception as exc:
            raise AssertionError(f"{path.name}: {place} = {inside[place[-1]]!r:.40}") from exc
        path.write_text(before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dims", True),
        ("dims", "x"),
        ("shape", "x"),
        ("coords", 1),
        ("coord_units", True),
        ("nodata", "x"),
        ("nodata", []),
        ("nodata", float("nan")),
        ("affine", ["a"] * 6),
    ],
)
def test_attributes_of_other_programs_may_have_any_type(
    tmp_path: Path, name: str, value: Any
) -> None:
    url = str(tmp_path / "a.zarr")
    zarr.create_array(
        url, shape=(2, 3), dtype="u2", dimension_names=["y", "x"], attributes={name: value}
    )
    source = intake.open_tiffstack_zarr(url)
    assert source.metadata["dims"] == ["y", "x"]
    assert source.metadata["shape"] == [2, 3]
    assert source.to_xarray().shape == (2, 3)
    assert str(source.report())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000], ids=["list", "mapping"])
@pytest.mark.parametrize("name", ["zarr.json", ".zattrs", ".zarray"])
def test_documents_that_are_nested_too_deeply_are_an_error_of_this_package(
    tmp_path: Path, name: str, text: str
) -> None:
    version: Literal[2, 3] = 3 if name == "zarr.json" else 2
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(2, 3), dtype="u2", zarr_format=version)
    (tmp_path / "a.zarr" / name).write_text(text)
    with pytest.raises(StorageError, match=r"a\.zarr is"):
        intake.open_tiffstack_zarr(str(tmp_path / "a.zarr")).to_dask()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("zip_level", [None, 1], ids=["raw", "zstd"])
@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zattrs", "0.0", "c/0/0"])
def test_a_pipe_in_a_copy_is_never_waited_for(
    tmp_path: Path, name: str, zip_level: int | None
) -> None:
    version: Literal[2, 3] = 3 if name[0] in "zc" else 2
    array = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=(2, 3),
        dtype="u2",
        zarr_format=version,
        dimension_names=["y", "x"] if version == 3 else None,
        attributes={"_ARRAY_DIMENSIONS": ["y", "x"]},
        compressors=None if zip_level is None else "auto",
    )
    array[:] = 7
    path = tmp_path / "a.zarr" / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TiffStackError, match="named pipe"):
        intake.open_tiffstack_zarr(str(tmp_path / "a.zarr")).read()


@pytest.mark.parametrize(
    ("shape", "chunks"), [((2**40, 4), (1, 4)), ((10, 4), (2**40, 4))], ids=["chunks", "chunk"]
)
def test_arrays_that_no_machine_can_hold_are_refused_at_open(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    url = str(tmp_path / "a.zarr")
    zarr.create_array(url, shape=shape, chunks=chunks, dtype="u2", dimension_names=["y", "x"])
    with pytest.raises(TooLargeError, match=r"a\.zarr"):
        intake.open_tiffstack_zarr(url).to_dask()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "shared" / "raw").mkdir(parents=True)
    (tmp_path / "home" / "secret").write_bytes(b"SECRET12")
    return tmp_path / "home" / "secret"


@pytest.mark.parametrize(
    "target",
    [
        "{secret}",
        "file://{secret}",
        "{folder}/../home/secret",
        "{folder}/raw/link",
        "http://127.0.0.1:9/secret",
        "s3://bucket/secret",
        "simplecache::file://{secret}",
    ],
)
def test_references_to_other_folders_and_hosts_are_refused(
    tmp_path: Path, secret: Path, target: str
) -> None:
    (tmp_path / "shared" / "raw" / "link").symlink_to(secret)
    named = target.format(secret=secret, folder=tmp_path / "shared")
    url = write_document(tmp_path / "shared" / "a.json", [named, 0, 8])
    for opened, options in (
        (url, {}),
        ("reference://pixels", {"fo": url}),
    ):
        with pytest.raises(StorageError, match=r"a\.json names .*allow_references"):
            intake.open_tiffstack_zarr(opened, storage_options=options).to_dask()
    with pytest.raises(StorageError, match=r"a\.json names .*allow_references"):
        _ = open_stack("reference://pixels/0.0", storage_options={"fo": url}).shape


def test_references_to_the_same_folder_or_to_what_the_opener_allows_are_read(
    tmp_path: Path, secret: Path
) -> None:
    (tmp_path / "shared" / "raw" / "own").write_bytes(b"own text")
    url = write_document(tmp_path / "shared" / "a.json", [f"{tmp_path}/shared/raw/own", 0, 8])
    assert bytes(intake.open_tiffstack_zarr(url).read().ravel()) == b"own text"
    url = write_document(tmp_path / "shared" / "b.json", [str(secret), 0, 8])
    for allowed in ([str(secret.parent)], True):
        with dask.config.set({"tiffstack.allow_references": allowed}):
            assert bytes(intake.open_tiffstack_zarr(url).read().ravel()) == b"SECRET12"
    with (
        dask.config.set({"tiffstack.allow_references": [str(tmp_path / "ho")]}),
        pytest.raises(StorageError, match="which lies in another folder"),
    ):
        intake.open_tiffstack_zarr(url).to_dask()
    with (
        dask.config.set({"tiffstack.allow_references": "/data"}),
        pytest.raises(OptionError, match="must be a list of folders"),
    ):
        intake.open_tiffstack_zarr(url).to_dask()


def test_templates_of_references_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = write_document(tmp_path / "a.json", ["{{u}}", 0, 8])
    document = json.loads(Path(url).read_text())
    document["templates"] = {"u": "{{ cycler.__init__.__globals__.os.mkdir('RAN') }}"}
    Path(url).write_text(json.dumps(document))
    with pytest.raises(StorageError, match="templates, which can run code"):
        intake.open_tiffstack_zarr(url).to_dask()
    assert not os.path.exists("RAN")


_U = {"templates": {"u": "/", "v": "{secret}"}}


@pytest.mark.parametrize(
    ("target", "document"),
    [
        ("file:{secret}", {}),
        ("local:{secret}", {}),
        ("file:{secret}", {"version": None}),
        ("{secret}", {"version": None, "refs": {}}),
        ("{secret}", {"version": None, "refs": {"a": "b"}}),
        ("{{{{u[0]}}}}{secret}", _U),
        ("{{{{v!s}}}}", _U),
        ("{{{{v:}}}}", _U),
        ("{{v}}{{{{u:.0}}}}", _U),
        ("{{{{v}}}}", _U),
        ("{{{{v }}}}", {"templates": {"v ": "{secret}"}}),
    ],
)
def test_references_are_checked_as_fsspec_understands_them(
    tmp_path: Path,
    secret: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    document: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path / "shared")  # where a relative path would be in the same folder
    url = write_document(tmp_path / "shared" / "a.json", [target.format(secret=secret), 0, 8])
    content = json.loads(Path(url).read_text())
    if "version" in document:  # the first version of the format: all of it is references
        content = content["refs"]
        document = {k: v for k, v in document.items() if k != "version"}
    filled = json.loads(json.dumps(document).replace("{secret}", str(secret)))
    Path(url).write_text(json.dumps(content | filled))
    for opened, options in ((url, {}), ("a.json", {}), ("reference://pixels", {"fo": url})):
        with pytest.raises(StorageError, match=r"a\.json"):
            intake.open_tiffstack_zarr(opened, storage_options=options).read()


@pytest.mark.parametrize(
    "options",
    [
        {"template_overrides": {"u": "/"}},
        {"simple_templates": False},
        {"target": "/etc/passwd"},
        {"ref_storage_args": {"protocol": "memory"}},
        {"fs": {"file": {}}},
        {"target_protocol": "memory"},
    ],
)
def test_options_that_make_references_name_other_files_are_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    url = write_document(tmp_path / "a.json", "abcdefgh")
    assert intake.open_tiffstack_zarr("reference://pixels", storage_options={"fo": url}).read().size
    with pytest.raises(TiffStackError, match=r"leave it out|memory://"):
        intake.open_tiffstack_zarr(
            "reference://pixels", storage_options={"fo": url, **options}
        ).read()


@pytest.mark.parametrize(
    "reference",
    [
        [None, 0, 8],
        [["a"], 0, 8],
        [],
        ["a", "0", 8],
        ["a", 0, 8, 1],
        ["a", -1, 8],
        ["a", 0.5, 8],
        ["a", True, 8],
        ["a", 0],
        5,
        None,
    ],
    ids=str,
)
def test_a_reference_of_another_form_is_an_error_of_this_package(
    tmp_path: Path, reference: Any
) -> None:
    url = write_document(tmp_path / "a.json", reference)
    with pytest.raises(StorageError, match=r"a\.json holds no references that can be used: 'pix"):
        intake.open_tiffstack_zarr(url).read()


@pytest.mark.parametrize(
    "text",
    [
        '{"version": 1, "refs": [1]}',
        '{"version": 1, "templates": [1], "refs": {"a": "b"}}',
        '{"version": 1, "refs": NaN}',
        '{"version": 2, "refs": {}}',
        "[1]",
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_a_document_of_another_form_is_an_error_of_this_package(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StorageError, match=r"a\.json holds no references that can be used"):
        intake.open_tiffstack_zarr(str(tmp_path / "a.json")).read()


def test_a_document_of_this_process_opens_wherever_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "out").mkdir()
    tifffile.imwrite(tmp_path / "raw" / "a.tif", np.full((4, 5), 7, np.uint8))
    url = f"{tmp_path}/out/a.json"
    open_stack(f"{tmp_path}/raw/a.tif").export(url, format="references", progress=False)
    assert intake.open_tiffstack_zarr(url).read()[0, 0] == 7
    monkeypatch.setattr(reference_targets, "_OWN", set())  # as in another process
    with pytest.raises(StorageError, match=r"'tiffstack.allow_references': \['.*/raw'\]"):
        intake.open_tiffstack_zarr(url).to_dask()
    with dask.config.set({"tiffstack.allow_references": [f"{tmp_path}/raw"]}):
        assert intake.open_tiffstack_zarr(url).read()[0, 0] == 7


@pytest.mark.parametrize("value", [{}, [], 1.5, "x", "AAAA", "AAAAAAAA", None, True])
def test_a_fill_value_that_xarray_does_not_decode_is_an_error_of_this_package(
    tmp_path: Path, value: Any
) -> None:
    for t in range(2):
        tifffile.imwrite(tmp_path / f"a_t{t}.tif", np.full((4, 5), t, np.uint16), metadata=None)
    stack = open_stack(f"{tmp_path}/a_t*.tif", pattern="a_t{t:d}.tif", scale={"y": 0.5})
    stack.export(str(tmp_path / "copy.zarr"), progress=False, group=True)
    for name in ("y", "t"):
        path = tmp_path / "copy.zarr" / name / "zarr.json"
        document = json.loads(path.read_text())
        changed = {**document, "attributes": {**document["attributes"], "_FillValue": value}}
        path.write_text(json.dumps(changed))
        with suppress(TiffStackError):
            intake.open_tiffstack_zarr(str(tmp_path / "copy.zarr")).to_xarray()
        path.write_text(json.dumps(document))
