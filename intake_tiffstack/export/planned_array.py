"""A Zarr array that exists in memory and not yet in its store.

Chunks are written through it, and its metadata documents when all chunks are there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, StorePath

from intake_tiffstack.copies.zarr_store import open_zarr_store
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.compressors import resolve_compressor
from intake_tiffstack.export.encoding import Encode, find_encoder
from intake_tiffstack.storage.folder import Folder, write_file
from intake_tiffstack.storage.urls import is_local
from intake_tiffstack.structure import canonical_dtype

__all__ = ["PlannedArray", "Slices", "extend_array", "plan_array"]

Slices = tuple[slice, ...]
"""Where along each dim: starts and stops within the array, no steps."""


@dataclass(frozen=True)
class PlannedArray:
    """One array of a copy."""

    path: str
    """Of the array below the folder of the copy; empty at its root."""
    metadata: Any
    """Zarr's metadata: shape, dtype, chunks, codecs, attributes."""
    chunks: tuple[int, ...]
    """Shape of a chunk."""
    unit: tuple[int, ...]
    """Shape of what is written as a whole: the shard if there are shards, else the chunk."""
    documents: Mapping[str, bytes]
    """Metadata documents, written last: name below the array and content."""

    def below(self, path: str) -> PlannedArray:
        """Return the same array below *path*, itself where that is empty. Pure."""
        return replace(self, path=f"{path}/{self.path}") if path else self

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return tuple(self.metadata.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element, native byte order."""
        dtype: np.dtype[Any] = self.metadata.dtype.to_native_dtype()
        return dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes, not compressed."""
        return math.prod(self.shape) * self.dtype.itemsize

    def open(self, folder: Folder, *, read_only: bool) -> zarr.Array[Any]:
        """Return the array, to write or read chunks; no request to the store."""
        return zarr.Array(
            zarr.AsyncArray(
                self.metadata,
                StorePath(open_zarr_store(folder, read_only=read_only), self.path),
                # A chunk of zeros is written like any other: a missing one was never written.
                config={"write_empty_chunks": True},
            )
        )

    def write(self, folder: Folder, region: Slices, block: NDArray[Any]) -> None:
        """Store a block whose edges are those of units."""
        with folder.write_errors():
            if not is_local(folder.url):  # requests run concurrently
                self.open(folder, read_only=False)[region] = block
                return
            for part in self._units_of(region):
                inside = block[_relative(part, region)]
                if self._encode is None or inside.shape != self.unit:  # Zarr pads one at the edge
                    self.open(folder, read_only=False)[part] = inside
                else:
                    (key,) = self.keys(part)
                    native = inside.astype(self.dtype, copy=False)
                    write_file(f"{folder.path}/{key}", *self._encode(native))

    @cached_property
    def _encode(self) -> Encode | None:
        """Encodes a whole unit, None if only Zarr can."""
        return find_encoder(self.metadata)

    def _units_of(self, region: Slices) -> Iterator[Slices]:
        """Yield the parts of a region that are written as a whole. Pure."""
        cuts = (
            [slice(a, min(a + n, part.stop)) for a in range(part.start, part.stop, n)]
            for part, n in zip(region, self.unit, strict=True)
        )
        yield from itertools.product(*cuts)

    def read(self, folder: Folder, region: Slices) -> NDArray[Any]:
        """Return a region as it is stored."""
        with folder.read_errors():
            return np.asarray(self.open(folder, read_only=True)[region])

    def keys(self, region: Slices) -> Iterator[str]:
        """Yield the names, below the folder, of the objects that a region is stored in. Pure."""
        spans = (
            range(part.start // n, -(-part.stop // n))
            for part, n in zip(region, self.unit, strict=True)
        )
        start = f"{self.path}/" if self.path else ""
        for coords in itertools.product(*spans):
            yield start + self.metadata.encode_chunk_key(coords)

    def spec(self) -> dict[str, Any]:
        """Return the metadata that decide the bytes of the chunks, as JSON. Pure."""
        stored = self.metadata.to_dict()
        return {k: v for k, v in stored.items() if k not in {"attributes", "dimension_names"}}


def extend_array(
    stored: zarr.Array[Any], path: str, shape: Sequence[int], attributes: Mapping[str, Any] | None
) -> PlannedArray:
    """Return a stored array with other extents, and with *attributes* if given. Pure."""
    metadata: Any = stored.metadata.update_shape(tuple(shape))
    if attributes is not None:
        metadata = metadata.update_attributes(dict(attributes))
    content = metadata.to_buffer_dict(default_buffer_prototype())
    documents = {key: value.to_bytes() for key, value in content.items()}
    return PlannedArray(path, metadata, stored.chunks, stored.shards or stored.chunks, documents)


def _relative(part: Slices, region: Slices) -> Slices:
    """Return where a part of a region is in a block of that region. Pure."""
    return tuple(
        slice(one.start - whole.start, one.stop - whole.start)
        for one, whole in zip(part, region, strict=True)
    )


def plan_array(
    *,
    path: str = "",
    shape: Sequence[int],
    dtype: np.dtype[Any],
    chunks: Sequence[int],
    shards: Sequence[int] | None,
    compressor: Any,
    zarr_format: Literal[2, 3],
    dims: Sequence[str] | None,
    attributes: Mapping[str, Any],
    separator: Literal[".", "/"] = ".",
) -> PlannedArray:
    """Return an array made by Zarr, so that every Zarr reader opens it. Pure.

    Parameters
    ----------
    path : str
        Below the folder of the copy; empty at its root.
    shape, chunks : sequence of int
        Extent of the array and of a chunk along each dim.
    dtype : numpy.dtype
        Stored in native byte order.
    shards : sequence of int, optional
        Extent of a shard along each dim.
    compressor : object
        See :func:`~intake_tiffstack.export.compressors.resolve_compressor`.
    zarr_format : {2, 3}
        Format of the metadata.
    dims : sequence of str, optional
        Stored as ``dimension_names`` in format 3.
    attributes : dict
        As JSON holds them.
    separator : {".", "/"}
        Between the numbers in the name of a chunk in format 2; ``/`` makes one folder per dim.

    Raises
    ------
    OptionError
        If Zarr cannot hold such an array.
    """
    if zarr_format not in (2, 3):
        raise OptionError(f"zarr_format must be 2 or 3, but got {zarr_format!r}")
    if not shape or 0 in shape:
        raise OptionError(f"there is no pixel to copy: the shape is {tuple(shape)}")
    if dtype.kind not in "biufc":
        raise OptionError(
            f"a Zarr copy holds booleans, integers, floats or complex, but got {dtype}"
        )
    codec = resolve_compressor(compressor, zarr_format=zarr_format, itemsize=dtype.itemsize)
    stored: dict[str, Any] = {}
    try:
        made = zarr.create_array(
            MemoryStore(stored),
            shape=tuple(shape),
            dtype=canonical_dtype(dtype),
            chunks=tuple(chunks),
            shards=None if shards is None else tuple(shards),
            compressors=codec,
            # xarray takes a number in format 2 for what masks pixels; every chunk is written anyway
            fill_value=None if zarr_format == 2 else 0,
            zarr_format=zarr_format,
            attributes=dict(attributes),
            dimension_names=dims if zarr_format == 3 else None,
            chunk_key_encoding={"name": "v2", "separator": separator} if zarr_format == 2 else None,
        )
    except (TypeError, ValueError) as exc:
        raise OptionError(
            f"Zarr format {zarr_format} cannot hold {dtype} of shape {tuple(shape)} in chunks "
            f"{tuple(chunks)}, shards {shards}, compressor {codec!r}: {exc}"
        ) from exc
    documents = {key: value.to_bytes() for key, value in stored.items()}
    return PlannedArray(path, made.metadata, tuple(chunks), tuple(shards or chunks), documents)
