"""Indexes of plates as lists of files: a public CellVoyager plate, and Harmony's format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from intake_tiffstack import open_stack
from intake_tiffstack.errors import OptionError
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
        assert float(place.stage_y_um) == float(y)
        assert float(place.stage_z_um) == float(z)
        if field == 2 and plane == 3:
            pixels = tifffile.imread(folder / name)
            np.testing.assert_array_equal(place[..., ::100, ::100], pixels[::100, ::100])
    by_names = open_stack(str(folder), pattern="cv8000", exclude=["DC_*", "SC_*"])
    assert by_names.shape == tuple(by_names.sizes.values())
    assert sorted(by_names.shape) == sorted(stack.shape)


HARMONY = """<?xml version="1.0" encoding="utf-8"?>
<EvaluationInputData xmlns="http://www.perkinelmer.com/PEHH/HarmonyV{version}" Version="1">
  <Plates><Plate><PlateID>p</PlateID><Well id="0301" /></Plate></Plates>
  <Wells><Well><id>0301</id><Row>3</Row><Col>1</Col><Image id="0301K1F1P1R1" /></Well></Wells>
  {maps}
  <Images>{images}</Images>
</EvaluationInputData>"""

CHANNELS = {1: ("DAPI", 375, 456), 2: ("GFP", 488, 525)}


def write_plate(folder: Path, version: int) -> dict[tuple[str, int, int, int], Any]:
    """Write a plate as Harmony 5 or 6 does; return the pixels by well, field, plane and channel."""
    (folder / "Images").mkdir()
    expected, images, maps = {}, "", ""
    described = {
        c: f"<ChannelName>{name}</ChannelName>"
        f'<MainExcitationWavelength Unit="nm">{excitation}</MainExcitationWavelength>'
        f'<MainEmissionWavelength Unit="nm">{emission}</MainEmissionWavelength>'
        for c, (name, excitation, emission) in CHANNELS.items()
    }
    if version == 6:
        entries = "".join(f'<Entry ChannelID="{c}">{text}</Entry>' for c, text in described.items())
        maps = f"<Maps><Map>{entries}</Map></Maps>"
    for row, column in ((3, 1), (16, 24)):
        for field in (1, 2):
            for plane in (1, 2, 3):
                for c in CHANNELS:
                    name = f"r{row:02d}c{column:02d}f{field:02d}p{plane:02d}-ch{c}sk1fk1fl1.tiff"
                    pixels = np.full((4, 5), len(expected), "u2")
                    tifffile.imwrite(folder / "Images" / name, pixels)
                    expected[("C01", "P24")[row == 16], field, plane, c] = pixels
                    own = described[c] if version == 5 else ""
                    images += (
                        f"<Image><id>{name}</id><State>Ok</State><URL>{name}</URL><Row>{row}</Row>"
                        f"<Col>{column}</Col><FieldID>{field}</FieldID><PlaneID>{plane}</PlaneID>"
                        f"<TimepointID>0</TimepointID><ChannelID>{c}</ChannelID>{own}"
                        f'<PositionX Unit="m">{-0.000324 * field}</PositionX>'
                        f'<PositionY Unit="m">{0.0001 * field}</PositionY>'
                        f'<PositionZ Unit="m">{2e-06 * plane}</PositionZ>'
                        "<AbsTime>2024-05-01T10:00:00.5+02:00</AbsTime></Image>"
                    )
    text = HARMONY.format(version=version, maps=maps, images=images)
    (folder / "Images" / "Index.xml").write_text(text, encoding="utf-8-sig")
    return expected


@pytest.mark.parametrize("version", [5, 6])
def test_a_harmony_plate_opens_by_its_index(tmp_path: Path, version: int) -> None:
    expected = write_plate(tmp_path, version)
    stack = open_stack(str(tmp_path / "Images" / "Index.xml"))
    array = stack.to_xarray()
    for (well, field, plane, c), pixels in expected.items():
        found = array.sel(well=well, field=field, z=plane, c=c).squeeze()
        np.testing.assert_array_equal(found, pixels)
        assert float(found.stage_x_um) == pytest.approx(-324 * field)
        assert float(found.stage_y_um) == pytest.approx(100 * field)
        assert float(found.stage_z_um) == pytest.approx(2 * plane)
        assert float(found.emission_nm) == CHANNELS[c][2]
        assert found.acquired.values == np.datetime64("2024-05-01T08:00:00.5")
    assert stack.channel_names == ["DAPI", "GFP"]
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
