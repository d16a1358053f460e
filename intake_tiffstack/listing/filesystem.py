"""URLs and the filesystems behind them, and what those raise in words of this package."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from fsspec import available_protocols, get_filesystem_class
from fsspec.core import url_to_fs
from fsspec.utils import tokenize

from intake_tiffstack.errors import FilesNotFoundError, OptionError, StorageError, TiffStackError
from intake_tiffstack.listing.filetable import WRAPPERS, split_chain

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = [
    "absolute_url",
    "first_relative",
    "get_filesystem",
    "http_status",
    "is_local",
    "is_transient",
    "speaks",
    "storage_errors",
    "store_exceptions",
]


_LOCAL_STARTS = ("/", "./", "../", "~", "file://", "local://")


def first_relative(urlpath: str | Sequence[str]) -> str | None:
    """Return the first path that depends on the current folder, None where none does. Pure.

    >>> first_relative(["/data/a.tif", "raw/*.tif"]), first_relative("s3://bucket/a.tif")
    ('raw/*.tif', None)
    """
    urls = [urlpath] if isinstance(urlpath, str) else urlpath
    anchored = ("/", "~", "file://", "local://")
    return next((url for url in urls if is_local(url) and not url.startswith(anchored)), None)


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

    Cheap from the second call on: the few stores and archives used last are kept, an archive for as
    long as it is what it was; one look at its file a call.

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
        shared = _shared_part(url, storage_options)
        if shared is None:
            filesystem, path = url_to_fs(url, **storage_options)
        else:
            filesystem = _open_once(*shared, os.getpid(), _Options.of(storage_options))
            path = filesystem._strip_protocol(split_chain(url)[0].rpartition("::")[2])
    return filesystem, path


def speaks(filesystem: AbstractFileSystem, *protocols: str) -> bool:
    """Return whether *filesystem* is the one of one of *protocols*. Pure."""
    own = filesystem.protocol
    return not set(protocols).isdisjoint([own] if isinstance(own, str) else own)


# --- what fsspec would open again and again -----------------------------------------------------


def _shared_part(url: str, storage_options: Mapping[str, Any]) -> tuple[str, Hashable] | None:
    """Return what all files of a store or archive share, and what tells that it is the same.

    fsspec opens an archive with each call, and some filesystems with each thread: then each thread
    has its own connections and its own local copies. None where fsspec does as well by itself.
    """
    path, chain = split_chain(url)
    protocol = _protocols(url)[0]
    cls = get_filesystem_class(protocol)
    if chain and not cls.cachable:
        return f"{protocol}://{chain}", _stamp(chain.removeprefix("::"), storage_options)
    if (cls.async_impl or protocol in WRAPPERS) and not chain and "?" not in url:
        # from ?versionId= s3fs takes an option; from the host some take who asks
        cache, colons, target = path.rpartition("::")
        return cache + colons + "/".join(target.split("/")[:3]), None
    return None


def _stamp(url: str, storage_options: Mapping[str, Any]) -> Hashable:
    """Return what changes with the content of the archive at *url*: one stat, or one request."""
    if is_local(url):
        status = os.stat(absolute_url(url))
        return status.st_ino, status.st_size, status.st_mtime_ns
    options = {key: storage_options[key] for key in _protocols(url) if key in storage_options}
    filesystem, path = get_filesystem(url, options)
    filesystem.invalidate_cache(path)
    return str(filesystem.info(path))


@dataclass(frozen=True)
class _Options:
    """Storage options as part of a key: they are dicts of dicts, objects and secrets."""

    token: str
    values: Mapping[str, Any] = field(compare=False, repr=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        return cls(tokenize(values), values)


@lru_cache(maxsize=8)
def _open_once(url: str, stamp: Hashable, pid: int, options: _Options) -> AbstractFileSystem:
    """Return a filesystem that all threads share; another *stamp* or process opens it again."""
    filesystem, _ = url_to_fs(url, **options.values)
    if stamp is not None:
        filesystem.ls("")  # reads the table of contents, before two threads do at once
    return filesystem


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
_MAY_PASS = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "azure.core.exceptions": ("ServiceRequestError", "ServiceResponseError"),
    "botocore.exceptions": ("ConnectionError", "HTTPClientError", "IncompleteReadError"),
}


def _loaded(names: Mapping[str, tuple[str, ...]]) -> tuple[type[BaseException], ...]:
    # Only a module that is loaded can have raised, so none is imported for this.
    loaded = ((sys.modules.get(module), of_it) for module, of_it in names.items())
    return tuple(getattr(m, name) for m, of_it in loaded if m for name in of_it)


def store_exceptions() -> tuple[type[BaseException], ...]:
    """Return the classes of what the stores in use raise."""
    return (OSError, *_loaded(_RAISED_BY))


def http_status(exc: BaseException) -> int | None:
    """Return the HTTP status in what a store raised, None where it has none. Pure."""
    response = getattr(exc, "response", None)
    if isinstance(response, Mapping):  # botocore
        status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status
    codes = (getattr(exc, name, None) for name in ("status", "status_code", "code"))
    return next((code for code in codes if isinstance(code, int)), None)


def is_transient(exc: BaseException) -> bool:
    """Return whether what a store raised may be gone at the next attempt. Pure.

    Examples
    --------
    >>> [is_transient(exc) for exc in (TimeoutError(), ConnectionResetError(), PermissionError())]
    [True, True, False]
    """
    status = http_status(exc)
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    return isinstance(exc, (TimeoutError, ConnectionError, *_loaded(_MAY_PASS)))


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
    except store_exceptions() as exc:
        cause = exc
        if url.startswith(("http://", "https://")) and exc.__cause__ is not None:
            # fsspec's HTTP says FileNotFoundError for everything, a refused connection too
            cause = exc.__cause__
        kind = FilesNotFoundError if _is_not_found(cause) else StorageError
        text = _cause_text(cause, storage_options)
        raise kind(f"cannot list or read {url}: {text}", url=url, cause=text) from exc


def _is_not_found(exc: BaseException) -> bool:
    is_missing = isinstance(exc, FileNotFoundError | NotADirectoryError)
    return is_missing or http_status(exc) in (404, 410)


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
