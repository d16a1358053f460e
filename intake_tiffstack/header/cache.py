"""Parsed headers of this process: bounded by bytes, each file parsed once however many ask."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from intake_tiffstack.errors import StorageError, TiffStackError, UnreadableFileError
from intake_tiffstack.header import (
    Header,
    HeaderBytes,
    Templates,
    Windows,
    open_header,
    read_header,
    read_raw_metadata,
)
from intake_tiffstack.header.ifd import PLACE_TAGS, read_directories
from intake_tiffstack.header.index import HeaderIndex, header_windows
from intake_tiffstack.header.twins import Alike, Guess
from intake_tiffstack.last_used import LastUsed
from intake_tiffstack.metadata.reader import RawMetadata
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage.concurrency import map_concurrently
from intake_tiffstack.storage.first_bytes import (
    FIRST_BYTES,
    LAST_BYTES,
    take_first_bytes,
    windows_nbytes,
)
from intake_tiffstack.storage.ranges import ByteSource, open_bytes
from intake_tiffstack.storage.remote_ranges import Fill, Ranges, RemoteBytes, are_checked, fill_all
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from intake_tiffstack.storage.files import File

__all__ = [
    "Begun",
    "clear_headers",
    "confirm",
    "fetch_ahead",
    "find_alike",
    "get_header",
    "get_place_tags",
    "get_raw_metadata",
    "guess",
    "has_header",
    "header_bytes",
    "open_file",
    "plan_ahead",
    "take_ahead",
]

WHOLE_BYTES = 2**18
"""Remote files up to this size are fetched whole with their header if their pixels are wanted: as
many bytes cost as much as the second request."""

MOST_METADATA = 1024
"""Files whose raw metadata are kept; fewer if they take more than ``header_cache``."""


Kind = tuple[int | Literal["all", "pages"], int]
"""Series and level."""


@dataclass(frozen=True, eq=False)
class Begun:
    """A remote file of which the first bytes are to be fetched."""

    source: RemoteBytes
    windows: Windows
    """All bytes that will be here then."""
    missing: Windows
    """Those of them that have to be fetched."""

    @property
    def spans(self) -> Ranges:
        """What to fetch, and the buffers to fill."""
        return [(start, memoryview(window)) for start, window in self.missing]


class HeaderCache:
    """The headers and raw metadata used last, each within ``header_cache`` bytes."""

    def __init__(self) -> None:
        self._headers: LastUsed[Header] = LastUsed(attrgetter("nbytes"))
        self._metadata: LastUsed[RawMetadata] = LastUsed(attrgetter("nbytes"), MOST_METADATA)
        self._remote: LastUsed[Windows] = LastUsed(windows_nbytes)
        self._lock = threading.Lock()
        self._parsing: dict[Hashable, threading.Lock] = {}
        self._templates: dict[Kind, Templates] = {}
        self._failed: dict[File, TiffStackError] = {}
        self._ahead: dict[File, Windows] = {}

    def get(
        self,
        file: File,
        *,
        storage_options: Mapping[str, Any],
        series: int | Literal["all", "pages"],
        level: int,
        index: HeaderIndex | None = None,
    ) -> Header:
        """Return the header of *file*, from the cache if it is there."""
        return self.open(
            file, storage_options=storage_options, series=series, level=level, index=index
        )[0]

    def open(
        self,
        file: File,
        *,
        storage_options: Mapping[str, Any],
        series: int | Literal["all", "pages"],
        level: int,
        index: HeaderIndex | None = None,
    ) -> tuple[Header, ByteSource]:
        """Return the header of *file*, and where to read its pixels.

        Of a file whose header is read now, what was fetched with it serves the pixels too.
        """
        key = (file, series, level)
        found = self._look_up(key)
        if found is not None:
            windows = self._ahead.pop(file, None)  # its pixels may have come with the header
            if windows is not None:
                return found, open_header(file, storage_options, windows)
            return found, open_bytes(file, storage_options)
        with self._lock:
            parsing = self._parsing.setdefault(key, threading.Lock())
        with parsing:  # whoever comes second finds the header of whoever came first
            found = self._look_up(key)
            if found is not None:
                return found, open_bytes(file, storage_options)
            try:
                data = self._fetched(file, storage_options, index)
                header = self._read(file, data, storage_options, series, level)
                self._keep(key, header, data)
            finally:
                with self._lock:
                    self._parsing.pop(key, None)
        return header, data

    def get_raw_metadata(
        self,
        file: File,
        *,
        storage_options: Mapping[str, Any],
        page: int = 0,
        index: HeaderIndex | None = None,
    ) -> RawMetadata:
        """Return the raw metadata of an image: of its parse, else by opening the file for them."""
        with self._lock:
            raw = self._metadata.get((file, page))
        if raw is None:
            data = self._fetched(file, storage_options, index)
            raw = read_raw_metadata(file, data=data, page=page)
        self._keep_metadata(file, raw, page)
        return raw

    def get_place_tags(
        self,
        file: File,
        *,
        storage_options: Mapping[str, Any],
        index: HeaderIndex | None = None,
    ) -> tuple[object, ...] | None:
        """Return the bytes of the tags that place the first page on a map, None if unreadable."""
        try:
            data = self._fetched(file, storage_options, index)
            (page,) = read_directories(data, file.url, most=1)
        except (UnreadableFileError, StorageError, ValueError):
            return None
        return tuple(tag for tag in page.structure if tag[0] in PLACE_TAGS)

    def _keep_metadata(self, file: File, raw: RawMetadata, page: int) -> None:
        with self._lock:
            self._metadata.keep((file, page), raw)
            self._trim()

    def _read(
        self,
        file: File,
        data: HeaderBytes,
        storage_options: Mapping[str, Any],
        series: int | Literal["all", "pages"],
        level: int,
    ) -> Header:
        """Return a header by the cheapest way that is certain, see ``header.twins``."""
        templates = self._templates.setdefault((series, level), Templates())
        found = templates.find(file, data)
        if found is not None:
            return found
        data.touched.clear()
        header = read_header(
            file,
            series=series,
            level=level,
            max_image_bytes=setting_bytes("max_image_bytes"),
            data=data,
            keep_metadata=partial(self._keep_metadata, file),
        )
        if header.is_single:
            return header
        templates.add(header, data, partial(self._fetched, file, storage_options))
        return header

    def _fetched(
        self,
        file: File,
        storage_options: Mapping[str, Any],
        index: HeaderIndex | None = None,
    ) -> HeaderBytes:
        if is_local(file.url):
            return open_header(file)
        with self._lock:
            failed = self._failed.pop(file, None)
            windows = self._remote.get(file)
            if windows is None and failed is None:
                windows = _windows_here(file, index)
                self._remote.keep(file, windows)
                self._trim()
        if failed is not None:
            raise failed
        return open_header(file, storage_options, windows)

    def fetch_ahead(
        self,
        files: Sequence[File],
        *,
        storage_options: Mapping[str, Any],
        series: int | Literal["all", "pages"],
        level: int,
        index: HeaderIndex | None = None,
    ) -> None:
        """Fetch where the headers of many files begin, with all requests at once.

        Nothing for files whose header is known, and for stores other than S3 and HTTP. What fails
        raises when the file is opened. For parameters see :meth:`plan_ahead`.
        """
        planned = self.plan_ahead(
            files,
            storage_options=storage_options,
            series=series,
            level=level,
            index=index,
        )
        if not planned:
            return
        failed = fill_all([Fill(begun, begun.source, begun.spans) for begun in planned])
        for begun in planned:
            error = failed.get(begun)
            self.take_ahead(begun, error, series=series, level=level)

    def plan_ahead(
        self,
        files: Sequence[File],
        *,
        storage_options: Mapping[str, Any],
        series: int | Literal["all", "pages"],
        level: int,
        with_pixels: bool = False,
        index: HeaderIndex | None = None,
    ) -> list[Begun]:
        """Return what to fetch at first of each file of S3 or HTTP whose header is not known.

        One request per file, two where the headers of such files are at both ends.

        Parameters
        ----------
        files : sequence of File
        storage_options : mapping of str
        series, level : int
            As in :meth:`open`.
        with_pixels : bool
            Whether pixels are wanted next: then small files are fetched whole.
        index : HeaderIndex, optional
            Holds headers that need not be fetched.
        """
        kind = (series, level)
        unknown = self._without_bytes(files, kind, storage_options)
        templates = self._templates.setdefault(kind, Templates())
        templates.complete()
        planned = []
        for file in unknown:
            windows = _windows_here(file, index)
            spans: list[tuple[int, int]] = []
            if index is None or not index.has(file):
                tail = templates.tail
                if tail is None:  # the directories of a file alone may be at its end
                    tail = LAST_BYTES if len(unknown) == 1 and not windows else 0
                spans = _first_spans(file.size, tail, windows, with_pixels=with_pixels)
            missing = [(start, bytearray(count)) for start, count in spans]
            planned.append(Begun(RemoteBytes(file, storage_options), [*windows, *missing], missing))
        return planned

    def take_ahead(
        self,
        begun: Begun,
        error: TiffStackError | None,
        *,
        series: int | Literal["all", "pages"],
        level: int,
        with_pixels: bool = False,
    ) -> None:
        """Take in what :meth:`plan_ahead` planned, now fetched, or why it could not be.

        The header is known from then on if the file is built like a known one.
        """
        file, kind = begun.source.file, (series, level)
        with self._lock:
            if error is not None:
                self._failed[file] = error
                return
            self._remote.keep(file, begun.windows)
        self._recognize(file, self._templates[kind], kind, with_pixels=with_pixels)
        with self._lock:
            self._trim()

    def _without_bytes(
        self, files: Sequence[File], kind: Kind, storage_options: Mapping[str, Any]
    ) -> list[File]:
        """Return the files of S3 and HTTP of which neither the header nor its bytes are here."""
        with self._lock:
            unknown = [
                file
                for file in files
                if file.size > 0
                and not (self._headers.has((file, *kind)) or self._remote.has(file))
            ]
        if not unknown:
            return []
        try:
            checked = are_checked([file.url for file in unknown], storage_options)
        except TiffStackError:  # raised again when a file is opened
            return []
        return [file for file, is_checked in zip(unknown, checked, strict=True) if is_checked]

    def _recognize(
        self, file: File, templates: Templates, kind: Kind, *, with_pixels: bool
    ) -> None:
        """Keep the header of a file that is built like a known one, if its bytes here show it."""
        windows = self._remote.get(file)
        if windows is None:
            return
        try:
            found = templates.find(file, HeaderBytes(_Nothing(), file.size, windows=windows))
        except TiffStackError:
            return  # opening it reads what is missing, or meets the fault
        if found is not None:
            with self._lock:
                self._headers.keep((file, *kind), found)
                if with_pixels:
                    self._ahead[file] = windows

    def guess(
        self,
        file: File,
        *,
        series: int | Literal["all", "pages"],
        level: int,
        index: HeaderIndex | None = None,
    ) -> Guess | None:
        """Return what the header of a remote file is likely to be, None if there is no need.

        There is none if the header or its bytes are here, and where small files are fetched whole.
        """
        with self._lock:
            is_here = self._headers.has((file, series, level)) or self._remote.has(file)
        if is_here or file.size <= WHOLE_BYTES or (index is not None and index.has(file)):
            return None
        templates = self._templates.get((series, level))
        return None if templates is None else templates.guess(file)

    def confirm(
        self, guess: Guess, windows: Windows, *, series: int | Literal["all", "pages"], level: int
    ) -> bool:
        """Take the fetched bytes of a header, and return whether it is what was guessed."""
        file = guess.header.file
        with self._lock:
            self._remote.keep(file, windows)
        templates = self._templates.setdefault((series, level), Templates())
        self._recognize(file, templates, (series, level), with_pixels=False)
        with self._lock:
            found = self._headers.get((file, series, level))
            self._trim()
        return found is not None and found.frames is guess.header.frames

    def find_alike(
        self,
        sizes: NDArray[np.int64],
        contents: NDArray[np.uint8],
        among: NDArray[np.bool_],
        *,
        series: int | Literal["all", "pages"],
        level: int,
    ) -> Iterator[Alike]:
        """Yield which of many files are built like known ones; see `Templates.find_alike`."""
        templates = self._templates.setdefault((series, level), Templates())
        return templates.find_alike(sizes, contents, among)

    def header_bytes(
        self,
        files: Sequence[File],
        *,
        storage_options: Mapping[str, Any],
        series: int | Literal["all", "pages"],
        level: int,
    ) -> dict[File, Windows]:
        """Return the bytes of the headers of remote files, without those that cannot be read.

        Headers are read anew, all at once, because of a header in the cache the bytes are gone.
        """
        with self._lock:
            for file in files:
                self._headers.pop((file, series, level))
        self.fetch_ahead(files, storage_options=storage_options, series=series, level=level)

        def read(file: File) -> Windows | None:
            key = (file, series, level)
            data = self._fetched(file, storage_options)
            header = self._look_up(key)
            if header is None:
                try:
                    header = self._read(file, data, storage_options, series, level)
                except (UnreadableFileError, StorageError):
                    return None
                self._keep(key, header, data)
            return header_windows(data.windows, header.frames)

        # only what waits for requests is faster in threads
        waiting = [file for file in files if self._look_up((file, series, level)) is None]
        read_first = dict(zip(waiting, map_concurrently(read, waiting), strict=True))
        found = ((file, read_first[file] if file in read_first else read(file)) for file in files)
        return {file: windows for file, windows in found if windows is not None}

    def has(self, file: File, *, series: int | Literal["all", "pages"], level: int) -> bool:
        """Return whether the header of *file* is in the cache."""
        with self._lock:
            return self._headers.has((file, series, level))

    def _look_up(self, key: Hashable) -> Header | None:
        with self._lock:
            return self._headers.get(key)

    def _keep(self, key: tuple[File, *Kind], header: Header, data: HeaderBytes) -> None:
        with self._lock:
            self._headers.keep(key, header)
            limit = setting_bytes("header_cache")
            self._headers.trim(limit)
            if self._remote.has(key[0]):
                self._remote.keep(key[0], data.windows)  # more was fetched for the parse
                self._remote.trim(limit)

    def _trim(self) -> None:
        """Drop what was used longest ago, until each kind takes ``header_cache`` bytes at most."""
        limit = setting_bytes("header_cache")
        self._headers.trim(limit)
        self._metadata.trim(limit)
        self._remote.trim(limit)

    def renew_locks(self) -> None:
        """Make new locks: a fork copies those that other threads hold, and none of the threads."""
        self._lock = threading.Lock()
        self._parsing = {}

    def clear(self) -> None:
        """Forget all headers."""
        with self._lock:
            self._headers.clear()
            self._metadata.clear()
            self._templates.clear()
            self._remote.clear()
            self._failed.clear()
            self._ahead.clear()


def _windows_here(file: File, index: HeaderIndex | None) -> Windows:
    """Return what is known of a file without a request: from its lookup, or from an index."""
    first = take_first_bytes(file)
    if first:
        return [(start, bytearray(content)) for start, content in first]
    return (None if index is None else index.windows(file)) or []


class _Nothing:
    """A source of bytes without any: what is not here yet has to be fetched by another one."""

    read_cost = 0

    def fill(self, spans: Sequence[tuple[int, memoryview]]) -> None:
        """Raise StorageError."""
        raise StorageError("the bytes are not here")

    def fill_held(
        self, spans: Sequence[tuple[int, memoryview]]
    ) -> Sequence[tuple[int, memoryview]]:
        """Return all spans."""
        return spans


def _first_spans(
    size: int, tail: int, windows: Windows, *, with_pixels: bool
) -> list[tuple[int, int]]:
    """Return what to fetch at first of a remote file, as (start, count), but *windows*. Pure.

    >>> _first_spans(10**6, 100, [], with_pixels=True)
    [(0, 16384), (999900, 100)]
    >>> _first_spans(10**5, 100, [], with_pixels=True)
    [(0, 100000)]
    >>> _first_spans(10**6, 100, [(0, bytearray(16384)), (999940, bytearray(60))], with_pixels=True)
    [(999900, 40)]
    """
    is_whole = with_pixels and size <= WHOLE_BYTES and not windows
    count = size if is_whole else min(size, FIRST_BYTES)
    spans = [] if windows else [(0, count)]
    start = max(count, size - tail)
    stop = min([size, *(at for at, window in windows if at and at + len(window) == size)])
    return spans if start >= stop else [*spans, (start, stop - start)]


_CACHE = HeaderCache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CACHE.renew_locks)
get_header = _CACHE.get
has_header = _CACHE.has
open_file = _CACHE.open
fetch_ahead = _CACHE.fetch_ahead
find_alike = _CACHE.find_alike
plan_ahead = _CACHE.plan_ahead
take_ahead = _CACHE.take_ahead
guess = _CACHE.guess
confirm = _CACHE.confirm
get_place_tags = _CACHE.get_place_tags
header_bytes = _CACHE.header_bytes
get_raw_metadata = _CACHE.get_raw_metadata
clear_headers = _CACHE.clear
