"""Where the pixels of a series lie in its file, and how they are decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import imagecodecs
import numpy as np

from intake_tiffstack.codecs import Codec, find_codec
from intake_tiffstack.errors import UnreadableFileError, UnsupportedFileError
from intake_tiffstack.header.direct import (
    IS_LZW_SAFE,
    DirectDecoder,
    check_jpeg,
    check_lzw,
    find_direct_decoder,
)
from intake_tiffstack.header.tiff_file import FILE_FAULTS, advice_for, short_text
from intake_tiffstack.metadata.readers.gdal import clamp_nodata
from intake_tiffstack.structure import canonical_dtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.storage.files import File

__all__ = [
    "Coding",
    "Frames",
    "JoinedFrames",
    "RawFrames",
    "SegmentedFrames",
    "decode_segment",
    "join_frames",
    "locate_frames",
    "refuse_outside",
]


@dataclass(frozen=True, eq=False)
class RawFrames:
    """Frames whose pixels lie in the file as they are, each in one run of bytes."""

    shape: tuple[int, ...]
    """Shape of one frame; a contiguous series is a single frame."""
    dtype: np.dtype[Any]
    """As stored, byte order included."""
    offsets: NDArray[np.int64]
    """First byte of each frame, -1 for a frame that is not in the file."""

    @property
    def nbytes(self) -> int:
        """Bytes this table takes in memory."""
        return self.offsets.nbytes


class Decode(Protocol):
    """tifffile's function that turns the bytes of a segment into pixels."""

    def __call__(
        self, data: bytes | memoryview | None, index: int, /, **kwargs: Any
    ) -> tuple[NDArray[Any] | None, tuple[int, ...], tuple[int, ...]]:
        """Return pixels (None for an empty segment), position and shape in the 5-D page."""


@dataclass(frozen=True)
class Coding:
    """Encoding of the bytes of a segment, for readers other than this package."""

    codec: Codec
    """The compression."""
    predictor: int
    """TIFF's number: 1 for none, 2 for horizontal differences, 3 for those of floats."""
    dtype: np.dtype[Any] | None
    """Of the pixels in the decoded bytes, byte order included; None where bits are packed."""
    is_tiled: bool
    """Whether segments are tiles, which are whole at the edges too."""
    is_reversed: bool = False
    """Whether the bits of each byte stand in reverse order."""


@dataclass(frozen=True, eq=False)
class SegmentedFrames:
    """Frames kept as strips or tiles that have to be decoded."""

    shape: tuple[int, int, int, int, int]
    """One frame along TIFF's axes: planar sample, depth, length, width, contiguous sample."""
    dtype: np.dtype[Any]
    """Of the decoded pixels, native."""
    segment: tuple[int, int, int]
    """Depth, length and width of a segment."""
    offsets: NDArray[np.int64]
    """Shape (frames, segments): first byte; -1 all along a frame that is not in the file."""
    counts: NDArray[np.int64]
    """Shape (frames, segments): bytes; 0 is a sparse segment, which reads as ``nodata``."""
    decode: Decode = field(repr=False)
    """tifffile's own, safe to share between threads."""
    tables: tuple[bytes | None, ...] | None
    """JPEG tables of each frame, None for other codecs."""
    header: bytes | None
    """JPEG header of NDPI files, None elsewhere."""
    axes: tuple[int, ...] | None
    """Which of the five each trailing dim of the file is; None: decode whole and reshape."""
    nodata: float | None
    """Value of sparse segments, None for the fill value of the collection."""
    coding: Coding
    """What the bytes of a segment are."""
    direct: DirectDecoder | None = None
    """Decodes a segment to its place without a copy, if codec and layout allow it."""

    def __post_init__(self) -> None:
        if not self.offsets.shape[1] == self.counts.shape[1] == math.prod(self.grid):
            raise ValueError(f"{self.offsets.shape[1]} segments cannot make a grid of {self.grid}")

    @property
    def nbytes(self) -> int:
        """Bytes this table takes in memory."""
        return self.offsets.nbytes + self.counts.nbytes

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Segments along planar sample, depth, length and width."""
        _, depth, length, width, _ = self.shape
        d, h, w = self.segment
        return (self.shape[0], math.ceil(depth / d), math.ceil(length / h), math.ceil(width / w))

    def segment_shape(self, page_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the extent of a segment along the dims of a page."""
        if self.axes is None:
            return page_shape
        full = (1, *self.segment, self.shape[4])
        return tuple(min(full[i], self.shape[i]) for i in self.axes)


@dataclass(frozen=True, eq=False)
class JoinedFrames:
    """Frames of one shape that are stored in several ways."""

    parts: tuple[RawFrames | SegmentedFrames, ...]
    """Frames stored alike, each of one page."""
    part: NDArray[np.int64]
    """Which of the parts each frame is in."""
    number: NDArray[np.int64]
    """Which frame of that part it is."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels of the first part."""
        return self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        """Bytes these tables take in memory."""
        return sum(part.nbytes for part in self.parts) + self.part.nbytes + self.number.nbytes


Frames = RawFrames | SegmentedFrames | JoinedFrames


def join_frames(
    located: Sequence[tuple[RawFrames | SegmentedFrames, Sequence[int], int]],
    page_shape: tuple[int, ...],
) -> Frames:
    """Return parts of an image as one: what is stored alike becomes one part. Pure.

    Parameters
    ----------
    located : sequence of tuple
        Frames, the place in the image of each of their pages, and tifffile's hash of a page: pages
        of one hash are decoded alike.
    page_shape : tuple[int, ...]
        Shape of a page.
    """
    parts: list[RawFrames | SegmentedFrames] = []
    places: list[list[int]] = []
    hashes: list[int] = []
    for frames, own, page_hash in located:
        if isinstance(frames, RawFrames):
            frames = _by_page(frames, page_shape, len(own))
        for i, other in enumerate(parts):
            is_alike = page_hash == hashes[i] or isinstance(frames, RawFrames)
            both = _merged(other, frames) if is_alike else None
            if both is not None:
                parts[i] = both
                places[i] += own
                break
        else:
            parts.append(frames)
            places.append(list(own))
            hashes.append(page_hash)
    total = sum(map(len, places))
    part, number = np.empty(total, np.int64), np.empty(total, np.int64)
    for i, own in enumerate(places):
        part[own] = i
        number[own] = np.arange(len(own))
    if len(parts) > 1:
        return JoinedFrames(tuple(parts), part, number)
    return _taken(parts[0], number)


def _by_page(frames: RawFrames, page_shape: tuple[int, ...], count: int) -> RawFrames:
    """Return frames of one page each, also of an image that is one run of bytes."""
    offsets = frames.offsets
    if len(offsets) == 1 and count > 1:
        nbytes = math.prod(page_shape) * frames.dtype.itemsize
        offsets = offsets[0] + np.arange(count, dtype=np.int64) * nbytes
    return RawFrames(page_shape, frames.dtype, offsets)


def _taken(frames: RawFrames | SegmentedFrames, order: NDArray[np.int64]) -> Frames:
    """Return frames in another order."""
    if isinstance(frames, RawFrames):
        return replace(frames, offsets=frames.offsets[order])
    tables = None if frames.tables is None else tuple(frames.tables[i] for i in order.tolist())
    return replace(
        frames, offsets=frames.offsets[order], counts=frames.counts[order], tables=tables
    )


def _merged(
    one: RawFrames | SegmentedFrames, other: RawFrames | SegmentedFrames
) -> RawFrames | SegmentedFrames | None:
    """Return frames of both, None where they are stored in different ways."""
    if isinstance(one, RawFrames) and isinstance(other, RawFrames):
        if one.dtype != other.dtype:
            return None
        return replace(one, offsets=np.concatenate([one.offsets, other.offsets]))
    if not isinstance(one, SegmentedFrames) or not isinstance(other, SegmentedFrames):
        return None
    alike = (one.shape, one.dtype, one.segment, one.axes, one.coding, one.header)
    if alike != (
        other.shape,
        other.dtype,
        other.segment,
        other.axes,
        other.coding,
        other.header,
    ) or repr(one.nodata) != repr(other.nodata):
        return None
    tables = None if one.tables is None else (*one.tables, *(other.tables or ()))
    return replace(
        one,
        offsets=np.concatenate([one.offsets, other.offsets]),
        counts=np.concatenate([one.counts, other.counts]),
        tables=tables,
    )


def locate_frames(
    image: Any, axes: tuple[int, ...] | None, file: File
) -> RawFrames | SegmentedFrames:
    """Return where the pixels of a tifffile series lie; *axes* as the pages line up with it.

    Raises
    ------
    UnreadableFileError
        If segments are missing, lie outside the file or on its header, or have no whole offset.
    UnsupportedFileError
        If the decoder cannot decode such a file.
    """
    keyframe = image.keyframe
    _refuse_fractions(keyframe, file)
    stored = np.dtype(keyframe.parent.byteorder + keyframe.dtype.char)
    # an offset of 0 is where the file's own header lies: GDAL writes it for a page left out
    if image.dataoffset and np.dtype(image.dtype).char == stored.char:
        raw = RawFrames(tuple(image.shape), stored, np.array([image.dataoffset], np.int64))
        refuse_outside(raw.offsets, image.size * stored.itemsize, file, "the pixels")
        return raw
    pages = list(image)
    if math.prod(image.shape) != len(pages) * math.prod(keyframe.shape):
        raise UnreadableFileError(
            f"{file.url}: {len(pages)} pages of {keyframe.shape} were found, but the image is "
            f"declared as {image.shape}",
            url=file.url,
        )
    offsets, counts = _segment_table(pages, keyframe, file)
    # tifffile looks at the first page alone; a later one may be laid out differently
    first = offsets[:, 0].copy()
    is_run = (offsets[:, :-1] + counts[:, :-1] == offsets[:, 1:]).all() and first.all()
    if keyframe.is_final and (is_run or keyframe.is_stk or keyframe.is_lsm):
        raw = RawFrames(tuple(keyframe.shape), stored, first)
        refuse_outside(first, keyframe.nbytes, file, "page {}")
        return raw
    refuse_outside(offsets, counts, file, "page {}")
    _check_decoder(keyframe)
    is_jpeg = find_codec(int(keyframe.compression)).needs_jpeg_tables
    text = keyframe.tags.valueof(42113)  # GDAL_NODATA
    return SegmentedFrames(
        shape=tuple(int(n) for n in keyframe.shaped),  # type: ignore[arg-type]
        dtype=canonical_dtype(keyframe.dtype),
        segment=_segment_extent(keyframe),
        offsets=offsets,
        counts=counts,
        decode=keyframe.decode,
        tables=tuple(p.jpegtables if p is not None else None for p in pages) if is_jpeg else None,
        header=keyframe.jpegheader if is_jpeg else None,
        axes=axes,
        nodata=clamp_nodata(text if isinstance(text, str) else None, np.dtype(keyframe.dtype)),
        coding=_describe_coding(keyframe, stored),
        direct=find_direct_decoder(keyframe),
    )


def _describe_coding(keyframe: Any, stored: np.dtype[Any]) -> Coding:
    is_plain = keyframe.bitspersample == 8 * stored.itemsize and keyframe.fillorder == 1
    return Coding(
        codec=find_codec(int(keyframe.compression)),
        predictor=int(keyframe.predictor),
        dtype=stored if is_plain else None,
        is_tiled=bool(keyframe.is_tiled),
        is_reversed=keyframe.fillorder == 2,
    )


def _segment_extent(keyframe: Any) -> tuple[int, int, int]:
    if keyframe.is_tiled:
        return (int(keyframe.tiledepth), int(keyframe.tilelength), int(keyframe.tilewidth))
    return (1, int(min(keyframe.rowsperstrip, keyframe.imagelength)), int(keyframe.imagewidth))


def _segment_table(
    pages: list[Any], keyframe: Any, file: File
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets and byte counts of all segments of all pages, -1 and 0 for absent pages."""
    is_single_run = keyframe.is_final and (keyframe.is_stk or keyframe.is_lsm)
    count = 1 if is_single_run else math.prod(keyframe.chunked)
    present = [(i, page) for i, page in enumerate(pages) if page is not None]
    for i, page in present:  # all of them before the tables are made, which may be declared huge
        found = min(len(page.dataoffsets), len(page.databytecounts))
        if found < count:
            raise UnreadableFileError(
                f"{file.url}: page {i} has {found} of its {count} segments; {advice_for(file.url)}",
                url=file.url,
            )
    offsets = np.full((len(pages), count), -1, np.int64)
    counts = np.zeros((len(pages), count), np.int64)
    for i, page in present:  # safe: in a corrupt file they may be floats, or more than 63 bits
        np.copyto(offsets[i], page.dataoffsets[:count], casting="safe")
        np.copyto(counts[i], page.databytecounts[:count], casting="safe")
    return offsets, counts


def _refuse_fractions(page: Any, file: File) -> None:
    """Raise if the offsets or byte counts of a page are not whole numbers: tifffile rounds them."""
    for name, values in (("offset", page.dataoffsets), ("byte count", page.databytecounts)):
        if not set(map(type, values)) <= {int}:
            odd = next(value for value in values if type(value) is not int)
            raise UnreadableFileError(
                f"{file.url} is truncated or corrupt: the {name} of a segment is "
                f"{odd!r}, not an integer; {advice_for(file.url)}",
                url=file.url,
            )


def refuse_outside(
    offsets: NDArray[np.int64], counts: NDArray[np.int64] | int, file: File, what: str
) -> None:
    """Raise if segments lie outside the file, or on its first bytes; sparse ones are fine."""
    if offsets.size == 1:  # of many small files, for which NumPy takes ten times as long
        start, count = int(offsets.flat[0]), int(np.asarray(counts).flat[0])
        if start > 0 and 0 <= count <= file.size - start:
            return
    at_start = np.argwhere((offsets == 0) & (np.asarray(counts) > 0))
    if len(at_start):
        raise UnreadableFileError(
            f"{file.url} is corrupt: {what.format(at_start[0][0])} should begin at byte 0, where "
            "the file's own header lies: its writer was stopped before it filled the offset in; "
            "copy it again, or leave it out with `exclude`",
            url=file.url,
        )
    if file.size < 0:
        return
    # not offsets + counts > size: in BigTIFF that sum may be more than 64 bits
    is_outside = (offsets > 0) & (np.asarray(counts) > 0) & (offsets > file.size - counts)
    is_outside |= (np.asarray(counts) < 0) | (offsets < -1)
    if not is_outside.any():
        return
    first = np.argwhere(is_outside)[0]
    end = int(offsets[tuple(first)]) + int(np.broadcast_to(counts, offsets.shape)[tuple(first)])
    raise UnreadableFileError(
        f"{file.url} is truncated or corrupt: {what.format(first[0])} should reach byte "
        f"{end:,}, but the file ends at {file.size:,}; copy it again",
        url=file.url,
    )


def decode_segment(
    frames: SegmentedFrames, frame: int, index: int, data: bytes | memoryview, url: str
) -> NDArray[Any] | None:
    """Return the pixels of one segment (depth, length, width, sample), None for a sparse one.

    Pure but for the processor's time. Raises UnreadableFileError or UnsupportedFileError, naming
    file, page and segment.
    """
    arguments: dict[str, Any] = {}
    if frames.tables is not None:
        arguments = {"jpegtables": frames.tables[frame], "jpegheader": frames.header}
    try:
        if frames.coding.codec.name == "LZW" and not IS_LZW_SAFE and len(data):
            is_reversed = frames.coding.is_reversed
            check_lzw(imagecodecs.bitorder_decode(bytes(data)) if is_reversed else data)
        elif frames.coding.codec.name in ("JPEG", "ALT_JPEG", "JPEG_LOSSY"):
            check_jpeg(data, math.prod(frames.segment))
        return frames.decode(data if len(data) else None, index, **arguments)[0]
    except NotImplementedError as exc:
        raise UnsupportedFileError(f"{url} is not supported: {short_text(exc)}", url=url) from exc
    except FILE_FAULTS as exc:
        raise UnreadableFileError(
            f"{url}: segment {index} of page {frame} cannot be decoded: {short_text(exc)}; "
            f"{advice_for(url)}",
            url=url,
            page=frame,
            segment=index,
        ) from exc


def _check_decoder(keyframe: Any) -> None:
    """Raise now what tifffile's decoder would raise at the first segment: it knows beforehand."""
    name = getattr(keyframe.decode, "__name__", "")
    if name.startswith("decode_raise"):
        keyframe.decode(None, 0)
