"""From ``urlpath`` to files: each TIFF with its size and its mtime or ETag.

A urlpath is a file, a folder, a glob, a glob with ``{field}`` in it, a list of URLs, or several of
these. Local folders are scanned, stores are listed with few requests, and no file is opened.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import Any, Literal, TypeVar

import numpy as np

from intake_tiffstack.errors import FilesNotFoundError, OptionError
from intake_tiffstack.listing.globs import TIFFS, Glob, GlobPart, find_files, split_glob
from intake_tiffstack.listing.mistaken import refuse_mistaken
from intake_tiffstack.listing.not_found import few_names, nothing_found
from intake_tiffstack.listing.plates import (
    PLATES,
    choose_index,
    is_plate_index,
    plate_index,
    read_plate,
)
from intake_tiffstack.listing.url_list import (
    LIST_SUFFIXES,
    Entry,
    has_tiff_suffix,
    parse_list,
    table_entries,
)
from intake_tiffstack.natural_sort import natural_order
from intake_tiffstack.storage.failures import storage_errors
from intake_tiffstack.storage.files import File, FileTable
from intake_tiffstack.storage.filesystem import get_filesystem, retry_authorization
from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.reference_targets import check_references
from intake_tiffstack.storage.store import Store, open_store, stat_file
from intake_tiffstack.storage.urls import (
    absolute_url,
    is_absolute,
    is_local,
    split_chain,
)

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

Sidecar = Literal["none", "auto", "required"]

T = TypeVar("T")


@dataclass(frozen=True)
class Listing:
    """The files that a urlpath matched when it was listed."""

    files: FileTable
    """The files, each once: in the order of a list, else by URL."""
    root: str
    """The common folder of all files, folders and globs, ending in ``/``; empty if there is none.
    The URL of an archive is left out, as in ``files.paths``."""
    is_single: bool
    """Whether the urlpath is one file given by its name."""
    pattern: str | None
    """The pattern inside the urlpath, from its first part with a ``{field}`` on."""
    is_ordered: bool = False
    """Whether a list gives the order of the files."""
    table: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """The columns of a table that names the files, a value per file; empty without one."""
    index: str = ""
    """URL of the index of a plate that names the files; empty without one."""
    absent: frozenset[str] = frozenset()
    """URLs of files that the index names, and that are not there."""

    def __post_init__(self) -> None:
        if not self.files:
            raise FilesNotFoundError("a listing must hold at least one file, but got none")
        if self.root and not self.root.endswith("/"):
            raise ValueError(f"root must end in '/', but got {self.root!r}")
        if self.is_single and len(self.files) != 1:
            raise ValueError(f"a single file must be one file, but got {len(self.files)}")

    def take(self, rows: Sequence[int]) -> Listing:
        """Return the listing of the files at *rows*. Pure."""
        table = {name: tuple([values[row] for row in rows]) for name, values in self.table.items()}
        return replace(self, files=self.files.take(np.asarray(rows, np.intp)), table=table)


def list_files(
    urlpath: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    storage_options: Mapping[str, Any] | None = None,
    exclude: str | Sequence[str] = (),
    sidecar: Sidecar = "none",
    takes_absent: bool = False,
) -> Listing:
    """Return the files that *urlpath* matches; local files cost one stat each, others none.

    Parameters
    ----------
    urlpath : str or os.PathLike[str] or sequence[str or os.PathLike[str]]
        One or several of these, local or any fsspec URL:

        - a file, whatever its name looks like;
        - a folder: the TIFFs in it (``.tif .tiff .btf .tf8 .stk .lsm``, any case), none below;
        - a glob: ``*``, ``?``, ``[a-c]``, ``[!a-c]``, and ``**`` for any number of folders. Case
          matters. A glob that ends in ``*`` takes TIFFs only, because sidecars lie beside them;
          any other takes all it matches;
        - a glob with ``{field}`` in it, each standing for ``*``: a pattern and its glob in one.
          From the first part with a field on, ``*`` is ``{}`` and all else is literal;
        - a ``.txt``, ``.csv`` or ``.parquet`` file: a list of URLs;
        - the index of a plate: the files that it names, with their fields.

        Files whose names begin with a dot are never listed, nor are files in such folders.
    storage_options : mapping of str, optional
        Passed to fsspec.
    exclude : str or sequence[str]
        Globs; a file is left out if one matches its name or its path below the root. Here ``*``
        also matches ``/``.
    sidecar : {"none", "auto", "required"}
        Whether the index of a plate in a folder stands for the folder: ``"auto"`` where there is
        one, ``"required"`` always.
    takes_absent : bool
        Whether files that an index names may be absent; they are listed then, of size and time 0.

    Raises
    ------
    FilesNotFoundError
        If one of the urlpaths matches no file; the message describes the folder.
    StorageError
        If a folder cannot be listed.
    OptionError
        If the urlpath, its pattern or the storage options are invalid.
    """
    options = dict(storage_options or {})
    given, is_list = _texts(urlpath)
    for text in given:
        refuse_mistaken(text)
    urls = [absolute_url(text) for text in given]
    refused = next((url for url in urls if not is_local(url)), urls[0])
    found = retry_authorization(
        lambda: _in_stores(
            partial(_find, options=options, sidecar=sidecar, takes_absent=takes_absent),
            urls,
            options,
        ),
        refused,
        options,
    )
    patterns = {item.pattern for item in found}
    if len(patterns) > 1:
        raise OptionError(
            "all urlpaths must have the same {field} pattern, but got "
            + " and ".join(repr(pattern) for pattern in sorted(patterns, key=str)[:2])
        )
    folders = {folder for item in found for folder in item.folders}
    indexes = [item.index for item in found if item.index]
    if indexes[1:]:
        raise OptionError(
            f"{indexes[0]} and {indexes[1]} are indexes of two plates: give one as urlpath"
        )
    is_ordered = is_list or found[0].is_ordered
    tables = [item.files_in_order if is_ordered else item.files for item in found]
    every = FileTable.join(tables)
    if is_ordered or found[1:]:  # lists and several globs may name a file twice
        rows = {url: row for row, url in enumerate(every.urls)}
        every = every if len(rows) == len(every) else every.take(list(rows.values()))
    chains = {split_chain(url)[1] for url in every.urls} if every.urls.may_hold("::") else ()
    if len(chains) > 1:  # the archives' names are read too
        folders = {f"{path.rpartition('/')[0]}/" for path in every.paths}
    root = _common_folder(folders)
    kept = _without(every, [exclude] if isinstance(exclude, str) else exclude, root)
    if not kept:
        raise FilesNotFoundError(
            f"exclude={exclude!r} leaves out all of the {len(every)} files at {few_names(given)}"
        )
    files = kept if is_ordered else kept.sorted()
    return Listing(
        files=files,
        root=root,
        is_single=not is_list and found[0].is_single,
        pattern=patterns.pop(),
        is_ordered=is_ordered,
        table=_columns(found, files),
        index=indexes[0] if indexes else "",
        absent=found[0].absent,
    )


def _columns(found: Sequence[_Match], files: FileTable) -> dict[str, tuple[Any, ...]]:
    """Return the columns of the tables that name the files, if all of them have the same. Pure."""
    names = {tuple(fields) for item in found for fields in item.fields or ({},)}
    if len(names) != 1 or set(next(iter(names))) <= {"cell"}:
        return {}
    known = {
        url: fields
        for item in found
        for url, fields in zip(item.files.urls, item.fields, strict=True)
    }
    return {name: tuple(known[url][name] for url in files.urls) for name in next(iter(names))}


def _texts(urlpath: Any) -> tuple[list[str], bool]:
    """Return the urlpaths as texts, and whether they came as a list."""
    is_list = isinstance(urlpath, Sequence) and not isinstance(urlpath, str | bytes)
    texts = [
        os.fspath(u) if isinstance(u, os.PathLike) else u
        for u in (urlpath if is_list else [urlpath])
    ]
    for text in texts or [[]]:
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise OptionError(
                f"urlpath must be a file, folder, glob or list of these, but got {text!r}"
            )
    return texts, is_list


def _common_folder(folders: Iterable[str]) -> str:
    """Return the folder that holds all of *folders*, ending in ``/``. Pure.

    Examples
    --------
    >>> _common_folder(["/data/raw1/", "/data/raw2/B02/"])
    '/data/'
    >>> _common_folder(["s3://raw/", "s3://results/"])
    's3://'
    """
    parts = [folder[:-1].split("/") for folder in folders]
    same = takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))
    return "".join(f"{level[0]}/" for level in same)


def _without(files: FileTable, exclude: Sequence[str], root: str) -> FileTable:
    if not exclude:
        return files
    takes = re.compile("|".join(fnmatch.translate(glob) for glob in exclude)).match
    kept = []
    for row, url in enumerate(files.urls):
        path = split_chain(url)[0]
        if not takes(path.removeprefix(root)) and not takes(path.rpartition("/")[2]):
            kept.append(row)
    return files.take(kept)


# --- one urlpath --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Match:
    """The files that one urlpath matches."""

    files: FileTable
    folders: Sequence[str]
    """Fixed folders that contain the files, at any depth."""
    is_single: bool = False
    pattern: str | None = None
    is_ordered: bool = False
    """Whether a list of URLs gives the order of the files."""
    fields: Sequence[Mapping[str, Any]] = ()
    """What a table knows of each file."""
    index: str = ""
    """URL of the index of a plate."""
    absent: frozenset[str] = frozenset()
    """URLs of files that are not there."""

    @property
    def files_in_order(self) -> FileTable:
        """The files as the list has them, else in natural order of path."""
        if self.is_ordered or len(self.files) < 2:
            return self.files
        return self.files.take(natural_order(list(self.files.urls)))


def _in_stores(
    function: Callable[[Store, str], T], urls: Sequence[str], options: Mapping[str, Any]
) -> list[T]:
    """Return ``function(store, url)`` of each URL, with one store object per store."""
    groups: dict[str, list[str]] = {}
    for url in urls:
        groups.setdefault(_store_key(url), []).append(url)
    results: dict[str, T] = {}
    for members in groups.values():
        if members[0].startswith("reference:"):
            check_references(members[0], options)
        paths = [split_chain(member)[0] for member in members]
        if len(paths) == 1 and not has_tiff_suffix(paths[0].partition("?")[0]):
            paths = []  # it may be a folder, a list or an index, and is asked for as such
        store = open_store(members[0], options).expecting(paths)
        results.update(zip(members, store.map(partial(function, store), members), strict=True))
    return [results[url] for url in urls]


def _store_key(url: str) -> str:
    """Return the identity of a store: the archive, else protocol and host. Pure."""
    if is_local(url):
        return ""
    path, chain = split_chain(url)
    protocol, _, rest = path.partition("://")
    return f"{protocol}://{chain or rest.partition('/')[0]}"


def _find(
    store: Store, url: str, options: Mapping[str, Any], sidecar: Sidecar, takes_absent: bool
) -> _Match:
    path, chain = split_chain(url)
    read_index = partial(_read_index, store, options=options, takes_absent=takes_absent)
    glob = split_glob(path, os.path.lexists if is_local(url) else _is_unknown)
    if glob is not None:
        files = find_files(store, glob.folder, glob.parts)
        if not files:
            raise nothing_found(store, path, glob)
        if files.urls == (url,):  # the glob is the name of that file
            return _Match(files, [glob.folder], is_single=True)
        return _Match(files, [glob.folder], pattern=glob.pattern)
    if path.lower().endswith(LIST_SUFFIXES):
        return _read_list(store, url, options)
    if plate_index(path) is not None:
        return read_index(url)
    file = None if _is_folder_name(path) else _stat(store, path)
    folder = path if path.endswith("/") else f"{path}/"
    if file is None:
        files, indexes = _files_in_folder(store, folder, with_index=sidecar != "none")
        contents = {name: store.read(f"{folder}{name}") for name in indexes}
        if sidecar == "auto":  # other programs have files of such names
            contents = {name: c for name, c in contents.items() if is_plate_index(name, c)}
        if (index := choose_index(list(contents))) is not None:
            url = f"{folder}{index}{chain}"
            return read_index(url, content=contents[index], listed=files)
        if sidecar == "required":
            raise FilesNotFoundError(
                f"{url} has no index of a plate, which layout='sidecar' needs: "
                f"{', '.join(name for plate in PLATES for name in plate.names)}",
                url=url,
            )
        if files:
            return _Match(files, [folder])
        # a file without a suffix, in a store; S3 would take a.tif/ for a.tif
        is_folder = path.endswith("/") and not path.startswith(("http://", "https://"))
        file = None if is_folder else _stat(store, path)
        if file is None:
            raise nothing_found(store, path, Glob(folder, (TIFFS,), None))
    return _Match(FileTable.from_files([file]), [f"{path.rpartition('/')[0]}/"], is_single=True)


def _files_in_folder(store: Store, folder: str, *, with_index: bool) -> tuple[FileTable, list[str]]:
    """Return the TIFFs in a folder and, if asked for, the names of indexes of plates in it."""

    def keep(name: str) -> bool:
        return has_tiff_suffix(name) or (with_index and plate_index(name) is not None)

    files = FileTable.from_files([])
    with suppress(FilesNotFoundError):
        files = store.files(folder, keep)
    if not with_index:
        return files, []
    paths = files.paths
    tiffs = [row for row, path in enumerate(paths) if has_tiff_suffix(path)]
    others = sorted(set(paths).difference(paths[row] for row in tiffs))
    return files.take(tiffs), [path.rpartition("/")[2] for path in others]


def _is_unknown(path: str) -> bool:
    return False  # asking a store costs a request; the listing of the folder will show


def _is_folder_name(path: str) -> bool:
    """Return whether a store is asked for a folder at once, which saves two requests. Pure."""
    is_page = path.startswith(("http://", "https://")) and not path.endswith("/")
    return not is_local(path) and not is_page and "." not in path.rpartition("/")[2]


def _stat(store: Store, path: str) -> File | None:
    try:
        return store.stat(path)
    except FilesNotFoundError as exc:
        folder, _, name = path.rstrip("/").rpartition("/")
        raise nothing_found(store, path, Glob(f"{folder}/", (GlobPart(name),), None)) from exc


# --- lists of URLs ------------------------------------------------------------------------------


def _read_list(store: Store, url: str, options: Mapping[str, Any]) -> _Match:
    entries = parse_list(store.read(split_chain(url)[0]), url)
    files, missing = _files_of(entries, url, options)
    if missing:
        for entry in entries:
            refuse_misspelled(entry.url)
        raise FilesNotFoundError(
            f"{url} names {len(entries)} files, but {len(missing)} of them are not there: "
            f"{few_names(missing)}",
            url=url,
        )
    folders = sorted({f"{split_chain(u)[0].rpartition('/')[0]}/" for u in files.urls})
    return _Match(files, folders, is_ordered=True, fields=[entry.fields for entry in entries])


class _Beside:
    """What lies beside an index, as its readers see it."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store = store
        self.folder = folder
        self.files: Sequence[File] = ()

    def read(self, name: str) -> bytes | None:
        """Return the content of a file in the folder, None if it is not there."""
        if not set("/\\:").isdisjoint(name):
            return None
        with suppress(FilesNotFoundError):
            return self.store.read(f"{self.folder}{name}")
        return None

    def tiffs(self) -> list[str]:
        """Return the paths of all TIFFs at any depth."""
        found = self.store.find(self.folder, lambda parts: has_tiff_suffix(parts[-1]))
        self.files = found
        return [split_chain(url)[0].removeprefix(self.folder) for url in found.urls]


def _read_index(
    store: Store,
    url: str,
    *,
    options: Mapping[str, Any],
    takes_absent: bool,
    content: bytes | None = None,
    listed: Sequence[File] = (),
) -> _Match:
    """Return the files that the index of a plate names; those *listed* need no request."""
    path, _ = split_chain(url)
    beside = _Beside(store, f"{path.rpartition('/')[0]}/")
    content = store.read(path) if content is None else content
    entries = table_entries(read_plate(content, url, beside), url)
    files, absent = _files_of(entries, url, options, [*listed, *beside.files])
    if absent and (len(absent) == len(files) or not takes_absent):
        raise FilesNotFoundError(
            f"{url} names {len(entries):,} files, but {len(absent):,} of them are not there: "
            f"{few_names(absent)}; missing='fill' or 'mask' opens the rest, and layout='names' "
            "a folder without its index",
            url=url,
        )
    fields = [entry.fields for entry in entries]
    return _Match(
        files, [beside.folder], is_ordered=True, fields=fields, index=url, absent=frozenset(absent)
    )


def _files_of(
    entries: Sequence[Entry], url: str, options: Mapping[str, Any], listed: Iterable[File] = ()
) -> tuple[FileTable, list[str]]:
    """Return the file of each entry of a list, and the URLs of those that are not there.

    These have size and time 0, so that a copy is stale once they are.
    """
    urls = [_entry_url(entry.url, url) for entry in entries]
    known = {file.url: file for file in listed} | {
        u: File(u, entry.size, entry.mtime_ns, entry.etag)
        for u, entry in zip(urls, entries, strict=True)
        if entry.size >= 0
    }
    unknown = [u for u in urls if u not in known]
    asked = dict(zip(unknown, _in_stores(_stat_entry, unknown, options), strict=True))
    absent = [u for u, file in asked.items() if file is None]
    files = [known.get(u) or asked[u] or File(u, 0, 0, None) for u in urls]
    return FileTable.from_files(files), absent


def _stat_entry(store: Store, url: str) -> File | None:
    try:
        return store.stat(split_chain(url)[0])
    except FilesNotFoundError:
        return None


def _entry_url(text: str, list_url: str) -> str:
    """Return the full URL of an entry; a relative one is relative to the list's folder. Pure.

    Examples
    --------
    >>> _entry_url("../raw/a.tif", "s3://bucket/lists/all.txt")
    's3://bucket/raw/a.tif'
    >>> _entry_url("raw/a.tif", "zip://all.csv::/data/x.zip")
    'zip://raw/a.tif::/data/x.zip'
    >>> _entry_url("http://host/a.tif", "/data/all.txt")
    'http://host/a.tif'
    """
    if not is_local(text) or is_absolute(text):
        return absolute_url(text)
    path, chain = split_chain(list_url)
    if is_local(list_url):
        return absolute_url(posixpath.join(posixpath.dirname(path), text))
    protocol, colon, inside = path.partition("://")
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(inside), text))
    return f"{protocol}{colon}{joined}{chain}"
