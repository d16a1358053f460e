"""Export to OME-TIFF, as tifffile, ome-types and bioio read it."""

from __future__ import annotations

import hashlib
import uuid
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import ome_types
import pytest
import tifffile
import xmlschema
from bioio_ome_tiff import Reader
from hypothesis import given
from hypothesis import strategies as st

import intake_tiffstack.export.ome_tiff.write as writing
from export_sources import BrokenSource, CountedSource
from intake_tiffstack import TiffStack, TiffStackSource, open_stack, samples
from intake_tiffstack.copies.record import read_record
from intake_tiffstack.errors import (
    OptionError,
    StorageError,
    TargetExistsError,
    TiffStackWarning,
    VerificationError,
)
from intake_tiffstack.export.ome_tiff.bands import cut_in_order, find_bands, split_into_tiles
from intake_tiffstack.export.ome_tiff.tiff_file import needs_bigtiff
from intake_tiffstack.export.ome_tiff.write import write_ome_tiff
from servers import S3Server

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 60_000, (2, 3, 2, 100, 140), dtype=np.uint16)


def write(url: Any, array: Any = PIXELS, dims: str = "tczyx", **options: Any) -> Any:
    """Write an array with as little else as there can be."""
    source = CountedSource(array) if isinstance(array, np.ndarray) else array
    return write_ome_tiff(source, url, **{"dims": dims, "coords": {}, "attrs": {}, **options})


def halved(pixels: np.ndarray) -> np.ndarray:
    """Return the mean of 2 x 2 pixels, halves to even; y and x are even."""
    *outer, y, x = pixels.shape
    cells = pixels.reshape(*outer, y // 2, 2, x // 2, 2)
    means = cells.mean(axis=(-3, -1), dtype=np.float64)
    return means.astype(pixels.dtype) if pixels.dtype.kind == "f" else np.rint(means)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six ImageJ volumes of 0.1 x 0.1 x 0.5 micrometre."""
    for t in range(2):
        for c in range(3):
            tifffile.imwrite(
                tmp_path / f"t{t}_c{c}.tif",
                PIXELS[t, c],
                imagej=True,
                metadata={"spacing": 0.5, "unit": "um", "axes": "ZYX"},
                resolution=(10, 10),
            )
    return tmp_path


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", None])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_tifffile_reads_pixels_levels_and_tiles(
    tmp_path: Path, dtype: str, compression: Any
) -> None:
    pixels = (PIXELS[:, :, :, :96, :128] // 300).astype(dtype)
    write(
        tmp_path / "a.ome.tif",
        pixels,
        levels=3,
        tile=(32, 64),
        compression=compression,
        verify="all",
    )
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        (series,) = tif.series
        assert (series.axes, series.dtype, len(tif.pages)) == ("TCZYX", np.dtype(dtype), 12)
        one, two, three = (level.asarray() for level in series.levels)
        page = tif.pages.first
        assert (page.tile, page.is_ome) == ((32, 64), True)
        name = {"zlib": "ADOBE_DEFLATE", None: "NONE"}.get(compression, str(compression).upper())
        assert page.compression.name == name
    np.testing.assert_array_equal(one, pixels)
    np.testing.assert_array_equal(two, halved(pixels))
    np.testing.assert_array_equal(three, halved(two))


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "uint32", "complex64", "complex128"])
def test_all_other_pixels_of_ome(tmp_path: Path, dtype: str) -> None:
    pixels = (PIXELS[0, 0, 0] % 2).astype(dtype)
    write(tmp_path / "a.ome.tif", pixels, "yx", tile=32, levels=2, downsample="nearest")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        np.testing.assert_array_equal(tif.series[0].asarray(), pixels)
        np.testing.assert_array_equal(tif.series[0].levels[1].asarray(), pixels[::2, ::2])


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float16"])
def test_pixels_that_ome_does_not_have_are_an_error(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(OptionError, match=f"OME-TIFF has no pixels of type {dtype}; export as"):
        write(tmp_path / "a.ome.tif", PIXELS.astype(dtype))
    assert list(tmp_path.iterdir()) == []


@given(
    outer=st.lists(st.integers(1, 4), max_size=2),
    plane=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    unit=st.sampled_from([16, 32]),
    most=st.integers(1, 20_000),
)
def test_bands_are_the_tiles_of_a_tiff_in_its_order(
    outer: list[int], plane: tuple[int, int], unit: int, most: int
) -> None:
    shape = (*outer, *plane)
    pixels = np.arange(prod(shape)).reshape(shape)
    lengths = cut_in_order(shape, 2, unit=unit, row_axis=len(outer), most_bytes=most)
    assert prod(lengths) * 2 <= max(most, unit * plane[1] * 2)
    found = [
        tile
        for band in find_bands(shape, lengths)
        for tile in split_into_tiles(pixels[band], (unit, 16), len(outer))
    ]
    expected = [
        page[y : y + unit, x : x + 16]
        for page in pixels.reshape(-1, *plane)
        for y in range(0, plane[0], unit)
        for x in range(0, plane[1], 16)
    ]
    assert len(found) == len(expected)
    assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))


@given(
    plane=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    levels=st.sampled_from([1, 2, [{"y": 3, "x": 2}], [{"y": 2}, {"y": 5, "x": 3}]]),
    order=st.permutations("tzyx"),
)
def test_odd_sizes_factors_and_orders(
    tmp_path_factory: Any, plane: tuple[int, int], levels: Any, order: list[str]
) -> None:
    if levels == 2 and plane == (1, 1):
        levels = 1
    path = tmp_path_factory.mktemp("odd") / "a.ome.tif"
    pixels = RNG.integers(0, 200, (2, 3, *plane), dtype=np.uint8)
    turned = pixels.transpose(["tzyx".index(dim) for dim in order])
    write(path, turned, "".join(order), tile=16, levels=levels, downsample="nearest")
    factors = (
        {1: [], 2: [{"y": 2, "x": 2}]}.get(levels, levels) if isinstance(levels, int) else levels
    )
    with tifffile.TiffFile(path) as tif:
        found = [level.asarray(squeeze=False) for level in tif.series[0].levels]
    expected = pixels
    assert len(found) == 1 + len(factors)
    np.testing.assert_array_equal(found[0].reshape(pixels.shape), pixels)
    for level, by in zip(found[1:], factors, strict=True):
        expected = expected[:, :, :: min(by.get("y", 1), expected.shape[2]), :: by.get("x", 1)]
        np.testing.assert_array_equal(level.reshape(expected.shape), expected)


# bioio-ome-tiff asks ome-types for a parser, which that ignores
@pytest.mark.filterwarnings("ignore:As of version 0.4.0, the parser argument:DeprecationWarning")
def test_other_readers_find_names_sizes_and_units(folder: Path) -> None:
    stack = open_stack(
        str(folder / "t{t:d}_c{c:d}.tif"),
        channel_names=["DAPI", "a < b & c", "\u03bc\x07"],
        scale={"t": 2.5},
        units={"t": "minute"},
    )
    attrs = {
        "channel_colors": ["#0000ff", None, "#ff8000"],
        "emission_wavelengths": [460.5, None, 600],
        "acquired": "2026-05-04T10:11:12",
        "note": ["kept", 1],
    }
    stack.export(folder / "out.ome.tiff", format="ome-tiff", tile=64, levels=2, attrs=attrs)
    xml = tifffile.tiffcomment(folder / "out.ome.tiff")
    schema = xmlschema.XMLSchema(Path(ome_types.__file__).parent / "ome-2016-06.xsd")
    schema.validate(xml)
    (image,) = ome_types.from_xml(xml).images
    pixels = image.pixels
    assert (image.name, str(image.acquisition_date)) == ("out", "2026-05-04 10:11:12")
    assert (pixels.physical_size_x, pixels.physical_size_z) == (0.1, 0.5)
    assert (pixels.physical_size_y_unit.value, pixels.time_increment_unit.value) == ("µm", "min")
    assert pixels.time_increment == 2.5
    assert [channel.name for channel in pixels.channels] == ["DAPI", "a < b & c", "\u03bc"]
    assert pixels.channels[0].color.as_hex() == "#00f"
    assert pixels.channels[2].color.as_hex() == "#ff8000"
    assert [channel.emission_wavelength for channel in pixels.channels] == [460.5, None, 600]
    reader = Reader(folder / "out.ome.tiff")
    assert (reader.dims.order, reader.shape) == ("TCZYX", PIXELS.shape)
    assert tuple(reader.physical_pixel_sizes) == (0.5, 0.1, 0.1)
    np.testing.assert_array_equal(reader.data, PIXELS)
    with tifffile.TiffFile(folder / "out.ome.tiff") as tif:
        (unit, density) = (tif.pages.first.tags[n].value for n in ("ResolutionUnit", "XResolution"))
        assert (unit, density[0] / density[1]) == (3, 100_000)  # pixels per centimetre


def test_a_source_over_the_copy_has_its_pixels_and_metadata(folder: Path) -> None:
    source = TiffStackSource(str(folder / "t{t:d}_c{c:d}.tif"), channel_names=["a", "b", "c"])
    copy = source.export(folder / "out.ome.tif", format="ome-tiff", levels=2)
    assert isinstance(copy, TiffStackSource)
    assert copy.to_dask().shape == PIXELS.shape
    np.testing.assert_array_equal(copy.read(), PIXELS)
    assert copy.metadata["scale"] == source.metadata["scale"]
    assert copy.metadata["units"] == source.metadata["units"]
    assert copy.metadata["channel_names"] == ["a", "b", "c"]
    assert copy.metadata["software"].startswith("intake-tiffstack ")
    np.testing.assert_array_equal(copy(level=1).read(), halved(PIXELS))


def test_what_ome_has_no_place_for_is_a_warning(tmp_path: Path) -> None:
    attrs = {"crs": "EPSG:32633", "affine": [1.0, 0, 0, 0, -1.0, 0], "nodata": 0, "scales": None}
    with pytest.warns(TiffStackWarning, match="no place for crs, affine, nodata, which stand"):
        write(tmp_path / "a.ome.tif", attrs=attrs)


def test_uneven_times_and_heights_are_those_of_the_planes(tmp_path: Path) -> None:
    coords = {
        "time_s": (("t",), np.array([0.0, 1.5])),
        "z_um": (("z",), np.array([10.0, 11.0])),
    }
    attrs = {"scale": {"z": 1.0}, "units": {"z": "micrometer"}}
    write(tmp_path / "a.ome.tif", coords=coords, attrs=attrs, tile=64)
    (image,) = ome_types.from_tiff(tmp_path / "a.ome.tif").images
    planes = image.pixels.planes
    assert [(p.the_t, p.the_c, p.the_z) for p in planes] == [*np.ndindex(2, 3, 2)]
    assert [p.delta_t for p in planes] == [1.5 * p.the_t for p in planes]
    assert [p.position_z for p in planes] == [10.0 + p.the_z for p in planes]
    opened = open_stack(tmp_path / "a.ome.tif").to_xarray()
    assert opened.time_s.values.tolist() == [0, 1.5]
    assert opened.z_um.values.tolist() == [10, 11]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("samples_", [3, 4])
def test_rgb_stays_rgb(tmp_path: Path, samples_: int, dtype: str) -> None:
    pixels = RNG.integers(0, 255, (3, 40, 60, samples_), dtype=dtype)
    write(tmp_path / "a.ome.tif", pixels, ["z", "y", "x", "sample"], tile=16, levels=2)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        page, (series,) = tif.pages.first, tif.series
        assert (series.axes, page.photometric.name, page.planarconfig.name) == (
            "ZYXS",
            "RGB",
            "CONTIG",
        )
        np.testing.assert_array_equal(series.asarray(), pixels)
        smaller = series.levels[1].asarray()
    channels_first = np.moveaxis(pixels, -1, 0)
    np.testing.assert_array_equal(np.moveaxis(smaller, -1, 0), halved(channels_first))
    (image,) = ome_types.from_tiff(tmp_path / "a.ome.tif").images
    assert [c.samples_per_pixel for c in image.pixels.channels] == [samples_]


def test_samples_that_are_no_colours_become_channels(tmp_path: Path) -> None:
    pixels = RNG.random((40, 60, 2), dtype=np.float32)
    write(tmp_path / "a.ome.tif", pixels, ["y", "x", "sample"], tile=16)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.series[0].axes == "CYX"
        np.testing.assert_array_equal(tif.series[0].asarray(), np.moveaxis(pixels, -1, 0))


def test_each_field_of_a_plate_is_an_image(tmp_path: Path) -> None:
    samples.make_plate(tmp_path / "plate")
    plate = TiffStackSource(str(tmp_path / "plate"), pattern="cv8000", missing="fill")
    expected = plate.to_xarray()
    copy = plate.export(tmp_path / "plate.ome.tif", format="ome-tiff")
    images = ome_types.from_tiff(tmp_path / "plate.ome.tif").images
    assert len(images) == 4
    assert len({image.name for image in images}) == 4
    with tifffile.TiffFile(tmp_path / "plate.ome.tif") as tif:
        for series, image in zip(tif.series, images, strict=True):
            assert series.name == image.name
        first = tif.series[0].asarray()
    np.testing.assert_array_equal(first.squeeze(), expected[0, 0].values.squeeze())
    assert copy.to_dask().shape[0] == 4


def test_levels_of_the_files_are_kept(tmp_path: Path) -> None:
    full, half = PIXELS[0, 0, 0], PIXELS[1, 0, 0, :50, :70]
    with tifffile.TiffWriter(tmp_path / "scan.tif") as tif:
        tif.write(full, subifds=1, tile=(32, 32), photometric="minisblack")
        tif.write(half, subfiletype=1, tile=(32, 32), photometric="minisblack")
    open_stack(tmp_path / "scan.tif").export(
        tmp_path / "a.ome.tif", format="ome-tiff", levels="source", tile=32, verify="all"
    )
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        one, two = (level.asarray() for level in tif.series[0].levels)
    np.testing.assert_array_equal(one, full)
    np.testing.assert_array_equal(two, half)


def test_each_pixel_is_read_once_in_bands_of_a_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    class Watched(CountedSource):
        def __getitem__(self, index: Any) -> np.ndarray:
            block = super().__getitem__(index)
            sizes.append(block.nbytes)
            return block

    pixels = RNG.integers(0, 60_000, (6, 256, 256), dtype=np.uint16)
    source = Watched(pixels)
    monkeypatch.setattr("intake_tiffstack.export.ome_tiff.job.AIM_BYTES", 2**16)
    write(tmp_path / "a.ome.tif", source, "zyx", tile=32, levels=3, verify=False)
    assert source.reads.min() == source.reads.max() == 1
    assert max(sizes) == 2**16
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), pixels)


def test_a_page_that_is_decoded_as_a_whole_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intake_tiffstack.export.ome_tiff.job.AIM_BYTES", 2**10)
    plan = write(tmp_path / "a.ome.tif", granule=(1, 1, 1, 100, 140), dry_run=True, tile=16)
    assert plan.tasks == 12
    assert write(tmp_path / "a.ome.tif", dry_run=True, tile=16).tasks == 12 * 7


def test_small_levels_are_not_padded_to_large_tiles(tmp_path: Path) -> None:
    write(tmp_path / "a.ome.tif", tile=512, levels=3, compression=None)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        tiles = [level.pages[0].tile for level in tif.series[0].levels]
    assert tiles == [(112, 144), (64, 80), (32, 48)]


def test_the_plan_counts_tiles_and_writes_nothing(folder: Path) -> None:
    stack = open_stack(str(folder / "t{t:d}_c{c:d}.tif"))
    plan = stack.export(folder / "a.ome.tif", format="ome-tiff", dry_run=True, levels=2, tile=32)
    assert not (folder / "a.ome.tif").exists()
    stack.export(folder / "a.ome.tif", format="ome-tiff", levels=2, tile=32)
    with tifffile.TiffFile(folder / "a.ome.tif") as tif:
        levels = tif.series[0].levels
        found = [sum(len(page.dataoffsets) for page in level.pages) for level in levels]
        assert [array.objects for array in plan.arrays] == found
        assert [array.shape for array in plan.arrays] == [level.shape for level in levels]
    assert plan.objects == len(list(folder.glob("a.ome.tif*")))
    assert (plan.read_nbytes, plan.nbytes) == (PIXELS.nbytes, PIXELS.nbytes * 5 // 4)
    assert "32 x 32, 240 tiles" in str(plan)


def test_the_audit_record_lies_beside_the_file(folder: Path) -> None:
    stack = open_stack(str(folder / "t{t:d}_c{c:d}.tif"))
    stack.export(folder / "a.ome.tif", format="ome-tiff", levels=2, sha256=True, verify="all")
    record = read_record(str(folder / "a.ome.tif"))
    assert record is not None
    assert sorted(record.files.urls) == sorted(map(str, folder.glob("t?_c?.tif")))
    raw = (folder / "t0_c0.tif").read_bytes()
    assert record.sha256[0] == hashlib.sha256(raw).hexdigest()
    (verified,) = (entry["verified"] for entry in record.history)
    assert (verified["mode"], verified["bytes"]) == ("all", PIXELS.nbytes * 5 // 4)
    assert record.images[0].dims == {dim: dim for dim in "tczyx"}


# -- never half done -----------------------------------------------------------------------------


def test_what_exists_is_left_as_it_is(folder: Path) -> None:
    (folder / "other.tif").write_bytes(b"mine")
    (folder / "folder.ome.tif").mkdir()
    with pytest.raises(TargetExistsError, match=r"other\.tif exists already \(a file\)"):
        write(folder / "other.tif")
    with pytest.raises(TargetExistsError, match=r"exists already \(a folder\) and is left"):
        write(folder / "folder.ome.tif", overwrite=True)
    stack = open_stack(str(folder / "t{t:d}_c{c:d}.tif"))
    raw = (folder / "t0_c0.tif").read_bytes()
    with pytest.raises(TargetExistsError, match=r"t0_c0\.tif is one of the files to export"):
        stack.export(folder / "t0_c0.tif", format="ome-tiff", overwrite=True)
    assert (folder / "t0_c0.tif").read_bytes() == raw
    assert (folder / "other.tif").read_bytes() == b"mine"
    write(folder / "other.tif", overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(folder / "other.tif"), PIXELS)


@pytest.mark.parametrize("name", ["a.ome.zarr", "a", "a.json", "a.ome.tif.zip"])
def test_a_name_without_the_suffix_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=r"one file whose name ends in \.ome\.tif, but got"):
        write(tmp_path / name)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_what_was_there_and_no_other_file(tmp_path: Path, overwrite: bool) -> None:
    if overwrite:
        (tmp_path / "a.ome.tif").write_bytes(b"old")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OSError, match="the disk with the raw data is gone"):
        write(tmp_path / "a.ome.tif", BrokenSource(PIXELS, 20_000), levels=2, overwrite=overwrite)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("verify", ["sample", "all"])
def test_what_does_not_read_back_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: Any
) -> None:
    def damage(blocks: Any, *rest: Any) -> Any:
        for tile in plain(blocks, *rest):
            yield tile + 1

    plain = writing._tiles_of
    monkeypatch.setattr(writing, "_tiles_of", damage)
    with pytest.raises(
        VerificationError, match=r"region \[0:[12], .*\] of level 0 of image 0 does"
    ):
        write(tmp_path / "a.ome.tif", verify=verify)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "a.ome.tif", verify=False)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), PIXELS + 1)


def test_a_store_that_refuses_is_an_error_with_its_url(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/a\.ome\.tif"):
        write(tmp_path / "file" / "a.ome.tif")


def test_a_folder_that_must_not_be_written_is_an_error_of_this_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(writing, "_write_images", refuse)
    monkeypatch.setattr("os.unlink", refuse)  # as such a folder does, to root not
    with pytest.raises(StorageError, match=r"cannot write .*a\.ome\.tif"):
        write(tmp_path / "a.ome.tif")


def test_memory_and_an_object_store(s3_server: S3Server) -> None:
    s3_server.put("tiffs", {})
    for url, options in (
        (f"memory://{uuid.uuid4().hex}/a.ome.tif", {}),
        ("s3://tiffs/deep/a.ome.tif", s3_server.storage_options),
    ):
        write(url, levels=2, storage_options=options)
        copy = open_stack(url, storage_options=options)
        np.testing.assert_array_equal(copy.read(), PIXELS)
        with pytest.raises(TargetExistsError, match="exists already"):
            write(url, storage_options=options)


@pytest.mark.parametrize("tile", [0, 100, (16,), (16, 17), "big", True])
def test_a_tile_that_tiff_does_not_have_is_an_error(tmp_path: Path, tile: Any) -> None:
    with pytest.raises(OptionError, match="tile must be one or two multiples of 16"):
        write(tmp_path / "a.ome.tif", tile=tile)


def test_large_files_have_offsets_of_64_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not needs_bigtiff(4_000_000_000, 10, 1000)
    assert needs_bigtiff(2**32, 1, 1)
    assert needs_bigtiff(2**20, 10_000_000, 0)
    write(tmp_path / "a.ome.tif")
    monkeypatch.setattr("intake_tiffstack.export.ome_tiff.tiff_file._MOST_CLASSIC", 10**5)
    write(tmp_path / "b.ome.tif")
    found = []
    for name in ("a", "b"):
        with tifffile.TiffFile(tmp_path / f"{name}.ome.tif") as tif:
            found.append(tif.is_bigtiff)
    assert found == [False, True]


def test_progress_counts_the_bytes_of_the_source(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    stack: TiffStack = open_stack(str(folder / "t{t:d}_c{c:d}.tif"))
    stack.export(
        folder / "a.ome.tif", format="ome-tiff", progress=lambda *n: seen.append(n), levels=2
    )
    assert seen[-1] == (PIXELS.nbytes, PIXELS.nbytes)
