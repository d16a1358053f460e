"""The audit record of a copy: which files it was made of, how, with what, and what was verified.

``tiffstack-record.json`` lies in the folder of a Zarr array, in an OME-Zarr that of the first array
(its attribute ``tiffstack`` says where: Zarr warns of any other object in a group), and beside an
OME-TIFF, behind the name of the file and a dot; a document of references has it under the key
``tiffstack_record``. It holds no secret: URLs are masked, and storage options are left out.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from intake_tiffstack.copies.attributes import OWN_KEY
from intake_tiffstack.copies.verify import Verify
from intake_tiffstack.copies.zarr_documents import DOCUMENT_FAULTS
from intake_tiffstack.errors import FileChangedError, StorageError
from intake_tiffstack.listing.url_list import has_tiff_suffix
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.concurrency import map_concurrently
from intake_tiffstack.storage.failures import storage_errors
from intake_tiffstack.storage.file_changes import without_secrets
from intake_tiffstack.storage.files import File, FileTable
from intake_tiffstack.storage.filesystem import get_filesystem
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.zipped import inside_zip
from intake_tiffstack.to_json import parse_json

__all__ = [
    "IN_DOCUMENT",
    "OWN_PATH",
    "RECORD",
    "CopyImage",
    "CopyRecord",
    "Origin",
    "RecordDraft",
    "Verified",
    "hash_file",
    "read_record",
]

RECORD = "tiffstack-record.json"
"""Name of the record."""

OWN_PATH = "record"
"""Key of its path below a copy that is a group, in the attribute ``tiffstack`` of the group."""

IN_DOCUMENT = "tiffstack_record"
"""Key of the record in a document of references."""

_VERSION = 1
_PACKAGES = ("intake-tiffstack", "zarr", "numcodecs", "tifffile", "imagecodecs", "numpy", "dask")


@dataclass(frozen=True)
class Origin:
    """What a copy is made of, as its collection knows it."""

    urlpath: str | Sequence[str]
    """Without secrets."""
    options: Mapping[str, Any]
    """Options of the collection that differ from their defaults, as JSON, without secrets."""
    files: FileTable
    """The files that the array consists of, in its order."""
    left_out: FileTable
    """Files that match the options and are not in the array, such as duplicates."""
    starts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Along each dim that files make or extend, the first position of each of `files`."""
    export: Mapping[str, Any] = field(default_factory=dict)
    """Options of the export, as JSON."""
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of the files, to hash them."""


@dataclass(frozen=True)
class Verified:
    """What of a copy was read back and compared with its source."""

    mode: Verify
    regions: int = 0
    nbytes: int = 0
    """Decoded bytes of the regions."""


@dataclass(frozen=True)
class CopyImage:
    """An image of a copy, and the part of the source that it shows."""

    path: str
    """Below the copy; empty if there is one image."""
    dims: Mapping[str, str]
    """The dim of the source behind each dim."""
    at: Mapping[str, int] = field(default_factory=dict)
    """Position along the dims of the source that the image lacks."""


@dataclass(frozen=True)
class RecordDraft:
    """A record before anything is verified."""

    origin: Origin
    format: str
    sizes: Mapping[str, int]
    """Dims of the source and their lengths."""
    dtype: np.dtype[Any]
    images: Sequence[CopyImage] = ()
    sha256: bool = False
    """Whether the record holds the SHA-256 of each file."""
    before: CopyRecord | None = None
    """The record of the copy that is extended."""
    path: str = RECORD
    """Of the record below the copy."""

    def finish(self, verified: Verified) -> bytes:
        """Return the record as JSON; reads all files once if they are to be hashed.

        Raises
        ------
        FileChangedError
            If a file is another than was copied.
        """
        origin, history = self.origin, [] if self.before is None else list(self.before.history)
        if history and history[-1]["sizes"] == dict(self.sizes):
            history.pop()  # of an attempt that was killed after this
        now = datetime.now(UTC).isoformat(timespec="seconds")
        history.append(
            {
                "time": now,
                "action": "extended" if history else "created",
                "files": len(origin.files),
                "sizes": dict(self.sizes),
                "software": _software(),
                "verified": {
                    "mode": verified.mode or "none",
                    "regions": verified.regions,
                    "bytes": verified.nbytes,
                    "how": "decoded from the copy and compared byte by byte with the source",
                },
            }
        )
        head = {
            "version": _VERSION,
            "created": history[0]["time"],
            "changed": now,
            "format": self.format,
            "array": {"sizes": dict(self.sizes), "dtype": str(self.dtype)},
            "images": [
                {"path": image.path, "dims": dict(image.dims), "at": dict(image.at)}
                for image in self.images
            ],
            "source": {"urlpath": origin.urlpath, "options": dict(origin.options)},
            "export": dict(origin.export),
            "history": history,
        }
        hashes = self._hash() if self.sha256 else [None] * len(origin.files)
        rows = [
            {
                **_file_to_json(file),
                **({} if digest is None else {"sha256": digest}),
                "at": {dim: int(starts[i]) for dim, starts in origin.starts.items()},
            }
            for i, (file, digest) in enumerate(
                zip(without_secrets(origin.files), hashes, strict=True)
            )
        ]
        left_out = [_file_to_json(file) for file in without_secrets(origin.left_out)]
        lines = [
            f" {json.dumps(name)}: [\n{_lines(values)}]"
            for name, values in (("files", rows), ("left_out", left_out))
        ]
        text = json.dumps(head, indent=1)
        return (text.removesuffix("\n}") + ",\n" + ",\n".join(lines) + "\n}\n").encode()

    def _hash(self) -> list[str]:
        """Return the SHA-256 of each file, those of unchanged files from the record before."""
        before, files = self.before, self.origin.files
        known = {} if before is None else dict(zip(before.files, before.sha256, strict=True))
        safe = without_secrets(files)
        missing = [row for row in range(len(files)) if not known.get(safe[row])]
        made = map_concurrently(
            lambda row: hash_file(files[row], self.origin.storage_options), missing
        )
        found = dict(zip(missing, made, strict=True))
        return [found.get(row) or str(known[safe[row]]) for row in range(len(files))]


def _lines(values: Sequence[Any]) -> str:
    return ",\n".join(f"  {json.dumps(value)}" for value in values)


@functools.cache  # reading the metadata of the packages takes 20 ms
def _software() -> dict[str, str]:
    """Return the versions that make a copy what it is."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def hash_file(file: File, storage_options: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; reads all of it.

    Raises
    ------
    FileChangedError
        If its size, time or ETag is not that of *file*.
    """
    filesystem, path = get_filesystem(file.url, storage_options)
    with storage_errors(file.url, storage_options), filesystem.open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not file.agrees_with(stat_file(file.url, storage_options)):
        raise FileChangedError(
            f"{hide_in_text(file.url)} has changed since it was listed; relist() sees it as it is",
            url=file.url,
        )
    return digest


def _file_to_json(file: File) -> dict[str, Any]:
    """Return a file as JSON; unknown values are left out.

    >>> _file_to_json(File("/a.tif", 10, 1_500_000_000, None))
    {'url': '/a.tif', 'size': 10, 'mtime': '1970-01-01T00:00:01.500000000Z'}
    """
    found: dict[str, Any] = {"url": file.url}
    if file.size >= 0:
        found["size"] = file.size
    if file.mtime_ns >= 0:
        found["mtime"] = f"{np.datetime64(file.mtime_ns, 'ns')}Z"
    if file.etag:
        found["etag"] = file.etag
    return found


def _file_from_json(stored: Mapping[str, Any]) -> File:
    mtime = stored.get("mtime")
    ns = -1 if mtime is None else int(np.datetime64(mtime.removesuffix("Z"), "ns").astype(np.int64))
    return File(stored["url"], stored.get("size", -1), ns, stored.get("etag"))


@dataclass(frozen=True)
class CopyRecord:
    """The audit record that was stored with a copy."""

    content: Mapping[str, Any]
    """All of it, as JSON."""
    files: FileTable
    """The files that the copy was made of; secrets in URLs are masked."""
    left_out: FileTable
    """Files that matched and were not copied."""

    @property
    def sha256(self) -> tuple[str | None, ...]:
        """The SHA-256 of each of `files`, None where it was not asked for."""
        return tuple(row.get("sha256") for row in self.content["files"])

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """When the copy was made and extended, with what software, and what was verified."""
        return tuple(self.content["history"])

    @property
    def images(self) -> tuple[CopyImage, ...]:
        """The images of the copy, and what each shows of the source."""
        return tuple(CopyImage(**image) for image in self.content["images"])

    @property
    def sizes(self) -> dict[str, int]:
        """Dims of the source and their lengths."""
        return dict(self.content["array"]["sizes"])

    def __str__(self) -> str:
        last = self.history[-1]
        hashes = ", with SHA-256" if any(self.sha256) else ""
        verified = last["verified"]
        return (
            f"{self.content['format']} of {len(self.files):,} files{hashes}, {last['action']} "
            f"{last['time']} by intake-tiffstack {last['software']['intake-tiffstack']}; "
            f"verified: {verified['mode']} ({verified['regions']:,} regions)"
        )

    @classmethod
    def from_json(cls, content: bytes | Mapping[str, Any], url: str) -> CopyRecord:
        """Return a record from its JSON; *url* is for an error.

        Raises
        ------
        StorageError
            If it is damaged, or of a later version.
        """
        try:
            stored = parse_json(content) if isinstance(content, bytes) else content
            if stored["version"] != _VERSION:
                raise StorageError(
                    f"{url} is of version {stored['version']!r}, and this version of "
                    f"intake-tiffstack reads {_VERSION}; update it",
                    url=url,
                )
            files = FileTable.from_files(map(_file_from_json, stored["files"]))
            left_out = FileTable.from_files(map(_file_from_json, stored["left_out"]))
            record = cls(stored, files, left_out)
            _ = record.images, record.sizes, str(record)
        except DOCUMENT_FAULTS as exc:
            raise StorageError(f"{url} is damaged: {exc!r}", url=url) from exc
        return record


def read_record(url: str, storage_options: Mapping[str, Any] | None = None) -> CopyRecord | None:
    """Return the audit record of a copy, None if it has none. One small request, or two or three.

    Raises
    ------
    StorageError
        If it is damaged, or the store cannot be read.
    """
    folder = Folder.at(*inside_zip(url, storage_options or {}))
    is_document = folder.url.endswith(".json")
    if is_document:
        stored = _read_json(folder, "").get(IN_DOCUMENT)
        return None if stored is None else CopyRecord.from_json(stored, folder.url)
    name = f".{RECORD}" if has_tiff_suffix(folder.url) else f"/{RECORD}"
    content = _read(folder, name)
    if content is None and name.startswith("/"):
        root = _read_json(folder, "/zarr.json").get("attributes") or _read_json(folder, "/.zattrs")
        own = root.get(OWN_KEY) if isinstance(root, dict) else None
        path = own.get(OWN_PATH) if isinstance(own, dict) else None
        if isinstance(path, str) and ".." not in path.split("/"):
            name = f"/{path}"
            content = _read(folder, name)
    return None if content is None else CopyRecord.from_json(content, f"{folder.url}{name}")


def _read(folder: Folder, name: str) -> bytes | None:
    """Return an object below a folder, None if there is none."""
    try:
        with folder.read_errors():
            content: bytes = ask(folder.filesystem, "cat_file", folder.path + name)
    except FileNotFoundError:
        return None
    return content


def _read_json(folder: Folder, name: str) -> dict[str, Any]:
    """Return a JSON object below a folder, an empty one if there is none."""
    content = _read(folder, name)
    try:
        stored = {} if content is None else parse_json(content)
    except ValueError as exc:
        raise StorageError(f"{folder.url}{name} is damaged: {exc!r}", url=folder.url) from exc
    if not isinstance(stored, dict):
        raise StorageError(f"{folder.url}{name} is damaged: not a JSON object", url=folder.url)
    return stored
