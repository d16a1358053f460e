"""OME-Zarr: what is written, how levels come about, plates, and what a killed writer leaves."""

from __future__ import annotations

import json
import shutil
import string
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_tiffstack.copies.open_ome_zarr import open_ome_zarr
from intake_tiffstack.errors import (
    FilesNotFoundError,
    OptionError,
    StorageError,
    TargetExistsError,
    TiffStackWarning,
    VerificationError,
)
from intake_tiffstack.export.ome_zarr.axes import AXES, NgffAxis, assign_axes, describe_axes
from intake_tiffstack.export.ome_zarr.downsample import find_reduce, take_mean, take_mode
from intake_tiffstack.export.ome_zarr.levels import plan_levels, reuse_levels
from intake_tiffstack.export.ome_zarr.plan_passes import plan_passes
from intake_tiffstack.export.ome_zarr.plates import arrange_images
from intake_tiffstack.export.ome_zarr.write import _plan_arrays, write_ome_zarr
from intake_tiffstack.export.passes import Pass

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])
RNG = np.random.default_rng(2024)
MICRO = dict.fromkeys("zyx", "micrometer")


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL at which nothing is."""
    if request.param == "local":
        return str(tmp_path / "scan.ome.zarr")
    return f"memory://{uuid.uuid4().hex}/scan.ome.zarr"


def pixels(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    return RNG.integers(0, 4000, shape).astype(dtype)


def write(url: Any, array: Any, dims: Any, **options: Any) -> None:
    """Write an array with as little else as there can be."""
    write_ome_zarr(array, url, **{"dims": list(dims), "coords": {}, "attrs": {}, **options})


def ome(url: str, path: str = "") -> dict[str, Any]:
    """Return the metadata of OME at a group, whichever the version."""
    attributes = dict(zarr.open_group(url, path=path, mode="r").attrs)
    return attributes.get("ome", attributes)


def levels_of(url: str, path: str = "") -> list[np.ndarray]:
    group = zarr.open_group(url, path=path, mode="r")
    return [group[data["path"]][...] for data in ome(url, path)["multiscales"][0]["datasets"]]


def halves(array: np.ndarray, count: int, factors: tuple[int, ...]) -> list[np.ndarray]:
    """Return an array and its means, each of the one before."""
    found = [array]
    while len(found) < count:
        found.append(take_mean(found[-1], factors))
    return found


# --- one image ------------------------------------------------------------------------------------


@VERSIONS
def test_an_image_has_its_axes_in_order_and_all_levels(url: str, version: Any) -> None:
    array = pixels(3, 2, 5, 70, 61)
    attrs = {"scale": {"z": 0.5, "y": 0.1, "x": 0.1}, "units": MICRO, "time_interval": 2.0}
    write(url, array, "ctzyx", attrs=attrs, version=version, levels=3, verify="all")

    expected = halves(array.transpose(1, 0, 2, 3, 4), 3, (1, 1, 1, 2, 2))
    found = levels_of(url)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    multiscale = ome(url)["multiscales"][0]
    assert [axis["name"] for axis in multiscale["axes"]] == ["t", "c", "z", "y", "x"]
    assert [axis.get("unit") for axis in multiscale["axes"]] == [
        "second",
        None,
        "micrometer",
        "micrometer",
        "micrometer",
    ]
    last = multiscale["datasets"][2]["coordinateTransformations"]
    assert last[0]["scale"] == pytest.approx([2, 1, 0.5, 0.4, 0.4])
    assert last[1]["translation"] == pytest.approx([0, 0, 0, 0.15, 0.15])
    assert multiscale["name"] == "scan"


@VERSIONS
@pytest.mark.parametrize("dims", ["yx", "tyx", "cyx", "zyx", "czyx", "xy", "zyxc", "tczyx"])
def test_two_to_five_dims_in_any_order(tmp_path: Path, version: Any, dims: str) -> None:
    sizes = {"t": 2, "c": 3, "z": 4, "y": 21, "x": 18}
    array = pixels(*(sizes[dim] for dim in dims))
    write(tmp_path / "a.zarr", array, dims, version=version, levels=2)
    stored = [axis for axis in AXES if axis in dims]
    expected = array.transpose([dims.index(axis) for axis in stored])
    np.testing.assert_array_equal(levels_of(str(tmp_path / "a.zarr"))[0], expected)
    copy = open_ome_zarr(tmp_path / "a.zarr")
    assert copy.dims == tuple(stored)
    np.testing.assert_array_equal(copy.array.compute(), expected)
    assert yaozarrs.validate_zarr_store(tmp_path / "a.zarr")


@VERSIONS
def test_arrays_are_in_the_zarr_format_of_the_version(tmp_path: Path, version: Any) -> None:
    write(tmp_path / "a.zarr", pixels(3, 40, 40), "cyx", version=version, chunks=(1, 20, 20))
    array = zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")
    assert array.metadata.zarr_format == {"0.4": 2, "0.5": 3}[version]
    chunk = {"0.4": "0/2/1/0", "0.5": "0/c/2/1/0"}[version]
    assert (tmp_path / "a.zarr" / chunk).is_file()
    if version == "0.5":
        assert array.metadata.dimension_names == ("c", "y", "x")


@pytest.mark.parametrize(("version", "zarr_format"), [("0.5", 2), ("0.4", 3)])
def test_a_zarr_format_that_contradicts_is_refused(
    tmp_path: Path, version: Any, zarr_format: Any
) -> None:
    with pytest.raises(OptionError, match=f"{version} is Zarr format .*zarr_format={zarr_format}"):
        write(tmp_path / "a", pixels(4, 4), "yx", version=version, zarr_format=zarr_format)
    assert not (tmp_path / "a").exists()


def test_a_version_that_is_no_text_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'0.5' or '0.4' .*got 0\.4"):
        write(tmp_path / "a", pixels(4, 4), "yx", version=0.4)


def test_samples_are_channels_and_red_green_blue(tmp_path: Path) -> None:
    array = pixels(20, 24, 3, dtype=np.uint8)
    write(tmp_path / "a.zarr", array, ["y", "x", "sample"])
    np.testing.assert_array_equal(levels_of(str(tmp_path / "a.zarr"))[0], array.transpose(2, 0, 1))
    channels = ome(str(tmp_path / "a.zarr"))["omero"]["channels"]
    assert [channel["color"] for channel in channels] == ["FF0000", "00FF00", "0000FF"]


def test_channels_have_names_colours_and_windows(tmp_path: Path) -> None:
    array = np.stack([pixels(64, 64), pixels(64, 64) + 20_000, pixels(64, 64)])
    write(
        tmp_path / "a.zarr",
        array,
        "cyx",
        attrs={"channel_names": ["DAPI", "GFP", "RFP"]},
        colors={"GFP": "#00ff00", "DAPI": "0000FF"},
        windows={"RFP": (100, 200.5)},
    )
    one, two, three = ome(str(tmp_path / "a.zarr"))["omero"]["channels"]
    assert [c["label"] for c in (one, two, three)] == ["DAPI", "GFP", "RFP"]
    assert (one["color"], two["color"]) == ("0000FF", "00FF00")
    assert (three["window"]["start"], three["window"]["end"]) == (100, 200.5)
    assert two["window"]["min"] == 0
    assert two["window"]["max"] == 65535
    expected = np.percentile(array[1], [0.1, 99.9])
    assert (two["window"]["start"], two["window"]["end"]) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colors": ["FF0000"]}, "colors must be one for each of the 3 channels"),
        ({"colors": ["red", "green", "blue"]}, "six hexadecimal digits, but got 'red'"),
        ({"colors": {"GPF": "00FF00"}}, "unknown channel in colors 'GPF'; did you mean 'GFP'"),
        ({"windows": [(0, 1), (1, 0), (0, 1)]}, "lower number, but got"),
        ({"windows": [(0, 1), (0, float("inf")), (0, 1)]}, "finite numbers .*but got"),
        ({"levels": 0}, "levels must be 'auto'"),
        ({"levels": "many"}, "levels must be 'auto'"),
        ({"levels": 9}, "levels=9, but there is a single pixel left at level 6; levels=7"),
        ({"levels": {"c": 2}}, "unknown axis in levels 'c'"),
        ({"levels": [{"y": 2}, {"y": 1.5}]}, "whole number of at least 1, but y got 1.5"),
        ({"levels": {"y": 1}}, "makes nothing smaller"),
        ({"levels": "source"}, "the files hold no pyramid"),
        ({"levels": np.array([2, 2])}, "levels must be 'auto'"),
        ({"downsample": "gaussian"}, "downsample must be"),
        ({"downsample": ["mean"]}, "downsample must be"),
        ({"version": ["0.5"]}, "version must be"),
        ({"attrs": {"a": object()}}, "cannot be stored as JSON"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value)[:20],
)
def test_what_does_not_fit_is_reported_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    given = {"attrs": {"channel_names": ["DAPI", "GFP", "RFP"]}, **options}
    with pytest.raises(OptionError, match=message):
        write(tmp_path / "a.zarr", pixels(3, 64, 64), "cyx", **given)
    assert not (tmp_path / "a.zarr").exists()


def test_an_axis_that_runs_the_other_way_is_stored_as_a_length_with_a_warning() -> None:
    attrs = {"scale": {"y": -10.0, "x": 10.0}, "translation": {"y": 500.0, "x": 7.0}}
    with pytest.warns(TiffStackWarning, match="y has a scale of -10"):
        y, x = describe_axes({"y": "y", "x": "x"}, attrs)
    assert (y.scale, y.translation) == (10, 0)
    assert (x.scale, x.translation) == (10, 7)


def test_an_axis_of_unknown_scale_has_no_unit() -> None:
    attrs = {"scale": {"y": 1.0}, "units": {"y": "micrometer", "x": "micrometer"}}
    y, x = describe_axes({"y": "y", "x": "x"}, attrs)
    assert (y.scale, y.unit, x.scale, x.unit) == (1.0, "micrometer", 1.0, None)


def test_units_that_ngff_does_not_know_are_left_out() -> None:
    units = {"t": "second", "y": "degree", "x": "thou"}
    attrs = {"scale": dict.fromkeys("tyx", 2.0), "units": units}
    axes = describe_axes({"t": "t", "y": "y", "x": "x"}, attrs)
    assert [axis.unit for axis in axes] == ["second", None, None]


def test_all_units_that_are_kept_are_known_to_yaozarrs() -> None:
    from intake_tiffstack.export.ome_zarr import axes

    for unit in axes._UNITS["space"]:  # a warning would be an error
        yaozarrs.v05.SpaceAxis(name="x", type="space", unit=unit)
    for unit in axes._UNITS["time"]:
        yaozarrs.v05.TimeAxis(name="t", type="time", unit=unit)


def test_dims_without_y_or_x_are_reported() -> None:
    with pytest.raises(OptionError, match="has the dims y and x, but got t, row, x"):
        assign_axes({"t": 3, "row": 4, "x": 5})


# --- levels ---------------------------------------------------------------------------------------


def shapes(levels: Any, shape: tuple[int, ...], *axes: NgffAxis) -> list[tuple[int, ...]]:
    return [level.shape for level in plan_levels(levels, shape, axes)]


Y, X = NgffAxis("y", "y", 0.1, unit="micrometer"), NgffAxis("x", "x", 0.1, unit="micrometer")


def test_auto_ends_where_y_and_x_are_under_512() -> None:
    assert shapes("auto", (511, 511), Y, X) == [(511, 511)]
    assert shapes("auto", (512, 100), Y, X) == [(512, 100), (256, 50)]
    assert shapes("auto", (2049, 3), Y, X)[-1] == (257, 1)


@pytest.mark.parametrize(
    ("spacing", "unit", "expected"),
    [
        (0.05, "micrometer", [16, 8, 4, 2]),
        (0.1, "micrometer", [16, 16, 8, 4]),
        (0.2, "micrometer", [16, 16, 16, 8]),
        (0.05, None, [16, 16, 16, 16]),
        (50.0, "nanometer", [16, 16, 16, 16]),
    ],
)
def test_z_is_halved_where_its_spacing_is_at_most_half_that_of_y(
    spacing: float, unit: str | None, expected: list[int]
) -> None:
    z = NgffAxis("z", "z", spacing, unit=unit)
    assert [shape[0] for shape in shapes(4, (16, 64, 64), z, Y, X)] == expected


def test_factors_may_be_given_for_each_level() -> None:
    z = NgffAxis("z", "z")
    assert shapes([{"y": 2, "x": 2}, {"z": 3, "y": 4, "x": 4}], (7, 33, 30), z, Y, X) == [
        (7, 33, 30),
        (7, 17, 15),
        (3, 5, 4),
    ]
    assert shapes({"y": 4, "x": 2}, (4, 2000, 2000), z, Y, X) == [
        (4, 2000, 2000),
        (4, 500, 1000),
        (4, 125, 500),
    ]


def test_an_image_thinner_than_a_factor_is_not_said_to_shrink_by_it() -> None:
    last = plan_levels([{"y": 2, "x": 4}], (8, 3), (Y, X))[-1]
    assert (last.shape, last.total) == ((4, 1), (2, 3))


@settings(max_examples=40)  # each writes up to four levels and reads them back twice
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 40), st.integers(1, 40)),
    chunk=st.tuples(st.integers(1, 5), st.integers(5, 17), st.integers(5, 17)),
    steps=st.lists(
        st.fixed_dictionaries({"z": st.integers(1, 3), "y": st.integers(2, 3), "x": st.just(2)}),
        max_size=3,
    ),
    block_bytes=st.sampled_from([1, 500, 5000, 10**8]),
)
def test_every_level_is_made_of_the_one_before_however_it_is_cut(
    shape: tuple[int, ...], chunk: tuple[int, ...], steps: list[Any], block_bytes: int
) -> None:
    array = np.random.default_rng(0).integers(0, 60000, shape, dtype=np.uint16)
    where = f"memory://{uuid.uuid4().hex}"
    with dask.config.set({"tiffstack.block_bytes": block_bytes}):
        write(where, array, "zyx", levels=steps, chunks=chunk, verify="all", compressor=None)
    expected = array
    for step, found in zip([{"z": 1, "y": 1, "x": 1}, *steps], levels_of(where), strict=True):
        factors = tuple(min(step[axis], n) for axis, n in zip("zyx", expected.shape, strict=True))
        expected = take_mean(expected, factors)
        np.testing.assert_array_equal(found, expected)


class Counted:
    """An array that counts how often each pixel is read, and that no worker may share."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.reads = np.zeros(array.shape, np.uint8)
        self.shape, self.dtype = array.shape, array.dtype

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return ("Counted", str(self.array.shape))

    def __getitem__(self, region: Any) -> np.ndarray:
        self.reads[region] += 1
        return self.array[region]


@pytest.mark.parametrize("block_bytes", [1, 100_000, 10**8])
def test_the_source_is_read_once_whatever_fits_into_memory(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Counted(pixels(6, 90, 70))
    where = f"memory://{uuid.uuid4().hex}"
    largest = 0
    read = Pass.read

    def measured(self: Pass, place: Any, region: Any) -> Any:
        nonlocal largest
        block = read(self, place, region)
        largest = max(largest, block.nbytes)
        return block

    monkeypatch.setattr(Pass, "read", measured)
    with dask.config.set({"tiffstack.block_bytes": block_bytes}):
        write(where, source, "zyx", levels=3, chunks=(2, 16, 16), verify=False)
    assert np.all(source.reads == 1)
    for found, expected in zip(levels_of(where), halves(source.array, 3, (1, 2, 2)), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert largest <= max(block_bytes, 2 * 32 * 32 * 2)  # but for what one chunk needs


def test_labels_keep_their_values_and_are_not_said_to_have_channels(tmp_path: Path) -> None:
    labels = RNG.integers(0, 5, (50, 33)).astype(np.int32) * 1000
    write(tmp_path / "a.zarr", labels, "yx", downsample="mode", levels=2)
    full, half = levels_of(str(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(full, labels)
    np.testing.assert_array_equal(half, take_mode(labels, (2, 2)))
    assert "omero" not in ome(str(tmp_path / "a.zarr"))
    assert ome(str(tmp_path / "a.zarr"))["multiscales"][0]["type"] == "mode"


def test_the_nearest_pixel_stays_where_it_was(tmp_path: Path) -> None:
    array = pixels(9, 8)
    write(tmp_path / "a.zarr", array, "yx", downsample="nearest", levels=2)
    np.testing.assert_array_equal(levels_of(str(tmp_path / "a.zarr"))[1], array[::2, ::2])
    data = ome(str(tmp_path / "a.zarr"))["multiscales"][0]["datasets"][1]
    assert data["coordinateTransformations"][1]["translation"] == [0, 0]


def test_smaller_levels_have_smaller_shards(tmp_path: Path) -> None:
    array = pixels(4, 64, 64)
    write(tmp_path / "a", array, "zyx", levels=3, chunks=(1, 16, 16), shards=(4, 64, 64))
    group = zarr.open_group(tmp_path / "a", mode="r")
    assert [group[str(i)].shards for i in range(3)] == [(4, 64, 64), (4, 32, 32), (4, 16, 16)]
    np.testing.assert_array_equal(levels_of(str(tmp_path / "a"))[2].shape, (4, 16, 16))


def test_a_pyramid_of_the_files_is_reused_where_it_fits(tmp_path: Path) -> None:
    full, quarter, odd = pixels(8, 8), pixels(2, 2), pixels(5, 5)
    write(tmp_path / "a", full, "yx", pyramid=[odd, quarter], levels="source")
    first, second = levels_of(str(tmp_path / "a"))
    np.testing.assert_array_equal(first, full)
    np.testing.assert_array_equal(second, quarter)  # as it is in the files, not as a mean
    data = ome(str(tmp_path / "a"))["multiscales"][0]["datasets"][1]
    assert data["coordinateTransformations"][0]["scale"] == [4, 4]


def test_what_the_files_lack_is_made() -> None:
    levels = reuse_levels(
        [(4, 4096, 4096), (4, 2048, 2048), (2, 1500, 1500)], (NgffAxis("z", "z"), Y, X)
    )
    assert [(level.shape[1], level.source) for level in levels] == [
        (4096, 0),
        (2048, 1),
        (1024, None),
        (512, None),
        (256, None),
    ]


# --- plates and series ----------------------------------------------------------------------------


def coords_of(**values: Any) -> dict[str, Any]:
    return {dim: ((dim,), np.array(found)) for dim, found in values.items()}


@VERSIONS
def test_wells_and_fields_make_a_plate(tmp_path: Path, version: Any) -> None:
    array = pixels(2, 3, 2, 20, 24)
    where = str(tmp_path / "screen.zarr")
    coords = coords_of(well=["B03", "C10"], field=[1, 2, 5])
    write(where, array, ["well", "field", "c", "y", "x"], coords=coords, version=version)
    yaozarrs.validate_zarr_store(where)
    plate = ome(where)["plate"]
    assert [row["name"] for row in plate["rows"]] == ["B", "C"]
    assert [column["name"] for column in plate["columns"]] == ["03", "10"]
    assert [well["path"] for well in plate["wells"]] == ["B/03", "C/10"]
    assert plate["field_count"] == 3
    np.testing.assert_array_equal(levels_of(where, "C/10/2")[0], array[1, 2])
    copy = open_ome_zarr(where, image="C/10/2")
    assert copy.coords["well"][1] == "C10"
    assert copy.coords["field"][1] == 5


def test_row_and_column_make_a_plate_with_its_rows_as_they_lie(tmp_path: Path) -> None:
    array = pixels(3, 2, 12, 12)
    where = str(tmp_path / "screen.zarr")
    coords = coords_of(row=["A", "B", "AA"], column=[2, 10])
    write(where, array, ["row", "column", "y", "x"], coords=coords)
    yaozarrs.validate_zarr_store(where)
    plate = ome(where)["plate"]
    assert [row["name"] for row in plate["rows"]] == ["A", "B", "AA"]
    np.testing.assert_array_equal(levels_of(where, "AA/10/0")[0], array[2, 1])


@VERSIONS
def test_a_sparse_plate_has_what_is_there_alone(tmp_path: Path, version: Any) -> None:
    array = pixels(3, 2, 2, 12, 12)
    where = str(tmp_path / "screen.zarr")
    is_there = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 1]]], bool)
    coords = coords_of(well=["A1", "B2", "H12"], s=[1, 2], c=["x", "y"])
    write(
        where,
        array,
        ["well", "s", "c", "y", "x"],
        coords=coords,
        present=(("well", "s", "c"), is_there),
        version=version,
    )
    yaozarrs.validate_zarr_store(where)
    assert [well["path"] for well in ome(where)["plate"]["wells"]] == ["A/1", "H/12"]
    assert [image["path"] for image in ome(where, "H/12")["well"]["images"]] == ["0"]
    np.testing.assert_array_equal(levels_of(where, "H/12/0")[0], array[2, 1])
    assert open_ome_zarr(where, image="H/12/0").coords["s"][1] == 2


@VERSIONS
def test_positions_make_a_series(tmp_path: Path, version: Any) -> None:
    array = pixels(3, 12, 14)
    where = str(tmp_path / "sites.zarr")
    write(where, array, "pyx", coords=coords_of(p=["north", "south", "sea"]), version=version)
    assert ome(where)["bioformats2raw.layout"] == 3
    assert ome(where, "OME")["series"] == ["0", "1", "2"]
    assert ome(where, "2")["multiscales"][0]["name"] == "p sea"
    assert b'Name="p sea"' in (tmp_path / "sites.zarr/OME/METADATA.ome.xml").read_bytes()
    np.testing.assert_array_equal(levels_of(where, "2")[0], array[2])
    with pytest.raises(OptionError, match=r"3 images: choose one with `image`; there are '0', '1'"):
        open_ome_zarr(where)
    np.testing.assert_array_equal(open_ome_zarr(where, image="1").array.compute(), array[1])


def test_a_series_of_pixels_that_ome_xml_has_no_word_for_has_none(tmp_path: Path) -> None:
    array = pixels(2, 12, 14, dtype=np.int64)
    where = str(tmp_path / "sites.zarr")
    write(where, array, "pyx")
    assert not (tmp_path / "sites.zarr/OME/METADATA.ome.xml").exists()
    yaozarrs.validate_zarr_store(where)
    np.testing.assert_array_equal(open_ome_zarr(where, image="1").array.compute(), array[1])


def test_a_large_plate_is_not_read_to_say_that_no_image_was_chosen(tmp_path: Path) -> None:
    wells = [f"{row}{column}" for row in "ABCDEF" for column in range(1, 9)]
    coords = coords_of(well=wells)
    write(tmp_path / "screen.zarr", pixels(48, 4, 4), ["well", "y", "x"], coords=coords)
    for well in ("C/1", "F/8"):  # beyond the first few, none is looked at
        (tmp_path / "screen.zarr" / well / "zarr.json").unlink()
    with pytest.raises(OptionError, match=r"more than 8 images: choose one .*'A/1/0', .* 'A/8/0' "):
        open_ome_zarr(tmp_path / "screen.zarr")
    assert open_ome_zarr(tmp_path / "screen.zarr", image="B/2/0").array.shape == (4, 4)


@pytest.mark.parametrize(
    ("labels", "paths"),
    [
        ({"well": ["a01", "p24"]}, ["A/01", "P/24"]),
        ({"well": ["r01c02", "R16C24", "r32c48"]}, ["A/02", "P/24", "AF/48"]),
        ({"well": ["A-1", "AF 48"]}, ["A/1", "AF/48"]),
        ({"row": ["1", "27"], "column": ["1", "12"]}, ["A/1", "A/12", "AA/1", "AA/12"]),
        ({"row": ["01", "16"], "column": ["01"]}, ["A/01", "P/01"]),
        ({"column": ["1", "2"], "row": ["1", "2"]}, ["A/1", "B/1", "A/2", "B/2"]),
        ({"row": ["a", "b"], "column": ["3"]}, ["A/3", "B/3"]),
    ],
    ids=str,
)
def test_wells_lie_where_they_are_on_a_plate(labels: Any, paths: list[str]) -> None:
    images = arrange_images({dim: len(names) for dim, names in labels.items()}, labels)
    assert images.plate is not None
    assert [position.path for position in images.positions] == [f"{path}/0" for path in paths]
    assert [well.path for well in images.plate.wells] == paths
    assert [
        f"{images.plate.rows[well.row]}/{images.plate.columns[well.column]}"
        for well in images.plate.wells
    ] == paths


def test_rows_beyond_z_have_two_letters() -> None:
    """The 32 rows of a plate of 1536 wells."""
    letters = [*string.ascii_uppercase, *(f"A{letter}" for letter in "ABCDEF")]
    labels = {"row": [str(n) for n in range(1, 33)], "column": ["1"]}
    images = arrange_images({"row": 32, "column": 1}, labels)
    assert images.plate is not None
    assert list(images.plate.rows) == letters


def test_wells_of_one_place_under_two_names_make_a_series() -> None:
    assert arrange_images({"well": 2}, {"well": ["A1", "r1c1"]}).plate is None


def test_wells_that_are_no_letters_and_digits_make_a_series() -> None:
    labels = {"well": ["inner", "outer"]}
    images = arrange_images({"well": 2}, labels)
    assert images.plate is None
    assert [position.name for position in images.positions] == ["well inner", "well outer"]


def test_what_is_no_position_is_refused_and_sel_chooses(tmp_path: Path) -> None:
    array = pixels(2, 3, 12, 14)
    dims = ["angle", "t", "y", "x"]
    with pytest.raises(
        OptionError, match=r"angle is neither one of them .*sel=\{'angle': \.\.\.\}"
    ):
        write(tmp_path / "a", array, dims)
    write(tmp_path / "a", array, dims, coords=coords_of(angle=[0, 90]), sel={"angle": 90})
    np.testing.assert_array_equal(levels_of(str(tmp_path / "a"))[0], array[1])
    assert open_ome_zarr(tmp_path / "a").coords["angle"][1] == 90
    with pytest.raises(OptionError, match="sel leaves 2 positions along t"):
        write(tmp_path / "b", array, dims, sel={"angle": 0, "t": [0, 1]})


def test_dims_of_one_position_are_no_images_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "a", pixels(1, 1, 12, 14), ["file", "angle", "y", "x"])
    assert open_ome_zarr(tmp_path / "a").dims == ("y", "x")


# --- what comes back ------------------------------------------------------------------------------


@VERSIONS
def test_a_level_comes_back_with_its_place(url: str, version: Any) -> None:
    array = pixels(2, 3, 40, 30)
    coords = {
        **coords_of(time=[0, 10, 20]),
        "channel": (("ch",), np.array(["GFP", "RFP"])),
        "y": (("y",), 5 + 0.5 * np.arange(40)),
    }
    attrs = {
        "scale": {"y": 0.5, "x": 0.5},
        "translation": {"y": 5.0},
        "units": {"y": "micrometer", "x": "micrometer"},
        "channel_names": ["GFP", "RFP"],
        "source": "raw/*.tif",
    }
    write(
        url, array, ["ch", "time", "y", "x"], coords=coords, attrs=attrs, version=version, levels=2
    )
    full, half = open_ome_zarr(url), open_ome_zarr(url, level=1)
    assert full.dims == half.dims == ("t", "c", "y", "x")
    assert full.coords["t"][1].tolist() == half.coords["t"][1].tolist() == [0, 10, 20]
    assert half.coords["channel"][0] == ("c",)
    np.testing.assert_allclose(full.coords["y"][1], coords["y"][1])
    np.testing.assert_allclose(half.coords["y"][1], 5.25 + np.arange(20))
    assert half.attrs["scale"] == {"y": 1, "x": 1}
    assert half.attrs["translation"] == {"y": 5.25, "x": 0.25}
    assert half.attrs["source"] == "raw/*.tif"
    assert half.attrs["channel_names"] == ["GFP", "RFP"]
    np.testing.assert_array_equal(half.array.compute(), levels_of(url)[1])
    with pytest.raises(OptionError, match=r"level=2, but the pyramid .* has 2 level"):
        open_ome_zarr(url, level=2)


def test_a_group_that_is_no_ome_zarr_is_reported(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a", mode="w", attributes={"spam": 1})
    with pytest.raises(FilesNotFoundError, match=r"not an OME-Zarr .*spam"):
        open_ome_zarr(tmp_path / "a")


def test_another_version_and_bad_metadata_are_reported(tmp_path: Path) -> None:
    write(tmp_path / "a", pixels(9, 9), "yx")
    document = tmp_path / "a" / "zarr.json"
    reported = json.loads(document.read_text())
    reported["attributes"]["ome"]["version"] = "0.9"
    document.write_text(json.dumps(reported))
    with pytest.raises(StorageError, match=r"is OME-Zarr 0\.9: .*opens 0\.4, 0\.5 and 0\.6"):
        open_ome_zarr(tmp_path / "a")
    reported["attributes"]["ome"]["version"] = "0.5"
    del reported["attributes"]["ome"]["multiscales"][0]["axes"]
    document.write_text(json.dumps(reported))
    with pytest.raises(StorageError, match=r"not a valid OME-Zarr 0\.5: axes"):
        open_ome_zarr(tmp_path / "a")


# --- copies that are cut short --------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from test_ome_zarr import write_scan

    def stop(done, total):
        if done >= float(sys.argv[2]) * total:
            os.kill(os.getpid(), signal.SIGKILL)

    write_scan(sys.argv[1], stop)
"""


def write_scan(url: Any, progress: Any = False) -> None:
    """Write a pyramid in several passes, the same one each time."""
    array = np.random.default_rng(7).integers(0, 4000, (8, 128, 128), dtype=np.uint16)
    with dask.config.set({"tiffstack.block_bytes": 50_000}):
        write(url, array, "zyx", levels=4, chunks=(1, 32, 32), name="scan", progress=progress)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("until", [0.3, 0.97], ids=["first pass", "last pass"])
def test_a_killed_writer_is_resumed_to_the_same_bytes(tmp_path: Path, until: float) -> None:
    whole, cut = tmp_path / "whole.zarr", tmp_path / "cut.zarr"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(cut), str(until)]
    assert subprocess.run(command, cwd=Path(__file__).parent).returncode == -9
    write_scan(whole)
    with pytest.raises(FilesNotFoundError):
        open_ome_zarr(cut)
    left = content(cut).keys() & content(whole).keys()  # without claim and parts of a file
    assert 0 < len(left) < len(content(whole))
    times = {name: (cut / name).stat().st_mtime_ns for name in left}
    write_scan(cut)
    assert content(cut) == content(whole)
    kept = [name for name in left if (cut / name).stat().st_mtime_ns == times[name]]
    assert len(kept) > len(left) / 2  # what was written is not written again


def test_another_method_does_not_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = pixels(32, 32)

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", array, "yx", levels=2, progress=fail)
    with pytest.raises(TargetExistsError, match="not whole, of other pixels"):
        write(tmp_path / "a", array, "yx", levels=2, downsample="nearest")
    write(tmp_path / "a", array, "yx", levels=2, downsample="nearest", overwrite=True)
    np.testing.assert_array_equal(levels_of(str(tmp_path / "a"))[1], array[::2, ::2])


def test_a_series_is_overwritten_only_when_asked_and_only_if_all_is_ours(tmp_path: Path) -> None:
    write(tmp_path / "a", pixels(2, 9, 9), "pyx")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        write(tmp_path / "a", pixels(2, 9, 9), "pyx")
    write(tmp_path / "a", pixels(9, 9), "yx", overwrite=True)
    assert not (tmp_path / "a" / "OME").exists()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(TargetExistsError, match=r"notes\.txt"):
        write(tmp_path / "a", pixels(9, 9), "yx", overwrite=True)


def test_a_level_that_does_not_read_back_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink = Pass.shrink
    calls: list[int] = []

    def wrong(self: Pass, block: Any, index: int) -> Any:
        calls.append(index)
        return shrink(self, block, index) + (index == 1 and len(calls) < 3)

    monkeypatch.setattr(Pass, "shrink", wrong)
    with pytest.raises(VerificationError, match="the array '1' does not read back"):
        write(tmp_path / "a", pixels(32, 32), "yx", levels=2)


# --- what a microscopist would see ----------------------------------------------------------------


def channels_of(url: Any) -> list[dict[str, Any]]:
    channels: list[dict[str, Any]] = ome(str(url))["omero"]["channels"]
    return channels


def test_colours_of_the_metadata_are_kept_where_they_tell_channels_apart(tmp_path: Path) -> None:
    array = pixels(2, 16, 16)
    write(tmp_path / "a", array, "cyx", attrs={"channel_colors": ["#ff8000", "#0000ff"]})
    assert [channel["color"] for channel in channels_of(tmp_path / "a")] == ["FF8000", "0000FF"]
    write(tmp_path / "b", array, "cyx", attrs={"channel_colors": ["#ffffff", "#ffffff"]})
    assert [channel["color"] for channel in channels_of(tmp_path / "b")] == ["00FF00", "FF00FF"]


def test_the_one_channel_that_is_chosen_keeps_its_name_and_colour(tmp_path: Path) -> None:
    attrs = {"channel_names": ["DAPI", "GFP"], "channel_colors": ["#0000ff", "#00ff00"]}
    write(tmp_path / "a", pixels(2, 16, 16), "cyx", attrs=attrs, sel={"c": 1})
    (channel,) = channels_of(tmp_path / "a")
    assert (channel["label"], channel["color"]) == ("GFP", "00FF00")


def test_blank_planes_and_the_ends_of_a_stack_do_not_decide_the_window(tmp_path: Path) -> None:
    array = np.zeros((12, 5, 32, 32), np.uint16)
    array[3:, 2] = pixels(9, 32, 32) + 500  # in focus in the middle; three positions are blank
    write(tmp_path / "a", array, ["position", "z", "y", "x"])
    window = ome(str(tmp_path / "a"), "0")["omero"]["channels"][0]["window"]
    assert (window["start"] >= 500, window["end"] > 4000) == (True, True)


def test_photographs_are_shown_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "a", pixels(16, 16, 3, dtype=np.uint8) // 4, ["y", "x", "sample"])
    windows = [channel["window"] for channel in channels_of(tmp_path / "a")]
    assert [(window["start"], window["end"]) for window in windows] == [(0, 255)] * 3


@pytest.mark.parametrize(
    "value", [2**64 - 1, 2.0**62, 1e20, -1e300, 0.0], ids=["u8", "f4", "1e20", "-1e300", "0"]
)
def test_a_blank_image_has_a_window_that_is_not_empty(tmp_path: Path, value: Any) -> None:
    dtype = np.uint64 if isinstance(value, int) else np.float64
    write(tmp_path / "a", np.full((4, 4), value, dtype), "yx")
    (channel,) = channels_of(tmp_path / "a")
    assert channel["window"]["start"] < channel["window"]["end"]


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4"])
def test_a_window_is_not_beyond_what_a_pixel_can_be(tmp_path: Path, dtype: str) -> None:
    limits = np.iinfo(dtype)
    write(tmp_path / "a", np.array([[limits.min, limits.max]], dtype), "yx")
    (channel,) = channels_of(tmp_path / "a")
    window = channel["window"]
    assert limits.min <= window["start"] < window["end"] <= limits.max


@pytest.mark.parametrize(
    "labels",
    [{"well": ["A1", "a1"]}, {"row": ["A", "a"], "column": ["1"]}],
    ids=["wells", "rows"],
)
def test_wells_that_a_disk_may_take_for_one_make_a_series(labels: dict[str, list[str]]) -> None:
    assert arrange_images({dim: len(names) for dim, names in labels.items()}, labels).plate is None


def test_positions_without_any_file_are_reported(tmp_path: Path) -> None:
    present = (("well",), np.zeros(2, bool))
    with pytest.raises(OptionError, match="no file at any position along well"):
        write(tmp_path / "a", pixels(2, 8, 8), ["well", "y", "x"], present=present)


def test_a_block_is_no_larger_than_it_has_to_be() -> None:
    axes = [NgffAxis(name, name) for name in "zyx"]
    levels = plan_levels([dict.fromkeys("zyx", 2)] * 3, (512, 1024, 1024), axes)
    arrays = _plan_arrays(levels, axes, np.dtype("u2"), "0.5", (128,) * 3, None, "default", None)
    sources = [np.broadcast_to(np.uint16(0), levels[0].shape)]
    reduce = find_reduce("mean")
    passes = plan_passes(
        levels,
        arrays,
        sources,
        reduce,
        granule=(1, 1024, 1024),
        order=[0, 1, 2],
        most_bytes=2**27,
    )
    assert [len(p.factors) for p in passes] == [2, 2]
    assert np.prod([max(lengths) for lengths in passes[0].blocks]) * 2 == 2**25
    (one,) = plan_passes(
        levels[:1],
        arrays[:1],
        sources,
        reduce,
        granule=(256, 512, 512),
        order=[0, 1, 2],
        most_bytes=2**27,
    )
    assert {max(lengths) for lengths in one.blocks} == {256, 512}  # a file is read once


# --- what others write ----------------------------------------------------------------------------


def test_an_image_of_our_plate_opened_by_its_own_url_has_channel_names(tmp_path: Path) -> None:
    attrs = {"channel_names": ["DAPI", "GFP"]}
    coords = coords_of(well=["A1", "B2"])
    write(tmp_path / "a", pixels(2, 2, 8, 8), ["well", "c", "y", "x"], coords=coords, attrs=attrs)
    assert open_ome_zarr(tmp_path / "a/B/2/0").attrs["channel_names"] == ["DAPI", "GFP"]


@VERSIONS
def test_wells_that_a_plate_lists_and_has_not_are_passed_over(tmp_path: Path, version: Any) -> None:
    coords = coords_of(well=["A1", "B2", "C3"])
    array = pixels(3, 8, 8)
    write(tmp_path / "a", array, ["well", "y", "x"], coords=coords, version=version)
    shutil.rmtree(tmp_path / "a" / "A")
    with pytest.raises(OptionError, match=r"2 images: .* there are 'B/2/0', 'C/3/0'"):
        open_ome_zarr(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "C")
    np.testing.assert_array_equal(open_ome_zarr(tmp_path / "a").array.compute(), array[1])


def test_a_group_of_labels_lists_them(tmp_path: Path) -> None:
    write(tmp_path / "a", pixels(8, 8), "yx")
    for name in ("cells", "nuclei"):
        write(tmp_path / "a" / "labels" / name, pixels(8, 8), "yx", downsample="mode")
    reported = {"ome": {"version": "0.5", "labels": ["cells", "nuclei"]}}
    zarr.open_group(tmp_path / "a" / "labels", mode="a").attrs.update(reported)
    with pytest.raises(OptionError, match=r"2 images: .* there are 'cells', 'nuclei'"):
        open_ome_zarr(tmp_path / "a" / "labels")
    assert open_ome_zarr(tmp_path / "a", image="labels/nuclei").dims == ("y", "x")


@pytest.mark.parametrize(("unit", "known"), [("µm", "micrometer"), ("pixel", None)])
def test_units_that_others_spell_otherwise(tmp_path: Path, unit: str, known: str | None) -> None:
    write(tmp_path / "a", pixels(8, 8), "yx")
    document = tmp_path / "a/zarr.json"
    reported = json.loads(document.read_text())
    reported["attributes"]["ome"]["multiscales"][0]["axes"][0]["unit"] = unit
    document.write_text(json.dumps(reported))
    assert open_ome_zarr(tmp_path / "a").attrs.get("units", {}).get("y") == known


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("multiscales", [], FilesNotFoundError),
        ("multiscales", [3], StorageError),
        ("plate", {"wells": "A1"}, StorageError),
    ],
    ids=["no pyramid", "no mapping", "no wells"],
)
def test_metadata_of_another_form_are_reported(
    tmp_path: Path, key: str, value: Any, error: type[Exception]
) -> None:
    write(tmp_path / "a", pixels(8, 8), "yx")
    document = tmp_path / "a/zarr.json"
    reported = json.loads(document.read_text())
    reported["attributes"]["ome"] = {"version": "0.5", key: value}
    document.write_text(json.dumps(reported))
    with pytest.raises(error, match=r"no image|not a valid OME-Zarr"):
        open_ome_zarr(tmp_path / "a")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mean", [20.0, 0.0, 500.0, 0.0, -20.0, 90.0]),
        ("nearest", [20.0, 0.0, 495.0, 0.0, -20.0, 95.0]),
    ],
)
def test_the_affine_is_that_of_the_level(tmp_path: Path, method: Any, expected: Any) -> None:
    attrs = {"affine": [10.0, 0.0, 500.0, 0.0, -10.0, 90.0]}
    write(tmp_path / "a", pixels(8, 8), "yx", attrs=attrs, levels=2, downsample=method)
    assert open_ome_zarr(tmp_path / "a").attrs["affine"] == attrs["affine"]
    assert open_ome_zarr(tmp_path / "a", level=1).attrs["affine"] == expected


@pytest.mark.filterwarnings("ignore:y has a scale of -10")
@pytest.mark.parametrize("method", ["mean", "nearest"])
def test_a_map_with_north_up_has_its_coordinates_at_every_level(
    tmp_path: Path, method: Any
) -> None:
    north, east = 90.0 - 10.0 * np.arange(8), 500.0 + 10.0 * np.arange(8)
    attrs = {
        "scale": {"y": -10.0, "x": 10.0},
        "translation": {"y": 90.0, "x": 500.0},
        "units": {"y": "meter", "x": "meter"},
    }
    coords = {"y": (("y",), north), "x": (("x",), east)}
    write(
        tmp_path / "a", pixels(8, 8), "yx", attrs=attrs, coords=coords, levels=3, downsample=method
    )
    for level in range(3):
        found = open_ome_zarr(tmp_path / "a", level=level)
        for dim, values in {"y": north, "x": east}.items():
            cells = values.reshape(-1, 2**level)
            expected = cells[:, 0] if method == "nearest" else cells.mean(axis=1)
            np.testing.assert_allclose(found.coords[dim][1], expected)
            assert found.attrs["translation"][dim] == expected[0]
        assert found.attrs["scale"] == {"y": -10.0 * 2**level, "x": 10.0 * 2**level}


def test_an_image_that_is_not_there_is_reported_with_those_that_are(tmp_path: Path) -> None:
    write(tmp_path / "a", pixels(2, 4, 4), ["well", "y", "x"], coords=coords_of(well=["A1", "B2"]))
    with pytest.raises(FilesNotFoundError, match=r"at 'H/9/0'; there are 'A/1/0', 'B/2/0'"):
        open_ome_zarr(tmp_path / "a", image="H/9/0")
