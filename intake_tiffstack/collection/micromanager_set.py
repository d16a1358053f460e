"""Sets of files of Micro-Manager, by the index that it keeps beside them or in each."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from intake_tiffstack.collection.file_reader import reader_of
from intake_tiffstack.collection.model import FileSet
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import FilesNotFoundError, LayoutError, UnreadableFileError
from intake_tiffstack.formatting import few
from intake_tiffstack.header.header_bytes import open_header
from intake_tiffstack.listing.list_files import Listing
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.metadata.micromanager_sets import (
    arrange_planes,
    first_planes,
    parse_index_map,
    parse_ndtiff_index,
)
from intake_tiffstack.metadata.units import as_number
from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.storage.store import open_store
from intake_tiffstack.storage.urls import split_chain
from intake_tiffstack.to_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.metadata.micromanager_sets import Plane
    from intake_tiffstack.options import Options
    from intake_tiffstack.storage.files import File
    from intake_tiffstack.storage.store import Store

__all__ = ["NDTIFF_INDEX", "find_mmstack", "find_ndtiff"]

NDTIFF_INDEX = "NDTiff.index"

_MMSTACK = re.compile(r"(.*_MMStack)(?:_.*)?\.tiff?", re.IGNORECASE)
_MAP_AT, _MAP_BEGINS = 54773648, 3453623  # what the header and the map begin with
_ENTRY = 20


def find_ndtiff(options: Options, given: Listing) -> FileSet:
    """Return the set of the NDTiff data set that the files are of, or whose index is given.

    Raises
    ------
    FilesNotFoundError
        If the index, or every file, is absent.
    UnreadableFileError
        If the index lists no plane.
    """
    home, folder = given.files[0], _folder_of(given.files[0])
    url = f"{folder}{NDTIFF_INDEX}{split_chain(home.url)[1]}"
    store = open_store(home.url, options.storage_options)
    planes = parse_ndtiff_index(store.read(f"{folder}{NDTIFF_INDEX}"))
    files = store.files(folder, has_tiff_suffix)
    found = _set_of(planes, files, folder, url, options)
    return replace(found, along=_read_along(planes, found, store, options))


_ASKED = {
    Role.POSITION: ("XPositionUm", "YPositionUm", "ZPositionUm"),
    Role.TIME: ("ElapsedTime-ms",),
    Role.Z: ("ZPositionUm",),
}
"""What planes record that may differ along a dim of each role."""

_MOST_ASKED = 256


def _read_along(
    planes: Sequence[Plane], found: FileSet, store: Store, options: Options
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Return what the first plane at each position records, by dim and key; one read a plane.

    Nothing of dims that are long, or of which a plane does not record it.
    """
    (image,), files = found.images, found.listing.files
    row_of = {ref.name: row for ref, row in found.rows.items()}
    along: dict[str, dict[str, tuple[float, ...]]] = {}
    for dim, size in zip(image.dims, image.shape, strict=True):
        keys = _ASKED.get(role, ()) if (role := role_of(dim)) is not None else ()
        if not keys or size > _MOST_ASKED:
            continue
        firsts = first_planes(planes, dim, image.coords[dim])
        if any(plane.file not in row_of or not plane.metadata[1] for plane in firsts):
            continue
        records = store.map(
            lambda plane: _read_record(files[row_of[plane.file]], plane, options), firsts
        )
        for key in keys:
            values = [as_number(record.get(key)) for record in records]
            known = tuple(value for value in values if value is not None)
            if len(known) == size:
                along.setdefault(dim, {})[key] = known
    return along


def _read_record(file: File, plane: Plane, options: Options) -> dict[str, Any]:
    """Return the JSON of a plane, empty if it is broken."""
    start, length = plane.metadata
    try:
        found = parse_json(open_header(file, options.storage_options).read(start, length))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def find_mmstack(options: Options, given: Listing) -> FileSet:
    """Return the set of stacks of Micro-Manager that the first file is of: all of its name.

    Raises
    ------
    LayoutError
        If the file is not named as Micro-Manager does, or two files have the same plane.
    UnreadableFileError
        If a file has no index map.
    """
    home, folder = given.files[0], _folder_of(given.files[0])
    named = _MMSTACK.fullmatch(split_chain(home.url)[0].rpartition("/")[2])
    if named is None:
        raise LayoutError(
            f"sets='mmstack' needs a file named as Micro-Manager does, with _MMStack in it, but "
            f"got {home.url}",
            paths=(home.url,),
        )
    stem = named[1]

    def is_of_set(name: str) -> bool:
        other = _MMSTACK.fullmatch(name)
        return other is not None and other[1] == stem

    store = open_store(home.url, options.storage_options)
    files = store.files(folder, is_of_set).sorted()
    planes: list[Plane] = []
    seen: dict[tuple[int | str, ...], str] = {}
    for own in store.map(lambda row: _read_index_map(files[row], options), range(len(files))):
        for plane in own:
            first = seen.setdefault(tuple(plane.axes.values()), plane.file)
            if first != plane.file:
                place = ", ".join(f"{axis}={value}" for axis, value in plane.axes.items())
                raise LayoutError(
                    f"{first} and {plane.file} in {folder} both have the plane {place}: move one "
                    "elsewhere, or open them by their names"
                )
        planes += own
    return _set_of(planes, files, folder, home.url, options)


def _folder_of(file: File) -> str:
    return f"{split_chain(file.url)[0].rpartition('/')[0]}/"


def _read_index_map(file: File, options: Options) -> list[Plane]:
    """Return the planes of a file by its own index; two requests."""
    data = open_header(file, options.storage_options)
    name = split_chain(file.url)[0].rpartition("/")[2]
    try:
        start = data.read(0, 16)
        order = {b"II": "<", b"MM": ">"}[start[:2]]
        mark, at = struct.unpack(f"{order}2I", start[8:])
        head = data.read(at, 8) if mark == _MAP_AT and at else b""
        begins, count = struct.unpack(f"{order}2I", head)
        entries = data.read(at + 8, count * _ENTRY)
        if begins != _MAP_BEGINS or len(entries) < count * _ENTRY:
            raise ValueError("the index map is cut off")
    except (KeyError, ValueError, struct.error) as exc:
        raise UnreadableFileError(
            f"{file.url} has no index map of Micro-Manager, as after an acquisition that was cut "
            "off: open the files by their names instead of sets='mmstack'",
            url=file.url,
        ) from exc
    return parse_index_map(entries, order, name)


def _set_of(
    planes: Sequence[Plane], beside: FileTable, folder: str, home: str, options: Options
) -> FileSet:
    try:
        image, counts = arrange_planes(planes)
    except ValueError as exc:
        raise UnreadableFileError(f"{home} is not an index of planes: {exc}", url=home) from exc
    by_name = {path.rpartition("/")[2]: row for row, path in enumerate(beside.paths)}
    there = [ref for ref in counts if ref.name in by_name]
    absent = tuple(str(ref.name) for ref in counts if ref.name not in by_name)
    if not there:
        raise FilesNotFoundError(
            f"{home} is of a set of {len(counts)} files, none of which is beside it: "
            f"{few(absent, 4)}",
            url=home,
        )
    files = beside.take([by_name[str(ref.name)] for ref in there])
    return FileSet(
        listing=Listing(files, folder, False, None, True),
        images=(image,),
        rows={ref: row for row, ref in enumerate(there)},
        absent=absent,
        home=home,
        metadata=reader_of(options).raw_metadata(files[0]),
        pages={row: counts[ref] for row, ref in enumerate(there)},
    )
