"""How the pixels of a collection are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from intake_tiffstack.reading.reader import CollectionReader

__all__ = ["ReadOptions"]


@dataclass(frozen=True)
class ReadOptions:
    """The options that decide the value of a pixel, and what replaces a file that is unreadable."""

    reader: CollectionReader = field(default_factory=CollectionReader)
    """Opens the files."""
    fill_value: Any = 0
    on_error: Literal["raise", "fill"] = "raise"
    arraytype: str = "numpy"
