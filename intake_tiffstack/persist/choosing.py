"""Whether a source reads its files or its copy: decided anew at each use."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import datetime

from intake_tiffstack.collection import find_files, take_listing
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    PatternError,
    StorageError,
    TiffStackWarning,
)
from intake_tiffstack.listing.filetable import FileTable
from intake_tiffstack.persist.key import pixel_key
from intake_tiffstack.persist.making import none_persisted, persist_again
from intake_tiffstack.persist.reading import PersistedStack
from intake_tiffstack.persist.record import describe_changes, without_secrets
from intake_tiffstack.persist.store import Generation, Shelf
from intake_tiffstack.redact import mask_secrets
from intake_tiffstack.stack import TiffStack

__all__ = ["choose_copy"]

_THEN = {
    "original": "the files are read",
    "use": "it is used all the same",
    "refresh": "it is made anew",
    "error": "persist() makes a new one",
}


def choose_copy(stack: TiffStack, mode: str) -> PersistedStack | None:
    """Return the copy that a collection is read from now, None where its files are to be read.

    One small request where nothing is persisted; else the files are listed, and compared with
    those that were copied.

    Parameters
    ----------
    stack
        Over the files; listed anew where these have changed.
    mode
        ``always`` for the copy, unchecked; ``never`` for the files; ``default`` for the copy
        while it holds, else what the option ``on_stale`` says.

    Raises
    ------
    FilesNotFoundError
        *mode* is ``always``, and there is no copy.
    FileChangedError
        The copy is stale, and ``on_stale`` is ``error``.
    """
    if mode == "never":
        return None
    options = stack.options
    try:
        shelf = Shelf.of(pixel_key(options))
        generation = shelf.current()
    except StorageError as exc:
        if mode == "always":
            raise
        _warn(f"whether a copy is persisted cannot be told, and the files are read: {exc}")
        return None
    if generation is None:
        if mode == "always":
            raise none_persisted(options, shelf)
        return None
    if mode == "always":
        return PersistedStack(options, shelf, generation)
    return _choose_checked(stack, shelf, generation)


def _choose_checked(
    stack: TiffStack, shelf: Shelf, generation: Generation
) -> PersistedStack | None:
    """Return the copy where it holds, else what ``on_stale`` says."""
    options = stack.options
    copy = PersistedStack(options, shelf, generation)
    what = f"the copy of {mask_secrets(options.urlpath)} persisted at {_told(generation.created)}"
    try:
        listing = take_listing(options)
    except (FilesNotFoundError, StorageError) as exc:
        _warn(f"{what} is used unchecked, since the files cannot be reached: {exc}")
        return copy
    try:
        files = find_files(replace(options, unmatched="ignore"), listing).files
        changes = _find_changes(copy, files)
    except (PatternError, OptionError) as exc:
        files, changes = None, f"none is left: {exc}"
    reasons = [f"it expired at {_told(generation.expires)}"] if generation.has_expired() else []
    reasons += [] if changes is None else [f"of its files {changes}"]
    if not reasons:
        return copy
    told = f"{what} is stale, {_THEN[options.on_stale]}: {'; '.join(reasons)}"
    if options.on_stale == "error":
        raise FileChangedError(told, url=shelf.url)
    _warn(told)
    if options.on_stale == "use":
        return copy
    if options.on_stale == "refresh":
        return PersistedStack(options, shelf, persist_again(options))
    if files is None or stack.collection.array.files != files:
        stack.relist()  # what it listed is older than what was seen now
    return None


def _find_changes(copy: PersistedStack, files: FileTable) -> str | None:
    """Return how the files differ from those that were copied, None where they do not."""
    now = without_secrets(files)
    if now.token() == copy.generation.files_token:
        return None
    before = copy.shelf.read_seen(copy.generation.name).listing.files
    return describe_changes(before, now)


def _told(time: datetime | None) -> str:
    return "" if time is None else time.isoformat(" ", "seconds")


def _warn(text: str) -> None:
    warnings.warn(text, TiffStackWarning, stacklevel=6)
