"""Images that are refused: empty, of no known type, or larger than they can be."""

from __future__ import annotations

import math
from typing import Any

from intake_tiffstack.codecs import find_codec
from intake_tiffstack.errors import TooLargeError, UnreadableFileError, UnsupportedFileError
from intake_tiffstack.header.tiff_file import advice_for

__all__ = ["refuse_impossible"]

EXPANSION_SLACK = 64  # bytes: the bounds are for long runs, a tiny segment may round up

_MOST_ALONG = 2**27
"""Pixels along one side of a page: a hundred times what the largest scans have."""


def refuse_impossible(image: Any, url: str, notes: list[str], limit: int | None) -> None:
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
    packed = _packed_bytes(keyframe)
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


def _packed_bytes(keyframe: Any) -> int:
    """Return how many bytes a page decodes to, without the segments that are absent."""
    bits = keyframe.bitspersample
    bits = bits if isinstance(bits, int) else min(bits)
    packed: int = math.prod(keyframe.shape) * bits // 8
    present: int = sum(count > 0 for count in keyframe.databytecounts)
    absent: int = len(keyframe.databytecounts) - present
    if not absent:
        return packed
    segment: int = math.prod(keyframe.chunks) * bits // 8
    # a tile is whole beyond the edge of the page, the last strip is shorter than the others
    return min(packed, present * segment) if keyframe.is_tiled else packed - absent * segment
