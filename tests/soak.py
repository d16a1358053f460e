"""Attack the package for some minutes, and print one table: ``make soak ARGS="MINUTES [SEED]"``.

Six attacks: mutated files; collections with mutated files among others; nonsense in the metadata
of vendors, plates and maps; reads and exports through a proxy that fails one request in twenty;
exports that are killed; 16 threads that read at once. All servers run in a process of their own on
127.0.0.1. The exit code is 1 if one result is neither what NumPy says nor an error of this package,
if meaning is not finite, if a process crashes or hangs, if descriptors stay open, or if memory
grows.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, get_args

import dask
import intake
import numpy as np
import tifffile
from numpy.typing import NDArray

from intake_tiffstack import TiffStack, TiffStackError, open_stack
from intake_tiffstack.header.cache import clear_headers
from plate_files import (
    write,
    write_cell_voyager,
    write_harmony,
    write_htd,
    write_incell,
    write_scanr,
)
from servers import Fault, serve_files, serve_s3, spoil
from vendor_files import VENDORS

FAULTS = 0.05
"""Share of the requests that the proxy spoils."""
THREADS = 16
HANGS = 60
"""Seconds after which a child counts as one that hangs."""
BUCKET = "soak"
SHAPE = (12, 96, 80)


# --- files ----------------------------------------------------------------------------------------


def write_collection(folder: Path) -> NDArray[Any]:
    """Write 12 tiled files, a time point each, and return their pixels."""
    pixels = np.random.default_rng(0).integers(0, 60000, SHAPE).astype("u2")
    for t, plane in enumerate(pixels):
        tifffile.imwrite(
            folder / f"t{t:02d}.tif", plane, tile=(32, 32), compression="zlib", predictor=True
        )
    return pixels


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("gray", {"metadata": None}),
    ("gray", {"imagej": True, "metadata": {"axes": "ZYX"}}),
    ("gray", {"ome": True, "metadata": {"axes": "TYX"}}),
    ("gray", {"bigtiff": True, "compression": "zlib", "predictor": True}),
    ("gray", {"compression": "lzw", "rowsperstrip": 7}),
    ("gray", {"compression": "zstd", "tile": (16, 16)}),
    ("gray", {"compression": "packbits", "byteorder": ">"}),
    ("float", {"compression": "zlib", "predictor": 3}),
    ("color", {"compression": "jpeg", "photometric": "rgb"}),
    ("color", {"photometric": "rgb", "planarconfig": "contig", "tile": (16, 16)}),
]
"""Kinds of pixels, and how they are written."""


def write_seeds(folder: Path, seed: int = 1) -> list[bytes]:
    """Return a file of each kind, to be mutated."""
    rng = np.random.default_rng(seed)
    gray = rng.integers(0, 4000, (4, 40, 48)).astype("u2")
    color = rng.integers(0, 255, (40, 48, 3)).astype("u1")
    pixels = {"gray": gray, "float": gray.astype("f4"), "color": color}
    path, seeds = folder / "seed.tif", []
    for kind, options in KINDS:
        tifffile.imwrite(path, pixels[kind], **{"photometric": "minisblack", **options})
        seeds.append(path.read_bytes())
    path.unlink()
    return seeds


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return a file with bytes changed, cut, zeroed, doubled or replaced by extreme numbers."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data))
        if rng.random() < 0.5:  # directories and their values lie at the ends
            at = rng.choice((at % 400, len(data) - 1 - at % 400)) % len(data)
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
        elif kind == 2:
            data[at : at + 4] = struct.pack("<I", rng.randrange(2 * len(content)))
        elif kind == 3:
            del data[max(at, 9) :]
        elif kind == 4:
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        else:
            data[at:at] = data[at : at + rng.randrange(1, 200)]
    return bytes(data)


class Case(NamedTuple):
    """What is opened, and the files whose metadata are spoiled."""

    urlpath: str
    options: dict[str, Any]
    files: dict[Path, bytes]


BESIDE = {
    "img_000000000_DAPI_000.tif.aux.xml": "<PAMDataset><SRS>UNIT[&quot;metre&quot;,1]</SRS>"
    '<GeoTransform>1, 30, 0, 2, 0, -30</GeoTransform><PAMRasterBand band="1">'
    "<Description>red</Description><Scale>2</Scale>"
    '<NoDataValue>-9</NoDataValue><ColorTable><Entry c1="1" c2="2" c3="3"/></ColorTable>'
    "</PAMRasterBand></PAMDataset>",
    "img_000000000_DAPI_000.tfw": "30.0\n0.0\n0.0\n-30.0\n440735.0\n3751305.0\n",
    "metadata.txt": '{"Summary": {"PixelSize_um": 0.5, "z-step_um": 2, "ChNames": ["DAPI"]}}',
    "DisplaySettings.json": '{"Channels": [{"Name": "DAPI", "Color": 255, "Min": 1, "Max": 9}]}',
}
"""Files beside an image, by name."""


def write_described(folder: Path) -> list[Case]:
    """Return what vendors write, plates, and an image with files beside it."""
    cases: list[Case] = []
    plates = write_harmony, write_htd, write_incell, write_scanr, write_cell_voyager
    for number, write_files in enumerate(plates):
        place = folder / str(number)
        place.mkdir()
        write_files(place)
        indexes = [path for path in place.iterdir() if path.suffix.lower() not in (".tif", ".tiff")]
        files = {path: path.read_bytes() for path in indexes if path.is_file()}
        cases.append(Case(str(place), {}, files))
    for name, write_file in VENDORS.items():
        write_file(folder / name)
        cases.append(Case(str(folder / name), {}, {folder / name: (folder / name).read_bytes()}))
    name = "img_000000000_DAPI_000.tif"
    write(folder, name, 7)
    files = {folder / other: text.encode() for other, text in BESIDE.items()}
    for path, content in files.items():
        path.write_bytes(content)
    cases.append(Case(str(folder / name), {"sidecars": ["pam", "worldfile"]}, files))
    return cases


NONSENSE = (
    *(b"nan", b"inf", b"1e400", b"-1", b"", b"0", b"9" * 5000, b"1e308", b"wide", b"\xc2\xb2"),
    *(b"2024-13-45", b"[" * 20000, b"<a>" * 2000, b'<!DOCTYPE a [<!ENTITY b "c">]>', b"null"),
)
"""What stands where a number, a time or a name should."""
NUMBERS = [
    *(struct.pack("<d", n) for n in (float("nan"), float("inf"), -1.0, 0.0, 1e308, 5e-324)),
    *(struct.pack("<i", n) for n in (0, -1, 1, 2**31 - 1, 2**16)),
]
_WORD = re.compile(rb"[\w.+-]+")
_TAG = re.compile(rb"<[^<>]*>|\n[^\n]*")  # linear, whatever was put in before


def spoil_metadata(content: bytes, rng: random.Random) -> bytes:
    """Return a text with words, elements or lines changed; a TIFF with values of tags changed."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        if content[:2] in (b"II", b"MM"):
            at, value = rng.randrange(8, len(content) - 8) & ~1, rng.choice(NUMBERS)
            content = content[:at] + value + content[at + len(value) :]
        elif found := list((_WORD if rng.random() < 0.8 else _TAG).finditer(content)):
            one = rng.choice(found)
            new = rng.choice((rng.choice(NONSENSE), one[0][:1000] * rng.choice((0, 2, 100))))
            content = content[: one.start()] + new + content[one.end() :]
    return content


# --- servers that fail ----------------------------------------------------------------------------


def _serve(folder: str, seed: int, pipe: Any) -> None:
    """Serve the collection by S3 and HTTP, each plain and spoiled, until told to end."""
    files = {path.name: path.read_bytes() for path in Path(folder).glob("t*.tif")}
    with ExitStack() as stack:
        s3 = stack.enter_context(serve_s3())
        web = stack.enter_context(serve_files(files))
        s3.put(BUCKET, {f"raw/{name}": content for name, content in files.items()})
        rng = random.Random(seed)

        def fault(line: str) -> Fault:
            return rng.choice(get_args(Fault)) if rng.random() < FAULTS else ""

        bad_s3 = stack.enter_context(spoil(s3.url, fault))
        bad_web = stack.enter_context(spoil(web.url, fault))
        pipe.send((s3.storage_options, {**s3.storage_options, "endpoint_url": bad_s3}, bad_web))
        pipe.recv()


# --- the attacks ----------------------------------------------------------------------------------


class Count(Counter[str]):
    """Results by kind: ``right``, ``our ...Error``, and whatever else came, which is bad."""

    @property
    def ours(self) -> int:
        """The number of errors of this package."""
        return sum(number for kind, number in self.items() if kind.startswith("our "))

    @property
    def bad(self) -> int:
        """The number of all that is neither right nor an error of this package."""
        return self.total() - self["right"] - self.ours

    def take(self, work: Callable[[], bool]) -> bool:
        """Count one piece of work, which returns whether its result is right."""
        try:
            kind = "right" if work() else "wrong pixels"
        except TiffStackError as exc:
            kind = f"our {type(exc).__name__}"
        except Exception as exc:  # noqa: BLE001 - any other class is what is looked for
            kind = f"{type(exc).__name__}: {str(exc)[:80]}"
        self[kind] += 1
        return kind == "right"


def _read_mutants(folder: str, seed: int, seconds: float, pipe: Any) -> None:
    """Read mutated files one after the other."""
    seeds, path = write_seeds(Path(folder)), Path(folder) / "mutant.tif"

    def change(rng: random.Random) -> Case:
        path.write_bytes(mutate(rng.choice(seeds), rng))
        return Case(str(path), {}, {})

    _read_changed(change, seed, seconds, pipe)


def _read_collections(folder: str, seed: int, seconds: float, pipe: Any) -> None:
    """Read collections of 24 files, some of them mutated: each is read as it is alone."""
    warnings.simplefilter("ignore")
    logging.getLogger("intake_tiffstack.reading").setLevel(logging.ERROR)
    kinds = list(zip(*(write_seeds(Path(folder), number) for number in range(24)), strict=True))
    whole = [[tifffile.imread(io.BytesIO(content)) for content in kind] for kind in kinds]
    paths = [Path(folder) / f"t{number:02d}.tif" for number in range(24)]
    end, number, count = time.monotonic() + seconds, seed, Count()
    while time.monotonic() < end:
        rng = random.Random(number)
        kind = rng.randrange(len(kinds))
        mutants = {i: mutate(kinds[kind][i], rng) for i in rng.sample(range(24), rng.randrange(6))}
        for i, path in enumerate(paths):
            path.write_bytes(mutants.get(i, kinds[kind][i]))
        pipe.send(number)

        def is_right(i: int, found: NDArray[Any], kind: int = kind, mutants: Any = mutants) -> bool:
            if i not in mutants:
                return np.array_equal(found, whole[kind][i])
            return not found.any() or _same(found, open_stack(str(paths[i])).read())

        def work() -> bool:
            found = open_stack(f"{folder}/t*.tif", pattern="t{n:d}.tif", on_error="fill").read()
            return all(is_right(i, plane) for i, plane in enumerate(found))

        with dask.config.set({"tiffstack.max_image_bytes": "256 MiB", "scheduler": "sync"}):
            count.take(work)
        number += 1
    pipe.send(count)


def _same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Return whether arrays are equal, bit by bit: mutated floats may be NaN."""
    return found.shape == expected.shape and found.tobytes() == expected.tobytes()


def _read_described(folder: str, seed: int, seconds: float, pipe: Any) -> None:
    """Read files whose metadata are spoiled one after the other."""
    cases, spoiled = write_described(Path(folder)), dict[Path, bytes]()

    def change(rng: random.Random) -> Case:
        for path, content in spoiled.items():
            path.write_bytes(content)
        spoiled.clear()
        case = rng.choice(cases)
        path, content = rng.choice(list(case.files.items()))
        spoiled[path] = content
        path.write_bytes(spoil_metadata(content, rng))
        return case

    _read_changed(change, seed, seconds, pipe)


def _read_changed(
    change: Callable[[random.Random], Case], seed: int, seconds: float, pipe: Any
) -> None:
    """Read what *change* makes, with its meaning; says the number of each before it is read."""
    warnings.simplefilter("ignore")
    end, number = time.monotonic() + seconds, seed
    count = Count()
    while time.monotonic() < end:
        case = change(random.Random(number))
        pipe.send(number)

        def work(case: Case = case) -> bool:
            stack = open_stack(case.urlpath, **case.options)
            if np.prod(stack.shape, dtype=object) * stack.dtype.itemsize > 2**28:
                _region(stack, tuple(slice(1) for _ in stack.shape))
            else:
                stack.read()
            json.dumps(stack.metadata, allow_nan=False)
            for name, coord in stack.to_xarray(chunks=None).coords.items():
                if coord.dtype.kind == "f" and not np.isfinite(coord).all():
                    raise ArithmeticError(f"coordinate {name} is not finite")
            return True

        with dask.config.set({"tiffstack.max_image_bytes": "256 MiB", "scheduler": "sync"}):
            count.take(work)
        number += 1
    pipe.send(count)


def attack_with_files(
    read: Callable[[str, int, float, Any], None], folder: Path, seconds: float, rng: random.Random
) -> Count:
    """Read changed files in a child, so that a crash or a hang is seen."""
    count, end = Count(), time.monotonic() + seconds
    context = multiprocessing.get_context("spawn")
    while (left := end - time.monotonic()) > 1:
        ours, theirs = context.Pipe()
        begin = rng.randrange(2**40)
        place = folder / f"files{begin}"
        place.mkdir()
        child = context.Process(target=read, args=(str(place), begin, left, theirs))
        child.start()
        theirs.close()
        number: Any = begin
        last = begin
        try:
            while ours.poll(HANGS) and not isinstance(number := ours.recv(), Count):
                last = number
            if isinstance(number, Count):
                count.update(number)
            else:
                count[f"hang at mutant {number}"] += 1
                child.kill()
        except EOFError:
            count[f"crash at mutant {last}"] += 1
        child.join()
    return count


def _collection(urlpath: Any, options: dict[str, Any]) -> TiffStack:
    return open_stack(urlpath, pattern="t{t:d}.tif", storage_options=options)


def _region(stack: TiffStack, index: tuple[slice, ...]) -> NDArray[Any]:
    found: NDArray[Any] = stack.to_dask()[index].compute(scheduler="sync")
    return found


def _random_index(rng: random.Random) -> tuple[slice, ...]:
    starts = [rng.randrange(n) for n in SHAPE]
    return tuple(slice(at, rng.randrange(at, n) + 1) for at, n in zip(starts, SHAPE, strict=True))


def attack_with_faults(
    servers: tuple[dict[str, Any], dict[str, Any], str],
    pixels: NDArray[Any],
    seconds: float,
    rng: random.Random,
) -> tuple[Count, Count]:
    """Read, and export to S3, while one request in twenty fails."""
    good, bad, web = servers
    reads, exports = Count(), Count()
    names = [f"{web}/t{t:02d}.tif" for t in range(SHAPE[0])]
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        clear_headers()
        index = _random_index(rng)
        places = (f"s3://{BUCKET}/raw/t*.tif", bad), (names, {})

        def read(place: Any = places[number % 2], index: Any = index) -> bool:
            return np.array_equal(_region(_collection(*place), index), pixels[index])

        reads.take(read)
        if number % 10:
            continue
        target = f"s3://{BUCKET}/{uuid.uuid4().hex}.zarr"

        def export(target: str = target) -> bool:
            stack = _collection(f"s3://{BUCKET}/raw/t*.tif", bad)
            stack.export(target, storage_options=bad, chunks=(1, 32, 80), progress=False)
            copy = intake.open_tiffstack_zarr(target, storage_options=good)
            return np.array_equal(copy.read(), pixels)

        for _ in range(5):  # the same call resumes
            if exports.take(export):
                break
    return reads, exports


_EXPORT = """
import sys
from intake_tiffstack import open_stack
stack = open_stack(sys.argv[1], pattern="t{t:d}.tif")
print("begun", flush=True)
stack.export(sys.argv[2], chunks=(1, 16, 16), progress=False)
"""


def attack_with_kills(
    folder: Path, pixels: NDArray[Any], seconds: float, rng: random.Random
) -> tuple[Count, int]:
    """Kill exports at any moment; what is left opens as a whole or not at all, and is resumed."""
    count, kills, number = Count(), 0, 0
    end = time.monotonic() + seconds
    raw = f"{folder}/t*.tif"
    while time.monotonic() < end:
        number += 1
        target = folder / f"killed{number}.zarr"
        command = [sys.executable, "-W", "ignore", "-c", _EXPORT, raw, str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            with suppress(subprocess.TimeoutExpired):
                child.wait(rng.expovariate(5))
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                kills += 1

        def reopen(target: Path = target) -> bool:
            return np.array_equal(intake.open_tiffstack_zarr(str(target)).read(), pixels)

        count.take(reopen)  # whole, or an error of ours

        def resume(target: Path = target) -> bool:
            if not (target / "zarr.json").exists():
                _collection(raw, {}).export(str(target), chunks=(1, 16, 16), progress=False)
            return np.array_equal(intake.open_tiffstack_zarr(str(target)).read(), pixels)

        count.take(resume)
        shutil.rmtree(target, ignore_errors=True)
    return count, kills


def attack_with_threads(folder: Path, pixels: NDArray[Any], seconds: float, seed: int) -> Count:
    """Read regions of one stack from 16 threads."""
    stack, count, lock = _collection(f"{folder}/t*.tif", {}), Count(), threading.Lock()
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        rng, own = random.Random(seed + number), Count()
        while time.monotonic() < end:
            index = _random_index(rng)
            own.take(lambda index=index: np.array_equal(_region(stack, index), pixels[index]))  # type: ignore[misc]
        with lock:
            count.update(own)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    return count


# --- the table ------------------------------------------------------------------------------------


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _memory() -> int:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20


SHARES = {
    "mutants": 0.1,
    "collections": 0.1,
    "metadata": 0.1,
    "faults": 0.25,
    "kills": 0.35,
    "threads": 0.1,
}
"""What each attack has of the time."""
FILES = {
    "mutants": ("mutated files", _read_mutants),
    "collections": ("mutants in collections", _read_collections),
    "metadata": ("wrong metadata", _read_described),
}
GROWTH = 1.2
"""Memory at the end by that at the start, from which on something leaks."""


def soak(minutes: float, seed: int) -> int:
    """Run all attacks, print the table, and return how many results are bad."""
    warnings.simplefilter("ignore")
    rng, seconds = random.Random(seed), {name: 60 * minutes * n for name, n in SHARES.items()}
    rows: dict[str, tuple[Count, int, int]] = {}
    context = multiprocessing.get_context("spawn")

    def keep(what: str, count: Count) -> None:
        gc.collect()
        rows[what] = count, _descriptors(), _memory()

    with (
        tempfile.TemporaryDirectory(prefix="tiffstack-soak-") as name,
        dask.config.set({"tiffstack.timeout": 2}),
    ):
        folder = Path(name)
        pixels = write_collection(folder)
        ours, theirs = context.Pipe()
        server = context.Process(target=_serve, args=(name, seed, theirs))
        server.start()
        servers = ours.recv()
        # once through all, so that what is kept from the first use on is not taken for a leak
        attack_with_faults(servers, pixels, 15, rng)
        attack_with_threads(folder, pixels, 5, seed)
        keep("start", Count())
        for what, (title, read) in FILES.items():
            keep(title, attack_with_files(read, folder, seconds[what], rng))
        reads, exports = attack_with_faults(servers, pixels, seconds["faults"], rng)
        keep("reads, faults 5 %", reads)
        keep("exports, faults 5 %", exports)
        count, kills = attack_with_kills(folder, pixels, seconds["kills"], rng)
        keep("killed exports", count)
        keep(
            f"reads, {THREADS} threads",
            attack_with_threads(folder, pixels, seconds["threads"], seed),
        )
        ours.send("end")
        server.join(20)
    print(f"seed {seed}, {minutes:g} minutes, {kills} kills\n")
    titles = ("all", 10), ("right", 10), ("our error", 12), ("bad", 6), ("open", 7), ("MiB", 6)
    print(f"{'attack':24}" + "".join(f"{title:>{width}}" for title, width in titles))
    for what, (count, *after) in rows.items():
        numbers = count.total(), count["right"], count.ours, count.bad, *after
        shown = zip(numbers, titles, strict=True)
        print(f"{what:24}" + "".join(f"{n:>{width},}" for n, (_, width) in shown))
    print()
    for what, (count, *_) in rows.items():
        for kind in sorted(count.keys() - {"right"}):
            print(f"{'' if kind.startswith('our ') else 'BAD: '}{what}: {count[kind]} x {kind}")
    (_, *begin), *_, (_, *end) = rows.values()
    leaks = (end[0] > begin[0] + THREADS) + (end[1] > begin[1] * GROWTH)
    return sum(count.bad for count, *_ in rows.values()) + leaks


if __name__ == "__main__":
    minutes = float(sys.argv[1]) if sys.argv[1:] else 5.0
    seed = int(sys.argv[2]) if sys.argv[2:] else 0
    sys.exit(bool(soak(minutes, seed)))
