"""A proposed pattern reads the names it was made from."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_tiffstack.errors import PatternError
from intake_tiffstack.pattern.infer import infer_pattern, no_match_error
from intake_tiffstack.pattern.matching import compile_pattern, match_paths
from intake_tiffstack.pattern.presets import PRESETS
from intake_tiffstack.pattern.propose import propose_patterns
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
            "x_w{c:d}_[{}-{}].tif",
            id="codes",
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
    proposals = propose_patterns(names)
    assert proposals
    for proposal in proposals:
        found = match_paths(
            compile_pattern(proposal.pattern), [names[i] for i in proposal.rows], ""
        )
        assert len(found.indices) == len(proposal.rows)


@pytest.mark.parametrize(
    ("names", "pattern", "values"),
    [
        (
            [f"a_z{z}_t{t}.tif" for z in (-1, 0, 2) for t in (0, 1)],
            "a_z{z:d}_t{t:d}.tif",
            [-1, 0, 2],
        ),
        ([f"x{x:+d}.tif" for x in (-3, 0, 3)], "x{x:d}.tif", [-3, 0, 3]),
        ([f"z{z}_a.tif" for z in ("0.0", "0.5", "1.0")], "z{z:f}_a.tif", [0, 0.5, 1]),
        ([f"z{z}.tif" for z in ("0.25", "0.5", "1")], "z{z:f}.tif", [0.25, 0.5, 1]),
        ([f"t{v}K_a.tif" for v in ("4.2", "77", "300")], "t{t:f}K_a.tif", [4.2, 77, 300]),
        ([f"z{z:+.1f}_a.tif" for z in (-1.5, 0, 1.5)], "z{z:f}_a.tif", [-1.5, 0, 1.5]),
        ([f"exp-t-{t}.tif" for t in (1, 2, 3)], "exp-t-{t:d}.tif", [1, 2, 3]),
        ([f"v1.0_t{t}.tif" for t in (1, 2, 3)], "v1.0_t{t:d}.tif", [1, 2, 3]),
    ],
)
def test_signs_and_points_of_numbers_are_read(
    names: list[str], pattern: str, values: list[float]
) -> None:
    best = propose_patterns(names)[0]
    assert (best.pattern, best.fullness, len(best.rows)) == (pattern, 1, len(names))
    found = match_paths(compile_pattern(pattern), names, "")
    assert sorted(set(next(iter(found.columns.values())))) == values


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        ([f"scan{s}.{t:03}.tif" for s in (1, 2) for t in range(1, 9)], [2, 8]),
        ([f"h{h:02}v{v:02}.061.2021018223156.tif" for h in (1, 2) for v in (1, 2)], [2, 2]),
        ([f"exp-{t}-{c}.tif" for t in range(3) for c in range(2)], [3, 2]),
        ([f"2020-01-0{d}_x-{n}.tif" for d in (1, 2, 3) for n in (1, 2)], [3, 2]),
    ],
)
def test_signs_and_points_between_numbers_separate(names: list[str], sizes: list[int]) -> None:
    best = propose_patterns(names)[0]
    assert sorted(best.sizes.values()) == sorted(sizes)
    assert "f}" not in best.pattern


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("expT{0:03}XY{1}.tif", ([1, 2], [1, 2, 3]), "expT{t:03d}XY{position:d}.tif"),
        ("Well {0} Time {1}.tif", (["A1", "B12"], [1, 2]), "Well {well} Time {time:d}.tif"),
        ("{0}_01_{1}.tif", (["A1", "B2", "B12"], ["GFP", "DAPI"]), "{well}_01_{channel}.tif"),
        ("N{0}E{1:03}.tif", ([45, 46], [6, 7]), "N{lat:d}E{lon:03d}.tif"),
        ("MOD.A2000{0:03}.h{1}.tif", ([49, 65], [8, 9]), "MOD.A{time:%Y%j}.h{h:d}.tif"),
        (
            "c{1}_2020-03-23T16-{0:02}-31.tif",
            ([1, 2, 3], [1, 2]),
            "c{c:d}_{time:%Y-%m-%dT%H-%M-%S}.tif",
        ),
        ("c_2020.03.0{0}.tif", ([1, 2, 3],), "c_{time:%Y.%m.%d}.tif"),
        ("{0:03}{1:03}-1.tif", ([1, 2, 3], [4, 7]), "{i:3d}{i2:03d}-1.tif"),
        ("a{1}_2048_01_{0:02}.tif", ([1, 2, 3], [1, 2]), "a{a:d}_2048_01_{i:02d}.tif"),
    ],
)
def test_names_of_many_makes_are_read_as_people_read_them(
    name: str, values: tuple[list[object], ...], expected: str
) -> None:
    names = [name.format(*row) for row in itertools.product(*values)]
    best, *others = propose_patterns(names)
    assert (best.pattern, best.fullness, len(best.rows)) == (expected, 1, len(names))
    assert not any(other.rank == best.rank and other.weight == best.weight for other in others)


@given(
    start=st.integers(-40, 40),
    count=st.integers(3, 9),
    step=st.sampled_from([1, 0.5, 0.25]),
    times=st.integers(2, 4),
)
def test_positions_with_signs_and_points_are_inferred_back(
    start: int, count: int, step: float, times: int
) -> None:
    z = range(start, start + count)
    names = [f"cells_t{t}_z{n * step:g}_gfp.tif" for t in range(times) for n in z]
    best = propose_patterns(names)[0]
    assert (best.fullness, len(best.rows)) == (1, len(names))
    found = match_paths(compile_pattern(best.pattern), names, "").columns
    if len({n < 0 for n in z}) == 2 or min(z) >= 0:  # all negative: the hyphen may separate
        assert sorted(set(found["z"])) == sorted(n * step for n in z)


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


# -- whole proposals -----------------------------------------------------------------------------

WORDS = ("t", "z", "c", "pos", "site", "ch", "time", "frame", "stage", "xy", "Z", "T", "P")
CHANNELS = ("DAPI", "GFP", "Cy3", "Cy5", "TRITC", "BF")


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[str], list[tuple[int, ...]]]:
    """Return names made from a pattern and a full grid, and the cell of each."""
    n = draw(st.integers(1, 4))
    words = draw(
        st.permutations(WORDS)
        .map(lambda w: w[:n])
        .filter(lambda w: len({x.lower() for x in w}) == n)
    )
    separators = draw(st.lists(st.sampled_from(["_", "-", "/", "__", " "]), min_size=n, max_size=n))
    lead = draw(st.sampled_from(["", "scan_", "exp 1/plate2_", "A-01_", "2020-01-31_run_"]))
    spelled: list[list[str]] = []
    for _ in words:
        start, step = draw(st.integers(0, 30)), draw(st.integers(1, 12))
        count = draw(st.integers(2, 5))
        width = draw(st.sampled_from([1, 3, 4]))
        spelled.append([f"{start + i * step:0{width}d}" for i in range(count)])
    channels = draw(st.permutations(CHANNELS).map(lambda c: c[:3])) if draw(st.booleans()) else None
    cells = list(np.ndindex(*[len(texts) for texts in spelled], *([3] if channels else [])))
    names = []
    for cell in cells:
        numbers = zip(words, spelled, separators, cell, strict=False)
        text = lead + "".join(f"{w}{texts[i]}{sep}" for w, texts, sep, i in numbers)
        names.append(f"{text}{channels[cell[-1]] if channels else 'raw'}.tif")
    return names, cells


@settings(deadline=None)
@given(grids())
def test_names_made_from_a_grid_are_inferred_back(
    made: tuple[list[str], list[tuple[int, ...]]],
) -> None:
    names, cells = made
    best = propose_patterns(names)[0]
    assert best.fullness == 1
    assert sorted(best.rows.tolist()) == list(range(len(names)))
    found = match_paths(compile_pattern(best.pattern), names, "")
    codes = np.stack([found.fields[name].codes for name in best.concat_dim], axis=1)
    truth = np.array(cells)
    assert sorted(best.sizes.values()) == sorted(truth.max(axis=0) + 1)
    for axis in truth.T:  # each axis is numbered as it was, whatever its name
        assert any(is_same_partition(axis, column) for column in codes.T)


def is_same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    return len(set(zip(one.tolist(), two.tolist(), strict=True))) == len(set(one)) == len(set(two))


def test_the_names_of_many_files_are_read_once_each_kind() -> None:
    main = [f"scan_t{t:04d}_z{z:02d}.tif" for t in range(40) for z in range(5)]
    beside = [f"thumb_t{t:04d}.tif" for t in range(40)] + ["dark.tif"]
    best, *others = propose_patterns(beside + main)
    assert best.pattern == "scan_t{t:04d}_z{z:02d}.tif"
    assert not best.is_sidecar
    assert others[0].is_sidecar


def test_what_others_decide_is_no_axis() -> None:
    names = [
        f"t{t:03d}_{488 if c else 560}nm_{t * 250:07d}msec_c{c}.tif"
        for t in range(6)
        for c in (0, 1)
    ]
    assert set(propose_patterns(names)[0].concat_dim) == {"t", "c"}


def test_times_and_guids_are_no_axes_where_numbers_do() -> None:
    guids = ["D5F8F51A-3E85-4358-AE51-A465AF87386F", "DEF08320-F169-4D37-9B69-B2808D75614E"]
    names = [f"20200323T1629{31 + t}_t{t}_w{w}{guids[w - 1]}.tif" for t in range(5) for w in (1, 2)]
    best = propose_patterns(names)[0]
    assert (set(best.concat_dim), best.fullness) == ({"t", "c"}, 1)
    found = match_paths(compile_pattern(best.pattern), names, "")
    assert len(found.fields["time"].keys) == 5


def test_a_time_is_the_axis_where_nothing_else_counts() -> None:
    names = [f"ndvi_2020{month:02d}01.tif" for month in range(1, 13)]
    best = propose_patterns(names)[0]
    assert (best.pattern, dict(best.sizes)) == ("ndvi_{time:%Y%m%d}.tif", {"time": 12})


def test_two_digits_are_split_only_where_that_fills_a_grid() -> None:
    glued = [f"run_{i}{j}.tif" for i in range(2) for j in range(2)]
    assert dict(propose_patterns(glued)[0].sizes) == {"i": 2, "i2": 2}
    assert dict(propose_patterns([f"run_{i:02d}.tif" for i in range(12)])[0].sizes) == {"i": 12}


def test_a_position_that_makes_holes_is_left_out_where_it_costs_few_files() -> None:
    names = [f"z{z}_c{c}.tif" for z in range(10) for c in (1, 2, 4) if c != 4 or z == 0]
    best, whole = propose_patterns(names)
    assert (dict(best.sel), best.fullness) == ({"c": [1, 2]}, 1)
    assert (whole.n_cells, len(whole.rows)) == (30, 21)


def test_one_lost_file_is_a_hole() -> None:
    names = [f"z{z}_c{c}.tif" for z in range(10) for c in range(5)]
    names.remove("z3_c2.tif")
    best = propose_patterns(names)[0]
    assert (dict(best.sel), best.n_cells, len(best.rows)) == ({}, 50, 49)


def test_two_grids_that_are_equally_full_have_one_rank() -> None:
    names = [f"a{i}_b{j}_k{(i + j) % 4}.tif" for i in range(4) for j in range(4)]
    one, two, *_ = propose_patterns(names)
    assert (one.rank, one.weight) == (two.rank, two.weight)
    assert one.concat_dim != two.concat_dim
