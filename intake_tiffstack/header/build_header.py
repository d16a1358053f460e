"""The header of a file: which values of tifffile's series it takes, as plain values."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from intake_tiffstack.errors import UnreadableFileError, UnsupportedFileError
from intake_tiffstack.header.dim_names import name_dims
from intake_tiffstack.header.frames import (
    Frames,
    JoinedFrames,
    RawFrames,
    SegmentedFrames,
    join_frames,
    locate_frames,
)
from intake_tiffstack.header.refused_images import refuse_impossible
from intake_tiffstack.header.series import (
    JOINED,
    Images,
    alike_parts,
    choose_images,
    list_others,
    refuse_cut_chain,
)
from intake_tiffstack.metadata.reader import OpenImage
from intake_tiffstack.metadata.readers.gdal import extract_gdal, read_packing
from intake_tiffstack.structure import Packing, Structure, canonical_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from intake_tiffstack.header.header_bytes import HeaderBytes
    from intake_tiffstack.storage.files import File

__all__ = ["FileToParse", "Header", "build_header"]

MOST_DIMS = 64
"""Of a NumPy array."""

SERIES_DIM = "position"
"""Dim along which ``series="all"`` puts the images of a file."""

_NOT_WALKED = frozenset({"mmstack", "ndtiff"})
"""Kinds of files with an index of pages, by which their chain of pages is not read."""

_COUNTED: Mapping[str, str] = {"ome": "OME series", "mmstack": "the index map"}
"""By kind, what counts the planes of an image, of which some may have no page."""

# tifffile's words for planes that have no page: ours say more.
_ABSENT = re.compile(r"OME series (?:is missing|contains index out of range)|MMStack is missing")

_FRAME_AXES: Mapping[str, int] = {"Z": 1, "Y": 2, "X": 3}


@dataclass(frozen=True, eq=False)
class Header:
    """Structure and segment offsets of one file: what reading a region needs."""

    file: File
    structure: Structure
    frames: Frames
    transform: Any = None
    """Pointwise function of the decoded pixels (MD Gel), else None."""
    notes: tuple[str, ...] = ()
    """What tifffile logged while parsing, and what is wrong between metadata and pages."""
    page: int = 0
    """Index of the series' key frame, whose tags are those of the image."""
    is_single: bool = False
    """Whether more than its tags decides what is in it, its name or a fault of its metadata, so
    that no other file is built like it."""

    def of_twin(self, file: File, frames: Frames | None = None) -> Header:
        """Return the header of a file built like this one, with its own frames if they differ.

        Not by ``dataclasses.replace``, five times as slow, since each small file has one.
        """
        return Header(
            file, self.structure, frames or self.frames, self.transform, self.notes, self.page
        )

    @property
    def nbytes(self) -> int:
        """Bytes this header takes in memory, about."""
        return self.frames.nbytes + 4096


class FileToParse(NamedTuple):
    """A file whose header is wanted, and the bound on what it may declare."""

    file: File
    data: HeaderBytes
    max_image_bytes: int | None
    """Bytes of one decoded page; None for no bound."""


def build_header(
    tif: Any,
    images: Images,
    source: FileToParse,
    notes: list[str],
    series: int | Literal["all"] = 0,
    level: int = 0,
) -> Header:
    """Return the header of the chosen images of an open file."""
    file, data, max_image_bytes = source
    chosen = choose_images(images, series, level, file.url)
    kind = chosen[0].kind
    if len(chosen[0].shape) > MOST_DIMS:
        raise UnsupportedFileError(
            f"{file.url} declares an image of {len(chosen[0].shape):,} dims; NumPy has {MOST_DIMS}",
            url=file.url,
        )
    if kind not in _NOT_WALKED:
        refuse_cut_chain(tif, data, file.url)
    parts = [alike_parts(image, data, file.url) for image in chosen]
    for part, _ in itertools.chain(*parts):
        refuse_impossible(part, file.url, notes, max_image_bytes)
    structure, frames = _locate(chosen, parts, file)
    base = images.base(series).keyframe
    structure = replace(
        structure, others=list_others(images, chosen), packing=_read_packing(tif, base)
    )
    if kind in _COUNTED:
        structure, frames = _without_absent(structure, frames, notes, _COUNTED[kind])
    page = base.treeindex[0]  # a level has the tags of a copy
    return Header(file, structure, frames, chosen[0].transform, tuple(notes), page)


def _read_packing(tif: Any, page: Any) -> Packing:
    """Return how numbers mean values; faults of the tags are warnings of the metadata."""
    tags = extract_gdal(OpenImage(tif, page))
    if tags is None:
        return Packing()
    try:
        return read_packing(tags)
    except (ValueError, SyntaxError):
        return read_packing({**tags, "metadata": None})


def _locate(
    chosen: list[Any], parts: list[list[tuple[Any, list[int]]]], file: File
) -> tuple[Structure, Frames]:
    """Return the structure and the frames of one image, or of several as one."""
    first = chosen[0]
    page_ndim, axes = _align_pages(first, file.url)
    shape, dims = tuple(int(n) for n in first.shape), name_dims(first.axes)
    frames: Frames
    if len(chosen) == len(parts[0]) == 1:
        frames = locate_frames(first, axes, file)
    else:
        inner = math.prod(shape[: len(shape) - page_ndim])
        located = [
            (
                locate_frames(part, _align_pages(part, file.url)[1], file),
                [number * inner + page for page in pages],
                part.keyframe.hash,
            )
            for number, own in enumerate(parts)
            for part, pages in own
        ]
        frames = join_frames(located, shape[len(shape) - page_ndim :])
    if len(chosen) > 1:
        shape, dims = (len(chosen), *shape), (_unused_name(SERIES_DIM, dims), *dims)
    page_shape = shape[len(shape) - page_ndim :]
    one = frames.parts[0] if isinstance(frames, JoinedFrames) else frames
    structure = Structure(
        shape=shape,
        dtype=canonical_dtype(first.dtype),
        dims=dims,
        page_ndim=page_ndim,
        segment_shape=page_shape if isinstance(one, RawFrames) else one.segment_shape(page_shape),
        is_compressed=any(p.keyframe.compression != 1 for p, _ in itertools.chain(*parts)),
        kind=first.kind if len(chosen) == 1 else JOINED,
    )
    return structure, frames


def _unused_name(name: str, dims: tuple[str, ...]) -> str:
    return name if name not in dims else _unused_name(f"{name}_1", dims)


def _without_absent(
    structure: Structure, frames: Frames, notes: list[str], source: str
) -> tuple[Structure, Frames]:
    """Drop the last positions of the outermost dim that have no page, whatever *source* counts.

    Absent planes between those that are there stay, and hold the fill value.
    """
    lead = structure.shape[: -structure.page_ndim]
    if (
        not lead
        or isinstance(frames, JoinedFrames)
        or len(frames.offsets) != math.prod(lead)
        or (frames.offsets != -1).all()
    ):
        return structure, frames
    notes[:] = [note for note in notes if not _ABSENT.search(note)]
    inner = math.prod(lead[1:])
    first = frames.offsets.reshape(math.prod(lead), -1)[:, 0]
    count = int(np.flatnonzero(first != -1)[-1]) // inner + 1
    absent = int((first[: count * inner] == -1).sum())
    if absent:
        notes.append(f"{source} has no page for {absent} of its {count * inner} planes")
    if count == lead[0]:
        return structure, frames
    notes.append(
        f"OME series has {lead[0]} positions along {structure.dims[0]} in the XML, but pages for "
        f"{count}: these are opened"
    )
    kept = slice(count * inner)
    if isinstance(frames, SegmentedFrames):
        tables = None if frames.tables is None else frames.tables[kept]
        frames = replace(
            frames, offsets=frames.offsets[kept], counts=frames.counts[kept], tables=tables
        )
    else:
        frames = replace(frames, offsets=frames.offsets[kept])
    return replace(structure, shape=(count, *structure.shape[1:])), frames


def _align_pages(image: Any, url: str) -> tuple[int, tuple[int, ...] | None]:
    """Return how many trailing dims a page holds, and which of TIFF's five axes they are."""
    keyframe = image.keyframe
    shape, page = image.shape, keyframe.shape
    if shape[len(shape) - len(page) :] == page:
        axes = tuple(
            _FRAME_AXES.get(code, 4 if code == "S" and i else 0)
            for i, code in enumerate(keyframe.axes)
        )
        fits = tuple(keyframe.shaped[i] for i in axes) == page
        return len(page), axes if fits and set(keyframe.axes) <= set("SZYX") else None
    size = math.prod(page)
    for page_ndim in range(1, len(shape) + 1):
        if math.prod(shape[-page_ndim:]) == size:
            return page_ndim, None
    if image.dataoffset is not None:
        return min(2, len(shape)), None
    raise UnreadableFileError(
        f"{url}: pages of {page} cannot make the declared image of {shape}", url=url
    )
