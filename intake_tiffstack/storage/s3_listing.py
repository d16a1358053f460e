"""All keys of a bucket that begin with a prefix: 1,000 per request, several requests at a time.

One page names the next, so that a listing is a chain of requests. A long one is split: another
chain begins at a key further on, and the first ends there. Where that is decides how many requests
there are, not what is listed.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

from fsspec.asyn import sync

from intake_tiffstack.storage.attempts import Patience, may_pass, persist
from intake_tiffstack.storage.files import File
from intake_tiffstack.storage.s3 import Page, list_page

__all__ = ["find_keys", "list_keys"]

T = TypeVar("T")

_LEVELS = 3
"""Chains that one chain starts: some 10, 100 and 1,000 pages ahead."""

_SHORT = 5
"""Pages of a chain that was not worth a request more."""


def list_keys(
    filesystem: Any, bucket: str, prefix: str, delimiter: str, convert: Callable[[Page], T]
) -> list[T]:
    """Return ``convert(page)`` of all pages of keys that begin with *prefix*, in order.

    Parameters
    ----------
    filesystem : s3fs.S3FileSystem
        Makes the requests.
    bucket, prefix : str
        Where to list.
    delimiter : str
        ``/`` for one folder, empty for all below it.
    convert : callable
        Takes a page; called in the thread of the event loop.

    Raises
    ------
    OSError and others
        As s3fs does; see :func:`~intake_tiffstack.storage.failures.storage_errors`.
    """
    ask = _Requests(filesystem, bucket, prefix, delimiter)
    try:
        found: list[T] = sync(filesystem.loop, _Listing(ask, convert).follow)
    except _NotSortedError:  # by a store that does not keep to the order of keys
        found = sync(filesystem.loop, _Listing(ask, convert, may_split=False).follow)
    return found


@dataclass(frozen=True)
class _Requests:
    """Requests for pages, each within the settings of this package."""

    filesystem: Any
    bucket: str
    prefix: str
    delimiter: str
    patience: Patience = field(default_factory=partial(Patience.of_settings, has_timeout=False))

    async def page(self, after: str = "", token: str | None = None) -> Page:
        """Return the first page of keys after one, or that of a token."""
        pages: list[Page] = []

        async def once(is_alive: Callable[[], None]) -> None:
            where = self.filesystem, self.bucket, self.prefix, self.delimiter
            pages.append(await list_page(*where, after=after, token=token))

        is_passing = may_pass(self.filesystem)  # botocore repeats the rest
        await persist(once, f"s3://{self.bucket}", self.patience, is_passing)
        return pages[-1]


class _NotSortedError(Exception):
    """A store lists keys in another order than that of their characters."""


class _Listing(Generic[T]):
    """Chains of pages, each up to where the next one begins."""

    def __init__(
        self, ask: _Requests, convert: Callable[[Page], T], *, may_split: bool = True
    ) -> None:
        self._ask, self._convert, self._may_split = ask, convert, may_split
        self._is_worth: dict[int, bool] = {}
        """By place in the key: whether a chain that begins with the next digit saves time."""

    async def follow(self, after: str = "", until: str | None = None) -> list[T]:
        """Return the converted pages of a chain and of those that it starts.

        Parameters
        ----------
        after : str
            The key before the first; empty for the first chain.
        until : str, optional
            The last key that may be listed; None where all may.
        """
        found: list[T] = []
        others: list[asyncio.Task[list[T]]] = []
        # of the first chain it is not known before its second page that the listing is long
        first_split = 1 if after else 2
        token, last, is_sorted, is_end = None, after, True, False
        try:
            while not is_end:
                page = await self._ask.page(after, token)
                is_sorted = is_sorted and _is_sorted(page, last)
                if not is_sorted and (after or others):
                    raise _NotSortedError
                token, last = page.token, max([last, *page.keys[-1:], *page.folders[-1:]])
                is_end = token is None or (until is not None and last > until)
                if after and not found:  # no key with this digit: the place does not count on
                    first = min([*page.keys[:1], *page.folders[:1]], default="")
                    self._is_worth.setdefault(len(after), first.startswith(after[:-1]))
                page = _cut(page, after, until)
                found.append(self._convert(page))
                if is_sorted and not is_end and not others and len(found) >= first_split:
                    starts = self._starts(page, last, until)[: _LEVELS if after else 1]
                    ends = [*starts[1:], until]
                    until = starts[0] if starts else until
                    others = [
                        asyncio.create_task(self.follow(*span))
                        for span in zip(starts, ends, strict=False)
                    ]
            if others and len(found) < _SHORT and until is not None:
                self._is_worth[len(until)] = False
            return [*found, *chain.from_iterable([await other for other in others])]
        finally:
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    def _starts(self, page: Page, last: str, until: str | None) -> list[str]:
        """Return where other chains may begin, ascending."""
        return [
            key
            for key in _keys_ahead(page, last, self._ask.prefix)
            if self._may_split
            and (until is None or key < until)
            and self._is_worth.get(len(key), True)
        ]


def _is_sorted(page: Page, last: str) -> bool:
    """Return whether the keys of a page are in order, and come after *last*. Pure."""
    names = [last, *page.keys]
    return names == sorted(names) and page.folders == sorted(page.folders)


def _cut(page: Page, after: str, until: str | None) -> Page:
    """Return the part of a page that lies after one key, and up to another. Pure."""
    folders = [name for name in page.folders if name > after and (until is None or name <= until)]
    if until is None or not page.keys or page.keys[-1] <= until:
        return page._replace(folders=folders)
    stop = bisect_right(page.keys, until)
    columns = page.keys[:stop], page.sizes[:stop], page.etags[:stop], page.mtimes[:stop]
    return Page(*columns, folders, page.token)


def _keys_ahead(page: Page, last: str, prefix: str) -> list[str]:
    """Return texts that keys far behind a page may begin with, ascending. Pure.

    The first digit in which the middle of a page and its end differ counts less than a page; the
    second before it counts ten pages or so, the next a hundred.

    Examples
    --------
    >>> keys = [f"raw/c0_t{t:04d}.tif" for t in range(100)]
    >>> _keys_ahead(Page(keys, [], [], [], [], "token"), keys[-1], "raw/")
    ['raw/c0_t1', 'raw/c1']
    """
    names = (page.keys if page.keys[-1:] == [last] else page.folders) or [last]
    middle = names[len(names) // 2]
    shared = len(os.path.commonprefix([middle, last]))  # noqa: RUF071 - by character is meant
    return [
        last[:at] + str(int(last[at]) + 1)
        for at in range(shared - 2, len(prefix) - 1, -1)
        if last[at] in "012345678"
    ]


def find_keys(filesystem: Any, bucket: str, prefix: str, paths: Mapping[str, str]) -> list[File]:
    """Return which of these keys of one folder exist; 1,000 names per request.

    Each request begins at the next key wanted, so that a folder of a million others costs no more
    than one request per key.

    Parameters
    ----------
    filesystem : s3fs.S3FileSystem
        Makes the requests.
    bucket, prefix : str
        What is listed: all keys begin with the prefix.
    paths : mapping of str
        The URL of each key.
    """
    requests = _Requests(filesystem, bucket, prefix, "/")
    found: list[File] = sync(filesystem.loop, _find_keys, requests, paths)
    return found


async def _find_keys(requests: _Requests, paths: Mapping[str, str]) -> list[File]:
    found: list[File] = []
    keys, at = sorted(paths), 0
    while at < len(keys):
        try:
            page = await requests.page(keys[at][:-1])
        except (PermissionError, FileNotFoundError):
            break  # permission to read a file does not imply permission to list its folder
        found += [
            File(paths[key], size, mtime, etag)
            for key, size, etag, mtime in zip(
                page.keys, page.sizes, page.etags, page.mtimes, strict=True
            )
            if key in paths
        ]
        seen = bisect_right(keys, max([*page.keys, *page.folders], default=""))
        at = max(at + 1, seen) if page.token else len(keys)
    return found
