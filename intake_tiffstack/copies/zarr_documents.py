"""Names of the objects in a Zarr folder that are not chunks, and faults of what they say."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from intake_tiffstack.errors import StorageError, TiffStackError

__all__ = ["CLAIMS", "DOCUMENT_FAULTS", "OPENING", "document_errors"]

OPENING = frozenset({"zarr.json", ".zarray", ".zgroup"})
"""The documents that make a folder a Zarr array or group."""

CLAIMS = ".tiffstack"
"""The folder of the claims of writers, below the folder of a copy."""

DOCUMENT_FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError),
    *(SyntaxError, TypeError, ValueError, struct.error),
)
"""What Zarr, xarray, NumPy and this package raise for documents that say the impossible."""


@contextmanager
def document_errors(url: str) -> Iterator[None]:
    """Turn what damaged documents lead to inside the block into errors that name *url*.

    Raises
    ------
    StorageError
        If so.
    """
    try:
        yield
    except TiffStackError:
        raise
    except DOCUMENT_FAULTS as exc:
        raise StorageError(
            f"{url} is damaged, or describes its pixels in an unknown way: {exc!r:.300}",
            url=url,
        ) from exc
