"""Writes a copy: chunks first, metadata last, in units that run in any order.

The same units run on threads or on the workers of a cluster, and write the same bytes. A unit is
done when all objects it writes are listed, so a later writer can resume after a kill.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from dask.base import tokenize

from intake_tiffstack.copies.claim import Claim, Held, hold
from intake_tiffstack.copies.plan import ExportPlan, warn_of_many_objects
from intake_tiffstack.copies.record import RecordDraft, Verified
from intake_tiffstack.copies.replacement import find_beside
from intake_tiffstack.copies.verify import SAMPLES, Verify
from intake_tiffstack.copies.zarr_documents import OPENING
from intake_tiffstack.errors import OptionError, StorageError, TargetExistsError
from intake_tiffstack.export.destination import Action, Destination, inspect_destination
from intake_tiffstack.export.growth import Growth
from intake_tiffstack.export.passes import (
    Pass,
    WrittenPart,
    check_part,
    group_into_waves,
    write_unit,
)
from intake_tiffstack.export.plan import plan_export
from intake_tiffstack.export.planned_array import PlannedArray
from intake_tiffstack.export.workers import open_workers
from intake_tiffstack.progress import Progress, reported
from intake_tiffstack.storage.concurrency import map_concurrently
from intake_tiffstack.storage.folder import PARTIAL, Folder, heal_exchange
from intake_tiffstack.storage.reference_targets import is_references
from intake_tiffstack.storage.urls import is_local
from intake_tiffstack.storage.zipped import ZIPPED

__all__ = ["find_most_objects", "write_copy"]

_MOST_FILES = 10_000
"""Chunks above which a local copy has shards: each file costs the time of a metadata operation."""
_MOST_KEYS = 5_000
"""The same in an object store, where each object costs a request to write, copy and delete."""


def write_copy(
    folder: Folder,
    passes: Sequence[Pass],
    documents: Callable[[Folder], Mapping[str, bytes]],
    *,
    format: str,
    document_count: int,
    dry_run: bool,
    token: str,
    overwrite: bool,
    resume: bool,
    verify: Verify,
    progress: Progress,
    record: RecordDraft | None = None,
    growth: Growth | None = None,
) -> ExportPlan:
    """Write all arrays of a copy, then its metadata.

    Until the last write the folder holds chunks, a claim and no document at its root, so that no
    reader opens it. After a kill at any point, the same call completes the copy. A local copy that
    is replaced stays until the new one is complete beside it.

    Parameters
    ----------
    folder : Folder
        Destination of the copy.
    passes : sequence of Pass
        A pass that reads what another wrote comes after it.
    documents : callable
        Called with the folder that was written to, once all chunks exist; returns the documents of
        the groups around the arrays, by name below the folder.
    format : str
        Name of the format, for the plan.
    document_count : int
        Number of the documents.
    dry_run : bool
        Whether to return the plan and write nothing.
    token : str
        Identifies the pixels: an incomplete copy is resumed only with an equal token.
    overwrite : bool
        Whether to replace an existing Zarr.
    resume : bool
        Whether to keep units that an earlier attempt wrote.
    verify : {"sample", "all", False}
        Whether some regions, all, or none are read back and compared with the source.
    progress : bool or callable, optional
        See :data:`~intake_tiffstack.progress.Progress`; counts bytes of the source.
    record : RecordDraft, optional
        The audit record; None for a copy without one.
    growth : Growth, optional
        How an existing copy is extended; None writes a new one.

    Returns
    -------
    ExportPlan
        What was written, or would be.

    Raises
    ------
    OptionError
        If the name is that of a document of references, or of an OME-Zarr in one file.
    TargetExistsError
        If something exists that must not be replaced (a TargetBusyError if another writer is
        active).
    VerificationError
        If a region does not read back as it was written; it is removed, and the same call writes it
        again.
    StorageError
        If a write fails. What is written stays, and the same call resumes.
    """
    if is_references(folder.url):
        raise OptionError(
            f"{folder.url} is the name of a document of references; give format='references', or "
            "another name"
        )
    if folder.url.endswith(ZIPPED):
        raise OptionError(
            f"{folder.url} is the name of an OME-Zarr in one file; give format='ome-zarr', or "
            "another name"
        )
    arrays = [array for one_pass in passes for array in one_pass.arrays]
    spec = json.loads(json.dumps({"token": token, **_describe(arrays)}))
    if growth is not None:
        spec["append"] = growth.dim
    given = {"overwrite": overwrite, "resume": resume, "is_extended": growth is not None}
    if is_local(folder.url) and not dry_run:
        heal_exchange(folder.path)
    destination = inspect_destination(folder)
    destination.choose_action(spec, **given)  # refuses before anything is written
    with open_workers() as workers:
        plan = plan_export(
            folder.url,
            format,
            passes,
            workers=workers.count,
            document_count=document_count + (record is not None),
        )
    warn_of_many_objects(plan)
    if dry_run or (growth is not None and growth.is_done and destination.claim is None):
        return plan
    with hold(folder, spec, destination.claim) as held:
        # another writer may have come and gone before the claim
        destination = destination.refresh()
        try:
            action = destination.choose_action(spec, **given)
            if growth is not None:
                growth.require_current()
        except TargetExistsError:
            held.drop()
            raise
        destination, stored = _prepare(passes, destination, held, action, resume=resume)
        into = destination.folder
        verified = Verified(False)
        if action != "finish":
            _write_units(into, passes, held.claim, stored, progress)
            _require_all(into, passes)
            if verify:
                verified = _verify(into, passes, held.claim, verify, progress)
            held.claim.check()
        around = dict(documents(into))
        if record is not None and (action != "finish" or record.path not in destination.keys):
            around[record.path] = record.finish(verified)
        _write_documents(into, passes, around)
        into.remove([key for key in destination.stored if key.endswith(PARTIAL)])
        if into is not folder:
            held.replace_by(into)
    return plan


def _prepare(
    passes: Sequence[Pass],
    destination: Destination,
    held: Held,
    action: Action,
    *,
    resume: bool,
) -> tuple[Destination, frozenset[str]]:
    """Return where to write, which may be beside the copy, and what is there that is kept."""
    beside = find_beside(destination.folder)
    if beside is not None and action == "clear" and destination.is_whole:
        if held.claim.record.phase == "replacing" and resume:
            begun = Destination(beside, beside.find_sizes(), None)
            return begun, begun.filled
        beside.remove_all()
        held.renew(phase="replacing")
        return Destination(beside, {}, None), frozenset()
    if beside is not None:  # of a process that was killed
        beside.remove_all()
    if action in ("clear", "append"):
        held.renew(phase="clearing")
        _clear(destination.folder, passes if action == "append" else (), destination)
    if action in ("start", "clear", "append"):
        held.renew(phase="writing")
    return destination, destination.filled if action == "resume" else frozenset()


def find_most_objects(folder: Folder, zarr_format: Literal[2, 3]) -> int | None:
    """Return the number of chunks above which a copy has shards, None if it cannot have any."""
    if zarr_format == 2:
        return None
    return _MOST_FILES if is_local(folder.url) else _MOST_KEYS


def _describe(arrays: Sequence[PlannedArray]) -> dict[str, Any]:
    """Return paths and layout of the arrays; a plate has thousands of arrays of a few layouts."""
    kinds = {json.dumps(spec := array.spec()): spec for array in arrays}
    return {"paths": tokenize([array.path for array in arrays]), "arrays": list(kinds.values())}


def _clear(folder: Folder, extended: Sequence[Pass], destination: Destination) -> None:
    """Remove existing contents, first the documents that make them a Zarr.

    Of a copy that is *extended*, only chunks beyond its shape, which an attempt at something else
    left.
    """
    if extended:
        beyond = {
            key
            for one_pass in extended
            for unit in one_pass.units()
            if not one_pass.holds_old(one_pass.region(unit))
            for key in one_pass.keys(unit)
        }
        folder.remove(beyond & destination.stored)
        return
    is_opening = [key for key in destination.stored if key.rpartition("/")[2] in OPENING]
    folder.remove(is_opening)
    folder.remove(destination.stored.difference(is_opening))


def _require_all(folder: Folder, passes: Sequence[Pass]) -> None:
    """Raise if a written object does not exist; one listing.

    Raises
    ------
    StorageError
        If so: a missing chunk would read as zeros.
    """
    found = folder.find()
    for one_pass in passes:
        for unit in one_pass.units():
            for key in one_pass.keys(unit):
                if key not in found:
                    raise StorageError(
                        f"{folder.url}: {key} was written and does not exist. Do all workers "
                        "share this location? (They do not share a local path or memory://.)",
                        url=folder.url,
                    )


def _write_documents(
    folder: Folder, passes: Sequence[Pass], documents: Mapping[str, bytes]
) -> None:
    """Write the documents of all arrays and groups, the one that opens the root last."""
    found = dict(documents)
    for one_pass in passes:
        for array in one_pass.arrays:
            start = f"{array.path}/" if array.path else ""
            found |= {start + name: content for name, content in array.documents.items()}
    at_root = [key for key in found if "/" not in key]
    below = [key for key in found if "/" in key]  # a plate has thousands
    for _ in map_concurrently(lambda key: folder.write_document(key, found[key]), below):
        pass
    for key in sorted(at_root, key=OPENING.__contains__):
        folder.write_document(key, found[key])


def _write_units(
    folder: Folder,
    passes: Sequence[Pass],
    claim: Claim,
    stored: frozenset[str],
    progress: Progress,
) -> None:
    """Write every unit that is not stored, pass by pass."""
    waves = group_into_waves(passes)
    todo = [
        [
            (i, unit)
            for i, one_pass in enumerate(wave)
            for unit in one_pass.units()
            if one_pass.holds_old(one_pass.region(unit))
            or not stored.issuperset(one_pass.keys(unit))
        ]
        for wave in waves
    ]
    total = sum(one_pass.nbytes for one_pass in passes)
    left = sum(
        wave[i].unit_nbytes(unit)
        for wave, units in zip(waves, todo, strict=True)
        for i, unit in units
    )
    with (
        open_workers() as workers,
        reported(progress, total, title="export", unit="B", done=total - left) as advance,
    ):
        for wave, units in zip(waves, todo, strict=True):
            for nbytes in workers.run(write_unit, (wave, folder, claim), units):
                advance(nbytes)


def _verify(
    folder: Folder, passes: Sequence[Pass], claim: Claim, verify: Verify, progress: Progress
) -> Verified:
    """Read some or all of the copy back and compare it with its source."""
    if verify == "sample":
        progress = False  # takes only a moment
    total = sum(array.nbytes for one_pass in passes for array in one_pass.arrays)
    sizes = []
    with (
        open_workers() as workers,
        reported(progress, total, title="verify", unit="B") as advance,
    ):
        parts = _all_parts(passes) if verify == "all" else _samples(passes)
        for nbytes in workers.run(check_part, (tuple(passes), folder, claim), parts):
            sizes.append(nbytes)
            advance(nbytes)
    return Verified(verify, len(sizes), sum(sizes))


def _all_parts(passes: Sequence[Pass]) -> Iterator[tuple[int, WrittenPart]]:
    """Yield every part, with the index of its pass."""
    for i, one_pass in enumerate(passes):
        for part in one_pass.all_parts():
            yield i, part


def _samples(passes: Sequence[Pass]) -> Iterator[tuple[int, WrittenPart]]:
    """Yield some parts of a few passes, the first and last among them."""
    step = max((len(passes) - 1) / (SAMPLES - 1), 1)
    for i in sorted({round(n * step) for n in range(min(len(passes), SAMPLES))}):
        for part in passes[i].samples():
            yield i, part
