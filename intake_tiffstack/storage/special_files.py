"""Names in a folder that are no file with bytes: links to nowhere, pipes, devices, sockets."""

from __future__ import annotations

import os
import stat

from intake_tiffstack.errors import UnreadableFileError

__all__ = ["OPEN_FLAGS", "broken_link", "open_regular", "refuse_special"]

OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""The last one has no effect on regular files, and keeps a pipe from waiting for its writer."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISDIR, "a folder"),
)


def broken_link(url: str) -> UnreadableFileError | None:
    """Return the error for a link whose target does not exist, None if *url* is no such link."""
    try:
        target = os.readlink(url)
    except OSError:  # no link, or nothing at all
        return None
    if os.path.exists(url):
        return None
    if ".git/annex/objects/" in target.replace("\\", "/"):
        what = (
            "it stands for a file of git-annex (DataLad) whose content was not fetched: run "
            f"`datalad get {url}` or `git annex get {url}`"
        )
    else:
        what = "mount or copy what it points to, or leave it out with `exclude`"
    return UnreadableFileError(
        f"{url} is a link to {target}, which does not exist; {what}", url=url
    )


def refuse_special(url: str, status: os.stat_result) -> None:
    """Raise if *status* is not that of a regular file. Pure.

    Raises
    ------
    UnreadableFileError
        If it is that of a pipe, socket, device or folder.
    """
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "a special file")
    raise UnreadableFileError(
        f"{url} is {kind}, not a file with an image; leave it out with `exclude`", url=url
    )


def open_regular(url: str) -> int:
    """Return the descriptor of a regular file, open for reading; never waits for a writer.

    Raises
    ------
    UnreadableFileError
        If it is a pipe, socket, device or folder.
    OSError
        If it cannot be opened.
    """
    descriptor = os.open(url, OPEN_FLAGS)
    try:
        refuse_special(url, os.fstat(descriptor))
    except BaseException:  # nobody else can close it
        os.close(descriptor)
        raise
    return descriptor
