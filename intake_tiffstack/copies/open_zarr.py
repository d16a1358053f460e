"""Opens a Zarr array as a lazy array, with its dims, coordinates and attributes."""

from __future__ import annotations

import itertools
import os
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from math import prod
from typing import Any, Literal, NamedTuple

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray

from intake_tiffstack.arrays.chunks import AUTO_BYTES
from intake_tiffstack.arrays.lazy_array import LazyArray, to_dask_array
from intake_tiffstack.copies.attributes import (
    ARRAY_DIMENSIONS,
    OWN_KEY,
    checked_dims,
    decode_coords,
    take_fill_value,
)
from intake_tiffstack.copies.chunk_plan import page_dims_last, plan_blocks
from intake_tiffstack.copies.select import Positions, select_attrs, select_coords, select_positions
from intake_tiffstack.copies.zarr_documents import CLAIMS, OPENING
from intake_tiffstack.copies.zarr_pixels import ZarrPixels
from intake_tiffstack.copies.zarr_store import open_zarr_store, stat_references
from intake_tiffstack.errors import FilesNotFoundError, OptionError, StorageError, TooLargeError
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.urls import split_chain

__all__ = [
    "ZarrCopy",
    "ZarrLabels",
    "find_document",
    "label_copy",
    "lazy_copy",
    "open_array",
    "open_zarr",
    "refuse_unpickling",
]


class _Content(NamedTuple):
    """What a Zarr copy unpacks to."""

    array: da.Array
    """The pixels, lazy; a dask chunk is a shard or several, or chunks of up to 32 MiB together."""
    dims: tuple[str, ...]
    """Names of the dims, in the array's order."""
    coords: dict[str, tuple[tuple[str, ...], NDArray[Any]]]
    """Name to dims and values, as they were written."""
    attrs: dict[str, Any]
    """The ``attrs`` that were written."""


class ZarrCopy(_Content):
    """The content of a Zarr copy; unpacks to array, dims, coords and attrs."""

    pixels: LazyArray
    """The same pixels without dask: an index reads."""
    blocks: tuple[int, ...]
    """Shape of what is stored as a whole: a shard or a chunk."""


MOST_CHUNKS = 10**7
"""Along one dim of an array that is opened: dask keeps the length of each."""


def open_zarr(
    url: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    dims: Sequence[str] | None = None,
    arraytype: str = "numpy",
    sel: Mapping[str, Any] | None = None,
) -> ZarrCopy:
    """Return the lazy array, dims, coordinates and attributes of a Zarr copy.

    Only the metadata is read: a few small requests. Any Zarr array that names its dims opens; one
    that another program wrote has no coordinates.

    Parameters
    ----------
    url : str or os.PathLike[str]
        Of the copy.
    storage_options : mapping of str, optional
        For fsspec.
    dims : sequence of str, optional
        Names of the dims of an array that does not name them.
    arraytype : str
        What a chunk is: ``numpy``, ``cupy``, or a dotted name (with the setting ``allow_code``).
        Chunks are decoded on the CPU, and Zarr's configuration is left as it is.
    sel : mapping of str, optional
        Keeps positions by the values of a coordinate along one dim: a value, a list of values, or
        ``{"from": a, "to": b}`` with both ends included. A dim without a coordinate counts from 0.

    Raises
    ------
    FilesNotFoundError
        If there is no finished copy.
    StorageError
        If the store cannot be read, or the array does not name its dims.
    OptionError
        If `sel` names no coordinate along one dim, or a value that is not there.

    Examples
    --------
    >>> from intake_tiffstack import open_stack
    >>> plan = open_stack("raw/*.tif", pattern="lattice").export("scan.zarr")
    >>> copy = open_zarr("scan.zarr")
    >>> copy.array.shape, copy.dims
    ((3, 2, 8, 64, 48), ('t', 'c', 'z', 'y', 'x'))
    """
    folder = Folder.at(url, storage_options)
    document = find_document(folder)  # first: a copy that is replaced meanwhile does not agree
    source = open_array(folder)
    attrs = dict(source.attrs)
    take_fill_value(attrs)
    coords = decode_coords(attrs.pop(OWN_KEY, None), folder.url)
    # a copy of format 2 that was migrated to 3 keeps the names in the attribute
    names = _stored_dims(source.metadata, attrs.pop(ARRAY_DIMENSIONS, None))
    if not _are_names(names, source.ndim):
        if dims is None:
            raise StorageError(
                f"{folder.url}: the dims of this Zarr array have no names, but got "
                f"{names or None!r} for {source.ndim} dims; name them with the option `dims`, or "
                "open the pixels with dask.array.from_zarr",
                url=folder.url,
            )
        names = checked_dims(dims, source.shape)
    elif dims is not None and tuple(dims) != names:
        raise OptionError(
            f"dims={list(dims)}, but {folder.url} names its own: {', '.join(names)}; leave out dims"
        )
    return lazy_copy(
        folder, source, document, ZarrLabels(names, coords, attrs), arraytype, sel or {}
    )


def _stored_dims(metadata: Any, attribute: Any) -> tuple[Any, ...]:
    named = getattr(metadata, "dimension_names", None)  # of format 3
    return tuple(named if named and None not in named else attribute or named or ())


def _are_names(names: Sequence[Any], ndim: int) -> bool:
    return len(names) == ndim and len({*names} - {None}) == ndim


class ZarrLabels(NamedTuple):
    """Dims, coordinates and attributes of a Zarr array."""

    dims: tuple[str, ...]
    coords: dict[str, tuple[tuple[str, ...], NDArray[Any]]]
    attrs: dict[str, Any]


def lazy_copy(
    folder: Folder,
    source: Any,
    document: File,
    labels: ZarrLabels,
    arraytype: str,
    sel: Mapping[str, Any],
) -> ZarrCopy:
    """Return an open Zarr array as a lazy one.

    Parameters
    ----------
    folder : Folder
        Of the array.
    source : object
        The array.
    document : File
        Its metadata document; once it changes, reading raises.
    labels : ZarrLabels
        Dims, coordinates and attributes of the array.
    arraytype : str
    sel : mapping of str
        See :func:`open_zarr`.
    """

    def pixels(kept: tuple[Positions, ...]) -> LazyArray:
        where = (folder.url, folder.storage_options, document)
        return ZarrPixels(*where, source.metadata, kept, arraytype)

    return label_copy(source, pixels, labels, sel)


def label_copy(
    source: Any,
    pixels_at: Callable[[tuple[Positions, ...]], LazyArray],
    labels: ZarrLabels,
    sel: Mapping[str, Any],
) -> ZarrCopy:
    """Return the selected part of an array as a copy.

    Parameters
    ----------
    source : object
        The open Zarr array.
    pixels_at : callable
        Returns the lazy array at the positions that are kept along each dim.
    labels : ZarrLabels
        Dims, coordinates and attributes of the array.
    sel : mapping of str
        See :func:`open_zarr`.
    """
    sizes = _whole_sizes(labels, source.shape)
    coords = {
        name: (dims, values[tuple(slice(sizes[dim]) for dim in dims)])
        for name, (dims, values) in labels.coords.items()
    }
    labels = labels._replace(coords=coords)
    kept = select_positions(sel, labels.coords, sizes)
    positions = tuple(kept[dim] for dim in labels.dims)
    pixels = pixels_at(positions)
    copy = ZarrCopy(
        to_dask_array(pixels, _dask_chunks(source, labels.dims, positions)),
        labels.dims,
        select_coords(labels.coords, kept),
        select_attrs(labels.attrs, kept, sizes),
    )
    copy.pixels, copy.blocks = pixels, source.shards or source.chunks
    return copy


def _whole_sizes(labels: ZarrLabels, shape: Sequence[int]) -> dict[str, int]:
    """Return the extents that pixels and coordinates have both.

    Each document of a copy is replaced as a whole, but not all at once: a copy that is being
    extended at this moment is as long as the shorter of both.
    """
    sizes = dict(zip(labels.dims, shape, strict=True))
    for dims, values in labels.coords.values():
        for dim, n in zip(dims, np.shape(values), strict=True):
            sizes[dim] = min(sizes[dim], n)
    return sizes


def find_document(folder: Folder) -> File:
    """Return the metadata document of an array: format 3 before 2, as Zarr does.

    For references it is their document, which also lists the chunks.
    """
    references = stat_references(folder)
    if references is not None:
        return references
    path, chain = split_chain(folder.url)
    for name in ("zarr.json", ".zarray"):
        try:
            return stat_file(f"{path}/{name}{chain}", folder.storage_options)
        except FilesNotFoundError:
            continue
    raise _nothing_there(folder)


def open_array(folder: Folder) -> Any:
    """Return the Zarr array in a folder, for reading.

    Raises
    ------
    FilesNotFoundError
        If there is no array.
    StorageError
        If it cannot be read.
    """
    with folder.read_errors():
        try:
            # references are of format 2, and those in Parquet cannot be asked for the other
            only: Literal[2] | None = 2 if folder.url.startswith("reference:") else None
            store = open_zarr_store(folder, read_only=True)
            array = zarr.open_array(store, mode="r", zarr_format=only)
        except FileNotFoundError as exc:
            raise _nothing_there(folder) from exc
        except ValueError as exc:
            raise StorageError(f"{folder.url} is not a readable Zarr array: {exc}") from exc
    _refuse_objects(array, folder)
    _refuse_huge(array, folder)
    return array


def _refuse_objects(array: Any, folder: Folder) -> None:
    """Raise for an array whose chunks are decoded to Python objects: that can run code.

    Raises
    ------
    StorageError
        If its elements are objects or texts, or a codec unpickles.
    """
    refuse_unpickling(array, folder)
    if array.dtype.kind in "OTSUV":
        raise _may_run_code(f"elements of type {array.dtype}", folder)


def refuse_unpickling(array: Any, folder: Folder) -> None:
    """Raise for an array with a codec that unpickles, whatever numcodecs allows.

    Raises
    ------
    StorageError
        If there is one.
    """
    for codec in _codecs(array):
        name = codec["name"] if isinstance(codec, Mapping) else str(codec)
        if "pickle" in name.lower():
            raise _may_run_code(f"the codec {name!r}", folder)


def _may_run_code(what: str, folder: Folder) -> StorageError:
    return StorageError(
        f"{folder.url} has {what}, which no image needs and which may run code when it is "
        "decoded; it is not opened",
        url=folder.url,
    )


def _refuse_huge(array: Any, folder: Folder) -> None:
    """Raise for an array whose parts no machine can hold or list.

    Raises
    ------
    TooLargeError
        If a chunk is larger than ``max_image_bytes``, or there are more chunks along one dim than
        ``MOST_CHUNKS``.
    """
    nbytes = prod(array.chunks) * array.dtype.itemsize
    limit = setting_bytes("max_image_bytes")
    if nbytes > limit:
        raise TooLargeError(
            f"{folder.url}: one chunk declares {nbytes:,} bytes, more than max_image_bytes "
            f"({limit:,}); raise tiffstack.max_image_bytes in dask's config if that is true",
            url=folder.url,
        )
    count = max(
        (-(-n // size) for n, size in zip(array.shape, array.chunks, strict=True)), default=1
    )
    if count > MOST_CHUNKS:
        raise TooLargeError(
            f"{folder.url} declares {count:,} chunks along one dim, more than {MOST_CHUNKS:,}",
            url=folder.url,
        )


def _codecs(array: Any) -> list[Any]:
    """Return the name of each codec of an array."""
    metadata = array.metadata.to_dict()
    if metadata["zarr_format"] == 2:
        found = [*(metadata.get("filters") or ()), metadata.get("compressor")]
        return [getattr(c, "codec_id", None) or c["id"] for c in found if c is not None]
    return list(metadata["codecs"])


def _names_in(folder: Folder) -> list[str]:
    try:
        return folder.names("")
    except StorageError:  # many web servers cannot list
        return []


def _other_things(folder: Folder, names: Sequence[str]) -> str:
    """Return what is in a folder without an array, or beside a URL where nothing is."""
    zarrs = sorted(name for name in names if name.endswith(".zarr"))
    if zarrs:
        return f"there are others in it, such as {zarrs[0]!r}"
    if names:
        return "there is something else"
    above, _, name = folder.url.rpartition("/")
    is_in_folder = not above.endswith(("/", ":")) and above and "::" not in above
    beside = _names_in(Folder.at(above, folder.storage_options)) if is_in_folder else []
    near = get_close_matches(name, beside, n=1)
    return f"there is nothing; did you mean {near[0]!r}?" if near else "there is nothing"


def _nothing_there(folder: Folder) -> FilesNotFoundError:
    """Return the error for a folder without an array; it names what exists instead."""
    names = _names_in(folder)
    if CLAIMS in names:
        found = (
            "there is a copy that is not whole: it is being written, or its writer was stopped; "
            "the same export() goes on where it ended"
        )
    elif any(map(has_tiff_suffix, names)):
        found = "there are TIFF files, which the driver `tiffstack` opens (or open_stack)"
    elif OPENING.isdisjoint(names):
        found = _other_things(folder, names)
    else:
        found = "there is a Zarr group"
    return FilesNotFoundError(f"{folder.url} holds no finished Zarr array: {found}", url=folder.url)


def _dask_chunks(
    source: Any, dims: Sequence[str], kept: Sequence[Positions]
) -> tuple[tuple[int, ...], ...]:
    """Return how many positions of each block are kept; blocks hold whole shards or chunks.

    Chunks of 1 to 4 MB are combined, since each dask task costs 0.5 ms.
    """
    if 0 in source.shape:
        return tuple((len(positions),) for positions in kept)
    blocks = plan_blocks(
        source.shape,
        source.dtype.itemsize,
        unit=source.shards or source.chunks,
        granule=(1,) * source.ndim,
        order=page_dims_last(dims),
        most_bytes=AUTO_BYTES,
    )
    return tuple(map(_kept_of, blocks, kept))


def _kept_of(lengths: Sequence[int], kept: Positions) -> tuple[int, ...]:
    """Return how many of the kept positions lie in each block; empty blocks are left out.

    >>> _kept_of((4, 4, 2), range(10)), _kept_of((4, 4, 2), (1, 2, 9))
    ((4, 4, 2), (2, 1))
    """
    edges = [bisect_left(kept, edge) for edge in itertools.accumulate(lengths, initial=0)]
    return tuple(b - a for a, b in itertools.pairwise(edges) if b > a)
