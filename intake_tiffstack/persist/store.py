"""Where persisted copies are stored, and which generation of each is current.

A collection has one folder in the store, named by its key::

    <store>/<key>/current.json                        which generation counts
    <store>/<key>/000002-5d41402abc4b2a76/pixels.zarr    its pixels
    <store>/<key>/000002-5d41402abc4b2a76/seen.json.gz   what is known of its files
    <store>/<key>/000001-736de03a4b52ff76/superseded     since when another one counts

``current.json`` is written last and as a whole, and readers trust nothing else. The pixels of a
generation never change once it is published; it may be extended by more of them, and then has
another ``seen-*.json.gz``. A superseded generation stays for those who still
read it until the setting ``persist_grace`` has passed; then the next publication or :func:`prune`
removes it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from intake_tiffstack.collection.model import Discovery
from intake_tiffstack.copies.claim import hold, last_claim
from intake_tiffstack.copies.zarr_documents import OPENING
from intake_tiffstack.errors import FilesNotFoundError, OptionError, StorageError, TargetBusyError
from intake_tiffstack.persist.file_record import VERSION, pack_seen, unpack_seen
from intake_tiffstack.redact import hide_in_text
from intake_tiffstack.settings import setting, setting_seconds
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.storage.folder import Folder
from intake_tiffstack.storage.mistaken import misspelling
from intake_tiffstack.storage.urls import absolute_url, is_local
from intake_tiffstack.to_json import parse_json

__all__ = ["CollectionCopies", "Generation", "find_store", "prune", "store_options"]

_CURRENT = "current.json"
_PIXELS = "pixels.zarr"
_SEEN = "seen.json.gz"
_REMOVED = "removed"
"""In a generation of which a part may be gone: it is to be removed before all else."""
_SUPERSEDED = "superseded"
"""In a generation that no longer counts: the time at which this was noticed first."""

_WAIT_SECONDS = 0.1
"""How often to look whether another process still extends a generation."""

_LOG = logging.getLogger(__name__)


def find_store() -> tuple[str, bool]:
    """Return the URL of the store, and whether somebody chose it.

    ``INTAKE_PERSIST_PATH``, else ``persist_path`` in Intake's configuration, else the folder
    ``persisted`` beside that configuration.
    """
    from intake.config import conf, confdir  # read at each use: both may be set while running

    chosen = os.environ.get("INTAKE_PERSIST_PATH") or conf.get("persist_path")
    url = os.fspath(chosen or f"{confdir}/persisted")
    if advice := misspelling(url):
        raise OptionError(f"the place of persisted copies, {url!r}, {advice}")
    return (absolute_url(url) if is_local(url) else url).rstrip("/"), bool(chosen)


def store_options() -> Mapping[str, Any]:
    """Return what fsspec needs to reach the store: a setting, since nothing of it is stored.

    Raises
    ------
    OptionError
        If the setting is not a mapping.
    """
    options = setting("persist_storage_options")
    if not isinstance(options, Mapping):
        raise OptionError("tiffstack.persist_storage_options must be a mapping, as fsspec takes it")
    return options


@dataclass(frozen=True)
class Generation:
    """One copy of a collection, as ``current.json`` describes it."""

    name: str
    """Its folder: a number that grows, and a digest of what was copied and how."""
    created: datetime
    expires: datetime | None
    """When it expires and is no longer used by default; None for never."""
    ttl: float | None
    """Seconds from the one to the other."""
    nbytes: int
    """Size of the pixels, decoded."""
    source: str
    """The urlpath, for people: no secret is in it, and of a long list only its ends."""
    n_files: int
    export: Mapping[str, Any]
    """How it was written, for the next one."""
    place: str = ""
    """Digest of where the files are, equal for copies of the same files under other options."""
    decided: Mapping[str, Any] = field(default_factory=dict)
    """The options beside the place that decide its pixels."""
    seen: str = _SEEN
    """Name of the document of what is known of its files; another after it was extended."""

    @property
    def number(self) -> int:
        """Which generation of its collection this is, from 1."""
        return _number(self.name)

    @property
    def token(self) -> str:
        """Unique to this generation, even among those of the same name."""
        return f"{self.name} {self.created.isoformat()}"

    def has_expired(self) -> bool:
        """Return whether its time is over."""
        return self.expires is not None and datetime.now(UTC) >= self.expires

    def to_json(self) -> bytes:
        """Return the bytes of ``current.json``."""
        stored = {
            **self.__dict__,
            "created": self.created.isoformat(),
            "expires": self.expires and self.expires.isoformat(),
        }
        return json.dumps({"version": VERSION, **stored}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, url: str) -> Self:
        """Return the generation that :meth:`to_json` stored; *url* is for an error."""
        try:
            stored = parse_json(content)
            version = stored.pop("version")
            if version == VERSION:
                stored.pop("previous", None)  # written by earlier versions
                stored["created"] = datetime.fromisoformat(stored["created"])
                stored["expires"] = stored["expires"] and datetime.fromisoformat(stored["expires"])
                return cls(**stored)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise StorageError(
                f"{url} is damaged: {exc!r}; unpersist() removes the copy", url=url
            ) from exc
        raise StorageError(
            f"{url} is of version {version}, and this version of intake-tiffstack reads "
            f"{VERSION}: update it, or persist to another store",
            url=url,
        )

    def expiring(self, ttl: float | None) -> Generation:
        """Return this generation with *ttl* seconds left from now, or no limit if None."""
        expires = None if ttl is None else datetime.now(UTC) + timedelta(seconds=ttl)
        return replace(self, expires=expires, ttl=ttl)


def _is_ahead(now: Generation, other: Generation) -> bool:
    """Return whether a generation is later than another, or the same extended farther."""
    is_longer = now.name == other.name and now.nbytes > other.nbytes
    return now.number > other.number or is_longer


def _number(name: str) -> int:
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() else 0


@dataclass(frozen=True)
class CollectionCopies:
    """The generations of one collection."""

    store: Folder
    key: str

    def __repr__(self) -> str:
        return f"<CollectionCopies {hide_in_text(self.url)}>"

    @classmethod
    def of(cls, key: str) -> Self:
        """Return the copies for *key* in the store that is configured now; nothing is read."""
        return cls(Folder.at(find_store()[0], store_options()), key)

    @property
    def url(self) -> str:
        """Where the generations are."""
        return f"{self.store.url}/{self.key}"

    def pixels_url(self, name: str) -> str:
        """Return where the Zarr array of a generation is."""
        return f"{self.url}/{name}/{_PIXELS}"

    def current(self) -> Generation | None:
        """Return the current generation, None if there is none. One small request."""
        content = self._read(_CURRENT)
        return None if content is None else Generation.from_json(content, f"{self.url}/{_CURRENT}")

    def read_seen(self, generation: Generation) -> Discovery:
        """Return what was known of the files of a generation. One request.

        Raises
        ------
        FilesNotFoundError
            If the generation is not there, or no longer.
        """
        key = f"{generation.name}/{generation.seen}"
        url, content = f"{self.url}/{key}", self._read(key)
        if content is None:
            raise FilesNotFoundError(f"{url} is gone: the copy was removed by hand?", url=url)
        return unpack_seen(content, url)

    def _read(self, key: str) -> bytes | None:
        """Return one object, None where it is not there."""
        try:
            with self.store.read_errors():
                content: bytes = ask(
                    self.store.filesystem, "cat_file", f"{self.store.path}/{self.key}/{key}"
                )
        except FilesNotFoundError:
            return None
        return content

    def publish(self, generation: Generation, seen: Discovery) -> None:
        """Make a generation, whose pixels are written, the current one; remove old ones."""
        self.store.write_document(
            f"{self.key}/{generation.name}/{generation.seen}", pack_seen(seen)
        )
        self.store.write_document(f"{self.key}/{_CURRENT}", generation.to_json())
        try:
            self.prune(setting_seconds("persist_grace"))
        except StorageError as exc:  # the new one counts: persist() has not failed
            _LOG.warning("an old copy stays: %s", exc)

    def publish_extended(self, generation: Generation, seen: Discovery) -> Generation | None:
        """Return the current generation: this one, unless another process went farther.

        None if no copy counts any more.
        """
        with self._alone(generation.name):
            current = self.current()
            if current is None or _is_ahead(current, generation):
                return current
            self.publish(generation, seen)
        return generation

    def extend(self, generation: Generation, ttl: float | None) -> Generation:
        """Return the current generation with another time limit, and record it.

        One that another process has published since keeps its own.
        """
        changed = generation.expiring(ttl)
        with self._alone(generation.name):
            current = self.current()
            if current is not None and current != generation:
                return current
            self.store.write_document(f"{self.key}/{_CURRENT}", changed.to_json())
        return changed

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Hold the lock under which one process extends a generation."""
        folder = Folder.at(self.pixels_url(name), self.store.storage_options)
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(hold(folder, {}, last_claim(folder)))
                    break
                except TargetBusyError as exc:
                    _LOG.info("waiting: %s", exc)
                    time.sleep(_WAIT_SECONDS)
            yield

    def remove(self) -> None:
        """Remove all generations but those being written; the record of the current one first."""
        if self._read(_CURRENT) is not None:
            with _others_may_remove():
                self.store.remove([f"{self.key}/{_CURRENT}"])
        for name in self._names():
            if not self._is_written(name):
                self.remove_generation(name)

    def _names(self) -> list[str]:
        return [name for name in self.store.names(self.key) if _number(name)]

    def prune(self, grace: float, *, dry_run: bool = False) -> list[str]:
        """Remove the generations that were superseded at least *grace* seconds ago.

        A generation that is found superseded for the first time is marked with the time of this
        call. The current generation, and those that are being written, always stay.

        Parameters
        ----------
        grace : float
            Seconds; 0 removes all superseded generations at once.
        dry_run : bool
            Whether nothing is marked or removed.

        Returns
        -------
        list of str
            URLs of the removed generations, or of those that would be.
        """
        current = self.current()
        removed: list[str] = []
        if current is None:
            return removed
        for name in self._names():
            # of the same number and higher are those that others write now
            if _number(name) >= current.number or self._is_written(name):
                continue
            if self._seconds_superseded(name, mark=not dry_run) >= grace:
                if not dry_run:
                    self.remove_generation(name)
                removed.append(f"{self.url}/{name}")
        return removed

    def _seconds_superseded(self, name: str, *, mark: bool) -> float:
        """Return for how long a generation is known to be superseded, and *mark* it if asked."""
        key, now = f"{name}/{_SUPERSEDED}", datetime.now(UTC)
        content = self._read(key)
        if content is None:
            if mark:
                self.store.write_document(f"{self.key}/{key}", now.isoformat().encode())
            return 0.0
        try:
            since = datetime.fromisoformat(content.decode())
            return (now - since).total_seconds()
        except (TypeError, ValueError) as exc:  # not UTF-8, not a time, or without its zone
            url = f"{self.url}/{key}"
            raise StorageError(f"{url} is damaged: {exc}; remove this file", url=url) from exc

    def _is_written(self, name: str) -> bool:
        """Return whether a process is writing a generation now, as far as clocks agree.

        A claim from the future would block the place until its time has come. Its writer, if there
        is one, finds the claim removed and stops.
        """
        claim = last_claim(Folder.at(self.pixels_url(name), self.store.storage_options))
        return claim is not None and claim.is_alive() and not claim.is_ahead

    def remove_rest(self, name: str) -> None:
        """Remove a generation that somebody began to remove: what is left of it is not whole."""
        if _REMOVED in self.store.names(f"{self.key}/{name}"):
            self.remove_generation(name)

    def remove_generation(self, name: str) -> None:
        """Remove a generation; cut short, the rest of it is never taken for a copy."""
        start = f"{self.key}/{name}"
        with _others_may_remove():
            self.store.write_document(f"{start}/{_REMOVED}", b"")
        folder = Folder.at(f"{self.url}/{name}", self.store.storage_options)
        while keys := folder.find():
            opening = {key for key in keys if key.rpartition("/")[2] in OPENING}
            now = opening or keys - {_REMOVED} or keys  # what opens it goes first, the mark last
            with _others_may_remove():
                self.store.remove([f"{start}/{key}" for key in now])
        if is_local(self.store.url):  # where two remove at once, folders stay
            for path, _, _ in os.walk(folder.path, topdown=False):
                with suppress(OSError):  # it is not empty, or gone
                    os.rmdir(path)


def prune(grace: float | None = None, *, dry_run: bool = False) -> list[str]:
    """Remove superseded copies from the configured store.

    Each ``persist()`` does this for its own collection; this function does it for all.

    Parameters
    ----------
    grace : float, optional
        Remove copies that were superseded at least this many seconds ago; None: the setting
        ``persist_grace``. A copy that is found superseded for the first time counts from now, so
        that only 0 removes it at once. Arrays over a removed copy raise ``FileChangedError``.
    dry_run : bool
        Whether nothing is removed.

    Returns
    -------
    list of str
        URLs of the removed copies, or of those that would be.

    Raises
    ------
    StorageError
        If the store cannot be read or refuses.

    Examples
    --------
    >>> import intake
    >>> copy = intake.open_tiffstack("raw/*.tif", pattern="lattice").persist(progress=False)
    >>> prune(0)  # nothing was superseded
    []
    """
    grace = setting_seconds("persist_grace") if grace is None else grace
    store = Folder.at(find_store()[0], store_options())
    return [
        url
        for key in store.names("")
        for url in CollectionCopies(store, key).prune(grace, dry_run=dry_run)
    ]


@contextmanager
def _others_may_remove() -> Iterator[None]:
    """Ignore that something was removed already."""
    try:
        yield
    except StorageError as exc:
        if not isinstance(exc.__cause__, FileNotFoundError):
            raise
