"""URLs and the filesystems behind them, and what those raise in words of this package."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from fsspec import available_protocols, get_filesystem_class
from fsspec.core import url_to_fs

from .errors import FilesNotFoundError, OptionError, StorageError, TiffStackError
from .filetable import split_chain

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["absolute_url", "get_filesystem", "is_local", "storage_errors"]


_LOCAL_STARTS = ("/", "./", "../", "~", "file://", "local://")


def is_local(url: str) -> bool:
    """Return whether *url* is a file of this machine that is opened without fsspec. Pure.

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


_may_be_untidy = re.compile(r"//|/\.").search


def absolute_url(url: str) -> str:
    """Return *url* as the listing writes it: local paths absolute, without ``~``, ``//``, ``..``.

    A slash at the end stays, since it says that a folder is meant.
    What a ``..`` follows may be a symbolic link, so it is resolved as opening would; no other link
    is. A local archive at the end of a chain is made absolute too.

    Examples
    --------
    >>> absolute_url("file:///data//raw/./x*.tif")
    '/data/raw/x*.tif'
    >>> absolute_url("zip://*.tif::/data//x.zip")
    'zip://*.tif::/data/x.zip'
    """
    if url.startswith("/") and not _may_be_untidy(url):
        return url
    if not is_local(url):
        path, chain = split_chain(url)
        if chain:
            path = path if "://" in path else f"{path}://"
            chain = "::" + absolute_url(chain[2:])
        return path + chain
    path = re.sub("^(file|local)://", "", url)
    path = os.path.join(os.getcwd(), os.path.expanduser(path))
    head, dots, tail = f"{path}/".rpartition("/../")
    if dots:
        path = f"{os.path.realpath(head + '/..')}/{tail}"
    tidy = re.sub(r"/(\.?/)+", "/", f"{path}/")
    return tidy if url.endswith("/") else tidy.rstrip("/") or "/"


def get_filesystem(url: str, storage_options: Mapping[str, Any]) -> tuple[AbstractFileSystem, str]:
    """Return the fsspec filesystem of *url* and the path in it.

    fsspec keeps its filesystems, so a second call is cheap; only archives (``zip://``) are opened
    each time.

    Raises
    ------
    OptionError
        The protocol is unknown, or the storage options do not fit it.
    StorageError
        The package for the protocol is not installed, or the store cannot be reached.
    FilesNotFoundError
        The archive is not there.
    """
    for protocol in _protocols(url):
        _require_protocol(protocol, url)
    with storage_errors(url, storage_options):
        filesystem, path = url_to_fs(url, **storage_options)
    return filesystem, path


def _protocols(url: str) -> list[str]:
    links = [url] if is_local(url) else url.split("::")
    return [link.partition("://")[0] if "://" in link else _bare_protocol(link) for link in links]


def _bare_protocol(link: str) -> str:
    return link if link in available_protocols() else "file"


def _require_protocol(protocol: str, url: str) -> None:
    try:
        get_filesystem_class(protocol)
    except ValueError as exc:
        near = get_close_matches(protocol.lower(), available_protocols(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}://?" if near else "fsspec.available_protocols() are known"
        raise OptionError(f"{url}: unknown protocol {protocol!r}; {hint}", url=url) from exc
    except ImportError as exc:
        extra = "; pip install 'intake-tiffstack[s3]'" if protocol in ("s3", "s3a") else ""
        raise StorageError(
            f"{url}: the package for {protocol}:// is not installed ({exc}){extra}", url=url
        ) from exc


# --- what stores raise --------------------------------------------------------------------------

_RAISED_BY = {
    "aiohttp": ("ClientError",),
    "azure.core.exceptions": ("AzureError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "tarfile": ("TarError",),
    "zipfile": ("BadZipFile",),
}


def _store_exceptions() -> tuple[type[BaseException], ...]:
    # Only a module that is loaded can have raised, so none is imported for this.
    loaded = ((sys.modules.get(module), names) for module, names in _RAISED_BY.items())
    return (OSError, *(getattr(m, name) for m, names in loaded if m for name in names))


@contextmanager
def storage_errors(url: str, storage_options: Mapping[str, Any]) -> Iterator[None]:
    """Turn what a store raises inside the block into an error that names *url* and the cause.

    Raises
    ------
    FilesNotFoundError
        The store says that there is nothing at *url*.
    StorageError
        The store refuses, cannot be reached, or is not what it should be.
    OptionError
        The storage options do not fit the store.
    """
    try:
        yield
    except TiffStackError:
        raise
    except (TypeError, ValueError) as exc:  # many stores look at their options at the first call
        if is_local(url):
            raise
        given = ", ".join(map(str, storage_options)) or "none"
        raise OptionError(
            f"{url} or the storage_options (given: {given}) do not fit this store: "
            f"{_cause_text(exc, storage_options)}",
            url=url,
        ) from exc
    except _store_exceptions() as exc:
        cause = exc
        if url.startswith(("http://", "https://")) and exc.__cause__ is not None:
            # fsspec's HTTP says FileNotFoundError for everything, a refused connection too
            cause = exc.__cause__
        kind = FilesNotFoundError if _is_not_found(cause) else StorageError
        text = _cause_text(cause, storage_options)
        raise kind(f"cannot list or read {url}: {text}", url=url, cause=text) from exc


def _is_not_found(exc: BaseException) -> bool:
    is_missing = isinstance(exc, FileNotFoundError | NotADirectoryError)
    return is_missing or getattr(exc, "status", None) in (404, 410)


def _cause_text(exc: BaseException, storage_options: Mapping[str, Any]) -> str:
    """Return what *exc* says on one line, with no value of the storage options in it."""
    text = " ".join(str(exc).split())
    for secret in _texts(storage_options):
        text = text.replace(secret, "***")
    return f"{type(exc).__name__}: {text[:300]}"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) > 3:  # shorter ones are words such as "s3" that messages are made of
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
