"""Files as they were listed: one row per file, 100,000 of them in a few MB.

All functions are pure, and the module is light to import, because the table goes to every worker.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from intake_tiffstack.storage.urls import name_paths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["File", "FileTable"]

_PIECE = 4096


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

    def agrees_with(self, other: File) -> bool:
        """Return whether the values known of both files are equal. Pure.

        Examples
        --------
        >>> listed = File("http://host/a.tif", -1, -1, None)
        >>> listed.agrees_with(File("http://host/a.tif", 10, -1, '"5d41"'))
        True
        >>> File("/a.tif", 10, 5, None).agrees_with(File("/a.tif", 10, 6, None))
        False
        """
        return not (
            self.url != other.url
            or (min(self.size, other.size) >= 0 and self.size != other.size)
            or (min(self.mtime_ns, other.mtime_ns) >= 0 and self.mtime_ns != other.mtime_ns)
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

    urls: tuple[str, ...]
    """The URL of each file."""
    sizes: NDArray[np.int64]
    """Bytes, -1 where unknown."""
    mtimes: NDArray[np.int64]
    """Time of the last change in ns since 1970, -1 where unknown."""
    etags: tuple[str | None, ...] | None = None
    """ETags, None where no file has one."""

    def __post_init__(self) -> None:
        etags = tuple(self.etags or ())
        columns = {
            "urls": tuple(self.urls),
            "sizes": _read_only(self.sizes),
            "mtimes": _read_only(self.mtimes),
            "etags": etags if etags.count(None) < len(etags) else None,
        }
        lengths = {name: len(column) for name, column in columns.items() if column is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns must be equally long, but got {lengths}")
        for name, column in columns.items():
            object.__setattr__(self, name, column)

    @classmethod
    def from_files(cls, files: Iterable[File]) -> Self:
        """Return a table of *files* in the order given. Pure."""
        rows = [(file.url, file.size, file.mtime_ns, file.etag) for file in files]
        return cls.from_rows(rows)

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[str, int, int, str | None]]) -> Self:
        """Return a table of (url, size, mtime_ns, etag), in the order given. Pure."""
        # Sorted rows lie all over the memory: going through them once takes less than four times.
        flat: list[Any] = list(chain.from_iterable(rows))
        return cls(
            tuple(flat[0::4]),
            np.array(flat[1::4], dtype=np.int64),
            np.array(flat[2::4], dtype=np.int64),
            tuple(flat[3::4]),
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
        )

    def take(self, indices: ArrayLike) -> Self:
        """Return the table of the rows at *indices*, in that order. Pure."""
        rows = np.asarray(indices, dtype=np.intp)
        return type(self)(
            tuple([self.urls[row] for row in rows.tolist()]),
            self.sizes[rows],
            self.mtimes[rows],
            tuple([self.etags[row] for row in rows.tolist()]) if self.etags else None,
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """What names are read from; see :func:`~intake_tiffstack.storage.urls.name_paths`."""
        return name_paths(self.urls)

    @property
    def common_prefix(self) -> str:
        """The text that all URLs begin with; it may end inside a name."""
        ends = [min(self.urls), max(self.urls)] if self.urls else []
        return os.path.commonprefix(ends)  # noqa: RUF071 - by character is what is wanted

    def token(self) -> str:
        """Return a hex digest of all of it. Pure."""
        digest = hashlib.blake2b(digest_size=16)
        urls = self.urls
        if any("\0" in url for url in urls):
            urls = (json.dumps(urls),)
        # a third of the time that JSON takes, and in pieces, because a million are 200 MB of text
        for start in range(0, len(urls), _PIECE):
            piece = ("",) * (start > 0) + urls[start : start + _PIECE]
            digest.update("\0".join(piece).encode(errors="surrogatepass"))
        digest.update(json.dumps(self.etags).encode())
        digest.update(self.sizes.astype("<i8").tobytes())
        digest.update(self.mtimes.astype("<i8").tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileTable):
            return NotImplemented
        return (
            self.urls == other.urls
            and self.etags == other.etags
            and np.array_equal(self.sizes, other.sizes)
            and np.array_equal(self.mtimes, other.mtimes)
        )

    def __hash__(self) -> int:
        return hash((len(self), self.urls[:1], self.urls[-1:]))

    def __repr__(self) -> str:
        plural = "" if len(self) == 1 else "s"
        size = int(self.sizes[self.sizes > 0].sum())
        return f"<FileTable: {len(self)} file{plural}, {size} bytes, {self.common_prefix!r}...>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Lattice-like names are 10 MB for 100,000 files: 1 MB without what they share, at level 1.
        # pickle inside, since a name may hold bytes that are not UTF-8.
        prefix = self.common_prefix
        names = [url[len(prefix) :] for url in self.urls]
        packed = pickle.dumps((names, self.sizes, self.mtimes, self.etags), protocol=5)
        return _unpack, (type(self), prefix, zlib.compress(packed, 1))


def _unpack(cls: type[FileTable], prefix: str, packed: bytes) -> FileTable:
    names, sizes, mtimes, etags = pickle.loads(zlib.decompress(packed))
    return cls(tuple(prefix + name for name in names), sizes, mtimes, etags)


def _read_only(column: ArrayLike) -> NDArray[np.int64]:
    values = np.array(column, dtype=np.int64)
    values.setflags(write=False)
    return values
