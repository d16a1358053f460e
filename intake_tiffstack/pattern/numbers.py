"""Signs and decimal points in names: which belong to a number and which separate two. Pure.

In ``z-1.5`` they are part of the number where other names have ``z0``; in ``exp-1`` and
``scan2.001`` they separate.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

__all__ = ["DECIMAL", "SIGN", "join_numbers", "restore_numbers"]

_JOINED = str.maketrans("-+.", "\ue000\ue001\ue002")
_RESTORED = {new: old for old, new in _JOINED.items()}

SIGN = "(?<![0-9])[-+](?=[0-9])"
DECIMAL = r"(?<![0-9.])(?:0|[1-9][0-9]{0,5})\.[0-9]{1,6}(?![0-9]|\.[0-9])"


def join_numbers(names: Sequence[str], atoms: str, make_of: Callable[[str], Hashable]) -> list[str]:
    """Return the names with other characters for the signs and points that belong to numbers. Pure.

    They do where names of several makes become one make, and points also where what stands on
    either side is no grid of two numbers.

    Parameters
    ----------
    names : sequence of str
        Names of any make.
    atoms : str
        A regex of what is never a number, such as a GUID.
    make_of : callable
        Returns what names of one make have in common, such as their separators.

    Examples
    --------
    >>> separators = re.compile("[-._]").findall
    >>> def split(names):
    ...     joined = join_numbers(names, "(?!)", lambda name: tuple(separators(name)))
    ...     return [restore_numbers(part) for name in joined for part in re.split("[-._]", name)]
    >>> split(["t-1", "t0.5"]), split(["t-1", "t-2"])
    (['t-1', 't0.5'], ['t', '1', 't', '2'])
    """
    names = _join_where(names, SIGN, atoms, make_of)
    names = _join_where(names, DECIMAL, atoms, make_of, _are_decimals)
    return _join_where(names, f"{SIGN}|{DECIMAL}", atoms, make_of)


def _join_where(
    names: Sequence[str],
    regex: str,
    atoms: str,
    make_of: Callable[[str], Hashable],
    are_numbers: Callable[[Sequence[str]], bool] = lambda names: False,
) -> list[str]:
    """Return the names with what a regex takes joined, in makes that this unites or that ask it."""
    if not any(map(re.compile(regex).search, names)):
        return list(names)
    sub = re.compile(f"({atoms})|{regex}").sub
    joined = [sub(lambda m: m[0] if m[1] else m[0].translate(_JOINED), name) for name in names]
    makes = list(map(make_of, joined))
    taken = _united(map(make_of, names), makes)
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for i, make in enumerate(makes):
        if make not in taken:
            rows[make].append(i)
    taken |= {make for make, own in rows.items() if are_numbers([names[i] for i in own])}
    return [
        new if make in taken else old for old, new, make in zip(names, joined, makes, strict=True)
    ]


def restore_numbers(text: str) -> str:
    """Return a text of :func:`join_numbers` as the name has it. Pure."""
    return text.translate(_RESTORED)


def _united(fine: Iterable[Hashable], coarse: Iterable[Hashable]) -> set[Hashable]:
    """Return which makes consist of several whole makes of another kind."""
    inside: dict[Hashable, set[Hashable]] = defaultdict(set)
    around: dict[Hashable, set[Hashable]] = defaultdict(set)
    for one, other in zip(fine, coarse, strict=True):
        inside[other].add(one)
        around[one].add(other)
    return {
        make
        for make, parts in inside.items()
        if len(parts) > 1 and all(len(around[part]) == 1 for part in parts)
    }


def _are_decimals(names: Sequence[str]) -> bool:
    """Return whether a point in names of one make stands between digits of one number.

    >>> _are_decimals([f"z{z}_a" for z in ("0.0", "0.5", "1.0", "1.5")])
    True
    >>> _are_decimals([f"scan{s}.{t:03}" for s in (1, 2) for t in range(1, 9)])
    False
    """
    column_of = re.compile(f"([\ue000\ue001]?{DECIMAL})([^\\W\\d_]?)").findall
    columns = zip(*map(column_of, names), strict=False)
    return any(
        any(unit for _, unit in column)
        or _is_decimal({restore_numbers(number) for number, _ in column})
        for column in columns
    )


def _is_decimal(texts: set[str]) -> bool:
    """Return whether numbers with a point are rather one number than two. Pure.

    >>> _is_decimal({"3.25", "3.5", "3.75"}), _is_decimal({"1.001", "1.002", "1.003"})
    (True, False)
    """
    whole = {text.partition(".")[0] for text in texts}
    parts = {text.partition(".")[2] for text in texts}
    if whole == {"0"}:
        return True
    if len(whole) == 1:
        return _are_regular(map(float, texts)) and not _are_regular(map(float, parts))
    if len(parts) == 1:  # 1.5 and 2.5, but 1.001 and 2.001 are the first files of two runs
        return not min(parts).startswith("0")
    if len(set(map(len, parts))) > 1 and not any(part.endswith("0") for part in parts):
        return True
    return _are_regular(map(float, texts)) or len(texts) < len(whole) * len(parts)


def _are_regular(numbers: Iterable[float]) -> bool:
    steps = np.diff(sorted(round(number * 10**6) for number in numbers))
    return len(steps) > 1 and len(set(steps.tolist())) == 1
