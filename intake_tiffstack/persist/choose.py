"""Whether a source reads its files or its copy: decided anew at each use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from datetime import datetime

from dask.base import tokenize

from intake_tiffstack.collection.find_files import find_files, take_listing
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    PatternError,
    StorageError,
    warn,
)
from intake_tiffstack.options import Options
from intake_tiffstack.persist.file_record import spell_urlpath, table_record
from intake_tiffstack.persist.key import pixel_key
from intake_tiffstack.persist.open import PersistedStack
from intake_tiffstack.persist.store import CollectionCopies
from intake_tiffstack.persist.write import extend_persisted, none_persisted, persist_again
from intake_tiffstack.settings import setting
from intake_tiffstack.stack import TiffStack
from intake_tiffstack.storage.file_changes import count_unproven, describe_changes, without_secrets

__all__ = ["choose_copy"]

_THEN = {
    "original": "the files are read",
    "use": "it is used all the same",
    "refresh": "it is made anew",
    "extend": "it is extended",
    "error": "persist() makes a new one",
}


class _OpenedCopies:
    """The persisted copies opened last in this process: a generation never changes."""

    def __init__(self) -> None:
        self._copies: OrderedDict[str, PersistedStack] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, copy: PersistedStack) -> PersistedStack:
        """Return the copy opened before with the same options and credentials, else *copy*."""
        of = copy.copies
        key = tokenize(copy.options, of.url, copy.generation.token, of.store.storage_options)
        with self._lock:
            copy = self._copies.setdefault(key, copy)
            self._copies.move_to_end(key)
            while len(self._copies) > max(1, int(setting("table_cache"))):
                self._copies.popitem(last=False)
            return copy


_OPENED = _OpenedCopies()


def choose_copy(stack: TiffStack, mode: str) -> PersistedStack | None:
    """Return the copy that a collection is read from now, None where its files are to be read.

    One small request where nothing is persisted; else the copy is opened, and the files are listed
    and compared with those that were copied.

    Parameters
    ----------
    stack : TiffStack
        Over the files; listed anew where these have changed.
    mode : str
        ``always`` for the copy, unchecked; ``never`` for the files; ``default`` for the copy
        while it holds, else what the option ``on_stale`` says.

    Raises
    ------
    FilesNotFoundError
        If *mode* is ``always``, and there is no copy.
    FileChangedError
        If the copy is stale, and ``on_stale`` is ``error``, or ``extend`` and an earlier file
        changed.
    StorageError
        If *mode* is ``always``, and the copy cannot be read.
    """
    if mode == "never":
        return None
    try:
        copy = _open_current(stack.options, mode)
    except (FilesNotFoundError, StorageError) as exc:
        if mode == "always":
            raise
        warn(f"the persisted copy cannot be read, and the files are: {exc}")
        return None
    if copy is None or mode == "always" or _holds(stack, copy):
        return copy
    if stack.options.on_stale == "refresh":
        persist_again(stack.options, anew=False)  # others may have refreshed it meanwhile
    elif stack.options.on_stale == "extend":
        extend_persisted(stack.options)
    else:
        return None
    return choose_copy(stack, "always")


def _open_current(options: Options, mode: str) -> PersistedStack | None:
    """Return the current copy, opened; None if there is none."""
    copies = CollectionCopies.of(pixel_key(options))
    generation = copies.current()
    while generation is not None:
        copy = _OPENED.get(PersistedStack(options, copies, generation))
        copy.generation = generation  # opened before, it may have had another time limit
        try:
            _ = copy.collection  # opened by this, it stays so
        except FilesNotFoundError:
            before, generation = generation, copies.current()
            if generation is not None and generation.token == before.token:
                raise  # else others went on in the meantime
        else:
            return copy
    if mode == "always":
        raise none_persisted(options, copies)
    return None


def _holds(stack: TiffStack, copy: PersistedStack) -> bool:
    """Return whether a copy is used as it is; warn of the reason if it is not.

    Where the files are to be read in its place, *stack* sees them as they are now.
    """
    options, generation = stack.options, copy.generation
    what = f"the copy of {spell_urlpath(options)} persisted at {_format_time(generation.created)}"
    try:
        listing = take_listing(options)
    except (FilesNotFoundError, StorageError) as exc:
        warn(f"{what} is used unchecked, since the files cannot be reached: {exc}")
        return True
    before = copy.collection.discovery.listing.files
    try:
        found = find_files(replace(options, unmatched="ignore"), listing)
        files, now = found.files, without_secrets(found.files)
        changes = None if now == before else describe_changes(before, now)
        if changes is None and found.pattern is None and now.urls != before.urls:
            changes = "the order changed"
        if changes is None and listing.table:
            kept = (
                listing if found.matches is None else listing.take(found.matches.indices.tolist())
            )
            if table_record(kept) != table_record(copy.collection.discovery.listing):
                changes = "the table changed"
    except (PatternError, OptionError) as exc:
        files, changes = None, f"none is left: {exc}"
    reasons = (
        [f"it expired at {_format_time(generation.expires)}"] if generation.has_expired() else []
    )
    reasons += [] if changes is None else [f"of its files {changes}"]
    if not reasons:
        if unproven := count_unproven(before, now):
            warn(
                f"{what} is used, but whether {unproven:,} of its {len(now):,} files changed "
                "is unknown: their server gives neither a time nor an ETag"
            )
        return True
    message = f"{what} is stale, {_THEN[options.on_stale]}: {'; '.join(reasons)}"
    if options.on_stale == "error":
        raise FileChangedError(message, url=copy.copies.url)
    warn(message)
    if options.on_stale == "original" and stack.collection.discovery.listing.files != files:
        stack.relist()  # what it listed is older than what was seen now
    return options.on_stale == "use"


def _format_time(time: datetime | None) -> str:
    return "" if time is None else time.isoformat(" ", "seconds")
