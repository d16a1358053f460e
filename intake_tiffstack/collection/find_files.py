"""The files that take part: what the urlpath stands for, and what the pattern and ``sel`` keep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.file_set import find_set
from intake_tiffstack.collection.model import FilesFound
from intake_tiffstack.collection.plate import read_fields, wanted_sidecar
from intake_tiffstack.errors import (
    OptionError,
    warn,
)
from intake_tiffstack.layout.columns import field_without_pattern, select_files, stray_error
from intake_tiffstack.listing.list_files import list_files
from intake_tiffstack.listing.not_found import folders_below
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.pattern.infer import no_match_error
from intake_tiffstack.pattern.matching import compile_pattern, match_paths
from intake_tiffstack.storage.urls import absolute_url

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intake_tiffstack.listing.list_files import Listing
    from intake_tiffstack.options import Options
    from intake_tiffstack.packed_texts import PackedTexts
    from intake_tiffstack.pattern.matching import Matches, Pattern


__all__ = ["find_files", "take_listing"]


def take_listing(options: Options) -> Listing:
    """Return the files that the urlpath stands for now.

    Raises
    ------
    OptionError
        If ``files`` does not have a value for each URL of a list, or ``layout`` contradicts another
        option.
    """
    if options.sets != "none":
        return find_set(options).listing
    listing = list_files(
        options.urlpath,
        storage_options=options.storage_options,
        exclude=options.exclude,
        sidecar=wanted_sidecar(options),
        takes_absent=options.missing != "raise",
    )
    if options.layout == "sidecar" and not listing.index:
        raise OptionError(
            "layout='sidecar' reads the index of a plate: urlpath is the index or the one folder "
            f"that it lies in, but got {options.urlpath!r}"
        )
    if listing.index and options.layout == "names":
        return replace(listing, table={})
    if not options.files:
        return listing
    if not isinstance(options.urlpath, list):
        raise OptionError(
            f"files gives a value per URL of a list in urlpath, but urlpath is {options.urlpath!r}"
        )
    urls = options.urlpath
    for name, values in options.files.items():
        if len(values) != len(urls):
            raise OptionError(
                f"files has {len(values):,} values for {name!r}, but urlpath lists {len(urls):,} "
                "URLs: give one per URL",
                field=name,
            )
    rows = {absolute_url(url): row for row, url in enumerate(urls)}
    unknown = [url for url in listing.files.urls if url not in rows]
    if unknown or len(rows) < len(urls):
        what = unknown[0] if unknown else "one of them twice"
        raise OptionError(f"files needs a list that names each file once, but it gives {what}")
    places = [rows[url] for url in listing.files.urls]
    table = {name: tuple([values[i] for i in places]) for name, values in options.files.items()}
    return replace(listing, table={} if set(table) <= {"cell"} else table)


def find_files(options: Options, listing: Listing) -> FilesFound:
    """Return the files of a listing that match the pattern and ``sel``; warn of the others.

    Pure, except that it looks into folders where no file is left.
    """
    if options.pattern is not None and listing.pattern is not None:
        raise OptionError(
            f"the urlpath has fields of its own ({listing.pattern}) and there is a pattern "
            f"({options.pattern}): keep one of them"
        )
    text = options.pattern if options.pattern is not None else listing.pattern
    count = len(listing.files)
    paths = listing.files.paths
    if text is None and listing.table:
        pattern, known, axes = read_fields(listing)
        return _selected(options, listing, paths, pattern, known, (), axes)
    if text is None:
        if options.sel:
            raise field_without_pattern(next(iter(options.sel)))
        return FilesFound(
            listing.files,
            paths,
            None,
            None,
            listing.is_single,
            count,
            (),
            0,
            is_ordered=listing.is_ordered,
        )
    pattern = compile_pattern(text)
    matches = match_paths(pattern, paths, listing.root)
    if not len(matches.indices):
        below = folders_below(options.urlpath)
        raise no_match_error(pattern, paths, listing.root, below)
    is_stray = np.ones(count, dtype=bool)
    is_stray[matches.indices] = False
    strays = tuple(p for i in np.flatnonzero(is_stray) if has_tiff_suffix(p := paths[i]))
    if strays and options.unmatched == "warn":
        warn(str(stray_error(strays, text)))
    return _selected(options, listing, paths, pattern, matches, strays, None)


def _selected(
    options: Options,
    listing: Listing,
    paths: PackedTexts,
    pattern: Pattern,
    matches: Matches,
    strays: tuple[str, ...],
    axes: tuple[str, ...] | None,
) -> FilesFound:
    """Return the files that ``sel`` keeps, by fields that are known already. Pure."""
    count, matched = len(listing.files), len(matches.indices)
    numbers = _numbers_of(matches, pattern) if options.sel else {}
    matches = select_files(matches, pattern.fields, options.sel)
    files = listing.files
    if len(matches.indices) < count:
        files = files.take(matches.indices)
        paths = paths.take(matches.indices)
    left_out = matched - len(matches.indices)
    kept = matches.indices.tolist() if listing.table else []
    return FilesFound(
        files,
        paths,
        pattern,
        matches,
        False,
        count,
        strays,
        left_out,
        numbers,
        axes=axes,
        known={name: [values[row] for row in kept] for name, values in listing.table.items()},
        index=listing.index,
        absent=listing.absent,
    )


def _numbers_of(matches: Matches, pattern: Pattern) -> dict[str, NDArray[Any]]:
    """Return the distinct values of each integer field, ascending."""
    return {
        field.name: np.unique(np.asarray(matches.fields[field.name].keys))
        for field in pattern.fields
        if field.kind == "int" and field.name in matches.fields
    }
