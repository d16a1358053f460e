"""Which copy belongs to a collection: a name made of what decides its pixels alone. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from intake_tiffstack.options import Options
from intake_tiffstack.redact import hide_credentials
from intake_tiffstack.storage.urls import absolute_url

__all__ = ["APPLIED_ON_TOP", "DECIDES_PIXELS", "deciding_options", "pixel_key", "place_key"]

DECIDES_PIXELS = frozenset(
    {
        "urlpath",
        "pattern",
        "concat_dim",
        "labels",
        "sel",
        "exclude",
        "files",
        "sizes",
        "file_dims",
        "dims",
        "series",
        "level",
        "missing",
        "fill_value",
        "duplicates",
        "unequal",
        "sets",
        "layout",
        "sidecars",
        "place",
        "overlap",
    }
)
"""Options that say which files make up the array, and where each of them goes."""

APPLIED_ON_TOP = frozenset(
    {
        "storage_options",
        "chunks",
        "coords",
        "channel_names",
        "scale",
        "translation",
        "units",
        "unmatched",
        "validate",
        "mask_and_scale",
        "on_error",
        "header_index",
        "arraytype",
        "persist_mode",
        "on_stale",
    }
)
"""Options that may change while the copy stays: they describe pixels, deliver or check them. Each
option is in one of the two; a test sees to it."""

_SAY_WHERE = frozenset(
    {"account_host", "account_name", "base_url", "endpoint", "endpoint_url", "fo", "host"}
    | {"hostname", "instance", "org", "path", "port", "ref", "repo", "rev", "revision", "sha"}
    | {"url"}
)
"""Storage options that name the store or a state of it: one bucket name may be of two services,
one path of two branches."""

_IN_ACCOUNT = re.compile(r"(AccountName|BlobEndpoint)=([^;]+)")
"""The parts of Azure's connection string that are not secret."""

_MAY_NAME = re.compile(
    r"\b(?!https?:)[a-z][a-z0-9+.-]*://[^/@:?#]+@|[?&]key=[^&\s]*", re.IGNORECASE
)
"""What is hidden where a URL is shown, and may yet say which files are meant: Azure writes
``abfs://container@account/...``, and ``?key=`` is the name of an object as often as a password."""

_VERSION = 1


def pixel_key(options: Options) -> str:
    """Return 32 hex digits that are equal for all options of the same pixels. Pure.

    The same in every process and with every version of what is installed; neither credentials nor
    what was discovered is in it. An option at its default is left out, so that an option that
    comes later does not rename the copies there are.

    Examples
    --------
    >>> lazy = Options.parse({"urlpath": "s3://b/raw/*.tif", "chunks": "file"})
    >>> pixel_key(lazy) == pixel_key(Options.parse({"urlpath": "s3://b/raw/*.tif"}))
    True
    >>> pixel_key(lazy) == pixel_key(Options.parse({"urlpath": "s3://b/raw/a*.tif"}))
    False
    """
    decided = {"urlpath": _absolute(options.urlpath), **deciding_options(options)}
    where = sorted(set(_places(options.storage_options)))
    return _digest({"version": _VERSION, "options": decided, "where": where})


def place_key(options: Options) -> str:
    """Return 32 hex digits that are equal for all options of the same place of files. Pure."""
    where = sorted(set(_places(options.storage_options)))
    return _digest({"urlpath": _absolute(options.urlpath), "where": where})


def deciding_options(options: Options) -> dict[str, Any]:
    """Return the options beside the place that decide pixels and are not at their defaults. Pure.

    As JSON has them.
    """
    defaults = Options.parse({"urlpath": "-"})
    decided: dict[str, Any] = {}
    for name in sorted(DECIDES_PIXELS - {"urlpath"}):
        value = getattr(options, name)
        if value is not None and value != getattr(defaults, name):
            decided[name] = _plain(_in_order(name, value))
    return decided


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _absolute(urlpath: str | Sequence[str]) -> str | list[str]:
    """Return the urlpath as it is from every folder, without what is a credential for sure."""
    if isinstance(urlpath, str):
        url = absolute_url(urlpath).rstrip("/")
        return " ".join([hide_credentials(url), *_MAY_NAME.findall(url)])
    return [str(_absolute(url)) for url in urlpath]


def _in_order(name: str, value: Any) -> Any:
    """Return a mapping whose order counts as the list of what counts in it."""
    if name == "labels":  # what the labels are called is a coordinate
        return {field: list(texts) for field, texts in value.items()}
    if name == "file_dims" and isinstance(value, Mapping):
        return list(value.items())
    return value


def _plain(value: Any) -> Any:
    """Return an option's value in types of JSON, as text where JSON has none."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist() if value.dtype.kind != "M" else value.astype(str).tolist())
    if isinstance(value, Set):
        return sorted(str(_plain(item)) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic) and value.dtype.kind != "M":
        return value.item()
    return value if isinstance(value, str | int | float | None) else str(value)


def _places(storage_options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what storage options say of where the store is, however deep."""
    for name, value in storage_options.items():
        if isinstance(value, Mapping):
            yield from _places(value)
        elif name == "connection_string":
            yield from _IN_ACCOUNT.findall(str(value))
        elif name in _SAY_WHERE and value is not None:
            yield name, hide_credentials(str(value)).rstrip("/")
