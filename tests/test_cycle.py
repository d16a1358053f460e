"""Planes that cycle on over the ends of files: all pages together are cut into dims."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from intake_tiffstack import TiffStack, TiffStackSource, open_stack
from intake_tiffstack.errors import LayoutError, OptionError
from persist_scans import store  # noqa: F401 - a fixture


def write_recording(folder: Path, lengths: list[int], *, name: str = "rec", seed: int = 0) -> Any:
    """Write files of some pages each; return all pages."""
    folder.mkdir(exist_ok=True)
    pages = np.random.default_rng(seed).integers(0, 9999, (sum(lengths), 4, 5)).astype("int16")
    start = 0
    for k, count in enumerate(lengths):
        with tifffile.TiffWriter(folder / f"{name}_{k:03d}.tif") as tif:
            for page in pages[start : start + count]:
                tif.write(page, photometric="minisblack", metadata=None)
        start += count
    return pages


@pytest.fixture
def recording(tmp_path: Path) -> tuple[TiffStack, np.ndarray]:
    pages = write_recording(tmp_path / "raw", [20, 20, 20])
    stack = open_stack(
        tmp_path / "raw", pattern="rec_{t:d}.tif", file_dims={"t": -1, "z": 3}, scale={"z": 2.0}
    )
    return stack, pages.reshape(20, 3, 4, 5)


def test_pages_of_all_files_are_cut_into_dims(recording: tuple[TiffStack, np.ndarray]) -> None:
    stack, expected = recording
    assert stack.sizes == {"t": 20, "z": 3, "y": 4, "x": 5}
    np.testing.assert_array_equal(stack.to_dask().compute(), expected)
    named = stack.to_xarray()
    assert named.z.values.tolist() == [0, 2, 4]
    assert named.sizes == stack.sizes
    np.testing.assert_array_equal(named.isel(t=13, z=[0, 2]).values, expected[13, [0, 2]])
    assert "t (20)" in str(stack.report())
    again = pickle.loads(pickle.dumps(stack.to_dask()))
    np.testing.assert_array_equal(again[::3, 1].compute(), expected[::3, 1])
    assert again.name == stack.to_dask().name


sizes = st.fixed_dictionaries(
    {"t": st.just(-1)}, optional={"z": st.integers(1, 4), "c": st.integers(1, 3)}
)


@settings(max_examples=40)
@given(data=st.data())
def test_any_cycle_and_index_is_numpys(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    wanted = data.draw(sizes)
    names = ["t", *data.draw(st.permutations(sorted(set(wanted) - {"t"})))]
    inner = -np.prod(list(wanted.values()))
    first = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    lengths = [*first, -sum(first) % inner or int(inner)]
    folder = tmp_path_factory.mktemp("cycle")
    pages = write_recording(folder, [int(n) for n in lengths], seed=sum(lengths))
    file_dims = {name: wanted[name] for name in names}
    shape = [n if n > 0 else sum(lengths) // inner for n in file_dims.values()]
    expected = pages.reshape(*map(int, shape), 4, 5)
    order = data.draw(st.permutations([*names, "y", "x"]))
    stack = open_stack(folder, pattern="rec_{t:d}.tif", file_dims=file_dims, dims=order)
    expected = expected.transpose([[*names, "y", "x"].index(dim) for dim in order])
    array = stack.to_dask()
    assert array.shape == expected.shape
    key = data.draw(basic_indices(expected.shape, min_dims=0, allow_newaxis=True))
    with dask.config.set(scheduler="sync"):
        np.testing.assert_array_equal(array.compute(), expected)
        np.testing.assert_array_equal(array[key].compute(), expected[key])


def test_other_axes_stay_axes(tmp_path: Path) -> None:
    whole = [write_recording(tmp_path / "raw", [5, 4], name=f"c{c}", seed=c) for c in range(2)]
    stack = open_stack(
        tmp_path / "raw",
        pattern="c{c:d}_{t:d}.tif",
        file_dims={"t": -1, "z": 3},
        labels={"c": {0: "GFP", 1: "RFP"}},
    )
    assert stack.sizes == {"c": 2, "t": 3, "z": 3, "y": 4, "x": 5}
    np.testing.assert_array_equal(stack.read(), np.stack(whole).reshape(2, 3, 3, 4, 5))
    assert stack.to_xarray().c.values.tolist() == ["GFP", "RFP"]


def test_pages_that_do_not_fill_the_last_cycle_are_an_error(tmp_path: Path) -> None:
    write_recording(tmp_path / "raw", [20, 20, 19])
    options: dict[str, Any] = {"pattern": "rec_{t:d}.tif", "file_dims": {"t": -1, "z": 3}}
    stack = open_stack(tmp_path / "raw", **options)
    with pytest.raises(LayoutError, match="a multiple of 3 pages, but the files have 59 in all"):
        stack.to_dask()
    assert "59 in all" in str(stack.report())
    kept = open_stack(tmp_path / "raw", sel={"t": [0, 2]}, **options)
    assert kept.sizes["t"] == 13


def test_a_single_file_has_no_cycle(tmp_path: Path) -> None:
    write_recording(tmp_path / "raw", [20])
    with pytest.raises(OptionError, match="need a multiple of 3 pages"):
        open_stack(tmp_path / "raw" / "rec_000.tif", file_dims={"t": -1, "z": 3}).to_dask()


@pytest.mark.usefixtures("store")
def test_copies_of_a_cycle(tmp_path: Path) -> None:
    expected = write_recording(tmp_path / "raw", [20, 20, 20]).reshape(20, 3, 4, 5)
    source = TiffStackSource(str(tmp_path / "raw/rec_{t:d}.tif"), file_dims={"t": -1, "z": 3})
    source.export(tmp_path / "a.zarr", progress=False, verify="all")
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr")[:], expected)
    source.export(tmp_path / "b.zarr", format="ome-zarr", progress=False)
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "b.zarr")["0"][:], expected)
    with pytest.raises(LayoutError, match="a cycle of planes over files has no references"):
        source.export(tmp_path / "c.json", format="references")
    persisted = source.persist(progress=False)
    np.testing.assert_array_equal(persisted.read(), expected)
    (tmp_path / "raw").rename(tmp_path / "away")
    np.testing.assert_array_equal(source(persist_mode="always").read(), expected)
