"""An OME-Zarr in one file, ``.ozx``.

The copy is written into a folder beside the file, so that the same call resumes it, and is then
packed.

References
----------
RFC-9 of OME-NGFF, https://ngff.openmicroscopy.org/rfc/9/.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import wraps
from typing import Any

from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.zarr_documents import CLAIMS
from intake_tiffstack.errors import OptionError, TargetExistsError
from intake_tiffstack.export.passes import Source
from intake_tiffstack.storage.folder import PARTIAL, Folder, move_file
from intake_tiffstack.storage.urls import is_local
from intake_tiffstack.storage.zipped import ZIPPED

__all__ = ["zippable"]

Write = Callable[..., ExportPlan]


def zippable(write: Write) -> Write:
    """Return a writer that also writes one file, if the URL ends in ``.ozx``."""

    @wraps(write)
    def writer(source: Source, url: str | os.PathLike[str], **options: Any) -> ExportPlan:
        if not os.fspath(url).endswith(ZIPPED):
            return write(source, url, **options)
        return _write_zipped(write, source, url, **options)

    return writer


def _write_zipped(
    write: Write,
    source: Source,
    url: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> ExportPlan:
    """Write an OME-Zarr into a folder, and pack it into the file at *url*."""
    if options.get("version") == "0.4":
        raise OptionError(
            f"{os.fspath(url)}: an {ZIPPED} is of OME-Zarr 0.5 or 0.6; leave version out"
        )
    target = Folder.at(url, storage_options)
    _refuse(target, overwrite=overwrite)
    name = options.pop("name", None)
    with _work_folder(target) as folder:
        plan = write(
            source,
            folder,
            overwrite=True,  # of an attempt at another copy
            dry_run=dry_run,
            name=name or target.url.rpartition("/")[2].removesuffix(ZIPPED).removesuffix(".ome"),
            **options,
        )
        if not dry_run:
            _publish(folder, target, options.get("version", "0.5"), overwrite=overwrite)
    return replace(plan, url=target.url, objects=1)


def _refuse(target: Folder, *, overwrite: bool) -> None:
    """Raise if something exists that must not be replaced."""
    with target.write_errors():
        target.filesystem.invalidate_cache(target.path.rpartition("/")[0])
        exists = target.filesystem.exists(target.path)
        is_folder = exists and target.filesystem.isdir(target.path)
    if is_folder or (exists and not overwrite):
        what = "a folder" if is_folder else "a file"
        advice = "" if is_folder else "overwrite=True replaces it, or "
        raise TargetExistsError(
            f"{target.url} exists already ({what}) and is left as it is; {advice}give another URL",
            url=target.url,
        )


@contextmanager
def _work_folder(target: Folder) -> Iterator[str]:
    """Yield the folder that is packed: beside a local file and kept after a failure, else anew."""
    if not is_local(target.url):
        with tempfile.TemporaryDirectory(prefix="tiffstack-") as folder:
            yield f"{folder}/{uuid.uuid4().hex}"
        return
    yield f"{target.path}{PARTIAL}"


def _publish(folder: str, target: Folder, version: str, *, overwrite: bool) -> None:
    """Pack a folder, give the file its name, and remove the folder."""
    own = f"{folder}.{uuid.uuid4().hex}"
    packed = f"{own}{PARTIAL}"
    os.rename(folder, own)  # out of the way of a writer that comes now
    try:
        with target.write_errors():
            _pack(own, packed, version)
            if is_local(target.url):
                _move(packed, target, overwrite=overwrite)
            else:
                target.filesystem.put_file(packed, target.path)
                target.filesystem.invalidate_cache(target.path.rpartition("/")[0])
    except BaseException:  # an interrupt too leaves the folder to be resumed
        if not os.path.lexists(folder):
            os.rename(own, folder)
        raise
    finally:
        with suppress(FileNotFoundError):
            os.unlink(packed)
    shutil.rmtree(own)


def _move(packed: str, target: Folder, *, overwrite: bool) -> None:
    """Give the packed file its name."""
    try:
        move_file(packed, target.path, overwrite=overwrite)
    except FileExistsError as exc:
        raise TargetExistsError(
            f"{target.url} was written by another program meanwhile and is left as it is",
            url=target.url,
        ) from exc


def _pack(folder: str, path: str, version: str) -> None:
    """Pack a folder: documents first, the root's before all; nothing is compressed once more."""
    found = [
        os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
        for parent, _, names in os.walk(folder)
        for name in names
    ]
    keys = [key for key in found if not key.startswith(f"{CLAIMS}/")]
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for key in sorted(keys, key=_place_in_file):
            archive.write(f"{folder}/{key}", key)
        marks = {"version": version, "zipFile": {"centralDirectory": {"jsonFirst": True}}}
        archive.comment = json.dumps({"ome": marks}).encode()


def _place_in_file(key: str) -> tuple[bool, int, str]:
    """Return what a name is sorted by.

    >>> keys = ["0/c/0/0", "a.json", "B/1/zarr.json", "0/zarr.json", "zarr.json"]
    >>> sorted(keys, key=_place_in_file)
    ['zarr.json', '0/zarr.json', 'B/1/zarr.json', '0/c/0/0', 'a.json']
    """
    is_document = key.rpartition("/")[2] == "zarr.json"
    return not is_document, key.count("/") if is_document else 0, key
