"""A folder that is written to: local, or a prefix in any fsspec store."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Self

from fsspec import AbstractFileSystem
from fsspec.core import has_magic

from intake_tiffstack.errors import FilesNotFoundError, OptionError, StorageError, TargetExistsError
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.failures import is_transient, storage_errors, store_exceptions
from intake_tiffstack.storage.filesystem import get_filesystem
from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.urls import absolute_url, is_local, split_chain

__all__ = ["PARTIAL", "Folder", "heal_exchange", "move_file", "write_file"]

PARTIAL = ".partial"
"""Suffix, here and in Zarr's local store, of files that are still being written."""

_ASIDE = ".tiffstack-old"
"""Suffix of a folder whose place another one is about to take."""

_ATTEMPTS = 20
"""How often folders above a new file are created, while others remove them."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""How a filesystem without hard links refuses one."""


@dataclass(frozen=True)
class Folder:
    """A URL with the filesystem that serves it; made by :meth:`at`, used from any thread."""

    url: str
    """As given, without the last slash."""
    storage_options: Mapping[str, Any] = field(repr=False)
    """Passed to fsspec; their values never appear in errors."""
    filesystem: AbstractFileSystem = field(repr=False)
    """Blocking access to the store."""
    path: str
    """Path of the folder in *filesystem*."""

    @classmethod
    def at(
        cls, url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
    ) -> Self:
        """Return the folder at *url*; nothing is read.

        Raises
        ------
        OptionError
            If the URL is spelled as another program spells it, the protocol is unknown, or the
            storage options do not fit it.
        StorageError
            If the package for the protocol is not installed.
        """
        text = os.fspath(url)
        if not text:
            raise OptionError("the URL of a copy must not be empty")
        refuse_misspelled(text)  # s3:/bucket would be a local folder
        text = absolute_url(text)
        if "://" in text and text.rstrip("/").endswith(":"):
            raise OptionError(f"the URL of a copy must name a bucket or folder, but got {text!r}")
        text = text.rstrip("/") or text
        options = dict(storage_options or {})
        return cls(text, options, *get_filesystem(text, options))

    def below(self, path: str) -> Self:
        """Return the folder at *path* below this one; this one if *path* is empty."""
        if not path:
            return self
        start, chain = split_chain(self.url)
        return replace(self, url=f"{start}/{path}{chain}", path=f"{self.path}/{path}")

    def find(self) -> frozenset[str]:
        """Return the names of all objects below the folder; one listing, never from a cache.

        Raises
        ------
        TargetExistsError
            If the URL is a file.
        StorageError
            If the store refuses or cannot be reached.
        """
        return frozenset(self.find_sizes())

    def find_sizes(self) -> dict[str, int]:
        """Return the size in bytes of all objects below the folder, as :meth:`find` does."""
        if is_local(self.url):
            with self.write_errors():
                sizes = _find_local(self.path)
            if sizes is None:
                raise self._is_file()
            return sizes
        with self.write_errors():
            self.filesystem.invalidate_cache(self.path)
            found = ask(self.filesystem, "find", self.path, detail=True)
        start = self.path.rstrip("/") + "/"
        if any(
            not name.startswith(start)
            and name.strip("/") == self.path.strip("/")
            and info["type"] == "file"
            for name, info in found.items()
        ):
            raise self._is_file()
        sizes = {name.removeprefix(start): int(info["size"] or 0) for name, info in found.items()}
        # an object whose name ends in a slash is how consoles show an empty folder
        return {key: n for key, n in sizes.items() if key and not key.endswith("/")}

    def _is_file(self) -> TargetExistsError:
        return TargetExistsError(
            f"{self.url} exists already (a file) and is left as it is; give another URL",
            url=self.url,
        )

    def names(self, folder: str) -> list[str]:
        """Return the names in one folder below this one, none if it does not exist.

        An empty *folder* is this one.
        """
        path = f"{self.path}/{folder}".rstrip("/")
        with self.write_errors():
            self.filesystem.invalidate_cache(path)
            try:
                listed = ask(self.filesystem, "ls", path, detail=False)
            except FileNotFoundError:
                return []
        return [name.rstrip("/").rpartition("/")[2] for name in listed]

    def write_document(self, key: str, content: bytes) -> None:
        """Write one small object below the folder, completely or not at all."""
        path = f"{self.path}/{key}"
        with self.write_errors():
            if is_local(self.url):
                write_file(path, content)
                return
            try:
                self.filesystem.pipe_file(path, content)  # it is seen once it is complete
            except store_exceptions() as exc:
                if not is_transient(exc) or not self._holds(path, content):
                    raise

    def _holds(self, path: str, content: bytes) -> bool:
        """Return whether an object has this content: only the answer to a write may be lost."""
        try:
            found: bytes = ask(self.filesystem, "cat_file", path)
        except store_exceptions():
            return False
        return found == content

    def create_document(self, key: str, content: bytes) -> None:
        """Write one small object that does not exist yet, completely or not at all.

        Raises
        ------
        FileExistsError
            If it exists with another content; of several writers at the same time, one succeeds.
        """
        path = f"{self.path}/{key}"
        with self.write_errors():
            try:
                if is_local(self.url):
                    _create_file(path, content)
                else:
                    self.filesystem.pipe_file(path, content, mode="create")
                return
            except store_exceptions() as exc:
                # only the answer may be lost, and the store's client then writes once more
                may_be_own = isinstance(exc, FileExistsError) or is_transient(exc)
                if may_be_own and not is_local(self.url) and self._holds(path, content):
                    return
                if not isinstance(exc, FileExistsError):
                    raise
                found = exc
        raise found

    def remove(self, keys: Collection[str]) -> None:
        """Remove the objects below the folder that exist, and local folders left empty."""
        paths = [f"{self.path}/{key}" for key in keys]
        with self.write_errors():
            if is_local(self.url):
                for path in paths:
                    with suppress(FileNotFoundError):
                        os.unlink(path)
                self._remove_folders(keys)
                return
            # many at once, except names that fsspec would expand as a glob to other objects
            plain = [path for path in paths if not has_magic(path)]
            rest = [path for path in paths if has_magic(path)]
            if plain:
                try:
                    self.filesystem.rm(plain)
                except FileNotFoundError:  # one is gone; not every store removes the others
                    rest = paths
            for path in rest:
                with suppress(FileNotFoundError):
                    self.filesystem.rm_file(path)

    def remove_all(self) -> None:
        """Remove a local folder with all that is in it, if it exists."""
        with self.write_errors(), suppress(FileNotFoundError):
            shutil.rmtree(self.path)

    def take_place_of(self, other: Folder) -> None:
        """Change places with another local folder: at once, where the system can."""
        with self.write_errors():
            _exchange(self.path, os.path.realpath(other.path))

    def _remove_folders(self, keys: Collection[str]) -> None:
        """Remove the local folders of *keys* that are empty, but not this folder itself."""
        folders = {parent for key in keys for parent in PurePosixPath(key).parents if parent.parts}
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            with suppress(OSError):  # not empty
                os.rmdir(f"{self.path}/{folder}")

    @contextmanager
    def read_errors(self) -> Iterator[None]:
        """Turn exceptions of the store inside the block into errors of this package."""
        with storage_errors(self.url, self.storage_options):
            yield

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Turn exceptions of the store inside the block into a StorageError.

        A missing folder or bucket is a StorageError too, because no file was asked for.
        """
        try:
            with storage_errors(self.url, self.storage_options):
                yield
        except (FilesNotFoundError, StorageError) as exc:
            reason = exc.message.partition(f"{self.url}: ")[2] or exc.message
            raise StorageError(
                f"cannot write {self.url}: {reason}", url=self.url
            ) from exc.__cause__
        except NotImplementedError as exc:
            raise StorageError(
                f"cannot write {self.url}: the store is read-only", url=self.url
            ) from exc


def _find_local(path: str) -> dict[str, int] | None:
    """Return the size of each file below a local folder, None if *path* is a file.

    Links to folders are not followed. A third of the CPU of fsspec's listing for 4,000 folders.
    """
    sizes: dict[str, int] = {}
    waiting = [""]
    for above in waiting:
        try:
            entries = os.scandir(f"{path}/{above}")
        except (FileNotFoundError, NotADirectoryError):  # it is gone since the scan, or never was
            if not above and os.path.exists(path):
                return None
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{above}{entry.name}/")
                    continue
                try:
                    size = entry.stat().st_size
                except OSError as exc:
                    if entry.is_symlink():
                        size = 0  # it points nowhere
                    elif isinstance(exc, FileNotFoundError):
                        continue  # it is gone since the scan
                    else:
                        raise
                sizes[above + entry.name] = size
    return sizes


def write_file(path: str, *parts: Any) -> None:
    """Write a local file, completely or not at all, and create the folders above it.

    Its parts, one after the other, are objects that support the buffer protocol.
    """
    partial = f"{path}.{uuid.uuid4().hex}{PARTIAL}"
    try:
        with _open_new(partial) as file:
            file.writelines(parts)
        os.replace(partial, path)
    except BaseException:  # an interrupt leaves no half file either
        with suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _open_new(path: str) -> BinaryIO:
    """Create a local file and the folders above it, which another writer may remove if empty."""
    for _ in range(_ATTEMPTS):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return open(path, "xb")
        except (FileNotFoundError, FileExistsError) as exc:
            failure = exc  # a folder was removed before the file was in it, or while it was created
    raise failure


def move_file(partial: str, path: str, *, overwrite: bool) -> None:
    """Give a complete local file its name at once.

    Raises
    ------
    FileExistsError
        If the name is taken, and is not to be replaced.
    """
    if overwrite:
        os.replace(partial, path)
        return
    try:
        os.link(partial, path)  # exclusive
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):  # a filesystem without hard links
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from exc
        os.replace(partial, path)
    else:
        os.unlink(partial)


def heal_exchange(path: str) -> None:
    """Bring an exchange of folders that was killed to an end: the old one is back, or gone."""
    path = os.path.realpath(path)
    if not os.path.lexists(path + _ASIDE):
        return
    if os.path.lexists(path):
        shutil.rmtree(path + _ASIDE)
    else:
        os.rename(path + _ASIDE, path)


def _exchange(new: str, old: str) -> None:
    """Exchange two local folders.

    References
    ----------
    Linux: renameat2(2), RENAME_EXCHANGE; macOS: renamex_np(2), RENAME_SWAP.
    """
    libc: Any = ctypes.CDLL(None) if os.name == "posix" else None
    names = os.fsencode(new), os.fsencode(old)
    here, swap = -100, 2  # AT_FDCWD; the flag is 2 on both systems
    if hasattr(libc, "renameat2") and not libc.renameat2(here, names[0], here, names[1], swap):
        return
    if hasattr(libc, "renamex_np") and not libc.renamex_np(*names, swap):
        return
    # a system or filesystem without it: for a moment nothing is there
    os.rename(old, old + _ASIDE)
    os.rename(new, old)
    os.rename(old + _ASIDE, new)


def _create_file(path: str, content: bytes) -> None:
    """Write a local file that does not exist yet; of several writers, one succeeds."""
    partial = f"{path}.{uuid.uuid4().hex}{PARTIAL}"
    try:
        with _open_new(partial) as file:
            file.write(content)
        try:
            os.link(partial, path)  # exclusive, and never seen half written
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            with open(path, "xb") as file:  # a filesystem without hard links
                file.write(content)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)
