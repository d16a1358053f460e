"""Writes an array as an OME-Zarr: a pyramid, the pyramids of a plate, or a series of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from dask.base import tokenize

from intake_tiffstack.copies.attributes import ARRAY_DIMENSIONS, Coords, checked_dims
from intake_tiffstack.copies.chunk_plan import resolve_chunks
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.record import (
    RECORD,
    CopyImage,
    CopyRecord,
    Origin,
    RecordDraft,
)
from intake_tiffstack.copies.verify import Verify
from intake_tiffstack.errors import OptionError
from intake_tiffstack.export.growth import Growth, find_growth
from intake_tiffstack.export.ome_zarr.axes import NgffAxis
from intake_tiffstack.export.ome_zarr.channels import ChannelDisplay
from intake_tiffstack.export.ome_zarr.documents import Description
from intake_tiffstack.export.ome_zarr.downsample import Method, find_reduce
from intake_tiffstack.export.ome_zarr.images import ImageSet, find_images
from intake_tiffstack.export.ome_zarr.levels import Level, plan_levels, reuse_levels
from intake_tiffstack.export.ome_zarr.metadata import Version
from intake_tiffstack.export.ome_zarr.plan_passes import place_passes, plan_passes
from intake_tiffstack.export.ome_zarr.plates import Present
from intake_tiffstack.export.ome_zarr.zipped import zippable
from intake_tiffstack.export.passes import Pass, Reduce, Source
from intake_tiffstack.export.planned_array import PlannedArray, plan_array
from intake_tiffstack.export.write_copy import find_most_objects, write_copy
from intake_tiffstack.progress import Progress
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.to_json import to_strict_json

__all__ = ["write_ome_zarr"]

_FORMATS: Mapping[Version, Literal[2, 3]] = {"0.4": 2, "0.5": 3, "0.6": 3}


@zippable
def write_ome_zarr(
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
    labels_of: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    version: Version = "0.5",
    zarr_format: Literal[2, 3] | None = None,
    name: str | None = None,
    sel: Mapping[str, Any] | None = None,
    levels: Any = "auto",
    downsample: Method = "mean",
    colors: Sequence[str] | Mapping[str, str] | None = None,
    windows: Sequence[Sequence[float]] | Mapping[str, Sequence[float]] | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | Literal["auto"] | None = "auto",
    compressor: Any = "default",
    append: str | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    resume: bool = True,
    verify: Verify = "sample",
    sha256: bool = False,
    progress: Progress = None,
) -> ExportPlan:
    """Write an array as an OME-Zarr at *url*: one image, a plate, or a series; the root last.

    If *url* ends in ``.ozx``, the OME-Zarr is packed into this one file when it is complete.

    Axes are stored in the order ``t c z y x``. The source is read once:
    levels are made in the same pass as long as a block of ``tiffstack.block_bytes`` holds whole
    chunks of them, later ones from the last level written. Runs, resumes and verifies as
    :func:`~intake_tiffstack.export.write_zarr` does.

    Parameters
    ----------
    source, url, dims, coords, granule, origin, storage_options, compressor, append, dry_run, \
overwrite, resume, verify, sha256, progress
        See :func:`~intake_tiffstack.export.zarr_array.write_zarr`.
    attrs : dict
        Metadata of the pixels: ``scale``, ``translation`` and ``units`` by dim,
        ``time_interval`` in seconds, ``channel_names``, ``channel_colors``; all of them are stored,
        as JSON.
    present : tuple, optional
        Dims, and a boolean array over them: where the source has a file. Images without one are
        left out; None for everywhere.
    labels_of : str, optional
        Path of the image that these are labels of, from here; None for an image.
    pyramid : sequence of Source
        The source at each further level that the files hold, for ``levels="source"``.
    version : {"0.5", "0.4", "0.6"}
        Of OME-Zarr.
    zarr_format : {3, 2}, optional
        Must be that of the version: 3 for 0.5, 2 for 0.4.
    name : str, optional
        Of the image or plate; None for the name of the folder.
    sel : dict, optional
        Dim to the one value of its coordinate (or the position, without one) that is kept.
    levels : object
        ``"auto"``, a number, factors by axis, a list of these (see
        :func:`~intake_tiffstack.export.ome_zarr.levels.plan_levels`), or ``"source"``.
    downsample : {"mean", "nearest", "mode"}
        ``"mean"`` (half a step rounded to even), ``"nearest"``, or ``"mode"`` for labels, which
        also leaves the display settings out.
    colors : sequence of str or dict, optional
        Six hexadecimal digits per channel, or by channel name; None for those of `attrs`, else a
        palette.
    windows : sequence of pairs or dict, optional
        Pixel values shown black and in full colour, per channel or by channel name; None covers
        nearly all pixels of the last level (8-bit RGB: 0 to 255).
    chunks, shards : sequence of int, optional
        Shape of a chunk and of a shard along the stored axes; smaller levels have smaller ones.
        ``shards="auto"`` as :func:`~intake_tiffstack.export.zarr_array.write_zarr` has it, per
        image; None for no shards.

    Returns
    -------
    ExportPlan
        What was written, or would be.

    Raises
    ------
    OptionError
        If an option, dim, coordinate or attribute does not fit.
    TargetExistsError, VerificationError, StorageError
        See :func:`~intake_tiffstack.export.zarr_array.write_zarr`.
    """
    _check_version(version, zarr_format)
    folder, reduce = Folder.at(url, storage_options), find_reduce(downsample)
    sizes = dict(zip(checked_dims(dims, source.shape), source.shape, strict=True))
    images = find_images(sizes, coords, attrs, sel or {}, present, is_free=version == "0.6")
    sources = (source, *pyramid)
    planned = _plan_levels(levels, images, sources)
    growth = None
    if append is not None and not overwrite:
        growth = _find_growth(folder, append, origin, images)
    if growth is not None:
        arrays = _extend_arrays(growth, planned, images)
    else:
        most_objects = find_most_objects(folder, _FORMATS[version])
        arrays = _plan_arrays(
            planned, images.axes, source.dtype, version, chunks, shards, compressor, most_objects
        )
    passes = _plan_passes(planned, arrays, sources, images, reduce, granule)
    if growth is not None:
        passes = [[growth.begun(one_pass) for one_pass in of_image] for of_image in passes]
    record = None
    if origin is not None:
        before = None if growth is None else growth.record
        record = _draft_record(origin, images, source.dtype, sha256, before)
    display = _find_display(images, attrs, source.dtype, colors, windows)
    description = Description(
        version,
        name or _title(folder),
        images,
        planned,
        downsample,
        source.dtype,
        to_strict_json(attrs, "attrs"),
        labels_of,
        None if record is None else record.path,
    )
    # refuses what cannot be stored before anything is written
    document_count = len(description.documents([]))

    def documents(written: Folder) -> dict[str, bytes]:
        if downsample == "mode" or source.dtype.kind == "c":
            return description.documents([])
        last = [of_image[-1].arrays[-1] for of_image in passes]
        return description.documents(display.channels(written, last, images.channel_axis))

    return write_copy(
        folder,
        [one_pass for of_image in passes for one_pass in of_image],
        documents,
        format="ome-zarr",
        document_count=document_count,
        dry_run=dry_run,
        token=tokenize(sources, images.arrangement, images.chosen, planned, downsample),
        overwrite=overwrite,
        resume=resume,
        verify=verify,
        progress=progress,
        record=record,
        growth=growth,
    )


def _array_path(images: ImageSet, level: int) -> str:
    """Return the path of a level of the first image."""
    return f"{images.arrangement.positions[0].path}/{level}".lstrip("/")


def _find_growth(
    folder: Folder, dim: str, origin: Origin | None, images: ImageSet
) -> Growth | None:
    """Return how an OME-Zarr is extended, None if there is none yet."""
    return find_growth(
        folder,
        dim,
        origin,
        images.sizes,
        format="ome-zarr",
        path=_array_path(images, 0),
        axis=_growing_axis(images, dim),
    )


def _extend_arrays(growth: Growth, levels: Sequence[Level], images: ImageSet) -> list[PlannedArray]:
    """Return the array of each level, at its path below an image, stored as it is already."""
    return [
        replace(growth.extended(_array_path(images, i), level.shape, None), path=str(i))
        for i, level in enumerate(levels)
    ]


def _plan_passes(
    levels: Sequence[Level],
    arrays: Sequence[PlannedArray],
    sources: Sequence[Source],
    images: ImageSet,
    reduce: Reduce,
    granule: Sequence[int] | None,
) -> list[list[Pass]]:
    """Return the passes of each image, which are planned once."""
    positions = images.arrangement.positions
    views = [[images.pixels(source, position) for source in sources] for position in positions]
    of_one_image = plan_passes(
        levels,
        arrays,
        views[0],
        reduce,
        granule=images.along_axes(granule or (1,) * len(images.sizes)),
        order=images.order,
        most_bytes=setting_bytes("block_bytes"),
    )
    return [
        place_passes(of_one_image, pixels, position.path)
        for position, pixels in zip(positions, views, strict=True)
    ]


def _draft_record(
    origin: Origin,
    images: ImageSet,
    dtype: np.dtype[Any],
    sha256: bool,
    before: CopyRecord | None,
) -> RecordDraft:
    """Return the audit record.

    It lies inside the first array: Zarr warns of any object in a group that is not a node.
    """
    axes = {axis.name: axis.dim for axis in images.axes}
    shown = [
        CopyImage(position.path, axes, {**images.chosen, **position.chosen})
        for position in images.arrangement.positions
    ]
    path = f"{_array_path(images, 0)}/{RECORD}"
    return RecordDraft(origin, "ome-zarr", images.sizes, dtype, shown, sha256, before, path=path)


def _growing_axis(images: ImageSet, dim: str) -> int:
    """Return the index of the axis that is a dim.

    Raises
    ------
    OptionError
        If no axis of the images is.
    """
    dims = [axis.dim for axis in images.axes]
    if dim not in dims:
        raise OptionError(
            f"append={dim!r}, but an OME-Zarr is extended along an axis of its images: "
            f"{', '.join(dims)}"
        )
    return dims.index(dim)


def _check_version(version: Any, zarr_format: Any) -> None:
    """Raise if the version is unknown, or the Zarr format does not belong to it."""
    if version not in tuple(_FORMATS):  # unhashable values too
        raise OptionError(
            f"version must be '0.6', '0.5' or '0.4' (text; in YAML quoted), but got {version!r}"
        )
    wanted = _FORMATS[version]
    if zarr_format not in (None, wanted):
        raise OptionError(
            f"OME-Zarr {version} is Zarr format {wanted}, but got zarr_format={zarr_format!r}; "
            "leave zarr_format out, or give another version"
        )


def _plan_levels(levels: Any, images: ImageSet, sources: Sequence[Source]) -> tuple[Level, ...]:
    """Return the levels of each image."""
    if not isinstance(levels, str) or levels != "source":
        return plan_levels(levels, images.along_axes(sources[0].shape), images.axes)
    if len(sources) == 1:
        raise OptionError("levels='source', but the files hold no pyramid; levels='auto' makes one")
    return reuse_levels([images.along_axes(array.shape) for array in sources], images.axes)


def _plan_arrays(
    levels: Sequence[Level],
    axes: Sequence[NgffAxis],
    dtype: np.dtype[Any],
    version: Version,
    chunks: Sequence[int] | None,
    shards: Sequence[int] | Literal["auto"] | None,
    compressor: Any,
    most_objects: int | None,
) -> list[PlannedArray]:
    """Return the array of each level, at its path below an image."""
    names = tuple(axis.name for axis in axes)
    shape, itemsize = levels[0].shape, dtype.itemsize
    cut, shard = resolve_chunks(shape, itemsize, names, chunks, shards, most_objects)
    arrays = []
    for i, level in enumerate(levels):
        part = tuple(map(min, cut, level.shape))
        whole = shard and tuple(
            min(s, -(-n // p) * p) // p * p
            for s, n, p in zip(shard, level.shape, part, strict=True)
        )
        arrays.append(
            plan_array(
                path=str(i),
                shape=level.shape,
                dtype=dtype,
                chunks=part,
                shards=whole,
                compressor=compressor,
                zarr_format=_FORMATS[version],
                dims=names,
                attributes={ARRAY_DIMENSIONS: list(names)} if version == "0.4" else {},
                separator="/",
            )
        )
    return arrays


def _find_display(
    images: ImageSet, attrs: Mapping[str, Any], dtype: np.dtype[Any], colors: Any, windows: Any
) -> ChannelDisplay:
    """Return the display settings of the channels."""
    axis = images.channel_axis
    return ChannelDisplay.of(
        images.channel_labels(),
        images.of_channels(attrs.get("channel_names")),
        known_colors=images.of_channels(attrs.get("channel_colors")),
        dtype=dtype,
        colors=colors,
        windows=windows,
        is_rgb=axis is not None and images.axes[axis].dim == "sample",
    )


def _title(folder: Folder) -> str:
    """Return the name of a folder without its suffixes.

    >>> _title(Folder.at("memory://lab/run 7.ome.zarr"))
    'run 7'
    """
    name = folder.url.rpartition("/")[2]
    return name.removesuffix(".zarr").removesuffix(".ome") or "image"
