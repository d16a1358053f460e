"""Which files a document of references may name: it is read from anywhere, and names any URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from intake_tiffstack.errors import OptionError, StorageError
from intake_tiffstack.settings import setting
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.failures import storage_errors
from intake_tiffstack.storage.filesystem import get_filesystem, require_allowed
from intake_tiffstack.storage.urls import absolute_url, is_local
from intake_tiffstack.to_json import parse_json

__all__ = [
    "ICECHUNK",
    "PARQUET",
    "check_references",
    "check_targets",
    "document_of",
    "is_references",
    "trust_references",
]

ICECHUNK = ".icechunk"
"""How the names of Icechunk repositories end."""

PARQUET = (".parquet", ".parq")
"""How the names of folders of references in Parquet end."""

_UNCHECKED = {"fs", "ref_storage_args", "simple_templates", "target", "template_overrides"}
"""Options of fsspec that let a document name other files than those that stand in it."""

_TEMPLATE = re.compile(r"\{\{(\w+)\}\}")

_OWN: set[str] = set()


def is_references(url: str) -> bool:
    """Return whether a URL is that of references, by its name.

    >>> is_references("s3://lab/a.json"), is_references("a.parquet/"), is_references("a.zarr")
    (True, True, False)
    """
    return url.rstrip("/").endswith((".json", ICECHUNK, *PARQUET))


def document_of(url: str) -> str:
    """Return the URL of the document that makes references open.

    >>> document_of("/a.json"), document_of("/a.parquet")
    ('/a.json', '/a.parquet/.zmetadata')
    """
    return f"{url.rstrip('/')}/.zmetadata" if url.rstrip("/").endswith(PARQUET) else url


def trust_references(url: str) -> None:
    """Let this process open the document at *url*, which it wrote itself."""
    _OWN.add(absolute_url(url))


def check_references(url: str, storage_options: Mapping[str, Any]) -> None:
    """Raise if a document of references names files that its opener has not allowed.

    A local document may name files in its folder and below, one in a store those of its bucket or
    host. The setting ``allow_references`` allows more: a list of folders or URLs, or True for all.

    Parameters
    ----------
    url : str
        Of the document, or a ``reference:`` URL.
    storage_options : mapping
        Passed to fsspec: for the document, or for the ``reference:`` URL.

    Raises
    ------
    StorageError
        If it names another file, or has templates that run code.
    OptionError
        If the setting is neither True, False nor a list of texts.
    """
    remote_protocol = "file"
    if url.startswith("reference:"):
        for name in _UNCHECKED & storage_options.keys():
            raise StorageError(
                f"{url}: the storage option {name!r} would let references name other files than "
                "those in their document; leave it out",
                url=url,
            )
        remote_protocol = storage_options.get("remote_protocol") or remote_protocol
        document: Any = storage_options.get("fo")
        if isinstance(document, str) and (protocol := storage_options.get("target_protocol")):
            document = f"{protocol}://{document.removeprefix(f'{protocol}://')}"
        storage_options = storage_options.get("target_options") or {}
    else:
        document = url
    where = document if isinstance(document, str) else ""
    if where.rstrip("/").endswith(PARQUET):
        content: Any = {"version": 1, "refs": _read_parquet(where.rstrip("/"), storage_options)}
    else:
        content = _read(where, storage_options) if where else document
    check_targets(where, _targets(content, remote_protocol, where or url))


def check_targets(where: str, targets: Iterable[str]) -> None:
    """Raise if one of the URLs that the document at *where* names is not allowed.

    Raises
    ------
    StorageError
        If so.
    OptionError
        If the setting is neither True, False nor a list of texts, or ``allow_protocols`` lacks the
        protocol of one.
    """
    targets = [*dict.fromkeys(targets)]
    for target in targets:
        require_allowed(target)
    allowed = setting("allow_references")
    if not isinstance(allowed, bool) and not (
        isinstance(allowed, list | tuple) and all(isinstance(item, str) for item in allowed)
    ):
        raise OptionError(
            "tiffstack.allow_references must be a list of folders and URLs, or True for all, but "
            f"got {allowed!r}"
        )
    if allowed is True or (where and absolute_url(where) in _OWN):
        return
    prefixes = [_home(where)] if where else []
    prefixes += [_as_folder(item) for item in allowed or ()]
    for target in targets:
        if not any(_is_below(target, prefix) for prefix in prefixes):
            raise StorageError(
                f"{where} names {target}, which lies in another folder, bucket or host than "
                "the document. If you trust it, allow that: dask.config.set({"
                f"'tiffstack.allow_references': [{target.rpartition('/')[0]!r}]}})",
                url=where,
            )


def _read(url: str, storage_options: Mapping[str, Any]) -> Any:
    filesystem, path = get_filesystem(url, storage_options)
    with storage_errors(url, storage_options):
        content = ask(filesystem, "cat_file", path)
    try:
        return parse_json(content)
    except ValueError as exc:
        raise StorageError(f"{url} holds no references that can be used: {exc}", url=url) from exc


def _read_parquet(url: str, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the distinct URLs that references in Parquet name, as references."""
    import pyarrow.parquet

    filesystem, path = get_filesystem(url, storage_options)
    found: dict[str, Any] = {}
    with storage_errors(url, storage_options):
        for name in filesystem.find(path):
            if name.endswith(".parq"):
                source = pyarrow.BufferReader(filesystem.cat_file(name))
                table = pyarrow.parquet.read_table(source, columns=["path"])
                for target in table["path"].unique().to_pylist():
                    if target is not None:
                        found[target] = [target]
    return found


def _targets(content: Any, remote_protocol: str, url: str) -> Iterator[str]:
    """Yield the URL of each file that a document names, local ones as absolute paths. Pure.

    The document is understood as fsspec does: without a version all of it is references, in
    version 1 they may name templates.

    Raises
    ------
    StorageError
        If fsspec would understand it in another way, or not at all.
    """
    is_plain = isinstance(content, Mapping) and content.get("version") is None
    refs = content if is_plain else content.get("refs") if isinstance(content, Mapping) else None
    templates = {} if is_plain or not refs else content.get("templates") or {}
    if not isinstance(refs, Mapping) or not isinstance(templates, Mapping):
        raise StorageError(f"{url} holds no references that can be used", url=url)
    if not is_plain and (content.get("gen") or any("{{" in str(v) for v in templates.values())):
        raise StorageError(
            f"{url} has references that fsspec generates from templates, which can run code; "
            "write them out one by one",
            url=url,
        )
    for key, value in refs.items():
        if isinstance(value, str | bytes | Mapping):
            continue  # content itself, not where it is
        if not _is_reference(value):
            raise StorageError(
                f"{url} holds no references that can be used: {key!r} is {value!r:.80}, not "
                "[URL] or [URL, offset, size]",
                url=url,
            )
        target = value[0]
        if templates and "{{" in target:
            # fsspec formats it, which does more than putting in values
            if re.search("[{}]", _TEMPLATE.sub("", target)):
                raise StorageError(
                    f"{url}: the reference {target!r} is made from templates in another way than "
                    "{{name}}; write it out",
                    url=url,
                )
            target = _TEMPLATE.sub(lambda found: str(templates.get(found[1], "")), target)
        if "://" not in target and remote_protocol not in ("file", "local"):
            target = f"{remote_protocol}://{target}"
        if is_local(target):
            target = LocalFileSystem._strip_protocol(target)  # "file:" before a path, too
        yield absolute_url(target) if "::" not in target else target


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) in (1, 3)
        and isinstance(value[0], str)
        and all(type(number) is int and number >= 0 for number in value[1:])
    )


def _home(document: str) -> str:
    """Return what a document may name unasked: its folder, or its bucket or host. Pure.

    >>> _home("s3://bucket/a/b.json"), _home("/data/a.json")
    ('s3://bucket/', '/data/')
    """
    if is_local(document):
        return f"{absolute_url(document).rpartition('/')[0]}/"
    protocol, _, rest = document.partition("://")
    return f"{protocol}://{rest.partition('/')[0]}/"


def _as_folder(text: str) -> str:
    return absolute_url(text).rstrip("/") + "/"


def _is_below(target: str, folder: str) -> bool:
    """Return whether a file or folder lies below a folder or is it.

    Links and ``..`` are followed.
    """
    if is_local(target) != is_local(folder):
        return False
    if is_local(target):
        return f"{os.path.realpath(target)}/".startswith(f"{os.path.realpath(folder).rstrip('/')}/")
    return target.startswith(folder) and "::" not in target and "/../" not in target
