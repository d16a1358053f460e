"""Whether the files of a collection agree on nodata, scale and offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intake_tiffstack.errors import warn
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from intake_tiffstack.structure import Structure

__all__ = ["warn_of_packing"]


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
