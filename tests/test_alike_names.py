"""Names read by columns of characters say what the regex reads in each of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from intake_tiffstack.errors import PatternError
from intake_tiffstack.packed_texts import PackedTexts
from intake_tiffstack.pattern import matching
from intake_tiffstack.pattern.fields import text_reader
from intake_tiffstack.pattern.matching import Pattern, compile_pattern, match_paths

PATTERNS = [
    "{}_Cam{cam}_ch{c:d}_t{t:d}.tif",
    "{a}_{b}.tif",
    "{a}{b:d}.tif",
    "{a}1{b}.tif",
    "{}__{b}_{t:d}",
    "{t:3d}_{x:f}.tif",
    "s{s:02d}t{t:d}{}.tif",
    "{day:%Y%m%d}_{c}.tif",
    "{c}_{t:d}_{c}.tif",
    "{plate}/t{t:d}.tif",
    "{plate}_{a}/{c}_t{t:d}.tif",
    "t{t:d}",
]
SIGNS = st.text(st.sampled_from("0123456789_-+.ct/é"), max_size=4)


@st.composite
def collections(draw: st.DrawFn) -> tuple[Pattern, list[str]]:
    """Return a pattern, and paths of one make whose names fit it more or less."""
    source = draw(st.sampled_from(PATTERNS))
    literals = re.split(r"\{[^}]*\}", source)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(literals) - 1))
        literals[at] += draw(SIGNS)
    slots: list[list[str]] = []
    for _ in literals[1:]:
        width = draw(st.integers(0, 4))
        plain = st.integers(0, 10**width - 1).map(lambda n, w=width: f"{n:0{w}d}" if w else "")
        kind = draw(st.sampled_from(["digits", "digits", "signs", "dates"]))
        dates = st.dates().map(lambda day: day.strftime("%Y%m%d"))
        texts = {"digits": plain, "signs": SIGNS, "dates": dates}[kind]
        slots.append(draw(st.lists(texts, min_size=1, max_size=4)))
    count = draw(st.integers(1, 40))
    paths = []
    for i in range(count):
        filled = [texts[(i // (k + 1)) % len(texts)] for k, texts in enumerate(slots)]
        paths.append("/raw/" + "".join(a + b for a, b in zip(literals, [*filled, ""], strict=True)))
    return compile_pattern(source), paths


def expected(pattern: Pattern, paths: list[str]) -> dict[int, dict[str, Any]] | None:
    """Return what the regex reads in each path that it matches, None where one reads two ways."""
    assert pattern.longest is not None
    found = {}
    for row, path in enumerate(paths):
        name = "/".join(path.rsplit("/", pattern.n_parts)[-(pattern.n_parts or 1) :])
        match, longest = pattern.regex.fullmatch(name), pattern.longest.fullmatch(name)
        if match is None or longest is None:
            continue
        if any(match.span(field.name) != longest.span(field.name) for field in pattern.fields):
            return None
        try:
            found[row] = {
                field.name: text_reader(field)(match[field.name]) for field in pattern.fields
            }
        except ValueError:
            return None
    return found


@settings(max_examples=600)
@given(collections(), st.sampled_from([1, 7, 4096]), st.sampled_from(["", "/", "/raw/", None]))
def test_columns_of_characters_say_what_the_regex_reads(
    collection: tuple[Pattern, list[str]], block: int, start: str | None
):
    pattern, paths = collection
    assume(all("//" not in path for path in paths))
    start = PackedTexts.of(paths).common_prefix if start is None else start
    packed = PackedTexts.of([path.removeprefix(start) for path in paths], start)
    truth = expected(pattern, paths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_FEW", 1)
        patch.setattr(matching, "_BLOCK", block)
        if truth is None:
            with pytest.raises(PatternError):
                match_paths(pattern, packed, "/raw/")
            return
        found = match_paths(pattern, packed, "/raw/")
    assert found.indices.tolist() == list(truth)
    columns = found.columns
    assert [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ] == (list(truth.values()))
    for name, reading in found.fields.items():
        kinds = {type(value) for value in reading.values}
        assert len(set(reading.keys)) == len(reading.keys), name
        assert kinds <= {int, float, str} or pattern.text.startswith("{day")


@pytest.fixture
def without_regex(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no name be read by itself."""

    def refuse(*args: Any) -> Any:
        raise AssertionError("a name was read by itself")

    monkeypatch.setattr(matching, "_read_each", refuse)


@pytest.mark.usefixtures("without_regex")
@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{}_ch{c:d}_t{t:d}.tif", "scan_488nm_ch{c}_t{t:05d}.tif"),
        ("{}_ch{c:d}_t{t:d}.tif", "scan_ch{c}_t{t}.tif"),  # several lengths
        ("img_{c}_{t:d}.tif", "img_{letter}_{t:04d}.tif"),
        ("{plate}/x{x:f}_t{t:3d}.tif", "P{c}/x0.{c}_t{t:03d}.tif"),
        ("{}_{c:d}_{t:d}_{}.tif", "20200301_{c}_{t:03d}_a.tif"),
        ("a_z{t:d}.tif", "a_z-{t:03d}.tif"),
    ],
)
def test_names_of_one_program_are_read_at_once(pattern: str, name: str):
    paths = sorted(
        "/raw/" + name.format(c=c, t=t, letter="ABC"[c]) for c in range(3) for t in range(110, 999)
    )
    compiled = compile_pattern(pattern)
    found = match_paths(compiled, paths, "/raw/")
    parts = matching.relevant_parts(compiled, paths, "/raw/")
    for field in compiled.fields:
        texts = [compiled.regex.fullmatch(part)[field.name] for part in parts]  # type: ignore[index]
        assert found.columns[field.name] == [text_reader(field)(text) for text in texts]


def test_numbers_beyond_64_bits_stay_whole():
    paths = [f"/raw/{10**30 + i}_{i:04d}.tif" for i in range(100)]
    found = match_paths(compile_pattern("{n:d}_{t:d}.tif"), paths, "/raw/")
    assert found.columns == {"n": [10**30 + i for i in range(100)], "t": list(range(100))}


def test_a_literal_of_digits_that_may_stand_elsewhere_is_left_to_the_regex():
    """Which of two equal places ends a field depends on the digits of each name."""
    paths = [f"/raw/a{i:02d}1b.tif" for i in range(100) if "1" not in str(i)]
    assert match_paths(compile_pattern("{x}1{y}.tif"), paths, "/raw/").columns["y"] == (
        ["b"] * len(paths)
    )
    with pytest.raises(PatternError, match="two ways"):
        match_paths(compile_pattern("{x}1{y}.tif"), [*paths, "/raw/a111b.tif"], "/raw/")
