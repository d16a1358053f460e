"""Chunks on a GPU: ``python -m benchmarks.gpu``. Needs CuPy and a GPU besides this package.

Prints one table in Markdown. Exits with 2 without a GPU, with 1 if pixels are wrong.
``--arraytype numpy`` goes the same way without a GPU, to see that all of it runs: its figures mean
nothing.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.files import bands, volumes
from benchmarks.peers import open_ours, open_recipe_tifffile
from benchmarks.pixels import true_sum

OURS, ON_HOST, RECIPE, HOST = "this package", "host array", "recipe", "host only"
"""The contenders: chunks delivered to the GPU by this package, by ``map_blocks(cp.asarray)`` over
its host array and over the recipe of 2019, and not at all."""

DATA: dict[str, Callable[..., Mapping[str, float]]] = {
    "uncompressed": volumes,
    "zlib": functools.partial(bands, compression="zlib"),
    "zstd": functools.partial(bands, compression="zstd"),
}
FILE_BYTES = 2**24  # decoded, of each of them
CHUNKS = ("file", "32 MiB")
CEILING_BYTES = 2**25
OF_LOWER, OF_RECIPE = 0.85, 1.5
"""Targets: relative to the slower of transfer and host, and to the recipe."""


class NumpyStandIn:
    """The GPU interface of the benchmark, implemented with NumPy."""

    arraytype = "numpy"
    name = "no GPU: a dry run with NumPy, whose figures mean nothing"
    asarray = staticmethod(np.array)  # copies

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def empty_pinned(self, nbytes: int) -> Any:
        return np.empty(nbytes, "u1")

    def synchronize(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def peak_device(self) -> int:
        return 0

    def peak_pinned(self) -> int:
        return 0


class CupyGpu:
    """The current GPU, by CuPy."""

    arraytype = "cupy"

    def __init__(self) -> None:
        import cupy
        import cupyx

        self._cupy, self._cupyx = cupy, cupyx
        if not cupy.cuda.runtime.getDeviceCount():
            raise RuntimeError("CuPy finds no GPU")
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"]
        name = name.decode() if isinstance(name, bytes) else name
        self.name = f"{name}, CuPy {cupy.__version__}"
        self.asarray = cupy.asarray
        self._pinned = PinnedCount(cupy)
        cupy.cuda.set_pinned_memory_allocator(self._pinned.pool.malloc)

    def to_numpy(self, array: Any) -> Any:
        return self._cupy.asnumpy(array)

    def empty_pinned(self, nbytes: int) -> Any:
        return self._cupyx.empty_pinned(nbytes, "u1")

    def synchronize(self) -> None:
        self._cupy.cuda.Device().synchronize()

    def forget(self) -> None:
        """Free the memory pools, so that the next peak belongs to the next contender."""
        self.synchronize()
        self._cupy.get_default_memory_pool().free_all_blocks()
        self._pinned.pool.free_all_blocks()
        self._pinned.peak = self._pinned.now

    def peak_device(self) -> int:
        return int(self._cupy.get_default_memory_pool().total_bytes())

    def peak_pinned(self) -> int:
        return self._pinned.peak


class PinnedCount:
    """A pool of pinned memory that records its peak size."""

    def __init__(self, cupy: Any) -> None:
        self._cuda = cupy.cuda
        self.pool = cupy.cuda.PinnedMemoryPool(self._allocate)
        self.now = self.peak = 0
        self._lock = threading.RLock()

    def _allocate(self, nbytes: int) -> Any:
        memory = self._cuda.PinnedMemory(nbytes)
        self._add(nbytes)
        weakref.finalize(memory, self._add, -nbytes)
        return self._cuda.PinnedMemoryPointer(memory, 0)

    def _add(self, nbytes: int) -> None:
        with self._lock:
            self.now += nbytes
            self.peak = max(self.peak, self.now)


Gpu = NumpyStandIn | CupyGpu


@dataclass
class Row:
    """One line of the table: rates in bytes per second, by contender."""

    data: str
    chunks: str
    threads: int
    rates: dict[str, float] = field(default_factory=dict)
    peak_device: int = 0
    peak_pinned: int = 0

    def of_lower(self, link: float) -> float:
        """Return the rate of this package relative to the slower of transfer and host."""
        return self.rates[OURS] / min(link, self.rates[HOST])

    def of_recipe(self) -> float:
        """Return how many times faster than the recipe this package is."""
        return self.rates[OURS] / self.rates[RECIPE]


def copy_rate(gpu: Gpu, host: Any, repeats: int = 5) -> float:
    """Return the bytes per second of copies of one host block."""
    host[...] = 1
    seconds = []
    for _ in range(repeats + 1):  # the first one makes the device's memory
        begin = time.perf_counter()
        for _ in range(16):
            gpu.asarray(host)
        gpu.synchronize()
        seconds.append(time.perf_counter() - begin)
    return float(16 * host.nbytes / statistics.median(seconds[1:]))


def let_go(block: Any) -> Any:
    """Return one host pixel instead of a block: only the delivery of the block is timed."""
    return np.zeros((1,) * block.ndim, block.dtype)


def open_contenders(gpu: Gpu, place: str, chunks: str) -> dict[str, Any]:
    """Return the lazy array of each contender."""
    options = {"file_dims": "zyx", "chunks": chunks}
    host = open_ours(place, **options)
    meta = gpu.asarray(on_host(host))
    contenders = {
        OURS: open_ours(place, arraytype=gpu.arraytype, **options),
        ON_HOST: host.map_blocks(gpu.asarray, dtype=host.dtype, meta=meta),
        HOST: host,
    }
    if chunks == "file":  # the recipe knows no other
        recipe = open_recipe_tifffile(place)
        contenders[RECIPE] = recipe.map_blocks(gpu.asarray, dtype=host.dtype, meta=meta)
    return contenders


def check_pixels(gpu: Gpu, arrays: Mapping[str, Any], expected: int) -> list[str]:
    """Return which contenders give wrong pixels: each sum, and the last block of ours.

    Added up on the host: nothing here asks CuPy to compile a kernel.
    """
    back = {
        name: array if name == HOST else array.map_blocks(gpu.to_numpy, meta=on_host(array))
        for name, array in arrays.items()
    }
    wrong = [
        name for name, array in back.items() if int(array.sum(dtype="u8").compute()) != expected
    ]
    last = (-1,) * arrays[OURS].ndim
    ours, host = (back[name].blocks[last].compute() for name in (OURS, HOST))
    if not np.array_equal(ours, host):
        wrong.append(f"{OURS}, last block")
    return wrong


def on_host(array: Any) -> Any:
    """Return the meta of a lazy array whose chunks are NumPy's."""
    return np.empty((0,) * array.ndim, array.dtype)


def measure(gpu: Gpu, arrays: Mapping[str, Any], row: Row, repeats: int) -> None:
    """Fill *row* with medians of the rounds after the first, which fills the pools of memory."""
    for name, array in arrays.items():
        work = array.map_blocks(let_go, chunks=(1,) * array.ndim, meta=on_host(array))
        seconds = []
        gpu.forget()
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            work.compute(scheduler="threads", num_workers=row.threads)
            gpu.synchronize()
            seconds.append(time.perf_counter() - begin)
        row.rates[name] = array.nbytes / statistics.median(seconds[1:])
        if name == OURS:
            row.peak_device, row.peak_pinned = gpu.peak_device(), gpu.peak_pinned()


def run(
    gpu: Gpu, files: int, threads: tuple[int, ...], repeats: int, wrong: list[str]
) -> Iterator[Row]:
    """Yield each row; contenders with wrong pixels are added to *wrong*."""
    for data, write in DATA.items():
        root = Path(tempfile.mkdtemp(prefix="tiffstack-gpu-"))
        try:
            write(root / "files", count=files)
            expected = true_sum(str(root / "files"))
            for chunks in CHUNKS:
                arrays = open_contenders(gpu, str(root / "files"), chunks)
                found = check_pixels(gpu, arrays, expected)
                wrong += [f"{name} ({data}, {chunks})" for name in found]
                for count in threads:
                    row = Row(data, chunks, count)
                    measure(gpu, arrays, row, repeats)
                    yield row
        finally:
            shutil.rmtree(root)


def print_table(rows: list[Row], link: float) -> None:
    """Print the rows, rates in GB/s."""
    print(
        "| data | chunks | threads | host only | this package | of the lower | host array + copy "
        "| recipe + copy | x recipe | device MB | pinned MB |"
    )
    print("|---|---|" + "---:|" * 9)
    for row in rows:
        rates = {name: f"{rate / 1e9:.2f}" for name, rate in row.rates.items()}
        of_recipe = f"{row.of_recipe():.2f}" if RECIPE in row.rates else "-"
        cells = [
            row.data,
            row.chunks,
            row.threads,
            rates[HOST],
            rates[OURS],
            f"{row.of_lower(link):.2f}",
            rates[ON_HOST],
            rates.get(RECIPE, "-"),
            of_recipe,
            f"{row.peak_device / 1e6:.0f}",
            f"{row.peak_pinned / 1e6:.0f}",
        ]
        print("| " + " | ".join(map(str, cells)) + " |")


def say_bars(rows: list[Row], link: float) -> None:
    """Print the rows that miss a target."""
    missed = []
    for row in rows:
        where = f"{row.data}, chunks {row.chunks}, {row.threads} threads"
        if row.of_lower(link) < OF_LOWER:
            missed.append(f"- missed: {where}: {row.of_lower(link):.2f} of the lower rate")
        if row.data == "uncompressed" and RECIPE in row.rates and row.of_recipe() < OF_RECIPE:
            missed.append(f"- missed: {where}: {row.of_recipe():.2f} x the recipe")
    print(f"\nTo reach: {OF_LOWER} of the lower rate; {OF_RECIPE} x the recipe, uncompressed.")
    print("\n".join(missed) or "All reached.")


def find_gpu(arraytype: str) -> Gpu:
    """Return the GPU; exits the program with 2 if there is none."""
    if arraytype == "numpy":
        return NumpyStandIn()
    try:
        return CupyGpu()
    except (ImportError, RuntimeError) as exc:  # CuPy's own errors are RuntimeErrors
        reason = str(exc).strip().partition("\n")[0]
        print(f"Not run: this benchmark needs CuPy and a GPU ({reason}).", file=sys.stderr)
        raise SystemExit(2) from exc


def main() -> int:
    """Return 0 if all pixels were right."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--arraytype", choices=["cupy", "numpy"], default="cupy")
    parser.add_argument("--files", type=int, default=60, help="of 16 MiB each; a multiple of 6")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    gpu = find_gpu(arguments.arraytype)
    pinned = copy_rate(gpu, gpu.empty_pinned(CEILING_BYTES))
    pageable = copy_rate(gpu, np.empty(CEILING_BYTES, "u1"))
    gigabytes = arguments.files * FILE_BYTES / 1e9
    print(f"{gpu.name}; {date.today()}; {gigabytes:.2f} GB of each kind, in the page cache; GB/s.")
    print(f"Copies to the device: pinned {pinned / 1e9:.1f}, pageable {pageable / 1e9:.1f}.\n")
    wrong: list[str] = []
    rows = list(run(gpu, arguments.files, tuple(arguments.threads), arguments.repeats, wrong))
    print_table(rows, pinned)
    say_bars(rows, pinned)
    if wrong:
        print("\nWRONG PIXELS: " + "; ".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
