"""The proxy that fails on purpose: each fault is what it says, and everything is counted."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.rehearsal.faults import Answer, Cut, CutAnswer, Lose, Stall
from tests.rehearsal.faulty_proxy import FaultyProxy, faulty_proxy
from tests.rehearsal.registry import Registry

BLOB = b"some bytes of a layer" * 10000
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultyProxy]:
    with faulty_proxy(registry) as between:
        yield between


def call(
    proxy: FaultyProxy, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(proxy.address, timeout=10)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()


def start(proxy: FaultyProxy, name: str) -> str:
    with closing(http.client.HTTPConnection(proxy.address, timeout=10)) as connection:
        connection.request("POST", f"/v2/{name}/blobs/uploads/")
        response = connection.getresponse()
        location = response.headers["Location"]
        assert location.startswith(f"{proxy.url}/"), "a client must come back through the proxy"
    return f"{location.removeprefix(proxy.url)}&digest={DIGEST}"


def test_a_push_goes_through_and_is_counted(proxy: FaultyProxy) -> None:
    path = start(proxy, "whole/image")
    assert call(proxy, "PUT", path, BLOB)[0] == 201
    assert call(proxy, "GET", f"/v2/whole/image/blobs/{DIGEST}") == (200, BLOB)
    assert call(proxy, "HEAD", f"/v2/whole/image/blobs/{DIGEST}") == (200, b"")
    assert proxy.operations() == ["StartUpload", "PutBlob", "GetBlob", "HeadBlob"]
    put = proxy.calls[1]
    assert (put.repository, put.digest, put.forwarded) == ("whole/image", DIGEST, len(BLOB))
    assert put.took_blob
    assert put.answered


def test_a_cut_at_the_start_is_never_heard_of(proxy: FaultyProxy) -> None:
    proxy.fault = lambda _: Cut()
    with pytest.raises(ConnectionResetError):
        call(proxy, "GET", "/v2/")
    assert proxy.calls[0].status is None


def test_a_cut_body_is_no_blob(proxy: FaultyProxy) -> None:
    path = start(proxy, "cut")
    proxy.fault = lambda _: Cut(after=70000)
    with pytest.raises(ConnectionError):
        call(proxy, "PUT", path, BLOB)
    assert proxy.calls[1].forwarded == 70000
    proxy.fault = lambda _: None
    assert call(proxy, "HEAD", f"/v2/cut/blobs/{DIGEST}")[0] == 404


def test_a_lost_answer_leaves_the_blob(proxy: FaultyProxy) -> None:
    path, done = start(proxy, "lost"), []
    proxy.fault = lambda _: Lose(lambda: done.append(1))
    with pytest.raises(ConnectionError):
        call(proxy, "PUT", path, BLOB)
    assert done
    assert proxy.calls[1].took_blob
    assert not proxy.calls[1].answered
    proxy.fault = lambda _: None
    assert call(proxy, "HEAD", f"/v2/lost/blobs/{DIGEST}")[0] == 200


def test_a_false_answer_never_reaches_the_registry(proxy: FaultyProxy) -> None:
    path = start(proxy, "busy")
    proxy.fault = lambda _: Answer(429, {"Retry-After": "1"}, b"slower")
    assert call(proxy, "PUT", path, BLOB) == (429, b"slower")
    assert (proxy.calls[1].forwarded, proxy.calls[1].status) == (0, None)


def test_a_stall_and_a_narrow_line_take_time(proxy: FaultyProxy) -> None:
    path = start(proxy, "slow")
    proxy.fault = lambda _: Stall(seconds=0.3, after=1000)
    proxy.bytes_per_second = 10 * len(BLOB) // 3
    begun = time.monotonic()
    assert call(proxy, "PUT", path, BLOB)[0] == 201
    assert time.monotonic() - begun > 0.29


def test_an_answer_can_be_cut_short(proxy: FaultyProxy) -> None:
    assert call(proxy, "PUT", start(proxy, "short"), BLOB)[0] == 201
    proxy.fault = lambda _: CutAnswer(1000)
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        call(proxy, "GET", f"/v2/short/blobs/{DIGEST}")
