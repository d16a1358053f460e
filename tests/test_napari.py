"""Layers of napari: lazy, with names, scale, units, colours and the time step.

The layers are checked everywhere; how napari finds and opens them where it is installed, as by
``make test-readers``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dask.array as da
import intake
import numpy as np
import pytest
import tifffile
import yaml

from intake_tiffstack import add_to_catalog, open_stack
from intake_tiffstack.errors import EntryError
from intake_tiffstack.napari_reader import get_reader, layers_of
from intake_tiffstack.samples import make_lattice

PLUGIN = "intake-tiffstack"
OPTIONS: dict[str, Any] = {
    "pattern": "lattice",
    "concat_dim": ["c", "t"],
    "channel_names": ["nuclei", "membranes"],
}

pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return a folder with files, a catalog of one entry, an OME-Zarr and a Zarr."""
    make_lattice(tmp_path / "raw", channels=2, times=3)
    stack = open_stack(f"{tmp_path}/raw/*.tif", **OPTIONS)
    add_to_catalog(stack, tmp_path / "lab.yml", "scan")
    stack.export(
        tmp_path / "scan.ome.zarr",
        format="ome-zarr",
        levels=2,
        colors=["0000FF", "FF0000"],
        windows=[(90, 900), (80, 800)],
    )
    stack.export(tmp_path / "scan.zarr")
    return tmp_path


def pixels(lab: Path) -> np.ndarray:
    files = sorted((lab / "raw").glob("*.tif"))
    return np.stack([tifffile.imread(path) for path in files]).reshape(2, 3, 8, 64, 48)


def read(path: str | Path) -> list[Any]:
    reader = get_reader(str(path))
    assert reader is not None
    return reader(str(path))


@pytest.mark.parametrize("name", ["lab.yml", "lab.yml:scan", "scan.zarr", "scan.ome.zarr"])
def test_a_channel_is_a_layer_with_its_name_and_scale(lab: Path, name: str) -> None:
    layers = read(f"{lab}/{name}")
    assert [options["name"] for _, options, _ in layers] == ["nuclei", "membranes"]
    for (data, options, kind), expected in zip(layers, pixels(lab), strict=True):
        full = data[0] if options["multiscale"] else data
        assert kind == "image"
        assert isinstance(full, da.Array)
        np.testing.assert_array_equal(full.compute(), expected)
        assert options["axis_labels"] == ["t", "z", "y", "x"]
        assert options["scale"] == pytest.approx([2.5, 0.3, 0.1, 0.1])
        assert options["units"] == ["second", *["micrometer"] * 3]
        assert options["blending"] == "additive"


def test_an_ome_zarr_has_levels_colours_and_ranges(lab: Path) -> None:
    layers = read(lab / "scan.ome.zarr")
    assert [options["colormap"].upper() for _, options, _ in layers] == ["#0000FF", "#FF0000"]
    assert [options["contrast_limits"] for _, options, _ in layers] == [[90, 900], [80, 800]]
    assert [level.shape[-2:] for level in layers[0][0]] == [(64, 48), (32, 24)]


def test_channels_without_looks_have_colours_and_the_range_of_the_middle_plane(lab: Path) -> None:
    """The first plane may be empty, and napari takes the range of that."""
    for path in (lab / "raw").glob("*stack0000*"):
        tifffile.imwrite(path, np.zeros_like(tifffile.imread(path)), photometric="minisblack")
    for (_, options, _), channel in zip(read(lab / "raw"), pixels(lab), strict=True):
        low, high = options["contrast_limits"]
        inside = (channel[1, 4] >= low) & (channel[1, 4] <= high)
        assert 0.99 < inside.mean() < 1
    assert len({options["colormap"] for _, options, _ in read(lab / "raw")}) == 2


def test_a_folder_is_opened_by_its_best_suggestion(lab: Path) -> None:
    shutil.rmtree(lab / "scan.zarr")
    layers = read(lab / "raw")
    assert len(layers) == 2
    np.testing.assert_array_equal(layers[1][0].compute(), pixels(lab)[1])


def test_samples_of_colour_are_one_layer(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig=2)
    ((data, options, _),) = layers_of(intake.open_tiffstack(f"{tmp_path}/a.tif"))
    assert options["rgb"]
    assert options["name"] == "a.tif"
    np.testing.assert_array_equal(data.compute(), rgb)


def test_one_of_several_entries_is_named(lab: Path) -> None:
    add_to_catalog(intake.open_tiffstack_zarr(str(lab / "scan.zarr")), lab / "lab.yml", "copy")
    with pytest.raises(EntryError, match=r"2 entries: .*lab\.yml:scan, .*lab\.yml:copy"):
        read(lab / "lab.yml")
    with pytest.raises(EntryError, match="no entry 'scam', but scan, copy"):
        read(f"{lab}/lab.yml:scam")
    assert len(read(f"{lab}/lab.yml:copy")) == 2


def test_the_manifest_names_what_exists() -> None:
    path = Path(layers_of.__code__.co_filename).with_name("napari.yaml")
    manifest = yaml.safe_load(path.read_text("utf-8"))
    (command,) = manifest["contributions"]["commands"]
    assert command["python_name"] == f"{get_reader.__module__}:{get_reader.__name__}"
    assert get_reader(["a.zarr", "b.zarr"]) is None


# -- in napari -------------------------------------------------------------------------------------


@pytest.fixture
def viewer() -> Any:
    """Return napari's model of a viewer, which needs no window."""
    components = pytest.importorskip("napari.components", reason="make test-readers has it")
    npe2 = pytest.importorskip("npe2")
    manager = npe2.PluginManager.instance()
    manager.discover()
    assert PLUGIN in manager
    return components.ViewerModel()


@pytest.mark.filterwarnings("ignore")  # of napari's own making
@pytest.mark.parametrize("name", ["raw", "lab.yml", "entry", "scan.ome.zarr"])
def test_napari_opens_it(viewer: Any, lab: Path, name: str) -> None:
    # napari refuses what is neither an existing path nor a URL with a host
    path = f"file://localhost{lab}/lab.yml:scan" if name == "entry" else f"{lab}/{name}"
    layers = viewer.open(path, plugin=PLUGIN)
    assert len(layers) == 2
    first = layers[0]
    assert first.multiscale == (name == "scan.ome.zarr")
    full = first.data[0] if first.multiscale else first.data
    np.testing.assert_array_equal(np.asarray(full), pixels(lab)[0])
    assert first.scale.tolist() == pytest.approx([2.5, 0.3, 0.1, 0.1])
    assert [str(unit) for unit in first.units] == ["second", *["micrometer"] * 3]
    if name != "raw":
        assert [layer.name for layer in layers] == ["nuclei", "membranes"]
    if name == "scan.ome.zarr":
        assert first.colormap.map(1.0).ravel().tolist() == pytest.approx([0, 0, 1, 1])
        assert first.contrast_limits == [90, 900]
        assert viewer.dims.range[0].step == pytest.approx(2.5)


def test_the_manifest_is_valid() -> None:
    npe2 = pytest.importorskip("npe2", reason="make test-readers has it")
    path = Path(layers_of.__code__.co_filename).with_name("napari.yaml")
    npe2.PluginManifest.from_file(path).validate_imports()
