"""``tiffstack catalog``: one entry written, and opened again as proof."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import intake
from rich.text import Text

from intake_tiffstack.cli.source import open_source
from intake_tiffstack.driver.add_to_catalog import add_to_catalog, entry_text
from intake_tiffstack.errors import EntryError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["write_entry"]


def write_entry(
    url: str,
    options: Mapping[str, Any],
    output: str,
    name: str,
    console: Console,
    *,
    dry_run: bool,
) -> None:
    """Write the entry *name* of the catalog at *output*, and open it.

    Raises
    ------
    EntryError
        If the entry opens as another array than the options do.
    """
    stack, found = open_source(url, options)
    sizes = stack.sizes  # opens, so that only what opens is written
    if dry_run:
        console.print(Text(entry_text(stack, output, name)), soft_wrap=True)
        return
    add_to_catalog(stack, output, name)
    source = intake.open_catalog(os.fspath(output))[name]
    if source.stack.sizes != sizes or source.stack.dtype != stack.dtype:
        raise EntryError(f"{output}: the entry {name!r} opens as {source.stack}, not as {stack}")
    shown = " x ".join(f"{n} {dim}" for dim, n in sizes.items())
    console.print(Text(f"{output}: {name} opens as {shown}, {stack.dtype}"), soft_wrap=True)
    taken = found.best if found else None
    if taken and taken.n_files < taken.n_listed:
        part = f"{taken.n_files:,} of {taken.n_listed:,} TIFFs take part"
        console.print(Text(f"{part}; tiffstack inspect shows other proposals"), soft_wrap=True)
    console.print(Text(f"intake.open_catalog({output!r})[{name!r}].to_dask()"), soft_wrap=True)
