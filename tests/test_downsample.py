"""Blocks made smaller: beside tensorstore, which rounds as we do, and NumPy in so many words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorstore
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.ome_zarr import downsample
from intake_tiffstack.export.ome_zarr.downsample import (
    find_reduce,
    take_mean,
    take_mode,
    take_nearest,
)

INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
ORACLES = {"mean": "mean", "nearest": "stride", "mode": "mode"}


def oracle(block: np.ndarray, factors: tuple[int, ...], method: str) -> np.ndarray:
    lazy = tensorstore.downsample(tensorstore.array(block), list(factors), ORACLES[method])
    return np.asarray(lazy.read().result())


@st.composite
def blocks(draw: Any, kinds: list[str]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return a block of 1 to 3 dims, and a factor for each."""
    ndim = draw(st.integers(1, 3))
    shape = draw(st.tuples(*[st.integers(1, 9)] * ndim))
    factors = draw(st.tuples(*[st.integers(1, 5)] * ndim))
    dtype = np.dtype(draw(st.sampled_from(kinds)))
    few = st.sampled_from([0, 1, 2, 3, 5, np.iinfo(dtype).max, np.iinfo(dtype).min])
    whole = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    return draw(arrays(dtype, shape, elements=few | whole)), factors


@given(blocks(INTEGERS), st.sampled_from(sorted(ORACLES)))
def test_integers_come_out_as_tensorstore_has_them(
    case: tuple[np.ndarray, tuple[int, ...]], method: Any
) -> None:
    block, factors = case
    factors = tuple(map(min, factors, block.shape))
    found = find_reduce(method)(block, factors)
    expected = oracle(block, factors, method)
    assert found.dtype == block.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_half_goes_to_the_even_neighbour_negative_or_not() -> None:
    pairs = np.array([0, 1, 1, 2, 2, 3, -1, 0, -2, -1, -3, -2], np.int16)
    assert take_mean(pairs, (2,)).tolist() == [0, 2, 2, 0, -2, -2]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8"])
def test_floats_keep_their_dtype_and_a_nan_spreads(dtype: str) -> None:
    block = np.array([[1, 2, np.nan], [3, 5, 1]], dtype)
    found = take_mean(block, (2, 2))
    assert found.dtype == block.dtype
    assert found[0, 0] == 2.75
    assert np.isnan(found[0, 1])


def test_large_floats_are_added_up_in_double_precision() -> None:
    block = np.array([2.0**24, 1, 1, 1], np.float32)
    assert take_mean(block, (4,))[0] == np.float32((2.0**24 + 3) / 4)


def test_booleans_become_what_most_are() -> None:
    block = np.array([True, True, False, True, False, False])
    assert take_mean(block, (3,)).tolist() == [True, False]
    assert take_mean(block, (2,)).tolist() == [True, False, False]  # a half is even: False


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_sums_of_large_cells_do_not_overflow(dtype: str) -> None:
    white = np.full((300, 2), np.iinfo(dtype).max, dtype)
    assert take_mean(white, (300, 2)).tolist() == [[np.iinfo(dtype).max]]


def test_an_odd_end_is_the_mean_of_what_is_there() -> None:
    block = np.arange(15, dtype=np.uint16).reshape(3, 5)
    expected = [[3, 5, 6], [10, 12, 14]]  # the last of [10, 11], [12, 13] round to even
    assert take_mean(block, (2, 2)).tolist() == expected


@pytest.mark.parametrize("nbytes", [1, 64, 1000])
@pytest.mark.parametrize("take", [take_mean, take_mode])
def test_tiles_leave_no_seam(take: Any, nbytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    block = np.random.default_rng(1).integers(0, 9, (5, 23, 31), dtype=np.uint8)
    whole = take(block, (2, 2, 3))
    monkeypatch.setattr(downsample, "TILE_BYTES", nbytes)
    np.testing.assert_array_equal(take(block, (2, 2, 3)), whole)


@pytest.mark.parametrize("take", [take_mean, take_mode, take_nearest])
def test_any_strides_and_a_read_only_block_will_do(take: Any) -> None:
    block = np.random.default_rng(2).integers(0, 900, (7, 6, 8), dtype=np.uint16)
    turned = block.transpose(2, 0, 1)[::-1]
    turned.flags.writeable = False
    expected = take(np.ascontiguousarray(turned), (2, 2, 2))
    np.testing.assert_array_equal(take(turned, (2, 2, 2)), expected)
    assert expected.flags.c_contiguous


def test_the_mode_of_a_tie_is_the_least() -> None:
    assert take_mode(np.array([9, 4, 4, 9, 7]), (4,)).tolist() == [4, 7]


def test_labels_keep_values_that_are_there() -> None:
    labels = np.random.default_rng(3).integers(0, 4, (20, 20)) * 1000
    found = take_mode(labels, (2, 2))
    cells = labels.reshape(10, 2, 10, 2).transpose(0, 2, 1, 3).reshape(10, 10, 4)
    for value, cell in zip(found.ravel(), cells.reshape(-1, 4), strict=True):
        counts = dict(zip(*np.unique(cell, return_counts=True), strict=True))
        assert counts[value] == max(counts.values())


def test_a_wrong_method_is_reported() -> None:
    with pytest.raises(OptionError, match="'mean', 'nearest', 'mode', but got 'gaussian'"):
        find_reduce("gaussian")  # type: ignore[arg-type]


def test_infinities_of_both_signs_raise_no_warning() -> None:
    block = np.array([[np.inf, -np.inf, np.inf, 1.0]], np.float32)
    np.testing.assert_array_equal(take_mean(block, (1, 2)), [[np.nan, np.inf]])
