"""Times in names and in ``sel``: what they select is what xarray selects by the same text."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import TiffStackZarrSource, open_stack
from intake_tiffstack.copies.select import select_positions
from intake_tiffstack.errors import OptionError, PatternError
from intake_tiffstack.layout.columns import select_files
from intake_tiffstack.pattern.matching import compile_pattern, match_paths

PASSES = ("20200110T103021", "20200201T000000", "20200201T235959", "20200315T103021")
PASSES += ("20201231T235959", "20210105T103021")
TIMES = pd.to_datetime(PASSES, format="%Y%m%dT%H%M%S")


def selected(pattern: str, names: tuple[str, ...], sel: Any) -> list[int]:
    """Return which of *names* a value of ``sel`` for the field ``time`` keeps."""
    compiled = compile_pattern(pattern)
    matches = match_paths(compiled, [f"/{name}" for name in names], "/")
    return select_files(matches, compiled.fields, {"time": sel}).indices.tolist()


def of_names(sel: Any) -> list[int]:
    """Return which passes a value keeps, by the names of the files and in a copy alike."""
    names = tuple(f"{one}.tif" for one in PASSES)
    found = selected("{time:%Y%m%dT%H%M%S}.tif", names, sel)
    values = TIMES.to_numpy("datetime64[us]")
    kept = select_positions({"time": sel}, {"time": (("time",), values)}, {"time": len(values)})
    assert list(kept["time"]) == found
    return found


def of_xarray(sel: Any) -> list[int]:
    array = xr.DataArray(np.arange(len(TIMES)), coords={"time": TIMES.values}, dims="time")
    wanted = slice(sel.get("from"), sel.get("to")) if isinstance(sel, dict) else sel
    return np.atleast_1d(array.sel(time=wanted)).tolist()


@pytest.mark.parametrize(
    "sel",
    [
        {"from": "2020-01-01", "to": "2020-02-01"},
        {"from": "2020-02-01", "to": "2020-02-01"},
        {"from": "2020-01", "to": "2020-03"},
        {"from": "2020", "to": "2020"},
        {"to": "2020"},
        {"from": "2020-12"},
        {"from": "2020-02-01T00:00:01"},
        {"to": "2020-02-01T23"},
        {"to": "2020-02-01T23:59"},
        {"to": "2020-02-01T23:59:58"},
        "2020-02-01",
        "2020-02",
        "2020",
        "2021",
    ],
    ids=str,
)
def test_a_text_selects_what_it_selects_in_xarray(sel: Any) -> None:
    assert of_names(sel) == of_xarray(sel)


stamps = st.datetimes(datetime.datetime(2019, 11, 1), datetime.datetime(2021, 3, 1))


@given(
    st.lists(stamps.map(lambda t: t.replace(microsecond=0)), min_size=1, unique=True),
    stamps,
    stamps,
    st.sampled_from(["%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%dT%H:%M"]),
)
def test_a_range_is_that_of_pandas(times: list[Any], first: Any, last: Any, precision: str) -> None:
    index = pd.DatetimeIndex(sorted(times)).as_unit("us")
    ends = {"from": first.strftime(precision), "to": last.strftime(precision)}
    expected = np.arange(len(index))[index.slice_indexer(ends["from"], ends["to"])]
    names = tuple(f"{time:%Y%m%d%H%M%S}.tif" for time in index)
    if len(expected):
        assert selected("{time:%Y%m%d%H%M%S}.tif", names, ends) == expected.tolist()
    else:
        with pytest.raises(OptionError, match="no file has time in"):
            selected("{time:%Y%m%d%H%M%S}.tif", names, ends)


@pytest.mark.parametrize(
    ("sel", "kept"),
    [
        (["2020-01", "2021-01-05"], [0, 5]),
        ("20200201T235959", [2]),  # as the names have it
        ("20200201", [1, 2]),  # the basic format of ISO 8601
        (20200201, [1, 2]),  # what YAML makes of it without quotes
        ({"to": 2020}, [0, 1, 2, 3, 4]),
        (datetime.date(2020, 2, 1), [1, 2]),
        (datetime.datetime(2020, 2, 1), [1]),
        (np.datetime64("2020-02"), [1, 2]),
        (np.datetime64("2020-02-01T00:00:00.000000"), [1]),
        ("2020-02-01 23:59:59", [2]),
    ],
    ids=str,
)
def test_other_ways_to_write_a_time(sel: Any, kept: list[int]) -> None:
    names = tuple(f"{one}.tif" for one in PASSES)
    assert selected("{time:%Y%m%dT%H%M%S}.tif", names, sel) == kept


def test_a_fraction_of_a_second_spans_its_last_digit() -> None:
    names = tuple(f"20200201T103021_{f}.tif" for f in ("000000", "049999", "050000", "999999"))
    pattern = "{time:%Y%m%dT%H%M%S_%f}.tif"
    assert selected(pattern, names, "2020-02-01T10:30:21.0") == [0, 1, 2]
    assert selected(pattern, names, {"to": "2020-02-01T10:30:21.04"}) == [0, 1]
    assert selected(pattern, names, {"to": "2020-02-01T10:30:21"}) == [0, 1, 2, 3]
    assert selected(pattern, names, datetime.datetime(2020, 2, 1, 10, 30, 21)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "text",
    ["now", "today", "NaT", "", "202002", "2020-2-1", "2020021", "20200201T1", "2020-13", "+2020",
     "2020-02-30", "2020-02-01T25", "01/02/2020", "1 Feb 2020", "20200201T1030211", "\u0662020"],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_what_is_neither_iso_nor_as_in_the_names_is_an_error(text: str) -> None:
    for sel in (text, [text], {"from": text}, {"to": text}):
        with pytest.raises(OptionError, match="field 'time' is a time, but got"):
            selected("{time:%Y%m%dT%H%M%S}.tif", ("20200201T103021.tif",), sel)
        times = np.array(["2020-02-01"], "datetime64[ns]")
        with pytest.raises(OptionError, match="sel: time holds datetime64"):
            select_positions({"time": sel}, {"time": (("time",), times)}, {"time": 1})


def test_the_format_of_the_names_is_read_with_full_width_only() -> None:
    """strptime would take 202011 for the first of January."""
    for text in ("202011", "2020111"):
        with pytest.raises(OptionError, match=r"write it as %Y%m%d or ISO 8601"):
            selected("{time:%Y%m%d}.tif", ("20200101.tif", "20201101.tif"), text)


@pytest.mark.parametrize(
    "value",
    [
        "2020-02-01T10:30:21Z",
        "2020-02-01T10:30:21+01:00",
        datetime.datetime(2020, 2, 1, tzinfo=datetime.UTC),
    ],
    ids=str,
)
def test_a_time_zone_is_refused(value: Any) -> None:
    with pytest.raises(OptionError, match="has a time zone, but times in names have none"):
        selected("{time:%Y%m%d}.tif", ("20200201.tif",), value)


def test_a_day_in_a_copy_is_the_whole_day(tmp_path: Path) -> None:
    for name in PASSES:
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((2, 3), int(name[4:8]), np.uint16))
    stack = open_stack(tmp_path, pattern="{time:%Y%m%dT%H%M%S}.tif")
    stack.export(tmp_path / "copy.zarr")
    for sel in ({"to": "2020-02-01"}, "2020-02-01", {"from": "2020-03", "to": "2020"}):
        copy = TiffStackZarrSource(str(tmp_path / "copy.zarr"), sel={"time": sel}).to_xarray()
        wanted = slice(sel.get("from"), sel.get("to")) if isinstance(sel, dict) else sel
        xr.testing.assert_equal(copy.compute(), stack.to_xarray().sel(time=wanted).compute())


# --------------------------------------------------------------------------- spread over folders


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("{time:%Y}/{time:%m}/{time:%d}/B{b}.tif", "2015/12/07/B01.tif", "2015-12-07"),
        ("{time:%Y}/{time:%m}/{time:%d}/B{b}.tif", "2015/12/7/B01.tif", "2015-12-07"),
        ("{time:%Y}/{time:%m}/{time:%d}/{n:d}/B{b}.tif", "2016/1/5/0/B01.tif", "2016-01-05"),
        ("{time:%Y}/{time:%j}/x{b}.tif", "2016/060/x1.tif", "2016-02-29"),
        ("{time:%Y/%m/%d}/B{b}.tif", "2015/12/7/B01.tif", "2015-12-07"),
        ("{time:%Y/raw/%m%d}_{b}.tif", "2015/raw/1207_1.tif", "2015-12-07"),
        ("{time:%Y%m%d}/{b}_{time:%H%M}.tif", "20160105/x_2359.tif", "2016-01-05T23:59"),
        ("{time:%H}h/{time:%Y-%m-%d}_{b}.tif", "07h/2016-01-05_x.tif", "2016-01-05T07"),
        ("{time:%Y}/{time:%m}/{time:%Y%m%d}_{b}.tif", "2016/01/20160105_x.tif", "2016-01-05"),
        ("{time:%Y}/{time:%Y}_{time:%m%d}_{b}.tif", "2016/2016_0105_x.tif", "2016-01-05"),
    ],
)
def test_a_time_spread_over_a_path_is_one_time(pattern: str, path: str, expected: str) -> None:
    found = match_paths(compile_pattern(pattern), [f"/{path}"], "/")
    assert found.columns["time"] == [np.datetime64(expected, "us")]
    assert found.columns["time"][0].dtype == "datetime64[us]"


def test_a_directive_that_says_two_things_does_not_match() -> None:
    pattern = compile_pattern("{time:%Y}/{time:%m}/{time:%Y%m%d}_{b}.tif")
    assert not len(match_paths(pattern, ["/2016/02/20160105_x.tif"], "/").indices)


@given(st.dates(datetime.date(1970, 1, 1), datetime.date(2099, 12, 31)), st.booleans())
def test_folders_of_dates_are_read_padded_or_not(day: datetime.date, is_padded: bool) -> None:
    path = f"{day:%Y/%m/%d}/a.tif" if is_padded else f"{day.year}/{day.month}/{day.day}/a.tif"
    found = match_paths(compile_pattern("{t:%Y}/{t:%m}/{t:%d}/{b}.tif"), [f"/{path}"], "/")
    assert found.columns["t"] == [np.datetime64(day, "us")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{t:%m}/{t:%d}/{b}.tif", "has {t:%m} and {t:%d}, which is not a time: a date needs its"),
        ("{t:%Y}/{t:%Q}/{b}.tif", "%Q is none of"),
        ("{t:%Y}/{t:d}/{b}.tif", "has both {t:%Y} and {t:d}"),
    ],
)
def test_a_spread_time_that_is_none_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        compile_pattern(pattern)


def test_a_spread_day_that_is_in_no_calendar_names_the_file() -> None:
    with pytest.raises(PatternError, match=r"'2015/02/30/B1\.tif' has '2015/02/30'"):
        match_paths(compile_pattern("{t:%Y}/{t:%m}/{t:%d}/B{b}.tif"), ["/2015/02/30/B1.tif"], "/")


def test_a_collection_with_dates_in_folders(tmp_path: Path) -> None:
    days = ("2015/12/7", "2016/1/15", "2016/1/5")
    for number, day in enumerate(days):
        for band in ("B01", "B02"):
            (tmp_path / day / "0").mkdir(parents=True, exist_ok=True)
            pixels = np.full((2, 3), 10 * number + int(band[1:]), np.uint8)
            tifffile.imwrite(tmp_path / day / "0" / f"{band}.tif", pixels)
    pattern = "{time:%Y}/{time:%m}/{time:%d}/{n:d}/{band}.tif"
    for way in (
        {"urlpath": f"{tmp_path}/**/*.tif", "pattern": pattern},
        {"urlpath": f"{tmp_path}/{pattern}"},
    ):
        array = open_stack(**way, sel={"n": 0}).to_xarray()
        assert array.dims == ("time", "band", "y", "x")
        expected = pd.to_datetime(["2015-12-07", "2016-01-05", "2016-01-15"]).as_unit("us")
        pd.testing.assert_index_equal(
            array.indexes["time"], pd.DatetimeIndex(expected, name="time"), exact="equiv"
        )
        assert array[:, :, 0, 0].values.tolist() == [[1, 2], [21, 22], [11, 12]]
        chosen = open_stack(**way, sel={"time": {"from": "2016", "to": "2016-01-05"}})
        assert chosen.shape[0] == 1


# --------------------------------------------------------------------------- elapsed times


ELAPSED = ("00d00h00m", "00d06h40m", "01d00h00m", "103d06h40m")


@pytest.fixture
def incucyte(tmp_path: Path) -> Path:
    for number, text in enumerate(ELAPSED):
        pixels = np.full((4, 5), number, np.uint8)
        tifffile.imwrite(tmp_path / f"Phase_A2_1_{text}.tif", pixels)
    return tmp_path


INCUCYTE = "{}_{well}_{s:d}_{t:%dd%Hh%Mm}.tif"


def test_a_duration_is_an_elapsed_time(incucyte: Path) -> None:
    stack = open_stack(incucyte, pattern=INCUCYTE)
    array = stack.to_xarray()
    expected = pd.to_timedelta([text.replace("m", "min").replace("d", "D") for text in ELAPSED])
    assert (array.indexes["t"] == expected).all()
    assert array.time_s.values.tolist() == [0, 24_000, 86_400, 103 * 86_400 + 24_000]
    assert array.time_s.attrs["units"] == "second"
    assert array[0, 0, :, 0, 0].values.tolist() == [0, 1, 2, 3]
    assert stack.metadata["coords"]["t"]["values"] == array.time_s.values.tolist()
    assert "1 day, 0:00:00" in str(stack.report())


def test_regular_durations_give_the_interval(incucyte: Path) -> None:
    stack = open_stack(incucyte, pattern=INCUCYTE, sel={"t": {"to": "00d06h40m"}})
    assert stack.shape[2] == 2
    assert stack.metadata["time_interval"] == 24_000


def test_a_duration_goes_into_a_copy(incucyte: Path) -> None:
    stack = open_stack(incucyte, pattern=INCUCYTE)
    stack.export(incucyte / "copy.zarr")
    copy = TiffStackZarrSource(str(incucyte / "copy.zarr"))
    with warnings.catch_warnings(action="error"):
        xr.testing.assert_equal(copy.to_xarray().compute(), stack.to_xarray().compute())
    early = TiffStackZarrSource(str(incucyte / "copy.zarr"), sel={"time_s": {"to": 30_000}})
    assert early.to_xarray().sizes["t"] == 2
    with pytest.raises(OptionError, match="select by the seconds of time_s"):
        TiffStackZarrSource(str(incucyte / "copy.zarr"), sel={"t": 3}).to_xarray()


@given(st.timedeltas(datetime.timedelta(), datetime.timedelta(days=999)))
def test_what_is_written_is_read_back(elapsed: datetime.timedelta) -> None:
    minutes, seconds = divmod(elapsed.seconds, 60)
    name = f"{elapsed.days:02d}d{minutes // 60:02d}h{minutes % 60:02d}m{seconds:02d}s.tif"
    found = match_paths(compile_pattern("{t:%dd%Hh%Mm%Ss}.tif"), [f"/{name}"], "/")
    (value,) = found.columns["t"]
    assert value == np.timedelta64(elapsed - datetime.timedelta(microseconds=elapsed.microseconds))


def test_a_text_that_is_no_duration_is_refused() -> None:
    compiled = compile_pattern("{t:%dd%Hh}.tif")
    found = match_paths(compiled, ["/01d02h.tif"], "/")
    with pytest.raises(OptionError, match=r"an elapsed time, but got '5d'.*written as %dd%Hh"):
        select_files(found, compiled.fields, {"t": "5d"})
