"""What opens the files of a collection. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from intake_tiffstack.reading.reader import CollectionReader

if TYPE_CHECKING:
    from intake_tiffstack.options import Options

__all__ = ["reader_of"]


def reader_of(options: Options) -> CollectionReader:
    """Return what opens the files of a collection with these options. Pure."""
    dims: Any = options.file_dims
    if dims is not None:
        dims = tuple(dims.items() if isinstance(dims, dict) else dims)
    series = options.series if options.sets == "none" else "pages"
    return CollectionReader(
        options.storage_options,
        series,
        options.level,
        dims,
        options.header_index,
        tuple(options.sidecars),
    )
