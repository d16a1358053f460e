"""The array that files on a grid make: stack and extend, order, coordinates, and what is refused.

The oracle is an array cut into files: a layout is right when the files, put where it says, give
that array again.
"""

from __future__ import annotations

import itertools
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_tiffstack.collection.probing import choose_headers
from intake_tiffstack.errors import LayoutError, OptionError, StructureMismatchError
from intake_tiffstack.layout.combine import combine, describe_dims
from intake_tiffstack.layout.grid import place_files
from intake_tiffstack.layout.holes import apply_missing
from intake_tiffstack.layout.model import Dim, Grid, Layout
from test_grid import place


@dataclass(frozen=True)
class Header:
    """As much of a header as a layout asks for."""

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: np.dtype[Any]
    is_compressed: bool = False


def header(dims: str, *shape: int, dtype: str = "u2", is_compressed: bool = False) -> Header:
    return Header(shape, tuple(dims), np.dtype(dtype), is_compressed)


def combine_all(pattern: str, files: dict[str, Header], **options: Any) -> Layout:
    """Return the layout of files of these names, every header read."""
    placing = {k: options[k] for k in ("labels", "sizes", "concat_dim") if k in options}
    grid = place(pattern, list(files), **placing)
    options.pop("labels", None)
    return combine(grid, dict(enumerate(files.values())), paths=list(files), **options)


def assemble(layout: Layout, arrays: list[np.ndarray], fill: int) -> np.ndarray:
    """Return the array that *layout* describes, each file put where its cell says."""
    result = np.full(layout.shape, fill, layout.dtype)
    order = [dim.file_dim for dim in layout.dims if dim.file_dim is not None]
    for index, row in np.ndenumerate(layout.cells):
        where: list[Any] = []
        for dim in layout.dims:
            if dim.axis is None:
                where.append(slice(None))
            elif dim.offsets is None:
                where.append(index[dim.axis])
            else:
                start, stop = dim.offsets[index[dim.axis] : index[dim.axis] + 2]
                where.append(slice(start, stop))
        if row >= 0:
            result[tuple(where)] = arrays[row].transpose(order)
    return result


# --------------------------------------------------------------------------- against NumPy


@dataclass(frozen=True)
class Cut:
    """An array with zeros in the holes, and the files it was cut into."""

    whole: np.ndarray
    dims: tuple[str, ...]
    axes: tuple[str, ...]
    file_dims: tuple[str, ...]
    extents: dict[str, tuple[int, ...]]
    values: dict[str, tuple[int, ...]]
    files: dict[str, np.ndarray]

    @property
    def pattern(self) -> str:
        return "_".join(["run{run:d}", *(f"{name}{{{name}:d}}" for name in self.axes)])

    def place(self) -> Grid:
        return place(self.pattern, list(self.files), concat_dim=self.axes)

    def headers(self, **options: Any) -> dict[int, Header]:
        return {
            row: Header(array.shape, self.file_dims, array.dtype, **options)
            for row, array in enumerate(self.files.values())
        }


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """Draw an array cut along any of its dims, with holes, the files in random order."""
    file_dims = tuple(draw(st.permutations("czyx"))[: draw(st.integers(2, 4))])
    extended = draw(st.lists(st.sampled_from(file_dims), unique=True, max_size=3))
    stacked = draw(st.lists(st.sampled_from("tpw"), unique=True, max_size=2))
    axes = tuple(draw(st.permutations([*stacked, *extended])))
    dims = (*(name for name in axes if name in stacked), *file_dims)
    extents = {}
    for name in dims:
        n = draw(st.integers(1, 3)) if name in axes else 1
        sizes = st.just(1) if name in stacked else st.integers(1, 3)
        extents[name] = tuple(draw(st.lists(sizes, min_size=n, max_size=n)))
    values = {
        name: tuple(sorted(draw(st.sets(st.integers(0, 99), min_size=n, max_size=n))))
        for name in axes
        for n in [len(extents[name])]
    }
    shape = [sum(extents[name]) for name in dims]
    whole = np.arange(1, np.prod(shape) + 1, dtype="u4").reshape(shape)
    cells = list(itertools.product(*(range(len(extents[name])) for name in axes)))
    holes = draw(st.sets(st.sampled_from(cells)))
    for axis, name in enumerate(axes):
        for i in range(len(extents[name])):  # a position that no name mentions would not be there
            line = [cell for cell in cells if cell[axis] == i]
            holes -= {line[0]} if holes.issuperset(line) else set()
    holes -= {cells[0]} if len(holes) == len(cells) else set()
    files = {}
    for cell in draw(st.permutations(cells)):
        at = dict(zip(axes, cell, strict=True))
        ends = {name: np.cumsum((0, *extents[name])) for name in dims}
        where = tuple(slice(*ends[name][at.get(name, 0) :][:2]) for name in dims)
        if cell in holes:
            whole[where] = 0
            continue
        name = "_".join(["run0", *(f"{name}{values[name][i]}" for name, i in at.items())])
        part = whole[where]
        files[name] = part.reshape(part.shape[len(dims) - len(file_dims) :]).copy()
    return Cut(whole, dims, axes, file_dims, extents, values, files)


@settings(deadline=None)  # what takes long is a busy machine
@given(cut=cuts(), data=st.data())
def test_files_cut_from_an_array_make_it_again(cut, data):
    order = data.draw(st.permutations(cut.dims))
    layout = combine(
        cut.place(), cut.headers(), paths=list(cut.files), concat_dim=cut.axes, dims=order
    )
    expected = cut.whole.transpose([cut.dims.index(name) for name in order])
    np.testing.assert_array_equal(assemble(layout, list(cut.files.values()), 0), expected)
    assert layout.names == tuple(order)
    assert layout.dtype == cut.whole.dtype


@settings(deadline=None)  # what takes long is a busy machine
@given(cut=cuts())
def test_by_default_new_dims_come_first_and_extended_ones_stay_where_they_are(cut):
    layout = combine(cut.place(), cut.headers(), paths=list(cut.files), concat_dim=cut.axes)
    np.testing.assert_array_equal(assemble(layout, list(cut.files.values()), 0), cut.whole)
    kinds = {dim.name: dim.kind for dim in layout.dims}
    assert kinds == {
        name: "file" if name not in cut.axes else "extend" if name in cut.file_dims else "stack"
        for name in cut.dims
    }


@settings(deadline=None)  # what takes long is a busy machine
@given(cut=cuts())
def test_the_headers_that_auto_reads_are_enough(cut):
    grid = cut.place()
    headers = cut.headers(is_compressed=True)
    sizes = np.full(len(headers), -1)
    rows = choose_headers(grid, headers[grid.template_row], byte_sizes=sizes, is_local=False)
    known = {row: headers[row] for row in rows}
    layout = combine(grid, known, paths=list(cut.files), concat_dim=cut.axes)
    np.testing.assert_array_equal(assemble(layout, list(cut.files.values()), 0), cut.whole)


@settings(deadline=None)  # what takes long is a busy machine
@given(cut=cuts())
def test_coordinates_and_mask_follow_the_files(cut):
    layout = combine(
        cut.place(), cut.headers(), paths=list(cut.files), concat_dim=cut.axes, missing="mask"
    )
    for name in cut.axes:
        repeated = np.repeat(cut.values[name], cut.extents[name])
        if name in cut.file_dims:
            np.testing.assert_array_equal(layout.coords[name][1], np.arange(len(repeated)))
            assert layout.coords[f"{name}_file"][0] == (name,)
            np.testing.assert_array_equal(layout.coords[f"{name}_file"][1], repeated)
        else:
            np.testing.assert_array_equal(layout.coords[name][1], repeated)
    dims, is_missing = layout.coords["is_missing"]
    assert dims == cut.axes
    holes = np.moveaxis(cut.whole == 0, [cut.dims.index(name) for name in dims], range(len(dims)))
    np.testing.assert_array_equal(is_missing, holes.reshape(*is_missing.shape, -1).all(axis=-1))
    assert all(
        values.shape == tuple(layout.shape[layout.names.index(dim)] for dim in along)
        for along, values in layout.coords.values()
    )


# --------------------------------------------------------------------------- stack and extend


def test_a_lattice_time_lapse_stacks():
    names = [f"ch{c}_t{t}.tif" for c in range(3) for t in range(5)]
    files = dict.fromkeys(names, header("zyx", 4, 6, 7))
    layout = combine_all("ch{c:d}_t{t:d}.tif", files, concat_dim=["c", "t"])
    assert (layout.names, layout.shape) == (("c", "t", "z", "y", "x"), (3, 5, 4, 6, 7))
    assert (layout.file_dims, layout.file_shape) == (("z", "y", "x"), (4, 6, 7))
    assert describe_dims(layout) == [
        "new dim c (3)", "new dim t (5)", "in file: z (4)", "in file: y (6)", "in file: x (7)",
    ]  # fmt: skip


def test_a_name_that_is_a_dim_inside_the_files_extends_it():
    files = {f"z{z}_t{t}.tif": header("zyx", n, 6, 7) for t in (0, 1) for z, n in [(0, 5), (5, 3)]}
    layout = combine_all("z{z:d}_t{t:d}.tif", files)
    assert (layout.names, layout.shape) == (("t", "z", "y", "x"), (2, 8, 6, 7))
    assert layout.dims[1] == Dim("z", 8, axis=1, file_dim=0, offsets=(0, 5, 8))
    assert describe_dims(layout)[:2] == ["new dim t (2)", "extends z (2 files, 8 planes)"]
    assert layout.coords["z_file"][1].tolist() == [0, 0, 0, 0, 0, 5, 5, 5]


def test_a_mosaic_extends_y_and_x_where_concat_dim_names_them():
    files = {f"tile_{y}_{x}.tif": header("yx", 10 + y, 20 + x) for y in range(2) for x in range(3)}
    layout = combine_all("tile_{y:d}_{x:d}.tif", files, concat_dim=["y", "x"])
    assert layout.shape == (21, 63)
    assert describe_dims(layout) == [
        "extends y (2 files, 21 pixels)", "extends x (3 files, 63 pixels)"
    ]  # fmt: skip


def test_y_and_x_are_not_extended_unasked():
    files = {f"{y}_{x}.tif": header("yx", 5, 5) for y in range(2) for x in range(2)}
    with pytest.raises(LayoutError, match="the field y is named like a dim inside the files: give"):
        combine_all("{y:d}_{x:d}.tif", files)


def test_a_rest_of_one_plane_holds_one_position():
    files = {"z0.tif": header("zyx", 3, 6, 7), "z1.tif": header("yx", 6, 7)}
    layout = combine_all("z{z:d}.tif", files)
    assert layout.names == ("z", "y", "x")
    assert layout.dims[0].offsets == (0, 3, 4)


def test_one_odd_file_does_not_turn_a_stack_into_an_extension():
    files = {"z0.tif": header("yx", 6, 7), "z1.tif": header("zyx", 3, 6, 7)}
    with pytest.raises(StructureMismatchError, match=r"in dims:\n  z0.tif: y x\n  z1.tif: z y x"):
        combine_all("z{z:d}.tif", files)


def test_one_file_is_itself():
    grid = place_files(["/d/a.tif"], is_single=True)
    layout = combine(grid, {0: header("cyx", 2, 3, 4)}, paths=["/d/a.tif"])
    assert (layout.names, layout.shape, layout.coords) == (("c", "y", "x"), (2, 3, 4), {})


def test_a_hole_takes_its_extent_from_another_line_else_from_the_template():
    files = {
        "t0_z0.tif": header("zyx", 4, 5, 5),
        "t1_z0.tif": header("zyx", 4, 5, 5),
        "t1_z1.tif": header("zyx", 2, 5, 5),
    }
    layout = combine_all("t{t:d}_z{z:d}.tif", files, sizes={"z": 3})
    assert layout.dims[1].offsets == (0, 4, 6, 10)


def test_files_not_read_are_taken_to_be_like_the_template():
    names = [f"t{t}_z{z}.tif" for t in range(2) for z in range(3)]
    grid = place("t{t:d}_z{z:d}.tif", names)
    layout = combine(grid, {0: header("zyx", 4, 5, 5)}, paths=names)
    assert layout.shape == (2, 12, 5, 5)


@pytest.mark.parametrize(
    ("dims", "shape"),
    [("xyct", (7, 6, 2, 3)), (["y", "t", "x", "c"], (6, 3, 7, 2))],
    ids=["letters", "list"],
)
def test_dims_give_the_order(dims, shape):
    files = {f"t{t}_c{c}.tif": header("yx", 6, 7) for t in range(3) for c in range(2)}
    layout = combine_all("t{t:d}_c{c:d}.tif", files, dims=dims)
    assert (layout.names, layout.shape) == (tuple(dims), shape)


TWO = {"t0_488.tif": header("yx", 2, 3), "t1_560.tif": header("yx", 2, 3)}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dims": "tyz"}, OptionError, "unknown dim in dims 'z'; known: t, x, y"),
        ({"dims": ["time", "y", "x"]}, OptionError, "unknown dim in dims 'time'"),
        ({"dims": "tx"}, OptionError, "once: t, y, x, but got t, x"),
        ({"dims": "tyxx"}, OptionError, "once: t, y, x, but got t, y, x, x"),
        ({"sizes": {"z": 4}}, OptionError, "unknown dim in sizes 'z'"),
        ({"sizes": {"y": 4}}, LayoutError, "y should have 4 positions, but the files have 2"),
        ({"coords": {"z": [1]}}, OptionError, "unknown dim in coords 'z'"),
        ({"coords": {"t": [1, 2, 3]}}, OptionError, "t has 2 positions, but got 3 values"),
        ({"coords": {"t": 5}}, OptionError, "t takes a list or a field's name, but got 5"),
        ({"coords": {"t": [[1], [2, 3]]}}, OptionError, "t takes a list or a field's name"),
        ({"coords": {"t": "num"}}, OptionError, r"in coords 'num'; did you mean 'nm'\?"),
        ({"coords": {"y": "nm"}}, OptionError, "nm cannot label y, since it varies along t"),
        ({"coords": {"y": "t"}}, OptionError, "t cannot label y, since it varies along t"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_that_do_not_fit_the_result(options, error, message):
    with pytest.raises(error, match=message):
        combine_all("t{t:d}_{nm:d}.tif", TWO, **options)


def test_dims_of_one_name_inside_a_file_are_refused():
    with pytest.raises(LayoutError, match=r"dims inside t0.tif repeat: page, page"):
        combine_all("t{t:d}.tif", {"t0.tif": Header((2, 2), ("page", "page"), np.dtype("u2"))})


# --------------------------------------------------------------------------- coordinates


def test_coordinates_come_from_the_names():
    layout = combine_all("t{t:d}_{nm:d}.tif", TWO)
    assert {name: (dims, v.tolist()) for name, (dims, v) in layout.coords.items()} == {
        "t": (("t",), [0, 1]),
        "nm": (("t",), [488, 560]),
    }


@pytest.mark.parametrize(
    ("wanted", "values"),
    [([0.0, 2.5], [0.0, 2.5]), (("a", "b"), ["a", "b"]), ("nm", [488, 560])],
    ids=["numbers", "texts", "field"],
)
def test_coords_label_a_dim_and_keep_what_the_names_say(wanted, values):
    layout = combine_all("t{t:d}_{nm:d}.tif", TWO, coords={"t": wanted})
    assert layout.coords["t"][1].tolist() == values
    assert layout.coords["t_file"][1].tolist() == [0, 1]


def test_coords_label_a_dim_inside_the_files():
    layout = combine_all("t{t:d}_{nm:d}.tif", TWO, coords={"y": [0.5, 1.5]})
    assert layout.coords["y"][1].tolist() == [0.5, 1.5]


def test_coords_label_an_extended_dim_by_plane_or_by_file():
    files = {"z0_a.tif": header("zyx", 2, 5, 5), "z1_b.tif": header("zyx", 1, 5, 5)}
    by_hand = combine_all("z{z:d}_{run}.tif", files, coords={"z": [0, 5, 9]})
    assert by_hand.coords["z"][1].tolist() == [0, 5, 9]
    by_field = combine_all("z{z:d}_{run}.tif", files, coords={"z": "run"})
    assert by_field.coords["z"][1].tolist() == ["a", "a", "b"]
    assert by_field.coords["z_file"][1].tolist() == [0, 0, 1]


def test_a_field_named_like_a_dim_gives_way():
    files = {f"t{t}_x{t * 5}.tif": header("yx", 2, 3) for t in range(2)}
    layout = combine_all("t{t:d}_x{x:d}.tif", files, concat_dim="t")
    assert layout.coords["x_file"][1].tolist() == [0, 5]
    assert "x" not in layout.coords


def test_coordinates_of_one_name_are_refused():
    files = {"z0_1.tif": header("zyx", 2, 5, 5)}
    with pytest.raises(OptionError, match="field 'z_file' has the name of another coordinate"):
        combine_all("z{z:d}_{z_file:d}.tif", files)


def test_labels_are_the_coordinate():
    layout = combine_all("{c}.tif", {"a.tif": header("yx", 2, 3)}, labels={"c": {"a": "DAPI"}})
    assert layout.coords["c"][1].tolist() == ["DAPI"]


def test_mask_is_added_when_asked_for():
    grid = place("t{t:d}_c{c:d}.tif", ["t0_c0.tif", "t0_c1.tif", "t1_c1.tif"])
    headers = dict.fromkeys(range(3), header("yx", 2, 3))
    layout = combine(apply_missing(grid, missing="mask"), headers, paths=["a"] * 3, missing="mask")
    assert layout.coords["is_missing"][0] == ("t", "c")
    assert layout.coords["is_missing"][1].tolist() == [[False, False], [True, False]]
    assert "is_missing" not in combine(grid, headers, paths=["a"] * 3, missing="fill").coords


# --------------------------------------------------------------------------- files that differ


def chips(**odd: Header) -> dict[str, Header]:
    """Files named by chip, sensor and month, those of sensor S2 with more channels."""
    return {
        f"{chip}_{sensor}_{month}.tif": header("yxc", 32, 32, 4 if sensor == "S1" else 11)
        for chip in ("aa", "bb")
        for sensor in ("S1", "S2")
        for month in range(3)
    } | odd


def test_the_field_that_decides_the_shape_is_named():
    with pytest.raises(StructureMismatchError) as info:
        combine_all("{chip}_{sensor}_{month:d}.tif", chips())
    assert str(info.value).splitlines() == [
        "the files differ in shape:",
        "  aa_S1_0.tif: 32x32x4",
        "  aa_S2_0.tif: 32x32x11",
        "sensor=S1 gives 32x32x4; sensor=S2 gives 32x32x11: select one kind by "
        "sel={'sensor': 'S1'}, or fill all up to the largest by unequal='pad'",
    ]
    assert info.value.details["fields"] == ("sensor",)


def test_advice_speaks_of_the_values_in_the_names():
    labels = {"sensor": {"S1": "radar", "S2": "optical"}}
    with pytest.raises(StructureMismatchError, match=r"sensor=radar gives .* by sel=.*'S1'\}"):
        combine_all("{chip}_{sensor}_{month:d}.tif", chips(), labels=labels)


def test_a_field_that_is_no_axis_can_decide():
    files = {
        f"t{t}_{mode}.tif": header("yx", 4 if mode == "a" else 8, 4)
        for t, mode in enumerate("aabba")
    }
    with pytest.raises(StructureMismatchError, match=r"mode=a gives 4x4; mode=b gives 8x4"):
        combine_all("t{t:d}_{mode}.tif", files)


def test_two_fields_can_decide():
    files = {
        f"a{a}_b{b}_c{c}.tif": header("yx", 4 + (a == b == 1), 4)
        for a, b, c in itertools.product(range(2), range(2), range(2))
    }
    with pytest.raises(StructureMismatchError, match="a and b decide which: select one"):
        combine_all("a{a:d}_b{b:d}_c{c:d}.tif", files, concat_dim=["a", "b", "c"])


def test_no_field_may_decide():
    files = {
        f"a{a}_b{b}_c{c}.tif": header("yx", 4 + (a == b == c == 1), 4)
        for a, b, c in itertools.product(range(2), range(2), range(2))
    }
    with pytest.raises(StructureMismatchError, match="No field of the names decides which"):
        combine_all("a{a:d}_b{b:d}_c{c:d}.tif", files, concat_dim=["a", "b", "c"])


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (header("yx", 4, 5, dtype="u1"), r"in dtype:\n  c1.tif: uint16\n  c2.tif: uint8\nc=1, 3 g"),
        (header("zyx", 1, 4, 5), r"in dims:\n  c1.tif: y x\n  c2.tif: z y x \(1x4x5\)"),
        (header("yx", 5, 4), r"in shape:\n  c1.tif: 4x5\n  c2.tif: 5x4"),
        (header("xy", 4, 5), r"in dims:"),
    ],
    ids=["dtype", "more dims", "turned", "dims turned"],
)
def test_each_way_to_differ_names_both_files(odd, message):
    files = {f"c{c}.tif": header("yx", 4, 5) for c in (1, 2, 3)} | {"c2.tif": odd}
    with pytest.raises(StructureMismatchError, match=message):
        combine_all("c{c:d}.tif", files)


def test_extents_may_differ_along_their_own_dim_only():
    files = {
        f"t{t}_z{z}.tif": header("zyx", 4 + 3 * (t == 1 == z), 5, 5)
        for t in range(3)
        for z in range(2)
    }
    with pytest.raises(StructureMismatchError) as info:
        combine_all("t{t:d}_z{z:d}.tif", files)
    assert "t0_z1.tif: 4 along z\n  t1_z1.tif: 7 along z\nt decides which" in str(info.value)
    assert "Along z each position must have one extent across all other axes" in str(info.value)


def test_other_dims_must_agree_beside_an_extended_one():
    files = {"z0.tif": header("zyx", 4, 5, 5), "z1.tif": header("zyx", 2, 6, 5)}
    with pytest.raises(StructureMismatchError, match=r"z0.tif: \*x5x5\n  z1.tif: \*x6x5"):
        combine_all("z{z:d}.tif", files)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 300), odd=st.integers(0, 299))
def test_messages_stay_short_however_many_files(n, odd):
    files = {f"t{t}.tif": header("yx", 4 + (t == odd % n), 5) for t in range(n)}
    with pytest.raises(StructureMismatchError) as info:
        combine_all("t{t:d}.tif", files)
    assert str(info.value).count("\n") <= 4
    assert len(str(info.value)) < 600


# --------------------------------------------------------------------------- headers to read


def wells(n_wells: int, n_times: int, n_channels: int) -> Grid:
    names = [
        f"w{w:04d}_t{t:04d}_c{c}.tif"
        for w in range(n_wells)
        for t in range(n_times)
        for c in range(n_channels)
    ]
    return place("w{well:d}_t{t:d}_c{c:d}.tif", names)


PLAIN, PACKED = header("yx", 4, 4), header("yx", 4, 4, is_compressed=True)


@pytest.mark.parametrize(
    ("grid", "template", "is_local", "sizes", "validate", "n"),
    [
        pytest.param((4, 5, 3), PACKED, True, "vary", "auto", 60, id="few local files: all"),
        pytest.param((4, 300, 3), PLAIN, True, "equal", "auto", 1, id="equal sizes prove it"),
        pytest.param((4, 5, 3), PLAIN, False, "equal", "auto", 1, id="remote, equal sizes"),
        pytest.param((4, 5, 3), PLAIN, False, "unknown", "auto", 6, id="remote, sizes unknown"),
        pytest.param((4, 5, 3), PACKED, False, "equal", "auto", 6, id="compressed proves nothing"),
        pytest.param((4, 300, 3), PLAIN, True, "vary", "auto", 6, id="a file a well and channel"),
        pytest.param((400, 2, 3), PACKED, False, "vary", "auto", 64, id="at most 64"),
        pytest.param((4, 300, 3), PACKED, False, "vary", "all", 3600, id="all"),
        pytest.param((4, 5, 3), PACKED, True, "vary", "template", 1, id="template"),
    ],
)
def test_how_many_headers_are_read(grid, template, is_local, sizes, validate, n):
    grid = wells(*grid)
    count = grid.cells.size
    byte_sizes = {
        "vary": np.arange(count),
        "equal": np.full(count, 32),
        "unknown": np.full(count, -1),
    }[sizes]
    rows = choose_headers(
        grid, template, byte_sizes=byte_sizes, is_local=is_local, validate=validate
    )
    assert rows[0] == grid.template_row
    assert len(rows) == len(set(rows)) == n


def test_every_channel_is_probed_before_the_many_wells():
    grid = wells(400, 1, 3)
    rows = choose_headers(grid, PACKED, byte_sizes=np.arange(1200), is_local=False)
    assert set(grid.locate(rows)[2]) == {0, 1, 2}


def test_a_line_of_files_is_read_along_an_extended_dim():
    names = [f"t{t}_z{z:03d}.tif" for t in range(3) for z in range(100)]
    grid = place("t{t:d}_z{z:d}.tif", names)
    options = {"byte_sizes": np.full(300, -1), "is_local": False}
    assert len(choose_headers(grid, PACKED, **options)) == 1
    rows = choose_headers(grid, header("zyx", 2, 4, 4), **options)
    assert sorted(grid.locate(rows)[1]) == list(range(100))


def test_left_out_duplicates_are_not_read():
    grid = place("t{t:d}_v{v:d}", ["t0_v0", "t0_v1"], duplicates="last")
    assert choose_headers(grid, PACKED, byte_sizes=np.arange(2), is_local=True) == [1]


def test_unknown_validate():
    with pytest.raises(OptionError, match="'auto', 'all' or 'template', but got 'none'"):
        choose_headers(
            wells(1, 1, 1), PLAIN, byte_sizes=np.zeros(1), is_local=True, validate="none"
        )


# --------------------------------------------------------------------------- the values themselves


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 3}, "neither on the grid nor inside the files"),
        ({"size": 3, "axis": 0, "file_dim": 0}, "of kind extend but got offsets None"),
        ({"size": 3, "axis": 0, "offsets": (0, 3)}, "of kind stack but got offsets"),
        ({"size": 3, "axis": 0, "file_dim": 0, "offsets": (0, 2)}, "has 3 but got offsets"),
        ({"size": 3, "axis": 0, "file_dim": 0, "offsets": (0, 0, 3)}, "do not ascend"),
    ],
    ids=["nowhere", "no offsets", "offsets", "wrong end", "empty position"],
)
def test_a_dim_checks_itself(values, message):
    with pytest.raises(ValueError, match=message):
        Dim("z", **values)


@pytest.mark.parametrize(
    ("dims", "cells", "message"),
    [
        ([Dim("t", 2, axis=0)], np.zeros((2, 2)), "2 of axis to place"),
        ([Dim("y", 2, file_dim=1)], np.zeros(()), "1 of file_dim to place"),
        ([Dim("y", 2, file_dim=0), Dim("y", 2, axis=0)], np.zeros(2), "two dims of one name"),
    ],
    ids=["axis", "file dim", "name"],
)
def test_a_layout_checks_itself(dims, cells, message):
    with pytest.raises(ValueError, match=message):
        Layout(tuple(dims), cells, ("y",), (2,), np.dtype("u2"), {})


def test_a_layout_survives_pickling():
    layout = combine_all("t{t:d}_{nm:d}.tif", TWO)
    copy = pickle.loads(pickle.dumps(layout))
    assert (copy.dims, copy.cells.tolist()) == (layout.dims, layout.cells.tolist())
