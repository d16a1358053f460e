"""The pyramid of an OME-Zarr 0.6 image in the form of 0.5. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intake_tiffstack.errors import StorageError

__all__ = ["V06", "read_v06"]

V06 = "0.6"


def read_v06(multiscale: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Return the axes and levels of an image in its intrinsic coordinate system.

    Other coordinate systems, and transformations to them, are left out.

    Parameters
    ----------
    multiscale : mapping of str
        In the form of OME-Zarr 0.6.
    url : str
        Of the image, for an error.

    Raises
    ------
    StorageError
        If it is damaged, or a level has another transformation than a scale and a translation, or
        one whose numbers are stored in an array.
    """
    try:
        systems = {system["name"]: system["axes"] for system in multiscale["coordinateSystems"]}
        outputs = {
            step["output"]["name"]
            for dataset in multiscale["datasets"]
            for step in dataset["coordinateTransformations"]
        }
        (intrinsic,) = outputs
        axes = systems[intrinsic]
        datasets = [
            {
                "path": dataset["path"],
                "coordinateTransformations": _read_steps(
                    dataset["coordinateTransformations"], len(axes)
                ),
            }
            for dataset in multiscale["datasets"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise StorageError(
            f"{url} is not a valid OME-Zarr {V06}, or places its levels by other transformations "
            f"than scale and translation: {exc!r}; dask.array.from_zarr opens any level",
            url=url,
        ) from exc
    kept = {k: multiscale[k] for k in ("name", "type", "metadata") if k in multiscale}
    return {**kept, "axes": axes, "datasets": datasets}


def _read_steps(transformations: Any, count: int) -> list[dict[str, Any]]:
    """Return a scale and, if there is one, a translation.

    >>> _read_steps([{"type": "identity"}], 2)
    [{'type': 'scale', 'scale': [1.0, 1.0]}]
    """
    (step,) = transformations
    steps = step["transformations"] if step["type"] == "sequence" else [step]
    found = []
    for one in steps:
        if one["type"] == "identity":
            found.append({"type": "scale", "scale": [1.0] * count})
        elif one["type"] in ("scale", "translation"):
            found.append({"type": one["type"], one["type"]: one[one["type"]]})
        else:
            raise ValueError(f"a transformation of type {one['type']!r}")
    return found
