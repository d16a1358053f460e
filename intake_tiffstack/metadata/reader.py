"""How a source of metadata is defined, and the values taken from a file before their meaning."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from intake_tiffstack.metadata.model import Findings

__all__ = ["OpenImage", "RawMetadata", "Reader", "Subject", "copy_dict"]


@dataclass(frozen=True)
class RawMetadata:
    """The metadata of one file, not interpreted: plain values, no class of tifffile."""

    tags: Mapping[str, Any] = field(default_factory=dict)
    """Name of a :class:`Reader` to what it extracted; readers that found nothing are absent."""
    sidecars: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Name of a file beside this one to its content, under a key for the kind of content."""
    notes: tuple[str, ...] = ()
    """What could not be read, one sentence each, naming the file."""

    def with_beside(self, other: RawMetadata) -> RawMetadata:
        """Return these values with the sidecars and notes of *other*. Pure."""
        sidecars = {**self.sidecars, **other.sidecars}
        return replace(self, sidecars=sidecars, notes=(*self.notes, *other.notes))

    @property
    def nbytes(self) -> int:
        """Bytes these values take in memory, about."""
        return sum(map(_nbytes, (self.tags, self.sidecars, self.notes)))


def _nbytes(value: Any) -> int:
    if isinstance(value, Mapping):
        return 64 + sum(map(_nbytes, value.keys())) + sum(map(_nbytes, value.values()))
    if isinstance(value, list | tuple):
        return 64 + sum(map(_nbytes, value))
    return sys.getsizeof(value)


@dataclass(frozen=True)
class OpenImage:
    """An image series of an open file, whose metadata are wanted."""

    tif: Any
    """The ``tifffile.TiffFile``."""
    page: Any
    """The ``TiffPage`` that is the series' key frame."""

    def text(self, code: int) -> str | None:
        """Return the text of a tag of the key frame, None if it is absent or not text."""
        value = self.page.tags.valueof(code)
        return value if isinstance(value, str) else None

    def pages(self, most: int) -> list[Any]:
        """Return up to *most* pages that follow each other from the key frame on, of its shape."""
        chain, first = self.tif.pages, self.page.treeindex[0]
        found = [self.page]
        for index in range(first + 1, first + most):
            try:
                page = chain[index].aspage()
            except (IndexError, ValueError):  # the end, or a page that is only implied
                break
            if page.shape != self.page.shape:
                break
            found.append(page)
        return found

    @property
    def is_first(self) -> bool:
        """Whether the key frame is the first page, where metadata of the whole file are."""
        return tuple(self.page.treeindex) == (0,)


@dataclass(frozen=True)
class Subject:
    """The pixels that metadata describe, and what else their file contains."""

    sizes: Mapping[str, int]
    """Extents of the pixels by ``t``, ``c``, ``z``, ``y``, ``x``."""
    series: int = 0
    """Index of the image series."""
    dtype: np.dtype[Any] | None = None
    """Of the pixels, if it is known."""
    is_reduced: bool = False
    """Whether the pixels are those of a pyramid level above 0."""
    tags: Mapping[str, Any] = field(default_factory=dict)
    """What all readers extracted, by name."""

    @property
    def planes(self) -> int:
        """How many planes the pixels have."""
        return math.prod(n for dim, n in self.sizes.items() if dim not in ("y", "x", "sample"))


@dataclass(frozen=True)
class Reader:
    """One source of metadata: what to take from an open file, and what it means."""

    name: str
    """Key in :attr:`RawMetadata.tags`; ``file_metadata()`` shows the value as ``raw_<name>``."""
    extract: Callable[[OpenImage], Any] | None
    """Return plain values from an image of an open file, None if it has none; None for a source
    that stands beside the file alone."""
    interpret: Callable[[Any, Subject, Findings], None] | None = None
    """Add the meaning of extracted values to the findings. Pure."""
    interpret_sidecar: Callable[[str, dict[str, Any], Subject, Findings], None] | None = None
    """Add the meaning of a sidecar, given its name and content. Pure."""


def copy_dict(value: Any) -> dict[str, Any] | None:
    """Return a copy of a dict, None for anything else."""
    return dict(value) if isinstance(value, dict) else None
