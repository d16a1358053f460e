"""URLs of zipped OME-Zarr. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.urls import absolute_url, is_local

__all__ = ["ZIPPED", "inside_zip"]

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
