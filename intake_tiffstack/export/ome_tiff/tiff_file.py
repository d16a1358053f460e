"""Writes tiles to an OME-TIFF through tifffile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from tifffile import TiffWriter

__all__ = ["Compression", "TiffFormat", "TiffOutput", "needs_bigtiff"]

Compression = Literal["zlib", "lzw", "zstd"] | None
"""Lossless compressions of TIFF; None for none."""

_MOST_CLASSIC = 2**32 - 2**26
"""Bytes that a TIFF with offsets of 32 bits holds, with room for segments that do not compress."""
_IFD_BYTES = 512
"""About what a page takes beside its tiles."""


def needs_bigtiff(nbytes: int, page_count: int, tile_count: int) -> bool:
    """Return whether pixels need offsets of 64 bits, be they compressible or not. Pure."""
    return nbytes + page_count * _IFD_BYTES + tile_count * 16 > _MOST_CLASSIC


def _fit_tile(tile: tuple[int, int], plane: Sequence[int]) -> tuple[int, int]:
    """Return the tile of a plane that may be smaller than a tile: padding takes space too.

    >>> _fit_tile((512, 512), (200, 700))
    (208, 512)
    """
    height, width = (min(k, -(-n // 16) * 16) for k, n in zip(tile, plane, strict=True))
    return height, width


@dataclass(frozen=True)
class TiffFormat:
    """What all pages of the file have in common."""

    dtype: np.dtype[Any]
    tile: tuple[int, int]
    compression: Compression
    is_rgb: bool
    bigtiff: bool
    software: str
    threads: int
    """That encode tiles."""


class TiffOutput:
    """An OME-TIFF that is written level by level; a context manager.

    Parameters
    ----------
    path : str
        A local file, which is created.
    format : TiffFormat
    """

    def __init__(self, path: str, format: TiffFormat) -> None:
        self._format = format
        self._writer = TiffWriter(path, bigtiff=format.bigtiff, ome=True, byteorder="<")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write_level(
        self,
        tiles: Iterator[Any],
        shape: Sequence[int],
        *,
        metadata: Mapping[str, Any] | None,
        smaller_count: int,
        resolution: tuple[float, float] | None,
    ) -> None:
        """Write one level of an image.

        Parameters
        ----------
        tiles : iterator of numpy.ndarray
            In the order of the file; those at an edge may be smaller.
        shape : sequence of int
            Of the level.
        metadata : mapping of str, optional
            Of the image, as tifffile takes them; None for a smaller level, which follows the level
            before it.
        smaller_count : int
            How many smaller levels follow the full one; 0 for a smaller level.
        resolution : tuple of float, optional
            Pixels per centimetre along x and y.
        """
        form = self._format
        is_full = metadata is not None
        if not form.is_rgb:
            # The predictor goes along the last dim but one. tifffile takes the last one where it is
            # longer than 1 in the first tile: wrong for images of one column.
            tiles = (tile[..., np.newaxis] for tile in tiles)
        self._writer.write(
            tiles,
            shape=tuple(shape),
            dtype=form.dtype,
            tile=_fit_tile(form.tile, shape[-3:-1] if form.is_rgb else shape[-2:]),
            compression=form.compression,
            # Bio-Formats reads no predictor of floats
            predictor=form.compression is not None and form.dtype.kind in "iu",
            photometric="rgb" if form.is_rgb else "minisblack",
            planarconfig="contig" if form.is_rgb else None,
            subfiletype=0 if is_full else 1,
            subifds=smaller_count or None,
            software=form.software if is_full else False,
            metadata=None if metadata is None else dict(metadata),
            resolution=resolution,
            resolutionunit=None if resolution is None else "CENTIMETER",
            maxworkers=form.threads,
        )
