"""One entry of a catalog's file added or replaced, and nothing else of it touched."""

from __future__ import annotations

import os
import stat
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import yaml
from intake.catalog.exceptions import DuplicateKeyError
from intake.source.base import DataSource
from intake.utils import yaml_load

from intake_tiffstack.driver import TiffStackSource
from intake_tiffstack.errors import EntryError, FilesNotFoundError, OptionError
from intake_tiffstack.options import Options
from intake_tiffstack.stack import TiffStack
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.urls import absolute_url, is_local

__all__ = ["add_to_catalog"]

_NULL = "tag:yaml.org,2002:null"
_WIDTH = 1 << 20
"""Longer than any line: none is broken."""


def add_to_catalog(
    source: DataSource | TiffStack,
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
        A source, or what :func:`~intake_tiffstack.open_stack` gave. What :meth:`yaml` gives is the
        entry: no secret is in it. A path below the catalog's folder is written with
        ``{{ CATALOG_DIR }}``, so that both can move together.
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
        *name* is no name, or *source* no source.
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
    url = absolute_url(url) if is_local(url) else url
    folder, _, file_name = url.rpartition("/")
    if os.path.islink(url):  # it stays a link to the file that changes
        real, _, file_name = os.path.realpath(url).rpartition("/")
        # behind a link from another folder CATALOG_DIR has two meanings
        entry = _spell_source(source, folder if os.path.realpath(folder) == real else None)
        place = Folder.at(real)
    else:
        entry = _spell_source(source, folder)
        place = Folder.at(folder, storage_options)
    text, mode = _read(place, file_name)
    place.write_document(file_name, _with_entry(text, name, entry, url).encode())
    if mode is not None:  # the lab may share the file
        os.chmod(f"{place.path}/{file_name}", mode)


def _read(place: Folder, file_name: str) -> tuple[str, int | None]:
    """Return what is in a file, nothing where there is none, and its permissions if it is local."""
    path = f"{place.path}/{file_name}"
    try:
        with place.read_errors():
            content: bytes = place.filesystem.cat_file(path)
    except FilesNotFoundError:
        return "", None
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise EntryError(f"{place.url}/{file_name} cannot be read as a catalog: {exc}") from exc
    return text, stat.S_IMODE(os.stat(path).st_mode) if is_local(place.url) else None


def _as_source(options: Options) -> TiffStackSource:
    """Return the source with these options, those at their defaults left out."""
    defaults = Options.parse({"urlpath": "-"})
    given = {field.name: getattr(options, field.name) for field in fields(Options)}
    return TiffStackSource(**{k: v for k, v in given.items() if v != getattr(defaults, k)})


def _spell_source(source: DataSource | TiffStack, folder: str | None) -> dict[str, Any]:
    """Return the entry of *source*, for a catalog in *folder*; None for one that has two."""
    if isinstance(source, TiffStack):
        source = _as_source(source.options)
    if not isinstance(source, DataSource):
        raise OptionError(
            "source must be a source of Intake, or what open_stack() or export() returned, but got "
            f"{source!r:.80}"
        )
    (spelled,) = yaml.safe_load(source.yaml())["sources"].values()
    entry = {key: value for key, value in spelled.items() if value not in (None, "", {})}
    arguments = entry.get("args", {})
    if "urlpath" in arguments:
        arguments["urlpath"] = _relocated(arguments["urlpath"], folder)
    return entry


def _relocated(urlpath: Any, folder: str | None) -> Any:
    """Return a urlpath as a catalog in *folder* has it. Pure but for where relative paths begin.

    >>> _relocated("/data/raw/*.tif", "/data"), _relocated("s3://b/a.tif", "/data")
    ('{{ CATALOG_DIR }}/raw/*.tif', 's3://b/a.tif')
    """
    if isinstance(urlpath, list):
        return [_relocated(url, folder) for url in urlpath]
    if not isinstance(urlpath, str) or "{{" in urlpath or "{%" in urlpath:
        return urlpath
    url = absolute_url(urlpath)
    if folder is None or not url.startswith(f"{folder}/"):
        return url
    return "{{ CATALOG_DIR }}" + url.removeprefix(folder)


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
    before = _load(text, url)
    if text and not text.endswith("\n"):
        text += "\n"
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    start, stop, new = _place_entry(text, name, entry, url)
    changed = text[:start] + new.replace("\n", end_of_line) + text[stop:]
    before["sources"] = {**(before.get("sources") or {}), name: entry}
    try:
        found = yaml_load(changed)
    except (yaml.YAMLError, DuplicateKeyError):
        found = None
    if repr(found) != repr(before):  # NaN does not equal itself
        raise EntryError(
            f"{url}: the entry {name!r} cannot be put there without changing another one; write it "
            "by hand",
            entry=name,
        )
    return changed


def _load(text: str, url: str) -> dict[str, Any]:
    """Return what a catalog says, as Intake reads it."""
    try:
        found = yaml_load(text)
    except (yaml.YAMLError, DuplicateKeyError) as exc:
        raise EntryError(f"{url} cannot be read as a catalog: {exc}") from exc
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise EntryError(f"{url} is no catalog: it should hold a mapping, but got {found!r:.80}")
    if found.get("sources") and not isinstance(found["sources"], dict):
        raise EntryError(
            f"{url}: sources must be a mapping of entries, but got {found['sources']!r:.80}"
        )
    return found


def _place_entry(text: str, name: str, entry: Mapping[str, Any], url: str) -> tuple[int, int, str]:
    """Return from where to where the text of a catalog is replaced for an entry, and by what."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)  # each node knows where it stands
    sources = None if root is None else _child(root, "sources")
    if sources is None:
        return len(text), len(text), _block({"sources": {name: entry}}, 0)
    start, stop = sources.start_mark.index, sources.end_mark.index
    if sources.tag == _NULL or not sources.value:  # what says that there is none goes
        start = len(text[:start].rstrip(" "))
        rest = text[stop : _next_line(text, stop)].rstrip("\r\n")
        return start, _next_line(text, stop), f"{rest}\n{_block({name: entry}, 2)}"
    found = _child(sources, name)
    if not sources.flow_style:
        indent = sources.value[0][0].start_mark.column
        start, stop = _entry_lines(text, sources, found, indent)
        return start, stop, _block({name: entry}, indent)
    if found is not None:
        return found.start_mark.index, found.end_mark.index, _flow(entry)
    last = sources.value[-1][1].end_mark.index
    return last, last, ", " + _flow({name: entry})[1:-1]


def _child(parent: yaml.Node, name: str) -> Any:
    """Return the node of what a mapping has under a name, None where it has none."""
    return next((value for key, value in parent.value if key.value == name), None)


def _entry_lines(
    text: str, sources: yaml.MappingNode, found: yaml.Node | None, indent: int
) -> tuple[int, int]:
    """Return where the lines of an entry begin and end, of a new one at the end of all.

    Blank lines and comments behind an entry that are no deeper than its name belong to what
    follows.
    """
    starts = [_line(text, key.start_mark.index) for key, _ in sources.value]
    starts.append(_line(text, sources.end_mark.index))
    values = [value for _, value in sources.value]
    number = len(values) - 1 if found is None else values.index(found)
    start, stop = starts[number : number + 2]
    for line in reversed(text[start:stop].splitlines(keepends=True)):
        content = line.lstrip(" ")
        is_deeper = len(line) - len(content) > indent
        if content.strip() and (is_deeper or not content.startswith("#")):
            break
        stop -= len(line)
    return (stop if found is None else start), stop


def _line(text: str, index: int) -> int:
    """Return where the line begins that a place in a text is on."""
    return text.rfind("\n", 0, index) + 1


def _next_line(text: str, index: int) -> int:
    return text.index("\n", index) + 1


def _block(value: Mapping[str, Any], indent: int) -> str:
    """Return a value as lines of YAML, all of them indented."""
    spelled = yaml.safe_dump(
        value, sort_keys=False, default_flow_style=False, allow_unicode=True, width=_WIDTH
    )
    return textwrap.indent(spelled, " " * indent)


def _flow(value: Mapping[str, Any]) -> str:
    """Return a value as YAML within a line."""
    spelled: str = yaml.safe_dump(
        value, sort_keys=False, default_flow_style=True, allow_unicode=True, width=_WIDTH
    )
    return spelled.strip()
