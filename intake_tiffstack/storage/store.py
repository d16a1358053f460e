"""Listing of folders and lookup of files, local or in any fsspec store.

The only module that lists, with as few requests as possible.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import unquote

import numpy as np

from intake_tiffstack.errors import FilesNotFoundError
from intake_tiffstack.packed_texts import PackedTexts
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.concurrency import map_concurrently
from intake_tiffstack.storage.failures import storage_errors
from intake_tiffstack.storage.files import File, FileTable
from intake_tiffstack.storage.filesystem import (
    get_filesystem,
    require_allowed,
    retry_authorization,
    speaks,
)
from intake_tiffstack.storage.first_bytes import look_up_with_first_bytes
from intake_tiffstack.storage.mtime import HAS_CTIME, mtime_ns
from intake_tiffstack.storage.s3 import Page, split_key
from intake_tiffstack.storage.s3_listing import find_keys, list_keys
from intake_tiffstack.storage.special_files import broken_link, open_regular, refuse_special
from intake_tiffstack.storage.urls import is_local, split_chain

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["LocalStore", "RemoteStore", "Store", "open_store", "stat_file"]

Keep = Callable[[str], object]
KeepParts = Callable[[Sequence[str]], object]
T = TypeVar("T")
R = TypeVar("R")

_POINTS_NOWHERE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})
"""How a link fails whose target does not exist."""

_LISTED_FROM = (
    10  # from so many files of one S3 folder on, one listing is faster than single requests
)


class Store(Protocol):
    """Operations that listing needs of a store.

    Folders are URLs without their chain that end in ``/``. Names that begin with a dot are never
    returned: ``._a.tif`` is not a TIFF, despite its suffix.
    """

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in *folder*."""

    def files(self, folder: str, keep: Keep, prefix: str = "") -> FileTable:
        """Return the files in *folder* whose name *keep* accepts; all these begin with *prefix*."""

    def find(self, folder: str, keep: KeepParts) -> FileTable:
        """Return the files at any depth whose path below *folder*, in parts, *keep* accepts."""

    def stat(self, path: str) -> File | None:
        """Return the file at *path* as it is now, None for a folder; raise if nothing exists."""

    def expecting(self, paths: Sequence[str]) -> Store:
        """Return a store that answers ``stat`` of *paths* with fewer requests, if it can."""

    def read(self, path: str) -> bytes:
        """Return the content of the file at *path*."""

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Return ``function(item)`` of each, concurrently if that is faster."""


def open_store(url: str, storage_options: Mapping[str, Any]) -> Store:
    """Return the store that holds *url*; an archive is opened, otherwise nothing is requested."""
    if is_local(url):
        require_allowed(url)
        return LocalStore()
    filesystem, _ = get_filesystem(url, storage_options)
    return RemoteStore(filesystem, split_chain(url)[1], storage_options)


def stat_file(url: str, storage_options: Mapping[str, Any]) -> File:
    """Return the file at *url* as it is now: one ``os.stat``, or one fresh request.

    Raises
    ------
    FilesNotFoundError
        If the file does not exist.
    StorageError
        If the store refuses or cannot be reached.
    """
    path = split_chain(url)[0]
    file = retry_authorization(
        lambda: open_store(url, storage_options).stat(path), url, storage_options
    )
    if file is None:
        raise FilesNotFoundError(f"{url} is a folder, not a file", url=url)
    return file


class LocalStore:
    """Local files, by ``os.scandir``: 20 times as fast as fsspec's glob."""

    def folders(self, folder: str, with_links: bool = True) -> list[str]:
        """Return the names of the folders in *folder*, and of links to folders."""
        with storage_errors(folder, {}), os.scandir(folder) as entries:
            return [
                entry.name
                for entry in entries
                if entry.name[0] != "." and entry.is_dir(follow_symlinks=with_links)
            ]

    def files(self, folder: str, keep: Keep, prefix: str = "") -> FileTable:
        """Return all but folders in *folder*; one scan, and one stat per file kept.

        Links that point nowhere, pipes and devices are listed too: whoever reads them gets an error
        that describes them.
        """
        sizes, mtimes, ctimes = array("q"), array("q"), array("q")

        def names() -> Iterator[str]:
            for entry in entries:
                name = entry.name
                if name[0] == "." or not keep(name):
                    continue
                size = mtime = ctime = -1
                try:
                    status = entry.stat()
                except OSError as exc:
                    if not (entry.is_symlink() and exc.errno in _POINTS_NOWHERE):
                        if isinstance(exc, FileNotFoundError):  # it is gone since the scan
                            continue
                        raise
                else:
                    kind = stat.S_IFMT(status.st_mode)
                    if kind == stat.S_IFDIR:
                        continue
                    # of a pipe or device the size is not known: it is asked for, and refused
                    size = status.st_size if kind == stat.S_IFREG else -1
                    mtime, ctime = status.st_mtime_ns, status.st_ctime_ns
                sizes.append(size)
                mtimes.append(mtime)
                ctimes.append(ctime)
                yield name

        with storage_errors(folder, {}), os.scandir(folder) as entries:
            urls = PackedTexts.of(names(), folder)
        times = np.asarray(ctimes) if HAS_CTIME else None
        return FileTable(urls, np.asarray(sizes), np.asarray(mtimes), None, times)

    def find(self, folder: str, keep: KeepParts) -> FileTable:
        """Return files at any depth; links to folders are not followed, as they may go round."""
        tables: list[FileTable] = []
        waiting: list[tuple[str, ...]] = [()]
        for above in waiting:
            here = folder + "".join(f"{part}/" for part in above)
            tables.append(self.files(here, lambda name, above=above: keep((*above, name))))  # type: ignore[misc]
            waiting += [(*above, name) for name in self.folders(here, with_links=False)]
        return FileTable.join(tables)

    def stat(self, path: str) -> File | None:
        """Return the file at *path*; one ``os.stat``."""
        with storage_errors(path, {}):
            try:
                status = os.stat(path)
            except ValueError as exc:  # a character that no name has
                raise FileNotFoundError(f"{path!r} cannot be the name of a file") from exc
            except OSError as exc:
                if (broken := broken_link(path)) is not None:
                    raise broken from exc
                raise
        if stat.S_ISDIR(status.st_mode):
            return None
        refuse_special(path, status)
        ctime = status.st_ctime_ns if HAS_CTIME else -1
        return File(path, status.st_size, status.st_mtime_ns, None, ctime)

    def expecting(self, paths: Sequence[str]) -> Store:
        """Return this store; nothing is cheaper than a stat."""
        return self

    def read(self, path: str) -> bytes:
        """Return the content of the file at *path*."""
        with storage_errors(path, {}), open(open_regular(path), "rb") as file:
            return file.read()

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Return ``function(item)`` of each, one after the other."""
        return [function(item) for item in items]


@dataclass(frozen=True)
class RemoteStore:
    """Files of an fsspec filesystem; listings are never cached, one request per 1,000 files."""

    filesystem: AbstractFileSystem
    """Serves the requests."""
    chain: str
    """End of the URL of each file: ``::/x.zip`` for the members of an archive."""
    storage_options: Mapping[str, Any] = field(repr=False)
    """Their values never appear in errors."""
    known: Mapping[str, File] = field(default_factory=dict, repr=False)
    """Files that need no request."""

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in *folder*."""
        if self._has_keys(folder):
            names = self._list_keys(folder, _folders)
            return list(chain.from_iterable(names))
        below = self._below(folder, self._list(folder))
        return [path for path, info in below if info["type"] == "directory" and "/" not in path]

    def files(self, folder: str, keep: Keep, prefix: str = "") -> FileTable:
        """Return the files in *folder*, with the sizes and ETags that the listing gives."""
        if self._has_keys(folder):
            return self._table_of_keys(folder, keep, prefix)
        below = self._below(folder, self._list(folder))
        return self._table(
            (folder + path, info)
            for path, info in below
            if info["type"] != "directory" and "/" not in path and keep(path)
        )

    def find(self, folder: str, keep: KeepParts) -> FileTable:
        """Return files at any depth; S3 answers as for one folder."""
        if self._has_keys(folder):
            return self._table_of_keys(folder, lambda path: keep(path.split("/")), delimiter="")
        with storage_errors(folder + self.chain, self.storage_options):
            base = self._path(folder)
            self.filesystem.invalidate_cache(base)
            infos = list(ask(self.filesystem, "find", base, detail=True).values())
        below = self._below(folder, infos)
        return self._table((folder + path, info) for path, info in below if keep(path.split("/")))

    def stat(self, path: str) -> File | None:
        """Return the file at *path*; one request."""
        if path in self.known:
            return self.known[path]
        with storage_errors(path + self.chain, self.storage_options):
            inside = self._path(path)
            self.filesystem.invalidate_cache(inside)
            info = ask(self.filesystem, "info", inside)
        is_page = info.get("mimetype") == "text/html"  # HTTP shows a folder as a page of links
        return None if info["type"] == "directory" or is_page else self._file(path, info)

    def expecting(self, paths: Sequence[str]) -> Store:
        """Return the store with files looked up together.

        Many names of one S3 folder are looked up by listing it. Few of them, and any number over
        HTTP, are looked up at once, and the request that finds a file also fetches its first bytes.
        """
        is_s3 = speaks(self.filesystem, "s3")
        if not paths or not (is_s3 or speaks(self.filesystem, "http")):
            return self
        if not is_s3 or len(paths) < _LISTED_FROM:
            plain = [path for path in paths if _names_a_file(path, is_s3=is_s3)]
            with storage_errors(paths[0] + self.chain, self.storage_options):
                found = look_up_with_first_bytes(self.filesystem, plain, self.storage_options)
            return replace(self, known={file.url: file for file in found})
        folders: dict[tuple[str, str], dict[str, str]] = {}
        for path in paths:
            bucket, key, version = split_key(self.filesystem, path)
            folder = key.rpartition("/")[0]
            if not version and _names_a_file(path, is_s3=True):
                folders.setdefault((bucket, folder), {})[key] = path
        listed = [item for item in folders.items() if len(item[1]) >= _LISTED_FROM]
        pages = self.map(lambda item: self._find_keys(item[0][0], item[1]), listed)
        return replace(self, known={file.url: file for files in pages for file in files})

    def _find_keys(self, bucket: str, paths: Mapping[str, str]) -> list[File]:
        prefix = os.path.commonprefix(list(paths))  # noqa: RUF071 - by character is what is wanted
        with storage_errors(f"s3://{bucket}/{prefix}", self.storage_options):
            return find_keys(self.filesystem, bucket, prefix, paths)

    def read(self, path: str) -> bytes:
        """Return the content of the file at *path*; one request."""
        # s3fs asks for the size first, to read a long file in parts
        as_one = {"max_concurrency": 1} if speaks(self.filesystem, "s3") else {}
        with storage_errors(path + self.chain, self.storage_options):
            content: bytes = ask(self.filesystem, "cat_file", self._path(path), **as_one)
        return content

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Return ``function(item)`` of each, concurrently if the filesystem is asynchronous."""
        is_known = bool(self.known) and all(item in self.known for item in items)
        if len(items) < 2 or not self.filesystem.async_impl or is_known:
            return [function(item) for item in items]
        return list(map_concurrently(function, items))

    def _path(self, url: str) -> str:
        bare = url.rpartition("::")[2]  # simplecache::s3://bucket/key is s3://bucket/key inside
        return str(self.filesystem._strip_protocol(bare))

    def _list(self, folder: str) -> list[dict[str, Any]]:
        with storage_errors(folder + self.chain, self.storage_options):
            base = self._path(folder)
            self.filesystem.invalidate_cache(base)
            return list(ask(self.filesystem, "ls", base, detail=True))

    def _has_keys(self, folder: str) -> bool:
        """Return whether a folder is in a bucket of S3, whose keys are listed page by page."""
        return speaks(self.filesystem, "s3") and bool(self._path(folder))  # else all buckets

    def _list_keys(
        self, folder: str, convert: Callable[[str, Page], T], prefix: str = "", delimiter: str = "/"
    ) -> list[T]:
        """Return what *convert* makes of each page of a folder, whose key it takes too."""
        with storage_errors(folder + self.chain, self.storage_options):
            base = self._path(folder)
            bucket, key, _ = split_key(self.filesystem, base)
            start = f"{key}/" if key else ""
            is_empty = True

            def take(page: Page) -> T:
                nonlocal is_empty
                is_empty = is_empty and not page.keys and not page.folders
                return convert(start, page)

            # the server filters: few requests though the folder holds a million others
            found = list_keys(self.filesystem, bucket, start + prefix, delimiter, take)
            if is_empty and key and delimiter and not prefix:
                raise FileNotFoundError(base)
        return found

    def _table_of_keys(
        self, folder: str, keep: Keep, prefix: str = "", delimiter: str = "/"
    ) -> FileTable:
        def table(start: str, page: Page) -> FileTable:
            rows, urls = [], []
            for row, key in enumerate(page.keys):
                path = key[len(start) :]
                if _is_shown(path) and keep(path):
                    rows.append(row)
                    urls.append(path + self.chain)
            etags = tuple([page.etags[row] for row in rows])
            sizes = np.array(page.sizes, np.int64)[rows]
            mtimes = np.array(page.mtimes, np.int64)[rows]
            return FileTable(PackedTexts.of(urls, folder), sizes, mtimes, etags)

        return FileTable.join(self._list_keys(folder, table, prefix, delimiter))

    def _below(
        self, folder: str, infos: Iterable[dict[str, Any]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the path below *folder* of each entry that is not hidden, and its info."""
        base = self._path(folder).strip("/")
        start = f"{base}/" if base else ""
        for info in infos:
            name = info["name"].lstrip("/")
            if not name.startswith(start):
                continue  # a page of links has links to elsewhere too
            path = name[len(start) :]
            if info["type"] == "directory":
                path = path.rstrip("/")
            if folder.startswith(("http://", "https://")):
                path = _unquote(path)
            if _is_shown(path):
                yield path, info

    def _table(self, infos: Iterable[tuple[str, Mapping[str, Any]]]) -> FileTable:
        return FileTable.from_files(self._file(path, info) for path, info in infos)

    def _file(self, path: str, info: Mapping[str, Any]) -> File:
        size = info.get("size")
        etag = info.get("ETag") or info.get("etag")
        if etag is None and "CRC" in info:
            etag = f"crc32:{info['CRC']:08x}"  # a ZIP keeps one per member
        time = -1 if etag else mtime_ns(info)
        return File(path + self.chain, -1 if size is None else size, time, etag)


def _names_a_file(path: str, *, is_s3: bool) -> bool:
    """Return whether *path* is neither a glob nor a folder. Pure."""
    if is_s3:
        return "." in path.rpartition("/")[2] and set("*?[{").isdisjoint(path)
    return not path.endswith("/") and "*" not in path


def _is_shown(path: str) -> bool:
    """Return whether a path is one of a file or folder that is not hidden. Pure.

    S3 has empty objects that stand for folders; their names end in a slash.
    """
    return bool(path) and path[-1] != "/" and path[0] != "." and "/." not in path


def _folders(start: str, page: Page) -> list[str]:
    return [name for name in (f[len(start) : -1] for f in page.folders) if _is_shown(name)]


def _unquote(path: str) -> str:
    """Return the path of a link unquoted, if it then still means the same. Pure.

    Examples
    --------
    >>> [_unquote(path) for path in ("a%20%5B1%5D.tif", "a%23b.tif")]
    ['a [1].tif', 'a%23b.tif']
    """
    plain = unquote(path)
    return plain if plain.count("/") == path.count("/") and not set(plain) & set("%?#") else path
