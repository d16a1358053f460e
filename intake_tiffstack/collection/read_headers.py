"""The headers of as many files as ``validate`` asks for, and what they say that is not opened."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from intake_tiffstack.collection.file_reader import reader_of
from intake_tiffstack.collection.model import HeadersRead
from intake_tiffstack.collection.packing import add_packing
from intake_tiffstack.collection.probing import choose_headers
from intake_tiffstack.errors import (
    StorageError,
    TiffStackError,
    UnreadableFileError,
    warn,
)
from intake_tiffstack.layout.cycle import FrameCycle, find_cycle
from intake_tiffstack.layout.model import Grid
from intake_tiffstack.progress import reported
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.concurrency import map_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from intake_tiffstack.header import Header, Structure
    from intake_tiffstack.metadata.reader import RawMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.storage.files import FileTable


__all__ = ["flattened", "read_headers", "template_row", "warn_of_other_series"]

MOST_NAMED = 4
"""Images of a file that a warning names."""


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

    def read_first(row: int) -> Header | None:
        reader.fetch_ahead([files[row]])  # its beginning and its end at once
        return read(row)

    first, header = _first_header(grid, read_first, unreadable)
    cycle = find_cycle(options.file_dims, header.structure, grid)
    if cycle is not None:
        return replace(read_headers(files, grid, flattened(options, cycle)), cycle=cycle)
    template = reader.name_dims(header.structure, header.file.url)
    rows = choose_headers(
        grid,
        template,
        byte_sizes=files.sizes,
        is_local=files.are_local,
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
        return replace(read_headers(files, grid, flattened(options, cycles[0])), cycle=cycles[0])
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


def flattened(options: Options, cycle: FrameCycle) -> Options:
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
