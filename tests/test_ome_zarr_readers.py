"""Other programs see in an OME-Zarr what was written: pixels, scale and axes; and we see theirs.

What checks metadata (yaozarrs, ome-zarr-models) and what reads (ome-zarr-py, ngff-zarr,
tensorstore, zarr-python, napari's reader), for both versions, an image, a plate and a series.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import fsspec
import intake
import ngff_zarr
import numpy as np
import ome_zarr.io
import ome_zarr.reader
import ome_zarr_models
import pytest
import tensorstore
import tifffile
import yaozarrs
import zarr

from intake_tiffstack import open_stack
from intake_tiffstack.copies.open_ome_zarr import open_ome_zarr
from intake_tiffstack.copies.record import RECORD
from intake_tiffstack.export.ome_zarr.write import write_ome_zarr
from servers import S3Server, serve_cluster

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])
MICRO = dict.fromkeys("zyx", "micrometer")
SCALE = {"z": 0.5, "y": 0.25, "x": 0.125}
DIMS = ("t", "c", "z", "y", "x")

pytestmark = [
    # of their own making, at what they import or call
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*version.*not specified in plate metadata"),
    pytest.mark.filterwarnings("ignore:.*version mismatch"),
]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 60_000, (2, 3, 4, 60, 46), dtype=np.uint16)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    """A folder with an image, a plate and a series, of both versions."""
    folder = tmp_path_factory.mktemp("ome")
    attrs = {
        "scale": SCALE,
        "units": MICRO,
        "time_interval": 10.0,
        "channel_names": ["GFP", "RFP", "DAPI"],
    }
    for version in ("0.4", "0.5"):
        common: Any = {"attrs": attrs, "version": version, "levels": 3}
        write_ome_zarr(pixels, folder / version / "image.zarr", dims=DIMS, coords={}, **common)
        wells = {"well": (("well",), np.array(["B03", "C10"]))}
        for name, dim, coords in (("plate", "well", wells), ("series", "position", {})):
            dims = [dim, *DIMS[1:]]
            write_ome_zarr(
                pixels, folder / version / f"{name}.zarr", dims=dims, coords=coords, **common
            )
    return folder


def level(images: Path, version: str, number: int) -> np.ndarray:
    """Return a level as zarr-python has it."""
    return zarr.open_array(images / version / "image.zarr" / str(number), mode="r")[...]


@VERSIONS
@pytest.mark.parametrize("kind", ["image", "plate", "series"])
def test_yaozarrs_finds_nothing_wrong(images: Path, version: str, kind: str) -> None:
    assert yaozarrs.validate_zarr_store(images / version / f"{kind}.zarr")


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        ("0.4", "image", "Image"),
        ("0.4", "plate", "HCS"),
        ("0.4", "series", "BioFormats2Raw"),
        ("0.5", "image", "Image"),
        ("0.5", "plate", "HCS"),  # it has no model of a series in 0.5
    ],
)
def test_ome_zarr_models_finds_nothing_wrong(
    images: Path, version: str, kind: str, expected: str
) -> None:
    group = zarr.open_group(images / version / f"{kind}.zarr", mode="r")
    assert type(ome_zarr_models.open_ome_zarr(group)).__name__ == expected


@VERSIONS
def test_zarr_python_reads_all_levels(images: Path, version: str, pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(level(images, version, 0), pixels)
    assert level(images, version, 1).shape == (2, 3, 4, 30, 23)
    assert level(images, version, 2).shape == (2, 3, 4, 15, 12)


@VERSIONS
def test_tensorstore_reads_and_makes_the_same_levels(
    images: Path, version: str, pixels: np.ndarray
) -> None:
    driver = {"0.4": "zarr", "0.5": "zarr3"}[version]

    def opened(number: int) -> Any:
        where = str(images / version / "image.zarr" / str(number))
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": where}}
        return tensorstore.open(spec, open=True, read=True).result()

    full, half = opened(0), opened(1)
    np.testing.assert_array_equal(full.read().result(), pixels)
    made = tensorstore.downsample(full, [1, 1, 1, 2, 2], "mean").read().result()
    np.testing.assert_array_equal(half.read().result(), made)
    if version == "0.5":
        assert full.domain.labels == DIMS


@VERSIONS
def test_ngff_zarr_sees_pixels_scale_and_axes(
    images: Path, version: str, pixels: np.ndarray
) -> None:
    found = ngff_zarr.from_ngff_zarr(str(images / version / "image.zarr"), version=version)
    full, half, _ = found.images
    np.testing.assert_array_equal(full.data.compute(), pixels)
    np.testing.assert_array_equal(half.data.compute(), level(images, version, 1))
    assert tuple(full.dims) == DIMS
    assert full.scale == {"t": 10, "c": 1, **SCALE}
    assert half.scale == {"t": 10, "c": 1, "z": 0.5, "y": 0.5, "x": 0.25}
    assert half.translation == {"t": 0, "c": 0, "z": 0, "y": 0.125, "x": 0.0625}
    assert full.axes_units == {"t": "second", "c": None, **MICRO}


def read_nodes(where: Path) -> list[Any]:
    location = ome_zarr.io.parse_url(str(where), mode="r")
    return list(ome_zarr.reader.Reader(location)())


@VERSIONS
def test_ome_zarr_py_sees_an_image(images: Path, version: str, pixels: np.ndarray) -> None:
    (node,) = read_nodes(images / version / "image.zarr")
    np.testing.assert_array_equal(node.data[0].compute(), pixels)
    np.testing.assert_array_equal(node.data[2].compute(), level(images, version, 2))
    assert [axis["name"] for axis in node.metadata["axes"]] == list(DIMS)
    scale = node.metadata["coordinateTransformations"][1][0]["scale"]
    assert scale == [10, 1, 0.5, 0.5, 0.25]
    assert node.metadata["channel_names"] == ["GFP", "RFP", "DAPI"]


@VERSIONS
def test_ome_zarr_py_sees_a_plate(images: Path, version: str, pixels: np.ndarray) -> None:
    node = read_nodes(images / version / "plate.zarr")[0]
    tiled = node.data[0].compute()  # it puts the wells side by side
    np.testing.assert_array_equal(tiled[..., :60, :46], pixels[0])
    np.testing.assert_array_equal(tiled[..., -60:, -46:], pixels[1])


@VERSIONS
@pytest.mark.parametrize("kind", ["image", "plate", "series"])
def test_napari_sees_them(images: Path, version: str, kind: str, pixels: np.ndarray) -> None:
    plugin = pytest.importorskip("napari_ome_zarr", reason="make test-readers has it")
    where = str(images / version / f"{kind}.zarr")
    layers = plugin.napari_get_reader(where)(where)
    data, options, layer_type = layers[0]
    assert layer_type == "image"
    assert options["channel_axis"] == (1 if kind == "image" else 0)
    expected = {"image": pixels, "plate": pixels[0], "series": pixels[0]}[kind]
    shape = expected.shape
    if kind == "plate":  # the wells side by side
        np.testing.assert_array_equal(np.asarray(data[0])[..., : shape[-2], : shape[-1]], expected)
    else:
        np.testing.assert_array_equal(np.asarray(data[0]), expected)
    assert options["scale"][-3:] == [0.5, 0.25, 0.125]
    assert [name.rpartition(" ")[2] for name in options["name"]] == ["GFP", "RFP", "DAPI"]


# --- theirs ---------------------------------------------------------------------------------------


@VERSIONS
def test_we_open_what_ngff_zarr_writes(tmp_path: Path, version: str, pixels: np.ndarray) -> None:
    image = ngff_zarr.to_ngff_image(
        pixels[0],
        dims=["c", "z", "y", "x"],
        scale={"z": 2.0, "y": 0.5, "x": 0.5},
        translation={"z": 1.0, "y": 0.0, "x": 0.0},
        axes_units={"z": "micrometer"},
    )
    multiscales = ngff_zarr.to_multiscales(image, scale_factors=[], cache=False)
    ngff_zarr.to_ngff_zarr(str(tmp_path / "a.ome.zarr"), multiscales, version=version)
    source = intake.open_tiffstack_zarr(str(tmp_path / "a.ome.zarr"))
    np.testing.assert_array_equal(source.read(), pixels[0])
    assert source.metadata["dims"] == ["c", "z", "y", "x"]
    assert source.metadata["scale"] == {"z": 2.0, "y": 0.5, "x": 0.5}
    assert source.to_xarray().coords["z"].values.tolist() == [1, 3, 5, 7]


@VERSIONS
def test_we_open_an_image_that_ome_zarr_py_writes(
    tmp_path: Path, version: str, pixels: np.ndarray
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how it calls itself, zarr and dask
        import ome_zarr.format
        import ome_zarr.writer

        formats = {"0.4": ome_zarr.format.FormatV04(), "0.5": ome_zarr.format.FormatV05()}
        format = {"0.4": 2, "0.5": 3}[version]
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=format)
        ome_zarr.writer.write_image(pixels, group, axes="tczyx", fmt=formats[version])
    first = intake.open_tiffstack_zarr(str(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(first.read(), pixels)
    second = intake.open_tiffstack_zarr(str(tmp_path / "a.zarr"), level=1)
    assert second.discover()["shape"][-2:] == (30, 23)


@VERSIONS
def test_the_driver_opens_any_image_of_a_plate(
    images: Path, version: str, pixels: np.ndarray
) -> None:
    where = str(images / version / "plate.zarr")
    source = intake.open_tiffstack_zarr(where, image="C/10/0", level=1)
    copy = open_ome_zarr(where, image="C/10/0", level=1)
    np.testing.assert_array_equal(source.read(), copy.array.compute())
    named = source.to_xarray()
    assert named.dims == DIMS[1:]
    assert named.coords["well"] == "C10"


# --- from files ----------------------------------------------------------------------------------


@pytest.fixture
def scan(tmp_path: Path) -> tuple[Any, np.ndarray]:
    """A collection of files with a hole, and its pixels."""
    array = np.random.default_rng(6).integers(0, 4000, (2, 3, 2, 40, 30), dtype=np.uint16)
    (tmp_path / "raw").mkdir()
    for i, well in enumerate(["A01", "B02"]):
        for s in range(3):
            for c in range(2):
                if (i, s) != (1, 1):
                    name = f"{well}_s{s}_w{c}.tif"
                    tifffile.imwrite(tmp_path / "raw" / name, array[i, s, c])
    array[1, 1] = 0
    options = {"pattern": "{well}_s{s:d}_w{c:d}.tif", "missing": "fill"}
    return open_stack(str(tmp_path / "raw" / "*.tif"), **options), array


@VERSIONS
def test_files_become_a_plate_without_what_is_missing(
    tmp_path: Path, scan: tuple[Any, np.ndarray], version: str
) -> None:
    stack, array = scan
    stack.export(str(tmp_path / "plate.zarr"), format="ome-zarr", version=version)
    yaozarrs.validate_zarr_store(tmp_path / "plate.zarr")
    group = zarr.open_group(tmp_path / "plate.zarr", mode="r")
    attributes = dict(group["B/02"].attrs)
    images = attributes.get("ome", attributes)["well"]["images"]
    assert [image["path"] for image in images] == ["0", "1"]
    np.testing.assert_array_equal(group["B/02/1/0"][...], array[1, 2])


def test_a_source_exports_and_gives_a_source_over_the_copy(tmp_path: Path) -> None:
    array = np.random.default_rng(8).integers(0, 4000, (3, 2, 20, 30), dtype=np.uint16)
    for t in range(3):
        tifffile.imwrite(tmp_path / f"scan_t{t}.tif", array[t])
    source = intake.open_tiffstack(
        str(tmp_path / "*.tif"), pattern="scan_t{t:d}.tif", file_dims="cyx"
    )
    copy = source.export(str(tmp_path / "scan.ome.zarr"), format="ome-zarr")
    np.testing.assert_array_equal(copy.read(), array)
    assert copy.to_xarray().dims == ("t", "c", "y", "x")
    np.testing.assert_array_equal(copy.to_xarray().coords["t"], [0, 1, 2])


def test_a_pyramid_in_the_files_is_kept(tmp_path: Path) -> None:
    full = np.random.default_rng(9).integers(0, 255, (64, 64), dtype=np.uint8)
    reduced = full[1::2, 1::2]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(full, subifds=1, tile=(16, 16))
        tif.write(reduced, subfiletype=1, tile=(16, 16))
    stack = open_stack(str(tmp_path / "a.ome.tif"))
    stack.export(str(tmp_path / "a.zarr"), format="ome-zarr", levels="source")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][...], full)
    np.testing.assert_array_equal(group["1"][...], reduced)
    assert "2" not in group


@VERSIONS
def test_on_s3(s3_server: S3Server, scan: tuple[Any, np.ndarray], version: str) -> None:
    stack, array = scan
    options = s3_server.storage_options
    where = f"s3://ome-zarr-bucket/{version}/plate.ome.zarr"
    fsspec.filesystem("s3", **options).makedirs("ome-zarr-bucket", exist_ok=True)
    stack.export(
        where, format="ome-zarr", version=version, storage_options=options, levels=2, verify="all"
    )
    source = intake.open_tiffstack_zarr(where, storage_options=options, image="A/01/2")
    np.testing.assert_array_equal(source.read(), array[0, 2])


def test_workers_of_a_cluster_write_the_same(tmp_path: Path, scan: tuple[Any, np.ndarray]) -> None:
    stack, _ = scan
    stack.export(str(tmp_path / "one" / "a.zarr"), format="ome-zarr", levels=2)
    with serve_cluster() as client, client.as_current():
        stack.export(str(tmp_path / "two" / "a.zarr"), format="ome-zarr", levels=2)
    one, two = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file() and p.name != RECORD}
        for f in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
