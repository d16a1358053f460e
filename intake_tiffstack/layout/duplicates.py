"""Two files in one cell of the grid: which to take, or what to say. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from intake_tiffstack.errors import DuplicateFilesError
from intake_tiffstack.formatting import few, format_value
from intake_tiffstack.layout.columns import given_value
from intake_tiffstack.natural_sort import natural_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.layout.columns import Column
    from intake_tiffstack.pattern.matching import Matches

__all__ = ["duplicate_error", "settle_duplicates"]


def settle_duplicates(
    cells: NDArray[np.int32],
    flat: NDArray[np.intp],
    colliding: NDArray[np.intp],
    paths: Sequence[str],
    duplicates: Literal["first", "last"],
) -> tuple[int, ...]:
    """Put the first or last of the *colliding* rows in each cell, and return the rows left out."""
    ordered = sorted(
        colliding.tolist(),
        key=lambda row: natural_key(paths[row]),
        reverse=duplicates == "first",
    )
    for row in ordered:  # the last one written stays
        cells[flat[row]] = row
    return tuple(row for row in colliding.tolist() if cells[flat[row]] != row)


def duplicate_error(
    paths: Sequence[str],
    matches: Matches,
    columns: Mapping[str, Column],
    names: tuple[str, ...],
    flat: NDArray[np.intp],
    colliding: NDArray[np.intp],
) -> DuplicateFilesError:
    """Return the error that names the first cell with two files, both, and what differs."""
    crowded = flat[colliding]
    rows = colliding[crowded == crowded.min()].tolist()
    first, second = sorted(rows, key=lambda row: natural_key(paths[row]))[:2]

    def n_parted(name: str) -> int:
        parts = np.unique(np.stack([crowded, columns[name].codes[colliding]]), axis=1)
        return len(parts[0])

    cell = {name: columns[name].values[columns[name].codes[first]] for name in names}
    place = ", ".join(f"{name}={format_value(value)}" for name, value in cell.items())
    n_cells = len(np.unique(crowded))
    hold = "holds" if n_cells == 1 else "hold"
    differing = sorted(
        (
            name
            for name, column in columns.items()
            if name not in names and column.codes[first] != column.codes[second]
        ),
        key=n_parted,
        reverse=True,  # the field that parts most of the files first
    )
    return DuplicateFilesError(
        f"{len(rows)} files are in one cell{f' ({place})' if place else ''}:\n"
        f"  {paths[first]}\n  {paths[second]}\n"
        f"{_describe_difference(matches, columns, differing, first, second)}, or take one of them "
        f"by duplicates='first' or 'last' ({n_cells:,} of the cells {hold} more than one file)",
        cell=cell,
        paths=(paths[first], paths[second]),
        fields=tuple(differing),
    )


def _describe_difference(
    matches: Matches,
    columns: Mapping[str, Column],
    differing: Sequence[str],
    first: int,
    second: int,
) -> str:
    """Return what differs in the names of two files of one cell, and what to do about it."""
    if differing:
        name = differing[0]
        column = columns[name]
        one, two = (column.keys[column.codes[row]] for row in (first, second))
        return (
            f"They differ in {', '.join(differing)} ({name}: {few([one, two])}): add it to "
            f"concat_dim, select one by sel={{{name!r}: {given_value(one)!r}}}"
        )
    for name, texts in matches.texts.items():
        if texts[first] != texts[second]:
            return (
                f"{name} is written {texts[first]!r} and {texts[second]!r}, one value: leave one "
                "out by exclude"
            )
    for i, (one, two) in enumerate(
        zip(matches.unnamed[first], matches.unnamed[second], strict=True), start=1
    ):
        if one != two:
            return (
                f"They differ under {{}} number {i} of the pattern ({one!r} and {two!r}): name it "
                "and add it to concat_dim"
            )
    return "They differ only where the pattern does not look: widen it and name what differs"
