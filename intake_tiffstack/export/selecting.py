"""The part of a copy that coordinate values choose. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.attributes import Coords
from intake_tiffstack.pattern.fields import natural_key, role_of

__all__ = ["Positions", "select_attrs", "select_coords", "select_positions"]

Positions = range | tuple[int, ...]
"""Places along one dim, ascending."""


def select_positions(
    sel: Mapping[str, Any], coords: Coords, sizes: Mapping[str, int]
) -> dict[str, Positions]:
    """Return the positions along each dim that *sel* keeps. Pure.

    Parameters
    ----------
    sel
        Name of a coordinate along one dim, or of a dim without one (which counts from 0), to a
        value, a list of values, or ``{"from": a, "to": b}`` with both ends included, one of which
        may be left out. Values may be given as text; text compares in natural order.
    coords, sizes
        Of the whole array.

    Raises
    ------
    OptionError
        An unknown name, a value that is not there, or nothing left.

    Examples
    --------
    >>> select_positions({"t": {"from": 10}}, {"t": (("t",), np.array([0, 10, 20]))}, {"t": 3})
    {'t': range(1, 3)}
    """
    along = {dim: (dim, np.arange(size)) for dim, size in sizes.items()}
    along |= {name: (dims[0], values) for name, (dims, values) in coords.items() if len(dims) == 1}
    kept = {dim: np.ones(size, dtype=bool) for dim, size in sizes.items()}
    for name, wanted in sel.items():
        if name not in along:
            raise OptionError.unknown("coordinate in sel", str(name), along)
        dim, values = along[name]
        kept[dim] &= _is_wanted(name, values, wanted)
        if not kept[dim].any():
            raise OptionError(f"sel: no position along {dim} has all of {dict(sel)}")
    return {dim: _as_positions(np.flatnonzero(mask).tolist()) for dim, mask in kept.items()}


def _is_wanted(name: str, values: NDArray[Any], wanted: Any) -> NDArray[np.bool_]:
    if isinstance(wanted, Mapping):
        if not wanted or not wanted.keys() <= {"from", "to"}:
            raise OptionError(
                f"sel: a range of {name} has the keys 'from' and 'to', but got "
                f"{', '.join(map(str, wanted)) or 'none'}"
            )
        ends = {end: _order(_parse(name, values, value)) for end, value in wanted.items()}
        keys = [_order(value) for value in values.tolist()]
        return np.array(
            [
                ("from" not in ends or ends["from"] <= key)
                and ("to" not in ends or key <= ends["to"])
                for key in keys
            ],
            dtype=bool,
        )
    listed = wanted if isinstance(wanted, list | tuple | range | np.ndarray) else [wanted]
    chosen = [_parse(name, values, value) for value in listed]
    there = values.tolist()
    absent = [value for value in chosen if value not in there]
    if absent or not chosen:
        what = ", ".join(map(str, absent)) or "nothing"
        few = ", ".join(map(str, there[:8])) + (" ..." if len(there) > 8 else "")
        raise OptionError(f"sel: {name} has no {what}; it has {few}")
    return np.array([value in chosen for value in there], dtype=bool)


def _parse(name: str, values: NDArray[Any], value: Any) -> Any:
    """Return *value* as ``values.tolist()`` has its own."""
    if values.dtype.kind == "O":
        return value
    try:
        return np.array([value]).astype(values.dtype).tolist()[0]
    except (TypeError, ValueError) as exc:
        raise OptionError(
            f"sel: {name} holds {values.dtype} values, but got {value!r}: {exc}"
        ) from exc


def _order(value: Any) -> Any:
    return natural_key(value) if isinstance(value, str) else value


def _as_positions(places: Sequence[int]) -> Positions:
    """Return *places* as a range where they are evenly spaced.

    >>> _as_positions([1, 3, 5]), _as_positions([4]), _as_positions([0, 1, 3])
    (range(1, 6, 2), range(4, 5), (0, 1, 3))
    """
    step = places[1] - places[0] if len(places) > 1 else 1
    even = range(places[0], places[-1] + 1, step)
    return even if len(even) == len(places) and list(even) == list(places) else tuple(places)


def select_coords(
    coords: Coords, kept: Mapping[str, Positions]
) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Return the coordinates of the positions that are kept. Pure."""
    return {
        name: (dims, values[np.ix_(*(kept[dim] for dim in dims))] if dims else values)
        for name, (dims, values) in coords.items()
    }


def select_attrs(
    attrs: Mapping[str, Any], kept: Mapping[str, Positions], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """Return the attributes as they hold for the positions that are kept. Pure.

    What this package writes goes along with `sel`: the names of the channels, and the scale and
    translation of a dim, which have no meaning where positions are unevenly spaced. Attributes of
    something else are left as they are.
    """
    found = dict(attrs)
    for dim, positions in kept.items():
        if positions == range(sizes[dim]):
            continue
        names = found.get("channel_names")
        if role_of(dim) == "channel" and isinstance(names, list) and len(names) == sizes[dim]:
            found["channel_names"] = [names[position] for position in positions]
        scale, translation = _numbers(found, "scale"), _numbers(found, "translation")
        step, start = scale.pop(dim, None), translation.pop(dim, 0.0)
        if step is not None and isinstance(positions, range):
            scale[dim] = step * positions.step
            translation[dim] = start + step * positions.start
        for key, numbers in (("scale", scale), ("translation", translation)):
            if numbers or dim in _numbers(found, key):
                found[key] = numbers
    return found


def _numbers(attrs: Mapping[str, Any], key: str) -> dict[str, float]:
    """Return an attribute that is a mapping to numbers as a new dict, anything else as none."""
    value = attrs.get(key)
    if isinstance(value, Mapping) and all(isinstance(n, int | float) for n in value.values()):
        return dict(value)
    return {}
