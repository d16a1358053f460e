"""Urlpaths that are no TIFFs, or that other programs write so, and what to write here."""

from __future__ import annotations

import os
import re

from intake_tiffstack.errors import OptionError
from intake_tiffstack.storage.mistaken import misspelling

__all__ = ["refuse_mistaken"]

_archive = re.compile(r"\.(zip|tar|tar\.gz|tgz)/?$", re.IGNORECASE).search
_in_archive = re.compile(r"\.(zip|tar|tar\.gz|tgz)/(.+)", re.IGNORECASE).search


def refuse_mistaken(text: str) -> None:
    """Raise if *text* cannot be a urlpath of TIFFs. Looks for local files of that name.

    Raises
    ------
    OptionError
        If *text* is a Windows path elsewhere, a path of GDAL, a URL that lacks slashes, an
        archive, a compressed file or a Zarr; the message says what to write.
    """
    advice = misspelling(text) or _advice(text)
    if advice:
        raise OptionError(f"urlpath {text!r} {advice}", url=text)


def _advice(text: str) -> str:
    """Return what is wrong with *text* and what to write, empty if nothing is."""
    is_chained = "::" in text
    if re.match(r"s3a?://[^/]+/.*//(.*/)?(?:[^/]*[*?{[].*)?$", text):
        return (
            "has an empty folder name ('//'), which cannot be listed in a bucket: write one slash"
        )
    if re.search(r"\.(zarr|zarr\.zip|ozx|icechunk)/?$", text, re.IGNORECASE):
        packed = not is_chained and text.lower().endswith(".zarr.zip")
        argument = f"'zip://::{text}'" if packed else "urlpath"
        return (
            "is a Zarr: use the driver tiffstack_zarr, as in "
            f"intake.open_tiffstack_zarr({argument})"
        )
    if not is_chained and (found := _archive(text)) and not os.path.isdir(text):
        protocol = "zip" if found[1].lower() == "zip" else "tar"
        # others write zip://x.zip and zip+https://host/x.zip
        url = re.sub(r"^(zip|tar)(://|\+(?=\w+://))", "", text.rstrip("/"))
        if "*" in url or "?" in url:
            return (
                "stands for several archives, and fsspec opens one per URL: give a list, such as "
                f"[{protocol}://*.tif::a.{found[1]}, {protocol}://*.tif::b.{found[1]}]"
            )
        return f"is an archive: write {protocol}://*.tif::{url} for the TIFFs in it"
    if (found := _in_archive(text)) and os.path.isfile(archive := text[: found.start(2) - 1]):
        protocol = "zip" if found[1].lower() == "zip" else "tar"
        return f"is in an archive: write {protocol}://{found[2]}::{archive}"
    if is_chained and re.search(r"[*?]", text.partition("::")[2]) and _archive(text):
        return (
            "stands for several archives, and fsspec opens one per URL: give a list of URLs, one "
            "per archive"
        )
    if re.search(r"\.(tiff?|btf)\.(gz|bz2|xz|zst|Z)$", text, re.IGNORECASE):
        return (
            "is compressed as a whole, so that parts of it cannot be read: unpack it first, such "
            "as with gunzip"
        )
    return ""
