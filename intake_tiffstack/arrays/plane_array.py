"""The planes of a set of files seen as one array, whichever file each is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.layout.model import Dim, Layout
from intake_tiffstack.reading.parts import FilePart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intake_tiffstack.layout.planes import PlaneMap
    from intake_tiffstack.reading.options import ReadOptions
    from intake_tiffstack.storage.files import FileTable

__all__ = ["PlaneArray"]


class PlaneArray(StackArray):
    """A set of files seen as one array; indexing reads, nothing else does.

    Parameters
    ----------
    files : FileTable
        The files, one row each.
    layout : Layout
        The dims: those of planes first inside of the one file that stands for the set, then those
        of a page.
    options : ReadOptions
        How a file is read.
    planes : PlaneMap
        Where each plane is.
    """

    def __init__(
        self, files: FileTable, layout: Layout, options: ReadOptions, planes: PlaneMap
    ) -> None:
        super().__init__(files, layout, options)
        self.planes = planes

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments = super().__reduce__()
        return PlaneArray, (*arguments, self.planes)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        planes = self.planes
        return (
            *super().__dask_tokenize__(),
            planes.rows.shape,
            planes.rows.tobytes(),
            planes.pages.tobytes(),
        )

    def with_options(self, options: ReadOptions) -> PlaneArray:
        """Return the same array, read otherwise."""
        return PlaneArray(self.files, self.layout, options, self.planes)

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        """Fill *out*, each run of pages of a file at once."""
        from intake_tiffstack.reading.region import PartRead

        layout = self.layout
        order = np.argsort([dim.file_dim or 0 for dim in layout.dims])
        image = out.transpose(order)
        wanted = [ranges[i] for i in order]
        lead = self.planes.rows.ndim
        page = layout.file_shape[lead:]
        files = _layout_of_pages(layout, lead)
        image[...] = self.options.fill_value
        reads = []
        for run in self.planes.runs(wanted[:lead]):
            part = FilePart(
                row=run.row,
                region=(run.pages, *wanted[lead:]),
                expected=(self.planes.counts[run.row], *page),
                into=(),
                order=(),
            )
            reads.append(PartRead(self.files, part, image[run.into], files, self.options))
        self._run(reads)


def _layout_of_pages(layout: Layout, lead: int) -> Layout:
    """Return the layout of one file of the set: its pages, whatever planes they are."""
    names = ("page", *layout.file_dims[lead:])
    shape = (1, *layout.file_shape[lead:])
    return Layout(
        dims=tuple(
            Dim(name, n, file_dim=i) for i, (name, n) in enumerate(zip(names, shape, strict=True))
        ),
        cells=np.zeros((), np.int32),
        file_dims=names,
        file_shape=shape,
        dtype=layout.dtype,
        coords={},
    )
