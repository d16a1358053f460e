"""ZIP archives: the URL of what is in a zipped OME-Zarr, and how a member is read from a place on.

References
----------
python/cpython#127847: seeking in a stored member, mended in Python 3.12.9 and 3.13.2.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from zipfile import ZipExtFile

from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.urls import absolute_url, is_local

__all__ = ["SEEKS_WRONG", "ZIPPED", "inside_zip", "move_forward"]

SEEKS_WRONG = (3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2)
"""Whether ``zipfile`` may seek in a stored member from where another thread left the archive, and
then reads other bytes without checking them."""

ZIPPED = ".ozx"
"""Suffix of a zipped OME-Zarr."""


def inside_zip(url: str, storage_options: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return URL and options of the root inside of a zipped OME-Zarr; others as they are.

    >>> inside_zip("s3://bucket/a.ozx", {"anon": True})
    ('zip://::s3://bucket/a.ozx', {'s3': {'anon': True}})
    >>> inside_zip("s3://bucket/a.zarr", {"anon": True})
    ('s3://bucket/a.zarr', {'anon': True})
    """
    if not url.endswith(ZIPPED) or "::" in url:
        return url, storage_options
    refuse_misspelled(url)
    url = absolute_url(url)
    if not storage_options or is_local(url):
        return f"zip://::{url}", {}
    return f"zip://::{url}", {url.partition("://")[0]: dict(storage_options)}


def move_forward(handle: Any, start: int) -> None:
    """Move an open file to *start*, a member of a ZIP where :data:`SEEKS_WRONG` by reading."""
    if not SEEKS_WRONG or not isinstance(handle, ZipExtFile) or start < handle.tell():
        handle.seek(start)
        return
    while (left := start - handle.tell()) > 0 and handle.read(min(left, 2**20)):
        pass
