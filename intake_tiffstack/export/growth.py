"""A copy that is extended along one dim by what has arrived since it was made.

New chunks lie beyond the shape that the documents of the copy state, so that nobody reads them
before the documents are replaced, after all chunks are there. A chunk at the old end that is not
full is written again as a whole with the same pixels at its beginning. Readers of any moment, also
after a kill, see the pixels of the old shape or of the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import TYPE_CHECKING, Any

import zarr

from intake_tiffstack.copies.record import CopyRecord, Origin, read_record
from intake_tiffstack.copies.zarr_documents import OPENING
from intake_tiffstack.copies.zarr_store import open_zarr_store
from intake_tiffstack.errors import (
    FileChangedError,
    OptionError,
    StorageError,
    TargetBusyError,
    TargetExistsError,
)
from intake_tiffstack.export.options import DEFAULTS
from intake_tiffstack.export.planned_array import PlannedArray, extend_array
from intake_tiffstack.storage.file_changes import describe_changes, without_secrets

if TYPE_CHECKING:
    from intake_tiffstack.export.passes import Pass
    from intake_tiffstack.storage.folder import Folder

__all__ = ["Growth", "check_growth", "find_growth", "recorded_options"]

_OF_STORAGE = frozenset({"chunks", "shards", "compressor"})
"""Options whose outcome the stored arrays themselves hold."""


@dataclass(frozen=True)
class Growth:
    """How a copy is extended."""

    folder: Folder
    dim: str
    """Dim of the source along which positions have arrived."""
    old: int
    """Positions that the copy has."""
    new: int
    """Positions that it will have."""
    record: CopyRecord
    """Of the copy as it is."""
    path: str
    """Of an array of the copy."""
    axis: int
    """Of the arrays, along which they grow."""
    stored: int
    """Its extent along that axis."""

    @property
    def is_done(self) -> bool:
        """Whether nothing has arrived."""
        return self.old == self.new == self.record.sizes[self.dim]

    def require_current(self) -> None:
        """Raise if the copy is another than it was when this was planned; two small requests.

        Raises
        ------
        TargetBusyError
            If so: chunks that are new in this plan may belong to the copy by now.
        """
        now = read_record(self.folder.url, self.folder.storage_options)
        is_same = now is not None and now.content == self.record.content
        # the record is written before the array
        if not is_same or _open_array(self.folder, self.path).shape[self.axis] != self.stored:
            raise TargetBusyError(
                f"another process has changed {self.folder.url} at this moment; the same call goes "
                "on from there",
                url=self.folder.url,
            )

    def extended(
        self, path: str, shape: Sequence[int], attributes: Mapping[str, Any] | None
    ) -> PlannedArray:
        """Return an array of the copy with its new shape, stored as the old one is.

        Parameters
        ----------
        path : str
            Of the array below the copy.
        shape : sequence of int
            New extents.
        attributes : mapping, optional
            New attributes; None keeps those that it has.

        Raises
        ------
        OptionError
            If anything but the extent along the growing axis differs.
        """
        axis, stored = self.axis, _open_array(self.folder, path)
        old = list(stored.shape)
        if len(old) != len(shape) or [*old[:axis], *old[axis + 1 :]] != [
            *shape[:axis],
            *shape[axis + 1 :],
        ]:
            raise OptionError(
                f"{self.folder.url}: the array {path or '/'!r} of shape {tuple(old)} cannot become "
                f"{tuple(shape)} by growing along {self.dim}; overwrite=True writes a new copy"
            )
        return extend_array(stored, path, shape, attributes)

    def begun(self, one_pass: Pass) -> Pass:
        """Return a pass that writes only what has arrived, and the chunk at the old end. Pure.

        Raises
        ------
        OptionError
            If a level is smaller along the axis.
        """
        axis = self.axis
        if any(factors[axis] != 1 for factors in one_pass.factors):
            raise OptionError(
                f"a pyramid whose levels are smaller along {self.dim} cannot grow along it: the "
                "last pixels of its levels would change; overwrite=True writes a new copy"
            )
        unit = lcm(*(array.unit[axis] for array in one_pass.arrays))
        begin = self.old // unit * unit
        return replace(one_pass, blocks=_cut(one_pass.blocks, axis, begin), grown=(axis, self.old))


def _cut(blocks: tuple[tuple[int, ...], ...], axis: int, edge: int) -> tuple[tuple[int, ...], ...]:
    """Return blocks of which one ends at an edge. Pure.

    >>> _cut(((4, 4), (9,)), 0, 6), _cut(((4, 4), (9,)), 0, 4)
    (((4, 2, 2), (9,)), ((4, 4), (9,)))
    """
    lengths, start = [], 0
    for length in blocks[axis]:
        inside = edge - start
        lengths += [inside, length - inside] if 0 < inside < length else [length]
        start += length
    return (*blocks[:axis], tuple(lengths), *blocks[axis + 1 :])


def recorded_options(
    url: str, storage_options: Mapping[str, Any] | None, format: str
) -> dict[str, Any]:
    """Return the options that an existing copy was written with, but for those of its chunks.

    Empty if there is no copy with a record.
    """
    record = read_record(url, storage_options)
    if record is None or record.content["format"] != format:
        return {}
    left_out = {"format", *_OF_STORAGE}
    return {name: v for name, v in record.content["export"].items() if name not in left_out}


def find_growth(
    folder: Folder,
    dim: str,
    origin: Origin | None,
    sizes: Mapping[str, int],
    *,
    format: str,
    path: str,
    axis: int,
) -> Growth | None:
    """Return how the copy in a folder is extended, None if there is no copy yet.

    Parameters
    ----------
    folder : Folder
        Of the copy.
    dim : str
        Of the source, along which it grows.
    origin : Origin
        What the source is made of now.
    sizes : mapping
        Dims of the source and their lengths now.
    format : str
        Of the copy.
    path : str
        Of the array whose extent shows whether the copy has been extended.
    axis : int
        Of that array, along which it grows.

    Raises
    ------
    OptionError
        If *dim* is not a dim, or the copy was made with other options or has other sizes.
    TargetExistsError
        If what exists has no audit record.
    FileChangedError
        If a file that was copied is gone or has changed, or has arrived late among those.
    """
    if dim not in sizes:
        raise OptionError.unknown("dim in append", dim, sizes)
    if OPENING.isdisjoint(folder.names("")):
        return None
    record = read_record(folder.url, folder.storage_options)
    if record is None or origin is None:
        raise TargetExistsError(
            f"{folder.url} has no audit record, so that what it was made of is unknown and nothing "
            "can be appended; overwrite=True writes a new copy",
            url=folder.url,
        )
    _check_options(folder, record, origin, format)
    _check_sizes(folder.url, dim, record, sizes)
    stored = _open_array(folder, path).shape[axis]
    old = min(record.sizes[dim], stored)
    _check_files(folder.url, record, origin, dim, old)
    return Growth(folder, dim, old, sizes[dim], record, path, axis, stored)


def check_growth(
    url: str, dim: str, record: CopyRecord, origin: Origin, sizes: Mapping[str, int]
) -> int:
    """Return how many positions a copy has along *dim*; raise if it cannot be extended. Pure.

    Raises
    ------
    OptionError, FileChangedError
        See :func:`find_growth`.
    """
    if dim not in sizes:
        raise OptionError.unknown("dim in append", dim, sizes)
    _check_sizes(url, dim, record, sizes)
    old = record.sizes[dim]
    _check_files(url, record, origin, dim, old)
    return old


def _check_sizes(url: str, dim: str, record: CopyRecord, sizes: Mapping[str, int]) -> None:
    """Raise if anything but the length along *dim* differs."""
    before = record.sizes
    others = [{name: n for name, n in found.items() if name != dim} for found in (before, sizes)]
    if list(before) != list(sizes) or others[0] != others[1]:
        raise OptionError(
            f"{url} is a copy of {before}, and the collection has {dict(sizes)}: only {dim} "
            "may differ; overwrite=True writes a new copy"
        )


def _open_array(folder: Folder, path: str) -> Any:
    with folder.read_errors():
        try:
            return zarr.open_array(open_zarr_store(folder, read_only=True), path=path, mode="r")
        except FileNotFoundError as exc:
            raise StorageError(
                f"{folder.url} has no array {path or '/'!r}: it was not there when the copy was "
                "made; overwrite=True writes a new copy",
                url=folder.url,
            ) from exc


def _check_options(folder: Folder, record: CopyRecord, origin: Origin, format: str) -> None:
    """Raise if the copy was made with other options than are given now."""
    if record.content["format"] != format:
        raise OptionError(
            f"{folder.url} has the format {record.content['format']!r}, but got format={format!r}"
        )
    before = record.content["export"]
    for name, value in origin.export.items():
        known = before.get(name, DEFAULTS.get(name))
        if name != "format" and value != known:
            raise OptionError(
                f"{folder.url} was written with {name}={known!r}, but got {value!r}; leave out "
                f"{name}, or overwrite=True writes a new copy"
            )


def _check_files(url: str, record: CopyRecord, origin: Origin, dim: str, old: int) -> None:
    """Raise if the files of the positions that the copy has are not those that were copied."""
    now = without_secrets(origin.files)
    starts = origin.starts.get(dim)
    if starts is None:
        raise OptionError(f"{dim} is a dim inside the files: no file extends it")
    known = set(record.files.urls)
    rows = [row for row, url in enumerate(now.urls) if url in known or starts[row] < old]
    changes = describe_changes(record.files, now.take(rows))
    if changes is None:
        places = {row["url"]: row["at"] for row in record.content["files"]}
        moved = [
            url
            for i, url in enumerate(now.urls)
            if url in places
            and places[url] != {name: int(column[i]) for name, column in origin.starts.items()}
        ]
        changes = f"{len(moved):,} have another position ({moved[0]})" if moved else None
    if changes is not None:
        raise FileChangedError(
            f"{url} cannot be extended along {dim}, because of the files of its "
            f"{old:,} positions {changes}; overwrite=True writes a new copy",
            url=url,
        )
