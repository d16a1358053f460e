"""Reads a written OME-TIFF back as any TIFF, and compares it with its source."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.collection.examination import Examination
from intake_tiffstack.collection.open import open_collection
from intake_tiffstack.copies.record import Verified
from intake_tiffstack.copies.verify import SAMPLES
from intake_tiffstack.errors import TiffStackError, VerificationError
from intake_tiffstack.export.ome_tiff.bands import find_bands
from intake_tiffstack.export.ome_tiff.job import Job
from intake_tiffstack.export.ome_zarr.levels import Level
from intake_tiffstack.export.planned_array import Slices
from intake_tiffstack.options import Options

__all__ = ["verify_file"]


def verify_file(path: str, url: str, job: Job, verify: Literal["sample", "all"]) -> Verified:
    """Read the file back as any TIFF, compare some or all of it, and return how much it was.

    Raises
    ------
    VerificationError
        If a region differs, or the file does not open.
    """
    positions = job.images.arrangement.positions
    numbers = range(len(positions))
    if verify == "sample":
        numbers = sorted({int(n) for n in np.linspace(0, len(positions) - 1, SAMPLES)})  # type: ignore[assignment]
    count = nbytes = 0
    for number in numbers:
        views = [job.images.pixels(source, positions[number]) for source in job.sources]
        before: Any = None
        for i, level in enumerate(job.levels):
            try:
                written = _Written.open(path, number, i, job)
                for region in _regions(job, i, verify):
                    expected = _expected(job, level, region, views, before)
                    found = written.read(region)
                    if found.tobytes() != np.ascontiguousarray(expected).tobytes():
                        raise _differing(url, number, i, region)
                    count, nbytes = count + 1, nbytes + found.nbytes
            except VerificationError:
                raise
            except TiffStackError as exc:
                raise VerificationError(f"{url} does not read back: {exc}", url=url) from exc
            before = written
    return Verified(verify, count, nbytes)


def _expected(
    job: Job, level: Level, region: Slices, views: Sequence[Any], before: Any
) -> NDArray[Any]:
    """Return what a region of a level must hold."""
    if level.source is not None:
        return np.asarray(views[level.source][region], dtype=job.format.dtype)
    wider = tuple(
        slice(s.start * f, min(s.stop * f, n))
        for s, f, n in zip(region, level.factors, before.shape, strict=True)
    )
    return job.reduce(before.read(wider), level.factors)


def _regions(job: Job, index: int, verify: Literal["sample", "all"]) -> Iterator[Slices]:
    """Yield the regions of a level that are compared."""
    shape, row, tile = job.levels[index].shape, job.row_axis, job.format.tile
    if verify == "all":
        yield from find_bands(shape, job.bands[index])
        return
    parts = (
        [1] * row
        + [min(k, n) for k, n in zip(tile, shape[row:], strict=False)]
        + list(shape[row + 2 :])
    )
    counts = [-(-n // k) for n, k in zip(shape, parts, strict=True)]
    for number in sorted({int(n) for n in np.linspace(0, prod(counts) - 1, SAMPLES)}):
        at = np.unravel_index(number, counts)
        yield tuple(
            slice(int(i) * k, min((int(i) + 1) * k, n))
            for i, k, n in zip(at, parts, shape, strict=True)
        )


@dataclass(frozen=True)
class _Written:
    """One level of an image of the file, opened as any TIFF."""

    array: Any
    dims: tuple[str, ...]
    """Its dims; those of one position may be absent."""
    names: tuple[str, ...]
    """The dims that were written."""
    shape: tuple[int, ...]

    @classmethod
    def open(cls, path: str, series: int, level: int, job: Job) -> Self:
        """Return a level of an image."""
        options = Options.parse({"urlpath": path, "series": series, "level": level})
        with warnings.catch_warnings():  # of the other images in the file
            warnings.simplefilter("ignore")
            opened = open_collection(Examination(options))
        names = [axis.name for axis in job.images.axes]
        if job.format.is_rgb:
            names[-1] = "sample"
        shape = job.levels[level].shape
        dims = opened.layout.names
        sizes = {n: k for n, k in zip(names, shape, strict=True) if k > 1 or n in dims}
        if dict(zip(dims, opened.array.shape, strict=True)) != sizes:
            raise VerificationError(
                f"{path} reads back as {dims} of {opened.array.shape}, but {sizes} was written"
            )
        return cls(opened.array.on_host(), dims, tuple(names), shape)

    def read(self, region: Slices) -> NDArray[Any]:
        """Return a region with all dims."""
        by_name = dict(zip(self.names, region, strict=True))
        block = np.asarray(self.array[tuple(by_name[dim] for dim in self.dims)])
        order = [self.dims.index(name) for name in self.names if name in self.dims]
        found = block.transpose(order).reshape([s.stop - s.start for s in region])
        return np.ascontiguousarray(found)


def _differing(url: str, image: int, level: int, region: Slices) -> VerificationError:
    where = ", ".join(f"{s.start}:{s.stop}" for s in region)
    return VerificationError(
        f"{url}: the region [{where}] of level {level} of image {image} does not read back as it "
        "was written; nothing is left there",
        url=url,
    )
