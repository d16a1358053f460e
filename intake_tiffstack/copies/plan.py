"""What an export would write, before it writes anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dask.utils import format_bytes

from intake_tiffstack.errors import warn

__all__ = ["ArrayPlan", "ExportPlan", "warn_of_many_objects"]

MANY_OBJECTS = 100_000
"""Objects from which on an export warns: listing, copying and deleting them takes minutes."""


@dataclass(frozen=True)
class ArrayPlan:
    """One array of a copy; of a plate, the arrays of one level in all its images."""

    path: str
    """Path below the URL; of the first image of a plate or series."""
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    count: int
    """How many such arrays are written."""
    objects: int
    """Chunks or shards of all of them; of an OME-TIFF, tiles."""
    nbytes: int
    """Bytes of all of them, decoded."""


@dataclass(frozen=True)
class ExportPlan:
    """What an export writes and needs.

    Compressed sizes depend on the pixels; `nbytes` is an upper bound apart from incompressible data
    and padded edges.
    """

    url: str
    format: str
    """``zarr``, ``ome-zarr``, ``ome-tiff`` or ``references``."""
    objects: int
    """Files, or objects of a store: chunks or shards, and metadata."""
    nbytes: int
    """Bytes of all arrays, decoded; 0 for references."""
    read_nbytes: int
    """Decoded bytes that are read from the files, without verification."""
    tasks: int
    memory: int
    """Estimated bytes in use at once: twice the largest block per worker."""
    workers: int
    arrays: tuple[ArrayPlan, ...]

    def __str__(self) -> str:
        if self.format == "references":
            return f"references at {self.url}: 1 document over {self.tasks:,} files"
        lines = [
            f"{self.format} at {self.url}",
            f"{self.objects:,} objects, {format_bytes(self.nbytes)} decoded",
            f"{self.tasks:,} tasks on {self.workers} workers, about "
            f"{format_bytes(self.memory)} of memory",
        ]
        parts = "tiles" if self.format == "ome-tiff" else "objects"
        for array in self.arrays:
            shards = "" if array.shards is None else f" in shards of {_spell(array.shards)}"
            times = "" if array.count == 1 else f"{array.count:,} x "
            lines.append(
                f"{array.path or '/'}: {times}{_spell(array.shape)} {array.dtype}, chunks "
                f"{_spell(array.chunks)}{shards}, {array.objects:,} {parts}"
            )
        return "\n".join(lines)

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]


def _spell(lengths: Sequence[int]) -> str:
    return " x ".join(map(str, lengths))


def warn_of_many_objects(plan: ExportPlan) -> None:
    """Warn if a copy consists of so many objects that it is slow to list, copy and delete."""
    if plan.objects > MANY_OBJECTS:
        warn(
            f"{plan.url} will consist of {plan.objects:,} objects, which is slow to list, copy and "
            "delete; larger `chunks`, or `shards` (Zarr format 3), make fewer"
        )
