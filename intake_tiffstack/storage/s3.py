"""What this package uses of s3fs beyond fsspec's interface, in one place.

fsspec has neither conditional reads (``IfMatch``) nor listings that begin at a key. A test names
the attribute of :data:`USED` that a release of s3fs moves.

References
----------
Amazon S3 API: GetObject, ListObjectsV2.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

__all__ = ["USED", "get_object", "list_page", "make_session", "split_key", "without_repeats"]

USED = (
    "_get_s3_method_kwargs",
    "call_s3",
    "get_s3",
    "kwargs",
    "local_expiry_check",
    "req_kw",
    "session",
    "set_session",
    "split_path",
)
"""Attributes of ``s3fs.S3FileSystem`` that are used here."""


def make_session(filesystem: Any) -> None:
    """Give a filesystem the session that it would make, which reads the times of a listing faster.

    botocore reads each time by dateutil: four fifths of the CPU of a listing.
    """
    from aiobotocore.session import AioSession  # installed, because there is a filesystem

    if filesystem.session is None:
        session = AioSession(**filesystem.kwargs)
        parsers = session.get_component("response_parser_factory")
        parsers.set_parser_defaults(timestamp_parser=_parse_time)
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


def split_key(filesystem: Any, path: str) -> tuple[str, str, str | None]:
    """Return bucket, key and version of a path; the version is None if the path names none."""
    bucket, key, version = filesystem.split_path(path)
    return bucket, key, version


def list_page(filesystem: Any, bucket: str, prefix: str, start_after: str) -> Mapping[str, Any]:
    """Return up to 1,000 keys of one folder that come after a key; one request."""
    page: Mapping[str, Any] = filesystem.call_s3(
        "list_objects_v2",
        filesystem.req_kw,
        Bucket=bucket,
        Prefix=prefix,
        StartAfter=start_after,
        Delimiter="/",
    )
    return page


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
