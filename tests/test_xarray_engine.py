"""The engine of xarray: one call opens a collection, lazy with and without dask."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr

from intake_tiffstack import TiffStackSource, open_stack
from intake_tiffstack.arrays.lazy_array import LazyArray
from intake_tiffstack.errors import OptionError
from intake_tiffstack.options import Options

OPTIONS: dict[str, Any] = {
    "pattern": "c{c:d}_t{t:d}.tif",
    "scale": {"x": 0.1},
    "sel": {"t": [0, 1]},
}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for c, t in np.ndindex(2, 3):
        plane = np.full((4, 5), 10 * c + t, "u2")
        tifffile.imwrite(tmp_path / f"c{c}_t{t}.tif", plane, photometric="minisblack")
    return str(tmp_path)


@pytest.mark.parametrize("chunks", [None, {}, {"t": 2}], ids=str)
def test_a_dataset_is_what_open_stack_gives(folder: str, chunks: Any) -> None:
    opened = xr.open_dataset(folder, engine="tiffstack", chunks=chunks, **OPTIONS)
    stack = open_stack(folder, **OPTIONS)
    assert isinstance(opened["image"].variable._data, da.Array) == (chunks is not None)
    xr.testing.assert_identical(opened["image"].load().rename(None), stack.to_xarray().load())
    if chunks == {}:
        fresh = xr.open_dataset(folder, engine="tiffstack", chunks={}, **OPTIONS)
        assert fresh["image"].chunks == stack.chunks


@pytest.mark.parametrize("is_tree", [False, True], ids=["dataset", "tree"])
def test_chunks_of_changed_files_have_other_names(folder: str, is_tree: bool) -> None:
    def opened() -> xr.Dataset:
        if is_tree:
            tree = xr.open_datatree(folder, engine="tiffstack", chunks={}, **OPTIONS)
            return tree["0"].to_dataset()
        return xr.open_dataset(folder, engine="tiffstack", chunks={}, **OPTIONS)

    before, again = opened(), opened()
    assert before["image"].data.name == again["image"].data.name
    assert type(before["image"].variable) is xr.Variable
    old = before["image"].load()
    tifffile.imwrite(f"{folder}/c0_t0.tif", np.full((4, 5), 99, "u2"), photometric="minisblack")
    os.utime(f"{folder}/c0_t0.tif", (1, 1))
    after = opened()
    assert after["image"].data.name != again["image"].data.name
    together = xr.concat([again["image"], after["image"]], "opening")
    assert set(again["image"].data.dask).isdisjoint(after["image"].data.dask)
    assert together.sizes["opening"] == 2
    assert int(after["image"][0, 0, 0, 0]) == 99
    assert int(old[0, 0, 0, 0]) == 0


def test_what_is_not_chunked_behaves_as_any_variable(folder: str, tmp_path: Path) -> None:
    opened = xr.open_dataset(folder, engine="tiffstack", **OPTIONS)
    part = opened.isel(t=0)
    chunked = part.chunk(c=1)["image"]
    assert chunked.chunks is not None
    np.testing.assert_array_equal(chunked, part["image"])
    stacked = xr.concat([opened, opened], "n") + 1
    np.testing.assert_array_equal(stacked["image"][1], opened["image"] + 1)
    same = pickle.loads(pickle.dumps(opened))
    xr.testing.assert_identical(same.load(), opened.load())
    opened.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as read:
        np.testing.assert_array_equal(read["image"], opened["image"])


@pytest.mark.parametrize("chunks", [None, {}], ids=str)
@pytest.mark.parametrize("pattern", ["c{image:d}_t{t:d}.tif", "c0_t{t:d}{image}.tif"])
def test_a_field_may_be_called_image(folder: str, chunks: Any, pattern: str) -> None:
    options = {"engine": "tiffstack", "chunks": chunks, "pattern": pattern, "unmatched": "ignore"}
    options["concat_dim"] = ["t"] if pattern.startswith("c0") else ["image", "t"]
    if pattern.startswith("c0"):
        for t in range(3):
            os.rename(f"{folder}/c0_t{t}.tif", f"{folder}/c0_t{t}a.tif")
    opened = xr.open_dataset(folder, **options)
    assert "image" in opened.coords
    assert int(opened["pixels"].isel(t=2)[..., 0, 0].max()) in (2, 12)
    xr.testing.assert_identical(xr.open_datatree(folder, **options)["0"].to_dataset(), opened)


def test_only_what_is_indexed_is_read(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    regions: list[Any] = []
    read = LazyArray.__getitem__

    def spy(self: LazyArray, key: Any) -> Any:
        found = read(self, key)
        regions.append(found.shape)
        return found

    monkeypatch.setattr(LazyArray, "__getitem__", spy)
    opened = xr.open_dataset(folder, engine="tiffstack", cache=False, **OPTIONS)
    part = opened["image"].sel(c=1).isel(y=2)
    assert regions == []
    assert part.isel(t=1).values.tolist() == [11] * 5
    assert regions == [(5,)]


def test_it_takes_every_option_but_those_of_xarray() -> None:
    engine = xr.backends.list_engines()["tiffstack"]
    assert set(engine.open_dataset_parameters or ()) == (
        {*Options.__dataclass_fields__} - {"urlpath", "chunks"}
    ) | {"filename_or_obj", "drop_variables"}


def test_a_wrong_option_is_named(folder: str) -> None:
    with pytest.raises(OptionError, match=r"patern.*pattern"):
        xr.open_dataset(folder, engine="tiffstack", patern="x")


def test_it_does_not_claim_a_tiff(folder: str) -> None:
    assert not xr.backends.list_engines()["tiffstack"].guess_can_open(f"{folder}/c0_t0.tif")


# -- pyramids ------------------------------------------------------------------------------------


@pytest.fixture
def pyramid(tmp_path: Path) -> tuple[str, list[np.ndarray]]:
    levels = [np.arange(n * n, dtype="u2").reshape(n, n) for n in (64, 32, 16)]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        said = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
        form: dict[str, Any] = {"photometric": "minisblack", "tile": (16, 16)}
        writer.write(levels[0], subifds=2, metadata=said, **form)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **form)
    return str(tmp_path / "a.ome.tif"), levels


WAYS: dict[str, Callable[[str], xr.DataTree]] = {
    "engine": lambda url: xr.open_datatree(url, engine="tiffstack"),
    "engine with dask": lambda url: xr.open_datatree(url, engine="tiffstack", chunks={}),
    "source": lambda url: TiffStackSource(url).to_datatree(),
    "stack": lambda url: open_stack(url).to_datatree(chunks=None),
}


@pytest.mark.parametrize("way", WAYS)
def test_levels_are_nodes_with_their_own_coordinates(
    pyramid: tuple[str, list[np.ndarray]], way: str
) -> None:
    url, levels = pyramid
    tree = WAYS[way](url)
    assert list(tree.children) == ["0", "1", "2"]
    for name, pixels in zip("012", levels, strict=True):
        node = tree[name]
        np.testing.assert_array_equal(node["image"].values, pixels, strict=True)
        step = 0.5 * 64 / len(pixels)
        assert np.diff(node["x"].values).tolist() == [step] * (len(pixels) - 1)
        assert node["x"].values[0] == (step - 0.5) / 2, "the centre of the first pixel"


@pytest.mark.parametrize(
    "options", [{"scale": {"x": 0.2}, "translation": {"x": 7}}, {"scale": {"x": 3}}]
)
def test_levels_follow_the_calibration_that_options_give(
    pyramid: tuple[str, list[np.ndarray]], options: dict[str, Any]
) -> None:
    url, levels = pyramid
    tree = xr.open_datatree(url, engine="tiffstack", **options)
    step, start = options["scale"]["x"], options.get("translation", {}).get("x", 0)
    for name, pixels in zip("012", levels, strict=True):
        size = step * 64 / len(pixels)
        centres = start - step / 2 + size * (np.arange(len(pixels)) + 0.5)
        np.testing.assert_allclose(tree[name]["x"].values, centres)


def test_levels_by_their_path(pyramid: tuple[str, list[np.ndarray]]) -> None:
    groups = xr.open_groups(pyramid[0], engine="tiffstack")
    assert set(groups) == {"/", "/0", "/1", "/2"}


def test_a_copy_has_its_pyramid_too(pyramid: tuple[str, list[np.ndarray]], tmp_path: Path) -> None:
    url, levels = pyramid
    copy = TiffStackSource(url).export(
        str(tmp_path / "a.zarr"), format="ome-zarr", levels="source", verify=False
    )
    tree = copy.to_datatree()
    assert [node["image"].shape for node in tree.children.values()] == [p.shape for p in levels]
    np.testing.assert_array_equal(tree["1/image"].values, levels[1])


def test_without_a_pyramid_there_is_one_node(folder: str) -> None:
    assert list(open_stack(folder, **OPTIONS).to_datatree().children) == ["0"]
