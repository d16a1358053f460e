"""The metadata of one file as values, and the collector that readers add them to."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.metadata.times import is_blank_time, read_time
from intake_tiffstack.metadata.units import (
    METRES,
    SECONDS,
    UNCALIBRATED,
    as_number,
    fault_of_step,
    is_place,
    unit_name,
)
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.structure import Packing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["CHANNEL_KEYS", "FACT_KEYS", "PACKING_KEYS", "REGULAR", "FileMetadata", "Findings"]

CHANNEL_KEYS = (
    "channel_names",
    "channel_colors",
    "emission_wavelengths",
    "excitation_wavelengths",
    "display_ranges",
)
"""Keys of values per channel: text, ``#rrggbb``, nm, nm, [darkest, brightest]."""

PACKING_KEYS = Packing.KEYS
"""Keys of how stored numbers mean values, as the first file has them."""

BAND_KEYS = ("band_names", "band_units", "color_table")
"""Keys of lists: text per band, text per band, [red, green, blue] per stored number."""

FACT_KEYS = (
    *(
        "acquired",
        "created",
        "objective",
        "instrument",
        "software",
        "crs",
        "affine",
        "orientation",
    ),
    *(PACKING_KEYS + BAND_KEYS),
)
"""Keys of values per file."""

REGULAR = 1e-3
"""Times are evenly spaced if none of the steps differs by more from their mean, relatively."""

_DIMS = frozenset("tzyx")


@dataclass(frozen=True)
class FileMetadata:
    """The metadata of one file.

    Steps and origins are keyed by ``t``, ``z``, ``y`` and ``x``, whatever the file calls its dims,
    and also if it has no such dim: a plane may record the distance to the next.
    """

    url: str
    scale: Mapping[str, float] = field(default_factory=dict)
    """Distance from one position to the next; negative where the axis runs the other way."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of ``scale`` and ``translation``; an unknown unit is absent."""
    translation: Mapping[str, float] = field(default_factory=dict)
    """Coordinate of the centre of position 0."""
    channels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """:data:`CHANNEL_KEYS` to one value per channel; an unknown name is ``""``, others None."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """:data:`FACT_KEYS` to text, a dict or a list; times are ISO 8601 text."""
    own_channels: tuple[int, ...] = ()
    """Which of the listed channels the file holds, if it lists those of a whole set."""
    times: tuple[float, ...] = ()
    """Seconds from ``acquired`` to each time point of the file, empty if unknown."""
    heights: tuple[float, ...] = ()
    """Position of each z plane of the file, in micrometres, empty if unknown."""
    stage: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Where the stage was along ``z``, ``y`` and ``x``, in micrometres, for the first plane at each
    position of the file; those axes that are known."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """``scale.y``, ``channel_names``, ``crs``, ``times`` ... to the source of the value."""
    warnings: tuple[str, ...] = ()
    """What was ignored and why, one sentence each, naming the file."""

    def __post_init__(self) -> None:
        """Raise ValueError for a step of 0 or not finite, or a unit without a step."""
        if not all(math.isfinite(step) and step != 0 for step in self.scale.values()):
            raise ValueError(f"steps should be finite and not 0, but got {dict(self.scale)}")
        if not self.units.keys() <= self.scale.keys() <= _DIMS:
            raise ValueError(
                f"scale {dict(self.scale)} should be of t, z, y and x, and units of those in it, "
                f"but got {dict(self.units)}"
            )
        unknown = (self.channels.keys() - set(CHANNEL_KEYS)) | (self.facts.keys() - set(FACT_KEYS))
        if unknown:
            raise ValueError(f"channels and facts have known keys, but got {sorted(unknown)}")

    def channel_values(self, key: str) -> tuple[Any, ...]:
        """Return the values of the file's own channels under a key, nothing if unknown."""
        values = self.channels.get(key, ())
        if self.own_channels and len(values) > max(self.own_channels):
            return tuple(values[number] for number in self.own_channels)
        return values

    @property
    def channel_names(self) -> tuple[str, ...] | None:
        """One per channel, ``""`` for one without a name; None if no channel has a name."""
        return self.channels.get("channel_names")


class Findings:
    """Collects the metadata of one file, reader by reader: the first to add a value wins."""

    def __init__(self, url: str, notes: Iterable[str] = ()) -> None:
        self.url = url
        self._where = hide_in_text(url)
        self.scale: dict[str, float] = {}
        self.units: dict[str, str] = {}
        self.translation: dict[str, float] = {}
        self.channels: dict[str, tuple[Any, ...]] = {}
        self.facts: dict[str, Any] = {}
        self.own_channels: tuple[int, ...] = ()
        self.times: tuple[float, ...] = ()
        self.heights: tuple[float, ...] = ()
        self.stage: dict[str, tuple[float, ...]] = {}
        self.provenance: dict[str, str] = {}
        self.warnings = dict.fromkeys(notes)  # ordered, each sentence once

    @property
    def file_name(self) -> str:
        """The name of the file without its folder."""
        return self._where.partition("::")[0].rpartition("/")[2]

    def warn(self, text: str) -> None:
        """Add a warning about the file."""
        self.warnings[f"{self._where}: {text}"] = None

    def note(self, key: str, source: str) -> None:
        """Record the source of a value."""
        link = "" if source.endswith(" beside") else " of"
        self.provenance[key] = f"{source}{link} {self.file_name}"

    def read_unit(self, value: Any, source: str) -> str | None:
        """Return the name of a unit; warn if it is unknown and not a word for "no unit"."""
        text = str(value)
        unit = unit_name(text)
        if unit is None and text.strip().lower() not in UNCALIBRATED:
            self.warn(f"unit {reprlib.repr(text)} of {source} is not known; ignored")
        return unit

    def add_step(
        self, dim: str, step: Any, unit: str | None, source: str, key: str, *, on_map: bool = False
    ) -> None:
        """Add a step unless it is known, absent or faulty.

        A 1 without a unit is ignored, except *on_map*, where a step may be negative too.
        """
        if dim in self.scale or step is None:
            return
        value = as_number(step)
        fault = (
            "is not a number"
            if value is None
            else fault_of_step(abs(value) if on_map else value, unit)
        )
        if value is None or fault is not None:
            self.warn(f"{key} of {source} is {reprlib.repr(step)}, which {fault}; ignored")
        elif unit is not None or value != 1 or on_map:
            self.scale[dim] = value
            self.note(f"scale.{dim}", source)
            if unit is not None:
                self.units[dim] = unit
                self.note(f"units.{dim}", source)

    def add_interval(self, interval: Any, unit: Any, source: str, key: str) -> None:
        """Add the time step in seconds; every writer uses 0 for "none"."""
        value = as_number(interval)
        if value == 0:
            return
        name = self.read_unit(unit, source)
        if name in SECONDS:
            step = interval if value is None else value * SECONDS[name]
            self.add_step("t", step, "second", source, key)
        elif name is not None:
            self.warn(f"{key} of {source} is in {name}, which is not a time; ignored")

    def add_origin(self, dim: str, origin: float, source: str) -> None:
        """Add the coordinate of position 0, if the step is known and the origin is a place."""
        if dim in self.scale and dim not in self.translation and is_place(origin):
            self.translation[dim] = origin
            self.note(f"translation.{dim}", source)

    def add_channels(self, key: str, values: Iterable[Any], source: str) -> None:
        """Add one value per channel, if any channel has one; an absent name is ``""``."""
        if key in self.channels:
            return
        found = tuple(values)
        if key == "channel_names":
            found = tuple(str(name or "") for name in found)
        if any(value not in ("", None) for value in found):
            self.channels[key] = found
            self.note(key, source)

    def add_fact(self, key: str, value: Any, source: str) -> None:
        """Add a value of the file as a whole: text, a list, or a dict without its empty values."""
        if isinstance(value, str):
            value = value.strip("\0 \r\n\t")
        elif isinstance(value, Mapping):
            value = {k: v for k, v in value.items() if v not in (None, "")}
        if value and key not in self.facts:
            self.facts[key] = value
            self.note(key, source)

    def add_number(self, key: str, value: Any, source: str) -> None:
        """Add a number of the file as a whole, 0 included, or a list of numbers."""
        if key not in self.facts:
            self.facts[key] = value
            self.note(key, source)

    def add_time(self, key: str, value: Any, source: str) -> None:
        """Add a time as ISO 8601 text; warn if it is neither blank nor readable."""
        if value is None or key in self.facts or is_blank_time(value):
            return
        time = read_time(value)
        if time is None:
            self.warn(f"{key} of {source} is {reprlib.repr(value)}, which is not a time; ignored")
        else:
            self.add_fact(key, time, source)

    def add_times(self, seconds: Sequence[float], source: str) -> None:
        """Add the seconds from ``acquired`` to each time point."""
        if seconds and not self.times and all(map(is_place, seconds)):
            self.times = tuple(seconds)
            self.note("times", source)

    def add_heights(self, heights: Sequence[float], unit: str | None, source: str) -> None:
        """Add the positions along z, if their unit is a length."""
        if heights and not self.heights and unit in METRES and all(map(is_place, heights)):
            micrometres = METRES[unit] * 1e6
            self.heights = tuple(round(height * micrometres, 9) for height in heights)
            self.note("heights", source)

    def add_stage(self, dim: str, values: Sequence[Any], unit: str | None, source: str) -> None:
        """Add the positions of the stage along a dim, if their unit is a length."""
        found = [as_number(value) for value in values]
        known = [value for value in found if value is not None and is_place(value)]
        if known and len(known) == len(found) and dim not in self.stage and unit in METRES:
            micrometres = METRES[unit] * 1e6
            self.stage[dim] = tuple(round(value * micrometres, 9) for value in known)
            self.note(f"stage.{dim}", source)

    def check_channels(self, dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Drop values that do not fit the number of channels in the file; the pixels win."""
        sizes = [n for dim, n in zip(dims, shape, strict=True) if role_of(dim) == Role.CHANNEL]
        for key, values in list(self.channels.items()):
            own = self.own_channels if max(self.own_channels, default=-1) < len(values) else ()
            if not sizes or sizes[0] in (len(values), len(own)):
                continue
            source = self.provenance.pop(key)
            del self.channels[key]
            if key == "channel_names":
                self.warn(
                    f"{source} names {len(values)} channels, but the pixels have {sizes[0]}; "
                    "ignored"
                )

    def coarsen(self, factors: Mapping[str, float]) -> None:
        """Scale y and x to another pyramid level; the centre of pixel 0 moves with its size."""
        for dim in ("y", "x"):
            if dim in self.scale and factors.get(dim, 1) != 1:
                step = self.scale[dim]
                self.scale[dim] = step * factors[dim]
                if dim not in self.translation:  # that of the full size is 0
                    self.provenance[f"translation.{dim}"] = self.provenance[f"scale.{dim}"]
                start = self.translation.get(dim, 0.0)
                self.translation[dim] = start + step * (factors[dim] - 1) / 2
        if "affine" in self.facts:
            a, b, c, d, e, f = self.facts["affine"]
            x, y = factors.get("x", 1), factors.get("y", 1)
            self.facts["affine"] = [a * x, b * y, c, d * x, e * y, f]

    def _add_regular_interval(self) -> None:
        """Take the interval of times that are evenly spaced as the step along time."""
        steps = [after - before for before, after in pairwise(self.times)]
        if "t" in self.scale or not steps:
            return
        step = round((self.times[-1] - self.times[0]) / len(steps), 9)
        if step > 0 and all(abs(one - step) <= REGULAR * step for one in steps):
            self.scale["t"], self.units["t"] = step, "second"
            self.provenance["scale.t"] = self.provenance["units.t"] = self.provenance["times"]

    def freeze(self) -> FileMetadata:
        """Return the collected metadata."""
        self._add_regular_interval()
        return FileMetadata(
            self.url,
            self.scale,
            self.units,
            self.translation,
            self.channels,
            self.facts,
            self.own_channels,
            self.times,
            self.heights,
            self.stage,
            self.provenance,
            tuple(self.warnings),
        )
