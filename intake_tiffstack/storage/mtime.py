"""The time at which a file was last changed, as stores give it. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["HAS_CTIME", "mtime_ns"]

HAS_CTIME = os.name == "posix"
"""Whether ``st_ctime_ns`` is the time of a change; on Windows it is that of the creation."""


def mtime_ns(info: Mapping[str, Any]) -> int:
    """Return the time of the last change in ns since 1970, under any name; -1 if unknown. Pure."""
    for key in ("mtime", "LastModified", "Last-Modified", "last_modified", "modified", "created"):
        value = info.get(key)
        if isinstance(value, str):
            value = _http_date(value)
        if isinstance(value, datetime):
            value = value.timestamp()
        if isinstance(value, int | float):
            return round(value * 1e6) * 1000  # whole us, the precision of a float
    return -1


def _http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:  # not a date of HTTP
        return None
