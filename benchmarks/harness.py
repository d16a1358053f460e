"""Runs contenders in turns, one process each; medians and ratios within a round."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.case import OURS, Bar, Case, Facts
from benchmarks.distant_server import BUCKET, serve_from_afar
from benchmarks.server import serve_s3
from benchmarks.worker import PROFILED, TRUTH

__all__ = [
    "THREADS",
    "BarResult",
    "CaseResult",
    "ContenderResult",
    "format_amount",
    "format_figure",
    "run_cases",
    "speed",
]

THREADS = 2
_ROOT = Path(__file__).parents[1]


@dataclass
class ContenderResult:
    """The measurements of one contender, and its error."""

    seconds: dict[int, float] = field(default_factory=dict)
    """By round."""
    cpu: dict[int, float] = field(default_factory=dict)
    """Processor seconds of all threads, by round; excludes other processes."""
    figures: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    value: str | None = None
    is_right: bool = True

    @property
    def median(self) -> float:
        """Return the median of the rounds in seconds."""
        return statistics.median(self.seconds.values())


@dataclass
class BarResult:
    """Whether a bar was reached, and the measured value."""

    text: str
    measured: str
    is_reached: bool


@dataclass
class CaseResult:
    """The results of one benchmark."""

    name: str
    work: str
    truth: str
    is_remote: bool
    contenders: dict[str, ContenderResult]
    bars: list[BarResult]
    profile: str | None = None
    """Profile of this package if a bar was not reached."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values for :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> CaseResult:
        """Return the result that :meth:`as_json` wrote."""
        contenders = {k: ContenderResult(**v) for k, v in values["contenders"].items()}
        for result in contenders.values():
            result.seconds = {int(k): v for k, v in result.seconds.items()}
            result.cpu = {int(k): v for k, v in result.cpu.items()}
        bars = [BarResult(**bar) for bar in values["bars"]]
        return cls(**{**values, "contenders": contenders, "bars": bars})


@dataclass(frozen=True)
class _Place:
    """Where contenders find the files of a benchmark."""

    urls: Sequence[str]
    """Of the files, and of a few others to warm up with."""
    local: str
    """The folder that holds them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What clients of the store need."""
    count: Callable[[], Mapping[str, float]] | None = None
    """Returns the requests and bytes since its last call."""
    asked: Callable[[], str] | None = None
    """Returns the requests since then as text."""


def run_cases(cases: Sequence[Case], say: Callable[[str], None]) -> Iterator[CaseResult]:
    """Yield the result of each case; consecutive cases share their files."""
    for _, group in groupby(cases, key=lambda c: (c.dataset, c.store)):
        some = list(group)
        root = Path(tempfile.mkdtemp(prefix="tiffstack-benchmark-"))
        try:
            say("writing files ...")
            facts = some[0].dataset(root / "main")
            some[0].dataset(root / "warm", count=4)
            with _place(some[0].store, root) as place:
                for case in some:
                    yield _run_case(case, place, facts, say)
        finally:
            shutil.rmtree(root)


@contextmanager
def _place(store: str, root: Path) -> Iterator[_Place]:
    """Yield where the files are; a store runs until the block ends."""
    local = str(root / "main")
    if store == "moto":
        with serve_s3() as counted:
            counted.upload(root / "main", BUCKET, root.name)
            urls = [f"s3://{BUCKET}/{root.name}"]
            yield _Place(urls, local, counted.environment, counted.count, counted.asked)
    elif store:
        with serve_from_afar(root) as distant:
            start = distant.url if store == "web" else f"s3://{BUCKET}"
            urls = [f"{start}/main", f"{start}/warm"]
            environment = {**distant.environment, "BENCHMARK_FOLDER": str(root)}
            yield _Place(urls, local, environment, distant.count)
    else:
        yield _Place([local, str(root / "warm")], local)


def _run_case(case: Case, place: _Place, facts: Facts, say: Callable[[str], None]) -> CaseResult:
    say(f"{case.name}: {case.work}")
    truth = _Worker(case, TRUTH, [place.local], {}).hear(case.deadline)["value"]
    results = {name: ContenderResult() for name in case.contenders}
    with _workers(case, place) as go:
        for number in range(case.repeats):
            names = [name for name in results if _goes_on(case, name, results[name], number)]
            turn = number % max(len(names), 1)  # no contender always follows the same other one
            for name in (*names[turn:], *names[:turn]):
                _take(results[name], go(name), number, truth)
                say(f"  {number + 1}/{case.repeats} {name}: {_brief(results[name], number)}")
        for contender in results.values():
            _drop_warm_up(case, contender)
        bars = [_judge(bar, results, facts) for bar in case.bars]
        profile = None
        if not all(bar.is_reached for bar in bars):
            profile = go(OURS, PROFILED).get("profile")
            if place.asked is not None:
                profile = place.asked()
    result = CaseResult(case.name, case.work, truth, case.store == "moto", results, bars, profile)
    for bar in bars:
        say(f"  {'reached' if bar.is_reached else 'NOT REACHED'}: {bar.text}: {bar.measured}")
    return result


def _take(result: ContenderResult, message: dict[str, Any], number: int, truth: str) -> None:
    if "error" in message:
        result.error = message["error"]
        return
    result.seconds[number], result.cpu[number] = message["seconds"], message["cpu"]
    result.figures = message["figures"]
    result.value = message["value"]
    result.is_right = result.is_right and result.value == truth


def _goes_on(case: Case, name: str, result: ContenderResult, number: int) -> bool:
    """Return whether a contender is in round *number*; three rounds suffice without a bar."""
    is_in_bar = name == OURS or any(bar.against == name for bar in case.bars)
    patience = (3 if is_in_bar else 1) * case.patience
    has_time = sum(result.seconds.values()) < patience
    return result.error is None and has_time and (is_in_bar or number < 3)


def _drop_warm_up(case: Case, result: ContenderResult) -> None:
    """Discard the first round of a persistent process, because it includes imports."""
    if not case.is_fresh and len(result.seconds) > 1:
        del result.seconds[0], result.cpu[0]


def _brief(result: ContenderResult, number: int) -> str:
    if result.error:
        return result.error
    right = "" if result.is_right else f", WRONG: {result.value}"
    requests = f", {result.figures['requests']:,} requests" if "requests" in result.figures else ""
    return f"{result.seconds[number]:.4f} s{requests}{right}"


# -- bars --------------------------------------------------------------------------------------


def _judge(bar: Bar, results: dict[str, ContenderResult], facts: Facts) -> BarResult:
    limit = bar.limit(facts) if callable(bar.limit) else bar.limit
    text = _bar_text(bar, limit)
    ours = results[OURS]
    if ours.error or not ours.is_right:
        return BarResult(text, ours.error or "wrong answer", False)
    if bar.against is None:
        measured = ours.figures[bar.figure]
        return BarResult(text, format_figure(bar.figure, measured), measured <= limit)
    theirs = results[bar.against]
    if not theirs.seconds:
        return BarResult(text, f"{bar.against}: {theirs.error}", False)
    if bar.is_least:
        ratio = speed(ours, theirs)
        return BarResult(text, f"{ratio:.3g} x", ratio >= limit)
    if bar.figure == "time":
        ratio = 1 / speed(ours, theirs)
    else:
        ratio = ours.figures[bar.figure] / theirs.figures[bar.figure]
    return BarResult(text, f"{ratio:.3g} x", ratio <= limit)


def speed(ours: ContenderResult, theirs: ContenderResult) -> float:
    """Return how many times faster this package is: the median over rounds with both."""
    both = ours.seconds.keys() & theirs.seconds.keys()
    if len(both) < 2:
        return theirs.median / ours.median
    return statistics.median(theirs.seconds[number] / ours.seconds[number] for number in both)


def _bar_text(bar: Bar, limit: float) -> str:
    if bar.figure == "speed":
        return f"at least {limit:g} x the speed of {bar.against}"
    if bar.against is not None:
        return f"at most {limit:g} x the {_words(bar.figure)} of {bar.against}"
    return f"at most {format_figure(bar.figure, limit)}"


def format_figure(name: str, value: float) -> str:
    """Return a figure as text: ``18.3 MB peak``, ``6 requests``. Pure."""
    return f"{format_amount(name, value)} {_words(name)}".rstrip()


def _words(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("bytes", "").split())


def format_amount(name: str, value: float) -> str:
    """Return a figure with its unit, if it has one. Pure."""
    if "bytes" not in name:
        return f"{value:,.0f}"
    if value < 1e6:
        return f"{value / 1e3:,.1f} kB"
    return f"{float(f'{value / 1e6:.3g}'):,g} MB"  # three digits, and never 1.8e+03


# -- processes ---------------------------------------------------------------------------------


class _Worker:
    """A contender's process."""

    def __init__(
        self, case: Case, contender: str, urls: Sequence[str], extra: Mapping[str, str]
    ) -> None:
        environment = {
            **os.environ,
            "DASK_SCHEDULER": "threads",
            "DASK_NUM_WORKERS": str(THREADS),
            "PYTHONWARNINGS": "ignore",
            **extra,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", case.name, contender, *urls],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def send(self, line: str) -> None:
        if self._process.stdin and self._process.poll() is None:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def hear(self, deadline: float) -> dict[str, Any]:
        """Return the next message of the process, or the reason why there is none."""
        if self._process.stdout is None:
            raise RuntimeError("the process was started without a pipe")
        timer = threading.Timer(deadline, self._process.kill)
        begin = time.monotonic()
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if line:
            message: dict[str, Any] = json.loads(line)
            return message
        was_stopped = time.monotonic() - begin >= deadline
        code = self._process.wait()
        return {"error": f"stopped after {deadline:g} s" if was_stopped else f"ended with {code}"}

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def _workers(case: Case, place: _Place) -> Iterator[Callable[..., dict[str, Any]]]:
    """Yield a function that runs a contender once, in its process or a fresh one."""
    urls = place.urls if case.is_fresh else place.urls[:1]
    workers: dict[str, _Worker] = {}

    def go(name: str, what: str = "go") -> dict[str, Any]:
        if case.is_fresh and name in workers:
            workers.pop(name).end()
        if name not in workers:
            workers[name] = _Worker(case, name, urls, place.environment)
            is_ready = workers[name].hear(case.deadline)
            if "error" in is_ready:
                return is_ready
        if place.count is not None:
            place.count()
        workers[name].send(what)
        message = workers[name].hear(case.deadline)
        if place.count is not None and "figures" in message:
            message["figures"] |= place.count()
        return message

    try:
        yield go
    finally:
        for worker in workers.values():
            worker.end()
