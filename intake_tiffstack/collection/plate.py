"""The index of a plate: when it counts, and whether the names of the files agree. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from intake_tiffstack.dims import Role, role_of, row_letters
from intake_tiffstack.errors import OptionError, warn
from intake_tiffstack.listing.plates import plate_index
from intake_tiffstack.metadata.readers.table import CONSTANT
from intake_tiffstack.pattern.matching import compile_pattern, match_paths
from intake_tiffstack.pattern.table import read_table
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from intake_tiffstack.listing.list_files import Listing, Sidecar
    from intake_tiffstack.options import Options
    from intake_tiffstack.pattern.matching import Matches, Pattern
    from intake_tiffstack.pattern.table import TableMatches

__all__ = ["read_fields", "wanted_sidecar"]


def wanted_sidecar(options: Options) -> Sidecar:
    """Return whether the index in a folder stands for the folder.

    Raises
    ------
    OptionError
        If an option that reads names, or gives fields, contradicts ``layout="sidecar"``.
    """
    others = [name for name in ("pattern", "files") if getattr(options, name)]
    if options.layout == "sidecar":
        if others:
            raise OptionError(
                f"layout='sidecar' reads the fields in the index of a plate, so that {others[0]} "
                "has no effect: keep one of them",
                option=others[0],
            )
        return "required"
    is_free = options.layout == "auto" and not others and options.concat_dim is None
    return "auto" if is_free else "none"


def read_fields(listing: Listing) -> tuple[Pattern, TableMatches, tuple[str, ...]]:
    """Return the fields of a table; warn where names contradict the index of a plate.

    Raises
    ------
    OptionError
        If a column has a value for some files only.
    """
    paths = listing.files.paths
    if not listing.index:
        return read_table(listing.table, paths)
    table = {name: values for name, values in listing.table.items() if name not in CONSTANT}
    pattern, known, axes = read_table(table, paths, has_gaps=True)
    _warn_of_names(listing, known)
    return pattern, known, axes


def _warn_of_names(listing: Listing, known: Matches) -> None:
    """Warn if names, where their instrument's preset reads them, contradict the index.

    Numbers may count from another first one, and texts may be called otherwise, but the same files
    belong together; wells are the same.
    """
    plate = plate_index(listing.index)
    if plate is None:
        return
    matches = match_paths(compile_pattern(plate.preset), listing.files.paths, listing.root)
    rows = matches.indices.tolist()
    columns = known.columns
    for name, values in _by_role(matches):
        other = next((key for key in columns if _same_field(key, name)), None)
        if other is None:
            continue
        own = [columns[other][row] for row in rows]
        odd = _first_odd(values, own, of_wells=role_of(other) is Role.PLATE)
        if odd is not None:
            url = hide_in_text(listing.files.urls[rows[odd]])
            warn(
                f"{url} has {name} {values[odd]} in its name, but {other} "
                f"{own[odd]} in {hide_in_text(listing.index)}, unlike others: the index counts; "
                "layout='names' with a pattern reads the names"
            )
            return


def _by_role(matches: Matches) -> list[tuple[str, Sequence[Any]]]:
    """Return the values of the fields of names, rows and columns as wells."""
    columns = dict(matches.columns)
    if {"row", "column"} <= columns.keys():
        rows, numbers = columns.pop("row"), columns.pop("column")
        letters = [row if isinstance(row, str) else row_letters(int(row)) for row in rows]
        columns["well"] = [f"{a}{int(b):02d}" for a, b in zip(letters, numbers, strict=True)]
    return list(columns.items())


def _same_field(one: str, other: str) -> bool:
    role = role_of(one)
    return role is not None and (one == other if role is Role.PLATE else role == role_of(other))


def _first_odd(names: Sequence[Any], index: Sequence[Any], *, of_wells: bool) -> int | None:
    """Return the first place where names contradict an index, None where they agree.

    >>> _first_odd([1, 2, 2], [0, 1, 2], of_wells=False), _first_odd([0], ["a"], of_wells=False)
    (2, None)
    >>> _first_odd(["a1", "B02"], ["A01", "C02"], of_wells=True)
    1
    """
    pairs = list(zip(names, index, strict=True))
    if of_wells:
        odd = [_well(str(one)) != _well(str(other)) for one, other in pairs]
    elif all(isinstance(value, int) for pair in pairs[:1] for value in pair):
        shifts = [other - one for one, other in pairs]
        usual = Counter(shifts).most_common(1)[0][0]
        odd = [shift != usual for shift in shifts]
    else:
        forth: dict[Any, Any] = {}
        back: dict[Any, Any] = {}
        odd = [forth.setdefault(a, b) != b or back.setdefault(b, a) != a for a, b in pairs]
    return odd.index(True) if any(odd) else None


def _well(text: str) -> str:
    """Return a well without zeros before its number, in capitals."""
    return re.sub(r"(?<=[A-Z])0+(?=\d)", "", text.upper())
