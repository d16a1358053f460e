"""The part of a copy that coordinate values choose. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.copies.attributes import Coords
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError
from intake_tiffstack.formatting import format_value
from intake_tiffstack.layout.selection import is_selected
from intake_tiffstack.metadata.model import CHANNEL_KEYS
from intake_tiffstack.natural_sort import natural_key
from intake_tiffstack.pattern.times import read_span

__all__ = ["Positions", "select_attrs", "select_coords", "select_positions"]

Positions = range | tuple[int, ...]
"""Places along one dim, ascending."""


def select_positions(
    sel: Mapping[str, Any], coords: Coords, sizes: Mapping[str, int]
) -> dict[str, Positions]:
    """Return the positions along each dim that *sel* keeps. Pure.

    Parameters
    ----------
    sel : mapping of str
        Name of a coordinate along one dim, or of a dim without one (which counts from 0), to a
        value, a list of values, or ``{"from": a, "to": b}`` with both ends included, one of which
        may be left out. Values may be given as text; text compares in natural order. A date
        without a clock is the whole day, a year the whole year.
    coords : Coords
    sizes : mapping[str, int]
        Of the whole array.

    Raises
    ------
    OptionError
        If a name or value is unknown, or nothing is left.

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
    present = list(values) if values.dtype.kind == "M" else values.tolist()

    def absent_error(absent: Sequence[Any]) -> OptionError:
        what = ", ".join(map(format_value, absent)) or "nothing"
        few = ", ".join(map(format_value, present[:8])) + (" ..." if len(present) > 8 else "")
        return OptionError(f"sel: {name} has no {what}; it has {few}")

    return is_selected(
        name,
        present,
        wanted,
        read=lambda value: _parse(name, values, value),
        sort_key=_order,
        absent_error=absent_error,
    )


def _parse(name: str, values: NDArray[Any], value: Any) -> Any:
    """Return *value* in the type of ``values.tolist()``, a time as the span that it stands for."""
    if values.dtype.kind == "O":
        return value
    if values.dtype.kind == "m":
        raise OptionError(
            f"sel: {name} holds elapsed times, but got {value!r}: select by the seconds of time_s"
        )
    try:
        if values.dtype.kind == "M":
            return read_span(value)
        return np.array([value]).astype(values.dtype).tolist()[0]
    except (TypeError, ValueError) as exc:
        raise OptionError(
            f"sel: {name} holds {values.dtype} values, but got {value!r}: {exc}"
        ) from exc


def _order(value: Any) -> Any:
    return natural_key(value) if isinstance(value, str) else value


def _as_positions(places: Sequence[int]) -> Positions:
    """Return *places* as a range where they are evenly spaced.

    >>> _as_positions([1, 3, 5]), _as_positions([4]), _as_positions([0, 1, 3]), _as_positions([])
    (range(1, 6, 2), range(4, 5), (0, 1, 3), range(0, 0))
    """
    if not places:
        return range(0)
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

    What this package writes goes along with `sel`: what is known of each channel, and steps, units
    and origin of a dim, which have no meaning where positions are unevenly spaced. Attributes of
    something else are left as they are.
    """
    found = dict(attrs)
    for dim, positions in kept.items():
        if positions == range(sizes[dim]):
            continue
        role = role_of(dim)
        if role == Role.CHANNEL:
            for key in CHANNEL_KEYS:
                values = found.get(key)
                if isinstance(values, list) and len(values) == sizes[dim]:
                    found[key] = [values[position] for position in positions]
        if isinstance(positions, range):
            _move_steps(found, dim, role, positions)
        else:
            _drop_steps(found, dim, role)
    return found


def _move_steps(attrs: dict[str, Any], dim: str, role: Role | None, positions: range) -> None:
    """Let steps and origin along a dim be those of evenly spaced positions."""
    scale, translation = _numbers(attrs, "scale"), _numbers(attrs, "translation")
    if dim in scale:
        if positions.start or dim in translation:
            start = translation.get(dim, 0.0) + scale[dim] * positions.start
            attrs["translation"] = translation | {dim: start}
        attrs["scale"] = scale | {dim: scale[dim] * positions.step}
    if role == Role.TIME and isinstance(attrs.get("time_interval"), int | float):
        attrs["time_interval"] *= positions.step
    affine = attrs.get("affine")
    if role in (Role.Y, Role.X) and isinstance(affine, list) and len(affine) == 6:
        attrs["affine"] = _moved_affine(affine, role, positions)


def _moved_affine(affine: Sequence[float], role: Role, positions: range) -> list[float]:
    """Return the affine of the pixels that are kept, as large as their distance.

    >>> _moved_affine([10.0, 0.0, 500.0, 0.0, -10.0, 90.0], "x", range(4, 10))
    [10.0, 0.0, 540.0, 0.0, -10.0, 90.0]
    """
    a, b, c, d, e, f = affine
    step = positions.step
    corner = positions.start + (1 - step) / 2  # so that their centres stay where they are
    if role == Role.X:
        return [a * step, b, c + a * corner, d * step, e, f + d * corner]
    return [a, b * step, c + b * corner, d, e * step, f + e * corner]


def _drop_steps(attrs: dict[str, Any], dim: str, role: Role | None) -> None:
    """Drop what has no meaning where positions along a dim are unevenly spaced."""
    dropped = {f"{key}.{dim}" for key in ("scale", "translation", "units")}
    for key in ("scale", "translation", "units"):
        if isinstance(attrs.get(key), Mapping):
            attrs[key] = {name: value for name, value in attrs[key].items() if name != dim}
    of_role: Mapping[Role | None, str] = {
        Role.TIME: "time_interval",
        Role.Y: "affine",
        Role.X: "affine",
    }
    gone = of_role.get(role)
    if gone is not None:
        attrs.pop(gone, None)
        dropped.add(gone)
    if isinstance(attrs.get("provenance"), Mapping):
        sources = attrs["provenance"]
        attrs["provenance"] = {key: source for key, source in sources.items() if key not in dropped}


def _numbers(attrs: Mapping[str, Any], key: str) -> dict[str, float]:
    """Return an attribute that is a mapping to numbers as a new dict, anything else as none."""
    value = attrs.get(key)
    if isinstance(value, Mapping) and all(isinstance(n, int | float) for n in value.values()):
        return dict(value)
    return {}
