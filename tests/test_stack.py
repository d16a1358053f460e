"""A collection from its options: members, holes, errors and the report."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import dask
import intake
import numpy as np
import pytest
import tifffile

from intake_tiffstack import TiffStack, open_stack
from intake_tiffstack.errors import (
    DuplicateFilesError,
    FileChangedError,
    LayoutError,
    MissingFilesError,
    OptionError,
    PatternError,
    StructureMismatchError,
    TiffStackWarning,
    UnreadableFileError,
)
from intake_tiffstack.listing.list_files import list_files

OPTIONS: dict[str, Any] = {"pattern": "s_t{t:d}_c{c}.tif", "file_dims": "zyx"}
CHANNELS = "abc"


def write(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, photometric="minisblack")


@pytest.fixture
def whole(tmp_path: Path) -> np.ndarray:
    """Write 4 x 3 volumes, s_t0_ca.tif to s_t3_cc.tif, and return them, dims t c z y x."""
    whole = np.arange(4 * 3 * 2 * 6 * 5, dtype="uint16").reshape(4, 3, 2, 6, 5)
    for t, c in np.ndindex(4, 3):
        write(tmp_path / f"s_t{t}_c{CHANNELS[c]}.tif", whole[t, c])
    return whole


def damage(path: Path) -> None:
    """Make the file one that is no TIFF."""
    path.write_bytes(b"no TIFF at all" + bytes(1000))


def text_lines(stack: TiffStack) -> list[str]:
    return str(stack.report()).splitlines()


# ------------------------------------------------------------------------------------- in general


def test_nothing_is_looked_at_before_the_first_use(tmp_path: Path) -> None:
    stack = open_stack(tmp_path / "not there yet", **OPTIONS)
    assert repr(stack) == f"<TiffStack {tmp_path}/not there yet, not opened yet>"
    with pytest.raises(FileNotFoundError):
        stack.to_dask()


def test_what_an_opened_stack_tells_of_itself(tmp_path: Path, whole: np.ndarray) -> None:
    stack = open_stack(tmp_path, **OPTIONS)
    assert stack.dims == ("t", "c", "z", "y", "x")
    assert stack.shape == whole.shape
    assert stack.sizes == dict(zip(stack.dims, whole.shape, strict=True))
    assert stack.dtype == whole.dtype
    assert repr(stack) == "<TiffStack (t: 4, c: 3, z: 2, y: 6, x: 5) uint16>"
    assert stack.metadata["coords"]["c"] == {"dims": ["c"], "size": 3, "values": list(CHANNELS)}
    np.testing.assert_array_equal(stack.read(), whole, strict=True)


def test_its_text_is_short_and_shows_no_secret() -> None:
    assert repr(open_stack([f"/a/{i}.tif" for i in range(10**5)])) == (
        "<TiffStack 100000 urlpaths, not opened yet>"
    )
    assert "word" not in repr(open_stack("http://me:word@host/a.tif"))


def test_metadata_may_be_changed_at_will(tmp_path: Path, whole: np.ndarray) -> None:
    stack = open_stack(tmp_path, scale={"x": 2}, **OPTIONS)
    stack.metadata["scale"]["x"] = 3
    stack.metadata["dims"].clear()
    assert stack.metadata["scale"] == {"x": 2}
    assert stack.metadata["dims"] == list(stack.dims)
    json.dumps(stack.metadata)


def test_a_stack_pickles_by_its_options(tmp_path: Path, whole: np.ndarray) -> None:
    stack = open_stack(tmp_path, **OPTIONS)
    stack.to_dask()
    again = pickle.loads(pickle.dumps(stack))
    assert again.options == stack.options
    assert again.to_dask().name == stack.to_dask().name


def test_relist_sees_new_files(tmp_path: Path, whole: np.ndarray) -> None:
    stack = open_stack(tmp_path, **OPTIONS)
    assert stack.sizes["t"] == 4
    for name in CHANNELS:
        write(tmp_path / f"s_t4_c{name}.tif", whole[0, 0])
    assert stack.sizes["t"] == 4
    stack.relist()
    assert stack.sizes["t"] == 5
    np.testing.assert_array_equal(stack.to_dask()[4, 2].compute(), whole[0, 0])


def test_one_file_by_its_name_has_no_file_dim(tmp_path: Path, whole: np.ndarray) -> None:
    stack = open_stack(tmp_path / "s_t1_cb.tif", file_dims="zyx")
    assert stack.dims == ("z", "y", "x")
    np.testing.assert_array_equal(stack.read(), whole[1, 1])
    assert open_stack([tmp_path / "s_t1_cb.tif"]).dims[0] == "file"


def test_a_format_that_is_not_there_is_named(tmp_path: Path, whole: np.ndarray) -> None:
    with pytest.raises(OptionError, match="unknown format 'ome-zar'; did you mean 'ome-zarr'"):
        open_stack(tmp_path, **OPTIONS).export(str(tmp_path / "o"), format="ome-zar")


# ------------------------------------------------------------------------------- what takes part


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        pytest.param({"sel": {"c": "b"}}, np.s_[:, 1:2], id="sel value"),
        pytest.param({"sel": {"t": [0, 3]}}, np.s_[::3], id="sel list"),
        pytest.param({"sel": {"t": {"from": 1, "to": 2}}}, np.s_[1:3], id="sel range"),
        pytest.param({"exclude": "*_cc.tif"}, np.s_[:, :2], id="exclude"),
        pytest.param({"exclude": ["s_t0*", "*_ca*"]}, np.s_[1:, 1:], id="exclude two"),
        pytest.param({"labels": {"c": ["c", "a", "b"]}}, np.s_[:, [2, 0, 1]], id="labels in order"),
        pytest.param({"sizes": {"t": 4, "c": 3, "z": 2}}, np.s_[:], id="sizes as they are"),
    ],
)
def test_options_choose_files_and_their_order(
    tmp_path: Path, whole: np.ndarray, options: dict[str, Any], taken: Any
) -> None:
    pixels = open_stack(tmp_path, **OPTIONS, **options).read()
    np.testing.assert_array_equal(pixels, whole[taken], strict=True)


def test_labels_name_the_positions(tmp_path: Path, whole: np.ndarray) -> None:
    labels = {"c": {"b": "DAPI", "a": "GFP", "c": "RFP"}}
    stack = open_stack(tmp_path, labels=labels, **OPTIONS)
    assert stack.to_xarray().c.values.tolist() == ["DAPI", "GFP", "RFP"]
    assert stack.metadata["channel_names"] == ["DAPI", "GFP", "RFP"]
    np.testing.assert_array_equal(stack.to_xarray().sel(c="GFP").values, whole[:, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sel": {"t": 9}}, "sel: no file has t = 9; the names have 0, 1, 2, 3"),
        ({"sel": {"T": 1}}, "unknown field .*'T'"),
        ({"labels": {"c": ["a", "b"]}}, "labels: c lists a, b, but the names have also c"),
        ({"concat_dim": ["t", "ch"]}, "unknown field in concat_dim 'ch'; did you mean 'c'"),
        ({"dims": "tczy"}, "dims must name each dim of the result once: t, c, z, y, x"),
        ({"chunks": {"zz": 1}}, "unknown dim in chunks 'zz'; did you mean 'z'"),
        ({"scale": {"zz": 1}}, "unknown dim in scale 'zz'; did you mean 'z'"),
        ({"coords": {"z": [1]}}, "z has 2 positions, but got 1"),
        ({"sizes": {"zz": 1}}, "unknown dim in sizes 'zz'; did you mean 'z'"),
        ({"sizes": {"z": 3}}, "z should have 3 positions, but the files have 2"),
        ({"file_dims": "yx"}, "2 dims, but .*s_t0_ca.tif has 2x6x5 uint16"),
        ({"series": 1}, "series=1, but .*s_t0_ca.tif has 1 series"),
    ],
    ids=repr,
)
def test_an_option_that_does_not_fit_the_files_is_refused(
    tmp_path: Path, whole: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((OptionError, LayoutError), match=message) as caught:
        open_stack(tmp_path, **{**OPTIONS, **options}).to_dask()
    assert len(str(caught.value).splitlines()) <= 4


def test_sel_without_a_pattern_says_what_to_do(tmp_path: Path, whole: np.ndarray) -> None:
    reported = (
        r"sel names the field 't', but no pattern .*: give one, such as '\{\}_t\{t:d\}\.tif'.*"
        r"to_xarray\(\)\.isel\(t=\.\.\.\)"
    )
    with pytest.raises(OptionError, match=reported):
        open_stack(tmp_path, sel={"t": 1}).to_dask()


def test_a_pattern_for_files_in_folders_that_were_not_looked_into(
    tmp_path: Path, whole: np.ndarray
) -> None:
    for well in ("B02", "B03"):
        (tmp_path / well).mkdir()
        write(tmp_path / well / "t1.tif", whole[0, 0, 0])
    reported = (
        r"TIFFs in 2 folders below, such as .*/B02, are not looked at: end the urlpath in '\*\*/'"
    )
    options: dict[str, Any] = {"pattern": "B{b:d}/t{t:d}.tif", "concat_dim": ["b"]}
    with pytest.raises(PatternError, match=reported):
        open_stack(tmp_path, **options).to_dask()
    assert open_stack(f"{tmp_path}/**/", unmatched="ignore", **options).sizes["b"] == 2
    with pytest.raises(PatternError) as caught:
        open_stack(f"{tmp_path}/*.tif", **options).to_dask()
    assert "below" not in str(caught.value)


def test_two_patterns_are_refused(tmp_path: Path, whole: np.ndarray) -> None:
    with pytest.raises(OptionError, match=r"the urlpath has fields of its own .*keep one of them"):
        open_stack(tmp_path / "s_t{t:d}_c{c}.tif", **OPTIONS).to_dask()


def test_sizes_count_the_files_along_an_extended_dim(tmp_path: Path) -> None:
    for z in range(3):
        write(tmp_path / f"z{z}.tif", np.full((2, 4, 5), z, "u1"))
    options = {"pattern": "z{z:d}.tif", "file_dims": "zyx", "fill_value": 9}
    assert open_stack(tmp_path, sizes={"z": 3}, **options).shape == (6, 4, 5)
    with pytest.raises(MissingFilesError, match="z=3 is missing"):
        open_stack(tmp_path, sizes={"z": 4}, **options).to_dask()
    filled = open_stack(tmp_path, sizes={"z": 4}, missing="fill", **options).read()
    assert filled[:, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 9, 9]


# ---------------------------------------------------------------------------------------- strays


@pytest.fixture
def strays(tmp_path: Path, whole: np.ndarray) -> list[str]:
    names = [f"DC_CAM{i}.tif" for i in range(9)]
    for name in names:
        write(tmp_path / name, whole[0, 0])
    (tmp_path / "notes.txt").write_text("not a TIFF, so no stray")
    return names


def test_strays_are_one_warning_with_the_count_and_two_names(
    tmp_path: Path, strays: list[str]
) -> None:
    with pytest.warns(TiffStackWarning) as caught:
        open_stack(tmp_path / "*", **OPTIONS).to_dask()
    assert len(caught) == 1
    text = str(caught[0].message)
    assert text.startswith("9 of the TIFFs listed do not match the pattern 's_t{t:d}_c{c}.tif'")
    assert "DC_CAM0.tif" in text
    assert "DC_CAM8.tif" in text
    assert "DC_CAM4.tif" not in text


def test_each_line_that_opens_strays_is_reported_of_them(tmp_path: Path, strays: list[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # as outside of tests: once a line
        open_stack(tmp_path, **OPTIONS).to_dask()
        open_stack(tmp_path, **OPTIONS).to_xarray()
    assert [warning.filename for warning in caught] == [__file__, __file__]
    assert caught[0].lineno == caught[1].lineno - 1


def test_one_stray_and_a_regex_are_reported_as_they_are(tmp_path: Path, whole: np.ndarray) -> None:
    write(tmp_path / "DC.tif", whole[0, 0])
    regex = r"s_t(?P<t>\d)_c(?P<c>\w)\.tif"
    stack = open_stack(tmp_path, pattern=regex, file_dims="zyx", unmatched="raise")
    reported = f"1 of the TIFFs listed does not match the pattern '{regex}': DC.tif; leave it out"
    with pytest.raises(LayoutError, match=re.escape(reported)):
        stack.to_dask()
    assert "; 1 TIFF does not match: DC.tif" in str(stack.report())


def test_strays_are_ignored_or_an_error_as_the_option_says(
    tmp_path: Path, whole: np.ndarray, strays: list[str]
) -> None:
    ignored = open_stack(tmp_path, unmatched="ignore", **OPTIONS)
    np.testing.assert_array_equal(ignored.read(), whole)
    with pytest.raises(LayoutError, match="9 of the TIFFs listed do not match"):
        open_stack(tmp_path, unmatched="raise", **OPTIONS).to_dask()
    excluded = open_stack(tmp_path, unmatched="raise", exclude="DC_*", **OPTIONS)
    assert excluded.shape == whole.shape


def test_what_sel_leaves_out_is_no_stray(tmp_path: Path, whole: np.ndarray) -> None:
    stack = open_stack(tmp_path, unmatched="raise", sel={"t": 0}, **OPTIONS)
    assert stack.report().to_dict()["left_out_by_sel"] == 9
    assert stack.report().to_dict()["strays"] == []


# ---------------------------------------------------------------------------------------- holes


@pytest.fixture
def holes(tmp_path: Path, whole: np.ndarray) -> np.ndarray:
    """Remove the files at t=2 c=b and t=3 c=c; return where there are none."""
    is_missing = np.zeros((4, 3), bool)
    for t, c in ((2, 1), (3, 2)):
        (tmp_path / f"s_t{t}_c{CHANNELS[c]}.tif").unlink()
        is_missing[t, c] = True
    return is_missing


def test_a_hole_is_an_error_that_tells_the_cells(tmp_path: Path, holes: np.ndarray) -> None:
    with pytest.raises(MissingFilesError, match="2 of 12 cells have no file") as caught:
        open_stack(tmp_path, **OPTIONS).to_dask()
    assert "t=2, c=b is missing" in str(caught.value)
    assert "t=3, c=c is missing" in str(caught.value)
    assert "missing='fill'" in str(caught.value)


@pytest.mark.parametrize("missing", ["fill", "mask"])
def test_a_hole_is_filled_and_the_dtype_stays(
    tmp_path: Path, whole: np.ndarray, holes: np.ndarray, missing: str
) -> None:
    stack = open_stack(tmp_path, missing=missing, fill_value=7, **OPTIONS)
    expected = np.where(holes[:, :, None, None, None], np.uint16(7), whole)
    np.testing.assert_array_equal(stack.read(), expected, strict=True)
    named = stack.to_xarray()
    assert ("is_missing" in named.coords) == (missing == "mask")
    if missing == "mask":
        np.testing.assert_array_equal(named.is_missing.values, holes)
        assert named.is_missing.dims == ("t", "c")


def test_trim_drops_incomplete_time_points_at_the_end(
    tmp_path: Path, whole: np.ndarray, holes: np.ndarray
) -> None:
    stack = open_stack(tmp_path, missing="trim", **OPTIONS)
    np.testing.assert_array_equal(stack.read(), whole[:2], strict=True)
    assert any("t from 4 to 2" in line for line in text_lines(stack))


def test_a_lost_last_time_point_is_a_hole_where_sizes_says_so(
    tmp_path: Path, whole: np.ndarray
) -> None:
    stack = open_stack(tmp_path, sizes={"t": 5}, missing="fill", **OPTIONS)
    np.testing.assert_array_equal(stack.read()[:4], whole)
    assert not stack.read()[4].any()


@pytest.mark.parametrize(
    ("fill_value", "dtype"),
    [(-1, "u2"), (65536, "u2"), (1.5, "u2"), (float("nan"), "u2"), (2, "?"), (1j, "f4")],
)
def test_a_fill_value_that_no_pixel_can_have_is_refused(
    tmp_path: Path, fill_value: Any, dtype: str
) -> None:
    write(tmp_path / "t0.tif", np.zeros((16, 16), dtype))
    with pytest.raises(
        OptionError, match=r"fill_value=.* cannot be represented as (uint16|bool|float32)"
    ):
        open_stack(tmp_path, pattern="t{t:d}.tif", fill_value=fill_value).to_dask()


def test_a_fill_value_is_what_the_pixels_can_hold(tmp_path: Path) -> None:
    for t in range(2):
        write(tmp_path / f"t{t}.tif", np.ones((4, 5), "f4"))
    options: dict[str, Any] = {"pattern": "t{t:d}.tif", "sizes": {"t": 3}, "missing": "fill"}
    assert np.isnan(open_stack(tmp_path, fill_value="nan", **options).read()[2]).all()
    assert (open_stack(tmp_path, fill_value=1e300, **options).read()[2] == np.inf).all()


# ------------------------------------------------------------------------------------- duplicates


def test_two_files_in_one_cell(tmp_path: Path, whole: np.ndarray) -> None:
    write(tmp_path / "s_t01_ca.tif", whole[3, 2])
    with pytest.raises(DuplicateFilesError, match="2 files are in one cell") as caught:
        open_stack(tmp_path, **OPTIONS).to_dask()
    assert {"s_t1_ca.tif", "s_t01_ca.tif"} <= set(str(caught.value).replace("/", " ").split())
    first, last = (
        open_stack(tmp_path, duplicates=d, **OPTIONS).to_dask()[1, 0].compute()
        for d in ("first", "last")
    )
    assert not np.array_equal(first, last)
    for volume in (first, last):
        assert any(np.array_equal(volume, p) for p in (whole[1, 0], whole[3, 2]))


def test_the_report_tells_duplicates_as_the_option_has_them(
    tmp_path: Path, whole: np.ndarray
) -> None:
    write(tmp_path / "s_t01_ca.tif", whole[3, 2])
    refused = open_stack(tmp_path, **OPTIONS)
    lines = [line for line in text_lines(refused) if line.startswith("duplicates")]
    assert [line.split(": ")[0] for line in lines] == [
        "duplicates    1 file in the cell of another one"
    ]
    assert "1 of the cells holds more than one file" in str(refused.report())
    assert "duplicates    1 file left out: " in str(
        open_stack(tmp_path, duplicates="first", **OPTIONS).report()
    )


# ---------------------------------------------------------------------- files that cannot be read


@pytest.fixture
def fresh_log(caplog: pytest.LogCaptureFixture) -> Any:
    """Return the log, with no file warned of before."""
    with patch("intake_tiffstack.reading.region._WARNED", set()):
        caplog.set_level(logging.WARNING, "intake_tiffstack.reading")
        yield caplog


@pytest.mark.parametrize("validate", ["auto", "all", "template"])
@pytest.mark.parametrize("name", ["s_t0_ca", "s_t0_cb", "s_t2_cc"])
def test_a_damaged_file_is_filled_and_reported_once(
    tmp_path: Path, whole: np.ndarray, fresh_log: Any, name: str, validate: str
) -> None:
    damage(tmp_path / f"{name}.tif")
    stack = open_stack(
        tmp_path, on_error="fill", fill_value=5, validate=validate, chunks="page", **OPTIONS
    )
    whole[int(name[3]), CHANNELS.index(name[6])] = 5
    np.testing.assert_array_equal(stack.read(), whole, strict=True)
    assert [(r.name, r.levelname) for r in fresh_log.records] == [
        ("intake_tiffstack.reading", "WARNING")
    ]
    assert f"{name}.tif" in fresh_log.text
    with pytest.raises(OptionError, match="a source with on_error='fill' is not exported"):
        stack.export(str(tmp_path / "copy.zarr"))


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, whole: np.ndarray) -> None:
    damage(tmp_path / "s_t2_cc.tif")
    with pytest.raises(UnreadableFileError, match=r"s_t2_cc\.tif cannot be read as TIFF"):
        open_stack(tmp_path, **OPTIONS).to_dask()
    lazy = open_stack(tmp_path, validate="template", **OPTIONS).to_dask()
    np.testing.assert_array_equal(lazy[2, 1].compute(), whole[2, 1])
    with pytest.raises(UnreadableFileError, match=r"s_t2_cc\.tif cannot be read as TIFF"):
        lazy[2, 2].compute()


def test_no_readable_file_at_all_is_an_error(tmp_path: Path, whole: np.ndarray) -> None:
    for path in tmp_path.glob("*.tif"):
        damage(path)
    with pytest.raises(UnreadableFileError, match="cannot be read as TIFF"):
        open_stack(tmp_path, on_error="fill", **OPTIONS).to_dask()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_that_changed_since_it_was_opened_is_an_error(
    tmp_path: Path, whole: np.ndarray, compression: str | None
) -> None:
    path = tmp_path / "s_t1_cb.tif"
    tifffile.imwrite(path, whole[1, 1], photometric="minisblack", compression=compression)
    stack = open_stack(tmp_path, **OPTIONS)
    lazy = stack.to_dask()
    tifffile.imwrite(path, whole[0, 0], photometric="minisblack", compression=compression)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    with pytest.raises(FileChangedError, match=r"s_t1_cb\.tif changed since it was listed"):
        lazy[1, 1].compute()
    stack.relist()
    np.testing.assert_array_equal(stack.to_dask()[1, 1].compute(), whole[0, 0])


@pytest.mark.skipif(os.name != "posix", reason="only there a file has a time of change")
def test_a_file_replaced_by_another_one_of_its_size_and_time_is_an_error(
    tmp_path: Path, whole: np.ndarray
) -> None:
    path, other = tmp_path / "s_t1_cb.tif", tmp_path / "other"
    stack = open_stack(tmp_path, **OPTIONS)
    lazy = stack.to_dask()
    write(other, whole[0, 0])
    before = path.stat()
    os.utime(other, ns=(0, before.st_mtime_ns))
    time.sleep(0.02)  # two steps of the clock of files
    other.replace(path)
    assert path.stat().st_size == before.st_size
    with pytest.raises(FileChangedError, match=r"s_t1_cb\.tif changed since it was listed"):
        lazy[1, 1].compute()
    stack.relist()
    np.testing.assert_array_equal(stack.to_dask()[1, 1].compute(), whole[0, 0])


def test_a_file_that_went_away_is_an_error(tmp_path: Path, whole: np.ndarray) -> None:
    lazy = open_stack(tmp_path, **OPTIONS).to_dask()
    (tmp_path / "s_t1_cb.tif").unlink()
    message = r"s_t1_cb\.tif was listed but no longer exists; call relist\(\)"
    with pytest.raises(FileChangedError, match=message):
        lazy[1, 1].compute()


# --------------------------------------------------------------------------------------- outliers


@pytest.mark.parametrize(
    ("pixels", "what"),
    [
        pytest.param(np.zeros((2, 6, 4), "u2"), "shape", id="shape"),
        pytest.param(np.zeros((2, 6, 5), "u1"), "dtype", id="dtype"),
        pytest.param(np.zeros((6, 5), "u2"), "shape", id="dims"),
    ],
)
def test_a_file_that_differs_is_refused_at_open_or_when_it_is_read(
    tmp_path: Path, whole: np.ndarray, pixels: np.ndarray, what: str
) -> None:
    write(tmp_path / "s_t2_cb.tif", pixels)
    with pytest.raises(StructureMismatchError, match=f"the files differ in {what}") as caught:
        open_stack(tmp_path, **OPTIONS).to_dask()
    assert "s_t2_cb.tif" in str(caught.value)
    lazy = open_stack(tmp_path, validate="template", **OPTIONS).to_dask()
    np.testing.assert_array_equal(lazy[2, 0].compute(), whole[2, 0])
    with pytest.raises((StructureMismatchError, OptionError), match=r"s_t2_cb\.tif"):
        lazy[2, 1].compute()


def test_an_outlier_raises_at_open_even_where_errors_are_filled(
    tmp_path: Path, whole: np.ndarray
) -> None:
    write(tmp_path / "s_t2_cb.tif", np.zeros((2, 6, 4), "u2"))
    with pytest.raises(StructureMismatchError):
        open_stack(tmp_path, on_error="fill", **OPTIONS).to_dask()


# ----------------------------------------------------------------------------------------- report


@pytest.mark.parametrize(
    ("validate", "read", "reported"),
    [
        ("auto", 12, "read: 12 of 12"),
        ("all", 12, "read: 12 of 12"),
        ("template", 1, "read: 1 of 12; 11 assumed to be alike: their listed sizes agree"),
    ],
)
def test_the_report_tells_how_many_headers_were_read(
    tmp_path: Path, whole: np.ndarray, validate: str, read: int, reported: str
) -> None:
    report = open_stack(tmp_path, validate=validate, **OPTIONS).report()
    assert report.to_dict()["headers_read"] == read
    assert report.to_dict()["headers_assumed"] == 12 - read
    assert any(line.endswith(reported) for line in str(report).splitlines())


def test_many_local_headers_are_proven_by_the_listed_sizes(tmp_path: Path) -> None:
    for t in range(1001):
        write(tmp_path / f"s_t{t}_ca.tif", np.zeros((2, 2, 2), "u1"))
    report = open_stack(tmp_path, **OPTIONS).report().to_dict()
    assert (report["headers_read"], report["headers_assumed"]) == (1, 1000)


def test_the_report_of_a_whole_collection(tmp_path: Path, whole: np.ndarray) -> None:
    report = open_stack(tmp_path, scale={"x": 0.1}, **OPTIONS).report()
    assert report.is_whole
    assert str(report) == repr(report)
    reported = report.to_dict()
    assert json.loads(json.dumps(reported)) == reported
    assert (reported["listed"], reported["matched"], reported["missing"]) == (12, 12, 0)
    assert reported["dims"] == [
        "new dim t (4)", "new dim c (3)", "in file: z (2)", "in file: y (6)", "in file: x (5)",
    ]  # fmt: skip
    assert (reported["shape"], reported["dtype"]) == ([4, 3, 2, 6, 5], "uint16")
    assert reported["provenance"]["scale.x"] == "option"
    assert {Path(f["url"]).name: f["cell"] for f in reported["files"]}["s_t2_cb.tif"] == {
        "t": 2,
        "c": "b",
    }
    lines = str(report).splitlines()
    assert lines[0].startswith("files         12 taking part (")
    assert "array         4 t x 3 c x 2 z x 6 y x 5 x, uint16, 1.41 kiB" in lines
    assert report._repr_html_().count("<tr>") <= len(lines)


def test_no_pixel_is_read_for_a_report(tmp_path: Path, whole: np.ndarray) -> None:
    with patch("intake_tiffstack.reading.region.PartRead", side_effect=AssertionError):
        open_stack(tmp_path, **OPTIONS).report()


def test_all_that_is_wrong_is_reported_in_a_few_lines_and_none_raised(
    tmp_path: Path, whole: np.ndarray, strays: list[str], holes: np.ndarray
) -> None:
    write(tmp_path / "s_t01_ca.tif", whole[0, 0])
    write(tmp_path / "s_t3_cb.tif", whole[0, 0, 0])
    for name in ("s_t0_ca", "s_t0_cb", "s_t0_cc", "s_t1_cc"):
        damage(tmp_path / f"{name}.tif")
    report = open_stack(tmp_path, sizes={"t": 6}, unmatched="raise", **OPTIONS).report()
    assert not report.is_whole
    reported = report.to_dict()
    json.dumps(reported)
    assert len(reported["strays"]) == 9
    assert reported["missing"] == 8
    assert len(reported["duplicates_left_out"]) == 1
    assert len(reported["unreadable"]) == 4
    problems = " ".join(reported["problems"])
    for problem in (
        "9 of the TIFFs listed do not match",
        "2 files are in one cell",
        "8 of 18 cells have no file",
        "the files differ in shape",
        "s_t1_cc.tif cannot be read as TIFF",
    ):
        assert problem in problems
    lines = str(report).splitlines()
    assert len(lines) <= 30
    assert any("more: to_dict() has all" in line for line in lines)
    assert all(len(line) < 300 for line in lines)


def test_a_report_of_files_of_which_none_can_be_read(tmp_path: Path, whole: np.ndarray) -> None:
    for path in tmp_path.glob("*.tif"):
        damage(path)
    report = open_stack(tmp_path, **OPTIONS).report()
    assert len(report.to_dict()["problems"]) == 1
    assert report.to_dict()["files"][0]["cell"] == {"t": 0, "c": "a"}


def test_a_report_of_files_that_are_filled(tmp_path: Path, whole: np.ndarray) -> None:
    damage(tmp_path / "s_t0_ca.tif")
    report = open_stack(tmp_path, on_error="fill", **OPTIONS).report()
    assert report.is_whole
    assert any(line.startswith("unreadable    ") for line in str(report).splitlines())
    assert report.to_dict()["headers_read"] == 11


def test_holes_and_gaps_are_reported_where_they_are_no_problem(
    tmp_path: Path, whole: np.ndarray, holes: np.ndarray
) -> None:
    for path in tmp_path.glob("s_t1_*"):
        path.unlink()
    report = open_stack(tmp_path, missing="fill", **OPTIONS).report()
    assert report.is_whole
    lines = str(report).splitlines()
    assert any(line.endswith("t: 0, 2, 3: 1 is not there") for line in lines)
    assert any("t=2, c=b is missing" in line for line in lines)


def test_a_report_warns_no_more_than_opening_does(tmp_path: Path, strays: list[str]) -> None:
    (tmp_path / "s_t0_ca.tif").unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_stack(tmp_path, **OPTIONS).report()
    assert len(caught) == 1


def test_what_leaves_nothing_to_tell_is_raised(tmp_path: Path, whole: np.ndarray) -> None:
    with pytest.raises(FileNotFoundError):
        open_stack(tmp_path / "nowhere").report()
    with pytest.raises(ValueError, match="matches none of 12 names"):
        open_stack(tmp_path, pattern="x{t:d}.tif").report()


def test_a_report_shows_time_as_text(tmp_path: Path) -> None:
    for day in (1, 2):
        write(tmp_path / f"scene_2024010{day}.tif", np.zeros((4, 5), "u1"))
    report = open_stack(tmp_path, pattern="scene_{t:%Y%m%d}.tif").report()
    cells = [f["cell"] for f in report.to_dict()["files"]]
    json.dumps(cells)
    assert all(cell["t"].startswith("2024-01-0") for cell in cells)


# ---------------------------------------------------------------------------------- concurrent use


def test_a_stack_opens_once_however_many_threads_ask(tmp_path: Path, whole: np.ndarray) -> None:
    stack = open_stack(tmp_path, **OPTIONS)
    found = dask.compute(*[dask.delayed(lambda: id(stack.collection))() for _ in range(16)])
    assert len(set(found)) == 1


def test_without_a_pattern_files_that_differ_are_to_be_excluded(tmp_path: Path) -> None:
    for i, rows in enumerate([4, 4, 6, 4]):
        tifffile.imwrite(tmp_path / f"a{i}.tif", np.zeros((rows, 5), "u1"))
    message = r"(?s)a0\.tif: 4x5.*a2\.tif: 6x5.*Leave the odd ones out by exclude"
    with pytest.raises(StructureMismatchError, match=message) as caught:
        open_stack(str(tmp_path)).to_dask()
    assert "sel={" not in str(caught.value)
    assert open_stack(str(tmp_path), exclude="a2*").to_dask().shape == (3, 4, 5)


# ------------------------------------------------------------------------ one pipeline, one listing


@pytest.fixture
def listings() -> Iterator[MagicMock]:
    """Yield the function that lists, which counts its calls."""
    name = "intake_tiffstack.collection.find_files.list_files"
    with patch(name, wraps=list_files) as counted:
        yield counted


def test_a_failed_opening_and_its_report_list_the_files_once(
    tmp_path: Path, listings: MagicMock
) -> None:
    for t in (0, 2):
        for c in (0, 1):
            if (t, c) != (2, 1):
                tifffile.imwrite(tmp_path / f"t{t}_c{c}.tif", np.zeros((4, 5), np.uint8))
    stack = open_stack(str(tmp_path), pattern="t{t:d}_c{c:d}.tif")
    with pytest.raises(MissingFilesError):
        stack.to_dask()
    report = stack.report()
    assert listings.call_count == 1
    assert not report.is_whole
    assert report.to_dict()["missing"] == 1
    # a further report sees the files as they are then
    tifffile.imwrite(tmp_path / "t2_c1.tif", np.zeros((4, 5), np.uint8))
    assert stack.report().is_whole
    assert listings.call_count == 2


def test_a_report_of_an_open_stack_lists_nothing(tmp_path: Path, listings: MagicMock) -> None:
    tifffile.imwrite(tmp_path / "t0.tif", np.zeros((4, 5), np.uint8))
    stack = open_stack(str(tmp_path), pattern="t{t:d}.tif")
    stack.to_dask()
    assert str(stack.report()) == str(stack.report())
    assert listings.call_count == 1


def test_a_report_collects_the_problems_of_all_steps(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t0_c0.tif", np.zeros((4, 5), np.uint8))
    tifffile.imwrite(tmp_path / "t0_c1.tif", np.zeros((4, 6), np.uint8))
    tifffile.imwrite(tmp_path / "t1_c0.tif", np.zeros((4, 5), np.uint8))
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((4, 5), np.uint8))
    stack = open_stack(str(tmp_path), pattern="t{t:d}_c{c:d}.tif", unmatched="raise")
    problems = stack.report().to_dict()["problems"]
    assert len(problems) == 3
    assert "other.tif" in problems[0]
    assert "1 of 4 cells" in problems[1]
    assert "differ in shape" in problems[2]
    with pytest.raises(LayoutError, match=re.escape(problems[0])):
        stack.to_dask()


# -- files in the order of a list ------------------------------------------------------------------


@pytest.fixture
def bands(tmp_path: Path) -> list[str]:
    """Paths of three bands whose pixels are their number, in the order red, green, blue."""
    for band in (2, 3, 4):
        tifffile.imwrite(tmp_path / f"B0{band}.tif", np.full((4, 5), band, "uint16"))
    return [f"{tmp_path}/B0{band}.tif" for band in (4, 3, 2)]


def as_list_file(bands: list[str]) -> str:
    path = Path(bands[0]).parent / "rgb.txt"
    path.write_text("\n".join(bands))
    return str(path)


@pytest.mark.parametrize("spelled", [list, str, as_list_file], ids=["list", "text", "file"])
def test_a_list_keeps_its_order_so_that_names_label_the_right_bands(
    bands: list[str], spelled: Callable[[list[str]], Any]
) -> None:
    colours = ["red", "green", "blue"]
    stack = open_stack(spelled(bands), concat_dim="band", channel_names=colours)
    named = stack.to_xarray()
    assert dict(zip(named.channel.to_numpy(), named[:, 0, 0].to_numpy().tolist(), strict=True)) == {
        "red": 4, "green": 3, "blue": 2,
    }  # fmt: skip
    by_coords = open_stack(spelled(bands), concat_dim="band", coords={"band": colours}).to_xarray()
    assert int(by_coords.sel(band="red")[0, 0]) == 4


def test_a_glob_and_a_folder_are_in_natural_order_and_list_their_names(tmp_path: Path) -> None:
    for number in (9, 10, 1):
        tifffile.imwrite(tmp_path / f"img{number}.tif", np.full((2, 3), number, "uint8"))
    for urlpath in (str(tmp_path), f"{tmp_path}/*.tif"):
        named = open_stack(urlpath).to_xarray()
        assert named.file.to_numpy().tolist() == ["img1.tif", "img9.tif", "img10.tif"]
        assert int(named.sel(file="img9.tif")[0, 0]) == 9


def test_files_are_in_the_order_of_the_array(bands: list[str], tmp_path: Path) -> None:
    assert open_stack(bands).files["url"].tolist() == bands
    stack = open_stack(f"{tmp_path}/*.tif")
    assert stack.files["url"].tolist() == bands[::-1]
    for number in range(2):
        for z in range(11):
            tifffile.imwrite(tmp_path / f"z{z}_t{number}.tif", np.full((2, 3), z, "uint8"))
    for dims in ("zt", "tz"):
        stack = open_stack(f"{tmp_path}/z*.tif", pattern="z{z:d}_t{t:d}.tif", dims=f"{dims}yx")
        table = stack.files
        first = [int(tifffile.imread(url)[0, 0]) for url in table["url"]]
        assert first == stack.to_dask()[..., 0, 0].compute().ravel().tolist()
        path = Path(table["url"][3])
        assert stack.file_metadata(3) == stack.file_metadata(path.name)


def test_a_persisted_list_in_another_order_is_stale(
    bands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))
    urlpath = as_list_file(bands)
    source = intake.open_tiffstack(urlpath)
    source.persist()
    assert source.read()[:, 0, 0].tolist() == [4, 3, 2]
    as_list_file(bands[::-1])
    with pytest.warns(TiffStackWarning, match="of its files the order changed"):
        assert source.read()[:, 0, 0].tolist() == [2, 3, 4]
