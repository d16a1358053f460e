"""Which headers to read, and what to say where the files turn out to differ.

Everything here is pure: what the headers say comes in as values.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from intake_tiffstack.errors import StructureMismatchError
from intake_tiffstack.formatting import few
from intake_tiffstack.layout.columns import given_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Grid

__all__ = ["mismatch_error"]


def mismatch_error(
    grid: Grid,
    paths: Sequence[str],
    rows: Sequence[int],
    codes: NDArray[np.intp],
    kinds: Sequence[str],
    *,
    what: str,
    along: str | None = None,
) -> StructureMismatchError:
    """Return the error for files that differ in *what*: two of them, and the field that decides.

    Parameters
    ----------
    grid : Grid
    paths : sequence of str
        The files in their cells, and where they are.
    rows : sequence of int
        Files whose headers were read.
    codes : ndarray of intp
        Which of *kinds* each of them is.
    kinds : sequence of str
        What is met, as text: "32x32x4".
    what : str
        What differs: dims, dtype, shape.
    along : str, optional
        The axis along which it may differ, None for none.
    """
    fields = _field_codes(grid, rows)
    one, two = _differing_pair(codes, None if along is None else fields[along])
    message = f"the files differ in {what}:\n" + "".join(
        f"  {paths[rows[i]]}: {kinds[codes[i]]}\n" for i in (one, two)
    )
    deciding = _deciding_fields(fields, codes, along) if grid.is_named else ()
    if not grid.is_named:
        message += (
            "Leave the odd ones out by exclude, or give a pattern with a field that differs "
            "between them, for sel"
        )
    elif len(deciding) == 1 and along is None:
        message += _describe_groups(grid, deciding[0], fields[deciding[0]], codes, kinds)
    elif deciding:
        verb = "decides" if len(deciding) == 1 else "decide"
        message += f"{' and '.join(deciding)} {verb} which: select one part by sel"
    else:
        message += "No field of the names decides which: leave the odd ones out by exclude"
    if what == "shape" and along is None:
        message += ", or fill all up to the largest by unequal='pad'"
    if along is not None:
        message += f". Along {along} each position must have one extent across all other axes"
    return StructureMismatchError(
        message, paths=(paths[rows[one]], paths[rows[two]]), fields=deciding
    )


def _differing_pair(codes: NDArray[np.intp], along: NDArray[np.intp] | None) -> tuple[int, int]:
    """Return two files of different kinds, at one position where *along* is given."""
    first_at: dict[int, int] = {}
    for i, code in enumerate(codes.tolist()):
        one = first_at.setdefault(0 if along is None else int(along[i]), i)
        if codes[one] != code:
            return one, i
    raise ValueError("the files do not differ")


def _field_codes(grid: Grid, rows: Sequence[int]) -> dict[str, NDArray[np.intp]]:
    """Return which of its values each field has in the names of *rows*."""
    index = grid.locate(rows)
    codes = dict(zip(grid.names, index, strict=True))
    for coord in grid.coords:
        codes[coord.name] = np.broadcast_to(
            coord.codes[tuple(index[axis] for axis in coord.axes)], len(rows)
        )
    return codes


def _deciding_fields(
    fields: Mapping[str, NDArray[np.intp]], codes: NDArray[np.intp], along: str | None
) -> tuple[str, ...]:
    """Return the one or two fields that decide *codes*, those with the fewest values, or none."""
    given = [] if along is None else [fields[along]]
    free = [name for name, values in fields.items() if name != along and len(set(values)) > 1]
    for n in (1, 2):
        found = {}
        for names in combinations(free, n):
            values = np.stack([*given, *(fields[name] for name in names)])
            n_values = np.unique(values, axis=1).shape[1]
            if n == 2 and n_values == len(codes):
                continue  # one value per file decides anything
            if n_values == np.unique(np.vstack([values, codes]), axis=1).shape[1]:
                found[names] = n_values
        if found:
            return min(found, key=found.__getitem__)
    return ()


def _describe_groups(
    grid: Grid,
    name: str,
    positions: NDArray[np.intp],
    codes: NDArray[np.intp],
    kinds: Sequence[str],
) -> str:
    """Return which values of the field *name* give which kind, and how to select one kind."""
    values = _field_values(grid, name)
    groups = [
        f"{name}={few([values[i] for i in np.unique(positions[codes == code])])} gives "
        f"{kinds[code]}"
        for code in range(len(kinds))
    ]
    if len(groups) > 4:
        groups = [*groups[:4], f"and {len(groups) - 4} more"]
    largest = positions[codes == np.bincount(codes).argmax()]
    written = grid.written.get(name, {})
    chosen = [given_value(written.get(values[i], values[i])) for i in np.unique(largest)]
    sel = f"sel={{{name!r}: {chosen[0] if len(chosen) == 1 else chosen!r}}}"
    return f"{'; '.join(groups)}: select one kind by {sel if len(chosen) <= 12 else 'sel'}"


def _field_values(grid: Grid, name: str) -> Sequence[Any]:
    known: dict[str, Sequence[Any]] = {axis.name: axis.values for axis in grid.axes}
    return (known | {coord.name: coord.known for coord in grid.coords})[name]
