"""A copy compared with its sources: the files in its audit record, and their pixels."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from intake_tiffstack.collection.find_files import find_files, take_listing
from intake_tiffstack.copies.record import CopyImage, CopyRecord, hash_file
from intake_tiffstack.copies.verify import SAMPLES
from intake_tiffstack.errors import OptionError, StorageError, TiffStackError, UnreadableFileError
from intake_tiffstack.export.formats import open_copy, read_copy_record
from intake_tiffstack.options import Options
from intake_tiffstack.stack import TiffStack
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.concurrency import map_concurrently
from intake_tiffstack.storage.file_changes import describe_changes, without_secrets
from intake_tiffstack.storage.files import File, FileTable
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.reference_targets import is_references
from intake_tiffstack.storage.zipped import inside_zip

if TYPE_CHECKING:
    from intake_tiffstack.copies.open_zarr import ZarrCopy

__all__ = ["CopyCheck", "verify"]


@dataclass(eq=False)
class CopyCheck:
    """What was checked of a copy, and what differs; true if nothing does.

    Examples
    --------
    >>> bool(CopyCheck("scan.zarr")), bool(CopyCheck("scan.zarr", problems=["a chunk is lost"]))
    (True, False)
    """

    url: str
    record: str = ""
    """The audit record in one line, empty if the copy has none."""
    shape: tuple[int, ...] = ()
    dims: tuple[str, ...] = ()
    dtype: str = ""
    arrays: int = 0
    objects: int = 0
    """Chunks and shards that are there."""
    absent: int = 0
    """Chunks and shards that are not; they read as the fill value."""
    files: int = 0
    """Files whose size, time or ETag was compared with the record."""
    hashed: int = 0
    """Files whose SHA-256 was compared with the record."""
    read: int = 0
    """Blocks that were read and decoded."""
    compared: int = 0
    """Blocks that were compared with the files."""
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return asdict(self)


def verify(
    copy: Any,
    *,
    source: Any = None,
    pixels: Literal["sample", "all", False] = "sample",
    sha256: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    source_options: Mapping[str, Any] | None = None,
) -> CopyCheck:
    """Return what is right and wrong with a copy, now, compared with the files it was made of.

    Chunks that are lost, files that are new, gone or changed since the copy was made, and pixels
    that differ are found; the levels of a pyramid below the first are checked to be there.

    Parameters
    ----------
    copy : str, path-like or TiffStackZarrSource
        A Zarr, an OME-Zarr, or a document of references.
    source : TiffStack, TiffStackSource or False, optional
        The files; None for those in the audit record of the copy, opened with the options in it.
        False leaves them out.
    pixels : {"sample", "all", False}
        Whether a few blocks are read and compared with the files, or all, or none.
    sha256 : bool
        Whether the files are hashed and compared with the record, which has hashes if the copy was
        made by ``export(sha256=True)``.
    storage_options : mapping, optional
        For fsspec, of the copy.
    source_options : mapping, optional
        For fsspec, of the files, if no `source` is given; records hold none.

    Returns
    -------
    CopyCheck
        True if nothing differs; its ``problems`` say what does.

    Raises
    ------
    FilesNotFoundError
        If there is no copy.
    OptionError
        If an option is wrong, or there is nothing to compare hashes with.

    Examples
    --------
    >>> from intake_tiffstack import open_stack
    >>> plan = open_stack("raw/*.tif", pattern="lattice").export("scan.zarr")
    >>> check = verify("scan.zarr")
    >>> bool(check), check.files, check.problems
    (True, 6, [])
    """
    if pixels not in ("sample", "all", False):
        raise OptionError(f"pixels must be 'sample', 'all' or False, but got {pixels!r}")
    if isinstance(getattr(copy, "options", None), Options):
        storage_options = {**copy.options.storage_options, **(storage_options or {})}
        copy = copy.options.urlpath
    url, options = inside_zip(os.fspath(copy), dict(storage_options or {}))
    record = read_copy_record(url, options)
    if sha256 and (record is None or not any(record.sha256)):
        raise OptionError(f"{url} has no hashes in its record: export(sha256=True) writes them")
    check = CopyCheck(url, "" if record is None else str(record))
    stack = _find_source(source, record, source_options, check)
    if stack is not None and record is not None:
        _compare_files(stack, record, check)
        if sha256:
            _compare_hashes(stack, record, check)
    if not is_references(url):
        _count_objects(Folder.at(url, options), check)
    remote = (
        dict(stack.options.storage_options) if stack is not None else dict(source_options or {})
    )
    _check_images(url, options, remote, record, stack, check, pixels)
    return check


# -- the files -----------------------------------------------------------------------------------


def _find_source(
    source: Any,
    record: CopyRecord | None,
    source_options: Mapping[str, Any] | None,
    check: CopyCheck,
) -> TiffStack | None:
    """Return the collection to compare with, None if there is none."""
    if source is False:
        return None
    if source is not None:
        stack = source if isinstance(source, TiffStack) else getattr(source, "stack", None)
        if not isinstance(stack, TiffStack):
            raise OptionError(
                f"source must be a TiffStack, a TiffStackSource or False, but got {source!r}"
            )
        return stack
    if record is None:
        return None
    stored = record.content["source"]
    given = {**stored["options"], "urlpath": stored["urlpath"]}
    if "{{ env(" in json.dumps(given):
        check.problems.append(
            "the files were not compared: their URLs hold secrets, which the record has not; give "
            "`source`"
        )
        return None
    return TiffStack(Options.parse({**given, "storage_options": dict(source_options or {})}))


def _compare_files(stack: TiffStack, record: CopyRecord, check: CopyCheck) -> None:
    """Compare the files as they are listed now with the record."""
    check.files = len(record.files)
    try:
        options = replace(stack.options, unmatched="ignore")
        now = without_secrets(find_files(options, take_listing(options)).files)
    except TiffStackError as exc:
        check.problems.append(f"none of its {len(record.files):,} files is found: {exc}")
        return
    before = FileTable.from_files([*record.files, *record.left_out])
    changes = describe_changes(before, now)
    if changes is not None:
        check.problems.append(f"of its files {changes}")


def _compare_hashes(stack: TiffStack, record: CopyRecord, check: CopyCheck) -> None:
    """Hash the files that are as large as before, and compare them with the record."""
    options = stack.options.storage_options

    def hash_one(file: File) -> str | None:
        try:
            return hash_file(File(file.url, -1, -1, None), options)
        except (FileNotFoundError, UnreadableFileError):  # named by the comparison of files
            return None

    found = map_concurrently(hash_one, list(record.files))
    for file, known, digest in zip(record.files, record.sha256, found, strict=True):
        check.hashed += digest is not None
        if digest is not None and known is not None and digest != known:
            check.problems.append(f"{file.url} has other bytes: its SHA-256 differs")


# -- the copy ------------------------------------------------------------------------------------


def _count_objects(folder: Folder, check: CopyCheck) -> None:
    """Count the chunks and shards of every array below a folder. One listing."""
    found = folder.find()
    for name in sorted(found):
        path, _, last = name.rpartition("/")
        if last not in ("zarr.json", ".zarray"):
            continue
        document = json.loads(ask(folder.filesystem, "cat_file", f"{folder.path}/{name}"))
        if last == "zarr.json" and document.get("node_type") != "array":
            continue
        check.arrays += 1
        keys = {f"{path}/{key}".lstrip("/") for key in _chunk_keys(document)}
        missing = keys - found
        check.objects += len(keys) - len(missing)
        check.absent += len(missing)
        if missing:
            check.problems.append(
                f"array {path or '/'}: {len(missing):,} of {len(keys):,} chunks are not there and "
                f"read as {document.get('fill_value')}, such as {min(missing)}"
            )


def _chunk_keys(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the objects of an array, by its Zarr metadata. Pure.

    >>> list(_chunk_keys({"zarr_format": 2, "shape": [3], "chunks": [2]}))
    ['0', '1']
    """
    if document["zarr_format"] == 2:
        chunks, separator = document["chunks"], document.get("dimension_separator", ".")
        start = ""
    else:
        chunks = document["chunk_grid"]["configuration"]["chunk_shape"]
        encoding = document["chunk_key_encoding"]
        is_v2 = encoding["name"] == "v2"
        separator = encoding.get("configuration", {}).get("separator", "." if is_v2 else "/")
        start = "" if is_v2 else f"c{separator}"
    counts = [-(-n // c) for n, c in zip(document["shape"], chunks, strict=True)]
    if not counts:
        yield start.rstrip(separator) or "0"
    else:
        for index in itertools.product(*map(range, counts)):
            yield start + separator.join(map(str, index))


def _check_images(
    url: str,
    storage_options: Mapping[str, Any],
    remote_options: Mapping[str, Any],
    record: CopyRecord | None,
    stack: TiffStack | None,
    check: CopyCheck,
    pixels: Literal["sample", "all", False],
) -> None:
    """Open the images of the copy, and read and compare blocks of them."""
    images: Sequence[CopyImage | None] = (None,) if record is None else record.images
    if pixels != "all":
        chosen = np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).astype(int)
        images = [images[i] for i in sorted(set(chosen.tolist()))]
    is_alike = stack is not None and _is_alike(stack, record, check)
    for image in images:
        copy = open_copy(
            url,
            storage_options,
            image=(image and image.path) or None,
            remote_options=remote_options if is_references(url) else None,
        )
        if not check.shape:
            check.shape, check.dims = copy.array.shape, copy.dims
            check.dtype = str(copy.array.dtype)
        files = stack if is_alike else None
        image = image or CopyImage("", {dim: dim for dim in copy.dims})
        if files is not None and not _fits(copy, image, files, check):
            files = None
        if pixels:
            _read_blocks(copy, image, files, check, all_blocks=pixels == "all")


def _is_alike(stack: TiffStack, record: CopyRecord | None, check: CopyCheck) -> bool:
    """Return whether the files open, and to the array that was copied."""
    try:
        sizes = stack.sizes
    except TiffStackError as exc:
        check.problems.append(f"pixels were not compared, because the files do not open: {exc}")
        return False
    if record is not None and sizes != record.sizes:
        check.problems.append(f"the copy was made of {record.sizes}, the files have {sizes}")
        return False
    return True


def _fits(copy: ZarrCopy, image: CopyImage, files: TiffStack, check: CopyCheck) -> bool:
    """Return whether an image has the shape of its part of the files."""
    found = {
        image.dims.get(dim, dim): n for dim, n in zip(copy.dims, copy.array.shape, strict=True)
    }
    expected = {dim: n for dim, n in files.sizes.items() if dim not in image.at}
    if found != expected:
        check.problems.append(f"the copy has {found}, the files have {expected}")
    return found == expected


def _read_blocks(
    copy: ZarrCopy,
    image: CopyImage,
    files: TiffStack | None,
    check: CopyCheck,
    *,
    all_blocks: bool,
) -> None:
    array = copy.array
    for index in _chosen(array.numblocks, all_blocks):
        block = array.blocks[index]
        try:
            pixels = np.asarray(block.compute())
        except (StorageError, UnreadableFileError) as exc:
            check.problems.append(str(exc))
            continue
        except (RuntimeError, ValueError) as exc:  # a codec that cannot decode
            check.problems.append(f"block {index} cannot be read: {exc}")
            continue
        check.read += 1
        if files is not None:
            _compare(pixels, index, copy, image, files, check)


def _chosen(numblocks: Sequence[int], all_blocks: bool) -> Iterator[tuple[int, ...]]:
    """Yield the indices of all blocks, or of a few spread evenly. Pure."""
    total = math.prod(numblocks)
    wanted = range(total) if all_blocks else np.linspace(0, total - 1, min(SAMPLES, total))
    for flat in wanted:
        yield tuple(int(i) for i in np.unravel_index(int(flat), numblocks))


def _compare(
    pixels: Any,
    index: tuple[int, ...],
    copy: ZarrCopy,
    image: CopyImage,
    files: TiffStack,
    check: CopyCheck,
) -> None:
    """Compare one block with the same region of the files, whose dims may be in another order."""
    dims = [image.dims.get(dim, dim) for dim in copy.dims]
    region = {
        dim: slice(sum(lengths[:i]), sum(lengths[: i + 1]))
        for dim, lengths, i in zip(dims, copy.array.chunks, index, strict=True)
    }
    whole = {dim: slice(i, i + 1) for dim, i in image.at.items()} | region
    try:
        truth = np.asarray(files.host_array[tuple(whole[dim] for dim in files.dims)])
    except TiffStackError as exc:
        check.problems.append(f"the files cannot be read for the comparison: {exc}")
        return
    left_out = tuple(files.dims.index(dim) for dim in image.at)
    kept = [dim for dim in files.dims if dim not in image.at]
    truth = truth.squeeze(left_out).transpose([kept.index(dim) for dim in dims])
    check.compared += 1
    differs = pixels != truth
    if truth.dtype.kind in "fc":
        differs &= ~(np.isnan(pixels) & np.isnan(truth))
    if differs.any():
        first = np.unravel_index(int(differs.argmax()), differs.shape)
        where = ", ".join(
            f"{dim} {region[dim].start + int(i)}" for dim, i in zip(dims, first, strict=True)
        )
        where += "".join(f", {dim} {i}" for dim, i in image.at.items())
        n = int(np.count_nonzero(differs))
        check.problems.append(f"{n:,} pixels differ from the files, the first at {where}")
