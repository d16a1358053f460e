"""References in Parquet files, as kerchunk and fsspec have them: read part by part, when needed.

``<url>/.zmetadata`` holds the metadata, ``<url>/pixels/refs.<n>.parq`` the references of
`RECORD_SIZE` chunks each, in C order.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from intake_tiffstack.copies.record import RECORD
from intake_tiffstack.errors import TargetExistsError
from intake_tiffstack.storage.folder import PARTIAL, Folder

__all__ = ["clear_parquet", "require_parquet", "write_parquet"]

RECORD_SIZE = 100_000
"""References per file: fsspec reads and keeps whole files."""

METADATA = ".zmetadata"

_is_own = re.compile(r"\.zmetadata|\w+/refs\.\d+\.parq|" + re.escape(RECORD)).fullmatch


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


def clear_parquet(folder: Folder) -> None:
    """Remove references that are to be replaced, first what makes them open.

    Raises
    ------
    TargetExistsError
        If anything else is there.
    """
    found = folder.find()
    for key in sorted(found):
        if not _is_own(key.partition(PARTIAL)[0]):
            raise TargetExistsError(
                f"{folder.url} exists already (a folder with {key!r} in it) and is left as it is; "
                "nothing but references is overwritten",
                url=folder.url,
            )
    folder.remove([METADATA])
    folder.remove(found - {METADATA})


def write_parquet(
    folder: Folder,
    name: str,
    references: Mapping[str, Any],
    record: Mapping[str, Any] | None,
) -> None:
    """Write the references of one array in a group; what makes them open comes last.

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
    """
    documents = {key: json.loads(v) for key, v in references.items() if key.startswith(".")}
    zarray = documents[".zarray"]
    counts = [-(-n // c) for n, c in zip(zarray["shape"], zarray["chunks"], strict=True)]
    for number, content in _parts(references, counts):
        folder.write_document(f"{name}/refs.{number}.parq", content)
    if record is not None:
        folder.write_document(RECORD, json.dumps(record, indent=1).encode())
    metadata = {".zgroup": {"zarr_format": 2}} | {
        f"{name}/{key}": document for key, document in documents.items()
    }
    whole = json.dumps({"metadata": metadata, "record_size": RECORD_SIZE})
    folder.write_document(METADATA, whole.encode())


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
