"""The right to write at a place: one writer at a time, over a network and after a crash too.

A claim is one small object in the copy's folder, ``.tiffstack/claim-00001.json``, created
exclusively. It records who writes what, and its time is renewed while the writer lives. A writer
takes over from a dead one by creating the claim with the next number: of two, one succeeds. Only
the claim with the highest number is valid; a writer that was replaced sees it before its next
unit, and stops. All claims are removed once the copy is complete.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from intake_tiffstack.copies.zarr_documents import CLAIMS
from intake_tiffstack.errors import StorageError, TargetBusyError, TiffStackError
from intake_tiffstack.storage.attempts import ask
from intake_tiffstack.to_json import parse_json

if TYPE_CHECKING:
    from intake_tiffstack.storage.folder import Folder

__all__ = ["Claim", "Held", "Record", "hold", "last_claim"]

BEAT_SECONDS = 10.0
"""How often a writer renews its claim."""

STALE_SECONDS = 60.0
"""Age of a claim at which another writer may take over; clocks must agree better than this."""

_LOG = logging.getLogger(__name__)
_HELD: set[str] = set()  # the writers that live in this process

Phase = Literal["clearing", "writing", "replacing"]


@dataclass(frozen=True)
class Record:
    """The content of a claim."""

    number: int
    """Counts the claims on the copy, from 1."""
    writer: str
    """Random, one per attempt."""
    host: str
    """Name of the machine, for messages."""
    machine: str
    """Identifies the process table that *pid* belongs to; see :func:`_this_machine`."""
    pid: int
    beat: float
    """When the claim was last renewed, in seconds since 1970."""
    phase: Phase
    """``clearing`` until what was there before is removed, ``replacing`` while the new copy is
    written beside the old one."""
    is_stopped: bool
    """Whether the writer has failed and recorded it."""
    spec: Mapping[str, Any]
    """What is written, as JSON; writers of equal specs write the same bytes."""

    def to_json(self) -> bytes:
        """Return the bytes that are stored."""
        return json.dumps({"version": 1, **self.__dict__}, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes, number: int) -> Record:
        """Return what :meth:`to_json` wrote; a ValueError if it did not. Pure."""
        fields = parse_json(content)
        if not isinstance(fields, dict):
            raise ValueError(f"a claim must be a JSON object, but got {type(fields).__name__}")
        fields.pop("version", None)
        types = {name: type(value) for name, value in fields.items()}
        if types.get("beat") is int:
            types["beat"] = float
        if (
            types != _FIELD_TYPES
            or fields["number"] != number
            or fields["phase"] not in get_args(Phase)
            or not 0 <= fields["beat"] < _MOST_SECONDS
            or not 0 <= fields["pid"] < 2**31
        ):
            raise ValueError("a claim has other fields than a writer gives it")
        return cls(**fields)

    def is_alive(self) -> bool:
        """Return whether the writer may still be writing."""
        if self.is_stopped:
            return False
        if self.machine == _this_machine():
            if self.pid == os.getpid():
                return self.writer in _HELD
            if _is_gone(self.pid):
                return False
        return time.time() - self.beat < STALE_SECONDS

    @property
    def is_ahead(self) -> bool:
        """Whether its time has not come yet: one of two clocks is wrong."""
        return self.beat - time.time() > STALE_SECONDS

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.host else "another process"


_FIELD_TYPES = {
    **dict.fromkeys(("writer", "host", "machine", "phase"), str),
    **dict.fromkeys(("number", "pid"), int),
    "beat": float,
    "is_stopped": bool,
    "spec": dict,
}
_MOST_SECONDS = 4e9
"""A time in the year 2096: that of a claim is none after it."""


@functools.cache
def _this_machine() -> str:
    """Return an identifier of the process table: host name, boot and, on Linux, PID namespace.

    A host name and a PID are not enough: two containers of one image, or two machines called
    ``localhost``, share both, and a living writer would be taken for dead.
    """
    parts = [socket.gethostname()]
    if sys.platform == "linux":
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _is_gone(pid: int) -> bool:
    """Return whether this machine has no process of that number."""
    if os.name != "posix" or pid <= 0:  # signal 0 only asks on POSIX
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process
        return False
    return False


@dataclass(frozen=True)
class Claim:
    """A claim that this writer holds; pickled to the workers, which only check it."""

    folder: Folder
    record: Record

    def check(self) -> None:
        """Raise if another writer has taken over. Two small requests.

        Raises
        ------
        TargetBusyError
            If there is a claim with a higher number, or this one is no longer there: whoever took
            over has ended, and removed it.
        """
        own = _read(self.folder, self.record.number)
        later = _read(self.folder, self.record.number + 1)
        if later is None and own is not None and own.writer == self.record.writer:
            return
        if later is None and own is None:
            raise TargetBusyError(
                f"{self.folder.url}: the claim of this writer is gone. Another has taken over and "
                "ended, or this worker does not see the same place as the one that claimed it (a "
                "path of one machine and memory:// are not shared)",
                url=self.folder.url,
            )
        raise TargetBusyError(
            f"{self.folder.url}: {later or own} has taken over this copy, since nothing was heard "
            f"of this writer for {STALE_SECONDS:.0f} s",
            url=self.folder.url,
        )


def last_claim(folder: Folder) -> Record | None:
    """Return the valid claim, None if there is none. One listing and one read."""
    for _ in range(10):
        numbers = _numbers(folder)
        if not numbers:
            return None
        record = _read(folder, numbers[-1])
        if record is not None:  # else it was removed since the listing
            return record
    raise StorageError(f"{folder.url}: its claims change faster than they can be read")


@contextmanager
def hold(folder: Folder, spec: Mapping[str, Any], last: Record | None) -> Iterator[Held]:
    """Hold the claim on a copy while the block runs.

    If the block succeeds, the copy is complete and all claims are removed; if it fails, the claim
    is marked as stopped, so that the next writer can resume at once.

    Parameters
    ----------
    folder : Folder
        Of the copy.
    spec : dict
        What will be written, as JSON.
    last : Record, optional
        The valid claim when the caller looked.

    Raises
    ------
    TargetBusyError
        If the last writer is alive, or another one claims the copy first.
    """
    if last is not None and last.is_alive():
        raise _busy(folder, last)
    record = Record(
        number=1 if last is None else last.number + 1,
        writer=uuid.uuid4().hex,
        host=socket.gethostname(),
        machine=_this_machine(),
        pid=os.getpid(),
        beat=time.time(),
        # until other contents are removed; the last writer may have removed them already
        phase="clearing" if last is None or last.spec != spec else last.phase,
        is_stopped=False,
        spec=spec,
    )
    _HELD.add(record.writer)
    try:
        try:
            folder.create_document(_key(record.number), record.to_json())
        except FileExistsError as exc:
            found = _read(folder, record.number)
            # the answer to a write may be lost, and the store's client then writes once more
            if found is None or found.writer != record.writer:
                raise _busy(folder, found) from exc
        held = Held(Claim(folder, record))
        try:
            if last is not None and _read(folder, last.number) != last:  # it was not dead
                held.drop()
                raise _busy(folder, None)
            yield held
            held.release()
        except BaseException:  # an interrupt too leaves the copy to be resumed at once
            held.stop()
            raise
    finally:
        _HELD.discard(record.writer)


class Held:
    """A claim that a background thread renews."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="tiffstack-claim", daemon=True)
        self._thread.start()

    def renew(self, **changes: Any) -> None:
        """Renew the claim, with some of its fields changed.

        Raises
        ------
        TargetBusyError
            If another writer has taken over.
        """
        with self._lock:
            self.claim.check()
            record = replace(self.claim.record, beat=time.time(), **changes)
            self.claim = replace(self.claim, record=record)
            self.claim.folder.write_document(_key(record.number), record.to_json())

    def drop(self) -> None:
        """Remove the claim: nothing was changed under it."""
        self._end()
        self.claim.folder.remove([_key(self.claim.record.number)])

    def stop(self) -> None:
        """Leave the copy to be resumed, if the claim is still held."""
        self._end()
        try:
            self.renew(is_stopped=True)
        except TargetBusyError:
            return  # dropped, or taken over: another's now
        except TiffStackError as exc:  # the disk is full, or the store gone: that is the failure
            _LOG.warning("the claim on %s stays: %s", self.claim.folder.url, exc)

    def replace_by(self, beside: Folder) -> None:
        """Let the complete copy beside take the place of the one that is claimed.

        It brings a claim with it, so that it counts as complete if this process is killed now.
        """
        self._end()
        self.claim.check()
        record = replace(self.claim.record, phase="writing")
        beside.write_document(_key(record.number), record.to_json())
        beside.take_place_of(self.claim.folder)
        self.claim = replace(self.claim, record=record)
        beside.remove_all()  # which is the old one now

    def release(self) -> None:
        """Remove this claim and those before it: the copy is complete.

        It is so too if the store fails now, or only its answer is lost: the claim of a writer that
        has ended hinders nobody.
        """
        self._end()
        folder, own = self.claim.folder, self.claim.record.number
        try:
            folder.remove([_key(number) for number in _numbers(folder) if number <= own])
        except StorageError as exc:
            _LOG.warning("%s is complete; its claim may stay: %s", folder.url, exc)

    def _end(self) -> None:
        """Stop renewing the claim."""
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self.renew()
            except TiffStackError as exc:  # units find the problem themselves
                _LOG.warning("the claim on %s was not renewed: %s", self.claim.folder.url, exc)


def _busy(folder: Folder, record: Record | None) -> TargetBusyError:
    message = (
        f"{record or 'another process'} is writing {folder.url} at this moment; wait for it, or "
        "give another URL"
    )
    if record is not None:
        since = datetime.fromtimestamp(record.beat, UTC).isoformat(" ", "seconds")
        ahead = ", which this machine's clock has not reached" if record.is_ahead else ""
        message += (
            f". It was last heard of at {since}{ahead}. If it no longer runs, remove "
            f"{folder.url}/{_key(record.number)}"
        )
    return TargetBusyError(message, url=folder.url)


def _key(number: int) -> str:
    return f"{CLAIMS}/claim-{number:05d}.json"


def _numbers(folder: Folder) -> list[int]:
    """Return the numbers of the claims on a copy, ascending."""
    found = (re.fullmatch(r"claim-(\d{5,9})\.json", name) for name in folder.names(CLAIMS))
    return sorted(int(match[1]) for match in found if match)


def _read(folder: Folder, number: int) -> Record | None:
    """Return a claim, None if it does not exist."""
    with folder.write_errors():
        path = f"{folder.path}/{_key(number)}"
        try:
            content = ask(folder.filesystem, "cat_file", path)
            try:
                return Record.from_json(content, number)
            except ValueError:
                # created and not yet filled, or truncated by a crash: its age decides
                beat = folder.filesystem.modified(path).timestamp()
                return Record(number, "", "", "", 0, beat, "writing", False, {})
        except FileNotFoundError:
            return None
