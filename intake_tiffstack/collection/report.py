"""What was found, before any pixel is read: as text, as HTML, and as a dict."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.utils import format_bytes

from intake_tiffstack.collection.grid_picture import draw_grid
from intake_tiffstack.errors import DuplicateFilesError
from intake_tiffstack.formatting import few, format_value
from intake_tiffstack.layout.combine import describe_dims
from intake_tiffstack.layout.holes import describe_gaps, describe_holes
from intake_tiffstack.redact import hide_in_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import dask.array as da
    import pandas as pd

    from intake_tiffstack.collection.examination import Examination
    from intake_tiffstack.collection.open import Collection

__all__ = [
    "FROM_FILES",
    "Report",
    "array_html",
    "html_table",
    "rows_in_order",
    "summarize",
    "tabulate_files",
]

FROM_FILES = "from the files"

SHOWN = 3
"""Names, problems and notes shown of many."""


@dataclass(frozen=True, eq=False)
class Report:
    """What a collection holds and lacks, in a few lines however large it is.

    Print it, show it in a notebook, or take :meth:`to_dict`; :meth:`files` goes through all files
    with their cells.
    """

    examination: Examination
    """What was found."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where each value of the metadata was learnt."""
    described: int = 0
    """How many files were asked what their pixels mean."""
    pixels: str = FROM_FILES
    """Where pixels come from."""
    thumbnails: bytes | None = None
    """A picture of the pixels as PNG, which a notebook shows below the lines; None for none."""

    @property
    def is_whole(self) -> bool:
        """Whether the collection opens with the options as they are."""
        return not self.examination.problems

    def files(self) -> Iterator[dict[str, Any]]:
        """Yield ``{"url", "size", "cell"}`` for each file, cell None for one that was left out."""
        grid, table = self.examination.grid, self.examination.found.files
        cells: dict[int, dict[str, Any]] = {}
        if grid is not None:
            for index in np.argwhere(grid.cells >= 0).tolist():
                cells[int(grid.cells[tuple(index)])] = grid.values_at(index)
        for row in rows_in_order(self.examination):
            file, cell = table[row], cells.get(row)
            yield {
                "url": hide_in_text(file.url),
                "size": file.size,
                "cell": None if cell is None else {k: _plain(v) for k, v in cell.items()},
            }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        examination = self.examination
        found, grid, headers, layout = (
            examination.found,
            examination.grid,
            examination.headers,
            examination.layout,
        )
        return {
            "listed": found.listed,
            "matched": len(found.files) + found.left_out,
            "left_out_by_sel": found.left_out,
            "files": list(self.files()),
            "strays": [hide_in_text(path) for path in found.strays],
            "pattern": None if found.pattern is None else found.pattern.text,
            "proposal": None
            if examination.proposal is None
            else {
                "pattern": examination.proposal.pattern,
                "concat_dim": list(examination.proposal.concat_dim),
                "sizes": dict(examination.proposal.sizes),
            },
            "fields": [] if found.pattern is None else [f.name for f in found.pattern.fields],
            "dims": [] if layout is None else describe_dims(layout),
            "shape": None if layout is None else list(layout.shape),
            "dtype": None if layout is None else str(layout.dtype),
            "missing": 0 if grid is None or examination.is_composed else grid.n_holes,
            "holes": [] if grid is None or examination.is_composed else describe_holes(grid),
            "gaps": [] if grid is None else describe_gaps(grid),
            "duplicates_left_out": []
            if grid is None
            else [hide_in_text(found.files.urls[row]) for row in grid.dropped],
            "headers_read": 0 if headers is None else len(headers.structures),
            "headers_assumed": self._assumed(),
            "other_series": self._other_series(),
            "unreadable": []
            if headers is None
            else [str(error) for error in headers.unreadable.values()],
            "notes": [] if headers is None else list(headers.notes),
            "problems": [str(problem) for problem in examination.problems],
            "provenance": dict(self.provenance),
            "metadata_read": self.described,
            "pixels": self.pixels,
            "folders_below": [hide_in_text(path) for path in self.examination.folders_below],
        }

    def _assumed(self) -> int:
        examination = self.examination
        if examination.grid is None or examination.headers is None:
            return 0
        return (
            len(examination.grid.rows)
            - len(examination.headers.structures)
            - len(examination.headers.unreadable)
        )

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield a heading and a text per line of the report."""
        examination = self.examination
        found, grid, headers, layout = (
            examination.found,
            examination.grid,
            examination.headers,
            examination.layout,
        )
        yield "files", self._describe_files()
        if self.examination.folders_below:
            names = few(_last_parts(self.examination.folders_below), SHOWN)
            yield (
                "files",
                f"not those in {_count(self.examination.folders_below, 'folder')} below: {names}",
            )
        if found.pattern is not None:
            names = ", ".join(f"{f.name} ({f.kind})" for f in found.pattern.fields)
            kind, text = ("index", found.index) if found.index else ("pattern", found.pattern.text)
            yield kind, f"{hide_in_text(text)}: {names}"
        if (proposal := examination.proposal) is not None:
            yield "pattern", f"none; the names form a grid: {proposal.to_python()}"
        if layout is not None:
            size = int(np.prod(layout.shape, dtype=object)) * layout.dtype.itemsize
            sizes = " x ".join(f"{n} {d}" for d, n in zip(layout.names, layout.shape, strict=True))
            yield "array", f"{sizes}, {layout.dtype}, {format_bytes(size)}"
            for line in describe_dims(layout):
                yield "dim", line
        yield "pixels", self.pixels
        if grid is not None:
            yield from self._describe_grid()
        if headers is not None:
            total = len(headers.structures) + len(headers.unreadable) + self._assumed()
            assumed = ""
            if self._assumed():
                why = "their listed sizes agree" if headers.is_proven else "each is checked later"
                assumed = f"; {self._assumed():,} assumed to be alike: {why}"
            yield "headers", f"read: {len(headers.structures):,} of {total:,}{assumed}"
            yield from _first_of("other series", self._other_series())
            filled = [e for e in headers.unreadable.values() if e not in set(examination.problems)]
            yield from _first_of("unreadable", filled)
            yield from _first_of("tifffile says", headers.notes)
        if self.described and grid is not None:
            yield "metadata", f"read from {self.described:,} of {len(grid.rows):,} files"
        by_source: dict[str, list[str]] = {}
        for key, where in self.provenance.items():
            by_source.setdefault(where, []).append(key)
        for where, keys in by_source.items():
            yield "metadata", f"{', '.join(keys)} from {where}"
        yield from _first_of("PROBLEM", examination.problems)

    def _other_series(self) -> list[str]:
        """Return the images that are not opened, per file that has some."""
        headers, urls = self.examination.headers, self.examination.found.files.urls
        if headers is None:
            return []
        return [
            f"{_last_parts([urls[row]])[0]}: {'; '.join(o.describe() for o in structure.others)}"
            for row, structure in headers.structures.items()
            if structure.others
        ]

    def _describe_files(self) -> str:
        found = self.examination.found
        size = int(found.files.sizes[found.files.sizes > 0].sum())
        text = f"{len(found.files):,} taking part ({format_bytes(size)}) of {found.listed:,} listed"
        if found.left_out:
            text += f"; {found.left_out:,} left out by sel"
        if found.strays:
            names = few(_last_parts(found.strays), SHOWN)
            verb = "does" if len(found.strays) == 1 else "do"
            text += f"; {_count(found.strays, 'TIFF')} {verb} not match: {names}"
        return text

    def _describe_grid(self) -> Iterator[tuple[str, str]]:
        grid, found = self.examination.grid, self.examination.found
        if grid is None:
            return
        for name in _numbers_read_as_text(self.examination):
            yield "hint", f"the texts of {name} are numbers: write {{{name}:d}} for integers"
        for axis in grid.axes:
            yield "axis", f"{axis.name} ({len(axis.values)}): {few(axis.values, 6)}"
        for coord in grid.coords:
            along = ", ".join(grid.names[i] for i in coord.axes) or "constant"
            yield "coordinate", f"{coord.name} ({along})"
        for line in describe_holes(grid) if not self.examination.is_composed else ():
            yield "missing", line
        for line in describe_gaps(grid):
            yield "gap", line
        if grid.dropped:
            names = few(_last_parts(found.files.urls[row] for row in grid.dropped), SHOWN)
            # what opening refuses is left out of what is shown here alone
            is_refused = any(isinstance(p, DuplicateFilesError) for p in self.examination.problems)
            place = "in the cell of another one" if is_refused else "left out"
            yield "duplicates", f"{_count(grid.dropped, 'file')} {place}: {names}"
        if self.examination.planes is not None:
            yield "set", self.examination.planes.describe()
        if self.examination.mosaic is not None:
            yield "mosaic", self.examination.mosaic.describe()
        for line in self.examination.turned:
            yield "turned", line
        if grid.trimmed:
            name, before = grid.trimmed
            yield "trimmed", f"{name} from {before} to {grid.cells.shape[grid.names.index(name)]}"

    def __str__(self) -> str:
        lines: list[str] = []
        last = None
        for what, text in self.lines():
            head = what if what != last else ""
            first, *rest = text.splitlines()
            lines.append(f"{head:<13} {first}")
            lines += [f"{'':<13} {line}" for line in rest]
            last = what
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        lines = list(self.lines())
        heads = ["", *(what for what, _ in lines)]
        shown = html_table(
            [
                (what * (what != last), text)
                for last, (what, text) in zip(heads, lines, strict=False)
            ]
        )
        grid = self.examination.grid
        if grid is not None and grid.axes and grid.is_named and not self.examination.is_composed:
            shown = f"<div>{draw_grid(grid)}</div>{shown}"
        if self.thumbnails is not None:
            content = base64.b64encode(self.thumbnails).decode()
            shown += f"<div><img alt='thumbnails' src='data:image/png;base64,{content}'/></div>"
        return shown


def html_table(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of two columns as HTML. Pure."""
    head = "text-align:left;vertical-align:top;padding-right:1em"
    cells = "".join(
        f"<tr><th style='{head}'>{html.escape(what)}</th><td style='text-align:left'>"
        f"<pre style='margin:0;white-space:pre-wrap'>{html.escape(text)}</pre></td></tr>"
        for what, text in rows
    )
    return f"<table>{cells}</table>"


def array_html(title: str, dims: Sequence[str], array: da.Array) -> str:
    """Return an array as HTML: dims and sizes as xarray shows them, dtype and chunks as dask. Pure.

    No chunk is computed.
    """
    sizes = "".join(
        f"<li style='display:inline-block;padding-right:0.7em'><b>{html.escape(dim)}</b>: "
        f"{size:,}</li>"
        for dim, size in zip(dims, array.shape, strict=True)
    )
    return (
        f"<div><b>{html.escape(title)}</b> {html.escape(str(array.dtype))}"
        f"<ul style='padding:0;margin:0 0 0.5em'>{sizes}</ul></div>{array._repr_html_()}"
    )


def summarize(collection: Collection) -> list[tuple[str, str]]:
    """Return a heading and a text per line of the summary of a collection. Pure."""
    layout, metadata = collection.layout, collection.metadata
    size = int(np.prod(layout.shape, dtype=object)) * layout.dtype.itemsize
    sizes = " x ".join(f"{n} {d}" for d, n in zip(layout.names, layout.shape, strict=True))
    chunk = " x ".join(str(max(extents)) for extents in collection.chunks)
    rows = [
        ("array", f"{sizes}, {layout.dtype}, {format_bytes(size)}"),
        ("chunks", f"{chunk}, {int(np.prod([len(c) for c in collection.chunks])):,} in all"),
        ("files", f"{len(collection.files):,}"),
    ]
    steps = [
        f"{dim} {step:.6g} {metadata['units'].get(dim, '')}".rstrip()
        for dim, step in metadata["scale"].items()
    ]
    if steps:
        rows.append(("scale", ", ".join(steps)))
    if metadata["channel_names"]:
        rows.append(("channels", few(metadata["channel_names"], 8)))
    return rows


def tabulate_files(examination: Examination) -> pd.DataFrame:
    """Return a row per file: ``url``, ``size``, ``cell`` and the fields of its name. Pure.

    In the order of :func:`rows_in_order`.
    A field that is called like one of these columns is ``<field>_file``.
    """
    import pandas as pd

    found, grid = examination.found, examination.grid
    cells: list[tuple[int, ...] | None] = [None] * len(found.files)
    if grid is not None:
        rows = grid.rows
        where = (
            np.stack(grid.locate(rows.tolist()), axis=1)
            if grid.axes
            else np.empty((len(rows), 0), int)
        )
        for row, cell in zip(rows.tolist(), where.tolist(), strict=True):
            cells[row] = tuple(cell)
    columns: dict[str, Any] = {
        "url": [*map(hide_in_text, found.files.urls)],
        "size": found.files.sizes,
    }
    columns["cell"] = pd.Series(cells, dtype=object)
    if found.matches is not None:
        for name, values in found.matches.columns.items():
            columns[name if name not in columns else f"{name}_file"] = values
    return pd.DataFrame(columns).iloc[rows_in_order(examination)].reset_index(drop=True)


def rows_in_order(examination: Examination) -> list[int]:
    """Return the rows of all files in the order of the array, then those left out. Pure."""
    grid, layout = examination.grid, examination.pages or examination.layout
    count = len(examination.found.files)
    if grid is None:
        return list(range(count))
    cells = grid.cells
    if layout is not None:
        axes = [dim.axis for dim in layout.dims if dim.axis is not None]
        # the files of one image lie along a last axis that the result does not have
        cells = cells.transpose([*axes, *range(len(axes), cells.ndim)])
    placed = cells[cells >= 0]
    others = np.delete(np.arange(count), placed)
    return [*placed.tolist(), *others.tolist()]


def _numbers_read_as_text(examination: Examination) -> list[str]:
    """Return the axes whose field is text by the pattern, and digits in all names. Pure."""
    pattern, grid = examination.found.pattern, examination.grid
    if pattern is None or grid is None:
        return []
    of_text = {field.name for field in pattern.fields if field.kind == "text"}
    return [
        axis.name
        for axis in grid.axes
        if axis.name in of_text and all(str(value).isdecimal() for value in axis.values)
    ]


def _count(things: Sequence[Any], noun: str) -> str:
    return f"{len(things):,} {noun}{'s' * (len(things) != 1)}"


def _last_parts(urls: Iterable[str]) -> list[str]:
    """Return the last part of each path, without the secrets of its URL."""
    return [hide_in_text(url).rpartition("/")[2] for url in urls]


def _first_of(what: str, items: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield a line for each of the first, and the count of the others."""
    for one in items[:SHOWN]:
        yield what, str(one)
    if len(items) > SHOWN:
        yield what, f"and {len(items) - SHOWN:,} more: to_dict() has all"


def _plain(value: Any) -> Any:
    """Return a coordinate as a value that JSON can hold."""
    return value if isinstance(value, (int, float, str)) else format_value(value)
