"""Fields from the columns of a table, where names need not be read. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError
from intake_tiffstack.formatting import format_value
from intake_tiffstack.pattern.field_columns import TextColumn
from intake_tiffstack.pattern.fields import Field, Kind
from intake_tiffstack.pattern.matching import Matches, Pattern, default_concat_dim

if TYPE_CHECKING:
    from collections.abc import Callable

    from intake_tiffstack.pattern.field_columns import Reading

__all__ = ["TableMatches", "read_table"]

_NOTHING = re.compile("(?!)")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}.*)?")
_CELL = "cell"


@dataclass(frozen=True, eq=False)
class TableMatches(Matches):
    """What the columns of a table say of its files; the texts of their names say nothing."""

    @property
    def texts(self) -> dict[str, list[str]]:
        """The value of each file as text, by field."""
        return {name: [format_value(v) for v in column] for name, column in self.columns.items()}

    @property
    def unnamed(self) -> list[tuple[str, ...]]:
        """Nothing: a table has no part without a name."""
        return [() for _ in self.indices]


def read_table(
    table: Mapping[str, Sequence[Any]], paths: Sequence[str], *, has_gaps: bool = False
) -> tuple[Pattern, TableMatches, tuple[str, ...]]:
    """Return the fields of a table, what they say of each file, and the axes by default.

    A column of whole numbers holds integers (``007`` is text), one of numbers floats, one of ISO
    8601 times times, any other text. Empty columns are no fields. The axes are those by which the
    column ``cell`` counts, as ``source.files`` has it; else the fields with a role except y and x,
    which are places of a stage in a table; else all that are not floats.

    Parameters
    ----------
    table : mapping of str to sequence
        The columns, a value per file; None or an empty text where there is none.
    paths : sequence of str
        The files.
    has_gaps : bool
        Whether a column with a value for some files only is left out, instead of an error.

    Raises
    ------
    OptionError
        If a column has a value for some files only, or no column is left.
    """
    cells = table.get(_CELL)
    fields: list[Field] = []
    readings: dict[str, Reading] = {}
    for name, raw in table.items():
        empty = [_is_empty(value) for value in raw]
        if name == _CELL or all(empty) or (has_gaps and any(empty)):
            continue
        if any(empty):
            row = empty.index(True)
            raise OptionError(
                f"the table has nothing in column {name!r} for {sum(empty):,} of {len(raw):,} "
                f"files, such as {paths[row]}: fill them in, or remove the column",
                column=name,
            )
        kind, convert = _kind_of(raw)
        column = TextColumn()
        column.add([convert(value) for value in raw])
        fields.append(Field(name, kind))
        readings[name] = column.reading(kind, column.texts)
    if not fields:
        raise OptionError("the table has no column beside the URLs that has values")
    pattern = Pattern(f"columns {', '.join(readings)}", tuple(fields), _NOTHING)
    matches = TableMatches(np.arange(len(paths), dtype=np.intp), readings, pattern, paths)
    return pattern, matches, _axes_of_cells(cells, readings) or _default_axes(pattern)


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value != value  # NaN differs from itself


def _kind_of(values: Sequence[Any]) -> tuple[Kind, Callable[[Any], Any]]:
    """Return what a column holds, and what makes a value of it."""
    kinds = set(map(type, values))
    texts = [value for value in values if isinstance(value, str)]
    if _are(kinds, int, np.integer) or (kinds == {str} and all(map(_INTEGER.fullmatch, texts))):
        return "int", int
    if _are(kinds, date, np.datetime64) or (kinds == {str} and all(map(_is_time, texts))):
        return "time", _time
    if _are(kinds, int, float, np.integer, np.floating) or (
        kinds == {str} and all(map(_is_number, texts))
    ):
        return "float", float
    return "text", str


def _are(kinds: Set[type], *expected: type) -> bool:
    """Return whether all are of the kinds expected; a pandas.Timestamp is a datetime and a date."""
    # bool and timedelta64 are subclasses of whole numbers
    return kinds.isdisjoint({bool, np.timedelta64}) and all(issubclass(k, expected) for k in kinds)


def _is_number(text: str) -> bool:
    form = r"[+-]?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?"
    if re.fullmatch(form, text) is None:
        return False
    try:
        return math.isfinite(float(text))
    except ValueError:  # a point or an exponent alone
        return False


def _is_time(text: str) -> bool:
    if _TIME.fullmatch(text) is None:
        return False
    try:
        _time(text)
    except (ValueError, OverflowError):  # no day of the calendar
        return False
    return True


def _time(value: Any) -> np.datetime64:
    """Return a time in UTC, without its zone."""
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(parsed, datetime) and parsed.tzinfo is not None:
        parsed = parsed.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(parsed, "us")


def _axes_of_cells(cells: Sequence[Any] | None, readings: Mapping[str, Reading]) -> tuple[str, ...]:
    """Return the fields that number each place of ``cell``, none where they do not."""
    if cells is None or any(map(_is_empty, cells)):
        return ()
    index = [tuple(map(int, re.findall(r"-?[0-9]+", str(cell)))) for cell in cells]
    if len({len(one) for one in index}) != 1:
        return ()
    axes: list[str] = []
    for places in zip(*index, strict=True):
        codes = np.array(places)
        fitting = [
            name
            for name, reading in readings.items()
            if name not in axes and np.array_equal(reading.codes, codes)
        ]
        if not fitting:
            return ()
        axes.append(min(fitting, key=lambda name: role_of(name) is None))
    return tuple(axes)


def _default_axes(pattern: Pattern) -> tuple[str, ...]:
    roles = [f.name for f in pattern.fields if role_of(f.name) not in (None, Role.Y, Role.X)]
    others = [f.name for f in pattern.fields if f.kind != "float"]
    return default_concat_dim(pattern, roles) if roles else tuple(others)
