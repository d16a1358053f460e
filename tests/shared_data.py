"""Where the shared test data lie: real collections, single files and damaged files.

They are used in place and never copied. A checkout without them still runs every test on
generated files; set ``TIFFSTACK_TEST_DATA`` to point elsewhere.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import pytest

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

_CANDIDATES = (
    os.environ.get("TIFFSTACK_TEST_DATA"),
    str(Path(__file__).parents[2] / "shared" / "data"),
)

SHARED: Path | None = next(
    (Path(p) for p in _CANDIDATES if p and (Path(p) / "MANIFEST.csv").exists()), None
)

needs_shared = pytest.mark.skipif(
    SHARED is None, reason="the shared test data are not beside this checkout"
)


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV table of the shared data, none where there are no data."""
    if SHARED is None:
        return []
    with (SHARED / name).open(newline="") as handle:
        return list(csv.DictReader(handle))
