"""An entry added to the file of a catalog: the other entries and all comments stay."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path
from textwrap import dedent
from typing import Any

import fsspec
import intake
import numpy as np
import pytest
import s3fs
import tifffile
import yaml
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from intake.catalog.utils import expand_templates

from child_processes import FORKS
from intake_tiffstack import TiffStackSource, add_to_catalog, open_stack
from intake_tiffstack.driver.add_to_catalog import _with_entry
from intake_tiffstack.errors import EntryError, OptionError, StorageError, TiffStackWarning
from intake_tiffstack.storage import shared_document
from intake_tiffstack.storage.urls import absolute_url
from servers import Request, S3Server

CATALOG = """\
# The lab's catalog.
metadata:
  version: 1
plugins:
  source:
  - module: intake_tiffstack   # not indented

sources:
  # the first one
  first:
    description: 'single quotes'   # a comment behind
    driver: csv
    parameters:
      day: {description: d, type: str, default: "01"}
    args:
      urlpath: "{{ CATALOG_DIR }}/{{ day }}.csv"
      words: [NO, 010, 1:30]
      long: LONG

  # the second one
  second:
    driver: csv
    args:
      urlpath: >
        folded
        text
      # the last line of the second

  # the third one
  third:
    driver: csv
    args: {urlpath: c.csv}

# the end
""".replace("LONG", '"' + "no line is broken " * 20 + '"')
ENTRY: dict[str, Any] = {"driver": "tiffstack_zarr", "args": {"urlpath": "s3://b/NO.zarr"}}
SPELLED = """\
    driver: tiffstack_zarr
    args:
      urlpath: s3://b/NO.zarr
"""


@pytest.fixture
def pixels(tmp_path: Path) -> np.ndarray:
    """Write three files, raw/t0.tif to raw/t2.tif, and return their pixels."""
    (tmp_path / "raw").mkdir()
    pixels = np.arange(3 * 8 * 6, dtype=np.uint16).reshape(3, 8, 6)
    for t in range(3):
        tifffile.imwrite(tmp_path / "raw" / f"t{t}.tif", pixels[t])
    return pixels


def test_a_new_entry_is_a_few_more_lines_and_nothing_else() -> None:
    changed = _with_entry(CATALOG, "new", ENTRY, "lab.yml")
    before, after = CATALOG.split("\n# the end")
    assert changed == f"{before}  new:\n{SPELLED}\n# the end{after}"


@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_replacing_an_entry_leaves_the_others_as_they_are(name: str) -> None:
    changed = _with_entry(CATALOG, name, ENTRY, "lab.yml")
    old, new = CATALOG.splitlines(), changed.splitlines()
    start = old.index(f"  {name}:")
    assert new[: start + 1] == old[: start + 1]
    rest = old[start + 1 :]
    while rest and (rest[0].startswith("   ") or (not rest[0] and rest[1].startswith("   "))):
        rest.pop(0)
    assert new[start + 1 :] == [*SPELLED.splitlines(), *rest]
    assert list(yaml.safe_load(changed)["sources"]) == ["first", "second", "third"]


def test_the_same_entry_again_changes_nothing() -> None:
    once = _with_entry(CATALOG, "new", ENTRY, "lab.yml")
    assert _with_entry(once, "new", ENTRY, "lab.yml") == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "sources:\n  new:\n"),
        ("metadata: {a: 1} # c", "metadata: {a: 1} # c\nsources:\n  new:\n"),
        ("sources:   # none yet\nmetadata: {}\n", "sources:   # none yet\n  new:\n"),
        ("sources: {}   # none yet\nmetadata: {}\n", "sources:      # none yet\n  new:\n"),
        ("sources: null\n", "sources:\n  new:\n"),
        ("sources:\n    a: {driver: csv}", "sources:\n    a: {driver: csv}\n    new:\n"),
        ("sources: {a: {driver: csv}}\n#c\n", "sources:\n  a: {driver: csv}\n  new:\n"),
        ("sources:  # no: {} yet\nb: 1\n", "sources:  # no: {} yet\n  new:\n"),
        ("sources: {\n}  # none\nb: 1\n", "sources: # none\n  new:\n"),
        ("sources: &all\n a: {driver: csv}\n", "sources:\n a: {driver: csv}\n new:\n"),
        ("\ufeffsources: ~\n", "\ufeffsources:\n  new:\n"),
        ("metadata: {}\n...\n", "metadata: {}\nsources:\n  new:\n"),
        ("# only a comment\n", "# only a comment\nsources:\n  new:\n"),
    ],
    ids=[
        "empty file",
        "no sources",
        "nothing",
        "braces",
        "null",
        "no end of line",
        "one line",
        "braces in a comment",
        "braces over lines",
        "anchor",
        "mark of the byte order",
        "end of a document",
        "comment",
    ],
)
def test_catalogs_of_every_form_take_an_entry(text: str, expected: str) -> None:
    changed = _with_entry(text, "new", ENTRY, "lab.yml")
    assert changed.startswith(expected)
    found = yaml.safe_load(changed)
    assert found.pop("sources")["new"] == ENTRY
    assert found == {k: v for k, v in (yaml.safe_load(text) or {}).items() if k != "sources"}


def test_entries_in_braces_become_lines() -> None:
    """A comment behind a comma inside the braces is lost: ruamel.yaml does not keep it."""
    text = (
        "sources: {\n  a: {driver: csv},\n  b: {driver: 'x'}   # about b\n}\nc:   {x: [1,   2]}\n"
    )
    for name in ("new", "a"):
        changed = _with_entry(text, name, ENTRY, "lab.yml")
        assert "\n  b: {driver: 'x'}   # about b\n" in changed
        expected = yaml.safe_load(text)
        expected["sources"][name] = ENTRY
        assert yaml.safe_load(changed) == expected


def test_only_the_layout_of_other_entries_becomes_uniform() -> None:
    text = "metadata:\n    version:  '1'\nsources:\n  a: {driver: csv, args: {n:  010}}   # mine\n"
    changed = _with_entry(text, "new", ENTRY, "lab.yml")
    assert changed.startswith(
        "metadata:\n  version: '1'\nsources:\n  a: {driver: csv, args: {n: 010}}    # mine\n"
    )


def test_an_anchor_in_the_entry_that_goes_moves_to_where_it_is_used() -> None:
    text = "sources:\n  new: &x {driver: csv}\n  a: *x\n  b: *x\n"
    changed = yaml.safe_load(_with_entry(text, "new", ENTRY, "lab.yml"))
    assert changed["sources"] == {"new": ENTRY, "a": {"driver": "csv"}, "b": {"driver": "csv"}}


@pytest.mark.parametrize("dash", ["- ", "  - "])
def test_lists_keep_their_indentation(dash: str) -> None:
    text = f"plugins:\n  source:\n  {dash}module: a\n  {dash}module: b\n"
    assert _with_entry(text, "new", ENTRY, "lab.yml").startswith(f"{text}sources:\n  new:\n")


def test_a_change_of_another_entry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "intake_tiffstack.driver.add_to_catalog._replace_entry", lambda *_: "sources: {}\n"
    )
    with pytest.raises(EntryError, match="without changing another one"):
        _with_entry(CATALOG, "new", ENTRY, "lab.yml")


@pytest.mark.parametrize("name", ["new", "second"])
def test_lines_end_as_the_others_do(name: str) -> None:
    changed = _with_entry(CATALOG.replace("\n", "\r\n"), name, ENTRY, "lab.yml")
    assert changed == _with_entry(CATALOG, name, ENTRY, "lab.yml").replace("\n", "\r\n")


_words = st.text("abNO01:# -'\"{}[]&*!|>%@`\né", min_size=1, max_size=8)
_values = st.recursive(
    _words | st.integers() | st.booleans() | st.none() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=6,
)


@given(name=_words, arguments=st.dictionaries(_words, _values, max_size=3))
def test_any_entry_is_read_as_it_was_given(name: str, arguments: dict[str, Any]) -> None:
    entry = {"driver": "tiffstack", "args": arguments}
    found = yaml.safe_load(_with_entry(CATALOG, name, entry, "lab.yml"))["sources"]
    assert repr(found.pop(name)) == repr(entry)  # repr, since NaN does not equal itself
    assert found == yaml.safe_load(CATALOG)["sources"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sources: [a, b]\n", "mapping of entries"),
        ("- a\n", "is not a catalog"),
        ("sources: {a: [}\n", "cannot be read as a catalog"),
        ("sources:\n  new: {driver: csv}\n  new: {driver: x}\n", "duplicate key .* line 3"),
        ("b: &b {new: {driver: csv}}\nsources:\n  <<: *b\n", "cannot be read as a catalog"),
        ("# \udce9\n", "cannot be read as a catalog: .*utf-8"),
    ],
    ids=["list of sources", "list", "no YAML", "two alike",
         "merged, which Intake does not read", "Latin-1"],
)  # fmt: skip
def test_what_cannot_take_the_entry_is_refused_and_left(
    text: str, match: str, tmp_path: Path
) -> None:
    catalog = tmp_path / "lab.yml"
    catalog.write_text(text, errors="surrogateescape")
    with pytest.raises(EntryError, match=match):
        add_to_catalog(TiffStackSource("a.tif"), catalog, "new")
    assert catalog.read_text(errors="surrogateescape") == text


def test_a_name_must_be_text(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="got 3"):
        add_to_catalog(TiffStackSource("a.tif"), tmp_path / "lab.yml", 3)  # type: ignore[arg-type]


def test_an_exported_copy_opens_through_the_catalog(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = TiffStackSource("raw/t*.tif", pattern="t{t:d}.tif")
    copy = source.export("copy.zarr", progress=False)  # a path that is relative to here
    add_to_catalog(source, "lab.yml", "raw")
    add_to_catalog(copy, "lab.yml", "copy")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("raw", "copy.zarr", "lab.yml"):
        (tmp_path / name).rename(moved / name)
    monkeypatch.chdir("/")
    catalog = intake.open_catalog(str(moved / "lab.yml"))
    np.testing.assert_array_equal(catalog.raw.read(), pixels)
    np.testing.assert_array_equal(catalog["copy"].read(), pixels)
    assert catalog["copy"].to_xarray().dims == ("t", "y", "x")


def test_a_stack_is_added_as_the_options_that_were_given(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    add_to_catalog(open_stack("raw/*.tif", pattern="t{t:d}.tif", scale={"y": 2}), "lab.yml", "x")
    assert yaml.safe_load(Path("lab.yml").read_text())["sources"]["x"]["args"] == {
        "urlpath": "{{ CATALOG_DIR }}/raw/*.tif",
        "pattern": "t{t:d}.tif",
        "scale": {"y": 2.0},
    }
    np.testing.assert_array_equal(intake.open_catalog("lab.yml").x.read(), pixels)


def test_an_entry_of_a_copy_has_no_defaults(tmp_path: Path, pixels: np.ndarray) -> None:
    copy = TiffStackSource(f"{tmp_path}/raw/t*.tif").export(str(tmp_path / "copy.zarr"))
    add_to_catalog(copy, tmp_path / "lab.yml", "x")
    found = yaml.safe_load((tmp_path / "lab.yml").read_text())["sources"]["x"]
    assert found["args"] == {"urlpath": "{{ CATALOG_DIR }}/copy.zarr"}


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"open_stack\(\) .* but got 'raw/\*\.tif'"):
        add_to_catalog("raw/*.tif", tmp_path / "lab.yml", "x")  # type: ignore[arg-type]


def test_an_entry_of_a_catalog_keeps_its_parameters(tmp_path: Path, pixels: np.ndarray) -> None:
    catalog = tmp_path / "lab.yml"
    catalog.write_text(
        dedent("""
        sources:
          scan:
            driver: tiffstack
            parameters:
              last: {description: the last one, type: int, default: 1}
            args:
              urlpath: "{{ CATALOG_DIR }}/raw/*.tif"
              pattern: "t{t:d}.tif"
              sel: "{'t': {'from': 0, 'to': {{ last }}}}"
        """)
    )
    source = intake.open_catalog(str(catalog)).scan(chunks="file")
    add_to_catalog(source, catalog, "files")
    found = intake.open_catalog(str(catalog)).files
    assert found.to_dask().numblocks == (2, 1, 1)
    np.testing.assert_array_equal(found(last=2).read(), pixels)


def test_the_file_is_replaced_as_a_whole_behind_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "lab.yml", tmp_path / "link.yml"
    real.write_text(CATALOG)
    real.chmod(0o660)
    link.symlink_to(real)
    add_to_catalog(TiffStackSource("/a.tif"), link, "new")
    assert link.is_symlink()
    assert "new" in yaml.safe_load(real.read_text())["sources"]
    left = sorted(os.listdir(tmp_path / "real"))
    assert left == [".lab.yml.lock", "lab.yml"], "something was left behind"
    assert stat.S_IMODE(real.stat().st_mode) == 0o660, "the group may no longer write it"


def test_an_entry_opens_by_the_link_and_by_the_file(tmp_path: Path, pixels: np.ndarray) -> None:
    """Where they are in two folders CATALOG_DIR is either of them."""
    (tmp_path / "links").mkdir()
    (tmp_path / "lab.yml").write_text("sources: {}\n")
    link = tmp_path / "links" / "lab.yml"
    link.symlink_to(tmp_path / "lab.yml")
    source = TiffStackSource(f"{tmp_path}/raw/*.tif", pattern="t{t:d}.tif")
    for name, catalog in (("by_link", link), ("by_file", tmp_path / "lab.yml")):
        add_to_catalog(source, catalog, name)
    for catalog in (link, tmp_path / "lab.yml"):
        np.testing.assert_array_equal(intake.open_catalog(str(catalog)).by_link.read(), pixels)
    found = yaml.safe_load(link.read_text())["sources"]["by_file"]["args"]
    assert found["urlpath"] == "{{ CATALOG_DIR }}/raw/*.tif", "it moves with its files"


def test_a_catalog_in_a_bucket(s3_server: S3Server) -> None:
    options = s3_server.storage_options
    s3_server.put("cats", {"lab/lab.yml": CATALOG.encode()})
    source = TiffStackSource("s3://cats/lab/raw/*.tif", storage_options=options)
    add_to_catalog(source, "s3://cats/lab/lab.yml", "new", storage_options=options)
    found = intake.open_catalog("s3://cats/lab/lab.yml", storage_options=options)
    assert list(found) == ["first", "second", "third", "new"]
    text = found.new.yaml()
    assert "s3://cats/lab/raw/*.tif" in text
    assert options["secret"] not in text


def _add_entries(catalog: str, start: str) -> None:
    for number in range(5):
        add_to_catalog(TiffStackSource(f"/{start}{number}.tif"), catalog, f"{start}{number}")


def test_processes_that_add_at_once_lose_no_entry(tmp_path: Path) -> None:
    catalog = tmp_path / "lab.yml"
    catalog.write_text(CATALOG)
    processes = [FORKS.Process(target=_add_entries, args=(str(catalog), c)) for c in "wxyz"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    expected = {f"{c}{number}" for c in "wxyz" for number in range(5)}
    assert set(yaml.safe_load(catalog.read_text())["sources"]) == expected | {
        "first",
        "second",
        "third",
    }


def test_a_lock_that_is_never_released_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_document, "LOCK_SECONDS", 0.05)
    catalog = tmp_path / "lab.yml"
    catalog.write_text(CATALOG)
    with (
        FileLock(tmp_path / ".lab.yml.lock"),
        pytest.raises(StorageError, match=r"another process has held its lock .*\.lab\.yml\.lock"),
    ):
        add_to_catalog(TiffStackSource("/a.tif"), catalog, "new")
    assert catalog.read_text() == CATALOG


@pytest.mark.parametrize("is_there", [True, False], ids=["a catalog", "none yet"])
def test_another_writer_on_s3_between_read_and_write_loses_nothing(
    s3_server: S3Server, is_there: bool
) -> None:
    options = s3_server.storage_options
    url = f"s3://cats/{is_there}.yml"
    s3_server.put("cats", {f"{is_there}.yml": CATALOG.encode()} if is_there else {"x": b""})
    others = iter(["other1", "other2"])

    def interfere(request: Request) -> None:
        if request.method == "PUT" and (other := next(others, None)):
            add_to_catalog(TiffStackSource("/b.tif"), url, other, storage_options=options)

    s3_server.refuses = interfere
    add_to_catalog(TiffStackSource("/a.tif"), url, "new", storage_options=options)
    text = s3fs.S3FileSystem(**options).cat_file(url)
    assert {"new", "other1", "other2"} <= set(yaml.safe_load(text)["sources"])


def test_an_s3_that_ignores_conditions_is_checked_after_the_write_with_a_warning(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five processes lost 19 of 30 entries there, and all of them succeeded."""
    options, url = s3_server.storage_options, "s3://ignores/lab.yml"
    s3_server.put("ignores", {"lab.yml": CATALOG.encode()})
    store = s3fs.S3FileSystem(**options)
    puts = itertools.count()

    def overwrite(request: Request) -> None:
        if request.method == "GET" and next(puts) == 1:  # after the write
            s3_server.refuses = lambda request: None
            store.pipe_file(url, CATALOG.encode())

    monkeypatch.setattr(s3_server, "heeds_conditions", False)
    s3_server.refuses = overwrite
    with pytest.warns(TiffStackWarning, match="s3://ignores ignores conditional writes"):
        add_to_catalog(TiffStackSource("/a.tif"), url, "new", storage_options=options)
    assert "new" in yaml.safe_load(store.cat_file(url))["sources"]


def test_another_writer_in_a_store_without_conditions_is_found_after_the_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/cats/lab.yml", CATALOG.encode())
    lost = iter([True])
    pipe_file = type(store).pipe_file

    def overwritten(self: Any, path: str, value: bytes, **options: Any) -> None:
        pipe_file(self, path, CATALOG.encode() if next(lost, False) else value, **options)

    monkeypatch.setattr(type(store), "pipe_file", overwritten)
    add_to_catalog(TiffStackSource("/a.tif"), "memory://cats/lab.yml", "new")
    assert "new" in yaml.safe_load(store.cat_file("/cats/lab.yml"))["sources"]


BRACES = st.text(alphabet="{}%#'\"\\\n\r -1a", max_size=12)


@settings(max_examples=30)
@given(texts=st.lists(BRACES, min_size=1, max_size=3), folder=BRACES, label=BRACES)
def test_what_is_given_in_python_is_no_template(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], folder: str, label: str
) -> None:
    here = tmp_path_factory.mktemp("catalog")
    source = TiffStackSource(
        f"{here}/x{folder}/a.tif",
        channel_names=texts,
        labels={"c": {"{{ x }}": label}},
        storage_options={"password": "{{ 7*7 }}", "profile": label},
    )
    add_to_catalog(source, here / "lab.yml", "new")
    found = intake.open_catalog(str(here / "lab.yml")).new
    given = found._given()
    assert absolute_url(given["urlpath"]) == absolute_url(f"{here}/x{folder}/a.tif")
    assert given["channel_names"] == texts
    assert given["labels"] == {"c": {"{{ x }}": label}}
    assert given["storage_options"]["profile"] == label
    assert given["storage_options"]["password"] == "", "from the environment, where it is not set"
    again = yaml.safe_load(found.yaml())["sources"]["new"]["args"]
    assert expand_templates(again, {})["channel_names"] == texts, "the entry's own text is kept"


def test_a_folder_named_like_a_template_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "{{ cycler.__init__.__globals__.os.mkdir('RAN') }}scan"
    folder.mkdir()
    tifffile.imwrite(folder / "t0.tif", np.full((4, 5), 7, np.uint16))
    source = TiffStackSource(f"{folder}/*.tif", pattern="t{t:d}.tif")
    catalog = tmp_path / "lab.yml"
    add_to_catalog(source, catalog, "one")
    add_to_catalog(intake.open_catalog(str(catalog)).one, catalog, "two")
    for name in ("one", "two"):
        found = intake.open_catalog(str(catalog))[name]
        assert found.read()[0, 0, 0] == found(chunks="file").read()[0, 0, 0] == 7
    assert not os.path.exists("RAN")


def test_no_secret_is_written(tmp_path: Path) -> None:
    source = TiffStackSource(
        "https://me:MARKED1@host/a.tif", storage_options={"password": "MARKED2", "anon": True}
    )
    add_to_catalog(source, tmp_path / "lab.yml", "new")
    text = (tmp_path / "lab.yml").read_text()
    assert "MARKED" not in text
    assert "{{ env(PASSWORD) }}" in text


@pytest.mark.parametrize(
    "text",
    [
        "{{ cycler.__init__.__globals__.os.mkdir('RAN') }}",
        "{% x %}",
        "{# x #}",
        "{{",
        "a {{ '{' }}",
        "a\r\nb",
        "!template {{1+1}}",
        "{% raw %}",
    ],
)
def test_metadata_given_in_python_are_no_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint16))
    source = intake.open_tiffstack(str(tmp_path / "a.tif"), metadata={"note": {"deep": [text]}})
    for name in ("a.yml", "b.yml"):  # the second from what the first opens
        add_to_catalog(source, tmp_path / name, "x")
        source = intake.open_catalog(str(tmp_path / name)).x
        assert source.metadata["note"] == {"deep": [text]}
    assert not (tmp_path / "RAN").exists()
