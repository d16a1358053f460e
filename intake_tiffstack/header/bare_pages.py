"""The pages of a file as they are, where its metadata make no image of them, or leave some out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from intake_tiffstack.errors import UnreadableFileError
from intake_tiffstack.header.build_header import FileToParse, Header, build_header
from intake_tiffstack.header.series import Images, find_images
from intake_tiffstack.header.tiff_file import METADATA_KINDS, file_faults_named, open_tiff
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.header.header_bytes import HeaderBytes

__all__ = ["BarePages", "note_fallback", "read_despite", "read_left_over"]


def read_despite(fault: UnreadableFileError, source: FileToParse) -> Header | None:
    """Return the header of the pages of a file whose metadata make no image of them.

    None for a file without such metadata, and for pages that cannot be read either.
    """
    file, data, _ = source
    opened = open_tiff(data, file.url, pages_alone=True)
    try:
        with data.aside(), opened as (tif, notes), file_faults_named(file.url):
            kinds = (*METADATA_KINDS, "micromanager")
            kind = next((k for k in kinds if getattr(tif.pages.first, f"is_{k}", False)), None)
            if kind is None:
                return None
            header = build_header(tif, find_images(tif, data), source, notes)
    except UnreadableFileError:
        return None
    why = fault.message.removeprefix(hide_in_text(file.url)).partition("; ")[0]
    why = why.removeprefix(" cannot be read as TIFF").lstrip(": ")
    return replace(header, notes=(_AS_THEY_ARE.format(kind, why), *header.notes), is_single=True)


_AS_THEY_ARE = "the pages are opened as they are, since {} metadata make no image of them: {}"


def note_fallback(tif: Any, images: Images, notes: Sequence[str]) -> list[str]:
    """Return a sentence if tifffile itself took the pages as they are, despite their metadata.

    Not of OME-XML, whose faults are named where it is read, nor of ImageJ, whose stacks are often
    split into files of one page that still count all.
    """
    if not images.numbered or images.numbered[0].kind != "generic":
        return []
    kind = next((k for k in METADATA_KINDS if getattr(tif, f"is_{k}", False)), "ome")
    why = notes[-1].rpartition("'> ")[2] if notes else "tifffile does not say why"
    return [] if kind in ("ome", "imagej") else [_AS_THEY_ARE.format(kind, why)]


class BarePages(NamedTuple):
    """All pages of a file whose metadata leave some of them out."""

    header: Header
    are_one_image: bool
    """Whether all pages are one image: they win over what the metadata count."""
    count_note: str

    def instead(self) -> Header:
        """Return the header of all pages, in place of what the metadata make of them."""
        note = f"{self.count_note}; its pages are opened as they are"
        return replace(self.header, notes=(note, *self.header.notes))

    def listed_in(self, header: Header) -> Header:
        """Return a header that lists the images left out: thumbnails, appended pages."""
        structure = header.structure
        others = tuple(
            replace(other, index=None)
            for other in self.header.structure.others
            if (other.shape[-2:], other.dtype) != (structure.shape[-2:], str(structure.dtype))
        )
        return replace(
            header,
            structure=replace(structure, others=(*structure.others, *others)),
            notes=("; ".join([self.count_note, *(o.describe() for o in others)]), *header.notes),
        )


def read_left_over(tif: Any, images: Images, source: FileToParse) -> BarePages | None:
    """Return all pages of an open file if its metadata leave some out, else None."""
    file, data, _ = source
    left_over = _count_pages_without_series(tif, images, data)
    if left_over <= 0:
        return None
    with data.aside(), open_tiff(data, file.url) as (bare, notes), file_faults_named(file.url):
        bare.is_ome = bare.is_imagej = False
        header = build_header(bare, find_images(bare, data), source, notes)
    first = images.numbered[0]
    is_one = len(images.numbered) == 1 and math.prod(header.structure.shape) > first.size
    origin = "OME series" if first.kind == "ome" else "ImageJ's description"
    planes = sum(image.size // math.prod(image.keyframe.shape) for image in images.numbered)
    note = f"{origin} expected {planes} frames, got {planes + left_over}"
    return BarePages(header, is_one, note)


def _count_pages_without_series(tif: Any, images: Images, data: HeaderBytes) -> int:
    """Return how many pages an OME-XML or ImageJ's description leaves out."""
    numbered = images.numbered
    kind = numbered[0].kind if numbered else ""
    if kind == "ome":
        used = {page.offset for image in numbered for page in image.pages if page is not None}
        return len(tif.pages) - len(used)
    if kind == "imagej" and tif.pages.is_multipage:
        with data.aside():  # other files have as many pages where all else is equal
            planes = numbered[0].size // math.prod(numbered[0].keyframe.shape)
            return int(len(tif.pages) - planes)
    return 0
