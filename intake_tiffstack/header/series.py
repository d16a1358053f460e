"""The image series of one file: those of its metadata, or its pages put together.

Everything here is decided by what the file holds (pages, their tags and offsets), never by what
tifffile logs about it, since a program may switch its logging off.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tifffile

from intake_tiffstack.errors import OptionError, UnreadableFileError
from intake_tiffstack.header.dim_names import name_dims
from intake_tiffstack.header.tiff_file import advice_for
from intake_tiffstack.structure import OtherSeries
from intake_tiffstack.to_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.header.header_bytes import HeaderBytes

__all__ = [
    "JOINED",
    "Images",
    "alike_parts",
    "choose_images",
    "find_images",
    "list_others",
    "refuse_cut_chain",
]

JOINED = "joined"
"""Kind of an image whose pages or images are put together here."""

_PREVIEWS = frozenset({"thumbnail", "label", "macro", "overview", "preview"})
"""Names that whole-slide scanners give to images of the slide beside the scan."""

_MOST_TAGS = 4096


@dataclass(frozen=True)
class Images:
    """The images of one file, numbered as the option ``series`` counts them."""

    numbered: Sequence[Any]
    """tifffile's series; the first of those that are joined is all of them as one."""
    joined: frozenset[int]
    """Numbers of those that are part of an earlier one."""

    def whole(self) -> dict[int, Any]:
        """Return the images by number, without those that are part of an earlier one."""
        return {i: image for i, image in enumerate(self.numbered) if i not in self.joined}

    def base(self, series: int | Literal["all"]) -> Any:
        """Return the image whose tags and metadata are those of the chosen ones."""
        return self.numbered[0 if series == "all" else series]


def find_images(tif: Any, data: HeaderBytes) -> Images:
    """Return the image series of an open file; pages of one shape and dtype are one of them.

    tifffile puts those pages together that are also stored alike: a header frame in other strips,
    or a frame that was appended, would be a series of its own. They are joined in the order of the
    pages, unless the file's metadata (names, OME-XML, a pyramid, NewSubfileType) distinguish them.
    """
    images = _series_of(tif, data)
    groups: dict[Any, list[int]] = {}
    for i, image in enumerate(images):
        key = _joinable(image)
        if key is not None:
            groups.setdefault(key, []).append(i)
    joined = {members[0]: _join(images, members) for members in groups.values() if members[1:]}
    later = frozenset(i for members in groups.values() for i in members[1:])
    return Images([joined.get(i, image) for i, image in enumerate(images)], later)


def _series_of(tif: Any, data: HeaderBytes) -> list[Any]:
    """Return tifffile's series; where it took pages for alike that are not, those of each page.

    Of many pages tifffile looks at the tags of a few.
    """
    try:
        images = list(tif.series)
    except RuntimeError:  # a page has another number of segments
        if not tif.is_uniform and not tif.is_imagej:
            raise
    else:
        if images and images[0].kind not in ("uniform", "imagej"):
            return images
        if all(len(set(read_storage(image, data, _SIZE))) <= 1 for image in images):
            return images
    tif.is_uniform = tif.is_imagej = False
    vars(tif).pop("series", None)
    return list(tif.series)


def _joinable(image: Any) -> Any:
    """Return what images share that are joined, None for one that stands for itself."""
    keyframe = image.keyframe
    is_page = len(image.levels) == 1 and not _is_minor(image)
    if image.kind == "shaped":
        is_single = image.size == math.prod(keyframe.shape)
        is_page = is_page and is_single and _has_shape_alone(keyframe.shaped_description)
    if not is_page or image.kind not in ("generic", "shaped", "uniform"):
        return None
    if any(page is None or len(page.treeindex) > 1 for page in image.pages):
        return None  # SubIFDs belong to their page
    shape = tuple(image.shape) if image.kind == "shaped" else keyframe.shape
    return image.kind, shape, keyframe.shape, keyframe.axes, str(image.dtype)


def _has_shape_alone(description: str | None) -> bool:
    """Return whether tifffile's JSON says no more of an image than its shape, as by default."""
    try:
        found = parse_json(description or "")
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == {"shape"}


def _join(images: Sequence[Any], members: Sequence[int]) -> Any:
    pages = [page for i in members for page in images[i].pages]
    pages.sort(key=lambda page: page.index)
    first = images[members[0]]
    return tifffile.TiffPageSeries(
        pages,
        (len(pages), *first.keyframe.shape),
        first.dtype,
        "I" + first.keyframe.axes,
        kind=JOINED,
        name=first.name,
    )


def alike_parts(image: Any, data: HeaderBytes, url: str) -> list[tuple[Any, list[int]]]:
    """Return parts of an image whose pages are stored alike, with the places of their pages.

    Raises
    ------
    UnreadableFileError
        If a page has another shape or dtype than the image, or there are more or fewer pages.
    """
    places: dict[Any, list[int]] = {}
    for i, storage in enumerate(read_storage(image, data, _STORAGE)):
        places.setdefault(storage, []).append(i)
    if len(places) <= 1:
        return [(image, list(range(len(image))))]
    if math.prod(image.shape) != len(image) * math.prod(image.keyframe.shape):
        raise UnreadableFileError(
            f"{url}: {len(image)} pages of {image.keyframe.shape} were found, but the image is "
            f"declared as {image.shape}",
            url=url,
        )
    parts = []
    expected = image.keyframe.shape, image.keyframe.dtype
    # absent pages are stored in whatever way
    absent = places.pop(None, [])
    for members in places.values():
        pages = [image.pages[i].aspage() for i in members] + [None] * len(absent)
        first = pages[0]
        if (first.shape, first.dtype) != expected:
            raise UnreadableFileError(
                f"{url}: page {members[0]} of the image is {first.shape} {first.dtype}, the first "
                f"is {expected[0]} {expected[1]}; leave the file out with `exclude`",
                url=url,
            )
        part = tifffile.TiffPageSeries(
            pages, (len(pages), *first.shape), image.dtype, "I" + first.axes, kind=JOINED
        )
        parts.append((part, members + absent))
        absent = []
    return parts


_SIZE = frozenset({256, 257, 258, 277, 339, 32997})
"""Tags that set shape and dtype of a page: width, length, bits, samples, sample format, depth."""

_STORAGE = _SIZE | {259, 262, 266, 278, 284, 317, 322, 323, 338, 530, 32998}
"""Tags that set how its bytes become pixels: compression, photometric interpretation, order of
bits, rows per strip, planar configuration, predictor, tiles, extra samples, chroma subsampling."""

_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 13: 4, 16: 8, 17: 8, 18: 8}


def read_storage(image: Any, data: HeaderBytes, tags: frozenset[int]) -> list[Any]:
    """Return what each page of an image says under some tags; equal if they are stored alike.

    tifffile takes the pages of a series to be like the first. This reads the directories alone, at
    a tenth of the cost of parsing them.

    Returns
    -------
    list
        A hashable value per page, None for one that is absent; nothing for an image of one page.
    """
    pages = image.pages
    if len(pages) < 2 or image.is_multifile:
        return []
    tif = image.keyframe.parent
    order, is_big = tif.byteorder, tif.is_bigtiff
    head, inline = (8, 8) if is_big else (2, 4)
    count_of = struct.Struct(order + ("Q" if is_big else "H")).unpack
    entries = struct.Struct(order + ("HHQ8s" if is_big else "HHI4s"))
    at_of = struct.Struct(order + ("Q" if is_big else "I")).unpack
    found: list[Any] = []
    with data.aside():
        for page in pages:
            if page is None:
                found.append(None)
                continue
            count = count_of(data.read(page.offset, head))[0]
            body = data.read(page.offset + head, count * entries.size)
            own = []
            for tag, kind, n, value in entries.iter_unpack(body):
                if tag in tags:
                    nbytes = _ITEM_BYTES.get(kind, 0) * n
                    if nbytes > inline:
                        value = data.read(at_of(value)[0], nbytes)
                    own.append((tag, value[:nbytes]))
            found.append(tuple(own))
    return found


def choose_images(images: Images, series: int | str, level: int, url: str) -> list[Any]:
    """Return the images that the options `series` and `level` mean, all of them alike.

    Raises
    ------
    UnreadableFileError
        If there is no image.
    OptionError
        If there is no such series or level.
    """
    numbered = images.numbered
    if not numbered:
        raise UnreadableFileError(f"{url} holds no image; {advice_for(url)}", url=url)
    if series == "all":
        chosen = [image for image in images.whole().values() if _is_like(image, numbered[0])]
    elif isinstance(series, int) and 0 <= series < len(numbered):
        chosen = [numbered[series]]
    else:
        raise OptionError(f"series={series}, but {url} has {len(numbered)} series", url=url)
    fewest = min(len(image.levels) for image in chosen)
    if not 0 <= level < fewest:
        raise OptionError(
            f"level={level}, but series {series} of {url} has {fewest} level(s)", url=url
        )
    return [image.levels[level] for image in chosen]


def _is_like(image: Any, first: Any) -> bool:
    return (image.shape, image.axes, image.dtype) == (first.shape, first.axes, first.dtype) and (
        image is first or not _is_minor(image)
    )


def _is_minor(image: Any) -> bool:
    """Whether an image is a mask or a smaller copy of another one."""
    keyframe = image.keyframe
    return bool(keyframe.is_reduced or keyframe.is_mask or (image.name or "").lower() in _PREVIEWS)


def list_others(images: Images, chosen: Sequence[Any]) -> tuple[OtherSeries, ...]:
    """Return the images of a file that are not among the chosen ones or their levels."""
    taken = {id(image) for image in chosen}
    return tuple(
        OtherSeries(
            index=index,
            name=str(image.name or ""),
            shape=tuple(int(n) for n in image.shape),
            dtype=str(image.dtype),
            dims=name_dims(image.axes),
            is_minor=_is_minor(image),
        )
        for index, image in images.whole().items()
        if not any(id(level) in taken for level in image.levels)
    )


def refuse_cut_chain(tif: Any, data: HeaderBytes, url: str) -> None:
    """Raise if the chain of pages, walked to its end, leads out of the file.

    tifffile goes on with the pages before. A chain that leads back to an earlier page is no loss.
    """
    with data.aside():
        at = tif.pages.next_page_offset
        if at is None:
            return
        order, is_big = tif.byteorder, tif.is_bigtiff
        number = order + ("Q" if is_big else "I")
        found = _unpack(number, data, at)
        if found == 0:
            return
        count = None if found is None else _unpack(order + ("Q" if is_big else "H"), data, found)
        if found is not None and count is not None and 0 < count <= _MOST_TAGS:
            head, entry = (8, 20) if is_big else (2, 12)
            if _unpack(number, data, found + head + entry * count) is not None:
                return
    where = f"byte {at:,}" if found is None else f"byte {found:,}"
    raise UnreadableFileError(
        f"{url} is truncated or corrupt: the page after the last that can be read should be at "
        f"{where}, which holds none; copy it again, or leave it out with `exclude`",
        url=url,
    )


def _unpack(form: str, data: HeaderBytes, at: int) -> int | None:
    """Return the number at a place, None where the file ends before."""
    size = struct.calcsize(form)
    raw = data.read(at, size)
    return struct.unpack(form, raw)[0] if len(raw) == size else None
