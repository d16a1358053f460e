"""Named parts of paths: what kind of value they hold and what they are for.

Everything here is pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, cmp_to_key
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "ROLES",
    "Field",
    "Kind",
    "Role",
    "natural_key",
    "natural_order",
    "parse_value",
    "role_of",
    "text_reader",
]

Kind = Literal["int", "float", "time", "text"]
Role = Literal["plate", "position", "time", "channel", "z", "y", "x"]

#: What a dim is for, told by its name; in the order that dims take by default.
ROLES: Mapping[Role, tuple[str, ...]] = {
    "plate": ("well", "row", "column"),
    "position": ("position", "pos", "p", "field", "site", "fov", "s"),
    "time": ("t", "time", "timepoint", "frame"),
    "channel": ("c", "ch", "channel", "wave", "band"),
    "z": ("z", "slice"),
    "y": ("y",),
    "x": ("x",),
}
_ROLE_OF: dict[str, Role] = {word: role for role, words in ROLES.items() for word in words}


def role_of(dim: str) -> Role | None:
    """Return what a dim of this name is for, None where the name does not tell; pure.

    >>> role_of("Time"), role_of("slice"), role_of("sample")
    ('time', 'z', None)
    """
    return _ROLE_OF.get(dim.lower())


@dataclass(frozen=True)
class Field:
    """A named part of a path."""

    #: The name as the pattern writes it.
    name: str
    #: What its texts are converted to: int, float, numpy.datetime64 or str.
    kind: Kind
    #: What a format string has after the colon; empty for none, and in a regex.
    spec: str = ""


_DIGIT_RUN = re.compile(r"([0-9]+)")


def natural_key(text: str) -> tuple[Any, ...]:
    """Return a sort key by which runs of digits count as numbers; pure.

    >>> sorted(["B10", "B09", "B8A", "B08"], key=natural_key)
    ['B08', 'B8A', 'B09', 'B10']
    """
    # Odd places hold the digits, so text never meets a number; the text itself breaks ties (8, 08).
    parts = _DIGIT_RUN.split(text)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), text


# Where the digits of a text stand: ASCII becomes 0 or x, all else stays.
_SHAPE = {code: "0" if chr(code) in "0123456789" else "x" for code in range(128)}


def natural_order(texts: Sequence[str]) -> list[int]:
    """Return the positions of texts in natural order, as by :func:`natural_key`; pure.

    Where digits stand at the same places, the order of the texts is their natural order. So only
    groups of such texts are left to be merged, which takes few comparisons of numbers: a fifth of
    the time for 100,000 names that one program wrote.

    >>> natural_order(["t10_c1", "t9_c2", "t10_c0", "t9_c1"])
    [3, 1, 2, 0]
    """
    rows = range(len(texts))
    shapes = [text.translate(_SHAPE) for text in texts]
    if len(set(shapes)) > len(texts) // 16:  # as of GUIDs: little to gain
        return sorted(rows, key=lambda row: natural_key(texts[row]))
    key = cache(lambda row: natural_key(texts[row]))

    def compare(one: int, two: int) -> int:
        read: Callable[[int], Any] = texts.__getitem__ if shapes[one] == shapes[two] else key
        return -1 if read(one) < read(two) else 1

    by_text = sorted(rows, key=texts.__getitem__)
    return sorted(sorted(by_text, key=shapes.__getitem__), key=cmp_to_key(compare))


def text_reader(field: Field) -> Callable[[str], Any]:
    """Return the function that makes a field's text a value of its kind; pure.

    It raises ``ValueError`` for a text that is no such value.

    >>> text_reader(Field("t", "int", "3d"))("007")
    7
    """
    match field.kind:
        case "int":
            return int
        case "float":
            return float
        case "time":
            return lambda text: np.datetime64(datetime.strptime(text, field.spec), "us")
        case "text":
            return str


def parse_value(field: Field, value: object) -> Any:
    """Return a value that an option gives for a field, in the field's kind; pure.

    Text is read as in a name; a time also as ISO 8601. Numbers and dates pass where the field
    holds such.

    Raises
    ------
    OptionError
        Where the value is of another kind.

    Examples
    --------
    >>> parse_value(Field("t", "int", "d"), "007"), parse_value(Field("dose", "float", "f"), 2)
    (7, 2.0)
    >>> str(parse_value(Field("day", "time", "%Y%m%d"), "2020-03-01"))
    '2020-03-01T00:00:00.000000'
    """
    try:
        match value:
            case str():
                return _read_option(field, value)
            case bool():  # an int to Python; in YAML an unquoted NO
                pass
            case date() | np.datetime64() if field.kind == "time":
                return np.datetime64(str(value), "us")
            case int() | float() | np.number() if field.kind == "float":
                return float(value)
            case int() | float() | np.number() if field.kind == "int" and int(value) == value:
                return int(value)
    except (ValueError, OverflowError) as exc:
        raise _wrong_value(field, value) from exc
    raise _wrong_value(field, value)


def _read_option(field: Field, text: str) -> Any:
    try:
        return text_reader(field)(text)
    except ValueError:
        if field.kind != "time":
            raise
        return np.datetime64(text, "us")


def _wrong_value(field: Field, value: object) -> OptionError:
    holds = {"int": "an integer", "float": "a number", "time": "a time", "text": "text"}[field.kind]
    quote = "; quote it, so that YAML leaves it as written" if field.kind == "text" else ""
    return OptionError(
        f"field {field.name!r} is {holds}, but got {value!r} ({type(value).__name__}){quote}",
        field=field.name,
    )
