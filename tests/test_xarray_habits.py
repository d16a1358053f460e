"""What xarray's users do with an array: select as they type, save, plot, calculate with units."""

from __future__ import annotations

import json
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pint
import pint_xarray  # noqa: F401 - registers .pint
import pytest
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot

from intake_tiffstack import TiffStackSource, TiffStackZarrSource, export, open_stack
from intake_tiffstack.errors import TargetExistsError
from intake_tiffstack.labelled.attributes import METADATA_KEY, decode_attrs, encode_attrs
from intake_tiffstack.labelled.positions import regular_positions

matplotlib.use("Agg")

AS_XARRAY_WRITES = (  # of what xarray itself writes in format 3
    pytest.mark.filterwarnings("ignore:Consolidated metadata:zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TiffStackSource:
    """Return a calibrated OME collection with channels, times and metadata of its entry."""
    folder = tmp_path_factory.mktemp("habits")
    for t in range(2):
        pixels = np.arange(4 * 2 * 5 * 6, dtype="u2").reshape(4, 2, 5, 6) + t
        tifffile.imwrite(
            folder / f"t{t}.ome.tif",
            pixels,
            photometric="minisblack",
            metadata={
                "axes": "ZCYX",
                "PhysicalSizeX": 0.1,
                "PhysicalSizeXUnit": "µm",
                "PhysicalSizeY": 0.1,
                "PhysicalSizeYUnit": "µm",
                "PhysicalSizeZ": 0.3,
                "PhysicalSizeZUnit": "µm",
                "Channel": {"Name": ["DAPI", "GFP"], "EmissionWavelength": [461.0, None]},
            },
        )
    mine = {"owner": "lab", "nested": {"deep": [1, None, "x"]}, "flags": [True], "a/b": 1}
    return TiffStackSource(f"{folder}/t{{t:d}}.ome.tif", metadata=mine)


# -- attributes ----------------------------------------------------------------------------------


def is_attribute(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in values)


def test_attributes_are_text_numbers_and_lists_of_them(source: TiffStackSource) -> None:
    named = source.to_xarray()
    assert all(map(is_attribute, named.attrs.values())), named.attrs
    assert "units" not in named.attrs, "the unit of the pixels is not known"
    assert named.attrs["owner"] == "lab"
    assert named.attrs["channel_names"] == ["DAPI", "GFP"]
    rest = json.loads(named.attrs[METADATA_KEY])
    assert rest["scale"] == {"z": 0.3, "y": 0.1, "x": 0.1}
    assert rest["nested"] == {"deep": [1, None, "x"]}
    for dim in "zyx":
        assert named[dim].attrs == {"units": "micrometer"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(metadata=st.dictionaries(st.text(min_size=1), JSON, max_size=4))
def test_metadata_come_back_from_attributes(metadata: dict[str, Any]) -> None:
    attrs = encode_attrs(metadata)
    assert all(map(is_attribute, attrs.values()))
    kept = {k: v for k, v in metadata.items() if v is not None and v not in ({}, [])}
    assert decode_attrs(attrs) == {k: v for k, v in kept.items() if k not in NOT_KEPT}


NOT_KEPT = {"dims", "shape", "dtype", "coords", "coord_units", "provenance"}


@pytest.mark.parametrize(
    "options",
    [{}, {"group": True}, {"format": "ome-zarr"}, {"format": "references"}],
    ids=["array", "group", "ome-zarr", "references"],
)
def test_metadata_that_are_zero_are_in_a_copy(tmp_path: Path, options: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 5), "u2"), photometric="minisblack")
    mine = {"plane": 0, "is_stained": False, "note": "", "tilt": 0.0}
    source = TiffStackSource(str(tmp_path / "a.tif"), metadata=mine)
    url = str(tmp_path / ("a.json" if options.get("format") == "references" else "a.zarr"))
    metadata = source.export(url, **options).metadata
    assert {key: metadata.get(key) for key in mine} == mine
    if "format" not in options:
        processed = export(source.to_xarray() + 1, tmp_path / "b.zarr", like=source)
        metadata = TiffStackZarrSource(processed.url).metadata
        assert {key: metadata.get(key) for key in mine} == mine


# -- positions -----------------------------------------------------------------------------------


def test_positions_are_found_as_they_are_typed(source: TiffStackSource) -> None:
    named = source.to_xarray()
    assert named.z.values.tolist() == [0.0, 0.3, 0.6, 0.9]
    assert named.sel(z=0.9).dims == ("t", "c", "y", "x")
    assert named.sel(x=slice(0, 0.3)).sizes["x"] == 4


@given(
    start=st.decimals(-10_000, 10_000, places=3),
    step=st.decimals("-99", "99", places=4).filter(bool),
    size=st.integers(1, 40),
)
def test_each_position_is_the_float_of_its_decimal(
    start: Decimal, step: Decimal, size: int
) -> None:
    typed = [float(start + step * i) for i in range(size)]
    assert regular_positions(float(start), float(step), size).tolist() == typed


@given(
    start=st.floats(-1e307, 1e307),
    step=st.floats(1e-300, 1e300),
    size=st.integers(0, 5),
)
def test_any_positions_are_near_their_sum(start: float, step: float, size: int) -> None:
    expected = start + np.arange(size) * step
    np.testing.assert_allclose(regular_positions(start, step, size), expected, rtol=1e-12, atol=0)


# -- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", ["option", None], ids=["dask", "no dask"])
def test_netcdf_there_and_back(source: TiffStackSource, tmp_path: Path, chunks: Any) -> None:
    named = source.to_xarray(chunks)
    named.to_dataset(name="pixels").to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as opened:
        again = opened["pixels"].load()
    assert again.dtype == named.dtype
    xr.testing.assert_equal(again.drop_vars("channel"), named.drop_vars("channel").compute())
    assert again.channel.values.tolist() == named.channel.values.tolist()
    assert decode_attrs(again.attrs) == decode_attrs(named.attrs)
    assert again.x.attrs["units"] == "micrometer"


@pytest.mark.parametrize("zarr_format", [2, pytest.param(3, marks=AS_XARRAY_WRITES)])
def test_zarr_there_and_back(source: TiffStackSource, tmp_path: Path, zarr_format: Any) -> None:
    named = source.to_xarray()
    named.to_dataset(name="pixels").to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format)
    again = xr.open_zarr(tmp_path / "a.zarr")["pixels"]
    assert again.dtype == named.dtype
    np.testing.assert_array_equal(again.values, named.values)
    assert decode_attrs(again.attrs) == decode_attrs(named.attrs)


def test_a_plot_shows_units_on_axes_alone(source: TiffStackSource) -> None:
    figure, axes = pyplot.subplots()
    mesh = source.to_xarray().isel(t=0, c=0, z=0).plot(ax=axes)
    assert axes.get_xlabel() == "x [micrometer]"
    assert mesh.colorbar.ax.get_ylabel() == ""
    pyplot.close(figure)


def test_units_calculate(source: TiffStackSource) -> None:
    quantified = source.to_xarray().pint.quantify()
    assert quantified.z.pint.units == pint.get_application_registry().Unit("micrometer")
    assert quantified.pint.dequantify().z.attrs["units"] == "micrometer"


# -- labels of a position without a file ---------------------------------------------------------


@pytest.fixture
def with_holes(tmp_path: Path) -> TiffStackSource:
    """Return a source whose coordinate ``dye`` is unknown at c=1, which has no file."""
    for c, dye in ((0, "DAPI"), (2, "GFP")):
        tifffile.imwrite(tmp_path / f"c{c}_{dye}.tif", np.full((3, 4), c + 1, "u1"))
    return TiffStackSource(
        str(tmp_path / "c{c:d}_{dye}.tif"), sizes={"c": 3}, labels={"c": [0, 1, 2]}, missing="fill"
    )


@pytest.mark.parametrize("chunks", ["option", None], ids=["dask", "no dask"])
def test_a_label_that_is_not_known_is_none(with_holes: TiffStackSource, chunks: Any) -> None:
    named = with_holes.to_xarray(chunks)
    assert named.dye.values.tolist() == ["DAPI", None, "GFP"]
    assert named.isel(c=slice(1, None)).dye.values.tolist() == [None, "GFP"]


@pytest.mark.parametrize("format", ["zarr", "ome-zarr", "references"])
def test_a_label_that_is_not_known_is_none_in_a_copy(
    with_holes: TiffStackSource, tmp_path: Path, format: Any
) -> None:
    url = str(tmp_path / ("copy.json" if format == "references" else "copy.zarr"))
    copy = with_holes.export(url, format=format)
    assert copy.to_xarray().dye.values.tolist() == ["DAPI", None, "GFP"]


# -- 64-bit integers -----------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_64_bit_integers_export(tmp_path: Path, dtype: str, zarr_format: Any) -> None:
    pixels = np.array([[np.iinfo(dtype).max, 1], [np.iinfo(dtype).min, 2]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    stack = open_stack(str(tmp_path / "a.tif"))
    assert stack.dtype.char == np.dtype(dtype).char
    stack.export(tmp_path / "a.zarr", zarr_format=zarr_format)
    again = TiffStackSource(str(tmp_path / "a.tif")).read()
    np.testing.assert_array_equal(again, pixels, strict=True)


# -- copies that xarray opens --------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_opens_in_xarray_with_all_labels(
    source: TiffStackSource, tmp_path: Path, zarr_format: Any
) -> None:
    url = str(tmp_path / "a.zarr")
    copy = source.export(url, group=True, zarr_format=zarr_format)
    named = source.to_xarray()
    opened = xr.open_zarr(url)["image"]
    assert (opened.dims, opened.dtype) == (named.dims, named.dtype)
    np.testing.assert_array_equal(opened.values, named.values)
    assert set(opened.coords) == set(named.coords)
    for name in named.coords:
        assert opened[name].values.tolist() == named[name].values.tolist()
        assert opened[name].attrs == named[name].attrs
    assert all(map(is_attribute, opened.attrs.values()))
    again = copy.to_xarray()
    assert again.attrs.pop("source")
    xr.testing.assert_identical(again.compute(), named.compute())
    assert copy.scale == source.scale
    assert copy.physical_pixel_sizes == source.physical_pixel_sizes


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_unknown_labels_survive_a_group(
    with_holes: TiffStackSource, tmp_path: Path, zarr_format: Any
) -> None:
    copy = with_holes.export(str(tmp_path / "a.zarr"), group=True, zarr_format=zarr_format)
    assert copy.to_xarray().dye.values.tolist() == ["DAPI", None, "GFP"]
    assert xr.open_zarr(tmp_path / "a.zarr").dye.values.tolist() == ["DAPI", "", "GFP"]


def test_a_group_is_replaced_and_refused_as_any_copy(
    source: TiffStackSource, tmp_path: Path
) -> None:
    url = str(tmp_path / "a.zarr")
    source.export(url, group=True)
    with pytest.raises(TargetExistsError):
        source.export(url, group=True)
    source.export(url, group=True, overwrite=True, zarr_format=2)
    source.export(url, overwrite=True)
    assert not (tmp_path / "a.zarr" / "channel").exists()


@pytest.mark.parametrize("options", [{"group": True}, {"format": "ome-zarr", "version": "0.4"}])
def test_zeros_in_format_2_are_zeros_to_xarray(tmp_path: Path, options: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), "u2"), photometric="minisblack")
    stack = open_stack(str(tmp_path / "a.tif"))
    form = {} if "version" in options else {"zarr_format": 2}
    stack.export(tmp_path / "a.zarr", **options, **form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # OME-Zarr is not consolidated
        # the audit record beside the data
        warnings.filterwarnings("ignore", ".*is not recognized as a component of a Zarr hierarchy")
        opened = xr.open_zarr(tmp_path / "a.zarr")
    (pixels,) = opened.data_vars.values()
    assert pixels.dtype == "uint16"
    assert not pixels.values.any()


@pytest.mark.parametrize("zarr_format", [2, pytest.param(3, marks=AS_XARRAY_WRITES)])
def test_what_xarray_wrote_opens_as_a_copy(
    source: TiffStackSource, tmp_path: Path, zarr_format: Any
) -> None:
    part = source.to_xarray().isel(x=slice(1, None), z=slice(None, None, 2))
    part.to_dataset(name="mine").to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format)
    copy = TiffStackZarrSource(str(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(copy.read(), part.values)
    assert copy.metadata["translation"]["x"] == 0.1, "that of the part"
    assert copy.scale == {"z": 0.6, "y": 0.1, "x": 0.1}
    assert copy.channel_names == ["DAPI", "GFP"]
    assert copy.metadata["nested"] == {"deep": [1, None, "x"]}
