"""One long dim of an array seen as several: planes that cycle on over the ends of files."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from dask.base import normalize_token

from intake_tiffstack.arrays.lazy_array import LazyArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["UnfoldedArray"]


class UnfoldedArray(LazyArray):
    """An array of which one dim is cut into several; indexing reads, nothing else does.

    Parameters
    ----------
    base : LazyArray
        The array with the long dim.
    base_dims : sequence of str
        Names of its dims.
    folded : str
        The one that is cut.
    sizes : mapping of str to int
        The dims that it is cut into, slowest first.
    dims : sequence of str
        Order of all dims of the result.
    """

    def __init__(
        self,
        base: LazyArray,
        base_dims: Sequence[str],
        folded: str,
        sizes: Mapping[str, int],
        dims: Sequence[str],
    ) -> None:
        self.base = base
        self.base_dims = tuple(base_dims)
        self.folded = folded
        self.sizes = dict(sizes)
        self.dims = tuple(dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        known = dict(zip(self.base_dims, self.base.shape, strict=True)) | self.sizes
        return tuple(known[dim] for dim in self.dims)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return self.base.dtype

    @property
    def arraytype(self) -> str:
        """What a block is."""
        return self.base.arraytype

    def __repr__(self) -> str:
        sizes = ", ".join(f"{dim}: {n}" for dim, n in zip(self.dims, self.shape, strict=True))
        return f"<UnfoldedArray ({sizes}) {self.dtype} over {self.base!r}>"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (
            "intake_tiffstack.UnfoldedArray",
            normalize_token(self.base),
            self.base_dims,
            self.folded,
            tuple(self.sizes.items()),
            self.dims,
        )

    @property
    def ctimes(self) -> NDArray[np.int64] | None:
        """When each file changed, in ns since 1970."""
        return self.base.ctimes

    def on_host(self) -> UnfoldedArray:
        """Return the same array with NumPy blocks."""
        return UnfoldedArray(
            self.base.on_host(), self.base_dims, self.folded, self.sizes, self.dims
        )

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        """Fill *out* with one read per position along all but the longest of the dims."""
        wanted = dict(zip(self.dims, ranges, strict=True))
        counts = list(self.sizes.values())
        strides = {dim: math.prod(counts[i + 1 :]) for i, dim in enumerate(self.sizes)}
        longest = max(self.sizes, key=lambda dim: len(wanted[dim]))
        others = [dim for dim in self.sizes if dim != longest]
        left = [dim for dim in self.dims if dim not in others]
        order = [left.index(longest if dim == self.folded else dim) for dim in self.base_dims]
        along = wanted[longest]
        for places in itertools.product(*(enumerate(wanted[dim]) for dim in others)):
            at = dict(zip(others, places, strict=True))
            start = sum(strides[dim] * value for dim, (_, value) in at.items())
            pages = range(
                start + along.start * strides[longest],
                start + along[-1] * strides[longest] + 1,
                along.step * strides[longest],
            )
            index = tuple(at[dim][0] if dim in at else slice(None) for dim in self.dims)
            region = tuple(pages if dim == self.folded else wanted[dim] for dim in self.base_dims)
            self.base._read_into(out[index].transpose(order), region)
