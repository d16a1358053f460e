"""Shape, dtype and dims of one image series, as plain values. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from intake_tiffstack.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "OtherSeries",
    "Packing",
    "Structure",
    "canonical_dtype",
    "is_interleave",
    "move_samples",
    "rename_dims",
]


@dataclass(frozen=True)
class Packing:
    """How the stored numbers of an image mean values: ``stored * scale + offset``."""

    KEYS: ClassVar = ("nodata", "scale_factor", "add_offset", "scales", "offsets")
    """Of :meth:`describe`."""

    nodata: int | float | None = None
    """The stored number that is no data, None if there is none."""
    scales: tuple[float, ...] = ()
    """Per band, empty if all are 1."""
    offsets: tuple[float, ...] = ()
    """Per band, empty if all are 0."""

    def describe(self) -> dict[str, Any]:
        """Return what is known by the names of CF; lists for bands that differ, NaN as text.

        >>> Packing(-9999, (0.1, 0.1), (1.0, 2.0)).describe()
        {'nodata': -9999, 'scale_factor': 0.1, 'offsets': [1.0, 2.0]}
        """
        found: dict[str, Any] = {}
        if self.nodata is not None:
            is_finite = isinstance(self.nodata, int) or math.isfinite(self.nodata)
            found["nodata"] = self.nodata if is_finite else str(self.nodata)
        for values, one, many in (
            (self.scales, "scale_factor", "scales"),
            (self.offsets, "add_offset", "offsets"),
        ):
            if values and len(set(values)) == 1:
                found[one] = values[0]
            elif values:
                found[many] = list(values)
        return found


@dataclass(frozen=True)
class OtherSeries:
    """An image of a file beside the one that is opened."""

    index: int | None
    """Value of the option ``series`` that opens it, None for pages that the metadata leave out."""
    name: str
    """As the file has it, ``""`` for none."""
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    is_minor: bool
    """Whether it is a mask or a smaller copy of another image (NewSubfileType)."""

    def describe(self) -> str:
        """Return its number, name, shape, dtype and dims as one short text.

        >>> OtherSeries(1, "Pos1", (4, 8, 8), "uint16", ("t", "y", "x"), False).describe()
        "series=1 'Pos1' 4x8x8 uint16 (t y x)"
        """
        number = "pages without a series" if self.index is None else f"series={self.index}"
        name = f" {self.name[:40]!r}" if self.name else ""
        shape = "x".join(map(str, self.shape))
        return f"{number}{name} {shape} {self.dtype} ({' '.join(self.dims)})"


@dataclass(frozen=True)
class Structure:
    """Shape, dtype, dims and storage of one image series, plain and picklable."""

    shape: tuple[int, ...]
    """Extent of each dim."""
    dtype: np.dtype[Any]
    """Native byte order."""
    dims: tuple[str, ...]
    """Names of the dims, outermost first."""
    page_ndim: int
    """How many trailing dims one page holds."""
    segment_shape: tuple[int, ...]
    """Shape of a strip or tile in those trailing dims."""
    is_compressed: bool
    """True where the bytes in the file are not the pixels."""
    kind: str = ""
    """What the file is: ``ome``, ``imagej``, ``shaped``, ``uniform`` ..."""
    others: tuple[OtherSeries, ...] = ()
    """Images of the file that are not opened."""
    packing: Packing = Packing()
    """How its numbers mean values."""

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.dims) or not 0 < self.page_ndim <= len(self.shape):
            raise ValueError(f"dims {self.dims} do not fit shape {self.shape}")

    @property
    def nbytes(self) -> int:
        """Decoded size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def page_shape(self) -> tuple[int, ...]:
        """Shape of one page."""
        return self.shape[-self.page_ndim :]

    def describe(self) -> str:
        """Return shape, dtype and dims as one short text."""
        return f"{'x'.join(map(str, self.shape))} {self.dtype} ({' '.join(self.dims)})"


def canonical_dtype(dtype: Any) -> np.dtype[Any]:
    """Return a dtype in native byte order, with the character code that Zarr knows. Pure.

    NumPy has several for 64-bit integers, and tifffile's is not the one that it makes itself.

    >>> canonical_dtype("q").char == np.dtype("int64").char, canonical_dtype(">u2").isnative
    (True, True)
    """
    native: np.dtype[Any] = np.dtype(np.dtype(dtype).newbyteorder("=").str)
    return native


def rename_dims(structure: Structure, file_dims: Sequence[Any], url: str) -> Structure:
    """Return the structure with the dims that the option ``file_dims`` names. Pure.

    Names rename the dims as they are, singletons dropped where that makes the count fit; of a file
    of one page, the names before those of the page are of extent 1. Pairs of name and size unravel
    interleaved pages, slowest first, with y and x implied.

    Raises
    ------
    OptionError
        If the count or the sizes do not fit, the message shows both; or if names contradict what
        a page says of its own dims.
    """
    names = tuple(file_dims)
    if names and not isinstance(names[0], str):
        return _unravel_pages(structure, dict(names), url)
    if structure.page_ndim == len(structure.shape) < len(names):
        missing = len(names) - len(structure.shape)
        structure = replace(
            structure,
            shape=(*[1] * missing, *structure.shape),
            dims=(*names[:missing], *structure.dims),
        )
    shape, own, page_ndim = structure.shape, structure.dims, structure.page_ndim
    if len(names) != len(shape):
        kept = [i for i, n in enumerate(shape) if n != 1]
        if len(names) != len(kept):
            raise OptionError(
                f"file_dims {list(names)} are {len(names)} dims, but {url} has "
                f"{structure.describe()}; give one name for each, singletons may be left out",
                url=url,
            )
        page_ndim = sum(i >= len(shape) - page_ndim for i in kept)
        shape, own = tuple(shape[i] for i in kept), tuple(own[i] for i in kept)
        if not page_ndim:
            raise OptionError(f"file_dims cannot drop all of the page dims of {url}", url=url)
        start = len(structure.shape) - structure.page_ndim
        segment = tuple(structure.segment_shape[i - start] for i in kept if i >= start)
        structure = replace(structure, segment_shape=segment)
    page = own[len(own) - page_ndim :]
    for mine, name in zip(page, names[len(own) - page_ndim :], strict=True):
        if name != mine and name in page:
            raise OptionError(
                f"file_dims {list(names)} call the dim {mine} of a page {name}, but {url} has "
                f"{structure.describe()}; name its dims in its own order, the option dims orders "
                "the result",
                url=url,
            )
    return replace(structure, shape=shape, dims=names, page_ndim=page_ndim)


def move_samples(dims: Sequence[str], page: Sequence[str]) -> tuple[str, ...]:
    """Return names of dims for a file that has the samples of a pixel on the other side. Pure.

    Files with samples side by side (y, x, sample) or in planes (sample, y, x) differ in storage
    alone: GDAL calls it interleave.

    >>> move_samples("tcyx", ("page", "y", "x", "sample"))
    ('t', 'y', 'x', 'c')
    """
    names = tuple(dims)
    if len(names) > 2 and page[-1:] == ("sample",):
        return (*names[:-3], *names[-2:], names[-3])
    if len(names) > 2 and page[-3:-2] == ("sample",):
        return (*names[:-3], names[-1], *names[-3:-1])
    return names


def is_interleave(dims: Sequence[str], expected: Sequence[str]) -> bool:
    """Return whether two orders of dims differ in the place of the samples of a pixel. Pure.

    >>> is_interleave(("sample", "y", "x"), ("y", "x", "sample")), is_interleave("zyx", "yzx")
    (True, False)
    """
    one, other = tuple(dims), tuple(expected)
    return (
        len(one) > 2
        and one != other
        and other
        in (
            (*one[:-3], *one[-2:], *one[-3:-2]),
            (*one[:-3], *one[-1:], *one[-3:-1]),
        )
    )


def _unravel_pages(structure: Structure, sizes: Mapping[str, int], url: str) -> Structure:
    """Return the structure with its pages laid out on the dims that *sizes* gives."""
    lead = structure.shape[: -structure.page_ndim]
    pages = math.prod(lead)
    page_dims = structure.dims[-structure.page_ndim :]
    wanted = {dim: int(n) for dim, n in sizes.items() if dim not in page_dims}
    for dim, size in sizes.items():
        if dim in page_dims:
            found = structure.page_shape[page_dims.index(dim)]
            if size not in (-1, found):
                raise OptionError(f"file_dims gives {dim}={size}, but {url} has {found}", url=url)
    known = math.prod(n for n in wanted.values() if n != -1)
    free = [dim for dim, n in wanted.items() if n == -1]
    if len(free) > 1 or known <= 0 or any(n < -1 for n in wanted.values()):
        raise OptionError(
            f"file_dims {dict(sizes)} must give positive sizes, with at most one -1", url=url
        )
    if pages % known or (not free and pages != known):
        raise OptionError(
            f"file_dims {dict(sizes)} need a multiple of {known} pages, but {url} has {pages} "
            f"({structure.describe()})",
            url=url,
        )
    if free:
        wanted[free[0]] = pages // known
    return replace(
        structure,
        shape=(*wanted.values(), *structure.page_shape),
        dims=(*wanted, *page_dims),
    )
