"""Regexes with named groups, read as patterns: which fields there are, and of what kind.

Everything here is pure.
"""

from __future__ import annotations

import importlib
import platform
import re
from typing import TYPE_CHECKING, Any

from intake_tiffstack.errors import PatternError
from intake_tiffstack.pattern.fields import Field
from intake_tiffstack.pattern.times import is_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["compile_regex"]


def compile_regex(
    source: str, text: str, times: Mapping[str, str] | None = None
) -> tuple[tuple[Field, ...], re.Pattern[str]]:
    r"""Return the fields of a regex, and the compiled regex; pure.

    A group that admits only digits, with or without a sign, holds an integer: decided by the
    pattern, never by the data.

    Parameters
    ----------
    source : str
        The regex.
    text : str
        What the user wrote for it: the regex, or the name of a preset.
    times : mapping[str, str], optional
        Format of each group that holds a time or an elapsed time.

    Raises
    ------
    PatternError
        If it is not a regular expression.

    Examples
    --------
    >>> fields, _ = compile_regex(r"_(?P<well>[A-P]\d\d)_s(?P<s>\d+)", "")
    >>> [(field.name, field.kind) for field in fields]
    [('well', 'text'), ('s', 'int')]
    """
    try:
        regex = re.compile(source)
    except re.error as exc:
        raise PatternError(
            f"pattern '{text}' is not a valid regex: {exc.msg}, at character {exc.pos}",
            pattern=text,
        ) from exc
    groups = {
        argument[0]: argument[-1]
        for operation, argument in _walk(_parse_regex(source))
        if operation == "SUBPATTERN"
    }
    known = times or {}
    fields = tuple(
        Field(name, "duration" if is_duration(known[name]) else "time", known[name])
        if name in known
        else Field(name, "int" if _is_number(groups[number]) else "text")
        for name, number in regex.groupindex.items()
    )
    return fields, regex


def _parse_regex(source: str) -> Any:
    """Return the syntax tree of a regex, from the parser that ``re`` itself uses.

    It has no public name; this is the only place that imports it.
    """
    try:
        parse = importlib.import_module("re._parser").parse
    except (ImportError, AttributeError) as exc:
        raise RuntimeError(
            "re._parser.parse, a private module of Python that patterns written as regexes need, "
            f"is not in Python {platform.python_version()}: use a format string as pattern"
        ) from exc
    return parse(source)


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


# What a text may be that a part of a regex matches: nothing, a sign, digits, a sign and digits, or
# something else. Following one another they make:
_NOTHING, _SIGN, _DIGITS, _SIGNED, _OTHER = "", "s", "d", "sd", "?"
_TOGETHER = {
    (_SIGN, _DIGITS): _SIGNED,
    (_DIGITS, _DIGITS): _DIGITS,
    (_SIGNED, _DIGITS): _SIGNED,
}


def _is_number(tree: Any) -> bool:
    """Return whether a group admits integers only, with or without a sign."""
    return _texts(tree) <= {_DIGITS, _SIGNED}


def _texts(tree: Any) -> set[str]:
    """Return what the texts may be that a sequence of operations matches."""
    found = {_NOTHING}
    for operation, argument in tree:
        found = _joined(found, _texts_of(str(operation), argument))
    return found


def _joined(first: set[str], second: set[str]) -> set[str]:
    return {
        one or two if not one or not two else _TOGETHER.get((one, two), _OTHER)
        for one in first
        for two in second
    }


def _texts_of(operation: str, argument: Any) -> set[str]:
    match operation:
        case "LITERAL":
            text = chr(argument)
            return {_DIGITS if text in "0123456789" else _SIGN if text in "+-" else _OTHER}
        case "RANGE":
            return {_DIGITS if all(chr(end) in "0123456789" for end in argument) else _OTHER}
        case "CATEGORY":
            return {_DIGITS if str(argument) == "CATEGORY_DIGIT" else _OTHER}
        case "IN":
            return set().union(*(_texts_of(str(kind), item) for kind, item in argument))
        case "AT" | "ASSERT" | "ASSERT_NOT":  # these take up no text
            return {_NOTHING}
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, tree = argument
            return _repeated(_texts(tree), least, most)
        case "ATOMIC_GROUP" | "SUBPATTERN" | "BRANCH":
            return set().union(*map(_texts, _subtrees(argument)))
        case "GROUPREF_EXISTS":
            return set().union(*(_texts(tree or ()) for tree in argument[1:]))
    return {_OTHER}


def _repeated(texts: set[str], least: int, most: int) -> set[str]:
    """Return what texts make that follow one another *least* to *most* times.

    Three of a kind are what two are.
    """
    found: set[str] = set()
    current = {_NOTHING}
    for count in range(min(most, 3) + 1):
        if count >= min(least, 3):
            found |= current
        current = _joined(current, texts)
    return found
