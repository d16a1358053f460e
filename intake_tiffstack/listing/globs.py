"""Globs over folders: parse a urlpath, match names, and list the folders level by level.

Names are matched by :mod:`fnmatch`, case-sensitively on every platform.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from intake_tiffstack.errors import FilesNotFoundError, OptionError
from intake_tiffstack.listing.url_list import TIFF_SUFFIXES
from intake_tiffstack.pattern.format_string import spread_folders
from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.storage.urls import split_chain

if TYPE_CHECKING:
    from intake_tiffstack.storage.store import Store

__all__ = ["TIFFS", "Glob", "GlobPart", "find_files", "split_glob"]

T = TypeVar("T")

_FIELD = r"(?<!\{)\{(?:[A-Za-z_]\w*)?(?::[^{}/]*)?\}(?!\})"
_has_field = re.compile(_FIELD).search
_WILD = re.compile(rf"{_FIELD}|\*+|[?[]")
_may_be_glob = re.compile(r"[*?[{]").search
_TIFF_AHEAD = rf"(?=(?is:.*(?:{'|'.join(map(re.escape, TIFF_SUFFIXES))}))\Z)"


@dataclass(frozen=True)
class GlobPart:
    """The names that one part of a path, between two slashes, may have."""

    text: str
    """As written; a name that is exactly this comes before any that the glob matches."""
    glob: str | None = None
    """In the syntax of fnmatch; None for a plain name."""

    @property
    def is_deep(self) -> bool:
        """Whether it stands for any number of folders."""
        return self.text == "**"

    @property
    def start(self) -> str:
        """The text that every matching name begins with."""
        return self.text if self.glob is None else re.split(r"[*?[]", self.glob, maxsplit=1)[0]

    @cached_property
    def fits(self) -> Callable[[str], object]:
        """A function that returns whether the name of a folder matches.

        Examples
        --------
        >>> fits = GlobPart("x[1]*", "x[1]*").fits
        >>> [bool(fits(name)) for name in ("x1.tif", "x[1]*", "X1.tif")]
        [True, True, False]
        """
        return re.compile(self._regex).match

    @cached_property
    def fits_file(self) -> Callable[[str], object]:
        """A function that returns whether a file name matches, only TIFFs after a last ``*``.

        Examples
        --------
        >>> fits = GlobPart("x*", "x*").fits_file
        >>> [bool(fits(name)) for name in ("x.TIF", "x.xml")]
        [True, False]
        >>> bool(GlobPart("x*.xml", "x*.xml").fits_file("x1.xml"))
        True
        """
        tiff_only = "" if self.glob is None or self.glob[-1] != "*" else _TIFF_AHEAD
        return re.compile(tiff_only + self._regex).match

    @property
    def _regex(self) -> str:
        exact = re.escape(self.text)
        return rf"(?:{exact}\Z|{fnmatch.translate(self.glob)})" if self.glob else rf"{exact}\Z"


TIFFS = GlobPart("*", "*")
"""The files taken from a folder that is given by its name."""


@dataclass(frozen=True)
class Glob:
    """A path, split where it begins to match more than one name."""

    folder: str
    """The fixed folder, ending in ``/``."""
    parts: tuple[GlobPart, ...]
    """The parts of the path below it."""
    pattern: str | None
    """The path from its first part with a field on, as a pattern; None without fields."""


def split_glob(path: str, is_there: Callable[[str], bool]) -> Glob | None:
    """Return *path* as a glob, or None if it is a plain name. Pure except for *is_there*.

    Parameters
    ----------
    path : str
        Absolute local path, or URL without its chain. If it ends in ``/``, the TIFFs in each of
        the folders are meant.
    is_there : callable
        Returns whether exactly this path exists; its brackets and braces are then literal.

    Raises
    ------
    OptionError
        If ``**`` follows a field, since a pattern has a fixed number of parts.

    Examples
    --------
    >>> glob = split_glob("s3://b/raw/*/{well}_[1]/t{t:d}*.tif", lambda path: False)
    >>> glob.folder, [part.glob for part in glob.parts]
    ('s3://b/raw/', ['*', '*_[[]1]', 't**.tif'])
    >>> glob.pattern
    '{well}_[1]/t{t:d}{}.tif'
    """
    if not _may_be_glob(path):
        return None
    path = spread_folders(path)
    protocol, colon, rest = path.partition("://") if "://" in path else ("", "", path)
    texts = f"{rest}*".split("/") if rest.endswith("/") else rest.split("/")
    has_query = protocol.endswith(("http", "https")) or "?versionId=" in path
    signs = "*[" if has_query else "*?["
    start = protocol + colon
    first = next(
        (
            at
            for at, text in enumerate(texts)
            if (_has_field(text) or any(sign in text for sign in signs))
            and not is_there(start + "/".join(texts[: at + 1]))
        ),
        None,
    )
    if first is None:
        return None
    fields = (at for at in range(first, len(texts)) if _has_field(texts[at]))
    of_pattern = next(fields, len(texts))
    if "**" in texts[of_pattern:]:
        raise OptionError(
            f"{path}: '**' cannot follow a {{field}}, because a pattern has a fixed number of "
            "folders; write each of them as '*', or give the option 'pattern'"
        )
    return Glob(
        folder=start + "".join(f"{text}/" for text in texts[:first]),
        parts=(
            *(_glob_part(text, signs) for text in texts[first:of_pattern]),
            *(_pattern_part(text) for text in texts[of_pattern:]),
        ),
        pattern="/".join(_WILD.sub(_as_pattern, text) for text in texts[of_pattern:]) or None,
    )


def _glob_part(text: str, signs: str) -> GlobPart:
    if not any(sign in text for sign in signs):
        return GlobPart(text)
    return GlobPart(text, text if "?" in signs else text.replace("?", "[?]"))


def _pattern_part(text: str) -> GlobPart:
    glob = _WILD.sub(lambda wild: f"[{wild[0]}]" if wild[0] in "?[" else "*", text)
    return GlobPart(text, glob if "*" in glob else None)


def _as_pattern(wild: re.Match[str]) -> str:
    return "{}" if wild[0][0] == "*" else wild[0]


# --- walking ------------------------------------------------------------------------------------


def find_files(store: Store, folder: str, parts: Sequence[GlobPart]) -> FileTable:
    """Return the files below *folder* whose paths match *parts*, level by level.

    One listing per folder that a glob is matched in, none for plain names; from ``**`` on, one
    recursive listing. A missing folder counts as empty.
    """
    deep = next((at for at, part in enumerate(parts) if part.is_deep), None)
    folders = [folder]
    for part in parts[: len(parts) - 1 if deep is None else deep]:
        if part.glob is None:
            folders = [f"{above}{part.text}/" for above in folders]
            continue
        no_names: list[str] = []
        inside = store.map(partial(_or_nothing, store.folders, nothing=no_names), folders)
        folders = [
            f"{above}{name}/"
            for above, names in zip(folders, inside, strict=True)
            for name in _literal_first(part, [n for n in names if part.fits(n)])
        ]
    if deep is None:
        look = partial(_files_in, store, part=parts[-1])
    else:
        look = partial(store.find, keep=partial(_takes_path, parts[deep:]))
    nothing = FileTable.from_files([])
    return FileTable.join(store.map(partial(_or_nothing, look, nothing=nothing), folders))


def _files_in(store: Store, folder: str, part: GlobPart) -> FileTable:
    files = store.files(folder, part.fits_file, part.start)
    if not any(sign in part.text for sign in "[{"):
        return files
    written = folder + part.text
    if not files and part.text in store.folders(folder):  # a folder with brackets in its name
        return store.files(f"{written}/", TIFFS.fits_file)
    named = [row for row, url in enumerate(files.urls) if split_chain(url)[0] == written]
    return files.take(named) if named else files


def _literal_first(part: GlobPart, names: list[str]) -> list[str]:
    return [part.text] if part.text in names else names


def _or_nothing(look: Callable[[str], T], folder: str, *, nothing: T) -> T:
    try:
        return look(folder)
    except FilesNotFoundError:
        return nothing


def _takes_path(parts: Sequence[GlobPart], names: Sequence[str]) -> bool:
    """Return whether *names*, the parts of a file's path, match *parts*. Pure.

    Examples
    --------
    >>> parts = [GlobPart("**", "**"), GlobPart("raw"), GlobPart("*.tif", "*.tif")]
    >>> [_takes_path(parts, path.split("/")) for path in ("raw/a.tif", "x/y/raw/a.tif", "a.tif")]
    [True, True, False]
    """
    last = parts[-1]
    above = parts if last.is_deep else parts[:-1]
    return bool(last.fits_file(names[-1])) and _takes_folders(above, names[:-1])


def _takes_folders(parts: Sequence[GlobPart], names: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0].is_deep:
        return _takes_folders(parts[1:], names) or (
            bool(names) and _takes_folders(parts, names[1:])
        )
    return bool(names and parts[0].fits(names[0])) and _takes_folders(parts[1:], names[1:])
