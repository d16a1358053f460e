"""Reading a Zarr copy: as Zarr reads it, block by block, and never two copies in one array."""

from __future__ import annotations

import itertools
import math
import pickle
import shutil
import tempfile
import threading
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import numcodecs
import numpy as np
import pytest
import s3fs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices
from numpy.typing import NDArray
from zarr.errors import UnstableSpecificationWarning

from intake_tiffstack.arrays.chunks import AUTO_BYTES
from intake_tiffstack.copies import open_zarr as opening
from intake_tiffstack.copies import zarr_pixels as pixels
from intake_tiffstack.copies.chunk_coding import chunk_coding
from intake_tiffstack.copies.open_zarr import open_zarr
from intake_tiffstack.copies.select import select_attrs, select_positions
from intake_tiffstack.copies.zarr_pixels import ZarrPixels
from intake_tiffstack.driver import TiffStackZarrSource
from intake_tiffstack.errors import FileChangedError, OptionError, StorageError
from intake_tiffstack.export.zarr_array import write_zarr
from intake_tiffstack.storage.files import File
from servers import Fault, S3Server, spoil

WHOLE = np.arange(5 * 7 * 9, dtype="uint16").reshape(5, 7, 9)

BLOSC = zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")

ARRAYS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "blosc": ("blosc", {"compressors": BLOSC}),
    "raw": ("raw", {"compressors": None}),
    "blosc, format 2": ("blosc", {"zarr_format": 2, "compressors": numcodecs.Blosc()}),
    "raw, format 2": ("raw", {"zarr_format": 2, "compressors": None}),
    "zstd": (None, {"compressors": zarr.codecs.ZstdCodec()}),
    "zlib, format 2": (None, {"zarr_format": 2, "compressors": numcodecs.Zlib()}),
    "checksums": (None, {"compressors": [BLOSC, zarr.codecs.Crc32cCodec()]}),
    "transposed": (None, {"filters": zarr.codecs.TransposeCodec(order=(2, 0, 1))}),
    "delta, format 2": (None, {"zarr_format": 2, "filters": numcodecs.Delta(dtype="u2")}),
    "shards": (None, {"shards": (4, 6, 8), "compressors": BLOSC}),
    "big-endian": (None, {"serializer": zarr.codecs.BytesCodec(endian="big")}),
    "big-endian, format 2": (None, {"zarr_format": 2, "dtype": ">u2"}),
    "Fortran, format 2": (None, {"zarr_format": 2, "order": "F"}),
}


def make(url: Any, **options: Any) -> None:
    """Write WHOLE as something else than this package would."""
    array = zarr.create_array(
        url,
        **{
            "shape": WHOLE.shape,
            "dtype": "u2",
            "chunks": (2, 3, 4),
            "fill_value": 0,
            **({} if options.get("zarr_format") == 2 else {"dimension_names": ["t", "y", "x"]}),
            **options,
        },
    )
    if options.get("zarr_format") == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["t", "y", "x"]
    array[...] = WHOLE


def pixels_of(url: Any, **options: Any) -> ZarrPixels:
    """Return the array-like that dask reads."""
    graph = dict(open_zarr(url, **options).array.__dask_graph__())
    return next(v for v in map(_value, graph.values()) if isinstance(v, ZarrPixels))


def _value(node: Any) -> Any:
    return getattr(node, "value", node)


# ------------------------------------------------------------------------------------ the pixels


@pytest.mark.parametrize(("coding", "options"), ARRAYS.values(), ids=ARRAYS.keys())
def test_every_array_reads_as_zarr_reads_it(
    tmp_path: Path, coding: str | None, options: dict[str, Any]
) -> None:
    url = tmp_path / "a.zarr"
    make(url, **options)
    array = pixels_of(url)
    assert chunk_coding(array.metadata) == coding
    np.testing.assert_array_equal(zarr.open_array(url, mode="r")[...], WHOLE)
    np.testing.assert_array_equal(open_zarr(url).array.compute(), WHOLE, strict=True)
    for key in [np.s_[1], np.s_[::-2, 3], np.s_[..., 8], np.s_[4:1, :, 2:9:5], np.s_[2, 3, 4]]:
        np.testing.assert_array_equal(array[key], WHOLE[key])
    np.testing.assert_array_equal(array[[4, 0], :, [2, 8]], WHOLE[[4, 0]][:, :, [2, 8]])


@pytest.fixture(scope="module", params=["blosc", "raw", "shards"])
def arrays(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = tmp_path_factory.mktemp("zarr") / "a.zarr"
    make(url, **ARRAYS[request.param][1])
    return str(url)


@given(key=basic_indices(WHOLE.shape, allow_newaxis=True), data=st.data())
def test_any_index_of_any_selection_is_numpys(arrays: str, key: Any, data: st.DataObject) -> None:
    np.testing.assert_array_equal(pixels_of(arrays)[key], WHOLE[key])
    places = {
        dim: sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
        for dim, n in zip("tyx", WHOLE.shape, strict=True)
    }
    chosen = WHOLE[np.ix_(*places.values())]
    array = pixels_of(arrays, sel=places)
    np.testing.assert_array_equal(array[...], chosen)
    inner = data.draw(basic_indices(chosen.shape))
    np.testing.assert_array_equal(array[inner], chosen[inner])


V2_CODECS: dict[str, dict[str, Any]] = {
    "none": {"compressors": None},
    "blosc": {"compressors": numcodecs.Blosc(shuffle=numcodecs.Blosc.BITSHUFFLE)},
    "zlib": {"compressors": numcodecs.Zlib()},
    "gzip": {"compressors": numcodecs.GZip()},
    "lz4": {"compressors": numcodecs.LZ4()},
    "zstd": {"compressors": numcodecs.Zstd()},
    "filter": {"filters": [numcodecs.CRC32()], "compressors": numcodecs.Blosc()},
}
V3_CODECS: dict[str, dict[str, Any]] = {
    "none": {"compressors": None},
    "blosc": {"compressors": BLOSC},
    "twice": {"compressors": [BLOSC, BLOSC]},
    "gzip": {"compressors": zarr.codecs.GzipCodec()},
    "checksum": {"compressors": [zarr.codecs.Crc32cCodec()]},
    "big-endian": {"serializer": zarr.codecs.BytesCodec(endian="big"), "compressors": BLOSC},
}


@st.composite
def foreign_arrays(draw: st.DrawFn) -> dict[str, Any]:
    """Return how something else may have laid out an array: what `zarr.create_array` takes."""
    shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6))
    chunks = tuple(draw(st.integers(1, 7)) for _ in shape)
    dtypes = ["u2", "i1", "?", "f4", "c8", "f2", "M8[s]"]
    options: dict[str, Any] = {"shape": shape, "chunks": chunks}
    separator = draw(st.sampled_from(["/", "."]))
    if draw(st.booleans()):
        return {
            **options,
            "zarr_format": 2,
            "dtype": draw(st.sampled_from([*dtypes, ">u2", ">f8"])),
            "order": draw(st.sampled_from("CF")),
            "chunk_key_encoding": {"name": "v2", "separator": separator},
            **draw(st.sampled_from(list(V2_CODECS.values()))),
        }
    options |= {
        "dtype": draw(st.sampled_from(dtypes)),
        "chunk_key_encoding": {
            "name": draw(st.sampled_from(["default", "v2"])),
            "separator": separator,
        },
        **draw(st.sampled_from(list(V3_CODECS.values()))),
    }
    if len(shape) > 1 and draw(st.booleans()):
        options["filters"] = zarr.codecs.TransposeCodec(
            order=draw(st.permutations(range(len(shape))))
        )
    if shape and "serializer" not in options and draw(st.booleans()):
        where = draw(st.sampled_from(["start", "end"]))
        options["shards"] = {"shape": tuple(2 * n for n in chunks), "index_location": where}
    return options


@settings(max_examples=40, deadline=None)
@given(options=foreign_arrays(), data=st.data())
def test_what_something_else_wrote_reads_as_zarr_reads_it(
    options: dict[str, Any], data: st.DataObject
) -> None:
    shape = options["shape"]
    names = [f"d{i}" for i in range(len(shape))]
    with tempfile.TemporaryDirectory() as url, warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableSpecificationWarning)  # M8 in format 3
        if "zarr_format" in options:
            array = zarr.create_array(url, attributes={"_ARRAY_DIMENSIONS": names}, **options)
        else:
            array = zarr.create_array(url, dimension_names=names, **options)
        values = np.arange(math.prod(shape)).reshape(shape) + 7
        array[...] = values.astype(array.dtype)
        written = [p for p in Path(url).rglob("*") if p.is_file() and p.name[0] not in ".z"]
        for path in sorted(written):  # never written: the fill value is there
            if data.draw(st.integers(0, 4)) == 0:
                path.unlink()
        expected = np.asarray(zarr.open_array(url, mode="r")[...])
        expected = expected.astype(expected.dtype.newbyteorder("="))
        np.testing.assert_array_equal(open_zarr(url).array.compute(), expected, strict=True)
        key = data.draw(basic_indices(shape, allow_newaxis=True))
        np.testing.assert_array_equal(pixels_of(url)[key], expected[key])


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4)])
def test_an_array_of_no_pixels_opens(tmp_path: Path, shape: tuple[int, ...]) -> None:
    names = list("tyx"[-len(shape) :])
    zarr.create_array(
        tmp_path / "a.zarr",
        shape=shape,
        chunks=(2,) * len(shape),
        dtype="u2",
        dimension_names=names,
    )
    array = open_zarr(tmp_path / "a.zarr").array
    np.testing.assert_array_equal(array.compute(), np.zeros(shape, "u2"), strict=True)


@pytest.mark.parametrize("codec", ["none", "blosc", "zlib"])
def test_an_array_of_no_dims_is_one_pixel(tmp_path: Path, codec: str) -> None:
    options = {"zarr_format": 2, "attributes": {"_ARRAY_DIMENSIONS": []}, **V2_CODECS[codec]}
    array = zarr.create_array(tmp_path / "a.zarr", shape=(), chunks=(), dtype="u2", **options)
    array[...] = 12_345
    assert open_zarr(tmp_path / "a.zarr").array.compute() == 12_345


@pytest.mark.parametrize("names", [["y"], ["t", "y", "x"], ["y", "y"]])
def test_names_that_are_not_one_a_dim_are_reported(tmp_path: Path, names: list[str]) -> None:
    attributes = {"_ARRAY_DIMENSIONS": names}
    zarr.create_array(
        tmp_path / "a.zarr", shape=(4, 4), dtype="u2", zarr_format=2, attributes=attributes
    )
    with pytest.raises(StorageError, match=r"no names, but got \('.*\) for 2 dims"):
        open_zarr(tmp_path / "a.zarr")


def test_chunks_are_decoded_straight_into_the_block_where_they_lie_in_one_run(
    tmp_path: Path,
) -> None:
    whole = np.random.default_rng(0).integers(0, 99, (6, 8, 16, 16), "uint16")
    url = tmp_path / "a.zarr"
    write_zarr(whole, url, dims="tzyx", coords={}, attrs={}, chunks=(1, 4, 16, 16))
    targets: list[np.ndarray] = []

    def read(path: str, out: np.ndarray) -> None:
        targets.append(out)
        plain_read(path, out)

    plain_read = pixels._read_blosc
    with patch.object(pixels, "_read_blosc", read):
        block = pixels_of(url)[1:3]
        assert all(np.shares_memory(target, block) for target in targets)
        assert len(targets) == 4
        plane = pixels_of(url)[1, 2]
        assert not np.shares_memory(targets[-1], plane)
        assert len(targets) == 5


@pytest.mark.parametrize("name", ["blosc", "raw", "blosc, format 2", "zstd"])
def test_a_chunk_that_was_never_written_holds_the_fill_value(tmp_path: Path, name: str) -> None:
    url = tmp_path / "a.zarr"
    options = {**ARRAYS[name][1], "fill_value": 9}
    make(url, **options)
    chunk = url / ("0.1.0" if "2" in name else "c/0/1/0")
    chunk.unlink()
    expected = WHOLE.copy()
    expected[0:2, 3:6, 0:4] = 9
    np.testing.assert_array_equal(open_zarr(url).array.compute(), expected)


@pytest.mark.parametrize("codec", ["zlib", "gzip", "lz4", "zstd", "lzma"])
def test_a_chunk_that_no_codec_takes_is_reported(tmp_path: Path, codec: str) -> None:
    codecs = V2_CODECS | {"lzma": {"compressors": numcodecs.LZMA()}}
    make(tmp_path / "a.zarr", zarr_format=2, **codecs[codec])
    chunk = tmp_path / "a.zarr/0.1.0"
    content = chunk.read_bytes()
    for spoiled in (content[:-2], content[: len(content) // 2], b"no chunk" * 4):
        chunk.write_bytes(spoiled)
        with pytest.raises(StorageError, match=r"a\.zarr: a chunk is damaged"):
            open_zarr(tmp_path / "a.zarr").array.compute()


@pytest.mark.parametrize("name", ["blosc", "raw", "zstd"])
@pytest.mark.parametrize("length", [0, 10, 40])
def test_a_chunk_that_is_cut_is_reported(tmp_path: Path, name: str, length: int) -> None:
    url = tmp_path / "a.zarr"
    make(url, **ARRAYS[name][1])
    chunk = url / "c/1/1/1"
    chunk.write_bytes(chunk.read_bytes()[:length])
    with pytest.raises(StorageError, match=r"a\.zarr: .*is damaged"):
        open_zarr(url).array.compute()


@pytest.mark.parametrize("name", ["blosc", "raw"])
def test_a_chunk_of_another_size_is_reported(tmp_path: Path, name: str) -> None:
    url = tmp_path / "a.zarr"
    make(url, **ARRAYS[name][1])
    other = tmp_path / "b.zarr"
    for chunks in [(2, 3, 2), (2, 3, 8)]:
        make(other, **{**ARRAYS[name][1], "chunks": chunks, "overwrite": True})
        shutil.copyfile(other / "c/0/0/0", url / "c/0/0/0")
        with pytest.raises(StorageError, match=r"c/0/0/0 is damaged: it must hold 48 bytes"):
            open_zarr(url).array.compute()


def test_zarr_set_to_a_gpu_reads_on_the_host_all_the_same(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr", **ARRAYS["zstd"][1])
    array = open_zarr(tmp_path / "a.zarr").array
    with zarr.config.set(
        {"buffer": "zarr.buffer.gpu.Buffer", "ndbuffer": "zarr.buffer.gpu.NDBuffer"}
    ):
        np.testing.assert_array_equal(array.compute(), WHOLE)


def test_a_copy_on_s3_and_in_memory_reads_the_same(s3_server: S3Server) -> None:
    s3_server.put("copies", {})
    options = s3_server.storage_options
    for url, storage_options in [
        (f"s3://copies/{uuid.uuid4().hex}.zarr", options),
        (f"memory://{uuid.uuid4().hex}.zarr", {}),
    ]:
        write_zarr(
            WHOLE,
            url,
            dims="tyx",
            coords={},
            attrs={},
            chunks=(2, 3, 4),
            storage_options=storage_options,
        )
        lazy = open_zarr(url, storage_options).array
        np.testing.assert_array_equal(lazy.compute(), WHOLE)
        np.testing.assert_array_equal(lazy[3, ::-2, 5].compute(), WHOLE[3, ::-2, 5])


def test_threads_share_one_client_and_a_body_that_broke_off_is_read_again(
    s3_server: S3Server,
) -> None:
    s3_server.put("copies", {})
    url, good = f"s3://copies/{uuid.uuid4().hex}.zarr", s3_server.storage_options
    make(url, storage_options=good)
    faults: list[Fault] = ["cut", "cut"]

    def fault(line: str) -> Fault:
        return faults.pop() if "/c/" in line and faults else ""

    together = threading.Barrier(6)  # as many threads at a time

    def read(options: dict[str, Any]) -> NDArray[Any]:
        together.wait(20)
        return np.asarray(open_zarr(url, options).array[:])

    with spoil(s3_server.url, fault) as spoiled, ThreadPoolExecutor(6) as pool:
        bad = good | {"endpoint_url": spoiled}
        before = len(s3fs.S3FileSystem._cache)
        for found in pool.map(read, [bad] * 6):
            np.testing.assert_array_equal(found, WHOLE)
        made = len(s3fs.S3FileSystem._cache) - before
    assert not faults
    assert made == 2  # for fsspec's loop and for Zarr's


# ------------------------------------------------------------------------------------- with dask


def test_a_basic_index_is_pushed_into_the_read_and_the_array_travels_once(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr")
    lazy = open_zarr(tmp_path / "a.zarr").array
    asked: list[Any] = []
    plain = ZarrPixels.__getitem__

    def noted(self: ZarrPixels, key: Any) -> Any:
        asked.append(key)
        return plain(self, key)

    with patch.object(ZarrPixels, "__getitem__", noted):
        np.testing.assert_array_equal(lazy[3, 2:4].compute(), WHOLE[3, 2:4])
    assert [key[0] for key in asked] == [3]
    graph = dict(lazy.__dask_graph__())
    assert sum(isinstance(_value(node), ZarrPixels) for node in graph.values()) == 1


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((60, 32, 512, 512), {"chunks": (1, 8, 512, 512)}, (1, 32, 512, 512)),
        ((60, 32, 512, 512), {"chunks": (1, 1, 128, 128)}, (1, 32, 512, 512)),
        ((4, 4, 64, 64), {"chunks": (1, 2, 64, 64)}, (4, 4, 64, 64)),
        (
            (60, 32, 512, 512),
            {"chunks": (1, 8, 512, 512), "shards": (4, 32, 512, 512)},
            (4, 32, 512, 512),
        ),
    ],
    ids=["chunks of 4 MB", "small chunks", "small array", "shards"],
)
def test_a_block_is_a_shard_or_chunks_of_up_to_32_mib(
    shape: tuple[int, ...], options: dict[str, Any], expected: tuple[int, ...]
) -> None:
    store = f"memory://{uuid.uuid4().hex}"
    zarr.create_array(store, shape=shape, dtype="u2", dimension_names=[*"tzyx"], **options)
    chunksize = open_zarr(store).array.chunksize
    assert chunksize == expected
    assert math.prod(chunksize) * 2 <= AUTO_BYTES or "shards" in options


def test_a_copy_made_anew_has_another_name(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr")
    first = open_zarr(tmp_path / "a.zarr").array.name
    assert open_zarr(tmp_path / "a.zarr").array.name == first
    assert open_zarr(tmp_path / "a.zarr", sel={"t": 0}).array.name != first
    make(tmp_path / "a.zarr", overwrite=True)
    assert open_zarr(tmp_path / "a.zarr").array.name != first


def test_coordinates_do_not_travel_with_the_pixels(tmp_path: Path) -> None:
    whole = np.zeros((20_000, 2), "u1")
    coords = {"t": (("t",), np.arange(20_000) * 0.5)}
    write_zarr(whole, tmp_path / "a.zarr", dims="ty", coords=coords, attrs={}, verify=False)
    assert len(pickle.dumps(open_zarr(tmp_path / "a.zarr").array)) < 10_000
    names = set()
    for made_by in ("one", "another"):  # in a store that tells no time
        with patch.object(opening, "stat_file", lambda url, _: File(url, -1, -1, None)):
            make(tmp_path / "b.zarr", attributes={"made": made_by}, overwrite=True)
            names.add(open_zarr(tmp_path / "b.zarr").array.name)
    assert len(names) == 2


@pytest.mark.parametrize("name", ["blosc", "zstd"])
def test_an_array_never_reads_another_copy_than_the_one_it_was_opened_on(
    tmp_path: Path, name: str
) -> None:
    url = tmp_path / "a.zarr"
    make(url, **ARRAYS[name][1])
    lazy = open_zarr(url).array
    make(url, **ARRAYS[name][1], overwrite=True)
    with pytest.raises(FileChangedError, match=r"a\.zarr is not the array that was opened"):
        lazy.compute()
    again = open_zarr(url).array
    shutil.rmtree(url)  # no chunk is left: all of it would be the fill value
    with pytest.raises(FileChangedError, match=r"a\.zarr was removed, or is being replaced"):
        again.compute()


def test_an_array_pickles_to_the_same_pixels_and_name(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr")
    lazy = open_zarr(tmp_path / "a.zarr", sel={"x": [0, 1, 8]}).array
    again = pickle.loads(pickle.dumps(lazy))
    assert again.name == lazy.name
    with dask.config.set(scheduler="processes", num_workers=2):
        np.testing.assert_array_equal(again.compute(), WHOLE[:, :, [0, 1, 8]])


# ------------------------------------------------------------------------------------------- sel

COORDS = {
    "t": (("t",), np.array([0.0, 0.5, 1.0, 1.5, 2.0])),
    "y": (("y",), np.arange(7) * 10),
    "channel": (("y",), np.array(["B1", "B2", "B8", "B8A", "B9", "B10", "B11"])),
    "when": (("t",), np.array([f"2020-01-0{d}" for d in range(1, 6)], "datetime64[D]")),
    "label": (("y",), np.array(["a", None, 3, "a", "b", "c", "d"], object)),
    "is_missing": (("t", "y"), np.zeros((5, 7), bool)),
}


@pytest.fixture
def copy(tmp_path: Path) -> str:
    attrs = {"scale": {"t": 0.5, "x": 0.1}, "translation": {"x": 3.0}}
    write_zarr(WHOLE, tmp_path / "a.zarr", dims="tyx", coords=COORDS, attrs=attrs)
    return str(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("sel", "t", "y", "x"),
    [
        ({"t": 0.5}, [1], None, None),
        ({"t": [2, 0]}, [0, 4], None, None),
        ({"t": "1.5"}, [3], None, None),
        ({"y": {"from": 20, "to": 40}}, None, [2, 3, 4], None),
        ({"y": {"to": 15}}, None, [0, 1], None),
        ({"channel": ["B8", "B10"]}, None, [2, 5], None),
        ({"channel": {"from": "B8", "to": "B10"}}, None, [2, 3, 4, 5], None),
        ({"when": {"from": "2020-01-04"}}, [3, 4], None, None),
        ({"label": ["a", None]}, None, [0, 1, 3], None),
        ({"x": [0, 8]}, None, None, [0, 8]),
        ({"t": [0, 0.5], "when": "2020-01-02", "y": 30, "x": 1}, [1], [3], [1]),
    ],
)
def test_sel_keeps_positions_by_the_values_of_a_coordinate(
    copy: str, sel: Any, t: Any, y: Any, x: Any
) -> None:
    places = [list(range(n)) if p is None else p for p, n in zip((t, y, x), (5, 7, 9), strict=True)]
    array, dims, coords, _ = open_zarr(copy, sel=sel)
    assert dims == ("t", "y", "x")
    np.testing.assert_array_equal(array.compute(), WHOLE[np.ix_(*places)], strict=True)
    for name, along in {"t": 0, "y": 1, "channel": 1, "when": 0, "label": 1}.items():
        np.testing.assert_array_equal(coords[name][1], COORDS[name][1][places[along]])
    assert coords["is_missing"][1].shape == array.shape[:2]


@pytest.mark.parametrize(
    ("sel", "message"),
    [
        ({"chanel": "B1"}, "unknown coordinate in sel 'chanel'; did you mean 'channel'"),
        ({"is_missing": True}, "unknown coordinate in sel 'is_missing'"),
        ({"t": 7}, r"t has no 7\.0; it has 0\.0, 0\.5"),
        ({"t": "soon"}, "t holds float64 values, but got 'soon'"),
        ({"t": []}, "t has no nothing"),
        ({"y": {"start": 3}}, "has the keys 'from' and 'to', but got start"),
        ({"y": {"from": 31, "to": 39}}, "no position along y has all of"),
        ({"t": 0, "when": "2020-01-02"}, "no position along t has all of"),
    ],
)
def test_what_sel_cannot_mean_is_reported(copy: str, sel: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        open_zarr(copy, sel=sel)


@given(st.sets(st.integers(0, 30), min_size=1))
def test_positions_are_a_range_where_they_are_evenly_spaced(places: set[int]) -> None:
    positions = select_positions({"t": list(places)}, {}, {"t": 31})["t"]
    assert list(positions) == sorted(places)
    steps = {b - a for a, b in itertools.pairwise(sorted(places))}
    assert isinstance(positions, range) == (len(steps) <= 1)


def test_what_is_known_of_the_pixels_goes_along_with_sel() -> None:
    attrs = {
        "scale": {"t": 2.0, "y": 0.1},
        "translation": {"t": 10.0},
        "channel_names": ["a", "b", "c"],
        "other": 1,
    }
    sizes = {"c": 3, "t": 9, "y": 4}
    whole = {dim: range(n) for dim, n in sizes.items()}
    assert select_attrs(attrs, whole, sizes) == attrs
    assert select_attrs(attrs, {**whole, "t": range(1, 8, 3), "c": (0, 2)}, sizes) == {
        "scale": {"t": 6.0, "y": 0.1},
        "translation": {"t": 12.0},
        "channel_names": ["a", "c"],
        "other": 1,
    }
    assert select_attrs(attrs, {**whole, "t": (0, 1, 8)}, sizes)["scale"] == {"y": 0.1}
    assert select_attrs({"scale": "big"}, {**whole, "t": (0, 1, 8)}, sizes) == {"scale": "big"}


# ------------------------------------------------------------------------------------ the source


def test_the_source_takes_sel_as_text_chains_it_and_spells_it(copy: str) -> None:
    source = TiffStackZarrSource(copy, sel="{channel: [B8, B10]}")
    np.testing.assert_array_equal(source.read(), WHOLE[:, [2, 5]])
    assert source.metadata["dims"] == ["t", "y", "x"]
    assert source.metadata["shape"] == [5, 2, 9]
    chained = source(sel={"t": {"from": 1}})
    assert chained.discover()["shape"] == (3, 7, 9)
    assert chained.metadata["translation"] == {"x": 3.0, "t": 1.0}
    assert "from: 1" in chained.yaml()
    named = chained.to_xarray()
    assert named.dims == ("t", "y", "x")
    assert named.t.values.tolist() == [1.0, 1.5, 2.0]
    assert pickle.loads(pickle.dumps(chained)) == chained != source


def test_the_source_opens_what_replaced_its_copy_once_it_is_relisted(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr")
    source = TiffStackZarrSource(str(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(source.read(), WHOLE)
    make(tmp_path / "a.zarr", overwrite=True, chunks=(5, 7, 9))
    with pytest.raises(FileChangedError, match="relist"):
        source.read()
    source.relist()
    np.testing.assert_array_equal(source.read(), WHOLE)


def test_a_copy_has_one_urlpath() -> None:
    with pytest.raises(OptionError, match="must be one URL, but got a list of 2"):
        TiffStackZarrSource(["a.zarr", "b.zarr"]).to_dask()  # type: ignore[arg-type]
