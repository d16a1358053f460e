"""The metadata of a collection: those of options, file names and files, merged. Pure."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.calibration import FILE_NAMES, SAME, Calibration, is_one_place
from intake_tiffstack.collection.channels import describe_channels
from intake_tiffstack.collection.coordinates import (
    Coordinate,
    build_coordinates,
    coordinate_to_json,
    name_bands,
)
from intake_tiffstack.collection.placement import find_doubts
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import warn
from intake_tiffstack.layout.lookup import positions_of
from intake_tiffstack.metadata.describe_file import FileMetadata, describe_file
from intake_tiffstack.metadata.model import CHANNEL_KEYS, FACT_KEYS, PACKING_KEYS
from intake_tiffstack.to_json import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Layout

__all__ = [
    "Coordinate",
    "FileMetadata",
    "Merged",
    "describe_file",
    "merge",
]

FAULT_LIMIT = 3
"""Number of faults that a warning shows; it counts the others."""

_SHOULD_AGREE = ("crs", "objective", "instrument")
"""Facts that should be the same in all files."""


@dataclass(frozen=True, eq=False)
class Merged:
    """Metadata and coordinates of a collection."""

    metadata: dict[str, Any]
    """As JSON can hold it."""
    coords: dict[str, Coordinate]
    """All coordinates, whole."""


def merge(
    layout: Layout,
    files: Mapping[int, FileMetadata],
    *,
    channel_names: Sequence[str] | Mapping[Any, str] | None = None,
    scale: Mapping[str, float] | None = None,
    translation: Mapping[str, float] | None = None,
    units: Mapping[str, str] | None = None,
    coords: Collection[str] = (),
    numbers: Mapping[str, NDArray[Any]] | None = None,
    source: str = FILE_NAMES,
) -> Merged:
    """Return the metadata and coordinates of the collection. Pure.

    Options beat names, and names beat files. Warns (TiffStackWarning) of files that disagree,
    naming two of them and both values, and of what was wrong in files.

    Parameters
    ----------
    layout : Layout
        The dims and their coordinates, and which file is in which cell.
    files : mapping[int, FileMetadata]
        What the files that were looked at say, by row in the file table; the first is preferred.
    channel_names : sequence[str] or Mapping[object, str], optional
    scale : mapping[str, float], optional
    translation : mapping[str, float], optional
    units : mapping[str, str], optional
        The options of these names.
    coords : collection of str
        The dims that the option ``coords`` labels.
    numbers : mapping[str, ndarray], optional
        Distinct values of integer fields before ``sel``, ascending, for those it may have cut.
    source : str
        Where the fields are from.

    Returns
    -------
    Merged
        Its ``metadata`` have all keys that ``docs/metadata.md`` lists, always.

    Raises
    ------
    OptionError
        If an option names a dim that is not there, a step is 0 or not a number, or the number of
        channel names is wrong.
    """
    _warn_of_faults(files.values())
    known = Calibration([dim.name for dim in layout.dims])
    doubts = find_doubts(layout, files)
    is_tiled = any(dim.offsets and role_of(dim.name) in (Role.Y, Role.X) for dim in layout.dims)
    if doubts and (is_tiled or is_one_place(layout)):
        warn(
            f"files disagree on the place along {' and '.join(doubts)}, so there are no coordinates"
            f": {next(iter(doubts.values()))}; give the option translation to settle it"
            + (", or place='georeference' to put each where it lies" if is_tiled else "")
        )
    known.take_files(layout, files, except_dims=scale or {}, doubts=doubts)
    known.take_options(scale or {}, translation or {}, units or {})
    channels = describe_channels(layout, files, channel_names, numbers or {})
    facts, sources = _merge_facts(layout, files)
    if doubts:
        facts.pop("affine", None)
        sources.pop("affine", None)
    if "affine" in facts:
        moved = {*(scale or ()), *(translation or ())}
        facts["affine"] = _affine_of(facts["affine"], known, moved, coords)
    built = build_coordinates(
        layout, files, known, channels.get("channel_names"), coords, numbers or {}, source
    )
    bands = name_bands(layout, facts.get("band_names"), sources.get("band_names", ""))
    built |= {name: coord for name, coord in bands.items() if name not in built}
    if (elapsed := built.get("time_s")) is not None and len(elapsed.dims) == 1:
        (dim,) = elapsed.dims
        if known.take_times(dim, elapsed.values, elapsed.provenance) and dim not in coords:
            built.pop(dim, None)
    metadata = {
        "dims": list(known.dims),
        "shape": [int(dim.size) for dim in layout.dims],
        "dtype": str(np.dtype(layout.dtype)),
        "coords": {name: coordinate_to_json(coord) for name, coord in built.items()},
        "coord_units": {name: coord.unit for name, coord in built.items() if coord.unit},
        # in the order of the dims, whatever that of an option: z without a dim comes last
        **{
            key: {dim: given[dim] for dim in (*known.dims, *given) if dim in given}
            for key in ("scale", "translation", "units")
            for given in [getattr(known, key)]
        },
        "time_interval": known.time_interval,
        **{key: list(channels[key].values) if key in channels else None for key in CHANNEL_KEYS},
        **{key: facts.get(key) for key in FACT_KEYS},
        "provenance": known.provenance
        | {key: values.provenance for key, values in channels.items()}
        | sources
        | {f"coords.{name}": coord.provenance for name, coord in built.items()},
    }
    return Merged(to_json(metadata), built)


def _warn_of_faults(files: Iterable[FileMetadata]) -> None:
    faults = [fault for file in files for fault in file.warnings]
    if faults:
        more = len(faults) - FAULT_LIMIT
        tail = [f"... and {more} more"] if more > 0 else []
        warn("metadata of files: " + "\n".join(faults[:FAULT_LIMIT] + tail))


def _merge_facts(
    layout: Layout, files: Mapping[int, FileMetadata]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the first file that knows says as a whole, and where; warn where they differ."""
    facts: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key in FACT_KEYS:
        known = [file for file in files.values() if key in file.facts]
        if key == "affine":
            known = _of_one_place(layout, files)
        if key in PACKING_KEYS:  # a mixture of two files would be wrong for both
            known = [file for file in list(files.values())[:1] if key in file.facts]
        if not known:
            continue
        facts[key] = known[0].facts[key]
        sources[key] = known[0].provenance[key]
        other = next((file for file in known if file.facts[key] != facts[key]), None)
        if other is not None and key in _SHOULD_AGREE:
            claims = [
                f"{file.url} has {reprlib.repr(file.facts[key])}" for file in (known[0], other)
            ]
            warn(f"files disagree on the {key}: {' but '.join(claims)}; the first is used")
    return facts, sources


def _affine_of(
    affine: Sequence[float], known: Calibration, moved: Collection[str], labelled: Collection[str]
) -> list[float] | None:
    """Return the affine where options have moved or labelled dims, None if it places no pixel.

    It is that of the files if these dims are neither y nor x.
    """
    dims = {role_of(dim): dim for dim in known.dims}
    x, y = dims.get(Role.X, ""), dims.get(Role.Y, "")
    if {x, y} & set(labelled):
        return None
    if not {x, y} & set(moved):
        return list(affine)
    a, e = known.scale.get(x), known.scale.get(y)
    if affine[1] or affine[3] or a is None or e is None or not {x, y} & known.translation.keys():
        return None
    c, f = known.translation.get(x, 0.0) - a / 2, known.translation.get(y, 0.0) - e / 2
    return [a, 0.0, c, 0.0, e, f]


def _of_one_place(layout: Layout, files: Mapping[int, FileMetadata]) -> list[FileMetadata]:
    """Return the files at the first position along y and x, none where these differ in place."""
    rows = dict.fromkeys(files)
    for dim in layout.dims:
        if role_of(dim.name) in (Role.Y, Role.X):
            starts = positions_of(layout, dim, files)
            rows = {row: None for row in rows if starts.get(row) == 0}
    known = [files[row] for row in rows if "affine" in files[row].facts]
    if not all(_is_same_affine(known[0], other) for other in known[1:]):
        return []
    return known


def _is_same_affine(one: FileMetadata, other: FileMetadata) -> bool:
    first, second = one.facts["affine"], other.facts["affine"]
    pixel = max(map(abs, (first[0], first[1], first[3], first[4])))
    return all(
        math.isclose(a, b, rel_tol=0, abs_tol=SAME * pixel)
        for a, b in zip(first, second, strict=True)
    )
