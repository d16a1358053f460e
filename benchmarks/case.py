"""What a benchmark is: data, contenders that must agree, and the bars to reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["OURS", "Bar", "Case", "Dataset", "Start"]

OURS = "intake-tiffstack"

Facts = Mapping[str, float]
"""What is known of the data: ``plane_bytes``, ``file_bytes`` ..."""

Dataset = Callable[..., Facts]
"""Writes ``count`` files into a folder (by default as many as the benchmark needs)."""

Start = Callable[[str], Callable[[], Any]]
"""Gets the place of the files ready, which is not measured, and returns the work, which is.

The work returns what all contenders must agree on: an array, a number, or a pair of that and a
mapping of further figures.
"""


@dataclass(frozen=True)
class Bar:
    """What this package is to reach in one figure, against a contender or in itself."""

    figure: str
    """``time`` (a multiple of theirs), ``speed`` (of theirs), or a figure such as ``requests``."""
    limit: float | Callable[[Facts], float]
    """A time or a figure may be at most this, a speed must be at least this."""
    against: str | None = None
    """The contender that a time or speed is held against, and a figure where one is named."""

    @property
    def is_least(self) -> bool:
        """Whether more is better."""
        return self.figure == "speed"


@dataclass(frozen=True)
class Case:
    """One piece of work, done by all contenders on the same files."""

    name: str
    work: str
    """In words, for the report."""
    dataset: Dataset
    truth: Callable[[str], Any]
    """What the work must give, found without this package from a local folder."""
    contenders: Mapping[str, Start]
    """By name, this package first."""
    bars: tuple[Bar, ...]
    repeats: int = 7
    is_fresh: bool = False
    """Whether each repeat is a new process, since the first time is what counts."""
    is_remote: bool = False
    """Whether the files lie in an object store, where requests and bytes are counted."""
    patience: float = 12
    """A contender that has taken so many seconds is not repeated; three times that in a bar."""
    deadline: float = 120
    """One repeat that takes longer is stopped."""
