"""The units of an export: a block that is read once, and all that is written from it.

A pass reads one array once and writes one or more. Its blocks end where chunks (or shards) of every
array that it writes end: no two units touch the same chunk, and they run in any order and without
locks.
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

from intake_tiffstack.copies.claim import Claim
from intake_tiffstack.copies.verify import SAMPLES
from intake_tiffstack.errors import VerificationError
from intake_tiffstack.export.planned_array import PlannedArray, Slices
from intake_tiffstack.storage.folder import Folder

__all__ = [
    "Job",
    "Pass",
    "Reduce",
    "Source",
    "Unit",
    "WrittenPart",
    "check_part",
    "group_into_waves",
    "write_unit",
]

Unit = tuple[int, ...]
"""Index of a block along each dim of the source."""

Reduce = Callable[[NDArray[Any], tuple[int, ...]], NDArray[Any]]
"""Shrinks a block by a whole factor along each dim; a remainder at an end makes a pixel too."""


class Source(Protocol):
    """An array whose indexing reads."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an element."""

    def __getitem__(self, region: Slices) -> Any:
        """Return a region, as an array in host memory."""


@dataclass(frozen=True)
class WrittenPart:
    """A region of one of the arrays that a pass writes."""

    index: int
    """Index of the array in the pass."""
    region: Slices


@dataclass(frozen=True)
class Pass:
    """One pass over an array, and the arrays written from it."""

    source: Source | PlannedArray
    """What is read; a PlannedArray is one that an earlier pass wrote."""
    arrays: tuple[PlannedArray, ...]
    """What is written: the first is made from the source, each other from the one before."""
    blocks: tuple[tuple[int, ...], ...]
    """Lengths of the blocks along each dim of the source."""
    factors: tuple[tuple[int, ...], ...] = ()
    """Factor by which each array is smaller than the one before, along each dim; empty for a
    single array of the source's shape."""
    reduce: Reduce | None = None
    """Makes the smaller arrays."""
    level: int | None = None
    """Which level of the files the source is; None if it is an array of the copy."""
    grown: tuple[int, int] | None = None
    """Of a copy that is extended: the axis, and how many positions along it exist already. Blocks
    end where the last chunk that is full ends."""

    @cached_property
    def _starts(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(itertools.accumulate(n, initial=0)) for n in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes that the whole pass reads."""
        lengths = (sum(n[first:]) for n, first in zip(self.blocks, self._firsts, strict=True))
        return math.prod(lengths) * self.source.dtype.itemsize

    @property
    def unit_count(self) -> int:
        """How many units there are."""
        return math.prod(len(n) - i for n, i in zip(self.blocks, self._firsts, strict=True))

    @cached_property
    def _firsts(self) -> Unit:
        """The first unit; of a copy that is extended, blocks before it exist already."""
        firsts = [0] * len(self.blocks)
        if self.grown is not None:
            axis, old = self.grown
            # a block that ends before the last full chunk does ends at `old` or before
            unit = math.lcm(*(array.unit[axis] for array in self.arrays))
            begin = old // unit * unit
            firsts[axis] = sum(start < begin for start in self._starts[axis][:-1])
        return tuple(firsts)

    def units(self) -> Iterator[Unit]:
        """Yield the units that are written, in C order."""
        ranges = (range(i, len(n)) for n, i in zip(self.blocks, self._firsts, strict=True))
        yield from itertools.product(*ranges)

    def holds_old(self, region: Slices) -> bool:
        """Return whether a region of the source has pixels that the copy had before. Pure."""
        return self.grown is not None and region[self.grown[0]].start < self.grown[1]

    def region(self, unit: Unit, index: int | None = None) -> Slices:
        """Return what a unit writes of the array *index*; None: what it reads. Pure."""
        bounds = [(s[i], s[i + 1]) for s, i in zip(self._starts, unit, strict=True)]
        for factors in self.factors[: 0 if index is None else index + 1]:
            bounds = [(a // f, -(-b // f)) for (a, b), f in zip(bounds, factors, strict=True)]
        return tuple(slice(a, b) for a, b in bounds)

    def unit_nbytes(self, unit: Unit) -> int:
        """Return how many bytes a unit reads. Pure."""
        lengths = (n[i] for n, i in zip(self.blocks, unit, strict=True))
        return math.prod(lengths) * self.source.dtype.itemsize

    def keys(self, unit: Unit) -> Iterator[str]:
        """Yield the names of the objects that a unit writes. Pure."""
        for i, array in enumerate(self.arrays):
            yield from array.keys(self.region(unit, i))

    def read(self, folder: Folder, region: Slices) -> NDArray[Any]:
        """Return a region of the source in memory."""
        if isinstance(self.source, PlannedArray):
            return self.source.read(folder, region)
        return np.asarray(self.source[region])

    def shrink(self, block: NDArray[Any], index: int) -> NDArray[Any]:
        """Return a block of the array before (or the source), shrunk for the array *index*."""
        if not self.factors or max(self.factors[index]) == 1:
            return block
        if self.reduce is None:
            raise ValueError("a pass that makes something smaller needs a function that reduces")
        return self.reduce(block, self.factors[index])

    def source_region(self, part: WrittenPart) -> Slices:
        """Return the region of the array before (or the source) that a part is made from. Pure."""
        before = self.arrays[part.index - 1] if part.index else self.source
        factors = self.factors[part.index] if self.factors else (1,) * len(part.region)
        return tuple(
            slice(s.start * f, min(s.stop * f, n))
            for s, f, n in zip(part.region, factors, before.shape, strict=True)
        )

    def samples(self) -> Iterator[WrittenPart]:
        """Yield some chunks of each array, the first and last among them. Pure."""
        for i, array in enumerate(self.arrays):
            counts = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
            first = [0] * len(counts)
            if self.grown is not None:
                axis, old = self.grown
                first[axis] = min(old // array.chunks[axis], counts[axis] - 1)
            left = [n - i for n, i in zip(counts, first, strict=True)]
            places = np.linspace(0, math.prod(left) - 1, SAMPLES // len(self.arrays) or 1)
            for number in sorted({int(n) for n in places}):
                at = np.add(np.unravel_index(number, left), first)
                yield WrittenPart(
                    i,
                    tuple(
                        slice(int(k) * c, min((int(k) + 1) * c, n))
                        for k, c, n in zip(at, array.chunks, array.shape, strict=True)
                    ),
                )

    def all_parts(self) -> Iterator[WrittenPart]:
        """Yield all parts, one per unit and array. Pure."""
        for unit in self.units():
            for i in range(len(self.arrays)):
                yield WrittenPart(i, self.region(unit, i))


def group_into_waves(passes: Sequence[Pass]) -> list[tuple[Pass, ...]]:
    """Return the passes in groups; each group reads only what earlier groups wrote. Pure."""
    waves: list[list[Pass]] = []
    written: dict[str, int] = {}
    for one_pass in passes:
        source = one_pass.source
        depth = written[source.path] + 1 if isinstance(source, PlannedArray) else 0
        waves.extend([] for _ in range(depth + 1 - len(waves)))
        waves[depth].append(one_pass)
        written |= {array.path: depth for array in one_pass.arrays}
    return [tuple(wave) for wave in waves]


Job = tuple[tuple[Pass, ...], Folder, Claim]
"""What all units of some passes share; sent to each worker once."""


def write_unit(job: Job, item: tuple[int, Unit]) -> int:
    """Read and write one unit of one of the passes, and return how many bytes it read.

    Raises
    ------
    TargetBusyError
        If another writer has taken over.
    StorageError
        If the store cannot be written.
    """
    passes, folder, claim = job
    one_pass, unit = passes[item[0]], item[1]
    block = one_pass.read(folder, one_pass.region(unit))
    claim.check()  # after the slow read, and before anything is changed
    for i, array in enumerate(one_pass.arrays):
        block = one_pass.shrink(block, i)
        array.write(folder, one_pass.region(unit, i), block)
    return one_pass.unit_nbytes(unit)


def check_part(job: Job, item: tuple[int, WrittenPart]) -> int:
    """Read a part back, compare it with its source, and return its size in bytes.

    Raises
    ------
    VerificationError
        If they differ. What holds the region is removed, so that the same call writes it again.
    """
    passes, folder, _ = job
    one_pass, part = passes[item[0]], item[1]
    array, wider = one_pass.arrays[part.index], one_pass.source_region(part)
    if part.index == 0:
        block = one_pass.read(folder, wider)
    else:
        block = one_pass.arrays[part.index - 1].read(folder, wider)
    expected = one_pass.shrink(block, part.index)
    try:
        found = array.read(folder, part.region)
    except (RuntimeError, ValueError, zlib.error, EOFError):
        found = None  # codecs and Zarr raise these for damaged chunks
    wanted = expected.astype(array.dtype, copy=False)
    if found is None or not np.array_equal(_bytes(found), _bytes(wanted)):
        is_removed = not one_pass.holds_old(part.region)  # which readers may read now
        if is_removed:
            folder.remove(list(array.keys(part.region)))
        where = ", ".join(f"{s.start}:{s.stop}" for s in part.region)
        raise VerificationError(
            f"{folder.url}: the region [{where}] of the array {array.path or '/'!r} does not read "
            f"back as it was written; {'it was removed, and ' * is_removed}the same call writes it "
            "again "
            "(verify=False accepts a compressor that changes values)",
            url=folder.url,
        )
    return expected.nbytes


def _bytes(block: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of a block: NaN equals NaN, and -0.0 is not 0.0."""
    return np.ascontiguousarray(block).reshape(-1).view(np.uint8)
