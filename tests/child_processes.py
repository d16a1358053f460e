"""One fork server for all tests of a process: it keeps the imports of whoever starts it first.

With two lists of imports, the second one had no effect, and processes that were to work at once
first spent seconds on imports, one after the other.
"""

from __future__ import annotations

import multiprocessing

__all__ = ["FORKS"]

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
