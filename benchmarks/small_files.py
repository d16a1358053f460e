"""Thousands of small files, opened and read: dominated by their headers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.case import OURS, Bar, Case, Start
from benchmarks.files import SMALL_SHAPE, small, small_dated
from benchmarks.peers import ALL_PLANES, DASK_ARRAY_IMAGE, TIFFFILE_STORE
from benchmarks.pixels import list_files, true_sum

__all__ = ["CASES"]

TIFFFILE_LOOP = "tifffile.imread in a loop"
FASTEST = (OURS, DASK_ARRAY_IMAGE, TIFFFILE_STORE)


def _opening_and_summing(open_array: Callable[[str], Any]) -> Start:
    return lambda place: lambda: int(open_array(place).sum().compute())


def _start_plain_reads(place: str) -> Callable[[], int]:
    import numpy as np
    import tifffile

    with tifffile.TiffFile(list_files(place)[0]) as tif:
        offset = tif.pages.first.dataoffsets[0]

    def work() -> int:
        total = 0
        for path in list_files(place):
            with open(path, "rb", buffering=0) as file:
                content = file.read()
            total += int(np.frombuffer(content, "<u2", math.prod(SMALL_SHAPE), offset).sum())
        return total

    return work


def _start_plain_decoding(place: str) -> Callable[[], int]:
    import imagecodecs
    import numpy as np
    import tifffile

    tables = []
    for path in list_files(place):
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            tables.append((Path(path), page.dataoffsets[0], page.databytecounts[0]))

    def work() -> int:
        total = 0
        for path, offset, count in tables:
            content = path.read_bytes()[offset : offset + count]
            total += int(np.frombuffer(imagecodecs.deflate_decode(content), "<u2").sum())
        return total

    return work


def _start_loop(place: str) -> Callable[[], int]:
    import tifffile  # noqa: F401  so that importing it is not part of the work

    return lambda: true_sum(place)


_case = functools.partial(Case, truth=true_sum, is_fresh=True, repeats=5, patience=7, deadline=25)

CASES = (
    _case(
        name="small",
        work="open and sum 5,000 files of 32 x 32, identical headers",
        dataset=small,
        contenders={
            **{peer: _opening_and_summing(opens) for peer, opens in ALL_PLANES.items()},
            TIFFFILE_LOOP: _start_loop,
            "open() and read() of the same bytes": _start_plain_reads,
        },
        bars=(Bar("speed", 25, DASK_ARRAY_IMAGE),),
    ),
    _case(
        name="small-dated",
        work="open and sum 5,000 files of 32 x 32, zlib with DateTime: no two headers are equal",
        dataset=small_dated,
        contenders={  # the others take as long as before
            **{peer: _opening_and_summing(ALL_PLANES[peer]) for peer in FASTEST},
            TIFFFILE_LOOP: _start_loop,
            "read and decode, tables known": _start_plain_decoding,
        },
        bars=(Bar("speed", 10, DASK_ARRAY_IMAGE),),
    ),
)
