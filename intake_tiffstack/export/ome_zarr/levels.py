"""The levels of a pyramid and their factors. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.ome_zarr.axes import NgffAxis

__all__ = ["Level", "plan_levels", "reuse_levels"]

SMALL = 512
"""A level whose y and x are shorter is the last."""

SHRINKING = ("z", "y", "x")

Factors = tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """One level of a pyramid."""

    shape: tuple[int, ...]
    """Extent along each axis."""
    factors: Factors
    """Factor by which it is smaller than the level before, along each axis."""
    total: Factors
    """Factor by which it is smaller than the first level, along each axis."""
    source: int | None = None
    """The level of the files that it is copied from, None if it is computed."""

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.factors) < 1:
            raise ValueError(f"a level of shape {self.shape}, smaller by {self.factors}")

    def shrunk(self, factors: Factors) -> Level:
        """Return the level that is smaller by whole factors, each at most the extent of its dim."""
        factors = tuple(map(min, factors, self.shape))
        return Level(
            tuple(-(-n // f) for n, f in zip(self.shape, factors, strict=True)),
            factors,
            tuple(t * f for t, f in zip(self.total, factors, strict=True)),
        )


def plan_levels(levels: Any, shape: Sequence[int], axes: Sequence[NgffAxis]) -> tuple[Level, ...]:
    """Return the levels of an image, the full one first. Pure.

    Parameters
    ----------
    levels : object
        ``"auto"``: until both y and x are shorter than 512; a number: so many in all; factors by
        axis: each level by these, as far as ``"auto"`` goes; a list of factors by axis: one more
        level for each.
    shape : sequence of int
        Of the full level.
    axes : sequence of NgffAxis
        Its axes; where no factors are given y and x are halved, z only where its spacing is at most
        half that of y at the same level.

    Raises
    ------
    OptionError
        If `levels` is none of these, or there is nothing left to make smaller.

    Examples
    --------
    >>> spacing = {"z": 0.8, "y": 0.4, "x": 0.4}
    >>> axes = [NgffAxis(n, n, s, unit="micrometer") for n, s in spacing.items()]
    >>> [level.shape for level in plan_levels("auto", (30, 2049, 900), axes)]
    [(30, 2049, 900), (30, 1025, 450), (30, 513, 225), (15, 257, 113)]
    """
    full = Level(tuple(shape), (1,) * len(shape), (1,) * len(shape), source=0)
    if isinstance(levels, Mapping):
        return _until_small(full, axes, _read_factors(levels, axes))
    if isinstance(levels, (list, tuple)):
        steps = [_read_factors(item, axes) for item in levels]
        return tuple(accumulate(steps, Level.shrunk, initial=full))
    if isinstance(levels, str) and levels == "auto":
        return _until_small(full, axes)
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise OptionError(
            "levels must be 'auto', 'source', a number of at least 1, factors by axis "
            f"({{'y': 2, 'x': 2}}), or a list of these, but got {levels!r}"
        )
    planned = [full]
    while len(planned) < levels:
        factors = _halving(planned[-1], axes)
        if max(factors) == 1:
            raise OptionError(
                f"levels={levels}, but there is a single pixel left at level {len(planned) - 1}; "
                f"levels={len(planned)} is the most"
            )
        planned.append(planned[-1].shrunk(factors))
    return tuple(planned)


def reuse_levels(shapes: Sequence[Sequence[int]], axes: Sequence[NgffAxis]) -> tuple[Level, ...]:
    """Return the levels of the files that fit a pyramid, and those still to be made. Pure.

    A level fits where it is smaller than the one before by a whole factor along each axis, be the
    rest at an odd end a pixel or not; one that does not is left out.

    Parameters
    ----------
    shapes : sequence[sequence[int]]
        Of each level of the files, the full one first.
    axes : sequence of NgffAxis
        As :func:`plan_levels` has them; it plans what comes after the last level of the files.

    Examples
    --------
    >>> axes = [NgffAxis("y", "y"), NgffAxis("x", "x")]
    >>> [(v.shape, v.source) for v in reuse_levels([(4001, 3000), (1000, 750), (300, 225)], axes)]
    [((4001, 3000), 0), ((1000, 750), 1), ((500, 375), None)]
    """
    full = Level(tuple(shapes[0]), (1,) * len(axes), (1,) * len(axes), source=0)
    planned = [full]
    for number, shape in enumerate(shapes[1:], 1):
        last = planned[-1]
        factors = tuple(_factor(n, m) for n, m in zip(last.shape, shape, strict=True))
        changed = {axis.name for axis, f in zip(axes, factors, strict=True) if f != 1}
        if 0 in factors or not changed or not changed <= set(SHRINKING):
            continue
        total = tuple(t * f for t, f in zip(last.total, factors, strict=True))
        planned.append(Level(tuple(shape), factors, total, source=number))
    return (*planned, *_until_small(planned[-1], axes)[1:])


def _factor(size: int, smaller: int) -> int:
    """Return the whole factor between two extents, 0 if there is none.

    >>> _factor(4001, 1000), _factor(4001, 1001), _factor(100, 30), _factor(7, 7)
    (4, 4, 0, 1)
    """
    factor = round(size / smaller)
    return factor if smaller in (size // max(factor, 1), -(-size // max(factor, 1))) else 0


def _until_small(
    full: Level, axes: Sequence[NgffAxis], factors: Factors | None = None
) -> tuple[Level, ...]:
    """Return levels until both y and x are short, or nothing can be made smaller."""
    planned = [full]
    page = [i for i, axis in enumerate(axes) if axis.name in ("y", "x")]
    while max(planned[-1].shape[i] for i in page) >= SMALL:
        step = planned[-1].shrunk(factors or _halving(planned[-1], axes))
        if step.shape == planned[-1].shape:
            break
        planned.append(step)
    return tuple(planned)


def _halving(level: Level, axes: Sequence[NgffAxis]) -> Factors:
    """Return the default factors of the next level."""
    spacing = {axis.name: axis.scale * n for axis, n in zip(axes, level.total, strict=True)}
    y = next(axis for axis in axes if axis.name == "y")
    halved = {"y", "x"}
    for axis in axes:
        is_known = axis.unit is not None or (axis.scale, y.scale) != (1, 1)
        is_comparable = is_known and axis.unit == y.unit
        if axis.name == "z" and is_comparable and spacing["z"] <= spacing["y"] / 2:
            halved.add("z")
    return tuple(
        2 if axis.name in halved and n > 1 else 1 for axis, n in zip(axes, level.shape, strict=True)
    )


def _read_factors(given: Any, axes: Sequence[NgffAxis]) -> Factors:
    """Return factors along each axis from factors by name."""
    if not isinstance(given, Mapping):
        raise OptionError(f"levels: a level is factors by axis ({{'y': 2}}), but got {given!r}")
    allowed = [axis.name for axis in axes if axis.name in SHRINKING]
    for name, factor in given.items():
        if name not in allowed:
            raise OptionError.unknown("axis in levels", str(name), allowed)
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise OptionError(
                f"levels: a factor must be a whole number of at least 1, but {name} got {factor!r}"
            )
    factors = tuple(given.get(axis.name, 1) for axis in axes)
    if math.prod(factors) == 1:
        raise OptionError(f"levels: {dict(given)!r} makes nothing smaller")
    return factors
