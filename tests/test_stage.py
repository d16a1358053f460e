"""Positions of the stage, as coordinates and in copies: ome-types and tifffile are the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import ome_types
import pytest
import tifffile
import zarr
from ome_types import model
from yaozarrs import v04, v05

import intake_tiffstack
from intake_tiffstack import TiffStackZarrSource, open_stack
from ome_sets import SCHEMA
from shared_data import SHARED, needs_shared


def write_position(path: Path, place: tuple[float, float, float], unit: str = "µm") -> None:
    """Write a stack of two planes by ome-types, which says where the stage was."""
    z, y, x = place
    planes = [
        model.Plane(
            the_t=0,
            the_c=0,
            the_z=i,
            position_x=x,
            position_y=y,
            position_z=z + i,
            position_x_unit=unit,
            position_y_unit=unit,
            position_z_unit=unit,
        )
        for i in range(2)
    ]
    pixels = model.Pixels(
        id="Pixels:0",
        dimension_order="XYZCT",
        type="uint16",
        size_x=6,
        size_y=4,
        size_z=2,
        size_c=1,
        size_t=1,
        physical_size_x=0.5,
        physical_size_y=0.5,
        planes=planes,
        tiff_data_blocks=[model.TiffData(plane_count=2)],
    )
    ome = model.OME(images=[model.Image(id="Image:0", pixels=pixels)])
    path.parent.mkdir(exist_ok=True, parents=True)
    data = np.full((2, 4, 6), int(x) % 999, "u2")
    text = ome_types.to_xml(ome).encode()
    tifffile.imwrite(path, data, photometric="minisblack", metadata=None, description=text)


HEAD = '<?xml version="1.0" encoding="UTF-8"?>'

PLACES = {
    ("A01", 0): (1.0, 10.0, 20.0),
    ("A01", 1): (2.0, 10.0, 23.0),
    ("B02", 0): (3.0, 90.0, 120.0),
    ("B02", 1): (4.0, 91.5, 123.25),
}


@pytest.mark.parametrize(("unit", "factor"), [("µm", 1.0), ("mm", 1000.0)])
def test_positions_lie_along_wells_and_fields(tmp_path: Path, unit: str, factor: float) -> None:
    for (well, field), place in PLACES.items():
        for t in range(2):
            write_position(tmp_path / f"{well}_f{field}_t{t}.ome.tif", place, unit)
    array = open_stack(str(tmp_path), pattern="{well}_f{field:d}_t{t:d}.ome.tif").to_xarray()
    for axis, letter in enumerate("zyx"):
        coord = array[f"stage_{letter}_um"]
        assert coord.dims == ("well", "field")
        assert coord.attrs["units"] == "micrometer"
        for (well, field), place in PLACES.items():
            assert coord.sel(well=well, field=field) == pytest.approx(place[axis] * factor)


def test_a_place_without_a_file_has_none_and_unknown_units_give_nothing(tmp_path: Path) -> None:
    for (well, field), place in PLACES.items():
        if (well, field) != ("B02", 1):
            write_position(tmp_path / f"{well}_f{field}.ome.tif", place)
    options: dict[str, Any] = {"pattern": "{well}_f{field:d}.ome.tif", "missing": "fill"}
    array = open_stack(str(tmp_path), **options).to_xarray()
    np.testing.assert_array_equal(array.stage_x_um, [[20, 23], [120, np.nan]])
    for (well, field), place in PLACES.items():
        write_position(tmp_path / f"{well}_f{field}.ome.tif", place, "reference frame")
    assert not any(name.startswith("stage") for name in open_stack(str(tmp_path), **options).coords)


def test_positions_of_a_list_of_files(tmp_path: Path) -> None:
    paths = []
    for i, place in enumerate(PLACES.values()):
        paths.append(str(tmp_path / f"{i}.ome.tif"))
        write_position(tmp_path / f"{i}.ome.tif", place)
    array = open_stack(paths).to_xarray()
    np.testing.assert_array_equal(array.stage_x_um, [20, 23, 120, 123.25])
    assert array.stage_x_um.dims == ("file",)


def test_all_images_of_a_file_have_theirs(tmp_path: Path) -> None:
    images = "".join(
        f'<Image ID="Image:{i}"><StageLabel Name="Pos{i}" X="{7 * i}" XUnit="mm"/>'
        f'<Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint8" SizeX="5" SizeY="4" '
        f'SizeZ="1" SizeC="1" SizeT="1"><TiffData IFD="{i}" PlaneCount="1"/>'
        '<Plane TheZ="0" TheT="0" TheC="0" '
        f'PositionY="{i + 0.5}" PositionYUnit="µm"/></Pixels></Image>'
        for i in range(3)
    )
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        np.zeros((3, 4, 5), "u1"),
        photometric="minisblack",
        metadata=None,
        description=f'{HEAD}<OME xmlns="{SCHEMA}">{images}</OME>'.encode(),
    )
    for options in ({}, {"sets": "ome"}):
        array = open_stack(str(path), series="all", **options).to_xarray()
        np.testing.assert_array_equal(array.stage_y_um, [0.5, 1.5, 2.5])
        np.testing.assert_array_equal(array.stage_x_um, [0, 7000, 14000])  # of the label
        assert array.stage_y_um.dims == ("position",)


def test_micro_managers_pages_say_where_the_stage_was(tmp_path: Path) -> None:
    for i in range(3):
        page = {"XPositionUm": 100.5 * i, "YPositionUm": -3.0, "PixelSizeUm": 0.5}
        tags = [(51123, "s", 0, json.dumps(page), True)]
        tifffile.imwrite(
            tmp_path / f"p{i}.tif", np.zeros((4, 5), "u1"), extratags=tags, metadata=None
        )
    array = open_stack(str(tmp_path), pattern="p{position:d}.tif").to_xarray()
    np.testing.assert_array_equal(array.stage_x_um, [0, 100.5, 201])
    np.testing.assert_array_equal(array.stage_y_um, [-3, -3, -3])


@needs_shared
def test_metaxpress_sites_are_where_tifffile_reads_them() -> None:
    assert SHARED is not None
    folder = SHARED / "sequences/faim_metaxpress_timepoint_dirs"
    stack = open_stack(str(folder / "TimePoint_*/*_w1.TIF"), pattern="imagexpress")
    array = stack.to_xarray()
    assert array.stage_x_um.dims == ("well", "site")
    for url, cell in zip(stack.files.url, stack.files.cell, strict=True):
        with tifffile.TiffFile(url) as tif:
            plane = tif.metaseries_metadata["PlaneInfo"]
        place = array.isel(dict(zip(("well", "site"), cell[:2], strict=True)))
        assert float(place.stage_x_um) == plane["stage-position-x"]
        assert float(place.stage_y_um) == plane["stage-position-y"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_each_image_of_an_ome_zarr_lies_where_the_stage_was(tmp_path: Path, version: Any) -> None:
    for (well, field), place in PLACES.items():
        write_position(tmp_path / "raw" / f"{well}_f{field}.ome.tif", place)
    stack = open_stack(str(tmp_path / "raw"), pattern="{well}_f{field:d}.ome.tif")
    stack.export(tmp_path / "plate.zarr", format="ome-zarr", version=version)
    models = {"0.4": v04.Image, "0.5": v05.Image}
    for (well, field), (_, y, x) in PLACES.items():
        path = tmp_path / "plate.zarr" / well[0] / well[1:] / str(field)
        attributes = dict(zarr.open_group(str(path), mode="r").attrs)
        image = models[version].model_validate(attributes.get("ome", attributes))
        scale, start = image.multiscales[0].datasets[0].coordinateTransformations
        assert scale.scale[-2:] == [0.5, 0.5]
        assert start.translation[-2:] == [y, x]
        source = TiffStackZarrSource(
            str(tmp_path / "plate.zarr"), image=f"{well[0]}/{well[1:]}/{field}"
        )
        array = source.to_xarray()
        np.testing.assert_allclose(array.y, y + 0.5 * np.arange(4))
        np.testing.assert_allclose(array.x, x + 0.5 * np.arange(6))
        assert float(array.stage_x_um) == x
        np.testing.assert_array_equal(array, np.full((2, 4, 6), int(x)))


def test_labels_lie_where_their_image_does(tmp_path: Path) -> None:
    write_position(tmp_path / "raw" / "a.ome.tif", (1.0, 10.0, 20.0))
    stack = open_stack([str(tmp_path / "raw" / "a.ome.tif")])
    stack.export(tmp_path / "a.zarr", format="ome-zarr")
    array = stack.to_xarray().isel(file=0)
    assert float(array.stage_x_um) == 20
    labels = open_stack([str(tmp_path / "raw" / "a.ome.tif")])
    pixels = labels.to_xarray().isel(file=0)
    intake_tiffstack.export(pixels, tmp_path / "a.zarr", like=labels, labels="nuclei")
    found = []
    for path in ("a.zarr", "a.zarr/labels/nuclei"):
        attributes = dict(zarr.open_group(str(tmp_path / path), mode="r").attrs)
        steps = attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        found.append(steps[1]["translation"][-2:])
    assert found == [[10, 20], [10, 20]]
