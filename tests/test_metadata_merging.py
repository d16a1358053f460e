"""What options, names and files say together of a collection."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack.collection.merge_metadata import merge
from intake_tiffstack.errors import OptionError, TiffStackWarning
from intake_tiffstack.layout.model import Dim, Layout
from intake_tiffstack.metadata.describe_file import FileMetadata
from intake_tiffstack.metadata.model import BAND_KEYS, PACKING_KEYS
from metadata_files import (
    UM,
    known_of,
    said,
    sources_of,
    stacked,
    words,
)


def test_all_keys_are_there_and_json_holds_them() -> None:
    known = known_of(stacked(t=[0, 10]), {})
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert known == {
        "dims": ["t", "y", "x"],
        "shape": [2, 4, 5],
        "dtype": "uint16",
        "coords": {"t": {"dims": ["t"], "size": 2, "values": [0, 10]}},
        "coord_units": {},
        "scale": {},
        "translation": {},
        "units": {},
        "time_interval": None,
        "channel_names": None,
        "channel_colors": None,
        "emission_wavelengths": None,
        "excitation_wavelengths": None,
        "display_ranges": None,
        "acquired": None,
        "created": None,
        "objective": None,
        "instrument": None,
        "software": None,
        "crs": None,
        "affine": None,
        "orientation": None,
        **dict.fromkeys((*PACKING_KEYS, *BAND_KEYS)),
        "provenance": {"coords.t": "file names"},
    }


@given(st.permutations("tyx"))
def test_order_of_an_option_does_not_matter(dims: list[str]) -> None:
    values = {dim: {"t": 2, "y": 0.5, "x": 0.25}[dim] for dim in dims}
    known = known_of(stacked(t=[0, 1]), {}, scale=values, translation=values)
    assert list(known["scale"]) == list(known["translation"]) == ["t", "y", "x"]


def test_a_single_file_says_it_all() -> None:
    layout = Layout(
        (Dim("c", 2, file_dim=0), Dim("y", 4, file_dim=1), Dim("x", 5, file_dim=2)),
        np.zeros((), np.int32), ("c", "y", "x"), (2, 4, 5), np.dtype("float32"), {},
    )  # fmt: skip
    file = said(scale={"x": -10.0, "z": 2.0}, units={"x": "meter"}, translation={"x": 5.0},
                channel_names=("a", "b"))  # fmt: skip
    known = known_of(layout, {0: file})
    assert known["scale"] == {"z": 2.0, "x": -10.0}  # a plane has a distance to the next
    assert known["units"] == {"x": "meter"}
    assert known["translation"] == {"x": 5.0}
    assert known["channel_names"] == ["a", "b"]
    assert sources_of(known) == dict.fromkeys(
        ["scale.z", "scale.x", "units.x", "translation.x", "channel_names"], "OME-XML of f0.tif"
    )


def test_options_beat_files_and_a_step_without_a_unit_has_none() -> None:
    file = said(scale={"x": 0.1, "y": 0.1}, units={"x": UM, "y": UM})
    known = known_of(
        stacked(t=[0, 1]), {0: file}, scale={"x": 65, "t": 2}, units={"y": "nm", "t": "min"},
        translation={"y": -1},
    )  # fmt: skip
    assert known["scale"] == {"x": 65.0, "y": 0.1, "t": 2.0}
    assert known["units"] == {"y": "nanometer", "t": "minute"}
    assert known["translation"] == {"y": -1.0}
    assert known["time_interval"] == 120.0
    assert sources_of(known) == {
        "scale.x": "option",
        "scale.y": "OME-XML of f0.tif",
        "scale.t": "option",
        "units.y": "option",
        "units.t": "option",
        "translation.y": "option",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": {"tt": 1}}, "unknown dim in scale 'tt'; did you mean 't'"),
        ({"units": {"z": "um"}}, "unknown dim in units 'z'; known: t, x, y"),
        ({"scale": {"t": 0}}, "scale of t should be a number other than 0, but got 0"),
        ({"scale": {"t": math.nan}}, "scale of t should be a number other than 0, but got nan"),
        ({"translation": {"t": "far"}}, "translation of t should be a number, but got 'far'"),
        ({"units": {"t": 3}}, "units of t should be the name of a unit, but got 3"),
        ({"channel_names": ["a"]}, "no channel dim: its dims are t, y, x"),
    ],
)
def test_an_option_that_fits_nothing_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        known_of(stacked(t=[0, 1]), {}, **options)


def test_a_unit_that_nobody_knows_is_kept_and_warned_of() -> None:
    reported = "units of x is 'furlong', which is not a known unit; kept as given"
    with pytest.warns(TiffStackWarning, match=reported):
        known = known_of(stacked(t=[0, 1]), {}, units={"x": "furlong", "y": "px", "t": "min"})
    assert known["units"] == {"x": "furlong", "y": "px", "t": "minute"}


def test_steps_go_by_role() -> None:
    file = said(scale={"t": 5.0, "z": 2.0}, units={"t": "second", "z": UM})
    known = known_of(stacked(frame=[4, 5, 6], slice=[1, 2]), {0: file})
    assert known["scale"] == {"frame": 5.0, "slice": 2.0}
    assert known["time_interval"] == 5.0


@pytest.mark.parametrize("values", [[0, 10, 20], [0, 1, 3], [0.0, 1.0], ["a", "b"]])
def test_the_step_of_files_holds_only_where_names_count_by_one(values: list[Any]) -> None:
    known = known_of(stacked(t=values), {0: said(scale={"t": 5.0}, units={"t": "second"})})
    assert known["scale"] == {}
    assert known["time_interval"] is None


def test_times_in_names_beat_the_interval_of_files() -> None:
    times = np.array(["2024-05-01T10:00", "2024-05-01T10:05", "2024-05-01T10:10"], "datetime64[m]")
    known = known_of(stacked(t=list(times)), {0: said(scale={"t": 5.0}, units={"t": "second"})})
    assert known["time_interval"] == 300.0
    assert sources_of(known) == {"scale.t": "file names", "units.t": "file names"}
    assert known["coords"]["t"]["values"][1] == "2024-05-01T10:05"
    uneven = known_of(stacked(t=list(times[[0, 2, 1]])), {0: said(scale={"t": 5.0})})
    assert uneven["scale"] == {}


def test_files_that_disagree_are_named_with_both_values() -> None:
    files = {
        0: said(0, scale={"x": 0.1}, units={"x": UM}),
        1: said(1),
        2: said(2, scale={"x": 0.2}, units={"x": UM}),
        3: said(3, scale={"x": 0.3}),
    }
    reported = r"scale along x: /d/f0.tif has 0.1 micrometer but /d/f2.tif has 0.2 micrometer"
    with pytest.warns(TiffStackWarning, match=reported) as caught:
        known = known_of(stacked(t=[0, 1, 2, 3]), files)
    assert len(caught) == 1
    assert known["scale"] == {"x": 0.1}
    known_of(stacked(t=[0, 1, 2, 3]), files, scale={"x": 0.1})  # settled, so nothing is reported


@pytest.mark.parametrize(
    ("step", "units"),
    [(100.0, {"x": "nanometer"}), (0.1000001, {"x": UM}), (0.1, {})],
    ids=["in-other-unit", "rounded", "without-unit"],
)
def test_steps_that_are_one_agree(step: float, units: dict[str, str]) -> None:
    files = {
        0: said(0, scale={"x": 0.1}, units={"x": UM}),
        1: said(1, scale={"x": step}, units=units),
    }
    known = known_of(stacked(t=[0, 1]), files)
    assert (known["scale"], known["units"]) == ({"x": 0.1}, {"x": UM})


def test_units_that_cannot_be_compared_disagree() -> None:
    files = {
        0: said(0, scale={"x": 1.0}, units={"x": "degree"}),
        1: said(1, scale={"x": 1.0}, units={"x": "meter"}),
    }
    with pytest.warns(TiffStackWarning, match="1 degree but .* 1 meter"):
        known_of(stacked(t=[0, 1]), files)


def test_places_that_differ_are_left_out_and_reported_only_where_they_should_be_one() -> None:
    files = {i: said(i, scale={"x": 1.0}, translation={"x": 10.0 * i}) for i in range(2)}
    with pytest.warns(TiffStackWarning, match="f0.tif begins at 0 but /d/f1.tif begins at 10"):
        assert known_of(stacked(t=[0, 1]), files)["translation"] == {}
    assert known_of(stacked(site=[0, 1]), files)["translation"] == {}


def test_an_extended_dim_begins_where_its_first_file_does() -> None:
    layout = Layout(
        (Dim("z", 4, axis=0, file_dim=0, offsets=(0, 2, 4)),), np.array([1, 0], np.int32), ("z",),
        (2,), np.dtype("uint8"), {"z": (("z",), np.arange(4))},
    )  # fmt: skip
    files = {i: said(i, scale={"z": 1.0}, translation={"z": 10.0 * i}) for i in range(2)}
    known = known_of(layout, files)
    assert known["scale"] == {"z": 1.0}
    assert known["translation"] == {"z": 10.0}


def test_faults_of_many_files_are_reported_in_a_few_lines() -> None:
    files = {i: FileMetadata(f"/d/f{i}.tif", warnings=(f"/d/f{i}.tif: bad",)) for i in range(500)}
    with pytest.warns(TiffStackWarning, match="f0.tif: bad(.|\n)*and 497 more") as caught:
        known_of(stacked(t=list(range(500))), files)
    assert len(caught) == 1
    assert str(caught[0].message).count("\n") == 3


@given(
    values=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=8, unique=True)
    | st.lists(st.floats(), min_size=1, max_size=8)
    | st.lists(words, min_size=1, max_size=8, unique=True)
    | st.lists(st.datetimes().map(np.datetime64), min_size=1, max_size=8)
)
def test_any_coordinate_fits_into_json(values: list[Any]) -> None:
    coords = known_of(stacked(q=values), {})["coords"]
    assert json.loads(json.dumps(coords, allow_nan=False)) == coords
    assert coords["q"]["size"] == len(values)


def test_a_long_coordinate_is_reported_by_its_ends() -> None:
    coords = known_of(stacked(q=list(range(1001))), {})["coords"]
    assert coords["q"] == {"dims": ["q"], "size": 1001, "first": 0, "last": 1000}


def test_channels_of_stacked_files_are_named_file_by_file() -> None:
    files = {i: said(i, channel_names=("GFP" if i % 2 else "DAPI",)) for i in range(4)}
    known = known_of(stacked(t=[0, 1], c=[0, 1]), files)
    assert known["channel_names"] == ["DAPI", "GFP"]
    assert known["provenance"]["channel_names"] == "OME-XML of f0.tif and others"


def test_a_channel_that_no_file_names_has_no_name() -> None:
    known = known_of(stacked(t=[0, 1], c=[0, 1]), {3: said(3, channel_names=("GFP",))})
    assert known["channel_names"] == ["", "GFP"]


@pytest.mark.parametrize(
    ("values", "names"),
    [([0, 1, 2], ["a", "b", "c"]), ([1, 2, 3], ["a", "b", "c"]), ([0, 2, 3], None), ([2, 3], None)],
)
def test_a_list_of_all_channels_in_each_file_goes_by_number(
    values: list[int], names: list[str] | None
) -> None:
    files = {i: said(i, channel_names=("a", "b", "c")) for i in range(len(values))}
    assert known_of(stacked(c=values), files)["channel_names"] == names


def test_channels_named_in_file_names_keep_those() -> None:
    known = known_of(stacked(channel=["DAPI", "w2"]), {0: said(channel_names=("Default",))})
    assert known["channel_names"] == ["DAPI", "w2"]
    assert known["provenance"]["channel_names"] == "file names"


def test_an_extended_channel_dim_joins_the_names_of_its_files() -> None:
    layout = Layout(
        (Dim("c", 3, axis=0, file_dim=0, offsets=(0, 2, 3)),), np.array([0, 1], np.int32), ("c",),
        (2,), np.dtype("uint8"), {"c": (("c",), np.arange(3))},
    )  # fmt: skip
    files = {0: said(0, channel_names=("a", "b")), 1: said(1, channel_names=("z",))}
    assert known_of(layout, files)["channel_names"] == ["a", "b", "z"]
    assert known_of(layout, {0: files[0]})["channel_names"] == ["a", "b", ""]


def test_files_that_name_a_channel_differently_are_reported() -> None:
    layout = stacked(t=[0, 1], c=[4, 5])
    files = {row: said(row, channel_names=(name,)) for row, name in ((0, "a"), (2, "b"), (3, "c"))}
    with pytest.warns(TiffStackWarning, match=r"/d/f0.tif has \['a'\] but /d/f2.tif has \['b'\]"):
        known = known_of(layout, files)
    assert known["channel_names"] == ["a", "c"]
    known_of(layout, files, channel_names=["a", "b"])


@pytest.mark.parametrize(
    ("option", "names"),
    [
        (["x", "y"], ["x", "y"]),
        ({0: "x", 1: "y"}, ["x", "y"]),
        ({"1": "y"}, ["a", "y"]),
        (None, ["a", "b"]),
        ({}, ["a", "b"]),
    ],
    ids=["list", "by-value", "some-by-value", "none", "empty"],
)
def test_the_option_names_channels(option: Any, names: list[str]) -> None:
    files = {0: said(0, channel_names=("a",)), 1: said(1, channel_names=("b",))}
    assert known_of(stacked(c=[0, 1]), files, channel_names=option)["channel_names"] == names


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["a"], r"should list 2 names, one per position along c, but got \['a'\]"),
        ([], "should list 2 names"),
        ("ab", "should list 2 names, one per position along c, but got 'ab'"),
        ({5: "a"}, "unknown value of c in channel_names '5'; known: 0, 1"),
    ],
)
def test_channel_names_that_do_not_fit_are_an_error(option: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        known_of(stacked(c=[0, 1]), {}, channel_names=option)


# -- what the files say as a whole ---------------------------------------------------------------


def test_colors_and_wavelengths_are_merged_like_names() -> None:
    files = {
        i: said(i, channel_colors=[f"#00000{i}"], emission_wavelengths=[500.0 + i])
        for i in range(2)
    }
    known = known_of(stacked(c=[0, 1]), files)
    assert known["channel_colors"] == ["#000000", "#000001"]
    assert known["emission_wavelengths"] == [500.0, 501.0]
    assert known["provenance"]["channel_colors"] == "OME-XML of f0.tif and others"
    assert known["excitation_wavelengths"] is None


def test_files_that_give_a_channel_two_wavelengths_are_reported() -> None:
    files = {i: said(i, emission_wavelengths=[500.0 + i]) for i in range(2)}
    layout = stacked(t=[0, 1], c=[0])
    with pytest.warns(TiffStackWarning, match=r"emission wavelengths .*f0.tif has \[500.0\] but"):
        assert known_of(layout, files)["emission_wavelengths"] == [500.0]


def test_display_ranges_may_differ_from_file_to_file() -> None:
    files = {i: said(i, display_ranges=[[0.0, 10.0 + i]]) for i in range(2)}
    assert known_of(stacked(t=[0, 1], c=[0]), files)["display_ranges"] == [[0.0, 10.0]]


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("crs", "EPSG:32618", "EPSG:32619"),
        ("objective", {"model": "10x"}, {"model": "40x"}),
        ("instrument", {"model": "A"}, {"model": "B"}),
    ],
)
def test_files_that_disagree_as_a_whole_are_named(key: str, one: Any, other: Any) -> None:
    files = {0: said(0, **{key: one}), 1: said(1), 2: said(2, **{key: other})}
    with pytest.warns(TiffStackWarning, match=f"disagree on the {key}: /d/f0.tif has .* but /d/f2"):
        known = known_of(stacked(t=[0, 1, 2]), files)
    assert known[key] == one
    assert known["provenance"][key] == "OME-XML of f0.tif"


def test_an_affine_is_that_of_the_first_tile_and_none_where_sites_differ() -> None:
    affine = [[1.0, 0.0, 5.0 * i, 0.0, -1.0, 0.0] for i in range(2)]
    files = {i: said(i, affine=affine[i]) for i in range(2)}
    assert known_of(stacked(site=[0, 1]), files)["affine"] is None
    tiles = Layout(
        (Dim("y", 4, file_dim=0), Dim("x", 10, axis=0, file_dim=1, offsets=(0, 5, 10))),
        np.array([0, 1], np.int32), ("y", "x"), (4, 5), np.dtype("uint8"), {},
    )  # fmt: skip
    assert known_of(tiles, files)["affine"] == affine[0]


# -- coordinates beside the index ----------------------------------------------------------------

DAY = "2024-05-01T"


def coords_of(layout: Layout, files: dict[int, FileMetadata], **options: Any) -> dict[str, Any]:
    """Return the values and unit of each coordinate that files give."""
    coords = merge(layout, files, **options).coords
    named = layout.coords.keys()
    return {k: (c.values.tolist(), c.unit) for k, c in coords.items() if k not in named}


def test_times_since_the_start_where_files_name_only_these() -> None:
    files = {i: said(i, times=(2.0 * i,)) for i in range(3)}
    known = merge(stacked(t=[0, 10, 20]), files)
    assert known.coords["time_s"].values.tolist() == [0, 2, 4]
    assert known.metadata["coord_units"]["time_s"] == "second"
    assert known.metadata["provenance"]["coords.time_s"] == "OME-XML of f0.tif and others"


def test_absolute_times_where_files_know_them() -> None:
    files = {i: said(i, acquired=f"{DAY}10:00:0{i * i}", times=(0.5,)) for i in range(3)}
    known = merge(stacked(t=[5, 6, 7]), files)
    assert known.coords["time_s"].values.tolist() == [0.5, 1.5, 4.5]
    acquired = known.coords["acquired"].values
    assert acquired.dtype == "datetime64[us]"
    assert (acquired - np.datetime64(f"{DAY}10:00:00")).astype(int).tolist() == [
        500_000, 1_500_000, 4_500_000,
    ]  # fmt: skip
    assert known.metadata["acquired"] == f"{DAY}10:00:00"


def test_times_of_two_positions_are_not_mixed_where_a_file_is_missing() -> None:
    layout = stacked(p=[0, 1], t=[0, 1, 2])
    layout.cells[0, 1] = -1
    hours = {0: 10, 1: 11}
    files = {
        row: said(row, acquired=f"{DAY}{hours[row // 3]}:00:{row % 3}0") for row in (0, 2, 3, 4, 5)
    }
    known = merge(layout, files)
    assert known.coords["time_s"].values.tolist() == [3600, 3610, 3620]
    assert known.metadata["time_interval"] == 10
    layout.cells[1, 2] = -1  # now no position has them all
    known = merge(layout, {row: file for row, file in files.items() if row != 5})
    np.testing.assert_array_equal(known.coords["time_s"].values, [0, math.nan, 20])
    assert known.metadata["time_interval"] is None


@pytest.mark.parametrize(("pause", "step"), [(40, None), (10, 10.0)])
def test_the_interval_of_one_file_is_not_that_of_files_after_a_pause(
    pause: float, step: float | None
) -> None:
    dim = Dim("t", 6, axis=0, file_dim=0, offsets=(0, 3, 6))
    layout = Layout(
        (dim,), np.array([0, 1], np.int32), ("t",), (3,), np.dtype("uint8"),
        {"t": (("t",), np.arange(6))},
    )  # fmt: skip
    starts = (0.0, 20.0 + pause)
    files = {
        i: said(i, times=tuple(starts[i] + 10 * j for j in range(3)), scale={"t": 10.0})
        for i in range(2)
    }
    known = merge(layout, files)
    times = [start + 10 * j for start in starts for j in range(3)]
    assert known.coords["time_s"].values.tolist() == times
    assert known.metadata["scale"].get("t") == known.metadata["time_interval"] == step
    assert [*known.coords["t"].values] == times if step else "t" not in known.coords
    given = merge(layout, files, scale={"t": 2.0}, units={"t": "second"}).metadata
    assert given["scale"] == {"t": 2.0}


def test_a_time_for_each_position_or_for_none() -> None:
    files = {i: said(i, times=(2.0 * i,)) for i in (0, 2)}
    assert coords_of(stacked(t=[0, 10, 20]), files) == {}
    layout = stacked(t=[0, 10, 20])
    layout.cells[1] = -1  # no file is there to say
    assert coords_of(layout, files)["time_s"][0] == pytest.approx([0, math.nan, 4], nan_ok=True)


def test_times_that_all_are_one_say_nothing() -> None:
    files = {i: said(i, times=(0.0,), acquired=f"{DAY}10:00") for i in range(3)}
    assert coords_of(stacked(t=[0, 10, 20]), files) == {}


def test_times_that_go_to_and_fro_are_reported() -> None:
    files = {i: said(i, times=(time,)) for i, time in enumerate((0.0, 5.0, 3.0))}
    with pytest.warns(
        TiffStackWarning,
        match=r"times from /d/f0.tif are not monotonic along t; time_s is not added",
    ):
        assert coords_of(stacked(t=[0, 10, 20]), files) == {}


def test_the_interval_counts_where_nothing_else_is_known() -> None:
    file = said(scale={"t": 0.5, "z": 200.0}, units={"t": "minute", "z": "nanometer"})
    coords = coords_of(stacked(t=[3, 4, 5], z=[1, 2]), {0: file})
    assert coords["time_s"] == ([0.0, 30.0, 60.0], "second")
    assert coords["z_um"] == (pytest.approx([0.0, 0.2]), "micrometer")


def test_heights_beside_the_numbers_in_the_names() -> None:
    files = {i: said(i, heights=(100.0 - 2 * i,)) for i in range(3)}
    assert coords_of(stacked(z=[1, 2, 4]), files) == {"z_um": ([100.0, 98.0, 96.0], "micrometer")}


def test_a_file_that_lists_all_planes_of_the_collection_goes_by_number() -> None:
    files = {i: said(i, heights=(5.0, 7.0, 9.0)) for i in range(3)}
    assert coords_of(stacked(z=[0, 1, 2]), files)["z_um"][0] == [5, 7, 9]


def test_a_dim_of_the_files_has_physical_positions() -> None:
    layout = Layout(
        (Dim("t", 2, file_dim=0), Dim("z", 3, file_dim=1)),
        np.zeros((), np.int32), ("t", "z"), (2, 3), np.dtype("uint8"), {},
    )  # fmt: skip
    file = said(scale={"z": 2.0, "t": 3.0}, units={"z": UM, "t": "second"}, translation={"z": 1.0},
                times=(0.0, 3.1))  # fmt: skip
    coords = coords_of(layout, {0: file})
    assert coords == {
        "t": ([0, 3], "second"),
        "z": ([1, 3, 5], UM),
        "time_s": ([0, 3.1], "second"),
    }


def test_channels_stand_beside_their_numbers_under_a_name_that_is_free() -> None:
    files = {i: said(i, channel_names=(name,)) for i, name in enumerate("ab")}
    assert coords_of(stacked(c=[0, 1]), files) == {"channel": (["a", "b"], None)}
    assert coords_of(stacked(channel=[0, 1]), files) == {"channel_name": (["a", "b"], None)}
    assert coords_of(stacked(channel=["a", "b"]), files) == {}


def test_a_field_of_the_names_keeps_its_name() -> None:
    layout = stacked(t=[0, 1])
    layout.coords["time_s"] = (("t",), np.array([7, 8]))  # type: ignore[index]
    known = merge(layout, {i: said(i, times=(2.0 * i,)) for i in range(2)})
    assert known.coords["time_s"].values.tolist() == [7, 8]


def test_each_coordinate_tells_where_it_was_learnt() -> None:
    layout = stacked(t=[0, 1], z=[0, 1])
    files = {0: said(scale={"x": 1.0}, units={"x": UM}, heights=(3.0, 4.0))}
    known = merge(layout, files, scale={"y": 2}, coords=["t"])
    reported = {k: v for k, v in known.metadata["provenance"].items() if k.startswith("coords.")}
    assert reported == {
        "coords.t": "option",
        "coords.z": "file names",
        "coords.y": "option",
        "coords.x": "OME-XML of f0.tif",
        "coords.z_um": "OME-XML of f0.tif",
    }
