"""A store at a distance, over HTTP and as S3: ``python -m ... FOLDER DELAY RATE``.

Each request is answered after a delay, and each connection sends so many bytes a second. Files have
ETags, ranges are served, and a file of another ETag than ``If-Match`` names is refused; as S3, keys
are listed. Written for little work per request, because it shares the processors with its clients:
no writes, and signatures are not checked. A process of its own, which serves until its standard
input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import urllib.request
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

__all__ = ["BUCKET", "DistantStore", "serve_from_afar"]

DELAY = 0.03
"""Seconds."""

RATE = 100e6
"""Bytes a second and connection."""

BUCKET = "benchmarks"
_PAGE = 1_000
_PIECE = 2**18
"""Bytes sent at a time: 2.6 ms at 100 MB/s."""


class DistantStore:
    """A running store."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    @property
    def environment(self) -> dict[str, str]:
        """Return environment variables that direct S3 clients to this store."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "benchmark-key",
            "AWS_SECRET_ACCESS_KEY": "benchmark-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            # GDAL's own names of the same
            "AWS_S3_ENDPOINT": self.url.removeprefix("http://"),
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }

    def count(self) -> dict[str, float]:
        """Return requests and bytes sent since the last call."""
        with urllib.request.urlopen(f"{self.url}/counts.json") as answer:
            counts: dict[str, float] = json.load(answer)
        return counts


@contextmanager
def serve_from_afar(folder: Path) -> Iterator[DistantStore]:
    """Serve a folder until the block ends."""
    numbers = [str(DELAY), str(RATE)]
    command = [sys.executable, "-m", "benchmarks.distant_server", str(folder), *numbers]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        try:
            yield DistantStore(int(process.stdout.readline()))
        finally:
            process.stdin.close()


Answer = tuple[str, Mapping[str, str], "tuple[Path, int, int] | bytes"]
"""Status, headers, and the body: bytes, or a file, the first byte and the count."""


def _length(answer: Answer) -> int:
    body = answer[2]
    return len(body) if isinstance(body, bytes) else body[2]


class _Served:
    """The files, and what was asked of them."""

    def __init__(self, folder: Path, delay: float, rate: float) -> None:
        self.folder, self.delay, self.rate = folder, delay, rate
        self.requests = self.nbytes = 0

    @cache  # noqa: B019  there is one, which lives as long as the process
    def look(self, path: str) -> tuple[int, str] | None:
        """Return size and ETag of a file."""
        try:
            status = os.stat(self.folder / path)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'

    @cache  # noqa: B019
    def keys(self) -> list[str]:
        """Return the path of every file."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        """Return the answer to one request."""
        path, _, query = target.partition("?")
        path = unquote(path).lstrip("/")
        bucket, _, key = path.partition("/")
        if bucket == BUCKET:
            if not key:
                asked = {name: values[0] for name, values in parse_qs(query).items()}
                names = "prefix", "delimiter", "start-after", "continuation-token"
                page = self._list(*(asked.get(name, "") for name in names))
                return "200 OK", {"content-type": "application/xml"}, page
            path = key
        found = self.look(path)
        if found is None:
            error = b"<Error><Code>NoSuchKey</Code></Error>"
            return "404 Not Found", {"content-type": "application/xml"}, error
        size, etag = found
        reply = {"etag": etag, "accept-ranges": "bytes", "content-type": "image/tiff"}
        reply["last-modified"] = "Tue, 01 Jan 2019 00:00:00 GMT"
        if headers.get("if-match", etag) != etag:
            return "412 Precondition Failed", reply, b""
        asked_range = headers.get("range")
        if method == "HEAD" or asked_range is None:
            return "200 OK", reply, (self.folder / path, 0, size)
        start, stop = _parse_range(asked_range, size)
        if start >= stop:
            return "416 Range Not Satisfiable", reply, b""
        reply["content-range"] = f"bytes {start}-{stop - 1}/{size}"
        return "206 Partial Content", reply, (self.folder / path, start, stop - start)

    @cache  # noqa: B019
    def _list(self, prefix: str, delimiter: str, after: str, token: str) -> bytes:
        """Return one page of keys as ListObjectsV2 has it."""
        after = token or after
        keys = self.keys()
        found: list[str] = []
        names: dict[str, None] = {}
        at, is_cut = bisect_right(keys, after), False
        for key in keys[at:]:
            if not key.startswith(prefix):
                continue
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key if end < 0 else key[: end + 1]
            if name in names:
                continue
            if len(names) == _PAGE:
                is_cut = True
                break
            names[name] = None
            if end >= 0:
                found.append(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>")
                continue
            size, etag = self.look(key) or (0, "")
            found.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>{escape(etag)}</ETag>"
                "<LastModified>2019-01-01T00:00:00.000Z</LastModified>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        following = (
            f"<NextContinuationToken>{escape(next(reversed(names), ''))}</NextContinuationToken>"
        )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{_PAGE}</MaxKeys>"
            f"<KeyCount>{len(names)}</KeyCount><IsTruncated>{str(is_cut).lower()}</IsTruncated>"
            f"{following * is_cut}{''.join(found)}</ListBucketResult>"
        )
        return text.encode()

    def free(self, target: str) -> bytes | None:
        """Return the answer to what is asked about the store itself, at once."""
        if target == "/counts.json":
            counts = {"requests": self.requests, "bytes": self.nbytes}
            self.requests = self.nbytes = 0
            return json.dumps(counts).encode()
        if target.endswith("/names.json"):
            folder = self.folder / target.strip("/").removesuffix("/names.json")
            return json.dumps(sorted(path.name for path in folder.iterdir())).encode()
        return None


def _parse_range(header: str, size: int) -> tuple[int, int]:
    """Return first byte and end of ``bytes=1-2``, ``bytes=1-`` or ``bytes=-2``. Pure."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer after the delay, the next request."""

    def __init__(self, served: _Served) -> None:
        self.served = served
        self.received = b""
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._next()

    def _next(self) -> None:
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if self.is_busy or not end:
            return
        self.received = rest
        line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ", 2)
        pairs = (text.partition(":") for text in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.is_busy = True
        free = self.served.free(target)
        if free is not None:
            self._begin(method, ("200 OK", {"content-type": "application/json"}, free))
            return
        self.served.requests += 1
        answer = self.served.answer(method, target, headers)
        piece = min(_length(answer), _PIECE)  # it is sent when the last of its bytes may go
        delay = self.served.delay + piece / self.served.rate
        self.loop.call_later(delay, self._begin, method, answer)

    def _begin(self, method: str, answer: Answer) -> None:
        status, headers, body = answer
        length = _length(answer)
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        start = f"HTTP/1.1 {status}\r\n{text}content-length: {length}\r\n\r\n".encode()
        if method == "HEAD" or isinstance(body, bytes):
            self.transport.write(start + (b"" if method == "HEAD" else body))
            self._end()
            return
        self.served.nbytes += length
        path, first, count = body
        self._send(start, os.open(path, os.O_RDONLY), first, count, self.loop.time())

    def _send(self, head: bytes, descriptor: int, start: int, left: int, now: float) -> None:
        """Send a piece, and the next one when all of it may go."""
        if self.transport.is_closing():
            os.close(descriptor)
            return
        piece = os.pread(descriptor, min(left, _PIECE), start)
        self.transport.write(head + piece)
        start, left = start + len(piece), left - len(piece)
        if left:
            due = now + min(left, _PIECE) / self.served.rate
            self.loop.call_at(due, self._send, b"", descriptor, start, left, due)
        else:
            os.close(descriptor)
            self._end()

    def _end(self) -> None:
        self.is_busy = False
        self._next()


async def _serve(folder: Path, delay: float, rate: float) -> None:
    served = _Served(folder, delay, rate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(served), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
