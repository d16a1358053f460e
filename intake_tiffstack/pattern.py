"""What the names of files say: paths to fields, by format string, regex or preset.

Everything here is pure: text in, values out. A pattern is compiled once
(:func:`compile_pattern`) and read over all paths at once (:func:`match_paths`).
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from datetime import date, datetime
from difflib import get_close_matches
from string import Formatter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.errors import OptionError, PatternError
from intake_tiffstack.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

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
    "relevant_parts",
    "role_of",
]

Kind = Literal["int", "float", "time", "text"]
Role = Literal["plate", "position", "time", "channel", "z", "y", "x"]

#: What a dim is for, told by its name; in the order that dims take by default.
ROLES: Mapping[Role, tuple[str, ...]] = {
    "plate": ("well", "row", "column"),
    "position": ("position", "pos", "p", "field", "site", "fov", "s"),
    "time": ("t", "time", "timepoint", "frame"),
    "channel": ("c", "ch", "channel", "wave", "band"),
    "z": ("z", "slice"),
    "y": ("y",),
    "x": ("x",),
}
_ROLE_OF: dict[str, Role] = {word: role for role, words in ROLES.items() for word in words}


def role_of(dim: str) -> Role | None:
    """Return what a dim of this name is for, None where the name does not tell; pure.

    >>> role_of("Time"), role_of("slice"), role_of("sample")
    ('time', 'z', None)
    """
    return _ROLE_OF.get(dim.lower())


@dataclass(frozen=True)
class Field:
    """A named part of a path."""

    #: The name as the pattern writes it.
    name: str
    #: What its texts are converted to: int, float, numpy.datetime64 or str.
    kind: Kind
    #: What a format string has after the colon; empty for none, and in a regex.
    spec: str = ""


@dataclass(frozen=True)
class Pattern:
    """How a path is read; made by :func:`compile_pattern`, hashable and picklable."""

    #: What the user wrote: a format string, a regex, or the name of a preset.
    text: str
    #: The named parts, in the order of the pattern.
    fields: tuple[Field, ...]
    #: The regex that is applied; of a format string, the one that gives the longest reading.
    regex: re.Pattern[str]
    #: The regex of the shortest reading; None where a name can be read in one way only.
    shortest: re.Pattern[str] | None = None
    #: How many parts of a path, from the last, a format string is matched against; None for a
    #: regex, which is searched in all that lies below the root.
    n_parts: int | None = None

    def __post_init__(self) -> None:
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
        lengths = {len(c) for c in (*self.columns.values(), *self.texts.values(), self.unnamed)}
        if lengths - {len(self.indices)}:
            raise PatternError(
                f"columns for {len(self.indices)} matched paths, but got lengths {sorted(lengths)}"
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
        The fields to choose from: those that took part (``Matches.columns``), since a preset or
        regex may have optional ones. None means all.

    Examples
    --------
    >>> default_concat_dim(compile_pattern("{z:d}_{c}_{msec:d}_{t:d}.tif"))
    ('t', 'c', 'z')
    >>> default_concat_dim(compile_pattern("{chip}_{sensor}.tif"))
    ('chip', 'sensor')
    """
    names = [f.name for f in pattern.fields if present is None or f.name in present]
    order = list(ROLES)
    ranked = [
        (order.index(role), name.lower() == "column", name)
        for name in names
        if (role := role_of(name)) is not None
    ]
    ranked.sort(key=lambda rank: rank[:2])
    return tuple(name for *_, name in ranked) or tuple(names)


_DIGIT_RUN = re.compile(r"([0-9]+)")


def natural_key(text: str) -> tuple[Any, ...]:
    """Return a sort key by which runs of digits count as numbers; pure.

    >>> sorted(["B10", "B09", "B8A", "B08"], key=natural_key)
    ['B08', 'B8A', 'B09', 'B10']
    """
    # Odd places hold the digits, so text never meets a number; the text itself breaks ties (8, 08).
    parts = _DIGIT_RUN.split(text)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), text


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
    return _compile_regex(text, source) if "(?P<" in source else _compile_format(text, source)


# --------------------------------------------------------------------------- regexes

# The parser behind ``re``; it has no public name, and a second parser of ours would differ.
_parse_regex = importlib.import_module("re._parser").parse


def _compile_regex(text: str, source: str) -> Pattern:
    try:
        regex = re.compile(source)
    except re.error as exc:
        raise PatternError(
            f"pattern {text!r} is not a valid regex: {exc.msg}, at character {exc.pos}",
            pattern=text,
        ) from exc
    names = {number: name for name, number in regex.groupindex.items()}
    groups = {
        names[argument[0]]: argument[-1]
        for operation, argument in _walk(_parse_regex(source))
        if operation == "SUBPATTERN" and argument[0] in names
    }
    fields = tuple(
        Field(name, "int" if _is_number(groups[name]) else "text") for name in regex.groupindex
    )
    return Pattern(text, fields, regex)


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield each operation of a parsed regex, outer ones first."""
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
        case "AT" | "ASSERT" | "ASSERT_NOT":  # take up no text
            return True
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT" | "SUBPATTERN" | "ATOMIC_GROUP":
            return all(_is_digits_only(tree) for tree in _subtrees(argument))
        case "BRANCH" | "GROUPREF_EXISTS":
            return all(_is_digits_only(tree) for tree in _subtrees(argument))
    return False


# --------------------------------------------------------------------------- format strings


@dataclass(frozen=True)
class _Variable:
    """A part of a format string that differs from file to file."""

    #: A regex with ``~`` after each quantifier, to be ``?`` for the shortest reading or nothing.
    template: str
    #: Empty for ``{}`` and for a field's second occurrence.
    name: str = ""
    kind: Kind = "text"
    #: The characters that follow one another in its text; None for any.
    chars: str | None = None
    #: Further characters that its text may begin with.
    first: str = ""
    #: Whether its text always has the same length.
    is_fixed: bool = False


_SPECS = (
    "{name} text, {name:d} integer, {name:3d} exactly three digits, {name:03d} at least three, "
    "{name:f} number, {name:%Y%m%dT%H%M%S} time"
)
_DIGITS = "0123456789"
_DIGITS_SPEC = re.compile(r"(0?)([1-9][0-9]*)d")
_DIRECTIVES = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "m": "(?:0[1-9]|1[0-2])",
    "d": "(?:0[1-9]|[12][0-9]|3[01])",
    "j": "[0-9]{3}",
    "H": "(?:[01][0-9]|2[0-3])",
    "I": "(?:0[1-9]|1[0-2])",
    "M": "[0-5][0-9]",
    "S": "[0-5][0-9]",
    "p": "(?:AM|PM|am|pm)",
    "f": "[0-9]{1,6}~",
    "b": "[A-Za-z]+~",
    "B": "[A-Za-z]+~",
}
_OF_A_DATE = frozenset("mdjbB")


def _compile_format(text: str, source: str) -> Pattern:
    parts = _parse_format(text, source)
    named = [p for p in parts if isinstance(p, _Variable) and p.name]
    specs = {name: spec or "" for _, name, spec, _ in Formatter().parse(source) if name}
    return Pattern(
        text,
        tuple(Field(p.name, p.kind, specs[p.name]) for p in named),
        regex=_build_regex(parts, ""),
        shortest=_build_regex(parts, "?") if _may_read_two_ways(parts) else None,
        n_parts=source.count("/") + 1,
    )


def _parse_format(text: str, source: str) -> list[str | _Variable]:
    """Return the literals and the variables of a format string, in its order."""
    try:
        pieces = list(Formatter().parse(source))
    except ValueError as exc:
        raise PatternError(
            f"pattern {text!r} is not a valid format string: {exc}; a brace itself is {{{{ or }}}}",
            pattern=text,
        ) from exc
    parts: list[str | _Variable] = []
    seen: dict[str, str] = {}
    for literal, name, spec, conversion in pieces:
        if literal:
            parts.append(literal)
        if name is None:
            continue
        written = "{" + name + (f"!{conversion}" if conversion else "")
        written += f":{spec}}}" if spec else "}"
        if conversion or (name and not name.isidentifier()) or (spec and not name):
            raise PatternError(
                f"pattern {text!r} has {written}, but a field is {{}} or a name of letters, digits "
                f"and underscores, with or without a format: {_SPECS}",
                pattern=text,
            )
        if name in seen and seen[name] != written:
            raise PatternError(
                f"pattern {text!r} has the field {name!r} as {seen[name]} and as {written}; "
                "the second must read the same text as the first, so write both alike",
                pattern=text,
            )
        if not name:
            parts.append(_Variable("([^/]*~)"))
        elif name in seen:
            parts.append(_Variable(f"(?P={name})"))
        else:
            parts.append(_read_spec(text, written, name, spec or ""))
        seen |= {name: written} if name else {}
    return parts


def _read_spec(text: str, written: str, name: str, spec: str) -> _Variable:
    """Return the variable that a field's format stands for."""
    if not spec:
        return _Variable(f"(?P<{name}>[^/]+~)", name)
    if spec == "d":
        return _Variable(f"(?P<{name}>[+-]?[0-9]+~)", name, "int", _DIGITS, "+-")
    if spec == "f":
        number = r"[+-]?(?:[0-9]+~(?:\.[0-9]+~)?~|\.[0-9]+~)"
        return _Variable(f"(?P<{name}>{number})", name, "float", _DIGITS + ".", "+-")
    if digits := _DIGITS_SPEC.fullmatch(spec):
        count = f"{{{digits[2]},}}~" if digits[1] else f"{{{digits[2]}}}"
        return _Variable(f"(?P<{name}>[0-9]{count})", name, "int", _DIGITS, is_fixed=not digits[1])
    if "%" in spec:
        template = _time_template(text, written, spec)
        return _Variable(f"(?P<{name}>{template})", name, "time", is_fixed="~" not in template)
    raise PatternError(
        f"pattern {text!r} has {written}, whose format {spec!r} is unknown; there are {_SPECS}",
        pattern=text,
    )


def _time_template(text: str, written: str, spec: str) -> str:
    """Return the regex of a ``strptime`` format, strict so that glued numbers part."""
    pieces = re.split(r"%(.?)", spec)
    codes = pieces[1::2]
    known = ", ".join(f"%{code}" for code in _DIRECTIVES)
    problem = next(
        (f"%{c} is none of {known}" for c in codes if c not in _DIRECTIVES),
        next((f"%{c} is there twice" for c in codes if codes.count(c) > 1), ""),
    )
    if not problem and _OF_A_DATE & set(codes) and not {"Y", "y"} & set(codes):
        problem = "a date needs its year, %Y or %y"
    if not problem and set("~/") & set(spec):
        problem = "a time holds no ~ and does not cross a /"
    if problem:
        raise PatternError(f"pattern {text!r} has {written}: {problem}", pattern=text)
    return "".join(_DIRECTIVES[p] if i % 2 else re.escape(p) for i, p in enumerate(pieces))


def _build_regex(parts: Sequence[str | _Variable], lazy: str) -> re.Pattern[str]:
    return re.compile(
        "".join(
            p.template.replace("~", lazy) if isinstance(p, _Variable) else re.escape(p)
            for p in parts
        )
    )


def _may_read_two_ways(parts: Sequence[str | _Variable]) -> bool:
    """Return whether some name could be read two ways in a named field.

    Nothing crosses a ``/``, so each part of the path stands alone, and both its ends are known.
    From a known start, a variable has one end if its length is fixed or if the literal behind it
    begins with a character that it cannot hold; from a known end, likewise for its start. Going
    inwards from both sides this settles most variables, and a single one that is left takes what
    is left. Two that are left, one of them named, have to be looked at name by name.
    """
    segment: list[str | _Variable] = []
    segments = [segment]
    for part in parts:
        if isinstance(part, _Variable):
            segment.append(part)
            continue
        head, *tail = part.split("/")
        segment.append(head)
        for literal in tail:
            segment = [literal]
            segments.append(segment)
    return any(_is_unsettled([p for p in segment if p]) for segment in segments)


def _is_unsettled(segment: Sequence[str | _Variable]) -> bool:
    left = [i for i, part in enumerate(segment) if isinstance(part, _Variable)]
    while left and _stops_before(segment[left[0]], segment[left[0] + 1 :]):
        del left[0]
    while left and _starts_after(segment[left[-1]], segment[: left[-1]]):
        del left[-1]
    names = [part.name for i in left if isinstance(part := segment[i], _Variable)]
    return len(names) > 1 and any(names)


def _stops_before(part: str | _Variable, behind: Sequence[str | _Variable]) -> bool:
    if isinstance(part, str) or part.is_fixed:
        return True
    literal = behind[0] if behind else None
    return part.chars is not None and isinstance(literal, str) and literal[0] not in part.chars


def _starts_after(part: str | _Variable, before: Sequence[str | _Variable]) -> bool:
    if isinstance(part, str) or part.is_fixed:
        return True
    literal = before[-1] if before else None
    return (
        part.chars is not None
        and isinstance(literal, str)
        and literal[-1] not in part.chars + part.first
    )


# --------------------------------------------------------------------------- reading paths


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
    plain = [_innermost(path) for path in paths]
    if pattern.n_parts is None:
        root = _innermost(root)
        return [path.removeprefix(root) for path in plain]
    if pattern.n_parts == 1:
        return [path[path.rfind("/") + 1 :] for path in plain]
    return ["/".join(path.rsplit("/", pattern.n_parts)[-pattern.n_parts :]) for path in plain]


def _innermost(url: str) -> str:
    """Return the file's own URL in a chain such as ``zip://a.tif::s3://bucket/x.zip``."""
    if "::" not in url or "://" not in url:
        return url
    return next(link for link in url.split("::") if "://" in link)


def match_paths(pattern: Pattern, paths: Sequence[str], root: str) -> Matches:
    """Return what the pattern reads in those of the paths that it matches; pure.

    No match is no error here, since only the caller knows what else to tell. A field that is in
    no matched path (an optional group of a regex) has no column.

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
        Where a name can be read two ways, where an optional group is in some names only, or where
        a time is none (30 February).

    Examples
    --------
    >>> found = match_paths(compile_pattern("{}_t{t:d}.tif"), ["/d/a_t07.tif", "/d/b.tif"], "/d/")
    >>> found.indices.tolist(), found.columns, found.texts, found.unnamed
    ([0], {'t': [7]}, {'t': ['07']}, [('a',)])
    """
    apply = pattern.regex.search if pattern.n_parts is None else pattern.regex.fullmatch
    found = [apply(name) for name in relevant_parts(pattern, paths, root)]
    indices = np.array([i for i, match in enumerate(found) if match is not None], dtype=np.intp)
    matches = [match for match in found if match is not None]
    if pattern.shortest is not None:
        _check_single_reading(pattern, pattern.shortest, matches)
    groups = list(zip(*(match.groups() for match in matches), strict=True))
    index = pattern.regex.groupindex
    texts: dict[str, list[str]] = {}
    for field in pattern.fields:
        texts_of_field = groups[index[field.name] - 1] if groups else ()
        if _is_taken(pattern, field, texts_of_field, matches):
            texts[field.name] = list(texts_of_field)
    columns = {
        field.name: _convert(field, texts[field.name], matches)
        for field in pattern.fields
        if field.name in texts
    }
    named = set(index.values())
    others = (
        []
        if pattern.n_parts is None
        else [group for number, group in enumerate(groups, 1) if number not in named]
    )
    unnamed = list(zip(*others, strict=True)) if others else [()] * len(matches)
    return Matches(indices, columns, texts, unnamed)


def _check_single_reading(
    pattern: Pattern, shortest: re.Pattern[str], matches: Sequence[re.Match[str]]
) -> None:
    """Refuse names whose longest and shortest readings differ in a named field.

    Trying the shortest text first and the longest first gives the first and the last of all
    readings, each variable in turn; a named field that has one place in both has it in all.
    """
    index = pattern.regex.groupindex
    for longest in matches:
        other = shortest.fullmatch(longest.string)
        if other is None or other.regs == longest.regs:
            continue
        differing = [n for n in index if other.span(n) != longest.span(n)]
        if differing:
            short, long = (", ".join(f"{n}={m[n]!r}" for n in differing) for m in (other, longest))
            raise PatternError(
                f"the name {longest.string!r} reads two ways under pattern {pattern.text!r}: "
                f"{short} or {long}\nSay where the field ends: how many digits it has "
                "({name:2d}), or what stands next to it.",
                pattern=pattern.text,
                name=longest.string,
            )


def _is_taken(
    pattern: Pattern,
    field: Field,
    texts: Sequence[str | None],
    matches: Sequence[re.Match[str]],
) -> bool:
    """Return whether a field is in the names at all; refuse one that is in some of them."""
    n_without = sum(text is None for text in texts)
    if n_without not in (0, len(texts)):
        lacking = matches[texts.index(None)].string
        having = next(m.string for m, text in zip(matches, texts, strict=True) if text is not None)
        raise PatternError(
            f"pattern {pattern.text!r} reads the field {field.name!r} in "
            f"{len(texts) - n_without} names, such as {having!r}, but not in {n_without}, "
            f"such as {lacking!r}\nNarrow urlpath or exclude the one kind, "
            "or write a pattern that fits only the other.",
            pattern=pattern.text,
            field=field.name,
        )
    return bool(texts) and n_without == 0


def _convert(field: Field, texts: list[str], matches: Sequence[re.Match[str]]) -> list[Any]:
    """Return the values of texts, each distinct one converted once."""
    values: dict[str, Any] = {}
    for text in dict.fromkeys(texts):
        try:
            values[text] = _read_text(field, text)
        except ValueError as exc:
            raise PatternError(
                f"the name {matches[texts.index(text)].string!r} has {text!r} for the field "
                f"{field.name!r}, which is no {_KINDS[field.kind]} of the format {field.spec!r}",
                field=field.name,
            ) from exc
    return [values[text] for text in texts]


_KINDS: Mapping[Kind, str] = {"int": "integer", "float": "number", "time": "time", "text": "text"}


def _read_text(field: Field, text: str) -> Any:
    match field.kind:
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "time":
            return np.datetime64(datetime.strptime(text, field.spec), "us")
        case "text":
            return text


def parse_value(field: Field, value: object) -> Any:
    """Return a value that an option gives for a field, in the field's kind; pure.

    Text is read as in a name; a time also as ISO 8601. Numbers and dates pass where the field
    holds such.

    Raises
    ------
    OptionError
        Where the value is of another kind.

    Examples
    --------
    >>> parse_value(Field("t", "int", "d"), "007"), parse_value(Field("dose", "float", "f"), 2)
    (7, 2.0)
    >>> parse_value(Field("day", "time", "%Y%m%d"), "2020-03-01")
    np.datetime64('2020-03-01T00:00:00.000000')
    """
    try:
        if isinstance(value, str):
            return _read_option(field, value)
        if field.kind == "time" and isinstance(value, date | np.datetime64):
            return np.datetime64(value, "us")
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if field.kind == "float" and is_number:
            return float(value)  # type: ignore[arg-type]
        if field.kind == "int" and is_number and int(value) == value:  # type: ignore[call-overload]
            return int(value)  # type: ignore[call-overload]
    except (ValueError, OverflowError) as exc:
        raise _wrong_value(field, value) from exc
    raise _wrong_value(field, value)


def _read_option(field: Field, text: str) -> Any:
    if field.kind != "time":
        return _read_text(field, text)
    try:
        return _read_text(field, text)
    except ValueError:
        return np.datetime64(text, "us")


def _wrong_value(field: Field, value: object) -> OptionError:
    quote = "; quote it, so that YAML leaves it as written" if field.kind == "text" else ""
    return OptionError(
        f"the field {field.name!r} holds {_KINDS[field.kind]} values, "
        f"but got {value!r} ({type(value).__name__}){quote}",
        field=field.name,
    )
