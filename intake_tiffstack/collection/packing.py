"""Nodata, scale and offset: what sidecars add to them, and whether files agree on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from intake_tiffstack.errors import warn
from intake_tiffstack.metadata.readers.beside import pam_packing
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intake_tiffstack.metadata.reader import RawMetadata
    from intake_tiffstack.structure import Structure

__all__ = ["add_packing", "warn_of_packing"]


def add_packing(structure: Structure, beside: RawMetadata) -> Structure:
    """Return a structure with the nodata, scales and offsets of a file's PAM. Pure."""
    sizes = dict(zip(structure.dims, structure.shape, strict=True))
    own, other = structure.packing, pam_packing(beside.sidecars, sizes, structure.dtype)
    packing = replace(
        own,
        nodata=own.nodata if other.nodata is None else other.nodata,
        scales=other.scales or own.scales,
        offsets=other.offsets or own.offsets,
    )
    return structure if packing == own else replace(structure, packing=packing)


def warn_of_packing(structures: Mapping[int, Structure], urls: Sequence[str]) -> None:
    """Warn if files differ in nodata, scale or offset, naming two of them and both values."""
    first, *others = structures
    known = structures[first].packing
    for what in ("nodata", "scales", "offsets"):
        own = getattr(known, what)
        for row in others:
            packing = structures[row].packing
            if packing is known or repr(getattr(packing, what)) == repr(own):
                continue
            claims = [
                f"{hide_in_text(urls[i])} has {_shown(getattr(structures[i].packing, what))}"
                for i in (first, row)
            ]
            warn(
                f"files disagree on the {what.rstrip('s')}: {' but '.join(claims)}; the first is "
                "used for all, and the stored numbers are unchanged"
            )
            break


def _shown(value: Any) -> str:
    if value in (None, ()):
        return "none"
    values = value if isinstance(value, tuple) else (value,)
    return ", ".join(f"{number:.9g}" for number in dict.fromkeys(values))
