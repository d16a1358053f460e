"""Which values one entry of ``sel`` selects: a value, a list of values, or a range. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.errors import OptionError

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
        Converts a value of *wanted* to the type of *values*.
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
        ends = {end: sort_key(read(value)) for end, value in wanted.items()}
        keys = list(map(sort_key, values))
        return np.array(
            [
                ("from" not in ends or ends["from"] <= key)
                and ("to" not in ends or key <= ends["to"])
                for key in keys
            ],
            dtype=bool,
        )
    listed = wanted if isinstance(wanted, list | tuple | range | np.ndarray) else [wanted]
    chosen: Collection[Any] = [read(value) for value in listed]
    present: Collection[Any] = values
    with suppress(TypeError):  # some values have no hash
        chosen, present = dict.fromkeys(chosen), set(values)
    absent = [value for value in chosen if value not in present]
    if absent or not chosen:
        raise absent_error(absent)
    return np.array([value in chosen for value in values], dtype=bool)
