"""Points in time as files write them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

__all__ = ["is_blank_time", "read_time"]

_DATE = re.compile(r"(\d{4})[:/](\d\d)[:/](\d\d)")
_ZONE = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)|\s*-$")  # NDTiff writes a sign and no zone


def is_blank_time(value: Any) -> bool:
    """Return whether a text is what writers put where they know no time. Pure.

    >>> is_blank_time("    :  :     :  :  "), is_blank_time("0000:00:00 00:00:00")
    (True, True)
    """
    return isinstance(value, str) and not value.strip("\0 :/-0")


def read_time(value: Any) -> str | None:
    """Return a point in time as ISO 8601 text, None for any other text. Pure.

    A time with a zone comes back in UTC; one without comes back as it was written, whatever clock
    that was. Neither names a zone, as ``numpy.datetime64`` has none.

    >>> read_time("2024:05:01 12:00:00"), read_time("20240422 09:57:37.294")
    ('2024-05-01T12:00:00', '2024-04-22T09:57:37.294000')
    >>> read_time("2022-12-26 21:00:04.5 -0800"), read_time("2024-02-30")
    ('2022-12-27T05:00:04.500000', None)
    """
    time = _parse(value) if isinstance(value, str) else value
    if not isinstance(time, datetime):
        return None
    try:
        plain = time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:  # in the last hours of the year 9999
        return None
    return plain.isoformat()


def _parse(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(
            _ZONE.sub("", _DATE.sub(r"\1-\2-\3", text.strip("\0 \r\n\t")))
        )
    except ValueError:
        return None
