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

__all__ = ["CompiledFormat", "Hinge", "compile_format"]


@dataclass(frozen=True)
class Hinge:
    """A literal behind a variable that could end at several places."""

    #: The literal; empty where another variable follows at once, which nothing settles.
    literal: str
    #: How often its first character is in the literals of the format string.
    n_first: int

    def unsettled_in(self, names: Sequence[str]) -> list[str]:
        """Return those of the names, which all match, where the variable before it may end twice.

        It has one end where the literal is at one place only, or where all of its first character
        in the name are taken by literals, so that no variable holds one. Every name has the
        literals, so where all names together have no more of them there is none to look at.
        """
        together = "/".join(names)  # which is in no literal
        first = self.literal[:1]
        if self._is_countable and together.count(self.literal) == len(names):
            return []
        if together.count(first) == self.n_first * len(names):
            return []
        return [
            name
            for name in names
            if name.find(self.literal) != name.rfind(self.literal)
            and name.count(first) != self.n_first
        ]

    @property
    def _is_countable(self) -> bool:
        """Whether two of it cannot overlap, so that counting finds each."""
        ends = (self.literal[i:] for i in range(1, len(self.literal)))
        return not any(self.literal.startswith(end) for end in ends)


@dataclass(frozen=True)
class CompiledFormat:
    """A format string as regexes."""

    #: The named fields, in order.
    fields: tuple[Field, ...]
    #: Gives the reading whose variables are as short as can be, from the left.
    shortest: re.Pattern[str]
    #: Gives the reading whose variables are as long as can be, from the left.
    longest: re.Pattern[str]
    #: A name that is settled at each of these has one reading.
    hinges: tuple[Hinge, ...]


@dataclass(frozen=True)
class _Variable:
    """A part of a format string that differs from file to file."""

    #: A regex with ``~`` after each quantifier, to be ``?`` for the shortest text or nothing.
    template: str
    #: None for ``{}`` and for a field's second occurrence.
    field: Field | None = None
    #: The characters that its text consists of; None for any.
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
        Where a brace is unbalanced, or a field's name or format is none that there is.

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
        hinges=_find_hinges(parts),
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
        return _Variable(f"(?P<{name}>[+-]?[0-9]+~)", Field(name, "int", spec), _DIGITS, "+-")
    if spec == "f":
        number = r"[+-]?(?:[0-9]+~(?:\.[0-9]+~)?~|\.[0-9]+~)"
        return _Variable(f"(?P<{name}>{number})", Field(name, "float", spec), _DIGITS + ".", "+-")
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
            f"pattern '{source}' has {{{name}:{spec}}}, which is no time: {problem}",
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


def _find_hinges(parts: Sequence[str | _Variable]) -> tuple[Hinge, ...]:
    """Return where a name has to be looked at to know that it reads one way.

    Nothing crosses a ``/``, so each part of the path stands alone, and both its ends are known.
    From a known start a variable has one end where its length is fixed, or where the literal
    behind it begins with a character that it cannot hold; likewise its start from a known end.
    Going inwards from both sides settles most variables, and a single one that is left takes
    what is left. Where more are left, the end of the first hinges on the name; then on from there.
    """
    literals = "".join(part for part in parts if isinstance(part, str))
    hinges: list[Hinge] = []
    for segment in _split_at_slashes(parts):
        left = [i for i, part in enumerate(segment) if isinstance(part, _Variable)]
        while len(left) > 1 and any(_is_named(segment[i]) for i in left):
            if _has_one_end(segment, left[0]):
                del left[0]
            elif _has_one_start(segment, left[-1]):
                del left[-1]
            else:
                behind = segment[left.pop(0) + 1]
                literal = behind if isinstance(behind, str) else ""
                hinges.append(Hinge(literal, literals.count(literal[0]) if literal else -1))
    return tuple(dict.fromkeys(hinges))


def _is_named(part: str | _Variable) -> bool:
    return isinstance(part, _Variable) and part.field is not None


def _split_at_slashes(parts: Sequence[str | _Variable]) -> list[list[str | _Variable]]:
    segments: list[list[str | _Variable]] = [[]]
    for part in parts:
        if isinstance(part, _Variable):
            segments[-1].append(part)
            continue
        head, *tail = part.split("/")
        segments[-1] += [head] if head else []
        segments += [[literal] if literal else [] for literal in tail]
    return segments


def _has_one_end(parts: Sequence[str | _Variable], i: int) -> bool:
    variable = parts[i]
    behind = parts[i + 1] if i + 1 < len(parts) else None
    if isinstance(variable, str) or variable.is_fixed:
        return True
    return (
        variable.chars is not None and isinstance(behind, str) and behind[0] not in variable.chars
    )


def _has_one_start(parts: Sequence[str | _Variable], i: int) -> bool:
    variable = parts[i]
    before = parts[i - 1] if i else None
    if isinstance(variable, str) or variable.is_fixed:
        return True
    chars = None if variable.chars is None else variable.chars + variable.first
    return chars is not None and isinstance(before, str) and before[-1] not in chars
