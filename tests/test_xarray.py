"""The same pixels with names: dims, coordinates and units, over dask or over the files."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.errors import OptionError
from intake_tiffstack.labelled.attributes import decode_attrs
from intake_tiffstack.reading.parts import FilePart
from part_reads import parts_read_by

LIKE_LATTICE: dict[str, Any] = {
    "pattern": "c{c:d}_t{t:d}_{wavelength:d}nm_{msec:d}msec.tif",
    "file_dims": "zyx",
    "concat_dim": ["c", "t"],
    "scale": {"z": 0.3, "y": 0.1, "x": 0.1},
    "translation": {"y": 5},
    "units": {"z": "micrometer", "y": "micrometer", "x": "micrometer"},
}


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    return np.arange(2 * 4 * 3 * 6 * 5, dtype="uint16").reshape(2, 4, 3, 6, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, whole: np.ndarray) -> str:
    folder = tmp_path_factory.mktemp("lattice")
    for c, t in np.ndindex(2, 4):
        name = f"c{c}_t{10 * t}_{(488, 560)[c]}nm_{25 * t}msec.tif"
        tifffile.imwrite(folder / name, whole[c, t], photometric="minisblack")
    return str(folder)


@contextmanager
def regions_read() -> Iterator[list[tuple[str, tuple[range, ...]]]]:
    """Yield the name and the region of each read."""
    read: list[tuple[str, tuple[range, ...]]] = []

    def watch(files: Any, part: FilePart, out: np.ndarray) -> None:
        read.append((Path(files.urls[part.row]).name, part.region))

    with parts_read_by(None, watch):
        yield read


# ------------------------------------------------------------------------------ names and values


@pytest.mark.parametrize("chunks", ["option", None], ids=["dask", "no dask"])
def test_dims_coords_and_units(folder: str, whole: np.ndarray, chunks: Any) -> None:
    named = open_stack(folder, channel_names=["GFP", "RFP"], **LIKE_LATTICE).to_xarray(chunks)
    assert named.dims == ("c", "t", "z", "y", "x")
    coords = {name: (coord.dims, coord.values.tolist()) for name, coord in named.coords.items()}
    assert coords.pop("z")[1] == [0, 0.3, 0.6]
    assert coords.pop("y")[1] == [5, 5.1, 5.2, 5.3, 5.4, 5.5]
    assert coords.pop("x")[1] == [0, 0.1, 0.2, 0.3, 0.4]
    assert coords == {
        "c": (("c",), [0, 1]),
        "t": (("t",), [0, 10, 20, 30]),
        "wavelength": (("c",), [488, 560]),
        "msec": (("t",), [0, 25, 50, 75]),
        "channel": (("c",), ["GFP", "RFP"]),
    }
    units = {n: c.attrs["units"] for n, c in named.coords.items() if "units" in c.attrs}
    assert units == dict.fromkeys("zyx", "micrometer")
    assert decode_attrs(named.attrs)["scale"] == {"z": 0.3, "y": 0.1, "x": 0.1}
    assert named.attrs["channel_names"] == ["GFP", "RFP"]
    np.testing.assert_array_equal(named.values, whole, strict=True)


def test_it_wraps_the_dask_array(folder: str) -> None:
    stack = open_stack(folder, **LIKE_LATTICE)
    data = stack.to_xarray().data
    assert isinstance(data, da.Array)
    assert data.name == stack.to_dask().name


def test_another_chunk_shape_is_an_option_of_the_source(folder: str) -> None:
    with pytest.raises(OptionError, match="chunks must be 'option' or None here, but got 'auto'"):
        open_stack(folder, **LIKE_LATTICE).to_xarray(chunks="auto")  # type: ignore[arg-type]


def test_without_calibration_dims_of_the_files_have_no_coordinate(folder: str) -> None:
    named = open_stack(folder, pattern=LIKE_LATTICE["pattern"], file_dims="zyx").to_xarray()
    assert not {"z", "y", "x"} & set(named.coords)
    assert named.attrs == {"software": "tifffile.py", "channel_names": ["488", "560"]}


def test_a_hole_is_masked_beside_its_pixels(folder: str, whole: np.ndarray) -> None:
    named = open_stack(
        folder, exclude="c1_t10_*", missing="mask", fill_value=3, **LIKE_LATTICE
    ).to_xarray()
    assert named.is_missing.dims == ("c", "t")
    assert np.argwhere(named.is_missing.values).tolist() == [[1, 1]]
    assert named.dtype == whole.dtype
    assert (
        named.where(named.is_missing, drop=True).values.tolist()
        == np.full((1, 1, 3, 6, 5), 3).tolist()
    )


@pytest.fixture(scope="module")
def slabs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("slabs")
    planes = np.arange(8 * 4 * 5, dtype="u1").reshape(8, 4, 5)
    for i, (begin, end) in enumerate([(0, 3), (3, 5), (5, 8)]):
        tifffile.imwrite(folder / f"z{10 * i}.tif", planes[begin:end], photometric="minisblack")
    return str(folder)


def test_an_extended_dim_has_positions_and_the_values_in_the_names(slabs: str) -> None:
    stack = open_stack(slabs, pattern="z{z:d}.tif", file_dims="zyx")
    named = stack.to_xarray()
    assert named.z.values.tolist() == list(range(8))
    assert named.z_file.values.tolist() == [0, 0, 0, 10, 10, 20, 20, 20]
    scaled = open_stack(slabs, pattern="z{z:d}.tif", file_dims="zyx", scale={"z": 0.5}).to_xarray()
    assert scaled.z.values.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]


def test_coordinates_given_by_hand_win_over_the_scale(slabs: str) -> None:
    by_hand = list(range(100, 108))
    named = open_stack(
        slabs,
        pattern="z{z:d}.tif",
        file_dims="zyx",
        scale={"z": 0.5, "x": 2},
        coords={"z": by_hand, "x": "[9, 8, 7, 6, 5]"},
    ).to_xarray()
    assert named.z.values.tolist() == by_hand
    assert named.x.values.tolist() == [9, 8, 7, 6, 5]


# ----------------------------------------------------------------------------- lazy without dask


def test_nothing_is_read_before_values_are_looked_at(folder: str) -> None:
    with regions_read() as read:
        named = open_stack(folder, **LIKE_LATTICE).to_xarray(chunks=None)
        part = named.sel(c=1, t=slice(10, 20)).transpose("x", ...)[1:3, :, ::2]
        assert part.shape == (2, 2, 2, 6)
        assert "values with dtype" in repr(part)
    assert read == []


@pytest.mark.parametrize(
    ("express", "expected"),
    [
        pytest.param(
            lambda x: x[0][1][2],
            [("c0_t10_488nm_25msec.tif", (range(2, 3), range(6), range(5)))],
            id="chained integers",
        ),
        pytest.param(
            lambda x: x[1, 3][1:][0, ::2].transpose("x", "y")[1:3, ::2],
            [("c1_t30_560nm_75msec.tif", (range(1, 2), range(0, 6, 4), range(1, 3)))],
            id="slices, steps and a transpose",
        ),
        pytest.param(
            lambda x: x.sel(c=1, t=[0, 30]).isel(z=0)[:, 0, 0],
            [
                ("c1_t0_560nm_0msec.tif", (range(1), range(1), range(1))),
                ("c1_t30_560nm_75msec.tif", (range(1), range(1), range(1))),
            ],
            id="values of the names",
        ),
        pytest.param(
            lambda x: x[0, 0, ::-1][:2, 5, 4],
            [("c0_t0_488nm_0msec.tif", (range(1, 3), range(5, 6), range(4, 5)))],
            id="reverse",
        ),
        pytest.param(
            lambda x: x.sel(y=slice(5.15, 5.35))[0, 0, 0],
            [("c0_t0_488nm_0msec.tif", (range(1), range(2, 4), range(5)))],
            id="physical positions",
        ),
        pytest.param(lambda x: x[0, 0:0:-1], [], id="nothing, backwards"),
    ],
)
def test_indexes_are_put_together_into_one_small_read(
    folder: str, whole: np.ndarray, express: Callable[[Any], Any], expected: Any
) -> None:
    stack = open_stack(folder, **LIKE_LATTICE)
    in_memory = stack.to_xarray().load()
    with regions_read() as read:
        result = express(stack.to_xarray(chunks=None))
        values = result.values
    xr.testing.assert_identical(result, express(in_memory))
    np.testing.assert_array_equal(values, express(in_memory).values)
    # as lists, since a range of one place has many spellings
    assert [(name, [list(r) for r in region]) for name, region in read] == [
        (name, [list(r) for r in region]) for name, region in expected
    ]


@given(data=st.data())
def test_any_chain_of_indexes_gives_what_it_gives_in_memory(
    folder: str, whole: np.ndarray, data: st.DataObject
) -> None:
    lazy = open_stack(folder, **LIKE_LATTICE).to_xarray(chunks=None)
    in_memory = xr.DataArray(whole, dims=lazy.dims, coords=lazy.coords, attrs=lazy.attrs)
    for _ in range(data.draw(st.integers(1, 3))):
        if not lazy.ndim:
            break
        dim = data.draw(st.sampled_from(lazy.dims))
        size = lazy.sizes[dim]
        # a longer step is no integer of NumPy's, and xarray itself then fails at its second index
        indexes = [st.slices(size).filter(lambda index: abs(index.step or 1) < 2**63)]
        if size:
            position = st.integers(-size, size - 1)
            indexes += [position, st.lists(position, min_size=1, max_size=3)]
        index = data.draw(st.one_of(indexes))
        order = data.draw(st.permutations(lazy.dims))
        lazy, in_memory = (a.transpose(*order).isel({dim: index}) for a in (lazy, in_memory))
    xr.testing.assert_identical(lazy, in_memory)


def test_points_are_picked_too(folder: str, whole: np.ndarray) -> None:
    lazy = open_stack(folder, **LIKE_LATTICE).to_xarray(chunks=None)
    t, z = xr.DataArray([0, 3], dims="p"), xr.DataArray([2, 1], dims="p")
    np.testing.assert_array_equal(lazy.isel(t=t, z=z, c=0).values, whole[0, [0, 3], [2, 1]])


@pytest.mark.parametrize("chunks", ["option", None], ids=["dask", "no dask"])
def test_it_pickles(folder: str, whole: np.ndarray, chunks: Any) -> None:
    named = open_stack(folder, **LIKE_LATTICE).to_xarray(chunks)
    again = pickle.loads(pickle.dumps(named[1]))
    xr.testing.assert_identical(again, named[1])
    np.testing.assert_array_equal(again.values, whole[1])
