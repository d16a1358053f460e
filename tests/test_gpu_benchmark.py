"""The benchmark for a GPU, without one: all of it but the device itself runs."""

from __future__ import annotations

import re
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import gpu
from cuda_double import CudaDouble
from intake_tiffstack.device import loading

ROOT = Path(__file__).parents[1]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_dry_run_prints_one_table_of_right_pixels() -> None:
    done = run_benchmark("--arraytype", "numpy", "--files=2", "--threads", "2", "--repeats=1")
    assert done.returncode == 0, done.stderr
    assert "whose figures mean nothing" in done.stdout
    assert "WRONG" not in done.stdout
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [len(row) for row in rows] == [11] * 7
    assert {(row[0].strip("| "), row[1]) for row in rows[1:]} == {
        (data, chunks) for data in ("uncompressed", "zlib", "zstd") for chunks in ("file", "32 MiB")
    }
    assert all(re.fullmatch(r"\d+\.\d\d", row[4]) for row in rows[1:])


class PinnedPool:
    """A pool of pinned memory as CuPy's: it asks its allocator for what it does not have."""

    def __init__(self, allocator: Any) -> None:
        self._allocator = allocator
        self._kept: list[Any] = []

    def malloc(self, nbytes: int) -> Any:
        fitting = [pointer for pointer in self._kept if pointer.mem.size == nbytes]
        if fitting:
            self._kept.remove(fitting[0])
            return fitting[0]
        return self._allocator(nbytes)

    def free(self, pointer: Any) -> None:
        self._kept.append(pointer)

    def free_all_blocks(self) -> None:
        self._kept.clear()


class PinnedMemory:
    def __init__(self, size: int) -> None:
        self.size = size


@dataclass
class PinnedMemoryPointer:
    mem: PinnedMemory
    offset: int


def complete(double: CudaDouble) -> None:
    """Add what the benchmark asks of CuPy and the package does not."""
    cupy, cuda = double.cupy, double.cupy.cuda
    cuda.runtime.getDeviceProperties = lambda number: {"name": b"Double"}
    cuda.PinnedMemory, cuda.PinnedMemoryPointer = PinnedMemory, PinnedMemoryPointer
    cuda.PinnedMemoryPool = PinnedPool
    cuda.set_pinned_memory_allocator = lambda malloc: setattr(cuda, "malloc", malloc)
    cuda.Device = lambda: SimpleNamespace(synchronize=lambda: None)
    pool = SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 7_000_000)
    cupy.get_default_memory_pool = lambda: pool
    plain = double.cupyx.empty_pinned

    def empty_pinned(shape: Any, dtype: Any) -> Any:
        block = plain(shape, dtype)
        pointer = cuda.malloc(block.nbytes)
        weakref.finalize(block, cuda.malloc.__self__.free, pointer)
        return block

    double.cupyx.empty_pinned = empty_pinned


def test_with_cupy_all_of_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    double = CudaDouble()
    double.install(monkeypatch)
    complete(double)
    monkeypatch.setattr(sys, "argv", ["gpu", "--files=2", "--threads", "2", "--repeats=1"])
    monkeypatch.setattr(gpu, "CEILING_BYTES", 2**16)
    try:
        assert gpu.main() == 0
    finally:
        loading._make_device.cache_clear()
    out = capsys.readouterr().out
    assert out.startswith("Double, CuPy 13.0.0; ")
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")][1:]
    assert [row[9] for row in rows] == ["7"] * 6
    pinned = [int(row[10].strip(" |")) for row in rows]
    assert all(17 <= mb <= 68 for mb in pinned), pinned  # two blocks of 16 or 32 MiB at most


def test_the_peak_of_pinned_memory_is_what_was_there_at_once() -> None:
    cuda = SimpleNamespace(
        PinnedMemory=PinnedMemory,
        PinnedMemoryPointer=PinnedMemoryPointer,
        PinnedMemoryPool=PinnedPool,
    )
    count = gpu.PinnedCount(SimpleNamespace(cuda=cuda))
    first = count.pool.malloc(100)
    second = count.pool.malloc(50)
    count.pool.free(first)
    del first, second
    assert (count.now, count.peak) == (100, 150)
    count.pool.free_all_blocks()
    assert (count.now, count.peak) == (0, 150)


def test_without_a_gpu_it_says_so_in_one_sentence_and_ends_with_2() -> None:
    try:
        import cupy

        if cupy.cuda.is_available():
            pytest.skip("there is a GPU")
    except ImportError:
        pass
    done = run_benchmark()
    assert done.returncode == 2
    assert re.fullmatch(r"Not run: this benchmark needs CuPy and a GPU \(.+\)\.\n", done.stderr)
    assert done.stdout == ""
