"""The heart: an array-like over many files that reads just the bytes an index asks for.

Pure planning, and one call into :mod:`intake_tiffstack.reading` for each file touched. This module
imports neither tifffile nor imagecodecs nor cupy, since a scheduler must be able to unpickle it.
"""

from __future__ import annotations

import itertools
import math
import operator
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import dask.array as da
import numpy as np
from dask.base import tokenize

from intake_tiffstack.device import get_device, require_device
from intake_tiffstack.listing.filesystem import is_local
from intake_tiffstack.settings import setting_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from intake_tiffstack.layout.combining import Dim, Layout
    from intake_tiffstack.listing.filetable import FileTable

__all__ = ["ReadOptions", "StackArray", "to_dask_array"]


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


class StackArray:
    """A collection of files seen as one array; indexing reads, nothing else does.

    Supports NumPy's basic indexing (integers, slices with any step, ``...``, ``None``) and, dim by
    dim, lists of positions. Made by :func:`intake_tiffstack.open_stack`; dask and xarray are the
    ways to use it.

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
    def ndim(self) -> int:
        """How many dims."""
        return len(self.layout.dims)

    @property
    def size(self) -> int:
        """How many pixels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes, decoded."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized array")
        return self.shape[0]

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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the pixels are in files: a copy cannot be avoided")
        host = get_device(self.options.arraytype).to_host(self[...])
        return host if dtype is None else host.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        index = normalize_index(key, self.shape)
        out = get_device(self.options.arraytype).empty_host(
            tuple(len(r) for r in index.ranges), self.dtype
        )
        if out.size:
            self._read_into(out, index.ranges)
        return get_device(self.options.arraytype).to_device(index.finish(out))

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        """Fill *out*, whose dims are in the order of the result, file by file."""
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


# -- indexing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Index:
    """A NumPy index as ascending ranges to read, and what is left to do in memory."""

    ranges: tuple[range, ...]
    """What to read along each dim."""
    after: tuple[Any, ...]
    """One more index for the block read: reverses, drops, picks and new axes."""

    def finish(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return the block as the index asked for it."""
        picks = [i for i, a in enumerate(self.after) if isinstance(a, np.ndarray)]
        for i in picks:
            block = block.take(self.after[i], axis=sum(a is not None for a in self.after[:i]))
        basic = tuple(slice(None) if i in picks else a for i, a in enumerate(self.after))
        return block if all(a == slice(None) for a in basic) else block[basic]


def normalize_index(key: Any, shape: tuple[int, ...]) -> Index:
    """Return an index as ranges to read and an index of what was read. Pure.

    >>> normalize_index((3, slice(None, None, -2)), (5, 4)).ranges
    (range(3, 4), range(1, 4, 2))
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    used = sum(p is not None and p is not Ellipsis for p in parts)
    if used > len(shape):
        raise IndexError(f"too many indices: the array has {len(shape)} dims, {used} were indexed")
    dots = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(parts)
    parts[at : at + 1] = [slice(None)] * (len(shape) - used)
    ranges: list[range] = []
    after: list[Any] = []
    for part in parts:
        if part is None:
            after.append(None)
            continue
        wanted, rest = _normalize_part(part, shape[len(ranges)], len(ranges))
        ranges.append(wanted)
        after.append(rest)
    return Index(tuple(ranges), tuple(after))


def _normalize_part(part: Any, size: int, axis: int) -> tuple[range, Any]:
    """Return the ascending range of one dim, and how to index what it gives."""
    if isinstance(part, slice):
        chosen = range(size)[part]
        if len(chosen) == 0:
            return range(0), slice(None)
        first, last = sorted((chosen[0], chosen[-1]))
        order = slice(None) if chosen.step > 0 else slice(None, None, -1)
        return range(first, last + 1, abs(chosen.step)), order
    if isinstance(part, list) or (isinstance(part, np.ndarray) and part.ndim):
        return _normalize_list(np.asarray(part), size, axis)
    try:
        if isinstance(part, bool):  # an integer to Python, a new axis to NumPy
            raise TypeError
        position = operator.index(part)
    except TypeError:
        raise IndexError(
            f"axis {axis} takes integers, slices or a list of integers, but got {part!r}"
        ) from None
    position = _normalize_integer(position, size, axis)
    return range(position, position + 1), 0


def _normalize_list(positions: NDArray[Any], size: int, axis: int) -> tuple[range, Any]:
    """Return the shortest ascending range that holds all positions, and what to pick of it."""
    if positions.dtype == bool:
        if positions.shape != (size,):
            raise IndexError(f"boolean index of {positions.shape} for axis {axis} of {size}")
        positions = np.flatnonzero(positions)
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        raise IndexError(f"axis {axis} takes integers, slices or a list of integers")
    if not positions.size:
        return range(0), slice(None)
    positions = np.array([_normalize_integer(int(p), size, axis) for p in positions], np.intp)
    low = int(positions.min())
    step = int(np.gcd.reduce(positions - low)) or 1
    return range(low, int(positions.max()) + 1, step), (positions - low) // step


def _normalize_integer(position: int, size: int, axis: int) -> int:
    if not -size <= position < size:
        raise IndexError(f"index {position} is out of bounds for axis {axis} with size {size}")
    return position % size


# -- dask ------------------------------------------------------------------------------------------


def to_dask_array(array: StackArray, chunks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Return the dask array over *array*; nothing is read.

    One Blockwise layer over one shared key, so that the table travels once, and one basic index
    applied directly is pushed into the read. The name is a token of all that decides a pixel,
    chunks and the kind of array too: two arrays of one name would be taken for each other.
    """
    meta = require_device(array.options.arraytype, array.ndim, array.dtype)
    return da.from_array(
        array,
        chunks=chunks,
        name="tiffstack-" + tokenize(array, chunks),
        meta=meta,
        asarray=False,
        inline_array=False,
    )
