"""Writing a Zarr copy of 1 GB: in one go, and resumed after a kill at half."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.case import OURS, Bar, Case, Start
from benchmarks.files import PATTERN, VOLUME_SHAPE, volumes
from benchmarks.peers import open_ours
from benchmarks.pixels import list_files, true_sum

__all__ = ["CASES", "Copy", "new_place"]

PLAIN = "preadv + Blosc + write in plain threads"
TO_ZARR = "to_zarr, its defaults"
STORE = "da.store, Blosc"
WHOLE = f"{OURS}, not disturbed"
CHUNK = (4, 512, 512)
MOST_BYTES = 400e6


class Copy:
    """A finished copy; it is read to check it, which is not measured."""

    def __init__(self, place: str, read_sum: Callable[[str], int]) -> None:
        self.place = place
        self.read_sum = read_sum
        weakref.finalize(self, shutil.rmtree, os.path.dirname(place))

    def __int__(self) -> int:
        return self.read_sum(self.place)


def new_place() -> str:
    """Return where a copy may be written; what is there goes with the copy.

    On a RAM disk where there is one: a disk that writes back what the contender before has written
    decides more than any of them.
    """
    ram = "/dev/shm" if os.path.isdir("/dev/shm") else None
    return f"{tempfile.mkdtemp(prefix='tiffstack-copy-', dir=ram)}/copy.zarr"


def _sum_zarr(place: str) -> int:
    import dask.array as da

    return int(da.from_zarr(place).sum().compute())


def _writing(make_write: Callable[[str], Callable[[str], None]]) -> Start:
    """Return the work of writing a copy somewhere new."""

    def start(place: str) -> Callable[[], Any]:
        write = make_write(place)
        begin = resident_bytes()

        def work() -> Any:
            target = new_place()
            write(target)
            added = resident_bytes("VmHWM") - begin
            return Copy(target, _sum_zarr), {"added_peak_bytes": max(added, 0)}

        return work

    return start


def resident_bytes(field: str = "VmRSS") -> int:
    """Return the memory of this process; ``VmHWM`` gives the peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"{field}:\s+(\d+)", status)[0])


def _open_stack(place: str) -> Any:
    from intake_tiffstack import open_stack

    return open_stack(f"{place}/*.tif", pattern=PATTERN, concat_dim=["c", "t"], missing="fill")


def _export(place: str) -> Callable[[str], None]:
    stack = _open_stack(place)
    stack.to_dask()
    return lambda target: stack.export(target, progress=False)


def _to_zarr(place: str) -> Callable[[str], None]:
    array = open_ours(place)
    return lambda target: array.to_zarr(target)


def _store(place: str) -> Callable[[str], None]:
    import dask.array as da
    import zarr
    from zarr.codecs import BloscCodec

    array = open_ours(place)
    chunks = (1,) * (array.ndim - 3) + CHUNK

    def write(target: str) -> None:
        made = zarr.create_array(
            target,
            shape=array.shape,
            dtype=array.dtype,
            chunks=chunks,
            compressors=BloscCodec(typesize=2, cname="zstd", clevel=3, shuffle="bitshuffle"),
        )
        da.store(array.rechunk((1,) * (array.ndim - 3) + VOLUME_SHAPE), made, lock=False)

    return write


def _start_plain(place: str) -> Callable[[], Any]:
    """Read, encode and write the same chunks with nothing else; one file per chunk."""
    import numcodecs
    import numpy as np
    import tifffile

    paths = list_files(place)
    with tifffile.TiffFile(paths[0]) as tif:
        first = tif.pages.first.dataoffsets[0]
    codec = numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE)
    per_file = VOLUME_SHAPE[0] // CHUNK[0]

    def copy_chunk(number: int, target: str) -> None:
        file, part = divmod(number, per_file)
        block = np.empty(CHUNK, "<u2")
        descriptor = os.open(paths[file], os.O_RDONLY)
        try:
            if os.preadv(descriptor, [block], first + part * block.nbytes) != block.nbytes:
                raise OSError(f"{paths[file]} is too short")
        finally:
            os.close(descriptor)
        Path(f"{target}/{number}").write_bytes(codec.encode(block))

    def read_sum(target: str) -> int:
        return sum(
            int(np.frombuffer(codec.decode(path.read_bytes()), "<u2").sum())
            for path in Path(target).iterdir()
        )

    def work() -> Copy:
        target = new_place()
        os.mkdir(target)
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(lambda n: copy_chunk(n, target), range(len(paths) * per_file)):
                pass
        return Copy(target, read_sum)

    return work


def _begin(place: str, target: str) -> None:
    """Write half of a copy and kill the process."""

    def kill_at_half(done: int, total: int) -> None:
        if done >= total / 2:
            os.kill(os.getpid(), signal.SIGKILL)

    _open_stack(place).export(target, progress=kill_at_half)


def _start_resume(place: str) -> Callable[[], Any]:
    target = new_place()
    killed = multiprocessing.get_context("spawn").Process(target=_begin, args=(place, target))
    killed.start()
    killed.join()
    write = _export(place)

    def work() -> Copy:
        write(target)
        return Copy(target, _sum_zarr)

    return work


CASES = (
    Case(
        name="export",
        work="write 1 GB as Zarr, Blosc zstd 3 bitshuffle",
        dataset=volumes,
        truth=true_sum,
        contenders={
            OURS: _writing(_export),
            TO_ZARR: _writing(_to_zarr),
            STORE: _writing(_store),
            PLAIN: _start_plain,
        },
        bars=(
            Bar("speed", 3, TO_ZARR),
            Bar("speed", 0.7, PLAIN),
            Bar("added_peak_bytes", MOST_BYTES),
        ),
        repeats=4,
        patience=20,
    ),
    Case(
        name="export-resume",
        work="resume the same after a kill at half",
        dataset=volumes,
        truth=true_sum,
        contenders={OURS: _start_resume, WHOLE: _writing(_export)},
        bars=(Bar("time", 0.65, WHOLE),),
        repeats=3,
        is_fresh=True,
        patience=20,
    ),
)
