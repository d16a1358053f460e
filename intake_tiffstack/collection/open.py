"""From an examination to an opened collection: the array, its chunks and what its pixels mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.utils import parse_bytes

from intake_tiffstack.arrays.chunks import choose_chunks, decoded_whole
from intake_tiffstack.arrays.lazy_array import LazyArray
from intake_tiffstack.arrays.mosaic_array import MosaicArray
from intake_tiffstack.arrays.plane_array import PlaneArray
from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.arrays.unfolded_array import UnfoldedArray
from intake_tiffstack.collection.calibration import FILE_NAMES
from intake_tiffstack.collection.examination import Examination
from intake_tiffstack.collection.file_reader import reader_of
from intake_tiffstack.collection.header_index import complete_index
from intake_tiffstack.collection.merge_metadata import Merged, merge
from intake_tiffstack.collection.model import Discovery
from intake_tiffstack.collection.read_headers import template_row
from intake_tiffstack.errors import OptionError
from intake_tiffstack.layout.model import Layout
from intake_tiffstack.reading.options import ReadOptions
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intake_tiffstack.collection.model import HeadersRead
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.reading.reader import CollectionReader
    from intake_tiffstack.storage.files import FileTable
    from intake_tiffstack.structure import Structure

__all__ = ["Collection", "open_collection"]


@dataclass(frozen=True, eq=False)
class Collection:
    """An opened collection: the array, what it is made of, and what is known of it."""

    options: Options
    examination: Examination
    """The files, their grid and the headers that were read."""
    discovery: Discovery
    layout: Layout
    array: LazyArray
    chunks: tuple[tuple[int, ...], ...]
    granule: tuple[int, ...]
    """Extent along each dim of what is decoded as one piece."""
    known: Merged
    """What is known of the pixels, with where it was learnt."""

    @property
    def files(self) -> FileTable:
        """The files that take part, by row."""
        return self.discovery.listing.files

    @property
    def reader(self) -> CollectionReader:
        """Opens the files."""
        return reader_of(self.examination.options)

    @property
    def file_layout(self) -> Layout:
        """Which file holds which part; of a cycle over files, of all pages along one dim."""
        return self.examination.pages or self.layout

    @property
    def template(self) -> int:
        """Row of the file whose structure stands for others."""
        return next(iter(self.discovery.structures))

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known as JSON can hold it."""
        return self.known.metadata


def open_collection(examination: Examination) -> Collection:
    """Return the opened collection; lists the files and reads headers as ``validate`` says.

    Parameters
    ----------
    examination : Examination
        Of the collection, begun or not; it is completed here.

    Raises
    ------
    TiffStackError
        If the files are absent, are not on one grid, or do not fit together; each error names the
        file or field, what was found and what to do.
    """
    examination.complete_or_raise()
    options = examination.options
    found, grid = examination.found, examination.grid
    layout, headers = examination.layout, examination.headers
    if grid is None or headers is None or layout is None:
        raise RuntimeError("an examination without a problem is complete")
    structure = headers.structures[template_row(grid, headers)]
    discovery = _discover(examination, headers)
    array, described = _array_of(examination, layout, discovery.described, structure)
    scale = options.scale
    if examination.mosaic is not None and examination.mosaic.place == "stage":
        # that of y and x is in the place of the tiles
        scale = {dim: step for dim, step in scale.items() if dim not in ("y", "x")}
    asked = examination.asked
    return Collection(
        options=asked,
        examination=examination,
        discovery=discovery,
        layout=layout,
        array=array,
        chunks=choose_chunks(
            asked.chunks,
            layout,
            page_ndim=structure.page_ndim,
            segment_shape=structure.segment_shape,
            dask_chunk_bytes=int(parse_bytes(dask.config.get("array.chunk-size"))),
            is_remote=not is_local(found.files.urls[0]),
        ),
        granule=decoded_whole(
            layout,
            page_ndim=structure.page_ndim,
            segment_shape=structure.segment_shape,
            is_compressed=structure.is_compressed,
        ),
        known=merge(
            layout,
            described,
            channel_names=options.channel_names,
            scale=scale,
            translation=options.translation,
            units=options.units,
            coords=asked.coords,
            numbers=found.numbers,
            source=FILE_NAMES if found.axes is None else found.table_name,
        ),
    )


def _discover(examination: Examination, headers: HeadersRead) -> Discovery:
    """Return what storage says of the collection; that of a copy is known already."""
    if examination.discovery is None:
        found, listing = examination.found, examination.listing
        if found.matches is not None and len(found.files) < len(listing.files):
            listing = listing.take(found.matches.indices.tolist())
        file_set = examination.file_set if examination.is_set else None
        described = examination.describe()
        examination.discovery = Discovery(listing, headers.structures, described, file_set)
        complete_index(found.files, examination.options)
    return examination.discovery


def _array_of(
    examination: Examination,
    layout: Layout,
    described: Mapping[int, FileMetadata],
    structure: Structure,
) -> tuple[LazyArray, Mapping[int, FileMetadata]]:
    """Return the array, and the metadata of the files that stand for all of it."""
    files, pages = examination.found.files, examination.pages
    read_options = _read_options(examination.options, structure)
    if (mosaic := examination.mosaic) is not None:
        nodata = structure.packing.nodata
        array = MosaicArray(files, layout, read_options, mosaic.mosaic, nodata)
        return array, mosaic.move(described)
    if (planes := examination.planes) is not None:
        return PlaneArray(files, layout, read_options, planes.planes), planes.described
    stacked = StackArray(files, pages or layout, read_options)
    cycle = None if examination.headers is None else examination.headers.cycle
    if cycle is None or pages is None:
        return stacked, described
    inner = {name: layout.shape[layout.names.index(name)] for name, _ in cycle.sizes}
    unfolded = UnfoldedArray(stacked, pages.names, cycle.free, inner, layout.names)
    return unfolded, {row: file for row, file in described.items() if row in layout.cells}


def _read_options(options: Options, structure: Structure) -> ReadOptions:
    """Return how files are read; what no file has is the files' nodata, unless an option says."""
    dtype, fill_value = structure.dtype, options.fill_value
    if fill_value is None:
        nodata = structure.packing.nodata
        fill_value = 0 if nodata is None else nodata
    return ReadOptions(
        reader=reader_of(options),
        fill_value=_fitting(fill_value, dtype),
        on_error=options.on_error,
        arraytype=options.arraytype,
    )


def _fitting(fill_value: Any, dtype: np.dtype[Any]) -> Any:
    """Return the fill value in the dtype of the pixels, which never changes to suit it."""
    try:
        with np.errstate(over="ignore"):
            fitted = dtype.type(fill_value)
        if dtype.kind in "iub" and fitted != fill_value:
            raise ValueError("it would be rounded")
    except (TypeError, ValueError, OverflowError) as exc:
        raise OptionError(
            f"fill_value={fill_value!r} cannot be represented as {dtype}, the image dtype"
        ) from exc
    return fitted.item()
