"""How each file of a collection is opened, and which of its images is read.

Light to import: a dask scheduler unpickles this without tifffile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from intake_tiffstack.errors import OptionError
from intake_tiffstack.progress import reported
from intake_tiffstack.storage.concurrency import map_files
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from intake_tiffstack.errors import TiffStackError
    from intake_tiffstack.header import Header, Structure, Windows
    from intake_tiffstack.header.cache import Begun
    from intake_tiffstack.header.index import HeaderIndex
    from intake_tiffstack.header.twins import Alike, Guess
    from intake_tiffstack.metadata.reader import RawMetadata
    from intake_tiffstack.storage.files import File, FileTable
    from intake_tiffstack.storage.ranges import ByteSource

__all__ = ["AHEAD", "CollectionReader"]

R = TypeVar("R")

AHEAD = 1024
"""Remote files that are requested together: 16 MB of headers."""


@dataclass(frozen=True)
class CollectionReader:
    """Opens the files of one collection: storage options, series, level and names of the dims."""

    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    """For fsspec; never shown, and not part of a token."""
    series: int | Literal["all", "pages"] = 0
    """``"pages"`` takes the pages as they are, whatever the metadata make of them."""
    level: int = 0
    file_dims: tuple[str, ...] | tuple[tuple[str, int], ...] | None = None
    """Names, or pairs of name and size; None takes the dims that the file states."""
    header_index: str | None = field(default=None, repr=False, hash=False)
    """Where the headers of remote files are kept; decides no pixel, and so not part of a token."""

    sidecars: tuple[str, ...] = ()
    """Kinds of files beside each file that say more of it: ``pam``, ``worldfile``."""

    def index(self, *, is_fresh: bool = False) -> HeaderIndex | None:
        """Return the index of headers, read once per process; None without one."""
        if self.header_index is None:
            return None
        from intake_tiffstack.header.index import KNOWN

        return KNOWN.read(self.header_index, self.storage_options, is_fresh=is_fresh)

    def write_index(self, files: Sequence[File]) -> None:
        """Write the index of the headers of files; those in it already are not read again.

        Raises
        ------
        StorageError
            If the index cannot be written.
        """
        from intake_tiffstack.header.cache import header_bytes
        from intake_tiffstack.header.index import write_index

        if self.header_index is None:
            return
        index = self.index()
        rows: list[tuple[File, Windows]] = []
        with reported(None, len(files), title="header index", unit="file") as advance:
            for start in range(0, len(files), AHEAD):
                group = files[start : start + AHEAD]
                known = {} if index is None else {file: index.windows(file) for file in group}
                lacking = [file for file in group if known.get(file) is None]
                read = header_bytes(
                    lacking,
                    storage_options=self.storage_options,
                    series=self.series,
                    level=self.level,
                )
                found = {**known, **read}
                rows += [(file, w) for file in group if (w := found.get(file)) is not None]
                advance(len(group))
        write_index(self.header_index, rows, self.storage_options)
        self.index(is_fresh=True)

    def read_header(self, file: File, *, level: int | None = None) -> Header:
        """Return the header of a file, parsed at most once in this process.

        Parameters
        ----------
        file : File
            As it was listed.
        level : int, optional
            Another pyramid level than that of the collection.
        """
        from intake_tiffstack.header.cache import get_header

        return get_header(
            file,
            storage_options=self.storage_options,
            series=self.series,
            level=self.level if level is None else level,
            index=self.index(),
        )

    def open(self, file: File) -> tuple[Header, ByteSource]:
        """Return the header of a file, and the source of its bytes."""
        from intake_tiffstack.header.cache import open_file

        return open_file(
            file,
            storage_options=self.storage_options,
            series=self.series,
            level=self.level,
            index=self.index(),
        )

    def has_header(self, file: File) -> bool:
        """Return whether this process knows the header of a file."""
        from intake_tiffstack.header.cache import has_header

        return has_header(file, series=self.series, level=self.level)

    def fetch_ahead(self, files: Sequence[File]) -> None:
        """Fetch where the headers of many remote files begin, with all requests at once."""
        from intake_tiffstack.header.cache import fetch_ahead

        fetch_ahead(
            files,
            storage_options=self.storage_options,
            series=self.series,
            level=self.level,
            index=self.index(),
        )

    def plan_ahead(self, files: Sequence[File]) -> list[Begun]:
        """Return what to fetch at first of remote files whose pixels are wanted next.

        Of those whose header is not known; small files are fetched whole.
        """
        from intake_tiffstack.header.cache import plan_ahead

        return plan_ahead(
            files,
            storage_options=self.storage_options,
            series=self.series,
            level=self.level,
            index=self.index(),
            with_pixels=True,
        )

    def take_ahead(self, begun: Begun, error: TiffStackError | None) -> bool:
        """Take in what was fetched, or why not; return whether the header is now known."""
        from intake_tiffstack.header.cache import take_ahead

        take_ahead(begun, error, series=self.series, level=self.level, with_pixels=True)
        return self.has_header(begun.source.file)

    def guess(self, file: File) -> Guess | None:
        """Return what the header of a remote file is likely to be, to read pixels with it."""
        from intake_tiffstack.header.cache import guess

        return guess(file, series=self.series, level=self.level, index=self.index())

    def confirm(self, guess: Guess, windows: Windows) -> bool:
        """Return whether a header is what was guessed, from the bytes of the guess's runs."""
        from intake_tiffstack.header.cache import confirm

        return confirm(guess, windows, series=self.series, level=self.level)

    def find_alike(
        self, sizes: NDArray[np.int64], contents: NDArray[np.uint8], among: NDArray[np.bool_]
    ) -> Iterator[Alike]:
        """Yield which of many files, whose bytes are here, are built like known ones."""
        from intake_tiffstack.header.cache import find_alike

        return find_alike(sizes, contents, among, series=self.series, level=self.level)

    def map_headers(
        self, function: Callable[[int], R], files: FileTable, rows: Sequence[int]
    ) -> Iterator[R]:
        """Yield ``function(row)`` for each of *rows*, in order; it reads the header of the file.

        What is likely needed of remote files is requested beforehand, of many at once.
        """
        for start in range(0, len(rows), AHEAD):
            group = rows[start : start + AHEAD]
            remote = [files[row] for row in group if not is_local(files.urls[row])]
            self.fetch_ahead(remote)
            if all(map(self.has_header, remote)):  # nothing is left to wait for
                yield from map(function, group)
            else:
                yield from map_files(function, files, group)

    def raw_metadata(self, file: File, page: int = 0) -> RawMetadata:
        """Return the metadata of an image as they stand in the file.

        Parameters
        ----------
        file : File
            As it was listed.
        page : int
            Index of the image's key frame, :attr:`Header.page`.
        """
        from intake_tiffstack.header.cache import get_raw_metadata

        return get_raw_metadata(
            file, storage_options=self.storage_options, page=page, index=self.index()
        )

    def read_beside(self, file: File) -> RawMetadata:
        """Return what the sidecars of a file say that the option asks for."""
        from intake_tiffstack.header.sidecars import read_map_sidecars

        return read_map_sidecars(file.url, self.sidecars, self.storage_options)

    def place_tags(self, file: File) -> tuple[object, ...] | None:
        """Return the tags of the first page that say where on a map it is, None if unreadable.

        Bytes to compare, a fifth of the time of :meth:`raw_metadata`.
        """
        from intake_tiffstack.header.cache import get_place_tags

        return get_place_tags(file, storage_options=self.storage_options, index=self.index())

    def name_dims(self, structure: Structure, url: str) -> Structure:
        """Return a structure with its dims named by `file_dims`. Pure.

        Raises
        ------
        OptionError
            If `file_dims` do not fit the structure.
        """
        from intake_tiffstack.header import rename_dims

        return structure if self.file_dims is None else rename_dims(structure, self.file_dims, url)

    def structure_of(self, header: Header) -> Structure:
        """Return the structure of a file with its dims named by `file_dims` if these fit. Pure.

        A file that they do not fit keeps its own dims: the comparison with the layout that follows
        accepts a remainder of a single plane, and reports any other difference.
        """
        structure, url = header.structure, header.file.url
        if self.file_dims is None:
            return structure
        with suppress(OptionError):
            return _rename_dims(structure, self.file_dims)
        if self.file_dims is not None and "sample" in structure.dims:
            from intake_tiffstack.structure import move_samples, rename_dims

            names = [name for name in self.file_dims if isinstance(name, str)]
            with suppress(OptionError):
                return rename_dims(structure, move_samples(names, structure.dims), url)
        return structure


@lru_cache(maxsize=256)
def _rename_dims(structure: Structure, file_dims: tuple[Any, ...]) -> Structure:
    """Return the structure with its dims renamed, made once for files that share it. Pure."""
    from intake_tiffstack.structure import rename_dims

    return rename_dims(structure, file_dims, "")
