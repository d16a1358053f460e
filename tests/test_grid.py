"""Files on a grid: positions, cells, holes, duplicates and coordinates, from names alone."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_tiffstack.errors import (
    DuplicateFilesError,
    FilesNotFoundError,
    LayoutError,
    MissingFilesError,
    OptionError,
)
from intake_tiffstack.layout.columns import coordinate_array, select_files
from intake_tiffstack.layout.grid import place_files
from intake_tiffstack.layout.holes import apply_missing, describe_gaps, describe_holes
from intake_tiffstack.layout.model import Axis, Grid
from intake_tiffstack.pattern.matching import compile_pattern, match_paths
from shared_data import SHARED, needs_shared, read_rows

ROOT = "/data/"


def place(pattern: str, names: list[str], sel: dict[str, Any] | None = None, **options) -> Grid:
    """Folder files of these names, as opening a collection does."""
    compiled = compile_pattern(pattern)
    paths = [ROOT + name for name in names]
    matches = select_files(match_paths(compiled, paths, ROOT), compiled.fields, sel or {})
    paths = [paths[i] for i in matches.indices]
    return place_files(paths, pattern=compiled, matches=matches, **options)


def select(pattern: str, names: list[str], sel: dict[str, Any]) -> list[str]:
    """Return the names that *sel* keeps."""
    compiled = compile_pattern(pattern)
    matches = match_paths(compiled, [ROOT + name for name in names], ROOT)
    return [names[i] for i in select_files(matches, compiled.fields, sel).indices]


def placed_names(grid: Grid, names: list[str]) -> Any:
    """Return the names in the cells, None for a hole, nested as the axes are."""
    flat = np.array([names[row] if row >= 0 else None for row in grid.cells.ravel()], object)
    return flat.reshape(grid.cells.shape).tolist()


def coords_of(grid: Grid) -> dict[str, tuple[tuple[str, ...], Any]]:
    return {
        coord.name: (tuple(grid.names[a] for a in coord.axes), coord.values.tolist())
        for coord in grid.coords
    }


# --------------------------------------------------------------------------- positions


def day(text: str) -> np.datetime64:
    return np.datetime64(text, "us")


@pytest.mark.parametrize(
    ("pattern", "names", "values"),
    [
        pytest.param("t{t:d}.tif", ["t0.tif", "t2.tif", "t10.tif"], (0, 2, 10), id="numbers"),
        pytest.param("t{t:d}.tif", ["t-10.tif", "t+2.tif"], (-10, 2), id="signed"),
        pytest.param("d{dose:f}.tif", ["d2.tif", "d10.5.tif"], (2.0, 10.5), id="floats"),
        pytest.param(
            "{band}.tif",
            ["B08.tif", "B8A.tif", "B09.tif", "B10.tif"],
            ("B08", "B8A", "B09", "B10"),
            id="natural text",
        ),
        pytest.param(
            "{day:%Y%m%d}.tif",
            ["20191231.tif", "20200301.tif"],
            (day("2019-12-31"), day("2020-03-01")),
            id="times",
        ),
    ],
)
@pytest.mark.parametrize("turn", [1, -1], ids=["listed in order", "listed backwards"])
def test_files_lie_in_the_order_of_their_values(pattern, names, values, turn):
    listed = names[::turn]
    grid = place(pattern, listed)
    assert grid.axes[0].values == values
    assert placed_names(grid, listed) == names


def test_default_axes_have_roles_and_come_in_their_order():
    names = [f"c{c}_w{w}_t{t}_9ms.tif" for c in (1, 2) for w in "AB" for t in (0, 5)]
    grid = place("c{c:d}_w{well}_t{t:d}_{msec:d}ms.tif", names)
    assert grid.names == ("well", "t", "c")
    assert grid.cells.shape == (2, 2, 2)
    assert placed_names(grid, names)[1][0] == ["c1_wB_t0_9ms.tif", "c2_wB_t0_9ms.tif"]


def test_an_axis_with_one_value_is_still_an_axis():
    assert place("t{t:d}_c{c:d}.tif", ["t0_c3.tif"]).cells.shape == (1, 1)


def test_concat_dim_chooses_axes_and_their_order():
    names = [f"a{a}_b{b}.tif" for a in range(2) for b in range(3)]
    grid = place("a{a:d}_b{b:d}.tif", names, concat_dim=["b", "a"])
    assert grid.names == ("b", "a")
    assert grid.cells.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_single_name_is_a_concat_dim():
    assert place("t{time:d}.tif", ["t0.tif"], concat_dim="time").names == ("time",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concat_dim": ["tt", "c"]}, r"unknown field in concat_dim 'tt'; did you mean 't'\?"),
        ({"concat_dim": ["t", "t"]}, "names 't' twice"),
        ({"concat_dim": "t, c"}, r"for one dim each write a list: \[t, c\]"),
        ({"labels": {"chanel": ["a"]}}, "unknown field in labels 'chanel'"),
        ({"duplicates": "best"}, "'raise', 'first' or 'last', but got 'best'"),
        ({"sizes": {"t": 0}}, "sizes: t takes a number from 1 .* but got 0"),
        ({"sizes": {"t": "4"}}, "but got '4'"),
    ],
    ids=["unknown field", "twice", "text of two", "unknown label", "duplicates", "zero", "text"],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        place("t{t:d}_c{c:d}.tif", ["t0_c0.tif"], **options)


def test_without_a_pattern_files_lie_in_natural_order():
    paths = ["/d/img10.tif", "/d/img9.tif", "/d/a/img1.tif"]
    grid = place_files(paths)
    assert grid.names == ("file",)
    assert grid.axes[0].values == ("img1.tif", "img9.tif", "img10.tif")
    assert [paths[row] for row in grid.cells] == ["/d/a/img1.tif", "/d/img9.tif", "/d/img10.tif"]
    assert place_files(paths, concat_dim="z").names == ("z",)


def test_files_in_a_given_order_keep_it():
    paths = ["/d/B04.tif", "/d/B10.tif", "/d/B03.tif"]
    grid = place_files(paths, is_ordered=True)
    assert grid.cells.tolist() == [0, 1, 2]
    assert grid.axes[0].values == ("B04.tif", "B10.tif", "B03.tif")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/d/1/a.tif", "/d/2/a.tif"], ("1/a.tif", "2/a.tif")),
        (["zip://a.tif", "zip://a.tif"], (0, 1)),  # members of two archives
        (["http://h/a.tif?sig=x1", "http://h/b.tif?sig=x1"], ("a.tif?sig=***", "b.tif?sig=***")),
    ],
    ids=["folders", "archives", "signed"],
)
def test_names_along_file_tell_the_files_apart_and_no_secret(paths, names):
    assert place_files(paths).axes[0].values == names


def test_one_file_by_name_has_no_axis_unless_asked():
    assert place_files(["/d/a.tif"], is_single=True).cells.shape == ()
    assert place_files(["/d/a.tif"], is_single=True, concat_dim="t").names == ("t",)
    assert place_files(["/d/a.tif"], is_single=False).names == ("file",)


def test_no_axes_with_a_pattern():
    grid = place("t{t:d}.tif", ["t7.tif"], concat_dim=[])
    assert grid.cells.shape == ()
    assert coords_of(grid) == {"t": ((), 7)}
    with pytest.raises(DuplicateFilesError, match=r"(?s)2 files are in one cell:.*add it to conc"):
        place("t{t:d}.tif", ["t7.tif", "t8.tif"], concat_dim=[])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concat_dim": ["t", "c"]}, "concat_dim names t, c: give a pattern"),
        ({"labels": {"t": ["a"]}}, "there is no pattern"),
        ({"sizes": {"file": 4}}, "should have 4 positions, but there are 2 files"),
    ],
    ids=["two dims", "labels", "sizes"],
)
def test_options_that_need_a_pattern(options, message):
    with pytest.raises((OptionError, MissingFilesError), match=message):
        place_files(["/d/a.tif", "/d/b.tif"], **options)


def test_no_file_at_all():
    with pytest.raises(FilesNotFoundError):
        place_files([])


def test_axes_that_span_far_more_cells_than_files_are_refused():
    names = [f"t{i}_{i * 7}ms.tif" for i in range(5000)]
    with pytest.raises(LayoutError, match=r"t \(5000\), ms \(5000\) span 25,000,000 cells"):
        place("t{t:d}_{ms:d}ms.tif", names, concat_dim=["t", "ms"])


def test_a_grid_survives_pickling():
    grid = pickle.loads(pickle.dumps(place("t{t:d}_{w}.tif", ["t0_a.tif"], concat_dim="t")))
    assert (grid.names, grid.cells.tolist(), coords_of(grid)) == (("t",), [0], {"w": ((), "a")})


def test_a_grid_checks_itself():
    with pytest.raises(ValueError, match=r"axes of sizes \(2,\) but got cells of shape \(3,\)"):
        Grid((Axis("t", (0, 1)),), np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="axes of one name"):
        Grid((Axis("t", (0,)), Axis("t", (0,))), np.zeros((1, 1), np.int32))
    with pytest.raises(ValueError, match="axis t has no position"):
        Axis("t", ())


@settings(deadline=None)  # what takes long is a busy machine
@given(data=st.data())
def test_every_file_is_found_in_its_cell(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    values = [
        data.draw(st.lists(st.integers(-50, 50), min_size=n, max_size=n, unique=True))
        for n in sizes
    ]
    fields = ["a", "b", "c", "d"][: len(sizes)]
    cells = data.draw(st.permutations(list(itertools.product(*values))))
    cells = cells[: data.draw(st.integers(1, len(cells)))]
    names = ["_".join(f"{f}{v}" for f, v in zip(fields, cell, strict=True)) for cell in cells]
    order = data.draw(st.permutations(fields))
    grid = place("_".join(f"{f}{{{f}:d}}" for f in fields), names, concat_dim=order)
    assert sorted(grid.rows.tolist()) == list(range(len(names)))
    for index, row in np.ndenumerate(grid.cells):
        at = grid.values_at(index)
        cell = tuple(at[f] for f in fields)
        assert (row < 0) == (cell not in cells)
        assert row < 0 or cells[row] == cell
    assert all(list(axis.values) == sorted(set(axis.values)) for axis in grid.axes)
    rows = grid.rows.tolist()
    assert [grid.cells[index] for index in zip(*grid.locate(rows), strict=True)] == rows


# --------------------------------------------------------------------------- sel

SEL_NAMES = [f"t{t:03d}_w{w}.tif" for t in (0, 1, 10) for w in ("A1", "A2", "A10")]


@pytest.mark.parametrize(
    ("sel", "kept"),
    [
        ({}, SEL_NAMES),
        ({"t": 1}, SEL_NAMES[3:6]),
        ({"t": "001"}, SEL_NAMES[3:6]),
        ({"t": "1"}, SEL_NAMES[3:6]),
        ({"t": [0, "10"]}, SEL_NAMES[:3] + SEL_NAMES[6:]),
        ({"t": {"from": 1, "to": 10}}, SEL_NAMES[3:]),
        ({"t": {"from": 1, "to": "9"}}, SEL_NAMES[3:6]),
        ({"t": {"to": 0}}, SEL_NAMES[:3]),
        ({"w": {"from": "A2"}}, [name for name in SEL_NAMES if "A1." not in name]),
        ({"w": "A1", "t": range(2)}, ["t000_wA1.tif", "t001_wA1.tif"]),
    ],
    ids=str,
)
def test_sel_keeps_files_by_value_list_or_range(sel, kept):
    assert select("t{t:d}_w{w}.tif", SEL_NAMES, sel) == kept


@pytest.mark.parametrize(
    ("sel", "message"),
    [
        ({"tt": 1}, r"unknown field in sel 'tt'; the names have t, w\. sel keeps whole files"),
        ({"z": 1}, r"what lies inside them index the array: to_xarray\(\)\.isel\(z=\.\.\.\)"),
        ({"t": 9}, "no file has t = 9; the names have 0, 1, 10"),
        ({"t": [0, 9]}, "no file has t = 9; the names have 0, 1, 10"),
        ({"t": []}, "no file has t = nothing"),
        ({"w": "A01"}, "no file has w = A01; the names have A1, A2, A10"),
        ({"t": {"from": 2, "to": 9}}, r"no file has t in \{'from': 2, 'to': 9\}; the names have"),
        ({"t": {"start": 2}}, "a range of t has the keys 'from' and 'to', but got start"),
        ({"t": {}}, "but got none"),
        ({"t": "first"}, "sel: field 't' is an integer, but got 'first'"),
        ({"w": False}, "sel: field 'w' is text, but got False"),
    ],
    ids=str,
)
def test_sel_that_cannot_be_met_tells_what_is_there(sel, message):
    with pytest.raises(OptionError, match=message):
        select("t{t:d}_w{w}.tif", SEL_NAMES, sel)


def test_sel_whose_parts_exclude_each_other():
    with pytest.raises(OptionError, match="no file has all of t: 0, c: 1"):
        select("t{t:d}_c{c:d}.tif", ["t0_c0.tif", "t1_c1.tif"], {"t": 0, "c": 1})


def test_sel_of_times_in_the_format_of_the_names_and_in_iso():
    names = ["20191231.tif", "20200301.tif", "20200302.tif"]
    for start in ("20200301", "2020-03-01", day("2020-03-01")):
        assert select("{day:%Y%m%d}.tif", names, {"day": {"from": start}}) == names[1:]


def test_sel_comes_before_the_grid():
    grid = place("t{t:d}_w{well}.tif", SEL_NAMES, sel={"t": [0, 10]})
    assert grid.axes[1].values == (0, 10)
    assert grid.cells.shape == (3, 2)


# --------------------------------------------------------------------------- labels and sizes


def test_labels_give_order():
    grid = place("{stain}.tif", ["GFP.tif", "DAPI.tif"], labels={"stain": ["GFP", "DAPI"]})
    assert grid.axes[0].values == ("GFP", "DAPI")
    assert grid.cells.tolist() == [0, 1]


def test_labels_give_order_and_names():
    labels = {"c": {"02": "GFP", 1: "DAPI", 7: "not acquired"}}
    grid = place("c{c:d}.tif", ["c01.tif", "c02.tif"], labels=labels)
    assert grid.axes[0].values == ("GFP", "DAPI")
    assert grid.cells.tolist() == [1, 0]
    assert grid.written == {"c": {"GFP": 2, "DAPI": 1}}


def test_labels_rename_a_coordinate():
    names = ["t0_w1.tif", "t1_w2.tif"]
    grid = place(
        "t{t:d}_w{laser:d}.tif", names, concat_dim="t", labels={"laser": {1: "488", 2: "560"}}
    )
    assert coords_of(grid) == {"laser": (("t",), ["488", "560"])}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["DAPI"], r"c lists DAPI, but the names have also GFP \(1 files\): add to labels"),
        ({"DAPI": "a"}, "the names have also GFP"),
        (["DAPI", "GFP", "GFP"], "the text GFP twice"),
        ({"DAPI": "a", "GFP": "a"}, "the label a twice"),
        ({"DAPI": "a", "GFP": ["b"]}, r"a label of c is a text, but got \['b'\]"),
        ("DAPI", "takes a list of texts"),
        ([], "takes a list of texts"),
    ],
    ids=str,
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises((OptionError, LayoutError), match=message):
        place("{c}.tif", ["GFP.tif", "DAPI.tif"], labels={"c": labels})


@pytest.mark.parametrize(
    ("found", "size", "expected"),
    [
        ([0, 1, 2], 3, (0, 1, 2)),
        ([0, 1, 2], 5, (0, 1, 2, 3, 4)),
        ([0, 10, 20, 40], 6, (0, 10, 20, 30, 40, 50)),
        ([1, 2, 4], 4, (1, 2, 3, 4)),
        ([-2, 0], 3, (-2, 0, 2)),
    ],
    ids=["as found", "at the end", "in gaps first", "only gaps", "two found"],
)
def test_sizes_make_holes_of_lost_positions(found, size, expected):
    grid = place("t{t:d}.tif", [f"t{t}.tif" for t in found], sizes={"t": size})
    assert grid.axes[0].values == expected
    holes = [t for t, row in zip(expected, grid.cells, strict=True) if row < 0]
    assert holes == [t for t in expected if t not in found]


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (["3"], 4, "should have 4 positions, but the names have 1: 3; which are absent cannot"),
        (["0", "1", "9"], 4, "cannot be inferred from these: list all 4 in labels"),
        (["2", "17", "76"], 4, "cannot be inferred"),
        (["0", "1", "2"], 2, "should have 2 positions, but the names have 3: 0, 1, 2"),
    ],
    ids=["one found", "more gaps than asserted", "no step", "too many"],
)
def test_sizes_that_cannot_be_met(names, size, message):
    with pytest.raises(LayoutError, match=message):
        place("t{t:d}.tif", [f"t{name}.tif" for name in names], sizes={"t": size})


def test_sizes_of_digits_read_as_text_say_how_they_become_numbers():
    with pytest.raises(
        LayoutError, match=r"write \{t:d\} in the pattern, so that they are numbers"
    ):
        place("t{t}.tif", ["t0.tif", "t2.tif"], sizes={"t": 3})
    with pytest.raises(LayoutError, match="cannot be inferred from these: list all 3 in labels"):
        place("{c}.tif", ["DAPI.tif", "GFP.tif"], sizes={"c": 3})


def test_sizes_of_text_are_completed_from_labels():
    options = {"labels": {"c": ["DAPI", "GFP", "RFP"]}, "sizes": {"c": 3}}
    grid = place("{c}.tif", ["RFP.tif", "DAPI.tif"], **options)
    assert grid.axes[0].values == ("DAPI", "GFP", "RFP")
    assert grid.cells.tolist() == [1, -1, 0]
    with pytest.raises(OptionError, match="should have 4 positions, but labels lists 3"):
        place("{c}.tif", ["RFP.tif", "DAPI.tif"], **(options | {"sizes": {"c": 4}}))
    with pytest.raises(MissingFilesError, match="list all 3 in labels"):
        place("{c}.tif", ["RFP.tif", "DAPI.tif"], sizes={"c": 3})


# --------------------------------------------------------------------------- duplicates


@pytest.mark.parametrize(
    ("pattern", "names", "message"),
    [
        pytest.param(
            "t{t:d}_p{pair}_{ms:d}.tif",
            ["t0_pa_5.tif", "t0_pb_5.tif", "t1_pa_6.tif"],
            r"(?s)\(t=0\):\n  /data/t0_pa_5.tif\n  /data/t0_pb_5.tif\n.*differ in pair .pair: a, b"
            r".*sel=\{'pair': 'a'\}.*1 of the cells",
            id="a field that is no axis",
        ),
        pytest.param(
            "t{t:d}_{ms:d}_{pair}.tif",
            ["t0_1_a.tif", "t0_2_b.tif", "t0_2_c.tif", "t1_5_a.tif"],
            "differ in pair, ms .pair: a, b",
            id="the field that parts all comes first",
        ),
        pytest.param(
            "{}_t{t:d}{}.tif",
            ["x_t0_a.tif", "x_t0_b.tif"],
            r"under \{\} number 2 of the pattern \('_a' and '_b'\)",
            id="unnamed text",
        ),
        pytest.param(
            "t{t:d}.tif", ["t0.tif", "t00.tif"], "t is written '0' and '00', one value", id="zeros"
        ),
        pytest.param(
            r"(?P<t>\d)\.tif", ["a0.tif", "b0.tif"], "only where the pattern does not look",
            id="outside",
        ),
    ],
)  # fmt: skip
def test_two_files_in_one_cell(pattern, names, message):
    with pytest.raises(DuplicateFilesError, match=message):
        place(pattern, names, concat_dim="t")


def test_first_and_last_go_by_the_natural_order_of_paths():
    names = ["t0_v10.tif", "t0_v9.tif", "t1_v1.tif", "t0_v8.tif"]
    first = place("t{t:d}_v{v:d}.tif", names, duplicates="first")
    last = place("t{t:d}_v{v:d}.tif", names, duplicates="last")
    assert (first.cells.tolist(), first.dropped) == ([3, 2], (0, 1))
    assert (last.cells.tolist(), last.dropped) == ([0, 2], (1, 3))
    assert coords_of(last) == {"v": (("t",), [10, 1])}


# --------------------------------------------------------------------------- coordinates


def test_other_fields_lie_along_the_axes_that_decide_them():
    names = [
        f"ch{c}_{488 + c}nm_t{t}_{t * 10}ms_{c + 7 * t}abs_runA.tif"
        for c in range(3)
        for t in range(4)
    ]
    grid = place(
        "ch{c:d}_{nm:d}nm_t{t:d}_{ms:d}ms_{abs:d}abs_run{run}.tif", names, concat_dim=["c", "t"]
    )
    assert coords_of(grid) == {
        "nm": (("c",), [488, 489, 490]),
        "ms": (("t",), [0, 10, 20, 30]),
        "abs": (("c", "t"), [[c + 7 * t for t in range(4)] for c in range(3)]),
        "run": ((), "A"),
    }


@pytest.mark.parametrize(
    ("spec", "texts", "expected"),
    [
        (":d", ["5", "6"], np.array([5.0, np.nan, 6.0])),
        (":d", [str(2**60), "6"], np.array([2**60, None, 6], object)),
        (":f", ["0.5", "1"], np.array([0.5, np.nan, 1.0])),
        (":%Y", ["2020", "2021"], np.array(["2020", "NaT", "2021"], "M8[us]")),
        ("", ["a", "b"], np.array(["a", None, "b"], object)),
    ],
    ids=["integer", "large integer", "number", "time", "text"],
)
def test_a_coordinate_says_none_where_there_is_no_file(spec, texts, expected):
    names = [f"t{t}_{v}.tif" for t, v in zip((0, 2), texts, strict=True)]
    grid = place(f"t{{t:d}}_{{v{spec}}}.tif", [*names, f"t4_{texts[0]}.tif"], sizes={"t": 4})
    values = grid.coords[0].values
    assert grid.axes[0].values == (0, 2, 4, 6)
    wanted = np.append(expected[[0, 2, 0]], expected[1])
    assert values.dtype == wanted.dtype
    assert list(map(str, values)) == list(map(str, wanted))  # NaT and NaN equal nothing, themselves


def test_coordinate_arrays_lose_nothing():
    assert coordinate_array([2**63, 3]).tolist() == [2**63, 3]
    assert coordinate_array(["488", 560]).tolist() == ["488", 560]
    assert coordinate_array([0, 0.5]).dtype == np.float64


@settings(deadline=None)  # what takes long is a busy machine
@given(data=st.data())
def test_a_coordinate_is_right_at_every_file_and_along_no_axis_too_many(data):
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    fields = ["a", "b", "c"][: len(sizes)]
    cells = list(itertools.product(*map(range, sizes)))
    cells = data.draw(st.lists(st.sampled_from(cells), min_size=1, unique=True))
    values = [data.draw(st.integers(0, 2)) for _ in cells]
    names = [
        "_".join(f"{f}{i}" for f, i in zip(fields, cell, strict=True)) + f"_v{value}"
        for cell, value in zip(cells, values, strict=True)
    ]
    pattern = "_".join(f"{f}{{{f}:d}}" for f in fields) + "_v{v:d}"
    grid = place(pattern, names, concat_dim=fields)
    (coord,) = grid.coords
    index = list(zip(*grid.locate(range(len(names))), strict=True))
    for at, value in zip(index, values, strict=True):
        assert coord.values[tuple(at[a] for a in coord.axes)] == value
    for n in range(len(coord.axes)):  # no smaller set of axes decides the value
        for axes in itertools.combinations(range(len(sizes)), n):
            seen: dict[tuple[int, ...], set[int]] = {}
            for at, value in zip(index, values, strict=True):
                seen.setdefault(tuple(at[a] for a in axes), set()).add(value)
            assert max(map(len, seen.values())) > 1


# --------------------------------------------------------------------------- holes


def ragged(cells: list[tuple[int, ...]], fields: str, **options: Any) -> Grid:
    names = ["".join(f"{f}{i}" for f, i in zip(fields, cell, strict=True)) for cell in cells]
    return place("".join(f"{f}{{{f}:1d}}" for f in fields), names, concat_dim=[*fields], **options)


def full(*sizes: int) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, sizes)))


@pytest.mark.parametrize(
    ("cells", "fields", "options", "lines"),
    [
        pytest.param(full(3, 4), "tc", {}, [], id="none"),
        pytest.param(
            [c for c in full(2, 2, 3, 9) if c[2] != 2 or c[3] == 1], "wscz", {},
            ["c=2 is only at z=1: 32 cells missing"], id="only at",
        ),
        pytest.param(
            full(6, 4), "tc", {"sizes": {"t": 7}}, ["t=6 is missing (4 cells)"], id="lost position"
        ),
        pytest.param(
            full(5, 4), "tc", {"sizes": {"t": 8}}, ["t=5..7 are missing (12 cells)"],
            id="lost positions",
        ),
        pytest.param(
            [c for c in full(3, 4) if c != (1, 2)], "tc", {}, ["t=1, c=2 is missing (1 cell)"],
            id="one cell",
        ),
        pytest.param(
            [c for c in full(9, 4) if c[0] not in (3, 6) or c[1] != 2], "tc", {},
            ["c=2 is missing at t=3, 6 (2 cells)"], id="two of a line",
        ),
        pytest.param(
            [c for c in full(3, 4) if c != (1, 2)], "tc", {"sizes": {"t": 4}},
            ["t=3 is missing (4 cells)", "t=1, c=2 is missing (1 cell)"], id="both",
        ),
        pytest.param(
            [c for c in full(8, 8) if c[0] != c[1]], "tc", {},
            [*(f"t={i}, c={i} is missing (1 cell)" for i in range(4)), "and 4 cells more"],
            id="at most a few lines",
        ),
    ],
)  # fmt: skip
def test_holes_are_reported_as_boxes(cells, fields, options, lines):
    assert describe_holes(ragged(cells, fields, **options)) == lines


@settings(deadline=None)  # what takes long is a busy machine
@given(
    cells=st.lists(st.sampled_from(full(3, 3, 2, 2)), min_size=1, unique=True),
    limit=st.integers(1, 5),
)
def test_holes_are_reported_whatever_they_are(cells, limit):
    grid = ragged(cells, "abcd")
    lines = describe_holes(grid, limit)
    assert (not lines) == (grid.n_holes == 0)
    assert len(lines) <= limit + 1


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ([0, 1, 2], []),
        ([0, 1, 3], ["t: 0, 1, 3: 2 is not there"]),
        ([0, 10, 20, 50], ["t: 0, 10, 20, 50: 30, 40 are not there"]),
        ([2, 76], []),
        ([2, 17, 76], []),
    ],
    ids=str,
)
def test_gaps_in_regular_numbering_are_reported(values, lines):
    assert describe_gaps(place("t{t:d}.tif", [f"t{v}.tif" for v in values])) == lines


def test_gaps_are_of_numbers_only():
    assert describe_gaps(place("{well}.tif", ["A1.tif", "A2.tif", "A4.tif"])) == []


RUNNING = [c for c in full(5, 2) if c != (3, 1)]


def test_missing_raises_with_the_cells_and_the_ways_out():
    with pytest.raises(MissingFilesError, match=r"1 of 10 cells have no file:\n  t=3, c=1") as info:
        apply_missing(ragged(RUNNING, "tc"))
    assert info.value.details["cells"] == [{"t": 3, "c": 1}]
    assert "missing='fill', 'mask' or 'trim'" in str(info.value)


def test_missing_raise_is_content_with_a_full_grid():
    grid = ragged(full(2, 2), "tc")
    assert apply_missing(grid, missing="raise") is grid


@pytest.mark.parametrize("missing", ["fill", "mask"])
def test_missing_fill_and_mask_keep_the_grid(missing):
    grid = ragged(RUNNING, "tc")
    assert apply_missing(grid, missing=missing) is grid


def test_a_clock_beside_a_time_point_is_reported_to_be_no_axis():
    names = [f"c{c}_t{t}_{c * 3 + t * 10}.tif" for c in range(3) for t in range(4)]
    grid = place("c{c:d}_t{t:d}_{clock:d}.tif", names, concat_dim=["c", "t", "clock"])
    with pytest.raises(MissingFilesError, match="clock has one value at each place of the other"):
        apply_missing(grid)


def test_trim_drops_trailing_positions_and_their_coordinates():
    names = [f"t{t}_c{c}_{t * 10}_{c}nm.tif" for t, c in RUNNING]
    grid = place("t{t:d}_c{c:d}_{ms:d}_{nm:d}nm.tif", names, sizes={"t": 9})
    trimmed = apply_missing(grid, missing="trim")
    assert trimmed.axes == (Axis("t", (0, 1, 2)), Axis("c", (0, 1)))
    assert trimmed.trimmed == ("t", 9)
    assert coords_of(trimmed) == {"ms": (("t",), [0, 10, 20]), "nm": (("c",), [0, 1])}
    assert trimmed.coords[0].values.dtype.kind == "i"
    assert apply_missing(trimmed, missing="trim") is trimmed


def test_trim_takes_the_outermost_time():
    names = [f"time{a}_frame{b}.tif" for a, b in full(3, 3) if (a, b) != (2, 1)]
    grid = place("time{time:d}_frame{frame:d}.tif", names, concat_dim=["time", "frame"])
    assert apply_missing(grid, missing="trim").cells.shape == (2, 3)


@pytest.mark.parametrize(
    ("cells", "fields", "missing", "error", "message"),
    [
        (RUNNING, "zc", "trim", OptionError, "time-like axis .* but the axes are z, c"),
        (RUNNING, "tc", "skip", OptionError, "but got 'skip'"),
        ([(0, 0), (1, 0), (1, 1)], "tc", "trim", MissingFilesError, "would leave no t"),
    ],
    ids=["no time", "unknown", "nothing left"],
)
def test_missing_that_cannot_be_had(cells, fields, missing, error, message):
    with pytest.raises(error, match=message):
        apply_missing(ragged(cells, fields), missing=missing)


@settings(deadline=None)  # what takes long is a busy machine
@given(cells=st.lists(st.sampled_from(full(4, 3)), min_size=1, unique=True))
def test_trim_leaves_the_longest_complete_beginning(cells):
    grid = ragged(cells, "ct", sizes={})
    complete = (grid.cells >= 0).all(axis=0)
    n = len(complete) if complete.all() else int(complete.argmin())
    if n == 0:
        with pytest.raises(MissingFilesError):
            apply_missing(grid, missing="trim")
        return
    np.testing.assert_array_equal(apply_missing(grid, missing="trim").cells, grid.cells[:, :n])


# --------------------------------------------------------------------------- real collections


def collections() -> list[Any]:
    rows = read_rows("COLLECTIONS.csv")
    return [pytest.param(row, id=f"{i}-{row['collection']}") for i, row in enumerate(rows)]


@needs_shared
@pytest.mark.parametrize("row", collections())
def test_real_collections_are_placed_from_their_names(row):
    folder = str(SHARED / row["collection"]) + "/"
    paths = [
        os.path.join(where, name) for where, _, names in os.walk(folder) for name in sorted(names)
    ]
    pattern = compile_pattern(row["regex_on_path_inside_collection"])
    matches = match_paths(pattern, paths, folder)
    axes = row["filename_axes"].split()
    grid = place_files(
        [paths[i] for i in matches.indices], pattern=pattern, matches=matches, concat_dim=axes
    )
    kinds = {field.name: field.kind for field in pattern.fields}
    listed = json.loads(row["labels"])
    assert grid.names == tuple(axes)
    for axis in grid.axes:
        assert list(axis.values) == [
            int(text) if kinds[axis.name] == "int" else text for text in listed[axis.name]
        ]
    assert len(grid.rows) == int(row["n_files_matched"])
    assert grid.n_holes == int(row["n_missing"])
