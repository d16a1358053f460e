"""All documents of an OME-Zarr except those of its arrays: images, wells, plate, series. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_tiffstack.copies.attributes import OWN_KEY
from intake_tiffstack.copies.record import OWN_PATH
from intake_tiffstack.export.ome_zarr.images import ImageSet
from intake_tiffstack.export.ome_zarr.levels import Level
from intake_tiffstack.export.ome_zarr.metadata import (
    Channel,
    Version,
    group_documents,
    image_attributes,
    plate_attributes,
    series_attributes,
    series_xml,
    well_attributes,
)
from intake_tiffstack.export.ome_zarr.systems import find_world

__all__ = ["Description"]


@dataclass(frozen=True, eq=False)
class Description:
    """The content of the documents."""

    version: Version
    name: str
    """Of the whole."""
    images: ImageSet
    levels: tuple[Level, ...]
    method: str
    """Downsampling method of the levels."""
    dtype: np.dtype[Any]
    """Of a pixel."""
    attrs: Mapping[str, Any]
    """Metadata of the pixels, as JSON; stored once, at the root."""
    labels_of: str | None = None
    """Path of the image that these are labels of."""
    record_path: str | None = None
    """Of the audit record, if there is one."""

    def documents(self, channels: Sequence[Channel]) -> dict[str, bytes]:
        """Return name and content of each document.

        Parameters
        ----------
        channels : sequence of Channel
            Display settings of each, the same in all images.
        """
        found: dict[str, bytes] = {}
        groups = {"": {OWN_KEY: {"version": 1, "coords": {}, "attrs": self.attrs}}}
        if self.images.arrangement.plate is not None:
            groups[""] |= plate_attributes(self.version, self.images.arrangement.plate, self.name)
            for well in self.images.arrangement.plate.wells:
                groups[well.path.partition("/")[0]] = {}
                groups[well.path] = well_attributes(self.version, well.fields)
        elif not self.images.arrangement.is_single:
            paths = [position.path for position in self.images.arrangement.positions]
            for path, attributes in series_attributes(self.version, paths).items():
                groups[path] = groups.get(path, {}) | attributes
            xml = self._series_xml()
            found |= {} if xml is None else {"OME/METADATA.ome.xml": xml}
        images = image_attributes(
            self.version,
            names=self._names,
            shifts=[self.images.shifts(p) for p in self.images.arrangement.positions],
            axes=self.images.axes,
            levels=self.levels,
            method=self.method,
            channels=channels,
            labels_of=self.labels_of,
            world=find_world(self.images.axes, self.attrs) if self.version == "0.6" else None,
        )
        for position, attributes in zip(self.images.arrangement.positions, images, strict=True):
            attrs = {} if position.path else self.attrs
            own = self.images.own_attributes(position, self.levels[0].shape, attrs)
            groups[position.path] = {**attributes, **own}
        if self.record_path is not None:
            groups[""][OWN_KEY] |= {OWN_PATH: self.record_path}
        for path, attributes in groups.items():
            found |= group_documents(self.version, path, attributes)
        return found

    @property
    def _names(self) -> list[str]:
        return [position.name or self.name for position in self.images.arrangement.positions]

    def _series_xml(self) -> bytes | None:
        sizes = {
            axis.name: n for axis, n in zip(self.images.axes, self.levels[0].shape, strict=True)
        }
        return series_xml(self._names, sizes, self.dtype, self.images.channel_labels())
