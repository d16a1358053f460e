"""A list of files: one URL per line or row.

Pure: bytes in, entries out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intake_tiffstack.errors import OptionError
from intake_tiffstack.options import OWN_COLUMNS, find_url_column

__all__ = [
    "LIST_SUFFIXES",
    "TIFF_SUFFIXES",
    "Entry",
    "has_tiff_suffix",
    "parse_list",
    "table_entries",
]

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".parquet")
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".stk", ".lsm")


@dataclass(frozen=True)
class Entry:
    """One file as a list names it."""

    url: str
    """As written: relative to the list's own folder, or a full URL."""
    size: int = -1
    """Bytes, -1 if the list does not give it; if it does, no request is made for the file."""
    mtime_ns: int = -1
    """Time of the last change in ns since 1970, -1 if the list does not give it."""
    etag: str | None = None
    """ETag, None if the list does not give it."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The other columns: what is known of the file."""


def has_tiff_suffix(name: str) -> bool:
    """Return whether *name* has the suffix of a TIFF, in any case. Pure.

    Examples
    --------
    >>> [has_tiff_suffix(name) for name in ("a.ome.TIF", "a.lsm", "a.tif.xml")]
    [True, True, False]
    """
    return name.lower().endswith(TIFF_SUFFIXES)


def parse_list(content: bytes, url: str) -> list[Entry]:
    """Return the entries of the list *content*, in the format that the suffix of *url* names. Pure.

    Text: one URL per line; blank lines and lines that begin with ``#`` are skipped. CSV (with a
    header; by commas, semicolons or tabs) and Parquet: the column ``url`` or another that
    :func:`~intake_tiffstack.options.find_url_column` finds; the columns ``size``, ``mtime_ns`` and
    ``etag`` are used if present; all others are fields of the files. A file whose ``cell`` is
    empty, where others have one, takes no part. Parquet of STAC items has a file per asset, with
    the fields ``time``, ``band`` and ``item``.

    Raises
    ------
    OptionError
        If the list is empty, is not in that format, or a size or time is not a whole number.
    ImportError
        If ``pyarrow``, which reads Parquet, is not installed.

    Examples
    --------
    >>> parse_list(b"# plate 1\\na.tif\\n", "list.txt")
    [Entry(url='a.tif', size=-1, mtime_ns=-1, etag=None, fields={})]
    >>> parse_list(b"well,url,size\\nB02,a.tif,120\\n", "list.csv")
    [Entry(url='a.tif', size=120, mtime_ns=-1, etag=None, fields={'well': 'B02'})]
    """
    if url.lower().endswith(".parquet"):
        entries = _entries(*_parquet_table(content, url), url)
    elif url.lower().endswith((".csv", ".tsv")):
        try:
            names, *rows = _csv_rows(_text(content, url)) or [[]]
        except csv.Error as exc:
            raise OptionError(f"{url} is not a CSV file: {exc}", url=url) from exc
        if names and has_tiff_suffix(names[0]):
            raise OptionError(
                f"{url} must begin with a row of column names, such as 'url', but got {names[0]!r}",
                url=url,
            )
        entries = _entries(names, [row for row in rows if row], url)
    else:
        lines = [line.strip() for line in _text(content, url).splitlines()]
        entries = [Entry(line) for line in lines if line and not line.startswith("#")]
    if not entries:
        raise OptionError(f"{url} is a list of files, but it is empty", url=url)
    return entries


def table_entries(rows: Sequence[Mapping[str, Any]], url: str) -> list[Entry]:
    """Return the entries of rows by column name, ``url`` among them; others are None. Pure.

    Raises
    ------
    OptionError
        If two rows name one file.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _entries(names, [[row.get(name) for name in names] for row in rows], url)


_decimal_comma = re.compile(r"([-+]?[0-9]+),([0-9]+)").fullmatch


def _csv_rows(text: str) -> list[list[str]]:
    """Return the rows of a CSV, with the delimiter that its header has most of. Pure.

    Spreadsheets that write semicolons write decimal commas.

    >>> _csv_rows("url;x\\na.tif;0,5\\n"), _csv_rows("url,x\\na.tif,0.5\\n")
    ([['url', 'x'], ['a.tif', '0.5']], [['url', 'x'], ['a.tif', '0.5']])
    """
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    if delimiter != ";":
        return rows
    return [
        [cell.replace(",", ".") if _decimal_comma(cell) else cell for cell in row] for row in rows
    ]


def _text(content: bytes, url: str) -> str:
    try:
        return content.decode("utf-8-sig")  # spreadsheets begin theirs with a byte order mark
    except UnicodeDecodeError as exc:
        raise OptionError(f"{url} must be UTF-8 text, but {exc.reason}", url=url) from exc


def _parquet_table(content: bytes, url: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as exc:
        raise ImportError(
            f"reading {url} needs pyarrow: pip install 'intake-tiffstack[index]'"
        ) from exc
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowInvalid, OSError) as exc:
        raise OptionError(f"{url} is not a Parquet file: {exc}", url=url) from exc
    if {"assets", "id"} <= set(table.column_names):
        return _stac_assets(table.to_pylist(), url)
    columns = [column.to_pylist() for column in table.columns]
    return list(table.column_names), list(zip(*columns, strict=True))


def _stac_assets(
    items: Sequence[Mapping[str, Any]], url: str
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return a row per TIFF among the assets of STAC items. Pure.

    References
    ----------
    .. [1] STAC GeoParquet specification, https://github.com/stac-utils/stac-geoparquet
    """
    rows = [
        (asset["href"], item["id"], item.get("datetime"), key)
        for item in items
        for key, asset in (item["assets"] or {}).items()
        if asset and has_tiff_suffix(str(asset.get("href")).partition("?")[0])
    ]
    if not rows:
        raise OptionError(f"{url} has {len(items):,} STAC items, but none has a TIFF", url=url)
    return ["url", "item", "time", "band"], rows


def _entries(names: Sequence[str], rows: Sequence[Sequence[Any]], url: str) -> list[Entry]:
    names = [name.strip() for name in names]
    if not rows:
        return []
    columns = {name: [_at(row, i) for row in rows] for i, name in enumerate(names) if name}
    key = find_url_column(columns, url)
    others = [
        name
        for name in names
        if name and name not in (key, *OWN_COLUMNS) and not name.startswith("Unnamed:")
    ]
    has_cells = "cell" in others and any(_at(values, names.index("cell")) for values in rows)
    entries = []
    seen: dict[str, int] = {}
    for number, values in enumerate(rows, 2):
        row = dict(zip(names, values, strict=False))
        if has_cells and not row.get("cell"):
            continue
        if not row.get(key):
            raise OptionError(f"{url}, row {number}: nothing in the column {key!r}", url=url)
        size, mtime_ns = (
            _whole_number(row.get(name), f"{url}, row {number}: {name}")
            for name in ("size", "mtime_ns")
        )
        text = str(row[key]).strip()
        if others and seen.setdefault(text, number) != number:
            raise OptionError(f"{url}: rows {seen[text]} and {number} both name {text}", url=url)
        known = {name: row.get(name) for name in others}
        entries.append(Entry(text, size, mtime_ns, row.get("etag") or None, known))
    return entries


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else None


def _whole_number(value: Any, what: str) -> int:
    if value is None or value == "":
        return -1
    try:
        return int(value)
    except ValueError as exc:
        raise OptionError(f"{what} must be a whole number, but got {value!r}") from exc
