"""Errors and warnings of this package.

Each error is a :class:`TiffStackError` and also the fitting built-in, so that both
``except TiffStackError`` and ``except FileNotFoundError`` catch it. The message states what
happened, where, what was found and what to do; ``details`` holds values for programs. All errors
can be pickled, because dask workers send them to the client.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self

from intake_tiffstack.redact import hide_in_text, hide_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DeviceNotAvailableError",
    "DuplicateFilesError",
    "EntryError",
    "FileChangedError",
    "FilesNotFoundError",
    "LayoutError",
    "MissingFilesError",
    "OptionError",
    "PatternError",
    "StorageError",
    "StructureMismatchError",
    "TargetBusyError",
    "TargetExistsError",
    "TiffStackError",
    "TiffStackWarning",
    "TooLargeError",
    "UnreadableFileError",
    "UnsupportedFileError",
    "VerificationError",
    "warn",
]


class TiffStackError(Exception):
    """Base class of all errors of this package.

    Parameters
    ----------
    message : str
        What happened, where, what was found and what to do about it.
    **details
        Values for programs (URLs, cells, counts), kept in ``details``.

    Examples
    --------
    >>> from intake_tiffstack import open_stack
    >>> try:
    ...     open_stack("nowhere/*.tif").to_dask()
    ... except TiffStackError as error:
    ...     print(type(error).__name__)
    FilesNotFoundError
    """

    def __init__(self, message: str, **details: Any) -> None:
        message = hide_in_text(message)  # many name a URL, which may hold a password
        super().__init__(message)
        self.message = message
        self.details = {k: hide_secrets(v) for k, v in details.items()}

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.details))


def _rebuild(cls: type[TiffStackError], message: str, details: dict[str, Any]) -> TiffStackError:
    return cls(message, **details)


class OptionError(TiffStackError, ValueError):
    """An option that is unknown, has a wrong value, or contradicts another."""

    @classmethod
    def unknown(cls, what: str, name: str, known: Iterable[str], **details: Any) -> Self:
        """Return the error for a *what* called *name* that is not in *known*."""
        names = sorted(known)
        in_small = {one.lower(): one for one in names}
        near = get_close_matches(name.lower(), in_small, n=1)
        listed = ", ".join(names) or "none"
        hint = f"did you mean {in_small[near[0]]!r}?" if near else f"known: {listed}"
        return cls(f"unknown {what} {name!r}; {hint}", **details)


class EntryError(TiffStackError, ValueError):
    """A catalog entry that contradicts itself."""


class PatternError(TiffStackError, ValueError):
    """A pattern that cannot be compiled, matches nothing, or is ambiguous for a name."""


class FilesNotFoundError(TiffStackError, FileNotFoundError):
    """The urlpath matches no file."""


class StorageError(TiffStackError, OSError):
    """A store that does not exist, refuses, or returns something else than was requested."""


class LayoutError(TiffStackError, ValueError):
    """Files that cannot be placed on one grid."""


class MissingFilesError(LayoutError):
    """Cells of the grid without a file."""


class DuplicateFilesError(LayoutError):
    """Cells of the grid with more than one file."""


class StructureMismatchError(LayoutError):
    """Files whose shape, dtype or dims do not agree."""


class UnreadableFileError(TiffStackError, OSError):
    """A file that is not a TIFF, is truncated, or is corrupt."""


class UnsupportedFileError(UnreadableFileError, NotImplementedError):
    """A TIFF whose compression or layout the decoders do not support."""


class TooLargeError(UnreadableFileError, ValueError):
    """A file that declares more pixels than it can hold, or than ``max_image_bytes`` allows."""


class FileChangedError(UnreadableFileError):
    """A file that has changed since it was listed or opened."""


class TargetExistsError(TiffStackError, FileExistsError):
    """The destination of a copy already exists."""


class TargetBusyError(TargetExistsError):
    """Another process is writing a copy to the same destination."""


class VerificationError(TiffStackError, OSError):
    """A copy that differs from its source when it is read back."""


class DeviceNotAvailableError(TiffStackError, RuntimeError):
    """``arraytype`` names a device that this process cannot use."""


class TiffStackWarning(UserWarning):
    """A problem that does not stop the work.

    Examples
    --------
    >>> import warnings
    >>> warnings.filterwarnings("error", category=TiffStackWarning)  # faults become errors
    """


def warn(text: str) -> None:
    """Emit a TiffStackWarning, with secrets in URLs hidden.

    The warning points at the calling line outside this package, so that Python does not suppress
    the warning of a second source on another line as a repetition.
    """
    package = __name__.partition(".")[0]
    names = [
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in traceback.walk_stack(sys._getframe())
    ]
    outermost = max(i for i, name in enumerate(names) if name == package)
    # The first frame, this one, is level 1.
    warnings.warn(hide_in_text(text), TiffStackWarning, stacklevel=outermost + 2)
