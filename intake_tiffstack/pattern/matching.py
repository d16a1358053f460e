"""What the names of files say: paths to fields, by format string, regex or preset.

Everything here is pure: text in, values out. A pattern is compiled once
(:func:`compile_pattern`) and read over all paths at once (:func:`match_paths`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.dims import Role, role_of
from intake_tiffstack.errors import PatternError
from intake_tiffstack.packed_texts import PackedTexts
from intake_tiffstack.pattern.alike import AlikeNames, are_read_alike
from intake_tiffstack.pattern.field_columns import NumberColumn, TextColumn
from intake_tiffstack.pattern.fields import Field, text_reader
from intake_tiffstack.pattern.format_string import compile_format
from intake_tiffstack.pattern.presets import PRESETS
from intake_tiffstack.pattern.regex import compile_regex

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.pattern.field_columns import Reading

_BLOCK = 4096
"""Names that are read together."""

_FEW = 256
"""Of fewer names of one length each is read by the regex, in the same time."""

_MOST_DIGITS = 18
"""Of a number that 64 bits hold in any case."""

__all__ = [
    "Matches",
    "Pattern",
    "compile_pattern",
    "default_concat_dim",
    "match_paths",
    "parts_below",
    "relevant_parts",
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
    #: Of a format string, the literals that end its variables: see ``CompiledFormat.ends``.
    ends: tuple[str, ...] = ()
    #: Of a format string of texts and numbers, its literals: see ``CompiledFormat.literals``.
    literals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a pattern without a field, which cannot distinguish files."""
        if self.fields:
            return
        near = get_close_matches(self.text, PRESETS, n=1)
        hint = f"; did you mean the preset {near[0]!r}?" if near else ""
        raise PatternError(
            f"pattern '{self.text}' names no field{hint}\n"
            "Write {t:d}, or (?P<t>[0-9]+) in a regex, for a part that differs from file to file, "
            f"or take a preset: {', '.join(PRESETS)}. pattern='infer' proposes one from the names.",
            pattern=self.text,
        )

    @property
    def read(self) -> Callable[[str], re.Match[str] | None]:
        """What reads the part of a path that the pattern is applied to."""
        return self.regex.search if self.n_parts is None else self.regex.fullmatch


@dataclass(frozen=True, eq=False)
class Matches:
    """What a pattern reads in many paths; texts as written are read again when asked for."""

    #: Which of the given paths match, ascending.
    indices: NDArray[np.intp]
    #: What each field says in those.
    fields: Mapping[str, Reading]
    #: The pattern.
    pattern: Pattern
    #: The given paths.
    paths: Sequence[str]
    #: What all of them begin with.
    root: str = ""

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        lengths = {len(reading.codes) for reading in self.fields.values()}
        if lengths - {len(self.indices)}:
            raise PatternError(
                f"{len(self.indices)} paths match, but got columns of lengths {sorted(lengths)}"
            )

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The converted value of each matched path, by field."""
        return {name: reading.values for name, reading in self.fields.items()}

    @property
    def texts(self) -> dict[str, list[str]]:
        """The text as written of each matched path, by field."""
        found = self._read_again()
        known = [field for field in self.pattern.fields if field.name in self.fields]
        return {field.name: [_text_of(field, match) for match in found] for field in known}

    @property
    def unnamed(self) -> list[tuple[str, ...]]:
        """What each ``{}`` took, by matched path."""
        named = self.pattern.regex.groupindex.values()
        blanks = [i for i in range(1, self.pattern.regex.groups + 1) if i not in named]
        if self.pattern.n_parts is None:
            blanks = []
        return [tuple(match[i] for i in blanks) for match in self._read_again()]

    def take(self, rows: NDArray[np.intp]) -> Matches:
        """Return what is read in the matched paths at *rows*."""
        fields = {name: reading.take(rows) for name, reading in self.fields.items()}
        return replace(self, indices=self.indices[rows], fields=fields)

    def _read_again(self) -> list[re.Match[str]]:
        paths = [self.paths[i] for i in self.indices]
        found = map(self.pattern.read, relevant_parts(self.pattern, paths, self.root))
        return [match for match in found if match]


def default_concat_dim(pattern: Pattern, present: Collection[str] | None = None) -> tuple[str, ...]:
    """Return the axis fields that a pattern has where ``concat_dim`` is not given; pure.

    Every field with a role, in the order of ``dims.Role``; fields of one role in the order of the
    pattern, but ``row`` before ``column``. Where no field has a role, every field.

    Parameters
    ----------
    pattern : Pattern
        The compiled pattern.
    present : collection of str, optional
        The fields to choose from: those that took part (``Matches.fields``), since a regex or
        preset may have optional ones. None means all.

    Examples
    --------
    >>> default_concat_dim(compile_pattern("{z:d}_{c}_{msec:d}_{t:d}.tif"))
    ('t', 'c', 'z')
    >>> default_concat_dim(compile_pattern("{chip}_{sensor}.tif"))
    ('chip', 'sensor')
    """
    names = [f.name for f in pattern.fields if present is None or f.name in present]
    order = list(Role)
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
        If the text cannot be read as any of these, or names no field.

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
        return Pattern(text, *compile_regex(source, text, preset.times if preset else None))
    compiled = compile_format(source)
    return Pattern(
        text,
        compiled.fields,
        compiled.shortest,
        n_parts=source.count("/") + 1,
        longest=compiled.longest,
        ends=compiled.ends,
        literals=compiled.literals,
    )


def relevant_parts(pattern: Pattern, paths: Sequence[str], root: str) -> list[str]:
    """Return the part of each path that the pattern is applied to; pure.

    Parameters
    ----------
    pattern : Pattern
        The compiled pattern.
    paths : sequence of str
        URLs, or local paths with forward slashes.
    root : str
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
    plain = _without_chains(paths, root)
    if pattern.n_parts == 1:
        return [path.rpartition("/")[2] for path in plain]
    return ["/".join(path.rsplit("/", pattern.n_parts)[-pattern.n_parts :]) for path in plain]


def parts_below(paths: Sequence[str], root: str) -> list[str]:
    """Return the part of each path below the root; pure.

    >>> parts_below(["zip://a/t1.tif::s3://bucket/x.zip"], "zip://::s3://bucket/x.zip")
    ['a/t1.tif']
    """
    start = _innermost(root)
    return [path.removeprefix(start) for path in _without_chains(paths, root)]


def _without_chains(paths: Sequence[str], root: str) -> Sequence[str]:
    if root.startswith("/"):  # local files are inside of nothing
        return paths
    return [_innermost(path) if "::" in path else path for path in paths]


def _innermost(url: str) -> str:
    """Return the file's own URL in a chain such as ``zip://a.tif::s3://bucket/x.zip``."""
    return next((link for link in url.split("::") if "://" in link), url)


def match_paths(pattern: Pattern, paths: Sequence[str], root: str) -> Matches:
    """Return what the pattern reads in those of the paths that it matches; pure.

    No matching path is not an error here, since only the caller can explain it. A field
    that is in no matched path (an optional group of a regex) has no column.

    Parameters
    ----------
    pattern : Pattern
        The compiled pattern.
    paths : sequence of str
        URLs, or local paths with forward slashes.
    root : str
        What all of them begin with, ending in ``/``; a regex is searched below it.

    Raises
    ------
    PatternError
        If a name can be read two ways, a field is in some of the names only, or a
        time is none (30 February).

    Examples
    --------
    >>> found = match_paths(compile_pattern("{}_t{t:d}.tif"), ["/d/a_t07.tif", "/d/b.tif"], "/d/")
    >>> found.indices.tolist(), found.columns, found.texts, found.unnamed
    ([0], {'t': [7]}, {'t': ['07']}, [('a',)])
    """
    blocks, columns = _read_columns(pattern, PackedTexts.of(paths), root)
    indices = np.concatenate([np.empty(0, np.intp), *blocks])

    def name_of(row: np.intp) -> str:
        return relevant_parts(pattern, [paths[indices[row]]], root)[0]

    fields = {}
    for field in pattern.fields if len(indices) else ():
        column = columns.pop(field.name)  # so that few are in memory twice
        if isinstance(column, NumberColumn):
            fields[field.name] = column.reading()
        elif _is_present(pattern, field, column, name_of):
            values = _convert(field, column, name_of)
            fields[field.name] = column.reading(field.kind, values)
    return Matches(indices, fields, pattern, paths, root)


def _read_columns(
    pattern: Pattern, paths: PackedTexts, root: str
) -> tuple[list[NDArray[np.intp]], dict[str, NumberColumn | TextColumn]]:
    """Return which paths match, and what each field took in those.

    In blocks, so that what belongs to a name is gone before caches and the garbage collector feel
    it: two thirds of the time, half the memory.
    """
    indices: list[NDArray[np.intp]] = []
    columns: dict[str, NumberColumn | TextColumn] = {
        # In a regex a group may be absent, so that there is no number.
        field.name: NumberColumn() if field.kind == "int" and pattern.longest else TextColumn()
        for field in pattern.fields
    }
    may_be_alike = bool(pattern.literals) and not paths.may_hold("::")
    for first in range(0, len(paths), _BLOCK):
        block = paths[first : first + _BLOCK]
        is_left = np.ones(len(block), bool)
        parts: list[tuple[NDArray[np.intp], dict[str, NDArray[Any]]]] = []
        for rows, matrix in block.matrices(0, len(block)) if may_be_alike else ():
            if len(rows) < _FEW or (names := _alike(pattern, block.start, matrix, root)) is None:
                continue
            is_left[rows] = False
            parts.append((rows, _cut_out(pattern, columns, *names)))
        left = np.flatnonzero(is_left)
        for start in range(0, len(left), 512):
            rows = left[start : start + 512]
            texts = relevant_parts(pattern, list(block.take(rows)), root)
            matched, groups = _read_each(pattern, texts)
            if matched:
                own = {name: columns[name].encode(found) for name, found in groups.items()}
                parts.append((rows[matched], own))
        if not parts:
            continue
        places = np.sort(np.concatenate([rows for rows, _ in parts]))
        indices.append(first + places)
        parts = [(np.searchsorted(places, rows), own) for rows, own in parts]
        for name, column in columns.items():
            column.add_parts([(rows, own[name]) for rows, own in parts], len(places))
    return indices, columns


def _alike(
    pattern: Pattern, start: str, matrix: NDArray[np.uint8], root: str
) -> tuple[AlikeNames, list[tuple[int, int]]] | None:
    """Return what the pattern is applied to in paths of one length, and where its fields stand.

    None if it is not certain that these stand at the same places in all.
    """
    paths = AlikeNames.of(matrix)
    if pattern.longest is None or not (paths.is_plain and start.isascii()):
        return None
    (name,) = relevant_parts(pattern, [start + paths.first], root)
    behind = len(start) + matrix.shape[1] - len(name)  # what is in front of it
    if behind < len(start):
        head = np.frombuffer(start[behind:].encode(), np.uint8)
        matrix = np.concatenate([np.tile(head, (len(matrix), 1)), matrix], axis=1)
        names = AlikeNames.of(matrix)
    else:
        names = paths.cut(behind - len(start))
    match, longest = pattern.regex.fullmatch(name), pattern.longest.fullmatch(name)
    if not (match and longest and are_read_alike(names, pattern.literals)):
        return None
    for field in pattern.fields:
        is_long = field.kind == "int" and len(match[field.name]) > _MOST_DIGITS
        if is_long or longest.span(field.name) != match.span(field.name):
            return None
    return names, [match.span(field.name) for field in pattern.fields]


def _cut_out(
    pattern: Pattern,
    columns: Mapping[str, NumberColumn | TextColumn],
    names: AlikeNames,
    spans: Sequence[tuple[int, int]],
) -> dict[str, NDArray[Any]]:
    """Return what each field took, encoded; one where all are the same."""
    found: dict[str, NDArray[Any]] = {}
    for field, span in zip(pattern.fields, spans, strict=True):
        column, own = columns[field.name], names.cut(*span)
        if isinstance(column, NumberColumn):
            found[field.name] = own.integers()
        else:
            texts, codes = own.texts()
            found[field.name] = column.encode(texts)[codes]
    return found


def _read_each(
    pattern: Pattern, names: Sequence[str]
) -> tuple[list[int], dict[str, Sequence[Any]]]:
    """Return which names match, and what each field took in those."""
    found = {i: match.groups() for i, match in enumerate(map(pattern.read, names)) if match}
    if not found:
        return [], {}
    _check_single_readings(pattern, [names[i] for i in found])
    groups = list(zip(*found.values(), strict=True))
    taken: dict[str, Sequence[Any]] = {}
    for field in pattern.fields:
        places = [pattern.regex.groupindex[group] - 1 for group in field.groups]
        taken[field.name] = groups[places[0]]
        if len(places) > 1:
            joined = zip(*(groups[i] for i in places), strict=True)
            taken[field.name] = tuple(map("/".join, joined))
    return list(found), taken


def _text_of(field: Field, match: re.Match[str]) -> str:
    """Return what a name has for a field; an optional group that is absent has nothing."""
    return (
        "/".join(match[group] for group in field.groups) if field.groups[1:] else match[field.name]
    )


def _check_single_readings(pattern: Pattern, names: Sequence[str]) -> None:
    """Refuse a name whose shortest and longest readings differ in a named field.

    Trying short texts first gives the first of all readings, each variable in turn, and long ones
    first the last; a named field that has one place in both has it in all between. Names in which
    each variable can end at one place only are not looked at.
    """
    if pattern.longest is None or pattern.longest.pattern == pattern.regex.pattern:
        return
    # each name has each end, so that as many as there are names is one each: seen at once for all
    together = "\0".join(names)
    ends = [
        end for end in pattern.ends if _overlaps_itself(end) or together.count(end) != len(names)
    ]
    if not ends:
        return
    doubtful = [name for name in names if any(name.find(end) != name.rfind(end) for end in ends)]
    for name in doubtful:
        found = [m for regex in (pattern.regex, pattern.longest) if (m := regex.fullmatch(name))]
        groups = [group for field in pattern.fields for group in field.groups]
        two = [group for group in groups if len({m.span(group) for m in found}) > 1]
        if two:
            readings = [", ".join(f"{field}={m[field]!r}" for field in two) for m in found]
            if readings[0] == readings[1]:  # the same text, but at another place
                readings = [f"{two[0]}={m[two[0]]!r} at character {m.start(two[0])}" for m in found]
            raise PatternError(
                f"the name {name!r} reads two ways under pattern '{pattern.text}': "
                f"{' or '.join(readings)}\nSay where the field ends: how many digits it has "
                "({name:2d}), or what stands next to it.",
                pattern=pattern.text,
                name=name,
            )


def _overlaps_itself(text: str) -> bool:
    """Return whether a text may begin inside of itself, so that counting misses some. Pure.

    >>> _overlaps_itself("_x"), _overlaps_itself("__")
    (False, True)
    """
    return any(text.startswith(text[i:]) for i in range(1, len(text)))


def _is_present(
    pattern: Pattern, field: Field, column: TextColumn, name_of: Callable[[np.intp], str]
) -> bool:
    """Return whether a field is in the names at all; refuse one that is in some of them."""
    texts = column.texts
    if None in texts and len(texts) > 1:
        is_without = column.codes == texts.index(None)
        n_without = np.count_nonzero(is_without)
        raise PatternError(
            f"pattern '{pattern.text}' finds the field {field.name!r} in "
            f"{len(is_without) - n_without} names, such as {name_of(is_without.argmin())!r}, and "
            f"not in {n_without}, such as {name_of(is_without.argmax())!r}\nOpen one kind at a "
            "time: narrow urlpath, exclude the other, or write a pattern that fits only one.",
            pattern=pattern.text,
            field=field.name,
        )
    return texts != [None]


def _convert(field: Field, column: TextColumn, name_of: Callable[[np.intp], str]) -> list[Any]:
    """Return the values of a field's distinct texts."""
    read = text_reader(field)
    values: list[Any] = []
    try:
        for text in column.texts:
            values.append(read(text))
    except ValueError as exc:
        row = (column.codes == len(values)).argmax()
        raise PatternError(
            f"the name {name_of(row)!r} has {text!r} for the field "
            f"{field.name!r}, which is not a valid {field.kind}: {exc}",
            field=field.name,
        ) from exc
    return values
