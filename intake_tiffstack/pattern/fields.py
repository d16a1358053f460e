"""Named parts of paths: what kind of value they hold and what they are for.

Everything here is pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Field", "Kind", "parse_value", "text_reader"]

Kind = Literal["int", "float", "time", "text"]


@dataclass(frozen=True)
class Field:
    """A named part of a path."""

    #: The name as the pattern writes it.
    name: str
    #: What its texts are converted to: int, float, numpy.datetime64 or str.
    kind: Kind
    #: What a format string has after the colon; empty for none, and in a regex.
    spec: str = ""


def text_reader(field: Field) -> Callable[[str], Any]:
    """Return the function that makes a field's text a value of its kind; pure.

    It raises ``ValueError`` for a text that is not such a value.

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
        If the value is of another kind.

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
