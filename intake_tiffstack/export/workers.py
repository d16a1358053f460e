"""Where the units of an export run: threads of this process, or the workers of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import dask
import dask.local
from dask.base import get_scheduler
from dask.system import CPU_COUNT

from intake_tiffstack.errors import StorageError
from intake_tiffstack.export.passes import Job

__all__ = ["Workers", "count_threads", "open_workers"]

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """Threads of this process, or the workers of a cluster."""

    executor: Executor | _Tasks
    count: int
    share: Callable[[Any], Any]
    """Sends a value to all workers once, and returns its placeholder for calls."""
    is_cluster: bool

    def run(self, function: Callable[[Job, T], int], job: Job, items: Iterable[T]) -> Iterator[int]:
        """Yield the result of *function* for each item, as they complete.

        After the first failure no item is started, and running ones are waited for, so that
        nothing is written later.
        """
        shared = self.share(job)
        pending: set[Future[int]] = set()
        try:
            for item in items:
                pending.add(self.executor.submit(function, shared, item))
                if len(pending) >= 2 * self.count:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from _results(done)
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from _results(done)
        except CancelledError as exc:
            raise StorageError(
                f"{job[1].url}: the cluster lost the worker that held the data shared by "
                "all units; the same call resumes",
                url=job[1].url,
            ) from exc
        finally:
            if not self.is_cluster:  # a cancelled task of a cluster may still run
                for future in pending:
                    future.cancel()
            wait(pending)


@dataclass(frozen=True)
class _Tasks:
    """Submits to a cluster, with the interface of an executor.

    Not the executor of ``distributed``: its future never completes if a worker is lost
    together with a result in transit.
    """

    client: Any

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Return the future of a task."""
        future: Future[T] = Future()
        task = self.client.submit(function, *args, pure=False)
        task.add_done_callback(partial(_settle, future))
        return future


def _settle(future: Future[T], task: Any) -> None:
    """Copy the outcome of a task to a future."""
    try:
        result = task.result()
    except BaseException as exc:  # noqa: BLE001 - raised again by result()
        future.set_exception(exc)
    else:
        future.set_result(result)


def _results(done: Iterable[Future[int]]) -> Iterator[int]:
    """Yield the results, then raise the first exception."""
    for future in sorted(done, key=lambda future: future.exception() is not None):
        yield future.result()


def _is_task() -> bool:
    """Return whether this thread runs a task of ``distributed``."""
    if "distributed" not in sys.modules:
        return False
    # the whole first: else this import and that of another thread give each other half a module
    import distributed  # noqa: F401
    from distributed.worker import thread_state

    return getattr(thread_state, "key", None) is not None


@contextmanager
def _seceded() -> Iterator[None]:
    """Release the thread of a ``distributed`` task while the block waits for other tasks."""
    from distributed import rejoin, secede

    is_task = _is_task()
    if is_task:
        secede()
    try:
        yield
    finally:
        if is_task:
            rejoin()


def _find_scheduler() -> Any:
    """Return dask's function of the scheduler in use, None if none is set."""
    if _is_task():
        from distributed import get_worker

        # Under a lock, which dask's way lacks: of two tasks of one worker, the second would take
        # the client of the first before it is connected (dask/distributed#3827).
        _ = get_worker().client
    elif "distributed" not in sys.modules and not dask.config.get("scheduler", None):
        return None  # and dask would import distributed to find that there is no client
    return get_scheduler()


def count_threads() -> int:
    """Return how many threads an export has in this process: as many as dask would use."""
    is_single = _find_scheduler() is dask.local.get_sync
    return 1 if is_single else int(dask.config.get("num_workers", None) or CPU_COUNT)


@contextmanager
def open_workers() -> Iterator[Workers]:
    """Yield the workers of the current ``distributed`` client, else threads as dask would use."""
    scheduler = _find_scheduler()
    client: Any = getattr(scheduler, "__self__", None)
    if hasattr(client, "scatter"):  # a function of dask's own has no such owner
        count = sum(client.nthreads().values())
        share = partial(client.scatter, hash=False, broadcast=True)
        with _seceded():
            yield Workers(_Tasks(client), max(count, 1), share, is_cluster=True)
        return
    count = count_threads()
    with ThreadPoolExecutor(count, thread_name_prefix="tiffstack-export") as executor:
        yield Workers(executor, count, lambda value: value, is_cluster=False)
