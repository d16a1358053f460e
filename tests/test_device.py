"""Where a chunk is delivered, seen with an array library as strict as CuPy that needs no GPU."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile

from array_double import DeviceArray, DoubleDevice
from intake_tiffstack import TiffStack, open_stack
from intake_tiffstack.device import Device, NumpyDevice, get_device
from intake_tiffstack.errors import DeviceNotAvailableError, OptionError

DOUBLE = "array_double:DoubleDevice"

needs_no_cupy = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is not None, reason="CuPy is installed"
)


@pytest.fixture
def whole() -> np.ndarray:
    return np.arange(3 * 4 * 6 * 5, dtype="uint16").reshape(3, 4, 6, 5)


@pytest.fixture
def folder(tmp_path: Path, whole: np.ndarray) -> str:
    for t, volume in enumerate(whole):
        tifffile.imwrite(tmp_path / f"t{t}.tif", volume, photometric="minisblack")
    return str(tmp_path)


@pytest.fixture
def _allow_code() -> Iterator[None]:
    with dask.config.set({"tiffstack.allow_code": True}):
        yield


@pytest.fixture
def stack(folder: str, _allow_code: None) -> TiffStack:
    return open_double(folder)


def open_double(folder: str, arraytype: str = DOUBLE) -> TiffStack:
    return open_stack(
        folder,
        pattern="t{t:d}.tif",
        file_dims="zyx",
        chunks={"t": 1, "z": 2},
        arraytype=arraytype,
    )


# ------------------------------------------------------------------------- an array of the device


def test_the_double_is_as_strict_as_a_gpu() -> None:
    with pytest.raises(TypeError, match="implicit conversion"):
        np.asarray(DeviceArray([1]))
    with pytest.raises(TypeError, match="a NumPy array among"):
        DeviceArray([1]) + np.array([1])
    assert isinstance(DoubleDevice(), Device)


def test_chunks_and_meta_are_arrays_of_the_device(stack: TiffStack, whole: np.ndarray) -> None:
    lazy = stack.to_dask()
    assert type(lazy._meta) is DeviceArray
    assert lazy.dtype == whole.dtype
    block = lazy.blocks[1, 1, 0, 0].compute()
    assert type(block) is DeviceArray
    np.testing.assert_array_equal(block._values, whole[1:2, 2:4], strict=True)


@pytest.mark.parametrize(
    "express",
    [
        pytest.param(lambda a: a, id="all"),
        pytest.param(lambda a: a[1, 2], id="index"),
        pytest.param(lambda a: a[1, 2, 3, 4], id="pixel"),
        pytest.param(lambda a: a[::-1, 1:3, ::2], id="slices"),
        pytest.param(lambda a: a[[0, 2]], id="list"),
        pytest.param(lambda a: a.sum(), id="sum"),
        pytest.param(lambda a: a.sum(axis=0), id="sum along t"),
        pytest.param(lambda a: a.max(axis=1), id="projection"),
        pytest.param(lambda a: a.T + 1, id="transpose and add"),
        pytest.param(lambda a: a.astype("f4") * 0.5, id="astype"),
    ],
)
def test_what_is_computed_stays_on_the_device(
    stack: TiffStack, whole: np.ndarray, express: Callable[[Any], Any]
) -> None:
    result = express(stack.to_dask()).compute()
    assert type(result) is DeviceArray
    np.testing.assert_array_equal(result._values, express(whole), strict=True)


def test_rechunked_chunks_stay_on_the_device(stack: TiffStack, whole: np.ndarray) -> None:
    result = stack.to_dask().rechunk((3, 3, 6, 5)).blocks[0, 0].compute()
    assert type(result) is DeviceArray
    np.testing.assert_array_equal(result._values, whole[:, :3])


def test_read_gives_an_array_of_the_device(stack: TiffStack, whole: np.ndarray) -> None:
    pixels = stack.read()
    assert type(pixels) is DeviceArray
    np.testing.assert_array_equal(pixels._values, whole, strict=True)


@pytest.mark.parametrize("chunks", ["option", None], ids=["dask", "no dask"])
def test_xarray_holds_arrays_of_the_device(
    stack: TiffStack, whole: np.ndarray, chunks: Any
) -> None:
    named = stack.to_xarray(chunks=chunks)
    picked = named.isel(t=[0, 2], z=1)[:, 1:].compute().data
    assert type(picked) is DeviceArray
    np.testing.assert_array_equal(picked._values, whole[[0, 2], 1, 1:], strict=True)
    assert "DeviceArray" in repr(named) or chunks is None


def test_an_array_of_the_device_goes_to_numpy_only_where_it_is_asked_to(
    stack: TiffStack, whole: np.ndarray
) -> None:
    np.testing.assert_array_equal(np.asarray(stack.collection.array), whole, strict=True)


def test_export_reads_on_the_host(stack: TiffStack, whole: np.ndarray, tmp_path: Path) -> None:
    import dask.array as da

    before = dict(DoubleDevice.copied)
    host = stack.to_host_dask()
    assert type(host._meta) is np.ndarray
    assert host.chunks == stack.to_dask().chunks
    np.testing.assert_array_equal(host.compute(), whole, strict=True)
    stack.export(str(tmp_path / "copy.zarr"))
    np.testing.assert_array_equal(da.from_zarr(str(tmp_path / "copy.zarr")).compute(), whole)
    assert DoubleDevice.copied == before


def test_each_kind_of_array_has_its_own_name(stack: TiffStack, folder: str) -> None:
    assert stack.to_dask().name != open_double(folder, "numpy").to_dask().name
    assert stack.to_host_dask().name == open_double(folder, "numpy").to_dask().name


# ----------------------------------------------------------------------------- what is not there


def test_a_class_by_name_needs_allow_code(folder: str) -> None:
    stack = open_double(folder)
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
        ("array_double:NoDevice", "must have empty_host, to_device, to_host and meta"),
        ("math:pi", "must have empty_host, to_device, to_host and meta"),
    ],
)
@pytest.mark.usefixtures("_allow_code")
def test_what_is_no_device_is_refused(folder: str, arraytype: str, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        open_double(folder, arraytype).to_dask()


def test_an_unknown_name_is_refused_where_no_device_is_required(folder: str) -> None:
    with (
        dask.config.set({"tiffstack.require_device": False}),
        pytest.raises(OptionError, match="unknown arraytype 'cuppy'; did you mean 'cupy'"),
    ):
        open_double(folder, "cuppy").to_dask()


@needs_no_cupy
def test_cupy_that_is_not_installed_names_the_extras(folder: str) -> None:
    with pytest.raises(ImportError, match=r"intake-tiffstack\[cupy12\]' or \[cupy13\]"):
        open_double(folder, "cupy").to_dask()


def test_without_require_device_the_graph_is_made_where_there_is_no_device(folder: str) -> None:
    with dask.config.set({"tiffstack.require_device": False}):
        lazy = open_double(folder, "cupy").to_dask()
    assert lazy.shape == (3, 4, 6, 5)
    assert type(lazy._meta) is np.ndarray


def test_a_device_that_cannot_be_used_says_what_to_do() -> None:
    class Cuda:
        @staticmethod
        def is_available() -> bool:
            return False

    class Cupy:
        cuda = Cuda

    from intake_tiffstack.device import CupyDevice

    device = CupyDevice.__new__(CupyDevice)
    device.cupy = Cupy
    with pytest.raises(DeviceNotAvailableError, match=r"no usable GPU.*require_device to false"):
        device.meta(2, "u1")


def test_numpy_is_a_device_like_the_others(whole: np.ndarray) -> None:
    device = get_device("numpy")
    assert isinstance(device, NumpyDevice)
    assert device.to_device(whole) is whole
    assert device.to_host(whole) is whole
    assert device.meta(3, "u2").shape == (0, 0, 0)


@pytest.mark.gpu
def test_cupy_delivers_what_numpy_does(folder: str, whole: np.ndarray) -> None:
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no usable GPU")
    lazy = open_double(folder, "cupy").to_dask()
    assert type(lazy._meta) is cupy.ndarray
    np.testing.assert_array_equal(cupy.asnumpy(lazy.compute()), whole)
    np.testing.assert_array_equal(cupy.asnumpy(lazy.sum(axis=0).compute()), whole.sum(axis=0))
