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
from intake_tiffstack.pattern.times import fault_of_format, is_duration, time_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.pattern.fields import Kind

__all__ = ["CompiledFormat", "compile_format", "spread_folders"]


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
    #: The distinct literals, if all variables are texts or numbers and each occurs once; else none.
    literals: tuple[str, ...] = ()


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
_BLANK = "([^/]*~)"
_DIGITS = "0123456789"
_DIGITS_SPEC = re.compile(r"(0?)([1-9][0-9]?)d")


_over_folders = re.compile(r"(?<!\{)\{([^\W\d]\w*):([^{}]*%[^{}]*)\}(?!\})")


def spread_folders(source: str) -> str:
    """Return a format string with a field for each folder that a time is written over. Pure.

    >>> spread_folders("{t:%Y/%m/%d}/B{band}_{t:%H}.tif")
    '{t:%Y}/{t:%m}/{t:%d}/B{band}_{t:%H}.tif'
    """
    return _over_folders.sub(
        lambda field: "/".join(
            f"{{{field[1]}:{part}}}" if "%" in part else part for part in field[2].split("/")
        ),
        source,
    )


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
    parts = _parse(spread_folders(source))
    return CompiledFormat(
        tuple(p.field for p in parts if isinstance(p, _Variable) and p.field is not None),
        shortest=_build_regex(parts, "?"),
        longest=_build_regex(parts, ""),
        ends=_find_ends(parts),
        literals=_find_literals(parts),
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
    spread = _spread_times(source, pieces)
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
        if name not in spread and seen.get(name, written) != written:
            raise PatternError(
                f"pattern '{source}' has both {seen[name]} and {written}, but a field that occurs "
                "twice reads the same text twice: write both alike",
                pattern=source,
            )
        if not name:
            parts.append(_Variable(_BLANK))
        elif name in spread:
            parts.append(spread[name].pop(0))
        elif name in seen:
            parts.append(_Variable(f"(?P={name})"))
        else:
            seen[name] = written
            parts.append(_make_variable(source, name, spec or ""))
    return parts


def _spread_times(
    source: str, pieces: Sequence[tuple[str, str | None, str | None, str | None]]
) -> dict[str, list[_Variable]]:
    """Return the parts of each time that is written in several places, in different formats."""
    specs: dict[str, list[str]] = {}
    for _, name, spec, _ in pieces:
        if name:
            specs.setdefault(name, []).append(spec or "")
    return {
        name: _make_times(source, name, own)
        for name, own in specs.items()
        if len(set(own)) > 1 and name.isidentifier() and all("%" in spec for spec in own)
    }


def _make_times(source: str, name: str, specs: Sequence[str]) -> list[_Variable]:
    """Return the variables that a time stands for, one per place that it is written in.

    The first has the field; a directive that an earlier one has reads the same text again.
    """
    problem = fault_of_format(specs)
    if problem:
        written = " and ".join(f"{{{name}:{spec}}}" for spec in specs)
        raise PatternError(
            f"pattern '{source}' has {written}, which is not a time: {problem}", pattern=source
        )
    groups = (name, *(f"{name}__{place}" for place in range(2, len(specs) + 1)))
    kind: Kind = "duration" if is_duration("".join(specs)) else "time"
    field = Field(name, kind, "/".join(specs), groups)
    seen: set[str] = set()
    variables = []
    for group, spec in zip(groups, specs, strict=True):
        template = time_template(spec, f"{name}__" if len(specs) > 1 else "", seen)
        variables.append(
            _Variable(
                f"(?P<{group}>{template})",
                field if group == name else None,
                is_fixed="~" not in template,
            )
        )
    return variables


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
        return _make_times(source, name, [spec])[0]
    raise PatternError(
        f"pattern '{source}' has {{{name}:{spec}}}, but the format {spec!r} is none of {_SPECS}",
        pattern=source,
    )


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


def _find_literals(parts: Sequence[str | _Variable]) -> tuple[str, ...]:
    """Return the distinct literals; none where a time or a field's second place asks for more."""
    variables = [part for part in parts if isinstance(part, _Variable)]
    is_plain = all(
        part.template == _BLANK or (part.field and part.field.kind in ("text", "int", "float"))
        for part in variables
    )
    return tuple({part: None for part in parts if isinstance(part, str)}) if is_plain else ()


def _has_one_end(parts: Sequence[str | _Variable], i: int) -> bool:
    variable = parts[i]
    behind = parts[i + 1] if i + 1 < len(parts) else None
    if isinstance(variable, str) or variable.is_fixed:
        return True
    return (
        variable.chars is not None and isinstance(behind, str) and behind[0] not in variable.chars
    )
