"""Add one entry to the file of a catalog, or replace one, and leave the others as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from io import StringIO
from typing import Any

import yaml
from intake.catalog.exceptions import DuplicateKeyError
from intake.source.base import DataSource
from intake.utils import yaml_load
from ruamel.yaml import YAML
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.tokens import CommentToken

from intake_tiffstack.collection.suggestion import Suggestion
from intake_tiffstack.driver import TiffStackSource
from intake_tiffstack.driver.entries import yaml_fault
from intake_tiffstack.errors import EntryError, OptionError
from intake_tiffstack.options import Options
from intake_tiffstack.redact import escape_template
from intake_tiffstack.stack import TiffStack
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.shared_document import update_document
from intake_tiffstack.storage.urls import absolute_url, is_local

__all__ = ["add_to_catalog", "entry_text"]

_WIDTH = 1 << 20
"""Longer than any line: none is broken."""

_LIST_BELOW_KEY = re.compile(r"^( *)[^\s#].*:[ \t]*(?:#.*)?\n\1( *)- ", re.MULTILINE)


def add_to_catalog(
    source: DataSource | TiffStack | Suggestion,
    catalog: str | os.PathLike[str],
    name: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry that opens *source* to the file of a catalog, or replace the one of that name.

    All other entries keep their values, comments, quotes and order; their indentation and spaces
    may become uniform, and a comment behind a comma inside braces is lost. Comments inside an
    entry that is replaced go with it. The file is written as a whole or not at all, and created if
    missing. Of several processes that add entries at the same time, none loses any: see
    :func:`~intake_tiffstack.storage.shared_document.update_document`.

    Parameters
    ----------
    source : DataSource, TiffStack or Suggestion
        A source, the result of :func:`~intake_tiffstack.open_stack`, or
        one of :func:`~intake_tiffstack.suggest`. The entry is what
        ``source.yaml()`` returns, which contains no secret. A path below the folder of the catalog
        is written with ``{{ CATALOG_DIR }}``, so that both can move together.
    catalog : str or os.PathLike
        The YAML file, local or any fsspec URL.
    name : str
        Name of the entry.
    storage_options : mapping, optional
        Options for fsspec to reach *catalog*.

    Raises
    ------
    EntryError
        If the file is not a catalog, or cannot take the entry without changing another one.
    OptionError
        If *name* is not a non-empty text, or *source* is not a source.
    StorageError
        If the file cannot be read, locked or written.

    Examples
    --------
    >>> import intake
    >>> from intake_tiffstack import open_stack
    >>> add_to_catalog(open_stack("raw/*.tif", pattern="lattice"), "lab.yml", "scan")
    >>> intake.open_catalog("lab.yml").scan.to_dask().shape
    (3, 2, 8, 64, 48)
    """
    if not isinstance(name, str) or not name:
        raise OptionError(f"name must be a non-empty text, the name of the entry, but got {name!r}")
    url = os.fspath(catalog)
    refuse_misspelled(url)
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
    update_document(
        place,
        file_name,
        lambda content: _with_entry(_decoded(content, url), name, entry, url).encode(),
    )


def entry_text(
    source: DataSource | TiffStack | Suggestion, catalog: str | os.PathLike[str], name: str
) -> str:
    """Return the text of the entry that :func:`add_to_catalog` would write; nothing is written."""
    url = os.fspath(catalog)
    refuse_misspelled(url)
    url = absolute_url(url) if is_local(url) else url
    entry = _spell_source(source, url.rpartition("/")[0])
    return yaml.safe_dump({"sources": {name: entry}}, sort_keys=False, allow_unicode=True)


def _decoded(content: bytes | None, url: str) -> str:
    """Return the text of a catalog, empty if there is none. Pure."""
    try:
        return (content or b"").decode()
    except UnicodeDecodeError as exc:
        raise EntryError(f"{url} cannot be read as a catalog: {exc}") from exc


def _as_source(options: Options) -> TiffStackSource:
    """Return a source with these options, without those at their defaults."""
    defaults = Options.parse({"urlpath": "-"})
    given = {field.name: getattr(options, field.name) for field in fields(Options)}
    return TiffStackSource(**{k: v for k, v in given.items() if v != getattr(defaults, k)})


def _spell_source(
    source: DataSource | TiffStack | Suggestion, folder: str | None
) -> dict[str, Any]:
    """Return the entry of *source*, with paths relative to *folder* unless that is None."""
    if isinstance(source, Suggestion):
        source = _as_source(Options.parse(source.options))
    if isinstance(source, TiffStack):
        source = _as_source(source.settle())
    if not isinstance(source, DataSource):
        raise OptionError(
            "source must be a source of Intake, or what suggest(), open_stack() or export() "
            f"returned, but got {source!r:.80}"
        )
    (spelled,) = yaml.safe_load(source.yaml())["sources"].values()
    entry = {key: value for key, value in spelled.items() if value not in (None, "", {})}
    arguments = entry.get("args", {})
    if "urlpath" in arguments:
        arguments["urlpath"] = _relocated(arguments["urlpath"], folder)
    return entry


def _relocated(urlpath: Any, folder: str | None) -> Any:
    """Return a urlpath of an entry as written in a catalog in *folder*. Pure.

    >>> _relocated("/data/raw/*.tif", "/data"), _relocated("s3://b/a.tif", "/data")
    ('{{ CATALOG_DIR }}/raw/*.tif', 's3://b/a.tif')
    """
    if isinstance(urlpath, list):
        return [_relocated(url, folder) for url in urlpath]
    if folder is None or not isinstance(urlpath, str):
        return urlpath
    start = escape_template(f"{folder}/")  # the urlpath is a template too
    return "{{ CATALOG_DIR }}/" * urlpath.startswith(start) + urlpath.removeprefix(start)


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
    try:
        changed = _replace_entry(text, name, entry)
        found = yaml_load(changed)
    except (YAMLError, yaml.YAMLError, DuplicateKeyError):
        found = None
    before["sources"] = {**(before.get("sources") or {}), name: entry}
    if repr(found) != repr(before):  # NaN does not equal itself
        raise EntryError(
            f"{url}: the entry {name!r} cannot be put there without changing another one; write it "
            "by hand",
            entry=name,
        )
    return changed


def _load(text: str, url: str) -> dict[str, Any]:
    """Return the content of a catalog as Intake reads it."""
    try:
        found = yaml_load(text)
    except DuplicateKeyError as exc:
        raise EntryError(f"{url} cannot be read as a catalog: {exc}") from exc
    except yaml.YAMLError as exc:  # whose text shows lines
        raise EntryError(f"{url} cannot be read as a catalog: {yaml_fault(exc)}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise EntryError(
            f"{url} is not a catalog: it must contain a mapping, but got {type(found).__name__}"
        )
    if found.get("sources") and not isinstance(found["sources"], dict):
        raise EntryError(
            f"{url}: sources must be a mapping of entries, but got {found['sources']!r:.80}"
        )
    return found


def _replace_entry(text: str, name: str, entry: Mapping[str, Any]) -> str:
    """Return *text* with the entry put in, as ruamel.yaml writes it.

    Nodes are edited, not the values they stand for: a node keeps its own spelling, so that YAML 1.1
    (Intake) and YAML 1.2 (ruamel.yaml) need not agree on what ``NO`` or ``010`` mean.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    lines = text.removeprefix(mark).replace("\r\n", "\n")
    lines += "\n" if lines and not lines.endswith("\n") else ""
    parser = YAML()
    parser.width = _WIDTH
    root = parser.compose(lines)
    if not isinstance(root, MappingNode):  # nothing but comments
        root = parser.compose(f"{lines}sources: {{}}\n")
    spelled = yaml.safe_dump(
        {"sources": {name: entry}}, sort_keys=False, allow_unicode=True, width=_WIDTH
    )
    new = parser.compose(spelled).value[0]
    sources = _find(root, "sources")
    if sources is None:
        root.value.append(new)
    elif not root.value[sources][1].value or isinstance(root.value[sources][1], ScalarNode):
        new[1].comment = root.value[sources][1].comment
        root.value[sources] = (root.value[sources][0], new[1])
    else:
        _put_entry(root, sources, new[1].value[0])
    first = root.value[-1 if sources is None else sources][1].value[0][0]
    indent = first.start_mark.column if first.start_mark.column < 9 else 2
    offset = len(found[2]) if (found := _LIST_BELOW_KEY.search(lines)) else 0
    parser.indent(mapping=indent, sequence=offset + 2, offset=offset)
    written = StringIO()
    parser.serialize(root, written)
    return mark + written.getvalue().replace("\n", "\r\n" if "\r\n" in text else "\n")


def _put_entry(root: MappingNode, place: int, new: tuple[Node, Node]) -> None:
    """Add an entry to the sources, or replace it; what stands between entries stays there.

    ruamel.yaml keeps all lines up to the next key with the value before them. Here they go to what
    follows the entry.
    """
    sources = root.value[place][1]
    sources.flow_style = False
    number = _find(sources, new[0].value)
    entries, at = sources.value, len(sources.value) - 1 if number is None else number
    old = entries[at][1]
    while old.value and not isinstance(old, ScalarNode):
        old = old.value[-1][1] if isinstance(old, MappingNode) else old.value[-1]
    between: list[CommentToken] = []
    if old.comment and old.comment[0]:
        own, *rest = old.comment[0].value.splitlines(keepends=True)
        old.comment[0].value = own
        depths = [len(line) - len(line.lstrip(" ")) for line in rest]
        between = [
            CommentToken(line[depth:], CommentMark(depth))
            for line, depth in zip(rest, depths, strict=True)
        ]
    entries[at : at + 1] = [entries[at], new] if number is None else [(entries[at][0], new[1])]
    following = [*entries[at + (2 if number is None else 1) :], *root.value[place + 1 :]]
    # a node's comments in ruamel.yaml: [behind, [before, ...], [at the end, ...]]
    node, kind = (following[0][0], 1) if following else (root, 2)
    node.comment = [*(node.comment or []), None, None, None][:3]
    node.comment[kind] = between + (node.comment[kind] or [])


def _find(parent: MappingNode, name: str) -> int | None:
    """Return the position of a key in a mapping, None if it is not there."""
    return next((i for i, (key, _) in enumerate(parent.value) if key.value == name), None)
