"""Metadata as its users take them: sizes in micrometre, and all keys of what a copy keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from intake_tiffstack.collection.coordinates import Coordinate, coordinate_to_json
from intake_tiffstack.dims import role_of
from intake_tiffstack.metadata.model import CHANNEL_KEYS, FACT_KEYS
from intake_tiffstack.metadata.units import METRES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PhysicalPixelSizes", "complete_metadata", "physical_pixel_sizes"]

_ABSENT: Mapping[str, Any] = {
    "coord_units": {},
    "scale": {},
    "translation": {},
    "units": {},
    "time_interval": None,
    **dict.fromkeys((*CHANNEL_KEYS, *FACT_KEYS)),
    "provenance": {},
}
"""Value of each key if nothing is known."""


class PhysicalPixelSizes(NamedTuple):
    """Extent of a pixel in micrometres; None if unknown."""

    Z: float | None
    Y: float | None
    X: float | None


def physical_pixel_sizes(metadata: Mapping[str, Any]) -> PhysicalPixelSizes:
    """Return the extent of a pixel from scale and units, where these are lengths. Pure.

    >>> physical_pixel_sizes({"scale": {"y": -0.5, "x": 2.0}, "units": {"y": "nanometer"}})
    PhysicalPixelSizes(Z=None, Y=0.0005, X=None)
    """
    scale, units = metadata.get("scale") or {}, metadata.get("units") or {}
    sizes: dict[str | None, float] = {}
    for dim, step in scale.items():
        if units.get(dim) in METRES:
            size = abs(step) if units[dim] == "micrometer" else abs(step) * METRES[units[dim]] * 1e6
            sizes.setdefault(role_of(dim), size)
    return PhysicalPixelSizes(sizes.get("z"), sizes.get("y"), sizes.get("x"))


def complete_metadata(
    kept: Mapping[str, Any],
    *,
    dims: Sequence[str],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    coords: Mapping[str, tuple[Sequence[str], NDArray[Any]]],
) -> dict[str, Any]:
    """Return metadata with all their keys, from what a copy keeps of them and its array. Pure."""
    own = {
        "dims": list(dims),
        "shape": [int(size) for size in shape],
        "dtype": str(dtype),
        "coords": {
            name: coordinate_to_json(Coordinate(tuple(along), np.asarray(values), ""))
            for name, (along, values) in coords.items()
        },
        **{key: kept.get(key, absent) for key, absent in _ABSENT.items()},
    }
    # another program may have attributes of these names
    return {**own, **{key: value for key, value in kept.items() if key not in own}}
