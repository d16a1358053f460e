"""The pixels of a Zarr array, read into the memory that a device wants.

Zarr itself reads any array. What most copies are, chunks in local files that are Blosc or nothing,
is decoded here straight into its place: Zarr hands each chunk through an event loop and copies it
once more, which takes half as long again.
"""

from __future__ import annotations

import gzip
import itertools
import lzma
import os
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numcodecs
import numpy as np
import zarr
from dask.base import tokenize
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.buffer import cpu
from zarr.storage import StorePath

from intake_tiffstack.arrays.lazy_array import LazyArray
from intake_tiffstack.copies.chunk_coding import Coding, _stored_dtype, chunk_coding
from intake_tiffstack.copies.select import Positions
from intake_tiffstack.copies.zarr_store import open_zarr_store, stat_references
from intake_tiffstack.errors import FileChangedError, FilesNotFoundError, StorageError
from intake_tiffstack.redact import mask_secrets
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.urls import is_local

__all__ = ["ZarrPixels", "read_pixels"]


class ZarrPixels(LazyArray):
    """A Zarr array, or the part of it that some positions along each dim make.

    Parameters
    ----------
    url, storage_options
        Of the array.
    document
        Its metadata as a file, as it was when it was opened: another one is another array.
    metadata
        Zarr's own.
    kept
        The positions along each dim.
    arraytype
        What a block is.
    """

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any],
        document: File,
        metadata: Any,
        kept: tuple[Positions, ...],
        arraytype: str,
    ) -> None:
        self.url = url
        self.storage_options = storage_options
        self.document = document
        # a store may tell neither time nor ETag, so all that is stored counts
        self._token = tokenize(document, repr(metadata.to_dict()), kept, arraytype)
        # coordinates among the attributes may be megabytes, and no read needs them
        self.metadata = metadata.update_attributes({})
        self.kept = kept
        self._arraytype = arraytype

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return tuple(map(len, self.kept))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""
        stored = _stored_dtype(self.metadata)
        return stored if stored.isnative else stored.newbyteorder()

    @property
    def arraytype(self) -> str:
        """What a block is."""
        return self._arraytype

    def __repr__(self) -> str:
        return f"<ZarrPixels {self.shape} {self.dtype} of {mask_secrets(self.url)}>"

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "intake_tiffstack.ZarrPixels", self._token

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        place = Folder.at(self.url, self.storage_options)
        wanted = [k[r.start : r.stop : r.step] for k, r in zip(self.kept, ranges, strict=True)]
        try:
            read_pixels(place, self.metadata, wanted, out, document=self.document)
        except (StorageError, FilesNotFoundError):
            self._refuse_changed(place)  # says why
            raise
        self._refuse_changed(place)

    def _refuse_changed(self, place: Folder) -> None:
        """Raise if the array is not the one that was opened: its chunks would be those of two."""
        try:
            now = stat_references(place)
            if now is None:
                now = stat_file(self.document.url, self.storage_options)
        except FilesNotFoundError as exc:
            raise FileChangedError(
                f"{place.url} was removed, or is being replaced, while it was read; relist() opens "
                "what is there then",
                url=place.url,
            ) from exc
        if not now.agrees_with(self.document):
            raise FileChangedError(
                f"{place.url} is not the array that was opened: it was replaced since; relist() "
                "opens what is there now",
                url=place.url,
            )


def read_pixels(
    place: Folder,
    metadata: Any,
    wanted: Sequence[Positions],
    out: NDArray[Any],
    *,
    document: File | None = None,
    require_chunks: bool = False,
) -> None:
    """Fill *out* with what is stored at some positions along each dim of a Zarr array.

    Parameters
    ----------
    place
        Of the array.
    metadata
        Zarr's own.
    wanted
        Positions along each dim, none empty.
    out
        C-contiguous, native byte order.
    document
        Of references, as they were when the array was opened: they are parsed once.
    require_chunks
        Whether a missing chunk raises FilesNotFoundError instead of being read as fill value.

    Raises
    ------
    StorageError
        The store refuses, or a chunk is damaged.
    """
    coding = chunk_coding(metadata) if is_local(place.url) else None
    with place.read_errors():
        if coding is None or not _decode_chunks(place, metadata, wanted, out, coding):
            store = _open_store(place, document, require_chunks)
            _ask_zarr(store, metadata, wanted, out, place)


# Blosc and zstd raise RuntimeError for bytes that are none of theirs, the others their own.
_DECODING_ERRORS = (
    RuntimeError,
    ValueError,
    EOFError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
)


KEPT_DOCUMENTS = 4
"""Documents of references that are kept as they were parsed: fsspec parses one for each store."""

_kept_stores: dict[tuple[str, int], Store] = {}


def _open_store(place: Folder, document: File | None, require_chunks: bool) -> Store:
    """Return Zarr's store for a place; that of references is kept in this process."""
    if document is None or not place.url.startswith("reference:"):
        return open_zarr_store(place, read_only=True, require_chunks=require_chunks)
    key = tokenize(document, place.url, place.storage_options), os.getpid()
    store = _kept_stores.get(key)
    if store is None:  # without a lock, which a fork might leave closed: two threads parse it twice
        store = _kept_stores[key] = open_zarr_store(place, read_only=True)
        for old in list(_kept_stores)[:-KEPT_DOCUMENTS]:
            _kept_stores.pop(old, None)
    return store


def _ask_zarr(
    store: Store, metadata: Any, wanted: Sequence[Positions], out: NDArray[Any], place: Folder
) -> None:
    array: Any = zarr.Array(zarr.AsyncArray(metadata, StorePath(store, "")))
    try:
        array.get_orthogonal_selection(
            tuple(map(_as_index, wanted)),
            out=cpu.NDBuffer.from_numpy_array(out),
            prototype=cpu.buffer_prototype,  # on the host, whatever Zarr is set to
        )
    except _DECODING_ERRORS as exc:
        raise _damaged(place, "a chunk", exc) from exc


def _decode_chunks(
    place: Folder, metadata: Any, wanted: Sequence[Positions], out: NDArray[Any], coding: Coding
) -> bool:
    """Decode each chunk where it goes, or beside that where only part of it is wanted.

    Returns whether all of them are there: one that was never written holds what Zarr says.
    """
    read = _read_raw if coding == "raw" else _read_blosc
    shape = metadata.chunks
    beside: NDArray[Any] | None = None
    for coords, into, inside in _walk_chunks(wanted, shape):
        key = metadata.encode_chunk_key(coords)
        part = out[into]
        target = part
        if part.shape != shape or not part.flags.c_contiguous:
            target = beside = np.empty(shape, out.dtype) if beside is None else beside
        try:
            read(f"{place.path}/{key}", target)
        except FileNotFoundError:
            return False
        except (RuntimeError, ValueError) as exc:
            raise _damaged(place, key, exc) from exc
        if target is not part:
            part[...] = target[inside]
    return True


@dataclass(frozen=True)
class _Span:
    """What is wanted of one chunk along one dim."""

    number: int
    into: slice
    inside: slice | list[int]


def _walk_chunks(
    wanted: Sequence[Positions], shape: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...], Any]]:
    """Yield each chunk that is touched, where it goes, and the index of what goes there. Pure."""
    for spans in itertools.product(*map(_spans, wanted, shape)):
        index: tuple[Any, ...] = tuple(span.inside for span in spans)
        if any(isinstance(inside, list) for inside in index):  # each dim by itself, as a product
            index = np.ix_(*(np.arange(n)[i] for i, n in zip(index, shape, strict=True)))
        into = (*(span.into for span in spans), ...)  # a view where there are no dims, too
        yield tuple(span.number for span in spans), into, index


def _spans(wanted: Positions, size: int) -> list[_Span]:
    """Return what lies in each chunk of *size* along one dim; untouched ones are left out. Pure.

    >>> [(s.number, s.into, s.inside) for s in _spans(range(3, 12, 4), 5)]
    [(0, slice(0, 1, None), slice(3, 4, 1)), (1, slice(1, 2, None), slice(2, 3, 1)), \
(2, slice(2, 3, None), slice(1, 2, 1))]
    >>> [(s.number, s.into, s.inside) for s in _spans((0, 1, 9), 5)]
    [(0, slice(0, 2, None), [0, 1]), (1, slice(2, 3, None), [4])]
    """
    spans = []
    done = 0
    while done < len(wanted):
        number = wanted[done] // size
        start = number * size
        end = bisect_left(wanted, start + size, done)
        part = wanted[done:end]
        inside: slice | list[int]
        if isinstance(part, range):
            inside = slice(
                part[0] - start, part[-1] - start + 1, part.step if end - done > 1 else 1
            )
        else:
            inside = [position - start for position in part]
        spans.append(_Span(number, slice(done, end), inside))
        done = end
    return spans


def _as_index(wanted: Positions) -> Any:
    if isinstance(wanted, range):
        return slice(wanted.start, wanted.stop, wanted.step)
    return np.array(wanted, np.intp)


# -- chunks that are decoded here ------------------------------------------------------------------


def _read_raw(path: str, out: NDArray[Any]) -> None:
    """Fill *out* with the bytes of a file."""
    with open(path, "rb") as file:
        found = file.readinto(out.reshape(-1).view(np.uint8).data)
        if found != out.nbytes or file.read(1):
            raise ValueError(f"it must hold {out.nbytes:,} bytes, but does not")


_BLOSC = numcodecs.Blosc()  # what a chunk was compressed with stands in the chunk


def _read_blosc(path: str, out: NDArray[Any]) -> None:
    """Fill *out* with what is compressed in a file."""
    with open(path, "rb") as file:
        content = file.read()
    # Blosc's header: less decoded would leave a rest, and numcodecs reads past what is stored
    nbytes, _, stored = struct.unpack_from("<3I", content.ljust(16, b"\0"), 4)
    if nbytes != out.nbytes or stored != len(content):
        raise ValueError(
            f"it must hold {out.nbytes:,} bytes in {len(content):,}, but says {nbytes:,} in "
            f"{stored:,}"
        )
    _BLOSC.decode(content, out)


def _damaged(place: Folder, what: str, exc: Exception) -> StorageError:
    return StorageError(f"{place.url}: {what} is damaged: {exc}", url=place.url)
