"""Files beside a TIFF: those of Micro-Manager, GDAL's ``.aux.xml`` and world files.

References
----------
ESRI, "World files for raster datasets"; GDAL, "Persistent Auxiliary Metadata" (PAM).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from intake_tiffstack.errors import FilesNotFoundError, StorageError
from intake_tiffstack.header.header_bytes import open_header
from intake_tiffstack.metadata.reader import RawMetadata
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.urls import split_chain
from intake_tiffstack.to_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["read_map_sidecars", "with_sidecars"]

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
    return raw.with_beside(RawMetadata(sidecars=found, notes=tuple(faults)))


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
            value = _member(text, key) if key == "Summary" else parse_json(text)
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


def read_map_sidecars(
    url: str, kinds: Sequence[str], storage_options: Mapping[str, Any]
) -> RawMetadata:
    """Return the content of what places a file on a map or describes its bands, from beside it.

    An absent one is not a fault, and one that cannot be read is reported in ``notes``.

    Parameters
    ----------
    url : str
        Of the TIFF.
    kinds : sequence of str
        ``"pam"`` for ``a.tif.aux.xml``, ``"worldfile"`` for ``a.tfw``, ``a.tifw`` or ``a.wld``: the
        first that exists, one request each in a store.
    storage_options : mapping of str
        Passed to fsspec.
    """
    found: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    for kind in kinds:
        key, names, parse = _OF_MAPS[kind]
        for path in _named_like(url, names):
            try:
                content = parse(_read_start(path, storage_options))
            except FilesNotFoundError:
                continue
            except StorageError as exc:
                faults.append(str(exc))
            except ValueError as exc:
                faults.append(f"{hide_in_text(path)} is ignored, since {exc}")
            else:
                found[split_chain(path)[0].partition("?")[0].rpartition("/")[2]] = {key: content}
            break
    return RawMetadata(sidecars=found, notes=tuple(faults))


def _names_of_pam(name: str) -> list[str]:
    return [f"{name}.aux.xml"]


def _names_of_world_file(name: str) -> list[str]:
    """Return the names that a world file may have, the usual one first. Pure.

    >>> _names_of_world_file("a.tif")
    ['a.tfw', 'a.tifw', 'a.wld', 'a.TFW', 'a.TIFW', 'a.WLD']
    """
    stem, _, suffix = name.rpartition(".")
    suffix = suffix.lower()
    endings = (f"{suffix[0]}{suffix[-1]}w", f"{suffix}w", "wld") if suffix else ("wld",)
    return [f"{stem or name}.{end}" for end in (*endings, *map(str.upper, endings))]


def _parse_world_file(text: str) -> list[float]:
    """Return the six numbers of a world file, whatever mark their decimals have. Pure."""
    words = text.replace(",", ".").split()
    try:
        numbers = [float(word) for word in words[:6]]
    except ValueError:
        numbers = []
    if len(numbers) < 6 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"a world file has six numbers, but this one holds {text[:60]!r}")
    return numbers


_OF_MAPS: Mapping[str, tuple[str, Callable[[str], list[str]], Callable[[str], Any]]] = {
    "pam": ("PAM", _names_of_pam, str),
    "worldfile": ("WorldFile", _names_of_world_file, _parse_world_file),
}
"""Per kind: the key of its content, its names from that of the TIFF, and what parses it."""


def _named_like(url: str, names: Callable[[str], list[str]]) -> Iterator[str]:
    """Yield the URLs of files beside *url* by their names. Pure."""
    path, chain = split_chain(url)
    query = ""
    if path.startswith(("http://", "https://")):
        path, mark, query = path.partition("?")
        query = mark + query
    folder, slash, name = path.rpartition("/")
    for other in names(name):
        yield f"{folder}{slash}{other}{query}{chain}"


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
    return parse_json(text, place.end())
