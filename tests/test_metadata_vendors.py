"""Calibration in the private tags of microscopes and scanners, parsed by tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from tifffile import TIFF

from intake_tiffstack import open_stack
from metadata_files import UM, describe, known_of, said, stacked
from shared_data import SHARED, needs_shared


def write(path: Path, tags: list[Any], shape: tuple[int, ...] = (8, 8), **options: Any) -> Any:
    """Write a plane with private tags; return what is known of it."""
    tifffile.imwrite(path, np.zeros(shape, "u1"), metadata=None, extratags=tags, **options)
    return open_stack(str(path))


def test_fluoview_has_a_step_for_each_dim(tmp_path: Path) -> None:
    head = np.zeros(1, np.dtype(TIFF.MM_HEADER).newbyteorder("<"))
    dims = [
        (b"X", 16, 0, 0.1167, b"um"), (b"Y", 12, 0, -0.2, b"um"), (b"Z", 5, 0, 0.5, b"um"),
        (b"Time", 3, 0, 250.0, b"ms"),
    ]  # fmt: skip
    for i, dim in enumerate(dims):
        head["Dimensions"][0, i] = dim
    tags = [(34361, 1, head.nbytes, head.tobytes(), True), (34362, 12, 8, bytes(64), True)]
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder="<") as tif:
        for i in range(15):
            tif.write(np.full((12, 16), i, "u2"), metadata=None, contiguous=False, extratags=tags)
    stack = open_stack(str(tmp_path / "a.tif"))
    assert stack.dims == ("t", "z", "y", "x")
    assert stack.scale == {"t": 0.25, "z": 0.5, "y": 0.2, "x": 0.1167}
    assert stack.metadata["units"] == {"t": "second", "z": UM, "y": UM, "x": UM}
    assert stack.metadata["provenance"]["scale.z"] == "FluoView of a.tif"


def test_lsm_has_sizes_in_metres(tmp_path: Path) -> None:
    fields = [(name or f"r{i}", kind) for i, (name, kind) in enumerate(TIFF.CZ_LSMINFO)]
    info = np.zeros(1, np.dtype(fields).newbyteorder("<"))
    values = {
        "MagicNumber": 67127628, "StructureSize": info.nbytes, "DimensionX": 16, "DimensionY": 16,
        "DimensionZ": 2, "DimensionChannels": 3, "DimensionTime": 1, "VoxelSizeX": 2.1e-7,
        "VoxelSizeY": 2.2e-7, "VoxelSizeZ": 1e-6, "TimeIntervall": 1.5,
    }  # fmt: skip
    for key, value in values.items():
        info[key] = value
    with tifffile.TiffWriter(tmp_path / "a.lsm", byteorder="<") as tif:
        for z in range(2):
            tags = [(34412, 1, info.nbytes, info.tobytes(), True)] if z == 0 else []
            tif.write(
                np.full((3, 16, 16), z, "u1"), planarconfig="separate", photometric="minisblack",
                metadata=None, contiguous=False, extratags=tags,
            )  # fmt: skip
            thumbnail = {"photometric": "rgb", "subfiletype": 1, "contiguous": False}
            tif.write(np.zeros((4, 4, 3), "u1"), metadata=None, **thumbnail)
    stack = open_stack(str(tmp_path / "a.lsm"))
    assert stack.scale == {"z": 1.0, "y": 0.22, "x": 0.21}
    assert set(stack.metadata["units"].values()) == {UM}


def test_lsm_names_its_channels() -> None:
    colors = {"ColorNames": ["Ch1", "Ch2"], "Colors": [[255, 0, 0, 0], [0, 255, 16, 0]]}
    info = {"TimeIntervall": 0.0, "TimeStamps": [10.0, 12.5, 15.0], "ChannelColors": colors}
    found = describe("tcyx", (3, 2, 4, 5), lsm=info)
    assert found.channel_names == ("Ch1", "Ch2")
    assert found.channels["channel_colors"] == ("#ff0000", "#00ff10")
    assert found.times == (0.0, 2.5, 5.0)
    assert (found.scale["t"], found.units["t"]) == (2.5, "second")


@pytest.mark.parametrize("section", ["Scan", "EScan", "IScan"])
@pytest.mark.parametrize("code", [34680, 34682])
def test_fei_has_the_size_in_metres(tmp_path: Path, section: str, code: int) -> None:
    ini = (
        f"[System]\r\nSystemType=Nova\r\n[{section}]\r\nPixelWidth=3.3724e-006\r\n"
        "PixelHeight=3.4e-006\r\n"
    )
    stack = write(tmp_path / "a.tif", [(code, 2, 0, ini, True)])
    assert stack.scale == pytest.approx({"y": 3.4, "x": 3.3724})
    assert stack.metadata["instrument"] == {"manufacturer": "FEI", "model": "Nova"}


@pytest.mark.parametrize(
    ("text", "size", "unit"),
    [
        ("AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 74.35 nm\r\n", 74.35, "nanometer"),
        ("AP_PIXEL_SIZE\r\nPixel Size = 1.5 µm\r\n", 1.5, UM),
        ("0\r\n0\r\n0\r\n1.1e-007\r\n", 0.11, UM),
    ],
    ids=["image", "pixel", "unnamed"],
)
def test_zeiss_sem_has_the_size_in_its_unit(
    tmp_path: Path, text: str, size: float, unit: str
) -> None:
    data = text.encode("cp1252")
    stack = write(tmp_path / "a.tif", [(34118, 1, len(data), data, True)])
    assert stack.scale == pytest.approx({"y": size, "x": size})
    assert stack.metadata["units"] == {"y": unit, "x": unit}


def test_gatan_has_a_scale_and_unit_for_each_dim(tmp_path: Path) -> None:
    tags = [(65003 + i, 2, 0, "nm", True) for i in range(2)]
    tags += [(65009 + i, 12, 1, 0.25 * (i + 1), True) for i in range(3)]
    stack = write(tmp_path / "a.tif", tags)
    assert stack.scale == {"y": 0.5, "x": 0.25}
    assert stack.metadata["units"] == {"y": "nanometer", "x": "nanometer"}


def test_sis_has_the_size_in_metres() -> None:
    tags = {"pixelsizex": 3.225e-7, "pixelsizey": 3.225e-7, "magnification": 20.0}
    found = describe(sis=tags | {"cameraname": "XM10"}, resolution=(100.0, 100.0, "inch"))
    assert found.scale == {"y": 0.3225, "x": 0.3225}
    assert found.facts == {"objective": {"magnification": 20.0}, "instrument": {"model": "XM10"}}


def test_ndpi_has_the_resolution_of_its_scanner() -> None:
    tags = {
        "Magnification": 20.0, "ZOffsetFromSlideCenter": 2500, "Make": "Hamamatsu",
        "Model": "NanoZoomer",
    }  # fmt: skip
    found = describe(ndpi=tags, resolution=(21930.0, 21930.0, "centimeter"))
    assert found.scale == pytest.approx({"y": 0.456, "x": 0.456}, rel=1e-3)
    assert found.heights == (2.5,)
    assert found.facts == {
        "objective": {"magnification": 20.0},
        "instrument": {"manufacturer": "Hamamatsu", "model": "NanoZoomer"},
    }
    macro = describe(ndpi=tags | {"Magnification": -1.0})
    assert "objective" not in macro.facts


@needs_shared
def test_a_real_slide_has_the_size_that_aperio_publishes() -> None:
    assert SHARED is not None
    path = next(SHARED.glob("single/vendor*/*/CMU-1-Small-Region.svs"))
    stack = open_stack(str(path))
    assert (stack.scale["y"], stack.scale["x"]) == (0.499, 0.499)  # openslide.mpp-x, mpp-y
    assert stack.metadata["objective"] == {"magnification": 20}
    assert stack.metadata["acquired"] == "2009-12-29T09:59:15"
    small = open_stack(str(path), series=1)
    ratio = stack.sizes["x"] / small.sizes["x"]
    assert small.scale.get("x", 0.499 * ratio) == pytest.approx(0.499 * ratio, rel=0.1)


def test_scanimage_has_a_field_of_view_and_a_period(tmp_path: Path) -> None:
    settings = "\n".join(
        (
            "SI.VERSION_MAJOR = 2018",
            "SI.hChannels.channelName = {'red' 'green' 'blue'}",
            "SI.hChannels.channelSave = [1;3]",
            "SI.hFastZ.enable = false",
            "SI.hRoiManager.imagingFovUm = [-50 -25;50 -25;50 25;-50 25]",
            "SI.hRoiManager.scanFramePeriod = 0.05",
            "SI.hStackManager.framesPerSlice = 3",
            "SI.hStackManager.stackZStepSize = -2",
        )
    )
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as tif:
        for i in range(12):
            pixels = np.full((10, 20), i, "i2")
            tif.write(pixels, metadata=None, contiguous=False, software=settings)
    found = open_stack(str(tmp_path / "a.tif"), file_dims={"z": 2, "t": 3, "c": 2})
    assert found.scale == pytest.approx({"z": 2.0, "t": 0.05, "y": 5.0, "x": 5.0})
    assert found.channel_names == ["red", "blue"]


@pytest.mark.parametrize(
    ("said", "interval"),
    [
        ({"SI.hRoiManager.scanFramePeriod": 0.05, "SI.hScan2D.logAverageFactor": 10}, 0.5),
        ({"scanimage.SI5.scanFrameRate": 20, "scanimage.SI5.acqNumAveragedFrames": 4}, 0.2),
        ({"scanimage.SI4.scanFrameRate": 20, "scanimage.SI4.acqNumAveragedFrames": 1}, 0.05),
        (
            {
                "SI.hFastZ.enable": True,
                "SI.hRoiManager.scanVolumeRate": 4,
                "SI.hScan2D.logAverageFactor": 10,
            },
            0.25,
        ),
    ],
)
def test_frames_that_scanimage_averages_are_further_apart(
    said: dict[str, Any], interval: float
) -> None:
    assert describe("tyx", (3, 4, 5), scanimage=said).scale["t"] == pytest.approx(interval)


# -- times and orientation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "interval"),
    [
        ((0, 2.5, 5, 7.5), 2.5),
        ((1, 3.501, 6, 8.5), 2.5),
        ((0, 2.52, 5, 7.5), None),
        ((0, 0, 0), None),
        ((4.0,), None),
        ((5, 2.5, 0), None),
    ],
)
def test_regular_times_of_a_file_give_the_interval(
    times: tuple[float, ...], interval: float | None
) -> None:
    planes = "".join(f'<Plane TheT="{t}" DeltaT="{time}"/>' for t, time in enumerate(times))
    xml = f'<OME><Image><Pixels SizeX="5">{planes}</Pixels></Image></OME>'
    found = describe("tyx", (len(times), 4, 5), ome_xml=xml)
    assert found.scale.get("t") == interval
    xml = xml.replace("<Pixels ", '<Pixels TimeIncrement="3" ')
    assert describe("tyx", (len(times), 4, 5), ome_xml=xml).scale == {"t": 3.0}


def test_regular_times_over_files_give_the_interval() -> None:
    layout = stacked(t=[0, 1, 2])
    files = {row: said(row, times=(2.5 * row,)) for row in range(3)}
    known = known_of(layout, files)
    assert known["time_interval"] == 2.5
    assert known["provenance"]["scale.t"] == "OME-XML of f0.tif and others"
    odd = {row: said(row, times=(2.5 * row**2,)) for row in range(3)}
    assert known_of(layout, odd)["time_interval"] is None


def test_the_interval_is_in_a_copy_too(tmp_path: Path) -> None:
    planes = "".join(f'<Plane TheC="0" TheZ="0" TheT="{t}" DeltaT="{t / 4}"/>' for t in range(4))
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="8" '
        'SizeY="8" SizeZ="1" SizeC="1" SizeT="4"><Channel ID="C:0" SamplesPerPixel="1"/>'
        f"<TiffData/>{planes}</Pixels></Image></OME>"
    )
    path = tmp_path / "a.ome.tif"
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, np.zeros((4, 8, 8), "u2"), description=xml, **options)
    stack = open_stack(str(path))
    assert stack.time_interval == 0.25
    stack.export(str(tmp_path / "a.zarr"), format="ome-zarr", progress=False)
    image = zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs["ome"]["multiscales"][0]
    assert image["axes"][0] == {"name": "t", "type": "time", "unit": "second"}
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"][0] == 0.25


@pytest.mark.parametrize(("value", "name"), [(1, None), (3, "bottom-right"), (6, "right-top")])
def test_an_orientation_is_told_and_pixels_stay(
    tmp_path: Path, value: int, name: str | None
) -> None:
    pixels = np.arange(20, dtype="u1").reshape(4, 5)
    tags = [(274, 3, 1, value, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, extratags=tags)
    stack = open_stack(str(tmp_path / "a.tif"))
    assert stack.metadata["orientation"] == name
    np.testing.assert_array_equal(stack.to_dask().compute(), pixels)
