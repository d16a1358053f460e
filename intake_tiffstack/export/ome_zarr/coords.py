"""Coordinates of a collection as those of one image of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_tiffstack.copies.attributes import Coords
from intake_tiffstack.copies.select import select_positions
from intake_tiffstack.errors import OptionError

__all__ = ["image_coords", "pick_positions"]


def pick_positions(
    sel: Mapping[str, Any], sizes: Mapping[str, int], coords: Coords
) -> dict[str, int]:
    """Return the one position that *sel* keeps along each of its dims. Pure.

    Raises
    ------
    OptionError
        If a coordinate or value does not exist, or several positions are left.

    Examples
    --------
    >>> coords = {"angle": (("angle",), np.array([0, 90, 180]))}
    >>> pick_positions({"angle": 90, "page": 3}, {"angle": 3, "page": 4}, coords)
    {'angle': 1, 'page': 3}
    """
    picked = {}
    for dim, kept in select_positions(sel, coords, sizes).items():
        if dim in sel or len(kept) < sizes[dim]:
            if len(kept) != 1:
                raise OptionError(
                    f"sel leaves {len(kept)} positions along {dim}; an export takes one, the `sel` "
                    "of the source several"
                )
            picked[dim] = kept[0]
    return picked


def image_coords(
    coords: Coords, chosen: Mapping[str, int], names: Mapping[str, str]
) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Return the coordinates of an image: those along *chosen* dims at their position.

    Parameters
    ----------
    coords : Coords
        Of the collection.
    chosen : mapping[str, int]
        Dims that the image does not have, with its position along each.
    names : mapping[str, str]
        New names of the other dims; a coordinate of the same name is renamed with its dim, unless
        the new name is taken.

    Examples
    --------
    >>> coords = {"well": (("well",), np.array(["A1", "A2"])), "time": (("time",), np.arange(2))}
    >>> image_coords(coords, {"well": 1}, {"time": "t"})
    {'well': ((), array('A2', dtype='<U2')), 't': (('t',), array([0, 1]))}
    """
    found = {}
    for name, (dims, values) in coords.items():
        index = tuple(chosen.get(dim, slice(None)) for dim in dims)
        kept = tuple(names[dim] for dim in dims if dim not in chosen)
        new = names.get(name, name)
        found[name if new in coords else new] = (kept, np.asarray(np.asarray(values)[index]))
    return found
