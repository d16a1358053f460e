"""One entry of a catalog's file added or replaced, and nothing else of it touched."""

from __future__ import annotations

import io
import os
import re
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from intake_tiffstack.errors import EntryError, FilesNotFoundError, OptionError
from intake_tiffstack.export.place import Place
from intake_tiffstack.listing.filesystem import absolute_url, is_local

if TYPE_CHECKING:
    from intake.source.base import DataSource

__all__ = ["add_to_catalog"]

_INDENT = 2
_NOTHING = re.compile(r":\s*(\{\s*\}|null|~)(?=\s|$)")
"""What stands behind ``sources`` where there is no entry."""


def add_to_catalog(
    source: DataSource,
    catalog: str | os.PathLike[str],
    name: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry that opens *source* to a catalog's file, or replace the one of that name.

    All other lines of the file stay as they are, comments, quotes and order too; those inside an
    entry that is replaced go with it. The file is written as a whole or not at all; a file that is
    not there is made.

    Parameters
    ----------
    source
        What :meth:`yaml` gives is the entry: no secret is in it. A path below the catalog's folder
        is written with ``{{ CATALOG_DIR }}``, so that both can move together.
    catalog
        The YAML file, local or any fsspec URL.
    name
        Of the entry.
    storage_options
        For fsspec, to reach *catalog*.

    Raises
    ------
    EntryError
        The file is no catalog, or cannot take the entry without changing another.
    OptionError
        *name* is no name.
    StorageError
        The file cannot be read or written.

    Examples
    --------
    >>> copy = source.export("s3://bucket/lattice.zarr")       # doctest: +SKIP
    >>> add_to_catalog(copy, "lab.yml", "lattice_zarr")        # doctest: +SKIP
    """
    if not isinstance(name, str) or not name:
        raise OptionError(f"name must be the text that the entry is to be found by: got {name!r}")
    url = os.fspath(catalog)
    if is_local(url):
        url = os.path.realpath(absolute_url(url))  # a link stays a link to the file that changes
    folder, _, file_name = url.rpartition("/")
    place = Place.at(folder, storage_options)
    try:
        with place.read_errors():
            text = place.filesystem.cat_file(f"{place.path}/{file_name}").decode()
    except FilesNotFoundError:
        text = ""
    changed = _with_entry(text, name, _spell_source(source, folder), url)
    place.write_document(file_name, changed.encode())


def _spell_source(source: DataSource, folder: str) -> dict[str, Any]:
    """Return the entry of *source*, for a catalog in *folder*."""
    (spelled,) = yaml.safe_load(source.yaml())["sources"].values()
    entry = {key: value for key, value in spelled.items() if value not in (None, "", {})}
    arguments = entry.get("args", {})
    if "urlpath" in arguments:
        arguments["urlpath"] = _relocated(arguments["urlpath"], folder)
    return entry


def _relocated(urlpath: Any, folder: str) -> Any:
    """Return a urlpath as a catalog in *folder* has it. Pure but for where relative paths begin.

    >>> _relocated("/data/raw/*.tif", "/data"), _relocated("s3://b/a.tif", "/data")
    ('{{ CATALOG_DIR }}/raw/*.tif', 's3://b/a.tif')
    """
    if isinstance(urlpath, list):
        return [_relocated(url, folder) for url in urlpath]
    if not isinstance(urlpath, str) or "{{" in urlpath or "{%" in urlpath:
        return urlpath
    url = absolute_url(urlpath)
    return "{{ CATALOG_DIR }}" + url[len(folder) :] if url.startswith(folder + "/") else url


def _with_entry(text: str, name: str, entry: Mapping[str, Any], url: str) -> str:
    """Return the text of a catalog with one entry added or replaced. Pure.

    Examples
    --------
    >>> print(_with_entry("sources:\\n  a: {driver: csv}  # mine\\n", "b", {"driver": "x"}, ""))
    sources:
      a: {driver: csv}  # mine
      b:
        driver: x
    <BLANKLINE>
    """
    parsed = _parse(text, url)
    sources = parsed.get("sources")
    if sources and not isinstance(sources, CommentedMap):
        raise EntryError(f"{url}: sources must be a mapping of entries, but got {sources!r:.80}")
    if sources and sources.fa.flow_style():  # all in one line: there are no lines to go by
        sources.fa.set_block_style()
        text = _round_trip(parsed)
        sources = _parse(text, url)["sources"]
    if sources:
        changed = _splice(text, sources, name, entry)
    else:
        changed = _first_entry(text, parsed, name, entry)
    _check(text, changed, name, entry, url)
    return changed


def _first_entry(text: str, parsed: CommentedMap, name: str, entry: Mapping[str, Any]) -> str:
    """Return the text of a catalog that has no entry yet with one."""
    lines = text.splitlines(keepends=True)
    if "sources" in parsed:
        place = parsed.lc.key("sources")[0] + 1
        lines[place - 1] = _NOTHING.sub(":", lines[place - 1], count=1)
    else:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        lines.append("sources:\n")
        place = len(lines)
    return _insert(lines, place, place, _spell({name: entry}, _INDENT))


def _splice(text: str, sources: CommentedMap, name: str, entry: Mapping[str, Any]) -> str:
    """Return the text with the lines of one entry in a block of entries."""
    lines = text.splitlines(keepends=True)
    indent = sources.lc.col
    if name in sources:
        start = sources.lc.key(name)[0]
        stop = _end_of_block(lines, start + 1, indent)
    else:
        last = max(sources.lc.key(key)[0] for key in sources)
        start = stop = _end_of_block(lines, last + 1, indent)
    return _insert(lines, start, stop, _spell({name: entry}, indent))


def _insert(lines: list[str], start: int, stop: int, spelled: str) -> str:
    """Return the lines with those from *start* to *stop* replaced."""
    above = "".join(lines[:start])
    if above and not above.endswith("\n"):
        above += "\n"
    return above + spelled + "".join(lines[stop:])


def _end_of_block(lines: list[str], start: int, indent: int) -> int:
    """Return the first line after those that are indented by more than *indent*. Pure.

    Blank lines and comments that are no deeper belong to what follows.

    >>> _end_of_block(["a:\\n", "  b: 1\\n", "\\n", "# about c\\n", "c: 2\\n"], 1, 0)
    2
    """
    stop = start
    for number in range(start, len(lines)):
        content = lines[number].strip()
        is_deeper = len(lines[number]) - len(lines[number].lstrip(" ")) > indent
        if content and is_deeper:
            stop = number + 1
        elif content and not content.startswith("#"):
            break
    return stop


def _spell(value: Mapping[str, Any], indent: int) -> str:
    """Return the YAML of a new entry, all lines indented.

    By the library that Intake reads with: to ruamel, of YAML 1.2, a bare ``NO`` or ``010`` is text.
    """
    spelled = yaml.safe_dump(
        value, sort_keys=False, default_flow_style=False, allow_unicode=True, width=4096
    )
    return textwrap.indent(spelled, " " * indent)


def _ruamel() -> YAML:
    made = YAML()
    made.preserve_quotes = True
    made.width = 4096  # no line is broken
    return made


def _round_trip(parsed: CommentedMap) -> str:
    out = io.StringIO()
    _ruamel().dump(parsed, out)
    return out.getvalue()


def _parse(text: str, url: str) -> CommentedMap:
    try:
        found = _ruamel().load(text)
    except YAMLError as exc:
        raise EntryError(f"{url} cannot be read as YAML: {exc}") from exc
    if found is None:
        return CommentedMap()
    if not isinstance(found, CommentedMap):
        raise EntryError(f"{url} is no catalog: it should hold a mapping, but got {found!r:.80}")
    return found


def _check(before: str, after: str, name: str, entry: Mapping[str, Any], url: str) -> None:
    """Raise where the change would be anything else than that one entry, as Intake reads it."""
    try:
        expected, found = yaml.safe_load(before) or {}, yaml.safe_load(after)
    except yaml.YAMLError as exc:
        raise EntryError(f"{url} would not be YAML with the entry {name!r}: {exc}") from exc
    expected["sources"] = {**(expected.get("sources") or {}), name: entry}
    if repr(found) != repr(expected):  # NaN does not equal itself
        raise EntryError(
            f"{url}: the entry {name!r} cannot be put there without changing another one; write it "
            "by hand",
            entry=name,
        )
