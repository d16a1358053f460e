"""Arrays that were computed from a source, written with its meaning; labels of an OME-Zarr."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import dask.array as da
import intake
import ngff_zarr
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Labels, Multiscales
from ome_zarr.reader import Reader as OmeReader
from ome_zarr_models import v04, v05

import intake_tiffstack
from intake_tiffstack import TiffStack, TiffStackSource, open_stack
from intake_tiffstack.errors import (
    FilesNotFoundError,
    OptionError,
    TargetExistsError,
    TiffStackWarning,
)
from intake_tiffstack.export import export_array

PIXELS = np.random.default_rng(5).integers(0, 60_000, (2, 3, 2, 64, 96), dtype=np.uint16)


@pytest.fixture
def stack(tmp_path: Path) -> TiffStack:
    """Two time points of three channels: ImageJ volumes of 0.1 x 0.1 x 0.5 micrometre."""
    for t in range(2):
        for c in range(3):
            tifffile.imwrite(
                tmp_path / f"t{t}_c{c}.tif",
                PIXELS[t, c],
                imagej=True,
                metadata={"spacing": 0.5, "unit": "um", "axes": "ZYX"},
                resolution=(10, 10),
            )
    return open_stack(str(tmp_path / "t{t:d}_c{c:d}.tif"), channel_names=["DAPI", "GFP", "RFP"])


def reopen(url: Path, **options: Any) -> Any:
    return intake.open_tiffstack_zarr(str(url), **options)


def test_the_package_is_the_function() -> None:
    assert callable(intake_tiffstack.export)
    assert intake_tiffstack.export.open_zarr is not None
    with pytest.raises(OptionError, match="array must be a DataArray or an array, but got list"):
        intake_tiffstack.export([1], "x.zarr")


@pytest.mark.parametrize("chunks", ["option", None])
@pytest.mark.parametrize("format", ["zarr", "ome-zarr"])
def test_a_filtered_array_keeps_all_but_its_pixels(
    stack: TiffStack, tmp_path: Path, format: str, chunks: Any
) -> None:
    result = stack.to_xarray(chunks=chunks).astype("float32") / 2
    plan = intake_tiffstack.export(result, tmp_path / "out", like=stack, format=format)
    assert plan.nbytes == 2 * PIXELS.nbytes
    copy = reopen(tmp_path / "out")
    np.testing.assert_array_equal(copy.read(), PIXELS.astype("float32") / 2)
    for key in ("scale", "units", "channel_names"):
        assert copy.metadata[key] == stack.metadata[key]
    labelled = copy.to_xarray()
    assert labelled.channel.values.tolist() == ["DAPI", "GFP", "RFP"]
    np.testing.assert_array_equal(labelled.y.values, stack.to_xarray().y.values)
    made_from = copy.metadata["made_from"]
    assert made_from["source"] == str(tmp_path / "t{t:d}_c{c:d}.tif")
    assert made_from["sizes"] == {"t": 2, "c": 3, "z": 2, "y": 64, "x": 96}
    assert made_from["dtype"] == "uint16"


def test_a_part_lies_where_it_lies_in_the_source(stack: TiffStack, tmp_path: Path) -> None:
    part = stack.to_xarray().isel(c=[2, 0], y=slice(10, 50), x=slice(0, 96, 3), t=1)
    intake_tiffstack.export(part, tmp_path / "out", like=stack, format="ome-zarr")
    copy = reopen(tmp_path / "out")
    np.testing.assert_array_equal(copy.read(), PIXELS[1, [2, 0], :, 10:50, ::3])
    assert copy.metadata["scale"] == {"z": 0.5, "y": 0.1, "x": 0.3}
    assert copy.metadata["translation"] == {"y": 1.0}
    assert copy.metadata["channel_names"] == ["RFP", "DAPI"]
    image = ngff_zarr.from_ngff_zarr(str(tmp_path / "out")).images[0]
    assert image.scale["x"] == pytest.approx(0.3)
    assert image.translation["y"] == 1.0


def test_one_channel_keeps_its_name(stack: TiffStack, tmp_path: Path) -> None:
    one = stack.to_xarray().sel(c=1)
    intake_tiffstack.export(one, tmp_path / "out", like=stack, format="ome-zarr")
    image = v05.Image.from_zarr(zarr.open_group(tmp_path / "out", mode="r"))
    (channel,) = zarr.open_group(tmp_path / "out").attrs["ome"]["omero"]["channels"]
    assert channel["label"] == "GFP"
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == [*"tzyx"]


@pytest.mark.parametrize("chosen", [[2, 0], [2, 1, 0], [1], 1])
@pytest.mark.parametrize("format", ["ome-zarr", "zarr"])
def test_channels_inside_a_file_keep_their_own_names(
    tmp_path: Path, format: str, chosen: Any
) -> None:
    names, colors = ["DAPI", "GFP", "RFP"], [65535, 16711935, -16776961]
    said = {"axes": "CYX", "Channel": {"Name": names, "Color": colors}}
    tifffile.imwrite(tmp_path / "a.ome.tif", PIXELS[0, :, 0], ome=True, metadata=said)
    source = open_stack(str(tmp_path / "a.ome.tif"))
    part = source.to_xarray().isel(c=chosen)
    intake_tiffstack.export(part, tmp_path / "out", like=source, format=format)
    copy = reopen(tmp_path / "out")
    kept = np.atleast_1d(chosen).tolist()
    assert copy.metadata["channel_names"] == [names[i] for i in kept]
    assert copy.metadata["channel_colors"] == [source.metadata["channel_colors"][i] for i in kept]


def test_smaller_pixels_have_a_larger_scale(stack: TiffStack, tmp_path: Path) -> None:
    smaller = stack.to_xarray().coarsen(y=2, x=2).mean()
    intake_tiffstack.export(smaller, tmp_path / "out", like=stack)
    copy = reopen(tmp_path / "out")
    assert copy.metadata["scale"] == {"z": 0.5, "y": 0.2, "x": 0.2}
    assert copy.metadata["translation"] == {"y": 0.05, "x": 0.05}


def test_a_plain_array_has_the_dims_of_its_source(stack: TiffStack, tmp_path: Path) -> None:
    for name, array in (("dask", stack.to_dask() + 1), ("numpy", PIXELS + 1)):
        intake_tiffstack.export(array, tmp_path / name, like=stack, format="ome-zarr")
        copy = reopen(tmp_path / name)
        np.testing.assert_array_equal(copy.read(), PIXELS + 1)
        assert copy.metadata["scale"] == stack.metadata["scale"]
        assert copy.metadata["channel_names"] == ["DAPI", "GFP", "RFP"]
    maximum = stack.to_dask().max(axis=2)
    intake_tiffstack.export(maximum, tmp_path / "max", like=stack, dims="tcyx", attrs={"a": 1})
    copy = reopen(tmp_path / "max")
    np.testing.assert_array_equal(copy.read(), PIXELS.max(axis=2))
    assert (copy.metadata["scale"], copy.metadata["a"]) == ({"y": 0.1, "x": 0.1}, 1)


def test_what_cannot_be_known_is_left_out_with_a_warning(stack: TiffStack, tmp_path: Path) -> None:
    with pytest.warns(TiffStackWarning, match="the scale of y is left out: the array has another"):
        intake_tiffstack.export(stack.to_dask()[:, :2, :, :20], tmp_path / "a", like=stack)
    copy = reopen(tmp_path / "a")
    assert copy.metadata["scale"] == {"z": 0.5, "x": 0.1}
    assert copy.metadata["channel_names"] is None
    assert "channel" not in copy.to_xarray().coords


def test_without_a_source(tmp_path: Path) -> None:
    array = xr.DataArray(PIXELS[0, 0], dims=[*"zyx"], coords={"z": [1.0, 3.0]})
    export_array(array, tmp_path / "a", attrs={"scale": {"z": 2.0}, "units": {"z": "micrometer"}})
    copy = reopen(tmp_path / "a")
    np.testing.assert_array_equal(copy.read(), PIXELS[0, 0])
    assert copy.to_xarray().z.values.tolist() == [1.0, 3.0]
    with pytest.raises(OptionError, match="dims must name the 3 dims of an array of shape"):
        export_array(PIXELS[0, 0], tmp_path / "b")


def test_from_a_copy_and_from_a_source_of_a_catalog(stack: TiffStack, tmp_path: Path) -> None:
    copy = TiffStackSource(
        str(tmp_path / "t{t:d}_c{c:d}.tif"), channel_names=["DAPI", "GFP", "RFP"]
    ).export(tmp_path / "one.zarr")
    intake_tiffstack.export(copy.to_xarray() * 2, tmp_path / "two", like=copy)
    again = reopen(tmp_path / "two")
    assert again.metadata["scale"] == stack.metadata["scale"]
    assert again.metadata["made_from"]["source"] == str(tmp_path / "one.zarr")


def test_ome_tiff_too(stack: TiffStack, tmp_path: Path) -> None:
    result = stack.to_xarray().max("z")
    intake_tiffstack.export(result, tmp_path / "max.ome.tif", like=stack, format="ome-tiff")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "max.ome.tif"), PIXELS.max(axis=2))
    copy = open_stack(tmp_path / "max.ome.tif")
    assert copy.metadata["channel_names"] == ["DAPI", "GFP", "RFP"]
    assert copy.metadata["scale"] == {"y": 0.1, "x": 0.1}


def test_a_map_keeps_its_transformation(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "map.tif",
        PIXELS[0, 0, 0],
        extratags=[
            (33550, "d", 3, (10.0, 10.0, 0.0)),
            (33922, "d", 6, (0, 0, 0, 500_000.0, 4_000_000.0, 0)),
        ],
    )
    stack = open_stack(tmp_path / "map.tif")
    smaller = stack.to_xarray().isel(y=slice(8, None)).coarsen(y=4, x=4).mean()
    intake_tiffstack.export(smaller, tmp_path / "out", like=stack)
    assert reopen(tmp_path / "out").metadata["affine"] == [40, 0, 500_000, 0, -40, 3_999_920]


def test_refused(stack: TiffStack, tmp_path: Path) -> None:
    array = stack.to_xarray()
    with pytest.raises(OptionError, match="a computed array has no references"):
        intake_tiffstack.export(array, tmp_path / "a.json", like=stack, format="references")
    with pytest.raises(OptionError, match="sha256 is for a collection of files"):
        intake_tiffstack.export(array, tmp_path / "a", sha256=True)
    with pytest.raises(OptionError, match=r"unknown option of export\(\) 'chunk'"):
        intake_tiffstack.export(array, tmp_path / "a", chunk=1)
    unknown = da.from_array(PIXELS[0, 0, 0])[da.from_array(PIXELS[0, 0, 0, :, 0] > 5)]
    with pytest.raises(OptionError, match="the array has an unknown size"):
        export_array(unknown, tmp_path / "a", dims="yx")
    with pytest.raises(OptionError, match="levels='source', but the files hold no pyramid"):
        intake_tiffstack.export(array, tmp_path / "a", format="ome-zarr", levels="source")
    assert not (tmp_path / "a").exists()


def test_a_computed_array_is_computed_once_in_blocks_of_its_chunks(tmp_path: Path) -> None:
    seen = []

    def count(block: np.ndarray) -> np.ndarray:
        if block.size:
            seen.append(block.shape)
        return block + 1

    pixels = PIXELS.reshape(12, 64, 96)
    meta = np.empty((0, 0, 0), "u2")
    array = da.from_array(pixels, chunks=(5, 64, 96)).map_blocks(count, dtype="u2", meta=meta)
    export_array(array, tmp_path / "a", dims="zyx", verify=False, chunks=(5, 64, 96))
    assert sorted(seen) == [(2, 64, 96), (5, 64, 96), (5, 64, 96)]
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a")[:], pixels + 1)


def test_the_source_of_a_computed_array_travels_to_workers(stack: TiffStack) -> None:
    from intake_tiffstack.export.array_source import source_of

    source, granule = source_of(stack.to_xarray() + 1)
    again = pickle.loads(pickle.dumps(source))
    region = (slice(0, 1), slice(1, 2), slice(0, 2), slice(3, 9), slice(0, 5))
    np.testing.assert_array_equal(again[region], (PIXELS + 1)[region])
    assert granule == stack.to_dask().chunksize


# -- labels --------------------------------------------------------------------------------------

NUCLEI = (PIXELS[:, :1] // 20_000).astype(np.int32)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_of_an_image_are_seen_by_other_readers(
    stack: TiffStack, tmp_path: Path, version: Any
) -> None:
    url = tmp_path / "a.ome.zarr"
    stack.export(url, format="ome-zarr", version=version, levels=2)
    intake_tiffstack.export(xr.DataArray(NUCLEI, dims=[*"tczyx"]), url, like=stack, labels="nuclei")
    export_array((NUCLEI[:, 0] > 1).astype("u1"), url, dims="tzyx", labels="mask")
    model = {"0.4": v04, "0.5": v05}[version]
    root = zarr.open_group(url, mode="r")
    image = model.Image.from_zarr(root)
    attributes = image.labels.attributes
    listed = attributes.labels if version == "0.4" else attributes.ome.labels
    assert listed == ["nuclei", "mask"]
    label = model.ImageLabel.from_zarr(root["labels/nuclei"])
    assert label.attributes is not None
    document = ".zattrs" if version == "0.4" else "zarr.json"
    stored = json.loads((url / "labels/nuclei" / document).read_text())
    own = stored if version == "0.4" else stored["attributes"]["ome"]
    assert own["image-label"]["source"] == {"image": "../../"}
    assert "omero" not in own
    assert [d["path"] for d in own["multiscales"][0]["datasets"]] == ["0", "1"]
    np.testing.assert_array_equal(root["labels/nuclei/0"][:], NUCLEI)
    assert root["labels/nuclei/1"].shape == (2, 1, 2, 32, 48)
    nodes = {type(spec) for node in OmeReader(parse_url(url))() for spec in node.specs}
    assert {Labels, Multiscales} <= nodes
    copy = reopen(url, image="labels/nuclei")
    assert copy.metadata["scale"] == {"z": 0.5, "y": 0.1, "x": 0.1}
    assert copy.metadata["made_from"]["sizes"]["c"] == 3
    mask = reopen(url, image="labels/mask")
    np.testing.assert_array_equal(mask.read(), NUCLEI[:, 0] > 1)
    assert mask.metadata["scale"] == {"z": 0.5, "y": 0.1, "x": 0.1}


def test_labels_are_written_once_unless_replaced(stack: TiffStack, tmp_path: Path) -> None:
    url = tmp_path / "a.ome.zarr"
    stack.export(url, format="ome-zarr")
    labels = xr.DataArray(NUCLEI, dims=[*"tczyx"])
    plan = intake_tiffstack.export(labels, url, labels="n", dry_run=True)
    assert not (url / "labels").exists()
    intake_tiffstack.export(labels, url, labels="n")
    written = [path for path in (url / "labels" / "n").rglob("*") if path.is_file()]
    assert plan.objects == len(written)
    with pytest.raises(TargetExistsError, match="labels/n exists already"):
        intake_tiffstack.export(labels, url, labels="n")
    intake_tiffstack.export(labels + 1, url, labels="n", overwrite=True)
    np.testing.assert_array_equal(reopen(url, image="labels/n").read(), NUCLEI + 1)
    assert zarr.open_group(url)["labels"].attrs["ome"]["labels"] == ["n"]
    stack.export(url, format="ome-zarr", overwrite=True)  # labels are a part of the Zarr
    assert not (url / "labels").exists()


def test_labels_of_an_image_that_another_program_wrote(tmp_path: Path) -> None:
    url = tmp_path / "a.ome.zarr"
    image = ngff_zarr.to_ngff_image(
        PIXELS[0, 0],
        dims=[*"zyx"],
        scale={"z": 2.0, "y": 0.5, "x": 0.5},
        axes_units={"z": "micrometer", "y": "micrometer", "x": "micrometer"},
    )
    pyramid = ngff_zarr.to_multiscales(image, scale_factors=[{"z": 1, "y": 2, "x": 2}])
    ngff_zarr.to_ngff_zarr(str(url), pyramid, version="0.5")
    is_consolidated = zarr.open_group(url).metadata.consolidated_metadata is not None
    labels = (PIXELS[0, 0] > 1000).astype(np.uint8)
    if is_consolidated:
        with pytest.warns(TiffStackWarning, match="has consolidated metadata, in which the labels"):
            export_array(labels, url, dims="zyx", labels="mask")
    else:
        export_array(labels, url, dims="zyx", labels="mask")
    copy = reopen(url, image="labels/mask", level=1)
    assert copy.metadata["scale"] == {"z": 2.0, "y": 1.0, "x": 1.0}
    np.testing.assert_array_equal(reopen(url, image="labels/mask").read(), labels)


@pytest.mark.parametrize(
    ("array", "dims", "options", "match"),
    [
        (NUCLEI.astype("f4"), "tczyx", {}, "labels are integers, but got float32"),
        (NUCLEI[..., :50], "tczyx", {}, "labels must have the dims of their image or fewer, t=2"),
        (NUCLEI[:, 0, 0], "ayx", {}, "labels must have the dims of their image"),
        (NUCLEI[..., :1], "tczyx", {}, "labels must cover y and x"),
        (NUCLEI, "tczyx", {"levels": 2}, "levels of labels is that of their image"),
        (NUCLEI, "tczyx", {"labels": "../n"}, "labels must be a name such as 'nuclei', but got"),
        (NUCLEI, "tczyx", {"labels": ""}, "labels must be a name such as 'nuclei', but got ''"),
        (NUCLEI, "tczyx", {"format": "ome-tiff"}, "labels are part of an OME-Zarr, but got"),
    ],
)
def test_labels_that_do_not_fit(
    stack: TiffStack, tmp_path: Path, array: Any, dims: str, options: Any, match: str
) -> None:
    stack.export(tmp_path / "a.ome.zarr", format="ome-zarr")
    with pytest.raises(OptionError, match=match):
        export_array(array, tmp_path / "a.ome.zarr", dims=dims, **{"labels": "n", **options})
    assert not (tmp_path / "a.ome.zarr" / "labels").exists()


def test_labels_need_an_image(tmp_path: Path) -> None:
    with pytest.raises(FilesNotFoundError, match="holds no Zarr group"):
        export_array(NUCLEI, tmp_path / "a.ome.zarr", dims="tczyx", labels="n")
    zarr.create_group(tmp_path / "b.zarr")
    with pytest.raises(FilesNotFoundError, match="is not an image of an OME-Zarr"):
        export_array(NUCLEI, tmp_path / "b.zarr", dims="tczyx", labels="n")
