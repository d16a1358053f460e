"""How the chunks of a Zarr array are encoded. Pure."""

from __future__ import annotations

import sys
from typing import Any, Literal

import numpy as np

__all__ = ["Coding", "chunk_coding"]

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
        first, *others = stored["codecs"]
        names = [codec["name"] for codec in others]
        endian = first.get("configuration", {}).get("endian", sys.byteorder)
        is_plain = first["name"] == "bytes" and endian == sys.byteorder
        is_plain = is_plain and stored["chunk_grid"]["name"] == "regular"
        is_plain = is_plain and not stored["storage_transformers"]
    if not is_plain or names not in ([], ["blosc"]):
        return None
    return "blosc" if names else "raw"


def _stored_dtype(metadata: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = metadata.dtype.to_native_dtype()
    return dtype
