"""How the chunks of a Zarr array are encoded. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

__all__ = ["Coding", "chunk_coding", "coding_of"]

Coding = Literal["raw", "blosc"]


def chunk_coding(metadata: Any) -> Coding | None:
    """Return how chunks in C order and native byte order are encoded, None for any other. Pure.

    Parameters
    ----------
    metadata : zarr ArrayV2Metadata or ArrayV3Metadata
        Zarr's metadata of the array.

    References
    ----------
    The core specifications of Zarr, version 2 ("Arrays: metadata") and 3 ("Array metadata").
    """
    stored = metadata.to_dict()
    if stored["zarr_format"] == 2:
        codec = stored["compressor"]
        names = [] if codec is None else [codec["id"]]
        is_plain = stored["order"] == "C" and not stored["filters"]
        is_plain = is_plain and _stored_dtype(metadata).isnative
    else:
        is_plain = stored["chunk_grid"]["name"] == "regular"
        is_plain = is_plain and not stored["storage_transformers"]
        return coding_of(stored["codecs"]) if is_plain else None
    if not is_plain or names not in ([], ["blosc"]):
        return None
    return "blosc" if names else "raw"


def coding_of(codecs: Sequence[Mapping[str, Any]]) -> Coding | None:
    """Return what a list of codecs of Zarr format 3 does to chunks; see :func:`chunk_coding`."""
    first, *others = codecs
    names = [codec["name"] for codec in others]
    endian = first.get("configuration", {}).get("endian", sys.byteorder)
    if first["name"] != "bytes" or endian != sys.byteorder or names not in ([], ["blosc"]):
        return None
    return "blosc" if names else "raw"


def _stored_dtype(metadata: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = metadata.dtype.to_native_dtype()
    return dtype
