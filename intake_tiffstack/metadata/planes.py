"""What is written of each plane, as values of each channel. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

__all__ = ["values_of_channels"]

V = TypeVar("V", bound=Hashable)

_IN_PAGE = frozenset({"y", "x", "sample"})


def values_of_channels(values: Sequence[V], sizes: Mapping[str, int]) -> tuple[V, ...] | None:
    """Return the value of each channel, None where planes of one channel differ.

    Parameters
    ----------
    values : sequence
        One per plane, in the order of the file.
    sizes : mapping[str, int]
        Extents of the pixels by dim, as :attr:`Subject.sizes`.

    Examples
    --------
    >>> values_of_channels(["a", "b", "a", "b"], {"z": 2, "c": 2, "y": 9, "x": 9})
    ('a', 'b')
    >>> values_of_channels(["a", "b", "c", "d"], {"z": 2, "c": 2, "y": 9, "x": 9}) is None
    True
    """
    outer = {dim: n for dim, n in sizes.items() if dim not in _IN_PAGE}
    if "c" not in outer or len(values) != np.prod(list(outer.values())):
        return None
    numbers = np.moveaxis(
        np.arange(len(values)).reshape(tuple(outer.values())), list(outer).index("c"), 0
    )
    by_channel = [{values[i] for i in row} for row in numbers.reshape(outer["c"], -1).tolist()]
    if any(len(found) != 1 for found in by_channel):
        return None
    return tuple(next(iter(found)) for found in by_channel)
