"""A dask array to one Zarr array and back, with its dims, coordinates and attributes.

A copy is written data first and metadata last. Until the last write its place holds chunks and no
metadata, and nothing opens it: neither this package nor dask, xarray or Zarr itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import dask.array as da
import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.storage import MemoryStore, StorePath

from intake_tiffstack.errors import (
    FeatureNotAvailableError,
    FilesNotFoundError,
    OptionError,
    StorageError,
)
from intake_tiffstack.export.attributes import (
    ARRAY_DIMENSIONS,
    OWN_KEY,
    Coords,
    decode_coords,
    encode_coords,
    plain_json,
)
from intake_tiffstack.export.chunks import align_chunks, resolve_chunks
from intake_tiffstack.export.codecs import resolve_compressor
from intake_tiffstack.export.place import Place

__all__ = ["ZarrCopy", "open_zarr", "write_zarr"]

_OPENING_DOCUMENTS = frozenset({"zarr.json", ".zarray"})  # what makes a folder an array


class ZarrCopy(NamedTuple):
    """What a Zarr copy holds."""

    array: da.Array
    """The pixels, lazy; one dask chunk a shard, or a chunk where there are no shards."""
    dims: tuple[str, ...]
    """Names of the dims, in the array's order."""
    coords: dict[str, tuple[tuple[str, ...], NDArray[Any]]]
    """Name to dims and values, as they were written."""
    attrs: dict[str, Any]
    """What the writer gave as ``attrs``."""


def write_zarr(
    array: da.Array,
    url: str | os.PathLike[str],
    *,
    dims: Sequence[str],
    coords: Coords,
    attrs: Mapping[str, Any],
    storage_options: Mapping[str, Any] | None = None,
    zarr_format: Literal[2, 3] = 3,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    compressor: Any = "default",
    overwrite: bool = False,
    progress: bool | Callable[[int, int], object] | None = None,
) -> None:
    """Write a dask array as one Zarr array at the root of *url*, its metadata last.

    Every block of the source is computed once, whatever its chunks are.

    Parameters
    ----------
    array
        Booleans, integers, floats or complex numbers in host memory; stored in native byte order.
    url
        A local folder or any fsspec URL; nothing may be there but an empty folder.
    dims
        Names of the dims, one each.
    coords
        Name to dims and values: see :func:`~intake_tiffstack.export.attributes.encode_coords`.
    attrs
        What else is stored with the array; JSON only.
    storage_options
        For fsspec.
    zarr_format
        3, or 2 for readers that know no other.
    chunks
        Shape of a chunk; None for 1 to 4 MB along the edges of pages.
    shards
        Shape of a shard, a multiple of *chunks*, on format 3; None for none.
    compressor
        See :func:`~intake_tiffstack.export.codecs.resolve_compressor`.
    overwrite
        Not yet: True is refused.
    progress
        True for a bar (with tqdm), a function called with the number of blocks written and of
        all, in this process only; None or False for silence.

    Raises
    ------
    TargetExistsError
        If something is at *url*; it is left as it is.
    OptionError
        If an option, coordinate or attribute cannot be stored.
    StorageError
        If the store refuses a write; the message names the URL and the reason. What was written
        until then stays there and does not open.
    FeatureNotAvailableError
        If *overwrite* is True, or *progress* is True and tqdm is not installed.
    """
    if overwrite:
        raise FeatureNotAvailableError(
            "overwrite=True is not available yet; delete the old copy, or write to another URL"
        )
    place = Place.at(url, storage_options)
    native = array.astype(array.dtype.newbyteorder("="))
    dims = _checked_dims(dims, native.shape)
    template, documents = _draft_array(
        native,
        dims,
        _encode_attributes(dict(zip(dims, native.shape, strict=True)), coords, attrs, zarr_format),
        zarr_format=zarr_format,
        cut=resolve_chunks(native.shape, native.dtype.itemsize, dims, chunks, shards),
        compressor=compressor,
    )
    place.refuse_taken()
    store = place.open_store(read_only=False)
    # The array exists here, and not yet in the store: Zarr writes its metadata where it makes one.
    target = zarr.Array(
        zarr.AsyncArray(  # type: ignore[call-overload]  # has an overload a format
            template.metadata,
            StorePath(store),
            # A chunk of zeros is written like any other: one that is missing was never written.
            config={"write_empty_chunks": True},
        )
    )
    # Two blocks that share a chunk (or a shard) would each read it, change their part and write
    # it back, and the later would undo the earlier without a word. So blocks are cut where chunks
    # are, and need no lock. By "tasks", since blocks exchange just their rims.
    edges = align_chunks(native.chunks, target.shards or target.chunks)
    aligned = native.rechunk(edges, method="tasks")
    with _reported(progress, aligned.npartitions) as advance:
        da.store(aligned, _Writer(target, place, advance), lock=False)
    for key in sorted(documents, key=_OPENING_DOCUMENTS.__contains__):
        place.write_document(key, documents[key].to_bytes())


def open_zarr(
    url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> ZarrCopy:
    """Return the lazy array, dims, coordinates and attributes of a Zarr copy.

    Only the metadata is read: a few small requests. Any Zarr array that names its dims opens; one
    that something else wrote has no coordinates.

    Parameters
    ----------
    url
        Of the copy.
    storage_options
        For fsspec.

    Raises
    ------
    FilesNotFoundError
        If there is no finished copy.
    StorageError
        If the store cannot be read, or the array does not name its dims.
    """
    place = Place.at(url, storage_options)
    with place.read_errors():
        try:
            source = zarr.open_array(place.open_store(read_only=True), mode="r")
        except FileNotFoundError as exc:
            raise FilesNotFoundError(
                f"{place.url} holds no finished Zarr array: there is nothing, or a group, "
                "or a copy that is still being written or has failed",
                url=place.url,
            ) from exc
        except ValueError as exc:
            raise StorageError(f"{place.url} is no readable Zarr array: {exc}") from exc
    attrs = dict(source.attrs)
    coords = decode_coords(attrs.pop(OWN_KEY, None), place.url)
    if source.metadata.zarr_format == 2:
        dims: Any = attrs.pop(ARRAY_DIMENSIONS, None)
    else:
        dims = source.metadata.dimension_names
    if dims is None or None in dims:
        raise StorageError(
            f"{place.url}: the dims of this Zarr array have no names, but got {dims!r}; "
            "dask.array.from_zarr opens the pixels of any Zarr",
            url=place.url,
        )
    array = da.from_zarr(source, chunks=source.shards or source.chunks, inline_array=True)
    return ZarrCopy(array, tuple(dims), coords, attrs)


def _checked_dims(dims: Sequence[str], shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return *dims* if they name each dim of *shape* once."""
    if len(dims) != len(shape) or len(set(dims)) != len(shape):
        raise OptionError(
            f"dims must be {len(shape)} different names, one for each of {shape}, "
            f"but got {list(dims)}"
        )
    return tuple(dims)


def _encode_attributes(
    sizes: Mapping[str, int], coords: Coords, attrs: Mapping[str, Any], zarr_format: int
) -> dict[str, Any]:
    """Return all attributes of the array as JSON."""
    for key in (OWN_KEY, ARRAY_DIMENSIONS):
        if key in attrs:
            raise OptionError(f"attrs must not have the key {key!r}: a copy keeps its own there")
    attributes: dict[str, Any] = plain_json(attrs, "attrs")
    attributes[OWN_KEY] = encode_coords(coords, sizes)
    if zarr_format == 2:
        attributes[ARRAY_DIMENSIONS] = list(sizes)
    return attributes


def _draft_array(
    array: da.Array,
    dims: tuple[str, ...],
    attributes: dict[str, Any],
    *,
    zarr_format: Literal[2, 3],
    cut: tuple[tuple[int, ...], tuple[int, ...] | None],
    compressor: Any,
) -> tuple[zarr.Array[Any], Mapping[str, Buffer]]:
    """Return an empty array in memory that is as the copy shall be, and its metadata documents.

    Zarr itself makes both, so that a copy opens wherever a Zarr opens.
    """
    if zarr_format not in (2, 3):
        raise OptionError(f"zarr_format must be 2 or 3, but got {zarr_format!r}")
    if array.size == 0:
        raise OptionError(f"there is no pixel to copy: the shape is {array.shape}")
    if array.dtype.kind not in "biufc":
        raise OptionError(
            f"a Zarr copy holds booleans, integers, floats or complex, but got {array.dtype}"
        )
    chunks, shards = cut
    codec = resolve_compressor(compressor, zarr_format=zarr_format, itemsize=array.dtype.itemsize)
    documents: dict[str, Buffer] = {}
    try:
        drafted = zarr.create_array(
            MemoryStore(documents),
            shape=array.shape,
            dtype=array.dtype,
            chunks=chunks,
            shards=shards,
            compressors=codec,
            fill_value=0,
            zarr_format=zarr_format,
            attributes=attributes,
            dimension_names=dims if zarr_format == 3 else None,
        )
    except (TypeError, ValueError) as exc:
        raise OptionError(
            f"Zarr format {zarr_format} cannot hold {array.dtype} of shape {array.shape} in chunks "
            f"{chunks}, shards {shards}, compressor {codec!r}: {exc}"
        ) from exc
    return drafted, documents


class _Writer:
    """What dask stores into: writes one block, and counts it."""

    def __init__(
        self, target: zarr.Array[Any], place: Place, advance: Callable[[], None] | None
    ) -> None:
        self.target = target
        self.place = place
        self.advance = advance

    def __setitem__(self, region: tuple[slice, ...], block: NDArray[Any]) -> None:
        with self.place.write_errors():
            self.target[region] = block
        if self.advance is not None:
            self.advance()

    def __getstate__(self) -> dict[str, Any]:
        # another process has no bar to advance
        return {**self.__dict__, "advance": None}


@contextmanager
def _reported(
    progress: bool | Callable[[int, int], object] | None, total: int
) -> Iterator[Callable[[], None] | None]:
    """Yield a function that counts one of *total* as done, or None where nobody wants to know."""
    if progress is True:
        with _open_bar(total) as bar:
            yield _counter(lambda done, _: bar.update(done - bar.n), total)
    elif callable(progress):
        yield _counter(progress, total)
    else:
        yield None


def _counter(report: Callable[[int, int], object], total: int) -> Callable[[], None]:
    """Return a function that counts up and reports, from whichever thread."""
    lock = threading.Lock()
    done = 0

    def advance() -> None:
        nonlocal done
        with lock:
            done += 1
            report(done, total)

    return advance


def _open_bar(total: int) -> Any:
    """Return a tqdm bar over *total* blocks."""
    try:
        from tqdm.auto import tqdm
    except ImportError as exc:
        raise FeatureNotAvailableError(
            "progress=True draws a bar with tqdm, which is not installed; "
            "pip install 'intake-tiffstack[all]'"
        ) from exc
    return tqdm(total=total, unit="block", desc="export")
