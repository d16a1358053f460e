"""Tiles seen as one array: each block reads what it needs of the files that it touches."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.errors import LayoutError
from intake_tiffstack.reading.parts import FilePart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Layout
    from intake_tiffstack.layout.mosaic import Mosaic, Overlap
    from intake_tiffstack.reading.options import ReadOptions
    from intake_tiffstack.reading.region import PartRead
    from intake_tiffstack.storage.files import FileTable

__all__ = ["MosaicArray"]


class MosaicArray(StackArray):
    """A mosaic of files seen as one array; indexing reads, nothing else does.

    Parameters
    ----------
    files : FileTable
        The files, one row each.
    layout : Layout
        The dims; of the files that make one image together its cells hold one.
    options : ReadOptions
        How a file is read.
    mosaic : Mosaic
        Where each file lies.
    nodata : int or float, optional
        Stored number that means no data: where tiles overlap, it gives way to data.
    """

    def __init__(
        self,
        files: FileTable,
        layout: Layout,
        options: ReadOptions,
        mosaic: Mosaic,
        nodata: float | None = None,
    ) -> None:
        super().__init__(files, layout, options)
        self.mosaic = mosaic
        self.nodata = nodata

    def __reduce__(self) -> tuple[Any, ...]:
        _, arguments = super().__reduce__()
        return MosaicArray, (*arguments, self.mosaic, self.nodata)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), repr(self.mosaic), repr(self.nodata))

    def with_options(self, options: ReadOptions) -> MosaicArray:
        """Return the same array, read otherwise."""
        return MosaicArray(self.files, self.layout, options, self.mosaic, self.nodata)

    def side_by_side(self) -> StackArray:
        """Return the same array as files in rows and columns, each along y and x.

        Raises
        ------
        LayoutError
            If tiles overlap, or do not stand in rows and columns.
        """
        tiles, layout = self.mosaic.tiles, self.layout
        edges = [
            sorted({edge for tile in tiles for edge in (tile.y, tile.y + tile.height)}),
            sorted({edge for tile in tiles for edge in (tile.x, tile.x + tile.width)}),
        ]
        place = [{edge: i for i, edge in enumerate(own)} for own in edges]
        lattice = [len(own) - 1 for own in edges]
        cells: NDArray[np.int32] = np.full((layout.cells.size, *lattice), -1, np.int32)
        for tile in tiles:
            y, x = place[0][tile.y], place[1][tile.x]
            is_one = place[0][tile.y + tile.height] == y + 1
            is_one &= place[1][tile.x + tile.width] == x + 1
            if not is_one or cells[tile.cell, y, x] >= 0:
                raise LayoutError(
                    "the tiles of the mosaic overlap, or do not stand in rows and columns, so that "
                    f"chunks of it are not bytes of one file, such as {self.files[tile.row].url}: "
                    "export it as Zarr"
                )
            cells[tile.cell, y, x] = tile.row
        first = layout.cells.ndim
        axes = dict(zip(self.mosaic.dims, ((first, edges[0]), (first + 1, edges[1])), strict=True))
        dims = tuple(
            replace(dim, axis=axes[dim.file_dim][0], offsets=tuple(axes[dim.file_dim][1]))
            if dim.file_dim in axes
            else dim
            for dim in layout.dims
        )
        extent = list(layout.file_shape)
        for axis, n in zip(self.mosaic.dims, (tiles[0].height, tiles[0].width), strict=True):
            extent[axis] = n
        cut = replace(
            layout,
            dims=dims,
            cells=cells.reshape(*layout.cells.shape, *lattice),
            file_shape=tuple(extent),
        )
        return StackArray(self.files, cut, self.options)

    def _read_into(self, out: NDArray[Any], ranges: tuple[range, ...]) -> None:
        """Fill *out*, one image of tiles after the other."""
        dims = self.layout.dims
        stacked = [i for i, dim in enumerate(dims) if dim.file_dim is None]
        kept = [i for i, dim in enumerate(dims) if dim.file_dim is not None]
        inside = sorted(kept, key=lambda i: dims[i].file_dim or 0)
        order = tuple(kept.index(i) for i in inside)
        region = tuple(ranges[i] for i in inside)
        out[...] = self.options.fill_value
        for places in itertools.product(*(enumerate(ranges[i]) for i in stacked)):
            index: list[Any] = [slice(None)] * len(dims)
            cell = [0] * self.layout.cells.ndim
            for i, (place, position) in zip(stacked, places, strict=True):
                index[i] = place
                cell[dims[i].axis or 0] = position
            flat = int(np.ravel_multi_index(cell, self.layout.cells.shape)) if cell else 0
            self._compose(out[(*index, ...)].transpose(order), flat, region)

    def _compose(self, image: NDArray[Any], cell: int, region: tuple[range, ...]) -> None:
        """Fill the region of an image, whose dims are those of the files."""
        y, x = self.mosaic.dims
        parts: list[tuple[slice, ...]] = []
        pixels: list[NDArray[Any]] = []
        reads = []
        for tile in self.mosaic.within(cell, region[y], region[x]):
            lines, own_lines = _cut(region[y], tile.y, tile.height)
            columns, own_columns = _cut(region[x], tile.x, tile.width)
            if not own_lines or not own_columns:  # a step goes over it
                continue
            into: list[Any] = [slice(None)] * image.ndim
            into[y], into[x] = lines, columns
            own, shape = list(region), list(self.layout.file_shape)
            own[y], own[x], shape[y], shape[x] = own_lines, own_columns, tile.height, tile.width
            parts.append(tuple(into))
            place = image[parts[-1]]
            is_alone = self.mosaic.overlap is None
            pixels.append(place if is_alone else np.empty(place.shape, image.dtype))
            part = FilePart(tile.row, tuple(own), tuple(shape), (), ())
            reads.append(self._part_read(part, pixels[-1]))
        self._run(reads)
        if self.mosaic.overlap is not None:
            _merge(image, parts, pixels, self.mosaic.overlap, self.nodata)

    def _part_read(self, part: FilePart, target: NDArray[Any]) -> PartRead:
        from intake_tiffstack.reading.region import PartRead

        return PartRead(self.files, part, target, self.layout, self.options)


def _cut(wanted: range, begin: int, extent: int) -> tuple[slice, range]:
    """Return which places of *wanted* a tile has, and which of its own these are.

    >>> _cut(range(1, 20, 3), 4, 8)
    (slice(1, 4, None), range(0, 8, 3))
    """
    first = max(0, -(-(begin - wanted.start) // wanted.step))
    last = min(len(wanted), -(-(begin + extent - wanted.start) // wanted.step))
    taken = wanted[first:last]
    end = min(taken.stop - begin, extent)
    return slice(first, last), range(taken.start - begin, end, wanted.step)


def _merge(
    image: NDArray[Any],
    parts: list[tuple[slice, ...]],
    pixels: list[NDArray[Any]],
    overlap: Overlap,
    nodata: float | None,
) -> None:
    """Write the pixels of overlapping tiles into their parts of *image*."""
    masks = [_has_data(own, nodata) for own in pixels]
    if overlap in ("last", "first"):
        places = range(len(parts))
        for i in places if overlap == "last" else reversed(places):
            np.copyto(image[parts[i]], pixels[i], where=masks[i])
        return
    seen = np.zeros(image.shape, np.int32)
    if overlap == "max":
        for part, own, mask in zip(parts, pixels, masks, strict=True):
            target = image[part]
            np.copyto(target, own, where=mask & ((seen[part] == 0) | (own > target)))
            seen[part] += mask
        return
    sums = np.zeros(image.shape, np.complex128 if image.dtype.kind == "c" else np.float64)
    for part, own, mask in zip(parts, pixels, masks, strict=True):
        np.add(sums[part], own, out=sums[part], where=mask)
        seen[part] += mask
    mean = np.divide(sums, seen, out=sums, where=seen > 0)
    if image.dtype.kind in "iu":
        mean = np.rint(mean)
    np.copyto(image, mean.astype(image.dtype), where=seen > 0)


def _has_data(pixels: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    has: NDArray[np.bool_] = (
        ~np.isnan(pixels) if pixels.dtype.kind in "fc" else np.ones(pixels.shape, bool)
    )
    return has if nodata is None else has & (pixels != nodata)
