"""Every failure the package names, and how it warns.

Each error is a :class:`TiffStackError` and also the built-in that fits, so that both
``except TiffStackError`` and ``except FileNotFoundError`` do what a reader expects. The message
comes first and says what, where, what was found and what to do; details are keywords, kept as
attributes in ``details``. All of them survive pickling, since dask workers send them home.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self

from intake_tiffstack.redact import hide_in_text

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
    """Any failure that this package names.

    Parameters
    ----------
    message : str
        What happened, where, what was found and what to do about it.
    **details
        Values for programs (URLs, cells, counts), kept in ``details``.
    """

    def __init__(self, message: str, **details: Any) -> None:
        message = hide_in_text(message)  # many name a URL, which may hold a password
        super().__init__(message)
        self.message = message
        self.details = {k: hide_in_text(v) if isinstance(v, str) else v for k, v in details.items()}

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
        """Return the error for a *what* called *name* that is none of *known*."""
        names = sorted(known)
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(names)
        return cls(f"unknown {what} {name!r}; {hint}", **details)


class EntryError(TiffStackError, ValueError):
    """A catalog entry that contradicts itself."""


class PatternError(TiffStackError, ValueError):
    """A pattern that cannot be compiled, matches nothing, or reads a name two ways."""


class FilesNotFoundError(TiffStackError, FileNotFoundError):
    """No file where the urlpath points."""


class StorageError(TiffStackError, OSError):
    """A store that is not there, refuses, or answers something else than was asked."""


class LayoutError(TiffStackError, ValueError):
    """Files that cannot be placed on one grid."""


class MissingFilesError(LayoutError):
    """Cells of the grid that hold no file."""


class DuplicateFilesError(LayoutError):
    """Cells of the grid that would hold two files."""


class StructureMismatchError(LayoutError):
    """Files whose shape, dtype or dims do not fit together."""


class UnreadableFileError(TiffStackError, OSError):
    """A file that is not a TIFF, is truncated, or is corrupt."""


class UnsupportedFileError(UnreadableFileError, NotImplementedError):
    """A TIFF whose compression or layout the decoders do not know."""


class TooLargeError(UnreadableFileError, ValueError):
    """A file that declares more pixels than it can hold, or than ``max_image_bytes`` allows."""


class FileChangedError(UnreadableFileError):
    """A file that is not the one that was listed or opened."""


class TargetExistsError(TiffStackError, FileExistsError):
    """Something is already where a copy should be written."""


class TargetBusyError(TargetExistsError):
    """Another process is writing a copy where this one should be written."""


class VerificationError(TiffStackError, OSError):
    """A copy that does not read back as it was written."""


class DeviceNotAvailableError(TiffStackError, RuntimeError):
    """``arraytype`` names a device that this process cannot use."""


class TiffStackWarning(UserWarning):
    """Something that is worth knowing and does not stop the work."""


def warn(text: str) -> None:
    """Warn (TiffStackWarning) of something that does not stop the work; secrets in URLs hidden.

    The warning points at the line outside of this package that led here, so that a second source
    on another line is not taken for the first one and passed over.
    """
    package = __name__.partition(".")[0]
    names = [
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in traceback.walk_stack(sys._getframe())
    ]
    outermost = max(i for i, name in enumerate(names) if name == package)
    # The first frame, this one, is level 1.
    warnings.warn(hide_in_text(text), TiffStackWarning, stacklevel=outermost + 2)
