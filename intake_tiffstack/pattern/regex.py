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

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["compile_regex"]


def compile_regex(source: str, text: str) -> tuple[tuple[Field, ...], re.Pattern[str]]:
    r"""Return the fields of a regex, and the compiled regex; pure.

    A group that admits only digits holds an integer: decided by the pattern, never by the data.

    Parameters
    ----------
    source : str
        The regex.
    text : str
        What the user wrote for it: the regex, or the name of a preset.

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
    fields = tuple(
        Field(name, "int" if _is_number(groups[number]) else "text")
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
