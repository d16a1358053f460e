"""An array to one Zarr array, with its dims, coordinates and attributes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dask.base import tokenize

from intake_tiffstack.copies.attributes import Coords, checked_dims, encode_attributes
from intake_tiffstack.copies.chunk_plan import Lengths, page_dims_last, plan_blocks, resolve_chunks
from intake_tiffstack.copies.verify import Verify
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.passes import Pass, Source
from intake_tiffstack.export.planned_array import plan_array
from intake_tiffstack.export.write_copy import write_copy
from intake_tiffstack.progress import Progress
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage.folder import Folder

__all__ = ["write_zarr"]


def write_zarr(
    source: Source,
    url: str | os.PathLike[str],
    *,
    dims: Sequence[str],
    coords: Coords,
    attrs: Mapping[str, Any],
    granule: Sequence[int] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    zarr_format: Literal[2, 3] = 3,
    chunks: Lengths | None = None,
    shards: Lengths | None = None,
    compressor: Any = "default",
    overwrite: bool = False,
    resume: bool = True,
    verify: Verify = "sample",
    progress: Progress = None,
) -> None:
    """Write an array as one Zarr array at the root of *url*, its metadata last.

    Runs on the current ``distributed`` client where there is one, else on threads, and leaves the
    same bytes. Killed at any point, the same call goes on where it ended.

    Parameters
    ----------
    source
        Booleans, integers, floats or complex numbers that an index reads into host memory; stored
        in native byte order.
    url
        A local folder or any fsspec URL.
    dims
        Names of the dims, one each.
    coords
        Name to dims and values: see :func:`~intake_tiffstack.copies.attributes.encode_coords`.
    attrs
        What else is stored with the array; JSON only.
    granule
        Extent along each dim of what the source decodes as a whole, so that it does so once; None
        where any region costs what it holds.
    storage_options
        For fsspec.
    zarr_format
        3, or 2 for readers that know no other.
    chunks
        Shape of a chunk: one number a dim (-1: all of it), one for all, or by dim; what is not
        given is chosen: 1 to 4 MB along the edges of pages.
    shards
        Shape of a shard, a multiple of *chunks*, on format 3; None for none.
    compressor
        See :func:`~intake_tiffstack.export.codecs.resolve_compressor`.
    overwrite
        Whether a Zarr that is there, or a copy of something else that is not whole, is replaced;
        anything else never is.
    resume
        Whether what an earlier attempt at this same copy wrote is kept.
    verify
        ``"sample"`` reads a few chunks back and compares them with the source, ``"all"`` every
        one (and so reads the source twice), False none.
    progress
        True for a bar, a function called with the bytes done and in all, False for silence, None
        for a bar on a terminal and in a notebook.

    Raises
    ------
    TargetExistsError
        If something is at *url* that is not to be replaced; it is left as it is. A TargetBusyError
        where another process is writing there.
    OptionError
        If an option, coordinate or attribute cannot be stored.
    VerificationError
        If a region does not read back as it was written; the message names it.
    StorageError
        If the store refuses a write; the message names the URL and the reason. What was written
        until then stays there, does not open, and is taken up by the same call.
    """
    if verify not in ("sample", "all", False):
        raise OptionError(f"verify must be 'sample', 'all' or False, but got {verify!r}")
    place = Folder.at(url, storage_options)
    shape, itemsize = tuple(source.shape), source.dtype.itemsize
    dims = checked_dims(dims, shape)
    attributes = encode_attributes(dict(zip(dims, shape, strict=True)), coords, attrs, zarr_format)
    cut, shard = resolve_chunks(shape, itemsize, dims, chunks, shards)
    array = plan_array(
        shape=shape,
        dtype=source.dtype,
        chunks=cut,
        shards=shard,
        compressor=compressor,
        zarr_format=zarr_format,
        dims=dims,
        attributes=attributes,
    )
    blocks = plan_blocks(
        shape,
        itemsize,
        unit=array.unit,
        granule=granule or (1,) * len(shape),
        order=page_dims_last(dims),
        most_bytes=setting_bytes("block_bytes"),
    )
    write_copy(
        place,
        [Pass(source, (array,), blocks)],
        dict,  # no groups
        token=tokenize(source),
        overwrite=overwrite,
        resume=resume,
        verify=verify,
        progress=progress,
    )
