"""Servers on 127.0.0.1 for the tests: S3 as moto plays it, and a web server. No network needed.

Each keeps what it was asked, so that a test can count requests and bytes.
"""

from __future__ import annotations

import hashlib
import re
import select
import socket
import socketserver
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

KEY, SECRET = "test-key-0123456789", "test-secret-9876543210"


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    query: str
    range: str | None
    """The header ``Range``, None without one."""
    headers: dict[str, str] = field(default_factory=dict, compare=False)
    """All headers, where the server keeps them."""

    @property
    def nbytes(self) -> int:
        """How many bytes of a file were asked for; 0 where it was no range."""
        if self.range is None:
            return 0
        first, _, last = self.range.removeprefix("bytes=").partition("-")
        return int(last) - int(first) + 1 if first else int(last)


@dataclass
class S3Server:
    """A running S3 server."""

    url: str
    requests: list[Request] = field(default_factory=list)
    """All requests since the last ``requests.clear()``."""
    refuses: Callable[[Request], int | None] = lambda request: None
    """Gives the status of an error to answer a request with, None where it is to be answered."""
    heeds_conditions: bool = True
    """Whether a PUT whose condition does not hold is refused; older servers ignore conditions."""
    pause: float = 0.0
    """Seconds that each answer takes."""
    most_at_once: int = 0
    """Most requests in progress at a time; set to 0 to count again."""
    _in_progress: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count a request while it is answered."""
        with self._lock:
            self._in_progress += 1
            self.most_at_once = max(self.most_at_once, self._in_progress)
        try:
            time.sleep(self.pause)
            yield
        finally:
            with self._lock:
                self._in_progress -= 1

    @property
    def reads(self) -> list[Request]:
        """What was asked of objects themselves."""
        return [request for request in self.requests if request.range is not None]

    @property
    def storage_options(self) -> dict[str, Any]:
        """Return what s3fs needs to reach it."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.url}

    def put(self, bucket: str, contents: dict[str, bytes]) -> None:
        """Put an object for each key into *bucket*, made where it is not there; not counted."""
        import s3fs

        fs = s3fs.S3FileSystem(**self.storage_options)
        fs.invalidate_cache()  # of buckets of earlier tests
        if not fs.exists(bucket):
            fs.mkdir(bucket)
        fs.pipe({f"{bucket}/{key}": content for key, content in contents.items()})
        self.requests.clear()


@contextmanager
def own_buckets() -> Iterator[None]:
    """Remove all buckets that appear in the block: moto's servers in one process share them."""
    from moto.s3.models import s3_backends

    kept = set(s3_backends.bucket_accounts)
    try:
        yield
    finally:
        for name in s3_backends.bucket_accounts.keys() - kept:
            partition, account = s3_backends.bucket_accounts.pop(name)
            bucket = s3_backends[account][partition].buckets.pop(name)
            for key in [*bucket.keys.values()]:
                key.dispose()


@contextmanager
def serve_s3() -> Iterator[S3Server]:
    """Run an empty S3 server on a free port until the block ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not ours: moto and what it imports
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

    server = S3Server("")
    app = DomainDispatcherApplication(create_backend_app)

    def counting(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
        signed = {"Authorization": environ.get("HTTP_AUTHORIZATION", "")}
        request = Request(*asked, environ.get("HTTP_RANGE"), signed)
        server.requests.append(request)
        status = server.refuses(request)
        if request.method == "PUT" and not server.heeds_conditions:
            environ = environ | {"HTTP_IF_MATCH": "", "HTTP_IF_NONE_MATCH": ""}
        if status is None:
            with server.answering():
                return app(environ, start_response)
        start_response(f"{status} Refused", [("Content-Type", "application/xml")])
        return [
            f"<Error><Code>{status}</Code><Message>as the test wants</Message></Error>".encode()
        ]

    class Quiet(WSGIRequestHandler):
        def log(self, *args: Any) -> None:
            """Stay silent."""

    http = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=Quiet)
    server.url = f"http://127.0.0.1:{http.server_port}"
    with own_buckets(), _running(http):
        yield server


@dataclass
class WebServer:
    """A running web server of one folder; shows folders as pages of links, knows no ranges."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def serve_folder(folder: Path) -> Iterator[WebServer]:
    """Serve the files below *folder* on a free port until the block ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    server = WebServer(f"http://127.0.0.1:{http.server_port}")
    http.seen = server.requests  # type: ignore[attr-defined]
    with _running(http):
        yield server


class _Handler(SimpleHTTPRequestHandler):
    def parse_request(self) -> bool:
        is_good = super().parse_request()
        if is_good:
            path, _, query = self.path.partition("?")
            request = Request(self.command, path, query, self.headers.get("Range"))
            self.server.seen.append(request)  # type: ignore[attr-defined]
        return is_good

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


Manner = Literal["good", "whole", "short", "other", "long", "cut", "silent"] | int
"""How a request is answered. ``whole``: with all of the file, as by a server without ranges;
``short``: with a byte less than was asked; ``other``: with the bytes before; ``long``: with a byte
more than promised; ``cut``: with half of the promised bytes; ``silent``: not within a second; a
number: with this status."""


@dataclass
class FileServer:
    """A running web server of a few files in memory, with ranges, that may be told to misbehave."""

    files: dict[str, bytes]
    """What is in the file at each path, without the slash."""
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    manner: Callable[[Request], Manner] = lambda request: "good"
    """Says how to answer a request."""
    has_etags: bool = True
    modified: str = "Wed, 21 Oct 2015 07:28:00 GMT"
    pause: float = 0.0
    """Seconds that each answer takes."""
    most_at_once: int = 0
    """The most requests that were under way at a time."""
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def answering(self, request: Request) -> Iterator[None]:
        """Count a request while it is answered."""
        with self._lock:
            self.requests.append(request)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    @property
    def reads(self) -> list[Request]:
        """All requests but those that look a file up."""
        return [request for request in self.requests if request.method == "GET"]


@contextmanager
def serve_files(files: dict[str, bytes], **settings: Any) -> Iterator[FileServer]:
    """Serve *files* on a free port until the block ends."""
    http = _QuietServer(("127.0.0.1", 0), _FileHandler)
    server = FileServer(files, f"http://127.0.0.1:{http.server_port}", **settings)
    http.files = server  # type: ignore[attr-defined]
    with _running(http):
        yield server


class _QuietServer(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 drops connections that come at once

    def handle_error(self, *args: Any) -> None:
        """Stay silent: a client that does not want a body hangs up."""


class _FileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server: FileServer = self.server.files  # type: ignore[attr-defined]
        path, _, query = self.path[1:].partition("?")
        headers = dict(self.headers)
        request = Request(self.command, path, query, headers.get("Range"), headers)
        with server.answering(request):
            time.sleep(server.pause)
            manner = 404 if path not in server.files else server.manner(request)
            if manner == "silent":
                time.sleep(1)
            self._answer(server, request, manner)

    def _answer(self, server: FileServer, request: Request, manner: Manner) -> None:
        if isinstance(manner, int):
            self.send_error(manner)
            return
        content = server.files[request.path]
        start, stop = 0, len(content)
        if request.range and manner != "whole":
            first, last = request.range.removeprefix("bytes=").split("-")
            start = int(first) if first else max(0, len(content) - int(last))
            stop = min(int(last) + 1, len(content)) if first else len(content)
            stop -= manner == "short"
            start, stop = (start - 1, stop - 1) if manner == "other" else (start, stop)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start : stop + (manner == "long")]
        if manner == "long":  # as many bytes as come until the end
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        if server.has_etags:
            self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        self.send_header("Last-Modified", server.modified)
        self.end_headers()
        if request.method == "GET":
            self.wfile.write(body[: len(body) // 2] if manner == "cut" else body)
        self.close_connection = manner in ("cut", "long")

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


@contextmanager
def _running(http: Any) -> Iterator[None]:
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


# --- a proxy that fails ---------------------------------------------------------------------------

Fault = Literal["503", "reset", "cut", "slow", "lost"] | Literal[""]
"""What happens to a request. ``503``: it is refused; ``reset``: the connection is lost before it
arrives; ``cut``: half of the answer comes; ``slow``: it takes a moment; ``lost``: it is carried
out, and the connection is lost before its answer."""

_REQUEST = re.compile(rb"(?:GET|HEAD|PUT|POST|DELETE) \S+ HTTP/1\.1(?=\r\n)")


class _Proxy(socketserver.BaseRequestHandler):
    """Passes on what comes from either side, but for faults."""

    def handle(self) -> None:
        server: Any = self.server
        with socket.create_connection(server.target) as behind, suppress(OSError):
            while self._pass_on(self.request, behind, server):
                pass

    def _pass_on(self, client: socket.socket, behind: socket.socket, server: Any) -> bool:
        """Pass on what comes next; False at the end of the connection."""
        ready, _, _ = select.select([client, behind], [], [])
        if client in ready:
            content = client.recv(2**16)
            if begin := _REQUEST.match(content):
                self.fault = server.fault(begin[0].decode())
            if self.fault == "503":
                client.sendall(
                    b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            if self.fault == "reset":
                self._reset(client)
            if self.fault == "slow":
                time.sleep(0.3)
            if not content or self.fault in ("503", "reset"):
                return False
            behind.sendall(content)
        if behind in ready:
            content = behind.recv(2**16)
            if self.fault == "lost" and not content.startswith(b"HTTP/1.1 100"):
                self._reset(client)
                return False
            client.sendall(content[: len(content) // 2] if self.fault == "cut" else content)
            return bool(content) and self.fault != "cut"
        return True

    @staticmethod
    def _reset(client: socket.socket) -> None:
        """Let the connection end by a reset instead of an orderly close."""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _ProxyServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *args: Any) -> None:
        """Stay silent: a fault is what is wanted."""


@contextmanager
def spoil(url: str, fault: Callable[[str], Fault]) -> Iterator[str]:
    """Yield the URL of a proxy in front of a server; *fault* is asked about each request line."""
    host, port = url.removeprefix("http://").split(":")
    proxy = _ProxyServer(("127.0.0.1", 0), _Proxy)
    proxy.target = (host, int(port))  # type: ignore[attr-defined]
    proxy.fault = fault  # type: ignore[attr-defined]
    with _running(proxy):
        yield f"http://127.0.0.1:{proxy.server_address[1]}"


# --- a cluster ------------------------------------------------------------------------------------


@contextmanager
def serve_cluster() -> Iterator[Any]:
    """Yield the client, not the current one, of two workers: processes with two threads each."""
    import dask
    import distributed

    with (
        # where tasks run depends on no clock
        dask.config.set({"distributed.scheduler.work-stealing": False}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client
