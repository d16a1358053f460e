"""The options of a collection: one list of names, defaults and meanings.

The driver, :func:`intake_tiffstack.open_stack` and the command line take theirs from here, and
``docs/options.md`` is written from it, so that they cannot drift apart. An option describes the
data; what describes the machine is configuration (``tiffstack`` in dask's config).
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Number
from typing import Any, Literal, get_args

import yaml

from intake_tiffstack.errors import OptionError

__all__ = ["Options", "option_signature", "option_table"]

Missing = Literal["raise", "fill", "mask", "trim"]
Duplicates = Literal["raise", "first", "last"]
Unmatched = Literal["raise", "warn", "ignore"]
Validate = Literal["auto", "all", "template"]
OnError = Literal["raise", "fill"]
PersistMode = Literal["default", "always", "never"]
OnStale = Literal["original", "refresh", "use", "error"]


def _option(values: str, doc: str, *, default: Any = MISSING, kind: str = "any") -> Any:
    metadata = {"values": values, "doc": doc, "kind": kind}
    if default is MISSING:
        return field(metadata=metadata)
    if default in ({}, []):
        return field(default_factory=type(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _choice(literal: Any, default: str, doc: str) -> Any:
    values = " ".join(f"`{v}`" for v in get_args(literal))
    return _option(values, doc, default=default, kind="choice")


@dataclass(frozen=True)
class Options:
    """Every option of a collection, as it was given and in one form.

    Make one with :meth:`parse`, which checks names, turns text into values (templates of a catalog
    give text) and brings each option into the form noted below.
    """

    urlpath: str | list[str] = _option(
        "str, list",
        "a file, folder, glob or list of these; local or any fsspec URL; a `.txt`, `.csv` or "
        "`.parquet` file is a list of URLs",
        kind="urlpath",
    )
    storage_options: dict[str, Any] = _option(
        "dict", "handed to fsspec", default={}, kind="mapping"
    )
    pattern: str | None = _option(
        "format string, regex with named groups, preset name, None",
        "how a path is read; None puts the files in natural order on the one dim that "
        "`concat_dim` names, else on `file`",
        default=None,
        kind="text",
    )
    concat_dim: list[str] | None = _option(
        "str, list",
        "the axis fields, outermost first; None: every field that has a role, in the order plate, "
        "position, t, c, z, y, x, else every field in the pattern's order",
        default=None,
        kind="names",
    )
    labels: dict[str, Any] = _option(
        "{field: [texts in order]} or {field: {text: label}}",
        "order and names of a text field's values, as written; a text that is not listed is an "
        "error",
        default={},
        kind="nested",
    )
    sel: dict[str, Any] = _option(
        "{field: value, list, or {from: a, to: b}}",
        "keeps files by the values in their names, both ends included, before the grid is built",
        default={},
        kind="nested",
    )
    exclude: list[str] = _option(
        "glob, list", "paths left out at listing (`*_thumb*`)", default=[], kind="texts"
    )
    sizes: dict[str, int] = _option(
        "{dim: n}",
        "asserted size of the grid, so that a lost last time point is a hole and not a shorter "
        "array",
        default={},
        kind="ints",
    )
    file_dims: list[str] | dict[str, int] | None = _option(
        "`zyx`, list, or {dim: n} with one -1",
        "dims inside a file, wins over the file's own labels; with sizes it unravels interleaved "
        "pages, slowest first, y and x implied: `{t: -1, z: 10, c: 3}`",
        default=None,
        kind="file dims",
    )
    dims: list[str] | None = _option(
        "list, or str of one-letter dims",
        "order of the result; None: `concat_dim` + `file_dims`",
        default=None,
        kind="dims",
    )
    chunks: Any = _option(
        "`auto`, `file`, `page`, int, tuple, {dim: n}",
        "any chunk shape; part of a page or many files; dims that a dict leaves out are chosen as "
        "`auto` would",
        default="auto",
        kind="chunks",
    )
    coords: dict[str, Any] = _option(
        "{dim: values} or {dim: field}",
        "labels a dim by hand or by another field",
        default={},
        kind="nested",
    )
    channel_names: list[str] | dict[Any, str] | None = _option(
        "list, or {value: name}",
        "names of the channels; None: from metadata; a list of the wrong length is an error",
        default=None,
        kind="list or dict",
    )
    scale: dict[str, float] = _option(
        "{dim: number}", "spacing along a dim; wins over metadata", default={}, kind="floats"
    )
    translation: dict[str, float] = _option(
        "{dim: number}",
        "position of the first pixel; wins over metadata",
        default={},
        kind="floats",
    )
    units: dict[str, str] = _option(
        "{dim: text}",
        "unit of scale and translation; wins over metadata",
        default={},
        kind="units",
    )
    series: int = _option("int", "which series inside a file", default=0, kind="int")
    level: int = _option("int", "which pyramid level inside a file", default=0, kind="int")
    missing: Missing = _choice(
        Missing,
        "raise",
        "a cell with no file; `mask` fills and adds the boolean coord `is_missing`; `trim` drops "
        "trailing positions of the outermost time-like dim until it is complete",
    )
    fill_value: Any = _option(
        "scalar", "value of pixels that no file gives", default=0, kind="number"
    )
    duplicates: Duplicates = _choice(
        Duplicates, "raise", "two files in one cell; first and last in natural order of path"
    )
    unmatched: Unmatched = _choice(
        Unmatched,
        "warn",
        "TIFFs listed that the pattern does not match: one warning with the count and two names",
    )
    validate: Validate = _choice(
        Validate,
        "auto",
        "which headers are read at open: `auto` all of up to 1,000 local files, else a few; `all` "
        "every one; `template` just one; each file is checked again when it is read",
    )
    on_error: OnError = _choice(
        OnError,
        "raise",
        "a file that cannot be read while computing; `fill` fills its part of the chunk and logs "
        "one warning a file in `intake_tiffstack.reading`; such a source is neither persisted nor "
        "exported",
    )
    arraytype: str = _option(
        '`numpy`, `cupy`, "pkg.mod:Class"',
        "what a chunk is; a dotted name needs the setting `allow_code`",
        default="numpy",
        kind="text",
    )
    persist_mode: PersistMode = _choice(
        PersistMode,
        "default",
        "whether a persisted copy is used: `always` unchecked, `never` not at all, `default` while "
        "it holds, where no catalog says otherwise",
    )
    on_stale: OnStale = _choice(
        OnStale, "original", "what to do when the copy no longer matches the files"
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Options:
        """Return the options that *values* give, defaults for the rest.

        Raises
        ------
        OptionError
            An unknown name (the near one is suggested) or a value of the wrong kind.
        """
        known = {f.name: f for f in fields(cls)}
        parsed: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise OptionError.unknown("option", name, known)
            if value is not None:  # as a YAML key without a value has it: the default
                parsed[name] = _parse(name, known[name].metadata, value)
        if not parsed.get("urlpath"):
            raise OptionError("urlpath is missing: give a file, folder, glob, or a list of these")
        for name, literal in _CHOICES.items():
            if name in parsed and parsed[name] not in get_args(literal):
                allowed = ", ".join(map(repr, get_args(literal)))
                raise OptionError(f"{name} must be one of {allowed}, but got {parsed[name]!r}")
        return cls(**parsed)


_CHOICES = {
    "missing": Missing,
    "duplicates": Duplicates,
    "unmatched": Unmatched,
    "validate": Validate,
    "on_error": OnError,
    "persist_mode": PersistMode,
    "on_stale": OnStale,
}


def option_signature(*, extra: Sequence[inspect.Parameter] = ()) -> inspect.Signature:
    """Return the one signature: ``urlpath``, then every option as a keyword. Pure."""
    parameters = [
        inspect.Parameter(
            f.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD
            if f.name == "urlpath"
            else inspect.Parameter.KEYWORD_ONLY,
            default=_default(f),
        )
        for f in fields(Options)
    ]
    return inspect.Signature([*parameters, *extra])


def _default(spec: Any) -> Any:
    if spec.default is not MISSING:
        return spec.default
    return inspect.Parameter.empty if spec.default_factory is MISSING else spec.default_factory()


def option_table() -> str:
    """Return the options as a Markdown table, as ``docs/options.md`` shows it. Pure."""
    rows = ["| option | values | default | meaning |", "|---|---|---|---|"]
    for f in fields(Options):
        default = _default(f)
        shown = "-" if default is inspect.Parameter.empty else f"`{default}`"
        rows.append(f"| `{f.name}` | {f.metadata['values']} | {shown} | {f.metadata['doc']} |")
    return "\n".join(rows) + "\n"


def option_docs() -> str:
    """Return the options as the Parameters section of a numpydoc docstring. Pure."""
    lines = ["Parameters", "----------"]
    for f in fields(Options):
        default = _default(f)
        shown = "" if default is inspect.Parameter.empty else f", default {default!r}"
        lines += [f"{f.name} : {f.metadata['values']}{shown}", f"    {f.metadata['doc']}."]
    return "\n".join(lines)


# -- from what was given to one form ------------------------------------------------------------


def _from_text(text: str) -> Any:
    """Return the number, list or dict that a text spells, else the text itself. Pure.

    >>> _from_text("{'c': 0}"), _from_text("{c: 0}"), _from_text("3"), _from_text("zyx")
    ({'c': 0}, {'c': 0}, 3, 'zyx')
    """
    stripped = text.strip()
    if not stripped or stripped[0] not in "[{(-+.0123456789":
        return text
    try:
        return ast.literal_eval(stripped)
    except (ValueError, SyntaxError):
        if stripped[0] not in "[{":  # YAML would read 010 as 8
            return text
    try:
        found = yaml.safe_load(stripped)
    except yaml.YAMLError:
        return text
    return found if isinstance(found, (list, dict)) else text


def _parse(name: str, metadata: Mapping[str, Any], value: Any) -> Any:
    parser = _PARSERS.get(metadata["kind"])
    if parser is None:
        return value
    try:
        return parser(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise OptionError(
            f"{name} must be {metadata['values']}, but got {value!r}: {exc}", option=name
        ) from exc


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("this is not text; quote it in YAML")
    return value


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, str):
        return [value] if value else []
    return _list_of_texts(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):  # a glob may begin with "[" and is no list then
        found = _from_text(value)
        return _list_of_texts(found if isinstance(found, list) else [value])
    return _list_of_texts(value)


def _list_of_texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        raise TypeError("this is a mapping")
    return [_text(v) for v in value]


def _dims(value: Any) -> list[str]:
    if isinstance(value, str):
        value = _from_text(value)
    names = _list_of_texts(value)  # a str gives its letters
    if len(set(names)) != len(names):
        raise ValueError("a dim is named twice; a str is read as one letter a dim")
    return names


def _file_dims(value: Any) -> list[str] | dict[str, int]:
    if isinstance(value, str):
        value = _from_text(value)
    return _ints(value) if isinstance(value, Mapping) else _dims(value)


def _mapping(value: Any) -> dict[Any, Any]:
    """Return a mapping whose values stay as they are: a well "010" is no number."""
    if isinstance(value, str):
        value = _from_text(value) if value.strip() else {}
    if not isinstance(value, Mapping):
        raise TypeError("this is not a mapping")
    return dict(value)


def _nested(value: Any) -> dict[Any, Any]:
    """Return a mapping whose values may be the text of a list or a mapping, as templates give."""
    return {
        k: _from_text(v) if isinstance(v, str) and v.strip()[:1] in ("[", "{") else v
        for k, v in _mapping(value).items()
    }


def _ints(value: Any) -> dict[str, int]:
    return {_text(k): _int(v) for k, v in _mapping(value).items()}


def _floats(value: Any) -> dict[str, float]:
    return {_text(k): float(v) for k, v in _mapping(value).items()}


def _units(value: Any) -> dict[str, str]:
    return {_text(k): _text(v) for k, v in _mapping(value).items()}


def _number(value: Any) -> Any:
    if isinstance(value, str):
        found = _from_text(value)
        value = float(found) if isinstance(found, str) else found  # "nan" and "inf" are numbers too
    if not isinstance(value, Number):
        raise TypeError("this is not a number")
    return value


def _int(value: Any) -> int:
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, bool) or int(value) != value:
        raise TypeError("this is not a whole number")
    return int(value)


def _list_or_dict(value: Any) -> Any:
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, Mapping):
        return {k: str(v) for k, v in value.items()}
    if isinstance(value, str):
        return [value]
    return [str(v) for v in value]


def _chunks(value: Any) -> Any:
    return _from_text(value) if isinstance(value, str) else value


def _urlpath(value: Any) -> str | list[str]:
    if isinstance(value, (str, os.PathLike)):
        return _collapse(os.fspath(value))
    return [_collapse(os.fspath(v)) for v in value]


def _collapse(path: str) -> str:
    """Return a local path with single slashes: ``{{ CATALOG_DIR }}/raw`` gives two. Pure."""
    return path if "://" in path else re.sub(r"(?<!^)/{2,}", "/", path)


_PARSERS: dict[str, Any] = {
    "urlpath": _urlpath,
    "text": _text,
    "names": _names,
    "texts": _texts,
    "dims": _dims,
    "file dims": _file_dims,
    "mapping": _mapping,
    "nested": _nested,
    "ints": _ints,
    "floats": _floats,
    "units": _units,
    "number": _number,
    "int": _int,
    "list or dict": _list_or_dict,
    "chunks": _chunks,
}
