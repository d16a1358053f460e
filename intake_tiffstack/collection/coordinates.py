"""Coordinates of a collection: from names, options, calibration and the metadata of files. Pure.

xarray, the metadata and a copy all show these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.calibration import FILE_NAMES, Calibration
from intake_tiffstack.collection.channels import (
    ChannelData,
    channel_dim,
    few_sources,
    values_along,
)
from intake_tiffstack.collection.probing import is_stage_dim
from intake_tiffstack.dims import Role
from intake_tiffstack.errors import warn
from intake_tiffstack.labelled.positions import regular_positions
from intake_tiffstack.layout.lookup import dim_of_role, index_of, positions_of
from intake_tiffstack.metadata.units import METRES, SECONDS
from intake_tiffstack.to_json import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Dim, Layout
    from intake_tiffstack.metadata.model import FileMetadata

__all__ = ["Coordinate", "build_coordinates", "coordinate_to_json", "name_bands"]

COORD_LIMIT = 100
"""A coordinate with more values than this is represented by its first and its last."""

_SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True, eq=False)
class Coordinate:
    """One coordinate of the result."""

    dims: tuple[str, ...]
    """What it lies along."""
    values: NDArray[Any]
    """One per position."""
    provenance: str
    """Source of the values."""
    unit: str | None = None
    """Unit of the values, None if they have none or it is unknown."""


def build_coordinates(
    layout: Layout,
    files: Mapping[int, FileMetadata],
    known: Calibration,
    names: ChannelData | None,
    by_option: Collection[str],
    numbers: Mapping[str, NDArray[Any]],
    source: str = FILE_NAMES,
) -> dict[str, Coordinate]:
    """Return all coordinates, by name.

    Index coordinates are those of names and options. Dims that these do not label carry physical
    positions where the scale is known; along an extended dim names only count. On a map whose place
    is in doubt y and x have none. What files say of
    channels, times and heights stands beside, under names of its own.

    Parameters
    ----------
    layout : Layout
        The dims, and the coordinates that names and options give.
    files : mapping[int, FileMetadata]
        What the files that were looked at say, by row.
    known : Calibration
        Scale, translation and units.
    names : ChannelData, optional
        Of the channels, None where they are not known.
    by_option : collection of str
        Dims that the option ``coords`` labels.
    numbers : mapping[str, ndarray]
        Distinct values of integer fields before ``sel``.
    source : str
        Where the fields are from.
    """
    found = {
        name: Coordinate(tuple(dims), np.asarray(values), "option" if name in by_option else source)
        for name, (dims, values) in layout.coords.items()
    }
    labelled = {
        dim.name
        for dim in layout.dims
        if dim.name in by_option or (dim.name in found and dim.file_dim is None)
    }
    for dim in layout.dims:
        if dim.name in known.unplaced and dim.name not in by_option:
            found.pop(dim.name, None)
        elif dim.name not in labelled and dim.name in known.scale:
            found[dim.name] = _physical(dim, known)
    beside = _name_channels(layout, names)
    beside |= _times(layout, files, known, labelled, numbers)
    beside |= _heights(layout, files, known, labelled, numbers)
    beside |= _stage(layout, files)
    return found | {name: coord for name, coord in beside.items() if name not in found}


def coordinate_to_json(coord: Coordinate) -> dict[str, Any]:
    """Return a coordinate as JSON values; a long one by its first and last value.

    >>> times = np.array(["2024-01-01", "NaT"], "datetime64[D]")
    >>> coordinate_to_json(Coordinate(("t",), times, "file names"))
    {'dims': ['t'], 'size': 2, 'values': ['2024-01-01', None]}
    """
    array = coord.values
    description: dict[str, Any] = {"dims": list(coord.dims), "size": int(array.size)}
    if array.size <= COORD_LIMIT:
        return description | {"values": to_json(array)}
    first, last = array.flat[[0, -1]]
    return description | {"first": to_json(first), "last": to_json(last)}


def _physical(dim: Dim, known: Calibration) -> Coordinate:
    start = known.translation.get(dim.name, 0.0)
    values = regular_positions(start, known.scale[dim.name], dim.size)
    source = known.provenance[f"scale.{dim.name}"]
    return Coordinate((dim.name,), values, source, known.units.get(dim.name))


def _name_channels(layout: Layout, names: ChannelData | None) -> dict[str, Coordinate]:
    dim = channel_dim(layout)
    if dim is None or names is None or names.values == tuple(index_of(layout, dim).tolist()):
        return {}  # they are the index
    name = "channel" if dim.name != "channel" else "channel_name"
    return {name: Coordinate((dim.name,), np.array(names.values, dtype=str), names.provenance)}


def name_bands(layout: Layout, names: Sequence[str] | None, source: str) -> dict[str, Coordinate]:
    """Return ``band_name`` along the samples of a pixel, if the files name their bands."""
    sizes = {dim.name: dim.size for dim in layout.dims}
    if not names or sizes.get("sample") != len(names):
        return {}
    return {"band_name": Coordinate(("sample",), np.array(names, dtype=str), source)}


# -- beside the index: when and where the planes were taken --------------------------------------


def _times(
    layout: Layout,
    files: Mapping[int, FileMetadata],
    known: Calibration,
    labelled: Collection[str],
    numbers: Mapping[str, NDArray[Any]],
) -> dict[str, Coordinate]:
    """Return ``time_s`` and ``acquired`` (else ``created``) along the time dim."""
    dim = dim_of_role(layout, Role.TIME)
    if dim is None:
        return {}
    found: dict[str, Coordinate] = {}
    for key in ("acquired", "created"):
        instants = _instants(layout, dim, files, key, numbers)
        if instants is not None:
            found[key] = instants
            break
    starts = [file.facts["acquired"] for file in files.values() if "acquired" in file.facts]
    elapsed = None
    if "acquired" in found:
        since = found["acquired"].values - np.datetime64(starts[0], "us")
        elapsed = replace(found["acquired"], values=since / _SECOND, unit="second")
    elif not starts:
        elapsed = _along(
            layout, dim, files, lambda file: file.times, "times", "second", "time_s", numbers
        )
    index = index_of(layout, dim)
    if elapsed is None and index.dtype.kind == "m":
        elapsed = Coordinate((dim.name,), index / _SECOND, FILE_NAMES, "second")
    if elapsed is None and dim.name in labelled:
        elapsed = _counted(dim, known, SECONDS, "second")
    if elapsed is not None:
        found["time_s"] = elapsed
    return found


def _instants(
    layout: Layout,
    dim: Dim,
    files: Mapping[int, FileMetadata],
    key: str,
    numbers: Mapping[str, NDArray[Any]],
) -> Coordinate | None:
    """Return the absolute time of each time point, None where one is not known or they repeat."""

    def instants_of(file: FileMetadata) -> tuple[Any, ...]:
        if key not in file.facts:
            return ()
        start = np.datetime64(file.facts[key], "us")
        times = file.times if key == "acquired" else ()
        seconds = np.array(times or (0.0,))
        return tuple(start + np.round(seconds * 1e6).astype("timedelta64[us]"))

    return _along(layout, dim, files, instants_of, key, None, key, numbers)


def _heights(
    layout: Layout,
    files: Mapping[int, FileMetadata],
    known: Calibration,
    labelled: Collection[str],
    numbers: Mapping[str, NDArray[Any]],
) -> dict[str, Coordinate]:
    """Return ``z_um`` along z: where the planes were taken, else how far apart they are."""
    dim = dim_of_role(layout, Role.Z)
    if dim is None:
        return {}
    found = _along(
        layout, dim, files, lambda file: file.heights, "heights", "micrometer", "z_um", numbers
    )
    if found is None and dim.name in labelled:
        found = _counted(dim, known, METRES, "micrometer")
    return {} if found is None else {"z_um": found}


def _stage(layout: Layout, files: Mapping[int, FileMetadata]) -> dict[str, Coordinate]:
    """Return ``stage_y_um`` and the like along wells and positions: where the stage was."""
    dims = [dim for dim in layout.dims if is_stage_dim(dim.name)]
    if not dims:
        return {}
    found = {}
    for letter in "zyx":
        known = {row: file for row, file in files.items() if letter in file.stage}
        coord = _stage_along(layout, dims, known, letter) if known else None
        if coord is not None:
            found[f"stage_{letter}_um"] = coord
    return found


def _stage_along(
    layout: Layout, dims: Sequence[Dim], files: Mapping[int, FileMetadata], letter: str
) -> Coordinate | None:
    """Return the position of the first file that is known at each place along *dims*.

    None if there are files at a place, and the position of none is known.
    """
    values = np.full([dim.size for dim in dims], np.nan)
    index = {dim.name: positions_of(layout, dim, files) for dim in dims}
    for row, file in files.items():
        place: list[Any] = []
        count = 1
        for dim in dims:
            at = index[dim.name].get(row)
            if at is None:
                return None
            begin, end = (0, dim.size) if dim.offsets is None else dim.offsets[at : at + 2]
            place.append(at if dim.file_dim is None else slice(begin, end))
            count *= 1 if dim.file_dim is None else end - begin
        own = np.asarray(file.stage[letter])
        if len(own) != count:
            return None
        target = values[tuple(place)]
        if np.isnan(target).all():
            values[tuple(place)] = own.reshape(np.shape(target))
    if (np.isnan(values) & _has_file(layout, dims)).any():
        return None
    sources = dict.fromkeys(file.provenance[f"stage.{letter}"] for file in files.values())
    names = tuple(dim.name for dim in dims)
    return Coordinate(names, values, few_sources(list(sources)), "micrometer")


def _has_file(layout: Layout, dims: Sequence[Dim]) -> NDArray[np.bool_]:
    """Return whether there is a file at each place along *dims*."""
    kept = [dim.axis for dim in dims if dim.axis is not None]
    others = tuple(axis for axis in range(layout.cells.ndim) if axis not in kept)
    there = np.asarray((layout.cells >= 0).any(axis=others))
    there = there.transpose([sorted(kept).index(axis) for axis in kept])
    for place, dim in enumerate(dims):
        if dim.axis is None:
            there = np.expand_dims(there, place)
        elif dim.offsets is not None:
            there = np.repeat(there, np.diff(dim.offsets), axis=place)
    return np.broadcast_to(there, [dim.size for dim in dims])


def _counted(
    dim: Dim, known: Calibration, factors: Mapping[str, float], unit: str
) -> Coordinate | None:
    """Return the physical positions of a dim that names label, in *unit*."""
    own = known.units.get(dim.name, "")
    if dim.name not in known.scale or own not in factors:
        return None
    factor = factors[own] / factors[unit]
    start, step = known.translation.get(dim.name, 0.0), known.scale[dim.name]
    values = regular_positions(start * factor, step * factor, dim.size)
    return replace(_physical(dim, known), values=values, unit=unit)


def _along(
    layout: Layout,
    dim: Dim,
    files: Mapping[int, FileMetadata],
    get: Callable[[FileMetadata], tuple[Any, ...]],
    key: str,
    unit: str | None,
    name: str,
    numbers: Mapping[str, NDArray[Any]],
) -> Coordinate | None:
    """Return the values of the first file at each position, None if one of these has none.

    Where files at one position differ, all values are those of one line of files along the dim: the
    times of two stage positions make no interval. Values that are not strictly monotonic are not
    those of the positions: a warning says that the coordinate *name* is not added.
    """
    chosen, dissent = values_along(layout, dim, files, get, numbers.get(dim.name))
    if not chosen or not _positions_with_files(layout, dim) <= chosen.keys():
        return None
    if dissent and dim.axis is not None:
        known = {row: file for row, file in files.items() if get(file)}
        line = _longest_line(layout, dim.axis, known)
        chosen = values_along(layout, dim, line, get, numbers.get(dim.name))[0] or chosen
    is_time = isinstance(next(iter(chosen.values()))[0][0], np.datetime64)
    values = np.full(dim.size, np.datetime64("NaT", "us") if is_time else np.nan)
    for position, (own, _file) in chosen.items():
        start = position if dim.offsets is None else dim.offsets[position]
        values[start : start + len(own)] = own
    steps = np.diff(values[~(np.isnat(values) if is_time else np.isnan(values))]).astype(float)
    if not ((steps > 0).all() or (steps < 0).all()):
        if (steps != 0).any():
            first = next(iter(chosen.values()))[1].url
            warn(f"{key} from {first} are not monotonic along {dim.name}; {name} is not added")
        return None
    sources = dict.fromkeys(file.provenance[key] for _, file in chosen.values())
    return Coordinate((dim.name,), values, few_sources(list(sources)), unit)


def _longest_line(
    layout: Layout, axis: int, files: Mapping[int, FileMetadata]
) -> dict[int, FileMetadata]:
    """Return the files of the line along an axis that has most of them, of several the first."""
    lines = np.moveaxis(layout.cells, axis, 0).reshape(layout.cells.shape[axis], -1)
    best = np.isin(lines, list(files)).sum(axis=0).argmax()
    return {row: files[row] for row in lines[:, best].tolist() if row in files}


def _positions_with_files(layout: Layout, dim: Dim) -> set[int]:
    if dim.axis is None:
        return {0}
    others = tuple(axis for axis in range(layout.cells.ndim) if axis != dim.axis)
    return set(np.flatnonzero((layout.cells >= 0).any(axis=others)).tolist())
