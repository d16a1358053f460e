"""A source with its dims reordered, at one position of the dims left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_tiffstack.export.passes import Source
from intake_tiffstack.export.planned_array import Slices

__all__ = ["ArrayView"]


@dataclass(frozen=True)
class ArrayView:
    """Part of a source, read when it is indexed; picklable.

    >>> view = ArrayView(np.arange(24).reshape(2, 3, 4), (2, 0), ((1, 1),))
    >>> view.shape, view[slice(0, 2), slice(0, 2)].tolist()
    ((4, 2), [[4, 16], [5, 17]])
    """

    source: Source
    order: tuple[int, ...]
    """The dim of the source behind each dim."""
    chosen: tuple[tuple[int, int], ...] = ()
    """Dims of the source that are left out, with the position chosen along each."""

    def __post_init__(self) -> None:
        dims = [*self.order, *(dim for dim, _ in self.chosen)]
        if sorted(dims) != list(range(len(self.source.shape))):
            raise ValueError(f"{len(self.source.shape)} dims to place, but got {dims}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return tuple(self.source.shape[dim] for dim in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self.source.dtype

    def __getitem__(self, region: Slices) -> Any:
        index = [slice(0)] * len(self.source.shape)
        for dim, part in zip(self.order, region, strict=True):
            index[dim] = part
        for dim, position in self.chosen:
            index[dim] = slice(position, position + 1)
        block = np.asarray(self.source[tuple(index)])
        left_out = tuple(dim for dim, _ in self.chosen)
        kept = sorted(self.order)
        return block.squeeze(left_out).transpose([kept.index(dim) for dim in self.order])
