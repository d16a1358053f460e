"""Times and durations, as names and options write them.

Everything here is pure. A time in a name is a span to an option: ``2020-02`` is all of February.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "DIRECTIVES",
    "Span",
    "fault_of_format",
    "is_duration",
    "read_duration",
    "read_span",
    "read_time",
    "time_template",
]


class Span(NamedTuple):
    """A stretch of time."""

    start: np.datetime64
    """Its first moment."""
    stop: np.datetime64
    """The first moment after it."""


# Strict, where strptime also takes one digit for two, so that glued numbers part. A number that is
# the whole name of a folder needs no leading zero: nothing is glued to it.
_FOLDER = "(?<![^/]){}(?![^/])"
DIRECTIVES = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "m": f"(?:0[1-9]|1[0-2]|{_FOLDER.format('[1-9]')})",
    "d": f"(?:0[1-9]|[12][0-9]|3[01]|{_FOLDER.format('[1-9]')})",
    "j": "[0-9]{3}",
    "H": f"(?:[01][0-9]|2[0-3]|{_FOLDER.format('[0-9]')})",
    "I": "(?:0[1-9]|1[0-2])",
    "M": f"(?:[0-5][0-9]|{_FOLDER.format('[0-9]')})",
    "S": f"(?:[0-5][0-9]|{_FOLDER.format('[0-9]')})",
    "p": "(?:AM|PM|am|pm)",
    "f": "[0-9]{1,6}~",
    "b": "[A-Za-z]+~",
    "B": "[A-Za-z]+~",
}
"""Regex of each directive, with ``~`` after a quantifier, to be ``?`` for the shortest text."""

_OF_DURATION = DIRECTIVES | {"d": "[0-9]+~"}
_SECONDS = {"d": 86_400, "H": 3_600, "M": 60, "S": 1}


def _directives_of(spec: str) -> list[str]:
    """Return the directives of a format, in its order.

    >>> _directives_of("%Y-%m-%d")
    ['Y', 'm', 'd']
    """
    return re.findall(r"%(.?)", spec)


def is_duration(spec: str) -> bool:
    """Return whether a format is that of an elapsed time: days that are of no month or year.

    >>> is_duration("%dd%Hh%Mm"), is_duration("%Y%m%d")
    (True, False)
    """
    codes = set(_directives_of(spec))
    return "d" in codes and codes <= {*_SECONDS, "f"}


def fault_of_format(specs: Sequence[str]) -> str | None:
    """Return what is wrong with the format of a time, written in one or more parts of a path."""
    codes = [code for spec in specs for code in _directives_of(spec)]
    if unknown := [code for code in codes if code not in DIRECTIVES]:
        known = ", ".join(f"%{code}" for code in DIRECTIVES)
        return f"%{unknown[0]} is none of {known}"
    if any(len(set(own := _directives_of(spec))) < len(own) for spec in specs):
        return "it has one directive twice"
    if any("~" in spec for spec in specs):
        return "a time holds no ~"
    is_dated = set("mdjbB").intersection(codes) and not is_duration("".join(specs))
    if is_dated and not set("Yy").intersection(codes):
        return "a date needs its year, %Y or %y"
    return None


def time_template(spec: str, group: str = "", seen: set[str] | None = None) -> str:
    """Return the regex of a format, with ``~`` after each quantifier.

    Parameters
    ----------
    spec : str
        The format.
    group : str, optional
        What the names of groups begin with, one group per directive; none by default.
    seen : set of str, optional
        Directives that the parts before have: such a one reads the same text again. Those of
        *spec* are added.
    """
    known = _OF_DURATION if is_duration(spec) else DIRECTIVES
    seen = set() if seen is None else seen
    regex = ""
    for i, piece in enumerate(re.split(r"%(.)", spec)):
        if not i % 2:
            regex += re.escape(piece)
        elif piece in seen:
            regex += f"(?P={group}{piece})"
        else:
            regex += f"(?P<{group}{piece}>{known[piece]})" if group else known[piece]
            seen.update(piece if group else "")
    return regex


@cache
def _compiled(spec: str) -> re.Pattern[str]:
    """Return the regex of a format, with a group ``_<directive>`` per directive.

    The parts of a format that is spread over a path are joined by slashes.
    """
    seen: set[str] = set()
    parts = [time_template(part, "_", seen) for part in spec.split("/")]
    return re.compile("/".join(parts).replace("~", ""))


def _read(text: str, spec: str) -> dict[str, str]:
    match = _compiled(spec).fullmatch(text)
    if match is None:
        raise ValueError(f"it is not written as {spec}")
    return {name[1:]: found for name, found in match.groupdict().items()}


def read_time(text: str, spec: str) -> np.datetime64:
    """Return the time that a text in a format is.

    Raises
    ------
    ValueError
        If the text is not exactly in the format, or the day is in no calendar.

    Examples
    --------
    >>> str(read_time("2015/12/7", "%Y/%m/%d"))
    '2015-12-07T00:00:00.000000'
    """
    found = _read(text, spec)
    codes = " ".join(f"%{code}" for code in found)
    return np.datetime64(datetime.strptime(" ".join(found.values()), codes), "us")


def read_duration(text: str, spec: str) -> np.timedelta64:
    """Return the elapsed time that a text in a format is.

    Raises
    ------
    ValueError
        If the text is not exactly in the format.

    Examples
    --------
    >>> float(read_duration("03d06h40m", "%dd%Hh%Mm") / np.timedelta64(1, "s"))
    283200.0
    """
    found = _read(text, spec)
    micro = int(found.pop("f", "").ljust(6, "0"))
    seconds = sum(int(number) * _SECONDS[code] for code, number in found.items())
    return np.timedelta64(seconds * 1_000_000 + micro, "us")


_CLOCK = r"(?:[T ](?P<h>\d\d)(?:{0}(?P<m>\d\d)(?:{0}(?P<s>\d\d)(?:[.,](?P<f>\d{{1,9}}))?)?)?)?"
_ISO = tuple(
    re.compile(date + clock, re.ASCII)
    for date, clock in (
        (r"(?P<Y>\d{4})(?:-(?P<M>\d\d))?", ""),
        (r"(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d)", _CLOCK.format(":")),
        (r"(?P<Y>\d{4})(?P<M>\d\d)(?P<D>\d\d)", _CLOCK.format("")),
    )
)
_ZONE = re.compile(r"(?<=[\d.])\s*(?:Z|[+-]\d\d(?::?\d\d)?)$")


def read_span(value: Any, spec: str = "") -> Span:
    """Return the stretch of time that a value of an option stands for.

    Parameters
    ----------
    value : str, int, datetime.date, datetime.datetime or numpy.datetime64
        Text, or a number of digits, is in the format *spec* or in ISO 8601: a year, a month, a day
        (``2020-02-01`` or ``20200201``), with hours, minutes, seconds and their fraction. It spans
        all of the last unit that it has. A datetime without a fraction spans its second, as YAML
        makes one of an unquoted text.
    spec : str, optional
        Format of the times in the names.

    Raises
    ------
    ValueError
        If it is something else, has a time zone, or is in no calendar.

    Examples
    --------
    >>> [str(moment) for moment in read_span("2020-02")]
    ['2020-02-01T00:00:00.000000', '2020-03-01T00:00:00.000000']
    """
    match value:
        case bool():
            raise ValueError("it is not a time")
        case int() | np.integer():
            return read_span(str(value), spec)
        case str():
            return _read_text(value, spec)
        case datetime():
            if value.tzinfo is not None:
                raise ValueError("it has a time zone, but times in names have none")
            return _span(np.datetime64(value, "us"), "us" if value.microsecond else "s")
        case date():
            return _span(np.datetime64(value, "D"), "D")
        case np.datetime64() if not np.isnat(value):
            return _span(value, np.datetime_data(value)[0])
    raise ValueError("it is not a time")


def _read_text(text: str, spec: str) -> Span:
    if spec:
        try:
            return _span(read_time(text, spec), "us")
        except ValueError:
            pass  # ISO 8601 is the other way to write it
    found = next((match for regex in _ISO if (match := regex.fullmatch(text))), None)
    if found is None:
        if _ZONE.search(text):
            raise ValueError("it has a time zone, but times in names have none")
        raise ValueError(
            f"write it as {spec + ' or ' if spec else ''}ISO 8601: 2020, 2020-02, 2020-02-01, "
            "2020-02-01T10:30:21"
        )
    fields = {unit: digits for unit, digits in found.groupdict().items() if digits}
    fraction = fields.pop("f", "")
    written = "-".join(fields[unit] for unit in "YMD" if unit in fields)
    clock = ":".join(fields[unit] for unit in "hms" if unit in fields)
    moment = np.datetime64(written + (f"T{clock}" if clock else ""))
    if not fraction:
        return _span(moment, [*fields][-1])
    unit, width = ("us", 6) if len(fraction) <= 6 else ("ns", 9)
    start = moment.astype(f"datetime64[{unit}]")
    start += _step(int(fraction.ljust(width, "0")), unit)
    return Span(start, start + _step(10 ** (width - len(fraction)), unit))


def _step(count: int, unit: Any) -> np.timedelta64:
    return np.timedelta64(count, unit)


def _span(start: np.datetime64, unit: Any) -> Span:
    """Return all of the *unit* that begins at *start*."""
    stop = start.astype(f"datetime64[{unit}]") + _step(1, unit)
    fine = "us" if unit not in ("ns", "ps", "fs", "as") else unit
    return Span(start.astype(f"datetime64[{fine}]"), stop.astype(f"datetime64[{fine}]"))
