"""What the names of files say: paths to fields, by format string, regex or preset.

Everything here is pure: text in, values out. A pattern is compiled once
(:func:`compile_pattern`) and read over all paths at once (:func:`match_paths`).
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.errors import PatternError
from intake_tiffstack.fields import (
    ROLES,
    Field,
    Kind,
    Role,
    natural_key,
    parse_value,
    role_of,
    text_reader,
)
from intake_tiffstack.format_string import compile_format
from intake_tiffstack.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.format_string import Hinge

__all__ = [
    "ROLES",
    "Field",
    "Kind",
    "Matches",
    "Pattern",
    "Role",
    "compile_pattern",
    "default_concat_dim",
    "match_paths",
    "natural_key",
    "parse_value",
    "parts_below",
    "relevant_parts",
    "role_of",
]


@dataclass(frozen=True)
class Pattern:
    """How a path is read; made by :func:`compile_pattern`, hashable and picklable."""

    #: What the user wrote: a format string, a regex, or the name of a preset.
    text: str
    #: The named parts, in the order of the pattern.
    fields: tuple[Field, ...]
    #: The regex that is applied; of a format string, the one of the shortest reading.
    regex: re.Pattern[str]
    #: How many parts of a path, from the last, a format string is matched against; None for a
    #: regex, which is searched in all that lies below the root.
    n_parts: int | None = None
    #: The regex of a format string's longest reading; None for a regex.
    longest: re.Pattern[str] | None = None
    #: A name that is settled at each of these can be read in one way only.
    hinges: tuple[Hinge, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a pattern without a field, which tells no file from another."""
        if self.fields:
            return
        near = get_close_matches(self.text, PRESETS, n=1)
        hint = f"; did you mean the preset {near[0]!r}?" if near else ""
        raise PatternError(
            f"pattern {self.text!r} names no field{hint}\n"
            "Write {t:d}, or (?P<t>[0-9]+) in a regex, for a part that differs from file to file, "
            f"or take a preset: {', '.join(PRESETS)}.",
            pattern=self.text,
        )


@dataclass(frozen=True)
class Matches:
    """What a pattern read in many paths, a column a field."""

    #: Which of the given paths match, ascending.
    indices: NDArray[np.intp]
    #: The converted value of each matched path, by field.
    columns: dict[str, list[Any]]
    #: The text as written of each matched path, by field.
    texts: dict[str, list[str]]
    #: What each ``{}`` took, by matched path.
    unnamed: list[tuple[str, ...]]

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        lengths = {len(c) for c in (*self.columns.values(), *self.texts.values(), self.unnamed)}
        if lengths - {len(self.indices)}:
            raise PatternError(
                f"{len(self.indices)} paths match, but got columns of lengths {sorted(lengths)}"
            )


def default_concat_dim(pattern: Pattern, present: Collection[str] | None = None) -> tuple[str, ...]:
    """Return the axis fields that a pattern has where ``concat_dim`` is not given; pure.

    Every field with a role, in the order of :data:`ROLES`; fields of one role in the order of the
    pattern, but ``row`` before ``column``. Where no field has a role, every field.

    Parameters
    ----------
    pattern
        The compiled pattern.
    present
        The fields to choose from: those that took part (``Matches.columns``), since a regex or
        preset may have optional ones. None means all.

    Examples
    --------
    >>> default_concat_dim(compile_pattern("{z:d}_{c}_{msec:d}_{t:d}.tif"))
    ('t', 'c', 'z')
    >>> default_concat_dim(compile_pattern("{chip}_{sensor}.tif"))
    ('chip', 'sensor')
    """
    names = [f.name for f in pattern.fields if present is None or f.name in present]
    order = list(ROLES)
    places = {
        name: (order.index(role), name.lower() == "column")
        for name in names
        if (role := role_of(name)) is not None
    }
    return tuple(sorted(places, key=places.__getitem__) or names)


def compile_pattern(text: str) -> Pattern:
    r"""Return the compiled pattern for a format string, a regex or the name of a preset; pure.

    Raises
    ------
    PatternError
        Where the text cannot be read as any of these, or names no field.

    Examples
    --------
    >>> [(f.name, f.kind) for f in compile_pattern("{}_ch{c:d}_{day:%Y%m%d}.tif").fields]
    [('c', 'int'), ('day', 'time')]
    >>> [(f.name, f.kind) for f in compile_pattern(r"_(?P<well>[A-P]\d\d)_s(?P<s>\d+)").fields]
    [('well', 'text'), ('s', 'int')]
    """
    preset = PRESETS.get(text)
    source = preset.pattern if preset else text
    if "(?P<" in source:
        return _compile_regex(text, source)
    compiled = compile_format(source)
    return Pattern(
        text,
        compiled.fields,
        compiled.shortest,
        n_parts=source.count("/") + 1,
        longest=compiled.longest,
        hinges=compiled.hinges,
    )


def relevant_parts(pattern: Pattern, paths: Sequence[str], root: str) -> list[str]:
    """Return the part of each path that the pattern is applied to; pure.

    Parameters
    ----------
    pattern
        The compiled pattern.
    paths
        URLs, or local paths with forward slashes.
    root
        What all of them begin with, ending in ``/``.

    Examples
    --------
    >>> paths = ["/data/a/b/t1.tif"]
    >>> relevant_parts(compile_pattern("{plate}/t{t:d}.tif"), paths, "/data/")
    ['b/t1.tif']
    >>> relevant_parts(compile_pattern("t(?P<t>[0-9])"), paths, "/data/")
    ['a/b/t1.tif']
    """
    if pattern.n_parts is None:
        return parts_below(paths, root)
    plain = [_innermost(path) if "::" in path else path for path in paths]
    if pattern.n_parts == 1:
        return [path[path.rfind("/") + 1 :] for path in plain]
    return ["/".join(path.rsplit("/", pattern.n_parts)[-pattern.n_parts :]) for path in plain]


def parts_below(paths: Sequence[str], root: str) -> list[str]:
    """Return the part of each path below the root; pure.

    >>> parts_below(["zip://a/t1.tif::s3://bucket/x.zip"], "zip://::s3://bucket/x.zip")
    ['a/t1.tif']
    """
    root = _innermost(root)
    return [(_innermost(path) if "::" in path else path).removeprefix(root) for path in paths]


def _innermost(url: str) -> str:
    """Return the file's own URL in a chain such as ``zip://a.tif::s3://bucket/x.zip``."""
    return next((link for link in url.split("::") if "://" in link), url)


def match_paths(pattern: Pattern, paths: Sequence[str], root: str) -> Matches:
    """Return what the pattern reads in those of the paths that it matches; pure.

    That no path matches is no error here, since only the caller knows what else to say. A field
    that is in no matched path (an optional group of a regex) has no column.

    Parameters
    ----------
    pattern
        The compiled pattern.
    paths
        URLs, or local paths with forward slashes.
    root
        What all of them begin with, ending in ``/``; a regex is searched below it.

    Raises
    ------
    PatternError
        Where a name can be read two ways, where a field is in some of the names only, or where a
        time is none (30 February).

    Examples
    --------
    >>> found = match_paths(compile_pattern("{}_t{t:d}.tif"), ["/d/a_t07.tif", "/d/b.tif"], "/d/")
    >>> found.indices.tolist(), found.columns, found.texts, found.unnamed
    ([0], {'t': [7]}, {'t': ['07']}, [('a',)])
    """
    names = relevant_parts(pattern, paths, root)
    indices, groups = _read_groups(pattern, names)
    names = [names[i] for i in indices]
    _check_single_readings(pattern, names)
    places = pattern.regex.groupindex
    texts = {
        field.name: column
        for field in pattern.fields
        if _is_present(pattern, field, column := groups[places[field.name] - 1], names)
    }
    columns = {
        field.name: _convert(field, texts[field.name], names)
        for field in pattern.fields
        if field.name in texts
    }
    unnamed = [
        group
        for number, group in enumerate(groups, 1)
        if pattern.n_parts is not None and number not in places.values()
    ]
    return Matches(
        np.array(indices, dtype=np.intp),
        columns,
        texts,
        list(zip(*unnamed, strict=True)) if unnamed else [()] * len(names),
    )


def _read_groups(pattern: Pattern, names: Sequence[str]) -> tuple[list[int], list[list[Any]]]:
    """Return which names match, and what each group of the regex took in those.

    In blocks, so that what belongs to a name is gone before caches and the garbage collector feel
    it, and equal texts become one object: two thirds of the time, half the memory.
    """
    apply = pattern.regex.search if pattern.n_parts is None else pattern.regex.fullmatch
    indices: list[int] = []
    groups: list[list[Any]] = [[] for _ in range(pattern.regex.groups)]
    known: list[dict[Any, Any]] = [{} for _ in groups]
    for start in range(0, len(names), 512):
        rows = [found and found.groups() for found in map(apply, names[start : start + 512])]
        indices += [i for i, row in enumerate(rows, start) if row]
        block = zip(*filter(None, rows), strict=True)  # empty where nothing in it matches
        for group, one, texts in zip(groups, known, block, strict=False):
            group += map(one.setdefault, texts, texts)
    return indices, groups


def _check_single_readings(pattern: Pattern, names: Sequence[str]) -> None:
    """Refuse a name whose shortest and longest readings differ in a named field.

    Trying short texts first gives the first of all readings, each variable in turn, and long ones
    first the last; a named field that has one place in both has it in all between.
    """
    if pattern.longest is None:
        return
    doubtful = [n for hinge in pattern.hinges for n in names if not hinge.is_settled_in(n)]
    for name in doubtful:
        found = [m for regex in (pattern.regex, pattern.longest) if (m := regex.fullmatch(name))]
        two = [f.name for f in pattern.fields if len({m.span(f.name) for m in found}) > 1]
        if two:
            readings = [", ".join(f"{field}={m[field]!r}" for field in two) for m in found]
            if readings[0] == readings[1]:  # the same text, but at another place
                readings = [f"{two[0]}={m[two[0]]!r} at character {m.start(two[0])}" for m in found]
            raise PatternError(
                f"the name {name!r} reads two ways under pattern {pattern.text!r}: "
                f"{' or '.join(readings)}\nSay where the field ends: how many digits it has "
                "({name:2d}), or what stands next to it.",
                pattern=pattern.text,
                name=name,
            )


def _is_present(pattern: Pattern, field: Field, column: list[Any], names: Sequence[str]) -> bool:
    """Return whether a field is in the names at all; refuse one that is in some of them."""
    n_without = column.count(None) if pattern.longest is None else 0
    if 0 < n_without < len(column):
        lacking = names[column.index(None)]
        having = next(name for name, text in zip(names, column, strict=True) if text is not None)
        raise PatternError(
            f"pattern {pattern.text!r} finds the field {field.name!r} in "
            f"{len(column) - n_without} names, such as {having!r}, and not in {n_without}, "
            f"such as {lacking!r}\nOpen one kind at a time: narrow urlpath, exclude the other, "
            "or write a pattern that fits only one.",
            pattern=pattern.text,
            field=field.name,
        )
    return n_without == 0 and bool(column)


def _convert(field: Field, texts: list[str], names: Sequence[str]) -> list[Any]:
    """Return the values of texts, each distinct one converted once."""
    read = text_reader(field)
    values: dict[str, Any] = {}
    for text in dict.fromkeys(texts):
        try:
            values[text] = read(text)
        except ValueError as exc:
            raise PatternError(
                f"the name {names[texts.index(text)]!r} has {text!r} for the field "
                f"{field.name!r}, which is no such {field.kind}: {exc}",
                field=field.name,
            ) from exc
    return [values[text] for text in texts]


# The parser that ``re`` itself uses has no public name; a second one would come to differ.
_parse_regex = importlib.import_module("re._parser").parse


def _compile_regex(text: str, source: str) -> Pattern:
    try:
        regex = re.compile(source)
    except re.error as exc:
        raise PatternError(
            f"pattern {text!r} is not a valid regex: {exc.msg}, at character {exc.pos}",
            pattern=text,
        ) from exc
    groups = {
        argument[0]: argument[-1]
        for operation, argument in _walk(_parse_regex(source))
        if operation == "SUBPATTERN"
    }
    fields = tuple(
        Field(name, "int" if _is_number(groups[number]) else "text")
        for name, number in regex.groupindex.items()
    )
    return Pattern(text, fields, regex)


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the operations of a parsed regex and their arguments, outer ones first."""
    for operation, argument in tree:
        yield str(operation), argument
        for subtree in _subtrees(argument):
            yield from _walk(subtree)


def _subtrees(argument: Any) -> Iterator[Any]:
    if hasattr(argument, "getwidth"):
        yield argument
    elif isinstance(argument, list | tuple):
        for item in argument:
            yield from _subtrees(item)


def _is_number(tree: Any) -> bool:
    """Return whether a group admits digits only, and at least one."""
    return tree.getwidth()[0] > 0 and _is_digits_only(tree)


def _is_digits_only(tree: Any) -> bool:
    return all(_admits_digits_only(str(operation), argument) for operation, argument in tree)


def _admits_digits_only(operation: str, argument: Any) -> bool:
    match operation:
        case "LITERAL":
            return chr(argument) in "0123456789"
        case "RANGE":
            return all(chr(end) in "0123456789" for end in argument)
        case "CATEGORY":
            return str(argument) == "CATEGORY_DIGIT"
        case "IN":
            return all(_admits_digits_only(str(kind), item) for kind, item in argument)
        case "AT" | "ASSERT" | "ASSERT_NOT":  # these take up no text
            return True
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT" | "ATOMIC_GROUP":
            return all(map(_is_digits_only, _subtrees(argument)))
        case "SUBPATTERN" | "BRANCH" | "GROUPREF_EXISTS":
            return all(map(_is_digits_only, _subtrees(argument)))
    return False
