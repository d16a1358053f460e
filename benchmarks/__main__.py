"""Run benchmarks and write the report: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import CaseResult, run_cases
from benchmarks.registry import CASES
from benchmarks.report import describe_machine, render

_RESULTS = Path(__file__).with_name("results.json")
_REPORT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main() -> int:
    """Return 0 if every result of this package was right."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; none means all")
    parser.add_argument("--list", action="store_true", help="list the names and end")
    parser.add_argument("--render", action="store_true", help="write the report again and end")
    parser.add_argument("--dry", action="store_true", help="print only, keep results and report")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{case.name:20} {case.work}" for case in CASES.values()))
        return 0
    unknown = sorted(set(arguments.names) - CASES.keys())
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; --list names all")
    if arguments.render and not _RESULTS.exists():
        parser.error("no results yet")
    names = [name for name in CASES if name in (arguments.names or CASES)]
    if arguments.render:
        _write({})
        return 0
    is_wrong = False
    for result in run_cases([CASES[name] for name in names], _say):
        is_wrong |= any(bar.measured == "wrong answer" for bar in result.bars)
        if not arguments.dry:
            _write({result.name: result})  # one by one: a run that is cut short is not lost
    return int(is_wrong)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(results: dict[str, CaseResult]) -> None:
    """Merge the results with those of earlier runs on this machine, and write the report."""
    runs = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
    if results:
        python = ".".join(platform.python_version_tuple()[:2])
        runs[python] = _merge(runs.get(python), results)
        # figures of different machines do not stand in one table
        machine = runs[python]["machine"]["machine"]
        runs = {name: run for name, run in runs.items() if run["machine"]["machine"] == machine}
        _RESULTS.write_text(json.dumps(runs, indent=1) + "\n")
    newest_first = sorted(runs.values(), key=_python_of, reverse=True)
    _REPORT.write_text(render([(run["machine"], _results_of(run)) for run in newest_first]))


def _merge(kept: dict[str, Any] | None, results: dict[str, CaseResult]) -> dict[str, Any]:
    """Return a run with further results; one with other versions is dropped, which is printed."""
    machine = describe_machine()
    cases = {name: result.as_json() for name, result in results.items()}
    if kept is not None:
        changed = [
            f"{key}: {kept['machine'].get(key)} -> {machine.get(key)}"
            for key in {**kept["machine"], **machine}
            if key != "date" and kept["machine"].get(key) != machine.get(key)
        ]
        if changed:
            _say(f"dropped the results of earlier runs ({'; '.join(changed)})")
        else:
            cases = {**kept["cases"], **cases}
    return {"machine": machine, "cases": {name: cases[name] for name in CASES if name in cases}}


def _results_of(run: dict[str, Any]) -> list[CaseResult]:
    return [CaseResult.from_json(case) for name, case in run["cases"].items() if name in CASES]


def _python_of(run: dict[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, run["machine"]["Python"].split(".")[:2]))


if __name__ == "__main__":
    sys.exit(main())
