"""Format strings, ``{}_ch{c:d}_{day:%Y%m%d}.tif``, made into regexes.

Everything here is pure. A format string becomes two regexes, since a name that reads two ways has
to be refused: one tries the shortest text first, the other the longest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING

from intake_tiffstack.errors import PatternError
from intake_tiffstack.pattern.fields import Field

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CompiledFormat", "compile_format"]


@dataclass(frozen=True)
class CompiledFormat:
    """A format string as regexes."""

    #: The named fields, in order.
    fields: tuple[Field, ...]
    #: Gives the reading whose variables are as short as can be, from the left.
    shortest: re.Pattern[str]
    #: Gives the reading whose variables are as long as can be, from the left.
    longest: re.Pattern[str]
    #: The literal behind each variable that it does not end by itself, empty if another variable
    #: follows at once. A name that has each of them at one place has one reading.
    ends: tuple[str, ...]


@dataclass(frozen=True)
class _Variable:
    """A part of a format string that differs from file to file."""

    #: A regex with ``~`` after each quantifier, to be ``?`` for the shortest text or nothing.
    template: str
    #: None for ``{}`` and for a field's second occurrence.
    field: Field | None = None
    #: The characters that its text consists of; None for any.
    chars: str | None = None
    #: Whether its text always has the same length.
    is_fixed: bool = False


_SPECS = (
    "{name} text, {name:d} integer, {name:3d} exactly three digits, {name:03d} at least three, "
    "{name:f} number, {name:%Y%m%dT%H%M%S} time"
)
_DIGITS = "0123456789"
_DIGITS_SPEC = re.compile(r"(0?)([1-9][0-9]?)d")

# Strict, where strptime also takes one digit for two, so that glued numbers part.
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


def compile_format(source: str) -> CompiledFormat:
    """Return the regexes of a format string; pure.

    Raises
    ------
    PatternError
        If a brace is unbalanced, or a field's name or format is unknown.

    Examples
    --------
    >>> compile_format("{}_t{t:3d}.tif").shortest.pattern
    '([^/]*?)_t(?P<t>[0-9]{3})\\\\.tif'
    """
    parts = _parse(source)
    return CompiledFormat(
        tuple(p.field for p in parts if isinstance(p, _Variable) and p.field is not None),
        shortest=_build_regex(parts, "?"),
        longest=_build_regex(parts, ""),
        ends=_find_ends(parts),
    )


def _parse(source: str) -> list[str | _Variable]:
    """Return the literals and the variables of a format string, in its order."""
    try:
        pieces = list(Formatter().parse(source))
    except ValueError as exc:
        raise PatternError(
            f"pattern '{source}' is not a valid format string: {exc}\n"
            "A brace that is part of the name is written twice: {{ or }}.",
            pattern=source,
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
                f"pattern '{source}' has {written}, but a field is {{}} for any text, or a name of "
                f"letters, digits and underscores: {_SPECS}",
                pattern=source,
            )
        if seen.get(name, written) != written:
            raise PatternError(
                f"pattern '{source}' has both {seen[name]} and {written}, but a field that occurs "
                "twice reads the same text twice: write both alike",
                pattern=source,
            )
        if not name:
            parts.append(_Variable("([^/]*~)"))
        elif name in seen:
            parts.append(_Variable(f"(?P={name})"))
        else:
            seen[name] = written
            parts.append(_make_variable(source, name, spec or ""))
    return parts


def _make_variable(source: str, name: str, spec: str) -> _Variable:
    """Return the variable that a field with its format stands for."""
    if not spec:
        return _Variable(f"(?P<{name}>[^/]+~)", Field(name, "text"))
    if spec == "d":
        return _Variable(f"(?P<{name}>[+-]?[0-9]+~)", Field(name, "int", spec), _DIGITS)
    if spec == "f":
        number = r"[+-]?(?:[0-9]+~(?:\.[0-9]+~)?~|\.[0-9]+~)"
        return _Variable(f"(?P<{name}>{number})", Field(name, "float", spec), _DIGITS + ".")
    if digits := _DIGITS_SPEC.fullmatch(spec):
        count = f"{{{digits[2]},}}~" if digits[1] else f"{{{digits[2]}}}"
        field = Field(name, "int", spec)
        return _Variable(f"(?P<{name}>[0-9]{count})", field, _DIGITS, is_fixed=not digits[1])
    if "%" in spec:
        template = _time_template(source, name, spec)
        field = Field(name, "time", spec)
        return _Variable(f"(?P<{name}>{template})", field, is_fixed="~" not in template)
    raise PatternError(
        f"pattern '{source}' has {{{name}:{spec}}}, but the format {spec!r} is none of {_SPECS}",
        pattern=source,
    )


def _time_template(source: str, name: str, spec: str) -> str:
    pieces = re.split(r"%(.?)", spec)
    codes = pieces[1::2]
    problem = ""
    if unknown := [code for code in codes if code not in _DIRECTIVES]:
        known = ", ".join(f"%{code}" for code in _DIRECTIVES)
        problem = f"%{unknown[0]} is none of {known}"
    elif len(set(codes)) < len(codes):
        problem = "it has one directive twice"
    elif set("mdjbB").intersection(codes) and not set("Yy").intersection(codes):
        problem = "a date needs its year, %Y or %y"
    elif set("/~").intersection(spec):
        problem = "a time holds no / and no ~"
    if problem:
        raise PatternError(
            f"pattern '{source}' has {{{name}:{spec}}}, which is not a time: {problem}",
            pattern=source,
        )
    return "".join(_DIRECTIVES[p] if i % 2 else re.escape(p) for i, p in enumerate(pieces))


def _build_regex(parts: Sequence[str | _Variable], lazy: str) -> re.Pattern[str]:
    regex = ""
    for i, part in enumerate(parts):
        if isinstance(part, str):
            regex += re.escape(part)
        else:
            # One end only: longest first finds the same, in half the time.
            regex += part.template.replace("~", "" if _has_one_end(parts, i) else lazy)
    return re.compile(regex)


def _find_ends(parts: Sequence[str | _Variable]) -> tuple[str, ...]:
    """Return the literals that end variables whose own characters do not end them.

    The last variable ends with the name, and one alone takes what the literals leave.
    """
    places = [i for i, part in enumerate(parts) if isinstance(part, _Variable)]
    behind = [parts[i + 1] for i in places[:-1] if not _has_one_end(parts, i)]
    return tuple(part if isinstance(part, str) else "" for part in behind)


def _has_one_end(parts: Sequence[str | _Variable], i: int) -> bool:
    variable = parts[i]
    behind = parts[i + 1] if i + 1 < len(parts) else None
    if isinstance(variable, str) or variable.is_fixed:
        return True
    return (
        variable.chars is not None and isinstance(behind, str) and behind[0] not in variable.chars
    )
