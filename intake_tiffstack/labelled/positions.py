"""Positions along a dim as people type them. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["regular_positions"]

_MOST_DIGITS = 40
"""Decimal places between the largest and the smallest digit beyond which floats are added."""

_LARGEST = 1e300
"""Far from where floats overflow."""


def regular_positions(start: float, step: float, size: int) -> NDArray[np.floating[Any]]:
    """Return *size* evenly spaced positions, each the float that its decimal number reads as.

    Sums of floats are off by a last digit, so that ``sel(z=0.9)`` would find nothing. *start* and
    *step* count with 15 significant digits, which are all that a float holds of any decimal.

    >>> regular_positions(0.0, 0.3, 4).tolist()
    [0.0, 0.3, 0.6, 0.9]
    >>> regular_positions(5, -0.1, 3).tolist()
    [5.0, 4.9, 4.8]
    """
    if not abs(start) + abs(step) * size < _LARGEST:
        return start + np.arange(size) * step
    first, distance = Decimal(f"{start:.15g}"), Decimal(f"{step:.15g}")
    smallest = min(_last_place(first), _last_place(distance))
    if max(first.adjusted(), distance.adjusted()) - smallest > _MOST_DIGITS:
        return start + np.arange(size) * step
    unit = 10 ** abs(smallest)
    begin, by = int(first.scaleb(-smallest)), int(distance.scaleb(-smallest))
    places = range(begin, begin + size * by, by) if by else [begin] * size
    # Python divides integers of any size correctly rounded
    values = [n / unit for n in places] if smallest < 0 else [float(n * unit) for n in places]
    return np.array(values, dtype=np.float64)


def _last_place(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) and number else 0
