"""Urlpaths as other programs write them, and what to write here."""

from __future__ import annotations

import os
import re

from fsspec import available_protocols

from intake_tiffstack.errors import OptionError

__all__ = ["refuse_mistaken"]

_GDAL = {
    "vsis3": "s3://{}",
    "vsigs": "gs://{}",
    "vsiaz": "abfs://{}",
    "vsicurl": "{}",
    "vsizip": "zip://*.tif::/{}",
    "vsitar": "tar://*.tif::/{}",
    "vsigzip": "the file unpacked",
}
"""Virtual file systems of GDAL, and the URL that fsspec has for each."""

_gdal = re.compile(r"/(vsi[a-z0-9]+?)(?:_streaming)?/(.*)", re.DOTALL).fullmatch
_windows = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]").match
_one_slash = re.compile(r"([a-z][a-z0-9]*):/([^/].*)", re.DOTALL).fullmatch
_archive = re.compile(r"\.(zip|tar|tar\.gz|tgz)/?$", re.IGNORECASE).search


def refuse_mistaken(text: str) -> None:
    """Raise if *text* is spelled as another program spells it. Looks for local files of that name.

    Raises
    ------
    OptionError
        If *text* is a Windows path elsewhere, a path of GDAL, a URL with one slash, an archive, a
        compressed file or a Zarr; the message says what to write.
    """
    advice = _advice(text)
    if advice:
        raise OptionError(f"urlpath {text!r} {advice}", url=text)


def _advice(text: str) -> str:
    """Return what is wrong with *text* and what to write, empty if nothing is."""
    is_chained = "::" in text
    if found := _gdal(text):
        if os.path.exists(f"/{found[1]}"):
            return ""
        url = _GDAL.get(found[1], "a URL of fsspec").format(found[2])
        return f"is a path of GDAL; fsspec reads files here: write {url}"
    if os.name != "nt" and _windows(text) and not os.path.exists(text):
        return (
            "is a Windows path, which this system does not have: write where the folder is "
            "mounted here, such as /mnt/c/data/*.tif"
        )
    if (found := _one_slash(text)) and found[1] in available_protocols() and found[1] != "file":
        return f"has one slash after the protocol: write {found[1]}://{found[2]}"
    if re.match(r"s3a?://[^/]+/.*//(.*/)?(?:[^/]*[*?{[].*)?$", text):
        return (
            "has an empty folder name ('//'), which cannot be listed in a bucket: write one slash"
        )
    if not is_chained and (found := _archive(text)) and not os.path.isdir(text):
        protocol = "zip" if found[1].lower() == "zip" else "tar"
        url = text.rstrip("/")
        if "*" in url or "?" in url:
            return (
                "stands for several archives, and fsspec opens one per URL: give a list, such as "
                f"[{protocol}://*.tif::a.{found[1]}, {protocol}://*.tif::b.{found[1]}]"
            )
        return f"is an archive: write {protocol}://*.tif::{url} for the TIFFs in it"
    if is_chained and re.search(r"[*?]", text.partition("::")[2]) and _archive(text):
        return (
            "stands for several archives, and fsspec opens one per URL: give a list of URLs, one "
            "per archive"
        )
    if re.search(r"\.zarr/?$", text, re.IGNORECASE):
        return "is a Zarr: use the driver tiffstack_zarr, as in intake.open_tiffstack_zarr(urlpath)"
    if re.search(r"\.(tiff?|btf)\.(gz|bz2|xz)$", text, re.IGNORECASE):
        return (
            "is compressed as a whole, so that parts of it cannot be read: unpack it first, such "
            "as with gunzip"
        )
    return ""
