"""The heart: an array-like over many files that reads just the bytes an index asks for.

Pure planning, and one call into :mod:`intake_tiffstack.reading` for each file touched. This module
imports neither tifffile nor imagecodecs nor cupy, since a scheduler must be able to unpickle it.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from intake_tiffstack.lazy import LazyArray
from intake_tiffstack.listing.filesystem import is_local
from intake_tiffstack.settings import setting_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from intake_tiffstack.layout.combining import Dim, Layout
    from intake_tiffstack.listing.filetable import FileTable

__all__ = ["ReadOptions", "StackArray"]


@dataclass(frozen=True)
class ReadOptions:
    """The options that decide what a file's pixels are, and what to do without them."""

    series: int = 0
    level: int = 0
    file_dims: tuple[str, ...] | tuple[tuple[str, int], ...] | None = None
    """Names, or pairs of name and size."""
    fill_value: Any = 0
    on_error: Literal["raise", "fill"] = "raise"
    arraytype: str = "numpy"


class StackArray(LazyArray):
    """A collection of files seen as one array; indexing reads, nothing else does.

    Made by :func:`intake_tiffstack.open_stack`; dask and xarray are the ways to use it.

    Parameters
    ----------
    files
        The files, one row each.
    layout
        How they make up the result.
    options
        How a file is read.
    """

    def __init__(self, files: FileTable, layout: Layout, options: ReadOptions) -> None:
        self.files = files
        self.layout = layout
        self.options = options

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each dim."""
        return tuple(d.size for d in self.layout.dims)

    @property
    def dims(self) -> tuple[str, ...]:
        """Name of each dim."""
        return tuple(d.name for d in self.layout.dims)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native byte order."""
        return self.layout.dtype

    @property
    def arraytype(self) -> str:
        """What a block is."""
        return self.options.arraytype

    def __repr__(self) -> str:
        sizes = ", ".join(f"{d.name}: {d.size}" for d in self.layout.dims)
        return f"<StackArray ({sizes}) {self.dtype} over {len(self.files)} files>"

    def __reduce__(self) -> tuple[Any, ...]:
        # coordinates belong to xarray: no read needs them, and along an extended dim they are
        # 16 MB for 100,000 files
        layout = replace(self.layout, coords={})
        return StackArray, (self.files, layout, self.options)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        layout = self.layout
        return (
            "intake_tiffstack.StackArray",
            self.files.token(),
            tuple((d.name, d.size, d.axis, d.file_dim, d.offsets) for d in layout.dims),
            layout.cells.shape,
            layout.cells.tobytes(),
            layout.file_dims,
            layout.file_shape,
            str(layout.dtype),
            repr(self.options),
        )

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        """Fill *out* file by file."""
        # imported here: a scheduler needs this class, and has neither tifffile nor imagecodecs
        from intake_tiffstack.reading import read_part

        def read(part: FilePart) -> None:
            target = out[part.into].transpose(part.order)
            if part.row < 0:
                target[...] = self.options.fill_value
            else:
                read_part(self.files, part, target, self.layout, self.options)

        parts = list(plan_parts(self.layout, ranges))
        if len(parts) > 1 and not all(is_local(self.files.urls[p.row]) for p in parts):
            # most of a request is waiting; on this machine's own files threads would only queue
            most = int(setting_number("concurrency", least=1))
            with ThreadPoolExecutor(min(len(parts), most)) as pool:
                for _ in pool.map(read, parts):
                    pass
        else:
            for part in parts:
                read(part)


@dataclass(frozen=True)
class FilePart:
    """What an index takes of one file: the unit of reading."""

    row: int
    """The file's row in the table, -1 for a cell without one."""
    region: tuple[range, ...]
    """One ascending range for each dim inside the file."""
    expected: tuple[int, ...]
    """The shape that the file must have."""
    into: tuple[int | slice, ...]
    """Where it goes in the block, whose dims are those of the result."""
    order: tuple[int, ...]
    """How the dims of that place are transposed to be those of the file."""


def plan_parts(layout: Layout, ranges: tuple[range, ...]) -> Iterator[FilePart]:
    """Yield what a region of the result takes of each file. Pure.

    Parameters
    ----------
    layout
        How files make up the result.
    ranges
        One ascending range for each dim of the result, none empty.
    """
    dims = layout.dims
    inside = sorted(
        (i for i, d in enumerate(dims) if d.file_dim is not None),
        key=lambda i: dims[i].file_dim or 0,
    )
    kept = sorted(inside)  # a stacked dim is an integer in `into`, and so none of the place's dims
    order = tuple(kept.index(i) for i in inside)
    axes = [(place, d.axis) for place, d in enumerate(dims) if d.axis is not None]
    cell = [0] * layout.cells.ndim
    for parts in itertools.product(
        *(list(_split(d, r)) for d, r in zip(dims, ranges, strict=True))
    ):
        for place, axis in axes:
            cell[axis] = parts[place].position
        yield FilePart(
            row=int(layout.cells[tuple(cell)]),
            region=tuple(parts[i].inside for i in inside),
            expected=tuple(
                n if dims[i].offsets is None else _extent(dims[i], parts[i].position)
                for i, n in zip(inside, layout.file_shape, strict=True)
            ),
            into=tuple(part.out for part in parts),
            order=order,
        )


@dataclass(frozen=True)
class _Part:
    """What an index takes of one position along one dim."""

    position: int
    """Place on the grid axis; 0 where names do not make the dim."""
    inside: range
    """Places inside the file; empty for a dim that names alone make."""
    out: int | slice
    """Where it goes in the result: an integer for a stacked dim."""


def _split(dim: Dim, wanted: range) -> Iterator[_Part]:
    """Yield what *wanted*, which is not empty, takes of each file along *dim*. Pure."""
    if dim.file_dim is None:
        for i, position in enumerate(wanted):
            yield _Part(position, range(0), i)
        return
    if dim.offsets is None:
        yield _Part(0, wanted, slice(None))
        return
    done = 0
    first, last = (bisect_right(dim.offsets, place) - 1 for place in (wanted[0], wanted[-1]))
    for position in range(first, last + 1):
        begin, end = dim.offsets[position : position + 2]
        # the members of an arithmetic progression that lie in [begin, end)
        start = max(wanted.start, begin)
        start += (wanted.start - start) % wanted.step
        inside = range(start - begin, min(end, wanted.stop) - begin, wanted.step)
        if len(inside):
            yield _Part(position, inside, slice(done, done + len(inside)))
            done += len(inside)


def _extent(dim: Dim, position: int) -> int:
    """Return the extent of a file at a position of an extended dim."""
    begin, end = (dim.offsets or ())[position : position + 2]
    return end - begin
