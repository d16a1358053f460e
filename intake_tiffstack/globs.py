"""Globs over folders: what a urlpath asks for, and which names it takes.

Names go through :mod:`fnmatch`, case-sensitive everywhere; walking is here, since it must be one
listing a folder on any store.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

from .errors import FilesNotFoundError, OptionError
from .urllist import has_tiff_suffix

if TYPE_CHECKING:
    from .store import Row, Store

__all__ = ["TIFFS", "Glob", "Part", "find_files", "split_glob"]

T = TypeVar("T")

_FIELD = r"(?<!\{)\{(?:[A-Za-z_]\w*)?(?::[^{}/]*)?\}(?!\})"
_HAS_FIELD = re.compile(_FIELD).search
_WILD = re.compile(rf"{_FIELD}|\*+|[?[]")


@dataclass(frozen=True)
class Part:
    """What one part of a path, between two slashes, may be called."""

    text: str
    """As written; a name that is exactly this comes before any that it matches."""
    glob: str
    """In the words of fnmatch."""

    @property
    def is_glob(self) -> bool:
        """Whether more than one name may fit."""
        return any(sign in self.glob for sign in "*?[")

    @property
    def is_deep(self) -> bool:
        """Whether it stands for any number of folders."""
        return self.glob == "**"

    @property
    def start(self) -> str:
        """What every name that fits begins with."""
        return re.split(r"[*?[]", self.glob, maxsplit=1)[0]

    @cached_property
    def _fits(self) -> Callable[[str], object]:
        return re.compile(fnmatch.translate(self.glob)).match

    def is_match(self, name: str) -> bool:
        """Return whether a folder or file may be called *name*. Pure.

        Examples
        --------
        >>> [Part("x[1]*", "x[1]*").is_match(name) for name in ("x1.tif", "x[1]*", "X1.tif")]
        [True, True, False]
        """
        return name == self.text or bool(self._fits(name))

    def takes_file(self, name: str) -> bool:
        """Return whether a file called *name* is meant; behind a last ``*`` only a TIFF. Pure.

        Examples
        --------
        >>> [Part("x*", "x*").takes_file(name) for name in ("x.tif", "x.xml")]
        [True, False]
        >>> Part("x*.xml", "x*.xml").takes_file("x1.xml")
        True
        """
        if self.glob.endswith("*") and not has_tiff_suffix(name):
            return name == self.text
        return self.is_match(name)


TIFFS = Part("", "*")
"""What is meant in a folder that is given by its name."""


@dataclass(frozen=True)
class Glob:
    """A path taken apart where it begins to mean more than one name."""

    folder: str
    """The fixed folder, ending in ``/``."""
    parts: tuple[Part, ...]
    """What comes below it."""
    pattern: str | None
    """The path from its first part with a field on, as a pattern."""


def split_glob(path: str, is_there: Callable[[str], bool]) -> Glob | None:
    """Return *path* as a glob, None where it is a plain name. Pure but for *is_there*.

    Parameters
    ----------
    path
        Absolute local path, or URL without its chain.
    is_there
        Whether something of exactly that path exists: then its brackets and braces are its name.

    Raises
    ------
    OptionError
        ``**`` behind a field: a pattern has a fixed number of parts.

    Examples
    --------
    >>> glob = split_glob("s3://b/raw/*/{well}_[1]/t{t:d}*.tif", lambda path: False)
    >>> glob.folder, [part.glob for part in glob.parts]
    ('s3://b/raw/', ['*', '*_[[]1]', 't**.tif'])
    >>> glob.pattern
    '{well}_[1]/t{t:d}{}.tif'
    """
    protocol, colon, rest = path.partition("://") if "://" in path else ("", "", path)
    texts = rest.split("/")
    parts = [_read_part(text, protocol.endswith(("http", "https"))) for text in texts]
    start = protocol + colon
    for first, part in enumerate(parts):
        if part.is_glob and not is_there(start + "/".join(texts[: first + 1])):
            break
    else:
        return None
    fields = (at for at, text in enumerate(texts) if at >= first and _HAS_FIELD(text))
    of_pattern = next(fields, len(texts))
    if any(part.is_deep for part in parts[of_pattern:]):
        raise OptionError(
            f"{path}: '**' cannot stand behind a {{field}}, since a pattern has a fixed number of "
            "folders; write each of them as '*', or give the option 'pattern'"
        )
    return Glob(
        folder=start + "".join(f"{text}/" for text in texts[:first]),
        parts=(*parts[first:of_pattern], *map(_read_pattern_part, texts[of_pattern:])),
        pattern="/".join(map(_pattern_text, texts[of_pattern:])) or None,
    )


def _read_part(text: str, is_http: bool) -> Part:
    if _HAS_FIELD(text):
        return _read_pattern_part(text)
    return Part(text, text.replace("?", "[?]") if is_http and _is_wild(text) else text)
