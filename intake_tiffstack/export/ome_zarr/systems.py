"""Coordinate systems and transformations of OME-Zarr 0.6. Pure.

Each image has the system ``physical``, which levels are scaled to. If pixels lie otherwise on a map
or a stage (turned, sheared, or against the direction of an axis), a second one, ``world``, is where
they lie there.

References
----------
https://ngff.openmicroscopy.org/0.6, sections "coordinateSystems" and "coordinateTransformations".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intake_tiffstack.export.ome_zarr.axes import NgffAxis

__all__ = ["PHYSICAL", "WORLD", "find_world", "to_v06"]

PHYSICAL, WORLD = "physical", "world"


def to_v06(
    multiscale: Mapping[str, Any], world: Sequence[Sequence[float]] | None
) -> dict[str, Any]:
    """Return the pyramid of an image as OME-Zarr 0.6 has it.

    Parameters
    ----------
    multiscale : mapping of str
        As OME-Zarr 0.5 has it: each level with a scale and a translation.
    world : sequence of sequence of float, optional
        See :func:`find_world`.
    """
    found = {k: v for k, v in multiscale.items() if k not in ("axes", "datasets")}
    systems = [{"name": PHYSICAL, "axes": multiscale["axes"]}]
    if world is not None:
        systems.append({"name": WORLD, "axes": multiscale["axes"]})
        found["coordinateTransformations"] = [
            {
                "type": "affine",
                "affine": [list(row) for row in world],
                "input": {"name": PHYSICAL},
                "output": {"name": WORLD},
            }
        ]
    datasets = [
        {
            "path": dataset["path"],
            "coordinateTransformations": [_place_level(dataset)],
        }
        for dataset in multiscale["datasets"]
    ]
    return {**found, "coordinateSystems": systems, "datasets": datasets}


def _place_level(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one transformation of a level: a scale, or a scale and a translation."""
    scale, translation = dataset["coordinateTransformations"]
    ends = {"input": {"path": dataset["path"]}, "output": {"name": PHYSICAL}}
    if not any(translation["translation"]):
        return {**scale, **ends}
    return {"type": "sequence", "transformations": [scale, translation], **ends}


def find_world(axes: Sequence[NgffAxis], attrs: Mapping[str, Any]) -> list[list[float]] | None:
    """Return the affine from scaled positions to those on the map or stage, a row per axis.

    None if they are the same.

    Parameters
    ----------
    axes : sequence of NgffAxis
        With the absolute values of scales.
    attrs : mapping of str
        ``affine`` of a map, from columns and rows, counted from the corner of the first pixel, to x
        and y; else ``scale``, which may be negative, and ``translation`` by dim.

    Examples
    --------
    >>> y, x = NgffAxis("y", "y", 10.0), NgffAxis("x", "x", 10.0)
    >>> find_world((y, x), {"affine": [10, 0, 500, 0, -10, 90]})
    [[-1.0, 0.0, 85.0], [0.0, 1.0, 505.0]]
    >>> find_world((y, x), {"scale": {"y": -10, "x": 10}, "translation": {"y": 85}})
    [[-1.0, 0.0, 85.0], [0.0, 1.0, 0.0]]
    """
    names = [axis.name for axis in axes]
    count = len(names)
    matrix = np.eye(count, count + 1)
    affine, scales = attrs.get("affine"), attrs.get("scale") or {}
    if affine is not None and {"y", "x"} <= set(names):
        a, b, c, d, e, f = map(float, affine)
        at = {name: names.index(name) for name in ("y", "x")}
        step = {name: axes[i].scale for name, i in at.items()}
        start = {name: axes[i].translation for name, i in at.items()}
        for name, (by_x, by_y, origin) in {"x": (a, b, c), "y": (d, e, f)}.items():
            row = matrix[at[name]]
            row[:] = 0
            row[at["x"]], row[at["y"]] = by_x / step["x"], by_y / step["y"]
            centre = origin + (by_x + by_y) / 2
            row[-1] = centre - row[at["x"]] * start["x"] - row[at["y"]] * start["y"]
    else:
        for i, axis in enumerate(axes):
            if scales.get(axis.dim, 1) < 0:
                matrix[i, i] = -1
                matrix[i, -1] = (attrs.get("translation") or {}).get(axis.dim, 0.0)
    if np.allclose(matrix, np.eye(count, count + 1), rtol=0, atol=1e-12):
        return None
    return [[float(f"{number:.15g}") + 0.0 for number in row] for row in matrix.tolist()]
