"""What tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from servers import S3Server, own_buckets, serve_s3

# How long an example takes says more about the machine, busy with other workers, than about us.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def _s3_session() -> Iterator[S3Server]:
    with serve_s3() as server:
        yield server


@pytest.fixture
def s3_server(_s3_session: S3Server) -> Iterator[S3Server]:
    """Return an S3 server on this machine, without buckets and with no requests counted."""
    _s3_session.requests.clear()
    with own_buckets():
        yield _s3_session
    _s3_session.refuses = lambda request: None
    _s3_session.pause = 0.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is opt-in unless it is asked for by name, and say so."""
    for mark in ("gpu", "slow"):
        if mark not in config.getoption("-m"):
            skip = pytest.mark.skip(reason=f"opt-in: make test-{mark}")
            for item in items:
                if mark in item.keywords:
                    item.add_marker(skip)
