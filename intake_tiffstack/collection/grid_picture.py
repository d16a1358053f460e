"""The grid of a collection as a picture for notebooks: which cells have a file, and which none."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from intake_tiffstack.formatting import format_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from intake_tiffstack.layout.model import Axis, Grid

__all__ = ["draw_grid"]

_ROWS, _COLUMNS = 48, 96
"""Most rectangles that are drawn down and across; each stands for several cells of larger grids."""
_EDGE, _LEFT, _TOP = 9, 130, 16
_FULL, _PART, _EMPTY = "#5b8db8", "#f2b441", "#c8323c"


def draw_grid(grid: Grid) -> str:
    """Return the grid as SVG: blue where all files are there, red where none is. Pure.

    The longest axis goes across, the others go down. Of a large grid each rectangle stands for
    several cells, and is yellow if some of them have no file.

    Parameters
    ----------
    grid : Grid
        With at least one axis.
    """
    across = int(np.argmax(grid.cells.shape))
    down = [i for i in range(len(grid.axes)) if i != across]
    present = np.moveaxis(grid.cells >= 0, across, -1).reshape(-1, grid.cells.shape[across])
    shares = _shares(present)
    n_rows, n_columns = shares.shape
    n_cells = present.size
    summary = f"{n_cells - grid.n_holes:,} of {n_cells:,} cells have a file"
    per = math.ceil(n_cells / shares.size)
    note = f"; a rectangle stands for up to {per:,} cells" if per > 1 else ""
    width, height = _LEFT + n_columns * _EDGE + 4, _TOP + n_rows * _EDGE + 18
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' role='img' "
        f"aria-label='{summary}' font-family='sans-serif' font-size='10' fill='currentColor'>",
        f"<rect x='{_LEFT}' y='{_TOP}' width='{n_columns * _EDGE}' height='{n_rows * _EDGE}' "
        f"fill='{_FULL}'/>",
        *_rectangles(shares),
        *_labels(grid.axes[across], [grid.axes[i] for i in down], n_rows, n_columns),
        f"<text x='{_LEFT}' y='{height - 4}'>{summary}{note}</text></svg>",
    ]
    return "".join(parts)


def _shares(present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the share of cells with a file in each rectangle. Pure.

    >>> _shares(np.array([[True, False]])).tolist()
    [[1.0, 0.0]]
    """
    edges = [
        np.unique(np.linspace(0, n, min(n, most) + 1).astype(int))
        for n, most in zip(present.shape, (_ROWS, _COLUMNS), strict=True)
    ]
    sums = np.add.reduceat(present.astype(np.float64), edges[0][:-1], axis=0)
    sums = np.add.reduceat(sums, edges[1][:-1], axis=1)
    counts = np.diff(edges[0])[:, None] * np.diff(edges[1])[None, :]
    found: NDArray[np.float64] = sums / counts
    return found


def _rectangles(shares: NDArray[np.float64]) -> Iterator[str]:
    """Yield what is not full, equal neighbours of a row as one."""
    for row, line in enumerate(shares):
        kinds = np.where(line == 0, _EMPTY, np.where(line < 1, _PART, ""))
        for kind, run in groupby(enumerate(kinds.tolist()), key=lambda pair: pair[1]):
            columns = [column for column, _ in run]
            if kind:
                yield (
                    f"<rect x='{_LEFT + columns[0] * _EDGE}' y='{_TOP + row * _EDGE}' "
                    f"width='{len(columns) * _EDGE}' height='{_EDGE}' fill='{kind}' "
                    "stroke='white' stroke-width='0.5'/>"
                )


def _labels(across: Axis, down: list[Axis], n_rows: int, n_columns: int) -> Iterator[str]:
    """Yield the names of the axes with their first and last values."""
    right = _LEFT + n_columns * _EDGE
    yield f"<text x='{_LEFT}' y='{_TOP - 5}'>{_text(across, 0)}</text>"
    if n_columns * _EDGE > 160:
        yield f"<text x='{right}' y='{_TOP - 5}' text-anchor='end'>{_text(across, -1)}</text>"
    for position, row in [(0, 0), (-1, n_rows - 1)][: min(n_rows, 2)]:
        text = ", ".join(_text(axis, position) for axis in down)
        y = _TOP + (row + 1) * _EDGE - 1
        yield f"<text x='{_LEFT - 6}' y='{y}' text-anchor='end'>{text}</text>"


def _text(axis: Axis, position: int) -> str:
    text = f"{axis.name}={format_value(axis.values[position])}"
    return html.escape(text if len(text) <= 24 else f"{text[:23]}…")
