"""Writes an array as one Zarr array, with its dims, coordinates and attributes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dask.base import tokenize

from intake_tiffstack.copies.attributes import Coords, checked_dims, encode_attributes
from intake_tiffstack.copies.chunk_plan import Lengths, page_dims_last, plan_blocks, resolve_chunks
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.record import CopyImage, Origin, RecordDraft
from intake_tiffstack.copies.verify import Verify
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.growth import find_growth
from intake_tiffstack.export.passes import Pass, Source
from intake_tiffstack.export.planned_array import plan_array
from intake_tiffstack.export.write_copy import find_most_objects, write_copy
from intake_tiffstack.progress import Progress
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.to_json import to_strict_json

__all__ = ["write_zarr"]


def write_zarr(
    source: Source,
    url: str | os.PathLike[str],
    *,
    dims: Sequence[str],
    coords: Coords,
    attrs: Mapping[str, Any],
    granule: Sequence[int] | None = None,
    origin: Origin | None = None,
    storage_options: Mapping[str, Any] | None = None,
    group: bool = False,
    zarr_format: Literal[2, 3] = 3,
    chunks: Lengths | None = None,
    shards: Lengths | Literal["auto"] | None = "auto",
    compressor: Any = "default",
    append: str | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    resume: bool = True,
    verify: Verify = "sample",
    sha256: bool = False,
    progress: Progress = None,
) -> ExportPlan:
    """Write an array as one Zarr array at the root of *url*, its metadata last.

    Runs on the current ``distributed`` client if there is one, else on threads, and writes the same
    bytes either way. After a kill at any point, the same call resumes.

    Parameters
    ----------
    source : Source
        Booleans, integers, floats or complex numbers; an index reads into host memory. Stored in
        native byte order.
    url : str or path
        A local folder or any fsspec URL.
    dims : sequence of str
        Name of each dim.
    coords : dict
        Name to dims and values; see :func:`~intake_tiffstack.copies.attributes.encode_coords`.
    attrs : dict
        Further attributes of the array; values that JSON holds.
    granule : sequence of int, optional
        Extent along each dim of what the source decodes as a whole, so that it is decoded once;
        None if a region of any shape costs only its own pixels.
    origin : Origin, optional
        What the array is made of, for the audit record; None for a copy without one.
    storage_options : dict, optional
        Passed to fsspec.
    group : bool
        Whether *url* becomes a group with the array and its coordinates as arrays, as xarray has
        them, instead of one array.
    zarr_format : {3, 2}
        2 is for readers that do not support 3.
    chunks : int, sequence of int or dict, optional
        Extent of a chunk: one number per dim (-1: the whole dim), one for all dims, or by dim.
        Those not given are chosen: 1 to 4 MB, along the edges of pages.
    shards : int, sequence of int or dict, optional
        Extent of a shard, a multiple of *chunks*, in format 3; None for no shards; ``"auto"``
        chooses shards of at most 64 MB if there would be more than 10,000 files, or 5,000 objects
        of a store.
    compressor : object
        See :func:`~intake_tiffstack.export.compressors.resolve_compressor`.
    append : str, optional
        Dim along which an existing copy is extended by what has arrived; see
        :mod:`~intake_tiffstack.export.growth`.
    dry_run : bool
        Whether to return the plan and write nothing.
    overwrite : bool
        Whether to replace an existing Zarr, or an incomplete copy of something else; nothing else
        is ever replaced.
    resume : bool
        Whether to keep what an earlier attempt at the same copy wrote.
    verify : {"sample", "all", False}
        Read a few chunks back and compare them with the source, or all chunks (which reads the
        source twice), or none.
    sha256 : bool
        Whether the audit record holds the SHA-256 of each file; reads all files once more.
    progress : bool or callable, optional
        True shows a bar; a function is called with the bytes done and the total; False reports
        nothing; None shows a bar on a terminal and in a notebook.

    Returns
    -------
    ExportPlan
        What was written, or would be.

    Raises
    ------
    TargetExistsError
        If something exists at *url* that must not be replaced; it is left unchanged. A
        TargetBusyError if another process is writing there.
    OptionError
        If an option, coordinate or attribute cannot be stored.
    VerificationError
        If a region does not read back as it was written; the message names it.
    StorageError
        If a write fails; the message names the URL and the reason. What was written until then
        stays, does not open as a Zarr, and is resumed by the same call.
    """
    folder = Folder.at(url, storage_options)
    shape, itemsize = tuple(source.shape), source.dtype.itemsize
    dims = checked_dims(dims, shape)
    sizes = dict(zip(dims, shape, strict=True))
    growth = None
    if append is not None and not overwrite:
        if group:
            raise OptionError(
                "a group cannot be extended, because its coordinates are arrays of their own: "
                "leave out group, or write a new copy with overwrite=True"
            )
        axis = dims.index(append) if append in dims else 0
        growth = find_growth(folder, append, origin, sizes, format="zarr", path="", axis=axis)
    around = None
    if group:
        from intake_tiffstack.export.zarr_group import XarrayGroup

        kept = to_strict_json(attrs, "attrs")
        around = XarrayGroup(sizes, source.dtype, coords, kept, zarr_format)
        attributes = around.attributes
    else:
        attributes = encode_attributes(sizes, source.dtype, coords, attrs, zarr_format)
    if growth is not None:
        array = growth.extended("", shape, attributes)
    else:
        most_objects = find_most_objects(folder, zarr_format)
        cut, shard = resolve_chunks(shape, itemsize, dims, chunks, shards, most_objects)
        array = plan_array(
            path="" if around is None else around.name,
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
    record = None
    before = None if growth is None else growth.record
    if origin is not None:
        images = [CopyImage("", {dim: dim for dim in dims})]
        record = RecordDraft(origin, "zarr", sizes, source.dtype, images, sha256, before)
    one_pass = Pass(source, (array,), blocks)
    documents = {} if around is None else around.documents(array.documents)
    return write_copy(
        folder,
        [one_pass if growth is None else growth.begun(one_pass)],
        lambda _: documents,
        format="zarr",
        document_count=len(documents),
        dry_run=dry_run,
        token=tokenize(source),
        overwrite=overwrite,
        resume=resume,
        verify=verify,
        progress=progress,
        record=record,
        growth=growth,
    )
