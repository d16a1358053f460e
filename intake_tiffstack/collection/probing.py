"""Which headers and which metadata to read when a collection is opened. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError
from intake_tiffstack.storage.urls import is_local as is_local_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.collection.model import HeadersRead
    from intake_tiffstack.layout.model import Grid
    from intake_tiffstack.structure import Structure

__all__ = [
    "MAX_LOCAL_HEADERS",
    "MAX_PROBED_HEADERS",
    "choose_described_rows",
    "choose_headers",
    "choose_placed_rows",
    "choose_stage_rows",
    "is_stage_dim",
]

MAX_LOCAL_HEADERS = 1_000
"""Local files whose headers are all read: 0.2 ms each."""

MAX_PROBED_HEADERS = 64
"""Headers read of more or remote files, beside the lines along extended dims."""


def choose_headers(
    grid: Grid,
    template: Structure,
    *,
    byte_sizes: NDArray[np.int64],
    is_local: bool,
    validate: Literal["auto", "all", "template"] = "auto",
) -> list[int]:
    """Return the rows whose headers to read, the template's first. Pure.

    Parameters
    ----------
    grid : Grid
        The files in their cells.
    template : Structure
        Structure of the file in ``grid.template_row``.
    byte_sizes : ndarray of int64
        Listed size of each row in bytes, -1 where unknown.
    is_local : bool
        True where a header costs no request.
    validate : {"auto", "all", "template"}
        ``"all"``, ``"template"`` or ``"auto"``: all of up to 1,000 local files; else just the
        template where it is uncompressed and all files have its size; else the first file at each
        position of every axis but time and z, at most 64, and one line of files along each
        extended dim.

    Raises
    ------
    OptionError
        If *validate* has another value.
    """
    if validate not in ("auto", "all", "template"):
        raise OptionError(f"validate is 'auto', 'all' or 'template', but got {validate!r}")
    rows = grid.rows
    first = grid.template_row
    if validate == "template":
        return [first]
    if validate == "all" or (is_local and len(rows) <= MAX_LOCAL_HEADERS):
        listed: list[int] = rows.tolist()
        return listed
    sizes = byte_sizes[rows]
    if not template.is_compressed and sizes[0] >= 0 and (sizes == sizes[0]).all():
        return [first]
    chosen = {first: None}  # a dict keeps the order
    if is_local:  # only a link that points nowhere has no size
        chosen |= dict.fromkeys(rows[sizes < 0].tolist())
    probed = [i for i, name in enumerate(grid.names) if role_of(name) not in (Role.TIME, Role.Z)]
    for axis in sorted(probed, key=lambda i: grid.cells.shape[i]):  # few sensors before many wells
        for row in _first_rows(grid.cells, axis):
            if len(chosen) < MAX_PROBED_HEADERS:
                chosen[row] = None
    for axis, name in enumerate(grid.names):
        if name in template.dims:
            chosen.update(dict.fromkeys(_first_rows(grid.cells, axis)))
    return list(chosen)


def choose_described_rows(
    grid: Grid, headers: HeadersRead, urls: Sequence[str], *, template: int
) -> list[int]:
    """Return the rows whose metadata to read: the template, and the first file per position. Pure.

    Each channel may have its own name, and each site its own place. Acquisition times are read of
    all time points or of none. A remote file costs requests: except per channel, its metadata are
    read only if its header was read anyway.
    """
    rows = {template: None}
    for axis in sorted(range(grid.cells.ndim), key=lambda i: role_of(grid.names[i]) == Role.TIME):
        role = role_of(grid.names[axis])
        lines = np.moveaxis(grid.cells, axis, 0).reshape(grid.cells.shape[axis], -1)
        if role == Role.TIME and len(rows) + len(lines) > MAX_PROBED_HEADERS:
            continue
        for line in lines[:MAX_PROBED_HEADERS]:
            for row in line[line >= 0][:1].tolist():
                is_cheap = row in headers.structures or is_local_url(urls[row])
                if row not in headers.unreadable and (is_cheap or role == Role.CHANNEL):
                    rows[row] = None
    return list(rows)[:MAX_PROBED_HEADERS]


def choose_stage_rows(grid: Grid, headers: HeadersRead, urls: Sequence[str]) -> list[int]:
    """Return the first file at each combination of well and position, none if that takes long.

    The stage was elsewhere for each of them. Pure.
    """
    kept = [axis for axis, name in enumerate(grid.names) if is_stage_dim(name)]
    cells = np.moveaxis(grid.cells, kept, range(len(kept)))
    lines = cells.reshape(math.prod(cells.shape[: len(kept)]), -1)
    rows = _first_of(lines)
    is_cheap = len(rows) <= MAX_LOCAL_HEADERS and all(
        row in headers.structures or is_local_url(urls[row]) for row in rows
    )
    return [row for row in rows if row not in headers.unreadable] if kept and is_cheap else []


def is_stage_dim(name: str) -> bool:
    """Return whether the stage moves from one position along a dim to the next."""
    return role_of(name) in (Role.PLATE, Role.ACQUISITION, Role.POSITION) or name == "file"


def choose_placed_rows(
    grid: Grid, place_tags: Mapping[int, object], file_dims: Sequence[str]
) -> dict[int, None]:
    """Return the rows whose place on the map to hold against their cells. Pure.

    One line of tiles along each extended y or x and the corners; of the others one for each place
    on the map and along y and x.

    Parameters
    ----------
    grid : Grid
        The files in their cells.
    place_tags : mapping[int, object]
        What the tags of each file say of its place, by row; equal for equal places.
    file_dims : sequence of str
        Dims inside the files.
    """
    axes = [i for i, name in enumerate(grid.names) if role_of(name) in (Role.Y, Role.X)]
    index = grid.locate(list(place_tags))
    chosen: dict[tuple[object, ...], int] = {}
    for i, (row, tags) in enumerate(place_tags.items()):
        chosen.setdefault((tags, *(int(index[axis][i]) for axis in axes)), row)
    tiled = [axis for axis in axes if grid.names[axis] in file_dims]
    ends = np.ix_(*([0, -1] if axis in tiled else [0] for axis in range(grid.cells.ndim)))
    lines = [row for axis in tiled for row in _first_rows(grid.cells, axis)]
    corners = grid.cells[ends].ravel().tolist() if tiled else []
    return dict.fromkeys(row for row in (*chosen.values(), *lines, *corners) if row >= 0)


def _first_rows(cells: NDArray[np.int32], axis: int) -> list[int]:
    """Return the first file at each position of *axis* that has one."""
    return _first_of(np.moveaxis(cells, axis, 0).reshape(cells.shape[axis], -1))


def _first_of(lines: NDArray[np.int32]) -> list[int]:
    """Return the first file of each line that has one."""
    first = lines[np.arange(len(lines)), (lines >= 0).argmax(axis=1)]
    return [row for row in first.tolist() if row >= 0]
