"""URLs and local paths: what is local, absolute paths, chains of fsspec."""

from __future__ import annotations

import ntpath
import os
import re
from collections.abc import Sequence

from intake_tiffstack.packed_texts import PackedTexts

__all__ = [
    "WRAPPERS",
    "absolute_url",
    "first_relative",
    "is_absolute",
    "is_local",
    "split_chain",
    "store_of",
]

ON_WINDOWS = os.name == "nt"
"""Whether local paths have drives and backslashes."""

WRAPPERS = frozenset({"simplecache", "filecache", "blockcache"})


def split_chain(url: str) -> tuple[str, str]:
    """Return the part of *url* that names a file, and the chain of archives around it. Pure.

    Patterns are matched against the first part only; the archive follows ``::``.

    Examples
    --------
    >>> split_chain("zip://raw/a.tif::s3://bucket/x.zip")
    ('zip://raw/a.tif', '::s3://bucket/x.zip')
    >>> split_chain("simplecache::s3://bucket/a.tif")
    ('simplecache::s3://bucket/a.tif', '')
    >>> split_chain("/data/a::b.tif")
    ('/data/a::b.tif', '')
    """
    if url.startswith("/") or "::" not in url:
        return url, ""
    first, _, rest = url.partition("::")
    if first.removesuffix("://") in WRAPPERS:  # a cache in front of a store: the path comes next
        path, chain = split_chain(rest)
        return f"{first}::{path}", chain
    return first, f"::{rest}"


def name_paths(urls: PackedTexts) -> PackedTexts:
    """Return what names are read from: each URL without the archive that it is inside of. Pure.

    Files of several archives have the paths of those in front, since these differ too.

    Examples
    --------
    >>> urls = ["zip://B04.tif::/data/x.zip", "zip://B05.tif::/data/x.zip"]
    >>> list(name_paths(PackedTexts.of(urls)))
    ['zip://B04.tif', 'zip://B05.tif']
    >>> urls = ["zip://B04.tif::s3://b/x.zip", "zip://B04.tif::s3://b/y.zip"]
    >>> list(name_paths(PackedTexts.of(urls)))
    ['zip://s3://b/x.zip/B04.tif', 'zip://s3://b/y.zip/B04.tif']
    """
    if not urls.may_hold("::"):
        return urls
    split = [split_chain(url) for url in urls]
    if len({chain for _, chain in split}) == 1:
        return PackedTexts.of(path for path, _ in split)
    return PackedTexts.of(_behind_archives(path, chain) for path, chain in split)


def _behind_archives(path: str, chain: str) -> str:
    """Return a path with those of the archives around it in front. Pure.

    >>> _behind_archives("zip://a.tif", "::tar://b.zip::simplecache::/data/c.tar")
    'zip:///data/c.tar/b.zip/a.tif'
    """
    if not chain:
        return path
    protocol, _, inner = path.partition("://")
    *archives, outermost = [
        link for link in chain[2:].split("::") if link.removesuffix("://") not in WRAPPERS
    ]
    inside = [archive.partition("://")[2] for archive in reversed(archives)]
    return f"{protocol}://" + "/".join([outermost, *inside, inner.lstrip("/")])


def store_of(url: str) -> str:
    """Return what tells one store from another: protocol and host or bucket, or an archive. Pure.

    >>> store_of("s3://bucket/raw/a.tif"), store_of("zip://a.tif::/data/x.zip")
    ('s3://bucket', 'zip://a.tif::/data/x.zip')
    """
    return url if "::" in url else "/".join(url.split("/", 3)[:3])


_LOCAL_STARTS = ("/", "./", "../", "~", "file://", "local://")


_is_unfilled = re.compile(r"[^/]*(?:\$|\{\{|CATALOG_DIR|%\w+%)").match


def first_relative(urlpath: str | Sequence[str]) -> str | None:
    """Return the first path that depends on the current folder, or None. Pure.

    A path that begins with what a shell or a catalog would fill in is none.

    >>> first_relative(["/data/a.tif", "raw/*.tif"]), first_relative("s3://bucket/a.tif")
    ('raw/*.tif', None)
    >>> first_relative("$HOME/*.tif")
    """
    urls = [urlpath] if isinstance(urlpath, str) else urlpath
    relative = (url for url in urls if is_local(url) and not is_absolute(url))
    return next((url for url in relative if not _is_unfilled(url)), None)


_has_drive = re.compile(r"[A-Za-z]:[\\/]|\\\\[^\\]").match


def is_absolute(path: str) -> bool:
    """Return whether a local path does not depend on the current folder. Pure.

    >>> [is_absolute(path) for path in ("/data/a.tif", "~/a.tif", "raw/a.tif")]
    [True, True, False]
    >>> [is_absolute(path) for path in (r"C:\\data\\a.tif", "D:/a.tif", r"\\\\server\\share")]
    [True, True, True]
    """
    return path.startswith(("/", "~", "file://", "local://")) or bool(_has_drive(path))


def is_local(url: str) -> bool:
    """Return whether *url* is a local file, which is opened without fsspec. Pure.

    Examples
    --------
    >>> [is_local(url) for url in ("/data/a.tif", "file:///data/a.tif", "./a::b.tif")]
    [True, True, True]
    >>> [is_local(url) for url in ("s3://b/a.tif", "zip://a.tif::/data/x.zip")]
    [False, False]
    """
    if url.startswith(_LOCAL_STARTS):
        return True
    return "://" not in url and "::" not in url


def windows_path(path: str, current: str) -> str:
    """Return a path of Windows absolute, with slashes, which Windows and fsspec take too. Pure.

    Parameters
    ----------
    path : str
        With backslashes or slashes, with or without a drive; a slash at the end stays.
    current : str
        The current folder.

    Examples
    --------
    >>> windows_path(r"raw\\..\\*.tif", r"C:\\data"), windows_path("D:/a//b/", r"C:\\data")
    ('C:/data/*.tif', 'D:/a/b/')
    >>> windows_path("/C:/data/a.tif", "D:/"), windows_path(r"\\\\server\\share\\a.tif", "D:/")
    ('C:/data/a.tif', '//server/share/a.tif')
    """
    path = re.sub("^/([A-Za-z]:)", r"\1", path)  # of file:///C:/data
    whole = ntpath.normpath(ntpath.join(current, path)).replace("\\", "/")
    return whole + "/" * (path.endswith(("/", "\\")) and not whole.endswith("/"))


_may_be_untidy = re.compile(r"//|/\.").search


def absolute_url(url: str) -> str:
    """Return *url* as listings write it: local paths absolute, without ``~``, ``//``, ``..``.

    A slash at the end stays, because it marks a folder. Symbolic links are resolved only in front
    of ``..``, as on opening. A local archive at the end of a chain is made absolute too.

    Examples
    --------
    >>> absolute_url("file:///data//raw/./x*.tif")
    '/data/raw/x*.tif'
    >>> absolute_url("zip://*.tif::/data//x.zip")
    'zip://*.tif::/data/x.zip'
    """
    if url.startswith("/") and not _may_be_untidy(url) and not ON_WINDOWS:
        return url
    if not is_local(url):
        path, chain = split_chain(url)
        if chain:
            path = path if "://" in path else f"{path}://"
            chain = "::" + absolute_url(chain[2:])
        return path + chain
    path = re.sub("^(file|local)://", "", url)
    if ON_WINDOWS:
        return windows_path(os.path.expanduser(path), os.getcwd())
    path = os.path.join(os.getcwd(), os.path.expanduser(path))
    head, dots, tail = f"{path}/".rpartition("/../")
    if dots:
        path = f"{os.path.realpath(head + '/..')}/{tail}"
    tidy = re.sub(r"/(\.?/)+", "/", f"{path}/")
    return tidy if url.endswith("/") else tidy.rstrip("/") or "/"
