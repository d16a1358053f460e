"""Tiles that lie on one grid of pixels, with or without overlap. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Mosaic", "Overlap", "Tile", "count_covers"]

Overlap = Literal["last", "first", "max", "mean"]


@dataclass(frozen=True)
class Tile:
    """One file of a mosaic."""

    row: int
    """Its row in the file table."""
    cell: int
    """Index in the flattened cells of the layout: files of one cell make one image."""
    y: int
    """First line of the mosaic that it covers."""
    x: int
    """First column that it covers."""
    height: int
    width: int


@dataclass(frozen=True)
class Mosaic:
    """Where each file lies in the image that files of one cell make together."""

    tiles: tuple[Tile, ...]
    """In natural order of their paths."""
    dims: tuple[int, int]
    """Which dims inside the files y and x are."""
    overlap: Overlap | None
    """What a pixel is that several files have, None where there is none."""

    def within(self, cell: int, lines: range, columns: range) -> Iterator[Tile]:
        """Yield the tiles of a cell that share a line and a column with an ascending range."""
        tiles, edges = self._by_cell.get(cell, ([], np.empty((4, 0), np.int64)))
        top, bottom, left, right = edges
        is_in = (top <= lines[-1]) & (lines[0] < bottom)
        is_in &= (left <= columns[-1]) & (columns[0] < right)
        for i in np.flatnonzero(is_in).tolist():
            yield tiles[i]

    @cached_property
    def _by_cell(self) -> dict[int, tuple[list[Tile], NDArray[np.int64]]]:
        """The tiles of each cell, and their edges, shape (4, n_tiles)."""
        found: dict[int, list[Tile]] = {}
        for tile in self.tiles:
            found.setdefault(tile.cell, []).append(tile)
        return {
            cell: (
                own,
                np.array([(t.y, t.y + t.height, t.x, t.x + t.width) for t in own], np.int64).T,
            )
            for cell, own in found.items()
        }


def count_covers(tiles: list[Tile], height: int, width: int) -> tuple[int, int]:
    """Return how many pixels no tile covers, and how many several do.

    >>> count_covers([Tile(0, 0, 0, 0, 2, 3), Tile(1, 0, 0, 2, 2, 3)], 2, 6)
    (2, 2)
    """
    lines = np.unique([0, height, *(t.y for t in tiles), *(t.y + t.height for t in tiles)])
    columns = np.unique([0, width, *(t.x for t in tiles), *(t.x + t.width for t in tiles)])
    covers: NDArray[np.int32] = np.zeros((len(lines) - 1, len(columns) - 1), np.int32)
    for tile in tiles:
        rows = slice(*np.searchsorted(lines, (tile.y, tile.y + tile.height)))
        covers[rows, slice(*np.searchsorted(columns, (tile.x, tile.x + tile.width)))] += 1
    area = np.multiply.outer(np.diff(lines), np.diff(columns))
    return int(area[covers == 0].sum()), int(area[covers > 1].sum())
