"""Thousands of small files, opened and read: what costs is the header of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.case import Bar, Case, Start
from benchmarks.files import SMALL_SHAPE, small, small_dated
from benchmarks.peers import ALL_PLANES, DASK_ARRAY_IMAGE
from benchmarks.pixels import list_files, true_sum

__all__ = ["CASES"]

PLAIN_READS = "open() and read() of the same bytes"
TIFFFILE_LOOP = "tifffile.imread in a loop"


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
    import tifffile  # noqa: F401  so that importing it is no part of the work

    return lambda: true_sum(place)


def _case(name: str, work: str, dataset: Any, floor: Start, floor_name: str, limit: float) -> Case:
    return Case(
        name=name,
        work=work,
        dataset=dataset,
        truth=true_sum,
        contenders={
            **{peer: _opening_and_summing(opens) for peer, opens in ALL_PLANES.items()},
            TIFFFILE_LOOP: _start_loop,
            floor_name: floor,
        },
        bars=(Bar("speed", limit, DASK_ARRAY_IMAGE),),
        is_fresh=True,
        repeats=5,
        patience=9,
        deadline=25,
    )


CASES = (
    _case(
        "small",
        "open and sum 5,000 files of 32 x 32, identical headers",
        small,
        _start_plain_reads,
        PLAIN_READS,
        limit=8,
    ),
    _case(
        "small-dated",
        "open and sum 5,000 files of 32 x 32, zlib with DateTime: no two headers are equal",
        small_dated,
        _start_plain_decoding,
        "read and decode, tables known",
        limit=4,
    ),
)
