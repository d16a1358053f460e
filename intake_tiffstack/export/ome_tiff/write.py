"""A collection to one OME-TIFF: streamed, tiled, with a pyramid."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.copies.attributes import Coords, checked_dims
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.record import Origin, RecordDraft, Verified
from intake_tiffstack.copies.verify import Verify
from intake_tiffstack.errors import OptionError, warn
from intake_tiffstack.export.ome_tiff.bands import find_bands, split_into_tiles
from intake_tiffstack.export.ome_tiff.check import verify_file
from intake_tiffstack.export.ome_tiff.job import Job, plan_job
from intake_tiffstack.export.ome_tiff.metadata import check_dtype, image_metadata
from intake_tiffstack.export.ome_tiff.target import Target
from intake_tiffstack.export.ome_tiff.tiff_file import Compression, TiffOutput
from intake_tiffstack.export.ome_zarr.downsample import Method, find_reduce
from intake_tiffstack.export.ome_zarr.images import ImageSet, find_images
from intake_tiffstack.export.ome_zarr.levels import Level
from intake_tiffstack.export.ome_zarr.plates import Position, Present
from intake_tiffstack.export.passes import Reduce, Source
from intake_tiffstack.export.planned_array import Slices
from intake_tiffstack.metadata.units import METRES
from intake_tiffstack.progress import Advance, Progress, reported
from intake_tiffstack.structure import Packing
from intake_tiffstack.to_json import to_strict_json

__all__ = ["write_ome_tiff"]

_NOT_IN_OME = ("crs", "affine", *Packing.KEYS)

T = TypeVar("T")
R = TypeVar("R")


def write_ome_tiff(
    source: Source,
    url: str | os.PathLike[str],
    *,
    dims: Sequence[str],
    coords: Coords,
    attrs: Mapping[str, Any],
    granule: Sequence[int] | None = None,
    present: Present | None = None,
    pyramid: Sequence[Source] = (),
    origin: Origin | None = None,
    storage_options: Mapping[str, Any] | None = None,
    name: str | None = None,
    sel: Mapping[str, Any] | None = None,
    levels: Any = "auto",
    downsample: Method = "mean",
    tile: int | Sequence[int] = 512,
    compression: Compression = "zlib",
    dry_run: bool = False,
    overwrite: bool = False,
    verify: Verify = "sample",
    sha256: bool = False,
    progress: Progress = None,
) -> ExportPlan:
    """Write an array as one OME-TIFF, band by band; its name appears when it is complete.

    Runs on threads of this process. Each pixel of the source is read once; a smaller level is kept
    in a temporary file, uncompressed, until it is written. A remote file is written to a temporary
    local file first.

    Parameters
    ----------
    source, dims, coords, granule, origin, storage_options, sha256, progress
        See :func:`~intake_tiffstack.export.zarr_array.write_zarr`.
    url : str or path
        Of the file, which ends in ``.ome.tif`` or another suffix of TIFF.
    attrs, present, pyramid, sel, downsample
        See :func:`~intake_tiffstack.export.ome_zarr.write.write_ome_zarr`.
    name : str, optional
        Of the image; None for the name of the file.
    levels : object
        As for OME-Zarr, but that only y and x become smaller.
    tile : int or sequence of int
        Height and width of a tile, or both; multiples of 16.
    compression : {"zlib", "lzw", "zstd"} or None
        Lossless; integers with the horizontal predictor. Old readers do not know zstd.
    dry_run : bool
        Whether to return the plan and write nothing.
    overwrite : bool
        Whether an existing file is replaced, once the new one is complete.
    verify : {"sample", "all", False}
        Whether a few tiles of each level, all, or none are read back and compared.

    Returns
    -------
    ExportPlan
        What was written, or would be.

    Raises
    ------
    OptionError
        If the name is not that of a TIFF, OME-TIFF has no such pixels, or an option, dim,
        coordinate or attribute does not fit.
    TargetExistsError
        If something exists at *url* that must not be replaced.
    VerificationError
        If a tile does not read back as it was written; nothing is at *url* then.
    StorageError
        If the file cannot be written; nothing new is at *url* then.
    """
    target = Target.at(url, storage_options)
    check_dtype(source.dtype)
    sizes = dict(zip(checked_dims(dims, source.shape), source.shape, strict=True))
    job = plan_job(
        source,
        find_images(sizes, coords, attrs, sel or {}, present),
        pyramid,
        levels=levels,
        reduce=find_reduce(downsample),
        granule=granule,
        tile=_read_tile(tile),
        compression=compression,
    )
    described = _describe_images(job, attrs, name or target.title)
    if lost := [key for key in _NOT_IN_OME if attrs.get(key) is not None]:
        warn(
            f"OME-TIFF has no place for {', '.join(lost)}, which stand in an annotation that no "
            "program reads; export as 'zarr' or 'ome-zarr' to keep their meaning"
        )
    target.refuse(source, overwrite=overwrite)
    plan = job.plan(target.folder.url, has_record=origin is not None)
    if dry_run:
        return plan
    verified = Verified(False)
    with target.new_file(overwrite=overwrite) as path:
        with reported(progress, plan.read_nbytes, title="export", unit="B") as advance:
            _write_images(path, job, described, advance)
        if verify:
            verified = verify_file(path, target.folder.url, job, verify)
        record = None
        if origin is not None:
            shown = job.record_images()
            draft = RecordDraft(origin, "ome-tiff", sizes, source.dtype, shown, sha256)
            record = draft.finish(verified)
    if record is not None:
        target.write_record(record)
    return plan


def _describe_images(job: Job, attrs: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the OME metadata of each image; the first has all that *attrs* holds."""
    kept = to_strict_json(attrs, "attrs")
    return [
        image_metadata(
            job.images,
            position,
            job.levels[0].shape,
            name=position.name or name,
            is_rgb=job.format.is_rgb,
            attrs=attrs,
            kept={} if i else kept,
        )
        for i, position in enumerate(job.images.arrangement.positions)
    ]


def _read_tile(tile: Any) -> tuple[int, int]:
    """Return height and width of a tile.

    Raises
    ------
    OptionError
        If they are not multiples of 16, as TIFF demands.
    """
    pair = (tile, tile) if isinstance(tile, int) else tuple(tile)
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 and n % 16 == 0 for n in pair):
        raise OptionError(
            f"tile must be one or two multiples of 16 (height and width), but got {tile!r}"
        )
    return int(pair[0]), int(pair[1])


# -- writing -------------------------------------------------------------------------------------


def _write_images(
    path: str, job: Job, described: Sequence[Mapping[str, Any]], advance: Advance
) -> None:
    """Write a file of all images."""
    positions = job.images.arrangement.positions
    with (
        TiffOutput(path, job.format) as tiff,
        ThreadPoolExecutor(job.format.threads) as executor,
    ):
        for position, metadata in zip(positions, described, strict=True):
            _write_image(tiff, job, position, metadata, executor, advance, path)


def _write_image(
    tiff: TiffOutput,
    job: Job,
    position: Position,
    metadata: Mapping[str, Any],
    executor: ThreadPoolExecutor,
    advance: Advance,
    path: str,
) -> None:
    """Write all levels of an image, each made while the one before is written."""
    views = [job.images.pixels(source, position) for source in job.sources]
    scratch: Any = None
    for i, (level, band) in enumerate(zip(job.levels, job.bands, strict=True)):
        pixels = scratch if level.source is None else views[level.source]
        smaller = job.levels[i + 1] if i + 1 < len(job.levels) else None
        scratch = None
        if smaller is not None and smaller.source is None:
            scratch = _new_scratch(smaller.shape, job.format.dtype, path)
        shrink = _Shrink(pixels, scratch, smaller, job.reduce)
        count = advance if level.source is not None else None
        blocks = _read_ahead(
            shrink, find_bands(level.shape, band), executor, ahead=job.format.threads
        )
        tiff.write_level(
            _tiles_of(blocks, job, count),
            level.shape,
            metadata=None if i else metadata,
            smaller_count=0 if i else len(job.levels) - 1,
            resolution=_resolution(job.images, level),
        )


@dataclass(frozen=True)
class _Shrink:
    """Reads a band and makes that of the next level."""

    pixels: Any
    scratch: Any
    """What the next level is written to; None if it is not made of this one."""
    smaller: Level | None
    reduce: Reduce

    def __call__(self, region: Slices) -> NDArray[Any]:
        block = np.asarray(self.pixels[region])
        if self.scratch is not None and self.smaller is not None:
            factors = self.smaller.factors
            into = tuple(
                slice(s.start // f, -(-s.stop // f)) for s, f in zip(region, factors, strict=True)
            )
            self.scratch[into] = self.reduce(block, factors)
        return block


def _new_scratch(shape: Sequence[int], dtype: np.dtype[Any], path: str) -> Any:
    """Return an array in a temporary file beside *path*, which goes with the array."""
    with tempfile.TemporaryFile(dir=os.path.dirname(path)) as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=tuple(shape))


def _read_ahead(
    function: Callable[[T], R], items: Iterable[T], executor: ThreadPoolExecutor, *, ahead: int
) -> Iterator[R]:
    """Yield ``function(item)`` in order, with so many items in work."""
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _tiles_of(
    blocks: Iterator[NDArray[Any]], job: Job, advance: Advance | None
) -> Iterator[NDArray[Any]]:
    for block in blocks:
        if advance is not None:
            advance(block.nbytes)  # tifffile does not come back once it has the last tile
        yield from split_into_tiles(block, job.format.tile, job.row_axis)


def _resolution(images: ImageSet, level: Level) -> tuple[float, float] | None:
    """Return the pixels per centimetre along x and y, None if unknown."""
    found = {}
    for axis, total in zip(images.axes, level.total, strict=True):
        if axis.name in ("y", "x") and axis.unit in METRES:
            found[axis.name] = 0.01 / (axis.scale * METRES[axis.unit] * total)
    if found.keys() != {"y", "x"} or not all(2**-31 < n < 2**31 for n in found.values()):
        return None
    return found["x"], found["y"]
