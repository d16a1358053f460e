"""The compressor of a Zarr copy, from the forms in which a user may give it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import numcodecs
import numcodecs.abc
import zarr  # first, whole (see copies/zarr_store.py)
import zarr.abc.codec
import zarr.codecs
import zarr.registry

from intake_tiffstack.errors import OptionError

__all__ = ["resolve_compressor"]

_SHUFFLES: dict[int, Literal["noshuffle", "shuffle", "bitshuffle"]] = {
    numcodecs.Blosc.NOSHUFFLE: "noshuffle",
    numcodecs.Blosc.SHUFFLE: "shuffle",
    numcodecs.Blosc.BITSHUFFLE: "bitshuffle",
}


def resolve_compressor(
    compressor: Any, *, zarr_format: Literal[2, 3], itemsize: int
) -> numcodecs.abc.Codec | zarr.abc.codec.BytesBytesCodec | None:
    """Return the codec of a Zarr format for a given compressor. Pure.

    Parameters
    ----------
    compressor : str, dict, codec or None
        ``"default"`` (Blosc with zstd level 3 and bitshuffle), None for no compression, a
        numcodecs codec, its config as a dict or as JSON text (``{"id": "zlib", "level": 5}``),
        or, on format 3 alone, a Zarr codec.
    zarr_format : {2, 3}
        In format 3 a numcodecs codec becomes Zarr's own where there is one (Blosc, Zstd, GZip),
        and is wrapped otherwise; Zarr then warns that other readers may not support it.
    itemsize : int
        Bytes per element, which decide Blosc's automatic shuffle.

    Raises
    ------
    OptionError
        If it is none of these, or belongs to the other format.
    """
    if compressor is None:
        return None
    if isinstance(compressor, str) and compressor == "default":
        compressor = numcodecs.Blosc(cname="zstd", clevel=3, shuffle=numcodecs.Blosc.BITSHUFFLE)
    elif isinstance(compressor, (str, Mapping)):
        compressor = _codec_from_config(compressor)
    if isinstance(compressor, numcodecs.abc.Codec):
        return compressor if zarr_format == 2 else _native_codec(compressor, itemsize)
    if not isinstance(compressor, zarr.abc.codec.BytesBytesCodec):
        raise OptionError(
            "compressor must be 'default', None, a numcodecs codec, its config, or a Zarr codec "
            f"that compresses bytes, but got {compressor!r}"
        )
    if zarr_format == 2:
        raise OptionError(
            f"compressor {compressor!r} is a Zarr format 3 codec and zarr_format is 2; "
            "give the numcodecs one, such as numcodecs.Zstd(level=3)"
        )
    return compressor


def _codec_from_config(config: str | Mapping[str, Any]) -> numcodecs.abc.Codec:
    """Return the numcodecs codec that a config, or its JSON text, describes."""
    try:
        parsed = json.loads(config) if isinstance(config, str) else dict(config)
        if not isinstance(parsed, dict) or "id" not in parsed:
            raise ValueError("it has no 'id'")
        return numcodecs.get_codec(parsed)
    except (ValueError, TypeError) as exc:
        raise OptionError(
            f"compressor {config!r} is not a numcodecs config: {exc}; "
            """write it like {"id": "zstd", "level": 3}, or "default\""""
        ) from exc


def _native_codec(codec: numcodecs.abc.Codec, itemsize: int) -> zarr.abc.codec.BytesBytesCodec:
    """Return the format 3 codec that does the same as a numcodecs one."""
    if isinstance(codec, numcodecs.Blosc):
        automatic = _SHUFFLES[codec.BITSHUFFLE if itemsize == 1 else codec.SHUFFLE]
        return zarr.codecs.BloscCodec(
            typesize=itemsize,
            cname=codec.cname,
            clevel=codec.clevel,
            shuffle=_SHUFFLES.get(codec.shuffle, automatic),
            blocksize=codec.blocksize,
        )
    if isinstance(codec, numcodecs.Zstd):
        return zarr.codecs.ZstdCodec(level=codec.level, checksum=codec.checksum)
    if isinstance(codec, numcodecs.GZip):
        return zarr.codecs.GzipCodec(level=codec.level)
    try:
        wrapper = zarr.registry.get_codec_class(f"numcodecs.{codec.codec_id}")
    except (KeyError, ValueError) as exc:  # older and newer zarr
        raise OptionError(
            f"compressor {codec!r} does not exist in Zarr format 3; "
            "use zarr_format=2, or Blosc, Zstd or GZip"
        ) from exc
    if not issubclass(wrapper, zarr.abc.codec.BytesBytesCodec):
        raise OptionError(f"compressor {codec!r} filters arrays and does not compress bytes")
    config = codec.get_config()
    return wrapper.from_dict(
        {
            "name": f"numcodecs.{codec.codec_id}",
            "configuration": {key: value for key, value in config.items() if key != "id"},
        }
    )
