from __future__ import annotations

import errno
import importlib
import inspect
import json
import os
import pickle
import uuid
import warnings
from math import lcm, prod
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import dask
import dask.array as da
import numcodecs
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
import zarr.codecs
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_sources import DIMS, PIXELS, CountedSource, tree, write
from intake_tiffstack import open_stack
from intake_tiffstack.copies.attributes import decode_coords, encode_coords
from intake_tiffstack.copies.chunk_plan import choose_zarr_chunks, plan_blocks, resolve_chunks
from intake_tiffstack.copies.open_zarr import open_zarr
from intake_tiffstack.errors import (
    FilesNotFoundError,
    OptionError,
    StorageError,
    TargetExistsError,
)
from intake_tiffstack.export.compressors import resolve_compressor
from intake_tiffstack.export.encoding import find_encoder
from intake_tiffstack.export.formats import FORMATS as REGISTRY
from intake_tiffstack.export.formats import ExportFormat, find_writer, open_copy
from intake_tiffstack.export.planned_array import plan_array
from intake_tiffstack.export.zarr_array import write_zarr
from intake_tiffstack.storage.folder import Folder

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3], ids=["v2", "v3"])
COORDS: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
    "c": (("c",), np.array([0, 1, 4])),
    "t": (("t",), np.array([0.0, 0.1, np.nan, np.inf, -np.inf], dtype=np.float32)),
    "channel": (("c",), np.array(["GFP", "mCherry \u03bc", ""])),
    "wavelength": (("c",), np.array([488, None, "far red"], dtype=object)),
    "time": (("t",), np.array(["2020-01-01", "NaT", "2021", "2022", "2023"], "datetime64[ms]")),
    "is_missing": (("c", "t"), np.arange(15).reshape(3, 5) % 4 == 0),
    "run": ((), np.array(7, dtype=np.int16)),
}
ATTRS = {"scale": {"y": 0.1}, "units": {"y": "um", "t": None}, "names": ["a", 1, 2.5, True]}


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL at which nothing is."""
    if request.param == "local":
        return str(tmp_path / "copy.zarr")
    return f"memory://{uuid.uuid4().hex}/copy.zarr"


# --- what comes back ----------------------------------------------------------------------------


@FORMATS
def test_a_copy_opens_equal_in_one_line_and_with_all_it_was_given(
    url: str, zarr_format: Any
) -> None:
    write_zarr(PIXELS, url, dims=DIMS, coords=COORDS, attrs=ATTRS, zarr_format=zarr_format)

    np.testing.assert_array_equal(da.from_zarr(url).compute(), PIXELS)
    copy = open_zarr(url)
    assert copy.dims == DIMS
    assert copy.attrs == ATTRS
    assert copy.array.dtype == PIXELS.dtype
    np.testing.assert_array_equal(copy.array.compute(), PIXELS)
    assert copy.coords.keys() == COORDS.keys()
    for name, (dims, values) in COORDS.items():
        assert copy.coords[name][0] == dims
        assert copy.coords[name][1].dtype == values.dtype
        np.testing.assert_array_equal(copy.coords[name][1], values)


@FORMATS
def test_other_readers_find_the_dims_where_they_look(tmp_path: Path, zarr_format: Any) -> None:
    write(tmp_path / "a.zarr", dims=DIMS, zarr_format=zarr_format)
    if zarr_format == 3:
        document = json.loads((tmp_path / "a.zarr/zarr.json").read_text())
        assert document["dimension_names"] == list(DIMS)
        assert "_ARRAY_DIMENSIONS" not in document["attributes"]
    else:
        document = json.loads((tmp_path / "a.zarr/.zattrs").read_text())
        assert document["_ARRAY_DIMENSIONS"] == list(DIMS)
    assert zarr.open_array(tmp_path / "a.zarr", mode="r").metadata.zarr_format == zarr_format


def test_a_copy_becomes_a_data_array_with_its_coordinates(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", dims=DIMS, coords=COORDS)
    array, dims, coords, attrs = open_zarr(tmp_path / "a.zarr")
    labelled = xr.DataArray(array, dims=dims, coords=coords, attrs=attrs)
    np.testing.assert_array_equal(labelled.sel(c=4), PIXELS[2])


def test_the_folder_url_and_a_last_slash_are_the_same_place(tmp_path: Path) -> None:
    write(f"file://{tmp_path}/a.zarr/")
    np.testing.assert_array_equal(open_zarr(tmp_path / "a.zarr").array.compute(), PIXELS)


def test_a_copy_has_one_dask_name_and_another_copy_another(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr")
    write(tmp_path / "b.zarr", PIXELS[::-1].copy())
    names = [open_zarr(tmp_path / name).array.name for name in ("a.zarr", "a.zarr", "b.zarr")]
    assert names[0] == names[1] != names[2]


@FORMATS
@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "<i2", ">u2", ">f4", "f8", "f2", ">c8", "u8"])
def test_every_dtype_of_pixels_comes_back_in_native_byte_order(
    zarr_format: Any, dtype: str
) -> None:
    pixels = (np.arange(60).reshape(3, 20) % 7).astype(dtype)
    url = f"memory://{uuid.uuid4().hex}"
    write(url, pixels, zarr_format=zarr_format)
    copy = open_zarr(url).array
    assert copy.dtype == pixels.dtype.newbyteorder("=")
    assert copy.dtype.isnative
    np.testing.assert_array_equal(copy.compute(), pixels)


@given(
    values=st.lists(
        st.one_of(st.none(), st.text(), st.booleans(), st.integers(), st.floats(allow_nan=False)),
        min_size=1,
    )
)
def test_labels_of_any_kind_survive_json(values: list[Any]) -> None:
    labels = np.empty(len(values), dtype=object)
    labels[:] = values
    if any(value in (float("inf"), float("-inf")) for value in values):
        with pytest.raises(OptionError, match=r"coord 'label'.* finite"):
            round_trip_coord(labels)
    else:
        returned = round_trip_coord(labels)
        assert returned.tolist() == values
        assert list(map(type, returned.tolist())) == list(map(type, values))


@given(values=st.lists(st.floats(width=32), min_size=1), dtype=st.sampled_from(["f4", "f8"]))
def test_float_coordinates_are_exact(values: list[float], dtype: str) -> None:
    expected = np.array(values, dtype=dtype)
    returned = round_trip_coord(expected)
    assert returned.dtype == expected.dtype
    np.testing.assert_array_equal(returned, expected)


def round_trip_coord(values: np.ndarray) -> np.ndarray:
    stored = json.dumps(encode_coords({"label": (("t",), values)}, {"t": len(values)}))
    return decode_coords(json.loads(stored), "memory://copy")["label"][1]


# --- chunks, and writes aligned to them ----------------------------------------------------------


@given(
    shape=st.lists(st.integers(1, 3000), min_size=1, max_size=5).map(tuple),
    itemsize=st.sampled_from([1, 2, 4, 8, 16]),
    page_ndim=st.integers(0, 5),
)
def test_chosen_chunks_hold_1_to_4_mb_along_page_edges(
    shape: tuple[int, ...], itemsize: int, page_ndim: int
) -> None:
    chunks = choose_zarr_chunks(shape, itemsize, page_ndim)
    nbytes = prod(chunks) * itemsize
    assert all(1 <= part <= size for part, size in zip(chunks, shape, strict=True))
    assert nbytes <= 4_000_000
    assert nbytes >= 1_000_000 or chunks == shape
    outer = max(len(shape) - page_ndim, 0)
    if prod(chunks[:outer]) > 1:  # more than a page: then pages are whole
        assert chunks[outer:] == shape[outer:]
    cut = [axis for axis in range(outer) if chunks[axis] < shape[axis]]
    for axis in range(max(cut, default=0)):  # and nothing further out is taken before
        assert chunks[axis] == 1


@pytest.mark.parametrize(
    ("shape", "dims", "expected"),
    [
        ((9, 2, 512, 512), "ctyx", (3, 2, 512, 512)),
        ((512, 512, 32), "yxz", (512, 512, 4)),
        ((40, 700, 700, 3), ("z", "y", "x", "sample"), (1, 700, 700, 3)),
    ],
    ids=["page last", "page first", "samples"],
)
def test_the_page_is_found_by_the_names_of_its_dims(
    shape: tuple[int, ...], dims: Any, expected: tuple[int, ...]
) -> None:
    assert resolve_chunks(shape, 2, tuple(dims), None, None) == (expected, None)


@given(data=st.data())
def test_no_two_blocks_share_a_chunk_or_a_segment(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 4))
    lengths = st.lists(st.integers(1, 40), min_size=ndim, max_size=ndim)
    shape, unit, granule = data.draw(lengths), data.draw(lengths), data.draw(lengths)
    order = data.draw(st.permutations(range(ndim)))
    most = data.draw(st.integers(1, 10**6))
    blocks = plan_blocks(shape, 2, unit=unit, granule=granule, order=order, most_bytes=most)
    assert [sum(lengths) for lengths in blocks] == shape
    for lengths, u in zip(blocks, unit, strict=True):
        assert min(lengths) > 0
        assert all(edge % u == 0 for edge in np.cumsum(lengths)[:-1])
    largest = prod(max(lengths) for lengths in blocks) * 2
    smallest = prod(map(min, unit, shape)) * 2
    assert largest <= max(most, smallest)
    whole = [min(lcm(u, g), n) for u, g, n in zip(unit, granule, shape, strict=True)]
    if prod(whole) * 2 <= most:  # then nothing is decoded twice
        for lengths, g in zip(blocks, granule, strict=True):
            assert all(edge % g == 0 for edge in np.cumsum(lengths)[:-1])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_chunks_shards_and_blocks_give_the_same_pixels(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    pixels = np.arange(1, 1 + prod(shape)).reshape(shape)
    chunks = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    factors = data.draw(st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)))
    shards = factors and tuple(c * f for c, f in zip(chunks, factors, strict=True))
    zarr_format = 3 if shards else data.draw(st.sampled_from([2, 3]))
    url = f"memory://{uuid.uuid4().hex}"
    with dask.config.set({"tiffstack.block_bytes": data.draw(st.integers(1, 2000))}):
        write(url, pixels, chunks=chunks, shards=shards, zarr_format=zarr_format)

    np.testing.assert_array_equal(da.from_zarr(url).compute(), pixels)
    opened = zarr.open_array(url, mode="r")
    assert (opened.chunks, opened.shards) == (chunks, shards)
    for sizes, unit in zip(open_zarr(url).array.chunks, shards or chunks, strict=True):
        assert all(edge % unit == 0 for edge in np.cumsum(sizes)[:-1])


def test_blocks_written_by_many_threads_lose_nothing(tmp_path: Path) -> None:
    pixels = np.arange(120 * 120, dtype=np.int32).reshape(120, 120)
    with dask.config.set({"num_workers": 16, "tiffstack.block_bytes": 1}):
        for attempt in range(3):
            write(tmp_path / f"{attempt}.zarr", pixels, chunks=(8, 16), shards=(32, 32))
            copy = da.from_zarr(tmp_path / f"{attempt}.zarr").compute()
            np.testing.assert_array_equal(copy, pixels)


@pytest.mark.parametrize("block_bytes", [1, 5000, 10**9])
def test_the_source_is_read_once(block_bytes: int) -> None:
    source = CountedSource(np.arange(40 * 50).reshape(40, 50))
    url = f"memory://{uuid.uuid4().hex}"
    with dask.config.set({"tiffstack.block_bytes": block_bytes}):
        write(url, source, chunks=(4, 6), shards=(8, 12), verify=False)
    assert np.all(source.reads == 1)
    np.testing.assert_array_equal(da.from_zarr(url).compute(), source.pixels)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (4, (4, 4, 4, 4)),
        (-1, (3, 5, 16, 12)),
        ((1, -1, 8, -1), (1, 5, 8, 12)),
        ({"y": 4}, (3, 5, 4, 12)),
        ({"c": 1, "x": -1}, (1, 5, 16, 12)),
        (np.array([1, 2, 3, 4]), (1, 2, 3, 4)),
    ],
    ids=["one number", "all", "a number a dim", "by dim", "by dims", "array"],
)
def test_chunks_are_given_as_elsewhere(given: Any, expected: tuple[int, ...]) -> None:
    assert resolve_chunks(PIXELS.shape, 2, DIMS, given, None) == (expected, None)
    assert resolve_chunks(PIXELS.shape, 2, DIMS, expected, given)[1] == expected


def test_chunks_of_a_dim_that_is_not_there_are_named() -> None:
    with pytest.raises(OptionError, match="unknown dim in chunks 'z'"):
        resolve_chunks(PIXELS.shape, 2, DIMS, {"z": 1}, None)


@pytest.mark.parametrize(
    "compressors", [None, zarr.codecs.BloscCodec(shuffle="bitshuffle")], ids=str
)
@pytest.mark.parametrize("dtype", ["?", "u2", "f4", "c8"])
def test_zarr_reads_a_shard_that_is_encoded_without_it(compressors: Any, dtype: str) -> None:
    layout = {"shape": (4, 6), "chunks": (2, 3), "shards": (4, 6)}
    store: dict[str, Any] = {}
    array = zarr.create_array(store, dtype=dtype, compressors=compressors, **layout)
    encode = find_encoder(array.metadata)
    assert encode is not None
    block = np.arange(24).reshape(4, 6).astype(dtype)
    store["c/0/0"] = zarr.core.buffer.cpu.Buffer.from_bytes(b"".join(map(bytes, encode(block))))
    np.testing.assert_array_equal(array[:], block)


def test_shards_alone_get_chunks_that_divide_them() -> None:
    chunks, shards = resolve_chunks((10, 30, 1000, 1000), 2, DIMS, None, (1, 30, 1000, 1000))
    assert shards == (1, 30, 1000, 1000)
    assert chunks == (1, 2, 1000, 1000)


@FORMATS
def test_a_chunk_of_zeros_is_written_like_any_other(tmp_path: Path, zarr_format: Any) -> None:
    write(tmp_path / "a.zarr", np.zeros((4, 6), "u2"), chunks=(2, 3), zarr_format=zarr_format)
    assert zarr.open_array(tmp_path / "a.zarr", mode="r").nchunks_initialized == 4


@FORMATS
@pytest.mark.parametrize(
    "compressor",
    [
        "default",
        None,
        numcodecs.Blosc("lz4", 9, numcodecs.Blosc.SHUFFLE, 256),
        numcodecs.Blosc("zstd", 1, numcodecs.Blosc.NOSHUFFLE),
        numcodecs.Blosc("blosclz", 5, numcodecs.Blosc.AUTOSHUFFLE),
        numcodecs.Zstd(1),
    ],
    ids=["default", "none", "lz4", "no shuffle", "automatic", "zstd"],
)
@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "<f4", "c16"])
def test_chunks_encoded_here_are_those_that_zarr_writes(
    tmp_path: Path, zarr_format: Any, compressor: Any, dtype: str
) -> None:
    """On a local disk chunks are encoded here, elsewhere by Zarr."""
    pixels = np.random.default_rng(3).integers(0, 99, (7, 40, 33)).astype(dtype)
    options = {"chunks": (2, 16, 33), "compressor": compressor, "zarr_format": zarr_format}
    write(tmp_path / "a.zarr", pixels, **options)
    url = f"memory://{uuid.uuid4().hex}"
    write(url, pixels, **options)
    copy = Folder.at(url)
    by_zarr = {key: copy.filesystem.cat_file(f"{copy.path}/{key}") for key in copy.find()}
    assert tree(tmp_path / "a.zarr") == by_zarr


def test_an_array_that_has_encoded_chunks_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    array = plan_array(
        shape=(4, 6),
        dtype=np.dtype("u2"),
        chunks=(2, 3),
        shards=(4, 6),
        compressor="default",
        zarr_format=3,
        dims=None,
        attributes={},
    )
    block = np.arange(24, dtype="u2").reshape(4, 6)
    whole = (slice(0, 4), slice(0, 6))
    array.write(Folder.at(tmp_path / "a"), whole, block)
    sent = pickle.loads(pickle.dumps(array))
    sent.write(Folder.at(tmp_path / "b"), whole, block)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


# --- folders -------------------------------------------------------------------------------------


def test_what_is_in_a_folder_is_found_in_one_scan_of_each(tmp_path: Path) -> None:
    place = tmp_path / "a"
    (place / "c" / "0").mkdir(parents=True)
    (place / "empty").mkdir()
    (place / ".zarray").write_bytes(b"four")
    (place / "c" / "0" / "1").write_bytes(b"seven b")
    os.symlink(tmp_path / "nowhere", place / "lost")
    os.symlink(place / "c" / "0" / "1", place / "linked")
    os.symlink(place, place / "c" / "round")  # would never end
    sizes = Folder.at(place).find_sizes()
    assert sizes.pop("c/round") >= 0
    assert sizes == {".zarray": 4, "c/0/1": 7, "lost": 0, "linked": 7}
    assert Folder.at(tmp_path / "none").find_sizes() == {}
    assert Folder.at(place / ".zarray" / "below").find_sizes() == {}
    with pytest.raises(TargetExistsError, match=r"zarray exists already \(a file\)"):
        Folder.at(place / ".zarray").find_sizes()


def test_a_folder_that_cannot_be_listed_does_not_count_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c").mkdir()
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("c/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        Folder.at(tmp_path).find()


def test_a_file_whose_size_is_not_known_does_not_count_as_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chunk").write_bytes(b"four")
    fault = OSError(errno.EIO, os.strerror(errno.EIO))
    entry = MagicMock(**{"is_dir.return_value": False, "is_symlink.return_value": False})
    entry.name, entry.stat.side_effect = "chunk", fault
    entries = MagicMock(**{"__iter__.return_value": [entry]})
    monkeypatch.setattr(os, "scandir", lambda path: entries)
    with pytest.raises(StorageError, match=os.strerror(errno.EIO)):
        Folder.at(tmp_path).find()
    entry.stat.side_effect = FileNotFoundError(errno.ENOENT, "gone")
    assert not Folder.at(tmp_path).find()


# --- compressors ---------------------------------------------------------------------------------


def compressor_written(zarr_format: Any, **options: Any) -> dict[str, Any]:
    """Return what the metadata of a copy says about its compressor; its pixels are checked."""
    url = f"memory://{uuid.uuid4().hex}"
    write(url, zarr_format=zarr_format, **options)
    np.testing.assert_array_equal(da.from_zarr(url).compute(), PIXELS)
    files = MemoryFileSystem()
    if zarr_format == 2:
        return json.loads(files.cat_file(f"{url}/.zarray"))["compressor"]
    codecs = json.loads(files.cat_file(f"{url}/zarr.json"))["codecs"]
    assert codecs[0] == {"name": "bytes", "configuration": {"endian": "little"}}
    return codecs[1] if len(codecs) > 1 else None


def test_the_default_is_blosc_zstd_3_bitshuffle() -> None:
    assert compressor_written(2) == {
        "id": "blosc",
        "cname": "zstd",
        "clevel": 3,
        "shuffle": 2,
        "blocksize": 0,
    }
    assert compressor_written(3) == {
        "name": "blosc",
        "configuration": {
            "cname": "zstd",
            "clevel": 3,
            "shuffle": "bitshuffle",
            "typesize": 2,
            "blocksize": 0,
        },
    }


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        (numcodecs.Blosc("lz4", 9, numcodecs.Blosc.SHUFFLE, 256), "blosc"),
        (numcodecs.Zstd(7), "zstd"),
        (numcodecs.GZip(2), "gzip"),
    ],
    ids=["blosc", "zstd", "gzip"],
)
def test_a_numcodecs_codec_is_itself_on_format_2_and_native_on_format_3(
    codec: Any, expected: str
) -> None:
    on_2, on_3 = compressor_written(2, compressor=codec), compressor_written(3, compressor=codec)
    assert on_2.items() <= codec.get_config().items()  # Zarr leaves out Zstd's checksum on 2
    assert on_3["name"] == on_2["id"] == expected
    shared = on_3["configuration"].keys() & on_2.keys() - {"shuffle"}
    assert {key: on_3["configuration"][key] for key in shared} == {key: on_2[key] for key in shared}
    if expected == "blosc":
        assert on_3["configuration"]["shuffle"] == "shuffle"


@pytest.mark.parametrize(("itemsize", "expected"), [(1, "bitshuffle"), (2, "shuffle")])
def test_the_automatic_shuffle_of_blosc_is_what_numcodecs_would_do(
    itemsize: int, expected: str
) -> None:
    codec = numcodecs.Blosc(shuffle=numcodecs.Blosc.AUTOSHUFFLE)
    native = resolve_compressor(codec, zarr_format=3, itemsize=itemsize)
    assert isinstance(native, zarr.codecs.BloscCodec)
    assert native.to_dict()["configuration"]["shuffle"] == expected


@pytest.mark.parametrize(
    "codec", [numcodecs.LZ4(5), numcodecs.Zlib(4), numcodecs.BZ2()], ids=lambda c: c.codec_id
)
def test_a_numcodecs_codec_that_zarr_has_not_is_wrapped(codec: Any) -> None:
    assert compressor_written(2, compressor=codec) == codec.get_config()
    with warnings.catch_warnings():  # older zarr says that others may not know the codec
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in", UserWarning)
        on_3 = compressor_written(3, compressor=codec)
    assert {"id": on_3["name"].removeprefix("numcodecs."), **on_3["configuration"]} == (
        codec.get_config()
    )


@FORMATS
@pytest.mark.parametrize(
    "config", [{"id": "zstd", "level": 7}, '{"id": "zstd", "level": 7}'], ids=["dict", "text"]
)
def test_a_compressor_may_be_a_config(zarr_format: Any, config: Any) -> None:
    expected = compressor_written(zarr_format, compressor=numcodecs.Zstd(7))
    assert compressor_written(zarr_format, compressor=config) == expected


@FORMATS
def test_none_is_no_compression(zarr_format: Any) -> None:
    assert compressor_written(zarr_format, compressor=None) is None


def test_a_zarr_codec_is_for_format_3() -> None:
    codec = zarr.codecs.ZstdCodec(level=7)
    assert compressor_written(3, compressor=codec)["configuration"]["level"] == 7
    with pytest.raises(OptionError, match=r"ZstdCodec.*zarr_format is 2.*numcodecs"):
        write("memory://never", compressor=codec, zarr_format=2)


@pytest.mark.parametrize(
    ("compressor", "message"),
    [
        ("blosc", "is not a numcodecs config"),
        ({"id": "nonsense"}, "nonsense.*not a numcodecs config"),
        ({"level": 3}, "it has no 'id'"),
        ("[1]", "it has no 'id'"),
        ({"id": "zstd", "depth": 3}, "depth"),
        (7, "but got 7"),
        (zarr.codecs.BytesCodec(), "compresses bytes, but got BytesCodec"),
        (numcodecs.Delta("u2"), "filters arrays"),
        (numcodecs.Pickle(), "does not exist in Zarr format 3"),
    ],
)
def test_what_is_no_compressor_is_refused(compressor: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        write("memory://never", compressor=compressor)
    assert not MemoryFileSystem().exists("memory://never")


# --- what cannot be stored, and what is not there ----------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": "cty"}, r"4 different names.*\(3, 5, 16, 12\).*'y'\]"),
        ({"dims": "ctxx"}, "4 different names"),
        ({"zarr_format": 4}, "must be 2 or 3, but got 4"),
        ({"chunks": (1, 1, 16)}, "chunks must be 4 whole numbers above 0"),
        ({"chunks": (1, 0, 16, 12)}, r"chunks must be .*\(1, 0, 16, 12\)"),
        ({"chunks": (1, 1.5, 16, 12)}, "chunks must be"),
        ({"chunks": (2048, 2048, 256, 1)}, "hold less than 2 GiB, but got 2,147,483,648 bytes"),
        ({"chunks": (1, 2, 16, 12), "shards": (1, 5, 16, 12)}, r"multiple of chunks \(1, 2"),
        ({"shards": (3, 5, 16, 12), "zarr_format": 2}, "format 2 cannot hold.*shard"),
        ({"attrs": {"a": [{"b": 1j}]}}, r"attrs\['a'\]\[0\]\['b'\].*JSON.*complex 1j"),
        ({"attrs": {"a": {1: 2}}}, r"attrs\['a'\].*but got dict"),
        ({"attrs": {"a": np.nan}}, r"attrs\['a'\].*finite number.*float nan"),
        ({"attrs": {"a": np.arange(3)}}, r"attrs\['a'\].*ndarray"),
        ({"attrs": {"tiffstack": 1}}, "must not have the key 'tiffstack'"),
        ({"attrs": {"_ARRAY_DIMENSIONS": []}}, "must not have the key '_ARRAY_DIMENSIONS'"),
        ({"coords": {"k": (("t",), np.arange(4))}}, r"coord 'k' .*shape \(5,\), but got \(4,\)"),
        ({"coords": {"k": (("tt",), np.arange(5))}}, "unknown dim of coord 'k' 'tt'.*mean 't'"),
        ({"coords": {"k": (("t",), np.arange(5) * 1j)}}, "coord 'k'.*complex128"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        write(tmp_path / "a.zarr", **{"dims": DIMS, **options})
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(()), r"no pixel to copy: the shape is \(\)"),
        (np.zeros((3, 0)), r"no pixel to copy: the shape is \(3, 0\)"),
        (np.array(["a", "b"]), "but got <U1"),
        (np.zeros(2, "datetime64[s]"), "but got datetime64"),
    ],
    ids=["no dim", "empty", "text", "time"],
)
def test_an_array_that_is_no_picture_is_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        write("memory://never", array)


def test_a_store_that_nobody_knows_is_an_option_error() -> None:
    with pytest.raises(OptionError, match="unknown protocol 's4'"):
        write("s4://bucket/a.zarr")


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("nowhere.zarr", "there is nothing$"),
        ("Half.zar", r"there is nothing; did you mean 'half\.zarr'\?$"),
        ("", r"there are others in it, such as 'group\.zarr'$"),
        ("group.zarr", "there is a Zarr group$"),
        ("half.zarr", r"there is a copy that is not whole: .* the same export\(\) goes on"),
        ("raw", "there are TIFF files, which the driver `tiffstack` opens"),
        ("notes", "there is something else$"),
    ],
)
def test_what_is_there_instead_of_an_array_is_reported(
    tmp_path: Path, name: str, reported: str
) -> None:
    zarr.create_group(tmp_path / "group.zarr", zarr_format=2)
    for file in ("half.zarr/.tiffstack/claim-00001.json", "raw/a.TIF", "notes/today.txt"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    with pytest.raises(FilesNotFoundError, match=f"no finished Zarr array: {reported}"):
        open_zarr(tmp_path / name)
    if name != "group.zarr":
        with pytest.raises(FilesNotFoundError, match=reported):
            open_copy(tmp_path / name, level=1)


@pytest.mark.parametrize("format", REGISTRY.values(), ids=lambda format: format.name)
def test_every_format_of_the_registry_can_be_written_and_opened(format: ExportFormat) -> None:
    accepted = inspect.signature(find_writer(format.name)).parameters
    assert {"dims", "coords", "attrs", "storage_options", "overwrite", "verify"} <= set(accepted)
    if format.open is None:  # a TIFF: the driver `tiffstack` opens it
        assert format.name == "ome-tiff"
        return
    module, _, function = format.open.partition(":")
    opener = getattr(importlib.import_module(f"intake_tiffstack.{module}"), function)
    assert {"arraytype", "sel", *format.open_options} <= set(inspect.signature(opener).parameters)


def test_an_option_of_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr")
    with pytest.raises(OptionError, match=r"image='0' is an option of format 'ome-zarr', but"):
        open_copy(tmp_path / "a.zarr", image="0")
    with pytest.raises(
        OptionError, match=r"is an option of format 'icechunk' or 'references', but"
    ):
        open_copy(tmp_path / "a.zarr", remote_options={"anon": True})


def test_a_group_is_no_array(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "group.zarr", zarr_format=3)
    with pytest.raises(StorageError, match=r"group\.zarr is not a readable Zarr array: .*group"):
        open_zarr(tmp_path / "group.zarr")


@pytest.mark.parametrize("format", ["zarr", "ome-zarr"])
def test_the_name_of_a_document_of_references_is_no_name_for_a_copy(
    tmp_path: Path, format: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0, 0])
    with pytest.raises(OptionError, match=r"z\.json is the name of a document of references"):
        open_stack(str(tmp_path / "*.tif")).export(str(tmp_path / "z.json"), format=format)
    assert not (tmp_path / "z.json").exists()


@FORMATS
def test_an_array_that_something_else_wrote_opens_by_its_dims(
    tmp_path: Path, zarr_format: Any
) -> None:
    names = {"dimension_names": ["y", "x"]} if zarr_format == 3 else {}
    attributes = {"made": "elsewhere"} | ({"_ARRAY_DIMENSIONS": ["y", "x"]} if not names else {})
    made = zarr.create_array(
        tmp_path / "a.zarr",
        data=PIXELS[0, 0],
        zarr_format=zarr_format,
        attributes=attributes,
        **names,
    )
    array, dims, coords, attrs = open_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(array.compute(), made[:])
    assert (dims, coords, attrs) == (("y", "x"), {}, {"made": "elsewhere"})


@pytest.mark.parametrize("names", [None, ["y", None]], ids=["none", "one"])
def test_an_array_with_a_dim_that_has_no_name_is_refused(tmp_path: Path, names: Any) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=PIXELS[0, 0], dimension_names=names)
    with pytest.raises(StorageError, match=r"dims of this Zarr array have no names.*from_zarr"):
        open_zarr(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda document: document["attributes"]["tiffstack"].update(version=2), "but got 2"),
        (lambda document: document["attributes"]["tiffstack"].update(coords=[1]), "are damaged"),
        (lambda document: document.pop("dimension_names"), "have no names, but got None"),
        (lambda document: document.clear(), "not a readable Zarr array|no finished Zarr array"),
    ],
    ids=["later version", "coords", "dims", "metadata"],
)
def test_a_copy_with_damaged_metadata_is_a_clear_error(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    write(tmp_path / "a.zarr")
    path = tmp_path / "a.zarr/zarr.json"
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))
    with pytest.raises((StorageError, FilesNotFoundError), match=message):
        open_zarr(tmp_path / "a.zarr")
