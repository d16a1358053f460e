"""The plan of an export, from its passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from intake_tiffstack.copies.plan import ArrayPlan, ExportPlan
from intake_tiffstack.export.passes import Pass
from intake_tiffstack.export.planned_array import PlannedArray

__all__ = ["plan_export"]


def plan_export(
    url: str, format: str, passes: Sequence[Pass], *, workers: int, document_count: int
) -> ExportPlan:
    """Return what some passes write. Pure.

    Parameters
    ----------
    url : str
        Of the copy.
    format : str
        Its name.
    passes : sequence of Pass
        All passes of the export.
    workers : int
        Tasks that run at once.
    document_count : int
        Documents beside those of the arrays.
    """
    alike: dict[tuple[object, ...], list[PlannedArray]] = {}
    for one_pass in passes:
        for array in one_pass.arrays:
            key = (array.path.rpartition("/")[2], array.shape, array.chunks, array.unit)
            alike.setdefault(key, []).append(array)
    arrays = tuple(_plan_array(of_one_kind) for of_one_kind in alike.values())
    blocks = [[max(lengths) for lengths in one_pass.blocks] for one_pass in passes]
    largest = max(
        math.prod(block) * one_pass.source.dtype.itemsize
        for block, one_pass in zip(blocks, passes, strict=True)
    )
    tasks = sum(one_pass.unit_count for one_pass in passes)
    at_once = min(workers, tasks)
    document_count += sum(len(array.documents) for one_pass in passes for array in one_pass.arrays)
    return ExportPlan(
        url=url,
        format=format,
        objects=sum(array.objects for array in arrays) + document_count,
        nbytes=sum(array.nbytes for array in arrays),
        read_nbytes=sum(p.nbytes for p in passes if not isinstance(p.source, PlannedArray)),
        tasks=tasks,
        memory=2 * largest * at_once,
        workers=at_once,
        arrays=arrays,
    )


def _plan_array(arrays: Sequence[PlannedArray]) -> ArrayPlan:
    """Return the plan of equal arrays."""
    first, count = arrays[0], len(arrays)
    objects = math.prod(-(-n // u) for n, u in zip(first.shape, first.unit, strict=True))
    return ArrayPlan(
        path=first.path,
        shape=first.shape,
        dtype=str(first.dtype),
        chunks=first.chunks,
        shards=None if first.unit == first.chunks else first.unit,
        count=count,
        objects=count * objects,
        nbytes=count * math.prod(first.shape) * first.dtype.itemsize,
    )
