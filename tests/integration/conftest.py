"""What the tests of fetch share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.fetching import Published, log_in, publish_large
from tests.integration.s3_proxy import Proxy, proxy
from tests.rehearsal.s3 import S3


@pytest.fixture(scope="session")
def published(s3: S3) -> Published:
    """Give a checkpoint of several parts in a bucket; no test changes it."""
    s3.create_bucket("fetch-large")
    with pytest.MonkeyPatch.context() as monkeypatch:
        log_in(s3, monkeypatch)
        return publish_large(s3, "fetch-large")


@pytest.fixture
def between(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Give a proxy to the server, logged in."""
    log_in(s3, monkeypatch)
    with proxy(s3) as running:
        yield running
