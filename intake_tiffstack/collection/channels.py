"""Names, colors, wavelengths and display ranges of the channels of a collection."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.collection.calibration import FILE_NAMES
from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import OptionError, warn
from intake_tiffstack.layout.lookup import index_of, positions_of, steps_by_one
from intake_tiffstack.metadata.model import CHANNEL_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Dim, Layout
    from intake_tiffstack.metadata.model import FileMetadata

__all__ = ["ChannelData", "channel_dim", "describe_channels", "values_along"]

_MAY_DIFFER = "display_ranges"  # every file is shown by its own pixels


@dataclass(frozen=True)
class ChannelData:
    """One value per position along a dim, with their source."""

    values: tuple[Any, ...]
    provenance: str


def describe_channels(
    layout: Layout,
    files: Mapping[int, FileMetadata],
    names: Sequence[str] | Mapping[Any, str] | None,
    numbers: Mapping[str, NDArray[Any]],
) -> dict[str, ChannelData]:
    """Return the metadata of the channels by key; without a channel dim, of the only channel.

    Parameters
    ----------
    layout : Layout
    files : mapping[int, FileMetadata]
        By row.
    names : sequence or mapping, optional
        The option ``channel_names``.
    numbers : mapping[str, ndarray]
        Distinct values of integer fields before ``sel``.

    Raises
    ------
    OptionError
        If the option *names* does not fit the channels.
    """
    dim = channel_dim(layout)
    if dim is None:
        if names:
            known = ", ".join(dim.name for dim in layout.dims)
            raise OptionError(
                f"channel_names names {len(names)} channels, but the result has no channel dim: "
                f"its dims are {known}"
            )
        return _describe_the_one(files.values())
    listed = numbers.get(dim.name)
    found = {key: _channel_values(layout, dim, files, key, listed) for key in CHANNEL_KEYS[1:]}
    found["channel_names"] = _name_channels(layout, dim, files, names, listed)
    return {key: values for key in CHANNEL_KEYS if (values := found[key]) is not None}


def channel_dim(layout: Layout) -> Dim | None:
    """Return the dim of the channels, None where there is none."""
    return next((dim for dim in layout.dims if role_of(dim.name) == Role.CHANNEL), None)


def _describe_the_one(files: Iterable[FileMetadata]) -> dict[str, ChannelData]:
    """Return what is known of the channel of files that have one each, if it is the same one."""
    found: dict[str, ChannelData] = {}
    for key in CHANNEL_KEYS:
        known = [(file, file.channel_values(key)) for file in files if key in file.channels]
        if known and (key == _MAY_DIFFER or len({repr(values) for _, values in known}) == 1):
            file, values = known[0]
            if len(values) == 1:
                found[key] = ChannelData(values, file.provenance[key])
    names = {file.channel_values("channel_names") for file in files}
    return found if len(names) < 2 else {}  # several channels that no dim tells apart


def _name_channels(
    layout: Layout,
    dim: Dim,
    files: Mapping[int, FileMetadata],
    option: Sequence[str] | Mapping[Any, str] | None,
    listed: NDArray[Any] | None,
) -> ChannelData | None:
    """Return a name for each channel, None where nothing is known.

    A text in the names is the name of the channel, as its own coordinate or beside it; a number
    beside it (a wavelength) is one where the files know none.
    """
    if option is not None and not isinstance(option, Mapping):
        return ChannelData(_checked_names(option, dim), "option")
    index = index_of(layout, dim).tolist()
    if all(isinstance(value, str) for value in index):
        found: ChannelData | None = ChannelData(tuple(index), FILE_NAMES)
    else:
        found = (
            _names_beside(layout, dim, is_text=True)
            or _channel_values(layout, dim, files, "channel_names", listed)
            or _names_beside(layout, dim, is_text=False)
        )
    return _renamed(found, option, index, dim.name) if option else found


# Parts of the names of fields that say what a channel is.
_TELLING = re.compile(
    "chan|wave|lambda|dye|stain|marker|fluor|filter|label|laser|excit|emis|antibody|protein|target"
    "|probe|colou?r|band|name",
    re.IGNORECASE,
)


def _is_telling(name: str) -> bool:
    return _TELLING.search(name) is not None or role_of(name) == Role.CHANNEL


def _names_beside(layout: Layout, dim: Dim, *, is_text: bool) -> ChannelData | None:
    """Return the values of a field that the channel decides, a different one for each.

    A text goes before what the files say only if the field's name promises what a channel is. A
    channel without a file has no value, and so no name.
    """
    for name in sorted(layout.coords, key=lambda name: not _is_telling(name)):
        dims, values = layout.coords[name]
        if name == dim.name or values.dtype.kind not in ("UO" if is_text else "UOiuf"):
            continue
        known = [value for value in values.flat if value is not None and value == value]
        is_telling = _is_telling(name)
        is_one = dims == () and dim.size == 1 and is_telling
        if not is_one and (dims != (dim.name,) or not known or len({*known}) != len(known)):
            continue
        if is_telling or not is_text:
            texts = {v: f"{v:g}" if isinstance(v, float) else str(v) for v in known}
            return ChannelData(tuple(texts.get(v, "") for v in values.flat), FILE_NAMES)
    return None


def _checked_names(option: Sequence[str], dim: Dim) -> tuple[str, ...]:
    if isinstance(option, str) or len(option) != dim.size:
        raise OptionError(
            f"channel_names should list {dim.size} names, one per position along {dim.name}, "
            f"but got {reprlib.repr(option)}"
        )
    return tuple(str(name) for name in option)


def _renamed(
    found: ChannelData | None, option: Mapping[Any, str], index: list[Any], dim: str
) -> ChannelData:
    """Return the names with those that the option gives by value of the channel's coordinate."""
    places = {str(value): i for i, value in enumerate(index)}
    known = found or ChannelData(("",) * len(index), "option")
    texts = list(known.values)
    for value, name in option.items():
        if str(value) not in places:
            raise OptionError.unknown(f"value of {dim} in channel_names", str(value), places)
        texts[places[str(value)]] = str(name)
    is_whole = known.provenance == "option" or len(option) == len(index)
    return ChannelData(tuple(texts), "option" if is_whole else f"option, else {known.provenance}")


def _channel_values(
    layout: Layout,
    dim: Dim,
    files: Mapping[int, FileMetadata],
    key: str,
    listed: NDArray[Any] | None,
) -> ChannelData | None:
    """Return what files say of their channels under one key; warn where they disagree."""
    chosen, dissent = values_along(
        layout, dim, files, lambda file: file.channel_values(key), listed
    )
    _take_others(chosen, layout, dim, files, key)
    if dissent and key != _MAY_DIFFER:
        claims = [f"{url} has {reprlib.repr(list(values))}" for url, values in dissent]
        what = "names" if key == "channel_names" else key.partition("_")[2] or key
        if key in ("emission_wavelengths", "excitation_wavelengths"):
            what = key.replace("_", " ")
        advice = ", give the option channel_names to settle it" if what == "names" else ""
        warn(
            f"files disagree on the {what} of channels: {' but '.join(claims)}; the first are used"
            f"{advice}"
        )
    if not chosen:
        return None
    blank = "" if key == "channel_names" else None
    sizes = np.diff(_offsets(dim)).tolist()
    parts = [chosen[i][0] if i in chosen else (blank,) * size for i, size in enumerate(sizes)]
    sources = dict.fromkeys(file.provenance[key] for _, file in chosen.values())
    return ChannelData(tuple(value for part in parts for value in part), few_sources(list(sources)))


def few_sources(sources: Sequence[str]) -> str:
    """Return the first of several sources, and whether there are others."""
    return sources[0] + (" and others" if len(sources) > 1 else "")


def values_along(
    layout: Layout,
    dim: Dim,
    files: Mapping[int, FileMetadata],
    get: Callable[[FileMetadata], tuple[Any, ...]],
    listed: NDArray[Any] | None = None,
) -> tuple[dict[int, tuple[tuple[Any, ...], FileMetadata]], list[tuple[str, tuple[Any, ...]]]]:
    """Return the values of files along a dim: by position of its axis, those of the first file.

    Where a file lists the values of the whole collection, and the names count from 0 or 1, they go
    by number, also for files that were not asked.

    Parameters
    ----------
    layout : Layout
    dim : Dim
        Along which.
    files : mapping[int, FileMetadata]
        By row.
    get : callable
        Returns the values of a file.
    listed : ndarray, optional
        Distinct values of the dim's field before ``sel``, ascending.

    Returns
    -------
    dict
        Position along the axis (0 for a dim that only the files have) to values and their file.
    list
        URL and values of two files that disagree at one position, else nothing.
    """
    sizes = np.diff(_offsets(dim)).tolist()
    positions = positions_of(layout, dim, files)
    index = index_of(layout, dim)
    chosen: dict[int, tuple[tuple[Any, ...], FileMetadata]] = {}
    dissent: list[tuple[str, tuple[Any, ...]]] = []
    whole: tuple[tuple[Any, ...], FileMetadata] | None = None
    for row, file in files.items():
        position, values = positions.get(row), get(file)
        if position is None or not values:
            continue
        numbers = None if dim.file_dim is not None else _numbers(index, listed, len(values))
        if numbers is not None and (len(values) > 1 or dim.size == 1):
            whole = whole or (values, file)
            values = values[numbers[position] : numbers[position] + 1]
        if len(values) != sizes[position]:
            continue
        first, first_file = chosen.setdefault(position, (values, file))
        if first != values and not dissent:
            dissent = [(first_file.url, first), (file.url, values)]
    numbers = None if whole is None else _numbers(index, listed, len(whole[0]))
    if whole is not None and numbers is not None:
        for position, number in enumerate(numbers):
            chosen.setdefault(position, (whole[0][number : number + 1], whole[1]))
    return chosen, dissent


def _numbers(
    index: NDArray[Any], listed: NDArray[Any] | None, count: int
) -> tuple[int, ...] | None:
    """Return which of *count* values each position has, by its number; None if that is unknown.

    Names count from 0 if they have a 0, and from 1 if they have all of 1, 2, ..., *count*.

    >>> _numbers(np.array([1, 3]), np.array([1, 2, 3, 4]), 4), _numbers(np.array([0, 2]), None, 3)
    ((0, 2), (0, 2))
    >>> _numbers(np.array([1, 3]), None, 4)
    """
    known = index if listed is None else listed
    if index.dtype.kind not in "iu" or known.dtype.kind not in "iu":
        return None
    first = int(known.min())
    is_complete = first == 1 and steps_by_one(known) and len(known) == count
    if (first != 0 and not is_complete) or known.max() - first >= count:
        return None
    return tuple(int(value) - first for value in index)


def _take_others(
    chosen: dict[int, tuple[tuple[Any, ...], FileMetadata]],
    layout: Layout,
    dim: Dim,
    files: Mapping[int, FileMetadata],
    key: str,
) -> None:
    """Add channels of files that were not read, if the files that were read number all of them.

    A file of a set lists all channels of the set, and which of them are its own.
    """
    index, positions = index_of(layout, dim), positions_of(layout, dim, files)
    if dim.file_dim is not None or index.dtype.kind not in "iu":
        return
    numbered = {
        row: int(index[positions[row]]) - file.own_channels[0]
        for row, file in files.items()
        if len(file.own_channels) == 1 and key in file.channels and row in positions
    }
    if len(set(numbered.values())) != 1:
        return
    row, first = next(iter(numbered.items()))
    values = files[row].channels[key]
    for position, number in enumerate(index.tolist()):
        if 0 <= number - first < len(values):
            own = values[number - first : number - first + 1]
            chosen.setdefault(position, (own, files[row]))


def _offsets(dim: Dim) -> tuple[int, ...]:
    """Return where the positions of a dim's axis begin, and the end; without an axis one."""
    if dim.offsets is not None:
        return dim.offsets
    return tuple(range(dim.size + 1)) if dim.axis is not None else (0, dim.size)
