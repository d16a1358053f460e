"""What a copy remembers of the files it was made of, and how these have changed since. Pure."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from types import NoneType
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from intake_tiffstack.collection.model import Discovery
from intake_tiffstack.errors import StorageError
from intake_tiffstack.formatting import few
from intake_tiffstack.listing.list_files import Listing
from intake_tiffstack.metadata.model import FileMetadata
from intake_tiffstack.options import Options
from intake_tiffstack.packed_texts import PackedTexts
from intake_tiffstack.redact import hide_in_text, mask_secrets
from intake_tiffstack.storage.file_changes import without_secrets
from intake_tiffstack.storage.files import FileTable
from intake_tiffstack.structure import Structure
from intake_tiffstack.to_json import parse_json

__all__ = [
    "VERSION",
    "pack_seen",
    "spell_urlpath",
    "table_record",
    "unpack_seen",
]

VERSION = 1
"""Version of all that a store keeps beside pixels, in ``current.json``: a reader of another version
takes a copy for none."""

_STRUCTURES = TypeAdapter(list[Structure], config=ConfigDict(arbitrary_types_allowed=True))

_SHOWN = 3
"""Names that a warning shows of each kind of change."""

_TUPLE = "()"


def spell_urlpath(options: Options) -> str:
    """Return a urlpath for people: without secrets, and of a long list only its ends. Pure.

    >>> spell_urlpath(Options.parse({"urlpath": [f"/data/{i}.tif" for i in range(900)]}))
    '/data/0.tif, ... /data/899.tif (900 in all)'
    """
    masked = mask_secrets(options.urlpath)
    return masked if isinstance(masked, str) else few(masked, _SHOWN)


def pack_seen(seen: Discovery) -> bytes:
    """Return what opening learnt as compressed JSON, the same bytes for the same; no secret in it.

    See :func:`unpack_seen`.
    """
    files = without_secrets(seen.listing.files)
    kinds = dict.fromkeys(seen.structures.values())
    places = {structure: place for place, structure in enumerate(kinds)}
    stored = {
        "root": hide_in_text(seen.listing.root),
        "is_single": seen.listing.is_single,
        "is_ordered": seen.listing.is_ordered,
        "pattern": _hidden_pattern(seen.listing),
        "table": table_record(seen.listing),
        "files": {
            "urls": list(files.urls),
            "sizes": files.sizes.tolist(),
            "mtimes": files.mtimes.tolist(),
            "etags": files.etags,
        },
        "structures": {
            "kinds": [asdict(kind) | {"dtype": str(kind.dtype)} for kind in kinds],
            "of_rows": [[row, places[kind]] for row, kind in seen.structures.items()],
        },
        "described": [[row, _to_record(asdict(file))] for row, file in seen.described.items()],
    }
    return gzip.compress(json.dumps(stored).encode(), compresslevel=3, mtime=0)


def table_record(listing: Listing) -> dict[str, list[Any]]:
    """Return the columns of a table as JSON has them. Pure."""
    return {name: list(map(_cell, values)) for name, values in listing.table.items()}


def _cell(value: Any) -> Any:
    """Return a value of a table in types of JSON; a time is read from its text again."""
    return hide_in_text(str(value)) if not isinstance(value, (int, float, NoneType)) else value


def _hidden_pattern(listing: Listing) -> str | None:
    """Return the pattern inside the urlpath, which may end in a signature."""
    if listing.pattern is None:
        return None
    root = hide_in_text(listing.root)
    return hide_in_text(listing.root + listing.pattern).removeprefix(root)


def _to_record(value: Any) -> Any:
    """Return a value in types of JSON, tuples marked, without secrets inside its texts."""
    if isinstance(value, Mapping):
        return {key: _to_record(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [_to_record(item) for item in value]}
    if isinstance(value, list):
        return [_to_record(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return hide_in_text(value) if isinstance(value, str) else value


def _from_record(stored: Any) -> Any:
    """Return the value that :func:`_to_record` was given."""
    if isinstance(stored, list):
        return [_from_record(item) for item in stored]
    if isinstance(stored, Mapping):
        if set(stored) == {_TUPLE}:
            return tuple(_from_record(item) for item in stored[_TUPLE])
        return {key: _from_record(item) for key, item in stored.items()}
    return stored


def unpack_seen(packed: bytes, url: str) -> Discovery:
    """Return what :func:`pack_seen` stored.

    Parameters
    ----------
    packed : bytes
        The stored bytes.
    url : str
        Where they were, for an error.

    Raises
    ------
    StorageError
        If they are damaged.
    """
    try:
        stored = parse_json(gzip.decompress(packed))
        files = stored["files"]
        kinds = _STRUCTURES.validate_python(
            [{**kind, "dtype": np.dtype(kind["dtype"])} for kind in stored["structures"]["kinds"]]
        )
        return Discovery(
            listing=Listing(
                FileTable(
                    PackedTexts.of(files["urls"]),
                    np.array(files["sizes"], np.int64),
                    np.array(files["mtimes"], np.int64),
                    files["etags"] and tuple(files["etags"]),
                ),
                stored["root"],
                stored["is_single"],
                stored["pattern"],
                stored.get("is_ordered", False),
                {name: tuple(v) for name, v in stored.get("table", {}).items()},
            ),
            structures={row: kinds[place] for row, place in stored["structures"]["of_rows"]},
            described={row: _file_metadata(file) for row, file in stored["described"]},
        )
    except (OSError, EOFError, KeyError, TypeError, ValueError) as exc:
        raise StorageError(f"{url} is damaged: {exc!r}; persist anew", url=url) from exc


def _file_metadata(stored: Mapping[str, Any]) -> FileMetadata:
    """Return what a file said, as far as this version and the one that stored it both know it."""
    known = {field.name for field in fields(FileMetadata)}
    return FileMetadata(**{key: _from_record(item) for key, item in stored.items() if key in known})
