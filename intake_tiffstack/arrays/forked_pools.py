"""Dask's thread pools after a fork: made anew, since a fork copies a pool without its threads.

Without this, ``compute()`` in the child of a process that has computed before waits for ever.
"""

from __future__ import annotations

import os
import threading

import dask.threaded

__all__ = ["forget_thread_pools"]


def forget_thread_pools() -> None:
    """Let dask's threaded scheduler start pools of its own in this process."""
    dask.threaded.default_pool = None
    dask.threaded.pools.clear()
    dask.threaded.pools_lock = threading.Lock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_thread_pools)
