"""Pinned memory: how much is out at once, for how long, and what happens without it."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from cuda_double import CudaDouble, CUDARuntimeError
from intake_tiffstack import open_stack
from intake_tiffstack.device import Device, TakesBack, get_device, loading
from intake_tiffstack.device.pinned_gate import PinnedGate, rounded
from intake_tiffstack.errors import TiffStackWarning, UnreadableFileError

KIB = 1024

# ----------------------------------------------------------------------------------- the counting


class Signal:
    """A copy that is done when the test says so, or at once for whoever waits for it."""

    def __init__(self, *, may_be_waited_for: bool = True) -> None:
        self._is_done = threading.Event()
        self.may_be_waited_for = may_be_waited_for
        self.waited = 0

    @property
    def done(self) -> bool:
        return self._is_done.is_set()

    def finish(self) -> None:
        self._is_done.set()

    def synchronize(self) -> None:
        self.waited += 1
        if self.may_be_waited_for:
            self.finish()
        elif not self._is_done.wait(10):
            raise TimeoutError("nobody finished the copy")


@pytest.fixture
def gate() -> PinnedGate:
    return PinnedGate(lambda: None)


def start_taking(gate: PinnedGate, nbytes: int, limit: int) -> threading.Thread:
    thread = threading.Thread(target=gate.take, args=(nbytes, limit), daemon=True)
    thread.start()
    return thread


def is_waiting(thread: threading.Thread) -> bool:
    thread.join(0.05)
    return thread.is_alive()


def test_blocks_go_through_until_the_limit_and_on_when_one_is_back(gate: PinnedGate) -> None:
    for _ in range(4):
        gate.take(KIB, limit=4 * KIB)
    assert gate.nbytes == 4 * KIB
    fifth = start_taking(gate, KIB, 4 * KIB)
    assert is_waiting(fifth)
    gate.give_back(KIB)
    assert not is_waiting(fifth)
    assert gate.nbytes == 4 * KIB


def test_a_block_is_counted_as_the_pool_rounds_it(gate: PinnedGate) -> None:
    gate.take(KIB + 1, limit=4 * KIB)
    assert gate.nbytes == 2 * KIB
    gate.give_back(KIB + 1)
    assert gate.nbytes == 0


@given(st.integers(1, 2**40))
def test_rounding_is_the_next_power_of_two(nbytes: int) -> None:
    assert rounded(nbytes) >= nbytes > rounded(nbytes) // 2
    assert rounded(nbytes).bit_count() == 1


def test_a_block_larger_than_the_limit_goes_alone(gate: PinnedGate) -> None:
    gate.take(64 * KIB, limit=KIB)
    other = start_taking(gate, 1, KIB)
    assert is_waiting(other)
    gate.give_back(64 * KIB)
    assert not is_waiting(other)
    huge = start_taking(gate, 64 * KIB, KIB)
    assert is_waiting(huge)
    gate.give_back(1)
    assert not is_waiting(huge)


def test_who_waits_sees_to_the_oldest_copy_itself(gate: PinnedGate) -> None:
    oldest, newest = Signal(), Signal()
    for signal in (oldest, newest):
        gate.take(KIB, 2 * KIB)
        gate.give_back_after(signal, KIB, None)
    gate.take(KIB, 2 * KIB)  # in this very thread: no other comes by
    assert (oldest.waited, newest.waited) == (1, 0)


def test_who_waits_for_a_block_being_filled_waits_for_its_copy_then(gate: PinnedGate) -> None:
    gate.take(KIB, KIB)
    other = start_taking(gate, KIB, KIB)
    assert is_waiting(other)
    gate.give_back_after(signal := Signal(), KIB, None)
    assert not is_waiting(other)
    assert signal.waited == 1


def test_copies_that_are_done_are_waited_for_by_nobody(gate: PinnedGate) -> None:
    gate.take(KIB, KIB)
    signal = Signal(may_be_waited_for=False)
    gate.give_back_after(signal, KIB, None)
    signal.finish()
    gate.take(KIB, KIB)
    assert signal.waited == 0


def test_the_host_block_lives_until_its_copy_is_done(gate: PinnedGate) -> None:
    host = np.empty(4)
    is_there = weakref.ref(host)
    gate.take(KIB, KIB)
    gate.give_back_after(signal := Signal(), KIB, host)
    del host
    assert is_there() is not None
    signal.finish()
    gate.take(KIB, KIB)
    assert is_there() is None


def test_a_copy_that_fails_gives_its_bytes_back(gate: PinnedGate) -> None:
    class Broken(Signal):
        def synchronize(self) -> None:
            raise RuntimeError("the device fell off the bus")

    gate.take(KIB, KIB)
    gate.give_back_after(Broken(), KIB, None)
    with pytest.raises(RuntimeError, match="fell off"):
        gate.take(KIB, KIB)
    assert gate.nbytes == 0


def test_the_pool_is_drained_before_it_keeps_more_than_the_limit() -> None:
    drained: list[int] = []
    gate = PinnedGate(lambda: drained.append(1))
    for _ in range(3):  # sizes that the limit holds together: the pool is left alone
        for nbytes in (2 * KIB, KIB):
            gate.take(nbytes, 4 * KIB)
            gate.give_back(nbytes)
    assert not drained
    gate.take(4 * KIB, 4 * KIB)  # 2 + 1 + 4
    assert len(drained) == 1
    gate.give_back(4 * KIB)
    gate.take(4 * KIB, 4 * KIB)
    assert len(drained) == 1


@pytest.mark.parametrize("limit", [KIB, 5 * KIB, 64 * KIB])
def test_many_threads_never_hold_more_than_the_limit_and_all_end(limit: int) -> None:
    gate = PinnedGate(lambda: None)
    most: list[int] = []
    rng = np.random.default_rng(0)

    def work(sizes: list[int]) -> None:
        for nbytes in sizes:
            gate.take(nbytes, limit)
            most.append(gate.nbytes)
            if nbytes % 3:
                gate.give_back_after(Signal(), nbytes, None)
            else:
                gate.give_back(nbytes)

    threads = [
        threading.Thread(target=work, args=(rng.integers(1, 3 * KIB, 200).tolist(),), daemon=True)
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert max(most) <= max(limit, 4 * KIB)


# ------------------------------------------------------------------------------- chunks with CuPy

SHAPE = (16, 8, 64, 64)  # 64 KiB a file
FILE = 64 * KIB


@pytest.fixture
def whole() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**16, SHAPE, "uint16")


@pytest.fixture
def folder(tmp_path: Path, whole: np.ndarray) -> str:
    for t, volume in enumerate(whole):
        tifffile.imwrite(tmp_path / f"t{t:02d}.tif", volume, photometric="minisblack")
    return str(tmp_path)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaDouble]:
    double = CudaDouble()
    double.install(monkeypatch)
    yield double
    loading._make_device.cache_clear()


def open_cupy(folder: str, **options: Any) -> Any:
    given = {"pattern": "t{t:d}.tif", "file_dims": "zyx", "chunks": "file", **options}
    return open_stack(f"{folder}/*.tif", arraytype="cupy", **given).to_dask()


def compute(lazy: Any, limit: str, threads: int = 8) -> Any:
    with dask.config.set(
        {"tiffstack.pinned_limit": limit, "scheduler": "threads", "num_workers": threads}
    ):
        return lazy.compute()


def test_cupy_is_a_device_that_takes_blocks_back(cuda: CudaDouble) -> None:
    assert isinstance(get_device("cupy"), Device)
    assert isinstance(get_device("cupy"), TakesBack)


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("limit", ["16 KiB", "64 KiB", "200 KiB", "1 GiB"])
def test_pinned_bytes_stay_below_the_limit_and_pixels_are_right(
    cuda: CudaDouble, folder: str, whole: np.ndarray, limit: str, threads: int
) -> None:
    pixels = compute(open_cupy(folder), limit, threads)
    np.testing.assert_array_equal(pixels._values, whole)
    assert len(cuda.is_pinned) == 16
    assert all(cuda.is_pinned)
    # another thread may see that a copy is done before this one has let go of the block
    slack = (threads - 1) * FILE
    assert cuda.most_pinned <= max(FILE, dask.utils.parse_bytes(limit)) + slack


def test_nothing_is_made_before_a_chunk_is_computed(cuda: CudaDouble, folder: str) -> None:
    lazy = open_cupy(folder)
    assert (cuda.most_pinned, cuda.is_pinned) == (0, [])
    compute(lazy[0, 0], "1 GiB")
    assert cuda.most_pinned == 2 * 64 * 64  # the plane that was asked for, not its chunk


def test_an_index_that_reverses_or_picks_is_still_one_pinned_copy(
    cuda: CudaDouble, folder: str, whole: np.ndarray
) -> None:
    pixels = compute(open_cupy(folder)[::-3, 2, ::-1], "1 GiB")
    np.testing.assert_array_equal(pixels._values, whole[::-3, 2, ::-1])
    assert all(cuda.is_pinned)


def test_a_limit_of_0_takes_ordinary_memory(
    cuda: CudaDouble, folder: str, whole: np.ndarray
) -> None:
    np.testing.assert_array_equal(compute(open_cupy(folder), "0")._values, whole)
    assert not any(cuda.is_pinned)


def test_refused_pinned_memory_warns_once_and_goes_on_without(
    cuda: CudaDouble, folder: str, whole: np.ndarray
) -> None:
    cuda.refuses = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = compute(open_cupy(folder), "64 KiB")
    np.testing.assert_array_equal(pixels._values, whole)
    assert not any(cuda.is_pinned)
    assert [w.category for w in caught] == [TiffStackWarning]
    assert "no pinned memory (65,536 bytes: cudaErrorMemoryAllocation" in str(caught[0].message)
    cuda.refuses = False  # and takes it where there is some again
    compute(open_cupy(folder, chunks="page"), "64 KiB")
    assert any(cuda.is_pinned)


def test_chunks_that_fail_leave_their_pinned_memory_to_others(
    cuda: CudaDouble, folder: str, whole: np.ndarray
) -> None:
    lazy = open_cupy(folder)
    files = sorted(Path(folder).iterdir())
    content = files[3].read_bytes()
    files[3].write_bytes(content[: len(content) // 2])
    kept = []  # as a notebook keeps the last traceback, with all the blocks in it
    for _ in range(5):
        with pytest.raises(UnreadableFileError) as caught:
            compute(lazy, "64 KiB")
        kept.append(caught.value)
    good = open_cupy(folder, exclude=["t03.tif"])
    np.testing.assert_array_equal(compute(good, "64 KiB")._values, np.delete(whole, 3, axis=0))


def test_a_copy_that_is_refused_gives_its_block_back(
    cuda: CudaDouble, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(host: np.ndarray) -> Any:
        raise MemoryError("out of device memory")

    lazy = open_cupy(folder)
    monkeypatch.setattr(cuda.cupy, "asarray", refuse)
    for _ in range(3):
        with pytest.raises(MemoryError, match="device memory"):
            compute(lazy, "64 KiB", threads=1)
    assert get_device("cupy")._gate.nbytes == 0


@pytest.mark.parametrize("failing", ["Event", "get_current_stream"])
def test_a_copy_that_no_event_can_follow_gives_its_block_back(
    cuda: CudaDouble, folder: str, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise CUDARuntimeError("cudaErrorIllegalAddress")

    lazy = open_cupy(folder)
    monkeypatch.setattr(cuda.cupy.cuda, failing, fail)
    for _ in range(3):  # the second would wait for ever
        with pytest.raises(CUDARuntimeError, match="IllegalAddress"):
            compute(lazy, "64 KiB", threads=1)
    assert get_device("cupy")._gate.nbytes == 0


def test_a_stream_of_its_own_is_waited_for(cuda: CudaDouble, folder: str) -> None:
    array = open_stack(f"{folder}/*.tif", arraytype="cupy").collection.array
    assert not array[:1]._late.is_done
    cuda.stream_pointer = 2  # as with CUPY_CUDA_PER_THREAD_DEFAULT_STREAM
    assert array[:1]._late.is_done


def test_blocks_are_let_go_when_their_copies_are_done(cuda: CudaDouble, folder: str) -> None:
    array = open_stack(f"{folder}/*.tif", arraytype="cupy").collection.array
    for t in range(16):
        array[t : t + 1]._values.sum()
        assert cuda.held() <= 2 * FILE  # the one before waits for nobody to come by
