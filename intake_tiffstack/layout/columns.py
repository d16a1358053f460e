"""What the names say, one field at a time: its distinct values in order, and which a file has.

Everything here is pure. ``sel``, ``labels`` and ``sizes`` speak of values in the names, so they are
read here, before any grid is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import LayoutError, MissingFilesError, OptionError
from intake_tiffstack.formatting import few, format_value
from intake_tiffstack.layout.selection import is_selected
from intake_tiffstack.natural_sort import natural_key, well_key
from intake_tiffstack.pattern.field_columns import Numbers
from intake_tiffstack.pattern.fields import parse_selection, parse_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from intake_tiffstack.pattern.fields import Field
    from intake_tiffstack.pattern.matching import Matches

__all__ = [
    "Column",
    "coordinate_array",
    "field_without_pattern",
    "given_value",
    "infer_step",
    "order_column",
    "select_files",
    "stray_error",
]


@dataclass(frozen=True, eq=False)
class Column:
    """One field of all names: its distinct values in order, and which of them each file has."""

    name: str
    """The field."""
    keys: Sequence[Any]
    """Distinct values as the names have them, in the order of the positions."""
    values: Sequence[Any]
    """What stands for each of them in a coordinate; ``keys`` but where ``labels`` renames."""
    codes: NDArray[np.intp]
    """Position in ``keys`` of each file."""

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.values):
            raise ValueError(f"{len(self.keys)} keys but got {len(self.values)} values")


def given_value(value: Any) -> Any:
    """Return *value* as an option gives it, for advice: a time as text. Pure."""
    return format_value(value) if isinstance(value, np.datetime64 | np.timedelta64) else value


def infer_step(keys: Sequence[int]) -> int | None:
    """Return the step of ascending integers that are an arithmetic progression with gaps. Pure.

    None where they are not: fewer than two of them, or less than half of the neighbours lie one
    step apart.

    >>> infer_step([0, 10, 20, 40]), infer_step([0, 1, 3]), infer_step([2, 17, 76])
    (10, 1, None)
    """
    gaps = np.diff(np.asarray(keys))
    if not len(gaps):
        return None
    step = gcd(*gaps.tolist())
    return step if 2 * np.count_nonzero(gaps == step) >= len(gaps) else None


def coordinate_array(values: Sequence[Any]) -> NDArray[Any]:
    """Return *values* as the array of a coordinate, typed where one type holds them all. Pure.

    Else they stay Python objects: NumPy would turn a number beside text into text, and integers
    beyond 64 bits into floats.

    >>> coordinate_array([0, 10]).dtype.kind, coordinate_array(["DAPI", 2]).dtype.kind
    ('i', 'O')
    >>> coordinate_array([date(2024, 1, 31)])
    array(['2024-01-31T00:00:00.000000'], dtype='datetime64[us]')
    """
    if isinstance(values, Numbers):
        return values.array
    kinds = set(map(type, values))
    if kinds and kinds <= {date, datetime} and not any(getattr(v, "tzinfo", None) for v in values):
        return np.array(values, dtype="datetime64[us]")  # YAML reads 2024-01-31 as a date
    array = np.array(values)
    is_mixed = str in kinds and len(kinds) > 1
    is_rounded = array.dtype.kind == "f" and kinds == {int}
    return np.array(values, dtype=object) if is_mixed or is_rounded else array


def stray_error(strays: Sequence[str], pattern: str) -> LayoutError:
    """Return the error for TIFFs that the pattern does not match; a warning has its text. Pure."""
    names = few([path.rpartition("/")[2] for path in strays], 3)
    verb, them = ("does", "it") if len(strays) == 1 else ("do", "them")
    return LayoutError(
        f"{len(strays):,} of the TIFFs listed {verb} not match the pattern '{pattern}': {names}; "
        f"leave {them} out with `exclude`, or set unmatched='ignore'",
        paths=list(strays[:8]),
    )


def select_files(matches: Matches, fields: Sequence[Field], sel: Mapping[str, Any]) -> Matches:
    """Return the matches of the files whose names have the values that *sel* asks for. Pure.

    Parameters
    ----------
    matches : Matches
        What the names say.
    fields : sequence of Field
        The fields of the pattern.
    sel : mapping of str
        A value, a list of values, or ``{"from": a, "to": b}`` with both ends included (one of them
        may be left out) for a field. Values are given in the field's kind or as text; numbers and
        times compare by value, text exactly, ranges of text in natural order; a date without a
        clock is the whole day, a year the whole year.

    Raises
    ------
    OptionError
        If a field is unknown, no file has a value, or no file is left.
    """
    if not sel:
        return matches
    keep = np.ones(len(matches.indices), dtype=bool)
    known = {field.name: field for field in fields if field.name in matches.fields}
    for name, wanted in sel.items():
        if name not in known:
            raise OptionError(
                f"unknown field in sel {name!r}; the names have {', '.join(known)}. sel keeps "
                "whole files; along what lies inside them index the array: "
                f"{_index_example(name)}",
                field=name,
            )
        reading = matches.fields[name]
        keep &= _selected_keys(known[name], wanted, reading.keys)[reading.codes]
    if not keep.any():
        asked = ", ".join(f"{name}: {wanted}" for name, wanted in sel.items())
        raise OptionError(
            f"sel: no file has all of {asked}, though each of them has files", sel=dict(sel)
        )
    return matches.take(np.flatnonzero(keep))


def field_without_pattern(name: str) -> OptionError:
    """Return the error for a field in ``sel`` where nothing says how names are read. Pure."""
    return OptionError(
        f"sel names the field {name!r}, but no pattern says where it stands in the names: give one,"
        f" such as '{{}}_{name}{{{name}:d}}.tif'. sel keeps whole files; along what lies inside "
        f"them index the array: {_index_example(name)}",
        field=name,
    )


def _index_example(name: str) -> str:
    return f"to_xarray().isel({name}=...)"


def _selected_keys(field: Field, wanted: Any, keys: Sequence[Any]) -> NDArray[np.bool_]:
    """Return whether *wanted*, one entry of ``sel``, selects each of *keys*; at least one."""

    def absent_error(absent: Sequence[Any]) -> OptionError:
        what = few(sorted(absent, key=lambda value: _sort_key(field, value))) or "nothing"
        return OptionError(f"sel: no file has {field.name} = {what}; the names have {few(keys)}")

    chosen = is_selected(
        field.name,
        keys,
        wanted,
        read=lambda value: _read(field, value, "sel", parse_selection),
        sort_key=lambda key: _sort_key(field, key),
        absent_error=absent_error,
    )
    if not chosen.any():
        raise OptionError(
            f"sel: no file has {field.name} in {dict(wanted)}; the names have {few(keys)}"
        )
    return chosen


def _read(
    field: Field, value: Any, option: str, parse: Callable[[Field, Any], Any] = parse_value
) -> Any:
    """Return *value*, given in *option*, as the names would give it."""
    try:
        return parse(field, value)
    except OptionError as exc:
        raise OptionError(f"{option}: {exc}", field=field.name) from exc


def _sort_key(field: Field, key: Any) -> Any:
    if field.kind != "text":
        return key
    return well_key(key) if role_of(field.name) is Role.PLATE else natural_key(key)


def order_column(
    field: Field,
    matches: Matches,
    *,
    labels: Sequence[Any] | Mapping[Any, Any] | None = None,
    size: int | None = None,
) -> Column:
    """Return the positions of *field* and which of them each file has. Pure.

    Parameters
    ----------
    field : Field
    matches : Matches
        The field, and what the names say.
    labels : sequence[object] or mapping of object, optional
        The field's values as written, in the order wanted, or the label of each; None: numbers in
        numeric order, text in natural order, wells and rows as on a plate.
    size : int, optional
        How many positions there must be; None: as many as the names give.

    Raises
    ------
    OptionError
        If *labels* contradict themselves.
    LayoutError
        If *labels* does not list a value, or there are more positions than *size*.
    MissingFilesError
        If there are fewer positions than *size* and the absent ones cannot be inferred.
    """
    reading = matches.fields[field.name]
    found, codes = reading.keys, reading.codes
    keys: Sequence[Any] = found
    names: dict[Any, Any] = {}
    if labels is not None:
        names = _read_labels(field, labels)
        _check_listed(field, matches, names)
        present = set(keys)
        keys = [key for key in names if key in present]
    elif field.kind == "text" and role_of(field.name) is Role.PLATE:
        keys = sorted(keys, key=well_key)
    if size is not None and len(keys) != size:
        keys = _complete_keys(field, list(keys), size, list(names))
    if keys is not found and keys != list(found):
        position = {key: code for code, key in enumerate(keys)}
        codes = np.array([position[key] for key in found], np.intp)[codes]
    ordered = keys if isinstance(keys, Numbers) else tuple(keys)
    return Column(
        name=field.name,
        keys=ordered,
        values=tuple(names.get(key, key) for key in keys) if names else ordered,
        codes=codes,
    )


def _read_labels(field: Field, labels: Sequence[Any] | Mapping[Any, Any]) -> dict[Any, Any]:
    """Return {value in the names: label}, in the order of *labels*."""
    if isinstance(labels, str) or not isinstance(labels, Sequence | Mapping) or not labels:
        raise OptionError(
            f"labels: {field.name} takes a list of texts or {{text: label}}, but got {labels!r}"
        )
    keys = [_read(field, text, "labels") for text in labels]
    names = list(labels.values()) if isinstance(labels, Mapping) else keys
    for name in names:
        if not isinstance(name, str | int | float | np.datetime64 | np.timedelta64):
            raise OptionError(f"labels: a label of {field.name} is a text, but got {name!r}")
    for what, values in (("text", keys), ("label", names)):
        if len(set(values)) != len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise OptionError(f"labels: {field.name} has the {what} {format_value(twice)} twice")
    return dict(zip(keys, names, strict=True))


def _check_listed(field: Field, matches: Matches, names: Mapping[Any, Any]) -> None:
    """Raise where the names have a value of *field* that ``labels`` does not list."""
    reading = matches.fields[field.name]
    unlisted = [code for code, key in enumerate(reading.keys) if key not in names]
    if not unlisted:
        return
    rows = np.flatnonzero(np.isin(reading.codes, unlisted))
    texts = list(dict.fromkeys(matches.take(rows).texts[field.name]))
    raise LayoutError(
        f"labels: {field.name} lists {few(list(names))}, but the names have also "
        f"{few(sorted(texts, key=natural_key))} ({len(rows)} files): add to labels what belongs"
        " there and leave the rest out by sel or exclude",
        field=field.name,
        texts=texts[:8],
    )


def _complete_keys(field: Field, keys: list[Any], size: int, listed: list[Any]) -> list[Any]:
    """Return *size* positions: *keys* and those that no file has."""
    name, found = field.name, len(keys)
    if found > size:
        raise LayoutError(
            f"sizes: {name} should have {size} positions, but the names have {found}: {few(keys)}",
            dim=name,
        )
    if listed:
        if len(listed) != size:
            raise OptionError(
                f"sizes: {name} should have {size} positions, but labels lists {len(listed)}"
            )
        return listed
    step = infer_step(keys) if field.kind == "int" else None
    if step is not None:
        completed = range(keys[0], keys[0] + size * step, step)
        if keys[-1] in completed:
            return list(completed)
    is_digits = field.kind == "text" and all(str(key).isdecimal() for key in keys)
    count = f"write {{{name}:d}} in the pattern, so that they are numbers, or " if is_digits else ""
    raise MissingFilesError(
        f"sizes: {name} should have {size} positions, but the names have {found}: {few(keys)}; "
        f"which are absent cannot be inferred from these: {count}list all {size} in labels",
        dim=name,
    )
