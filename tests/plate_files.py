"""Small plates as instruments write them: TIFFs, and the index beside them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import tifffile


def write(folder: Path, name: str, value: int) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full((4, 5), value, "u2"))


HARMONY = """<?xml version="1.0" encoding="utf-8"?>
<EvaluationInputData xmlns="{namespace}HarmonyV{version}" Version="1">
  <Plates><Plate><PlateID>p</PlateID><Well id="0301" /></Plate></Plates>
  <Wells><Well><id>0301</id><Row>3</Row><Col>1</Col><Image id="0301K1F1P1R1" /></Well></Wells>
  {maps}
  <Images>{images}</Images>
</EvaluationInputData>"""


CHANNELS = {1: ("DAPI", 375, 456), 2: ("GFP", 488, 525)}


def write_plate(folder: Path, version: int) -> dict[tuple[str, int, int, int], Any]:
    """Write a plate as Harmony 5 or 7 does; return the pixels by well, field, plane and channel."""
    (folder / "Images").mkdir()
    expected, images, maps = {}, "", ""
    described = {
        c: f"<ChannelName>{name}</ChannelName>"
        f'<MainExcitationWavelength Unit="nm">{excitation}</MainExcitationWavelength>'
        f'<MainEmissionWavelength Unit="nm">{emission}</MainEmissionWavelength>'
        '<ImageResolutionX Unit="m">5E-07</ImageResolutionX>'
        '<ImageResolutionY Unit="m">5E-07</ImageResolutionY>'
        '<ObjectiveMagnification Unit="">20</ObjectiveMagnification>'
        '<ObjectiveNA Unit="">1</ObjectiveNA><ExposureTime Unit="s">0.06</ExposureTime>'
        for c, (name, excitation, emission) in CHANNELS.items()
    }
    if version == 7:
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
    namespace = {5: "http://www.perkinelmer.com/PEHH/", 7: "43B2A954-E3C3-47E1-B392-6635266B0DD3/"}
    text = HARMONY.format(namespace=namespace[version], version=version, maps=maps, images=images)
    (folder / "Images" / "Index.xml").write_text(text, encoding="utf-8-sig")
    return expected


def write_harmony(folder: Path) -> None:
    write_plate(folder, 5)
    for path in (folder / "Images").iterdir():
        path.rename(folder / path.name)


HTD = """"HTSInfoFile", Version 1.0
"Description", "a \xb5m"
"TimePoints", 1
"ZSeries", TRUE
"ZSteps", 2
"XWells", 24
"YWells", 16
"WellsSelection1", TRUE, FALSE
"WellsSelection16", {selected}
"XSites", 2
"YSites", 1
"NWavelengths", 2
"WaveName1", "DAPI, low"
"WaveName2", "Cy5"
"EndFile"
"""


def write_htd(folder: Path) -> None:
    selected = ", ".join(["FALSE"] * 23 + ["TRUE"])
    (folder / "Plate.HTD").write_bytes(HTD.format(selected=selected).encode("latin-1"))
    guid = "1E78EB128-BD0D-4D94-A6AD-3FF28BB1B105"[1:]
    for value, (well, site, wave, z) in enumerate(itertools.product("AP", (1, 2), (1, 2), (1, 2))):
        name = f"Plate_{well}{'01' if well == 'A' else '24'}_s{site}_w{wave}{guid}.tif"
        write(folder, f"ZStep_{z}/{name}", value)
        write(folder, f"ZStep_{z}/{name.replace('_w', '_thumb_w')}", 99)


XDCE = """<?xml version="1.0" encoding="ISO-8859-1" standalone="no"?>
<ImageStack>
  <Creation date="2010-11-17" time="20:23:53"/>
  <AutoLeadAcquisitionProtocol name="p">
    <ObjectiveCalibration magnification="20.0" numerical_aperture="0.45" pixel_height="0.325"
      pixel_width="0.325" objective_name="Nikon 20X" unit="\xb5m"/>
    <PlateMap><NamingRows begin="A"/><Offsets><offset_point index="0" x="-400.0" y="300.0"/>
      <offset_point index="1" x="400.0" y="300.0"/></Offsets></PlateMap>
    <Wavelengths>
      <Wavelength index="0" fusion_wave="false"><ExcitationFilter name="DAPI" wavelength="350"/>
        <EmissionFilter name="DAPI" wavelength="455"/>
        <Exposure time="200.0" unit="ms"/></Wavelength>
      <Wavelength index="1" fusion_wave="false"><ExcitationFilter name="FITC" wavelength="490"/>
        <EmissionFilter name="dsRed" wavelength="605"/><Exposure time="50" unit="ms"/></Wavelength>
    </Wavelengths>
  </AutoLeadAcquisitionProtocol>
  <Images number="{n}" path="p">{images}</Images>
</ImageStack>"""


XDCE_IMAGE = """<Image acquisition_time_ms="{ms}" filename="{name}"><Well label="{label}">
<Row number="{row}"/><Column number="{column}"/></Well><FocusPosition z="{z_um}"/>
<Identifier field_index="{field}" time_index="{t}" wave_index="{wave}" z_index="0"/></Image>"""


def write_incell(folder: Path) -> None:
    images = ""
    places = list(itertools.product(((2, 3), (16, 24)), (0, 1), (0, 1), (0, 1)))
    for value, ((row, column), field, t, wave) in enumerate(places):
        label = f"{'B' if row == 2 else 'P'} - {column:02d}"
        wv = ("DAPI - DAPI", "FITC - dsRed")[wave]
        ms = 1000 * t
        name = f"{label}(fld {field + 1} wv {wv} - time {t + 1} - {ms} ms).tif"
        write(folder, name, value)
        images += XDCE_IMAGE.format(
            ms=ms, name=name, label=label, row=row, column=column, z_um=7.5, field=field, t=t,
            wave=wave,
        )  # fmt: skip
    text = XDCE.format(n=len(places), images=images)
    (folder / "p.xdce").write_bytes(text.encode("latin-1"))


SCANR = """<LVData><Version>8.0</Version><Cluster><Name>experiment</Name>
<String><Name>plate name</Name><Val>p</Val></String>
<Cluster><Name>format typedef</Name><I32><Name>Rows</Name><Val>8</Val></I32>
<I32><Name>Columns</Name><Val>12</Val></I32></Cluster>
<Array><Name>well selection table + cDNA</Name><Dimsize>2</Dimsize><Dimsize>2</Dimsize>
<String><Name></Name><Val>15</Val></String><String><Name></Name><Val>B3</Val></String></Array>
<I32><Name>timeloop real</Name><Val>2</Val></I32>
<I32><Name>timeloop delay [ms]</Name><Val>60000</Val></I32>
<DBL><Name>conversion factor um/pixel</Name><Val>0.65</Val></DBL>
<Cluster><Name>channel</Name><String><Name>name</Name><Val>GFP</Val></String>
<DBL><Name>exposure time</Name><Val>80</Val></DBL><U8><Name>idle</Name><Val>0</Val></U8></Cluster>
<Cluster><Name>channel</Name><String><Name>name</Name><Val>DAPI</Val></String>
<DBL><Name>exposure time</Name><Val>20</Val></DBL><U8><Name>idle</Name><Val>0</Val></U8></Cluster>
<String><Name>comment</Name><Val>20 \xb5m</Val></String></Cluster></LVData>"""


def write_scanr(folder: Path) -> None:
    (folder / "experiment_descriptor.xml").write_bytes(SCANR.encode("latin-1"))
    places = list(itertools.product((15, 96), (1, 2), (0, 1), ("GFP", "DAPI"), (0, 1, 2)))
    for value, (w, position, t, channel, z) in enumerate(places):
        write(
            folder / "data", f"--W{w:05d}--P{position:05d}--Z{z:05d}--T{t:05d}--{channel}.tif",
            value,
        )  # fmt: skip


def write_cell_voyager(folder: Path) -> None:
    """Write an index of two fields, and the settings beside it."""
    space = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
    records = ""
    for field in (1, 2):
        write(folder, f"f{field}.tif", field)
        records += (
            f'<bts:MeasurementRecord bts:Type="IMG" bts:Column="1" bts:Row="2" bts:TimePoint="1" '
            f'bts:Time="2024-05-01T10:00:0{field}+09:00" bts:FieldIndex="{field}" bts:ZIndex="1" '
            f'bts:X="{100 * field}" bts:Y="2" bts:Z="3" bts:Ch="1">f{field}.tif'
            "</bts:MeasurementRecord>"
        )
    detail = (
        '<bts:MeasurementChannel bts:Ch="1" bts:HorizontalPixelDimension="0.65" '
        'bts:VerticalPixelDimension="0.65"/>'
    )
    settings = (
        '<bts:Channel bts:Ch="1" bts:Target="DAPI" bts:Magnification="20" bts:ExposureTime="80" '
        'bts:Color="#FF0000FF"/>'
    )
    for name, inside in (
        ("MeasurementData.mlf", f"<bts:MeasurementData {space}>{records}</bts:MeasurementData>"),
        (
            "MeasurementDetail.mrf",
            f'<bts:MeasurementDetail {space} bts:MeasurementSettingFileName="s.mes">{detail}'
            "</bts:MeasurementDetail>",
        ),
        ("s.mes", f"<bts:MeasurementSetting {space}>{settings}</bts:MeasurementSetting>"),
    ):
        (folder / name).write_text(inside)
