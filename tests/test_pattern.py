"""Names are read as the pattern says, and refused where it leaves a choice."""

from __future__ import annotations

import datetime
import json
import pickle
import re
import sys
from collections.abc import Iterator
from itertools import permutations, product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from intake_tiffstack.dims import role_of
from intake_tiffstack.errors import OptionError, PatternError, TiffStackError
from intake_tiffstack.natural_sort import natural_key, natural_order
from intake_tiffstack.pattern.fields import Field, parse_value
from intake_tiffstack.pattern.matching import (
    Matches,
    compile_pattern,
    default_concat_dim,
    match_paths,
)
from intake_tiffstack.pattern.presets import PRESETS
from intake_tiffstack.pattern.regex import compile_regex
from shared_data import SHARED, needs_shared, read_rows

ROOT = "/data/"

ROWS = st.sampled_from([1, 2, 600])
"""How often a text is repeated; names are read in blocks of 512."""


def read(text: str, *names: str) -> Matches:
    return match_paths(compile_pattern(text), [ROOT + name for name in names], ROOT)


def read_one(text: str, name: str) -> dict[str, Any] | None:
    """Return the fields of one name, None where the pattern does not match it."""
    found = read(text, name)
    return {k: v[0] for k, v in found.columns.items()} if len(found.indices) else None


# --------------------------------------------------------------------------- format strings


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        pytest.param("{}_t{t:d}.tif", "x_t10.tif", {"t": 10}, id="int"),
        pytest.param("{}t{t:d}.tif", "t10.tif", {"t": 10}, id="unnamed may be empty"),
        pytest.param("a{c}.tif", "a.tif", None, id="text is never empty"),
        pytest.param("t{t:d}.tif", "t-3.tif", {"t": -3}, id="minus"),
        pytest.param("t{t:d}.tif", "t+3.tif", {"t": 3}, id="plus"),
        pytest.param("t{t:d}.tif", "t1.5.tif", None, id="int has no point"),
        pytest.param("t{t:3d}.tif", "t0012.tif", None, id="exactly three"),
        pytest.param("t{t:3d}.tif", "t-12.tif", None, id="exactly three digits, no sign"),
        pytest.param("t{t:03d}.tif", "t1000.tif", {"t": 1000}, id="at least three"),
        pytest.param("t{t:03d}.tif", "t10.tif", None, id="fewer than three"),
        pytest.param(
            "2image_{pair:1d}{frame:1d}.tif", "2image_10.tif", {"pair": 1, "frame": 0}, id="glued"
        ),
        pytest.param("z{z:f}um.tif", "z-1.25um.tif", {"z": -1.25}, id="float"),
        pytest.param("z{z:f}.tif", "z2.tif", {"z": 2.0}, id="float before a point"),
        pytest.param("z{z:f}.tif", "z.5.tif", {"z": 0.5}, id="float without a digit before"),
        pytest.param("{a}/{t:d}.tif", "x/y/3.tif", {"a": "y", "t": 3}, id="last parts"),
        pytest.param("{a}.tif", "x/y.tif", {"a": "y"}, id="no slash: the name alone"),
        pytest.param("{a}/{b}/{}/{c}/{t:d}.tif", "3.tif", None, id="too few parts"),
        pytest.param("w{c:1d}_[{}].tif", "w1_[9AA4-D9EA].tif", {"c": 1}, id="brackets"),
        pytest.param("A - {c:d}(fld {s:d}).tif", "A - 1(fld 2).tif", {"c": 1, "s": 2}, id="parens"),
        pytest.param("a.b+c*d?{t:d}$.tif", "a.b+c*d?7$.tif", {"t": 7}, id="regex signs"),
        pytest.param("a.b{t:d}.tif", "aXb7.tif", None, id="a point is a point"),
        pytest.param("{{x}}{t:d}.tif", "{x}7.tif", {"t": 7}, id="braces"),
        pytest.param("--Z{z:3d}--C{c:d}.tif", "--Z000--C.tif", None, id="number is never empty"),
        pytest.param("--Z{z:3d}--C{}.tif", "--Z004--C.tif", {"z": 4}, id="empty part"),
        pytest.param(
            "{well}/{well}_t{t:d}.tif", "A1/A1_t3.tif", {"well": "A1", "t": 3}, id="twice"
        ),
        pytest.param("{well}/{well}_t{t:d}.tif", "A1/A2_t3.tif", None, id="twice, different"),
        pytest.param("t{t:d}.tif", "t3.TIF", None, id="case matters"),
        pytest.param("t{t:d}.tif", "t3.tif.ovr", None, id="matched whole at the end"),
        pytest.param("t{t:d}.tif", "xt3.tif", None, id="matched whole at the start"),
        pytest.param("{λ:d}nm.tif", "488nm.tif", {"λ": 488}, id="any identifier"),
    ],
)
def test_a_format_string_reads(text: str, name: str, expected: dict[str, Any] | None) -> None:
    assert read_one(text, name) == expected


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("{t:%Y%m%dT%H%M%S}_B1.tif", "20200323T162931_B1.tif", "2020-03-23T16:29:31"),
        (
            "x_{t:%Y-%m-%d_%H.%M.%S.%f}.tif",
            "x_2021-12-31_23.59.59.25.tif",
            "2021-12-31T23:59:59.25",
        ),
        ("{t:%d%b%y}.tif", "03Jan20.tif", "2020-01-03"),
        ("{t:%Y%j}.tif", "2021032.tif", "2021-02-01"),
        ("{t:%Y%m%d}{i:2d}.tif", "2020032399.tif", "2020-03-23"),
        ("{t:%I%p}.tif", "11PM.tif", "1900-01-01T23"),
    ],
)
def test_a_time_is_read(text: str, name: str, expected: str) -> None:
    fields = read_one(text, name)
    assert fields is not None
    assert fields["t"] == np.datetime64(expected)
    assert fields["t"].dtype == "datetime64[us]"


@pytest.mark.parametrize("name", ["20201332.tif", "2020031.tif", "202003010.tif"])
def test_what_is_no_time_does_not_match(name: str) -> None:
    assert read_one("{t:%Y%m%d}.tif", name) is None


def test_a_day_that_is_not_in_the_calendar_is_an_error() -> None:
    with pytest.raises(PatternError, match=r"20200230\.tif.*20200230.*field 't'"):
        read("{t:%Y%m%d}.tif", "20200229.tif", "20200230.tif")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a{", "not a valid format string.*\n.*{{"),
        ("a}{t}", "not a valid format string"),
        ("{t:s}", "'s' is none of"),
        ("{t:0d}", "'0d' is none of"),
        ("{t:5}", "'5' is none of"),
        ("{t:9999999999d}", "'9999999999d' is none of"),
        ("{:d}", "has {:d}, but"),
        ("{0}", r"has \{0\}, but"),
        ("{t!r}", "has {t!r}, but"),
        ("{a.b:d}", r"has {a\.b:d}, but"),
        ("{t}{t:d}", "has both {t} and {t:d}"),
        ("{t:%Y%Q}", "%Q is none of %Y"),
        ("{t:%}", "which is not a time"),
        ("{t:%Y%Y}", "one directive twice"),
        ("{t:%m%d}", "needs its year"),
        ("{t:%Y~%m}", "holds no ~"),
        ("(?P<t>[0-9]+", "not a valid regex.*character 0"),
        ("(?P<t>a)(?P<t>b)", "not a valid regex"),
        ("{}.tif", "names no field.*\n.*lattice"),
        ("", "names no field"),
        (r"t\d+\.tif", r"names no field.*\n.*\(\?P<t>"),
        ("harmoni", "did you mean the preset 'harmony'"),
    ],
)
def test_what_is_no_pattern_is_refused(text: str, message: str) -> None:
    with pytest.raises(PatternError, match=message) as caught:
        compile_pattern(text)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TiffStackError)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("w{c:d}{}", "w29E8DE98", "c='2' or c='29'"),
        ("{}{t:d}.tif", "img15.tif", "t='15' or t='5'"),
        ("{a}_{b}.tif", "x_y_z.tif", "a='x', b='y_z' or a='x_y', b='z'"),
        ("{}-{t:d}.tif", "a--5.tif", "t='-5' or t='5'"),
        ("{}__{c}_.tif", "a___b_.tif", "c='_b' or c='b'"),
        ("{}_t{t:d}_{}", "a_t1_b_t1_c", "t='1' at character 3 or t='1' at character 8"),
        ("{a}{b}/{t:d}.tif", "xyz/1.tif", "a='x', b='yz' or a='xy', b='z'"),
        ("{a}{}{a}.tif", "xxxx.tif", "a='x' or a='xx'"),
    ],
)
def test_a_name_that_reads_two_ways_is_refused(text: str, name: str, message: str) -> None:
    with pytest.raises(PatternError, match=re.escape(message)) as caught:
        read(text, name)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("{}_{}_t{t:d}.tif", "a_b_c_t5.tif", {"t": 5}),  # only unnamed parts have a choice
        ("w{c:1d}{}", "w29E8DE98", {"c": 2}),
        ("{a}_{b}.tif", "x_y.tif", {"a": "x", "b": "y"}),
        ("{x:d}-{y:d}.tif", "3--4.tif", {"x": 3, "y": -4}),
    ],
)
def test_a_name_that_reads_one_way_is_not(text: str, name: str, expected: dict[str, Any]) -> None:
    assert read_one(text, name) == expected


# The oracle reads a name by trying every cut, with no regex.

_IS_TEXT_OF = {
    "{}": lambda s: True,
    "{a}": lambda s: s != "",
    "{b}": lambda s: s != "",
    "{c:d}": lambda s: s.lstrip("+-").isdigit() and len(s) - len(s.lstrip("+-")) < 2,
    "{d:2d}": lambda s: s.isdigit() and len(s) == 2,
    "{e:02d}": lambda s: s.isdigit() and len(s) >= 2,
    "{f:f}": lambda s: re.fullmatch(r"[+-]?([0-9]+|[0-9]*\.[0-9]+)", s) is not None,
}


def all_readings(parts: list[str], name: str, start: int = 0) -> Iterator[tuple[Any, ...]]:
    """Yield the places of the named fields in every reading of the name from *start* on."""
    if not parts:
        if start == len(name):
            yield ()
        return
    head, *tail = parts
    for end in range(start, len(name) + 1):
        text = name[start:end]
        if "/" in text and head in _IS_TEXT_OF:
            break
        if _IS_TEXT_OF[head](text) if head in _IS_TEXT_OF else text == head:
            own = ((head, start, end),) if head in _IS_TEXT_OF and head != "{}" else ()
            for others in all_readings(tail, name, end):
                yield own + others


_TEXTS_OF = {
    "{}": ["", "a", "_", "a_1", "1"],
    "{a}": ["a", "_", "1_1", "a_-"],
    "{b}": ["a", "_", "1_1", "a_-"],
    "{c:d}": ["1", "-1", "+12", "211"],
    "{d:2d}": ["12", "01"],
    "{e:02d}": ["12", "012"],
    "{f:f}": ["1", ".2", "-1.21"],
}
_FIELDS = set(_TEXTS_OF) - {"{}"}
_LITERALS = ["a", "_", "1", "-", ".", "_-", "__", "/"]


@settings(max_examples=250, deadline=None)  # what takes long is a busy machine
@given(
    parts=st.lists(
        st.sampled_from([*_TEXTS_OF, *_LITERALS]),
        max_size=6,
        unique_by=lambda part: part if part in _FIELDS else object(),
    ).filter(_FIELDS.intersection),
    data=st.data(),
)
def test_names_are_read_as_by_trying_every_cut(parts: list[str], data: st.DataObject) -> None:
    filled = [data.draw(st.sampled_from(_TEXTS_OF[p])) if p in _TEXTS_OF else p for p in parts]
    name = data.draw(st.one_of(st.just("".join(filled)), st.text("a_1-.2/", max_size=7)))
    # The pattern sees as many parts of the path as it has itself.
    seen = "/".join((ROOT + name).split("/")[-("".join(parts).count("/") + 1) :])
    readings = set(all_readings(parts, seen))
    event(f"{min(len(readings), 2)} readings")
    if len(readings) > 1:
        with pytest.raises(PatternError, match="reads two ways"):
            read("".join(parts), name)
        return
    found = read("".join(parts), name)
    assert len(found.indices) == len(readings)
    for part, start, end in readings.pop() if readings else ():
        assert found.texts[part[1]] == [seen[start:end]]


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text("abcXYZ 0189.[]()+", min_size=1, max_size=8),
            st.integers(-(10**6), 10**6),
            st.integers(0, 10**6),
            st.integers(0, 99),
            st.floats(-1e6, 1e6),
            st.datetimes(datetime.datetime(1000, 1, 1)),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_what_str_format_writes_is_read_back(rows: list[tuple[Any, ...]]) -> None:
    written = "{sample}_t{t:d}_{frame:04d}_[{pair:02d}]_{dose:f}um/{day:%Y%m%dT%H%M%S%f}.tif"
    pattern = compile_pattern(written.replace("{pair:02d}", "{pair:2d}"))
    names = [
        written.format(sample=sample, t=t, frame=frame, pair=pair, dose=dose, day=day)
        for sample, t, frame, pair, dose, day in rows
    ]
    found = match_paths(pattern, [ROOT + name for name in names], ROOT)
    assert found.indices.tolist() == list(range(len(rows)))
    columns = dict(
        zip(["sample", "t", "frame", "pair", "dose", "day"], zip(*rows, strict=True), strict=True)
    )
    columns["dose"] = tuple(float(f"{dose:f}") for dose in columns["dose"])
    columns["day"] = tuple(np.datetime64(day, "us") for day in columns["day"])
    assert found.columns == {name: list(column) for name, column in columns.items()}


# --------------------------------------------------------------------------- regexes


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        (r"\d+", "int"),
        (r"\d", "int"),
        (r"[0-9]{3}", "int"),
        (r"[12]", "int"),
        (r"(?:1|2)", "int"),
        (r"(?:10|2\d)", "int"),
        (r"(?!8)\d+", "int"),
        (r"(?=1)\d+?(?<!5)", "int"),
        (r"(\d)(\d)", "int"),
        (r"\b[\d]+", "int"),
        (r"\d++", "int"),
        (r"(?>\d+)", "int"),
        (r"(?i:7)", "int"),
        (r"\d*", "text"),  # may be empty, which is no number
        (r"(?:\d+|)", "text"),
        (r"-?\d+", "int"),
        (r"[+-]?\d+", "int"),
        (r"[-+]\d{3}", "int"),
        (r"(?:\+|-)?[0-9]+", "int"),
        (r"(?:-\d+|\d+)", "int"),
        (r"0|-?[1-9]\d*", "int"),
        (r"(-)?(\d)+", "int"),
        (r"(?:-\d)?\d", "int"),
        (r"-{1}\d{1,}?", "int"),
        (r"-?\d*", "text"),  # may be a sign alone
        (r"-*\d+", "text"),  # may have two
        (r"[+-]{2}\d", "text"),
        (r"(?:-?\d)+", "text"),  # 1-2
        (r"\d+-?", "text"),
        (r"\d-\d", "text"),
        (r"[-\d]+", "text"),
        (r"-?\d+\.\d+", "text"),
        (r"[+-.]?\d", "text"),  # the range of + , - .
        (r"[0-9a-f]+", "text"),
        (r"[^a]", "text"),
        (r"\D", "text"),
        (r"\w\d", "text"),
        (r".", "text"),
        (r"[0-z]", "text"),
        (r"S[12]", "text"),
        (r"(?:1|a)", "text"),
    ],
)
def test_a_group_is_a_number_where_it_admits_only_integers(group: str, kind: str) -> None:
    (field,) = compile_pattern(f"x(?P<name>{group})").fields
    assert field == Field("name", kind)  # type: ignore[arg-type]


@given(st.from_regex(r"[+-]?[0-9]{1,30}", fullmatch=True))
def test_a_signed_group_reads_what_int_reads(text: str) -> None:
    assert read_one(r"x(?P<y>[+-]?\d+)\.tif", f"x{text}.tif") == {"y": int(text)}


signed = st.sampled_from(["\\d", "-", "[+-]", "(?:-|)", "\\d{2}", "x?", "(?:\\d|-\\d)"])


@given(st.lists(st.tuples(signed, st.sampled_from(["", "?", "*", "+", "{2,3}"])), max_size=4))
def test_whatever_a_number_group_matches_is_an_integer(parts: list[tuple[str, str]]) -> None:
    """By trying all texts of four signs and digits at most."""
    group = "".join(f"(?:{part}){times}" for part, times in parts)
    (field,) = compile_pattern(f"(?P<f>{group})").fields
    texts = ("".join(t) for n in range(5) for t in product("1-+x", repeat=n))
    matched = [text for text in texts if re.fullmatch(group, text)]
    if not all(re.fullmatch("[+-]?[0-9]+", text) for text in matched):
        assert field.kind == "text"


def test_a_python_without_the_private_regex_parser_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from re import _parser  # type: ignore[attr-defined]

    assert callable(_parser.parse), "re._parser has moved: see pattern/regex.py"
    monkeypatch.setitem(sys.modules, "re._parser", None)
    with pytest.raises(RuntimeError, match=r"re\._parser\.parse.* use a format string"):
        compile_regex("(?P<t>[0-9]+)", "")


def test_a_group_in_a_lookahead_or_branch_is_seen() -> None:
    fields = compile_pattern(r"(?=.*t(?P<t>\d+))(?:a(?P<a>\d)|b(?P<b>.))").fields
    assert [(f.name, f.kind) for f in fields] == [("t", "int"), ("a", "int"), ("b", "text")]


def test_the_kind_does_not_depend_on_the_data() -> None:
    assert read(r"_(?P<band>\w+)\.tif", "x_8.tif").columns == {"band": ["8"]}


def test_a_regex_is_searched_below_the_root() -> None:
    assert read_one(r"^(?P<a>\w)/(?P<t>\d)", "x/7.tif") == {"a": "x", "t": 7}
    assert read_one(r"data.*(?P<t>\d)", "7.tif") is None
    assert read_one(r"(?P<t>\d)", "ab3c.tif") == {"t": 3}


def test_an_optional_group_that_is_nowhere_is_no_field() -> None:
    found = read(r"t(?P<t>\d+)(?:_z(?P<z>\d+))?\.tif", "t1.tif", "t2.tif", "x.tif")
    assert found.columns == {"t": [1, 2]}
    assert found.texts == {"t": ["1", "2"]}


def test_an_optional_group_that_is_in_some_names_is_an_error() -> None:
    with pytest.raises(PatternError, match=r"'z' in 1 names, such as 't2_z5\.tif', and not in 2"):
        read(r"t(?P<t>\d+)(?:_z(?P<z>\d+))?\.tif", "t1.tif", "t2_z5.tif", "t3.tif")


# --------------------------------------------------------------------------- matching


def test_columns_are_those_of_the_matched_paths() -> None:
    found = read("{}_c{c:d}_{}.tif", "a_c1_x.tif", "stray.tif", "b_c02_.tif")
    assert found.indices.tolist() == [0, 2]
    assert found.columns == {"c": [1, 2]}
    assert found.texts == {"c": ["1", "02"]}
    assert found.unnamed == [("a", "x"), ("b", "")]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["7", "07", "+7", "-8", "9", f"{10**19}", f"-{10**30}"]), ROWS),
        min_size=1,
        max_size=12,
    )
)
def test_integers_are_read_as_one_by_one(runs: list[tuple[str, int]]) -> None:
    texts = [text for text, length in runs for _ in range(length)]
    found = read("{t:d}_{}.tif", *(f"{text}_{i}.tif" for i, text in enumerate(texts)))
    assert found.columns == {"t": [int(text) for text in texts]}
    assert found.fields["t"].keys == sorted(set(map(int, texts)))
    assert found.texts == {"t": texts}


_FIELDS = {"{a}": "[^/]+", "{a:d}": "[+-]?[0-9]+", "{a:2d}": "[0-9]{2}", "{a:02d}": "[0-9]{2,}"}


@settings(deadline=None)
@given(
    st.sampled_from(list(_FIELDS)),
    st.sampled_from(["_", "__", "1", "01", "a", "-"]),
    st.sampled_from(list(_FIELDS)),
    st.lists(st.text("0123a_-", min_size=1, max_size=7), min_size=1, max_size=6),
)
def test_a_name_that_reads_two_ways_is_refused_among_others_too(
    first: str, literal: str, second: str, names: list[str]
) -> None:
    """All places of the literal are tried here; names of one shape are looked at once there."""
    ends = re.compile(_FIELDS[first]), re.compile(_FIELDS[second])

    def count_readings(name: str) -> int:
        places = [found.start() for found in re.finditer(f"(?={re.escape(literal)})", name)]
        parts = [(name[:at], name[at + len(literal) :]) for at in places]
        return sum(
            all(end.fullmatch(part) for end, part in zip(ends, pair, strict=True)) for pair in parts
        )

    text = first + literal + second.replace("a", "b", 1)
    counts = [count_readings(name) for name in names]
    if max(counts) > 1:
        with pytest.raises(PatternError, match="reads two ways"):
            read(text, *names)
    else:
        assert len(read(text, *names).indices) == sum(counts)


@pytest.mark.parametrize("text", ["{t:d}.tif", r"(?P<t>\d)"])
@pytest.mark.parametrize("names", [(), ("a.tif", "b.tif")], ids=["no path", "no match"])
def test_no_match_is_not_an_error_here(text: str, names: tuple[str, ...]) -> None:
    found = read(text, *names)
    assert found.indices.dtype == np.intp
    assert len(found.indices) == len(found.unnamed) == 0
    assert found.columns == found.texts == {}


def test_columns_of_other_lengths_are_refused() -> None:
    reading = read("{t:d}.tif", "1.tif", "2.tif").fields["t"]
    with pytest.raises(PatternError, match=r"1 paths match, but got columns of lengths \[2\]"):
        Matches(np.array([0]), {"t": reading}, compile_pattern("{t:d}.tif"), ["1.tif"])


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("s3://bucket/raw/t7.tif", "s3://bucket/raw/"),
        ("zip://raw/t7.tif::/data/x.zip", "zip://raw/"),
        ("zip://raw/t7.tif::s3://bucket/x.zip", "zip://raw/::s3://bucket/x.zip"),
        ("simplecache::s3://bucket/raw/t7.tif", "simplecache::s3://bucket/raw/"),
        ("/data/a::b/raw/t7.tif", "/data/a::b/raw/"),
    ],
)
@pytest.mark.parametrize("text", ["t{t:d}.tif", "raw/t{t:d}.tif", r"^t(?P<t>\d)\.tif$"])
def test_a_chained_url_is_read_by_its_innermost_file(text: str, path: str, root: str) -> None:
    assert match_paths(compile_pattern(text), [path], root).columns == {"t": [7]}


def test_a_pattern_may_hold_a_whole_url() -> None:
    text = "s3://bucket/{plate}/t{t:d}.tif"
    found = match_paths(compile_pattern(text), ["s3://bucket/p1/t7.tif"], "s3://bucket/")
    assert found.columns == {"plate": ["p1"], "t": [7]}


@pytest.mark.parametrize("text", ["{}_{a}_t{t:d}.tif", r"(?P<t>\d+)", "imagexpress"])
def test_a_pattern_is_a_value(text: str) -> None:
    pattern = compile_pattern(text)
    copy = pickle.loads(pickle.dumps(pattern))
    assert copy == pattern
    assert hash(copy) == hash(pattern)
    assert compile_pattern(text) == pattern
    assert compile_pattern("{x}.tif") != pattern


# --------------------------------------------------------------------------- presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_its_examples(name: str) -> None:
    pattern = compile_pattern(name)
    for example in PRESETS[name].examples:
        found = read(name, example)
        assert len(found.indices) == 1, example
        dims = default_concat_dim(pattern, found.columns)
        assert dims, example
        assert all(role_of(dim) for dim in dims)


@pytest.mark.parametrize(
    ("preset", "name", "expected"),
    [
        ("micromanager", "Pos1/img_channel001_position002_time000000003_z004.tif",
         {"c": 1, "position": 2, "t": 3, "z": 4}),
        ("micromanager", "img_000000012_mScarlet_GFP-filter_004.tif",
         {"t": 12, "channel": "mScarlet_GFP-filter", "z": 4}),
        ("micromanager", "acq_1/1-Pos_000_001/img_000000012_561 nm_004.tif",
         {"pos": "1-Pos_000_001", "t": 12, "channel": "561 nm", "z": 4}),
        ("micromanager", "xximg_000000012_GFP_004.tif", None),
        ("micromanager", "img_channel0_position12_time3_z4.tif",
         {"c": 0, "position": 12, "t": 3, "z": 4}),
        ("micromanager", "Pos0/img_12_DAPI_4.tif",
         {"pos": "Pos0", "t": 12, "channel": "DAPI", "z": 4}),
        ("imagexpress", "TimePoint_2/ZStep_10/x_B03_s2_w4AA847666-9AC4-4326-A184-8FC928D4368A.tif",
         {"t": 2, "z": 10, "well": "B03", "site": 2, "c": 4}),
        ("imagexpress", "x_A01_w2247376DD-6ADD-442D-AE47-F54A05F3EA94.tif",
         {"well": "A01", "c": 2}),
        ("imagexpress", "A01_s12_w11.tif", {"well": "A01", "site": 12, "c": 11}),
        ("imagexpress", "x_a01_s12_w2.TIF", {"well": "a01", "site": 12, "c": 2}),
        ("imagexpress", "a01_s01_w02.tif", {"well": "a01", "site": 1, "c": 2}),
        ("imagexpress", "d04_h12_w1.tif", {"well": "h12", "c": 1}),
        ("imagexpress", "x_p24_w2247376dd-6add-442d-ae47-f54a05f3ea94.tif",
         {"well": "p24", "c": 2}),
        ("imagexpress", "timepoint_3/x_af48_s1.tif", {"t": 3, "well": "af48", "site": 1}),
        ("imagexpress", "x_A01_s01_w02.tif", {"well": "A01", "site": 1, "c": 2}),
        ("imagexpress", "x_c01.tif", None),
        ("imagexpress", "x_t01_w02.tif", None),
        ("imagexpress", "x_E07_s1_w1_thumb187DE64B-038A-4671-BF6B-683721723769.tif", None),
        ("cv8000", "AB02_T0010F012L01A02Z03C04.tif",
         {"well": "AB02", "t": 10, "field": 12, "timeline": 1, "action": 2, "z": 3, "c": 4}),
        ("cv8000", "DC_sCMOS #1_CAM1.tif", None),
        ("harmony", "r07c21f144p05-ch12sk1fk1fl1.tiff",
         {"row": 7, "column": 21, "field": 144, "z": 5, "c": 12, "t": 1, "fk": 1, "fl": 1}),
        ("incell", "F - 001(fld 01 wv TL-Brightfield - DAPI z 12).tif",
         {"row": "F", "column": 1, "field": 1, "c": "TL-Brightfield - DAPI", "z": 12}),
        ("incell", "A - 01(fld 1 wv UV - DAPI z 1 time 2 - 2636ms).tif",
         {"row": "A", "column": 1, "field": 1, "c": "UV - DAPI", "z": 1, "t": 2, "ms": 2636}),
        ("incell", "A - 01(fld 1 wv UV - DAPI z 1 - time 2 - 0 ms).tif",
         {"row": "A", "column": 1, "field": 1, "c": "UV - DAPI", "z": 1, "t": 2, "ms": 0}),
        ("incell", "A - 1(fld 1 wv D360_40x - HQ460_40M time 12).tif",
         {"row": "A", "column": 1, "field": 1, "c": "D360_40x - HQ460_40M", "t": 12}),
        ("incell", "A - 01(fld 1 wv UV - DAPI time 2 - 2636ms z 1).tif", None),
        ("incell", "A - 01(fld 1 wv UV - DAPI z 1 of 3).tif", None),
        ("incucyte", "x_y_Phase_B11_4_103d06h40m.tif",
         {"prefix": "x_y_Phase", "well": "B11", "site": 4, "t": np.timedelta64(8923200, "s")}),
        ("incucyte", "B1_4_2019y08m01d_10h30m.tif",
         {"well": "B1", "site": 4, "time": np.datetime64("2019-08-01T10:30")}),
        ("ctc", "PhC-C2DL-PSC/01_GT/TRA/man_track000.tif", None),
        ("ctc", "01_RES/mask000.tif", None),
    ],
)  # fmt: skip
def test_a_preset_reads_names_seen_in_the_wild(
    preset: str, name: str, expected: dict[str, Any] | None
) -> None:
    assert read_one(preset, name) == expected


def test_no_preset_reads_the_names_of_another() -> None:
    """Else it would take a field for something else, or leave it out."""
    for name, other in permutations(PRESETS, 2):
        for example in PRESETS[other].examples:
            assert read_one(name, example) is None, (name, example)


numbers = st.integers(0, 999)


@given(
    st.sampled_from(["UV - DAPI", "D360_40x - HQ460_40M", "390 - Blue", "Zeta - z stack"]),
    st.none() | numbers, st.none() | numbers, st.none() | numbers, st.sampled_from(["", " "]),
    st.sampled_from(["", " -"]),
)  # fmt: skip
def test_incell_names_are_read_whatever_they_have(
    channel: str, z: int | None, t: int | None, ms: int | None, gap: str, dash: str
) -> None:
    name = f"B - 02(fld 3 wv {channel}"
    expected: dict[str, Any] = {"row": "B", "column": 2, "field": 3, "c": channel}
    if z is not None:
        name += f" z {z}"
        expected["z"] = z
    if t is not None:
        name += f"{dash} time {t}"
        expected["t"] = t
        if ms is not None:
            name += f" - {ms}{gap}ms"
            expected["ms"] = ms
    assert read_one("incell", f"{name}).tif") == expected


# --------------------------------------------------------------------------- real collections

COLLECTIONS = read_rows("COLLECTIONS.csv")


def files_of(collection: str) -> list[str]:
    if SHARED is None:
        return []
    folder = SHARED / collection
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@needs_shared
@pytest.mark.parametrize(
    "row",
    COLLECTIONS,
    ids=[f"{Path(r['collection']).name}-{r['n_files_matched']}" for r in COLLECTIONS],
)
def test_every_collection_is_read_by_its_regex(row: dict[str, str]) -> None:
    names = files_of(row["collection"])
    assert len(names) == int(row["n_files_in_folder"])
    pattern = compile_pattern(row["regex_on_path_inside_collection"])
    found = match_paths(pattern, [ROOT + name for name in names], ROOT)
    assert len(found.indices) == int(row["n_files_matched"])
    assert names.index(row["example"]) in found.indices
    labels = json.loads(row["labels"])
    assert list(labels) == row["filename_axes"].split()
    for field in pattern.fields:
        texts = found.texts[field.name]
        assert sorted(set(texts), key=natural_key) == labels[field.name]
        is_number = field.name in ("time", "site", "z", "pair", "frame", "i", "month", "field")
        if is_number:
            assert found.columns[field.name] == [int(text) for text in texts]


@needs_shared
@pytest.mark.parametrize(
    ("preset", "collection", "below"),
    [
        ("cv8000", "faim_cv8000_yokogawa", ""),
        ("imagexpress", "faim_imagexpress_timepoint_guid", ""),
        ("imagexpress", "faim_metaxpress_timepoint_dirs", ""),
        ("imagexpress", "faim_projection_mix_zstep_thumbs", "ZStep_"),
    ],
)
def test_a_preset_reads_a_real_collection_as_its_regex(
    preset: str, collection: str, below: str
) -> None:
    names = [name for name in files_of(f"sequences/{collection}") if name.startswith(below)]
    by_preset = read(preset, *names)
    rows = [r for r in COLLECTIONS if r["collection"].endswith(collection)]
    by_regex = read(rows[-1]["regex_on_path_inside_collection"], *names)
    assert by_preset.indices.tolist() == by_regex.indices.tolist()
    same = {"time": "t", "channel": "c"}
    for field, texts in by_regex.texts.items():
        assert by_preset.texts[same.get(field, field)] == texts


@needs_shared
def test_a_preset_refuses_a_mix_of_stacks_and_projections() -> None:
    names = files_of("sequences/faim_projection_mix_zstep_thumbs")
    names.append("Projection-Mix_E07_s1_w1.tif")
    with pytest.raises(PatternError, match=r"field 'z' in 10 names, such as 'ZStep_1/.* not in 1"):
        read("imagexpress", *names)


# --------------------------------------------------------------------------- order and roles


@pytest.mark.parametrize(
    "ordered",
    [
        ["B08", "B8A", "B09"],
        ["B1", "B2", "B8", "B8A", "B9", "B10"],
        ["0", "1", "2", "10"],
        ["", "2", "10", "a", "a2", "a10", "b"],
        ["ZStep_1/x", "ZStep_2/x", "ZStep_10/x"],
    ],
)
def test_natural_order(ordered: list[str]) -> None:
    assert sorted(set(ordered), key=natural_key) == ordered


@settings(deadline=None)
@given(st.lists(st.text("ab1029_", max_size=6), unique=True), st.randoms())
def test_natural_order_is_one_order(texts: list[str], random: Random) -> None:
    expected = sorted(texts, key=natural_key)
    random.shuffle(texts)
    assert sorted(texts, key=natural_key) == expected


@pytest.mark.parametrize("repeats", [1, 40], ids=["few of a shape", "many of a shape"])
@settings(deadline=None)
@given(st.lists(st.text("aé109_²", max_size=6)), st.randoms())
def test_natural_order_of_many_is_that_of_their_keys(
    repeats: int, texts: list[str], random: Random
) -> None:
    names = [f"{text}{n % 10}" for text in texts for n in range(repeats)]
    random.shuffle(names)
    expected = sorted(range(len(names)), key=lambda row: natural_key(names[row]))
    assert natural_order(names) == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12)))
def test_natural_order_of_numbers_is_numeric(numbers: list[int]) -> None:
    assert sorted(map(str, numbers), key=natural_key) == [str(n) for n in sorted(numbers)]


@pytest.mark.parametrize(
    ("names", "role"),
    [
        ("t time timepoint frame TimePoint T", "time"),
        ("c ch channel wave band", "channel"),
        ("z slice Z", "z"),
        ("y", "y"),
        ("x", "x"),
        ("position pos p field site fov s", "position"),
        ("well row column", "plate"),
        ("sample page file msec cam tt w i", None),
    ],
)
def test_a_name_tells_the_role(names: str, role: str | None) -> None:
    assert {role_of(name) for name in names.split()} == {role}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{x:d}_{y:d}_{z:d}_{c:d}_{t:d}_{s:d}_{well}", "well s t c z y x"),
        ("{t:d}_{c:d}", "t c"),
        ("{band}_{frame:d}_{msec:d}", "frame band"),
        ("{column:d}_{row}_{well}", "row well column"),
        ("{site:d}_{pos:d}", "site pos"),
        ("{pair:1d}{frame2:1d}", "pair frame2"),
        ("lattice", "t c"),
        ("harmony", "row column field t c z"),
    ],
)
def test_default_concat_dim(text: str, expected: str) -> None:
    assert default_concat_dim(compile_pattern(text)) == tuple(expected.split())


def test_default_concat_dim_leaves_out_what_is_not_there() -> None:
    pattern = compile_pattern("imagexpress")
    assert default_concat_dim(pattern) == ("well", "site", "t", "c", "z")
    assert default_concat_dim(pattern, {"well", "c"}) == ("well", "c")


# --------------------------------------------------------------------------- values of options


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", "007", 7),
        ("int", -3, -3),
        ("int", 2.0, 2),
        ("int", np.int16(4), 4),
        ("float", "0.5", 0.5),
        ("float", 2, 2.0),
        ("float", np.float32(0.5), 0.5),
        ("text", "002", "002"),
        ("time", "20200323", np.datetime64("2020-03-23")),
        ("time", "2020-03-23T16:29", np.datetime64("2020-03-23T16:29")),
        ("time", "2020-03", np.datetime64("2020-03-01")),
        ("time", datetime.date(2020, 3, 23), np.datetime64("2020-03-23")),
        ("time", datetime.datetime(2020, 3, 23, 4), np.datetime64("2020-03-23T04")),
        ("time", np.datetime64("2020-03-23"), np.datetime64("2020-03-23")),
    ],
)
def test_a_value_of_an_option_is_read(kind: Any, value: object, expected: Any) -> None:
    result = parse_value(Field("f", kind, "%Y%m%d" if kind == "time" else ""), value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("int", "x", r"'f' is an integer, but got 'x' \(str\)"),
        ("int", 1.5, r"1\.5 \(float\)"),
        ("int", float("inf"), "inf"),
        ("int", float("nan"), "nan"),
        ("int", True, r"True \(bool\)"),
        ("int", None, "None"),
        ("float", "", "a number, but got ''"),
        ("float", False, "False"),
        ("time", "yesterday", "a time, but got 'yesterday'"),
        ("time", 2.5, "2.5"),
        ("time", True, "True"),
        ("text", 2, r"text, but got 2 \(int\); quote it"),
        ("text", False, "quote it"),
        ("text", datetime.date(2020, 3, 23), "quote it"),
    ],
)
def test_a_value_of_another_kind_is_refused(kind: Any, value: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_value(Field("f", kind, "%Y%m%d" if kind == "time" else ""), value)


def test_the_documentation_shows_every_preset_as_it_is() -> None:
    text = (Path(__file__).parents[1] / "docs" / "patterns.md").read_text()
    table = text.partition("## Presets")[2].partition("\n## ")[0]
    for name, preset in PRESETS.items():
        assert f"| `{name}` |" in table
        assert all(f"`{example}`" in table for example in preset.examples), name
        fields = {field.name for field in compile_pattern(name).fields}
        assert fields <= set(re.findall(r"\w+", table)), name


def test_the_documentation_shows_what_format_strings_read() -> None:
    text = (Path(__file__).parents[1] / "docs" / "patterns.md").read_text()
    rows = re.findall(r"^\| `\{.*\| (`.*`) \| `(.*)` \| (`.*`) \|$", text, re.MULTILINE)
    assert len(rows) == 9
    for pattern, name, values in rows:
        fields = read_one(pattern.strip("`"), name)
        assert fields is not None, pattern
        shown = dict(value.split(" = ") for value in values.replace("`", "").split(", "))
        assert fields.keys() == shown.keys()
        for key, value in shown.items():
            field = next(f for f in compile_pattern(pattern.strip("`")).fields if f.name == key)
            assert fields[key] == parse_value(field, value.strip('"'))


def test_runs_of_digits_longer_than_any_number_are_sorted() -> None:
    names = ["t" + "9" * 5000, "t10", "t9"]
    assert sorted(names, key=natural_key) == ["t9", "t10", names[0]]
