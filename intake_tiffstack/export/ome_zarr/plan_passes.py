"""The passes that write the levels of a pyramid. Pure.

A level is computed in the pass of the one before while a block that holds whole chunks of both fits
into memory; after that the last level written is read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import lcm, prod

from intake_tiffstack.copies.chunk_plan import plan_blocks
from intake_tiffstack.export.ome_zarr.levels import Level
from intake_tiffstack.export.passes import Pass, Reduce, Source
from intake_tiffstack.export.planned_array import PlannedArray

__all__ = ["place_passes", "plan_passes"]

Extents = tuple[int, ...]

AIM_BYTES = 2**25
"""Default size of a block; four times as much is not faster."""


def plan_passes(
    levels: Sequence[Level],
    arrays: Sequence[PlannedArray],
    sources: Sequence[Source],
    reduce: Reduce,
    *,
    granule: Sequence[int],
    order: Sequence[int],
    most_bytes: int,
) -> list[Pass]:
    """Return the passes that write all levels of an image, in their order.

    Parameters
    ----------
    levels : sequence of Level
    arrays : sequence of PlannedArray
        Of the image, the full one first.
    sources : sequence of Source
        The image, and its levels in the files if those are used.
    reduce : Reduce
        Makes a level from the one before.
    granule, order : sequence of int
        Of the files; see :func:`~intake_tiffstack.copies.chunk_plan.plan_blocks`.
    most_bytes : int
        Upper limit of a block; AIM_BYTES is exceeded only for whole chunks of more levels, or to
        decode each granule once.
    """
    passes: list[Pass] = []
    first = 0
    while first < len(levels):
        level = levels[first].source
        ones = (1,) * len(levels[first].shape)
        read = levels[first if level is not None else first - 1].shape
        factors = [ones if level is not None else levels[first].factors]
        unit = _common_unit(read, [arrays[first]], factors)
        itemsize = arrays[first].dtype.itemsize
        while (last := first + len(factors)) < len(levels) and levels[last].source is None:
            wider = _common_unit(read, arrays[first : last + 1], [*factors, levels[last].factors])
            if prod(wider) * itemsize > most_bytes:
                break
            unit = wider
            factors.append(levels[last].factors)
        of_read = granule if level is not None else arrays[first - 1].chunks
        whole = prod(min(lcm(u, g), n) for u, g, n in zip(unit, of_read, read, strict=True))
        needed = whole * itemsize if whole * itemsize <= most_bytes else 0
        blocks = plan_blocks(
            read,
            itemsize,
            unit=unit,
            granule=of_read,
            order=order,
            most_bytes=max(needed, min(AIM_BYTES, most_bytes)),
        )
        written = tuple(arrays[first : first + len(factors)])
        source = arrays[first - 1] if level is None else sources[level]
        passes.append(Pass(source, written, blocks, tuple(factors), reduce, level))
        first += len(factors)
    return passes


def _common_unit(
    shape: Extents, arrays: Sequence[PlannedArray], factors: Sequence[Extents]
) -> Extents:
    """Return the smallest block read that covers whole chunks of all arrays written."""
    unit = total = (1,) * len(shape)
    for array, by in zip(arrays, factors, strict=True):
        total = tuple(t * f for t, f in zip(total, by, strict=True))
        unit = tuple(
            min(lcm(u, part * t), n)
            for u, part, t, n in zip(unit, array.unit, total, shape, strict=True)
        )
    return unit


def place_passes(passes: Sequence[Pass], sources: Sequence[Source], path: str) -> list[Pass]:
    """Return the passes of one image of many of the same shape.

    Parameters
    ----------
    passes : sequence of Pass
        As planned for an image at the root.
    sources : sequence of Source
        The pixels of this image, and its levels in the files if those are used.
    path : str
        Of the image.
    """
    return [
        replace(
            one_pass,
            source=_place_source(one_pass, sources, path),
            arrays=tuple(array.below(path) for array in one_pass.arrays),
        )
        for one_pass in passes
    ]


def _place_source(one_pass: Pass, sources: Sequence[Source], path: str) -> Source | PlannedArray:
    if isinstance(one_pass.source, PlannedArray):
        return one_pass.source.below(path)
    return sources[one_pass.level or 0]
