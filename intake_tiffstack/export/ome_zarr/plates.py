"""The paths of the images of a collection: the root, the wells of a plate, or a series. Pure.

References
----------
https://ngff.openmicroscopy.org/0.5, sections "plate", "well" and "bioformats2raw.layout".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.dims import Role, role_of, row_letters
from intake_tiffstack.errors import OptionError
from intake_tiffstack.natural_sort import natural_key

__all__ = [
    "Arrangement",
    "Field",
    "Plate",
    "Position",
    "Present",
    "Well",
    "arrange_images",
    "as_labels",
]

_is_plain = re.compile(r"[A-Za-z0-9]+").fullmatch
_split_well = re.compile(r"([A-Za-z]+)[ _-]*([0-9]+)").fullmatch
_split_numbered_well = re.compile(r"[Rr]([0-9]+)[ _-]*[Cc]([0-9]+)").fullmatch

Present = tuple[tuple[str, ...], NDArray[np.bool_]]
"""Dims, and whether a file exists at each of their positions."""


@dataclass(frozen=True)
class Position:
    """One image, and the pixels of the collection that it holds."""

    path: str
    """Below the root; empty for the root itself."""
    name: str
    """For display; empty if there is only one image."""
    chosen: Mapping[str, int]
    """Position along each dim that is not an axis of an image."""


@dataclass(frozen=True)
class Field:
    """One image of a well."""

    path: str
    """Below the well."""
    acquisition: int | None = None
    """Number of its acquisition, None where the plate has one alone."""


@dataclass(frozen=True)
class Well:
    """One well of a plate."""

    row: int
    """Folder of its row among those of the plate."""
    column: int
    """Folder of its column."""
    path: str
    """Below the root."""
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Plate:
    """The wells that hold an image."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    wells: tuple[Well, ...]
    acquisitions: tuple[str, ...] = ()
    """Names of the acquisitions; none where there is one alone."""

    def most_fields(self, acquisition: int | None = None) -> int:
        """Return the largest number of fields that a well has, of an acquisition or of any one."""
        counts = (
            sum(field.acquisition == one for field in well.fields)
            for well in self.wells
            for one in (range(len(self.acquisitions)) if acquisition is None else [acquisition])
        )
        return max(counts) if self.acquisitions else max(len(well.fields) for well in self.wells)


@dataclass(frozen=True)
class Arrangement:
    """All images, and the plate that holds them."""

    positions: tuple[Position, ...]
    plate: Plate | None = None
    """None for a single image, or a series of them."""

    @property
    def is_single(self) -> bool:
        """Whether the root is the one image."""
        return self.plate is None and [p.path for p in self.positions] == [""]


def arrange_images(
    extra: Mapping[str, int], labels: Mapping[str, Sequence[str]], present: Present | None = None
) -> Arrangement:
    """Return the images along the dims other than ``t c z y x``.

    Wells, or rows and columns, and at most one dim of positions and of acquisitions are a plate;
    only wells and fields that have a file are listed. Any dims of wells, acquisitions, positions
    and files are a series otherwise.

    Parameters
    ----------
    extra : mapping[str, int]
        Those dims and their lengths.
    labels : mapping[str, sequence[str]]
        Label of each position along them.
    present : Present, optional
        Where files exist; None for everywhere.

    Raises
    ------
    OptionError
        If a dim is of another kind, or no file exists.

    Examples
    --------
    >>> images = arrange_images({"well": 2, "s": 2}, {"well": ["B02", "B10"], "s": ["1", "2"]})
    >>> [position.path for position in images.positions], images.plate.columns
    (['B/02/0', 'B/02/1', 'B/10/0', 'B/10/1'], ('02', '10'))
    """
    if not extra:
        return Arrangement((Position("", "", {}),))
    _refuse_others(extra)
    is_there = _spread(present, extra)
    places = [place for place in np.ndindex(*extra.values()) if is_there[place]]
    if not places:
        raise OptionError(f"there is no file at any position along {', '.join(extra)}: no image")
    wells = _find_wells(extra, labels)
    if wells is None:
        return Arrangement(
            tuple(
                Position(str(i), _name(place, extra, labels), dict(zip(extra, place, strict=True)))
                for i, place in enumerate(places)
            )
        )
    return _as_plate(extra, labels, places, wells)


_OF_SERIES = (Role.PLATE, Role.ACQUISITION, Role.POSITION)


def _refuse_others(extra: Mapping[str, int]) -> None:
    for dim in extra:
        if role_of(dim) not in _OF_SERIES and dim != "file":
            raise OptionError(
                f"an OME-Zarr image has the axes t, c, z, y and x, and {dim} is neither one of "
                f"them nor a well, acquisition or position; choose one of its {extra[dim]} with "
                f"sel={{{dim!r}: ...}}, "
                "or name it t, c, z or position in `pattern` or `file_dims`"
            )


def _spread(present: Present | None, extra: Mapping[str, int]) -> NDArray[np.bool_]:
    """Return whether a file exists at each position of the dims in *extra*."""
    if present is None:
        return np.ones(tuple(extra.values()), bool)
    dims, is_there = present
    others = tuple(i for i, dim in enumerate(dims) if dim not in extra)
    kept = np.asarray(is_there.any(axis=others))
    known = [dim for dim in dims if dim in extra]
    ordered = np.transpose(kept, [known.index(dim) for dim in extra if dim in known])
    shape = [n if dim in known else 1 for dim, n in extra.items()]
    return np.broadcast_to(ordered.reshape(shape), tuple(extra.values()))


def _name(
    place: Sequence[int], extra: Mapping[str, int], labels: Mapping[str, Sequence[str]]
) -> str:
    """Return the name of a position."""
    return ", ".join(f"{dim} {labels[dim][i]}" for dim, i in zip(extra, place, strict=True))


Names = Mapping[tuple[int, ...], tuple[str, str]]
"""Positions along the dims of the plate, to row and column."""


def _find_wells(extra: Mapping[str, int], labels: Mapping[str, Sequence[str]]) -> Names | None:
    """Return row and column of each well, None if the dims or their names do not form a plate."""
    plate = [dim for dim in extra if role_of(dim) == Role.PLATE]
    others = [role_of(dim) for dim in extra if dim not in plate]
    if len(set(others)) < len(others) or "file" in extra:
        return None
    kinds = {dim.lower(): dim for dim in plate}
    if set(kinds) == {"well"}:
        pairs = list(map(_read_well, labels[kinds["well"]]))
        found: Names = {(i,): pair for i, pair in enumerate(pairs) if pair is not None}
        return found if len(set(found.values())) == len(pairs) else None
    if set(kinds) == {"row", "column"}:
        rows, columns = _name_rows(labels[kinds["row"]]), labels[kinds["column"]]
        is_mixed = len(set(rows)) < len(rows)
        if is_mixed or not all(map(_is_plain, (*rows, *columns))):
            return None
        is_swapped = plate[0].lower() == "column"
        return {
            (j, i) if is_swapped else (i, j): (row, column)
            for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns))
        }
    return None


def _read_well(label: str) -> tuple[str, str] | None:
    """Return row and column of a well, None if it is not named by them.

    >>> _read_well("a01"), _read_well("AF48"), _read_well("r02c11"), _read_well("inner")
    (('A', '01'), ('AF', '48'), ('B', '11'), None)
    """
    if numbered := _split_numbered_well(label):
        return row_letters(int(numbered[1])), numbered[2]
    well = _split_well(label)
    return None if well is None else (well[1].upper(), well[2])


def _name_rows(labels: Sequence[str]) -> list[str]:
    """Return the names of rows as they stand on a plate: letters for numbers that count from 1.

    >>> _name_rows(["1", "02", "27"]), _name_rows(["a", "B"]), _name_rows(["0", "1"])
    (['A', 'B', 'AA'], ['A', 'B'], ['0', '1'])
    """
    if all(re.fullmatch("[0-9]+", label) and int(label) > 0 for label in labels):
        return [row_letters(int(label)) for label in labels]
    return [label.upper() for label in labels]


def _as_plate(
    extra: Mapping[str, int],
    labels: Mapping[str, Sequence[str]],
    places: Sequence[tuple[int, ...]],
    names: Names,
) -> Arrangement:
    """Return the wells that hold an image, and the images."""
    dims = list(extra)
    of_plate = [i for i, dim in enumerate(dims) if role_of(dim) == Role.PLATE]
    fields: dict[tuple[str, str], list[Field]] = {}
    acquisition = next((dim for dim in dims if role_of(dim) == Role.ACQUISITION), None)
    positions = []
    for place in places:
        row, column = names[tuple(place[i] for i in of_plate)]
        held = fields.setdefault((row, column), [])
        chosen = dict(zip(dims, place, strict=True))
        field = str(len(held))  # from 0 in each well, as readers take it, whichever is missing
        held.append(Field(field, None if acquisition is None else chosen[acquisition]))
        name = _name(place, extra, labels)
        positions.append(Position(f"{row}/{column}/{field}", name, chosen))
    rows = sorted({row for row, _ in fields}, key=_row_key)
    columns = sorted({column for _, column in fields}, key=natural_key)
    wells = tuple(
        Well(rows.index(row), columns.index(column), f"{row}/{column}", tuple(names_held))
        for (row, column), names_held in fields.items()
    )
    names_of = () if acquisition is None else tuple(labels[acquisition])
    return Arrangement(tuple(positions), Plate(tuple(rows), tuple(columns), wells, names_of))


def _row_key(row: str) -> tuple[Any, ...]:
    """Return the key that sorts rows as they lie on a plate: AA comes after Z.

    >>> sorted(["AA", "B", "A", "Z"], key=_row_key), sorted(["10", "9"], key=_row_key)
    (['A', 'B', 'Z', 'AA'], ['9', '10'])
    """
    return (len(row) if row.isalpha() else 0, natural_key(row))


def as_labels(values: Any) -> list[str]:
    """Return the labels of the positions along a dim. Pure.

    >>> as_labels(np.array(["A1", "A2"])), as_labels([3.0, 4.5]), as_labels(range(2))
    (['A1', 'A2'], ['3', '4.5'], ['0', '1'])
    """
    return [f"{v:g}" if isinstance(v, float) else str(v) for v in np.asarray(values).tolist()]
