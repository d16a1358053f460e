"""What the files of a collection say of their pixels: which to ask, and all that one says.

Headers are read, no pixel is.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.probing import MAX_PROBED_HEADERS
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import StorageError, UnreadableFileError
from intake_tiffstack.header.cache import get_header, get_raw_metadata
from intake_tiffstack.header.raw_metadata import read_pages_metadata
from intake_tiffstack.header.sidecars import with_sidecars
from intake_tiffstack.header.tiff_file import short_text
from intake_tiffstack.metadata.describe_file import describe_file
from intake_tiffstack.metadata.readers import READERS
from intake_tiffstack.metadata.readers.ome import refuse_entities
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.concurrency import map_files
from intake_tiffstack.storage.urls import is_local
from intake_tiffstack.to_json import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ome_types import OME

    from intake_tiffstack.collection.model import HeadersRead
    from intake_tiffstack.header import Structure
    from intake_tiffstack.layout.model import Grid
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.options import Options
    from intake_tiffstack.storage.files import File, FileTable

__all__ = ["parse_ome", "read_all_of_file", "read_metadata"]


def read_metadata(
    files: FileTable, grid: Grid, headers: HeadersRead, options: Options, *, template: int
) -> dict[int, FileMetadata]:
    """Return what the files that may tell something new say, by row; the template comes first.

    With ``validate="all"`` these are all that can be read. What lies beside the template is read
    too, where Micro-Manager wrote it.
    """
    rows = (
        list(headers.structures)
        if options.validate == "all"
        else _telling_rows(files, grid, headers, template)
    )
    place: dict[str, Any] = {"storage_options": files.storage_options, "series": options.series}
    base = get_header(files[rows[0]], **place, level=0).structure.shape if options.level else None

    def describe(row: int) -> FileMetadata | None:
        try:
            raw = get_raw_metadata(files[row], storage_options=files.storage_options)
        except (UnreadableFileError, StorageError):
            if options.on_error == "raise":
                raise
            return None  # filled, and told, once its pixels are wanted
        if row == template:
            raw = with_sidecars(raw, files[row].url, files.storage_options)
        structure = headers.structures.get(row, headers.structures[template])
        if "ome_xml" in raw.tags and row in headers.structures:
            header = get_header(files[row], **place, level=options.level)
            raw = replace(raw, notes=(*raw.notes, *_ome_faults(header.notes, files[row].url)))
        fits = base is not None and len(base) == len(structure.shape)
        return describe_file(
            raw,
            structure.dims,
            structure.shape,
            url=files[row].url,
            series=options.series,
            base_shape=base if fits else None,
        )

    # of remote files, the bytes of a few are kept since their headers were read, no more
    found = map_files(describe, files, rows)
    return {row: told for row, told in zip(rows, found, strict=True) if told is not None}


def _ome_faults(notes: Sequence[str], url: str) -> list[str]:
    """Return what tifffile found wrong between the OME-XML and the pages, naming the file."""
    return [
        f"{hide_in_text(url)}: OME series{note.partition('OME series')[2]}"
        for note in notes
        if "OME series" in note
    ]


def _telling_rows(files: FileTable, grid: Grid, headers: HeadersRead, template: int) -> list[int]:
    """Return the template's row and the first file at each position of every axis.

    Each channel may name its own, and each site lie somewhere else. When it was taken is asked of
    all time points or of none. A remote file costs requests: but for channels it is asked only if
    its header was read anyway.
    """
    rows = {template: None}
    for axis in sorted(range(grid.cells.ndim), key=lambda i: role_of(grid.names[i]) == Role.TIME):
        role = role_of(grid.names[axis])
        lines = np.moveaxis(grid.cells, axis, 0).reshape(grid.cells.shape[axis], -1)
        if role == Role.TIME and len(rows) + len(lines) > MAX_PROBED_HEADERS:
            continue
        for line in lines[:MAX_PROBED_HEADERS]:
            for row in line[line >= 0][:1].tolist():
                is_cheap = row in headers.structures or is_local(files.urls[row])
                if row not in headers.unreadable and (is_cheap or role == Role.CHANNEL):
                    rows[row] = None
    return list(rows)[:MAX_PROBED_HEADERS]


def read_all_of_file(
    file: File,
    structure: Structure,
    *,
    storage_options: Mapping[str, Any],
    series: int,
) -> dict[str, Any]:
    """Return all that one file says, as JSON can hold it: what is understood, and as it is.

    Walks all pages of a file that Micro-Manager wrote.
    """
    raw = get_raw_metadata(file, storage_options=storage_options)
    raw = with_sidecars(raw, file.url, storage_options)
    described = describe_file(raw, structure.dims, structure.shape, url=file.url, series=series)
    told = asdict(described) | dict(described.channels) | dict(described.facts)
    as_it_is = {f"raw_{reader.name}": raw.tags.get(reader.name) for reader in READERS}
    as_it_is["raw_beside"] = raw.sidecars
    if "micromanager" in raw.tags:
        as_it_is["raw_pages"] = read_pages_metadata(file, storage_options=storage_options)
    dropped = ("channels", "facts")
    found: dict[str, Any] = plain({k: v for k, v in (told | as_it_is).items() if k not in dropped})
    return found


def parse_ome(file: File, storage_options: Mapping[str, Any]) -> OME | None:
    """Return all of a file's OME-XML as ome-types has it, None where it has none.

    Raises
    ------
    ImportError
        ome-types is not installed.
    UnreadableFileError
        The XML is broken, is of a schema that nobody knows, or declares entities.
    """
    xml = get_raw_metadata(file, storage_options=storage_options).tags.get("ome_xml")
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
