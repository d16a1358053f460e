"""The images of a collection, with their axes and metadata. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_tiffstack.copies.attributes import OWN_KEY, Coords, encode_coords
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.export.ome_zarr.array_view import ArrayView
from intake_tiffstack.export.ome_zarr.axes import NgffAxis, assign_axes, describe_axes
from intake_tiffstack.export.ome_zarr.coords import image_coords, pick_positions
from intake_tiffstack.export.ome_zarr.plates import (
    Arrangement,
    Position,
    Present,
    arrange_images,
    as_labels,
)
from intake_tiffstack.export.passes import Source
from intake_tiffstack.metadata.units import METRES

__all__ = ["ImageSet", "find_images"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of a collection."""

    sizes: Mapping[str, int]
    """Dims of the collection and their lengths, in its order."""
    axes: tuple[NgffAxis, ...]
    """Of each image, in the order that they are stored."""
    arrangement: Arrangement
    """Their paths, and the pixels of each."""
    chosen: Mapping[str, int]
    """Dims that no image has, with the position chosen for all images."""
    coords: Coords
    """Of the collection."""

    def pixels(self, source: Source, position: Position) -> ArrayView:
        """Return the pixels of an image."""
        dims = list(self.sizes)
        chosen = {**self.chosen, **position.chosen}
        return ArrayView(
            source,
            tuple(dims.index(axis.dim) for axis in self.axes),
            tuple((dims.index(dim), at) for dim, at in chosen.items()),
        )

    def along_axes(self, values: Sequence[int]) -> tuple[int, ...]:
        """Return a value per axis from a value per dim."""
        found = dict(zip(self.sizes, values, strict=True))
        return tuple(found[axis.dim] for axis in self.axes)

    @property
    def order(self) -> list[int]:
        """The axes from the one that varies slowest in the collection, those of a page last."""
        dims = list(self.sizes)
        return sorted(
            range(len(self.axes)),
            key=lambda i: (self.axes[i].name in ("y", "x"), dims.index(self.axes[i].dim)),
        )

    @property
    def channel_axis(self) -> int | None:
        """Index of the channel axis, None if there is none."""
        return next((i for i, axis in enumerate(self.axes) if axis.name == "c"), None)

    def channel_labels(self) -> list[str]:
        """Return the labels of the channels: their coordinate, or their number."""
        dim = self._chosen_channel
        if self.channel_axis is not None:
            dim = self.axes[self.channel_axis].dim
        if dim is None:
            return ["0"]
        values = self.coords[dim][1] if dim in self.coords else range(self.sizes[dim])
        return as_labels(self.of_channels(values))

    def of_channels(self, values: Any) -> Any:
        """Return values per channel of the collection as values per channel of an image.

        Parameters
        ----------
        values : object
            One per channel of the collection, or None.
        """
        dim = self._chosen_channel
        if self.channel_axis is not None or dim is None or values is None:
            return values
        return [values[self.chosen[dim]]] if len(values) == self.sizes[dim] else None

    @property
    def _chosen_channel(self) -> str | None:
        """The dim of channels of which one is chosen."""
        return next((dim for dim in self.chosen if role_of(dim) == Role.CHANNEL), None)

    def shifts(self, position: Position) -> dict[str, float]:
        """Return how far the stage was along each axis of space for an image, in the axis' unit.

        Nothing along axes of which the position or the unit of a pixel is not known, or which have
        an origin already, such as labels, which lie where their image does; or where the planes of
        the image were taken a pixel or more apart. Of a stack the first plane counts along z.
        """
        chosen = {**self.chosen, **position.chosen}
        found = {}
        for axis in self.axes:
            dims, values = self.coords.get(f"stage_{axis.name}_um", (("",), None))
            if axis.translation == 0 and axis.kind == "space" and axis.unit in METRES:
                own = _at(values, dims, chosen, axis.dim)
                shifts = np.ravel(own) * (1e-6 / METRES[axis.unit])
                is_one = bool(np.isfinite(shifts).all() and np.ptp(shifts) < axis.scale)
                if is_one:
                    found[axis.name] = round(float(shifts[0]), 9)
        return found

    def own_attributes(
        self, position: Position, shape: Sequence[int], attrs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the attribute of this package's own that is stored with an image.

        Raises
        ------
        OptionError
            If a coordinate cannot be stored.
        """
        names = {axis.dim: axis.name for axis in self.axes}
        coords = dict(image_coords(self.coords, {**self.chosen, **position.chosen}, names))
        for name, shift in self.shifts(position).items():
            if name in coords:
                dims, values = coords[name]
                coords[name] = dims, np.asarray(values) + shift
        sizes = dict(zip(names.values(), shape, strict=True))
        return {OWN_KEY: {**encode_coords(coords, sizes), "attrs": attrs}}


def _at(values: Any, dims: Sequence[str], chosen: Mapping[str, int], own: str) -> Any:
    """Return the values at the chosen positions, and at the first one along a dim of its own.

    NaN where they descend along that: the image counts upwards.
    """
    if values is None:
        return np.nan
    first, last = (
        np.asarray(values, float)[tuple({own: end, **chosen}.get(dim, slice(None)) for dim in dims)]
        for end in (0, -1)
    )
    return first if (last >= first).all() else np.nan


def find_images(
    sizes: Mapping[str, int],
    coords: Coords,
    attrs: Mapping[str, Any],
    sel: Mapping[str, Any],
    present: Present | None,
    *,
    is_free: bool = False,
) -> ImageSet:
    """Return the images of a collection.

    Parameters
    ----------
    sizes : mapping[str, int]
        Its dims and their lengths.
    coords : Coords
    attrs : mapping of str
        Its coordinates and metadata.
    sel : mapping of str
        Dim to the one value that is kept.
    present : Present, optional
        Where files exist; None for everywhere.
    is_free : bool
        Whether an image has more coordinate systems and kinds of axes, as OME-Zarr 0.6.

    Raises
    ------
    OptionError
        If a dim is not an axis, a well or a position.
    """
    chosen = pick_positions(sel, sizes, coords)
    left = {dim: n for dim, n in sizes.items() if dim not in chosen}
    dims = assign_axes(left, takes_other=is_free)
    extra = {dim: n for dim, n in left.items() if dim not in dims.values()}
    single = {dim for dim, n in extra.items() if n == 1 and role_of(dim) != Role.PLATE}
    chosen |= dict.fromkeys(single, 0)
    extra = {dim: n for dim, n in extra.items() if dim not in single}
    labels = {
        dim: as_labels(coords[dim][1] if dim in coords else range(n)) for dim, n in extra.items()
    }
    return ImageSet(
        sizes=sizes,
        axes=describe_axes(dims, attrs, has_world=is_free),
        arrangement=arrange_images(extra, labels, _narrow(present, chosen)),
        chosen=chosen,
        coords=coords,
    )


def _narrow(present: Present | None, chosen: Mapping[str, int]) -> Present | None:
    """Return where files exist at the chosen positions."""
    if present is None:
        return None
    dims, is_there = present
    kept = tuple(dim for dim in dims if dim not in chosen)
    return kept, is_there[tuple(chosen.get(dim, slice(None)) for dim in dims)]
