"""How much of a copy is read back and compared with its source."""

from __future__ import annotations

from typing import Literal

__all__ = ["SAMPLES", "Verify"]

Verify = Literal["sample", "all", False]
"""A few chunks, all of them, or none."""

SAMPLES = 8
"""Chunks that ``"sample"`` compares."""
