"""Writes references into an Icechunk repository: virtual chunks with a check of each file.

Each export is one commit: readers see the one before or this one. Icechunk refuses to read a chunk
of a file whose ETag is another, or that was modified after the time recorded.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype

from intake_tiffstack.arrays.stack_array import StackArray
from intake_tiffstack.copies.attributes import Coords, checked_dims, encode_attributes
from intake_tiffstack.copies.claim import STALE_SECONDS
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.record import (
    IN_DOCUMENT,
    CopyImage,
    CopyRecord,
    Origin,
    RecordDraft,
    Verified,
)
from intake_tiffstack.copies.verify import SAMPLES, Verify
from intake_tiffstack.errors import (
    OptionError,
    TargetBusyError,
    TargetExistsError,
    UnsupportedFileError,
    VerificationError,
)
from intake_tiffstack.export.growth import check_growth
from intake_tiffstack.export.ome_zarr.documents import Description
from intake_tiffstack.export.ome_zarr.images import find_images
from intake_tiffstack.export.ome_zarr.levels import plan_levels
from intake_tiffstack.progress import Progress
from intake_tiffstack.references.icechunk_repository import (
    array_path,
    container_of,
    icechunk_errors,
    icechunk_storage,
    is_there,
    open_repository,
    require_icechunk,
)
from intake_tiffstack.references.write import ADVICE, as_files, refer
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.mistaken import refuse_misspelled
from intake_tiffstack.storage.reference_targets import ICECHUNK, trust_references
from intake_tiffstack.storage.urls import absolute_url, is_local
from intake_tiffstack.to_json import to_strict_json

__all__ = ["write_icechunk"]

_is_of_creation = re.compile(
    r"(config\.yaml|repo|(snapshots|transactions)/1CECHNKREP0F1RSTCMT0|refs/branch\.main/ref\.json)"
    r"(#\d+)?"
).fullmatch
"""Whether Icechunk creates a repository with this object: the first snapshot has the same name in
all of them, and local files are first written with a number behind their names."""


def write_icechunk(
    source: StackArray,
    url: str | os.PathLike[str],
    *,
    dims: Sequence[str],
    coords: Coords,
    attrs: Mapping[str, Any],
    origin: Origin | None = None,
    storage_options: Mapping[str, Any] | None = None,
    ome: bool = False,
    append: str | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    verify: Verify = "sample",
    sha256: bool = False,
    progress: Progress = None,
) -> ExportPlan:
    """Commit references to an Icechunk repository: a Zarr over the bytes of the original files.

    Parameters
    ----------
    source, url, dims, coords, attrs, origin, storage_options, dry_run, verify, sha256, progress
        See :func:`~intake_tiffstack.references.write_references`; *url* ends in ``.icechunk`` and
        is local or on S3.
    ome : bool
        Whether the group is an OME-Zarr 0.5 of one level, instead of the array ``pixels``.
    append : str, optional
        Dim along which the newest snapshot is extended by what has arrived.
    overwrite : bool
        Whether a new snapshot replaces the one that exists; earlier ones stay in the history.

    Returns
    -------
    ExportPlan
        What was written, or would be.

    Raises
    ------
    UnsupportedFileError
        If files cannot be referred to, or Zarr format 3 has no name for their codec.
    TargetExistsError
        If the repository exists (a TargetBusyError if another writer commits first).
    OptionError
        If an option does not fit, or files and repository are not where Icechunk reads.
    FileChangedError
        If a file that the repository refers to has changed, and *append* is given.
    VerificationError
        If a chunk does not read as it does through this package; nothing is committed.
    """
    place = _Place.of(url, storage_options)
    source = as_files(source)
    sizes = dict(zip(checked_dims(dims, source.shape), source.shape, strict=True))
    trust_references(place.url)
    state = place.inspect()
    if state == "committed" and not overwrite and append is None:
        raise TargetExistsError(
            f"{place.url} exists already and is left as it is; overwrite=True commits a new "
            "snapshot, append= extends it",
            url=place.url,
        )
    path, group_attrs = "pixels", dict[str, Any]()
    if ome:
        path, group_attrs = "0", _describe_image(place.url, sizes, coords, attrs, source.dtype)
    plan = ExportPlan(place.url, "icechunk", 0, 0, 0, len(source.files), 0, 1, ())
    if dry_run:
        return plan
    references = refer(source, progress)
    stored = encode_attributes(sizes, source.dtype, coords, attrs, 3)
    metadata = _translate(references.pop(".zarray"), stored, list(sizes), place.url)
    remote = source.options.reader.storage_options
    with icechunk_errors(place.url, "written"):
        if state != "committed":
            place.create([ref[0] for ref in references.values()], remote, state)
        session = open_repository(place.url, place.options, remote).writable_session("main")
        store = session.store
        before, first = None, 0
        axis = list(sizes).index(append) if append in sizes else 0
        if state == "committed" and append is not None and not overwrite:
            before, old = _check_before(store, place.url, path, metadata, origin, sizes, append)
            first = old // metadata.chunk_grid.chunk_shape[axis]
            if old == sizes[append] and before.sizes == sizes:
                return plan
        if before is None:
            zarr.create_group(store, overwrite=True)
        _set_documents(store, path, metadata)
        _set_references(store, path, references, source.files, axis, first, place.url)
        verified = Verified(False)
        if verify:
            array = zarr.open_array(store, path=path, mode="r")
            verified = _verify(source, array, verify, axis, first * array.chunks[axis])
        if origin is not None:
            images = [CopyImage("", {dim: dim for dim in sizes})]
            draft = RecordDraft(origin, "icechunk", sizes, source.dtype, images, sha256, before)
            group_attrs[IN_DOCUMENT] = json.loads(draft.finish(verified))
        zarr.open_group(store, mode="r+").attrs.update(group_attrs)
        what = "created" if before is None else "extended"
        _commit(session, f"{what}: {len(source.files):,} files", place.url, place.options)
        return plan


_State = Literal["none", "made", "committed"]
"""Of a repository; ``made``: whoever created it may have been stopped before the first commit."""


@dataclass(frozen=True)
class _Place:
    """Where a repository is, or will be."""

    url: str
    options: dict[str, Any] = field(repr=False)
    """For the storage of the repository."""
    storage: Any = field(repr=False)
    """The same as Icechunk has it."""

    @classmethod
    def of(cls, url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> Self:
        """Return the place at a URL; nothing is read."""
        text, options = _checked_url(url), dict(storage_options or {})
        return cls(text, options, icechunk_storage(text, options))

    def inspect(self) -> _State:
        """Return what is there."""
        if not is_there(self.url, self.options):
            return "none"
        with icechunk_errors(self.url, "read"):
            if not require_icechunk().Repository.exists(self.storage):
                return "none"
            has_commits = _has_commits(open_repository(self.url, self.options, {}))
            return "committed" if has_commits else "made"

    def create(self, urls: Sequence[str], remote: Mapping[str, Any], state: _State) -> None:
        """Create a repository that may refer to files, which are opened with *remote*."""
        icechunk = require_icechunk()
        config = icechunk.RepositoryConfig.default()
        config.set_virtual_chunk_container(container_of(urls, remote))
        if state == "made":
            icechunk.Repository.open(self.storage, config).save_config()
            return
        folder = Folder.at(self.url, self.options)
        _clear_begun(folder)
        if is_local(self.url):
            with folder.write_errors():
                os.makedirs(folder.path, exist_ok=True)  # where Icechunk cannot, it panics
        with icechunk_errors(self.url, "created"):
            _ = icechunk.Repository.create(self.storage, config)


def _set_references(
    store: Any,
    path: str,
    references: Mapping[str, Any],
    files: Iterable[File],
    axis: int,
    first: int,
    url: str,
) -> None:
    """Set the references of all chunks whose number along an axis is *first* or higher.

    Raises
    ------
    OptionError
        If the repository was created for files elsewhere.
    """
    by_url = {_plain(file.url): file for file in files}
    specs = [
        _spec(index, ref, by_url)
        for name, ref in references.items()
        if (index := [int(i) for i in name.split(".")])[axis] >= first
    ]
    invalid = store.set_virtual_refs(f"/{path}", specs, validate_containers=True)
    if invalid:
        raise OptionError(
            f"{url} may not refer to {len(invalid):,} chunks, because their files are outside "
            "of the folder or bucket that it was created for; write another repository"
        )


def _commit(session: Any, message: str, url: str, options: Mapping[str, Any]) -> None:
    """Commit a session.

    Raises
    ------
    TargetBusyError
        If another writer has committed since it began.
    """
    writer = uuid.uuid4().hex
    try:
        session.commit(message, metadata={"writer": writer})
    except require_icechunk().ConflictError as exc:
        # the answer to a commit may be lost, and Icechunk then commits once more
        newest = next(iter(open_repository(url, options, {}).ancestry(branch="main")))
        if newest.metadata.get("writer") != writer:
            raise TargetBusyError(
                f"another process committed to {url} first; the same call starts from its snapshot",
                url=url,
            ) from exc


def _clear_begun(folder: Folder) -> None:
    """Remove the beginning of a repository whose creation was stopped: Icechunk wants none there.

    Raises
    ------
    TargetExistsError
        If anything else is there; a TargetBusyError if another process may be creating it now.
    """
    found = sorted(folder.find())
    foreign = [key for key in found if not _is_of_creation(key)]
    if foreign:
        raise TargetExistsError(
            f"{folder.url} exists already (a folder with {foreign[0]!r} in it), is no Icechunk "
            "repository and is left as it is; give another URL",
            url=folder.url,
        )
    with folder.write_errors():
        times = [folder.filesystem.modified(f"{folder.path}/{key}") for key in found]
    age = time.time() - max((t.timestamp() for t in times), default=0)
    if age < STALE_SECONDS:
        raise TargetBusyError(
            f"{folder.url} holds the beginning of a repository: another process is creating it, or "
            f"was stopped {age:.0f} s ago. Call again after {STALE_SECONDS:.0f} s, when it is "
            f"replaced, or remove {', '.join(found)} there",
            url=folder.url,
        )
    folder.remove(found)


def _has_commits(repository: Any) -> bool:
    """Return whether anything was committed: an export that failed leaves an empty repository."""
    newest = next(iter(repository.ancestry(branch="main")))
    return newest.parent_id is not None


def _checked_url(url: str | os.PathLike[str]) -> str:
    """Return the URL of a repository, local ones as an absolute path."""
    text = os.fspath(url).rstrip("/")
    refuse_misspelled(text)
    if not text.endswith(ICECHUNK):
        raise OptionError(f"the name of a repository must end in {ICECHUNK}, but got {text}")
    return absolute_url(text) if is_local(text) else text


def _describe_image(
    url: str, sizes: Mapping[str, int], coords: Coords, attrs: Mapping[str, Any], dtype: Any
) -> dict[str, Any]:
    """Return the attributes of an OME-Zarr of one level.

    Raises
    ------
    OptionError
        If the dims are not axes in the order of OME-Zarr: no pixel is moved.
    """
    images = find_images(sizes, coords, attrs, {}, None)
    if [axis.dim for axis in images.axes] != list(sizes):
        raise OptionError(
            f"an OME-Zarr has the axes t c z y x in this order, but the dims are {', '.join(sizes)}"
            "; references move no pixel"
        )
    levels = plan_levels(1, tuple(sizes.values()), images.axes)
    name = url.rpartition("/")[2].removesuffix(ICECHUNK)
    kept = to_strict_json(attrs, "attrs")
    documents = Description("0.5", name, images, levels, "mean", dtype, kept).documents([])
    found: dict[str, Any] = json.loads(documents["zarr.json"])["attributes"]
    return found


def _translate(zarray: str, attributes: Mapping[str, Any], dims: list[str], url: str) -> Any:
    """Return the metadata of an array in format 3, by VirtualiZarr's names of codecs.

    Raises
    ------
    UnsupportedFileError
        If format 3 has no name for a codec.
    """
    from virtualizarr.codecs import zarr_codec_config_to_v3
    from virtualizarr.manifests.utils import create_v3_array_metadata

    stored = json.loads(zarray)
    dtype, filters = np.dtype(stored["dtype"]), stored["filters"] or []
    if any(config["id"].startswith("imagecodecs") for config in filters):
        raise UnsupportedFileError(
            f"{url}: Zarr format 3 has no name for {filters[0]['id']} (LZW, predictors), which "
            f"format='references' has; {ADVICE}"
        )
    endian = "big" if dtype.byteorder == ">" else "little"
    codecs = [
        {"name": "bytes", "configuration": {"endian": endian}},
        *[zarr_codec_config_to_v3(config) for config in filters],
    ]
    return create_v3_array_metadata(
        shape=tuple(stored["shape"]),
        data_type=dtype,
        chunk_shape=tuple(stored["chunks"]),
        fill_value=0 if stored["fill_value"] is None else stored["fill_value"],
        codecs=codecs,
        attributes=dict(attributes),
        dimension_names=dims,
    )


def _set_documents(store: Any, path: str, metadata: Any) -> None:
    """Write the metadata of an array, whose chunks are virtual."""
    from zarr.core.sync import sync

    for name, content in metadata.to_buffer_dict(default_buffer_prototype()).items():
        sync(store.set(f"{path}/{name}", content))


def _plain(url: str) -> str:
    return f"file://{url}" if is_local(url) else url


def _spec(index: list[int], reference: Sequence[Any], files: Mapping[str, File]) -> Any:
    """Return a virtual chunk, with the ETag or time that its file must have when it is read."""
    location, offset, length = reference
    file = files[location]
    modified = None
    if not file.etag and file.mtime_ns >= 0:  # Icechunk compares whole seconds
        modified = datetime.fromtimestamp(math.ceil(file.mtime_ns / 1e9), UTC)
    return require_icechunk().VirtualChunkSpec(
        index, location, offset, length, file.etag or None, modified
    )


def _check_before(
    store: Any,
    url: str,
    path: str,
    metadata: Any,
    origin: Origin | None,
    sizes: Mapping[str, int],
    dim: str,
) -> tuple[CopyRecord, int]:
    """Return the record and the length of the snapshot that is extended.

    Raises
    ------
    OptionError
        If it is stored otherwise.
    TargetExistsError
        If it has no record.
    """
    group = zarr.open_group(store, mode="r")
    stored = group.attrs.get(IN_DOCUMENT)
    if stored is None or origin is None or array_path(group) != path:
        raise TargetExistsError(
            f"{url} has no audit record of such an array, so nothing can be appended; "
            "overwrite=True commits a new snapshot",
            url=url,
        )
    record = CopyRecord.from_json(stored, url)  # type: ignore[arg-type]
    old = check_growth(url, dim, record, origin, sizes)
    array: Any = zarr.open_array(store, path=path, mode="r")
    now, then = (
        {**m.to_dict(), "shape": None, "attributes": None} for m in (metadata, array.metadata)
    )
    if now != then:
        raise OptionError(
            f"the chunks or codecs of the files are not those of {url}; overwrite=True commits a "
            "new snapshot"
        )
    return record, old


def _verify(source: StackArray, array: Any, verify: Verify, axis: int, start: int) -> Verified:
    """Compare some or all chunks that are new with what this package reads.

    Raises
    ------
    VerificationError
        If they differ.
    """
    ranges = [
        range(start if i == axis else 0, n, c)
        for i, (n, c) in enumerate(zip(array.shape, array.chunks, strict=True))
    ]
    total = math.prod(map(len, ranges))
    chosen: Any = range(total)
    if verify == "sample":
        chosen = sorted({int(n) for n in np.linspace(0, total - 1, SAMPLES)})
    nbytes = 0
    for number in chosen:
        at = np.unravel_index(number, [len(r) for r in ranges])
        region = tuple(
            slice(r[int(i)], min(r[int(i)] + c, n))
            for r, i, c, n in zip(ranges, at, array.chunks, array.shape, strict=True)
        )
        expected = np.asarray(source[region])
        if np.asarray(array[region]).astype(expected.dtype).tobytes() != expected.tobytes():
            raise VerificationError(
                f"the virtual chunks do not give the pixels of {region}, so nothing is committed; "
                f"{ADVICE}"
            )
        nbytes += expected.nbytes
    return Verified(verify, len(chosen), nbytes)
