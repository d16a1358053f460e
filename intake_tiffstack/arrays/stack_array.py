"""An array over many files that reads only the bytes an index asks for.

Pure planning, and one call into :mod:`intake_tiffstack.reading` for each file touched. This module
imports neither tifffile nor imagecodecs nor cupy, since a scheduler must be able to unpickle it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from intake_tiffstack.arrays.lazy_array import LazyArray
from intake_tiffstack.reading.options import ReadOptions
from intake_tiffstack.reading.parts import plan_parts
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Layout
    from intake_tiffstack.reading.region import PartRead
    from intake_tiffstack.storage.files import FileTable

__all__ = ["StackArray"]


class StackArray(LazyArray):
    """A collection of files seen as one array; indexing reads, nothing else does.

    Made by :func:`intake_tiffstack.open_stack`; dask and xarray are the ways to use it.

    Parameters
    ----------
    files : FileTable
        The files, one row each.
    layout : Layout
        How they make up the result.
    options : ReadOptions
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
            layout.cells,
            layout.file_dims,
            layout.file_shape,
            str(layout.dtype),
            repr(self.options),
        )

    @property
    def ctimes(self) -> NDArray[np.int64] | None:
        """When each file changed, in ns since 1970."""
        return self.files.ctimes

    def on_host(self) -> StackArray:
        """Return the same array with NumPy blocks."""
        return self.with_options(replace(self.options, arraytype="numpy"))

    def with_options(self, options: ReadOptions) -> StackArray:
        """Return the same array, read otherwise."""
        return StackArray(self.files, self.layout, options)

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        """Fill *out*: local files one after the other, remote ones together."""
        self._run(self._reads(out, ranges))  # one by one: thousands at once wake the collector

    def _reads(self, out: NDArray[Any], ranges: tuple[range, ...]) -> Iterator[PartRead]:
        """Yield the reads that fill *out*; places without a file are filled meanwhile."""
        # imported here: a scheduler needs this class, and has neither tifffile nor imagecodecs
        from intake_tiffstack.reading.region import PartRead

        for part in plan_parts(self.layout, ranges):
            target = out[part.into].transpose(part.order)
            if part.row < 0:
                target[...] = self.options.fill_value
            else:
                yield PartRead(self.files, part, target, self.layout, self.options)

    def _run(self, reads: Iterable[PartRead]) -> None:
        """Read local files one after the other, small ones in groups, remote ones together."""
        from intake_tiffstack.reading.small_files import read_small_files

        remote = []
        for read in read_small_files(self.files, reads, self.options.reader):
            # threads would only queue for this machine's own files
            if is_local(self.files.urls[read.part.row]):
                read.run()
            else:
                remote.append(read)
        if remote:
            from intake_tiffstack.reading.together import read_together

            read_together(remote, self.options.reader)
