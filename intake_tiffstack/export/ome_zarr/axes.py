"""The axes of an OME-Zarr image: the dim of each, its scale and translation. Pure.

An image has at most five axes, ``t c z y x``, in this order.

References
----------
https://ngff.openmicroscopy.org/0.5, sections "axes" and "multiscales" metadata.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError, warn
from intake_tiffstack.metadata.units import METRES, SECONDS

__all__ = ["AXES", "NgffAxis", "assign_axes", "describe_axes"]

AXES = ("t", "c", "z", "y", "x")
"""The axes, in the order in which they are stored."""

Kind = Literal["time", "channel", "space", "other"]

_AXIS_OF: Mapping[str | None, str] = {
    Role.TIME: "t",
    Role.CHANNEL: "c",
    **{name: name for name in ("z", "y", "x")},
}
_UNITS: Mapping[Kind, frozenset[str]] = {
    "space": frozenset(METRES) - {"thou", "decameter"},  # NGFF lists neither
    "time": frozenset(SECONDS) - {"decasecond"},
    "channel": frozenset(),
    "other": frozenset(),
}


@dataclass(frozen=True)
class NgffAxis:
    """One axis of an image."""

    name: str
    """One of `AXES`, or that of its dim if it is of another kind."""
    dim: str
    """Name of the dim in the collection."""
    scale: float = 1.0
    """Distance of neighbouring pixels; 1 if unknown."""
    translation: float = 0.0
    """Position of the centre of the first pixel."""
    unit: str | None = None
    """Of scale and translation, as NGFF spells it; None if unknown."""

    def __post_init__(self) -> None:
        if self.name not in AXES and self.name != self.dim:
            raise ValueError(f"{self.name!r} is not an axis of an OME-Zarr image")
        if not self.scale > 0 or not math.isfinite(self.scale):
            raise ValueError(f"axis {self.name} has a scale of {self.scale}")

    @property
    def kind(self) -> Kind:
        """Its type; in the metadata another kind is called by the name of the axis."""
        if self.name not in AXES:
            return "other"
        return "time" if self.name == "t" else "channel" if self.name == "c" else "space"


def assign_axes(sizes: Mapping[str, int], *, takes_other: bool = False) -> dict[str, str]:
    """Return the dim of each axis, in the order of the axes. Pure.

    Of two dims of one role, the one longer than 1 is used; the samples of RGB pixels are channels
    if there are no other channels.

    Parameters
    ----------
    sizes : mapping[str, int]
        Dims and their lengths.
    takes_other : bool
        Whether a dim without a role, such as an angle, is an axis if there are no channels.

    Raises
    ------
    OptionError
        If y or x is missing.

    Examples
    --------
    >>> assign_axes({"y": 8, "x": 8, "sample": 3, "time": 5, "well": 4})
    {'t': 'time', 'c': 'sample', 'y': 'y', 'x': 'x'}
    >>> assign_axes({"angle": 4, "y": 8, "x": 8}, takes_other=True)
    {'angle': 'angle', 'y': 'y', 'x': 'x'}
    """
    found: dict[str, str] = {}
    for dim, size in sizes.items():
        axis = _AXIS_OF.get(role_of(dim))
        if axis is not None and (axis not in found or sizes[found[axis]] == 1 < size):
            found[axis] = dim
    if "sample" in sizes and sizes.get(found.get("c", ""), 1) == 1:
        found["c"] = "sample"
    for axis in ("y", "x"):
        if axis not in found:
            raise OptionError(
                f"an OME-Zarr image has the dims y and x, but got {', '.join(sizes)}; "
                "`file_dims` names the dims of the files"
            )
    order = list(AXES)
    others = [dim for dim, n in sizes.items() if role_of(dim) is None and n > 1 and dim != "file"]
    if takes_other and "c" not in found and len(others) == 1:
        found[others[0]] = others[0]
        order.insert(1, others[0])
    return {axis: found[axis] for axis in order if axis in found}


def describe_axes(
    dims: Mapping[str, str], attrs: Mapping[str, Any], *, has_world: bool = False
) -> tuple[NgffAxis, ...]:
    """Return the axes with scale, translation and unit from the metadata of a collection.

    Warns of an axis of negative scale, which OME-Zarr 0.4 and 0.5 cannot represent.

    Parameters
    ----------
    dims : mapping[str, str]
        Axis to dim, as :func:`assign_axes` gives them.
    attrs : mapping of str
        With ``scale``, ``translation`` and ``units`` by dim, and ``time_interval`` in seconds.
    has_world : bool
        Whether a second coordinate system has the negative scales; then there is no warning.
    """
    scales, units = dict(attrs.get("scale") or {}), dict(attrs.get("units") or {})
    starts = attrs.get("translation") or {}
    interval = attrs.get("time_interval")
    if "t" in dims and interval and dims["t"] not in scales:
        scales[dims["t"]], units[dims["t"]] = interval, "second"
    axes = []
    for name, dim in dims.items():
        scale, start = float(scales.get(dim, 1.0)), float(starts.get(dim, 0.0))
        if scale <= 0:
            if not has_world:
                warn(
                    f"{dim} has a scale of {scale:g}: OME-Zarr has no negative scales before 0.6, "
                    "so its absolute value is stored, without a translation"
                )
            scale, start = abs(scale) or 1.0, 0.0
        axis = NgffAxis(name, dim, scale, start)
        unit = units.get(dim) if dim in scales else None  # a step of 1 pixel is not of 1 unit
        axes.append(NgffAxis(name, dim, scale, start, unit if unit in _UNITS[axis.kind] else None))
    return tuple(axes)
