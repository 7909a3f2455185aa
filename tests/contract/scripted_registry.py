"""A registry that misbehaves as a test says.

It imitates the upload of blobs and the storing of manifests as the OCI distribution specification
v1.1 has them, in memory; ``script`` sees every request first, and may answer otherwise, or not at
all. Real registries stand in ``test_registry``: they cannot be made to lie.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bundler.digest import Digest
from bundler.errors import BundleError
from bundler.stores.base import Registry
from bundler.stores.login import GivenLogin, Logins
from bundler.stores.opening import open_registry
from bundler.stores.retry import Patience
from tests.rehearsal.certificates import Authority

BRIEFLY = Patience(sleep=lambda _: None)
_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/(.+)")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/(\w*)")
_FOREVER_SECONDS = 30


def told(error: BundleError) -> str:
    """Give all that a person would see of an error."""
    text = f"{error} ({error.hint})"
    assert "\n" not in text
    assert error.hint
    return text


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request; ``body`` is what was read of it, ``client`` whose certificate was shown."""

    method: str
    path: str
    login: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    client: str = ""

    @property
    def query(self) -> dict[str, str]:
        return {name: each[0] for name, each in parse_qs(urlsplit(self.path).query).items()}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, or what happens instead.

    Attributes:
        status, headers, body: The answer.
        takes: Read only so many bytes of the request, and then break the connection.
        silent: Read the request, and then break the connection.
        stalls: Read as much, and then do nothing.
        endless: Go on with the body for ever.
        raw: Write this in place of an answer, and break the connection.
        again: Before that, write this again and again.
        pause: Seconds between two of them.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    takes: int | None = None
    silent: bool = False
    stalls: bool = False
    endless: bool = False
    raw: bytes | None = None
    again: bytes = b""
    pause: float = 0.0


@dataclass
class Scripted:
    """A running scripted registry.

    Attributes:
        address: Its ``host:port``.
        scheme: ``http`` or ``https``.
        script: May answer a request itself, before its body is read; None leaves it to the store.
        disguise: May change what the store answers.
        seen: Every request.
        blobs, manifests, sessions: What it holds.
    """

    address: str
    scheme: str
    script: Callable[[Seen], Reply | None] = lambda _: None
    disguise: Callable[[Seen, Reply], Reply] = lambda _, reply: reply
    seen: list[Seen] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    @property
    def asked(self) -> list[str]:
        """Give the method of each request, and what it was for."""
        kinds = (("uploads", "session"), ("/blobs/", "blob"), ("/manifests/", "manifest"))
        return [
            f"{each.method} {next((k for part, k in kinds if part in each.path), each.path)}"
            for each in self.seen
        ]

    def open(self, logins: Logins | None = None, **other: object) -> Registry:
        known: dict[str, object] = {
            "logins": logins or GivenLogin(),
            "plain_http": self.scheme == "http",
            "environment": {},
            "patience": BRIEFLY,
        }
        return open_registry(self.address, **known | other)  # type: ignore[arg-type]  # mixed

    def answer(self, seen: Seen) -> Reply:
        """Do what an honest registry does."""
        path = urlsplit(seen.path).path
        if (found := _UPLOAD.fullmatch(path)) is not None:
            return self._upload(seen, found[1], found[2])
        if (found := _BLOB.fullmatch(path)) is not None:
            content = self.blobs.get(found[2])
            return Reply(status=404) if content is None else Reply(body=content)
        if (found := _MANIFEST.fullmatch(path)) is not None:
            return self._manifest(seen, found[2])
        return Reply(status=404)

    def _manifest(self, seen: Seen, reference: str) -> Reply:
        if seen.method == "PUT":
            self.manifests[reference] = seen.body
            return Reply(status=201)
        content = self.manifests.get(reference)
        return Reply(status=404) if content is None else Reply(body=content)

    def _upload(self, seen: Seen, name: str, session: str) -> Reply:
        if seen.method == "POST":
            session = f"s{len(self.sessions) + 1}"
            self.sessions[session] = bytearray()
            return Reply(status=202, headers=self._progress(name, session))
        if session not in self.sessions:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if seen.method == "GET":
            return Reply(status=204, headers=self._progress(name, session))
        content = self.sessions[session]
        start = int(seen.headers.get("content-range", f"{len(content)}-").partition("-")[0])
        if start != len(content):
            return error(416, "BLOB_UPLOAD_INVALID")
        content += seen.body
        if seen.method == "PATCH":
            return Reply(status=202, headers=self._progress(name, session))
        del self.sessions[session]
        if str(Digest.of(bytes(content))) != seen.query["digest"]:
            return error(400, "DIGEST_INVALID")
        self.blobs[seen.query["digest"]] = bytes(content)
        return Reply(status=201)

    def _progress(self, name: str, session: str) -> dict[str, str]:
        end = max(0, len(self.sessions[session]) - 1)
        location = f"/v2/{name}/blobs/uploads/{session}?state=a%2Fb"
        return {"Location": location, "Range": f"0-{end}"}


def error(status: int, code: str, message: str = "") -> Reply:
    """Give an error as registries do."""
    body = f'{{"errors":[{{"code":"{code}","message":"{message}"}}]}}'
    return Reply(status=status, body=body.encode())


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    known: Scripted

    def handle_error(self, *_: object) -> None:
        pass  # clients leave


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        known = self.server.known
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(
            method=self.command,
            path=self.path,
            login=headers.get("authorization", ""),
            headers=headers,
            client=_client(self.connection),
        )
        place = len(known.seen)
        known.seen.append(seen)
        reply = known.script(seen)
        length = int(headers.get("content-length", "0"))
        if reply is not None and reply.takes is not None:
            length = min(length, reply.takes)
        body = self.rfile.read(length)
        seen = Seen(**{**vars(seen), "body": body})
        known.seen[place] = seen
        if reply is not None and reply.takes is not None:
            session = _UPLOAD.fullmatch(urlsplit(self.path).path)
            if session is not None and session[2] in known.sessions:
                known.sessions[session[2]] += body
        self._send(reply if reply is not None else known.disguise(seen, known.answer(seen)))

    def _send(self, reply: Reply) -> None:
        if reply.stalls:
            self.server.known.over.wait(_FOREVER_SECONDS)
            self.close_connection = True
            return
        if reply.takes is not None or reply.silent:
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if reply.raw is not None:
            self._write_raw(reply.raw, reply.again, reply.pause)
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.endless:
            self.end_headers()
            self._go_on()
            return
        if reply.status != 204 and "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _go_on(self) -> None:
        self._write_raw(b"", b" " * 65536, 0.0)

    def _write_raw(self, raw: bytes, again: bytes, pause: float) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(raw)
            while again and not self.server.known.over.wait(pause):
                self.wfile.write(again)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_CONNECT = answer  # noqa: N815


def _client(connection: socket.socket) -> str:
    certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    return "client" if certificate and "'client'" in str(certificate["subject"]) else ""


@contextlib.contextmanager
def serving(
    tls: Path | None = None, *, names: tuple[str, ...] = (), port: int = 0
) -> Iterator[Scripted]:
    """Run a scripted registry.

    Args:
        tls: A new directory for its authority, ``ca.crt``, and for ``client.crt``, ``client.key``,
            which it asks for and does not insist on; None for plain HTTP.
        names: Further names in its certificate.
        port: Where it listens; 0 for a free one.
    """
    with _Listener(("127.0.0.1", port), _Handler) as listener:
        if tls is not None:
            tls.mkdir()
            authority = Authority(tls, "ca")
            pair = authority.issue("server", subject="registry", names=["127.0.0.1", *names])
            authority.issue("client", subject="client")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            context.load_verify_locations(authority.file)
            context.verify_mode = ssl.CERT_OPTIONAL
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
        address = f"127.0.0.1:{listener.server_address[1]}"
        listener.known = Scripted(address, "http" if tls is None else "https")
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield listener.known
        finally:
            listener.known.over.set()
            listener.shutdown()
