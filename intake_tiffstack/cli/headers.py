"""``tiffstack index``: the headers of remote files, kept for every later opening."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from intake_tiffstack.cli.source import open_source
from intake_tiffstack.errors import OptionError, StorageError

__all__ = ["write_headers"]


def write_headers(url: str, options: Mapping[str, Any], console: Console) -> None:
    """Open a collection, which brings its index up to date, and say what the index holds.

    Raises
    ------
    OptionError
        If all files are local: their headers are read where they are.
    StorageError
        If the index was not written.
    """
    stack, _ = open_source(url, options)
    collection = stack.collection
    index = collection.reader.index()
    target = stack.options.header_index
    if not any("://" in file for file in collection.files.urls):
        raise OptionError(f"{url}: all files are local, whose headers need no index")
    if index is None:
        raise StorageError(f"{target} was not written", url=target)
    count = sum(map(index.has, collection.files))
    console.print(f"{target}: headers of {count:,} files", highlight=False)
    if count < len(collection.files):
        missing = len(collection.files) - count
        raise StorageError(f"headers of {missing:,} files are not in {target}", url=target)
