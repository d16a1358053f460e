"""Steps, units and origins of a collection, with where each was learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.placement import TOLERANCE, is_georeferenced
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError, warn
from intake_tiffstack.layout.lookup import dim_of_role, index_of, positions_of, steps_by_one
from intake_tiffstack.metadata.model import REGULAR
from intake_tiffstack.metadata.units import METRES, SECONDS, UNCALIBRATED, as_number, unit_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Dim, Layout
    from intake_tiffstack.metadata.model import FileMetadata

__all__ = ["FILE_NAMES", "Calibration", "is_one_place"]

FILE_NAMES = "file names"
"""The provenance of what is written in the names."""

SAME = 1e-4
"""Steps that differ by less, relatively, are one: writers round to four digits or so."""

_ROLES = {"t": Role.TIME, "z": Role.Z, "y": Role.Y, "x": Role.X}
_TO_SI = METRES | SECONDS


class Calibration:
    """Scale, translation and units of the result's dims, with where each was learnt."""

    def __init__(self, dims: Sequence[str]) -> None:
        self.dims = dims
        self.scale: dict[str, float] = {}
        self.translation: dict[str, float] = {}
        self.units: dict[str, str] = {}
        self.provenance: dict[str, str] = {}
        self.unplaced: set[str] = set()
        """Dims of a map along which the place is not known: they have no coordinates."""
        self._counted_times: set[str] = set()
        """Dims whose step is the interval of the times in one of several files along them."""

    @property
    def time_interval(self) -> float | None:
        """Seconds from one time point to the next."""
        for dim, unit in self.units.items():
            if role_of(dim) == Role.TIME and dim in self.scale and unit in SECONDS:
                return self.scale[dim] * SECONDS[unit]
        return None

    def take_files(
        self,
        layout: Layout,
        files: Mapping[int, FileMetadata],
        except_dims: Iterable[str],
        doubts: Mapping[str, str],
    ) -> None:
        """Take what names and files say, along the dims that no option calibrates.

        Where the place along y or x is in doubt it is left out.
        """
        is_map = is_georeferenced(files)
        for letter, role in _ROLES.items():
            dim = dim_of_role(layout, role)
            if dim is None and letter == "z":
                self._take_thickness(files.values())
            if dim is None or dim.name in except_dims:
                continue
            index = index_of(layout, dim)
            seconds = _regular_seconds(index)
            if seconds is not None:
                self._keep("scale", dim.name, seconds, FILE_NAMES)
                self._keep("units", dim.name, "second", FILE_NAMES)
            elif dim.file_dim is not None or steps_by_one(index):
                self._take_agreed(layout, dim, letter, files, doubts)
                if letter in ("y", "x") and dim.name not in self.translation and is_map:
                    self.unplaced.add(dim.name)

    def _take_thickness(self, files: Iterable[FileMetadata]) -> None:
        """Take the distance to the next plane under ``z`` where files hold one plane each."""
        first = _agreed_step(files, "z", "z")
        if first is None:
            return
        self._keep("scale", "z", first.scale["z"], first.provenance["scale.z"])
        if "z" in first.units:
            self._keep("units", "z", first.units["z"], first.provenance["units.z"])

    def _take_agreed(
        self,
        layout: Layout,
        dim: Dim,
        letter: str,
        files: Mapping[int, FileMetadata],
        doubts: Mapping[str, str],
    ) -> None:
        first = _agreed_step(files.values(), letter, dim.name)
        if first is None:
            return
        self._keep("scale", dim.name, first.scale[letter], first.provenance[f"scale.{letter}"])
        if letter in first.units:
            self._keep("units", dim.name, first.units[letter], first.provenance[f"units.{letter}"])
        if letter == "t" and len(first.times) > 1 and dim.offsets is not None:
            interval = (first.times[-1] - first.times[0]) / (len(first.times) - 1)
            if math.isclose(interval, first.scale["t"], rel_tol=REGULAR):
                self._counted_times.add(dim.name)
        # Along an axis of the grid files begin at different places: the first ones count.
        if letter in doubts:
            return
        starts = positions_of(layout, dim, files)
        at_start = [file for row, file in files.items() if starts.get(row) == 0]
        origin = agreed_origin(at_start, letter)
        if len(origin) == 1:
            source = origin[0].provenance[f"translation.{letter}"]
            self._keep("translation", dim.name, origin[0].translation[letter], source)
        elif origin and is_one_place(layout):
            places = [f"{file.url} begins at {file.translation[letter]:.9g}" for file in origin]
            warn(
                f"files disagree on the place along {dim.name}: {' but '.join(places)}; it is left "
                "out, give the option translation to settle it"
            )

    def take_times(self, dim: str, seconds: NDArray[Any], source: str) -> bool:
        """Take the interval of time points that are evenly spaced, if none is known.

        Returns whether the step of one file is dropped, since those of all are uneven.
        """
        is_counted = dim in self._counted_times and self.provenance[f"scale.{dim}"] != "option"
        if (dim in self.scale and not is_counted) or seconds.size < 2:
            return False
        steps = np.diff(seconds)
        step = round(float(steps.mean()), 9)
        if step > 0 and bool((np.abs(steps - step) <= REGULAR * step).all()):
            self._keep("scale", dim, step, source)
            self._keep("units", dim, "second", source)
        elif is_counted:
            for key in ("scale", "units"):
                getattr(self, key).pop(dim, None)
                self.provenance.pop(f"{key}.{dim}", None)
            return True
        return False

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
        self.unplaced.difference_update(translation)

    def _keep(self, key: str, dim: str, value: Any, source: str) -> None:
        getattr(self, key)[dim] = value
        self.provenance[f"{key}.{dim}"] = source


def _option_value(option: str, dim: str, value: Any) -> float | str:
    """Return the value of an option for a dim: a finite number, or the name of the unit."""
    if option == "units" and isinstance(value, str):
        name = unit_name(value)
        if name is None and value.lower() not in UNCALIBRATED:
            warn(f"units of {dim} is {value!r}, which is not a known unit; kept as given")
        return name or value
    number = None if option == "units" else as_number(value)
    if number is None or not math.isfinite(number) or (option == "scale" and number == 0):
        wanted = {"scale": "a number other than 0", "units": "the name of a unit"}
        raise OptionError(
            f"{option} of {dim} should be {wanted.get(option, 'a number')}, but got {value!r}"
        )
    return number


def _regular_seconds(index: NDArray[Any]) -> float | None:
    """Return the step of an index of times or elapsed times if its steps are equal, in seconds.

    >>> _regular_seconds(np.array(["2024-01-01T00:00", "2024-01-01T00:05"], "datetime64[m]"))
    300.0
    """
    if index.dtype.kind not in "mM" or index.size < 2:
        return None
    steps = np.diff(index).astype("timedelta64[ns]").astype(np.int64)
    return float(steps[0] / 1e9) if steps[0] > 0 and (steps == steps[0]).all() else None


def _agreed_step(files: Iterable[FileMetadata], letter: str, dim: str) -> FileMetadata | None:
    """Return the first file that has a step along a dim; warn where another has a different one."""
    known = [file for file in files if letter in file.scale]
    for other in known[1:]:
        if not _is_same_step(known[0], other, letter):
            steps = [f"{file.url} has {_format_step(file, letter)}" for file in (known[0], other)]
            warn(
                f"files disagree on the scale along {dim}: {' but '.join(steps)}; the first is "
                "used, give the options scale and units to settle it"
            )
            break
    return known[0] if known else None


def _is_same_step(one: FileMetadata, other: FileMetadata, letter: str) -> bool:
    """Return whether two steps are equal, in whatever units; an unknown unit fits any."""
    units = one.units.get(letter), other.units.get(letter)
    factors = (1.0, 1.0)
    if None not in units and units[0] != units[1]:
        if not set(units) <= _TO_SI.keys():
            return False
        factors = (_TO_SI[str(units[0])], _TO_SI[str(units[1])])
    steps = one.scale[letter] * factors[0], other.scale[letter] * factors[1]
    return math.isclose(*steps, rel_tol=SAME)


def _format_step(file: FileMetadata, letter: str) -> str:
    return f"{file.scale[letter]:.6g} {file.units.get(letter, '(no unit)')}"


def agreed_origin(files: Iterable[FileMetadata], letter: str) -> tuple[FileMetadata, ...]:
    """Return one file if all share its origin, two that differ, or none if no origin is known."""
    known = [file for file in files if letter in file.translation]
    for other in known[1:]:
        origins = known[0].translation[letter], other.translation[letter]
        share = TOLERANCE if "affine" in known[0].facts else SAME
        if not math.isclose(*origins, rel_tol=0, abs_tol=share * abs(known[0].scale[letter])):
            return known[0], other
    return tuple(known[:1])


def is_one_place(layout: Layout) -> bool:
    """Return whether all files should show the same place, by the new dims that the names make."""
    roles = [role_of(dim.name) for dim in layout.dims if dim.file_dim is None]
    return all(role in (Role.TIME, Role.CHANNEL, Role.Z) for role in roles)
