"""The units of a copy: what is read once, and all that is written from it.

A stage is one pass over an array. Its blocks end where chunks (or shards) of every array that it
writes end, so that no two units touch the same one, and units run in any order and without locks.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.copies.verify import SAMPLES
from intake_tiffstack.errors import VerificationError
from intake_tiffstack.export.claim import Claim
from intake_tiffstack.export.planned_array import PlannedArray, Region
from intake_tiffstack.storage.folder import Folder

__all__ = [
    "Job",
    "Part",
    "Reduce",
    "Source",
    "Stage",
    "Unit",
    "check_part",
    "in_waves",
    "write_unit",
]

Unit = tuple[int, ...]
"""Which block along each dim of the source."""

Reduce = Callable[[NDArray[Any], tuple[int, ...]], NDArray[Any]]
"""Makes a block smaller by a whole factor along each dim; what is left over at an end counts."""


class Source(Protocol):
    """An array that reads what an index asks for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    def __getitem__(self, region: Region) -> Any:
        """Return a region, as an array in host memory."""


@dataclass(frozen=True)
class Part:
    """A region of one of the arrays that a stage writes."""

    draft: int
    """Which of them."""
    region: Region


@dataclass(frozen=True)
class Stage:
    """One pass over an array, and what is made of it."""

    source: Source | PlannedArray
    """What is read; a draft is an array that an earlier stage wrote."""
    drafts: tuple[PlannedArray, ...]
    """What is written: the first is made from the source, each other from the one before."""
    blocks: tuple[tuple[int, ...], ...]
    """Lengths of the blocks along each dim of the source."""
    factors: tuple[tuple[int, ...], ...] = ()
    """By how much each draft is smaller than what it is made from, along each dim; none for a
    single draft that is a copy."""
    reduce: Reduce | None = None
    """Makes the drafts that are smaller."""

    @cached_property
    def _starts(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(itertools.accumulate(n, initial=0)) for n in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes that the whole stage reads."""
        return math.prod(self.source.shape) * self.source.dtype.itemsize

    def units(self) -> Iterator[Unit]:
        """Yield the units, in C order."""
        yield from itertools.product(*(range(len(lengths)) for lengths in self.blocks))

    def region(self, unit: Unit, draft: int | None = None) -> Region:
        """Return what a unit writes of one of the drafts; None: what it reads. Pure."""
        bounds = [(s[i], s[i + 1]) for s, i in zip(self._starts, unit, strict=True)]
        for factors in self.factors[: 0 if draft is None else draft + 1]:
            bounds = [(a // f, -(-b // f)) for (a, b), f in zip(bounds, factors, strict=True)]
        return tuple(slice(a, b) for a, b in bounds)

    def unit_nbytes(self, unit: Unit) -> int:
        """Return how many bytes a unit reads. Pure."""
        lengths = (n[i] for n, i in zip(self.blocks, unit, strict=True))
        return math.prod(lengths) * self.source.dtype.itemsize

    def keys(self, unit: Unit) -> Iterator[str]:
        """Yield the names of all that a unit writes. Pure."""
        for i, draft in enumerate(self.drafts):
            yield from draft.keys(self.region(unit, i))

    def read(self, place: Folder, region: Region) -> NDArray[Any]:
        """Return a region of the source in memory."""
        if isinstance(self.source, PlannedArray):
            return self.source.read(place, region)
        return np.asarray(self.source[region])

    def shrink(self, block: NDArray[Any], draft: int) -> NDArray[Any]:
        """Return what a block of the draft before (or the source) becomes in *draft*."""
        if not self.factors or max(self.factors[draft]) == 1:
            return block
        if self.reduce is None:
            raise ValueError("a stage that makes something smaller needs a function that reduces")
        return self.reduce(block, self.factors[draft])

    def widen(self, part: Part) -> Region:
        """Return what a part is made of, in the draft before or in the source. Pure."""
        before = self.drafts[part.draft - 1] if part.draft else self.source
        factors = self.factors[part.draft] if self.factors else (1,) * len(part.region)
        return tuple(
            slice(s.start * f, min(s.stop * f, n))
            for s, f, n in zip(part.region, factors, before.shape, strict=True)
        )

    def samples(self) -> Iterator[Part]:
        """Yield a chunk here and there of each draft, first and last among them. Pure."""
        for i, draft in enumerate(self.drafts):
            counts = [-(-n // c) for n, c in zip(draft.shape, draft.chunks, strict=True)]
            places = np.linspace(0, math.prod(counts) - 1, SAMPLES // len(self.drafts) or 1)
            for place in sorted({int(n) for n in places}):
                at = np.unravel_index(place, counts)
                yield Part(
                    i,
                    tuple(
                        slice(int(k) * c, min((int(k) + 1) * c, n))
                        for k, c, n in zip(at, draft.chunks, draft.shape, strict=True)
                    ),
                )

    def all_parts(self) -> Iterator[Part]:
        """Yield all that is written, a part for each unit and draft. Pure."""
        for unit in self.units():
            for i in range(len(self.drafts)):
                yield Part(i, self.region(unit, i))


def in_waves(stages: Sequence[Stage]) -> list[tuple[Stage, ...]]:
    """Return the stages in groups, each of which reads what groups before it wrote. Pure."""
    waves: list[list[Stage]] = []
    written: dict[str, int] = {}
    for stage in stages:
        depth = written[stage.source.path] + 1 if isinstance(stage.source, PlannedArray) else 0
        waves.extend([] for _ in range(depth + 1 - len(waves)))
        waves[depth].append(stage)
        written |= {draft.path: depth for draft in stage.drafts}
    return [tuple(wave) for wave in waves]


Job = tuple[tuple[Stage, ...], Folder, Claim]
"""What all units of some stages have in common; sent to each worker once."""


def write_unit(job: Job, item: tuple[int, Unit]) -> int:
    """Read and write one unit of one of the stages, and return how many bytes it read.

    Raises
    ------
    TargetBusyError
        If another writer has taken over.
    StorageError
        If the store refuses.
    """
    stages, place, claim = job
    stage, unit = stages[item[0]], item[1]
    block = stage.read(place, stage.region(unit))
    claim.check()  # after the longest part, and before anything is changed
    for i, draft in enumerate(stage.drafts):
        block = stage.shrink(block, i)
        draft.write(place, stage.region(unit, i), block)
    return stage.unit_nbytes(unit)


def check_part(job: Job, item: tuple[int, Part]) -> int:
    """Read a part back, compare it with what it was made of, and return its bytes.

    Raises
    ------
    VerificationError
        If they differ. What holds the region is removed, so that the same call writes it again.
    """
    stages, place, _ = job
    stage, part = stages[item[0]], item[1]
    draft, wider = stage.drafts[part.draft], stage.widen(part)
    if part.draft == 0:
        block = stage.read(place, wider)
    else:
        block = stage.drafts[part.draft - 1].read(place, wider)
    expected = stage.shrink(block, part.draft)
    try:
        found = _bytes(draft.read(place, part.region))
    except (RuntimeError, ValueError, zlib.error, EOFError):  # what codecs and Zarr say of damage
        found = None
    if found != _bytes(expected.astype(draft.dtype, copy=False)):
        place.remove(list(draft.keys(part.region)))
        where = ", ".join(f"{s.start}:{s.stop}" for s in part.region)
        raise VerificationError(
            f"{place.url}: the region [{where}] of the array {draft.path or '/'!r} does not read "
            "back as it was written; it was removed, and the same call writes it again "
            "(verify=False accepts a compressor that changes values)",
            url=place.url,
        )
    return expected.nbytes


def _bytes(block: NDArray[Any]) -> memoryview:
    """Return the bytes of a block: NaN equals NaN, and -0.0 is not 0.0."""
    return np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
