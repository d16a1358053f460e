"""What the files of a collection say of their pixels: which to ask, and all that one says.

Headers are read, no pixel is.
"""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from intake_tiffstack.collection.file_reader import reader_of
from intake_tiffstack.collection.probing import (
    choose_described_rows,
    choose_placed_rows,
    choose_stage_rows,
)
from intake_tiffstack.errors import StorageError, UnreadableFileError
from intake_tiffstack.header.raw_metadata import read_pages_metadata
from intake_tiffstack.header.sidecars import with_sidecars
from intake_tiffstack.header.tiff_file import short_text
from intake_tiffstack.metadata.describe_file import describe_file
from intake_tiffstack.metadata.reader import RawMetadata
from intake_tiffstack.metadata.readers import READERS
from intake_tiffstack.metadata.readers.ome import refuse_entities
from intake_tiffstack.metadata.readers.table import COLUMNS
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.concurrency import map_files
from intake_tiffstack.to_json import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ome_types import OME

    from intake_tiffstack.collection.model import HeadersRead
    from intake_tiffstack.header import Structure
    from intake_tiffstack.layout.model import Grid
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.reading.reader import CollectionReader
    from intake_tiffstack.storage.files import File, FileTable

__all__ = ["parse_ome", "read_all_of_file", "read_metadata"]


def read_metadata(
    files: FileTable,
    grid: Grid,
    headers: HeadersRead,
    options: Options,
    *,
    template: int,
    known: Mapping[str, Sequence[Any]],
    table_name: str,
) -> dict[int, FileMetadata]:
    """Return the metadata of the files that may differ, by row; the template comes first.

    With ``validate="all"`` these are all readable files; on a map also those by which their places
    are checked. Sidecar files of the template are read
    too, if Micro-Manager wrote it, and those of each file that the option ``sidecars`` asks for.
    What a table beside the files has *known* of them, by column, goes before all.
    """
    rows = (
        list(headers.structures)
        if options.validate == "all"
        else choose_described_rows(grid, headers, files.urls, template=template)
    )
    reader = reader_of(options)
    base = reader.read_header(files[rows[0]], level=0).structure.shape if reader.level else None
    page = reader.read_header(files[template]).page

    def describe(row: int) -> FileMetadata | None:
        is_read = row in headers.structures
        try:
            header = reader.read_header(files[row]) if is_read else None
            raw = reader.raw_metadata(files[row], page if header is None else header.page)
        except (UnreadableFileError, StorageError):
            if options.on_error == "raise":
                raise
            return None  # its pixels are filled, with a warning, once they are read
        if reader.sidecars:
            beside = headers.beside.get(row)
            raw = raw.with_beside(reader.read_beside(files[row]) if beside is None else beside)
        if own := {name: values[row] for name, values in known.items() if name in COLUMNS}:
            raw = raw.with_beside(RawMetadata(sidecars={table_name: {"Row": own}}))
        if row == template:
            raw = with_sidecars(raw, files[row].url, reader.storage_options)
        structure = headers.structures.get(row, headers.structures[template])
        if header is not None and header.notes:
            raw = replace(raw, notes=(*raw.notes, *_faults_of_counts(header.notes, files[row].url)))
        fits = base is not None and len(base) == len(structure.shape)
        return describe_file(
            raw,
            structure.dims,
            structure.shape,
            dtype=structure.dtype,
            url=files[row].url,
            series=reader.series if isinstance(reader.series, int) else 0,
            base_shape=base if fits else None,
        )

    def place_tags(row: int) -> object:
        is_told = page == 0 and not reader.sidecars  # a sidecar may say otherwise than the tags
        tags = reader.place_tags(files[row]) if is_told else None
        return row if tags is None else tags

    found = dict(zip(rows, reader.map_headers(describe, files, rows), strict=True))
    first = found[rows[0]]
    if first is not None and "affine" in first.facts:  # each file has a different place
        placed = set(grid.rows.tolist())
        read = [row for row in headers.structures if row in placed]
        tags = dict(zip(read, map_files(place_tags, files, read), strict=True))
        wanted = choose_placed_rows(grid, tags, headers.structures[template].dims)
        more = [row for row in wanted if row not in found and row not in headers.unreadable]
        found |= dict(zip(more, reader.map_headers(describe, files, more), strict=True))
    if first is not None and first.stage:
        more = [row for row in choose_stage_rows(grid, headers, files.urls) if row not in found]
        found |= dict(zip(more, reader.map_headers(describe, files, more), strict=True))
    return {row: metadata for row, metadata in found.items() if metadata is not None}


_COUNTS = re.compile(
    r"(?:OME series|ImageJ's description|the index map has|the pages are opened as) .*"
)


def _faults_of_counts(notes: Sequence[str], url: str) -> list[str]:
    """Return what is wrong between the metadata and the pages of a file, naming the file."""
    found = map(_COUNTS.search, notes)
    return [f"{hide_in_text(url)}: {fault[0]}" for fault in found if fault is not None]


def read_all_of_file(file: File, structure: Structure, reader: CollectionReader) -> dict[str, Any]:
    """Return all metadata of one file as JSON values: interpreted, and as they stand in the file.

    Walks all pages of a file that Micro-Manager wrote.
    """
    raw = reader.raw_metadata(file, reader.read_header(file).page)
    raw = with_sidecars(raw, file.url, reader.storage_options)
    if reader.sidecars:
        raw = raw.with_beside(reader.read_beside(file))
    described = describe_file(
        raw,
        structure.dims,
        structure.shape,
        dtype=structure.dtype,
        url=hide_in_text(file.url),
        series=reader.series if isinstance(reader.series, int) else 0,
    )
    metadata = asdict(described) | dict(described.channels) | dict(described.facts)
    in_file = [source.name for source in READERS if source.extract is not None]
    as_it_is: dict[str, Any] = {f"raw_{name}": raw.tags.get(name) for name in in_file}
    as_it_is["raw_beside"] = raw.sidecars
    if "micromanager" in raw.tags:
        as_it_is["raw_pages"] = read_pages_metadata(file, storage_options=reader.storage_options)
    dropped = ("channels", "facts")
    found: dict[str, Any] = to_json(
        {k: v for k, v in (metadata | as_it_is).items() if k not in dropped}
    )
    return found


def parse_ome(file: File, reader: CollectionReader) -> OME | None:
    """Return all of a file's OME-XML as parsed by ome-types, None if there is none.

    Raises
    ------
    ImportError
        If ome-types is not installed.
    UnreadableFileError
        If the XML is broken, is of a schema that nobody knows, or declares entities.
    """
    xml = reader.raw_metadata(file).tags.get("ome_xml")
    if xml is None:
        return None
    try:
        import ome_types
    except ImportError as exc:
        raise ImportError(
            "all of an OME-XML is read by ome-types: pip install 'intake-tiffstack[ome]'"
        ) from exc
    try:
        refuse_entities(xml)
        found: OME = ome_types.from_xml(xml)
    except (ValueError, SyntaxError) as exc:  # a schema is refused as the first, XML as the other
        raise UnreadableFileError(
            f"the OME-XML of {file.url} cannot be read: {short_text(exc)}; "
            "file_metadata(i)['raw_ome_xml'] is its text",
            url=file.url,
        ) from exc
    return found
