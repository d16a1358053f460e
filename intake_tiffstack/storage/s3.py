"""What this package uses of s3fs beyond fsspec's interface, in one place.

fsspec has neither conditional reads (``IfMatch``) nor listings that begin at a key. A test names
the attribute of :data:`USED` that a release of s3fs moves.

References
----------
Amazon S3 API: GetObject, ListObjectsV2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NamedTuple
from xml.etree import ElementTree

from intake_tiffstack.storage.mtime import mtime_ns

__all__ = [
    "USED",
    "Page",
    "get_object",
    "list_page",
    "make_session",
    "split_key",
    "without_repeats",
]

USED = (
    "_call_s3",
    "_get_s3_method_kwargs",
    "get_s3",
    "kwargs",
    "local_expiry_check",
    "req_kw",
    "session",
    "set_session",
    "split_path",
)
"""Attributes of ``s3fs.S3FileSystem`` that are used here."""


def split_key(filesystem: Any, path: str) -> tuple[str, str, str | None]:
    """Return bucket, key and version of a path; the version is None if the path names none."""
    bucket, key, version = filesystem.split_path(path)
    return bucket, key, version


class Page(NamedTuple):
    """The keys that one request lists."""

    keys: list[str]
    sizes: list[int]
    etags: list[str | None]
    mtimes: list[int]
    """ns since 1970; -1 of objects with an ETag."""
    folders: list[str]
    """What keys begin with that a delimiter rolled up; each ends in it."""
    token: str | None
    """What the next page is requested with; None if this is the last one."""


async def list_page(
    filesystem: Any,
    bucket: str,
    prefix: str,
    delimiter: str,
    *,
    after: str = "",
    token: str | None = None,
) -> Page:
    """Return up to 1,000 keys that begin with a prefix and come after a key; one request.

    With *token* the page that follows the one that gave it.
    """
    where = {"ContinuationToken": token} if token else {"StartAfter": after} if after else {}
    is_own = _IS_OWN.set(True)
    try:
        answer: Mapping[str, Any] = await filesystem._call_s3(
            "list_objects_v2",
            filesystem.req_kw,
            Bucket=bucket,
            Prefix=prefix,
            Delimiter=delimiter,
            **where,
        )
    finally:
        _IS_OWN.reset(is_own)
    folders = [item["Prefix"] for item in answer.get("CommonPrefixes", ())]
    following = answer["NextContinuationToken"] if answer.get("IsTruncated") else None
    if _COLUMNS not in answer:
        items = answer.get("Contents", ())
        etags = [item.get("ETag") or None for item in items]
        mtimes = [-1 if item.get("ETag") else mtime_ns(item) for item in items]
        keys, sizes = [item["Key"] for item in items], [item["Size"] for item in items]
        return Page(keys, sizes, etags, mtimes, folders, following)
    keys, sizes, etags = answer[_COLUMNS]
    if answer.get("EncodingType") == "url":
        from botocore.compat import unquote_str

        keys = list(map(unquote_str, keys))
    return Page(keys, sizes, etags, [-1] * len(keys), folders, following)


_IS_OWN = ContextVar("is_own", default=False)
"""Whether a request is one of :func:`list_page`, and not of s3fs itself."""

_COLUMNS = "intake_tiffstack.columns"

_values = [
    re.compile(f"<{name}>({value}+)</{name}>")
    for name, value in (("Key", "[^<]"), ("Size", "[0-9]"), ("ETag", "[^<]"))
]


def make_session(filesystem: Any) -> None:
    """Give a filesystem the session that it would make, with two changes to botocore.

    Listings are read faster: botocore makes a tree of a page of 1,000 keys twice, and reads each
    time by dateutil. Writes do not wait for ``100 Continue``: aiohttp waits for it without a limit,
    whatever ``read_timeout`` says.
    """
    from aiobotocore.session import AioSession  # installed, because there is a filesystem
    from botocore.handlers import add_expect_header

    if filesystem.session is None:
        session = AioSession(**filesystem.kwargs)
        parsers = session.get_component("response_parser_factory")
        parsers.set_parser_defaults(timestamp_parser=_parse_time)
        # a handler of the widest name runs before botocore's, which looks for an error in the body
        session.register("before-parse.*.ListObjectsV2", _take_objects)
        session.unregister("before-call.s3", add_expect_header)
        filesystem.session = session


def _parse_time(value: Any) -> datetime:
    """Return a time of a response: ISO 8601 in listings; what else there is, botocore reads.

    >>> _parse_time("2019-01-01T12:00:00.000Z") == _parse_time("Tue, 01 Jan 2019 12:00:00 GMT")
    True
    """
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):  # seconds, or the date of a header
        found: datetime = parse_timestamp(value)
        return found


def _take_objects(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Take the objects out of a page of keys, before botocore parses what is left."""
    if _IS_OWN.get() and (split := _split_page(response_dict["body"])) is not None:
        customized_response_dict[_COLUMNS], response_dict["body"] = split


def _split_page(body: bytes) -> tuple[tuple[list[str], list[int], list[str]], bytes] | None:
    """Return keys, sizes and ETags of a page, and the page without them.

    None if it is not plainly written, or an object has none of these: botocore reads it then. Pure.

    >>> of_one = b"<Key>a&amp;b</Key><ETag>&quot;e&quot;</ETag><Size>3</Size>"
    >>> _split_page(b"<R><Contents>" + of_one + b"</Contents></R>")
    ((['a&b'], [3], ['"e"']), b'<R></R>')
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    start, *objects = text.split("<Contents>")
    count = len(objects)
    if not count or text.count("</Contents>") != count or "<!" in text or "\r" in text:
        return None
    rest = start + "".join([item.partition("</Contents>")[2] for item in objects])
    text = text.replace("&quot;", '"').replace("&#34;", '"')
    keys, sizes, etags = (pattern.findall(text) for pattern in _values)
    if not len(keys) == len(sizes) == len(etags) == count:
        return None
    try:
        columns = list(map(_plain, keys)), list(map(int, sizes)), list(map(_plain, etags))
    except ElementTree.ParseError:
        return None
    return columns, rest.encode()


def _plain(text: str) -> str:
    """Return text of XML without its escapes. Pure."""
    return text if "&" not in text else ElementTree.fromstring(f"<a>{text}</a>").text or ""


async def get_object(filesystem: Any, path: str, byte_range: str, etag: str | None) -> Any:
    """Return botocore's answer to one GetObject; the store refuses (412) another ETag.

    Not s3fs's ``_cat_file``, which has no ``IfMatch`` and repeats what botocore repeats too.
    """
    bucket, key, version = split_key(filesystem, path)
    arguments = {"Bucket": bucket, "Key": key, "Range": byte_range}
    if version:
        arguments["VersionId"] = version
    if etag and not filesystem.local_expiry_check:  # set for stores without IfMatch
        arguments["IfMatch"] = '"{}"'.format(etag.strip('"'))
    await filesystem.set_session()
    client = await filesystem.get_s3(bucket)
    # with what every request of this filesystem carries: encryption keys, requester pays
    arguments = filesystem._get_s3_method_kwargs(client.get_object, filesystem.req_kw, **arguments)
    return await client.get_object(**arguments)


def without_repeats(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return storage options with which botocore makes each request once, unless they say more.

    Examples
    --------
    >>> without_repeats({"anon": True})
    {'anon': True, 'config_kwargs': {'retries': {'max_attempts': 0}}}
    """
    given = options.get("config_kwargs") or {}
    return {**options, "config_kwargs": {"retries": {"max_attempts": 0}, **given}}
