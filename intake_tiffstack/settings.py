"""Settings of the machine rather than the data: ``tiffstack`` in dask's config.

Set them with ``dask.config.set({"tiffstack.header_cache": "128 MiB"})``, in a YAML file under
``tiffstack:``, or by ``DASK_TIFFSTACK__HEADER_CACHE``.
"""

from __future__ import annotations

import functools
from typing import Any

import dask
from dask.utils import parse_bytes, parse_timedelta

from intake_tiffstack.errors import OptionError

__all__ = ["DEFAULTS", "setting", "setting_bytes", "setting_number", "setting_seconds"]

DEFAULTS: dict[str, Any] = {
    "max_image_bytes": "64 GiB",  # a page that declares more is an error; slides reach 30 GB
    "header_cache": "64 MiB",  # parsed headers kept per process
    "retries": 3,  # further attempts after a transient failure: 503, a lost connection, no response
    "timeout": 30,  # seconds without data from a store before an attempt counts as failed
    "concurrency": 100,  # most concurrent requests; fewer as soon as the store answers more slowly
    "table_cache": 8,  # opened persisted copies kept per process
    "allow_code": False,  # whether arraytype may name a class to import
    "allow_protocols": None,  # protocols that are opened, "file" for local paths; None: all
    "allow_variables": [],  # environment variables that a catalog opened as untrusted may name
    "allow_references": [],  # what references may name outside their own folder or bucket
    "require_device": True,  # whether to_dask() requires the device of arraytype in this process
    "pinned_limit": "1 GiB",  # pinned host memory in use at once per process, for CuPy; 0: none
    "progress": None,  # whether long operations show a bar; None: on a terminal and in a notebook
    "block_bytes": "128 MiB",  # maximum that a task of an export reads, if chunks allow
    "persist_limit": "50 GB",  # maximum decoded size of a copy in the default store
    "persist_grace": "1 day",  # how long a superseded copy stays for its readers
    "persist_storage_options": {},  # passed to fsspec for the store of persisted copies
}
"""Every setting that this version reads, with its default."""


def setting(name: str) -> Any:
    """Return the value of a setting.

    Raises
    ------
    OptionError
        If the setting does not exist.
    """
    if name not in DEFAULTS:
        raise OptionError.unknown("setting", name, DEFAULTS)
    return dask.config.get(f"tiffstack.{name}", DEFAULTS[name])


_parse_bytes = functools.lru_cache(lambda value: int(parse_bytes(value)))  # called once per file


def setting_bytes(name: str) -> int:
    """Return the value of a setting in bytes; strings such as ``64 MiB`` are parsed."""
    value = setting(name)
    try:
        return _parse_bytes(value)
    except (ValueError, TypeError) as exc:
        raise OptionError(f"tiffstack.{name} must be a size, but got {value!r}") from exc


def setting_seconds(name: str) -> float:
    """Return the value of a setting in seconds; strings such as ``1 day`` are parsed."""
    value = setting(name)
    try:
        seconds = float(parse_timedelta(value))
    except (ValueError, TypeError, KeyError) as exc:
        raise OptionError(f"tiffstack.{name} must be a time, but got {value!r}") from exc
    if not seconds >= 0:
        raise OptionError(f"tiffstack.{name} must not be negative, but got {value!r}")
    return seconds


def setting_number(name: str, *, least: float) -> float:
    """Return the value of a setting that is a number of at least *least*."""
    value = setting(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise OptionError(
            f"tiffstack.{name} must be a number of at least {least:g}, but got {value!r}"
        )
    return value
