"""Translation of exceptions of object stores and filesystems into errors of this package."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from fsspec import available_protocols, get_filesystem_class

from intake_tiffstack.errors import FilesNotFoundError, OptionError, StorageError, TiffStackError
from intake_tiffstack.redact import hide_in_text, secret_texts
from intake_tiffstack.storage.urls import is_local

__all__ = [
    "http_status",
    "is_cut_short",
    "is_transient",
    "is_unauthorized",
    "option_names",
    "storage_errors",
    "store_exceptions",
]

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
    # Only a loaded module can have raised, so nothing is imported here.
    loaded = ((sys.modules.get(module), of_it) for module, of_it in names.items())
    return tuple(getattr(m, name) for m, of_it in loaded if m for name in of_it)


def store_exceptions() -> tuple[type[BaseException], ...]:
    """Return the exception classes of the stores in use."""
    return (OSError, *_loaded(_RAISED_BY))


def http_status(exc: BaseException) -> int | None:
    """Return the HTTP status of an exception of a store, or None. Pure."""
    response = getattr(exc, "response", None)
    if isinstance(response, Mapping):  # botocore
        status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status
    codes = (getattr(exc, name, None) for name in ("status", "status_code", "code"))
    return next((code for code in codes if isinstance(code, int)), None)


def is_transient(exc: BaseException) -> bool:
    """Return whether another attempt may succeed after this exception of a store. Pure.

    Examples
    --------
    >>> [is_transient(exc) for exc in (TimeoutError(), ConnectionResetError(), PermissionError())]
    [True, True, False]
    """
    status = http_status(exc)
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    return isinstance(exc, (TimeoutError, ConnectionError, *_loaded(_MAY_PASS)))


def is_cut_short(exc: BaseException) -> bool:
    """Return whether a store's body broke off, which its client does not repeat. Pure."""
    names = {"aiohttp": ("ClientPayloadError",), "botocore.exceptions": ("IncompleteReadError",)}
    return isinstance(exc, (asyncio.IncompleteReadError, *_loaded(names)))


_NO_PERMISSION = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken"}
    | {"SignatureDoesNotMatch", "TokenRefreshRequired"}
)
"""Codes of S3 for credentials that do not count, or no longer."""


def is_unauthorized(exc: BaseException | None) -> bool:
    """Return whether a store refused because of credentials: none, wrong or expired ones. Pure."""
    if exc is None:
        return False
    response = getattr(exc, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, Mapping) else None
    return (
        isinstance(exc, PermissionError)
        or getattr(exc, "lacks_permission", False)
        or http_status(exc) in (401, 403)
        or code in _NO_PERMISSION
        or "Credential" in type(exc).__name__
        or is_unauthorized(exc.__cause__)
    )


def _advice(exc: BaseException, url: str) -> str:
    """Return what to do about an exception of a store, beginning with ``; ``; else nothing. Pure.

    >>> _advice(type("NoCredentialsError", (OSError,), {})(), "s3://b/a.tif")[:44]
    '; for a public bucket write storage_options:'
    """
    if type(exc).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        nested = "{s3: {anon: true}}" if "::" in url else "{anon: true}"
        return (
            f"; for a public bucket write storage_options: {nested}, else set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if http_status(exc) == 501:
        return (
            "; a store without conditional reads (If-Match) needs storage_options: "
            "{local_expiry_check: true}"
        )
    if is_unauthorized(exc) and not is_local(url):
        return (
            "; check which credentials are in use, whether they may list and read it, and whether "
            "they have expired"
        )
    return ""


@lru_cache(maxsize=32)
def option_names(protocol: str) -> frozenset[str]:
    """Return the names of the options that a filesystem takes by name."""
    classes = get_filesystem_class(protocol).__mro__
    names = (inspect.signature(cls.__init__).parameters for cls in classes if cls is not object)
    return frozenset(name for one in names for name in one)


def _near_option(url: str, text: str) -> str:
    """Return which option is meant by the one that an error names, after ``; ``; else nothing.

    >>> _near_option("zip://a.tif", "unexpected keyword argument 'compresion'")
    "; did you mean 'compression'?"
    """
    protocol = re.split(r"::|://", url)[0]
    found = re.search(r"unexpected keyword argument '(\w+)'", text)
    if found is None or protocol not in available_protocols():
        return ""
    near = get_close_matches(found[1], option_names(protocol) - {found[1]}, n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


@contextmanager
def storage_errors(url: str, storage_options: Mapping[str, Any]) -> Iterator[None]:
    """Turn exceptions of a store inside the block into errors that name *url* and the cause.

    Raises
    ------
    FilesNotFoundError
        If nothing exists at *url*.
    StorageError
        If the store refuses, cannot be reached, or is damaged.
    OptionError
        If the storage options do not fit the store.
    """
    error: TiffStackError
    try:
        yield
        return
    except TiffStackError:
        raise
    except (TypeError, ValueError) as exc:  # many stores check their options at the first call
        if is_local(url):
            raise
        given = ", ".join(map(str, storage_options)) or "none"
        text = _cause_text(exc, storage_options)
        error = OptionError(
            f"{url} or the storage_options (given: {given}) do not fit this store: {text}"
            f"{_near_option(url, text)}",
            url=url,
        )
        error.__cause__ = _plain_cause(exc, text)
    except KeyError as exc:  # from fsspec before 2026.9, for a file that a ZIP lacks
        if not url.startswith("zip://"):
            raise
        error = FilesNotFoundError(f"cannot list or read {url}: {exc.args[0]}", url=url)
        error.__cause__ = FileNotFoundError(*exc.args)
    except store_exceptions() as exc:
        cause = exc
        if type(exc).__name__ == "FSTimeoutError" and exc.__cause__ is not None:
            cause = exc.__cause__  # fsspec's has no text
        if (
            url.startswith(("http://", "https://"))
            and isinstance(exc, FileNotFoundError)
            and exc.__cause__ is not None
        ):
            # fsspec's HTTP raises it for everything, even a refused connection
            cause = exc.__cause__
        kind = FilesNotFoundError if _is_not_found(cause) else StorageError
        text = _cause_text(cause, storage_options)
        message = f"cannot list or read {url}: {text}{_advice(cause, url)}"
        error = kind(message, url=url, cause=text)
        error.__cause__ = _plain_cause(exc, text)
    try:
        raise error
    finally:
        error.__context__ = None  # the exception of the store, see _plain_cause()


class StoreFault(Exception):
    """The text of an exception of a store's client, which may have a ``status`` too."""


def _plain_cause(exc: BaseException, text: str) -> BaseException:
    """Return an exception that stands for one of a store in tracebacks.

    Those of aiohttp and others cannot be pickled, so that workers would lose ours with them, and
    show the whole URL. Pure.
    """
    text = hide_in_text(text.partition(": ")[2] or text)
    if type(exc).__module__ != "builtins" or not isinstance(exc, OSError):
        plain: BaseException = StoreFault(f"{type(exc).__name__}: {text}")
    elif exc.errno is None:
        plain = type(exc)(text)
    else:
        plain = OSError(exc.errno, text)
    known = {"status": http_status(exc), "lacks_permission": is_unauthorized(exc) or None}
    vars(plain).update({name: value for name, value in known.items() if value is not None})
    return plain


def _is_not_found(exc: BaseException) -> bool:
    is_missing = isinstance(exc, FileNotFoundError | NotADirectoryError)
    return is_missing or http_status(exc) in (404, 410)


def _cause_text(exc: BaseException, storage_options: Mapping[str, Any]) -> str:
    """Return *exc* as one line of text, without values of the storage options.

    >>> _cause_text(TimeoutError(), {}), _cause_text(OSError("no route"), {})
    ('TimeoutError without a message', 'OSError: no route')
    """
    text = " ".join(str(exc).split())
    for secret in sorted(secret_texts(storage_options), key=len, reverse=True):
        if len(secret) > 3:  # shorter ones are words such as "s3" that messages are made of
            text = text.replace(secret, "***")
    name = type(exc).__name__
    return f"{name}: {text[:300]}" if text else f"{name} without a message"
