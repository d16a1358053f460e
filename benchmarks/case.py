"""Definition of a benchmark: data, contenders that must agree, and bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["OURS", "Bar", "Case", "Dataset", "Start"]

OURS = "intake-tiffstack"

Facts = Mapping[str, float]
"""Facts about the data: ``plane_bytes``, ``file_bytes`` ..."""

Dataset = Callable[..., Facts]
"""Writes ``count`` files into a folder (by default as many as the benchmark needs)."""

Start = Callable[[str], Callable[[], Any]]
"""Prepares for the files at a path, which is not measured, and returns the work to measure.

The work returns what all contenders must agree on: an array, a number, or a pair of that and a
mapping of further figures.
"""


@dataclass(frozen=True)
class Bar:
    """The target for one figure of this package, relative to a contender or absolute."""

    figure: str
    """``time`` (a multiple of theirs), ``speed`` (of theirs), or a figure such as ``requests``."""
    limit: float | Callable[[Facts], float]
    """A time or a figure may be at most this, a speed must be at least this."""
    against: str | None = None
    """The contender to compare a time or speed with, and a figure if given."""

    @property
    def is_least(self) -> bool:
        """Return whether larger is better."""
        return self.figure == "speed"


@dataclass(frozen=True)
class Case:
    """One piece of work, done by all contenders on the same files."""

    name: str
    work: str
    """Description for the report."""
    dataset: Dataset
    truth: Callable[[str], Any]
    """The expected result, computed without this package from a local folder."""
    contenders: Mapping[str, Start]
    """By name, this package first."""
    bars: tuple[Bar, ...]
    repeats: int = 7
    is_fresh: bool = False
    """Whether each repeat is a new process, because the first time counts."""
    store: Literal["", "moto", "web", "s3"] = ""
    """Where the files are if not in a folder: in an object store whose requests and bytes are
    counted; on a web server or in an object store at a distance."""
    patience: float = 12
    """Seconds after which a contender is not repeated; three times that if a bar needs it."""
    deadline: float = 120
    """Seconds after which one repeat is stopped."""
