"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers import S3Server, serve_s3


@pytest.fixture(scope="session")
def _s3_session() -> Iterator[S3Server]:
    with serve_s3() as server:
        yield server


@pytest.fixture
def s3_server(_s3_session: S3Server) -> S3Server:
    """Return an S3 server on this machine, with its count of requests at nought."""
    _s3_session.requests.clear()
    return _s3_session
