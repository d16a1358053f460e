"""Files as they were listed: one row per file, 100,000 of them in a few MB.

All functions are pure, and the module is light to import, because the table goes to every worker.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from intake_tiffstack.packed_texts import PackedTexts
from intake_tiffstack.storage.urls import is_local, name_paths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["File", "FileTable"]

_PIECE = 4096
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True)
class File:
    """One TIFF as it was listed."""

    url: str
    """Local: the absolute path; else the full fsspec URL (``s3://b/k``, ``zip://a.tif::/x.zip``)."""
    size: int
    """Bytes, -1 if unknown."""
    mtime_ns: int
    """Time of the last change in ns since 1970, -1 if unknown or if there is an ETag."""
    etag: str | None
    """Identifier of this content, as the store writes it; None if it gives none."""
    ctime_ns: int = -1
    """Time of the last change of content, name, links or permissions in ns since 1970, which no
    program can set back; -1 if unknown, as in stores and on Windows."""

    def agrees_with(self, other: File) -> bool:
        """Return whether the values known of both files are equal. Pure.

        Examples
        --------
        >>> listed = File("http://host/a.tif", -1, -1, None)
        >>> listed.agrees_with(File("http://host/a.tif", 10, -1, '"5d41"'))
        True
        >>> File("/a.tif", 10, 5, None).agrees_with(File("/a.tif", 10, 6, None))
        False
        >>> File("/a.tif", 10, 5, None, 7).agrees_with(File("/a.tif", 10, 5, None, 8))
        False
        """
        return not (
            self.url != other.url
            or (min(self.size, other.size) >= 0 and self.size != other.size)
            or (min(self.mtime_ns, other.mtime_ns) >= 0 and self.mtime_ns != other.mtime_ns)
            or (min(self.ctime_ns, other.ctime_ns) >= 0 and self.ctime_ns != other.ctime_ns)
            or (self.etag and other.etag and _content(self.etag) != _content(other.etag))
        )


def _content(etag: str) -> str:
    """Return an ETag without quotes and the mark ``W/``, which proxies add. Pure."""
    return etag.removeprefix("W/").strip('"')


@dataclass(frozen=True, eq=False, repr=False)
class FileTable(Sequence[File]):
    """Files in columns; a row is a :class:`File`, a slice is a table.

    Raises
    ------
    ValueError
        If the columns are not equally long.
    """

    urls: PackedTexts
    """The URL of each file; made of any sequence of texts."""
    sizes: NDArray[np.int64]
    """Bytes, -1 where unknown."""
    mtimes: NDArray[np.int64]
    """Time of the last change in ns since 1970, -1 where unknown."""
    etags: tuple[str | None, ...] | None = None
    """ETags, None where no file has one."""
    ctimes: NDArray[np.int64] | None = None
    """Time of the last change of content, name, links or permissions in ns since 1970, -1 where
    unknown; None where it is known of no file."""

    def __post_init__(self) -> None:
        etags = tuple(self.etags or ())
        ctimes = None if self.ctimes is None else _read_only(self.ctimes)
        columns = {
            "urls": PackedTexts.of(self.urls),
            "sizes": _read_only(self.sizes),
            "mtimes": _read_only(self.mtimes),
            "etags": etags if etags.count(None) < len(etags) else None,
            "ctimes": None if ctimes is None or (ctimes < 0).all() else ctimes,
        }
        lengths = {name: len(column) for name, column in columns.items() if column is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns must be equally long, but got {lengths}")
        for name, column in columns.items():
            object.__setattr__(self, name, column)

    @staticmethod
    def from_files(files: Iterable[File]) -> FileTable:
        """Return a table of *files* in the order given. Pure."""
        etags: list[str | None] = []
        sizes, mtimes, ctimes = array("q"), array("q"), array("q")

        def take_url(file: File) -> str:
            sizes.append(file.size)
            mtimes.append(file.mtime_ns)
            etags.append(file.etag)
            ctimes.append(file.ctime_ns)
            return file.url

        urls = PackedTexts.of(map(take_url, files))
        return FileTable(
            urls, np.asarray(sizes), np.asarray(mtimes), tuple(etags), np.asarray(ctimes)
        )

    @staticmethod
    def join(tables: Sequence[FileTable]) -> FileTable:
        """Return the rows of one table after those of another. Pure."""
        if len(tables) == 1:
            return tables[0]
        return FileTable(
            PackedTexts.join([table.urls for table in tables]),
            np.concatenate([_NONE, *(table.sizes for table in tables)]),
            np.concatenate([_NONE, *(table.mtimes for table in tables)]),
            tuple(chain.from_iterable(t.etags or (None,) * len(t) for t in tables)),
            np.concatenate([_NONE, *(table._known_ctimes() for table in tables)]),
        )

    def __len__(self) -> int:
        return len(self.urls)

    @overload
    def __getitem__(self, index: int) -> File: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> File | Self:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return File(
            self.urls[index],
            int(self.sizes[index]),
            int(self.mtimes[index]),
            self.etags[index] if self.etags else None,
            -1 if self.ctimes is None else int(self.ctimes[index]),
        )

    def _known_ctimes(self) -> NDArray[np.int64]:
        return np.full(len(self), -1) if self.ctimes is None else self.ctimes

    def take(self, indices: ArrayLike) -> Self:
        """Return the table of the rows at *indices*, in that order. Pure."""
        rows = np.asarray(indices, dtype=np.intp)
        return type(self)(
            self.urls.take(rows),
            _frozen(self.sizes[rows]),
            _frozen(self.mtimes[rows]),
            tuple([self.etags[row] for row in rows.tolist()]) if self.etags else None,
            None if self.ctimes is None else _frozen(self.ctimes[rows]),
        )

    def sorted(self) -> Self:
        """Return the rows by URL. Pure."""
        return self.take(self.urls.order())

    @property
    def are_local(self) -> bool:
        """Whether all are local files."""
        return self.urls.start.startswith("/") or all(map(is_local, self.urls))

    @property
    def paths(self) -> PackedTexts:
        """What names are read from; see :func:`~intake_tiffstack.storage.urls.name_paths`."""
        return name_paths(self.urls)

    @property
    def common_prefix(self) -> str:
        """The text that all URLs begin with; it may end inside a name."""
        return self.urls.common_prefix

    def token(self) -> str:
        """Return a hex digest of all but ``ctimes``, by which no copy is compared. Pure."""
        digest = hashlib.blake2b(digest_size=16)
        if self.urls.may_hold("\0") and any("\0" in url for url in self.urls):
            digest.update(json.dumps(list(self.urls)).encode())
        else:
            # a third of the time that JSON takes, and in pieces: a million are 200 MB of text
            for start in range(0, len(self), _PIECE):
                piece = [""] * (start > 0) + list(self.urls[start : start + _PIECE])
                digest.update("\0".join(piece).encode(errors="surrogatepass"))
        digest.update(json.dumps(self.etags).encode())
        digest.update(np.ascontiguousarray(self.sizes, "<i8").data)
        digest.update(np.ascontiguousarray(self.mtimes, "<i8").data)
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileTable):
            return NotImplemented
        return (
            self.urls == other.urls
            and self.etags == other.etags
            and np.array_equal(self.sizes, other.sizes)
            and np.array_equal(self.mtimes, other.mtimes)
            and np.array_equal(self._known_ctimes(), other._known_ctimes())
        )

    def __hash__(self) -> int:
        return hash((len(self), *self.urls[:1], *self.urls[-1:]))

    def __repr__(self) -> str:
        plural = "" if len(self) == 1 else "s"
        size = int(self.sizes[self.sizes > 0].sum())
        return f"<FileTable: {len(self)} file{plural}, {size} bytes, {self.common_prefix!r}...>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Lattice-like names are 10 MB for 100,000 files: 1 MB without what they share, at level 1.
        # pickle inside, since a name may hold bytes that are not UTF-8.
        prefix = self.common_prefix
        names = [url[len(prefix) :] for url in self.urls]
        # mostly 0, which takes no room
        since = None if self.ctimes is None else self.ctimes - self.mtimes
        packed = pickle.dumps((names, self.sizes, self.mtimes, self.etags, since), protocol=5)
        return _unpack, (type(self), prefix, zlib.compress(packed, 1))


def _unpack(cls: type[FileTable], prefix: str, packed: bytes) -> FileTable:
    names, sizes, mtimes, etags, since = pickle.loads(zlib.decompress(packed))
    ctimes = None if since is None else mtimes + since
    return cls(PackedTexts.of(names, prefix), sizes, mtimes, etags, ctimes)


def _read_only(column: ArrayLike) -> NDArray[np.int64]:
    """Return a copy that cannot be written; an array that is so already, as it is."""
    if isinstance(column, np.ndarray) and column.dtype == np.int64 and not column.flags.writeable:
        return column
    return _frozen(np.array(column, dtype=np.int64))


def _frozen(column: NDArray[np.int64]) -> NDArray[np.int64]:
    column.setflags(write=False)
    return column
