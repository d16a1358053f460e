"""Which levels are made in one pass over what. Pure.

A level is made with the one before while a block that holds whole chunks of both fits into memory;
from there on the last level written is read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm, prod

from intake_tiffstack.copies.chunk_plan import plan_blocks
from intake_tiffstack.export.ome_zarr.levels import Level
from intake_tiffstack.export.passes import Reduce, Source, Stage
from intake_tiffstack.export.planned_array import PlannedArray

__all__ = ["Pass", "make_stages", "plan_passes"]

Extents = tuple[int, ...]

AIM_BYTES = 2**25
"""What a block holds where nothing asks for more: four times that is no faster."""


@dataclass(frozen=True)
class Pass:
    """One pass: what it reads and which levels it writes."""

    level: int | None
    """Which level of the files is read; None for the level before the first that is written."""
    first: int
    """The first level written."""
    factors: tuple[Extents, ...]
    """By how much each level written is smaller than what it is made from."""
    blocks: tuple[Extents, ...]
    """Lengths of the blocks that are read, along each dim."""


def plan_passes(
    levels: Sequence[Level],
    drafts: Sequence[PlannedArray],
    *,
    granule: Sequence[int],
    order: Sequence[int],
    most_bytes: int,
) -> tuple[Pass, ...]:
    """Return the passes that write all levels of an image, in their order.

    Parameters
    ----------
    levels, drafts
        Of the image, the full one first.
    granule, order
        Of the files, as :func:`~intake_tiffstack.copies.chunk_plan.plan_blocks` has them.
    most_bytes
        The most that a block may hold: more than AIM_BYTES only for whole chunks of more levels,
        or to read what belongs together once.
    """
    passes: list[Pass] = []
    first = 0
    while first < len(levels):
        level = levels[first].source
        ones = (1,) * len(levels[first].shape)
        read = levels[first if level is not None else first - 1].shape
        factors = [ones if level is not None else levels[first].factors]
        unit = _common_unit(read, [drafts[first]], factors)
        itemsize = drafts[first].dtype.itemsize
        while (last := first + len(factors)) < len(levels) and levels[last].source is None:
            wider = _common_unit(read, drafts[first : last + 1], [*factors, levels[last].factors])
            if prod(wider) * itemsize > most_bytes:
                break
            unit = wider
            factors.append(levels[last].factors)
        of_read = granule if level is not None else drafts[first - 1].chunks
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
        passes.append(Pass(level, first, tuple(factors), blocks))
        first += len(factors)
    return tuple(passes)


def _common_unit(
    shape: Extents, drafts: Sequence[PlannedArray], factors: Sequence[Extents]
) -> Extents:
    """Return the least block of what is read that holds whole chunks of all that is written."""
    unit = total = (1,) * len(shape)
    for draft, by in zip(drafts, factors, strict=True):
        total = tuple(t * f for t, f in zip(total, by, strict=True))
        unit = tuple(
            min(lcm(u, part * t), n)
            for u, part, t, n in zip(unit, draft.unit, total, shape, strict=True)
        )
    return unit


def make_stages(
    passes: Sequence[Pass],
    sources: Sequence[Source],
    drafts: Sequence[PlannedArray],
    path: str,
    reduce: Reduce,
) -> list[Stage]:
    """Return the stages of one image.

    Parameters
    ----------
    passes
        As planned for all images of this shape.
    sources
        The image, and its levels in the files if those are used.
    drafts
        Its levels, at the paths that they have in an image at the root.
    path
        Of the image.
    reduce
        Makes a level from the one before.
    """
    start = f"{path}/" if path else ""
    placed = [replace(draft, path=start + draft.path) for draft in drafts]
    return [
        Stage(
            source=placed[p.first - 1] if p.level is None else sources[p.level],
            drafts=tuple(placed[p.first : p.first + len(p.factors)]),
            blocks=p.blocks,
            factors=p.factors,
            reduce=reduce,
        )
        for p in passes
    ]
