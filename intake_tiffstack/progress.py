"""Progress reporting: bar, callback or nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from intake_tiffstack.errors import OptionError
from intake_tiffstack.settings import setting

__all__ = ["Advance", "Progress", "reported"]

Progress = bool | Callable[[int, int], object] | None
"""True for a bar, a function of the amounts done and in all, False for silence, None for a bar
where somebody may be looking (``tiffstack.progress`` in dask's config decides otherwise)."""

Advance = Callable[[int], None]
"""What is called with each amount that is done, from any thread."""


@contextmanager
def reported(
    progress: Progress, total: int, *, title: str, unit: str, done: int = 0
) -> Iterator[Advance]:
    """Yield a function that counts up to *total*, as bytes where *unit* is ``B``.

    Parameters
    ----------
    progress : Progress
        As the option of that name.
    total : int
        All there is to do.
    title, unit : str
        What the bar says.
    done : int
        How much was done before.
    """
    if progress is None:
        progress = setting("progress")
    if callable(progress):
        yield _counter(progress, total, done)
        return
    if not (progress is None or isinstance(progress, bool)):
        raise OptionError(
            f"progress must be True, False, None or a function of two numbers, but got {progress!r}"
        )
    is_shown = progress is True or (progress is None and _is_watched())
    if not is_shown:
        yield lambda amount: None
        return
    from tqdm.auto import tqdm  # only where a bar is drawn: it looks for a notebook's widgets

    with tqdm(
        total=total, initial=done, desc=title, unit=unit, unit_scale=unit == "B", unit_divisor=1024
    ) as bar:
        yield _counter(lambda now, _: bar.update(now - bar.n), total, done)


def _counter(report: Callable[[int, int], object], total: int, done: int) -> Advance:
    """Return a function that adds up and reports, from whichever thread, one report at a time."""
    lock = threading.Lock()

    def advance(amount: int) -> None:
        nonlocal done
        with lock:
            done += amount
            report(done, total)

    return advance


def _is_watched() -> bool:
    """Return whether this is a terminal or a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
