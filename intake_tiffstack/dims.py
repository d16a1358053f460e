"""Roles of dimensions: what a dim is for, by its name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["NAMES", "Role", "role_of", "row_letters"]


class Role(StrEnum):
    """What a dim is for; in the order that dims take by default."""

    PLATE = "plate"
    ACQUISITION = "acquisition"
    POSITION = "position"
    TIME = "time"
    CHANNEL = "channel"
    Z = "z"
    Y = "y"
    X = "x"


NAMES: Mapping[Role, tuple[str, ...]] = {
    Role.PLATE: ("well", "row", "column"),
    Role.ACQUISITION: ("acquisition", "acq"),
    Role.POSITION: ("position", "pos", "p", "field", "site", "fov", "s"),
    Role.TIME: ("t", "time", "timepoint", "frame"),
    Role.CHANNEL: ("c", "ch", "channel", "wave", "band"),
    Role.Z: ("z", "slice"),
    Role.Y: ("y",),
    Role.X: ("x",),
}
"""Names of the dims of each role, lower case."""

_ROLE_OF = {name: role for role, names in NAMES.items() for name in names}


def role_of(dim: str) -> Role | None:
    """Return the role of a dim, None if its name has none.

    >>> role_of("Time"), role_of("slice"), role_of("sample")
    (<Role.TIME: 'time'>, <Role.Z: 'z'>, None)
    """
    return _ROLE_OF.get(dim.lower())


def row_letters(number: int) -> str:
    """Return the letters of the row of a plate with a number from 1 on: A to Z, AA to AZ, ...

    >>> row_letters(1), row_letters(26), row_letters(27)
    ('A', 'Z', 'AA')
    """
    letters = ""
    while number > 0:
        number, place = divmod(number - 1, 26)
        letters = chr(ord("A") + place) + letters
    return letters
