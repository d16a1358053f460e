"""Values as messages and reports show them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass

__all__ = ["few", "format_value"]


def format_value(value: Any) -> str:
    """Return *value* as an error or a report shows it. Pure.

    >>> format_value(np.datetime64("2020-03-23T16:29:31.000000")), format_value("B8A")
    ('2020-03-23T16:29:31', 'B8A')
    """
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value, unit="auto"))
    if isinstance(value, np.timedelta64):
        return str(value.item())
    return str(value)


def few(values: Sequence[Any], limit: int = 8) -> str:
    """Return the first of *values*, the last and the count where there are many. Pure.

    >>> few(range(3)), few(range(199))
    ('0, 1, 2', '0, 1, 2, 3, 4, 5, ... 198 (199 in all)')
    """
    if len(values) <= limit:
        return ", ".join(map(format_value, values))
    first = ", ".join(map(format_value, values[: limit - 2]))
    return f"{first}, ... {format_value(values[-1])} ({len(values)} in all)"
