"""Named parts of paths: what kind of value they hold and what they are for.

Everything here is pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.errors import OptionError
from intake_tiffstack.pattern.times import (
    Span,
    read_duration,
    read_span,
    read_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Field", "Kind", "parse_selection", "parse_value", "text_reader"]

Kind = Literal["int", "float", "time", "duration", "text"]

_HOLDS: dict[Kind, str] = {
    "int": "an integer",
    "float": "a number",
    "time": "a time",
    "duration": "an elapsed time",
    "text": "text",
}


@dataclass(frozen=True)
class Field:
    """A named part of a path."""

    #: The name as the pattern writes it.
    name: str
    #: What its texts are converted to: int, float, numpy.datetime64, numpy.timedelta64 or str.
    kind: Kind
    #: What a format string has after the colon; empty for none, and in a regex. The formats of a
    #: time that is spread over a path are joined by slashes.
    spec: str = ""
    #: Groups of the regex whose texts, joined by slashes, are the field's; its name, if it is one.
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Let the group of a field in one place have its name."""
        if not self.groups:
            object.__setattr__(self, "groups", (self.name,))


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
            return lambda text: read_time(text, field.spec)
        case "duration":
            return lambda text: read_duration(text, field.spec)
        case "text":
            return str


def parse_value(field: Field, value: object) -> Any:
    """Return a value that an option gives for a field, in the field's kind; pure.

    Text is read as in a name; a time also as ISO 8601, of which this is the first moment. Numbers
    and dates pass where the field holds such.

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
    found = parse_selection(field, value)
    return found.start if isinstance(found, Span) else found


def parse_selection(field: Field, value: object) -> Any:
    """Return what a value in ``sel`` stands for: a value in the field's kind, or a span of time.

    See :func:`parse_value`; pure.
    """
    try:
        match value:
            case _ if field.kind == "time":
                return read_span(value, field.spec)
            case str():
                return text_reader(field)(value)
            case bool():  # an int to Python; in YAML an unquoted NO
                pass
            case int() | float() | np.number() if field.kind == "float":
                return float(value)
            case int() | float() | np.number() if field.kind == "int" and int(value) == value:
                return int(value)
    except (ValueError, OverflowError) as exc:
        reason = f"; {exc}" if field.kind in ("time", "duration") else ""
        raise _wrong_value(field, value, reason) from exc
    raise _wrong_value(field, value)


def _wrong_value(field: Field, value: object, reason: str = "") -> OptionError:
    quote = reason
    if field.kind == "text":
        quote = "; quote it, so that YAML leaves it as written"
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            quote += f", or write {{{field.name}:d}} in the pattern if its texts are numbers"
    return OptionError(
        f"field {field.name!r} is {_HOLDS[field.kind]}, but got {value!r} "
        f"({type(value).__name__}){quote}",
        field=field.name,
    )
