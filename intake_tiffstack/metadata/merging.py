"""What the pixels of a collection mean: options, names and files put together.

The room's face: :func:`describe_file` tells what one file says, :func:`merge` what the collection
does, with where each value was learnt. Both are pure.
"""

from __future__ import annotations

import math
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from intake_tiffstack.errors import OptionError, TiffStackWarning
from intake_tiffstack.metadata.file_metadata import FileMetadata, describe_file
from intake_tiffstack.metadata.units import METRES, SECONDS, as_number, unit_name
from intake_tiffstack.pattern.matching import role_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["DimLike", "FileMetadata", "LayoutLike", "describe_file", "merge"]

COORD_LIMIT = 1000
"""A coordinate with more values than this is told by its first and its last."""

FAULT_LIMIT = 3
"""Faults of files that a warning shows; it counts the others."""

SAME = 1e-4
"""Steps that differ by less, relatively, are one: writers round to four digits or so."""

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
    known = _Calibration([dim.name for dim in layout.dims])
    known.take_files(layout, files, except_dims=scale or {})
    known.take_options(scale or {}, translation or {}, units or {})
    names = _name_channels(layout, files, channel_names)
    if names is not None:
        known.provenance["channel_names"] = names.provenance
    return {
        "dims": list(known.dims),
        "shape": [int(dim.size) for dim in layout.dims],
        "dtype": str(np.dtype(layout.dtype)),
        "coords": {name: _coord(*coord) for name, coord in layout.coords.items()},
        "scale": known.scale,
        "translation": known.translation,
        "units": known.units,
        "channel_names": None if names is None else list(names.texts),
        "time_interval": known.time_interval,
        "provenance": known.provenance,
    }


def _warn(text: str) -> None:
    warnings.warn(text, TiffStackWarning, stacklevel=3)


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

    def __init__(self, dims: Sequence[str]) -> None:
        self.dims = dims
        self.scale: dict[str, float] = {}
        self.translation: dict[str, float] = {}
        self.units: dict[str, str] = {}
        self.provenance: dict[str, str] = {}

    @property
    def time_interval(self) -> float | None:
        """Seconds from one time point to the next."""
        for dim, unit in self.units.items():
            if role_of(dim) == "time" and dim in self.scale and unit in SECONDS:
                return self.scale[dim] * SECONDS[unit]
        return None

    def take_files(
        self, layout: LayoutLike, files: Mapping[int, FileMetadata], except_dims: Iterable[str]
    ) -> None:
        """Take what names and files say, along the dims that no option calibrates."""
        for letter, role in _ROLES.items():
            dim = _dim_of_role(layout, role)
            if dim is None or dim.name in except_dims:
                continue
            index = _index_of(layout, dim)
            seconds = _regular_seconds(index)
            if seconds is not None:
                self._keep("scale", dim.name, seconds, f"coordinate {dim.name}")
                self._keep("units", dim.name, "second", f"coordinate {dim.name}")
            elif dim.file_dim is not None or _counts_by_one(index):
                self._take_agreed(layout, dim, letter, files)

    def _take_agreed(
        self, layout: LayoutLike, dim: DimLike, letter: str, files: Mapping[int, FileMetadata]
    ) -> None:
        first = _agreed_step(files.values(), letter, dim.name)
        if first is None:
            return
        self._keep("scale", dim.name, first.scale[letter], first.provenance[f"scale.{letter}"])
        if letter in first.units:
            self._keep("units", dim.name, first.units[letter], first.provenance[f"units.{letter}"])
        # Along an axis of the grid files begin at different places: the first ones tell.
        starts = _positions(layout, dim, files)
        at_start = [file for row, file in files.items() if starts.get(row) == 0]
        origin = _agreed_origin(at_start, letter)
        if len(origin) == 1:
            source = origin[0].provenance[f"translation.{letter}"]
            self._keep("translation", dim.name, origin[0].translation[letter], source)
        elif origin and _is_one_place(layout):
            told = [f"{file.url} begins at {file.translation[letter]:.9g}" for file in origin]
            _warn(
                f"files disagree on the place along {dim.name}: {' but '.join(told)}; it is left "
                "out, give the option translation to settle it"
            )

    def take_options(
        self,
        scale: Mapping[str, float],
        translation: Mapping[str, float],
        units: Mapping[str, str],
    ) -> None:
        """Let the options win; a step that is given without a unit has none."""
        for option, given in (("scale", scale), ("translation", translation), ("units", units)):
            for dim, value in given.items():
                if dim not in self.dims:
                    raise OptionError.unknown(f"dim in {option}", str(dim), self.dims)
                self._keep(option, dim, _option_value(option, dim, value), "option")

    def _keep(self, key: str, dim: str, value: Any, source: str) -> None:
        getattr(self, key)[dim] = value
        self.provenance[f"{key}.{dim}"] = source


def _option_value(option: str, dim: str, value: Any) -> float | str:
    """Return a finite number, for the scale no 0; of ``units`` the name of the unit."""
    if option == "units" and isinstance(value, str):
        return unit_name(value) or value
    number = None if option == "units" else as_number(value)
    if number is None or not math.isfinite(number) or (option == "scale" and number == 0):
        wanted = {"scale": "a number other than 0", "units": "the name of a unit"}
        raise OptionError(
            f"{option} of {dim} should be {wanted.get(option, 'a number')}, but got {value!r}"
        )
    return number


def _dim_of_role(layout: LayoutLike, role: str) -> DimLike | None:
    """Return the dim of this role; one inside the files goes before one that the names make."""
    dims = [dim for dim in layout.dims if role_of(dim.name) == role]
    return min(dims, key=lambda dim: dim.file_dim is None, default=None)


def _index_of(layout: LayoutLike, dim: DimLike) -> NDArray[Any]:
    """Return the index coordinate of a dim, 0, 1, ... where nothing labels it."""
    if dim.name in layout.coords:
        return np.asarray(layout.coords[dim.name][1])
    return np.arange(dim.size)


def _counts_by_one(index: NDArray[Any]) -> bool:
    """Return whether positions are as far from each other as two neighbouring files say."""
    return index.dtype.kind in "iu" and bool((np.diff(index) == 1).all())


def _regular_seconds(index: NDArray[Any]) -> float | None:
    """Return the step of an index of times where all steps are one, in seconds.

    >>> _regular_seconds(np.array(["2024-01-01T00:00", "2024-01-01T00:05"], "datetime64[m]"))
    300.0
    """
    if index.dtype.kind != "M" or index.size < 2:
        return None
    steps = np.diff(index.astype("datetime64[ns]")).astype(np.int64)
    return float(steps[0] / 1e9) if steps[0] > 0 and (steps == steps[0]).all() else None


def _positions(layout: LayoutLike, dim: DimLike, rows: Iterable[int]) -> dict[int, int]:
    """Return where the files in some rows are along the grid's axis of a dim, 0 without one."""
    if dim.axis is None:
        return dict.fromkeys(rows, 0)
    where = np.nonzero(np.isin(layout.cells, list(rows)))
    return dict(zip(layout.cells[where].tolist(), where[dim.axis].tolist(), strict=True))


def _agreed_step(files: Iterable[FileMetadata], letter: str, dim: str) -> FileMetadata | None:
    """Return the first file that has a step along a dim; warn where another has a different one."""
    known = [file for file in files if letter in file.scale]
    for other in known[1:]:
        if not _is_same_step(known[0], other, letter):
            told = [f"{file.url} has {_told_step(file, letter)}" for file in (known[0], other)]
            _warn(
                f"files disagree on the scale along {dim}: {' but '.join(told)}; the first is "
                "used, give the options scale and units to settle it"
            )
            break
    return known[0] if known else None


def _is_same_step(one: FileMetadata, other: FileMetadata, letter: str) -> bool:
    """Return whether two steps are one, in whatever unit; a unit that is not known fits any."""
    units = one.units.get(letter), other.units.get(letter)
    factors = (1.0, 1.0)
    if None not in units and units[0] != units[1]:
        if not set(units) <= _TO_SI.keys():
            return False
        factors = (_TO_SI[str(units[0])], _TO_SI[str(units[1])])
    steps = one.scale[letter] * factors[0], other.scale[letter] * factors[1]
    return math.isclose(*steps, rel_tol=SAME)


def _told_step(file: FileMetadata, letter: str) -> str:
    return f"{file.scale[letter]:.6g} {file.units.get(letter, '(no unit)')}"


def _agreed_origin(files: Iterable[FileMetadata], letter: str) -> tuple[FileMetadata, ...]:
    """Return a file whose origin all share; two that differ; nothing where none is known."""
    known = [file for file in files if letter in file.translation]
    for other in known[1:]:
        origins = known[0].translation[letter], other.translation[letter]
        if not math.isclose(*origins, rel_tol=0, abs_tol=SAME * abs(known[0].scale[letter])):
            return known[0], other
    return tuple(known[:1])


def _is_one_place(layout: LayoutLike) -> bool:
    """Return whether all files should show the same place, by the new dims that the names make."""
    roles = [role_of(dim.name) for dim in layout.dims if dim.file_dim is None]
    return all(role in ("time", "channel", "z") for role in roles)


# -- channels ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Names:
    texts: tuple[str, ...]
    provenance: str


def _name_channels(
    layout: LayoutLike,
    files: Mapping[int, FileMetadata],
    option: Sequence[str] | Mapping[Any, str] | None,
) -> _Names | None:
    """Return a name for each channel, None where there is no channel dim or nothing is known."""
    dim = next((dim for dim in layout.dims if role_of(dim.name) == "channel"), None)
    if dim is None:
        if option:
            names = ", ".join(dim.name for dim in layout.dims)
            raise OptionError(
                f"channel_names names {len(option)} channels, but the result has no channel dim: "
                f"its dims are {names}"
            )
        return None
    if option is not None and not isinstance(option, Mapping):
        return _Names(_checked_names(option, dim), "option")
    index = _index_of(layout, dim).tolist()
    if dim.file_dim is None and all(isinstance(value, str) for value in index):
        found: _Names | None = _Names(tuple(index), f"coordinate {dim.name}")
    else:
        found = _names_of_files(layout, dim, files)
    return _renamed(found, option, index, dim.name) if option else found


def _checked_names(option: Sequence[str], dim: DimLike) -> tuple[str, ...]:
    if isinstance(option, str) or len(option) != dim.size:
        raise OptionError(
            f"channel_names should list {dim.size} names, one a position along {dim.name}, but got "
            f"{reprlib.repr(option)}"
        )
    return tuple(str(name) for name in option)


def _renamed(found: _Names | None, option: Mapping[Any, str], index: list[Any], dim: str) -> _Names:
    """Return the names with those that the option gives by value of the channel's coordinate."""
    places = {str(value): i for i, value in enumerate(index)}
    known = found or _Names(("",) * len(index), "option")
    texts = list(known.texts)
    for value, name in option.items():
        if str(value) not in places:
            raise OptionError.unknown(f"value of {dim} in channel_names", str(value), places)
        texts[places[str(value)]] = str(name)
    is_whole = known.provenance == "option" or len(option) == len(index)
    return _Names(tuple(texts), "option" if is_whole else f"option, else {known.provenance}")


def _names_of_files(
    layout: LayoutLike, dim: DimLike, files: Mapping[int, FileMetadata]
) -> _Names | None:
    """Return the names that files give, file by file where the grid makes the channel dim."""
    offsets = dim.offsets or (tuple(range(dim.size + 1)) if dim.axis is not None else (0, dim.size))
    sizes = np.diff(offsets).tolist()
    positions = _positions(layout, dim, files)
    index = _index_of(layout, dim)
    is_counted = dim.file_dim is None and _counts_by_one(index) and index[0] in (0, 1)
    chosen: dict[int, tuple[tuple[str, ...], FileMetadata]] = {}
    dissent: list[str] = []
    for row, file in files.items():
        position, names = positions.get(row), file.channel_names
        if position is None or names is None:
            continue
        if is_counted and len(names) == dim.size:
            names = names[position : position + 1]  # each file lists the channels of all
        if len(names) != sizes[position]:
            continue
        first, first_file = chosen.setdefault(position, (names, file))
        if first != names and not dissent:
            dissent = [
                f"{url} has {reprlib.repr(list(texts))}"
                for url, texts in ((first_file.url, first), (file.url, names))
            ]
    if dissent:
        _warn(
            f"files disagree on the names of channels: {' but '.join(dissent)}; the first are "
            "used, give the option channel_names to settle it"
        )
    if not chosen:
        return None
    parts = [chosen[i][0] if i in chosen else ("",) * size for i, size in enumerate(sizes)]
    sources = dict.fromkeys(file.provenance["channel_names"] for _, file in chosen.values())
    others = " and others" if len(sources) > 1 else ""
    return _Names(tuple(name for part in parts for name in part), next(iter(sources)) + others)
