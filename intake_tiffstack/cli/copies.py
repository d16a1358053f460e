"""``tiffstack export`` and ``tiffstack verify``: a copy planned, written and checked."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import intake
from dask.system import CPU_COUNT
from dask.utils import format_time
from rich.text import Text

from intake_tiffstack.audit import CopyCheck, verify
from intake_tiffstack.cli.source import open_source
from intake_tiffstack.copies.plan import ExportPlan
from intake_tiffstack.storage.urls import is_local

if TYPE_CHECKING:
    from rich.console import Console

    from intake_tiffstack.stack import TiffStack

__all__ = ["check_copy", "export", "print_check"]


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
        stack.export(destination, format=format, **given)
        taken = format_time(time.perf_counter() - started).strip()
        console.print(Text(f"{destination}: {_shape(stack)} written in {taken}"), soft_wrap=True)
        return
    plan = stack.export(destination, format=format, dry_run=True, **given)
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


def check_copy(
    url: str,
    storage_options: Mapping[str, Any],
    *,
    against: str | None,
    is_alone: bool,
    all_chunks: bool,
    sha256: bool,
) -> CopyCheck:
    """Return what is right and wrong with a copy.

    Parameters
    ----------
    url : str
        A Zarr, an OME-Zarr, or a document of references.
    storage_options : mapping
        Passed to fsspec.
    against : str, optional
        The files it was made from, ``FILE.yml:ENTRY`` or a URL; None for those in its record.
    is_alone : bool
        Whether the files are left out.
    all_chunks : bool
        Whether every block is read, or a few.
    sha256 : bool
        Whether files are hashed and compared with the record.

    Raises
    ------
    FilesNotFoundError
        If there is no copy.
    """
    source: TiffStack | bool | None = False if is_alone else None
    if against is not None:
        source = _open_files(against, storage_options)
    return verify(
        url,
        source=source,
        pixels="all" if all_chunks else "sample",
        sha256=sha256,
        storage_options=storage_options,
        source_options=None if is_local(url) else storage_options,
    )


def _open_files(against: str, storage_options: Mapping[str, Any]) -> TiffStack:
    catalog, colon, entry = against.rpartition(":")
    if colon and catalog.lower().endswith((".yml", ".yaml")):
        stack: TiffStack = intake.open_catalog(catalog)[entry].stack
        return stack
    is_remote = not is_local(against)
    return open_source(against, {"storage_options": storage_options} if is_remote else {})[0]


def print_check(check: CopyCheck, console: Console) -> None:
    """Print what was checked, and what is wrong."""
    shape = " x ".join(f"{n} {dim}" for dim, n in zip(check.dims, check.shape, strict=True))
    lines = [f"{check.url}: {shape}, {check.dtype}"]
    lines.append(check.record or "it has no audit record, which export() writes beside a copy")
    if check.arrays:
        total = check.objects + check.absent
        lines.append(f"{check.arrays:,} arrays; {check.objects:,} of {total:,} chunks are there")
    compared = f", {check.compared:,} equal to the files" if check.compared else ""
    if check.compared and check.problems:
        compared = f", {check.compared:,} compared with the files"
    lines.append(f"{check.read:,} blocks read{compared}")
    if check.files:
        lines.append(f"{check.files:,} files compared with the record")
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    for problem in check.problems[:10]:
        console.print(Text(f"WRONG: {problem}", style="red"), soft_wrap=True)
    if len(check.problems) > 10:
        console.print(f"and {len(check.problems) - 10:,} more: --json has all")
    if not check.problems:
        console.print("[green]nothing is wrong[/]")
