"""A proposed pattern reads the names it was made from."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_tiffstack.errors import PatternError
from intake_tiffstack.pattern.infer import infer_pattern, no_match_error
from intake_tiffstack.pattern.matching import compile_pattern, match_paths
from intake_tiffstack.pattern.presets import PRESETS
from shared_data import SHARED, needs_shared


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["P1_T8.tif", "P1_T9.tif", "P2_T10.tif"], "P{p:d}_T{t:d}.tif", id="numbers"),
        pytest.param(["time001.tif", "time002.tif"], "time{time:03d}.tif", id="padded"),
        pytest.param(["a_9.tif", "a_10.tif"], "a_{i:d}.tif", id="no letters before"),
        pytest.param(["t1_t1.tif", "t2_t2.tif"], "t{t:d}_t{t2:d}.tif", id="one name twice"),
        pytest.param(["c1{x}.tif", "c2{x}.tif"], "c{c:d}{{x}}.tif", id="braces"),
        pytest.param(
            ["a_D.TIF", "a_F.TIF", "b_D.TIF", "b_F.TIF"], "{label}_{label2}.TIF", id="letters"
        ),
        pytest.param(
            ["x_w1_[9AA4-D9EA].tif", "x_w2_[EFB0-A46D].tif", "x_w3_[E3E9-7D95].tif"],
            "x_w{w:d}_[{}-{}].tif",
            id="GUID",
        ),
        pytest.param(["t1.tif", "t2.tif", "t3.tif", "notes.tif"], "t{t:d}.tif", id="stray"),
        pytest.param(["x/t1.tif", "x/t2.tif"], "t{t:d}.tif", id="one folder"),
        pytest.param(["p1/t1.tif", "p2/t1.tif"], "p{p:d}/t1.tif", id="two folders"),
        pytest.param([], None, id="nothing"),
        pytest.param(["t1.tif"], None, id="one name"),
        pytest.param(["a.tif", "b-c.tif", "d e f.tif"], None, id="nothing in common"),
    ],
)
def test_a_pattern_is_proposed(names: list[str], expected: str | None) -> None:
    assert infer_pattern(names) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_proposed(preset: str) -> None:
    assert infer_pattern(PRESETS[preset].examples[:1]) == preset


@settings(deadline=None)
@given(
    t=st.lists(st.integers(0, 2000), min_size=2, max_size=12, unique=True),
    c=st.lists(st.integers(0, 9), min_size=2, max_size=4, unique=True),
)
def test_a_proposal_reads_all_names(t: list[int], c: list[int]) -> None:
    names = [f"/d/cells-ch{j}_stack{i:04d}.tif" for i in t for j in c]
    text = infer_pattern(names)
    assert text is not None
    found = match_paths(compile_pattern(text), names, "/d/")
    assert found.indices.tolist() == list(range(len(names)))
    assert sorted(zip(found.columns["stack"], found.columns["ch"], strict=True)) == sorted(
        (i, j) for i in t for j in c
    )


@needs_shared
@pytest.mark.parametrize(
    "collection", sorted(p.name for p in (SHARED / "sequences").iterdir()) if SHARED else []
)
def test_a_proposal_reads_most_of_a_real_collection(collection: str) -> None:
    assert SHARED is not None
    folder = SHARED / "sequences" / collection
    names = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (".tif", ".tiff")
    ]
    text = infer_pattern(names)
    assert text is not None
    found = match_paths(compile_pattern(text), names, "")
    assert len(found.indices) > len(names) / 2


def test_a_proposal_does_not_depend_on_how_many_there_are() -> None:
    names = [f"s{i % 7}_t{i // 7:05d}.tif" for i in range(20_000)]
    assert infer_pattern(names) == infer_pattern(names[:70]) == "s{s:d}_t{t:05d}.tif"


def test_the_error_shows_the_pattern_and_two_names() -> None:
    names = [f"/data/scan/x{'ab'[i % 2] * i}.tif" for i in range(10_000)]
    random.Random(0).shuffle(names)
    error = no_match_error(compile_pattern("{}_t{t:d}.tif"), names, "/data/")
    assert isinstance(error, PatternError)
    message = str(error)
    assert "'{}_t{t:d}.tif' matches none of 10000 names" in message
    assert message.count(".tif'") == 3
    assert message.count("\n") < 4


def test_the_error_shows_what_a_regex_is_searched_in() -> None:
    error = no_match_error(compile_pattern(r"^t(?P<t>\d)"), ["/data/scan/t1.tif"], "/data/")
    assert "(searched below /data/): 'scan/t1.tif'" in str(error)


@pytest.mark.parametrize("text", ["img{t:d}.tif", r"img(?P<t>\d)\.tif"])
def test_the_error_says_where_only_the_case_differs(text: str) -> None:
    pattern = compile_pattern(text)
    assert "Only the case differs" in str(no_match_error(pattern, ["/d/IMG1.TIF"], "/d/"))
    assert "case" not in str(no_match_error(pattern, ["/d/image1.TIF"], "/d/"))


def test_the_error_shows_the_nearest_names_or_those_in_another_case() -> None:
    names = ["/d/aaa_1.tif", "/d/bbb_2.tif", "/d/shot_w1_t3.tif", "/d/SCAN_T4.tif"]
    nearest = str(no_match_error(compile_pattern("shot_w{w:d}_z{z:d}.tif"), names, "/d/"))
    assert "(matched whole): 'shot_w1_t3.tif' and " in nearest
    cased = str(no_match_error(compile_pattern("scan_t{t:d}.tif"), names, "/d/"))
    assert cased.splitlines()[0].endswith("(matched whole): 'SCAN_T4.tif'")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("--W{w:d}--T{t:d}.tif", "{}--W{w:d}--T{t:d}.tif"),
        ("day1--W{w:d}--T{t:d}", "day1--W{w:d}--T{t:d}.tif"),
        ("--W{w:d}--T{t:d}", "{}--W{w:d}--T{t:d}.tif"),
        ("--W{w:d}--T{t:3d}", "{}--W{w:d}--T{t:3d}.tif"),
        ("day1--W{w:d}--", "day1--W{w:d}--{}"),
    ],
)
def test_the_error_keeps_the_fields_where_an_end_is_left_out(text: str, written: str) -> None:
    names = [f"/data/scan/day1--W{w:03d}--T{t:03d}.tif" for w in range(2) for t in range(3)]
    names += [f"/data/scan/thumb{i}.png" for i in range(20)]
    reported = str(no_match_error(compile_pattern(text), names, "/data/scan/"))
    assert f"A pattern is matched whole: write '{written}'." in reported
    assert len(match_paths(compile_pattern(written), names, "/data/scan/").indices) == 6


def test_no_end_is_advised_that_would_read_a_number_two_ways() -> None:
    names = [f"/d/img{i}.tif" for i in range(8, 12)]
    reported = str(no_match_error(compile_pattern("{t:d}.tif"), names, "/d/"))
    assert "matched whole: write" not in reported
    assert "read by the pattern 'img{img:d}.tif'" in reported


def test_a_regex_is_shown_as_it_is_written() -> None:
    text = r"_X(?P<t>\d+)\.tif"
    assert f"pattern '{text}' matches" in str(
        no_match_error(compile_pattern(text), ["/d/a.tif"], "/d/")
    )


def test_the_error_tells_of_folders_that_were_not_looked_into() -> None:
    pattern = compile_pattern("{w}/t{t:d}.tif")
    reported = str(no_match_error(pattern, ["/d/a.tif"], "/d/", below=("/d/B02",)))
    assert "TIFFs in 1 folder below, such as /d/B02, are not looked at" in reported
    assert "below" not in str(no_match_error(pattern, ["/d/a.tif"], "/d/"))


def test_the_error_proposes_a_pattern() -> None:
    names = [f"zip://raw/IMG_{i}.tif::s3://bucket/x.zip" for i in range(12)]
    error = no_match_error(compile_pattern("cv8000"), names, "zip://raw/::s3://bucket/x.zip")
    assert "read by the pattern 'IMG_{i:d}.tif'" in str(error)


def test_the_error_for_no_names_is_an_error_too() -> None:
    assert "none of 0 names" in str(no_match_error(compile_pattern("{t:d}.tif"), [], "/d/"))
