"""The report: ``docs/benchmarks.md`` from results."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from benchmarks.case import OURS
from benchmarks.harness import THREADS, CaseResult, ContenderResult, format_amount, speed
from benchmarks.ome_zarr import eubi_version

Run = tuple[dict[str, str], Sequence[CaseResult]]
"""The machine with its versions, and what was measured on it with one Python."""

__all__ = ["describe_machine", "render"]

_PACKAGES = (
    *("intake-tiffstack", "dask", "numpy", "tifffile", "imagecodecs", "zarr", "fsspec", "s3fs"),
    *("dask-image", "intake-xarray", "imageio", "bioio", "bioio-tiff-glob", "bioio-ome-zarr"),
    *("ngff-zarr", "moto", "rasterio", "async-tiff", "obstore", "aiohttp"),
    *("tensorstore", "virtualizarr", "distributed"),
)

_HEAD = """\
# Benchmarks

Written by `make bench`; do not edit. This package, comparable packages and hand-written floors on
the same files, in one run: the target of each bar and the measured value.

{reached} of {total} bars reached.

## How to run

```sh
make bench                           # all: a quarter of an hour on two idle cores, 2 GB of files
make bench-newest                    # on Python 3.13 or 3.12; the report has both
python -m benchmarks --list          # lists the names
python -m benchmarks sum plane       # runs some; the report keeps the others
python -m benchmarks --dry sum       # prints only
```

`python -m benchmarks` needs the extra `bench`: `pip install -e ".[all,bench]"`. Files are written
below `TMPDIR`, copies to a RAM disk if there is one (`/dev/shm`), and all are deleted afterwards.
EuBI-Bridge pins an older tifffile: set `EUBI_PYTHON` to the Python of an environment with
`eubi-bridge-lite`.

## How it is measured

- Each contender runs in its own process, in turns; a time is the median over its rounds, a ratio
  the median of the ratios within a round. Dask computes on {threads} threads.
- Opening, and small files, are timed in a new process per round, after a warm-up with the same
  code on four other files: nothing is cached, everything is imported. In the other benchmarks the
  array is already open and the first round is discarded. Files are in the page cache.
- All contenders must return the same pixels as tifffile; wrong results are marked, and failures
  are listed with their error.
- Relative is a multiple of the time of this package.
- CPU is the processor time of all threads; it excludes other processes on the machine.
- Peak is the maximum memory of the process, including imports.
- The object store is moto's server on 127.0.0.1, which counts requests and bytes sent. It has no
  network latency, so it is not timed.
- A store at a distance is a process on 127.0.0.1 that answers each request after 30 ms and sends
  100 MB/s per connection, over HTTP or as S3. It shares the processors with the contenders. Floors
  are obstore alone, with the place of all pixels known: the least round trips.
- Slow contenders have fewer rounds.

The contenders are the recipe of 2019 (`dask.delayed` per file, combined by `da.block`), reading
with tifffile and with imageio; dask-image; `dask.array.image`, reading with tifffile;
intake-xarray with a pattern; tifffile's `TiffSequence` as a Zarr store; bioio-tiff-glob. The
floors are hand-written lower bounds for the same work, with the offsets of the pixels known in
advance.

Three packages write OME-Zarr: ngff-zarr (means, its own compressor) and bioio's `OMEZarrWriter`
from the lazy array of this package, because they do not read collections, and EuBI-Bridge,
without Java, from the files. All write the same levels, in chunks of 4 planes, and use the same
compressor if it can be set.

## What was not reached, and why

- *Uncompressed pixels in the page cache*: a gigabyte is summed in a sixth of a second, and a plane
  read in three milliseconds, of which dask takes 28 and 1.3 to 1.7 ms for its graph and its
  scheduling.
- *Compressed pixels*: reading takes 5 % more CPU than decoding in plain threads, with the checks of
  each segment before and after it is decoded, and dask's graph and tasks another 5 %; at the end
  one of two threads waits for the last chunk. The same 5 % of dask are all that a Zarr copy costs.
- *`to_zarr`*: three times its speed is more than reading, Blosc and writing in plain threads have,
  of which this package has 0.95.
- *Five levels*: these have 1.33 x the pixels of the full one, all of which are compressed and
  written; averaging takes a tenth of the time of the full level, and four times as many files take
  the rest.
- *At a distance*: opening 64 files takes this package 6 ms of CPU beside those of aiohttp, and the
  rest is 30 ms and as many new connections as async-tiff makes; obstore in place of aiohttp took as
  much CPU. async-tiff and tensorstore decode on threads without Python's lock. 1,000 small files,
  and 64 tiles, are bound by the CPU that the store shares with its clients. Opening one file of 201
  pages and reading a plane takes two round trips, as through references and a Zarr copy; the rest
  is the parse of 201 directories, which these have in one document. A volume of 316 MB is five
  chunks on two threads of dask, which take three round trips; the floor asks for all of it at once.
  Parts of 4 MiB take 0.9 of the time of 8 MiB there, and 0.65 where a request takes 150 ms.
- *Workers of a cluster*: workers, client and scheduler use 1.7 s of CPU for the sum, which two
  cores cannot do in less than 0.85 s; on S3 each worker also waits for its chunks, because it has
  one thread. Four workers show the same.
- *A graph of 100,000 chunks* is on its way after 1.6 s; the scheduler takes it in within 11 s of
  CPU, and `dask.array.zeros` within 9 s.

## A million files

1,000,000 local files, which are not in the table, open with 6.1 s of CPU, as much as scandir, stat
and one regex take, and 488 MB: bars of 8 s and 500 MB were reached. 232 MB are imports, of which
`dask.array` takes 210 MB where sparse, pandas, SciPy and pyarrow are installed, 60 MB less without
sparse; names of 92 characters are 91 MB, the columns beside them 36 MB.

## On a GPU

Not run on a GPU: none was available. `python -m benchmarks.gpu` delivers chunks to one, checks the
pixels and prints a table; see [gpu.md](gpu.md).
"""


def describe_machine() -> dict[str, str]:
    """Return hardware and versions, on which the figures depend."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB of memory, "
        f"{platform.system()}",
        "Python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "eubi-bridge-lite": eubi_version(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def render(runs: Sequence[Run]) -> str:
    """Return the report as Markdown: figures of the first run, bars of the others too. Pure.

    Parameters
    ----------
    runs : sequence[Run]
        One per Python, the newest first.
    """
    results = _newest_of(runs)
    bars = [bar for result in results for bar in result.bars]
    head = _HEAD.format(
        reached=sum(bar.is_reached for bar in bars), total=len(bars), threads=THREADS
    )
    lines = [*head.splitlines(), ""]
    for machine, _ in runs:
        lines += _machine(machine)
    lines += [*_bars(runs), "## All contenders", ""]
    for result in results:
        lines += _contenders(result)
    if any(result.profile for result in results):
        lines += _profiles(results)
    return "\n".join(lines).rstrip() + "\n"


def _machine(machine: dict[str, str]) -> Iterator[str]:
    versions = ", ".join(f"{k} {v}" for k, v in machine.items() if k not in ("date", "machine"))
    yield from (f"Measured on {machine['date']}: {machine['machine']}.", f"{versions}.", "")


def _bars(runs: Sequence[Run]) -> Iterator[str]:
    (first, _), *others = runs
    heads = ["work", "bar", "measured", "reached"]
    if others:
        heads[2] = f"measured on Python {first['Python']}"
        heads += [f"on {machine['Python']}" for machine, _ in others]
    yield from ("## Bars", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|")
    known = [
        {(result.name, bar.text): bar.measured for result in found for bar in result.bars}
        for _, found in runs
    ]
    for result in _newest_of(runs):
        for i, bar in enumerate(result.bars):
            work = f"[{result.work}](#{_anchor(result.work)})" if i == 0 else ""
            answer = "yes" if bar.is_reached else "**no**"
            here, *elsewhere = [found.get((result.name, bar.text), "") for found in known]
            yield f"| {' | '.join([work, bar.text, here, answer, *elsewhere])} |"
    yield ""


def _newest_of(runs: Sequence[Run]) -> list[CaseResult]:
    """Return each result, of the newest Python that has it."""
    newest: dict[str, CaseResult] = {}
    for _, results in runs:
        newest = {**newest, **{r.name: r for r in results if r.name not in newest}}
    return list(newest.values())


def _contenders(result: CaseResult) -> Iterator[str]:
    figures = {name: None for c in result.contenders.values() for name in c.figures}
    columns = [*([] if result.is_remote else ["time", "relative", "CPU"]), *figures]
    heads = ["contender", *(name.replace("_", " ").replace(" bytes", "") for name in columns)]
    yield from (f"### {_sentence(result.work)}", "")
    yield from (f"| {' | '.join(heads)} |", "|---" * len(heads) + "|")
    for name, contender in result.contenders.items():
        cells = [_cell(contender, result.contenders[OURS], column) for column in columns]
        cells[0] = "; ".join(filter(None, [cells[0], _trouble(contender, result.truth)]))
        yield f"| {' | '.join([name, *cells])} |"
    yield ""


def _cell(contender: ContenderResult, ours: ContenderResult, column: str) -> str:
    if column == "time":
        return _seconds(contender.median) if contender.seconds else ""
    if column == "CPU":
        return _seconds(statistics.median(contender.cpu.values())) if contender.cpu else ""
    if column == "relative":
        is_known = contender.seconds and ours.seconds
        return f"{1 / speed(contender, ours):.3g}" if is_known else ""
    return format_amount(column, contender.figures[column]) if column in contender.figures else ""


def _trouble(contender: ContenderResult, truth: str) -> str:
    wrong = "" if contender.is_right else f"wrong: {contender.value}, not {truth}"
    return (contender.error or wrong).replace("|", "\\|")


def _sentence(work: str) -> str:
    return work[0].upper() + work[1:]


def _anchor(work: str) -> str:
    """Return the anchor of the heading, as GitHub and MyST make it. Pure.

    >>> _anchor("S3: open 20 files of 8 MB")
    's3-open-20-files-of-8-mb'
    """
    return re.sub(r"[^\w -]", "", work.lower()).replace(" ", "-")


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _profiles(results: Sequence[CaseResult]) -> Iterator[str]:
    yield from ("## Profiles of bars not reached", "")
    yield "For each bar that was not reached: where this package spent its time, by function and"
    yield "on one thread, or its first requests."
    for result in results:
        if result.profile:
            yield from ("", f"### {_sentence(result.work)}", "")
            yield from ("```text", *result.profile.rstrip().splitlines(), "```")
