"""What the pixels of a collection mean: options, names and files put together.

The room's face: :func:`describe_file` tells what one file says, :func:`merge` what the collection
does, with where each value was learnt. Both are pure.
"""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from intake_tiffstack.errors import OptionError, TiffStackWarning
from intake_tiffstack.file_metadata import FileMetadata, describe_file
from intake_tiffstack.pattern import role_of
from intake_tiffstack.units import METRES, SECONDS, unit_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["DimLike", "FileMetadata", "LayoutLike", "describe_file", "merge"]

COORD_LIMIT = 1000
"""A coordinate with more values than this is told by its first and its last."""

FAULT_LIMIT = 3
"""Faults of files that a warning shows; it counts the others."""

_ROLES = {"t": "time", "z": "z", "y": "y", "x": "x"}
_TO_SI = METRES | SECONDS


class DimLike(Protocol):
    """What :func:`merge` asks of a dim of the result."""

    @property
    def name(self) -> str:
        """As the user sees it."""

    @property
    def size(self) -> int:
        """Number of positions."""

    @property
    def axis(self) -> int | None:
        """Which axis of the grid makes or extends it."""

    @property
    def file_dim(self) -> int | None:
        """Which dim inside the files it is."""

    @property
    def offsets(self) -> tuple[int, ...] | None:
        """Start of each position along an extended dim, and the end."""


class LayoutLike(Protocol):
    """What :func:`merge` asks of a layout."""

    @property
    def dims(self) -> Sequence[DimLike]:
        """In the order of the result."""

    @property
    def cells(self) -> NDArray[np.int32]:
        """Row in the file table, -1 for a hole; as many axes as the grid."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""

    @property
    def coords(self) -> Mapping[str, tuple[Sequence[str], Any]]:
        """Name to dims and values, as names and options give them."""


def merge(
    layout: LayoutLike,
    files: Mapping[int, FileMetadata],
    *,
    channel_names: Sequence[str] | Mapping[Any, str] | None = None,
    scale: Mapping[str, float] | None = None,
    translation: Mapping[str, float] | None = None,
    units: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what is known of the collection as a dict that JSON can hold. Pure.

    Options beat names, and names beat files. Warns (TiffStackWarning) of files that disagree,
    naming two of them and both values, and of what was wrong in files.

    Parameters
    ----------
    layout
        The dims and their coordinates, and which file is in which cell.
    files
        What the files that were looked at say, by row in the file table; the first is preferred.
    channel_names, scale, translation, units
        The options of these names.

    Returns
    -------
    dict
        ``dims``, ``shape``, ``dtype``; ``coords`` (name to ``dims``, ``size`` and ``values``, or
        ``first`` and ``last`` where there are more than 1,000); ``scale``, ``translation`` and
        ``units`` (by dim, only what is known: position i lies at ``translation + i * scale``, the
        centre of the pixel); ``channel_names`` (list or None); ``time_interval`` (seconds or
        None); ``provenance`` (``scale.y``, ``channel_names`` ... to where it was learnt). All keys
        are always there.

    Raises
    ------
    OptionError
        An option for a dim that is not there, a step that is none, channel names of the wrong
        number.
    """
    _warn_of_faults(files.values())
    merged = _Calibration(layout)
    merged.take_files(files, except_dims=scale or {})
    merged.take_options(scale or {}, translation or {}, units or {})
    names, names_provenance = _channel_names(layout, files, channel_names)
    if names is not None:
        merged.provenance["channel_names"] = names_provenance
    return {
        "dims": [dim.name for dim in layout.dims],
        "shape": [int(dim.size) for dim in layout.dims],
        "dtype": str(np.dtype(layout.dtype)),
        "coords": {name: _coord(*coord) for name, coord in layout.coords.items()},
        "scale": merged.scale,
        "translation": merged.translation,
        "units": merged.units,
        "channel_names": names,
        "time_interval": merged.time_interval,
        "provenance": merged.provenance,
    }


def _warn(text: str) -> None:
    warnings.warn(text, TiffStackWarning, stacklevel=4)


def _warn_of_faults(files: Iterable[FileMetadata]) -> None:
    faults = [fault for file in files for fault in file.warnings]
    if faults:
        more = len(faults) - FAULT_LIMIT
        tail = [f"... and {more} more"] if more > 0 else []
        _warn("metadata of files: " + "\n".join(faults[:FAULT_LIMIT] + tail))


def _coord(dims: Sequence[str], values: Any) -> dict[str, Any]:
    """Return a coordinate as JSON can hold it.

    >>> _coord(["t"], np.array(["2024-01-01", "NaT"], "datetime64[D]"))
    {'dims': ['t'], 'size': 2, 'values': ['2024-01-01', None]}
    """
    array = np.asarray(values)
    told: dict[str, Any] = {"dims": list(dims), "size": int(array.size)}
    if array.size <= COORD_LIMIT:
        return told | {"values": _plain(array)}
    first, last = array.flat[[0, -1]]
    return told | {"first": _plain(first), "last": _plain(last)}


def _plain(value: Any) -> Any:
    """Return the value without NumPy: times as ISO text, what is no number as None."""
    if isinstance(value, np.ndarray) and value.ndim:
        return [_plain(item) for item in value]
    if isinstance(value, np.datetime64 | np.timedelta64):
        return None if np.isnat(value) else str(value)
    plain = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


# -- steps and origins -------------------------------------------------------------------------


class _Calibration:
    """Scale, translation and units of the result's dims, with where each was learnt."""

    def __init__(self, layout: LayoutLike) -> None:
        self.layout = layout
        self.scale: dict[str, float] = {}
        self.translation: dict[str, float] = {}
        self.units: dict[str, str] = {}
        self.provenance: dict[str, str] = {}

    @property
    def time_interval(self) -> float | None:
        """Seconds from one time point to the next."""
        for dim in self.layout.dims:
            unit = self.units.get(dim.name)
            if role_of(dim.name) == "time" and dim.name in self.scale and unit in SECONDS:
                return self.scale[dim.name] * SECONDS[unit]
        return None

    def take_files(self, files: Mapping[int, FileMetadata], except_dims: Iterable[str]) -> None:
        """Take what names and files say, along dims that no option calibrates."""
        for letter, role in _ROLES.items():
            dim = _calibrated_dim(self.layout, role)
            if dim is None or dim.name in except_dims:
                continue
            seconds = _regular_seconds(_index_of(self.layout, dim))
            if seconds is not None:
                self.scale[dim.name], self.units[dim.name] = seconds, "second"
                self.provenance |= dict.fromkeys((f"scale.{dim.name}", f"units.{dim.name}"), "names")
                continue
            first = _agreed_step(files.values(), letter, dim.name)
            if first is None:
                continue
            origin = _agreed_origin(self.layout, dim, files, letter)
            self._take(dim.name, "scale", first.scale[letter], first.provenance[f"scale.{letter}"])

    def take_options(
        self, scale: Mapping[str, float], translation: Mapping[str, float], units: Mapping[str, str]
    ) -> None:
        """Let the options win; a step given without a unit has none."""
