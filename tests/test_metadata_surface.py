"""Metadata as users meet them: attributes of a source, xarray, the report, a copy and back."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tifffile
import xarray as xr
import yaml
from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack import open_stack
from intake_tiffstack.driver import TiffStackSource, TiffStackZarrSource
from intake_tiffstack.errors import OptionError, TiffStackWarning
from intake_tiffstack.export.zarr_array import write_zarr
from intake_tiffstack.metadata.readers.ome import read_ome_image
from intake_tiffstack.samples import make_lattice, make_plate
from metadata_files import UM, ome
from servers import Manner, Request, serve_files
from tiff_files import kind

SHAPE = {"T": 2, "Z": 3, "C": 2, "Y": 4, "X": 5}


def write_ome(path: Path, said: dict[str, Any], axes: str = "TZCYX") -> np.ndarray[Any, Any]:
    shape = tuple(SHAPE[axis] for axis in axes)
    pixels = np.arange(np.prod(shape), dtype="u2").reshape(shape)
    tifffile.imwrite(
        path, pixels, photometric="minisblack", metadata={"axes": axes, **said}, **kind("ome")
    )
    return pixels


CALIBRATED: dict[str, Any] = {
    "PhysicalSizeX": 100.0,
    "PhysicalSizeXUnit": "nm",
    "PhysicalSizeY": 0.2,
    "PhysicalSizeYUnit": "µm",
    "PhysicalSizeZ": 0.003,
    "PhysicalSizeZUnit": "mm",
    "TimeIncrement": 2.0,
    "TimeIncrementUnit": "min",
    "Channel": {"Name": ["DAPI", "GFP"]},
}


@pytest.fixture
def movie(tmp_path: Path) -> tuple[str, np.ndarray[Any, Any]]:
    """Return the pattern of three sites of one OME-TIFF each, and the pixels of one."""
    for site in range(3):
        pixels = write_ome(tmp_path / f"s{site}.ome.tif", CALIBRATED)
    return str(tmp_path / "s{site}.ome.tif"), pixels


# -- files of every order and unit ---------------------------------------------------------------


@pytest.mark.parametrize("order", ["".join(p) for p in itertools.permutations("TZC")])
def test_every_order_of_axes_has_its_steps(tmp_path: Path, order: str) -> None:
    pixels = write_ome(tmp_path / "a.ome.tif", CALIBRATED, f"{order}YX")
    stack = open_stack(str(tmp_path / "a.ome.tif"))
    assert stack.dims == (*order.lower(), "y", "x")
    assert stack.scale == {"t": 120.0, "z": 0.003, "y": 0.2, "x": 100.0}
    assert stack.metadata["units"] == {
        "t": "second", "z": "millimeter", "y": UM, "x": "nanometer",
    }  # fmt: skip
    assert stack.physical_pixel_sizes == pytest.approx((3.0, 0.2, 0.1))
    assert stack.time_interval == 120.0
    named = stack.to_xarray()
    assert named.x.values.tolist() == pytest.approx([0, 100, 200, 300, 400])
    assert named.x.attrs == {"units": "nanometer"}
    assert named.channel.values.tolist() == ["DAPI", "GFP"]
    assert named.channel.dims == ("c",)
    np.testing.assert_array_equal(named.values, pixels)


# In micrometre, as the International System and the yard have them; None for what is no length.
LENGTHS = {
    "km": 1e9, "m": 1e6, "dm": 1e5, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6,
    "Å": 1e-4, "in": 25_400.0, "ft": 304_800.0, "mi": 1_609_344_000.0, "pixel": None,
}  # fmt: skip


@given(unit=st.sampled_from(list(LENGTHS)), micrometres=st.floats(1e-3, 1e4))
def test_every_unit_of_length_is_a_size_or_none(
    tmp_path_factory: pytest.TempPathFactory, unit: str, micrometres: float
) -> None:
    path = tmp_path_factory.mktemp("units") / "a.ome.tif"
    factor = LENGTHS[unit]
    said = {"axes": "YX", "PhysicalSizeX": micrometres / (factor or 1), "PhysicalSizeXUnit": unit}
    tifffile.imwrite(path, np.zeros((4, 5), "u1"), metadata=said, **kind("ome"))
    found = open_stack(str(path)).physical_pixel_sizes.X
    assert found == (None if factor is None else pytest.approx(micrometres))


# -- attributes of the source --------------------------------------------------------------------


def test_a_source_tells_what_its_stack_does(movie: tuple[str, Any]) -> None:
    source = TiffStackSource(movie[0], metadata={"dims": ["mine"], "scale": "mine"})
    assert source.dims == ("site", "t", "z", "c", "y", "x")
    assert source.sizes == {"site": 3, "t": 2, "z": 3, "c": 2, "y": 4, "x": 5}
    assert source.chunks == source.to_dask().chunks == source.stack.chunks
    assert source.channel_names == ["DAPI", "GFP"]
    assert source.scale == {"t": 120.0, "z": 0.003, "y": 0.2, "x": 100.0}
    assert source.time_interval == 120.0
    assert source.physical_pixel_sizes == pytest.approx((3.0, 0.2, 0.1))
    xr.testing.assert_identical(source.coords.to_dataset(), source.stack.coords.to_dataset())
    assert source.metadata["scale"] == "mine"


def test_the_table_of_files(movie: tuple[str, Any], tmp_path: Path) -> None:
    table = TiffStackSource(movie[0]).files
    assert list(table.columns) == ["url", "size", "cell", "site"]
    assert table.url.tolist() == [str(tmp_path / f"s{i}.ome.tif") for i in range(3)]
    assert table["size"].tolist() == [Path(url).stat().st_size for url in table.url]
    assert table.cell.tolist() == [(0,), (1,), (2,)]
    assert table.site.tolist() == ["0", "1", "2"]
    single = open_stack(str(tmp_path / "s1.ome.tif")).files
    assert single.cell.tolist() == [()]


def test_a_file_that_was_left_out_has_no_cell_and_a_field_keeps_off_the_columns(
    tmp_path: Path,
) -> None:
    for name in ("t0_size3.tif", "t0_size4.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((4, 5), "u1"))
    pattern = "t{t:d}_size{size:d}.tif"
    table = open_stack(str(tmp_path), pattern=pattern, duplicates="first", concat_dim="t").files
    assert table.cell.tolist() == [(0,), None]
    assert table.size_file.tolist() == [3, 4]


def test_all_of_the_ome_xml_on_request(movie: tuple[str, Any], tmp_path: Path) -> None:
    ome_types = pytest.importorskip("ome_types")
    found = TiffStackSource(movie[0]).ome_metadata
    assert isinstance(found, ome_types.OME)
    assert found.images[0].pixels.physical_size_x == 100
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 5), "u1"))
    assert open_stack(str(tmp_path / "b.tif")).ome_metadata is None


def test_an_older_schema_is_brought_to_the_newest(tmp_path: Path) -> None:
    pytest.importorskip("ome_types")
    pytest.importorskip("lxml")
    sizes = 'ID="Pixels:0" SizeY="4" SizeZ="1" SizeC="1" SizeT="1" DimensionOrder="XYZCT"'
    xml = ome(f'{sizes} PhysicalSizeX="0.5" Type="uint8"', '<Channel ID="Channel:0"/>')
    xml = xml.replace("2016-06", "2013-06").replace("<Description/>", "")
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((4, 5), "u1"), description=xml, metadata=None)
    found = open_stack(str(tmp_path / "a.ome.tif")).ome_metadata
    assert found is not None
    assert found.images[0].pixels.physical_size_x == 0.5


def test_without_ome_types_the_extra_is_named(movie: tuple[str, Any]) -> None:
    stack = open_stack(movie[0])
    assert stack.channel_names == ["DAPI", "GFP"]
    with (
        patch.dict(sys.modules, {"ome_types": None}),
        pytest.raises(ImportError, match=r"pip install 'intake-tiffstack\[ome\]'"),
    ):
        _ = stack.ome_metadata


def test_opening_imports_no_ome_types(movie: tuple[str, Any]) -> None:
    with patch.dict(sys.modules, {"ome_types": None}):
        assert open_stack(movie[0]).metadata["channel_names"] == ["DAPI", "GFP"]


def test_all_that_one_file_says(movie: tuple[str, Any], tmp_path: Path) -> None:
    source = TiffStackSource(movie[0])
    reported = source.file_metadata(1)
    assert json.loads(json.dumps(reported, allow_nan=False)) == reported
    assert reported["url"] == str(tmp_path / "s1.ome.tif")
    assert reported["scale"] == {"t": 120.0, "z": 0.003, "y": 0.2, "x": 100.0}
    assert reported["provenance"]["scale.x"] == "OME-XML of s1.ome.tif"
    assert reported["raw_ome_xml"].startswith("<?xml")
    assert source.file_metadata(reported["url"]) == reported
    assert source.file_metadata(reported["url"].rpartition("/")[2]) == reported
    assert source.file_metadata(-2) == reported


@pytest.mark.parametrize(
    ("which", "fault"), [(3, "file 3 of 3"), ("b.tif", "unknown file 'b.tif'")]
)
def test_a_file_that_is_not_there(movie: tuple[str, Any], which: Any, fault: str) -> None:
    with pytest.raises(OptionError, match=fault):
        open_stack(movie[0]).file_metadata(which)


def test_a_stack_shows_itself_in_a_notebook(movie: tuple[str, Any]) -> None:
    stack = open_stack(movie[0])
    assert "not opened yet" in stack._repr_html_()
    _ = stack.shape
    html = stack._repr_html_()
    for reported in ("3 site x 2 t x 3 z x 2 c x 4 y x 5 x", "DAPI, GFP", "z 0.003 millimeter"):
        assert reported in html


# -- a copy, and JSON ----------------------------------------------------------------------------


def with_times(tmp_path: Path) -> TiffStackSource:
    """Return a source whose files know when and at what height they were taken."""
    for t, z in np.ndindex(3, 2):
        plane = (
            f'<TiffData/><Plane TheT="0" TheC="0" TheZ="0" DeltaT="0.5" PositionZ="{7 - z}" '
            'PositionZUnit="µm"/>'
        )
        xml = ome(
            'SizeY="4" SizeZ="1" SizeC="1" SizeT="1" Type="uint8" DimensionOrder="XYZCT" '
            'PhysicalSizeX="0.5"',
            '<Channel Name="GFP" Color="16711935" EmissionWavelength="520"/>',
            plane,
        ).replace(
            "<Description/>", f"<AcquisitionDate>2024-05-01T10:00:0{2 * t}Z</AcquisitionDate>"
        )
        tifffile.imwrite(
            tmp_path / f"t{t}_z{z}_e{9 - z}.ome.tif", np.full((4, 5), t, "u1"), metadata=None,
            description=xml.encode(), photometric="minisblack",
        )  # fmt: skip
    return TiffStackSource(str(tmp_path / "t{t}_z{z}_e{e}.ome.tif"), concat_dim=["t", "z"])


def test_what_files_say_stands_beside_the_index(tmp_path: Path) -> None:
    named = with_times(tmp_path).to_xarray()
    assert named.time_s.values.tolist() == [0.5, 2.5, 4.5]
    assert named.time_s.attrs == {"units": "second"}
    assert named.z_um.values.tolist() == [7, 6]
    assert named.z_um.attrs == {"units": UM}
    assert named.acquired.dtype.kind == "M"
    assert str(named.acquired.values[1].astype("M8[ms]")) == "2024-05-01T10:00:02.500"
    assert named.t.values.tolist() == ["0", "1", "2"]
    assert named.e.dims == ("z",)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_all_of_it_survives_a_copy(tmp_path: Path, zarr_format: int) -> None:
    source = with_times(tmp_path)
    copy = source.export(str(tmp_path / "copy.zarr"), zarr_format=zarr_format)
    named = copy.to_xarray()
    assert named.attrs.pop("source")
    xr.testing.assert_identical(named.compute(), source.to_xarray().compute())
    known = copy.discover()["metadata"]
    assert known.pop("source")
    assert known == source.discover()["metadata"]
    assert copy.physical_pixel_sizes == source.physical_pixel_sizes
    assert (copy.dims, copy.sizes) == (source.dims, source.sizes)
    assert copy.time_interval == source.time_interval


# -- a part of a copy ----------------------------------------------------------------------------


def spacings(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, size - 1), min_size=1, unique=True).map(sorted)


@given(t=spacings(5), c=spacings(3), y=spacings(4), x=spacings(6))
def test_the_metadata_of_a_part_are_those_of_its_positions(
    map_copy: TiffStackZarrSource, t: list[int], c: list[int], y: list[int], x: list[int]
) -> None:
    whole = map_copy.to_xarray()
    kept = {"t": t, "c": c, "y": y, "x": x}
    values = {dim: whole[dim].values[kept[dim]].tolist() for dim in ("t", "y", "x")}
    part = map_copy(sel=values | {"channel": [f"ch{i}" for i in c]})
    known = part.discover()["metadata"]
    for dim in ("t", "y", "x"):
        is_even = len(set(np.diff(kept[dim]).tolist())) < 2
        assert (dim in known["scale"]) == is_even
        assert (dim in known["units"]) == is_even
        assert (f"scale.{dim}" in known["provenance"]) == is_even
        if is_even:
            start = known["translation"].get(dim, 0.0)
            positions = start + np.arange(len(kept[dim])) * known["scale"][dim]
            np.testing.assert_allclose(part.to_xarray()[dim], positions)
    assert known["time_interval"] == known["scale"].get("t")
    for key in ("channel_names", "channel_colors", "emission_wavelengths"):
        assert known[key] == [map_copy.discover()["metadata"][key][i] for i in c]
    assert (known["affine"] is not None) == ({"y", "x"} <= known["scale"].keys())
    if known["affine"] is not None:
        a, b, at_x, d, e, at_y = known["affine"]
        np.testing.assert_allclose(values["x"], a * (np.arange(len(x)) + 0.5) + b * 0.5 + at_x)
        np.testing.assert_allclose(values["y"], d * 0.5 + e * (np.arange(len(y)) + 0.5) + at_y)


@pytest.fixture(scope="module")
def map_copy(tmp_path_factory: pytest.TempPathFactory) -> TiffStackZarrSource:
    """Return a copy that knows its place on a map, its times and its channels."""
    url = str(tmp_path_factory.mktemp("map") / "a.zarr")
    scale, start = {"t": 3.0, "y": -10.0, "x": 10.0}, {"t": 0.0, "y": 95.0, "x": 505.0}
    sizes = {"t": 5, "c": 3, "y": 4, "x": 6}
    coords = {dim: ((dim,), start[dim] + np.arange(sizes[dim]) * scale[dim]) for dim in scale}
    names = [f"ch{i}" for i in range(3)]
    write_zarr(
        np.zeros(tuple(sizes.values()), "u1"),
        url,
        dims=tuple(sizes),
        coords=coords | {"channel": (("c",), np.array(names))},
        attrs={
            "scale": scale,
            "translation": {"y": 95.0, "x": 505.0},
            "units": {"t": "second", "y": "meter", "x": "meter"},
            "time_interval": 3.0,
            "channel_names": names,
            "channel_colors": ["#ff0000", None, "#0000ff"],
            "emission_wavelengths": [450.0, None, 600.0],
            "affine": [10.0, 0.0, 500.0, 0.0, -10.0, 100.0],
            "provenance": {f"scale.{dim}": "GeoTIFF of a.tif" for dim in scale},
        },
    )
    return TiffStackZarrSource(url)


def test_no_secret_of_a_url_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "c0.tif"
    said = {"axes": "YX", "unit": "ell"}
    tifffile.imwrite(
        path, np.zeros((4, 5), "u1"), resolution=(2, 2), metadata=said, **kind("imagej")
    )
    with serve_files({"c0.tif": path.read_bytes()}) as server:
        source = TiffStackSource(f"{server.url}/c0.tif?token=SECRET")
        with pytest.warns(TiffStackWarning, match="unit 'ell' of ImageJ") as caught:
            known = source.discover()["metadata"]
        report = source.report()
        source.export(str(tmp_path / "a.zarr"))
        reported = source.file_metadata(0)
    assert known["provenance"]["scale.x"].startswith("ImageJ of c0.tif")
    texts = [str(one.message) for one in caught] + [json.dumps(known), str(report)]
    texts += [(tmp_path / "a.zarr" / "zarr.json").read_text(), *reported["warnings"]]
    texts += [json.dumps(reported["provenance"]), report._repr_html_()]
    assert all("SECRET" not in text for text in texts)


def test_remote_channels_are_asked_at_the_same_time(tmp_path: Path) -> None:
    write_ome(tmp_path / "a.ome.tif", {}, "YX")
    data = (tmp_path / "a.ome.tif").read_bytes()
    under_way: set[str] = set()
    most = 0

    def answer(request: Request) -> Manner:
        nonlocal most
        if request.method == "GET":
            under_way.add(request.path)
            most = max(most, len(under_way))
            time.sleep(0.05)
            under_way.discard(request.path)
        return "good"

    with serve_files({f"c{c}.tif": data for c in range(8)}, manner=answer) as server:
        urls = [f"{server.url}/c{c}.tif" for c in range(8)]
        stack = open_stack(urls, pattern="c{c:d}.tif", validate="template")
        assert "read from 8 of 8 files" in str(stack.report())
    assert most > 1


def test_discover_gives_what_json_holds(tmp_path: Path) -> None:
    known = with_times(tmp_path).discover()["metadata"]
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert known["coords"]["acquired"]["values"][0] == "2024-05-01T10:00:00.500000"
    assert known["coord_units"] == {"x": UM, "time_s": "second", "z_um": UM}
    assert known["acquired"] == "2024-05-01T10:00:00"


# -- how much is looked at -----------------------------------------------------------------------


def write_sites(folder: Path, sizes: list[float]) -> str:
    for t, size in enumerate(sizes):
        said = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeXUnit": "µm"}
        pixels = np.zeros((4, 5), "u1")
        tifffile.imwrite(folder / f"t{t}.ome.tif", pixels, metadata=said, **kind("ome"))
    return str(folder / "t{t}.ome.tif")


def test_validate_all_asks_every_file(tmp_path: Path) -> None:
    pattern = write_sites(tmp_path, [0.5] * 99 + [0.25])
    some = open_stack(pattern)
    assert some.scale == {"x": 0.5}
    assert "read from 1 of 100 files" in str(some.report())
    every = open_stack(pattern, validate="all")
    with pytest.warns(TiffStackWarning, match=r"t0.ome.tif has 0.5 .*t99.ome.tif has 0.25"):
        assert every.scale == {"x": 0.5}
    report = every.report()
    assert report.to_dict()["metadata_read"] == 100
    assert "read from 100 of 100 files" in str(report)
    assert "scale.x, units.x, software, coords.x from OME-XML of t0.ome.tif" in str(report)


@pytest.mark.parametrize(
    ("sample", "options"),
    [
        (make_lattice, {"pattern": "lattice", "channel_names": [np.str_("GFP")] * 3}),
        (make_plate, {"pattern": "cv8000"}),
    ],
    ids=["lattice", "plate"],
)
def test_metadata_and_report_are_plain_values(
    tmp_path: Path, sample: Any, options: dict[str, Any]
) -> None:
    sample(tmp_path)
    stack = open_stack(str(tmp_path), unmatched="ignore", missing="fill", **options)
    for reported in (stack.metadata, stack.report().to_dict(), stack.file_metadata(0)):
        assert yaml.safe_load(yaml.safe_dump(reported)) == reported
        assert json.loads(json.dumps(reported, allow_nan=False)) == reported
        assert {type(leaf) for leaf in leaves_of(reported)} <= {str, int, float, bool, type(None)}


def leaves_of(value: Any) -> Iterator[Any]:
    """Yield all keys and values in nested dicts and lists."""
    if type(value) is dict:
        yield from value
    if type(value) in (dict, list):
        for item in value.values() if type(value) is dict else value:
            yield from leaves_of(item)
    else:
        yield value


def test_the_report_tells_of_folders_below(tmp_path: Path) -> None:
    write_sites(tmp_path, [1])
    (tmp_path / "more").mkdir()
    (tmp_path / "none").mkdir()
    write_sites(tmp_path / "more", [1])
    report = open_stack(str(tmp_path)).report()
    assert report.to_dict()["folders_below"] == [str(tmp_path / "more")]
    assert "not those in 1 folder below: more" in str(report)
    assert open_stack(str(tmp_path / "*.tif")).report().to_dict()["folders_below"] == []


def _planes_xml(n: int) -> str:
    planes = "".join(f'<TiffData FirstT="{t}" IFD="{t}" PlaneCount="1"/>' for t in range(n))
    planes += "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{t * 0.5}"/>' for t in range(n))
    sizes = f'SizeY="1" SizeZ="1" SizeC="1" SizeT="{n}" Type="uint8" DimensionOrder="XYZCT"'
    return ome(sizes, "", planes)


def _lines_run(xml: str) -> int:
    """Return how many lines of Python reading takes; each turn of a loop counts."""
    count, before = 0, sys.gettrace()

    def trace(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        read_ome_image(xml)
    finally:
        sys.settrace(before)
    return count


def test_ten_thousand_planes_are_described_at_once(tmp_path: Path) -> None:
    assert _lines_run(_planes_xml(400)) < 2.1 * _lines_run(_planes_xml(200))
    n = 10_000
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, np.zeros((n, 1, 5), "u1"), metadata=None, description=_planes_xml(n).encode(),
        photometric="minisblack",
    )  # fmt: skip
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    assert xml is not None
    image = read_ome_image(xml)
    assert len(image.times) == n
    stack = open_stack(str(path))
    assert stack.sizes["t"] == n
    assert stack.to_xarray().time_s.values[-1] == 0.5 * (n - 1)
