"""All benchmarks by name, those on the same files next to each other."""

from __future__ import annotations

from benchmarks import (
    clusters,
    distance,
    distance_s3,
    many_files,
    object_store,
    ome_zarr,
    pixels,
    small_files,
    zarr_copy,
    zarr_writing,
)
from benchmarks.case import Case

__all__ = ["CASES"]

CASES: dict[str, Case] = {
    case.name: case
    for module in (
        *(many_files, pixels, small_files, zarr_writing, ome_zarr, zarr_copy),
        *(object_store, distance, distance_s3, clusters),
    )
    for case in module.CASES
}
