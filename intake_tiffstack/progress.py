"""Progress reporting: bar, callback or nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

from intake_tiffstack.errors import OptionError
from intake_tiffstack.settings import setting

__all__ = ["Advance", "Progress", "reported"]

Progress = bool | Callable[[int, int], object] | None
"""True for a bar, False for nothing, a function of the amounts done and in total, or None for the
setting ``tiffstack.progress`` and, if that is None too, a bar on a terminal or in a notebook."""

Advance = Callable[[int], None]
"""Called with each amount that is done, from any thread."""


@contextmanager
def reported(
    progress: Progress, total: int, *, title: str, unit: str, done: int = 0
) -> Iterator[Advance]:
    """Yield the function that reports progress up to *total*, in bytes if *unit* is ``B``.

    Parameters
    ----------
    progress : Progress
        Bar, callback or nothing, as the option of this name.
    total : int
        Amount to do in total.
    title, unit : str
        Text and unit of the bar.
    done : int
        Amount that was done before.

    Raises
    ------
    OptionError
        If *progress* is none of these.
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
    is_shown = progress is True or (progress is None and _is_interactive())
    if not is_shown:
        yield lambda amount: None
        return
    tqdm = _bar_class()
    with tqdm(
        total=total, initial=done, desc=title, unit=unit, unit_scale=unit == "B", unit_divisor=1024
    ) as bar:
        yield _counter(lambda now, _: bar.update(now - bar.n), total, done)


def _counter(report: Callable[[int, int], object], total: int, done: int) -> Advance:
    """Return a function that adds up amounts from any thread and reports one at a time."""
    lock = threading.Lock()

    def advance(amount: int) -> None:
        nonlocal done
        with lock:
            done += amount
            report(done, total)

    return advance


def _bar_class() -> type[Any]:
    """Return the bar of a notebook that has widgets, else the bar of text.

    tqdm's own choice warns where ipywidgets is not installed.
    """
    if _is_notebook() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm as in_notebook

        return cast(type[Any], in_notebook)
    from tqdm.std import tqdm  # imported only if a bar is drawn

    return cast(type[Any], tqdm)


def _is_interactive() -> bool:
    """Return whether output goes to a terminal or a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    return _is_notebook()


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
