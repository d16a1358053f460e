"""Suggestions of options, as values and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from intake_tiffstack.redact import hide_secrets, mask_secrets

if TYPE_CHECKING:
    pass

__all__ = ["Suggestion", "Suggestions"]


@dataclass(frozen=True, eq=False)
class Suggestion:
    """Options that open the files of a folder, with the grid they give and the reason for them.

    Examples
    --------
    >>> from intake_tiffstack import suggest
    >>> print(suggest("raw/").best.to_python())
    open_stack('raw/', pattern='lattice', concat_dim=['t', 'c'])
    """

    options: Mapping[str, Any] = field(repr=False)
    """Options of :func:`intake_tiffstack.open_stack`, ``urlpath`` included."""
    sizes: Mapping[str, int]
    """Extent of each dim of the array; of the axes alone where the files do not fit together."""
    dtype: str | None
    """Data type of a pixel, None where the files do not fit together."""
    n_files: int
    """Files that take part."""
    n_listed: int
    """TIFFs that were listed."""
    n_cells: int
    """Cells of the grid of files."""
    holes: tuple[str, ...]
    """Cells without a file, and gaps in a numbering, a line each."""
    reasons: tuple[str, ...]
    """Why these options, a sentence each."""
    problem: str | None
    """Why the options do not open, None where they do."""

    @property
    def fullness(self) -> float:
        """Part of the cells that has a file, 0 to 1."""
        return self.n_files / self.n_cells

    @property
    def is_whole(self) -> bool:
        """Whether the options open as they are: no hole, and files that fit together."""
        return self.problem is None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold; secrets are ``***``."""
        return {
            "options": hide_secrets(self.options),
            "sizes": dict(self.sizes),
            "dtype": self.dtype,
            "files": self.n_files,
            "listed": self.n_listed,
            "cells": self.n_cells,
            "fullness": self.fullness,
            "holes": list(self.holes),
            "reasons": list(self.reasons),
            "problem": self.problem,
        }

    def to_yaml(self, name: str = "images") -> str:
        """Return the text of a catalog with one entry, *name*, that has these options.

        A secret is replaced by the name of an environment variable.
        """
        arguments = mask_secrets(self.options, is_literal=True)
        entry = {"driver": "tiffstack", "args": arguments}
        return yaml.safe_dump({"sources": {name: entry}}, sort_keys=False, allow_unicode=True)

    def to_python(self) -> str:
        """Return the call of :func:`intake_tiffstack.open_stack` with these options.

        Secrets are ``***``.
        """
        urlpath, *others = hide_secrets(self.options).items()
        given = "".join(f", {name}={value!r}" for name, value in others)
        return f"open_stack({urlpath[1]!r}{given})"

    def __str__(self) -> str:
        sizes = " x ".join(f"{n} {dim}" for dim, n in self.sizes.items())
        lines = [f"{sizes or 'one image'}{f', {self.dtype}' if self.dtype else ''}"]
        lines[0] += (
            f": {self.n_files:,} of {self.n_listed:,} TIFFs, {self.fullness:.0%} of the cells"
        )
        lines += [f"  {name}: {value}" for name, value in hide_secrets(self.options).items()]
        lines += [f"  because {reason}" for reason in self.reasons]
        lines += [f"  hole: {line}" for line in self.holes]
        if self.problem:
            lines += [f"  NOT AS IT IS: {line}" for line in self.problem.splitlines()[:4]]
        return "\n".join(lines)


class Suggestions(list[Suggestion]):
    """Suggestions, best first; :attr:`best` is None where none is better than all others.

    Examples
    --------
    >>> from intake_tiffstack import suggest
    >>> found = suggest("raw/")
    >>> len(found), found.best is found[0], found.why_none
    (1, True, '')
    """

    def __init__(self, items: Sequence[Suggestion] = (), *, why_none: str = "") -> None:
        super().__init__(items)
        self.why_none = why_none

    @property
    def best(self) -> Suggestion | None:
        """The first, None where the first two are equally good or there is no reason to pick it."""
        return None if self.why_none or not self else self[0]

    def __str__(self) -> str:
        texts = [f"{i}. {one}" for i, one in enumerate(self, 1)]
        return "\n".join([*texts, *([f"None is picked: {self.why_none}"] if self.why_none else [])])

    __repr__ = __str__
