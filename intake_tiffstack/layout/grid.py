"""Files on a grid, from their names and the options alone.

Everything here is pure: the names of the files go in, a :class:`Grid` comes out, and no file is
opened. Which positions the grid has, which file is in which cell, which cells are empty and what
the other fields say along which axes is known before the first header is read.
"""

from __future__ import annotations

import math
import re
from itertools import chain, combinations
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.errors import FilesNotFoundError, LayoutError, MissingFilesError, OptionError
from intake_tiffstack.layout.columns import Column, order_column
from intake_tiffstack.layout.duplicates import duplicate_error, settle_duplicates
from intake_tiffstack.layout.model import Axis, FieldCoord, Grid
from intake_tiffstack.natural_sort import natural_order
from intake_tiffstack.pattern.matching import default_concat_dim
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from intake_tiffstack.pattern.matching import Matches, Pattern

__all__ = ["place_files"]

# Two fields that number the same thing (a time point and its clock) span a square of mostly holes;
# this many cells are 80 MB and well beyond any collection whose cells are mostly filled.
MAX_CELLS = 20_000_000


def place_files(
    paths: Sequence[str],
    *,
    pattern: Pattern | None = None,
    matches: Matches | None = None,
    concat_dim: str | Sequence[str] | None = None,
    labels: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    duplicates: Literal["raise", "first", "last"] = "raise",
    is_single: bool = False,
    is_ordered: bool = False,
) -> Grid:
    """Return the grid that the names of the files span, with each file in its cell.

    Pure: no file is opened.

    Parameters
    ----------
    paths : sequence of str
        The files to place. The cells of the grid hold their positions in this sequence.
    pattern : Pattern, optional
    matches : Matches, optional
        The pattern and what it reads in each of *paths*; without a pattern the files are put
        along one axis.
    concat_dim : str or sequence[str], optional
        The axis fields, outermost first; None: the fields that have a role, else all; without a
        pattern the name of the one axis, None: ``file``.
    labels : mapping of str, optional
        ``{field: [texts in order]}`` or ``{field: {text: label}}``.
    sizes : mapping[str, int], optional
        Asserted length of axes; other dims are left to :func:`~.combining.combine`.
    duplicates : {"raise", "first", "last"}
        Which of several files in one cell to take, in natural order of their paths.
    is_single : bool
        True for one existing file given by its name: without a pattern and *concat_dim* it makes
        no axis.
    is_ordered : bool
        Whether *paths* are in an order that somebody gave, which they keep without a pattern;
        else they are put in natural order.

    Raises
    ------
    OptionError
        If an option names an unknown field or contradicts itself.
    DuplicateFilesError
        If two files are in one cell.
    LayoutError
        If there are more positions than asserted, or far more cells than files.
    MissingFilesError
        If there are fewer positions than asserted and the absent ones cannot be inferred.
    """
    if duplicates not in ("raise", "first", "last"):
        raise OptionError(f"duplicates is 'raise', 'first' or 'last', but got {duplicates!r}")
    if not paths:
        raise FilesNotFoundError("no files to place on a grid")
    if matches is not None and len(matches.indices) != len(paths):
        raise ValueError(f"{len(paths)} paths but got {len(matches.indices)} matches")
    asserted = _checked_sizes(sizes or {})
    if pattern is None or matches is None:
        return _place_in_order(
            paths, concat_dim, labels or {}, asserted, is_single=is_single, is_ordered=is_ordered
        )
    fields = {known.name: known for known in pattern.fields if known.name in matches.fields}
    names = _axis_names(concat_dim, default_concat_dim(pattern, fields), fields)
    for name in labels or {}:
        if name not in fields:
            raise OptionError.unknown("field in labels", name, fields)
    columns = {
        name: order_column(
            fields[name],
            matches,
            labels=(labels or {}).get(name),
            size=asserted.get(name) if name in names else None,
        )
        for name in fields
    }
    axes = [columns[name] for name in names]
    shape = tuple(len(column.keys) for column in axes)
    if math.prod(shape) > MAX_CELLS:
        raise LayoutError(_describe_too_many_cells(axes, len(paths)))
    flat = _flat_index([column.codes for column in axes], shape, len(paths))
    cells = np.full(math.prod(shape), -1, np.int32)
    cells[flat] = np.arange(len(paths), dtype=np.int32)
    dropped: tuple[int, ...] = ()
    if np.count_nonzero(cells >= 0) < len(paths):
        colliding = np.flatnonzero(np.bincount(flat)[flat] > 1)
        if duplicates == "raise":
            raise duplicate_error(paths, matches, columns, names, flat, colliding)
        dropped = settle_duplicates(cells, flat, colliding, paths, duplicates)
    placed = cells[cells >= 0]
    index = [column.codes[placed] for column in axes]
    return Grid(
        axes=tuple(Axis(column.name, tuple(column.values)) for column in axes),
        cells=cells.reshape(shape),
        coords=tuple(
            field_coord(name, column.values, column.codes[placed], index, shape)
            for name, column in columns.items()
            if name not in names
        ),
        written={
            name: dict(zip(column.values, column.keys, strict=True))
            for name, column in columns.items()
            if column.values is not column.keys and column.values != column.keys
        },
        dropped=dropped,
    )


def _checked_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MAX_CELLS:
            raise OptionError(
                f"sizes: {name} takes a number from 1 to {MAX_CELLS}, but got {size!r}"
            )
    return dict(sizes)


def _axis_names(
    concat_dim: str | Sequence[str] | None, default: Iterable[str], known: Iterable[str]
) -> tuple[str, ...]:
    """Return the names of the axis fields, outermost first."""
    if concat_dim is None:
        return tuple(default)
    names = (concat_dim,) if isinstance(concat_dim, str) else tuple(concat_dim)
    for name in names:
        if name not in known:
            parts = re.findall(r"\w+", name)
            for meant in (parts, list(name)):
                if len(set(meant)) == len(meant) > 1 and set(meant) <= set(known):
                    raise OptionError(
                        f"concat_dim names the field {name!r}, which the pattern lacks; for one "
                        f"dim each write a list: [{', '.join(meant)}]"
                    )
            raise OptionError.unknown("field in concat_dim", name, known)
        if names.count(name) > 1:
            raise OptionError(f"concat_dim names {name!r} twice: {', '.join(names)}")
    return names


def _place_in_order(
    paths: Sequence[str],
    concat_dim: str | Sequence[str] | None,
    labels: Mapping[str, Any],
    sizes: Mapping[str, int],
    *,
    is_single: bool,
    is_ordered: bool,
) -> Grid:
    """Return the grid of files whose names are not read: along one axis, in their order."""
    if labels:
        raise OptionError(f"labels names the field {next(iter(labels))!r}, but there is no pattern")
    if concat_dim is None and is_single:
        return Grid(axes=(), cells=np.zeros((), np.int32), is_named=False)
    names = ("file",) if concat_dim is None else concat_dim
    names = (names,) if isinstance(names, str) else tuple(names)
    if len(names) != 1:
        raise OptionError(
            "without a pattern the files lie along one dim, but concat_dim names "
            f"{', '.join(names) or 'none'}: give a pattern with a field for each"
        )
    if sizes.get(names[0], len(paths)) != len(paths):
        raise MissingFilesError(
            f"sizes: {names[0]} should have {sizes[names[0]]} positions, but there are "
            f"{len(paths)} files, and without a pattern their names do not say which is absent"
        )
    # The folder they share need not be compared; the prefix is cut at a slash.
    folder = commonprefix(list(paths)).rfind("/") + 1  # noqa: RUF071
    below = [path[folder:] for path in paths]
    order = list(range(len(paths))) if is_ordered else natural_order(below)
    values: Sequence[Any] = range(len(paths))
    if names[0] == "file":
        values = _file_names([below[row] for row in order])
    return Grid(
        is_named=False,
        axes=(Axis(names[0], tuple(values)),),
        cells=np.array(order, dtype=np.int32),
    )


def _file_names(paths: Sequence[str]) -> Sequence[str | int]:
    """Return the name of each file: as short as tells them apart, else its number. Pure.

    >>> _file_names(["V1/a.tif", "V2/b.tif"]), _file_names(["V1/a.tif", "V2/a.tif"])
    (['a.tif', 'b.tif'], ['V1/a.tif', 'V2/a.tif'])
    """
    shown = [hide_in_text(path) for path in paths]  # a signed URL ends in a secret
    for names in ([path.rpartition("/")[2] for path in shown], shown):
        if len(set(names)) == len(names):
            return names
    return range(len(paths))


def _flat_index(
    codes: Sequence[NDArray[np.intp]], shape: tuple[int, ...], n: int
) -> NDArray[np.intp]:
    """Return the position of each of *n* files in the flattened cells of *shape*."""
    return np.ravel_multi_index(tuple(codes), shape) if shape else np.zeros(n, np.intp)


def field_coord(
    name: str,
    known: Sequence[Any],
    codes: NDArray[np.intp],
    index: Sequence[NDArray[np.intp]],
    shape: tuple[int, ...],
) -> FieldCoord:
    """Return the coordinate of a field that is not an axis, along the fewest axes that decide it.

    *codes* says which of the *known* values each file on the grid has, *index* its cell.
    """
    varying = [axis for axis, size in enumerate(shape) if size > 1]
    for axes in chain.from_iterable(combinations(varying, n) for n in range(len(varying) + 1)):
        sizes = tuple(shape[axis] for axis in axes)
        flat = _flat_index([index[axis] for axis in axes], sizes, len(codes))
        table = np.full(math.prod(sizes), -1, np.intp)
        table[flat] = codes
        if np.array_equal(table[flat], codes):
            return FieldCoord(name, axes, known, table.reshape(sizes))
    raise ValueError(f"two files in one cell differ in {name}")


def _describe_too_many_cells(axes: Sequence[Column], n_files: int) -> str:
    widths = ", ".join(f"{column.name} ({len(column.keys)})" for column in axes)
    return (
        f"the axes {widths} span {math.prod(len(column.keys) for column in axes):,} cells for "
        f"{n_files:,} files: leave out of concat_dim a field that the others decide, and it "
        "becomes a coordinate along those"
    )
