"""What this package uses of s3fs beyond fsspec's interface, in one place.

fsspec has neither conditional reads (``IfMatch``) nor listings that begin at a key. A test names
the attribute of :data:`USED` that a release of s3fs moves.

References
----------
Amazon S3 API: GetObject, ListObjectsV2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["USED", "get_object", "list_page", "split_key"]

USED = (
    "_get_s3_method_kwargs",
    "call_s3",
    "get_s3",
    "local_expiry_check",
    "req_kw",
    "set_session",
    "split_path",
)
"""Attributes of ``s3fs.S3FileSystem`` that are used here."""


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
