"""Units of length, angle and time: one spelling for each, and which steps can be."""

from __future__ import annotations

import math
import re
from numbers import Real
from typing import Any

__all__ = [
    "METRES",
    "SECONDS",
    "UNCALIBRATED",
    "as_number",
    "fault_of_step",
    "is_place",
    "unit_name",
    "unit_symbol",
]

_PREFIXES = {
    "Y": ("yotta", 24), "Z": ("zetta", 21), "E": ("exa", 18), "P": ("peta", 15),
    "T": ("tera", 12), "G": ("giga", 9), "M": ("mega", 6), "k": ("kilo", 3), "h": ("hecto", 2),
    "da": ("deca", 1), "": ("", 0), "d": ("deci", -1), "c": ("centi", -2), "m": ("milli", -3),
    "µ": ("micro", -6), "n": ("nano", -9), "p": ("pico", -12), "f": ("femto", -15),
    "a": ("atto", -18), "z": ("zepto", -21), "y": ("yocto", -24),
}  # fmt: skip

METRES = {f"{name}meter": float(f"1e{n}") for name, n in _PREFIXES.values()} | {
    "angstrom": 1e-10, "thou": 2.54e-5, "inch": 0.0254, "foot": 0.3048, "yard": 0.9144,
    "mile": 1609.344,
}  # fmt: skip
"""Length of each unit in metres."""

SECONDS = {f"{name}second": float(f"1e{n}") for name, n in _PREFIXES.values()} | {
    "minute": 60.0, "hour": 3600.0, "day": 86400.0,
}  # fmt: skip
"""Length of each unit of time in seconds."""

UNCALIBRATED = frozenset({"", "pixel", "pixels", "px", "none", "reference frame"})
"""Words for the absence of a unit, lower case."""

_SYMBOLS = (
    {f"{symbol}m": f"{name}meter" for symbol, (name, _) in _PREFIXES.items()}
    | {f"{symbol}s": f"{name}second" for symbol, (name, _) in _PREFIXES.items()}
    | {"um": "micrometer", "us": "microsecond", "Å": "angstrom", "\u212b": "angstrom"}
    | {"in": "inch", "ft": "foot", "yd": "yard", "mi": "mile"}
    | {"min": "minute", "h": "hour", "d": "day"}
)
_WORDS = {name: name for name in (*METRES, *SECONDS, "degree", "radian")} | {
    "micron": "micrometer", "inches": "inch", "feet": "foot", "sec": "second",
    "msec": "millisecond", "usec": "microsecond", "hr": "hour",
}  # fmt: skip
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")

_FARTHEST = 1e100
"""Of any coordinate and step, in whatever unit."""

# Steps outside these are slips of a writer: from a thousandth of an atom to the Earth, and from
# an attosecond to three centuries.
_BOUNDS = ((METRES, 1e-13, 1e7, "1e-13 to 1e7 m"), (SECONDS, 1e-18, 1e10, "1e-18 to 1e10 s"))


def unit_name(text: str) -> str | None:
    r"""Return the full name of a unit as NGFF spells it, None for one that is not known. Pure.

    Escapes are undone: ImageJ writes the micro sign as one.

    >>> unit_name("µm"), unit_name("Microns"), unit_name("\\u00B5m"), unit_name("nanometre")
    ('micrometer', 'micrometer', 'micrometer', 'nanometer')
    >>> unit_name("mm"), unit_name("Mm"), unit_name("pixel")
    ('millimeter', 'megameter', None)
    """
    plain = _ESCAPE.sub(lambda m: chr(int(m[1] or m[2], 16)), text).replace("μ", "µ").strip()
    if plain in _SYMBOLS:  # case matters: mm is not Mm
        return _SYMBOLS[plain]
    word = plain.lower().replace("metre", "meter")
    return _WORDS.get(word) or _WORDS.get(word.removesuffix("s"))


def unit_symbol(name: str) -> str:
    """Return the symbol of a unit of length or time, as OME writes it. Pure.

    >>> unit_symbol("micrometer"), unit_symbol("second"), unit_symbol("angstrom")
    ('µm', 's', 'Å')
    """
    return next((symbol for symbol, unit in _SYMBOLS.items() if unit == name), name)


def fault_of_step(step: float, unit: str | None) -> str | None:
    """Return why a number cannot be the distance of two positions, None if it can. Pure.

    >>> fault_of_step(-1, "micrometer"), fault_of_step(1e20, "micrometer"), fault_of_step(7, None)
    ('is not positive', 'is outside the plausible range 1e-13 to 1e7 m', None)
    """
    if not math.isfinite(step):
        return "is not finite"
    if step <= 0:
        return "is not positive"
    if not 1 / _FARTHEST <= step <= _FARTHEST:
        return "is outside the plausible range 1e-100 to 1e100"
    for factors, low, high, text in _BOUNDS:
        if unit in factors and not low <= step * factors[unit] <= high:
            return f"is outside the plausible range {text}"
    return None


def is_place(value: float) -> bool:
    """Return whether a number can be a coordinate, which sums and units do not overflow. Pure.

    >>> is_place(-7e6), is_place(1e308), is_place(float("nan"))
    (True, False, False)
    """
    return abs(value) <= _FARTHEST


def as_number(value: Any) -> float | None:
    """Return the number that a value is or that a text writes, None for anything else. Pure.

    >>> as_number("0.5"), as_number(2), as_number(True), as_number("0,5")
    (0.5, 2.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, Real | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
