"""How the files of a collection are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    pass

__all__ = ["ReadOptions"]


@dataclass(frozen=True)
class ReadOptions:
    """The options that decide what a file's pixels are, and what to do without them."""

    series: int = 0
    level: int = 0
    file_dims: tuple[str, ...] | tuple[tuple[str, int], ...] | None = None
    """Names, or pairs of name and size."""
    fill_value: Any = 0
    on_error: Literal["raise", "fill"] = "raise"
    arraytype: str = "numpy"
