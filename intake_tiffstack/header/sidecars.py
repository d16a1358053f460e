"""Files that Micro-Manager writes beside its TIFFs: the summary and the display settings."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from intake_tiffstack.errors import FilesNotFoundError, StorageError
from intake_tiffstack.header.header_bytes import open_header
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.urls import split_chain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from intake_tiffstack.metadata.reader import RawMetadata

__all__ = ["with_sidecars"]

MOST = 2**20
"""Bytes read of a file: its summary comes first, a frame's 5 kB a plane behind it."""

_NAMES = re.compile(r"img_(\d{9}_|channel\d+_position)|.*_MMStack")
_PART = re.compile(r"(_\d+)?(\.ome)?\.tiff?$", re.IGNORECASE)


def with_sidecars(raw: RawMetadata, url: str, storage_options: Mapping[str, Any]) -> RawMetadata:
    """Return a file's metadata with those of the files beside it, if Micro-Manager wrote it.

    Looks for up to six names, one request each in a store. An absent one is not a fault, and one
    that cannot be read is reported in ``notes``.
    """
    if "micromanager" not in raw.tags and not _is_name_of_micromanager(url):
        return raw
    found, faults = _read_beside(url, storage_options)
    return replace(raw, sidecars=found, notes=(*raw.notes, *faults))


def _is_name_of_micromanager(url: str) -> bool:
    """Return whether a file is named as Micro-Manager does. Pure.

    >>> _is_name_of_micromanager("/d/img_000000003_DAPI_000.tif")
    True
    """
    return _NAMES.match(split_chain(url)[0].rpartition("/")[2]) is not None


def _read_beside(
    url: str, storage_options: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the content of each sidecar by its name, and a sentence for each fault."""
    found: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    for key, path in _candidates(url):
        if any(key in one for one in found.values()):
            continue  # the nearest wins
        try:
            text = _read_start(path, storage_options)
            value = _member(text, key) if key == "Summary" else json.loads(text)
        except FilesNotFoundError:
            continue
        except StorageError as exc:
            faults.append(str(exc))
        except ValueError as exc:
            faults.append(f"{path} is not JSON: {exc}")
        else:
            found[split_chain(path)[0].rpartition("/")[2]] = {key: value}
    return found, faults


def _candidates(url: str) -> Iterator[tuple[str, str]]:
    """Yield the key and path of each possible sidecar, the nearest first. Pure.

    >>> [path for _, path in _candidates("/d/Pos0/x_MMStack_1.ome.tif")][:2]
    ['/d/Pos0/x_MMStack_metadata.txt', '/d/Pos0/metadata.txt']
    """
    path, chain = split_chain(url)
    folder, _, name = path.rpartition("/")
    if "_MMStack" in name:
        yield "Summary", f"{folder}/{_PART.sub('', name)}_metadata.txt{chain}"
    yield "Summary", f"{folder}/metadata.txt{chain}"
    above = folder.rpartition("/")[0]
    for place in (folder, above) if above and not above.endswith("/") else (folder,):
        for settings in ("DisplaySettings.json", "display_and_comments.txt"):
            yield "DisplaySettings", f"{place}/{settings}{chain}"


def _read_start(url: str, storage_options: Mapping[str, Any]) -> str:
    data = open_header(stat_file(url, storage_options), storage_options)
    return data.read(0, MOST).decode(errors="replace")


def _member(text: str, key: str) -> Any:
    """Return one member of a JSON object, though the text ends before the object does. Pure.

    >>> _member('{"Summary": {"Slices": 3}, "FrameKey-0-0-0": {"Wid', "Summary")
    {'Slices': 3}
    """
    place = re.search(rf'"{key}"\s*:\s*', text)
    if place is None:
        raise ValueError(f"it has no {key} within its first {len(text):,} characters")
    return json.JSONDecoder().raw_decode(text, place.end())[0]
