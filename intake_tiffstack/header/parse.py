"""From tifffile's classes to the plain values of a :class:`Header`."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.codecs import find_codec
from intake_tiffstack.errors import (
    OptionError,
    TiffStackError,
    TooLargeError,
    UnreadableFileError,
    UnsupportedFileError,
)
from intake_tiffstack.header.dim_names import name_dims
from intake_tiffstack.header.frames import RawFrames, SegmentedFrames, locate_frames
from intake_tiffstack.header.header_bytes import HeaderBytes, open_header
from intake_tiffstack.header.raw_metadata import extract_metadata
from intake_tiffstack.header.tiff_file import (
    FILE_FAULTS,
    advice_for,
    file_faults_named,
    open_tiff,
    short_text,
)
from intake_tiffstack.metadata.reader import OpenImage
from intake_tiffstack.storage.urls import is_local
from intake_tiffstack.structure import Structure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from intake_tiffstack.metadata.reader import RawMetadata
    from intake_tiffstack.storage.files import File

__all__ = ["Header", "read_header"]

EXPANSION_SLACK = 64  # bytes: the bounds are for long runs, a tiny segment may round up

_FRAME_AXES: Mapping[str, int] = {"Z": 1, "Y": 2, "X": 3}


@dataclass(frozen=True, eq=False)
class Header:
    """Structure and segment offsets of one file: what reading a region needs."""

    file: File
    structure: Structure
    frames: RawFrames | SegmentedFrames
    transform: Any = None
    """Pointwise function of the decoded pixels (MD Gel), else None."""
    notes: tuple[str, ...] = ()
    """What tifffile logged while parsing."""
    page: int = 0
    """Index of the series' key frame, whose tags are those of the image."""

    def of_twin(self, file: File, frames: RawFrames | SegmentedFrames | None = None) -> Header:
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
    series: int = 0,
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
    series, level : int
        Which image series, and which level of its pyramid.
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
    header = _parse(file, data, series, level, max_image_bytes, keep_metadata=keep_metadata)
    cut_off = next((note for note in header.notes if _CUT_OFF.search(note)), None)
    if cut_off is None or series or level:
        return header
    alone = _parse(file, data, series, level, max_image_bytes, is_ome=False)
    if math.prod(alone.structure.shape) <= math.prod(header.structure.shape):
        return header  # what is left over is not a plane but a thumbnail
    return replace(alone, notes=(f"{cut_off}; its pages are opened as they are", *alone.notes))


# How tifffile logs that the XML counts fewer planes than the file has pages, or more.
_CUT_OFF = re.compile(r"OME series expected \d+ frames, got")
_ABSENT = re.compile(r"OME series (?:is missing|contains index out of range)")


def _parse(
    file: File,
    data: HeaderBytes,
    series: int,
    level: int,
    max_image_bytes: int | None,
    *,
    is_ome: bool = True,
    keep_metadata: Callable[[RawMetadata, int], None] | None = None,
) -> Header:
    """Return the header as :func:`read_header` does, or of the pages alone."""
    with open_tiff(data, file.url) as (tif, notes), file_faults_named(file.url):
        n_notes = len(notes)
        if is_ome:
            _drop_bad_ome(tif, notes)
        else:
            tif.is_ome = False
        image = _choose_series(tif, series, level, file.url)
        _refuse_cut_chain(notes, file.url)
        page_ndim, axes = _align_pages(image, file.url)
        keyframe = image.keyframe
        _refuse_impossible(image, file.url, notes, max_image_bytes)
        frames = locate_frames(image, axes, file)
        page_shape = tuple(int(n) for n in image.shape[-page_ndim:])
        structure = Structure(
            shape=tuple(int(n) for n in image.shape),
            dtype=np.dtype(image.dtype).newbyteorder("="),
            dims=name_dims(image.axes),
            page_ndim=page_ndim,
            segment_shape=page_shape
            if isinstance(frames, RawFrames)
            else frames.segment_shape(page_shape),
            is_compressed=keyframe.compression != 1,
            kind=image.kind,
        )
        if image.kind == "ome" and any(_ABSENT.search(note) for note in notes):
            structure, frames = _without_absent(structure, frames, notes)
        key_frame = tif.series[series].keyframe  # a level's own has the tags of a copy
        page = key_frame.treeindex[0]
        header = Header(file, structure, frames, image.transform, tuple(notes), page)
        # What is logged on the way to the series belongs to the header: such a file is opened again
        # for its metadata. So is a remote one without OME-XML, whose tags may cost requests.
        if keep_metadata and len(notes) == n_notes and (tif.is_ome or is_local(file.url)):
            with data.aside(), suppress(TiffStackError):  # else whoever wants them meets the fault
                raw = extract_metadata(OpenImage(tif, key_frame), notes, file.url)
                if data.error is None:
                    keep_metadata(raw, page)
        return header


def _without_absent(
    structure: Structure, frames: RawFrames | SegmentedFrames, notes: list[str]
) -> tuple[Structure, RawFrames | SegmentedFrames]:
    """Drop the last positions of the outermost dim that have no page, whatever the XML counts.

    Absent planes between those that are there stay, and are 0.
    """
    lead = structure.shape[: -structure.page_ndim]
    if not lead or len(frames.offsets) != math.prod(lead):
        return structure, frames
    inner = math.prod(lead[1:])
    first = frames.offsets.reshape(math.prod(lead), -1)[:, 0]
    count = int(np.flatnonzero(first != -1)[-1]) // inner + 1
    if count == lead[0]:
        return structure, frames
    notes[:] = [note for note in notes if not _ABSENT.search(note)]
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


_CUT_CHAIN = re.compile(r"invalid (?:page offset|offset to page)")


def _refuse_cut_chain(notes: list[str], url: str) -> None:
    """Raise where the chain of pages leads out of the file: tifffile goes on with those before."""
    for note in notes:
        if _CUT_CHAIN.search(note):
            raise UnreadableFileError(
                f"{url} is truncated or corrupt: the page after the last that can be read lies "
                f"outside of it ({note}); copy it again, or leave it out with `exclude`",
                url=url,
            )


_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^<>]*>")
_PLANES = re.compile(r"\bSize[ZCT]=[\"'](\d{1,99})[\"']")
_COUNTS = re.compile(r"<(?:\w+:)?TiffData\b[^<>]*?\s(?:PlaneCount|NumPlanes)=[\"'](\d{1,99})[\"']")
MOST_PLANES = 10_000_000


def _drop_bad_ome(tif: Any, notes: list[str]) -> None:
    """Let the pages speak for themselves where no series can be made of the OME-XML.

    tifffile makes a list of all planes that the XML claims before it looks at the pages.
    """
    if not tif.is_ome:
        return
    xml = tif.ome_metadata or ""
    if "<!ENTITY" in xml:
        notes.append("OME series is not read: the XML declares entities")
        tif.is_ome = False
        return
    claimed = [int(n) for n in _COUNTS.findall(xml)] + [
        math.prod(int(n) for n in _PLANES.findall(pixels)) for pixels in _PIXELS.findall(xml)
    ]
    if max(claimed, default=0) > MOST_PLANES:
        notes.append(f"OME series is not read: the XML claims {max(claimed):,} planes")
        tif.is_ome = False
        return
    try:
        len(tif.series)
    except FILE_FAULTS as exc:
        notes.append(f"OME series cannot be made of the XML: {short_text(exc)}")
        tif.is_ome = False


def _choose_series(tif: Any, series: int, level: int, url: str) -> Any:
    images = tif.series
    if not images:
        raise UnreadableFileError(f"{url} holds no image; {advice_for(url)}", url=url)
    if not 0 <= series < len(images):
        raise OptionError(f"series={series}, but {url} has {len(images)} series", url=url)
    levels = images[series].levels
    if not 0 <= level < len(levels):
        raise OptionError(
            f"level={level}, but series {series} of {url} has {len(levels)} level(s)", url=url
        )
    return levels[level]


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
    packed = math.prod(keyframe.shape) * (bits if isinstance(bits, int) else min(bits)) // 8
    most = None if codec.max_expansion is None else (stored + EXPANSION_SLACK) * codec.max_expansion
    if most is not None and stored > 0 and packed > most:
        raise TooLargeError(
            f"{url}: a page of {nbytes:,} bytes cannot come from {stored:,} bytes of "
            f"{codec.name}; {advice_for(url)}",
            url=url,
        )
