"""From options to an opened collection: listing, names, grid, a few headers, layout.

No pixel is read. :func:`open_collection` is the whole way in one page; each step is a function of
the room it belongs to. :func:`survey` goes the same way for the report and keeps going where
opening would stop.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.utils import parse_bytes

from intake_tiffstack.arrays.chunks import choose_chunks, decoded_whole
from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.collection.describe_files import read_metadata
from intake_tiffstack.collection.merge_metadata import merge
from intake_tiffstack.collection.model import Collection, Found, Headers, Seen, Survey
from intake_tiffstack.collection.probing import choose_headers
from intake_tiffstack.errors import (
    LayoutError,
    OptionError,
    StorageError,
    TiffStackError,
    UnreadableFileError,
    warn,
)
from intake_tiffstack.header import Structure, rename_dims
from intake_tiffstack.header.cache import get_header
from intake_tiffstack.layout.columns import field_without_pattern, select_files, stray_error
from intake_tiffstack.layout.combine import combine
from intake_tiffstack.layout.grid import place_files
from intake_tiffstack.layout.holes import apply_missing
from intake_tiffstack.layout.model import Grid, Layout
from intake_tiffstack.listing.list_files import list_files
from intake_tiffstack.listing.not_found import folders_below
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.pattern.infer import no_match_error
from intake_tiffstack.pattern.matching import compile_pattern, match_paths
from intake_tiffstack.progress import reported
from intake_tiffstack.reading.options import ReadOptions
from intake_tiffstack.storage.concurrency import map_files
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intake_tiffstack.listing.list_files import Listing
    from intake_tiffstack.options import Options
    from intake_tiffstack.storage.files import FileTable

__all__ = ["find_files", "open_collection", "survey", "take_listing"]


def open_collection(options: Options, seen: Seen | None = None) -> Collection:
    """Return the opened collection; lists the files and reads headers as ``validate`` says.

    Parameters
    ----------
    options
        All that describes it.
    seen
        What an earlier opening learnt, under options that find and read the same files: then
        nothing is listed or read.

    Raises
    ------
    TiffStackError
        The files are not there, are not on one grid, or do not fit together; each error names the
        file or field, what was found and what to do.
    """
    listing = take_listing(options) if seen is None else seen.listing
    found = find_files(options, listing)
    grid = apply_missing(_place(found, options), missing=options.missing)
    if seen is None:
        headers = read_headers(found.files, grid, options)
        described = read_metadata(
            found.files, grid, headers, options, template=_template_row(grid, headers)
        )
        seen = Seen(replace(listing, files=found.files), headers.structures, described)
    else:
        headers = Headers(seen.structures, unreadable={}, notes=(), is_proven=False)
    layout = _combine(found, grid, headers, options)
    structure = headers.structures[_template_row(grid, headers)]
    return Collection(
        options=options,
        seen=seen,
        survey=Survey(found, grid, headers, layout),
        layout=layout,
        array=StackArray(found.files, layout, _read_options(options, layout.dtype)),
        chunks=choose_chunks(
            options.chunks,
            layout,
            page_ndim=structure.page_ndim,
            segment_shape=structure.segment_shape,
            dask_chunk_bytes=int(parse_bytes(dask.config.get("array.chunk-size"))),
        ),
        granule=decoded_whole(
            layout,
            page_ndim=structure.page_ndim,
            segment_shape=structure.segment_shape,
            is_compressed=structure.is_compressed,
        ),
        known=merge(
            layout,
            seen.described,
            channel_names=options.channel_names,
            scale=options.scale,
            translation=options.translation,
            units=options.units,
            coords=options.coords,
        ),
    )


def survey(options: Options) -> Survey:
    """Return what is there, with what would keep it from opening as ``problems``.

    Raises
    ------
    TiffStackError
        Nothing was found at all, or an option is wrong: then there is nothing to tell.
    """
    found = find_files(replace(options, unmatched="ignore"), take_listing(options))
    problems: list[TiffStackError] = []
    if found.pattern is not None and found.strays and options.unmatched == "raise":
        problems.append(stray_error(found.strays, found.pattern.text))
    try:
        grid = _place(found, options)
    except LayoutError as exc:
        problems.append(exc)
        try:
            grid = _place(found, replace(options, duplicates="first"))
        except LayoutError:
            return Survey(found, None, None, None, tuple(problems))
    try:
        grid = apply_missing(grid, missing=options.missing)
    except LayoutError as exc:
        problems.append(exc)
    try:
        headers = read_headers(found.files, grid, replace(options, on_error="fill"))
    except (UnreadableFileError, StorageError) as exc:  # not one of them can be read
        return Survey(found, grid, None, None, (*problems, exc))
    layout = None
    try:
        layout = _combine(found, grid, headers, replace(options, missing="fill"))
    except LayoutError as exc:
        problems.append(exc)
    if options.on_error == "raise":
        problems += headers.unreadable.values()
    return Survey(found, grid, headers, layout, tuple(problems))


# -- the steps ---------------------------------------------------------------------------------


def take_listing(options: Options) -> Listing:
    """Return the files that the urlpath stands for now."""
    return list_files(
        options.urlpath, storage_options=options.storage_options, exclude=options.exclude
    )


def find_files(options: Options, listing: Listing) -> Found:
    """Return the files that the pattern and ``sel`` leave of a listing, warning of strays.

    Pure, but for a look into folders where no file is left.
    """
    if options.pattern is not None and listing.pattern is not None:
        raise OptionError(
            f"the urlpath has fields of its own ({listing.pattern}) and there is a pattern "
            f"({options.pattern}): keep one of them"
        )
    text = options.pattern if options.pattern is not None else listing.pattern
    count = len(listing.files)
    # Local files are inside of nothing, and need not be looked at one by one.
    paths = listing.files.urls if listing.root.startswith("/") else listing.files.paths
    if text is None:
        if options.sel:
            raise field_without_pattern(next(iter(options.sel)))
        return Found(listing.files, paths, None, None, listing.is_single, count, (), 0)
    pattern = compile_pattern(text)
    matches = match_paths(pattern, paths, listing.root)
    if not len(matches.indices):
        below = folders_below(options.urlpath)
        raise no_match_error(pattern, paths, listing.root, below)
    is_stray = np.ones(count, dtype=bool)
    is_stray[matches.indices] = False
    strays = tuple(p for i in np.flatnonzero(is_stray) if has_tiff_suffix(p := paths[i]))
    if strays and options.unmatched == "raise":
        raise stray_error(strays, text)
    if strays and options.unmatched == "warn":
        warn(str(stray_error(strays, text)))
    matched = len(matches.indices)
    matches = select_files(matches, pattern.fields, options.sel)
    files = listing.files
    if len(matches.indices) < count:
        files = files.take(matches.indices)
        paths = tuple([paths[i] for i in matches.indices.tolist()])
    left_out = matched - len(matches.indices)
    return Found(files, paths, pattern, matches, False, count, strays, left_out)


def _place(found: Found, options: Options) -> Grid:
    return place_files(
        found.paths,
        pattern=found.pattern,
        matches=found.matches,
        concat_dim=options.concat_dim,
        labels=options.labels,
        sizes=options.sizes,
        duplicates=options.duplicates,
        is_single=found.is_single,
    )


def _file_dims(options: Options) -> tuple[Any, ...] | None:
    if isinstance(options.file_dims, dict):
        return tuple(options.file_dims.items())
    return None if options.file_dims is None else tuple(options.file_dims)


def _read_options(options: Options, dtype: np.dtype[Any]) -> ReadOptions:
    return ReadOptions(
        series=options.series,
        level=options.level,
        file_dims=_file_dims(options),
        fill_value=_fitting(options.fill_value, dtype),
        on_error=options.on_error,
        arraytype=options.arraytype,
    )


def _fitting(fill_value: Any, dtype: np.dtype[Any]) -> Any:
    """Return the fill value as pixels have it; the dtype never changes to suit it."""
    try:
        with np.errstate(over="ignore"):
            fitted = dtype.type(fill_value)
        if dtype.kind in "iub" and fitted != fill_value:
            raise ValueError("it would be rounded")
    except (TypeError, ValueError, OverflowError) as exc:
        raise OptionError(f"fill_value {fill_value!r} is no {dtype}, as the pixels are") from exc
    return fitted.item()


def read_headers(files: FileTable, grid: Grid, options: Options) -> Headers:
    """Return the structures of the template and of as many files as ``validate`` asks for."""
    file_dims = _file_dims(options)
    notes: dict[str, None] = {}
    unreadable: dict[int, TiffStackError] = {}

    def read(row: int) -> Structure | None:
        try:
            header = get_header(
                files[row],
                storage_options=files.storage_options,
                series=options.series,
                level=options.level,
            )
        except (UnreadableFileError, StorageError) as exc:
            if options.on_error == "raise":
                raise
            unreadable[row] = exc
            return None
        notes.update(dict.fromkeys(header.notes[:2]))
        return header.structure

    first, template = _first_structure(grid, read, unreadable)
    if file_dims is not None:
        template = rename_dims(template, file_dims, files.urls[first])
    are_local = is_local(files.urls[0]) and is_local(files.urls[-1])  # sorted: remote ones last
    rows = choose_headers(
        grid,
        template,
        byte_sizes=files.sizes,
        is_local=are_local,
        validate=options.validate,
    )
    rows = [row for row in rows if row != first and row not in unreadable]
    progress = None if options.validate == "all" else False  # else it is a matter of moments
    with reported(progress, len(rows), title="headers", unit="file") as advance:

        def read_counted(row: int) -> Structure | None:
            structure = read(row)
            advance(1)
            return structure

        found = list(map_files(read_counted, files, rows))
    structures = {first: template}
    for row, structure in zip(rows, found, strict=True):
        if structure is not None:
            structures[row] = _rename_alike(structure, file_dims, files.urls[row])
    sizes = files.sizes[grid.rows]
    return Headers(
        structures=structures,
        unreadable=unreadable,
        notes=tuple(notes),
        is_proven=not template.is_compressed and sizes[0] >= 0 and bool((sizes == sizes[0]).all()),
    )


def _rename_alike(structure: Structure, file_dims: tuple[Any, ...] | None, url: str) -> Structure:
    """Return the structure with ``file_dims``; as it is where these fit the template alone.

    What sets it apart is then told as for any file that differs, or is a rest of one plane.
    """
    try:
        return structure if file_dims is None else rename_dims(structure, file_dims, url)
    except OptionError:
        return structure


def _first_structure(
    grid: Grid, read: Any, unreadable: Mapping[int, TiffStackError]
) -> tuple[int, Structure]:
    """Return the row and the structure of the first file that can be read."""
    for row in map(int, grid.rows):
        structure: Structure | None = read(row)
        if structure is not None:
            return row, structure
    raise next(iter(unreadable.values()))


def _template_row(grid: Grid, headers: Headers) -> int:
    first = grid.template_row
    return first if first in headers.structures else next(iter(headers.structures))


def _combine(found: Found, grid: Grid, headers: Headers, options: Options) -> Layout:
    structures = dict(headers.structures)
    # a first file that cannot be read and is filled is taken to be like the next one
    structures.setdefault(grid.template_row, structures[_template_row(grid, headers)])
    axes = {axis.name for axis in grid.axes}
    return combine(
        grid,
        structures,
        paths=found.paths,
        concat_dim=options.concat_dim,
        dims=options.dims,
        coords=options.coords,
        sizes={k: v for k, v in options.sizes.items() if k not in axes},
        missing=options.missing,
    )
