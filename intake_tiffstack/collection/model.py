"""What is found of a collection, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from intake_tiffstack.errors import TiffStackError
from intake_tiffstack.header import Structure
from intake_tiffstack.pattern.matching import Matches, Pattern
from intake_tiffstack.storage.urls import split_chain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.layout.cycle import FrameCycle
    from intake_tiffstack.listing.list_files import Listing
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.metadata.ome_parts import FileRef
    from intake_tiffstack.metadata.ome_set import SetImage
    from intake_tiffstack.metadata.reader import RawMetadata
    from intake_tiffstack.storage.files import FileTable

__all__ = ["Discovery", "FileSet", "FilesFound", "HeadersRead"]


@dataclass(frozen=True, eq=False)
class FilesFound:
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
    numbers: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Distinct values of each integer field before ``sel``, ascending; empty without ``sel``."""
    is_ordered: bool = False
    """Whether a list gives the order of `files`."""
    axes: tuple[str, ...] | None = None
    """The axis fields where ``concat_dim`` is not given, None for those of the pattern."""
    known: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """The columns of a table that names `files`, a value for each; empty without one."""
    index: str = ""
    """URL of the index of a plate that is this table; empty without one."""
    absent: frozenset[str] = frozenset()
    """URLs of `files` that the index names, and that are not there."""

    @property
    def table_name(self) -> str:
        """Name of the index, ``table`` for another table, empty without one."""
        if not self.known:
            return ""
        return split_chain(self.index)[0].rpartition("/")[2] or "table"


@dataclass(frozen=True, eq=False)
class HeadersRead:
    """The headers that were read."""

    structures: Mapping[int, Structure]
    """Structure per row, with ``file_dims`` applied."""
    unreadable: Mapping[int, TiffStackError]
    """Error per row that could not be read."""
    notes: tuple[str, ...]
    """What tifffile logged, one line per kind."""
    is_proven: bool
    """Whether the listed sizes prove that the files not read are like the template."""
    cycle: FrameCycle | None = None
    """How all pages together are cut into dims, None if each file is whole by itself."""
    beside: Mapping[int, RawMetadata] = field(default_factory=dict)
    """What the files beside each of them say, where `sidecars` asks for them."""


@dataclass(frozen=True, eq=False)
class FileSet:
    """The files of a set, and what its metadata say of the planes in them."""

    listing: Listing
    """The files that are there."""
    images: tuple[SetImage, ...]
    """All images, as ``series`` counts them."""
    rows: Mapping[FileRef, int]
    """Row of each file that the metadata name and that is there."""
    absent: tuple[str, ...]
    """Names of those that are not."""
    home: str
    """URL of the file with the metadata."""
    metadata: RawMetadata
    """As if all planes were in one file."""
    pages: Mapping[int, int] = field(default_factory=dict)
    """How many pages the index of the set lists for each row, if it does."""
    along: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    """What planes record at each position, by dim and Micro-Manager's key."""


@dataclass(frozen=True, eq=False)
class Discovery:
    """What opening a collection learns from storage; everything else follows from the options."""

    listing: Listing
    """The files that take part."""
    structures: Mapping[int, Structure]
    """Structure per row of the headers that were read, with ``file_dims`` applied."""
    described: Mapping[int, FileMetadata]
    """Metadata per row of the files that were asked for them."""
    file_set: FileSet | None = None
    """The set that the files are, None for files that each stand for themselves."""
