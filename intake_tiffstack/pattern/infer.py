"""The error for a pattern that matches nothing, with the pattern that a user could have written.

Everything here is pure.
"""

from __future__ import annotations

import re
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
from intake_tiffstack.pattern.propose import propose_patterns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.pattern.matching import Matches, Pattern

__all__ = ["infer_pattern", "no_match_error"]

# Enough to see which parts of a name differ, and quick.
_MAX_SAMPLE = 200


def infer_pattern(names: Sequence[str]) -> str | None:
    """Return a pattern that reads most of the names, None where none is found; pure.

    The first of :func:`~intake_tiffstack.pattern.propose.propose_patterns`.

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
    proposals = propose_patterns(names)
    return proposals[0].pattern if proposals else None


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
    if "*" in pattern.text and pattern.n_parts is not None:
        written = pattern.text.replace("**", "*").replace("*", "{}")
        lines.append(f"'*' is an asterisk in a pattern, and '{{}}' any text: write '{written}'.")
    elif cased:
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
