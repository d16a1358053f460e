"""OME-Zarr 0.6, against its own JSON schemas and ngff-zarr's reader; ``.ozx`` in one file."""

from __future__ import annotations

import json
import uuid
import zipfile
from pathlib import Path
from typing import Any

import dask
import intake
import ngff_zarr
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from ngff_zarr.rfc9_zip import read_ozx_json_first, read_ozx_version
from ngff_zarr.validate import validate

import intake_tiffstack
from export_sources import BrokenSource, CountedSource
from intake_tiffstack import TiffStackSource, open_stack, samples
from intake_tiffstack.copies.record import read_record
from intake_tiffstack.errors import OptionError, StorageError, TargetExistsError
from intake_tiffstack.export.ome_zarr.write import write_ome_zarr
from intake_tiffstack.export.zarr_array import write_zarr
from servers import S3Server

PIXELS = np.random.default_rng(3).integers(0, 60_000, (2, 3, 40, 60), dtype=np.uint16)
ATTRS = {
    "scale": {"t": 2.0, "y": 0.5, "x": 0.25},
    "translation": {"y": 10.0},
    "units": {"t": "second", "y": "micrometer", "x": "micrometer"},
    "channel_names": ["a", "b", "c"],
}


def write(url: Any, array: Any = PIXELS, dims: Any = "tcyx", **options: Any) -> Any:
    source = CountedSource(array) if isinstance(array, np.ndarray) else array
    given = {"dims": dims, "coords": {}, "attrs": ATTRS, "version": "0.6", **options}
    return write_ome_zarr(source, url, **given)


def attributes_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "zarr.json").read_text())["attributes"]


def test_an_image_is_valid_and_read_by_ngff_zarr(tmp_path: Path) -> None:
    url = tmp_path / "a.ome.zarr"
    write(url, levels=2)
    attributes = attributes_of(url)
    validate(attributes, version="0.6", model="image")
    assert attributes["ome"]["version"] == "0.6"
    (multiscale,) = attributes["ome"]["multiscales"]
    assert "axes" not in multiscale
    (system,) = multiscale["coordinateSystems"]
    assert [axis["name"] for axis in system["axes"]] == [*"tcyx"]
    pyramid = ngff_zarr.from_ngff_zarr(str(url), version="0.6", validate=True)
    one, two = pyramid.images
    assert list(one.dims) == list(two.dims) == [*"tcyx"]
    np.testing.assert_array_equal(one.data.compute(), PIXELS)
    assert one.scale == {"t": 2.0, "c": 1.0, "y": 0.5, "x": 0.25}
    assert (one.translation["y"], two.scale["y"], two.translation["y"]) == (10.0, 1.0, 10.25)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{url}/0"}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), PIXELS)


def test_ome_zarr_models_agrees(tmp_path: Path) -> None:
    models = pytest.importorskip(
        "ome_zarr_models.v06", reason="ome-zarr-models knows 0.6 from 1.8 on, for Python 3.12"
    )
    turned = {"affine": [8.0, 6.0, 1e5, 6.0, -8.0, 4e6]}
    write(tmp_path / "plain", levels=2)
    write(tmp_path / "angles", PIXELS, ["t", "angle", "y", "x"], attrs={}, levels=2)
    write(tmp_path / "turned", PIXELS[0, 0], "yx", attrs=turned, levels=2)
    for name in ("plain", "angles", "turned"):
        image = models.Image.from_zarr(zarr.open_group(tmp_path / name, mode="r"))
        assert image.ome_attributes.version == "0.6"


def test_a_copy_opens_with_scale_units_and_channels(tmp_path: Path) -> None:
    url = tmp_path / "a.ome.zarr"
    write(url, levels=2, coords={"channel": (("c",), np.array(["a", "b", "c"]))})
    copy = intake.open_tiffstack_zarr(str(url), level=1)
    assert copy.metadata["scale"] == {"t": 2.0, "y": 1.0, "x": 0.5}
    assert copy.metadata["translation"] == {"y": 10.25, "x": 0.125}
    assert copy.metadata["units"] == ATTRS["units"]
    assert copy.to_xarray().channel.values.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(intake.open_tiffstack_zarr(str(url)).read(), PIXELS)


def test_a_plate_a_series_and_labels_are_valid(tmp_path: Path) -> None:
    samples.make_plate(tmp_path / "plate")
    plate = TiffStackSource(str(tmp_path / "plate"), pattern="cv8000", missing="fill")
    url = tmp_path / "plate.ome.zarr"
    plate.export(url, format="ome-zarr", version="0.6")
    validate(attributes_of(url), version="0.6", model="plate")
    validate(attributes_of(url / "B" / "03"), version="0.6", model="well")
    validate(attributes_of(url / "B" / "03" / "0"), version="0.6", model="image")
    image = intake.open_tiffstack_zarr(str(url), image="B/03/0")
    labels = (image.to_xarray() > 100).astype("uint8")
    intake_tiffstack.export(labels, url / "B" / "03" / "0", like=image, labels="cells")
    validate(attributes_of(url / "B/03/0/labels/cells"), version="0.6", model="label")
    validate(attributes_of(url / "B/03/0/labels/cells"), version="0.6", model="image")
    assert attributes_of(url / "B/03/0/labels")["ome"] == {"version": "0.6", "labels": ["cells"]}
    again = intake.open_tiffstack_zarr(str(url), image="B/03/0/labels/cells")
    np.testing.assert_array_equal(again.read(), labels)
    write(tmp_path / "series", PIXELS, ["position", "c", "y", "x"])
    validate(attributes_of(tmp_path / "series"), version="0.6", model="bf2raw")
    validate(attributes_of(tmp_path / "series" / "OME"), version="0.6", model="ome")


def at(system: Any, point: list[float]) -> list[float]:
    """Return where a point lies after an affine, by the definition of the specification."""
    return [sum(n * v for n, v in zip(row, [*point, 1], strict=True)) for row in system["affine"]]


@pytest.mark.parametrize(
    "affine",
    [[10.0, 0.0, 500.0, 0.0, -10.0, 90.0], [8.0, 6.0, 1e5, 6.0, -8.0, 4e6]],
    ids=["north up", "turned"],
)
def test_a_map_has_a_second_system(
    tmp_path: Path, affine: list[float], recwarn: pytest.WarningsRecorder
) -> None:
    attrs = {"affine": affine, "units": {"y": "meter", "x": "meter"}}
    if affine[1] == 0:
        attrs["scale"] = {"y": -10.0, "x": 10.0}
        attrs["translation"] = {"y": 85.0, "x": 505.0}
    url = tmp_path / "map.ome.zarr"
    write(url, PIXELS[0, 0], "yx", attrs=attrs, levels=2)
    assert not recwarn.list
    validate(attributes_of(url), version="0.6", model="image")
    (multiscale,) = attributes_of(url)["ome"]["multiscales"]
    physical, world = multiscale["coordinateSystems"]
    (step,) = multiscale["coordinateTransformations"]
    assert (step["input"], step["output"]) == ({"name": physical["name"]}, {"name": world["name"]})
    for level, factor in enumerate((1, 2)):
        (placed,) = multiscale["datasets"][level]["coordinateTransformations"]
        steps = placed.get("transformations", [placed])
        scale = steps[0]["scale"]
        start = steps[1]["translation"] if len(steps) > 1 else [0, 0]
        for i, j in ((0, 0), (3, 7)):
            found = at(step, [i * scale[0] + start[0], j * scale[1] + start[1]])
            row, column = (i + 0.5) * factor, (j + 0.5) * factor  # the centre of the pixel
            a, b, c, d, e, f = affine
            y, x = d * column + e * row + f, a * column + b * row + c
            assert found == pytest.approx([y, x])


def test_reversed_axes_have_a_second_system_and_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    attrs = {"scale": {"y": -0.5, "x": 0.5}, "translation": {"y": 20.0, "x": 1.0}}
    write(tmp_path / "a", PIXELS[0, 0], "yx", attrs=attrs)
    assert not recwarn.list
    (multiscale,) = attributes_of(tmp_path / "a")["ome"]["multiscales"]
    (step,) = multiscale["coordinateTransformations"]
    assert at(step, [4 * 0.5, 6 * 0.5 + 1.0]) == [18.0, 4.0]


def test_a_dim_of_another_kind_is_an_axis_if_there_are_no_channels(tmp_path: Path) -> None:
    angles = {"angle": (("angle",), np.array([0, 90, 180]))}
    write(tmp_path / "a", PIXELS, ["t", "angle", "y", "x"], coords=angles, attrs={}, levels=2)
    attributes = attributes_of(tmp_path / "a")
    validate(attributes, version="0.6", model="image")
    axes = attributes["ome"]["multiscales"][0]["coordinateSystems"][0]["axes"]
    assert axes[:2] == [{"name": "t", "type": "time"}, {"name": "angle", "type": "angle"}]
    copy = intake.open_tiffstack_zarr(str(tmp_path / "a"))
    assert copy.to_xarray().dims == ("t", "angle", "y", "x")
    assert copy.to_xarray().angle.values.tolist() == [0, 90, 180]
    np.testing.assert_array_equal(copy.read(), PIXELS)
    for options in ({"version": "0.5"}, {"dims": ["angle", "c", "y", "x"]}):
        with pytest.raises(OptionError, match="angle"):
            write(tmp_path / "b", **{"dims": ["t", "angle", "y", "x"], "attrs": {}, **options})


@pytest.mark.parametrize("version", ["0.6rc0", "0.6"])
def test_what_ngff_zarr_wrote_opens(tmp_path: Path, version: str) -> None:
    image = ngff_zarr.to_ngff_image(
        PIXELS[0, 0],
        dims=[*"yx"],
        scale={"y": 0.5, "x": 0.25},
        translation={"y": 3.0, "x": 0.0},
        axes_units={"y": "micrometer", "x": "micrometer"},
    )
    pyramid = ngff_zarr.to_multiscales(image, scale_factors=[2], cache=False)
    ngff_zarr.to_ngff_zarr(str(tmp_path / "a"), pyramid, version="0.6")
    document = tmp_path / "a" / "zarr.json"
    document.write_text(document.read_text().replace('"version": "0.6"', f'"version": "{version}"'))
    copy = intake.open_tiffstack_zarr(str(tmp_path / "a"))
    assert copy.metadata["scale"] == {"y": 0.5, "x": 0.25}
    assert copy.metadata["translation"]["y"] == 3.0
    np.testing.assert_array_equal(copy.read(), PIXELS[0, 0])
    assert intake.open_tiffstack_zarr(str(tmp_path / "a"), level=1).to_dask().shape == (20, 30)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "rotation", "rotation": [[0, 1], [1, 0]]},
        {"type": "scale", "path": "scales"},
        {"type": "scale", "scale": [1, 1], "output": {"name": "elsewhere"}},
    ],
    ids=["rotation", "stored", "unknown"],
)
def test_other_places_of_a_level_are_an_error(tmp_path: Path, change: Any) -> None:
    write(tmp_path / "a", PIXELS[0, 0], "yx", attrs={})
    document = json.loads((tmp_path / "a" / "zarr.json").read_text())
    dataset = document["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    ends = {"input": {"path": "0"}, "output": {"name": "physical"}}
    dataset["coordinateTransformations"] = [{**ends, **change}]
    (tmp_path / "a" / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(StorageError, match=r"is not a valid OME-Zarr 0\.6, or places its levels"):
        intake.open_tiffstack_zarr(str(tmp_path / "a")).to_dask()


# -- one file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.5", "0.6"])
def test_one_file_is_read_by_ngff_zarr_zarr_and_here(tmp_path: Path, version: Any) -> None:
    url = tmp_path / "a.ozx"
    plan = write(url, levels=2, version=version, dry_run=True)
    assert (plan.objects, plan.url, list(tmp_path.iterdir())) == (1, str(url), [])
    write(url, levels=2, version=version, chunks=(1, 1, 20, 30))
    assert list(tmp_path.iterdir()) == [url]
    with zipfile.ZipFile(url) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    is_document = [name.endswith("zarr.json") for name in names]
    assert names[0] == "zarr.json"
    assert is_document == sorted(is_document, reverse=True)
    assert read_ozx_version(url) == version
    assert read_ozx_json_first(url)
    one, two = ngff_zarr.from_ngff_zarr(str(url), version=version).images
    np.testing.assert_array_equal(one.data.compute(), PIXELS)
    assert two.scale["y"] == 1.0
    with zarr.storage.ZipStore(url, mode="r") as store:
        np.testing.assert_array_equal(zarr.open_group(store, mode="r")["0"][:], PIXELS)
    copy = intake.open_tiffstack_zarr(str(url))
    np.testing.assert_array_equal(copy.read(), PIXELS)
    assert copy.metadata["scale"] == ATTRS["scale"]
    assert intake.open_tiffstack_zarr(str(url), level=1).to_dask().shape == (2, 3, 20, 30)


def test_threads_read_parts_of_shards_in_one_file(tmp_path: Path) -> None:
    """The zipfile of Python 3.12.0 to 3.12.8, 3.13.0 and 3.13.1 gives them other bytes."""
    pixels = np.random.default_rng(5).integers(0, 60_000, (8, 40, 32, 32), dtype=np.uint16)
    chunks, shards = (1, 1, 32, 32), (1, 40, 32, 32)
    url = tmp_path / "a.ozx"
    write(url, pixels, "tzyx", levels=1, chunks=chunks, shards=shards, compressor=None)
    array = intake.open_tiffstack_zarr(str(url)).to_dask()
    for z in range(0, 40, 4):
        np.testing.assert_array_equal(array[:, z].compute(num_workers=8), pixels[:, z])


def test_what_ngff_zarr_zipped_opens(tmp_path: Path) -> None:
    image = ngff_zarr.to_ngff_image(PIXELS[0, 0], dims=[*"yx"], scale={"y": 0.5, "x": 0.25})
    pyramid = ngff_zarr.to_multiscales(image, scale_factors=[2], cache=False)
    ngff_zarr.to_ngff_zarr(str(tmp_path / "a.ozx"), pyramid, version="0.5")
    copy = intake.open_tiffstack_zarr(str(tmp_path / "a.ozx"))
    np.testing.assert_array_equal(copy.read(), PIXELS[0, 0])
    assert copy.metadata["scale"] == {"y": 0.5, "x": 0.25}


def test_one_file_is_a_source_with_a_record(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0, 0])
    source = TiffStackSource(str(tmp_path / "a.tif"))
    copy = source.export(tmp_path / "b.ozx", format="ome-zarr")
    np.testing.assert_array_equal(copy.read(), PIXELS[0, 0])
    record = read_record(str(tmp_path / "b.ozx"))
    assert record is not None
    assert list(record.files.urls) == [str(tmp_path / "a.tif")]
    check = intake_tiffstack.verify(tmp_path / "b.ozx", pixels="all")
    assert check.problems == []
    assert check.compared > 0


def test_one_file_is_never_half_there(tmp_path: Path) -> None:
    url = tmp_path / "a.ozx"
    url.write_bytes(b"mine")
    with pytest.raises(TargetExistsError, match=r"a\.ozx exists already \(a file\)"):
        write(url)
    with pytest.raises(OSError, match="the disk with the raw data is gone"):
        write(url, BrokenSource(PIXELS, 3000), overwrite=True, chunks=(1, 1, 40, 60))
    assert url.read_bytes() == b"mine"
    write(url, overwrite=True)
    assert list(tmp_path.iterdir()) == [url]
    np.testing.assert_array_equal(intake.open_tiffstack_zarr(str(url)).read(), PIXELS)
    with pytest.raises(OptionError, match=r"c\.ozx is the name of an OME-Zarr in one file; give"):
        write_zarr(CountedSource(PIXELS), tmp_path / "c.ozx", dims="tcyx", coords={}, attrs={})
    with pytest.raises(OptionError, match=r"an \.ozx is of OME-Zarr 0\.5 or 0\.6"):
        write(tmp_path / "b.ozx", version="0.4")


def test_one_file_resumes(tmp_path: Path) -> None:
    options: Any = {"chunks": (1, 1, 40, 60), "levels": 1, "verify": False}
    with dask.config.set({"tiffstack.block_bytes": 1, "num_workers": 1}):
        with pytest.raises(OSError, match="the disk with the raw data is gone"):
            write(tmp_path / "a.ozx", BrokenSource(PIXELS, 4 * 2400), **options)
        source = CountedSource(PIXELS)
        write(tmp_path / "a.ozx", source, **options)
    assert source.reads.sum() == PIXELS.size - 4 * 2400
    np.testing.assert_array_equal(
        intake.open_tiffstack_zarr(str(tmp_path / "a.ozx")).read(), PIXELS
    )


def test_one_file_in_an_object_store_and_in_memory(s3_server: S3Server) -> None:
    s3_server.put("zips", {})
    for url, options in (
        (f"memory://{uuid.uuid4().hex}/a.ozx", {}),
        ("s3://zips/deep/a.ozx", s3_server.storage_options),
    ):
        write(url, storage_options=options)
        copy = intake.open_tiffstack_zarr(url, storage_options=options)
        np.testing.assert_array_equal(copy.read(), PIXELS)
        with pytest.raises(TargetExistsError, match="exists already"):
            write(url, storage_options=options)


def test_open_stack_exports_0_6(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0, 0], photometric="minisblack")
    open_stack(tmp_path / "a.tif").export(tmp_path / "b", format="ome-zarr", version="0.6")
    validate(attributes_of(tmp_path / "b"), version="0.6", model="image")
