"""Values to JSON, leniently for display or strictly for storage, and back. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from intake_tiffstack.errors import OptionError

__all__ = ["parse_json", "to_json", "to_strict_json"]


def parse_json(text: str | bytes, start: int = 0) -> Any:
    """Return the JSON value in a foreign text, or the one that begins at *start*. Pure.

    Raises
    ------
    ValueError
        If it is not JSON, or is nested more deeply than Python can read.

    >>> parse_json('{"a": [1]}'), parse_json('{"a": [1], "b', 6)
    ({'a': [1]}, [1])
    """
    try:
        if isinstance(text, str) and start:
            return json.JSONDecoder().raw_decode(text, start)[0]
        return json.loads(text)
    except RecursionError as exc:
        raise ValueError("its JSON is nested too deeply") from exc


def to_json(value: Any) -> Any:
    """Return a value converted to what JSON can represent. Pure.

    Times become ISO 8601 strings, elapsed times seconds, NaN and infinities None; bytes, and any
    other type, strings.

    >>> to_json({"t": np.array(["2024-01-01", "NaT"], "datetime64[D]"), 1: (np.float32(0.5), b"a")})
    {'t': ['2024-01-01', None], '1': [0.5, 'a']}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)  # not NumPy's subclass of str, which YAML cannot represent
    if isinstance(value, np.timedelta64):
        return None if np.isnat(value) else float(value / np.timedelta64(1, "s"))
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.ndarray):
        return to_json(list(value)) if value.ndim else to_json(value[()])
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def to_strict_json(value: Any, where: str) -> Any:
    """Return a copy of *value*, with tuples as lists, if JSON can represent it. Pure.

    Parameters
    ----------
    value : object
        Strings, numbers, booleans, None, and mappings and sequences of these.
    where : str
        Name of *value* in an error.

    Raises
    ------
    OptionError
        If JSON cannot represent a value; the message names the place and the type.

    Examples
    --------
    >>> to_strict_json({"scale": {"z": 0.5}, "names": ("GFP", None)}, "attrs")
    {'scale': {'z': 0.5}, 'names': ['GFP', None]}
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [to_strict_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_strict_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    raise OptionError(
        f"{where} cannot be stored as JSON: it must be a string, a finite number, a boolean, None, "
        f"or a list or string-keyed dict of these, but got {type(value).__name__} "
        f"{str(value)[:80]}",
        where=where,
    )
