"""What describes the machine rather than the data: ``tiffstack`` in dask's config.

Set them with ``dask.config.set({"tiffstack.header_cache": "128 MiB"})``, in a YAML file under
``tiffstack:``, or by ``DASK_TIFFSTACK__HEADER_CACHE``.
"""

from __future__ import annotations

import functools
from typing import Any

import dask
from dask.utils import parse_bytes

from intake_tiffstack.errors import OptionError

__all__ = ["DEFAULTS", "setting", "setting_bytes", "setting_number"]

DEFAULTS: dict[str, Any] = {
    "max_image_bytes": "64 GiB",  # a page that declares more is refused; slides reach 30 GB
    "header_cache": "64 MiB",  # parsed headers kept per process
    "retries": 3,  # more attempts after a failure that may pass: 503, a lost connection, no answer
    "timeout": 30,  # seconds a store may say nothing before an attempt counts as failed
    "concurrency": 10,  # concurrent requests per process; as many connections as an S3 client keeps
    "table_cache": 8,  # opened collections kept per process
    "allow_code": False,  # whether arraytype may name a class to import
    "require_device": True,  # whether to_dask() wants the device of arraytype in this process
    "pinned_limit": "1 GiB",  # pinned host memory in use at once per process, for CuPy; 0: none
    "progress": None,  # whether long work shows a bar; None: on a terminal and in a notebook
    "block_bytes": "128 MiB",  # most that a task of an export reads, where chunks allow
    "persist_limit": "50 GB",  # most that a copy takes, decoded, where nobody chose a store for it
    "persist_storage_options": {},  # handed to fsspec for the store of persisted copies
}
"""Every setting that this version reads, with its default."""


def setting(name: str) -> Any:
    """Return the value of a setting.

    Raises
    ------
    OptionError
        If there is no such setting.
    """
    if name not in DEFAULTS:
        raise OptionError.unknown("setting", name, DEFAULTS)
    return dask.config.get(f"tiffstack.{name}", DEFAULTS[name])


_parse_bytes = functools.lru_cache(lambda value: int(parse_bytes(value)))  # asked for every file


def setting_bytes(name: str) -> int:
    """Return the value of a setting in bytes; texts such as ``64 MiB`` are understood."""
    value = setting(name)
    try:
        return _parse_bytes(value)
    except (ValueError, TypeError) as exc:
        raise OptionError(f"tiffstack.{name} must be a size, but got {value!r}") from exc


def setting_number(name: str, *, least: float) -> float:
    """Return the value of a setting that is a number of at least *least*."""
    value = setting(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise OptionError(
            f"tiffstack.{name} must be a number of at least {least:g}, but got {value!r}"
        )
    return value
