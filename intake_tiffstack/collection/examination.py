"""The one pipeline from options to what is found: listing, names, grid, headers, layout.

Opening and the report go the same way: opening stops at the first problem, the report collects them
all. No pixel is read.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from intake_tiffstack.collection.describe_files import read_metadata
from intake_tiffstack.collection.file_reader import reader_of
from intake_tiffstack.collection.file_set import (
    PlacedSet,
    build_set,
    find_set,
    warn_of_siblings,
)
from intake_tiffstack.collection.model import Discovery, FileSet, FilesFound, HeadersRead
from intake_tiffstack.collection.mosaic import PlacedMosaic, build_mosaic, place_tiles
from intake_tiffstack.collection.packing import add_packing, warn_of_packing
from intake_tiffstack.collection.placement import find_doubts, turn_axes
from intake_tiffstack.collection.plate import read_fields, wanted_sidecar
from intake_tiffstack.collection.probing import choose_headers
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import (
    LayoutError,
    OptionError,
    StorageError,
    TiffStackError,
    UnreadableFileError,
    warn,
)
from intake_tiffstack.layout.columns import field_without_pattern, select_files, stray_error
from intake_tiffstack.layout.combine import combine
from intake_tiffstack.layout.cycle import FrameCycle, find_cycle
from intake_tiffstack.layout.grid import place_files
from intake_tiffstack.layout.holes import apply_missing
from intake_tiffstack.layout.model import Grid, Layout
from intake_tiffstack.listing.list_files import list_files
from intake_tiffstack.listing.not_found import folders_below
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.pattern.infer import no_match_error
from intake_tiffstack.pattern.matching import compile_pattern, match_paths, parts_below
from intake_tiffstack.pattern.propose import propose_patterns
from intake_tiffstack.progress import reported
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.concurrency import map_files
from intake_tiffstack.storage.urls import absolute_url, is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.header import Header, Structure
    from intake_tiffstack.listing.list_files import Listing
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.metadata.reader import RawMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.pattern.matching import Matches, Pattern
    from intake_tiffstack.pattern.propose import Proposal
    from intake_tiffstack.storage.files import FileTable

_MAX_NAMES = 1_000
"""Names that are looked at for a hint: 10 ms."""

__all__ = ["Examination", "find_files", "take_listing", "template_row"]


MOST_NAMED = 4
"""Images of a file that a warning names."""


class Examination:
    """What is found of a collection, step by step, and what keeps it from opening.

    A step that is done is not done again, so a report after a failed opening lists no folder.

    Parameters
    ----------
    options : Options
        Describe the collection.
    discovery : Discovery, optional
        What an earlier opening learnt from storage, under options that find and read the same
        files: nothing is listed or read then.
    """

    def __init__(self, options: Options, discovery: Discovery | None = None) -> None:
        self.options = options
        self.asked = options
        """The options as they were given; `options` have the pages of a cycle along one dim."""
        self.pages: Layout | None = None
        """Of a cycle: the layout of all pages along one dim."""
        self.discovery = discovery
        self.grid: Grid | None = None
        self.headers: HeadersRead | None = None
        self.layout: Layout | None = None
        self.described: Mapping[int, FileMetadata] | None = None
        self.turned: Sequence[str] = ()
        self.mosaic: PlacedMosaic | None = None
        self.planes: PlacedSet | None = None
        self._problems: dict[str, list[TiffStackError]] = {}

    @property
    def problems(self) -> list[TiffStackError]:
        """What opening would raise, in the order of the steps."""
        return [problem for step in self._problems.values() for problem in step]

    @property
    def is_mosaic(self) -> bool:
        """Whether the files say themselves where they lie in one image."""
        return self.options.place != "index"

    @property
    def is_set(self) -> bool:
        """Whether the files are one set, whose metadata say which plane is in which."""
        return self.options.sets != "none"

    @property
    def is_composed(self) -> bool:
        """Whether a cell of the layout may be in several files."""
        return self.is_mosaic or self.is_set

    @cached_property
    def file_set(self) -> FileSet:
        """The set that the files are."""
        known = None if self.discovery is None else self.discovery.file_set
        return find_set(self.options) if known is None else known

    @cached_property
    def folders_below(self) -> tuple[str, ...]:
        """Folders with TIFFs below a folder that the urlpath names; they take no part."""
        return () if self.listing.index else folders_below(self.options.urlpath)

    @cached_property
    def proposal(self) -> Proposal | None:
        """The grid that names form where nothing says how to read them, None for none.

        The first names stand for all of many, since opening must not take longer for a hint.
        """
        found, options = self.found, self.options
        is_asked = (
            isinstance(options.urlpath, str) and options.concat_dim is None and not self.is_composed
        )
        if found.pattern is not None or found.is_single or not is_asked:
            return None
        names = parts_below(found.paths[:_MAX_NAMES], self.listing.root)
        best = next(iter(propose_patterns(names)), None)
        is_grid = best is not None and sum(n > 1 for n in best.sizes.values()) > 1
        return best if is_grid and best is not None and 2 * len(best.rows) > len(names) else None

    def complete(self) -> Self:
        """Do all steps that are possible, and collect the problems.

        Raises
        ------
        TiffStackError
            If no file is found, or an option is wrong: there is nothing to report then.
        """
        for step in self._steps:
            step(is_opening=False)
        return self

    def complete_or_raise(self) -> Self:
        """Do all steps, and raise the first problem as soon as it is found."""
        for step in self._steps:
            step(is_opening=True)
            if problems := self.problems:
                raise problems[0]
        return self

    @property
    def _steps(self) -> tuple[Callable[..., None], ...]:
        return (
            self._find,
            self._place,
            self._settle_holes,
            self._read_headers,
            self._turn,
            self._combine,
        )

    @cached_property
    def listing(self) -> Listing:
        """The files that the urlpath stands for."""
        if self.discovery is not None:
            return self.discovery.listing
        return self.file_set.listing if self.is_set else take_listing(self.options)

    @cached_property
    def found(self) -> FilesFound:
        """The files that take part, and those that do not; warns of strays."""
        return find_files(self.options, self.listing)

    def _find(self, *, is_opening: bool) -> None:
        pattern, strays = self.found.pattern, self.found.strays
        if pattern is not None and strays and self.options.unmatched == "raise":
            self._problems["strays"] = [stray_error(strays, pattern.text)]

    def _place(self, *, is_opening: bool) -> None:
        if self.grid is not None or "grid" in self._problems:
            return
        try:
            self.grid = _place(self.found, self.options)
        except LayoutError as exc:
            self._problems["grid"] = [exc]
            with suppress(LayoutError):  # the report shows the grid without the duplicates
                self.grid = _place(self.found, replace(self.options, duplicates="first"))

    def _settle_holes(self, *, is_opening: bool) -> None:
        if self.grid is None or "holes" in self._problems:
            return
        self._problems["holes"] = []
        if self.is_composed:
            return
        try:
            self.grid = apply_missing(self.grid, missing=self.options.missing)
        except LayoutError as exc:
            self._problems["holes"] = [exc]

    def _read_headers(self, *, is_opening: bool) -> None:
        """Read headers; opening ends at the first file that cannot be read."""
        if self.grid is None or self.headers is not None:
            return
        if self.discovery is not None:
            structures = self.discovery.structures
            self.headers = HeadersRead(structures, {}, (), is_proven=False)
            found = (find_cycle(self.options.file_dims, s, self.grid) for s in structures.values())
            self.headers = replace(self.headers, cycle=next(filter(None, found), None))
            self._take_cycle()
            return
        on_error = self.options.on_error if is_opening else "fill"
        try:
            self.headers = read_headers(
                self.found.files, self.grid, replace(self._headers_options, on_error=on_error)
            )
            self._take_cycle()
            unreadable = list(self.headers.unreadable.values())
            warn_of_packing(self.headers.structures, self.found.files.urls)
            if self.found.is_single and self.found.pattern is None and not self.is_set:
                warn_of_siblings(self.found.files[0], reader_of(self.options))
            if (
                self.options.series == 0 and not self.is_set
            ):  # who chooses another one knows that there are several
                warn_of_other_series(self.headers, self.found.files)
        except (UnreadableFileError, StorageError) as exc:
            unreadable = [exc]
        is_problem = self.options.on_error == "raise" or self.headers is None
        self._problems["headers"] = unreadable if is_problem else []

    def _take_cycle(self) -> None:
        """From here on files are read with all their pages along one dim."""
        if self.headers is not None and self.headers.cycle is not None:
            self.options = _flattened(self.options, self.headers.cycle)

    @property
    def _headers_options(self) -> Options:
        """The options by which headers are read: all where each file's place or extent counts."""
        is_each = self.is_composed or self.options.unequal == "pad"
        return replace(self.options, validate="all") if is_each else self.options

    def describe(self) -> Mapping[int, FileMetadata]:
        """Return the metadata of the files that may differ, by row; headers are read before."""
        if self.described is None and self.grid is not None and self.headers is not None:
            self.described = (
                self.discovery.described
                if self.discovery is not None
                else read_metadata(
                    self.found.files,
                    self.grid,
                    self.headers,
                    self._headers_options,
                    template=template_row(self.grid, self.headers),
                    known=self.found.known,
                    table_name=self.found.table_name,
                )
            )
        return self.described or {}

    @property
    def _stage_fields(self) -> dict[str, Sequence[Any]]:
        """Where names or a table say that the stage was, a value per file."""
        known = {} if self.found.matches is None else self.found.matches.fields
        names = [name for name in ("stage_y_um", "stage_x_um") if name in known]
        return {name: known[name].values for name in names}

    def _turn(self, *, is_opening: bool) -> None:
        """Put tiles side by side in the order in which they lie on the map."""
        if self.grid is None or self.headers is None or "places" in self._problems:
            return
        self._problems["places"] = []
        if self.is_composed:
            return
        file_dims = self.headers.structures[template_row(self.grid, self.headers)].dims
        tiled = [name for name in self.grid.names if role_of(name) in (Role.Y, Role.X)]
        if not set(tiled) & set(file_dims):
            return
        try:
            described = self.describe()
        except (UnreadableFileError, StorageError) as exc:
            self._problems["places"] = [exc]
            return
        fixed = list(self.options.labels)
        self.grid, self.turned = turn_axes(self.grid, described, file_dims, fixed)
        for line in self.turned:
            warn(line)

    def _combine(self, *, is_opening: bool) -> None:
        if self.grid is None or self.headers is None or "layout" in self._problems:
            return
        self._problems["layout"] = []
        try:
            if self.is_mosaic:
                self.mosaic = build_mosaic(
                    self.grid,
                    self.headers,
                    self.describe(),
                    paths=self.found.paths,
                    options=self.options,
                    fields=self._stage_fields,
                )
                self.layout = self.mosaic.layout
            elif self.is_set:
                self.planes = build_set(
                    self.file_set, self.grid, self.headers, self.options, self.found.paths
                )
                self.layout, self.described = self.planes.layout, self.planes.described
            else:
                layout = _combine(self.found, self.grid, self.headers, self.options)
                find_doubts(layout, self.described or {})
                self.layout = layout
                if self.headers.cycle is not None:
                    self.pages = layout
                    self.layout = self._unfold(self.grid, self.headers, self.headers.cycle)
        except (LayoutError, UnreadableFileError, StorageError) as exc:
            self._problems["layout"] = [exc]

    def _unfold(self, grid: Grid, headers: HeadersRead, cycle: FrameCycle) -> Layout:
        """Return the layout of the array in which all pages together are cut into dims."""
        if self.pages is None:
            raise RuntimeError("the pages are laid out first")
        whole = cycle.whole_grid(grid)
        structure = headers.structures[template_row(grid, headers)]
        structures = {int(whole.rows[0]): cycle.whole_structure(structure, self.pages)}
        return _combine(self.found, whole, replace(headers, structures=structures), self.asked)


# -- the steps ---------------------------------------------------------------------------------


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
    urls = options.urlpath if isinstance(options.urlpath, list) else []
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
    # Local files are inside of nothing, and need not be looked at one by one.
    paths = listing.files.urls if listing.root.startswith("/") else listing.files.paths
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
    paths: Sequence[str],
    pattern: Pattern,
    matches: Matches,
    strays: tuple[str, ...],
    axes: tuple[str, ...] | None,
) -> FilesFound:
    """Return the files that ``sel`` keeps of those of which the fields are known. Pure."""
    count, matched = len(listing.files), len(matches.indices)
    numbers = _numbers_of(matches, pattern) if options.sel else {}
    matches = select_files(matches, pattern.fields, options.sel)
    files = listing.files
    if len(matches.indices) < count:
        files = files.take(matches.indices)
        paths = tuple([paths[i] for i in matches.indices.tolist()])
    left_out = matched - len(matches.indices)
    kept = matches.indices.tolist()
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


def _place(found: FilesFound, options: Options) -> Grid:
    """Return the grid; files that an index names, and that are not there, are holes."""
    grid = _place_all(found, options)
    if not found.absent:
        return grid
    gone = [row for row, url in enumerate(found.files.urls) if url in found.absent]
    return replace(grid, cells=np.where(np.isin(grid.cells, gone), np.int32(-1), grid.cells))


def _place_all(found: FilesFound, options: Options) -> Grid:
    if options.place != "index" or options.sets != "none":
        return place_tiles(found, options)
    return place_files(
        found.paths,
        pattern=found.pattern,
        matches=found.matches,
        concat_dim=found.axes if options.concat_dim is None else options.concat_dim,
        labels=options.labels,
        sizes=options.sizes,
        duplicates=options.duplicates,
        is_single=found.is_single,
        is_ordered=found.is_ordered,
    )


def read_headers(files: FileTable, grid: Grid, options: Options) -> HeadersRead:
    """Return the structures of the template and of as many files as ``validate`` asks for."""
    reader = reader_of(options)
    reader.index(is_fresh=True)
    notes: dict[str, None] = {}
    unreadable: dict[int, TiffStackError] = {}

    def read(row: int) -> Header | None:
        try:
            header = reader.read_header(files[row])
        except (UnreadableFileError, StorageError) as exc:
            if options.on_error == "raise":
                raise
            unreadable[row] = exc
            return None
        notes.update(dict.fromkeys(header.notes[:2]))
        return header

    first, header = _first_header(grid, read, unreadable)
    cycle = find_cycle(options.file_dims, header.structure, grid)
    if cycle is not None:
        return replace(read_headers(files, grid, _flattened(options, cycle)), cycle=cycle)
    template = reader.name_dims(header.structure, header.file.url)
    are_local = is_local(max(files.urls))  # an absolute path comes before any protocol
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
        cycles: list[FrameCycle] = []

        def read_counted(row: int) -> Structure | None:
            header = read(row)
            advance(1)
            if header is None:
                return None
            if (found := find_cycle(options.file_dims, header.structure, grid)) is not None:
                cycles.append(found)
            return reader.structure_of(header)

        others = list(reader.map_headers(read_counted, files, rows))
    if cycles:
        return replace(read_headers(files, grid, _flattened(options, cycles[0])), cycle=cycles[0])
    structures = {first: template}
    structures |= {row: s for row, s in zip(rows, others, strict=True) if s is not None}
    beside: dict[int, RawMetadata] = {}
    if reader.sidecars:
        read_rows = list(structures)
        found = map_files(lambda row: reader.read_beside(files[row]), files, read_rows)
        beside = dict(zip(read_rows, found, strict=True))
        structures = {row: add_packing(s, beside[row]) for row, s in structures.items()}
    sizes = files.sizes[grid.rows]
    return HeadersRead(
        structures=structures,
        unreadable=unreadable,
        notes=tuple(notes),
        is_proven=not template.is_compressed and sizes[0] >= 0 and bool((sizes == sizes[0]).all()),
        beside=beside,
    )


def _flattened(options: Options, cycle: FrameCycle) -> Options:
    """Return options that have all pages of a file along the free dim of a cycle."""
    inner = {name for name, _ in cycle.sizes}
    return replace(
        options,
        file_dims={cycle.free: -1},
        dims=None,
        coords={},
        sizes={name: n for name, n in options.sizes.items() if name not in inner},
    )


def warn_of_other_series(headers: HeadersRead, files: FileTable) -> None:
    """Warn if files have images that are not opened, unless these are masks or previews.

    Pages that the metadata leave out are a fault of those, which have a warning of their own.
    """
    left_out = [
        (row, others)
        for row, structure in headers.structures.items()
        if (others := [o for o in structure.others if not o.is_minor and o.index is not None])
    ]
    if not left_out:
        return
    row, others = left_out[0]
    more = f", {len(left_out) - 1:,} more files likewise" if left_out[1:] else ""
    images = "; ".join(other.describe() for other in others[:MOST_NAMED])
    rest = f"; and {len(others) - MOST_NAMED:,} more" if len(others) > MOST_NAMED else ""
    warn(
        f"{hide_in_text(files.urls[row])} has {len(others):,} more image"
        f"{'s' * (len(others) > 1)} that {'are' if len(others) > 1 else 'is'} not opened{more}: "
        f"{images}{rest}; the option series chooses another one, series='all' takes all that are "
        "like the first"
    )


def _first_header(
    grid: Grid,
    read: Callable[[int], Header | None],
    unreadable: Mapping[int, TiffStackError],
) -> tuple[int, Header]:
    """Return the row and the header of the first file that can be read."""
    for row in map(int, grid.rows):
        header = read(row)
        if header is not None:
            return row, header
    raise next(iter(unreadable.values()))


def template_row(grid: Grid, headers: HeadersRead) -> int:
    """Return the row of the file whose structure stands for others. Pure."""
    first = grid.template_row
    return first if first in headers.structures else next(iter(headers.structures))


def _combine(found: FilesFound, grid: Grid, headers: HeadersRead, options: Options) -> Layout:
    structures = dict(headers.structures)
    # a first file that cannot be read and is filled is taken to be like the next one
    structures.setdefault(grid.template_row, structures[template_row(grid, headers)])
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
        unequal=options.unequal,
    )
