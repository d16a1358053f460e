"""Names, colors, wavelengths and display ranges of the channels of a collection."""

from __future__ import annotations

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
    from collections.abc import Callable

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
) -> dict[str, ChannelData]:
    """Return what is known of the channels by its key, nothing where there is no channel dim.

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
        return {}
    found = {key: _channel_values(layout, dim, files, key) for key in CHANNEL_KEYS[1:]}
    found["channel_names"] = _name_channels(layout, dim, files, names)
    return {key: values for key in CHANNEL_KEYS if (values := found[key]) is not None}


def channel_dim(layout: Layout) -> Dim | None:
    """Return the dim of the channels, None where there is none."""
    return next((dim for dim in layout.dims if role_of(dim.name) == Role.CHANNEL), None)


def _name_channels(
    layout: Layout,
    dim: Dim,
    files: Mapping[int, FileMetadata],
    option: Sequence[str] | Mapping[Any, str] | None,
) -> ChannelData | None:
    """Return a name for each channel, None where nothing is known."""
    if option is not None and not isinstance(option, Mapping):
        return ChannelData(_checked_names(option, dim), "option")
    index = index_of(layout, dim).tolist()
    if dim.file_dim is None and all(isinstance(value, str) for value in index):
        found: ChannelData | None = ChannelData(tuple(index), FILE_NAMES)
    else:
        found = _channel_values(layout, dim, files, "channel_names")
    return _renamed(found, option, index, dim.name) if option else found


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
    layout: Layout, dim: Dim, files: Mapping[int, FileMetadata], key: str
) -> ChannelData | None:
    """Return what files say of their channels under one key; warn where they disagree."""
    chosen, dissent = values_along(layout, dim, files, lambda file: file.channels.get(key, ()))
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
) -> tuple[dict[int, tuple[tuple[Any, ...], FileMetadata]], list[tuple[str, tuple[Any, ...]]]]:
    """Return the values of files along a dim: by position of its axis, those of the first file.

    Where a file lists the values of the whole collection, and the names count from 0 or 1, they go
    by number, also for files that were not asked.

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
    is_counted = dim.file_dim is None and steps_by_one(index) and index[0] in (0, 1)
    chosen: dict[int, tuple[tuple[Any, ...], FileMetadata]] = {}
    dissent: list[tuple[str, tuple[Any, ...]]] = []
    whole: tuple[tuple[Any, ...], FileMetadata] | None = None
    for row, file in files.items():
        position, values = positions.get(row), get(file)
        if position is None or not values:
            continue
        if is_counted and len(values) == dim.size:
            whole = whole or (values, file)
            values = values[position : position + 1]
        if len(values) != sizes[position]:
            continue
        first, first_file = chosen.setdefault(position, (values, file))
        if first != values and not dissent:
            dissent = [(first_file.url, first), (file.url, values)]
    if whole is not None:
        for position in range(dim.size):
            chosen.setdefault(position, (whole[0][position : position + 1], whole[1]))
    return chosen, dissent


def _offsets(dim: Dim) -> tuple[int, ...]:
    """Return where the positions of a dim's axis begin, and the end; without an axis one."""
    if dim.offsets is not None:
        return dim.offsets
    return tuple(range(dim.size + 1)) if dim.axis is not None else (0, dim.size)
