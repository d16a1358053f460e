"""An S3 server on 127.0.0.1 (moto) that records its requests."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Request", "S3Server", "serve_s3"]

KEY, SECRET = "benchmark-key", "benchmark-secret"


@dataclass
class Request:
    """One request, and the bytes that were sent back."""

    text: str
    """Method, path and range."""
    nbytes: int = 0


@dataclass
class S3Server:
    """A running S3 server."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    """All since the last :meth:`count`."""

    @property
    def environment(self) -> dict[str, str]:
        """Return environment variables that direct S3 clients to this server."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def count(self) -> dict[str, float]:
        """Return requests and bytes sent since the last call."""
        asked, self.requests[:] = list(self.requests), []
        return {"requests": len(asked), "bytes": sum(request.nbytes for request in asked)}

    def asked(self) -> str:
        """Return the first requests since then."""
        return "\n".join(request.text for request in self.requests[:20])

    def upload(self, folder: Path, bucket: str, prefix: str) -> None:
        """Put the files of a folder into a bucket, which is created if needed."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=bucket)
        for path in folder.iterdir():
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path.name}", Body=path.read_bytes())


@contextmanager
def serve_s3() -> Iterator[S3Server]:
    """Run an empty S3 server on a free port until the block ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moto's own
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

    server = S3Server()
    app = DomainDispatcherApplication(create_backend_app)

    def counting(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = environ["PATH_INFO"] + "?" * bool(environ["QUERY_STRING"]) + environ["QUERY_STRING"]
        span = environ.get("HTTP_RANGE", "")
        request = Request(f"{environ['REQUEST_METHOD']} {asked} {span}".rstrip())
        server.requests.append(request)
        for part in app(environ, start_response):
            if environ["REQUEST_METHOD"] != "HEAD":  # a body that is not sent
                request.nbytes += len(part)
            yield part

    class Quiet(WSGIRequestHandler):
        def log(self, *args: Any) -> None:
            """Log nothing."""

    http = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=Quiet)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
