"""Listings of buckets: pages, several at a time, of any keys, from any store that speaks S3."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from itertools import groupby
from typing import Any

import pytest
import s3fs
from fsspec.asyn import sync
from hypothesis import example, given
from hypothesis import strategies as st

from intake_tiffstack.errors import StorageError
from intake_tiffstack.listing.list_files import list_files
from intake_tiffstack.storage import s3_listing
from intake_tiffstack.storage.filesystem import get_filesystem
from intake_tiffstack.storage.s3 import Page, _split_page, list_page
from servers import S3Server, serve_files

NAMES = {
    "counted": [f"t{t:05d}.tif" for t in range(20_000)],
    "of several dimensions": [
        f"ch{c}_stack{t:05d}_{25 * t:08d}msec.tif" for c in range(4) for t in range(5_000)
    ],
    "of another order than their numbers": [f"img_{t}.tif" for t in range(20_000)],
    "with places that never count": [
        f"t{t:03d}_p{p:03d}_z{z:02d}.tif" for t in range(200) for p in range(10) for z in range(10)
    ],
    "by date": [f"20191021_t{t:05d}.tif" for t in range(20_000)],
    "without order": [f"{n * 2654435761 % 2**32:08x}.tif" for n in range(20_000)],
}


class Bucket:
    """Keys in pages as ListObjectsV2 gives them."""

    def __init__(self, keys: list[str], delimiter: str = "/", most: int = 1_000) -> None:
        self.prefix, self.delimiter, self.most = "raw/", delimiter, most
        # what is listed, each with the last key that it stands for
        groups = groupby(sorted(set(keys)), self._name)
        self.names = {name: list(of_it)[-1] for name, of_it in groups if name}
        self.requests = self.rounds = 0

    def _name(self, key: str) -> str:
        end = key.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
        return (key if end < 0 else key[: end + 1]) if key.startswith(self.prefix) else ""

    async def page(self, after: str = "", token: str | None = None) -> Page:
        """Answer one request; all that are under way are answered in one round."""
        now = self.rounds
        await asyncio.sleep(0)
        self.requests, self.rounds = self.requests + 1, max(self.rounds, now + 1)
        names, lasts = list(self.names), list(self.names.values())
        at = bisect_right(names, token) if token else bisect_right(lasts, after)
        listed = names[at : at + self.most]
        folders = [name for name in listed if self.delimiter and name.endswith(self.delimiter)]
        keys = [name for name in listed if name not in folders] if folders else listed
        tags: list[str | None] = [f'"{key}"' for key in keys]
        following = listed[-1] if at + self.most < len(names) else None
        return Page(keys, list(map(len, keys)), tags, [-1] * len(keys), folders, following)

    def listed(self) -> list[Page]:
        """Return the pages of a listing."""
        return asyncio.run(s3_listing._Listing(self, lambda page: page).follow())  # type: ignore[arg-type]


keys_of_few_characters = st.lists(st.text("019a/", max_size=6).map("raw/".__add__), max_size=80)


@given(keys_of_few_characters, st.integers(1, 7), st.sampled_from(["", "/"]))
@example([f"raw/{t:03d}" for t in range(400)], 3, "/")
@example([f"raw/{t:03d}/a" for t in range(400)], 3, "/")
@example([f"raw/{t:03d}/{z}" for t in range(40) for z in range(10)], 3, "")
def test_every_key_is_listed_once(keys: list[str], most: int, delimiter: str) -> None:
    keys = [*keys, "a", "rax"]
    pages = Bucket(keys, delimiter, most).listed()
    (everything,) = Bucket(keys, delimiter, 10**6).listed()
    for got, expected in zip(zip(*pages, strict=True), everything[:-1], strict=False):
        assert [value for of_page in got for value in of_page] == expected


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_long_listing_takes_few_requests_more(names: list[str]) -> None:
    bucket = Bucket([f"raw/{name}" for name in names], most=100)
    assert [key for page in bucket.listed() for key in page.keys] == sorted(bucket.names)
    assert bucket.requests <= 1.2 * len(names) / 100
    if names[0] != "00000000.tif":
        assert bucket.rounds <= len(names) / 100 / 3


@pytest.mark.parametrize(("count", "requests"), [(1_000, 1), (1_500, 2), (2_500, 4)])
def test_short_listing_goes_page_by_page(count: int, requests: int) -> None:
    bucket = Bucket([f"raw/t{t:05d}.tif" for t in range(count)])
    assert sum(len(page.keys) for page in bucket.listed()) == count
    assert bucket.requests == requests


@pytest.fixture
def filesystem(s3_server: S3Server) -> Any:
    return get_filesystem("s3://b/", s3_server.storage_options)[0]


def test_store_that_does_not_sort_is_listed_page_by_page(
    filesystem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets for one zone do not, and begin at the first key whatever is asked for."""
    names = [f"raw/t{n:05d}.tif" for n in (*range(600), *range(800, 1000), *range(600, 800))]

    async def page(*where: Any, after: str = "", token: str | None = None) -> Page:
        at = int(token or 0)
        keys = names[at : at + 10]
        following = str(at + 10) if at + 10 < len(names) else None
        return Page(keys, [1] * len(keys), ['"e"'] * len(keys), [-1] * len(keys), [], following)

    monkeypatch.setattr(s3_listing, "list_page", page)
    pages = s3_listing.list_keys(filesystem, "b", "raw/", "/", lambda page: page.keys)
    assert [key for keys in pages for key in keys] == names


# --- one page -----------------------------------------------------------------------------------


KEYS = [
    *(
        "raw/a b.tif",
        "raw/a+b.tif",
        "raw/a%20b.tif",
        "raw/a&b.tif",
        "raw/a<b>.tif",
        "raw/a'\"b.tif",
    ),
    *("raw/Zürich/ä.tif", "raw/\N{MICROSCOPE}.tif", "raw/a#b?c=1.tif", "raw/a&amp;b.tif"),
    *("raw/", "raw/empty/", "raw/.hidden.tif", "raw/sub//x.tif", "raw/[a]{b}.tif", "raw/a\\b.tif"),
    *(f"raw/t{t:02d}.tif" for t in range(40)),
]


@pytest.mark.parametrize("delimiter", ["/", ""])
def test_any_key_is_listed_as_s3fs_lists_it(s3_server: S3Server, delimiter: str) -> None:
    s3_server.put("listing-keys", {key: b"1" * n for n, key in enumerate(KEYS)})
    options = {**s3_server.storage_options, "s3_additional_kwargs": {"MaxKeys": 3}}
    fs, _ = get_filesystem("s3://listing-keys/", options)
    pages = s3_listing.list_keys(fs, "listing-keys", "raw/", delimiter, lambda page: page)
    got = {
        f"listing-keys/{key}": (size, etag)
        for page in pages
        for key, size, etag in zip(page.keys, page.sizes, page.etags, strict=True)
    }
    infos = sync(fs.loop, fs._lsdir, "listing-keys/raw", delimiter=delimiter)
    files = [info for info in infos if info["type"] == "file"]
    assert got == {info["name"]: (info["size"], info["ETag"]) for info in files}
    folders = {f"listing-keys/{name[:-1]}" for page in pages for name in page.folders}
    assert folders == {info["name"] for info in infos if info["type"] == "directory"}
    assert len(files) >= 50


def test_session_of_others_lists_too(s3_server: S3Server) -> None:
    s3_server.put("listing-plain", dict.fromkeys(KEYS, b"12"))
    fs, _ = get_filesystem("s3://b/", s3_server.storage_options)
    plain = s3fs.S3FileSystem(**s3_server.storage_options, skip_instance_cache=True)
    asked = "listing-plain", "raw/", "/"
    assert sync(plain.loop, list_page, plain, *asked) == sync(fs.loop, list_page, fs, *asked)


def test_listings_of_s3fs_itself_keep_all_fields(s3_server: S3Server) -> None:
    s3_server.put("listing-own", {"raw/a.tif": b"12"})
    fs, _ = get_filesystem("s3://b/", s3_server.storage_options)
    list_files("s3://listing-own/raw/*", storage_options=s3_server.storage_options)
    (info,) = fs.ls("listing-own/raw", detail=True)
    assert {"Key", "LastModified", "ETag", "Size", "StorageClass"} <= set(info)


OBJECT = "<Contents><Key>a</Key><Size>1</Size><ETag>e</ETag></Contents>"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<Error><Code>SlowDown</Code></Error>",
        f"<R>{OBJECT}<!-- <Contents> --></R>",
        f"<R>{OBJECT}<Contents><Key>b</Key><Size>1</Size></Contents></R>",
        f"<R>{OBJECT}<Contents><Key>b</Key><Size>1</Size><ETag></ETag></Contents></R>",
        f"<R>{OBJECT}<Contents><Key>b</Key><Size>one</Size><ETag>e</ETag></Contents></R>",
        f"<R>{OBJECT.replace('>a<', '>a&nbsp;<')}</R>",
        f"<R>{OBJECT}{OBJECT[:-3]}",
        f"<n:R>{OBJECT.replace('Contents', 'n:Contents')}</n:R>",
        f"<R>{OBJECT}</R>".replace(">a<", ">\r\n<"),
    ],
)
def test_page_that_is_not_plain_is_left_to_botocore(body: str) -> None:
    assert _split_page(body.encode()) is None
    assert _split_page(body.encode("utf-16")) is None


def test_page_is_split_whatever_stands_between_objects() -> None:
    one = OBJECT.replace("<Size>", "<Owner><ID>me</ID></Owner>\n<Size>").replace(
        ">e<", ">&#34;e&#34;<"
    )
    body = f"<R>{one}<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>\n{one}</R>"
    columns, rest = _split_page(body.encode()) or ((), b"")
    assert columns == (["a", "a"], [1, 1], ['"e"', '"e"'])
    assert rest == b"<R><CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>\n</R>"


# --- failures -----------------------------------------------------------------------------------


def test_failure_of_any_page_fails_the_listing(s3_server: S3Server) -> None:
    s3_server.put("listing-fails", dict.fromkeys((f"raw/t{t:03d}.tif" for t in range(300)), b"1"))
    options = {**s3_server.storage_options, "s3_additional_kwargs": {"MaxKeys": 5}}
    urlpath = "s3://listing-fails/raw/*.tif"
    assert len(list_files(urlpath, storage_options=options).files) == 300
    count = len(s3_server.requests)
    assert 60 <= count <= 72
    for number in (0, 1, 10, count - 1):
        s3_server.requests.clear()
        s3_server.refuses = lambda request, n=number: 403 if len(s3_server.requests) > n else None
        with pytest.raises(
            StorageError, match=r"read s3://listing-fails/raw/: PermissionError: as the test"
        ):
            list_files(urlpath, storage_options=options)


def test_error_of_status_200_is_an_error() -> None:
    """S3 may fail after it has begun to answer."""
    error = b"<Error><Code>InternalError</Code><Message>We failed</Message></Error>"
    with serve_files({"b": error}) as server:
        options = {
            "anon": True,
            "endpoint_url": server.url,
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }
        with pytest.raises(StorageError, match=r"s3://b/raw/: .*We failed"):
            list_files("s3://b/raw/*.tif", storage_options=options)
