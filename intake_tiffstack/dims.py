"""Roles of dimensions: which dim is time, channel, z, position ..., told by its name. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ROLES", "Role", "role_of"]

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
