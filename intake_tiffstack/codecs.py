"""What this package knows of each TIFF compression; the decoding itself is tifffile's.

A compression that is not listed is decoded all the same, if imagecodecs can; it has no bound on its
expansion and cannot be referred to from a Zarr. Pure.

References
----------
TIFF 6.0, section 8 (Compression); the tag numbers that the Library of Congress and libtiff list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tifffile

__all__ = ["CODECS", "Codec", "find_codec"]


@dataclass(frozen=True)
class Codec:
    """One compression."""

    name: str
    """As tifffile and error messages name it."""
    tags: tuple[int, ...]
    """Values of the Compression tag."""
    max_expansion: int | None = None
    """Most bytes that one stored byte can become, None if the format sets no bound. A page that
    declares more is refused before anything is allocated."""
    needs_jpeg_tables: bool = False
    """Whether segments are decoded with the JPEG tables of their page."""
    numcodecs: Mapping[str, Any] | None = field(default=None, compare=False)
    """Configuration of the numcodecs codec that decodes a segment, empty for no compression, None
    if there is none. Levels are for writing and change nothing here."""


CODECS: tuple[Codec, ...] = (
    Codec("NONE", (1,), max_expansion=1, numcodecs={}),
    Codec(  # a 12-bit code stands for at most 4,096 bytes
        "LZW", (5,), max_expansion=2_800, numcodecs={"id": "imagecodecs_lzw"}
    ),
    Codec(  # 258 bytes from 2 bits
        "ADOBE_DEFLATE", (8, 32946), max_expansion=1_040, numcodecs={"id": "zlib", "level": 6}
    ),
    Codec("PIXTIFF", (50013,), max_expansion=1_040),  # Deflate under a number of its own
    Codec("PACKBITS", (32773,), max_expansion=64),  # 128 bytes from 2
    Codec("ZSTD", (50000,), numcodecs={"id": "zstd", "level": 3}),
    Codec("JPEG", (7,), needs_jpeg_tables=True),
    Codec("OJPEG", (6,), needs_jpeg_tables=True),
    Codec("ALT_JPEG", (33007,), needs_jpeg_tables=True),
    Codec("JPEG_LOSSY", (34892,), needs_jpeg_tables=True),
)
"""All compressions of which something is known; add one here."""

_BY_TAG = {tag: codec for codec in CODECS for tag in codec.tags}


def find_codec(tag: int) -> Codec:
    """Return the codec for a value of the Compression tag, one with its name alone if unlisted.

    >>> find_codec(32946).name, find_codec(50001).name, find_codec(50001).numcodecs
    ('ADOBE_DEFLATE', 'WEBP', None)
    """
    known = _BY_TAG.get(tag)
    if known is not None:
        return known
    named = tag in set(tifffile.COMPRESSION)
    return Codec(tifffile.COMPRESSION(tag).name if named else f"number {tag}", (tag,))
