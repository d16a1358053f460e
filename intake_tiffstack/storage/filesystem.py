"""The fsspec filesystem of a URL; those used last are kept open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fsspec import available_protocols, get_filesystem_class
from fsspec.core import url_to_fs
from fsspec.utils import tokenize

from intake_tiffstack.errors import OptionError, StorageError
from intake_tiffstack.settings import setting, setting_number
from intake_tiffstack.storage.failures import is_unauthorized, option_names, storage_errors
from intake_tiffstack.storage.s3 import make_session
from intake_tiffstack.storage.urls import WRAPPERS, absolute_url, is_local, split_chain

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

_OPENING: dict[int, threading.RLock] = {}
"""By process: in the child of a fork, that of the parent may be held for ever."""

__all__ = [
    "get_filesystem",
    "renew_filesystem",
    "require_allowed",
    "retry_authorization",
    "speaks",
]


def get_filesystem(
    url: str, storage_options: Mapping[str, Any], *, is_trusted: bool = False
) -> tuple[AbstractFileSystem, str]:
    """Return the fsspec filesystem of *url* and the path in it.

    Cheap from the second call on, because the stores and archives used last are kept. An archive
    is opened again if its file has changed; each call checks that with one stat or request.
    The setting ``allow_protocols`` holds unless *is_trusted*: the user's own call names the URL.

    Raises
    ------
    OptionError
        If the protocol is unknown or not allowed, or the storage options do not fit it.
    StorageError
        If the package for the protocol is not installed, or the store cannot be reached.
    FilesNotFoundError
        If the archive does not exist.
    """
    if not is_trusted:
        require_allowed(url, storage_options)
    for protocol in _protocols(url):
        _require_protocol(protocol, url)
    _refuse_flat(url, storage_options)
    with storage_errors(url, storage_options):
        shared = _shared_part(url, storage_options)
        if shared is None:
            filesystem, path = url_to_fs(url, **storage_options)
        else:
            options = _with_limits(url, storage_options)
            with _OPENING.setdefault(os.getpid(), threading.RLock()):  # threads would make one each
                filesystem = _open_once(*shared, os.getpid(), _Options.of(options))
            path = filesystem._strip_protocol(split_chain(url)[0].rpartition("::")[2])
    return filesystem, path


def require_allowed(url: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """Raise unless the setting ``allow_protocols`` has every protocol of *url*.

    Those that storage options name count too: with them fsspec opens another store than the URL
    says.

    Raises
    ------
    OptionError
        If it lacks one, or is no list.
    """
    allowed = setting("allow_protocols")
    if allowed is None:
        return
    if not isinstance(allowed, list | tuple | set | frozenset):
        raise OptionError(f"tiffstack.allow_protocols must be a list, but got {allowed!r}")
    for protocol in (*_protocols(url), *_named_protocols(storage_options or {})):
        if protocol not in allowed and not (protocol == "local" and "file" in allowed):
            raise OptionError(
                f"{url}: the setting allow_protocols lacks {protocol!r}; it has {sorted(allowed)}",
                url=url,
            )


def _named_protocols(options: Any) -> Iterator[str]:
    """Yield the protocols that storage options name, at any depth. Pure.

    >>> list(_named_protocols({"s3": {"target_protocol": "ftp"}, "fo": "zip://a::http://h/b"}))
    ['ftp', 'zip', 'http']
    """
    if isinstance(options, Mapping):
        for name, value in options.items():
            if name in ("protocol", "remote_protocol", "target_protocol") and value is not None:
                yield str(value)
            elif name == "fo" and isinstance(value, str):
                yield from _protocols(value)
            else:
                yield from _named_protocols(value)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from _named_protocols(value)


def renew_filesystem(url: str, storage_options: Mapping[str, Any]) -> bool:
    """Drop the filesystem of *url*, so that the next one takes the credentials that now count.

    A filesystem keeps the credentials that it was made with, expired ones too. Return False for
    filesystems without any: local ones, HTTP.
    """
    if is_local(url):
        return False
    filesystem, _ = get_filesystem(url, storage_options)
    inner = getattr(filesystem, "fs", None)  # behind a cache or an archive
    renewed = [one for one in (filesystem, inner) if one is not None]
    if any(speaks(one, "http") for one in renewed):
        return False
    _open_once.cache_clear()
    for one in renewed:
        type(one)._cache.pop(one._fs_token, None)
    return True


def retry_authorization(
    function: Callable[[], T], url: str, storage_options: Mapping[str, Any]
) -> T:
    """Return ``function()``; called again with new credentials if the store refused them."""
    try:
        return function()
    except StorageError as exc:
        if not is_unauthorized(exc.__cause__) or not renew_filesystem(url, storage_options):
            raise
    return function()


def speaks(filesystem: AbstractFileSystem, *protocols: str) -> bool:
    """Return whether *filesystem* serves one of *protocols*. Pure."""
    own = filesystem.protocol
    return not set(protocols).isdisjoint([own] if isinstance(own, str) else own)


# --- filesystems that are kept open -------------------------------------------------------------


def _shared_part(url: str, storage_options: Mapping[str, Any]) -> tuple[str, Hashable] | None:
    """Return the URL of the store or archive, and a stamp that changes with its content.

    fsspec opens an archive with each call, and some filesystems once per thread, so that each
    thread has its own connections and local copies. None if fsspec keeps the filesystem itself.
    """
    path, chain = split_chain(url)
    protocol = _protocols(url)[0]
    cls = get_filesystem_class(protocol)
    if chain and not cls.cachable:
        return f"{protocol}://{chain}", _stamp(chain.removeprefix("::"), storage_options)
    if (cls.async_impl or protocol in WRAPPERS) and not chain and "?" not in url:
        # s3fs reads an option from ?versionId=; some filesystems read the user from the host
        cache, colons, target = path.rpartition("::")
        return cache + colons + "/".join(target.split("/")[:3]), None
    return None


def _stamp(url: str, storage_options: Mapping[str, Any]) -> Hashable:
    """Return a value that changes with the archive at *url*: one stat, or one request."""
    if is_local(url):
        status = os.stat(absolute_url(url))
        return status.st_ino, status.st_size, status.st_mtime_ns
    options = {key: storage_options[key] for key in _protocols(url) if key in storage_options}
    filesystem, path = get_filesystem(url, options)
    filesystem.invalidate_cache(path)
    return str(filesystem.info(path))


@dataclass(frozen=True)
class _Options:
    """Storage options, hashable by a token: they may be nested, objects and secrets."""

    token: str
    values: Mapping[str, Any] = field(compare=False, repr=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        return cls(tokenize(values), values)


@lru_cache(maxsize=8)
def _open_once(url: str, stamp: Hashable, pid: int, options: _Options) -> AbstractFileSystem:
    """Return a filesystem shared by all threads; another *stamp* or process opens it again."""
    filesystem, _ = url_to_fs(url, **options.values)
    if speaks(filesystem, "s3"):
        filesystem.retries = 1  # botocore repeats, as often as the setting allows
        make_session(filesystem)
    if stamp is not None:
        filesystem.ls("")  # reads the table of contents, before two threads do at once
    return filesystem


def _with_limits(url: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options of S3 and HTTP with what the settings say of time, attempts and connections.

    What the options say themselves is kept.
    """
    protocols = _protocols(url)
    if protocols in (["s3"], ["s3a"]):
        timeout = setting_number("timeout", least=1e-3)
        limits = {
            # botocore keeps 10 connections
            "max_pool_connections": int(setting_number("concurrency", least=1)),
            "connect_timeout": timeout,
            "read_timeout": timeout,
            "retries": {"max_attempts": int(setting_number("retries", least=0))},
        }
        return {
            "use_listings_cache": False,  # it would keep all names of every folder ever listed
            **options,
            "config_kwargs": limits | dict(options.get("config_kwargs", {})),
        }
    if protocols in (["http"], ["https"]):
        import aiohttp  # installed, because fsspec's HTTP needs it

        timeout = setting_number("timeout", least=1e-3)
        # aiohttp's own is 5 minutes for all of an answer
        limit = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
        return {**options, "client_kwargs": {"timeout": limit, **options.get("client_kwargs", {})}}
    return options


def _protocols(url: str) -> list[str]:
    links = [url] if is_local(url) else url.split("::")
    return [link.partition("://")[0] if "://" in link else _bare_protocol(link) for link in links]


def _bare_protocol(link: str) -> str:
    return link if link in available_protocols() else "file"


def _refuse_flat(url: str, storage_options: Mapping[str, Any]) -> None:
    """Raise if options for a chain are those of no link, or of a link behind the first.

    fsspec ignores both.
    """
    first, *others = _protocols(url)
    if not others or not storage_options:
        return
    links = [first, *others]
    for name, value in storage_options.items():
        is_link = isinstance(value, Mapping) and name.lower() in available_protocols()
        if is_link and name not in links:
            taken = " and ".join(f"{link}: {{...}}" for link in links)
            raise OptionError(
                f"{url}: the storage_options of {name!r} are of no link of this chain, which takes "
                f"{taken}",
                url=url,
            )
    own = option_names(first)
    for protocol in others:
        flat = [n for n in storage_options if n in option_names(protocol) - own - {*others}]
        if flat:
            raise OptionError(
                f"{url}: the storage_options {', '.join(flat)} are of {protocol}://, which is "
                f"behind {first}::, and each link takes its own: write storage_options: "
                f"{{{protocol}: {{{flat[0]}: ...}}}}",
                url=url,
            )


def _require_protocol(protocol: str, url: str) -> None:
    try:
        get_filesystem_class(protocol)
    except ValueError as exc:
        near = get_close_matches(protocol.lower(), available_protocols(), n=1, cutoff=0.5)
        hint = (
            f"did you mean {near[0]}://?"
            if near
            else "fsspec.available_protocols() lists the known ones"
        )
        raise OptionError(f"{url}: unknown protocol {protocol!r}; {hint}", url=url) from exc
    except ImportError as exc:
        extra = "; pip install 'intake-tiffstack[s3]'" if protocol in ("s3", "s3a") else ""
        raise StorageError(
            f"{url}: the package for {protocol}:// is not installed ({exc}){extra}", url=url
        ) from exc
