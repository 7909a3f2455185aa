"""Answers that are cut, that never end, or that are none; and what is said of them."""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import WorldError
from bundler.stores.base import Registry
from bundler.stores.login import GivenLogin
from bundler.stores.opening import open_registry
from bundler.stores.retry import Patience, Timeouts
from tests.contract.registry_contract import MANIFEST_TYPE, blob_of
from tests.contract.scripted_registry import BRIEFLY, Reply, Scripted, Seen, error, serving, told

MANIFEST = b'{"schemaVersion":2}'
CONTENT = os.urandom(3 << 20)
DIGEST = Digest.of(CONTENT)
SHORT = Timeouts(connect=0.6, idle=0.6, commit=0.6, answer=0.6)
TWICE = Patience(tries=2, sleep=lambda _: None)
LONG_SECONDS = 8

FINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = FINE + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ENDLESS = {
    "100 Continue": Reply(raw=CONTINUE, again=CONTINUE),
    "100 Continue, slowly": Reply(raw=CONTINUE, again=CONTINUE, pause=0.1),
    "a header": Reply(raw=FINE + b"X: ", again=b"y", pause=0.1),
    "a status": Reply(raw=b"HTTP/1.1 200 ", again=b"O", pause=0.1),
    "trailers": Reply(raw=CHUNKED, again=b"X: y\r\n"),
    "trailers, slowly": Reply(raw=CHUNKED, again=b"X: y\r\n", pause=0.1),
    "a body": Reply(raw=FINE + b"Content-Length: 99999\r\n\r\n", again=b" ", pause=0.1),
}


@pytest.fixture(params=["http", "https"])
def scripted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scripted]:
    tls = tmp_path / "tls" if request.param == "https" else None
    with serving(tls) as server:
        yield server


def opened(server: Scripted, tmp_path: Path, patience: Patience = TWICE) -> Registry:
    ca = tmp_path / "tls/ca.crt" if server.scheme == "https" else None
    return server.open(ca=ca, patience=patience, timeouts=SHORT)


@contextlib.contextmanager
def within_limits() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < LONG_SECONDS


class TestWithoutEnd:
    @pytest.mark.parametrize("kind", ENDLESS)
    def test_a_small_answer_is_given_up(
        self, scripted: Scripted, tmp_path: Path, kind: str
    ) -> None:
        scripted.script = lambda _: ENDLESS[kind]
        with within_limits(), pytest.raises(WorldError, match=r"still|did not end") as caught:
            opened(scripted, tmp_path).manifest("atlas", "1.0.0")
        assert "(tried 2 times)" in told(caught.value)
        assert len(scripted.seen) == 2

    @pytest.mark.parametrize("kind", ["100 Continue", "a header", "trailers"])
    def test_an_upload_is_given_up(self, scripted: Scripted, tmp_path: Path, kind: str) -> None:
        scripted.script = lambda seen: ENDLESS[kind] if seen.method == "PUT" else None
        with within_limits(), pytest.raises(WorldError, match="broke off"):
            opened(scripted, tmp_path).upload("atlas", blob_of(CONTENT), advance=lambda _: None)
        assert scripted.asked.count("PUT session") == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw=FINE + f"Content-Length: {len(CONTENT)}\r\n\r\n".encode(), again=b"x", pause=0.1),
        Reply(
            raw=FINE + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
            again=b"X: y\r\n",
        ),
    ],
)
def test_a_streamed_answer_is_given_up(scripted: Scripted, tmp_path: Path, reply: Reply) -> None:
    scripted.script = lambda _: reply
    with within_limits(), pytest.raises(WorldError, match="broke off"):
        list(opened(scripted, tmp_path).read_blob("atlas", DIGEST, len(CONTENT)))


def test_a_slow_reader_of_a_stream_is_not_to_blame(scripted: Scripted, tmp_path: Path) -> None:
    scripted.blobs[str(DIGEST)] = CONTENT
    found = b""
    for piece in opened(scripted, tmp_path).read_blob("atlas", DIGEST, len(CONTENT)):
        time.sleep(SHORT.answer * 1.2)
        found += piece
    assert found == CONTENT
    assert len(scripted.seen) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw=b""),
        Reply(raw=b"HTTP/1.1 20"),
        Reply(raw=FINE),
        Reply(raw=FINE + b"Content-Le"),
        Reply(raw=FINE + b"Content-Type: text/plain\r\n"),
        Reply(raw=FINE + b"\r\n"),
        Reply(raw=FINE + b"Content-Length: 5\r\n\r\n{}"),
        Reply(body=b""),
    ],
)
class TestCut:
    def test_a_manifest_is_asked_for_again(
        self, scripted: Scripted, tmp_path: Path, reply: Reply
    ) -> None:
        scripted.manifests["1.0.0"] = MANIFEST
        left = [reply]
        scripted.script = lambda _: left.pop() if left else None
        found = opened(scripted, tmp_path).manifest("atlas", "1.0.0")
        assert found is not None
        assert found.content == MANIFEST

    def test_and_is_no_manifest_in_the_end(
        self, scripted: Scripted, tmp_path: Path, reply: Reply
    ) -> None:
        scripted.script = lambda _: reply
        with pytest.raises(WorldError, match=r"gave no answer.*tried 2 times"):
            opened(scripted, tmp_path).manifest("atlas", "1.0.0")


@pytest.mark.parametrize("cut", [FINE, FINE + b"Content-Le", FINE + b"Content-Length: 5"])
def test_headers_that_are_cut_are_no_headers(
    scripted: Scripted, tmp_path: Path, cut: bytes
) -> None:
    scripted.blobs[str(DIGEST)] = CONTENT
    left = [Reply(raw=cut)]
    scripted.script = lambda _: left.pop() if left else None
    assert opened(scripted, tmp_path).blob_size("atlas", DIGEST) == len(CONTENT)


@pytest.mark.parametrize("part", ["POST", "PUT"])
def test_an_upload_goes_on_after_headers_that_are_cut(
    scripted: Scripted, tmp_path: Path, part: str
) -> None:
    left = [Reply(raw=b"HTTP/1.1 202 Accepted\r\nLocat")]
    scripted.script = lambda seen: left.pop() if left and seen.method == part else None
    opened(scripted, tmp_path).upload("atlas", blob_of(CONTENT), advance=lambda _: None)
    assert scripted.blobs == {str(DIGEST): CONTENT}


class TestWords:
    @pytest.fixture
    def plain(self) -> Iterator[Scripted]:
        with serving() as server:
            yield server

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 507])
    def test_nobody_who_is_busy_is_taken_for_no_registry(
        self, plain: Scripted, status: int
    ) -> None:
        plain.script = lambda _: Reply(status=status)
        with pytest.raises(WorldError, match=f"the registry answered {status}") as caught:
            plain.open().manifest("atlas", "1.0.0")
        assert "is that a registry" not in told(caught.value)
        assert ("make room" in told(caught.value)) == (status == 507)
        assert len(plain.seen) == (1 if status == 507 else BRIEFLY.tries)

    @pytest.mark.parametrize("status", [404, 418])
    def test_somebody_else_is(self, plain: Scripted, status: int) -> None:
        plain.script = lambda _: Reply(status=status)
        with pytest.raises(WorldError, match=f"the registry answered {status}") as caught:
            plain.open().put_manifest("atlas", "1.0.0", MANIFEST_TYPE, MANIFEST)
        assert "is that a registry" in told(caught.value)

    @pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00\x01\x1b[2J\r\n"])
    def test_nonsense_is_not_out_of_reach(self, plain: Scripted, raw: bytes) -> None:
        plain.script = lambda _: Reply(raw=raw)
        with pytest.raises(WorldError, match="it does not speak HTTP") as caught:
            plain.open().manifest("atlas", "1.0.0")
        assert "cannot reach" not in told(caught.value)
        assert "\x1b" not in told(caught.value)

    @pytest.mark.parametrize("status", [302, 500, 404])
    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_a_token_server_is_not_the_registry(
        self, plain: Scripted, status: int, elsewhere: bool
    ) -> None:
        with serving() as other:
            server = other if elsewhere else plain
            challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token"'}

            def script(seen: Seen) -> Reply | None:
                if seen.path.startswith("/token"):
                    return error(status, "OOPS")
                return Reply(status=401, headers=challenge)

            plain.script = other.script = script
            with pytest.raises(
                WorldError, match=f"the token server {server.url} answered {status}"
            ):
                plain.open().manifest("atlas", "1.0.0")

    @pytest.mark.parametrize("status", [403, 407])
    def test_a_proxy_that_refuses_us_is_asked_once(self, plain: Scripted, status: int) -> None:
        plain.script = lambda _: Reply(status=status)
        registry = through(plain)
        with pytest.raises(
            WorldError, match=f"the proxy {plain.url} does not let us through: {status}"
        ) as caught:
            registry.manifest("atlas", "1.0.0")
        assert "HTTPS_PROXY" in told(caught.value)
        assert "secret" not in told(caught.value)
        assert plain.asked == ["CONNECT registry.example.com:443"]

    def test_a_proxy_that_is_busy_is_asked_again(self, plain: Scripted) -> None:
        plain.script = lambda _: Reply(status=503)
        with pytest.raises(WorldError, match=r"cannot reach .* Tunnel connection failed: 503"):
            through(plain).manifest("atlas", "1.0.0")
        assert len(plain.seen) > 1

    @pytest.mark.parametrize(
        "kind", ["100 Continue", "100 Continue, slowly", "a header", "a status"]
    )
    def test_a_proxy_without_end_is_given_up(self, plain: Scripted, kind: str) -> None:
        plain.script = lambda _: ENDLESS[kind]
        with within_limits(), pytest.raises(WorldError):
            through(plain).manifest("atlas", "1.0.0")

    def test_a_proxy_that_wants_a_login_for_plain_http_is_named(self, plain: Scripted) -> None:
        plain.script = lambda _: Reply(status=407)
        with pytest.raises(WorldError, match="the proxy answered 407") as caught:
            through(plain, plain_http=True).manifest("atlas", "1.0.0")
        assert "HTTP_PROXY" in told(caught.value)


def through(proxy: Scripted, login: str = "me:secret", *, plain_http: bool = False) -> Registry:
    address = f"http://{login}@{proxy.address}"
    return open_registry(
        "registry.example.com",
        logins=GivenLogin(),
        plain_http=plain_http,
        environment={"HTTPS_PROXY": address, "HTTP_PROXY": address},
        patience=TWICE,
        timeouts=SHORT,
    )


@pytest.mark.parametrize(
    ("login", "plain"),
    [
        ("me:p%40ss", b"me:p@ss"),
        ("me:%ff", b"me:\xff"),
        ("me:\u00fc", "me:\u00fc".encode()),
        ("me:%C3%BC", "me:\u00fc".encode()),
        ("me:\udcff", b"me:\xff"),
        ("me", b"me"),
    ],
)
def test_the_password_of_a_proxy_may_be_of_any_bytes(login: str, plain: bytes) -> None:
    with serving() as server:
        server.script = lambda _: Reply(status=407)
        with pytest.raises(WorldError) as caught:
            through(server, login).manifest("atlas", "1.0.0")
    sent = server.seen[0].headers["proxy-authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent) == plain
    assert login not in str(caught.value.__cause__)
