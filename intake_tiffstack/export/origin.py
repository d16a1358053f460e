"""What a copy is made of, from an opened collection, for its audit record. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numcodecs.abc
import numpy as np

from intake_tiffstack.collection.report import rows_in_order
from intake_tiffstack.copies.record import Origin
from intake_tiffstack.options import given_options
from intake_tiffstack.redact import mask_secrets
from intake_tiffstack.storage.urls import absolute_url
from intake_tiffstack.to_json import to_json

if TYPE_CHECKING:
    from intake_tiffstack.collection.open import Collection
    from intake_tiffstack.layout.model import Layout

__all__ = ["find_origin"]

_OF_THE_CALL = frozenset(
    {"storage_options", "dry_run", "overwrite", "resume", "verify", "progress", "sha256", "append"}
)
"""Options of an export that say nothing of the copy."""


def find_origin(collection: Collection, export: Mapping[str, Any]) -> Origin:
    """Return what a copy of a collection is made of.

    Parameters
    ----------
    collection : Collection
        Of the pixels.
    export : mapping
        Options of the export.
    """
    files = collection.files
    urlpath: Any = collection.options.urlpath
    if isinstance(urlpath, str):
        urlpath = absolute_url(urlpath)
    elif isinstance(urlpath, list | tuple):
        urlpath = [absolute_url(str(url)) for url in urlpath]
    else:
        urlpath = list(files.urls)  # a table, which no JSON holds
    order = np.array(rows_in_order(collection.examination), dtype=np.intp)
    starts = _starts(collection.file_layout, len(files))
    used = np.isin(order, _placed(collection))
    given = given_options(collection.options)
    fill = given.get("fill_value")
    if fill is not None and not (isinstance(fill, Real) and math.isfinite(fill)):
        given["fill_value"] = str(fill)  # JSON has no such number, and the option takes its text
    options = to_json(mask_secrets(given))
    return Origin(
        urlpath=mask_secrets(urlpath),
        options={name: value for name, value in options.items() if name != "urlpath"},
        files=files.take(order[used]),
        left_out=files.take(order[~used]),
        starts={dim: values[order[used]].tolist() for dim, values in starts.items()},
        export={k: _to_json(v) for k, v in export.items() if k not in _OF_THE_CALL},
        storage_options=collection.options.storage_options,
    )


def _placed(collection: Collection) -> Sequence[int]:
    """Return the rows of the files that have a part of the array."""
    mosaic = collection.examination.mosaic
    if mosaic is not None:
        return sorted({tile.row for tile in mosaic.mosaic.tiles})
    cells = collection.file_layout.cells
    rows: list[int] = cells[cells >= 0].tolist()
    return rows


def _starts(layout: Layout, count: int) -> dict[str, Any]:
    """Return, per dim that files make or extend, where each file begins; -1 for those left out."""
    is_there = layout.cells >= 0
    rows, cells = layout.cells[is_there], np.argwhere(is_there)
    found = {}
    for dim in layout.dims:
        if dim.axis is None:
            continue
        edges = np.arange(dim.size) if dim.offsets is None else np.array(dim.offsets)
        starts = np.full(count, -1, dtype=np.int64)
        starts[rows] = edges[cells[:, dim.axis]]
        found[dim.name] = starts
    return found


def _to_json(value: Any) -> Any:
    """Return an option of an export as JSON; a codec is its configuration."""
    if isinstance(value, numcodecs.abc.Codec):
        return to_json(value.get_config())
    if hasattr(value, "to_dict"):  # a codec of zarr
        return to_json(value.to_dict())
    return to_json(value)
