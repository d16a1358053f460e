"""Segments decoded straight to their place, if codec and layout allow it.

The same functions that tifffile calls, without its copy of the result: a sum of zlib or zstd
volumes runs at 0.85 of decoding in plain threads, and at 0.80 without. Whatever does not come out
as expected is left to tifffile's decoder, which also describes the fault.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import tifffile

from intake_tiffstack.header.tiff_file import FILE_FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from numpy.typing import NDArray

__all__ = ["IS_LZW_SAFE", "DirectDecoder", "check_jpeg", "check_lzw", "find_direct_decoder"]

_CODECS = frozenset({5, 8, 32946, 50000})  # LZW, Deflate by both its numbers, zstd
_PREDICTORS = frozenset({1, 2})  # none, horizontal differencing


IS_LZW_SAFE = tuple(map(int, imagecodecs.__version__.split(".")[:3])) >= (2026, 10, 10)
"""Whether imagecodecs checks every code of an LZW stream: an older one ends the process at some."""

_CLEAR, _END = 256, 257


def check_lzw(data: bytes | bytearray | memoryview) -> None:
    """Raise ValueError if an LZW stream holds a code that an older imagecodecs cannot bear. Pure.

    The code after a CLEAR code has to be a literal: there is no table then, but imagecodecs before
    2026.10.10 looks others up, in memory that was never written. Elsewhere it checks its codes.

    Parameters
    ----------
    data : bytes-like
        The stream.

    References
    ----------
    TIFF 6.0, section 13 (LZW Compression).
    """
    content = np.frombuffer(data, np.uint8)
    # TIFF before 6.0 has codes begin at the low bits, and widens them one code later
    is_old = bool(len(content) > 1 and content[0] == 0 and content[1] & 1)
    starts, widths = _OLD_CODES if is_old else _CODES
    masks = (1 << widths) - 1
    padded = np.concatenate([content, np.zeros(4, np.uint8)])
    words = np.ndarray(  # four bytes from each byte on
        len(content) + 1, "<u4" if is_old else ">u4", padded.data, strides=(1,)
    )
    at, end, count = 0, 8 * len(content), _FEW_CODES
    while True:
        bits = starts[: min(count, np.searchsorted(starts, end - at + 1) - 1)] + at % 8
        found = len(bits)
        near = words[at // 8 :][: 2 * found].take(bits >> 3)
        codes = near >> (bits & 7 if is_old else 32 - widths[:found] - (bits & 7)) & masks[:found]
        if at and found and codes[0] > _END:
            raise ValueError(f"corrupt LZW stream: no code {codes[0]} can follow a CLEAR code")
        is_last = codes | 1 == _END  # CLEAR or END
        last = int(is_last.argmax()) if found else 0
        if found and is_last[last]:
            if codes[last] == _END:
                return
            at, count = at - at % 8 + int(bits[last] + widths[last]), _FEW_CODES
        elif found < count or count == len(widths):
            return  # at the end, or where the table is full, which imagecodecs refuses
        else:
            count = len(widths)


def _lzw_codes(*counts: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return where codes after a CLEAR code begin and end, in bits, and how wide each is."""
    widths = np.repeat(np.arange(9, 9 + len(counts), dtype=np.uint32), counts)
    return np.append(0, np.cumsum(widths)).astype(np.uint32), widths


# so many codes of 9, 10, 11 and 12 bits, more than fill imagecodecs' table
_CODES, _OLD_CODES = _lzw_codes(254, 512, 1024, 3100), _lzw_codes(255, 512, 1024, 3100)
_FEW_CODES = 32  # looked at first, so that a stream of CLEAR codes does not take long


_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers that begin a frame
_MOST_LARGER = 4


def check_jpeg(data: bytes | memoryview, pixels: int) -> None:
    """Raise ValueError if a JPEG stream declares far more pixels than its segment has. Pure.

    A decoder allocates what the stream declares: 4 GiB and a minute for one of 1 kB.

    Parameters
    ----------
    data : bytes-like
        The stream; one that does not begin as JPEG is left to the decoder.
    pixels : int
        Pixels of the segment.

    References
    ----------
    ITU-T T.81, B.2.2: frame header.
    """
    view, at = memoryview(data).cast("B"), 2
    if bytes(view[:2]) != b"\xff\xd8":
        return
    while at + 9 <= len(view) and view[at] == 0xFF:
        marker = view[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _SOF:
            length, width = struct.unpack_from(">HH", view, at + 5)
            if length * width > _MOST_LARGER * max(pixels, 64 * 64):
                raise ValueError(
                    f"its JPEG stream declares {length:,} x {width:,} pixels, but the segment has "
                    f"{pixels:,}"
                )
            return
        at += 2 + int.from_bytes(view[at + 2 : at + 4], "big")


def _decode_lzw_by_libtiff(data: memoryview, out: NDArray[np.uint8]) -> Sized:
    """Fill *out* from an LZW stream, in a TIFF of one row of 8-bit pixels.

    libtiff checks each code, and takes 0.6 of the time of the LZW decoder of imagecodecs 2026.3.6.
    """
    tags = {256: out.size, 257: 1, 258: 8, 259: 5, 262: 1, 273: 0, 277: 1, 278: 1, 279: len(data)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<4sIH", b"II*\0", 8, len(tags)) + entries + bytes(4)
    imagecodecs.tiff_decode(head + data, out=out[np.newaxis])
    return out


@dataclass(frozen=True)
class DirectDecoder:
    """Fills a contiguous block with the pixels of one segment."""

    decompress: Callable[..., Any]
    is_swapped: bool
    """Whether the file has the other byte order."""
    unpredict: Callable[..., Any] | None

    def __call__(self, data: memoryview, out: NDArray[Any]) -> bool:
        """Return whether *out*, of shape (..., width, sample), was filled to its last byte."""
        flat = out.reshape(-1).view(np.uint8)
        try:
            if len(self.decompress(data, out=flat)) != flat.size:
                return False
            if self.is_swapped:
                out.byteswap(inplace=True)
            if self.unpredict is not None:
                self.unpredict(out, axis=-2, out=out)
        except FILE_FAULTS:
            return False
        return True


def find_direct_decoder(keyframe: Any) -> DirectDecoder | None:
    """Return the direct decoder of a page's segments, None where only tifffile's will do."""
    bits = keyframe.bitspersample
    if (
        keyframe.compression not in _CODECS
        or keyframe.predictor not in _PREDICTORS
        or keyframe.fillorder != 1
        or bits not in (8, 16, 32, 64)
        or keyframe.dtype.itemsize * 8 != bits
        or keyframe.dtype.kind not in "iuf"
    ):
        return None
    unpredict = tifffile.TIFF.UNPREDICTORS[2] if keyframe.predictor == 2 else None
    return DirectDecoder(
        decompress=_decode_lzw_by_libtiff
        if keyframe.compression == 5 and not IS_LZW_SAFE
        else tifffile.TIFF.DECOMPRESSORS[keyframe.compression],
        is_swapped=not np.dtype(keyframe.parent.byteorder + keyframe.dtype.char).isnative,
        unpredict=unpredict,
    )
