"""The options of ``export()`` and ``persist()``: their types, defaults and choices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from intake_tiffstack.copies.verify import Verify
from intake_tiffstack.errors import OptionError
from intake_tiffstack.progress import Progress

Lengths = int | Sequence[int] | Mapping[str, int]


class PersistOptions(TypedDict, total=False):
    """Options of ``persist()`` beside ``ttl``."""

    zarr_format: Literal[2, 3]
    chunks: Lengths | None
    shards: Lengths | Literal["auto"] | None
    compressor: Any  # "default", None, or a codec of zarr or numcodecs
    verify: Verify
    progress: Progress


class CommonExportOptions(TypedDict, total=False):
    """Options of every format."""

    storage_options: Mapping[str, Any] | None
    dry_run: bool
    overwrite: bool
    verify: Verify
    sha256: bool
    progress: Progress


class ZarrExportOptions(CommonExportOptions, total=False):
    """Options of ``format="zarr"``."""

    append: str | None
    group: bool
    zarr_format: Literal[2, 3]
    chunks: Lengths | None
    shards: Lengths | Literal["auto"] | None
    compressor: Any
    resume: bool


class OmeZarrExportOptions(CommonExportOptions, total=False):
    """Options of ``format="ome-zarr"``."""

    append: str | None
    zarr_format: Literal[2, 3] | None
    chunks: Sequence[int] | None
    shards: Sequence[int] | Literal["auto"] | None
    compressor: Any
    resume: bool
    version: Literal["0.4", "0.5", "0.6"]
    name: str | None
    sel: Mapping[str, Any] | None
    levels: Literal["auto", "source"] | int | Sequence[Any] | Mapping[str, int]
    downsample: Literal["mean", "nearest", "mode"]
    colors: Sequence[str] | Mapping[str, str] | None
    windows: Sequence[Sequence[float]] | Mapping[str, Sequence[float]] | None


class OmeTiffExportOptions(CommonExportOptions, total=False):
    """Options of ``format="ome-tiff"``."""

    name: str | None
    sel: Mapping[str, Any] | None
    levels: Literal["auto", "source"] | int | Sequence[Any] | Mapping[str, int]
    downsample: Literal["mean", "nearest", "mode"]
    tile: int | Sequence[int]
    compression: Literal["zlib", "lzw", "zstd"] | None


class ReferencesExportOptions(CommonExportOptions, total=False):
    """Options of ``format="references"``."""


class IcechunkExportOptions(CommonExportOptions, total=False):
    """Options of ``format="icechunk"``."""

    append: str | None
    ome: bool


OPTIONS: Mapping[str, type] = {
    "zarr": ZarrExportOptions,
    "ome-zarr": OmeZarrExportOptions,
    "ome-tiff": OmeTiffExportOptions,
    "references": ReferencesExportOptions,
    "icechunk": IcechunkExportOptions,
}
"""The options of each format."""

DEFAULTS: Mapping[str, Any] = {
    "storage_options": None,
    "dry_run": False,
    "overwrite": False,
    "verify": "sample",
    "sha256": False,
    "progress": None,
    "append": None,
    "group": False,
    "ome": False,
    "zarr_format": 3,
    "chunks": None,
    "shards": "auto",
    "compressor": "default",
    "resume": True,
    "version": "0.5",
    "name": None,
    "sel": None,
    "levels": "auto",
    "downsample": "mean",
    "colors": None,
    "windows": None,
    "tile": 512,
    "compression": "zlib",
}
"""The default of each option, as signatures show it; OME-Zarr 0.4 has ``zarr_format=2``."""


def check_options(keywords: type, given: Mapping[str, Any], *, function: str) -> None:
    """Raise unless every option is known and, where there are choices, is one of them. Pure.

    Parameters
    ----------
    keywords : type
        The TypedDict of what is accepted.
    given : mapping
        Options by name.
    function : str
        Name of the caller, for the message.

    Raises
    ------
    OptionError
        If a name is unknown, or a value is not one of the choices.
    """
    hints = get_type_hints(keywords)
    for name, value in given.items():
        if name not in hints:
            raise OptionError.unknown(f"option of {function}", name, hints)
        choices = _choices(hints[name])
        is_plain = isinstance(value, (str, int, NoneType))  # an array compares to an array
        if choices and not (is_plain and value in choices):
            *firsts, last = map(repr, choices)
            raise OptionError(f"{name} must be {', '.join(firsts)} or {last}, but got {value!r}")


def _choices(hint: Any) -> tuple[Any, ...]:
    """Return all values that a type allows, none if they are not counted out. Pure.

    >>> _choices(bool), _choices(Literal["a", False] | None), _choices(Literal["a"] | int)
    ((True, False), ('a', False, None), ())
    """
    if hint is bool:
        return (True, False)
    if hint is NoneType:
        return (None,)
    if get_origin(hint) is Literal:
        return get_args(hint)
    members = [_choices(member) for member in get_args(hint)]
    return sum(members, ()) if members and all(members) else ()


def show_options(function: Callable[..., Any], *keywords: type) -> None:
    """Give a function that takes ``**options`` a signature that names each of them."""
    shown = inspect.signature(function)
    own = [p for p in shown.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    hints: dict[str, Any] = {}
    for each in keywords:  # where formats differ, the first is shown
        hints |= {k: v for k, v in get_type_hints(each).items() if k not in hints}
    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=hint
        )
        for name, hint in hints.items()
    ]
    function.__signature__ = shown.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
