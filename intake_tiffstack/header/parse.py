"""From tifffile's classes to the plain values of a :class:`Header`."""

from __future__ import annotations

import itertools
import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.codecs import find_codec
from intake_tiffstack.errors import (
    TiffStackError,
    TooLargeError,
    UnreadableFileError,
    UnsupportedFileError,
)
from intake_tiffstack.header.dim_names import name_dims
from intake_tiffstack.header.frames import (
    Frames,
    JoinedFrames,
    RawFrames,
    SegmentedFrames,
    join_frames,
    locate_frames,
)
from intake_tiffstack.header.header_bytes import HeaderBytes, open_header
from intake_tiffstack.header.own_ome import own_part_of_set
from intake_tiffstack.header.raw_metadata import extract_metadata
from intake_tiffstack.header.series import (
    JOINED,
    Images,
    alike_parts,
    choose_images,
    count_pages_without_series,
    find_images,
    list_others,
    refuse_cut_chain,
)
from intake_tiffstack.header.tiff_file import (
    FILE_FAULTS,
    METADATA_KINDS,
    advice_for,
    file_faults_named,
    open_tiff,
    short_text,
)
from intake_tiffstack.metadata.reader import OpenImage
from intake_tiffstack.metadata.readers.gdal import extract_gdal, read_packing
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.urls import is_local, split_chain
from intake_tiffstack.structure import Packing, Structure, canonical_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from intake_tiffstack.metadata.reader import RawMetadata
    from intake_tiffstack.storage.files import File

__all__ = ["Header", "read_header"]

MOST_DIMS = 64
"""Of a NumPy array."""

EXPANSION_SLACK = 64  # bytes: the bounds are for long runs, a tiny segment may round up

SERIES_DIM = "position"
"""Dim along which ``series="all"`` puts the images of a file."""

_NOT_WALKED = frozenset({"mmstack", "ndtiff"})
"""Kinds of files with an index of their own, whose chain of pages nobody reads."""

_COUNTED: Mapping[str, str] = {"ome": "OME series", "mmstack": "the index map"}
"""By kind, what counts the planes of an image, of which some may have no page."""

# tifffile's words for planes that have no page: ours say more.
_ABSENT = re.compile(r"OME series (?:is missing|contains index out of range)|MMStack is missing")

_FRAME_AXES: Mapping[str, int] = {"Z": 1, "Y": 2, "X": 3}


_MOST_ALONG = 2**27
"""Pixels along one side of a page: a hundred times what the largest scans have."""


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


def read_header(
    file: File,
    *,
    storage_options: Mapping[str, Any] | None = None,
    series: int | Literal["all", "pages"] = 0,
    level: int = 0,
    max_image_bytes: int | None = None,
    data: HeaderBytes | None = None,
    keep_metadata: Callable[[RawMetadata, int], None] | None = None,
) -> Header:
    """Return the structure of a file and the offsets of its segments; no pixel is read.

    Parameters
    ----------
    file : File
        The file as it was listed.
    storage_options : mapping, optional
        Passed to fsspec for a remote file.
    series : int, "all" or "pages"
        Which image series; ``"all"`` takes all that are like the first, along a dim of their own;
        ``"pages"`` takes the pages as they are, whatever the metadata make of them.
    level : int
        Which level of the pyramid.
    max_image_bytes : int, optional
        Refuse a page that declares more bytes than this, decoded; None for no bound.
    data : HeaderBytes, optional
        Reads the file, for a caller that has read from it or wants to know what was read.
    keep_metadata : callable, optional
        Called with the image's raw metadata and the index of its key frame if this parse has them
        at hand, so that the file is not parsed again for them.

    Raises
    ------
    UnreadableFileError
        If the file is not a TIFF, is truncated or corrupt, or has a segment outside the file.
    UnsupportedFileError
        If the decoders do not know its compression, sample format or layout.
    TooLargeError
        If it declares more pixels than the codec can produce, or than `max_image_bytes`.
    FileChangedError
        If the file was removed after it was listed.
    OptionError
        If there is no such series or level.
    """
    if data is None:
        data = open_header(file, storage_options)
    try:
        return _read_images(file, data, series, level, max_image_bytes, keep_metadata)
    except UnreadableFileError as exc:
        is_refused = type(exc) is not UnreadableFileError  # too large, changed, not supported
        if is_refused or series != 0 or level:
            raise
        header = _read_pages(file, data, max_image_bytes, exc)
        if header is None:
            raise
        return header


def _read_images(
    file: File,
    data: HeaderBytes,
    series: int | Literal["all", "pages"],
    level: int,
    max_image_bytes: int | None,
    keep_metadata: Callable[[RawMetadata, int], None] | None,
) -> Header:
    """Return the header of the chosen images, as the metadata of the file make them."""
    is_pages = series == "pages"
    opened = open_tiff(data, file.url, pages_alone=is_pages)
    with opened as (tif, notes), file_faults_named(file.url):
        n_notes = len(notes)
        chosen: int | Literal["all"] = 0 if series == "pages" else series
        _refuse_false_map(tif)
        is_by_name = _settle_ome(tif, data, notes, file.url)
        images = find_images(tif, data)
        left_over = 0 if level else count_pages_without_series(tif, images, data)
        alone = _read_alone(file, data, max_image_bytes) if left_over > 0 else None
        if alone is not None and _is_one_image(images, alone):
            note = f"{_count_note(images, left_over)}; its pages are opened as they are"
            header = replace(alone, notes=(note, *alone.notes))
        else:
            header = _make_header(tif, images, file, data, notes, chosen, level, max_image_bytes)
            if alone is not None:
                header = _with_left_over(header, alone, _count_note(images, left_over))
        if is_by_name:
            header = replace(header, is_single=True)
        # What is logged on the way to the series belongs to the header: such a file is opened again
        # for its metadata. So is a remote one without OME-XML, whose tags may cost requests.
        if keep_metadata and len(notes) == n_notes and (tif.is_ome or is_local(file.url)):
            with data.aside(), suppress(TiffStackError):  # else whoever wants them meets the fault
                key_frame = _base(images, chosen).keyframe
                raw = extract_metadata(OpenImage(tif, key_frame), notes, file.url)
                if data.error is None:
                    keep_metadata(raw, header.page)
    return header


def _read_pages(
    file: File, data: HeaderBytes, max_image_bytes: int | None, fault: UnreadableFileError
) -> Header | None:
    """Return the header of the pages as they are, where metadata make no image of them.

    None for a file without such metadata, and for pages that cannot be read either.
    """
    opened = open_tiff(data, file.url, pages_alone=True)
    try:
        with data.aside(), opened as (tif, notes), file_faults_named(file.url):
            kinds = (*METADATA_KINDS, "micromanager")
            kind = next((k for k in kinds if getattr(tif.pages.first, f"is_{k}", False)), None)
            if kind is None:
                return None
            images = find_images(tif, data)
            header = _make_header(tif, images, file, data, notes, 0, 0, max_image_bytes)
    except UnreadableFileError:
        return None
    why = fault.message.removeprefix(hide_in_text(file.url)).partition("; ")[0]
    why = why.removeprefix(" cannot be read as TIFF").lstrip(": ")
    note = f"the pages are opened as they are, since {kind} metadata make no image of them: {why}"
    return replace(header, notes=(note, *header.notes), is_single=True)


def _is_one_image(images: Images, alone: Header) -> bool:
    """Whether all pages are one image: they win over what the metadata count."""
    return len(images.numbered) == 1 and math.prod(alone.structure.shape) > images.numbered[0].size


def _read_alone(file: File, data: HeaderBytes, max_image_bytes: int | None) -> Header:
    """Return the header of the pages of a file whose metadata leave pages out."""
    with data.aside(), open_tiff(data, file.url) as (tif, notes), file_faults_named(file.url):
        tif.is_ome = tif.is_imagej = False
        return _make_header(tif, find_images(tif, data), file, data, notes, 0, 0, max_image_bytes)


def _count_note(images: Images, left_over: int) -> str:
    first = images.numbered[0]
    source = "OME series" if first.kind == "ome" else "ImageJ's description"
    planes = sum(image.size // math.prod(image.keyframe.shape) for image in images.numbered)
    return f"{source} expected {planes} frames, got {planes + left_over}"


def _with_left_over(header: Header, alone: Header, note: str) -> Header:
    """Return the header with the images that its metadata leave out: thumbnails, appended pages."""
    structure = header.structure
    others = tuple(
        replace(other, index=None)
        for other in alone.structure.others
        if (other.shape[-2:], other.dtype) != (structure.shape[-2:], str(structure.dtype))
    )
    structure = replace(structure, others=(*structure.others, *others))
    return replace(
        header,
        structure=structure,
        notes=("; ".join([note, *(o.describe() for o in others)]), *header.notes),
    )


def _make_header(
    tif: Any,
    images: Images,
    file: File,
    data: HeaderBytes,
    notes: list[str],
    series: int | Literal["all"],
    level: int,
    max_image_bytes: int | None,
) -> Header:
    """Return the header of the chosen images of an open file."""
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
        _refuse_impossible(part, file.url, notes, max_image_bytes)
    structure, frames = _locate(chosen, parts, file)
    base = _base(images, series).keyframe
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


def _base(images: Images, series: int | Literal["all"]) -> Any:
    return images.numbered[0 if series == "all" else series]


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


_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^<>]*>")
_PLANES = re.compile(r"\bSize[ZCT]=[\"'](\d{1,99})[\"']")
_COUNTS = re.compile(r"<(?:\w+:)?TiffData\b[^<>]*?\s(?:PlaneCount|NumPlanes)=[\"'](\d{1,99})[\"']")
MOST_PLANES = 10_000_000
_DIRECTORY = 162
"""Bytes of a directory of Micro-Manager's, which its pixels follow."""

MOST_SPREAD = 1000
"""Places of a grid per plane that is there, beyond which an index is no acquisition."""


def _settle_ome(tif: Any, data: HeaderBytes, notes: list[str], url: str) -> bool:
    """Let OME-XML be about this file alone, and the pages speak where no series can be made of it.

    Returns whether the file's name decides which planes are its own. OME-XML goes before the JSON
    of tifffile, which some programs leave beside it. tifffile makes a list of all planes that the
    XML claims before it looks at the pages.
    """
    if not tif.is_ome:
        return False
    xml = tif.ome_metadata or ""
    if "<!ENTITY" in xml:
        notes.append("OME series is not read: the XML declares entities")
        tif.is_ome = False
        return False
    claimed = [int(n) for n in _COUNTS.findall(xml)] + [
        math.prod(int(n) for n in _PLANES.findall(pixels)) for pixels in _PIXELS.findall(xml)
    ]
    if max(claimed, default=0) > MOST_PLANES:
        notes.append(f"OME series is not read: the XML claims {max(claimed):,} planes")
        tif.is_ome = False
        return False
    is_shaped = tif.is_shaped
    try:
        own = own_part_of_set(xml, split_chain(url)[0].rpartition("/")[2])
        if own is not None:
            tif._omexml = own.xml
        if is_shaped and "Pixels" in xml:
            tif.is_shaped = False
        find_images(tif, data)
    except FILE_FAULTS as exc:
        notes.append(f"OME series cannot be made of the XML: {short_text(exc)}")
        tif.is_ome, tif.is_shaped = False, is_shaped
        return False
    return own is not None and own.is_by_name


def _refuse_false_map(tif: Any) -> None:
    """Raise ValueError where Micro-Manager's index map cannot be that of the pages.

    tifffile makes a list of all positions between the first and the last that the map names, and
    takes the pixels of each page to begin where they do behind a directory of 13 tags.
    """
    if not tif.is_mmstack:
        return
    places = (tif.micromanager_metadata or {}).get("IndexMap", np.empty((0, 5)))[:, :4]
    if not len(places):
        return
    extents = (places.max(0) - places.min(0) + 1).tolist()
    if math.prod(map(int, extents)) > min(MOST_SPREAD * len(places), MOST_PLANES):
        raise ValueError(f"the index map puts {len(places):,} planes on a grid of {extents}")
    first = tif.pages.first
    if first.dataoffsets[:1] != (first.offset + _DIRECTORY,):
        raise ValueError("the pixels are elsewhere than Micro-Manager writes them")


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


_BYTE_STREAMS = frozenset({1, 5, 8, 32946, 32773, 50000, 34925})
"""Compressions that know nothing of pixels: none, LZW, Deflate, PackBits, zstd, LZMA."""


def _refuse_subsampled(keyframe: Any, url: str) -> None:
    """Raise for YCbCr of which one pair of chroma samples serves several pixels.

    Codecs of images such as JPEG decode it; what TIFF itself stores (section 21 of TIFF 6.0) would
    be read as wrong pixels or as a file that is too short.
    """
    if int(keyframe.photometric) != 6 or int(keyframe.compression) not in _BYTE_STREAMS:
        return
    found = keyframe.tags.valueof(530)
    factors = (2, 2) if found is None else tuple(map(int, found))
    is_plain = int(keyframe.compression) == 1
    if is_plain and sum(keyframe.databytecounts) >= math.prod(keyframe.shape):
        return  # the samples are all there, whatever the tag or its default says
    if factors != (1, 1) and (found is not None or is_plain):
        raise UnsupportedFileError(
            f"{url}: YCbCr with chroma subsampling {factors} that is not JPEG is not supported; "
            "convert the file to RGB, for example with libtiff's tiff2rgba",
            url=url,
        )


def _refuse_impossible(image: Any, url: str, notes: list[str], limit: int | None) -> None:
    """Raise for an image that is empty, of no known dtype, or larger than it can be."""
    keyframe = image.keyframe
    said = f" ({notes[0]})" if notes else ""
    if image.dtype is None or keyframe.dtype is None:
        raise UnsupportedFileError(
            f"{url}: sample format {keyframe.sampleformat} with {keyframe.bitspersample} bits is "
            f"not supported{said}",
            url=url,
        )
    _refuse_subsampled(keyframe, url)
    extents = (*image.shape, *keyframe.shaped, keyframe.samplesperpixel)
    if not image.shape or any(n < 1 or n != int(n) for n in extents):  # a tag may hold a float
        raise UnreadableFileError(
            f"{url} declares an empty image of shape {image.shape}{said}; {advice_for(url)}",
            url=url,
        )
    nbytes = math.prod(keyframe.shape) * keyframe.dtype.itemsize
    if limit is not None and nbytes > limit:
        raise TooLargeError(
            f"{url}: one page declares {nbytes:,} bytes, more than max_image_bytes ({limit:,}); "
            "raise tiffstack.max_image_bytes in dask's config if that is true",
            url=url,
        )
    codec = find_codec(int(keyframe.compression))
    stored = sum(keyframe.databytecounts)
    bits = keyframe.bitspersample
    bits = bits if isinstance(bits, int) else min(bits)
    packed = math.prod(keyframe.shape) * bits // 8
    present = sum(count > 0 for count in keyframe.databytecounts)
    absent = len(keyframe.databytecounts) - present
    if absent:
        segment = math.prod(keyframe.chunks) * bits // 8
        # a tile is whole beyond the edge of the page, the last strip is shorter than the others
        packed = min(packed, present * segment) if keyframe.is_tiled else packed - absent * segment
    most = None if codec.max_expansion is None else (stored + EXPANSION_SLACK) * codec.max_expansion
    if most is not None and stored > 0 and packed > most:
        raise TooLargeError(
            f"{url}: a page of {nbytes:,} bytes cannot come from {stored:,} bytes of "
            f"{codec.name}; {advice_for(url)}",
            url=url,
        )
    if max(keyframe.shape) > _MOST_ALONG:  # positions along a dim take 8 bytes each
        raise TooLargeError(
            f"{url}: one page declares {max(keyframe.shape):,} pixels along one side, more than "
            f"{_MOST_ALONG:,}; {advice_for(url)}",
            url=url,
        )
