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
from intake_tiffstack.collection.file_set import find_set, warn_of_siblings
from intake_tiffstack.collection.find_files import find_files, take_listing
from intake_tiffstack.collection.model import Discovery, FileSet, FilesFound, HeadersRead
from intake_tiffstack.collection.mosaic import PlacedMosaic, build_mosaic
from intake_tiffstack.collection.packing import warn_of_packing
from intake_tiffstack.collection.placement import find_doubts, turn_axes
from intake_tiffstack.collection.read_headers import (
    flattened,
    read_headers,
    template_row,
    warn_of_other_series,
)
from intake_tiffstack.collection.set_layout import PlacedSet, build_set
from intake_tiffstack.collection.tile_grid import place_tiles
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import (
    LayoutError,
    StorageError,
    TiffStackError,
    UnreadableFileError,
    warn,
)
from intake_tiffstack.layout.columns import stray_error
from intake_tiffstack.layout.combine import combine
from intake_tiffstack.layout.cycle import FrameCycle, find_cycle
from intake_tiffstack.layout.grid import place_files
from intake_tiffstack.layout.holes import apply_missing
from intake_tiffstack.layout.model import Grid, Layout
from intake_tiffstack.listing.not_found import folders_below
from intake_tiffstack.pattern.matching import parts_below
from intake_tiffstack.pattern.propose import propose_patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from intake_tiffstack.listing.list_files import Listing
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.pattern.propose import Proposal

_MAX_NAMES = 1_000
"""Names that are looked at for a hint: 10 ms."""

__all__ = ["Examination"]


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
            self.options = flattened(self.options, self.headers.cycle)

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
