"""What a table beside the files says of each: the index of a plate, or a table of the user's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from intake_tiffstack.metadata.reader import Reader
from intake_tiffstack.metadata.units import as_number

if TYPE_CHECKING:
    from intake_tiffstack.metadata.model import Findings
    from intake_tiffstack.metadata.reader import Subject

__all__ = ["COLUMNS", "CONSTANT", "TABLE"]

_WAVES = {"emission_nm": "emission_wavelengths", "excitation_nm": "excitation_wavelengths"}
_STEPS = {"pixel_y_um": "y", "pixel_x_um": "x", "z_step_um": "z"}
_LENS = ("magnification", "numerical_aperture")
_STAGE = {f"stage_{dim}_um": dim for dim in "zyx"}

CONSTANT = frozenset({"channel_name", "channel_color", *_STEPS, "objective", *_LENS, "interval_s"})
"""Columns of the index of a plate that make no coordinates: metadata have them."""

COLUMNS = CONSTANT | {*_WAVES, *_STAGE, "acquired"}
"""Columns that describe pixels, with their units."""


def interpret_row(
    name: str, content: dict[str, dict[str, Any]], subject: Subject, found: Findings
) -> None:
    """Add what the columns of a file's row say."""
    row = {key: value for key, value in content.get("Row", {}).items() if value not in (None, "")}
    source = f"{name} beside"
    for key, dim in _STEPS.items():
        found.add_step(dim, row.get(key), "micrometer", source, key)
    if "interval_s" in row:
        found.add_interval(row["interval_s"], "second", source, "interval_s")
    if subject.sizes.get("c", 1) == 1:
        found.add_channels("channel_names", [row.get("channel_name")], source)
        found.add_channels("channel_colors", [_color(row.get("channel_color"))], source)
        for key, target in _WAVES.items():
            found.add_channels(target, [as_number(row.get(key))], source)
    for key, dim in _STAGE.items():
        if key in row:
            found.add_stage(dim, [row[key]], "micrometer", source)
    height = as_number(row.get("stage_z_um"))
    if height is not None and subject.sizes.get("z", 1) == 1:
        found.add_heights([height], "micrometer", source)
    lens = {"model": row.get("objective")} | {key: as_number(row.get(key)) for key in _LENS}
    found.add_fact("objective", lens, source)
    found.add_time("acquired", row.get("acquired"), source)


def _color(value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value) else None


TABLE = Reader("table", None, interpret_sidecar=interpret_row)
