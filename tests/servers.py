"""Servers on 127.0.0.1 for the tests: S3 as moto plays it, and a web server. No network needed.

Each keeps what it was asked, so that a test can count requests and bytes.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY, SECRET = "test-key-0123456789", "test-secret-9876543210"


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    method: str
    path: str
    query: str
    range: str | None
    """The header ``Range``, None without one."""


@dataclass
class S3Server:
    """A running S3 server."""

    url: str
    requests: list[Request] = field(default_factory=list)
    """All requests since the last ``requests.clear()``."""

    @property
    def storage_options(self) -> dict[str, Any]:
        """Return what s3fs needs to reach it."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.url}

    def put(self, bucket: str, contents: dict[str, bytes]) -> None:
        """Put an object for each key into *bucket*, made where it is not there; not counted."""
        import s3fs

        fs = s3fs.S3FileSystem(**self.storage_options)
        if not fs.exists(bucket):
            fs.mkdir(bucket)
        fs.pipe({f"{bucket}/{key}": content for key, content in contents.items()})
        self.requests.clear()


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
        request = (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
        server.requests.append(Request(*request, environ.get("HTTP_RANGE")))
        return app(environ, start_response)

    class Quiet(WSGIRequestHandler):
        def log(self, *args: Any) -> None:
            """Stay silent."""

    http = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=Quiet)
    server.url = f"http://127.0.0.1:{http.server_port}"
    with _running(http):
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


@contextmanager
def _running(http: Any) -> Iterator[None]:
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
