"""The benchmark for a GPU, without one: all of it but the device itself runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_dry_run_prints_one_table_of_right_pixels() -> None:
    done = run_benchmark("--arraytype", "numpy", "--files=2", "--threads", "2", "--repeats=1")
    assert done.returncode == 0, done.stderr
    assert "whose figures mean nothing" in done.stdout
    assert "WRONG" not in done.stdout
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [len(row) for row in rows] == [11] * 7
    assert {(row[0].strip("| "), row[1]) for row in rows[1:]} == {
        (data, chunks) for data in ("uncompressed", "zlib", "zstd") for chunks in ("file", "32 MiB")
    }
    assert all(re.fullmatch(r"\d+\.\d\d", row[4]) for row in rows[1:])


def test_without_a_gpu_it_says_so_in_one_sentence_and_ends_with_2() -> None:
    try:
        import cupy

        if cupy.cuda.is_available():
            pytest.skip("there is a GPU")
    except ImportError:
        pass
    done = run_benchmark()
    assert done.returncode == 2
    assert re.fullmatch(r"Not run: this benchmark needs CuPy and a GPU \(.+\)\.\n", done.stderr)
    assert done.stdout == ""
