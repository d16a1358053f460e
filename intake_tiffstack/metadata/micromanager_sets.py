"""Which planes Micro-Manager's sets of files have, and in which file each is. Pure.

References
----------
NDTiffStorage, https://github.com/micro-manager/NDTiffStorage; Micro-Manager File Formats,
https://micro-manager.org/Micro-Manager_File_Formats
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.metadata.ome_parts import FileRef
from intake_tiffstack.metadata.ome_set import SetImage
from intake_tiffstack.to_json import parse_json

__all__ = [
    "INDEX_MAP_AXES",
    "Plane",
    "arrange_planes",
    "first_planes",
    "parse_index_map",
    "parse_ndtiff_index",
]

INDEX_MAP_AXES = ("c", "z", "t", "position")
"""Axes of the entries of an index map."""

_RENAMED = {"row": "grid_row", "column": "grid_column"}  # of tiles, not of wells
_ROLES = list(Role)


class Plane(NamedTuple):
    """One plane of a set."""

    axes: Mapping[str, int | str]
    """Its position along each axis."""
    file: str
    """Name of its file."""
    offset: int
    """Of its pixels or its page: ascending from page to page."""
    metadata: tuple[int, int] = (0, 0)
    """Offset and length of its JSON in the file; of length 0 where that is not known."""


def parse_ndtiff_index(content: bytes) -> list[Plane]:
    """Return the planes of an ``NDTiff.index``, up to where a crash cut it.

    >>> name = b"a.tif"
    >>> entry = struct.pack("<I", 10) + b'{"time":3}' + struct.pack("<I", len(name)) + name
    >>> parse_ndtiff_index(entry + struct.pack("<8I", 512, 8, 8, 1, 0, 900, 20, 0) + b"\\0" * 4)
    [Plane(axes={'time': 3}, file='a.tif', offset=512, metadata=(900, 20))]
    """
    found: list[Plane] = []
    at = 0

    def text() -> str:
        nonlocal at
        (length,) = struct.unpack_from("<I", content, at)
        at += 4 + length
        return content[at - length : at].decode(errors="replace")

    while at + 4 <= len(content):
        try:
            axes, name = parse_json(text()), text()
            offset, start, length = struct.unpack_from("<I16xII4x", content, at)
        except (struct.error, ValueError):
            break
        at += 32
        if not isinstance(axes, dict):
            break
        renamed = {_RENAMED.get(str(key), str(key)): value for key, value in axes.items()}
        found.append(Plane(renamed, name, offset, (start, length)))
    return found


def parse_index_map(entries: bytes, byteorder: str, name: str) -> list[Plane]:
    """Return the planes of the index map of a file: five numbers for each.

    >>> (plane,) = parse_index_map(struct.pack("<5I", 1, 0, 2, 0, 4096), "<", "a.tif")
    >>> plane.axes, plane.offset
    ({'c': 1, 'z': 0, 't': 2, 'position': 0}, 4096)
    """
    table = np.frombuffer(entries, f"{byteorder}u4").reshape(-1, 5).tolist()
    return [
        Plane(dict(zip(INDEX_MAP_AXES, place, strict=True)), name, offset)
        for *place, offset in table
    ]


def arrange_planes(planes: Sequence[Plane]) -> tuple[SetImage, dict[FileRef, int]]:
    """Return the image that planes make, and how many pages each file has.

    Numbers ascend along an axis, texts come in the order of their first plane; an axis that a plane
    does not name is at its first position. A plane that is there twice is the later one.

    Raises
    ------
    ValueError
        If there is none, or an axis mixes numbers and texts.
    """
    if not planes:
        raise ValueError("it lists no plane")
    names = list(dict.fromkeys(name for plane in planes for name in plane.axes))
    names.sort(key=lambda name: _ROLES.index(role) if (role := role_of(name)) else -1)
    values = {
        name: _values(name, [plane.axes[name] for plane in planes if name in plane.axes])
        for name in names
    }
    position = {name: {value: i for i, value in enumerate(own)} for name, own in values.items()}
    offsets: dict[str, set[int]] = {}
    for plane in planes:
        offsets.setdefault(plane.file, set()).add(plane.offset)
    page_of = {
        file: {offset: i for i, offset in enumerate(sorted(own))} for file, own in offsets.items()
    }
    located = {}
    for plane in planes:
        place = tuple(
            position[name][plane.axes[name]] if name in plane.axes else 0 for name in names
        )
        located[place] = FileRef(None, plane.file), page_of[plane.file][plane.offset]
    shape = tuple(len(values[name]) for name in names)
    image = SetImage("", tuple(names), shape, located, values)
    return image, {FileRef(None, file): len(pages) for file, pages in page_of.items()}


def first_planes(planes: Sequence[Plane], axis: str, values: Sequence[int | str]) -> list[Plane]:
    """Return the first plane at each position along an axis, in the order of *values*."""
    found: dict[int | str, Plane] = {}
    for plane in planes:
        if axis in plane.axes:
            found.setdefault(plane.axes[axis], plane)
    return [found[value] for value in values]


def _values(name: str, found: Sequence[Any]) -> tuple[Any, ...]:
    kinds = {type(value) for value in found}
    if kinds == {int}:
        return tuple(sorted(set(found)))
    if kinds == {str}:
        return tuple(dict.fromkeys(found))
    raise ValueError(f"its axis {name} holds {' and '.join(sorted(k.__name__ for k in kinds))}")
