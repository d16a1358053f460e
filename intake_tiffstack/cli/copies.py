"""``tiffstack export`` and ``tiffstack verify``: a copy planned, written and checked."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import intake
import numpy as np
from dask.system import CPU_COUNT
from dask.utils import format_time
from rich.text import Text

from intake_tiffstack.cli.source import open_source
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.copies.verify import SAMPLES
from intake_tiffstack.errors import OptionError, StorageError, TiffStackError, UnreadableFileError
from intake_tiffstack.export.formats import open_copy
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from rich.console import Console

    from intake_tiffstack.copies.open_zarr import ZarrCopy
    from intake_tiffstack.stack import TiffStack

__all__ = ["Check", "check_copy", "export", "print_check"]


def export(
    url: str,
    options: Mapping[str, Any],
    destination: str,
    format: str,
    given: Mapping[str, Any],
    console: Console,
    *,
    dry_run: bool,
) -> None:
    """Write a copy, or show its plan."""
    stack, _ = open_source(url, options)
    if not dry_run:
        started = time.perf_counter()
        stack.export(destination, format=format, **given)  # type: ignore[call-overload]
        taken = format_time(time.perf_counter() - started).strip()
        console.print(Text(f"{destination}: {_shape(stack)} written in {taken}"), soft_wrap=True)
        return
    plan = stack.export(destination, format=format, dry_run=True, **given)  # type: ignore[call-overload]
    _print_plan(plan, stack, console)


def _shape(stack: TiffStack) -> str:
    return " x ".join(f"{n} {dim}" for dim, n in stack.sizes.items())


def _print_plan(plan: ExportPlan, stack: TiffStack, console: Console) -> None:
    console.print(Text(str(plan)), soft_wrap=True)
    if not plan.nbytes:
        return
    block = stack.to_dask().blocks[(0,) * len(stack.dims)]
    started = time.perf_counter()
    block.compute()
    seconds = time.perf_counter() - started
    total = seconds * math.prod(stack.shape) / max(math.prod(block.shape), 1)
    threads = min(CPU_COUNT, math.prod(map(len, stack.chunks)))
    console.print(
        f"about {format_time(total / threads).strip()} to read on {threads} threads, as one chunk "
        "took here; compression and the network come on top",
        highlight=False,
    )


# -- verify --------------------------------------------------------------------------------------


@dataclass(eq=False)
class Check:
    """What was checked of a copy, and what is wrong."""

    url: str
    shape: tuple[int, ...] = ()
    dims: tuple[str, ...] = ()
    dtype: str = ""
    arrays: int = 0
    objects: int = 0
    """Chunks and shards that are there."""
    absent: int = 0
    """Chunks and shards that are not; they read as the fill value."""
    read: int = 0
    """Blocks that were read and decoded."""
    compared: int = 0
    """Blocks that were compared with the files."""
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
        return asdict(self)


def check_copy(
    url: str, storage_options: Mapping[str, Any], *, against: str | None, all_chunks: bool
) -> Check:
    """Return what is right and wrong with a copy.

    Parameters
    ----------
    url : str
        A Zarr, an OME-Zarr, or a document of references.
    storage_options : mapping
        Passed to fsspec.
    against : str, optional
        The files it was made from, ``FILE.yml:ENTRY`` or a URL; pixels are compared.
    all_chunks : bool
        Whether every block is read, or a few.

    Raises
    ------
    FilesNotFoundError
        If there is no copy.
    """
    check = Check(url)
    copy = open_copy(url, storage_options)
    check.shape, check.dims = copy.array.shape, copy.dims
    check.dtype = str(copy.array.dtype)
    if not url.endswith(".json"):
        _count_objects(Folder.at(url, storage_options), check)
    _read_blocks(
        copy, None if against is None else _open_files(against, storage_options), check, all_chunks
    )
    return check


def _count_objects(folder: Folder, check: Check) -> None:
    """Count the chunks and shards of every array below a folder. One listing."""
    found = folder.find()
    for name in sorted(found):
        path, _, last = name.rpartition("/")
        if last not in ("zarr.json", ".zarray"):
            continue
        document = json.loads(folder.filesystem.cat_file(f"{folder.path}/{name}"))
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


def _open_files(against: str, storage_options: Mapping[str, Any]) -> TiffStack:
    catalog, colon, entry = against.rpartition(":")
    if colon and catalog.lower().endswith((".yml", ".yaml")):
        stack: TiffStack = intake.open_catalog(catalog)[entry].stack
        return stack
    is_remote = not is_local(against)
    return open_source(against, {"storage_options": storage_options} if is_remote else {})[0]


def _read_blocks(copy: ZarrCopy, files: TiffStack | None, check: Check, all_chunks: bool) -> None:
    array = copy.array
    if files is not None and dict(zip(copy.dims, array.shape, strict=True)) != files.sizes:
        sizes = dict(zip(copy.dims, array.shape, strict=True))
        check.problems.append(f"the copy has {sizes}, the files have {files.sizes}")
        files = None
    for index in _chosen(array.numblocks, all_chunks):
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
            _compare(pixels, index, copy, files, check)


def _chosen(numblocks: Sequence[int], all_chunks: bool) -> Iterator[tuple[int, ...]]:
    """Yield the indices of all blocks, or of a few spread evenly. Pure."""
    total = math.prod(numblocks)
    wanted = range(total) if all_chunks else np.linspace(0, total - 1, min(SAMPLES, total))
    for flat in wanted:
        yield tuple(int(i) for i in np.unravel_index(int(flat), numblocks))


def _compare(
    pixels: Any, index: tuple[int, ...], copy: ZarrCopy, files: TiffStack, check: Check
) -> None:
    """Compare one block with the same region of the files, whose dims may be in another order."""
    region = {
        dim: slice(sum(lengths[:i]), sum(lengths[: i + 1]))
        for dim, lengths, i in zip(copy.dims, copy.array.chunks, index, strict=True)
    }
    try:
        truth = files.host_array[tuple(region[dim] for dim in files.dims)]
    except TiffStackError as exc:
        raise OptionError(f"the files cannot be read for the comparison: {exc}") from exc
    truth = np.asarray(truth).transpose([files.dims.index(dim) for dim in copy.dims])
    check.compared += 1
    differs = pixels != truth
    if truth.dtype.kind in "fc":
        differs &= ~(np.isnan(pixels) & np.isnan(truth))
    if differs.any():
        first = np.unravel_index(int(differs.argmax()), differs.shape)
        where = ", ".join(
            f"{dim} {region[dim].start + int(i)}" for dim, i in zip(copy.dims, first, strict=True)
        )
        n = int(np.count_nonzero(differs))
        check.problems.append(f"{n:,} pixels differ from the files, the first at {where}")


def print_check(check: Check, console: Console) -> None:
    """Print what was checked, and what is wrong."""
    shape = " x ".join(f"{n} {dim}" for dim, n in zip(check.dims, check.shape, strict=True))
    lines = [f"{check.url}: {shape}, {check.dtype}"]
    if check.arrays:
        total = check.objects + check.absent
        lines.append(f"{check.arrays:,} arrays; {check.objects:,} of {total:,} chunks are there")
    compared = f", {check.compared:,} equal to the files" if check.compared else ""
    if check.compared and check.problems:
        compared = f", {check.compared:,} compared with the files"
    lines.append(f"{check.read:,} blocks read{compared}")
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    for problem in check.problems[:10]:
        console.print(Text(f"WRONG: {problem}", style="red"), soft_wrap=True)
    if len(check.problems) > 10:
        console.print(f"and {len(check.problems) - 10:,} more: --json has all")
    if not check.problems:
        console.print("[green]nothing is wrong[/]")
