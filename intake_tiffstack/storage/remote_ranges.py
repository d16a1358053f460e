"""Ranges of bytes of an object in a store, each checked.

A response is accepted only if it is of the object that was listed and holds exactly the range that
was requested. S3 and HTTP confirm both with every response; in any other store the file is looked
up once more after the reads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.cached import CachingFileSystem, WholeFileCacheFileSystem

from intake_tiffstack.errors import (
    FileChangedError,
    FilesNotFoundError,
    StorageError,
    TiffStackError,
    UnreadableFileError,
)
from intake_tiffstack.storage import obstore_s3
from intake_tiffstack.storage.attempts import Patience, persist
from intake_tiffstack.storage.failures import (
    http_status,
    is_unauthorized,
    storage_errors,
    store_exceptions,
)
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.filesystem import get_filesystem, renew_filesystem, speaks
from intake_tiffstack.storage.http import get_range
from intake_tiffstack.storage.mtime import mtime_ns
from intake_tiffstack.storage.s3 import get_object, without_repeats
from intake_tiffstack.storage.store import stat_file
from intake_tiffstack.storage.urls import is_local, store_of
from intake_tiffstack.storage.zipped import move_forward

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Downloads", "Fill", "Ranges", "RemoteBytes", "are_checked", "fill_all", "get_ranges"]

PART_BYTES = 2**22
"""Longer ranges are requested in parts: they arrive in parallel, and a failure costs one part. At
100 MB/s per connection a part takes about as long as a round trip of 30 ms."""

_SHORT = 2**18
"""A shorter range is requested with its neighbour: a header with pixels."""

_CHUNK = 2**20  # most bytes read from a body at a time

Ranges = Sequence[tuple[int, memoryview]]
"""First byte in the file, and the writable contiguous buffer to fill."""

Fetch = Callable[["_Part", Callable[[], None]], Awaitable[None]]
"""Fills a part by one request; calls its second argument whenever data arrive."""


@dataclass(frozen=True)
class RemoteBytes:
    """An object of any fsspec filesystem, read by ranges."""

    file: File
    storage_options: Mapping[str, Any] = field(repr=False)
    read_cost: int = 2**18  # a request takes about as long as 256 kB at 10 MB/s and 25 ms

    def fill(self, spans: Ranges) -> None:
        """Fill each buffer; see :func:`get_ranges`."""
        get_ranges(self.file, spans, self.storage_options)

    def fill_held(self, spans: Ranges) -> Ranges:
        """Return all spans: each needs a request."""
        return spans


def are_checked(urls: Sequence[str], storage_options: Mapping[str, Any]) -> list[bool]:
    """Return of each file whether its store has its responses checked one by one: S3 and HTTP.

    :class:`Downloads` need that.

    Raises
    ------
    OptionError, StorageError, FilesNotFoundError
        See :func:`get_filesystem`.
    """
    known: dict[str, bool] = {}  # by store: looking for the filesystem takes 20 us
    checked = []
    for url in urls:
        store = store_of(url)
        if store not in known:
            is_one = not is_local(url)
            known[store] = is_one and speaks(get_filesystem(url, storage_options)[0], "s3", "http")
        checked.append(known[store])
    return checked


def get_ranges(file: File, ranges: Ranges, storage_options: Mapping[str, Any]) -> None:
    """Fill each buffer from its first byte in *file* on, several requests at a time.

    One request per 4 MiB of a range. On S3 and HTTP each response is checked by itself; elsewhere
    the file is looked up once, after all of them.

    Parameters
    ----------
    file : File
        The file as it was listed.
    ranges : sequence[tuple[int, memoryview]]
        First byte, and the writable contiguous buffer to fill.
    storage_options : mapping of str
        Passed to fsspec.

    Raises
    ------
    FileChangedError
        If the file no longer exists, or its size, ETag or time differs from the listed one.
    UnreadableFileError
        If a range exceeds the listed size; nothing is requested.
    StorageError
        If the store refuses, fails longer than the settings ``retries`` and ``timeout`` allow, or
        returns other bytes than were requested.
    """
    parts = _split_ranges(file, ranges)
    if not parts:
        return
    with _read_errors(file, storage_options):
        filesystem, path = get_filesystem(file.url, storage_options)
        if speaks(filesystem, "s3", "http"):
            fetch = _fetch_checked(filesystem, path, storage_options)
            sync(filesystem.loop, _fetch_parts, fetch, parts, Patience.of_settings())
            return
        try:
            if isinstance(filesystem, AsyncFileSystem):
                fetch = partial(_fetch_any, filesystem, path)
                patience = Patience.of_settings(has_timeout=False)
                sync(filesystem.loop, _fetch_parts, fetch, parts, patience)
            else:
                _read_in_turn(filesystem, path, parts)
        finally:  # after the read, because the file could be replaced between lookup and read
            _refuse_changed(file, stat_file(file.url, storage_options))


@dataclass(frozen=True)
class _Part:
    """Bytes of a file that one request fetches, and their buffers, one after the other."""

    file: File
    start: int
    buffers: tuple[memoryview, ...]

    @property
    def count(self) -> int:
        """How many bytes."""
        return sum(map(len, self.buffers))

    @property
    def stop(self) -> int:
        """The byte after the last."""
        return self.start + self.count

    def take(self, done: int, data: Any) -> int:
        """Copy what arrived after *done* bytes into the buffers, and return how many are there."""
        left = memoryview(data)
        if done + len(left) > self.count:
            raise self.error("more")
        begin = 0
        for buffer in self.buffers:
            at = done - begin
            begin += len(buffer)
            if left and at < len(buffer):
                some = left[: len(buffer) - at]
                buffer[at : at + len(some)] = some
                done, left = done + len(some), left[len(some) :]
        return done

    @property
    def header(self) -> str:
        """The header ``Range``."""
        return f"bytes={self.start}-{self.stop - 1}"

    def error(self, got: str) -> StorageError:
        """Return the error for a response that holds something else."""
        return StorageError(
            f"{self.file.url}: asked for {self.count:,} bytes from byte {self.start:,}, but "
            f"got {got}",
            url=self.file.url,
        )


def _split_ranges(file: File, ranges: Ranges) -> list[_Part]:
    """Return the ranges in parts of at most :data:`PART_BYTES`, empty ones left out. Pure.

    Two ranges of which one follows the other at once are one part if one of them is short.
    """
    parts: list[_Part] = []
    for start, buffer in ranges:
        if not buffer.nbytes:
            continue
        if 0 <= file.size < start + buffer.nbytes:
            raise UnreadableFileError(
                f"{file.url} ends at byte {file.size:,}, but {buffer.nbytes:,} bytes from byte "
                f"{start:,} on are needed",
                url=file.url,
            )
        view = buffer.cast("B")
        at = 0
        is_next = bool(parts) and parts[-1].stop == start and parts[-1].count < PART_BYTES
        if is_next and min(parts[-1].count, len(view)) < _SHORT:
            at = min(len(view), PART_BYTES - parts[-1].count)
            parts[-1] = replace(parts[-1], buffers=(*parts[-1].buffers, view[:at]))
        parts += [
            _Part(file, start + at, (view[at : at + PART_BYTES],))
            for at in range(at, len(view), PART_BYTES)
        ]
    return parts


# --- checks -------------------------------------------------------------------------------------


@contextmanager
def _read_errors(file: File, storage_options: Mapping[str, Any]) -> Iterator[None]:
    """Turn exceptions of a store into our errors; a file that differs from its listing changed."""
    try:
        with storage_errors(file.url, storage_options):
            yield
    except FilesNotFoundError as exc:
        raise FileChangedError(
            f"{file.url} was listed but no longer exists; call relist()", url=file.url
        ) from exc
    except StorageError as exc:
        # 412: another ETag than was listed. 416: the file is now shorter than was listed.
        if exc.__cause__ is not None and http_status(exc.__cause__) in (412, 416):
            raise _changed(file, exc.details["cause"]) from exc
        raise


def _changed(file: File, what: str) -> FileChangedError:
    return FileChangedError(
        f"{file.url} changed since it was listed ({what}); call relist() and open again",
        url=file.url,
    )


def _refuse_changed(file: File, now: File) -> None:
    if file.agrees_with(now):
        return
    if min(file.size, now.size) >= 0 and file.size != now.size:
        raise _changed(file, f"size {file.size:,}, now {now.size:,}")
    raise _changed(file, f"ETag {file.etag}, now {now.etag}" if file.etag else "another time")


def _refuse_answer(part: _Part, status: int, headers: Mapping[str, str]) -> None:
    """Raise unless an HTTP response is of the listed file and holds exactly the part. Pure."""
    count = part.count
    length = int(headers.get("content-length", count))
    stated = headers.get("content-range", "") if status == 206 else f"bytes 0-{length - 1}/{length}"
    span, _, size = stated.partition("/")
    is_asked = span == part.header.replace("=", " ")
    if status != 206 and not is_asked:
        raise part.error(
            f"all {length:,}: the server ignores ranges; read local copies of the files instead, "
            f"as simplecache::{part.file.url}"
        )
    now = File(
        part.file.url,
        int(size) if size.isdigit() else -1,
        mtime_ns(headers) if part.file.mtime_ns >= 0 else -1,
        headers.get("etag"),
    )
    _refuse_changed(part.file, now)
    if not is_asked or length != count:
        raise part.error(f"{length:,} ({stated or 'no Content-Range'})")


# --- one part -----------------------------------------------------------------------------------


def _fetch_checked(filesystem: Any, path: str, options: Mapping[str, Any]) -> Fetch:
    """Return what fetches a part of the file at *path* in a store whose responses are checked."""
    if not speaks(filesystem, "s3"):
        return partial(_fetch_http, filesystem, path)

    async def fetch(part: _Part, is_alive: Callable[[], None]) -> None:
        try:
            await _fetch_s3(filesystem, path, options, part, is_alive)
        except store_exceptions() as exc:
            if isinstance(exc, TiffStackError) or not is_unauthorized(exc):
                raise
            for one in (options, without_repeats(options)):
                renew_filesystem(part.file.url, one)  # its credentials may have expired
            renewed, _ = get_filesystem(part.file.url, options)
            await _fetch_s3(renewed, path, options, part, is_alive)

    return fetch


async def _fetch_s3(
    filesystem: Any,
    path: str,
    options: Mapping[str, Any],
    part: _Part,
    is_alive: Callable[[], None],
) -> None:
    """Fetch by one GetObject, which the store refuses if the ETag differs from the listed one."""
    try:
        await _fetch_obstore(filesystem, path, part, is_alive)
        return
    except obstore_s3.NotReachedError:
        pass
    once, _ = get_filesystem(part.file.url, without_repeats(options))
    answer = await get_object(once, path, part.header, part.file.etag)
    body, response = answer["Body"], answer["ResponseMetadata"]
    async with body:
        _refuse_answer(part, response["HTTPStatusCode"], response["HTTPHeaders"])
        await _fill_part(part, partial(body.read, _CHUNK), is_alive)


async def _fetch_obstore(
    filesystem: Any, path: str, part: _Part, is_alive: Callable[[], None]
) -> None:
    """Fetch by one GetObject of obstore."""
    answer = await obstore_s3.get_range(filesystem, path, (part.start, part.stop), part.file.etag)
    time = answer.last_modified.timestamp() if answer.last_modified else None
    now = File(
        part.file.url,
        answer.size,
        mtime_ns({"mtime": time}) if part.file.mtime_ns >= 0 else -1,
        answer.etag,
    )
    _refuse_changed(part.file, now)
    if (answer.start, answer.stop) != (part.start, part.stop):
        raise part.error(f"bytes {answer.start}-{answer.stop - 1}")
    done = 0
    async for chunk in answer.chunks:
        is_alive()
        done = part.take(done, chunk)
    if done < part.count:
        raise part.error(f"{done:,}")


async def _fetch_http(filesystem: Any, url: str, part: _Part, is_alive: Callable[[], None]) -> None:
    """Fetch by one GET, abandoned before the body if the headers do not fit the request."""
    async with get_range(filesystem, url, part.header) as answer:
        answer.raise_for_status()
        _refuse_answer(part, answer.status, answer.headers)
        await _fill_part(part, answer.content.readany, is_alive)


async def _fetch_any(filesystem: Any, path: str, part: _Part, is_alive: Callable[[], None]) -> None:
    """Fetch by the method of any asynchronous filesystem, which has its own timeouts."""
    content = await filesystem._cat_file(path, start=part.start, end=part.stop)
    if len(content) != part.count:
        raise part.error(f"{len(content):,}")
    part.take(0, content)


async def _fill_part(
    part: _Part, read: Callable[[], Awaitable[bytes]], is_alive: Callable[[], None]
) -> None:
    """Copy a body into the buffer as it arrives."""
    done = 0
    while chunk := await read():
        is_alive()
        done = part.take(done, chunk)
    if done < part.count:
        raise part.error(f"{done:,}")


# --- many parts ---------------------------------------------------------------------------------


async def _fetch_parts(fetch: Fetch, parts: Sequence[_Part], patience: Patience) -> None:
    """Fetch all parts at once; the first final failure cancels the others."""
    url = parts[0].file.url
    if len(parts) == 1:
        await persist(partial(fetch, parts[0]), url, patience)
        return
    tasks = [asyncio.create_task(persist(partial(fetch, part), url, patience)) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:  # no buffer is written to once this returns
        await _cancel(tasks)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- many files ---------------------------------------------------------------------------------


class Fill(NamedTuple):
    """Ranges of one file to fetch."""

    key: Any
    """Whatever names them to the caller."""
    source: RemoteBytes
    """The file, in a store that :func:`are_checked` accepts."""
    spans: Ranges


class Downloads:
    """Ranges of many files fetched in the background, all requests at a time that the gate admits.

    A context manager: at its end nothing is under way, and no buffer is written to any more. Any
    number of threads may start fetches, and wait for them.
    """

    def __init__(self) -> None:
        self._done: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._tasks: dict[asyncio.AbstractEventLoop, set[asyncio.Task[None]]] = {}
        self._patience = Patience.of_settings()
        self._lock = threading.Lock()
        self._under_way = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        if self._under_way:
            for loop, tasks in self._tasks.items():
                sync(loop, self._cancel_all, tasks)

    def start(self, fills: Sequence[Fill]) -> None:
        """Start fetching; returns at once."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, Coroutine[Any, Any, None]]]] = {}
        known: dict[tuple[str, int], AbstractFileSystem] = {}
        for key, source, spans in fills:
            file, options = source.file, source.storage_options
            store = store_of(file.url), id(options)  # looking for the filesystem takes 50 us
            try:
                parts = _split_ranges(file, spans)
                if not parts:
                    self._done.put((key, None))
                    continue
                if store not in known:
                    known[store] = get_filesystem(file.url, options)[0]
            except TiffStackError as exc:
                self._done.put((key, exc))
                continue
            filesystem = known[store]
            path = str(filesystem._strip_protocol(file.url))
            work = self._fetch(_fetch_checked(filesystem, path, options), parts, source)
            by_loop.setdefault(filesystem.loop, []).append((key, work))
        for loop, works in by_loop.items():
            with self._lock:
                self._under_way += len(works)
                self._tasks.setdefault(loop, set())
            loop.call_soon_threadsafe(self._spawn, loop, works)

    def next(self) -> tuple[Any, BaseException | None]:
        """Wait for the next fill that is done, and return its key and its error, None if filled."""
        return self._done.get()

    def wake(self) -> None:
        """Let one caller of :meth:`next` go on, with the key None."""
        self._done.put((None, None))

    async def _fetch(self, fetch: Fetch, parts: Sequence[_Part], source: RemoteBytes) -> None:
        with _read_errors(source.file, source.storage_options):
            await _fetch_parts(fetch, parts, self._patience)

    def _spawn(
        self,
        loop: asyncio.AbstractEventLoop,
        works: Sequence[tuple[Any, Coroutine[Any, Any, None]]],
    ) -> None:
        """Begin tasks; runs in the thread of the loop."""
        tasks = self._tasks[loop]
        for key, work in works:
            task = loop.create_task(work)
            tasks.add(task)
            task.add_done_callback(partial(self._report, tasks, key))

    def _report(self, tasks: set[asyncio.Task[None]], key: Any, task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        with self._lock:
            self._under_way -= 1
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._done.put((key, error))

    @staticmethod
    async def _cancel_all(tasks: set[asyncio.Task[None]]) -> None:
        while tasks:  # what was started last may not have begun before
            await _cancel(list(tasks))
            await asyncio.sleep(0)


def fill_all(fills: Sequence[Fill]) -> dict[Any, TiffStackError]:
    """Fill the buffers of many files, all at once, and return the error of each that failed."""
    errors: dict[Any, TiffStackError] = {}
    with Downloads() as downloads:
        downloads.start(fills)
        for _ in fills:
            key, error = downloads.next()
            if isinstance(error, TiffStackError):
                errors[key] = error
            elif error is not None:
                raise error
    return errors


# --- filesystems without asyncio ----------------------------------------------------------------

_TURNS: list[threading.Lock] = []


def _renew_turns() -> None:
    _TURNS[:] = [threading.Lock() for _ in range(64)]


_renew_turns()
if hasattr(os, "register_at_fork"):  # a lock that another thread holds stays locked in the child
    os.register_at_fork(after_in_child=_renew_turns)


def _turn(filesystem: AbstractFileSystem) -> AbstractContextManager[Any]:
    """Return the lock that keeps two threads from one connection, tar file or cache.

    fsspec's caches keep one list of all their files, and lose entries that two threads add.
    """
    if filesystem.protocol in (
        "zip",
        "memory",
    ):  # the first has its own lock, the second needs none
        return nullcontext()
    return _TURNS[hash(filesystem) % len(_TURNS)]


def _read_in_turn(filesystem: AbstractFileSystem, path: str, parts: Sequence[_Part]) -> None:
    """Read all parts through one handle, forwards, because compressed streams cannot seek back."""
    with _turn(filesystem):
        if isinstance(filesystem, WholeFileCacheFileSystem):
            _remove_stale_copy(filesystem, path)
        # a cache of blocks hands its options on to a store that has one of this name already
        is_cached = isinstance(filesystem, CachingFileSystem)
        with filesystem.open(path, "rb", **({} if is_cached else {"cache_type": "none"})) as handle:
            for part in sorted(parts, key=attrgetter("start")):
                move_forward(handle, part.start)
                done = sum(_read_into(handle, buffer) for buffer in part.buffers)
                if done < part.count:
                    raise part.error(f"{done:,}")


def _read_into(handle: Any, buffer: memoryview) -> int:
    """Fill a buffer from a handle, and return how many bytes there were."""
    done = 0
    while count := handle.readinto(buffer[done:]):
        done += count
    return done


def _remove_stale_copy(filesystem: AbstractFileSystem, path: str) -> None:
    """Remove a local copy made before its file was last written, which fsspec does not check."""
    with filesystem.open(path, "rb") as copy:
        name, made = copy.name, os.fstat(copy.fileno()).st_mtime_ns
    filesystem.invalidate_cache(path)
    if mtime_ns(filesystem.info(path)) // 10**9 >= made // 10**9:  # stores give whole seconds
        os.remove(name)
