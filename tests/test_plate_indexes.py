"""Indexes of plates as lists of files: a public CellVoyager plate, and Harmony's format."""

from __future__ import annotations

import itertools
import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from intake import open_tiffstack_zarr

from intake_tiffstack import TiffStackSource, open_stack, suggest
from intake_tiffstack.errors import FilesNotFoundError, OptionError, TiffStackWarning
from plate_files import (
    CHANNELS,
    write,
    write_cell_voyager,
    write_harmony,
    write_htd,
    write_incell,
    write_plate,
    write_scanr,
)
from servers import serve_s3
from shared_data import SHARED, needs_shared


@needs_shared
def test_a_cellvoyager_plate_opens_by_its_index() -> None:
    assert SHARED is not None
    folder = SHARED / "sequences/faim_cv8000_yokogawa"
    index = folder / "MeasurementData.mlf"
    stack = open_stack(str(index))
    counts = {"well": 3, "field": 4, "t": 1, "c": 2, "z": 4}
    assert {dim: stack.sizes[dim] for dim in counts} == counts
    array = stack.to_xarray()
    text = index.read_text()
    records = re.findall(
        r'bts:X="([^"]*)" bts:Y="([^"]*)" bts:Z="([^"]*)"[^>]*>([^<]*\.tif)<', text
    )
    assert len(records) == len(stack.files) == 96
    for x, y, z, name in records:
        found = re.search(r"_([A-P]\d\d)_T(\d{4})F(\d{3})L01A\d\dZ(\d\d)C(\d\d)\.tif", name)
        assert found is not None
        well, t, field, plane, c = found[1], *map(int, found.groups()[1:])
        place = array.sel(well=well, t=t, field=field, z=plane, c=c)
        assert float(place.stage_x_um) == float(x)
        assert float(place.stage_y_um) == -float(y)  # down, as lines count
        assert float(place.stage_z_um) == float(z)
        if field == 2 and plane == 3:
            pixels = tifffile.imread(folder / name)
            np.testing.assert_array_equal(place[..., ::100, ::100], pixels[::100, ::100])
    by_names = open_stack(str(folder), pattern="cv8000", exclude=["DC_*", "SC_*"])
    assert by_names.shape == tuple(by_names.sizes.values())
    assert sorted(by_names.shape) == sorted(stack.shape)


@pytest.mark.parametrize("version", [5, 7])
def test_a_harmony_plate_opens_by_its_index(tmp_path: Path, version: int) -> None:
    expected = write_plate(tmp_path, version)
    stack = open_stack(str(tmp_path / "Images" / "Index.xml"))
    array = stack.to_xarray()
    for (well, field, plane, c), pixels in expected.items():
        found = array.sel(well=well, field=field, z=plane, c=c).squeeze()
        np.testing.assert_array_equal(found, pixels)
        assert float(found.stage_x_um) == pytest.approx(-324 * field)
        assert float(found.stage_y_um) == pytest.approx(-100 * field)
        assert float(found.stage_z_um) == pytest.approx(2 * plane)
        assert float(found.emission_nm) == CHANNELS[c][2]
        assert found.acquired.values == np.datetime64("2024-05-01T08:00:00.5")
    assert stack.channel_names == ["DAPI", "GFP"]
    assert stack.metadata["scale"] == {"z": 2.0, "y": 0.5, "x": 0.5}
    assert stack.metadata["objective"] == {"magnification": 20.0, "numerical_aperture": 1.0}
    assert stack.metadata["provenance"]["coords.well"] == "Index.xml"
    names = open_stack(str(tmp_path / "Images" / "Index.xml"), pattern="harmony", missing="fill")
    assert names.metadata["provenance"]["coords.field"] == "file names"
    assert float(array.exposure_s) == 0.06
    assert array.stage_x_um.dims == ("field",)
    assert array.emission_nm.dims == ("c",)


@pytest.mark.parametrize(
    "name", ["/etc/a.tif", "../a.tif", "http://127.0.0.1:1/a.tif", "C:\\a.tif"]
)
def test_an_index_names_files_of_its_own_folder_alone(tmp_path: Path, name: str) -> None:
    write_plate(tmp_path, 5)
    index = tmp_path / "Images" / "Index.xml"
    text = index.read_text(encoding="utf-8-sig")
    first = re.search("<URL>(.*?)</URL>", text)
    assert first is not None
    index.write_text(text.replace(first[0], f"<URL>{name}</URL>"))
    with pytest.raises(OptionError, match="outside of its folder"):
        _ = open_stack(str(index)).shape


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<a><b></a>", "cannot be read as the index"),
        ("<a/>", "names no image"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a/>', "entities"),
        ("<a><Image><URL>a.tif</URL></Image></a>", "cannot be read as the index"),
        (
            "<a><Image><URL>a.tif</URL><Row>0</Row><Col>1</Col><ChannelID>1</ChannelID></Image></a>",
            "do not count from 1",
        ),
    ],
)
def test_what_is_no_index_is_told(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "Index.idx.xml").write_text(text)
    with pytest.raises(OptionError, match=match):
        _ = open_stack(str(tmp_path / "Index.idx.xml")).shape


def test_a_channel_of_two_actions_has_them_as_a_field(tmp_path: Path) -> None:
    record = (
        '<bts:MeasurementRecord bts:Type="{kind}" bts:Column="1" bts:Row="2" bts:TimePoint="1" '
        'bts:FieldIndex="1" bts:ZIndex="1" bts:ActionIndex="{action}" bts:X="1" bts:Y="2" '
        'bts:Z="3" bts:Ch="1">a{action}.tif</bts:MeasurementRecord>'
    )
    for action in (1, 2):
        tifffile.imwrite(tmp_path / f"a{action}.tif", np.full((4, 5), action, "u1"))
    records = [("IMG", 1), ("IMG", 2), ("ERR", 3)]
    text = "".join(record.format(kind=kind, action=action) for kind, action in records)
    (tmp_path / "MeasurementData.mlf").write_text(
        f'<bts:MeasurementData xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0">{text}'
        "</bts:MeasurementData>"
    )
    stack = open_stack(str(tmp_path / "MeasurementData.mlf"), concat_dim="action")
    assert stack.sizes == {"action": 2, "y": 4, "x": 5}
    assert stack.read()[:, 0, 0].tolist() == [1, 2]
    assert str(stack.to_xarray().well.values) == "B01"


def test_rows_have_letters_and_columns_numbers_whatever_names_write(tmp_path: Path) -> None:
    for row, column in ((1, 3), (2, 3), (27, 3)):
        tifffile.imwrite(tmp_path / f"r{row:02d}c{column:02d}.tif", np.full((4, 5), row, "u1"))
    stack = open_stack(str(tmp_path), pattern="r{row:d}c{column:d}.tif")
    array = stack.to_xarray()
    assert array.row.values.tolist() == ["A", "B", "AA"]
    assert array.column.values.tolist() == [3]
    assert array.sel(row="AA", column=3).values[0, 0] == 27
    some = open_stack(str(tmp_path), pattern="r{row:d}c{column:d}.tif", sel={"row": [2, 27]})
    assert some.to_xarray().row.values.tolist() == ["B", "AA"]  # sel counts as the names do
    alone = open_stack(str(tmp_path), pattern="r{row:d}c{}.tif", concat_dim="row")
    assert alone.to_xarray().row.values.tolist() == [1, 2, 27]  # rows of nothing that has columns


@needs_shared
def test_settings_of_a_cellvoyager_describe_channels_and_pixels() -> None:
    assert SHARED is not None
    stack = open_stack(str(SHARED / "sequences/faim_cv8000_yokogawa"))  # the folder has an index
    assert stack.sizes["well"] == 3
    metadata = stack.metadata
    # as the settings' own editor shows them: 20x v2, 100 ms, BP445/45 and BP525/50, 0.325 um
    assert metadata["channel_names"] == ["405", "488"]
    assert metadata["channel_colors"] == ["#002fff", "#00ffa1"]
    assert metadata["excitation_wavelengths"] == [405, 488]
    assert metadata["emission_wavelengths"] == [445, 525]
    assert metadata["objective"] == {"model": "20x v2", "magnification": 20.0}
    assert metadata["scale"] == {"z": 3.0, "y": 0.325, "x": 0.325}
    assert set(metadata["units"].values()) == {"micrometer"}
    assert metadata["provenance"]["scale.y"].startswith("MeasurementData.mlf beside ")
    array = stack.to_xarray()
    assert float(array.exposure_s) == 0.1
    np.testing.assert_allclose(array.z_um, [0, 3, 6, 9])


@needs_shared
def test_a_metaxpress_plate_opens_by_its_folder() -> None:
    assert SHARED is not None
    folder = SHARED / "sequences/faim_metaxpress_timepoint_dirs"
    stack = open_stack(str(folder), layout="sidecar")
    counts = {"well": 2, "field": 2, "t": 3, "c": 1, "z": 1}
    assert {dim: stack.sizes[dim] for dim in counts} == counts
    assert stack.channel_names == ["DAPI"]
    array = stack.to_xarray()
    for path in folder.rglob("*.TIF"):
        t, well, site = re.findall(r"TimePoint_(\d)/9987_(B\d\d)_s(\d)_w1", str(path))[0]
        own = array.sel(t=int(t), well=well, field=int(site)).squeeze()
        np.testing.assert_array_equal(own, tifffile.imread(path))
        with tifffile.TiffFile(path) as tif:
            description = tif.pages[0].tags["ImageDescription"].value
        x = re.findall(r'id="stage-position-x" type="float" value="([^"]*)"', description)
        assert float(own.stage_x_um) == pytest.approx(float(x[0]))


def test_a_metaxpress_plate_without_its_projections_and_other_plates(tmp_path: Path) -> None:
    write_htd(tmp_path)
    expected = open_stack(tmp_path).read()
    write(tmp_path, "Other_A01_s1_w1.tif", 99)
    np.testing.assert_array_equal(open_stack(tmp_path).read(), expected)
    write(tmp_path, "Plate_A01_s1_w1.tif", 99)
    with pytest.warns(UserWarning, match="1 projections are left out beside 16 planes"):
        np.testing.assert_array_equal(open_stack(tmp_path).read(), expected)


def test_images_that_an_htd_does_not_plan_are_told(tmp_path: Path) -> None:
    write_htd(tmp_path)
    write(tmp_path, "ZStep_1/Plate_A02_s1_w3.tif", 99)
    with pytest.warns(UserWarning, match="plans neither the well nor the channel of 1 images"):
        _ = open_stack(tmp_path, missing="fill").sizes


@pytest.mark.parametrize(
    ("write_plate_files", "sizes", "wells", "channels"),
    [
        (write_incell, {"t": 2, "c": 2, "z": 1}, ["B03", "P24"], ["DAPI", "FITC - dsRed"]),
        # wells as labelled, and by number
        (write_scanr, {"t": 2, "c": 2, "z": 3}, ["B3", "H12"], ["GFP", "DAPI"]),
        (write_htd, {"t": 1, "c": 2, "z": 2}, ["A01", "P24"], ["DAPI, low", "Cy5"]),
    ],
    ids=["incell", "scanr", "metaxpress"],
)
def test_a_plate_opens_whole_by_its_folder(
    tmp_path: Path, write_plate_files: Any, sizes: Any, wells: list[str], channels: list[str]
) -> None:
    write_plate_files(tmp_path)
    stack = open_stack(tmp_path)
    array = stack.to_xarray()
    assert stack.sizes == {"well": 2, "field": 2, **sizes, "y": 4, "x": 5}
    planes = array[..., 0, 0].values.ravel()
    assert planes.tolist() == list(range(planes.size))
    assert array.well.values.tolist() == wells
    assert stack.channel_names == channels


def test_an_incell_index_describes_channels_pixels_and_times(tmp_path: Path) -> None:
    write_incell(tmp_path)
    stack = open_stack(tmp_path)
    metadata, array = stack.metadata, stack.to_xarray()
    assert metadata["emission_wavelengths"] == [455, 605]
    assert metadata["excitation_wavelengths"] == [350, 490]
    assert metadata["scale"] == {"y": 0.325, "x": 0.325, "t": 1.0}
    assert metadata["objective"] == {
        "model": "Nikon 20X",
        "magnification": 20.0,
        "numerical_aperture": 0.45,
    }
    assert array.exposure_s.values.tolist() == [0.2, 0.05]
    assert array.stage_x_um.values.tolist() == [-400, 400]
    assert array.stage_y_um.item() == 300
    assert array.acquired.values[1] == np.datetime64("2010-11-17T20:23:54")


def test_a_scanr_descriptor_describes_pixels_and_exposures(tmp_path: Path) -> None:
    write_scanr(tmp_path)
    stack = open_stack(tmp_path)
    assert stack.metadata["scale"] == {"t": 60.0, "y": 0.65, "x": 0.65}
    assert stack.to_xarray().exposure_s.values.tolist() == [0.08, 0.02]


# -- what describes pixels and is wrong ----------------------------------------------------------


HARMONY_FILE, SCANR_FILE = "Index.xml", "experiment_descriptor.xml"
FAULTS = [
    (write_harmony, HARMONY_FILE, 'X Unit="m"', 'X Unit="ell"', "no usable stage_x_um"),
    (write_harmony, HARMONY_FILE, "4e-06<", "1e400<", "no usable stage_z_um for 8 of 24 images"),
    (write_harmony, HARMONY_FILE, "10:00:00.5", "10:61:00", "no usable acquired for 24 of 24"),
    (write_harmony, HARMONY_FILE, ">456<", ">blue<", "no usable emission_nm for 12 of 24 images"),
    (write_harmony, HARMONY_FILE, ">5E-07<", ">-5<", "no usable pixel_y_um"),
    (write_incell, "p.xdce", '"455"', '"inf"', "no usable emission_nm for 8 of 16 images"),
    (write_incell, "p.xdce", '"20:23:53"', '"25:99"', "no usable acquired for 16 of 16"),
    (write_incell, "p.xdce", 'ms="1000"', 'ms="1e400"', "no usable acquired for 8 of 16"),
    (write_incell, "p.xdce", 'x="-400.0"', "", "no usable stage_x_um for 8 of 16"),
    (write_scanr, SCANR_FILE, ">0.65<", ">wide<", "no usable pixel_x_um"),
    (write_scanr, SCANR_FILE, ">60000<", ">nan<", "no usable interval_s"),
    (write_cell_voyager, "MeasurementData.mlf", 'bts:X="100"', "", "stage_x_um for 1 of 2 images"),
    (write_cell_voyager, "MeasurementData.mlf", "10:00:02", "2", "no usable acquired for 1 of 2"),
    (write_cell_voyager, "MeasurementDetail.mrf", "<bts:M", "<", "MeasurementDetail.mrf beside"),
    (write_cell_voyager, "MeasurementDetail.mrf", '="0.65"', '="wide"', "no usable pixel_x_um"),
    (write_cell_voyager, "s.mes", "</", "<", "s.mes beside the index is ignored, since its XML"),
    (write_cell_voyager, "s.mes", 'bts:ExposureTime="80"', "", "no usable exposure_s"),
    (write_htd, "Plate.HTD", '"YWells", 16', f'"YWells", {"9" * 30}', None),
    (write_htd, "Plate.HTD", '"NWavelengths", 2', '"NWavelengths", two', None),
    (write_htd, "Plate.HTD", '"NWavelengths", 2', '"NWavelengths"', None),
]


@pytest.mark.parametrize(
    ("write_files", "name", "old", "new", "fault"), FAULTS, ids=[f"{f[1]} {f[2]}" for f in FAULTS]
)
def test_what_describes_pixels_costs_none_where_it_is_wrong(
    tmp_path: Path, write_files: Any, name: str, old: str, new: str, fault: str | None
) -> None:
    write_files(tmp_path)
    expected = open_stack(tmp_path).read()
    path = tmp_path / name
    content = path.read_bytes().decode("latin-1")
    assert old in content
    path.write_bytes(content.replace(old, new).encode("latin-1"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stack = open_stack(tmp_path)
        np.testing.assert_array_equal(stack.read(), expected, strict=True)
        array = stack.to_xarray()
    assert {warning.category for warning in caught} <= {TiffStackWarning}
    texts = [str(warning.message) for warning in caught]
    assert any(fault in text for text in texts) if fault else not texts, texts
    for coord in array.coords.values():
        assert coord.dtype.kind != "f" or np.isfinite(coord).all()


# -- which of names and index counts -------------------------------------------------------------


def test_the_index_in_a_folder_counts_unless_an_option_says_how_names_are_read(
    tmp_path: Path,
) -> None:
    expected = write_plate(tmp_path, 5)
    folder = tmp_path / "Images"
    write(folder, "r99c99f01p01-ch1sk1fk1fl1.tiff", 99)  # in no index
    stack = open_stack(folder)
    assert stack.dims == ("well", "field", "t", "c", "z", "y", "x")
    assert len(stack.files) == len(expected)
    assert "Index.xml" in str(stack.report())
    assert open_stack(folder, layout="names", concat_dim="file").sizes["file"] == len(expected) + 1
    assert open_stack(folder, concat_dim="page").dims == ("page", "y", "x")
    by_names = open_stack(folder, pattern="harmony", sel={"row": [3, 16]}, missing="fill")
    assert by_names.sizes["row"] == 2
    index = open_stack(folder / "Index.xml", layout="names", concat_dim="file")
    assert index.sizes["file"] == len(expected)
    fields = open_stack(
        folder, layout="sidecar", concat_dim=["well", "z"], sel={"field": 1, "c": 2}
    )
    assert fields.dims == ("well", "z", "y", "x")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pattern": "harmony"}, "layout='sidecar' .* pattern has no effect"),
        ({"sets": "ome"}, "sets='ome' and layout='sidecar'"),
    ],
)
def test_layout_by_a_sidecar_takes_nothing_else(
    tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    write_plate(tmp_path, 5)
    with pytest.raises(OptionError, match=match):
        _ = open_stack(tmp_path / "Images", layout="sidecar", **options).sizes


def test_layout_by_a_sidecar_needs_one(tmp_path: Path) -> None:
    write(tmp_path, "a.tif", 1)
    with pytest.raises(FilesNotFoundError, match="has no index of a plate"):
        _ = open_stack(tmp_path, layout="sidecar").sizes
    with pytest.raises(OptionError, match="the one folder that it lies in"):
        _ = open_stack(tmp_path / "*.tif", layout="sidecar").sizes
    assert open_stack(tmp_path).sizes == {"file": 1, "y": 4, "x": 5}


def test_files_that_are_only_named_like_an_index_do_not_count(tmp_path: Path) -> None:
    write(tmp_path, "a.tif", 1)
    (tmp_path / "index.xml").write_text("<rss/>")
    (tmp_path / "labels.mlf").write_text("#!MLF!#")
    assert open_stack(tmp_path).sizes == {"file": 1, "y": 4, "x": 5}
    (tmp_path / "labels.mlf").unlink()
    with pytest.raises(OptionError, match="names no image; layout='names' opens its folder"):
        _ = open_stack(tmp_path, layout="sidecar").sizes


def test_indexes_of_two_plates_in_a_folder_are_an_error(tmp_path: Path) -> None:
    write_plate(tmp_path, 5)
    folder = tmp_path / "Images"
    (folder / "MeasurementData.mlf").write_text("<MeasurementData/>")
    with pytest.raises(
        OptionError, match=r"2 indexes of plates, Index.xml and MeasurementData.mlf"
    ):
        _ = open_stack(folder).sizes
    assert open_stack(folder, layout="names", concat_dim="file").dims == ("file", "y", "x")
    (folder / "MeasurementData.mlf").unlink()
    (folder / "Index.idx.xml").write_bytes((folder / "Index.xml").read_bytes())
    assert open_stack(folder).sizes["well"] == 2  # one plate, told twice


def test_names_that_contradict_the_index_are_told(tmp_path: Path) -> None:
    write_plate(tmp_path, 5)
    index = tmp_path / "Images" / "Index.xml"
    text = index.read_text(encoding="utf-8-sig")
    names = "r03c01f01p01-ch1sk1fk1fl1.tiff", "r03c01f02p01-ch1sk1fk1fl1.tiff"
    swapped = text.replace(f"<URL>{names[0]}", "<URL>~").replace(
        f"<URL>{names[1]}", f"<URL>{names[0]}"
    )
    index.write_text(swapped.replace("<URL>~", f"<URL>{names[1]}"))
    with pytest.warns(
        UserWarning, match="has field [12] in its name, but field [12] in .*Index.xml"
    ):
        array = open_stack(index).to_xarray()
    own = array.sel(well="C01", field=1, z=1, c=1).squeeze()
    np.testing.assert_array_equal(own, tifffile.imread(index.parent / names[1]))


def test_files_of_an_index_that_are_gone_are_holes(tmp_path: Path) -> None:
    write_plate(tmp_path, 5)
    folder = tmp_path / "Images"
    for path in folder.glob("r16c24*"):  # a whole well
        path.unlink()
    with pytest.raises(FilesNotFoundError, match="names 24 files, but 12 of them are not there"):
        _ = open_stack(folder).sizes
    stack = open_stack(folder, missing="mask", fill_value=7)
    array = stack.to_xarray()
    assert array.well.values.tolist() == ["C01", "P24"]
    assert (array.sel(well="P24") == 7).all()
    assert array.is_missing.sel(well="P24").all()
    assert not array.is_missing.sel(well="C01").any()
    url = str(tmp_path / "copy.zarr")
    stack.export(url, format="ome-zarr")
    wells = json.loads((tmp_path / "copy.zarr/zarr.json").read_text())["attributes"]["ome"]["plate"]
    assert [well["path"] for well in wells["wells"]] == ["C/01"]


def test_a_copy_with_holes_is_stale_once_a_file_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plate(tmp_path, 5)
    late = tmp_path / "Images" / "r16c24f02p03-ch2sk1fk1fl1.tiff"
    pixels = tifffile.imread(late)
    content = late.read_bytes()
    late.unlink()
    monkeypatch.setenv("INTAKE_PERSIST_PATH", str(tmp_path / "store"))

    def own(**options: Any) -> Any:
        source = TiffStackSource(str(tmp_path / "Images"), layout="sidecar", **options)
        return source.to_xarray().sel(well="P24", field=2, z=3, c=2).squeeze().values

    TiffStackSource(str(tmp_path / "Images"), layout="sidecar", missing="fill").persist()
    assert (own(missing="fill") == 0).all()  # the copy
    late.write_bytes(content)
    with pytest.warns(UserWarning, match="1 changed"):
        np.testing.assert_array_equal(own(missing="fill"), pixels)
    with pytest.warns(UserWarning, match="it is made anew"):
        np.testing.assert_array_equal(own(missing="fill", on_stale="refresh"), pixels)


def test_a_plate_on_s3_is_listed_once_and_opens_by_its_index(tmp_path: Path) -> None:
    expected = write_plate(tmp_path, 7)
    with serve_s3() as server:
        contents = {p.name: p.read_bytes() for p in (tmp_path / "Images").iterdir()}
        server.put("plates", {f"a/Images/{name}": data for name, data in contents.items()})
        stack = open_stack("s3://plates/a/Images", storage_options=server.storage_options)
        array = stack.to_xarray()
        for (well, field, plane, c), pixels in expected.items():
            own = array.sel(well=well, field=field, z=plane, c=c).squeeze()
            np.testing.assert_array_equal(own, pixels)
        assert stack.metadata["scale"]["y"] == 0.5
        stack = open_stack("s3://plates/a/Images/Index.xml", storage_options=server.storage_options)
        assert stack.sizes == dict(array.sizes)


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_fields_of_a_plate_lie_where_the_stage_was(tmp_path: Path, version: str) -> None:
    write_plate(tmp_path, 7)
    target = tmp_path / "plate.zarr"
    open_stack(tmp_path / "Images").export(str(target), format="ome-zarr", version=version)
    for well, field in itertools.product(("C/01", "P/24"), (1, 2)):
        image = target / well / str(field - 1)
        text = (image / (".zattrs" if version == "0.4" else "zarr.json")).read_text()
        attributes = json.loads(text)
        attributes = attributes if version == "0.4" else attributes["attributes"]["ome"]
        (multiscale,) = attributes["multiscales"]
        axes = multiscale.get("axes") or multiscale["coordinateSystems"][0]["axes"]
        first = multiscale["datasets"][0]["coordinateTransformations"]
        first = first[0]["transformations"] if version == "0.6" else first
        found = dict(zip([axis["name"] for axis in axes], first[1]["translation"], strict=True))
        assert {a: found[a] for a in "zyx"} == {"z": 2.0, "y": -100.0 * field, "x": -324.0 * field}
    again = open_tiffstack_zarr(str(target), image="C/01/1").to_xarray()
    assert float(again.x[0]) == -648
    assert float(again.stage_x_um) == -648


def test_planes_taken_elsewhere_have_no_place_together(tmp_path: Path) -> None:
    rows = ["url,well,field,t,stage_x_um,stage_y_um,pixel_x_um,pixel_y_um"]
    for well, t in itertools.product(("A01", "B02"), (0, 1)):
        write(tmp_path, f"{well}_{t}.tif", t)
        drift = 0.2 * t if well == "A01" else 7 * t  # below and above a pixel
        rows.append(f"{well}_{t}.tif,{well},1,{t},{10 + drift},5,0.5,0.5")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    stack = open_stack(tmp_path / "table.csv")
    assert stack.metadata["scale"] == {"y": 0.5, "x": 0.5}
    stack.export(str(tmp_path / "plate.zarr"), format="ome-zarr")
    for path, translation in (("A/01/0", [0, 5, 10]), ("B/02/0", [0, 5, 0])):
        attributes = json.loads((tmp_path / "plate.zarr" / path / "zarr.json").read_text())
        (multiscale,) = attributes["attributes"]["ome"]["multiscales"]
        found = multiscale["datasets"][0]["coordinateTransformations"][1]["translation"]
        assert found == translation


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_acquisitions_of_a_plate_are_listed_and_named(tmp_path: Path, version: Any) -> None:
    fields = {("A01", "before"): 2, ("A01", "after"): 1, ("B02", "after"): 3}
    for value, ((well, acquisition), count) in enumerate(fields.items()):
        for field in range(count):
            write(tmp_path, f"{well}_{acquisition}_f{field}.tif", 10 * value + field)
    stack = open_stack(
        tmp_path,
        pattern="{well}_{acquisition}_f{field:d}.tif",
        labels={"acquisition": ["before", "after"]},
        missing="fill",
    )
    assert stack.dims == ("well", "acquisition", "field", "y", "x")
    target = tmp_path / "plate.zarr"
    stack.export(str(target), format="ome-zarr", version=version)

    def attributes(path: str) -> dict[str, Any]:
        name = ".zattrs" if version == "0.4" else "zarr.json"
        found = json.loads((target / path / name).read_text())
        return found if version == "0.4" else found["attributes"]["ome"]

    plate = attributes(".")["plate"]
    assert plate["field_count"] == 3
    assert plate["acquisitions"] == [
        {"id": 0, "name": "before", "maximumfieldcount": 2},
        {"id": 1, "name": "after", "maximumfieldcount": 3},
    ]
    assert attributes("A/01")["well"]["images"] == [
        {"path": "0", "acquisition": 0},
        {"path": "1", "acquisition": 0},
        {"path": "2", "acquisition": 1},
    ]
    for path, value in (("A/01/1", 1), ("A/01/2", 10), ("B/02/2", 22)):
        image = open_tiffstack_zarr(str(target), image=path)
        assert int(image.to_dask()[..., 0, 0].compute()) == value


def test_wells_of_1536_stand_as_on_the_plate(tmp_path: Path) -> None:
    wells = ["AF48", "A01", "AA01", "Z02", "B10", "B09"]
    for value, well in enumerate(wells):
        write(tmp_path, f"{well}.tif", value)
    ordered = ["A01", "B09", "B10", "Z02", "AA01", "AF48"]
    stack = open_stack(tmp_path, pattern="{well}.tif")
    assert stack.to_xarray().well.values.tolist() == ordered
    assert stack.read()[:, 0, 0].tolist() == [wells.index(well) for well in ordered]
    some = open_stack(tmp_path, pattern="{well}.tif", sel={"well": {"from": "B10", "to": "AA01"}})
    assert some.to_xarray().well.values.tolist() == ["B10", "Z02", "AA01"]
    stack.export(str(tmp_path / "p.zarr"), format="ome-zarr")
    plate = json.loads((tmp_path / "p.zarr/zarr.json").read_text())["attributes"]["ome"]["plate"]
    assert [row["name"] for row in plate["rows"]] == ["A", "B", "Z", "AA", "AF"]


def test_the_index_is_suggested_first(tmp_path: Path) -> None:
    write_plate(tmp_path, 5)
    found = suggest(tmp_path / "Images")
    assert found.best is not None
    assert found.best.options["layout"] == "sidecar"
    assert found.best.is_whole
    assert "Index.xml says which file is what" in str(found)
    assert found[1].options["pattern"] == "harmony"
    (tmp_path / "Images" / "Index.xml").unlink()
    assert suggest(tmp_path / "Images")[0].options["pattern"] == "harmony"


def test_a_plate_in_an_archive_opens_by_its_index(tmp_path: Path) -> None:
    expected = write_plate(tmp_path, 7)
    with zipfile.ZipFile(tmp_path / "plate.zip", "w") as archive:
        for path in (tmp_path / "Images").iterdir():
            archive.write(path, f"Images/{path.name}")
    for inside in ("Images", "Images/Index.xml"):
        array = open_stack(f"zip://{inside}::{tmp_path}/plate.zip").to_xarray()
        own = array.sel(well="P24", field=2, z=3, c=1).squeeze()
        np.testing.assert_array_equal(own, expected["P24", 2, 3, 1])


def test_a_metaxpress_plate_on_s3_has_its_folders_below(tmp_path: Path) -> None:
    write_htd(tmp_path)
    with serve_s3() as server:
        contents = {
            f"a/{path.relative_to(tmp_path).as_posix()}": path.read_bytes()
            for path in tmp_path.rglob("*.*")
        }
        server.put("plates", contents)
        stack = open_stack("s3://plates/a", storage_options=server.storage_options)
        assert stack.channel_names == ["DAPI, low", "Cy5"]
        assert stack.read()[..., 0, 0].ravel().tolist() == list(range(16))


PHENIX = """\ufeff<?xml version="1.0" encoding="utf-8"?>
<EvaluationInputData xmlns:xsd="http://www.w3.org/2001/XMLSchema" Version="2"
  xmlns="43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7">
  <InstrumentType>Phenix</InstrumentType>
  <Plates><Plate><PlateID>p</PlateID><Well id="0101" /></Plate></Plates>
  <Wells><Well><id>0101</id><Row>1</Row><Col>1</Col><Image id="0101K1F1P1R4" /></Well></Wells>
  <Maps>
    <Map><Entry ChannelID="4"><FlatfieldProfile>{Background: {Character: Null}, Channel: 4,
      ChannelName: "405ex, 570-630-em)"}</FlatfieldProfile></Entry></Map>
    <Map><Entry ChannelID="4"><SkewcropParameters>H4sIAAAA</SkewcropParameters></Entry></Map>
    <Map><Entry ChannelID="4"><ChannelName>405ex, 570-630-em)</ChannelName>
      <ImageResolutionX Unit="m">2.96688132474701E-07</ImageResolutionX>
      <ImageResolutionY Unit="m">2.96688132474701E-07</ImageResolutionY>
      <MainExcitationWavelength Unit="nm">405</MainExcitationWavelength>
      <MainEmissionWavelength Unit="nm">599</MainEmissionWavelength>
      <ObjectiveMagnification Unit="">20</ObjectiveMagnification>
      <ObjectiveNA Unit="">1</ObjectiveNA><ExposureTime Unit="s">0.035</ExposureTime>
      <OrientationMatrix>[[0.994724,0,0,47.2],[0,-0.994724,0,-7.5]]</OrientationMatrix>
    </Entry></Map>
  </Maps>
  <Images><Image Version="1"><id>0101K1F1P1R4</id><State>Ok</State>
    <URL>r01c01f01p01-ch4sk1fk1fl1.tiff</URL><Row>1</Row><Col>1</Col><FieldID>1</FieldID>
    <PlaneID>1</PlaneID><TimepointID>1</TimepointID><SequenceID>1</SequenceID>
    <GroupID>1</GroupID><ChannelID>4</ChannelID><FlimID>1</FlimID>
    <PositionX Unit="m">0</PositionX><PositionY Unit="m">0</PositionY>
    <PositionZ Unit="m">-5E-06</PositionZ><AbsPositionZ Unit="m">0.134650007</AbsPositionZ>
    <AbsTime>2024-06-24T11:48:56.0766001-04:00</AbsTime></Image></Images>
</EvaluationInputData>"""


def test_an_index_as_an_opera_phenix_writes_it(tmp_path: Path) -> None:
    # an image of a public plate; the values are those that pe2loaddata reads of it
    (tmp_path / "Index.xml").write_text(PHENIX, encoding="utf-8")
    write(tmp_path, "r01c01f01p01-ch4sk1fk1fl1.tiff", 3)
    stack = open_stack(tmp_path)
    array = stack.to_xarray()
    assert array.well.values.tolist() == ["A01"]
    assert array.c.values.tolist() == [4]
    metadata = stack.metadata
    assert metadata["channel_names"] == ["405ex, 570-630-em)"]
    assert metadata["excitation_wavelengths"] == [405]
    assert metadata["emission_wavelengths"] == [599]
    assert metadata["objective"] == {"magnification": 20.0, "numerical_aperture": 1.0}
    assert metadata["scale"]["x"] == pytest.approx(0.296688132474701)
    assert metadata["acquired"].startswith("2024-06-24T15:48:56.0766")
    assert float(array.exposure_s) == 0.035
    assert float(array.stage_z_um) == -5
    assert "sequence" not in array.coords
