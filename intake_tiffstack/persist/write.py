"""Persisting: a new generation is written beside the old ones, and published when it is whole."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from numbers import Real
from typing import Any

import numcodecs.abc
import zarr
import zarr.abc.codec
import zarr.registry
from dask.base import tokenize
from dask.utils import format_bytes

from intake_tiffstack.copies.open_zarr import open_zarr
from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    OptionError,
    StorageError,
    TargetBusyError,
    TargetExistsError,
)
from intake_tiffstack.export.options import DEFAULTS, PersistOptions, check_options
from intake_tiffstack.options import Options
from intake_tiffstack.persist.file_record import spell_urlpath
from intake_tiffstack.persist.key import deciding_options, pixel_key, place_key
from intake_tiffstack.persist.open import PersistedStack
from intake_tiffstack.persist.store import CollectionCopies, Generation, find_store
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.settings import setting_bytes
from intake_tiffstack.stack import TiffStack
from intake_tiffstack.storage.file_changes import count_unproven, without_secrets

__all__ = ["extend_persisted", "none_persisted", "persist_again", "persist_collection"]

_LOOKED_AT = 100
"""Copies in the store of which one may be near a copy that is not there."""

_WAIT_SECONDS = 0.5
"""How often to look whether the process that writes this generation has finished."""

_LOG = logging.getLogger(__name__)


def persist_collection(
    options: Options, *, ttl: float | None = None, anew: bool = False, **export: Any
) -> Generation:
    """Return the current generation: a copy of the files as they are at this moment.

    A copy that holds is returned at once; an incomplete one is resumed; one that another process is
    writing of the same files in the same way is waited for. Prints where it is written and how
    large it is.

    Parameters
    ----------
    options : Options
        Of the collection.
    ttl : float, optional
        Seconds until the copy is no longer used by default; None for no limit.
    anew : bool
        Whether to write a new copy even if the current one holds: it has not expired, was written
        with the same options, and the files have not changed since.
    **export
        ``zarr_format``, ``chunks``, ``shards``, ``compressor``, ``verify`` and ``progress``, as
        :func:`~intake_tiffstack.export.write_zarr` has them.

    Raises
    ------
    OptionError
        If an option is unknown or wrong, or the collection fills what it cannot read.
    StorageError
        If the store refuses, or the copy is larger than ``persist_limit`` and nobody chose a store.
    """
    _check(options, export)
    ttl = _seconds(ttl)
    stack = TiffStack(options)
    copies = CollectionCopies.of(pixel_key(options))
    stored = {name: _to_record(value) for name, value in export.items() if name != "progress"}
    before = copies.current()
    if not anew and before is not None and _holds(stack, copies, before, stored):
        return before if ttl is before.ttl is None else copies.extend(before, ttl)
    nbytes = stack.host_array.nbytes
    _check_limit(nbytes)
    generation = _plan_generation(stack, stored, before=before)
    if export.get("progress") is not False:
        print(f"persisting {format_bytes(nbytes)} at {hide_in_text(copies.url)}")
    copies.remove_rest(generation.name)
    _write(stack, copies, generation, {**export, **_from_record(stored)})
    current = copies.current()
    if current is not None and _is_overtaken(generation, current):
        return current
    generation = replace(generation, created=datetime.now(UTC)).expiring(ttl)
    copies.publish(generation, stack.collection.discovery)
    return generation


def _holds(
    stack: TiffStack, copies: CollectionCopies, copy: Generation, export: Mapping[str, Any]
) -> bool:
    """Return whether a copy can be read, matches the files now, and has the options asked for."""
    if copy.has_expired() or not {**DEFAULTS, **copy.export}.items() >= {**export}.items():
        return False
    try:
        before = PersistedStack(stack.options, copies, copy).collection.discovery.listing.files
    except (FilesNotFoundError, StorageError) as exc:
        _LOG.warning("the persisted copy cannot be read, and a new one is made: %s", exc)
        return False
    now = without_secrets(stack.collection.discovery.listing.files)
    return now == before and not count_unproven(before, now)


def _plan_generation(
    stack: TiffStack, stored: Mapping[str, Any], *, before: Generation | None
) -> Generation:
    """Return the generation that comes after *before*, not published yet.

    Who makes the same of the same files gives it the same name: to wait for the one who is writing
    it, or to resume it.
    """
    array = stack.host_array
    number = 1 if before is None else before.number + 1
    digest = tokenize(array, stack.metadata, stored, version("intake-tiffstack"), zarr.__version__)[
        :16
    ]
    return Generation(
        name=f"{number:06d}-{digest}",
        created=datetime.now(UTC),
        expires=None,
        ttl=None,
        nbytes=array.nbytes,
        source=spell_urlpath(stack.options),
        n_files=len(stack.collection.discovery.listing.files),
        export=stored,
        place=place_key(stack.options),
        decided=deciding_options(stack.options),
    )


def persist_again(options: Options, *, anew: bool = True, **export: Any) -> Generation:
    """Return a new generation of a collection, written like the current one.

    Parameters
    ----------
    options : Options
        Of the collection.
    anew : bool
        Whether to write it even if the current one holds; False if another process may have
        done so already.
    **export
        Options to write it with instead of those of the current one.

    Raises
    ------
    FilesNotFoundError
        If there is none.
    """
    copies = CollectionCopies.of(pixel_key(options))
    before = copies.current()
    if before is None:
        raise none_persisted(options, copies)
    export = {**_from_record(before.export), **export}
    return persist_collection(options, ttl=before.ttl, anew=anew, **export)


def extend_persisted(options: Options) -> Generation:
    """Return the current copy, extended in place by the files that have arrived.

    Arrays over the copy as it was stay what they are. A copy that has only expired is made anew.

    Parameters
    ----------
    options : Options
        Of the collection.

    Raises
    ------
    FilesNotFoundError
        If there is no copy.
    FileChangedError
        If a file that was copied is gone or has changed, or dims differ otherwise than in length
        along one.
    """
    copies = CollectionCopies.of(pixel_key(options))
    storage_options = copies.store.storage_options
    while True:
        before = copies.current()
        stack = TiffStack(options)  # lists anew: others may have copied what came meanwhile
        if before is None:
            raise none_persisted(options, copies)
        if _holds(stack, copies, before, {}):  # others may have extended it meanwhile
            return before
        sizes = PersistedStack(options, copies, before).sizes
        longer = [dim for dim, n in stack.sizes.items() if n > sizes.get(dim, n)]
        if not longer and before.has_expired():
            return persist_again(options, anew=False)
        dim = longer[0] if longer else stack.dims[0]
        _check_limit(stack.host_array.nbytes)
        url = copies.pixels_url(before.name)
        try:
            stack.export(url, storage_options=storage_options, append=dim, progress=False)
        except TargetBusyError as exc:
            _LOG.info("waiting: %s", exc)
            time.sleep(_WAIT_SECONDS)
            continue
        except (OptionError, FileChangedError) as exc:
            now = TiffStack(options).collection.discovery.listing.files
            if copies.current() != before or now != stack.collection.discovery.listing.files:
                continue  # another process has extended it by files that this one had not seen
            if isinstance(exc, FileChangedError):
                raise
            raise FileChangedError(f"the copy cannot be extended: {exc}", url=url) from exc
        extended = replace(
            before,
            created=datetime.now(UTC),
            nbytes=stack.host_array.nbytes,
            n_files=len(stack.collection.files),
            seen=f"seen-{tokenize(stack.host_array)[:16]}.json.gz",
        ).expiring(before.ttl)
        published = copies.publish_extended(extended, stack.collection.discovery)
        if published is not None:
            return published


def none_persisted(options: Options, copies: CollectionCopies) -> FilesNotFoundError:
    """Return the error of a collection that has no copy."""
    return FilesNotFoundError(
        f"there is no persisted copy of {spell_urlpath(options)} at {copies.url}; persist() makes "
        f"one{_describe_near_copy(options, copies)}",
        url=copies.url,
    )


def _describe_near_copy(options: Options, copies: CollectionCopies) -> str:
    """Return in which options the nearest copy of the same files differs, empty if there is none.

    One small request per copy in the store, of the first 100.
    """
    place, wanted = place_key(options), deciding_options(options)
    near: list[list[str]] = []
    for key in copies.store.names("")[:_LOOKED_AT]:
        try:
            generation = CollectionCopies(copies.store, key).current()
        except StorageError:  # damaged, or of another version
            continue
        if generation is not None and generation.place == place:
            found = generation.decided
            near.append(
                [
                    f"{name} (there {found.get(name, 'not given')!r}, here "
                    f"{wanted.get(name, 'not given')!r})"
                    for name in sorted(found.keys() | wanted.keys())
                    if found.get(name) != wanted.get(name)
                ]
            )
    if not near:
        return ""
    nearest = min(near, key=lambda differing: len(differing))
    return f"; a copy of the same files differs in {', '.join(nearest)}"


def _seconds(ttl: Any) -> float | None:
    """Return how long a copy is used; raise if it is not a time."""
    if ttl is None:
        return None
    try:
        if isinstance(ttl, bool) or not isinstance(ttl, Real) or ttl < 0:
            raise ValueError("it is none")
        datetime.now(UTC) + timedelta(seconds=float(ttl))
    except (ValueError, OverflowError) as exc:
        raise OptionError(f"ttl must be a number of seconds or None, but got {ttl!r}") from exc
    return float(ttl)


def _check(options: Options, export: Mapping[str, Any]) -> None:
    if options.on_error != "raise":
        raise OptionError(
            "a source with on_error='fill' is not persisted: the copy would hide what could not "
            "be read; leave such files out with `exclude` or `sel`"
        )
    if "storage_options" in export:
        raise OptionError(
            "persist() takes no storage_options, since nothing of them may be stored: what the "
            "store needs belongs in the environment, or in the setting persist_storage_options"
        )
    check_options(PersistOptions, export, function="persist()")


def _check_limit(nbytes: int) -> None:
    url, is_chosen = find_store()
    limit = setting_bytes("persist_limit")
    if not is_chosen and nbytes > limit:
        raise StorageError(
            f"{format_bytes(nbytes)} are more than persist_limit ({format_bytes(limit)}), and "
            f"{url} is only where copies go by default; set INTAKE_PERSIST_PATH to a folder or URL "
            "with room for it, or raise tiffstack.persist_limit",
            url=url,
        )


def _write(
    stack: TiffStack, copies: CollectionCopies, generation: Generation, export: Mapping[str, Any]
) -> None:
    """Write the pixels of a generation, unless another process does so first."""
    url, storage_options = copies.pixels_url(generation.name), copies.store.storage_options
    has_waited = False
    while True:
        try:
            stack.export(url, storage_options=storage_options, **export)
            return
        except TargetBusyError as exc:
            _LOG.log(logging.INFO if has_waited else logging.WARNING, "persist() waits: %s", exc)
            has_waited = True
            time.sleep(_WAIT_SECONDS)
        except TargetExistsError:
            try:
                open_zarr(url, storage_options)
            except FilesNotFoundError:  # it is not whole, or others went on and removed it
                current = copies.current()
                if current is None or not _is_overtaken(generation, current):
                    raise
            return


def _is_overtaken(generation: Generation, current: Generation) -> bool:
    """Return whether another process was as far as this one already, or farther."""
    return current.name == generation.name or current.number > generation.number


def _to_record(value: Any) -> Any:
    """Return an option of an export in types of JSON: codecs as their configuration.

    >>> _to_record((1, 256, 256))
    [1, 256, 256]
    """
    if isinstance(value, numcodecs.abc.Codec):
        value = value.get_config()
    elif isinstance(value, zarr.abc.codec.BytesBytesCodec):
        value = value.to_dict()
    try:
        return json.loads(json.dumps(value))
    except TypeError as exc:
        raise OptionError(f"persist() cannot remember {value!r}: {exc}") from exc


def _from_record(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of an export from what :func:`_to_record` made of them."""
    codec = stored.get("compressor")
    if not isinstance(codec, Mapping) or "name" not in codec:
        return dict(stored)
    made = zarr.registry.get_codec_class(codec["name"]).from_dict(dict(codec))
    return {**stored, "compressor": made}
