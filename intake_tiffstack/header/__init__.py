"""The structure of one TIFF: what its pages are, and where their bytes lie.

The only room that opens files with tifffile. It returns plain values: a :class:`Structure` (shape,
dtype, dims), the offset of every segment, and tifffile's own ``decode``, so that JPEG tables,
packed bits, predictors and fill order have one implementation. No file stays open, and the values
serve any number of threads.
"""

from intake_tiffstack.header.dim_names import name_dims
from intake_tiffstack.header.frames import (
    Frames,
    JoinedFrames,
    RawFrames,
    SegmentedFrames,
    decode_segment,
)
from intake_tiffstack.header.header_bytes import HeaderBytes, Windows, open_header
from intake_tiffstack.header.parse import Header, read_header
from intake_tiffstack.header.raw_metadata import read_raw_metadata
from intake_tiffstack.header.twins import Templates
from intake_tiffstack.structure import Structure, rename_dims

__all__ = [
    "Frames",
    "Header",
    "HeaderBytes",
    "JoinedFrames",
    "RawFrames",
    "SegmentedFrames",
    "Structure",
    "Templates",
    "Windows",
    "decode_segment",
    "name_dims",
    "open_header",
    "read_header",
    "read_raw_metadata",
    "rename_dims",
]
