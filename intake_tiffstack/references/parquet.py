"""References in Parquet files, in the format of kerchunk and fsspec: parts are read when needed.

``<url>/.zmetadata`` holds the metadata, ``<url>/pixels/refs.<n>.parq`` the references of
`RECORD_SIZE` chunks each, in C order. Readers load a part by its name when they need it, so parts
of two writers must never stand side by side: a claim keeps writers apart, as it does for Zarr.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from intake_tiffstack.copies.claim import hold, last_claim
from intake_tiffstack.copies.record import RECORD
from intake_tiffstack.copies.replacement import find_beside
from intake_tiffstack.copies.zarr_documents import CLAIMS
from intake_tiffstack.errors import TargetExistsError
from intake_tiffstack.storage.folder import PARTIAL, Folder, heal_exchange
from intake_tiffstack.storage.urls import is_local

__all__ = ["refuse_others", "require_parquet", "write_parquet"]

RECORD_SIZE = 100_000
"""References per file: fsspec reads and keeps whole files."""

METADATA = ".zmetadata"

_is_own = re.compile(
    rf"(\.zmetadata|\w+/refs\.\d+\.parq|{re.escape(RECORD)}|{re.escape(CLAIMS)}/claim-\d+\.json)"
    rf"(\.[0-9a-f]+{re.escape(PARTIAL)})?"
).fullmatch


def require_parquet() -> None:
    """Raise if references in Parquet cannot be written and read.

    Raises
    ------
    ImportError
        If pyarrow is not installed, or fastparquet, with which fsspec reads references.
    """
    try:
        import fastparquet  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as exc:
        raise ImportError(
            "references in Parquet need pyarrow and fastparquet: "
            "pip install 'intake-tiffstack[references]'"
        ) from exc


def refuse_others(folder: Folder, *, overwrite: bool) -> frozenset[str]:
    """Return the names of what is in the folder, all of which may be replaced.

    References that do not open are what a writer left that was stopped.

    Raises
    ------
    TargetExistsError
        If references open there that are not to be replaced, or anything else is there.
    """
    found = folder.find()
    for key in sorted(found):
        if not _is_own(key):
            raise TargetExistsError(
                f"{folder.url} exists already (a folder with {key!r} in it) and is left as it is; "
                "nothing but references is overwritten",
                url=folder.url,
            )
    if METADATA in found and not overwrite:
        raise TargetExistsError(
            f"{folder.url} exists already and is left as it is; overwrite=True replaces it, or "
            "give another URL",
            url=folder.url,
        )
    return found


def write_parquet(
    folder: Folder,
    name: str,
    references: Mapping[str, Any],
    record: Mapping[str, Any] | None,
    *,
    overwrite: bool,
) -> None:
    """Write the references of one array in a group; what makes them open comes last.

    Local references that are replaced stay until the new ones are complete beside them.

    Parameters
    ----------
    folder : Folder
        Of the references.
    name : str
        Of the array.
    references : mapping
        URL, offset and size by the name of the chunk, and the documents ``.zarray``, ``.zattrs``.
    record : mapping, optional
        The audit record.
    overwrite : bool
        Whether references that open are replaced.

    Raises
    ------
    TargetExistsError
        See :func:`refuse_others`; a TargetBusyError if another writer is active.
    """
    documents = {key: json.loads(v) for key, v in references.items() if key.startswith(".")}
    zarray = documents[".zarray"]
    counts = [-(-n // c) for n, c in zip(zarray["shape"], zarray["chunks"], strict=True)]
    metadata = {".zgroup": {"zarr_format": 2}} | {
        f"{name}/{key}": document for key, document in documents.items()
    }
    if is_local(folder.url):
        heal_exchange(folder.path)
    refuse_others(folder, overwrite=overwrite)  # before anything is written
    with hold(folder, {"format": "references"}, last_claim(folder)) as held:
        try:  # another writer may have come and gone before the claim
            found = refuse_others(folder, overwrite=overwrite)
        except TargetExistsError:
            held.drop()
            raise
        into, beside = folder, find_beside(folder)
        if beside is not None:
            beside.remove_all()  # of a process that was killed
        if beside is not None and METADATA in found:
            into = beside
        else:
            folder.remove([METADATA])
            folder.remove([key for key in found if not key.startswith(f"{CLAIMS}/")])
        for number, content in _parts(references, counts):
            held.claim.check()
            into.write_document(f"{name}/refs.{number}.parq", content)
        if record is not None:
            into.write_document(RECORD, json.dumps(record, indent=1).encode())
        whole = json.dumps({"metadata": metadata, "record_size": RECORD_SIZE})
        held.claim.check()
        into.write_document(METADATA, whole.encode())
        if into is not folder:
            held.replace_by(into)


def _parts(references: Mapping[str, Any], counts: list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the content of each Parquet file."""
    import pyarrow.parquet

    total = math.prod(counts)
    chunks = [(key, value) for key, value in references.items() if not key.startswith(".")]
    if not chunks:
        return
    places = np.array([key.split(".") for key, _ in chunks], dtype=np.int64).reshape(
        len(chunks), len(counts)
    )
    numbers = np.asarray(np.ravel_multi_index(tuple(places.T), counts))
    order = np.argsort(numbers, kind="stable")
    for number, start in enumerate(range(0, total, RECORD_SIZE)):
        paths: list[str | None] = [None] * RECORD_SIZE
        offsets, sizes = [0] * RECORD_SIZE, [0] * RECORD_SIZE
        low, high = np.searchsorted(numbers[order], [start, start + RECORD_SIZE])
        for i in order[low:high].tolist():
            row = int(numbers[i]) - start
            paths[row], offsets[row], sizes[row] = chunks[i][1]
        rows = min(RECORD_SIZE, total - start)
        table = pyarrow.table(
            {
                "path": pyarrow.array(paths[:rows], pyarrow.string()),
                "offset": offsets[:rows],
                "size": sizes[:rows],
                "raw": pyarrow.nulls(rows, pyarrow.binary()),
            }
        )
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink, compression="zstd")
        yield number, sink.getvalue().to_pybytes()
