"""How a file is cut into the chunks of a Zarr: what its bytes are, and where. Pure.

A chunk of a Zarr is one run of bytes that decodes to a whole chunk, by a codec that has a name.
Where a file is stored otherwise, the error says what stands in the way.

References
----------
Zarr specification, version 2, sections "Arrays" and "Chunks"; TIFF 6.0, sections 7 and 15.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from intake_tiffstack.codecs import CODECS, Codec
from intake_tiffstack.errors import UnsupportedFileError
from intake_tiffstack.header import Header, JoinedFrames, RawFrames, SegmentedFrames, Structure

__all__ = [
    "Chunking",
    "Reference",
    "chunk_file",
    "common_chunking",
    "fill_values",
    "find_references",
]

CHUNK_BYTES = 2**22
"""About how much of a file that is not compressed makes a chunk: one request, and no more."""

ADVICE = "format='zarr' or 'ome-zarr' copies the pixels of any file"


@dataclass(frozen=True)
class Chunking:
    """The chunks of a file; the same for all files of a collection."""

    chunk: tuple[int, ...]
    """Extent along each dim of the file."""
    dtype: np.dtype[Any]
    """As stored, byte order included."""
    codec: Codec | None
    """The compression, None for none."""
    predictor_dim: int | None
    """The dim along which neighbours are subtracted, None for none."""
    is_run: bool = True
    """Whether a part of a chunk is a run of bytes too."""

    @property
    def nbytes(self) -> int:
        """Decoded size of a chunk."""
        return math.prod(self.chunk) * self.dtype.itemsize

    def codecs(self, chunk: Sequence[int], dims: Sequence[int]) -> dict[str, Any]:
        """Return Zarr's compressor and filters.

        Parameters
        ----------
        chunk : sequence of int
            Shape of a chunk of the result.
        dims : sequence of int
            Which dim of the result each dim of the file is.
        """
        filters = []
        if self.predictor_dim is not None:
            filters.append(
                {
                    "id": "imagecodecs_delta",
                    "axis": dims[self.predictor_dim],
                    "dist": 1,
                    "shape": list(chunk),
                    "dtype": self.dtype.str,
                }
            )
        if self.codec is not None and self.codec.numcodecs is not None:
            filters.append(dict(self.codec.numcodecs))
        # the last filter says the same as a compressor, which VirtualiZarr cannot parse
        return {"compressor": None, "filters": filters or None}


@dataclass(frozen=True)
class Reference:
    """One chunk of a file."""

    place: tuple[int, ...]
    """Which along each dim of the file."""
    offset: int
    count: int


def chunk_file(
    header: Header, structure: Structure, *, edges: Sequence[tuple[int, ...]]
) -> Chunking:
    """Return the chunking of a file.

    Parameters
    ----------
    header : Header
        Of the file.
    structure : Structure
        Its structure, with the dims that the collection gives it.
    edges : sequence[tuple[int, ...]]
        Along each of these dims, where one file ends and the next begins, first and last included.

    Raises
    ------
    UnsupportedFileError
        If its segments cannot be chunks; the message names the file and what stands in the way.
    """
    if header.transform is not None:
        raise _refusal(header, "its pixels are stored as roots of their values (MD Gel)")
    frames = header.frames
    if isinstance(frames, JoinedFrames):
        raise _refusal(header, "its pages are stored in several ways")
    if isinstance(frames, RawFrames):
        return Chunking(_chunk_raw(frames, structure, edges), frames.dtype, None, None)
    coding, axes = frames.coding, _page_axes(header, frames, structure)
    if coding.codec.numcodecs is None:
        known = ", ".join(codec.name for codec in CODECS if codec.numcodecs is not None)
        raise _refusal(header, f"it is compressed by {coding.codec.name}, which is none of {known}")
    if coding.dtype is None:
        raise _refusal(header, "its pixels are packed bits or have another order of bits")
    if coding.predictor not in (1, 2) or (coding.predictor == 2 and coding.dtype.kind not in "iu"):
        raise _refusal(header, f"its predictor is number {coding.predictor} on {coding.dtype}")
    _, depth, length, _, samples = frames.shape
    full = (1, *frames.segment, samples)
    if not coding.is_tiled and length % frames.segment[1]:
        raise _refusal(
            header,
            f"its strips of {frames.segment[1]} rows do not divide the {length} rows of a page, so "
            "the last strip is not a whole chunk",
        )
    lead = len(structure.shape) - structure.page_ndim
    chunk = (*[1] * lead, *(full[axis] for axis in axes))
    if math.prod(chunk) != math.prod(full):
        raise _refusal(
            header, f"its tiles reach over {depth} planes that are not a dim of their own"
        )
    for extent, starts, dim in zip(chunk, edges, structure.dims, strict=True):
        if math.gcd(*starts[:-1]) % extent:
            raise _refusal(
                header,
                f"its segments of {extent} along {dim} do not end where a file ends, and others "
                "follow",
            )
    return Chunking(
        chunk=chunk,
        dtype=coding.dtype,
        codec=coding.codec if coding.codec.numcodecs else None,
        predictor_dim=None if coding.predictor == 1 else lead + axes.index(3),
        is_run=False,
    )


def common_chunking(one: Chunking, other: Chunking) -> Chunking | None:
    """Return a chunking that fits both, None where there is none.

    Of pixels that lie as they are any part of a run is one: pages where a file has gaps.

    >>> dtype = np.dtype("<u2")
    >>> volume, page = (Chunking((n, 64, 64), dtype, None, None) for n in (8, 1))
    >>> common_chunking(volume, page).chunk
    (1, 64, 64)
    """
    if one == other:
        return one
    if not one.is_run or not other.is_run or one.dtype != other.dtype:
        return None
    return replace(one, chunk=tuple(map(math.gcd, one.chunk, other.chunk)))


def find_references(
    header: Header, structure: Structure, chunking: Chunking
) -> Iterator[Reference]:
    """Yield the chunks that are in the file; those that are not are left to the fill value.

    Raises
    ------
    UnsupportedFileError
        If a segment that is not compressed is shorter or longer than a chunk.
    """
    frames = header.frames
    if isinstance(frames, JoinedFrames):
        raise RuntimeError("chunk_file refuses pages that are stored in several ways")
    if isinstance(frames, RawFrames):
        yield from _find_raw(frames, structure, chunking)
        return
    lead = structure.shape[: len(structure.shape) - structure.page_ndim]
    axes = _page_axes(header, frames, structure)
    page = [
        -(-n // c) for n, c in zip(structure.page_shape, chunking.chunk[len(lead) :], strict=True)
    ]
    # segments are counted along TIFF's own dims, of which the page has those that it needs
    grid = [frames.grid[axis] if axis < 4 else 1 for axis in axes]
    if grid != page or math.prod(grid) != frames.offsets.shape[1]:
        raise _refusal(header, "its segments do not line up with the dims of a page")
    is_there = (frames.offsets > 0) & (frames.counts > 0)
    if chunking.codec is None and (frames.counts[is_there] != chunking.nbytes).any():
        raise _refusal(
            header, f"its segments are of unequal size, not of {chunking.nbytes} bytes each"
        )
    for frame, segment in np.argwhere(is_there).tolist():
        place = (*np.unravel_index(frame, lead), *np.unravel_index(segment, grid))
        yield Reference(
            tuple(map(int, place)),
            int(frames.offsets[frame, segment]),
            int(frames.counts[frame, segment]),
        )


def fill_values(header: Header, default: float) -> set[float]:
    """Return the values of pixels that are in the structure of a file and not in its bytes."""
    frames = header.frames
    if isinstance(frames, JoinedFrames):
        raise RuntimeError("chunk_file refuses pages that are stored in several ways")
    if isinstance(frames, RawFrames):
        return {default} if (frames.offsets < 0).any() else set()
    absent = frames.offsets[:, 0] < 0
    nodata = default if frames.nodata is None else frames.nodata
    is_there = (frames.offsets > 0) & (frames.counts > 0)
    return {nodata} if absent.any() or not is_there[~absent].all() else set()


def _refusal(header: Header, why: str) -> UnsupportedFileError:
    url = header.file.url
    return UnsupportedFileError(f"{url} cannot be referred to: {why}; {ADVICE}", url=url)


def _page_axes(header: Header, frames: SegmentedFrames, structure: Structure) -> tuple[int, ...]:
    """Return which of TIFF's five dims each dim of a page is."""
    axes = frames.axes
    if axes is not None and tuple(frames.shape[i] for i in axes) != structure.page_shape:
        axes = tuple(i for i in axes if frames.shape[i] != 1)  # file_dims dropped singletons
    if axes is None or tuple(frames.shape[i] for i in axes) != structure.page_shape:
        raise _refusal(header, "its pages do not line up with the dims that it is given")
    return axes


# -- pixels that lie in the file as they are -----------------------------------------------------


def _raw_lead(frames: RawFrames, structure: Structure) -> int:
    """Return how many dims count frames; none where the whole file is one."""
    return 0 if len(frames.offsets) == 1 else len(structure.shape) - structure.page_ndim


def _chunk_raw(
    frames: RawFrames, structure: Structure, edges: Sequence[tuple[int, ...]]
) -> tuple[int, ...]:
    """Return chunks of about CHUNK_BYTES, each one run of bytes."""
    lead = _raw_lead(frames, structure)
    chunk = [*[1] * lead, *structure.shape[lead:]]
    chunk = [math.gcd(n, *ends) for n, ends in zip(chunk, edges, strict=True)]
    left = max(CHUNK_BYTES // frames.dtype.itemsize, 1)
    is_cut = False
    for dim in reversed(range(lead, len(chunk))):
        if is_cut:  # what lies outside of a dim that is chunking is not in the same run
            chunk[dim] = 1
            continue
        whole = chunk[dim]
        chunk[dim] = next(n for n in range(min(whole, max(left, 1)), 0, -1) if whole % n == 0)
        is_cut = chunk[dim] < structure.shape[dim]
        left //= chunk[dim]
    return tuple(chunk)


def _find_raw(frames: RawFrames, structure: Structure, chunking: Chunking) -> Iterator[Reference]:
    """Yield the chunks of frames that lie in the file as they are."""
    lead = _raw_lead(frames, structure)
    inner = structure.shape[lead:]
    strides = [math.prod(inner[i + 1 :]) * chunking.dtype.itemsize for i in range(len(inner))]
    grid = [n // c for n, c in zip(inner, chunking.chunk[lead:], strict=True)]
    for number, offset in enumerate(frames.offsets.tolist()):
        if offset < 0:
            continue
        frame = np.unravel_index(number, structure.shape[:lead]) if lead else ()
        for place in np.ndindex(*grid):
            start = sum(
                i * c * s for i, c, s in zip(place, chunking.chunk[lead:], strides, strict=True)
            )
            yield Reference((*map(int, frame), *place), offset + start, chunking.nbytes)
