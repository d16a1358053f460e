"""Names cut into parts, and the ways to read the parts that differ from name to name. Pure.

Names of one make have the same separators in the same order. What stands between two separators is
a column of texts: the same in all names, or one of several readings, such as letters and a number.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import numpy as np

from intake_tiffstack.pattern.numbers import DECIMAL, SIGN, join_numbers, restore_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "Make",
    "Part",
    "encode",
    "group_makes",
    "literal",
    "readings_of",
    "width_of",
    "without_odd_names",
]

GUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_GUID_LENGTH = 36
_DAYS = {"%Y-%m-%d": "-", "%Y.%m.%d": r"\.", "%Y_%m_%d": "_", "%Y%m%d": ""}
_CLOCKS = {"%H-%M-%S": "-", "%H.%M.%S": r"\.", "%H_%M_%S": "_", "%H:%M:%S": ":", "%H%M%S": ""}
_DAY_AND_CLOCK = [day + join + clock for day in _DAYS for join in "T_- " for clock in _CLOCKS]
_TIMES = (*_DAY_AND_CLOCK, "%Y%m%d%H%M%S", "%Y-%m-%d", "%Y.%m.%d", "%Y%m%d", "%Y%j")
"""Formats of times as names write them."""


def _twos(between: str) -> str:
    return f"[0-9]{{2}}{between}[0-9]{{2}}"


_DAY = "|".join(between + _twos(between) for between in _DAYS.values())
_CLOCK = "|".join(f"{_twos(between)}{between}[0-9]{{2}}" for between in _CLOCKS.values())
_YEAR = "(?:19|20)[0-9]{2}"
# Without a clock, underscores separate numbers of any kind; A2000049 is how MODIS writes a day.
_TIME = (
    f"{_YEAR}(?:(?:{_DAY})[T_ -](?:{_CLOCK})|[0-9]{{10}}|-{_twos('-')}|\\.{_twos('[.]')}|[0-9]{{4}}"
    "|(?<=A[0-9]{4})[0-3][0-9]{2})"
)
_ATOM = f"{GUID}|(?<![0-9])(?:{_TIME})(?![0-9])"
_SPLIT = re.compile(f"({_ATOM}|[-_./ ()\\[\\],;=+#@&~!$%'])")
_NUMBER = f"(?:{SIGN})?(?:{DECIMAL}|[0-9]+)"
_FINE = re.compile(rf"{_NUMBER}|[^\W\d_]+|[\W_]")
_is_time = re.compile(_TIME.replace("(?<=A[0-9]{4})", "")).fullmatch
_is_integer = re.compile("[-+]?[0-9]+").fullmatch
_is_number = re.compile(_NUMBER).fullmatch
_WELL = re.compile("(?:[A-P]|A[A-F])(?:0[1-9]|[1-4][0-9]|[1-9])")
_PLACE = re.compile("([NS])([0-9]{2})([EW])([0-9]{3})")
_LETTER_OF_ROLE = set("CFPTZWS")

Kind = Literal["literal", "int", "float", "text", "time", "any"]


@dataclass(frozen=True, eq=False)
class Part:
    """One part of the names of a make: the same in all of them, or a column of texts."""

    kind: Kind
    """What it holds; ``any`` for a GUID, an identifier or an extension, which number nothing."""
    texts: tuple[str, ...]
    """The distinct texts."""
    codes: NDArray[np.intp]
    """Index in ``texts`` of the text of each name, shape (n_names,); empty for a literal."""
    spec: str = ""
    """Of a time: its format; of an integer: ``n`` digits where another digit may follow."""
    hint: str = ""
    """The name that the part asks for, such as ``well``."""


@dataclass(frozen=True, eq=False)
class Make:
    """Names with the same separators."""

    rows: NDArray[np.intp]
    """Their positions in the list that was grouped."""
    columns: tuple[tuple[str, ...], ...]
    """The text of each name between the separators, and the separators: every second one."""


def group_makes(names: Sequence[str]) -> list[Make]:
    """Return the names by their separators, the largest group first. Pure.

    >>> [make.rows.tolist() for make in group_makes(["t1.tif", "a-b.tif", "t2.tif"])]
    [[0, 2], [1]]
    """
    groups: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    rows: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, name in enumerate(join_numbers(names, _ATOM, _separators_of)):
        pieces = _SPLIT.split(name)
        key = _key_of(pieces)
        groups[key].append(pieces)
        rows[key].append(row)
    makes = [
        Make(
            np.array(rows[key], np.intp),
            tuple(map(_restore, zip(*pieces, strict=True))),
        )
        for key, pieces in groups.items()
    ]
    return sorted(makes, key=lambda make: -len(make.rows))


def _restore(column: tuple[str, ...]) -> tuple[str, ...]:
    known = {text: restore_numbers(text) for text in dict.fromkeys(column)}
    return tuple(map(known.__getitem__, column))


def _key_of(pieces: Sequence[str]) -> tuple[str, ...]:
    return tuple([s if len(s) == 1 else _class_of(s) for s in pieces[1::2]])


def _separators_of(name: str) -> tuple[str, ...]:
    return _key_of(_SPLIT.split(name))


def _class_of(atom: str) -> str:
    return "guid" if len(atom) == _GUID_LENGTH else re.sub("[0-9]", "0", atom)


def encode(column: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Return the distinct texts of a column in order of appearance, and the index of each. Pure."""
    numbers: dict[str, int] = {text: i for i, text in enumerate(dict.fromkeys(column))}
    codes = np.fromiter(map(numbers.__getitem__, column), np.intp, len(column))
    return tuple(numbers), codes


def literal(text: str) -> Part:
    """Return the part that is the same in all names. Pure."""
    return Part("literal", (text,), np.empty(0, np.intp))


def readings_of(column: Sequence[str], *, is_extension: bool) -> list[tuple[Part, ...]]:
    """Return the ways to read what stands between two separators, the usual one first. Pure.

    Examples
    --------
    >>> [[p.kind for p in parts] for parts in readings_of(["xy1t1", "xy1t2"], is_extension=False)]
    [['literal', 'literal', 'literal', 'int']]
    >>> glued = ["00", "01", "10", "11"]
    >>> [[p.kind for p in parts] for parts in readings_of(glued, is_extension=False)]
    [['int'], ['int', 'int']]
    """
    texts, codes = encode(column)
    if len(texts) == 1:
        return [(literal(texts[0]),)]
    whole = Part("any", texts, codes)
    if is_extension or all(re.fullmatch(GUID, text) for text in texts):
        return [(whole,)]
    if (spec := _time_format(texts)) is not None:
        return [(Part("time", texts, codes, spec=spec, hint="time"),)]
    text = Part("text", texts, codes)
    if all(map(_PLACE.fullmatch, texts)):
        return [_degrees(texts, codes)]
    if _are_wells(texts):
        return [(Part("text", texts, codes, hint="well"),)]
    if len(set(map(_shape_of, texts))) > 1:
        return [(whole,), (text,)] if _are_identifiers(texts, len(column)) else [(text,)]
    pieces = [_FINE.findall(t) for t in texts]
    fine = _fine_parts(list(zip(*pieces, strict=True)), codes)
    varying = [part for part in fine if part.kind != "literal"]
    if len(varying) > 1:
        return [fine, (text,)]
    return [fine, *_split_digits(fine)]


def _fine_parts(columns: Sequence[Sequence[str]], codes: NDArray[np.intp]) -> tuple[Part, ...]:
    """Return runs of letters and digits as parts, a well as one."""
    parts: list[Part] = []
    i = 0
    while i < len(columns):
        column: Sequence[str] = columns[i]
        hint = ""
        if i + 1 < len(columns):
            wells = [a + b for a, b in zip(column, columns[i + 1], strict=True)]
            if _are_wells(wells):
                column, hint = wells, "well"
                i += 1
        parts.append(_fine_part(column, codes, hint))
        i += 1
    return tuple(parts)


def _degrees(texts: Sequence[str], codes: NDArray[np.intp]) -> tuple[Part, ...]:
    """Return the parts of the corner of a tile of a map, ``N45E006``."""
    north, lat, east, lon = zip(*(_PLACE.fullmatch(t).groups() for t in texts), strict=True)  # type: ignore[union-attr]
    found: list[Part] = []
    for letters, degrees, hint in (north, lat, "lat"), (east, lon, "lon"):
        if len(set(letters)) == 1:
            found += [literal(letters[0]), _fine_part(degrees, codes, "")]
        else:
            found.append(
                _fine_part([a + b for a, b in zip(letters, degrees, strict=True)], codes, "")
            )
        found[-1] = replace(found[-1], hint=hint)
    return tuple(found)


def _fine_part(column: Sequence[str], codes: NDArray[np.intp], hint: str) -> Part:
    texts, fine = encode(column)
    if len(texts) == 1:
        return literal(texts[0])
    kind: Kind = "text"
    if not hint and all(map(_is_integer, texts)) and len(set(map(int, texts))) == len(texts):
        kind = "int"
    elif not hint and all(map(_is_number, texts)) and len(set(map(float, texts))) == len(texts):
        kind = "float"
    return Part(kind, texts, fine[codes], hint=hint)


def _are_wells(texts: Sequence[str]) -> bool:
    """Return whether texts such as ``B02`` name wells, and do not count under one letter.

    >>> _are_wells(["A1", "B12"]), _are_wells(["B02", "B03"]), _are_wells(["T01"])
    (True, True, False)
    >>> _are_wells(["B2", "B3"])
    False
    """
    if not all(map(_WELL.fullmatch, texts)):
        return False
    letters = {text.rstrip("0123456789") for text in texts}
    are_padded = all(text[-2:].isdigit() for text in texts)
    return len(letters) > 1 or (are_padded and not letters <= _LETTER_OF_ROLE)


def _shape_of(text: str) -> str:
    """Return where letters and digits stand in a text. Pure.

    >>> _shape_of("xy01t2"), _shape_of("B8A")
    ('a0a0', 'a0a')
    """
    return re.sub(_NUMBER, "0", re.sub(r"[^\W\d_]+", "a", text))


def _are_identifiers(texts: Sequence[str], n_names: int) -> bool:
    """Return whether texts differ from name to name and number nothing, as parts of hashes do."""
    return (
        len(texts) == n_names > 2
        and len({len(text) for text in texts}) == 1
        and all(re.fullmatch("[0-9A-F]{4,}|[0-9a-f]{4,}", text) for text in texts)
    )


def without_odd_names(make: Make) -> list[Make]:
    """Return the make without the few names that have other words where most count. Pure.

    >>> names = ["t1.tif", "t2.tif", "notes.tif", "t3.tif"]
    >>> [make.rows.tolist() for make in without_odd_names(group_makes(names)[0])]
    [[0, 1, 3], [2]]
    """
    for column in make.columns:
        texts, codes = encode(column)
        if len(texts) == 1 or len(texts[0]) == _GUID_LENGTH:
            continue
        shapes = [_shape_of(text) for text in texts]
        counts = Counter(shapes)
        if len(counts) == 1:
            continue
        most = max(counts, key=lambda shape: (counts[shape], shape))
        usual = [text for text, shape in zip(texts, shapes, strict=True) if shape == most]
        letters = re.match(r"[^\W\d_]*", usual[0])
        start = letters[0] if letters else ""
        odd = [not text.startswith(start) and not text[:1].isdigit() for text in texts]
        is_counted = "0" in most and all(text.startswith(start) for text in usual)
        if is_counted and len(usual) > 2 and 0 < 3 * sum(odd) <= len(texts):
            is_odd = np.array(odd)[codes]
            return [_take(make, np.flatnonzero(~is_odd)), _take(make, np.flatnonzero(is_odd))]
    return [make]


def _take(make: Make, places: NDArray[np.intp]) -> Make:
    columns = tuple(tuple(column[i] for i in places.tolist()) for column in make.columns)
    return Make(make.rows[places], columns)


def _time_format(texts: Sequence[str]) -> str | None:
    """Return the format by which all texts are times, None if there is none. Pure.

    >>> _time_format(["2020-03-23T16-00-31"]), _time_format(["2000049"]), _time_format(["0049"])
    ('%Y-%m-%dT%H-%M-%S', '%Y%j', None)
    """
    if not all(map(_is_time, texts)):
        return None
    return next((spec for spec in _TIMES if all(_fits(text, spec) for text in texts)), None)


def _fits(text: str, spec: str) -> bool:
    try:
        return datetime.strptime(text, spec).strftime(spec) == text
    except ValueError:
        return False


def width_of(texts: Sequence[str]) -> int | None:
    """Return the number of characters of each text, None where they differ. Pure."""
    widths = {len(text) for text in texts}
    return widths.pop() if len(widths) == 1 else None


def _split_digits(parts: tuple[Part, ...]) -> list[tuple[Part, ...]]:
    """Return readings of one number of fixed width as two: pair and frame in ``2image_01``."""
    at = next((i for i, part in enumerate(parts) if part.kind == "int"), None)
    if at is None:
        return []
    part = parts[at]
    if not all(map(str.isdigit, part.texts)):
        return []
    width = width_of(part.texts)
    numbers = sorted(map(int, part.texts))
    is_regular = len(set(np.diff(numbers).tolist())) < 2
    if width is None or not 2 <= width <= 8 or is_regular or len(numbers) < 4:
        return []
    found = []
    for k in sorted(range(1, width), key=lambda k: abs(2 * k - width)):  # the middle first
        halves = [
            _fine_part([t[cut] for t in part.texts], part.codes, "")
            for cut in (slice(k), slice(k, None))
        ]
        if all(half.kind == "int" for half in halves):
            found.append((*parts[:at], *halves, *parts[at + 1 :]))
    return found
