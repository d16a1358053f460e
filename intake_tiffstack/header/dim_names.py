"""Names of dims from tifffile's axes codes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tifffile

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["name_dims"]

_DIM_NAMES: Mapping[str, str] = {
    **{code: name.lower() for code, name in tifffile.TIFF.AXES_NAMES.items()},
    **{code: code.lower() for code in "TCZYX"},
    "S": "sample",
    "I": "page",
    "Q": "page",
}


def name_dims(axes: str) -> tuple[str, ...]:
    """Return our names for tifffile's axes codes, repeated ones numbered. Pure.

    >>> name_dims("QQQYX")
    ('page', 'page_1', 'page_2', 'y', 'x')
    >>> name_dims("TZCYXS")
    ('t', 'z', 'c', 'y', 'x', 'sample')
    """
    taken: dict[str, None] = {}
    counts: dict[str, int] = {}
    for code in axes:
        base = name = _DIM_NAMES.get(code, code.lower())
        while name in taken:
            counts[base] = counts.get(base, 0) + 1
            name = f"{base}_{counts[base]}"
        taken[name] = None
    return tuple(taken)
