"""One fork server for all tests of a process: it keeps the imports of whoever starts it first.

With two lists of imports, the second one had no effect, and processes that were to work at once
first spent seconds on imports, one after the other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

__all__ = ["FORKS", "deadly_at"]

FORKS = multiprocessing.get_context("forkserver")
"""Imports once, and forks without threads."""

FORKS.set_forkserver_preload(
    [
        "distributed",
        "intake_tiffstack.collection.to_xarray",
        "intake_tiffstack.driver",
        "intake_tiffstack.export.zarr_array",
        "pint",
        "pytest",
    ]
)


def deadly_at(number: int) -> Callable[[Any], Any]:
    """Return what wraps functions so that this process is killed before the call of that number.

    The calls of all of them are counted together, from 1.
    """
    seen = 0

    def deadly(plain: Any) -> Any:
        def function(*args: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args, **named)

        return function

    return deadly
