"""From ``urlpath`` to files: each TIFF with its size and its mtime or ETag.

A urlpath is a file, a folder, a glob, a glob with ``{field}`` in it, a list of URLs, or several of
these. Local folders are scanned, stores are listed with few requests, and no file is opened.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any

from .errors import FilesNotFoundError, OptionError
from .filetable import File, FileTable, split_chain
from .store import (
    Row,
    Store,
    absolute_url,
    get_filesystem,
    is_local,
    open_store,
    stat_file,
    storage_errors,
)
from .urllist import LIST_SUFFIXES, TIFF_SUFFIXES, Entry, has_tiff_suffix, parse_list

__all__ = [
    "File",
    "FileTable",
    "Listing",
    "get_filesystem",
    "is_local",
    "list_files",
    "split_chain",
    "stat_file",
    "storage_errors",
]


@dataclass(frozen=True)
class Listing:
    """What a urlpath stands for at one moment."""

    files: FileTable
    """The files, sorted by URL, each once."""
    root: str
    """The folder that all files, folders and globs have in common, ending in ``/``; empty where
    they have nothing in common. An archive is left out of it, as from ``files.paths``."""
    is_single: bool
    """Whether the urlpath is one file given by its name."""
    pattern: str | None
    """The pattern inside the urlpath, from its first part with a ``{field}`` on."""

    def __post_init__(self) -> None:
        if not self.files:
            raise FilesNotFoundError("a listing must hold at least one file, but got none")
        if self.root and not self.root.endswith("/"):
            raise ValueError(f"root must end in '/', but got {self.root!r}")
        if self.is_single and len(self.files) != 1:
            raise ValueError(f"a single file must be one file, but got {len(self.files)}")


def list_files(
    urlpath: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    storage_options: Mapping[str, Any] | None = None,
    exclude: str | Sequence[str] = (),
) -> Listing:
    """Return the files that *urlpath* stands for; local files cost one stat each, others none.

    Parameters
    ----------
    urlpath
        One or several of these, local or any fsspec URL:

        - a file, which is that file whatever its name looks like;
        - a folder: the TIFFs in it (``.tif .tiff .btf .tf8 .stk .lsm``, any case), none below;
        - a glob: ``*``, ``?``, ``[a-c]``, ``[!a-c]``, and ``**`` for any number of folders. Case
          matters. What ends in ``*`` takes TIFFs only, since sidecars lie beside them; anything
          else takes what it matches;
        - a glob with ``{field}`` in it, each standing for ``*``: a pattern and its glob in one.
          From the first part with a field on, ``*`` is ``{}`` and all else is literal;
        - a ``.txt``, ``.csv`` or ``.parquet`` file: a list of URLs.

        Files whose names begin with a dot are never listed, nor is what lies in such folders.
    storage_options
        Handed to fsspec.
    exclude
        Globs; a file goes where one matches its name or its path below the root. ``*`` crosses
        ``/`` here.

    Raises
    ------
    FilesNotFoundError
        One of the urlpaths stands for no file; says what is there instead.
    StorageError
        A folder cannot be listed.
    OptionError
        The urlpath, its pattern or the storage options make no sense.
    """
    options = dict(storage_options or {})
    given, is_list = _texts(urlpath)
    urls = [absolute_url(text) for text in given]
    found = _find_all(urls, options)
    patterns = {item.pattern for item in found}
    if len(patterns) > 1:
        raise OptionError(
            "all urlpaths must have the same {field} pattern, but got "
            + " and ".join(repr(pattern) for pattern in sorted(patterns, key=str)[:2])
        )
    root = _common_folder({folder for item in found for folder in item.folders})
    rows = {row[0]: row for item in found for row in item.rows}
    kept = _without(rows.values(), [exclude] if isinstance(exclude, str) else exclude, root)
    if not kept:
        raise FilesNotFoundError(
            f"exclude={exclude!r} leaves out all of the {len(rows)} files at {_shorten(given)}"
        )
    return Listing(
        files=FileTable.from_rows(sorted(kept), options),
        root=root,
        is_single=not is_list and found[0].is_single,
        pattern=patterns.pop(),
    )


def _texts(urlpath: Any) -> tuple[list[str], bool]:
    """Return the urlpaths as texts, and whether they came as a list."""
    is_list = isinstance(urlpath, Sequence) and not isinstance(urlpath, str | bytes)
    texts = [os.fspath(u) for u in urlpath] if is_list else [os.fspath(urlpath)]
    wrong = [text for text in texts if not isinstance(text, str) or not text.strip()]
    if wrong or not texts:
        raise OptionError(
            "urlpath must be a file, folder, glob or list of these, but got "
            + (repr(wrong[0]) if wrong else "an empty list")
        )
    return texts, is_list


def _shorten(urlpaths: Sequence[str]) -> str:
    more = f" and {len(urlpaths) - 2} more" if len(urlpaths) > 2 else ""
    return ", ".join(map(repr, urlpaths[:2])) + more


def _common_folder(folders: Iterable[str]) -> str:
    """Return the folder that holds all of *folders*, ending in ``/``. Pure.

    Examples
    --------
    >>> _common_folder(["/data/raw1/", "/data/raw2/B02/"])
    '/data/'
    """
    parts = [folder.split("/") for folder in folders]
    same = os.path.commonprefix(parts)  # works on any sequences, part by part
    return "/".join(same) + "/" if same and same[-1] else "/".join(same)


def _without(rows: Iterable[Row], exclude: Sequence[str], root: str) -> list[Row]:
    if not exclude:
        return list(rows)
    takes = re.compile("|".join(fnmatch.translate(glob) for glob in exclude)).match
    kept = []
    for row in rows:
        path = split_chain(row[0])[0]
        if not takes(path.removeprefix(root)) and not takes(path.rpartition("/")[2]):
            kept.append(row)
    return kept


# --- one urlpath --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    rows: Sequence[Row]
    folders: Sequence[str]
    """The folders that were looked in."""
    is_single: bool = False
    pattern: str | None = None


def _find_all(urls: Sequence[str], options: Mapping[str, Any]) -> list[_Found]:
    """Return what each of *urls* stands for, those of one store together."""
    groups: dict[str, list[str]] = {}
    for url in urls:
        groups.setdefault(_store_key(url), []).append(url)
    found = {}
    for members in groups.values():
        store = open_store(members[0], options)
        found.update(zip(members, store.map(partial(_find, store), members), strict=True))
    return [found[url] for url in urls]


def _store_key(url: str) -> str:
    """Return what tells one store from another: the archive, else protocol and host."""
    if is_local(url):
        return ""
    path, chain = split_chain(url)
    protocol, _, rest = path.partition("://")
    return f"{protocol}://{chain or rest.partition('/')[0]}"


def _find(store: Store, url: str) -> _Found:
    path, chain = split_chain(url)
    ...
