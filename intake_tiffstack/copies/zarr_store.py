"""Zarr's stores over a folder; here, so that the storage room does not import Zarr."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

import zarr  # first, whole: else a thread that unpickles blocks one that imports, and is blocked
import zarr.storage
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from intake_tiffstack.storage.attempts import Patience, may_pass, persist
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.filesystem import get_filesystem, speaks
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.reference_targets import document_of
from intake_tiffstack.storage.special_files import refuse_special
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.urls import is_local
from intake_tiffstack.storage.zipped import SEEKS_WRONG

__all__ = ["is_zarr_group", "open_zarr_store", "stat_references"]

_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""What filesystems raise for an object that is not there."""


def open_zarr_store(folder: Folder, *, read_only: bool, require_chunks: bool = False) -> Store:
    """Return Zarr's store for a folder.

    Parameters
    ----------
    folder : Folder
        Local or remote; a ``reference:`` URL for references.
    read_only : bool
        Whether writing raises.
    require_chunks : bool
        Whether a missing object raises FileNotFoundError; Zarr reads a missing chunk as fill value.
    """
    store: Store
    if is_local(folder.url):
        kind = _RegularStore if read_only else zarr.storage.LocalStore
        store = kind(folder.path, read_only=read_only)
    elif "::" not in folder.url and speaks(folder.filesystem, "s3", "http"):
        options = {**folder.storage_options, "asynchronous": True}
        if read_only and speaks(folder.filesystem, "s3"):
            # s3fs otherwise asks for the size of each chunk first, to fetch a large one in parts
            options.setdefault("max_concurrency", 1)
        # fsspec would make one for each thread, each with its own client that it keeps for ever
        filesystem, path = get_filesystem(folder.url, options)
        store = _PatientStore(filesystem, read_only=read_only, path=path)
    else:
        options = dict(folder.storage_options)
        if folder.url.startswith("reference:"):  # which does not pass this on
            options["remote_options"] = {**options.get("remote_options", {}), "asynchronous": True}
        is_zip = speaks(folder.filesystem, "zip")
        remote = _WholeMembers if is_zip and SEEKS_WRONG else zarr.storage.FsspecStore
        store = remote.from_url(
            folder.url,
            options,
            read_only,
            # KeyError from fsspec before 2026.9, for a file that a ZIP lacks
            (*_MISSING, KeyError) if is_zip else _MISSING,
        )
    return _RequiredStore(store) if require_chunks else store


class _RegularStore(zarr.storage.LocalStore):
    """A local store that opens regular files alone: a pipe in place of one would block for ever."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Return what is stored, None if it does not exist."""
        path = os.path.join(self.root, key)
        try:
            status = os.stat(path)
        except OSError:  # which Zarr meets too
            status = None
        if status is not None and not stat.S_ISDIR(status.st_mode):  # a folder is nothing to Zarr
            refuse_special(path, status)
        return await super().get(key, *args, **kwargs)


class _PatientStore(zarr.storage.FsspecStore):
    """A store whose reads are repeated as the settings say."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Return what is stored, None if it does not exist."""
        found: list[Any] = []

        async def once(is_alive: Callable[[], None]) -> None:
            found.append(await zarr.storage.FsspecStore.get(self, key, *args, **kwargs))

        url = self.fs.unstrip_protocol(self.path)
        await persist(once, url, Patience.of_settings(has_timeout=False), may_pass(self.fs))
        return found[-1]


class _WholeMembers(zarr.storage.FsspecStore):
    """A ZIP whose members are read whole, because a part may be another's; see SEEKS_WRONG."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what is stored, None if it does not exist."""
        whole = await super().get(key, prototype)
        if whole is None or byte_range is None:
            return whole
        if isinstance(byte_range, SuffixByteRequest):
            return whole[max(0, len(whole) - byte_range.suffix) :]
        if isinstance(byte_range, RangeByteRequest):
            return whole[byte_range.start : byte_range.end]
        return whole[byte_range.offset :]


class _RequiredStore(zarr.storage.WrapperStore[Store]):
    """A store that raises for a missing object."""

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Return what is stored."""
        content = await super().get(key, *args, **kwargs)
        if content is None:
            raise FileNotFoundError(key)
        return content


def is_zarr_group(folder: Folder) -> bool:
    """Return whether a folder holds a Zarr group; False also where it holds no Zarr."""
    with folder.read_errors():
        try:
            node = zarr.open(open_zarr_store(folder, read_only=True), mode="r")
        except (FileNotFoundError, ValueError):
            return False
        return isinstance(node, zarr.Group)


def stat_references(folder: Folder) -> File | None:
    """Return the document of references that a folder is read through; None for any other folder.

    Raises
    ------
    FilesNotFoundError
        If the document does not exist.
    """
    document = folder.storage_options.get("fo")
    if not folder.url.startswith("reference:") or not isinstance(document, str):
        return None
    return stat_file(document_of(document), folder.storage_options.get("target_options") or {})
