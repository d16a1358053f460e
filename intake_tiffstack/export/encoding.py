"""Chunks encoded with nothing in between, where that is plain; `pixels` decodes them so.

Zarr writes any chunk. What most copies are, whole chunks of Blosc or nothing on a local disk, takes
it a fifth more CPU than the encoder alone: an event loop, and a thread for each chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numcodecs
import numpy as np
from numpy.typing import NDArray

from intake_tiffstack.copies.chunk_coding import chunk_coding

__all__ = ["Encode", "find_encoder"]

Encode = Callable[[NDArray[Any]], Any]
"""Returns the bytes of a whole chunk, as something with a buffer."""

_SHUFFLES = {
    "noshuffle": numcodecs.Blosc.NOSHUFFLE,
    "shuffle": numcodecs.Blosc.SHUFFLE,
    "bitshuffle": numcodecs.Blosc.BITSHUFFLE,
}


def find_encoder(metadata: Any) -> Encode | None:
    """Return what makes the bytes of a whole chunk as Zarr would; None where Zarr has to. Pure.

    Parameters
    ----------
    metadata
        Zarr's own, of format 2 or 3, of an array without shards.
    """
    coding = chunk_coding(metadata)
    if coding is None:
        return None
    if coding == "raw":
        return np.ascontiguousarray
    stored = metadata.to_dict()
    if stored["zarr_format"] == 2:
        codec = numcodecs.get_codec(dict(stored["compressor"]))
    else:
        config = stored["codecs"][1]["configuration"]
        codec = numcodecs.Blosc(
            config["cname"], config["clevel"], _SHUFFLES[config["shuffle"]], config["blocksize"]
        )
        if config["typesize"] != metadata.dtype.to_native_dtype().itemsize:
            return None
    return lambda block: codec.encode(np.ascontiguousarray(block))
