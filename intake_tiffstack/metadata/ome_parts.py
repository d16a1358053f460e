"""Which planes of an OME-XML are in which file: the elements TiffData, read. Pure.

References
----------
OME-TIFF specification, https://ome-model.readthedocs.io/en/stable/ome-tiff/specification.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["FileRef", "OwnFile", "Place", "as_index", "expand_part"]

Place = tuple[int, int, int]
"""Time point, channel and z of a plane."""

_MOST_PLANES = 10_000_000


class FileRef(NamedTuple):
    """The file that a TiffData refers to; nothing for the file that has the XML."""

    uuid: str | None = None
    name: str | None = None
    """As written, with or without folders."""

    @property
    def is_here(self) -> bool:
        """Whether it names no other file."""
        return not self.uuid and not self.name


@dataclass(frozen=True)
class OwnFile:
    """How the file that is read is known in an XML."""

    uuid: str | None
    """UUID of the XML's root, None if it has none."""
    name: str
    """Name without its folder, ``""`` if unknown."""

    def find(self, refs: Iterable[FileRef]) -> set[FileRef]:
        """Return which of all references in an XML are to this file.

        Its UUID decides; where no reference has it, the base name does. Where none has that
        either, the file was renamed, and nothing distinguishes it from the others.

        >>> refs = [FileRef("urn:uuid:1", "a.tif"), FileRef("urn:uuid:2", "d/b.tif")]
        >>> OwnFile(None, "b.tif").find(refs)
        {FileRef(uuid='urn:uuid:2', name='d/b.tif')}
        >>> OwnFile("urn:uuid:1", "b.tif").find(refs) == OwnFile(None, "c.tif").find(refs[:1])
        True
        """
        named = {ref for ref in refs if not ref.is_here}
        own = {ref for ref in named if ref.uuid == self.uuid}
        own = own or {ref for ref in named if ref.name and _base(ref.name) == _base(self.name)}
        return own or named


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].casefold()


def as_index(text: str | None) -> int | None:
    """Return an index that counts from 0 as a number, 0 if it is absent; None for other text."""
    if text is None:
        return 0
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def expand_part(
    part: Mapping[str, str], pixels: Mapping[str, str], samples: str | None = None
) -> Iterator[tuple[Place, int]]:
    """Yield the place of each plane of a TiffData, and which page of its file it is.

    Parameters
    ----------
    part, pixels : mapping of str
        Attributes of the TiffData and of its Pixels.
    samples : str, optional
        The attribute SamplesPerPixel of the channels: so many of SizeC are in one plane.

    Raises
    ------
    ValueError
        If an attribute is not a number, or there are more planes than a file can hold.

    Examples
    --------
    >>> sizes = {"DimensionOrder": "XYCZT", "SizeT": "2", "SizeC": "2", "SizeZ": "1"}
    >>> list(expand_part({"FirstC": "1", "IFD": "4", "PlaneCount": "2"}, sizes))
    [((0, 1, 0), 4), ((1, 0, 0), 5)]
    """
    order = "".join(axis for axis in pixels.get("DimensionOrder", "XYCZT") if axis in "TCZ")
    sizes = {axis: as_index(pixels.get(f"Size{axis}", "1")) or 1 for axis in "TCZ"}
    sizes["C"] = max(sizes["C"] // (as_index(samples or "1") or 1), 1)
    first = {axis: as_index(part.get(f"First{axis}")) for axis in "TCZ"}
    page = as_index(part.get("IFD"))
    written = part.get("PlaneCount", part.get("NumPlanes"))
    total = sizes["T"] * sizes["C"] * sizes["Z"]
    count = as_index(written) if written is not None else (1 if "IFD" in part else total)
    numbers = (*first.values(), page, count)
    if sorted(order) != ["C", "T", "Z"] or None in numbers or total > _MOST_PLANES:
        raise ValueError(f"TiffData {dict(part)} gives no planes of {dict(pixels)}")
    start, stride = 0, 1
    strides = {}
    for axis in order:
        sizes[axis] = max(sizes[axis], (first[axis] or 0) + 1)  # some XML leaves the sizes out
        strides[axis] = stride
        start += (first[axis] or 0) * stride
        stride *= sizes[axis]
    for i in range(min(count or 0, stride - start)):
        t, c, z = ((start + i) // strides[axis] % sizes[axis] for axis in "TCZ")
        yield (t, c, z), (page or 0) + i
