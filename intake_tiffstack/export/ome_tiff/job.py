"""What an OME-TIFF holds: images, levels, tiles, and the bands that are read. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from math import lcm, prod
from typing import Any

from intake_tiffstack.copies.plan import ArrayPlan, ExportPlan
from intake_tiffstack.copies.record import CopyImage
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.ome_tiff.bands import cut_in_order
from intake_tiffstack.export.ome_tiff.metadata import CREATOR
from intake_tiffstack.export.ome_tiff.tiff_file import Compression, TiffFormat, needs_bigtiff
from intake_tiffstack.export.ome_zarr.images import ImageSet
from intake_tiffstack.export.ome_zarr.levels import Level, plan_levels, reuse_levels
from intake_tiffstack.export.passes import Reduce, Source
from intake_tiffstack.export.workers import count_threads
from intake_tiffstack.settings import setting_bytes

__all__ = ["Job", "plan_job"]

AIM_BYTES = 2**25
"""Default size of a band that is read at a time."""


@dataclass(frozen=True, eq=False)
class Job:
    """All images of the file, and how their levels are made."""

    images: ImageSet
    """Axes in the order of the file: samples of RGB last."""
    sources: tuple[Source, ...]
    """The collection, and its levels in the files if those are used."""
    levels: tuple[Level, ...]
    """Of each image, along all axes."""
    bands: tuple[tuple[int, ...], ...]
    """Extent of what is read at a time of each level."""
    reduce: Reduce
    format: TiffFormat

    @property
    def row_axis(self) -> int:
        """Index of the axis y."""
        return len(self.levels[0].shape) - (3 if self.format.is_rgb else 2)

    def record_images(self) -> list[CopyImage]:
        """Return what each image shows of the collection, for the audit record."""
        dims = {axis.name: axis.dim for axis in self.images.axes}
        return [
            CopyImage(str(i), dims, {**self.images.chosen, **position.chosen})
            for i, position in enumerate(self.images.arrangement.positions)
        ]

    def plan(self, url: str, *, has_record: bool) -> ExportPlan:
        """Return what is written."""
        itemsize, count = self.format.dtype.itemsize, len(self.images.arrangement.positions)
        arrays = tuple(
            ArrayPlan(
                path=str(i),
                shape=level.shape,
                dtype=str(self.format.dtype),
                chunks=self.format.tile,
                shards=None,
                count=count,
                objects=count * _count_tiles(level.shape, self.row_axis, self.format.tile),
                nbytes=count * prod(level.shape) * itemsize,
            )
            for i, level in enumerate(self.levels)
        )
        tasks = [
            prod(-(-n // k) for n, k in zip(level.shape, band, strict=True))
            for level, band in zip(self.levels, self.bands, strict=True)
        ]
        threads = self.format.threads
        return ExportPlan(
            url=url,
            format="ome-tiff",
            objects=1 + has_record,
            nbytes=sum(array.nbytes for array in arrays),
            read_nbytes=sum(
                array.nbytes
                for array, level in zip(arrays, self.levels, strict=True)
                if level.source is not None
            ),
            tasks=count * sum(tasks),
            memory=(2 * threads + 1) * max(map(prod, self.bands)) * itemsize,
            workers=threads,
            arrays=arrays,
        )


def plan_job(
    source: Source,
    images: ImageSet,
    pyramid: Sequence[Source],
    *,
    levels: Any,
    reduce: Reduce,
    granule: Sequence[int] | None,
    tile: tuple[int, int],
    compression: Compression,
) -> Job:
    """Return what is written. Pure."""
    at_c = images.channel_axis
    is_rgb = (
        at_c is not None
        and images.axes[at_c].dim == "sample"
        and source.dtype.name in ("uint8", "uint16")
        and images.sizes["sample"] in (3, 4)
    )
    if is_rgb and at_c is not None:
        axes = (*images.axes[:at_c], *images.axes[at_c + 1 :], images.axes[at_c])
        images = replace(images, axes=axes)
    shape = images.along_axes(source.shape)
    row = len(shape) - (3 if is_rgb else 2)
    sources = (source, *_with_equal_planes(images, shape, row, pyramid))
    planned = _plan_levels(levels, images, sources, row)
    dtype = source.dtype.newbyteorder("=")
    count = len(images.arrangement.positions)
    tile_count = sum(_count_tiles(level.shape, row, tile) for level in planned)
    pages = len(planned) * prod(shape[:row])
    nbytes = sum(prod(level.shape) for level in planned) * dtype.itemsize
    rows_at_once = images.along_axes(granule or (1,) * len(images.sizes))[row]
    return Job(
        images=images,
        sources=sources,
        levels=planned,
        bands=tuple(
            _cut(planned, i, dtype.itemsize, tile, rows_at_once, row) for i in range(len(planned))
        ),
        reduce=reduce,
        format=TiffFormat(
            dtype=dtype,
            tile=tile,
            compression=compression,
            is_rgb=is_rgb,
            bigtiff=needs_bigtiff(count * nbytes, count * pages, count * tile_count),
            software=CREATOR,
            threads=count_threads(),
        ),
    )


def _with_equal_planes(
    images: ImageSet, shape: Sequence[int], row: int, pyramid: Sequence[Source]
) -> Iterable[Source]:
    """Return the levels of the files until one differs in more than y and x."""
    return takewhile(
        lambda level: images.along_axes(level.shape)[:row] == tuple(shape[:row]), pyramid
    )


def _plan_levels(
    levels: Any, images: ImageSet, sources: Sequence[Source], row: int
) -> tuple[Level, ...]:
    """Return the levels along all axes; only y and x become smaller."""
    shapes = [images.along_axes(array.shape) for array in sources]
    plane, page = slice(row, row + 2), images.axes[row : row + 2]
    if not isinstance(levels, str) or levels != "source":
        planned = plan_levels(levels, shapes[0][plane], page)
    elif len(sources) == 1:
        raise OptionError("levels='source', but the files hold no pyramid; levels='auto' makes one")
    else:
        planned = reuse_levels([shape[plane] for shape in shapes], page)
    before, after = shapes[0][:row], shapes[0][row + 2 :]
    return tuple(
        replace(
            level,
            shape=(*before, *level.shape, *after),
            factors=(*(1 for _ in before), *level.factors, *(1 for _ in after)),
            total=(*(1 for _ in before), *level.total, *(1 for _ in after)),
        )
        for level in planned
    )


def _cut(
    levels: Sequence[Level],
    index: int,
    itemsize: int,
    tile: tuple[int, int],
    granule: int,
    row: int,
) -> tuple[int, ...]:
    """Return the extent of the bands of a level."""
    level = levels[index]
    unit = tile[0]
    if index + 1 < len(levels):
        unit = lcm(unit, levels[index + 1].factors[row])
    most, row_bytes = setting_bytes("block_bytes"), prod(level.shape[row + 1 :]) * itemsize
    if level.source is not None:
        whole = min(lcm(unit, granule), -(-level.shape[row] // unit) * unit)
        if whole * row_bytes <= most:  # so that what is decoded as one piece is decoded once
            unit = whole
    aim = max(unit * row_bytes, min(AIM_BYTES, most))
    return cut_in_order(level.shape, itemsize, unit=unit, row_axis=row, most_bytes=aim)


def _count_tiles(shape: Sequence[int], row: int, tile: tuple[int, int]) -> int:
    return prod(shape[:row]) * prod(
        -(-n // k) for n, k in zip(shape[row : row + 2], tile, strict=True)
    )
