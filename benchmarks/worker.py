"""One contender in its own process: prepares, then works once per line on standard input.

Run by the harness as ``python -m benchmarks.worker CASE CONTENDER PLACE [WARM]``. What it has to
say goes to the standard output, one line of JSON a step; what the contender prints does not.
"""

from __future__ import annotations

import cProfile
import gc
import io
import json
import os
import pstats
import re
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from benchmarks.registry import CASES

__all__ = ["main"]

TRUTH = "truth"
PROFILED = "profile"


def main(arguments: list[str]) -> None:
    """Work until the standard input ends."""
    case_name, contender, place, *warm = arguments
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    case = CASES[case_name]
    if contender == TRUTH:
        _send(messages, value=_digest(case.truth(place)))
        return
    start = case.contenders[contender]
    try:
        if warm:  # so that imports at the first use are not measured
            start(warm[0])()
        work = start(place)
        _send(messages)
        for line in sys.stdin:
            if line.strip() == PROFILED:
                _send(messages, profile=_profile(work))
            else:
                _send(messages, **_measure(work))
    except Exception as exc:  # noqa: BLE001  a peer may raise anything, which the report shows
        first_line = (str(exc).strip().splitlines() or [""])[0]
        text = first_line.replace(f"{os.getcwd()}/", "").replace(place, "PLACE")
        _send(messages, error=f"{type(exc).__name__}: {text[:120]}")


def _measure(work: Callable[[], Any]) -> dict[str, Any]:
    gc.collect()
    begin, cpu_begin = time.perf_counter(), _cpu_seconds()
    result = work()
    seconds, cpu = time.perf_counter() - begin, _cpu_seconds() - cpu_begin
    value, figures = result if isinstance(result, tuple) else (result, {})
    figures = {"peak_bytes": _peak_bytes(), **figures}
    return {"seconds": seconds, "cpu": cpu, "value": _digest(value), "figures": figures}


def _profile(work: Callable[[], Any]) -> str:
    """Return the functions with the most time of their own, in one thread."""
    import dask

    profiler = cProfile.Profile()
    with dask.config.set(scheduler="synchronous"):
        profiler.runcall(work)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(14)
    table = text.getvalue()[text.getvalue().index("ncalls") - 3 :]
    return re.sub(r"/\S*/(?:site-packages|lib/python3\.\d+|(?=intake_tiffstack/))/?", "", table)


def _digest(value: Any) -> str:
    """Return a text that is equal if and only if the values are."""
    if not hasattr(value, "dtype") or not value.shape:
        return f"{int(value):,}"
    return f"{value.dtype} {value.shape} crc32 {zlib.crc32(value.tobytes()):08x}"


def _cpu_seconds() -> float:
    """Return the processor seconds of this process and of finished child processes."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


def _peak_bytes() -> int:
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held before this program was started
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0])
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _send(messages: TextIO, **message: Any) -> None:
    print(json.dumps(message), file=messages, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
