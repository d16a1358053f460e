"""How files differ from what they were when they were listed before. Pure."""

from __future__ import annotations

from collections import Counter

import numpy as np

from intake_tiffstack.formatting import few
from intake_tiffstack.packed_texts import PackedTexts
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.files import File, FileTable

__all__ = ["count_unproven", "describe_changes", "without_secrets"]

_SHOWN = 3
"""Names that a message shows of each kind of change."""


def without_secrets(files: FileTable) -> FileTable:
    """Return the table without storage options and what URLs hold of passwords and signatures.

    Without ``ctimes`` too: a backup that is restored has others.
    """
    return FileTable(
        PackedTexts.of(map(hide_in_text, files.urls)), files.sizes, files.mtimes, files.etags
    )


def describe_changes(before: FileTable, now: FileTable) -> str | None:
    """Return how files differ from what they were, by name; None where they do not. Pure.

    Parameters
    ----------
    before, now : FileTable
        As :func:`without_secrets` gives them.

    Examples
    --------
    >>> before = FileTable.from_files([File("/a.tif", 10, 5, None), File("/b.tif", 10, 5, None)])
    >>> now = FileTable.from_files([File("/a.tif", 12, 6, None), File("/c.tif", 10, 5, None)])
    >>> describe_changes(before, now)
    '1 changed (a.tif: size 10 to 12), 1 new (c.tif), 1 gone (b.tif)'
    """
    old, new = _by_url(before), _by_url(now)
    stored = {
        "changed": [
            f"{_name(file)}: {_difference(file, new[key])}"
            for key, file in old.items()
            if key in new and not file.agrees_with(new[key])
        ],
        "new": [_name(file) for key, file in new.items() if key not in old],
        "gone": [_name(file) for key, file in old.items() if key not in new],
    }
    return (
        ", ".join(
            f"{len(names):,} {what} ({few(names, _SHOWN)})"
            for what, names in stored.items()
            if names
        )
        or None
    )


def count_unproven(before: FileTable, now: FileTable) -> int:
    """Return the number of files of which a change could not be detected. Pure.

    Parameters
    ----------
    before, now : FileTable
        The same files, as :func:`without_secrets` gives them.

    Examples
    --------
    >>> files = FileTable.from_files([File("/a.tif", 10, 5, None), File("http://h/b", 9, -1, None)])
    >>> count_unproven(files, files)
    1
    """
    have_times = np.minimum(before.mtimes, now.mtimes) >= 0
    if have_times.all():
        return 0
    tags = zip(before.etags or [None] * len(before), now.etags or [None] * len(now), strict=True)
    return int(np.sum(~(have_times | [bool(one and other) for one, other in tags])))


def _by_url(files: FileTable) -> dict[tuple[str, int], File]:
    """Return files by URL, and which of those it is that look alike without their secrets."""
    alike: Counter[str] = Counter()
    found = {}
    for file in files:
        found[file.url, alike[file.url]] = file
        alike[file.url] += 1
    return found


def _name(file: File) -> str:
    return file.url.rpartition("/")[2]


def _difference(old: File, new: File) -> str:
    """Return what says that a file is another than it was."""
    if min(old.size, new.size) >= 0 and old.size != new.size:
        return f"size {old.size} to {new.size}"
    if old.etag or new.etag:
        return f"ETag {old.etag} to {new.etag}"
    return "time of last change"
