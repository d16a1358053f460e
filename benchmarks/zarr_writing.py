"""Writing a Zarr copy of 1 GB: in one go, and resumed after a kill at half."""

from __future__ import annotations

import functools
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
from benchmarks.files import NAME, PATTERN, VOLUME_SHAPE, volumes
from benchmarks.peers import open_ours
from benchmarks.pixels import list_files, true_sum

__all__ = ["CASES", "Copy", "new_place"]

PLAIN = "preadv + Blosc + write in plain threads"
TO_ZARR = "to_zarr, its defaults"
STORE = "da.store, Blosc"
WHOLE = f"{OURS}, not disturbed"
FIRST = f"{OURS}, the first 1 GB"
CHUNK = (4, 512, 512)
SHARD = (1, 1, *VOLUME_SHAPE)
LINKS = 20
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


def _writing(make_write: Callable[[str], Callable[[str], None]], share: int = 1) -> Start:
    """Return the work of writing a copy somewhere new, of all files or of one in *share*."""

    def start(place: str) -> Callable[[], Any]:
        write = make_write(place)
        begin = resident_bytes()

        def work() -> Any:
            target = new_place()
            write(target)
            added = resident_bytes("VmHWM") - begin
            copy = Copy(target, lambda written: share * _sum_zarr(written))
            return copy, {"added_peak_bytes": max(added, 0)}

        return work

    return start


def resident_bytes(field: str = "VmRSS") -> int:
    """Return the memory of this process; ``VmHWM`` gives the peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"{field}:\s+(\d+)", status)[0])


def _open_stack(place: str) -> Any:
    from intake_tiffstack import open_stack

    return open_stack(f"{place}/*.tif", pattern=PATTERN, concat_dim=["c", "t"], missing="fill")


def _export(place: str, **options: Any) -> Callable[[str], None]:
    stack = _open_stack(place)
    stack.to_dask()
    return lambda target: stack.export(target, progress=False, **options)


def _export_first(place: str) -> Callable[[str], None]:
    """Write what the first 1 GB of the files holds."""
    from intake_tiffstack import open_stack

    stack = open_stack(
        list_files(place)[:60], pattern=PATTERN, concat_dim=["c", "t"], missing="fill"
    )
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


def _start_plain(place: str, *, is_sharded: bool = False) -> Callable[[], Any]:
    """Read, encode and write the same chunks with nothing else; a file per chunk or per volume."""
    import numcodecs
    import numpy as np
    import tifffile

    paths = list_files(place)
    with tifffile.TiffFile(paths[0]) as tif:
        first = tif.pages.first.dataoffsets[0]
    codec = numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE)
    per_file = VOLUME_SHAPE[0] // CHUNK[0]

    def copy_chunk(number: int, target: str) -> bytes:
        file, part = divmod(number, per_file)
        block = np.empty(CHUNK, "<u2")
        descriptor = os.open(paths[file], os.O_RDONLY)
        try:
            if os.preadv(descriptor, [block], first + part * block.nbytes) != block.nbytes:
                raise OSError(f"{paths[file]} is too short")
        finally:
            os.close(descriptor)
        encoded = codec.encode(block)
        if not is_sharded:
            Path(f"{target}/{number}").write_bytes(encoded)
        return encoded

    def copy_file(file: int, target: str) -> None:
        numbers = range(file * per_file, (file + 1) * per_file)
        chunks = [copy_chunk(number, target) for number in numbers]
        if is_sharded:
            Path(f"{target}/{file}").write_bytes(b"".join(chunks))

    def read_sum(target: str) -> int:
        if is_sharded:  # no index, and so no reader: what was written is what was encoded
            return true_sum(place)
        return sum(
            int(np.frombuffer(codec.decode(path.read_bytes()), "<u2").sum())
            for path in Path(target).iterdir()
        )

    def work() -> Copy:
        target = new_place()
        os.mkdir(target)
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(lambda file: copy_file(file, target), range(len(paths))):
                pass
        return Copy(target, read_sum)

    return work


def many_volumes(folder: Path, count: int = 60) -> dict[str, float]:
    """Write 1 GB of volumes that stand for 20 GB: each has 20 names, by links."""
    if count < 60:
        return volumes(folder, count)
    original = folder.with_name("linked")
    volumes(original)
    folder.mkdir()
    for i, path in enumerate(sorted(original.iterdir())):
        for turn in range(LINKS):
            name = NAME.format(c=0, t=60 * turn + i, msec=60 * turn + i, abs=60 * turn + i)
            os.link(path, folder / name)
    return {"files": 60 * LINKS}


def _true_sum_of_many(place: str) -> int:
    return LINKS * true_sum(str(Path(place).with_name("linked")))


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
            Bar("speed", 0.9, PLAIN),
            Bar("added_peak_bytes", MOST_BYTES),
        ),
        repeats=4,
        patience=20,
    ),
    Case(
        name="export-shards",
        work="write 1 GB as Zarr with a shard per volume",
        dataset=volumes,
        truth=true_sum,
        contenders={
            OURS: _writing(functools.partial(_export, chunks=(1, 1, *CHUNK), shards=SHARD)),
            PLAIN: functools.partial(_start_plain, is_sharded=True),
        },
        bars=(Bar("speed", 0.9, PLAIN),),
        repeats=4,
        patience=20,
    ),
    Case(
        name="export-20gb",
        work="write 20 GB as Zarr, and the first 1 GB of it: memory",
        dataset=many_volumes,
        truth=_true_sum_of_many,
        contenders={OURS: _writing(_export, 1), FIRST: _writing(_export_first, LINKS)},
        bars=(Bar("peak_bytes", 1.1, FIRST),),
        repeats=1,
        is_fresh=True,
        deadline=600,
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
