"""What MetaMorph writes: the UIC tags of its stacks, the MetaSeries XML of its planes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from intake_tiffstack.metadata.reader import OpenImage, Reader, copy_dict
from intake_tiffstack.metadata.readers.geotiff import floats
from intake_tiffstack.metadata.units import as_number

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = ["METASERIES", "STK"]


def interpret_stk(tags: Mapping[str, Any], subject: Subject, found: Findings) -> None:
    """Read MetaMorph's calibration, in its own unit; zero means not calibrated.

    Its planes are time points or lie along z.
    """
    sizes = subject.sizes
    source = "MetaMorph"
    unit = found.read_unit(tags.get("CalibrationUnits", ""), source)
    if tags.get("SpatialCalibration", 1):
        for dim in "yx":
            key = f"{dim.upper()}Calibration"
            found.add_step(dim, tags.get(key) or None, unit, source, key)
    try:
        distances = [d for d in floats(tags, "ZDistance").ravel().tolist() if d != 0]
        heights = floats(tags, "AbsoluteZ").ravel().tolist()
    except ValueError as exc:
        found.warn(f"{source} is ignored along z, since {exc}")
    else:
        _add_distances(distances, unit, found)
        is_valid = np.size(tags.get("AbsoluteZValid", ())) and np.all(tags["AbsoluteZValid"])
        if is_valid and len(heights) == sizes.get("z", 1):
            found.add_heights(heights, "micrometer", source)  # its stages count in micrometres
    _add_stk_times(tags.get("DatetimeCreated"), sizes, found)
    found.add_time("acquired", tags.get("CreateTime"), source)
    properties = tags.get("PlaneProperty")
    if isinstance(properties, list):
        items = [item for item in properties if isinstance(item, Mapping)]
        _add_setting({item.get("name"): item.get("value") for item in reversed(items)}, found)


def _add_distances(distances: list[float], unit: str | None, found: Findings) -> None:
    if not all(math.isclose(distance, distances[0], rel_tol=1e-3) for distance in distances):
        found.warn("MetaMorph has planes at unequal distances along z; ignored")
    elif distances:
        found.add_step("z", distances[0], unit, "MetaMorph", "ZDistance")


def _add_stk_times(times: Any, sizes: Mapping[str, int], found: Findings) -> None:
    if not isinstance(times, np.ndarray) or times.dtype.kind != "M" or not times.size:
        return
    if np.isnat(times).any():
        return
    micro = times.astype("datetime64[us]")
    found.add_time("acquired", micro[0].item(), "MetaMorph")
    if len(micro) == sizes.get("t", 1):
        seconds = (micro - micro[0]).astype(np.int64) / 1e6
        found.add_times(seconds.tolist(), "MetaMorph")


def extract_stk(image: OpenImage) -> dict[str, Any] | None:
    """Return the UIC tags, which stand in the first page."""
    return copy_dict(image.tif.stk_metadata) if image.is_first else None


def extract_metaseries(image: OpenImage) -> dict[str, Any] | None:
    """Return the XML of MetaXpress as a dict, UUIDs as text."""
    found = copy_dict(image.tif.metaseries_metadata) if image.is_first else None
    plane = None if found is None else found.get("PlaneInfo")
    if found is not None and isinstance(plane, dict):
        found["PlaneInfo"] = {k: str(v) if isinstance(v, UUID) else v for k, v in plane.items()}
    return found


def interpret_metaseries(tags: Mapping[str, Any], _: Subject, found: Findings) -> None:
    """Read what MetaXpress records of a plane; its stages count in micrometres."""
    source = "MetaSeries"
    plane = tags.get("PlaneInfo")
    if not isinstance(plane, Mapping):
        return
    if plane.get("spatial-calibration-state"):
        unit = found.read_unit(plane.get("spatial-calibration-units", ""), source)
        for dim in "yx":
            key = f"spatial-calibration-{dim}"
            found.add_step(dim, plane.get(key) or None, unit, source, key)
    found.add_time("acquired", plane.get("acquisition-time-local"), source)
    height = as_number(plane.get("z-position"))
    if height is not None:
        found.add_heights([height], "micrometer", source)
    for dim, key in (("y", "stage-position-y"), ("x", "stage-position-x"), ("z", "z-position")):
        found.add_stage(dim, [plane.get(key)], "micrometer", source)
    wavelength = as_number(plane.get("wavelength"))
    if wavelength is not None and 0 < wavelength < math.inf:
        found.add_channels("emission_wavelengths", [wavelength], source)
    _add_setting(plane, found, source)


def _add_setting(plane: Mapping[Any, Any], found: Findings, source: str = "MetaMorph") -> None:
    """Add the filter set as the channel's name, and the objective."""
    name = plane.get("_IllumSetting_")
    if isinstance(name, str):
        found.add_channels("channel_names", [name], source)
    aperture = as_number(plane.get("_MagNA_"))
    model = plane.get("_MagSetting_")
    if isinstance(model, str):
        known = aperture is not None and 0 < aperture < math.inf
        found.add_fact(
            "objective",
            {"model": model, "numerical_aperture": aperture if known else None},
            source,
        )


STK = Reader("stk", extract_stk, interpret_stk)
METASERIES = Reader("metaseries", extract_metaseries, interpret_metaseries)
