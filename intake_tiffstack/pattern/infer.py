"""A pattern proposed from names, for messages: what a user could have written.

Everything here is pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from difflib import get_close_matches
from posixpath import splitext
from typing import TYPE_CHECKING

from intake_tiffstack.errors import PatternError
from intake_tiffstack.pattern.matching import (
    compile_pattern,
    match_paths,
    parts_below,
    relevant_parts,
)
from intake_tiffstack.pattern.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.pattern.matching import Matches, Pattern

__all__ = ["infer_pattern", "no_match_error"]

# Enough to see which parts of a name differ, and quick.
_MAX_SAMPLE = 200

# Runs first; where names differ in their kinds of runs (GUIDs), what stands between separators.
_TOKENS = (
    re.compile(r"[0-9]+|[^\W\d_]+|[\W_]"),
    re.compile(r"[^-_./ ()\[\]]+|[-_./ ()\[\]]"),
)
_NUMBERED = re.compile(r"([^\W\d_]*)([0-9]+)")


def infer_pattern(names: Sequence[str]) -> str | None:
    """Return a pattern that reads most of the names, None where none is found; pure.

    A preset where one fits, else a format string: what differs becomes a field named after the
    letters before it.

    Parameters
    ----------
    names : sequence of str
        Paths, best relative to what they have in common.

    Examples
    --------
    >>> infer_pattern(["cells_P1_T008.tif", "cells_P1_T009.tif", "cells_P2_T010.tif"])
    'cells_P{p:d}_T{t:03d}.tif'
    >>> infer_pattern(["r01c01f01p01-ch1sk1fk1fl1.tiff", "r01c01f01p01-ch2sk1fk1fl1.tiff"])
    'harmony'
    """
    sample = _sample(names)
    # Two fields, since a preset whose parts are optional fits much by chance.
    for preset in PRESETS:
        if _count_fields(preset, sample) > 1:
            return preset
    if len({name.rpartition("/")[0] for name in sample}) == 1:
        sample = [name.rpartition("/")[2] for name in sample]
    return next(filter(None, (_propose(sample, tokens) for tokens in _TOKENS)), None)


def no_match_error(
    pattern: Pattern, paths: Sequence[str], root: str, below: Sequence[str] = ()
) -> PatternError:
    """Return the error for a pattern that matches none of the paths; pure.

    It shows the pattern and the two names nearest to it, says where only the case differs or a
    ``{}`` or the suffix is wanting, and else proposes a pattern where one is found.

    Parameters
    ----------
    pattern : Pattern
        The compiled pattern.
    paths : sequence of str
        URLs, or local paths with forward slashes.
    root : str
        What all of them begin with, ending in ``/``.
    below : sequence of str
        Folders with TIFFs that were not looked into.
    """
    names = relevant_parts(pattern, paths, root)
    caseless = re.compile(pattern.regex.pattern, re.IGNORECASE)
    matches = caseless.search if pattern.n_parts is None else caseless.fullmatch
    cased = [name for name in names if matches(name)]
    near = cased[:2] or get_close_matches(pattern.text, _sample(names), n=2, cutoff=0)
    shown = " and ".join(map(repr, near)) or "none"
    where = f"searched below {root}" if pattern.n_parts is None else "matched whole"
    lines = [f"pattern '{pattern.text}' matches none of {len(names)} names ({where}): {shown}"]
    if cased:
        lines.append("Only the case differs: write the pattern as the names are written.")
    elif near and (widened := _widen(pattern, names, near[0])):
        lines.append(f"A pattern is matched whole: write '{widened}'.")
    elif proposal := infer_pattern(parts_below(paths, root)):
        lines.append(f"Names like these are read by the pattern '{proposal}'.")
    if below:
        folders = "1 folder" if len(below) == 1 else f"{len(below):,} folders"
        lines.append(
            f"TIFFs in {folders} below, such as {below[0]}, are not looked at: end the urlpath in "
            "'**/' for these too."
        )
    return PatternError("\n".join(lines), pattern=pattern.text, names=near)


def _sample(names: Sequence[str]) -> list[str]:
    return list(names[:: len(names) // _MAX_SAMPLE + 1])


def _widen(pattern: Pattern, names: Sequence[str], near: str) -> str | None:
    """Return the format string that matches with ``{}``, or the suffix of *near*, at its ends."""
    text = pattern.text
    if pattern.n_parts is None or text in PRESETS:
        return None
    front = "" if text.startswith("{}") else "{}"  # two in a row take long, and say no more
    backs = ("", splitext(near)[1], "" if text.endswith("{}") else "{}")
    texts = (f"{start}{text}{end}" for end in backs for start in ("", front))
    sample = _sample(names)
    return next((wide for wide in texts if (found := _match(wide, sample)) and found.fields), None)


def _match(text: str, names: Sequence[str]) -> Matches | None:
    """Return what a pattern reads, None where it names no field or cannot read what it matches."""
    try:
        return match_paths(compile_pattern(text), names, "")
    except PatternError:
        return None


def _count_fields(text: str, names: Sequence[str]) -> int:
    """Return how many fields a pattern reads in most of the names, 0 where it does not."""
    found = _match(text, names)
    return len(found.fields) if found and 2 * len(found.indices) > len(names) else 0


def _propose(names: Sequence[str], tokens: re.Pattern[str]) -> str | None:
    """Return the format string of the names of one make, where that is the make of most."""
    makes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        makes[tuple("a" if t.isalnum() else t for t in tokens.findall(name))].append(name)
    alike = max(makes.values(), key=len, default=[])
    if 2 * len(alike) <= len(names):
        return None
    columns = list(zip(*map(tokens.findall, alike), strict=True))
    before = ("", *(column[0] for column in columns))
    taken: set[str] = set()
    text = "".join(_describe(column, before[i], taken) for i, column in enumerate(columns))
    return text if _count_fields(text, alike) else None


def _describe(column: Sequence[str], before: str, taken: set[str]) -> str:
    """Return what a format string has for a column of tokens: itself, a field, or ``{}``."""
    if len(set(column)) == 1:
        return column[0].replace("{", "{{").replace("}", "}}")
    numbered = [found for token in column if (found := _NUMBERED.fullmatch(token))]
    letters = {found[1] for found in numbered}
    if len(numbered) == len(column) and len(letters) == 1:
        prefix = letters.pop()
        name = _name_field(prefix or before, taken)
        return f"{prefix}{{{name}:{_integer_format([found[2] for found in numbered])}}}"
    if len(set(column)) == len(column):  # differs from file to file, as a GUID does
        return "{}"
    return f"{{{_name_field('label', taken)}}}"


def _name_field(letters: str, taken: set[str]) -> str:
    stem = letters.lower() if letters.isidentifier() and letters.isalpha() else "i"
    name = next(
        n for k in range(len(taken) + 1) if (n := f"{stem}{k + 1}" if k else stem) not in taken
    )
    taken.add(name)
    return name


def _integer_format(texts: Sequence[str]) -> str:
    """Return ``d``, or ``03d`` where the texts are padded with zeros.

    >>> _integer_format(["8", "9", "10"]), _integer_format(["08", "09", "10"])
    ('d', '02d')
    """
    width = min(map(len, texts))
    is_padded = width > 1 and any(text.startswith("0") for text in texts)
    return f"0{width}d" if is_padded else "d"
