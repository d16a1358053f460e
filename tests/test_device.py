"""Where a chunk is delivered: the whole way, with four array libraries, two of them always there.

A double that is as strict as CuPy, a double of CuPy itself, `sparse` by the protocol, and under the
mark ``gpu`` CuPy.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import intake
import numpy as np
import pytest
import sparse
import tifffile

from array_double import DeviceArray, DoubleDevice, SparseDevice
from cuda_double import CudaDouble
from intake_tiffstack import TiffStack, open_stack
from intake_tiffstack.copies.open_zarr import open_zarr
from intake_tiffstack.device import Device, NumpyDevice, get_device, loading
from intake_tiffstack.errors import DeviceNotAvailableError, OptionError

DOUBLE = "array_double:DoubleDevice"

needs_no_cupy = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is not None, reason="CuPy is installed"
)


@dataclass(frozen=True)
class Library:
    """An array library, and how to look at what it holds."""

    arraytype: str
    kind: type
    to_numpy: Callable[[Any], np.ndarray]

    def check(self, result: Any, expected: Any) -> None:
        """See that *result* is of the library, and equal."""
        assert isinstance(result, self.kind) or np.ndim(expected) == 0
        values = self.to_numpy(result) if isinstance(result, self.kind) else result
        np.testing.assert_array_equal(values, expected)
        assert np.asarray(values).dtype == expected.dtype


def find_cupy() -> Library:
    cupy = pytest.importorskip("cupy")
    try:
        if not cupy.cuda.runtime.getDeviceCount():
            pytest.skip("no GPU")
    except cupy.cuda.runtime.CUDARuntimeError as exc:
        pytest.skip(f"no usable GPU: {exc}")
    return Library("cupy", cupy.ndarray, cupy.asnumpy)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaDouble]:
    """CuPy's double, in CuPy's place."""
    double = CudaDouble()
    double.install(monkeypatch)
    yield double
    loading._make_device.cache_clear()


@pytest.fixture(
    params=["double", "cuda double", "sparse", pytest.param("cupy", marks=pytest.mark.gpu)]
)
def library(request: pytest.FixtureRequest) -> Library:
    if request.param == "cupy":
        return find_cupy()
    if request.param == "sparse":
        return Library("array_double:SparseDevice", sparse.COO, sparse.COO.todense)
    if request.param == "cuda double":
        request.getfixturevalue("cuda")
        return Library("cupy", DeviceArray, lambda array: array._values)
    return Library(DOUBLE, DeviceArray, lambda array: array._values)


@pytest.fixture
def whole() -> np.ndarray:
    return np.arange(3 * 4 * 6 * 5, dtype="uint16").reshape(3, 4, 6, 5)


@pytest.fixture(params=[None, "zlib"], ids=["uncompressed", "zlib"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, whole: np.ndarray) -> str:
    for t, volume in enumerate(whole):
        tifffile.imwrite(
            tmp_path / f"t{t}.tif",
            volume,
            photometric="minisblack",
            byteorder=">" if t == 1 else "<",
            compression=request.param,
        )
    return str(tmp_path)


@pytest.fixture(autouse=True)
def _allow_code() -> Iterator[None]:
    with dask.config.set({"tiffstack.allow_code": True}):
        yield


@pytest.fixture
def stack(folder: str, library: Library) -> TiffStack:
    return open_as(folder, library.arraytype)


OPTIONS = {"pattern": "t{t:d}.tif", "file_dims": "zyx", "chunks": {"t": 1, "z": 2}}


def open_as(folder: str, arraytype: str) -> TiffStack:
    return open_stack(f"{folder}/*.tif", arraytype=arraytype, **OPTIONS)


# -------------------------------------------------------------------------------- the whole way


def test_chunks_and_meta_are_arrays_of_the_library(
    stack: TiffStack, whole: np.ndarray, library: Library
) -> None:
    lazy = stack.to_dask()
    assert isinstance(lazy._meta, library.kind)
    assert lazy.dtype == whole.dtype
    library.check(lazy.blocks[1, 1, 0, 0].compute(), whole[1:2, 2:4])


SAME: dict[str, Callable[[Any], Any]] = {
    "all": lambda a: a,
    "index": lambda a: a[1, 2],
    "pixel": lambda a: a[1, 2, 3, 4],
    "slices": lambda a: a[::-1, 1:3, ::2],
    "list": lambda a: a[[0, 2]],
    "sum": lambda a: a.sum(),
    "sum along t": lambda a: a.sum(axis=0),
    "projection": lambda a: a.max(axis=1),
    "transpose and add": lambda a: a.T + 1,
    "astype": lambda a: a.astype("f4") * 0.5,
    "difference": lambda a: a[1:] - a[:-1],
}


@pytest.mark.parametrize("express", SAME.values(), ids=SAME.keys())
def test_what_is_computed_stays_with_the_library(
    stack: TiffStack, whole: np.ndarray, library: Library, express: Callable[[Any], Any]
) -> None:
    library.check(express(stack.to_dask()).compute(), express(whole))


def test_rechunked_and_overlapping_chunks_stay_with_the_library(
    stack: TiffStack, whole: np.ndarray, library: Library
) -> None:
    lazy = stack.to_dask()
    library.check(lazy.rechunk((3, 3, 6, 5)).blocks[0, 0].compute(), whole[:, :3])
    doubled = da.map_overlap(
        lambda block: block + block, lazy, depth={1: 1}, boundary="none", meta=lazy._meta
    )
    library.check(doubled.compute(), whole + whole)


def test_read_gives_an_array_of_the_library(
    stack: TiffStack, whole: np.ndarray, library: Library
) -> None:
    library.check(stack.read(), whole)


@pytest.mark.parametrize("chunks", ["option", None], ids=["dask", "no dask"])
def test_xarray_holds_arrays_of_the_library(
    stack: TiffStack, whole: np.ndarray, library: Library, chunks: Any
) -> None:
    named = stack.to_xarray(chunks=chunks)
    picked = named.isel(t=[0, 2], z=1)[:, 1:].compute().data
    library.check(picked, whole[[0, 2], 1, 1:])
    if chunks == "option":
        assert isinstance(named.data._meta, library.kind)


@pytest.mark.parametrize(
    "options",
    [{}, {"compressor": None}, {"compressor": {"id": "zstd"}}, {"shards": (1, 4, 6, 5)}],
    ids=["blosc", "uncompressed", "zstd", "shards"],
)
def test_a_copy_is_written_on_the_host_and_read_into_the_library(
    stack: TiffStack,
    whole: np.ndarray,
    library: Library,
    options: dict[str, Any],
    tmp_path: Path,
) -> None:
    import zarr

    before = {**zarr.config.config}
    stack.to_dask()
    url = str(tmp_path / "copy.zarr")
    stack.export(url, **options)
    np.testing.assert_array_equal(da.from_zarr(url).compute(), whole)
    lazy = open_zarr(url, arraytype=library.arraytype).array
    assert isinstance(lazy._meta, library.kind)
    library.check(lazy.compute(), whole)
    library.check(lazy[1, ::2, 0].compute(), whole[1, ::2, 0])
    library.check(lazy.sum(axis=1).compute(), whole.sum(axis=1))
    assert {**zarr.config.config} == before


def test_a_source_over_a_copy_has_the_option_too(
    folder: str, whole: np.ndarray, library: Library, tmp_path: Path
) -> None:
    source = intake.open_tiffstack(f"{folder}/*.tif", arraytype=library.arraytype, **OPTIONS)
    copy = source.export(str(tmp_path / "copy.zarr"))
    assert type(copy(arraytype="numpy").to_dask()._meta) is np.ndarray
    chosen = copy(arraytype=library.arraytype)(sel={"t": 1})
    assert isinstance(chosen.to_dask()._meta, library.kind)
    library.check(chosen.read(), whole[1:2])
    library.check(chosen.to_xarray().isel(z=0).compute().data, whole[1:2, 0])


def test_an_array_is_on_the_host_only_where_it_is_asked_to_be(
    stack: TiffStack, whole: np.ndarray
) -> None:
    before = dict(DoubleDevice.copied)
    np.testing.assert_array_equal(np.asarray(stack.collection.array), whole, strict=True)
    np.testing.assert_array_equal(stack.host_array[...], whole, strict=True)
    assert DoubleDevice.copied == before


def test_export_never_passes_the_device(folder: str, whole: np.ndarray, tmp_path: Path) -> None:
    before = dict(DoubleDevice.copied)
    open_as(folder, DOUBLE).export(str(tmp_path / "copy.zarr"), verify="all")
    np.testing.assert_array_equal(da.from_zarr(str(tmp_path / "copy.zarr")).compute(), whole)
    assert DoubleDevice.copied == before


def test_each_kind_of_array_has_its_own_name(folder: str, library: Library, tmp_path: Path) -> None:
    named = {arraytype: open_as(folder, arraytype) for arraytype in ("numpy", library.arraytype)}
    assert len({stack.to_dask().name for stack in named.values()}) == 2
    url = str(tmp_path / "copy.zarr")
    named["numpy"].export(url)
    assert len({open_zarr(url, arraytype=kind).array.name for kind in named}) == 2


def test_nothing_of_the_library_is_in_the_graph(stack: TiffStack, library: Library) -> None:
    modules = set()

    class Noting(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            modules.add(module.partition(".")[0])
            return super().find_class(module, name)

    text = pickle.dumps(dict(stack.to_dask().__dask_graph__()))
    Noting(io.BytesIO(text)).load()
    assert "intake_tiffstack" in modules
    assert library.kind.__module__.partition(".")[0] not in modules


# ----------------------------------------------------------------------------- what is not there


def test_the_doubles_are_as_strict_as_a_gpu() -> None:
    with pytest.raises(TypeError, match="implicit conversion"):
        np.asarray(DeviceArray([1]))
    with pytest.raises(TypeError, match="a NumPy array among"):
        DeviceArray([1]) + np.array([1])
    with pytest.raises(RuntimeError, match="todense"):
        np.asarray(sparse.COO.from_numpy(np.array([1])))
    assert isinstance(DoubleDevice(), Device)
    assert isinstance(SparseDevice(), Device)


def test_a_class_by_name_needs_allow_code(folder: str) -> None:
    stack = open_as(folder, DOUBLE)
    with dask.config.set({"tiffstack.allow_code": False}):
        with pytest.raises(OptionError, match=r"runs code of that package.*allow_code is true"):
            stack.to_dask()
        with dask.config.set({"tiffstack.require_device": False}), pytest.raises(OptionError):
            stack.to_dask()


@pytest.mark.parametrize(
    ("arraytype", "message"),
    [
        ("cuppy", "unknown arraytype 'cuppy'; did you mean 'cupy'?"),
        ("torch", "unknown arraytype 'torch'; known: cupy, numpy, package.module:Class"),
        ("no_such_module:Class", "cannot be imported: No module named 'no_such_module'"),
        ("array_double:Nothing", "cannot be imported: module 'array_double' has no attribute"),
        (":Class", "cannot be imported: Empty module name"),
        ("array_double:NoDevice", "must have empty_host, to_device and meta"),
        ("math:pi", "must have empty_host, to_device and meta"),
    ],
)
def test_what_is_no_device_is_refused(folder: str, arraytype: str, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        open_as(folder, arraytype).to_dask()


def test_an_unknown_name_is_refused_where_no_device_is_required(folder: str) -> None:
    with (
        dask.config.set({"tiffstack.require_device": False}),
        pytest.raises(OptionError, match="unknown arraytype 'cuppy'; did you mean 'cupy'"),
    ):
        open_as(folder, "cuppy").to_dask()


@needs_no_cupy
def test_cupy_that_is_not_installed_names_the_extras(folder: str) -> None:
    with pytest.raises(ImportError, match=r"intake-tiffstack\[cupy12\]' or \[cupy13\]"):
        open_as(folder, "cupy").to_dask()


def test_without_require_device_the_graph_is_made_where_there_is_no_device(folder: str) -> None:
    with dask.config.set({"tiffstack.require_device": False}):
        lazy = open_as(folder, "cupy").to_dask()
    assert lazy.shape == (3, 4, 6, 5)
    assert type(lazy._meta) is np.ndarray


@pytest.mark.parametrize(
    ("devices", "found"),
    [(0, "there is none"), ("cudaErrorInsufficientDriver: too old", "cudaErrorInsufficientD")],
    ids=["no GPU", "no driver"],
)
def test_a_device_that_cannot_be_used_says_what_was_found_and_what_to_do(
    folder: str, cuda: CudaDouble, devices: Any, found: str
) -> None:
    cuda.devices = devices
    with pytest.raises(
        DeviceNotAvailableError,
        match=rf"CuPy 13\.0\.0 finds no usable GPU.*{found}.*require_device to false",
    ):
        open_as(folder, "cupy").to_dask()


def test_a_worker_without_a_device_says_so_too(folder: str, cuda: CudaDouble) -> None:
    cuda.devices, cuda.refuses = 0, True
    with dask.config.set({"tiffstack.require_device": False}):
        lazy = open_as(folder, "cupy").to_dask()
    with pytest.raises(DeviceNotAvailableError, match="no usable GPU in this process"):
        lazy.compute()


def test_numpy_is_a_device_like_the_others(whole: np.ndarray) -> None:
    device = get_device("numpy")
    assert isinstance(device, NumpyDevice)
    assert device.to_device(whole) is whole
    assert device.meta(3, "u2").shape == (0, 0, 0)
