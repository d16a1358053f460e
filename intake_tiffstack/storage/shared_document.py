"""Changing one small file that others may change at the same moment, so that no change is lost."""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from intake_tiffstack.errors import StorageError, warn
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.failures import http_status
from intake_tiffstack.storage.filesystem import speaks
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.s3 import split_key
from intake_tiffstack.storage.urls import is_local

__all__ = ["update_document"]

Change = Callable[[bytes | None], bytes]

LOCK_SECONDS = 60.0
"""How long to wait for the lock of a local file; a change takes milliseconds."""

ATTEMPTS = 30
"""How often to try on a store where another writer was faster."""


def update_document(place: Folder, key: str, change: Change) -> None:
    """Replace a file by what *change* makes of its content; no change of another writer is lost.

    Locally all writers hold a lock, the file ``.<key>.lock`` beside the file, which stays. On S3
    the write is conditional on the ETag that was read, and is repeated on what another writer left.
    Other stores have neither: the file is read again after the write, and written again if the
    change is not there. A writer between the two may still be overwritten there. The same is done,
    with a warning, on an S3 that ignores conditions: one write that it should refuse shows that.

    Parameters
    ----------
    place : Folder
        The folder of the file.
    key : str
        Its name.
    change : callable
        Returns the new content for the present one, which is None if there is no file. Called
        anew for each attempt. If it returns its argument, nothing is written.

    Raises
    ------
    StorageError
        If the file cannot be read, locked or written, or changes too often.
    """
    if is_local(place.url):
        with _locked(place, key):
            _replace_local(place, key, change)
    elif speaks(place.filesystem, "s3"):
        _repeat(place, key, change, _write_if_unchanged)
    else:
        _repeat(place, key, change, _write_and_check)


# --- local files ----------------------------------------------------------------------------------


@contextmanager
def _locked(place: Folder, key: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = f"{place.path}/.{key}.lock"
    mode = _mode(f"{place.path}/{key}")
    with place.write_errors():
        os.makedirs(place.path, exist_ok=True)
        # whoever may write the file may lock it
        held = FileLock(lock, timeout=LOCK_SECONDS, mode=-1 if mode is None else mode)
        try:
            held.acquire()
        except Timeout as exc:
            raise StorageError(
                f"{place.url}/{key}: another process has held its lock {lock} for "
                f"{LOCK_SECONDS:.0f} s; try again when it has ended",
                url=f"{place.url}/{key}",
            ) from exc
    try:
        yield
    finally:
        held.release()


def _replace_local(place: Folder, key: str, change: Change) -> None:
    path = f"{place.path}/{key}"
    with place.read_errors():
        try:
            with open(path, "rb") as file:
                before = file.read()
        except FileNotFoundError:
            before = None
    after = change(before)
    if after == before:
        return
    mode = _mode(path)
    place.write_document(key, after)
    if mode is not None:  # a group may share the file
        with place.write_errors():
            os.chmod(path, mode)


def _mode(path: str) -> int | None:
    with suppress(OSError):  # not there, or refused when it is read
        return stat.S_IMODE(os.stat(path).st_mode)
    return None


# --- stores ---------------------------------------------------------------------------------------


def _repeat(
    place: Folder, key: str, change: Change, attempt: Callable[[Folder, str, Change], bool]
) -> None:
    """Call *attempt* until it succeeds."""
    for number in range(ATTEMPTS):
        if attempt(place, key, change):
            return
        time.sleep(random.uniform(0, min(0.02 * 2**number, 2)))
    raise StorageError(
        f"{place.url}/{key} was changed by others at each of {ATTEMPTS} attempts to change it; "
        "try again later",
        url=f"{place.url}/{key}",
    )


def _write_if_unchanged(place: Folder, key: str, change: Change) -> bool:
    """Write to S3 if nobody else has since the read; return whether the change is there."""
    path = f"{place.path}/{key}"
    with place.read_errors():
        place.filesystem.invalidate_cache(path)
        try:
            # the ETag before the content: a write between the two is found, not overwritten
            condition = {"IfMatch": ask(place.filesystem, "info", path)["ETag"]}
            before: bytes | None = ask(place.filesystem, "cat_file", path)
        except FileNotFoundError:
            condition, before = {"mode": "create"}, None
    after = change(before)
    if after == before:
        return True
    with place.write_errors():
        try:
            place.filesystem.pipe_file(path, after, **condition)
        except OSError as exc:
            if not _was_faster(exc):
                raise
            return False
    if _heeds_conditions(place, path, after):
        return True
    warn(
        f"{place.url} ignores conditional writes (If-Match): of two changes of {key} at the same "
        "moment one may be lost, so let only one process change it at a time"
    )
    return _is_done(place, key, change)


_HEEDING: set[tuple[Any, str]] = set()
"""Filesystems and buckets that were found to refuse a write whose condition does not hold."""


def _heeds_conditions(place: Folder, path: str, content: bytes) -> bool:
    """Return whether S3 refuses to replace what was just written if it had an ETag of zeros."""
    bucket = place.filesystem, split_key(place.filesystem, path)[0]
    if bucket in _HEEDING:
        return True
    with place.write_errors():
        try:
            place.filesystem.pipe_file(path, content, IfMatch=f'"{"0" * 32}"')
        except OSError as exc:
            if not _was_faster(exc):
                raise
            _HEEDING.add(bucket)
            return True
    return False


def _was_faster(exc: OSError) -> bool:
    """Return whether S3 refused a write because another one came first. Pure."""
    if isinstance(exc, FileExistsError) or exc.errno == errno.EEXIST:
        return True
    is_gone = isinstance(exc, FileNotFoundError)  # removed since the read
    return is_gone or http_status(exc.__cause__ or exc) in (409, 412)


def _write_and_check(place: Folder, key: str, change: Change) -> bool:
    """Write to another store; return whether the change is there when the file is read again."""
    before = _content(place, key)
    after = change(before)
    if after == before:
        return True
    place.write_document(key, after)
    return _is_done(place, key, change)


def _is_done(place: Folder, key: str, change: Change) -> bool:
    found = _content(place, key)
    return found is not None and change(found) == found


def _content(place: Folder, key: str) -> Any:
    path = f"{place.path}/{key}"
    with place.read_errors():
        place.filesystem.invalidate_cache(path)
        try:
            return ask(place.filesystem, "cat_file", path)
        except FileNotFoundError:
            return None
