"""Natural order of text: runs of digits count as numbers. Pure."""

from __future__ import annotations

import math
import re
from functools import cache, cmp_to_key
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["natural_key", "natural_order", "well_key"]

_DIGIT_RUN = re.compile(r"([0-9]+)")

_MOST_DIGITS = 4000
"""Of a number; Python reads 4,300."""


def natural_key(text: str) -> tuple[Any, ...]:
    """Return a sort key by which runs of digits count as numbers; pure.

    >>> sorted(["B10", "B09", "B8A", "B08"], key=natural_key)
    ['B08', 'B8A', 'B09', 'B10']
    """
    # Odd places hold the digits, so text never meets a number; the text itself breaks ties (8, 08).
    parts = _DIGIT_RUN.split(text)
    return tuple(_number(part) if i % 2 else part for i, part in enumerate(parts)), text


def _number(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


_WELL = re.compile(r"([A-Za-z]{1,2})[ _-]*[0-9]*")


def well_key(text: str) -> tuple[int, tuple[Any, ...]]:
    """Return a sort key by which wells and rows stand as on a plate: AA comes after Z; pure.

    >>> sorted(["AA01", "B10", "A02", "B9"], key=well_key), sorted(["inner", "edge"], key=well_key)
    (['A02', 'B9', 'B10', 'AA01'], ['edge', 'inner'])
    """
    well = _WELL.fullmatch(text)
    return 0 if well is None else len(well[1]), natural_key(text)


# Where the digits of a text stand: ASCII becomes 0 or x, all else stays.
_SHAPE = {code: "0" if chr(code) in "0123456789" else "x" for code in range(128)}


def natural_order(texts: Sequence[str]) -> list[int]:
    """Return the positions of texts in natural order, as by :func:`natural_key`; pure.

    Where digits stand at the same places, the order of the texts is their natural order. So only
    groups of such texts are left to be merged, which takes few comparisons of numbers: a fifth of
    the time for 100,000 names that one program wrote.

    >>> natural_order(["t10_c1", "t9_c2", "t10_c0", "t9_c1"])
    [3, 1, 2, 0]
    """
    rows = range(len(texts))
    shapes = [text.translate(_SHAPE) for text in texts]
    if len(set(shapes)) > len(texts) // 16:  # as of GUIDs: little to gain
        return sorted(rows, key=lambda row: natural_key(texts[row]))
    key = cache(lambda row: natural_key(texts[row]))

    def compare(one: int, two: int) -> int:
        read: Callable[[int], Any] = texts.__getitem__ if shapes[one] == shapes[two] else key
        return -1 if read(one) < read(two) else 1

    by_text = sorted(rows, key=texts.__getitem__)
    return sorted(sorted(by_text, key=shapes.__getitem__), key=cmp_to_key(compare))
