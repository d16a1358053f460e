"""The options of a collection: one signature; what is accepted, refused and documented."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

from intake_tiffstack import TiffStackSource, open_stack
from intake_tiffstack.errors import OptionError, TiffStackError
from intake_tiffstack.options import OptionKeywords, Options, option_signature, option_table
from intake_tiffstack.settings import DEFAULTS, setting, setting_bytes

REQUIRED = inspect.Parameter.empty

# The contract that catalogs rely on: every option and its default.
CONTRACT: dict[str, Any] = {
    "urlpath": REQUIRED,
    "storage_options": {},
    "pattern": None,
    "concat_dim": None,
    "labels": {},
    "sel": {},
    "exclude": [],
    "files": {},
    "sizes": {},
    "file_dims": None,
    "dims": None,
    "chunks": "auto",
    "coords": {},
    "channel_names": None,
    "scale": {},
    "translation": {},
    "units": {},
    "series": 0,
    "level": 0,
    "missing": "raise",
    "fill_value": None,
    "mask_and_scale": False,
    "duplicates": "raise",
    "unequal": "raise",
    "sets": "none",
    "layout": "auto",
    "sidecars": [],
    "place": "index",
    "overlap": "raise",
    "unmatched": "warn",
    "validate": "auto",
    "on_error": "raise",
    "header_index": None,
    "arraytype": "numpy",
    "persist_mode": "default",
    "on_stale": "original",
}


def parse(**options: Any) -> Options:
    return Options.parse({"urlpath": "raw/*.tif", **options})


# -------------------------------------------------------------------------------- one signature


def test_every_option_of_the_contract_is_there_with_its_default() -> None:
    parameters = inspect.signature(open_stack).parameters
    assert {name: p.default for name, p in parameters.items()} == CONTRACT


def test_the_driver_takes_the_same_options_and_metadata() -> None:
    parameters = dict(inspect.signature(TiffStackSource).parameters)
    assert parameters.pop("metadata").default is None
    assert parameters == dict(inspect.signature(open_stack).parameters)


def test_the_signature_is_that_of_the_fields() -> None:
    signature = option_signature()
    assert list(signature.parameters) == [f.name for f in fields(Options)]
    kinds = [p.kind for p in signature.parameters.values()]
    assert kinds[0] is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds[1:]) == {inspect.Parameter.KEYWORD_ONLY}


def test_the_docstring_describes_each_option() -> None:
    described = re.findall(r"^(\w+) : ", inspect.getdoc(open_stack) or "", re.MULTILINE)
    assert described == list(CONTRACT)


def test_what_is_left_out_has_the_default() -> None:
    options = parse()
    assert {name: getattr(options, name) for name in CONTRACT if name != "urlpath"} == {
        name: default for name, default in CONTRACT.items() if name != "urlpath"
    }
    # as a key without a value in YAML
    assert parse(**dict.fromkeys(list(CONTRACT)[1:])) == options


def test_no_two_share_a_default() -> None:
    parse().scale["x"] = 1
    assert parse().scale == {}


# --------------------------------------------------------------------------- what is understood


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        ("concat_dim", "t", ["t"]),
        ("concat_dim", ("c", "t"), ["c", "t"]),
        ("concat_dim", "[c, t]", ["c", "t"]),
        ("file_dims", "zyx", ["z", "y", "x"]),
        ("file_dims", "['page', 'y', 'x']", ["page", "y", "x"]),
        ("file_dims", "{t: -1, z: 10, c: 3}", {"t": -1, "z": 10, "c": 3}),
        ("file_dims", {"t": "-1", "z": 10.0}, {"t": -1, "z": 10}),
        ("dims", "tczyx", ["t", "c", "z", "y", "x"]),
        ("sel", "{c: 0, t: {from: 1, to: 3}}", {"c": 0, "t": {"from": 1, "to": 3}}),
        ("sel", {"well": "010"}, {"well": "010"}),
        ("labels", "{'c': ['b', 'a']}", {"c": ["b", "a"]}),
        ("sizes", "{t: 5}", {"t": 5}),
        ("sizes", {"t": "5"}, {"t": 5}),
        ("exclude", "*_thumb*", ["*_thumb*"]),
        ("exclude", "[ab].tif", ["[ab].tif"]),
        ("exclude", "['a.tif', 'b.tif']", ["a.tif", "b.tif"]),
        ("chunks", "{t: 2}", {"t": 2}),
        ("chunks", "100", 100),
        ("chunks", "64 MiB", "64 MiB"),
        ("chunks", "file", "file"),
        ("chunks", "(1, 2)", (1, 2)),
        ("chunks", [1, -1, None, "auto", [2, 3]], (1, -1, None, "auto", (2, 3))),
        ("chunks", {"t": (2, 3), "x": -1, "y": None}, {"t": (2, 3), "x": -1, "y": None}),
        ("chunks", {"t": np.int64(2)}, {"t": 2}),
        ("coords", "{z: [1, 2]}", {"z": [1, 2]}),
        ("channel_names", "[DAPI, GFP]", ["DAPI", "GFP"]),
        ("channel_names", "{0: DAPI}", {0: "DAPI"}),
        ("channel_names", "DAPI", ["DAPI"]),
        ("scale", "{z: 0.3}", {"z": 0.3}),
        ("scale", {"z": "0.3"}, {"z": 0.3}),
        ("translation", "", {}),
        ("units", "{z: um}", {"z": "um"}),
        ("series", "1", 1),
        ("level", 2.0, 2),
        ("fill_value", "7", 7),
        ("fill_value", "-1.5", -1.5),
        ("fill_value", "inf", float("inf")),
        ("fill_value", np.uint16(3), 3),
        ("storage_options", "{anon: true}", {"anon": True}),
        ("pattern", "[0-9]{t:d}.tif", "[0-9]{t:d}.tif"),
        ("channel_names", np.array(["DAPI"]), ["DAPI"]),
        ("channel_names", [405, 488], ["405", "488"]),
        ("exclude", "{a,b}", ["{a,b}"]),
        ("urlpath", Path("raw"), "raw"),
        ("urlpath", [Path("a.tif"), "b.tif"], ["a.tif", "b.tif"]),
    ],
)
def test_an_option_is_understood_as_text_too(option: str, given: Any, expected: Any) -> None:
    assert getattr(Options.parse({"urlpath": "raw", option: given}), option) == expected


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("concat_dim", 5),
        ("concat_dim", {"c": 1}),
        ("concat_dim", ["c", 1]),
        ("file_dims", 5),
        ("file_dims", "zyyx"),
        ("file_dims", {"z": 1.5}),
        ("dims", {"z": 1}),
        ("dims", "zz"),
        ("sel", "c"),
        ("labels", ["a"]),
        ("sizes", {"t": float("inf")}),
        ("sizes", {1: 5}),
        ("exclude", [5]),
        ("coords", 3),
        ("channel_names", 5),
        ("scale", "0.3"),
        ("scale", {"z": None}),
        ("scale", {"z": 10**400}),
        ("units", {"z": 3}),
        ("series", "first"),
        ("series", 1.5),
        ("series", True),
        ("chunks", True),
        ("chunks", {"t": True}),
        ("series", float("inf")),
        ("level", []),
        ("series", -1),
        ("level", "-1"),
        ("sizes", {"t": 0}),
        ("sizes", {"t": True}),
        ("chunks", "fil"),
        ("chunks", ""),
        ("chunks", "0 MiB"),
        ("chunks", 0),
        ("chunks", -2),
        ("chunks", 1.5),
        ("chunks", {"t": 0}),
        ("chunks", "{t: fil}"),
        ("chunks", {"t": [2, 0]}),
        ("chunks", (1, -2)),
        ("fill_value", "none"),
        ("fill_value", [1, 2]),
        ("missing", "filled"),
        ("duplicates", True),
        ("unmatched", ["warn"]),
        ("validate", "none"),
        ("on_error", "ignore"),
        ("persist_mode", "sometimes"),
        ("on_stale", ""),
        ("arraytype", 3),
        ("pattern", 5),
        ("storage_options", "anon"),
        ("urlpath", 5),
        ("urlpath", [5]),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_option(option: str, given: Any) -> None:
    with pytest.raises(OptionError, match=rf"^{option} must be .*but got ") as caught:
        Options.parse({"urlpath": "raw", option: given})
    assert isinstance(caught.value, TiffStackError)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        ("missing", "filled", "one of 'raise', 'fill', 'mask', 'trim', but got 'filled'"),
        ("scale", {"z": None}, "{dim: number}, but got {'z': None}: z: Input should be a valid n"),
        ("dims", "zz", "list, or str of one-letter dims, but got 'zz': a dim is repeated"),
        ("chunks", "fil", "`auto`, `file`, `page`, size such as `64 MiB`, int, tuple, {dim: n}, b"),
    ],
)  # fmt: skip
def test_the_error_says_what_is_accepted_and_what_was_found(
    option: str, given: Any, message: str
) -> None:
    with pytest.raises(OptionError, match=re.escape(f"{option} must be {message}")):
        open_stack("raw", **{option: given})


def test_an_error_shows_no_secret() -> None:
    given = {1: {"password": "hunter2"}}
    with pytest.raises(OptionError, match=r"^storage_options must be dict, but got ") as caught:
        open_stack("raw", storage_options=given)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_the_keywords_are_the_options() -> None:
    assert list(OptionKeywords.__annotations__) == list(CONTRACT)[1:]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("chunk", "chunks"),
        ("file_dim", "file_dims"),
        ("on_eror", "on_error"),
        ("CHUNKS", "chunks"),
        ("ConcatDim", "concat_dim"),
    ],
)
def test_an_unknown_option_suggests_the_near_one(name: str, near: str) -> None:
    with pytest.raises(OptionError, match=f"unknown option '{name}'; did you mean '{near}'"):
        open_stack("raw", **{name: 1})


def test_an_unknown_option_like_no_other_lists_all() -> None:
    with pytest.raises(OptionError, match=r"unknown option 'zzz'; known: arraytype, channel_names"):
        open_stack("raw", zzz=1)


@pytest.mark.parametrize("urlpath", [None, "", []], ids=repr)
def test_no_urlpath_is_refused(urlpath: Any) -> None:
    with pytest.raises(OptionError, match="urlpath is missing"):
        open_stack(urlpath)


# ----------------------------------------------------------------------------------- the settings


def test_a_setting_comes_from_the_configuration_of_dask() -> None:
    assert setting("allow_code") is False
    with dask.config.set({"tiffstack.allow_code": True, "tiffstack.header_cache": "1 kB"}):
        assert setting("allow_code") is True
        assert setting_bytes("header_cache") == 1000
    assert setting_bytes("header_cache") == 64 * 2**20


def test_a_setting_that_is_not_a_size_is_refused() -> None:
    with (
        dask.config.set({"tiffstack.header_cache": "plenty"}),
        pytest.raises(OptionError, match=r"tiffstack\.header_cache must be a size, but got 'plent"),
    ):
        setting_bytes("header_cache")


def test_an_unknown_setting_suggests_the_near_one() -> None:
    with pytest.raises(OptionError, match="unknown setting 'header_cach'; did you mean 'header_ca"):
        setting("header_cach")


# ------------------------------------------------------------------------------ the documentation

DOCS = Path(__file__).parents[1] / "docs" / "options.md"
BEGIN, END = "<!-- options: begin -->\n", "<!-- options: end -->\n"


def with_current_table(text: str) -> str:
    """Return the page with the table as the options are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{option_table()}{END}{after}"


def test_the_documentation_has_the_table_of_the_options() -> None:
    text = DOCS.read_text(encoding="utf-8")
    current = with_current_table(text)
    if os.environ.get("TIFFSTACK_WRITE_DOCS"):
        DOCS.write_text(current, encoding="utf-8")
        return
    assert text == current, (
        f"{DOCS.name} is not what the options say; write it anew by\n"
        "    TIFFSTACK_WRITE_DOCS=1 python -m pytest tests/test_options.py"
    )


def test_the_documentation_has_all_settings_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", DOCS.read_text(encoding="utf-8"), re.M)
    documented = dict(row for row in rows if row[0] not in CONTRACT)
    assert documented == {name: str(default).lower() if isinstance(default, bool) else str(default)
        for name, default in DEFAULTS.items()}  # fmt: skip


@pytest.mark.parametrize("option", ["urlpath", "concat_dim", "exclude"])
@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_is_an_error_because_it_has_no_order(option: str, kind: Any) -> None:
    given = {"urlpath": "x.tif", option: kind(["a", "b"])}
    with pytest.raises(OptionError, match=f"{option} is a set.*give a list"):
        open_stack(**given)
