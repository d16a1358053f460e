"""Which values one entry of ``sel`` selects: a value, a list of values, or a range. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.errors import OptionError
from intake_tiffstack.pattern.times import Span

__all__ = ["is_selected"]


def is_selected(
    name: str,
    values: Sequence[Any],
    wanted: Any,
    *,
    read: Callable[[Any], Any],
    sort_key: Callable[[Any], Any],
    absent_error: Callable[[Sequence[Any]], OptionError],
) -> NDArray[np.bool_]:
    """Return whether each of *values* is selected by *wanted*. Pure.

    Parameters
    ----------
    name : str
        Field or coordinate, for errors.
    values : sequence
        The values to choose from.
    wanted : value, list of values, or mapping
        A mapping has the keys ``from`` and ``to``, both included; one may be left out.
    read : callable
        Converts a value of *wanted* to the type of *values*, or to a span of time: such a one
        selects all times in it, and a range goes from the start of one to the end of another.
    sort_key : callable
        Key by which values of a range compare.
    absent_error : callable
        Makes the error for the listed values that are not in *values*; empty if none are listed.

    Raises
    ------
    OptionError
        If a range has other keys, or a listed value is absent.
    """
    if isinstance(wanted, Mapping):
        if not wanted or not wanted.keys() <= {"from", "to"}:
            raise OptionError(
                f"sel: a range of {name} has the keys 'from' and 'to', but got "
                f"{', '.join(map(str, wanted)) or 'none'}"
            )
        ends = {end: read(value) for end, value in wanted.items()}
        keys = list(map(sort_key, values))
        chosen = np.ones(len(keys), dtype=bool)
        if "from" in ends:
            first = ends["from"].start if isinstance(ends["from"], Span) else sort_key(ends["from"])
            chosen &= np.array([first <= key for key in keys], dtype=bool)
        if isinstance(last := ends.get("to"), Span):
            chosen &= np.array([key < last.stop for key in keys], dtype=bool)
        elif "to" in ends:
            end = sort_key(last)
            chosen &= np.array([key <= end for key in keys], dtype=bool)
        return chosen
    listed = wanted if isinstance(wanted, list | tuple | range | np.ndarray) else [wanted]
    asked = [read(value) for value in listed]
    if any(isinstance(value, Span) for value in asked):
        return _within(values, asked, absent_error)
    points: Collection[Any] = asked
    present: Collection[Any] = values
    with suppress(TypeError):  # some values have no hash
        points, present = dict.fromkeys(asked), set(values)
    absent = [value for value in points if value not in present]
    if absent or not points:
        raise absent_error(absent)
    return np.array([value in points for value in values], dtype=bool)


def _within(
    values: Sequence[Any],
    spans: Sequence[Span],
    absent_error: Callable[[Sequence[Any]], OptionError],
) -> NDArray[np.bool_]:
    """Return whether each time is in one of the spans; each span has one at least."""
    times = np.array(values)
    found = [(span.start <= times) & (times < span.stop) for span in spans]
    absent = [span.start for span, chosen in zip(spans, found, strict=True) if not chosen.any()]
    if absent:
        raise absent_error(absent)
    return np.asarray(np.logical_or.reduce(found))
