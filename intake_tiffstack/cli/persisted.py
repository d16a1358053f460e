"""``tiffstack persist``: the copies in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dask
from dask.utils import format_bytes
from rich.table import Table
from rich.text import Text

from intake_tiffstack.errors import FilesNotFoundError, OptionError
from intake_tiffstack.persist.store import (
    CollectionCopies,
    Generation,
    find_store,
    prune,
    store_options,
)
from intake_tiffstack.storage.folder import Folder

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["list_copies", "prune_copies", "remove_copy", "show_copy"]


def _all_copies() -> Iterator[tuple[CollectionCopies, Generation]]:
    """Yield the collections that have a copy, with the copy that counts. A request for each."""
    store = Folder.at(find_store()[0], store_options())
    for key in sorted(store.names("")):
        copies = CollectionCopies(store, key)
        current = copies.current()
        if current is not None:
            yield copies, current


def list_copies(console: Console, *, as_json: bool) -> None:
    """Print a line per copy."""
    found = list(_all_copies())
    if as_json:
        records = [{"key": c.key, "url": c.pixels_url(g.name), **_record(g)} for c, g in found]
        print(json.dumps(records, indent=1))
        return
    if not found:
        console.print(f"no copy in {find_store()[0]}", highlight=False)
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("key", "created", "size", "files", "expires", "of"):
        table.add_column(name, overflow="fold")
    for copies, one in found:
        expires = "never" if one.expires is None else f"{one.expires:%Y-%m-%d %H:%M}"
        table.add_row(
            copies.key[:12],
            f"{one.created:%Y-%m-%d %H:%M}",
            format_bytes(one.nbytes),
            f"{one.n_files:,}",
            "expired" if one.has_expired() else expires,
            Text(one.source),
        )
    console.print(table)


def show_copy(key: str, console: Console) -> None:
    """Print all that is known of one copy."""
    copies, one = _find(key)
    record = {"key": copies.key, "url": copies.pixels_url(one.name), **_record(one)}
    for name, value in record.items():
        console.print(Text(f"{name}: {value}"), soft_wrap=True)


def remove_copy(key: str, console: Console, *, dry_run: bool) -> None:
    """Remove one copy."""
    copies, one = _find(key)
    if not dry_run:
        copies.remove()
    verb = "would remove" if dry_run else "removed"
    console.print(Text(f"{verb} {copies.url} ({format_bytes(one.nbytes)} of {one.source})"))


def prune_copies(grace: str | None, console: Console, *, dry_run: bool) -> None:
    """Remove superseded copies of all collections, *grace* after another one was published."""
    with dask.config.set({} if grace is None else {"tiffstack.persist_grace": grace}):
        urls = prune(dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    for url in urls:
        console.print(Text(f"{verb} {url}"), soft_wrap=True)
    if not urls:
        console.print(f"no superseded copy to remove in {find_store()[0]}", highlight=False)


def _record(one: Generation) -> dict[str, object]:
    record: dict[str, object] = json.loads(one.to_json())
    return record


def _find(start: str) -> tuple[CollectionCopies, Generation]:
    found = [(c, g) for c, g in _all_copies() if c.key.startswith(start)]
    if not found:
        raise FilesNotFoundError(
            f"no copy in {find_store()[0]} has a key that begins with {start!r}"
        )
    if len(found) > 1:
        keys = ", ".join(copies.key[:16] for copies, _ in found[:4])
        raise OptionError(f"{len(found)} copies have a key that begins with {start!r}: {keys}")
    return found[0]
