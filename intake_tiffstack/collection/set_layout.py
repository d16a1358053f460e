"""The array that the planes of a set make: its layout, and the file and page of each plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.model import FileSet
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import (
    LayoutError,
    MissingFilesError,
    OptionError,
    warn,
)
from intake_tiffstack.formatting import few
from intake_tiffstack.layout.combine import combine
from intake_tiffstack.layout.planes import PlaneMap
from intake_tiffstack.metadata.describe_file import describe_file
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from intake_tiffstack.collection.model import HeadersRead
    from intake_tiffstack.layout.model import Grid, Layout
    from intake_tiffstack.metadata.model import FileMetadata
    from intake_tiffstack.metadata.ome_parts import FileRef
    from intake_tiffstack.metadata.ome_set import SetImage
    from intake_tiffstack.options import Options
    from intake_tiffstack.structure import Structure

__all__ = ["PlacedSet", "build_set"]

_POSITION = "position"
"""Dim of the images of a set with ``series="all"``."""


@dataclass(frozen=True, eq=False)
class PlacedSet:
    """The array that a set makes."""

    layout: Layout
    planes: PlaneMap
    described: Mapping[int, FileMetadata]
    """Metadata of the array, by the row that stands for it."""
    absent: tuple[str, ...]

    def describe(self) -> str:
        """Return what a report says of it."""
        holes = int((self.planes.rows < 0).sum())
        text = f"{self.planes.rows.size:,} planes in {len(self.planes.counts):,} files"
        text += f"; {holes:,} planes in no file" if holes else ""
        return text + (f"; absent: {few(self.absent, 4)}" if self.absent else "")


def build_set(
    found: FileSet, grid: Grid, headers: HeadersRead, options: Options, paths: Sequence[str]
) -> PlacedSet:
    """Return the array of the planes of a set.

    Parameters
    ----------
    found : FileSet
    grid : Grid
        The files along one axis.
    headers : HeadersRead
        The structure of each file, as pages.
    options : Options
    paths : sequence of str
        Where each row is, for errors.

    Raises
    ------
    LayoutError
        If the pages of the files differ in shape or dtype.
    MissingFilesError
        If planes are in no file and ``missing`` is ``"raise"``.
    OptionError
        If there is no such series, or ``missing`` is ``"trim"``.
    """
    if options.missing == "trim":
        raise OptionError("a set takes missing='raise', 'fill' or 'mask', but got missing='trim'")
    first = int(grid.rows[0])
    template = headers.structures[first]
    counts = _count_pages(headers.structures, first, paths)
    _warn_of_cut_index(found, counts, paths)
    images = _chosen(found.images, options.series)
    lead, planes = _without_single(images, _locate(images, found.rows, counts))
    is_hole = planes.rows < 0
    if options.missing == "raise" and is_hole.any():
        raise MissingFilesError(_describe_holes(planes, lead, found.absent))
    whole = replace(
        template,
        shape=(*is_hole.shape, *template.page_shape),
        dims=(*lead, *template.dims[-template.page_ndim :]),
        kind="ome",
        others=(),
    )
    own_coords = images[0].coords
    layout = combine(
        replace(grid, axes=(), cells=np.array(first, np.int32)),
        {first: whole},
        paths=paths,
        dims=options.dims,
        coords={dim: own_coords[dim] for dim in lead if dim in own_coords} | options.coords,
        sizes=options.sizes,
        missing="raise",
    )
    if options.missing == "mask":
        layout = replace(layout, coords={**layout.coords, "is_missing": (lead, is_hole)})
    described = describe_file(
        found.metadata,
        whole.dims,
        whole.shape,
        url=hide_in_text(found.home),
        series=options.series if isinstance(options.series, int) else 0,
    )
    described = _in_order_of(own_coords, _with_records(described, lead, found.along))
    return PlacedSet(layout, planes, {first: described}, found.absent)


def _warn_of_cut_index(found: FileSet, counts: Sequence[int], paths: Sequence[str]) -> None:
    """Warn of pages that the index does not list: both grow, and a crash cuts the index."""
    for row, count in found.pages.items():
        if counts[row] > count:
            warn(
                f"{hide_in_text(found.home)} knows {count:,} of the {counts[row]:,} pages of "
                f"{hide_in_text(paths[row])}: those at the end are left out"
            )


def _without_single(
    images: Sequence[SetImage], planes: PlaneMap
) -> tuple[tuple[str, ...], PlaneMap]:
    """Return the dims of the planes that have several positions, and the planes along these."""
    names = (_POSITION, *images[0].dims) if len(images) > 1 else images[0].dims
    lead = tuple(name for name, n in zip(names, planes.rows.shape, strict=True) if n > 1)
    shape = tuple(n for n in planes.rows.shape if n > 1)
    return lead, replace(planes, rows=planes.rows.reshape(shape), pages=planes.pages.reshape(shape))


def _with_records(
    described: FileMetadata, dims: Sequence[str], along: Mapping[str, Mapping[str, Any]]
) -> FileMetadata:
    """Return metadata with what planes record of stage, times and heights."""
    found: dict[str, Any] = {"stage": dict(described.stage)}
    known = dict(described.provenance)
    for dim in dims:
        role, records = role_of(dim), along.get(dim, {})
        for key, values in records.items():
            if role is Role.TIME:
                found["times"], name = tuple(value / 1e3 for value in values), "times"
            elif role is Role.Z:
                found["heights"], name = values, "heights"
            else:
                letter = key[0].lower()
                found["stage"][letter], name = values, f"stage.{letter}"
            known[name] = f"{key} of planes"
    return replace(described, **found, provenance=known)


def _in_order_of(coords: Mapping[str, Sequence[Any]], described: FileMetadata) -> FileMetadata:
    """Return metadata with channels in the order of their names along the dim of channels.

    Nothing of channels where the index names others than the metadata.
    """
    names = next((own for dim, own in coords.items() if role_of(dim) is Role.CHANNEL), ())
    known = described.channels.get("channel_names", ())
    if not names or not all(isinstance(name, str) for name in names):
        return described
    order = [known.index(name) for name in names if name in known]
    fits = len(order) == len(names)
    channels = {
        key: tuple(values[i] for i in order)
        for key, values in described.channels.items()
        if fits and len(values) == len(known)
    }
    return replace(described, channels=channels)


def _count_pages(
    structures: Mapping[int, Structure], first: int, paths: Sequence[str]
) -> tuple[int, ...]:
    """Return how many pages each file has; these must be alike."""
    template = structures[first]
    counts = [0] * len(paths)
    for row in range(len(paths)):
        own = structures.get(row)
        if own is None:
            continue  # it cannot be read, and is filled
        kind = own.page_shape, own.dtype
        if kind != (template.page_shape, template.dtype):
            raise LayoutError(
                f"the files of the set are not alike: {paths[first]} is {template.describe()}, but "
                f"{paths[row]} is {own.describe()}"
            )
        counts[row] = int(np.prod(own.shape[: -own.page_ndim], dtype=int))
    return tuple(counts)


def _chosen(images: tuple[SetImage, ...], series: int | str) -> tuple[SetImage, ...]:
    """Return the images that ``series`` means; warns of others if it is not given."""
    if isinstance(series, int) and series >= len(images):
        raise OptionError(f"series={series}, but the set has {len(images)} images")
    if isinstance(series, int):
        if series == 0 and len(images) > 1:
            warn(
                f"the set has {len(images) - 1:,} more images that are not opened: "
                f"{few([image.name for image in images[1:]], 4)}; the option series chooses "
                "another one, series='all' takes all that are like the first"
            )
        return (images[series],)
    first = images[0]
    return tuple(im for im in images if (im.dims, im.shape) == (first.dims, first.shape))


def _locate(
    images: Sequence[SetImage], rows: Mapping[FileRef, int], counts: Sequence[int]
) -> PlaneMap:
    """Return where each plane is, without trailing positions that the files never had.

    Programs write the length that they planned, and an acquisition may end early.
    """
    lead = () if len(images) == 1 else (len(images),)
    shape = (*lead, *images[0].shape)
    table, pages = np.full(shape, -1, np.int32), np.zeros(shape, np.int64)
    is_due = np.zeros(shape, bool)
    for number, image in enumerate(images):
        for place, (ref, page) in image.planes.items():
            at = (number, *place) if lead else place
            row = rows.get(ref)
            is_due[at] = row is None
            if row is not None and page < max(counts[row], 0):
                table[at], pages[at] = row, page
    axis = len(lead)
    is_due |= table >= 0
    others = tuple(i for i in range(len(shape)) if i != axis)
    used = np.flatnonzero(is_due.any(axis=others))
    if not len(used):
        raise LayoutError("the set has no plane in any of its files")
    if not shape:  # a single plane
        return PlaneMap(table, pages, tuple(counts))
    end = int(used[-1]) + 1
    if end < shape[axis]:
        warn(
            f"the OME-XML has {shape[axis]} positions along {images[0].dims[0]}, but pages for "
            f"{end}: these are opened"
        )
    kept = (*(slice(None),) * axis, slice(end))
    return PlaneMap(table[kept], pages[kept], tuple(counts))


def _describe_holes(planes: PlaneMap, dims: Sequence[str], absent: Sequence[str]) -> str:
    holes = np.argwhere(planes.rows < 0)
    first = ", ".join(f"{dim}={i}" for dim, i in zip(dims, holes[0].tolist(), strict=True))
    why = f"; absent: {few(absent, 4)}" if absent else ""
    return (
        f"{len(holes):,} of {planes.rows.size:,} planes of the set are in no file, the first at "
        f"{first or 'the only place'}{why}. Put the files back, or open the rest by missing='fill' "
        "or 'mask'"
    )
