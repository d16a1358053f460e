"""The catalogs that ship open collections like those they are written for; so does the demo."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import intake
import numpy as np
import pytest
import tifffile
import yaml

from intake_tiffstack.errors import FilesNotFoundError
from intake_tiffstack.samples import make_lattice, make_movie, make_plate, make_satellite

if TYPE_CHECKING:
    from types import ModuleType

    from servers import S3Server

CATALOGS = Path(__file__).parents[1] / "catalogs"
DEMO = Path(__file__).parents[1] / "docs" / "demo.py"

# Intake warns so of every parameter that is text, though none asks for a shell command.
pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed:UserWarning")


def open_catalog(name: str) -> Any:
    return intake.open_catalog(str(CATALOGS / f"{name}.yml"))


def load_demo() -> ModuleType:
    """Return the demo's module."""
    return load_script(DEMO)


def load_script(path: Path) -> ModuleType:
    """Return the module of a script that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_all(paths: list[Path], *lengths: int) -> np.ndarray:
    """Return the files as tifffile reads them, in axes of these lengths before their own."""
    pixels = np.stack([tifffile.imread(path) for path in paths])
    return pixels.reshape(*lengths, *pixels.shape[1:])


def test_lattice_opens_another_folder_by_override(tmp_path: Path) -> None:
    paths = make_lattice(tmp_path, channels=2, times=3)
    source = open_catalog("lattice").lattice(urlpath=f"{tmp_path}/*.tif")
    named = source.to_xarray()
    assert named.dims == ("c", "t", "z", "y", "x")
    assert list(named["wavelength"].to_numpy()) == [488, 560]
    assert list(named["msec"].to_numpy()) == [0, 2500, 5000]
    assert source.metadata["instrument"] == "Lattice light-sheet microscope"
    assert source.metadata["scale"] == pytest.approx({"t": 2.5, "z": 0.3, "y": 0.1, "x": 0.1})
    np.testing.assert_array_equal(source.read(), read_all(paths, 2, 3))


def test_lattice_opens_another_folder_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_lattice(tmp_path, channels=1, times=2)
    monkeypatch.setenv("LATTICE", str(tmp_path))
    assert open_catalog("lattice").lattice.to_dask().shape == (1, 2, 8, 64, 48)


def test_lattice_without_either_is_where_the_demo_writes(tmp_path: Path) -> None:
    catalog = tmp_path / "catalogs" / "lattice.yml"
    catalog.parent.mkdir()
    catalog.write_text((CATALOGS / "lattice.yml").read_text())
    source = intake.open_catalog(str(catalog)).lattice
    with pytest.raises(FilesNotFoundError, match="demo_output/raw"):
        source.to_dask()
    make_lattice(tmp_path / "demo_output" / "raw", channels=1, times=1)
    source.relist()
    assert source.to_dask().shape == (1, 1, 8, 64, 48)


def test_plate_has_an_axis_for_all_that_its_names_count(tmp_path: Path) -> None:
    paths = make_plate(tmp_path, fields=2, planes=3, channels=2, strays=True)
    named = open_catalog("plate").plate(folder=str(tmp_path)).to_xarray()
    assert named.sizes == {"well": 2, "field": 2, "t": 1, "c": 2, "z": 3, "y": 48, "x": 64}
    assert list(named["channel"].to_numpy()) == ["nuclei", "membranes"]
    expected = read_all(paths, 2, 2, 3, 2).swapaxes(2, 3)[:, :, None]
    np.testing.assert_array_equal(named.to_numpy(), expected)


def test_one_well_is_chosen_by_a_parameter(tmp_path: Path) -> None:
    make_plate(tmp_path)
    catalog = open_catalog("plate")
    plate = catalog.plate(folder=str(tmp_path)).to_xarray()
    for well in ("B03", "C04"):
        one = catalog.well(folder=str(tmp_path), well=well).to_xarray()
        assert list(one["well"].to_numpy()) == [well]
        np.testing.assert_array_equal(one.to_numpy(), plate.sel(well=[well]).to_numpy())
    assert list(catalog.well(folder=str(tmp_path)).to_xarray()["well"].to_numpy()) == ["B03"]


def test_satellite_scenes_have_times_bands_and_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_satellite(tmp_path, times=3)
    monkeypatch.setenv("SCENES", str(tmp_path))
    source = open_catalog("satellite").scenes
    named = source.to_xarray()
    assert named.dims == ("time", "band", "y", "x")
    assert list(named["band"].to_numpy()) == ["02", "03", "04", "08", "8A"]
    assert named["time"].to_numpy()[0] == np.datetime64("2024-01-05T10:30:21")
    assert not named["is_missing"].any()
    assert float(named["x"][1] - named["x"][0]) == 10.0
    np.testing.assert_array_equal(named.to_numpy(), read_all(paths, 3, 5))

    paths[-1].unlink()
    source.relist()
    holed = source.to_xarray()
    assert int(holed["is_missing"].sum()) == 1
    assert not holed[-1, -1].any()


def test_satellite_rgb_is_in_the_order_of_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_satellite(tmp_path, times=2)
    monkeypatch.setenv("SCENES", str(tmp_path))
    named = open_catalog("satellite").rgb.to_xarray()
    assert list(named["band"].to_numpy()) == ["red", "green", "blue"]
    np.testing.assert_array_equal(named.to_numpy(), read_all(paths, 2, 5)[:, [2, 1, 0]])


def test_a_movie_says_itself_what_its_pages_are(tmp_path: Path) -> None:
    path = make_movie(tmp_path / "cells.ome.tif", times=4, metadata="ome")
    named = open_catalog("movie").movie(path=str(path)).to_xarray()
    assert named.sizes == {"t": 4, "c": 2, "y": 64, "x": 48}
    np.testing.assert_array_equal(named.to_numpy(), tifffile.imread(path))


def test_bare_pages_are_unravelled_by_the_entry(tmp_path: Path) -> None:
    path = make_movie(tmp_path / "pages.tif", times=4, channels=3, metadata="none")
    source = open_catalog("movie").interleaved(path=str(path), channels=3)
    named = source.to_xarray()
    assert named.sizes == {"t": 4, "c": 3, "y": 64, "x": 48}
    assert list(named["t"].to_numpy()) == [0.0, 2.5, 5.0, 7.5]
    expected = tifffile.imread(path).reshape(4, 3, 64, 48)
    np.testing.assert_array_equal(named.to_numpy(), expected)


def test_a_bucket_is_opened_with_keys_from_the_environment(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_lattice(tmp_path, channels=2, times=2)
    s3_server.put("scans", {f"raw/{path.name}": path.read_bytes() for path in paths})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.storage_options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.storage_options["secret"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    source = open_catalog("s3").lattice(bucket="scans")
    np.testing.assert_array_equal(source.read(), read_all(paths, 2, 2))
    assert s3_server.storage_options["secret"] not in source.yaml()


def test_all_catalogs_hang_in_one_tree(tmp_path: Path) -> None:
    tree = open_catalog("all")
    entries = {f"{name}.{entry}" for name in tree for entry in tree[name]}
    assert entries == {
        *("lattice.lattice", "s3.lattice", "plate.plate", "plate.well"),
        *("satellite.scenes", "satellite.rgb", "movie.movie", "movie.interleaved"),
    }
    make_plate(tmp_path, fields=1, planes=1)
    assert tree.plate.well(folder=str(tmp_path)).to_dask().shape == (1, 1, 1, 2, 1, 48, 64)


def test_every_catalog_opens_as_it_stands_after_make_catalogs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LATTICE", "SCENES"):
        monkeypatch.delenv(name, raising=False)
    copies = shutil.copytree(CATALOGS, tmp_path / "catalogs")
    make_data = load_script(CATALOGS / "make_data.py")
    (tmp_path / "demo_output" / "plate").mkdir(parents=True)
    (tmp_path / "demo_output" / "plate" / "of_an_earlier_run.tif").touch()
    assert make_data.main(copies) == 0
    opened = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    written = {
        f"{path.stem}.{name}"
        for path in CATALOGS.glob("*.yml")
        for name in yaml.safe_load(path.read_text())["sources"]
        if path.stem != "all"
    }
    assert opened == written
    for name, source in make_data.entries(intake.open_catalog(str(copies / "all.yml"))):
        assert source.read().any(), name


@pytest.mark.parametrize("path", sorted(CATALOGS.glob("*.yml")), ids=lambda path: path.stem)
def test_every_entry_describes_itself_and_its_parameters(path: Path) -> None:
    for name, entry in yaml.safe_load(path.read_text())["sources"].items():
        assert entry["description"], name
        for parameter in entry.get("parameters", {}).values():
            assert {"description", "type", "default"} <= set(parameter)


def test_the_demo_runs_twice_and_draws_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "demo_output"
    before = (CATALOGS / "lattice.yml").read_bytes()
    # The first run is another process's, as it is where make is called twice.
    command = [sys.executable, "-W", "error", DEMO, "--output", output]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert load_demo().main(["--output", str(output)]) == 0
    second = capsys.readouterr().out
    assert second.rstrip().endswith("Done.")
    assert len(second.splitlines()) < 150, "a demo is read"
    assert len(second.splitlines()) == len(first.stdout.splitlines())
    assert (CATALOGS / "lattice.yml").read_bytes() == before
    picture = imagecodecs.imread(output / "projection.png")
    # Every channel's colour is there, and most of the picture is dark.
    assert picture.reshape(-1, 3).max(axis=0).min() > 200
    assert np.median(picture) == 0


def test_the_demo_says_by_its_status_that_the_copy_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = load_demo()
    monkeypatch.setattr(demo, "_export", lambda source, target: False)
    assert demo.main(["--output", str(tmp_path)]) == 1
    assert "differs" in capsys.readouterr().out
