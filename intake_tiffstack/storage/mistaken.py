"""URLs as other programs write them, and what to write here."""

from __future__ import annotations

import os
import re

from fsspec import available_protocols

from intake_tiffstack.errors import OptionError
from intake_tiffstack.storage.urls import WRAPPERS

__all__ = ["misspelling", "refuse_misspelled"]

_GDAL = {"vsis3": "s3://", "vsigs": "gs://", "vsiaz": "abfs://", "vsicurl": ""}
"""Virtual file systems of GDAL, and how the URL that fsspec has for each begins."""

_GDAL_ARCHIVES = {"vsizip": "zip", "vsitar": "tar"}

_gdal = re.compile(r"/(vsi[a-z0-9]+?)(?:_streaming)?/(.*)", re.DOTALL).fullmatch
_member = re.compile(r"(.*?\.(?:zip|tar|tar\.gz|tgz))(?:/+(.*))?", re.IGNORECASE).fullmatch
_of_file_url = re.compile(r"(?:file|local)://(?:/(?=[A-Za-z]:))?")
_windows = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]|\.{0,2}\\").match
_few_slashes = re.compile(
    # a folder may be called "data:1", and "data" is a protocol of fsspec too
    r"((?=s3|gs|gcs|abfs|az|http|[a-z0-9]+:/)[a-z][a-z0-9]*):(?!//|:)/?(.+)",
    re.DOTALL,
).fullmatch


def refuse_misspelled(text: str) -> None:
    """Raise if *text* is spelled as another program spells it. Looks for local files of that name.

    Raises
    ------
    OptionError
        If *text* is a Windows path elsewhere, a path of GDAL, or a URL that lacks slashes; the
        message says what to write.
    """
    advice = misspelling(text)
    if advice:
        raise OptionError(f"{text!r} {advice}", url=text)


def misspelling(text: str) -> str:
    """Return what is wrong with the spelling of a URL and what to write, empty if nothing is.

    >>> misspelling("s3:/bucket/a.tif")
    'lacks slashes after the protocol: write s3://bucket/a.tif'
    >>> misspelling("/vsizip/vsis3/bucket/x.zip/a.tif")
    'is a path of GDAL; fsspec reads files here: write zip://a.tif::s3://bucket/x.zip'
    """
    if found := _gdal(text):
        if os.path.exists(f"/{found[1]}"):
            return ""
        if found[1] == "vsigzip":
            return "is a path of GDAL to a compressed file: unpack the file first"
        return f"is a path of GDAL; fsspec reads files here: write {_url_of_gdal(text)}"
    if ":" not in text and "\\" not in text:  # cheap, for lists of many URLs
        return ""
    if os.name != "nt" and _windows(_of_file_url.sub("", text)) and not os.path.exists(text):
        return (
            "is a Windows path, which this system does not have: write where the folder is "
            "mounted here, such as /mnt/c/data/*.tif"
        )
    for link in text.split("::"):
        found = _few_slashes(link)
        if found is None or found[1] not in available_protocols() or os.path.exists(link):
            continue
        if found[1] in ("file", "local"):
            url = f"/{found[2]}"
        elif found[1] in WRAPPERS:
            url = f"{found[1]}::/{found[2]}"
        else:
            url = f"{found[1]}://{found[2]}"
        return f"lacks slashes after the protocol: write {text.replace(link, url)}"
    return ""


def _url_of_gdal(path: str) -> str:
    """Return the URL of fsspec for a path of GDAL, and other text as it is. Pure.

    >>> _url_of_gdal("/vsitar//data/x.tar"), _url_of_gdal("/vsimem/a.tif")
    ('tar://*.tif::/data/x.tar', 'a URL of fsspec')
    """
    found = _gdal(path)
    if found is None:
        return path
    kind, rest = found.groups()
    if kind in _GDAL_ARCHIVES:
        whole = _member("/" + rest.lstrip("/"))
        archive, inner = whole.groups() if whole else ("/" + rest.lstrip("/"), None)
        return f"{_GDAL_ARCHIVES[kind]}://{inner or '*.tif'}::{_url_of_gdal(archive)}"
    return f"{_GDAL[kind]}{rest}" if kind in _GDAL and rest else "a URL of fsspec"
