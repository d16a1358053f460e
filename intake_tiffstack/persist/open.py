"""A collection whose pixels come from its copy, and everything else from its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dask
import numpy as np
import zarr
from dask.utils import parse_bytes
from numpy.typing import NDArray

from intake_tiffstack.arrays.chunks import choose_block_chunks
from intake_tiffstack.arrays.lazy_array import LazyArray
from intake_tiffstack.collection.examination import Examination
from intake_tiffstack.collection.open import Collection, open_collection
from intake_tiffstack.copies.record import read_record
from intake_tiffstack.copies.zarr_pixels import read_pixels
from intake_tiffstack.copies.zarr_store import open_zarr_store
from intake_tiffstack.errors import FileChangedError, FilesNotFoundError, StorageError
from intake_tiffstack.layout.model import Layout
from intake_tiffstack.options import Options
from intake_tiffstack.persist.store import CollectionCopies, Generation
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.stack import TiffStack
from intake_tiffstack.storage.folder import Folder

__all__ = ["CopyArray", "PersistedStack"]


class CopyArray(LazyArray):
    """The pixels of a collection, read from its Zarr copy.

    Parameters
    ----------
    url : str
        URL of the copy.
    storage_options : mapping
        Options for fsspec to reach it.
    metadata : zarr.core.metadata.ArrayMetadata
        Zarr's metadata of the copy.
    token : str
        Identifies the copy: its URL is not enough, since a copy may be removed and made anew.
    dtype : numpy.dtype
        Type of the pixels, in native byte order.
    arraytype : str
        The option of this name.
    """

    def __init__(
        self,
        url: str,
        storage_options: Mapping[str, Any],
        metadata: Any,
        token: str,
        dtype: np.dtype[Any],
        arraytype: str,
    ) -> None:
        self.url = url
        self.storage_options = storage_options
        self.metadata = metadata
        self.token = token
        self._dtype = dtype
        self._arraytype = arraytype

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return tuple(self.metadata.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, in native byte order."""
        return self._dtype

    @property
    def arraytype(self) -> str:
        """What a block is."""
        return self._arraytype

    def __repr__(self) -> str:
        return f"<CopyArray {self.shape} {self.dtype} at {hide_in_text(self.url)}>"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("intake_tiffstack.CopyArray", self.url, self.token, self.arraytype)

    def on_host(self) -> CopyArray:
        """Return the same array with NumPy blocks."""
        where = (self.url, self.storage_options, self.metadata, self.token)
        return CopyArray(*where, self.dtype, "numpy")

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        """Fill *out* with a region of the copy."""
        folder = Folder.at(self.url, self.storage_options)
        try:
            read_pixels(folder, self.metadata, ranges, out, require_chunks=True)
        except FilesNotFoundError as exc:
            raise FileChangedError(
                f"the copy at {self.url} was removed since this array was made from it, or a part "
                "of it is lost; open the source anew, or persist() anew",
                url=self.url,
            ) from exc


class PersistedStack(TiffStack):
    """A collection as its options describe it, with the pixels of a copy.

    No file of the collection is listed or read: names, coordinates and metadata follow from the
    options and from what the copy remembers of the files.

    Parameters
    ----------
    options : Options
        Of the collection; those that decide pixels are the ones that the copy was made with.
    copies : CollectionCopies
    generation : Generation
        The copy.
    """

    def __init__(self, options: Options, copies: CollectionCopies, generation: Generation) -> None:
        super().__init__(options)
        self.copies = copies
        self.generation = generation

    def __reduce__(self) -> tuple[Any, ...]:
        return (PersistedStack, (self.options, self.copies, self.generation))

    @property
    def collection(self) -> Collection:
        """The opened collection; opened at the first use."""
        with self._lock:
            if self._collection is None:
                self._collection = _open_copy(self.options, self.copies, self.generation)
            return self._collection


def _open_copy(options: Options, copies: CollectionCopies, generation: Generation) -> Collection:
    """Return the collection over its copy: a few small reads."""
    collection = open_collection(Examination(options, copies.read_seen(generation)))
    layout = collection.layout
    folder = Folder.at(copies.pixels_url(generation.name), copies.store.storage_options)
    with folder.read_errors():
        try:
            pixels = zarr.open_array(open_zarr_store(folder, read_only=True), mode="r")
        except FileNotFoundError as exc:
            raise FilesNotFoundError(
                f"{folder.url}: the persisted copy is no longer there; unpersist() forgets it",
                url=folder.url,
            ) from exc
        except (KeyError, TypeError, ValueError) as exc:
            raise StorageError(f"{folder.url} is damaged: {exc!r}; persist anew") from exc
    shape = pixels.shape
    if shape != layout.shape and _is_extension(folder, layout, shape):
        shape = layout.shape  # what somebody is adding counts once it is published
    if (shape, pixels.dtype) != (layout.shape, layout.dtype):
        raise StorageError(
            f"{folder.url} has {pixels.shape} {pixels.dtype}, but what is remembered of its files "
            f"makes {layout.shape} {layout.dtype}; persist anew",
            url=folder.url,
        )
    return replace(
        collection,
        array=CopyArray(
            folder.url,
            folder.storage_options,
            pixels.metadata.update_shape(shape).update_attributes(
                {}
            ),  # no read needs them, and all workers get them
            generation.token,
            layout.dtype,
            collection.options.arraytype,
        ),
        chunks=_choose_chunks(collection, pixels.shards or pixels.chunks),
        granule=pixels.chunks,
    )


def _is_extension(folder: Folder, layout: Layout, shape: tuple[int, ...]) -> bool:
    """Return whether a copy is longer because it was extended, as its record says."""
    record = read_record(folder.url, folder.storage_options)
    if record is None or record.sizes != dict(zip(layout.names, shape, strict=False)):
        return False
    longer = [n - m for n, m in zip(shape, layout.shape, strict=True) if n != m]
    return len(longer) == 1 and longer[0] > 0


def _choose_chunks(collection: Collection, blocks: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the chunks of an array over a copy: along the edges of its own where nothing else
    is asked for.
    """
    spec = collection.options.chunks
    if spec in ("file", "page"):
        return collection.chunks
    layout = collection.layout
    return choose_block_chunks(
        spec,
        dict(zip(layout.names, layout.shape, strict=True)),
        blocks,
        itemsize=layout.dtype.itemsize,
        dask_chunk_bytes=int(parse_bytes(dask.config.get("array.chunk-size"))),
    )
