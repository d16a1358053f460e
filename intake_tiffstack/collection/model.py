"""The values of an opened collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.collection.merge_metadata import Merged
from intake_tiffstack.errors import (
    TiffStackError,
)
from intake_tiffstack.header import Structure
from intake_tiffstack.layout.model import Grid, Layout
from intake_tiffstack.pattern.matching import Matches, Pattern

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intake_tiffstack.listing.list_files import Listing
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.storage.files import FileTable

__all__ = ["Collection", "Found", "Headers", "Seen", "Survey"]


@dataclass(frozen=True, eq=False)
class Found:
    """The files that take part, and those that do not."""

    files: FileTable
    """What the pattern matches and ``sel`` keeps; rows of the grid count in it."""
    paths: Sequence[str]
    """What their names are read from: each URL without the archive that it is inside of."""
    pattern: Pattern | None
    """How names are read, None where they are not."""
    matches: Matches | None
    """What the pattern read in each of `files`."""
    is_single: bool
    """Whether the urlpath is one file given by its name."""
    listed: int
    """How many files were listed."""
    strays: tuple[str, ...]
    """TIFFs that the pattern does not match."""
    left_out: int
    """How many files ``sel`` left out."""


@dataclass(frozen=True, eq=False)
class Headers:
    """What the headers that were read say."""

    structures: Mapping[int, Structure]
    """By row, with ``file_dims`` applied."""
    unreadable: Mapping[int, TiffStackError]
    """Why a row could not be read, where ``on_error`` is ``fill``."""
    notes: tuple[str, ...]
    """What tifffile logged, one line a kind."""
    is_proven: bool
    """Whether the listed sizes prove that the files not read are like the template."""


@dataclass(frozen=True, eq=False)
class Survey:
    """All that was found, whether or not it makes an array."""

    found: Found
    grid: Grid | None
    headers: Headers | None
    layout: Layout | None
    problems: tuple[TiffStackError, ...] = ()
    """What opening would raise."""


@dataclass(frozen=True, eq=False)
class Seen:
    """All that opening a collection learns from storage; the rest follows from the options."""

    listing: Listing
    """Of the files that take part alone."""
    structures: Mapping[int, Structure]
    """Of the headers that were read, by row, with ``file_dims`` applied."""
    described: Mapping[int, FileMetadata]
    """What files say of their pixels, by row."""


@dataclass(frozen=True, eq=False)
class Collection:
    """An opened collection: the array, what it is made of, and what is known of it."""

    options: Options
    seen: Seen
    survey: Survey
    layout: Layout
    array: StackArray
    chunks: tuple[tuple[int, ...], ...]
    granule: tuple[int, ...]
    """Extent along each dim of what is decoded as a whole."""
    known: Merged
    """What is known of the pixels, with where it was learnt."""

    @property
    def template(self) -> int:
        """Row of the file whose structure stands for others."""
        return next(iter(self.seen.structures))

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known as JSON can hold it."""
        return self.known.metadata
