"""A proxy before an S3 server that fails on purpose, where a test says so."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.rehearsal.s3 import S3

_SECONDS = 30
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Call:
    """One request of the client."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def operation(self) -> str:
        """Name what S3 calls it, as far as the tests need to tell calls apart."""
        if "uploadId" in self.query:
            part = "UploadPart" if "partNumber" in self.query else "CompleteMultipartUpload"
            return {"GET": "ListParts", "DELETE": "AbortMultipartUpload"}.get(self.method, part)
        if "uploads" in self.query:
            return "CreateMultipartUpload" if self.method == "POST" else "ListMultipartUploads"
        names = {"HEAD": "HeadObject", "PUT": "PutObject", "GET": "GetObject"}
        return "ListObjectsV2" if "list-type" in self.query else names.get(self.method, self.method)


@dataclass(frozen=True)
class Answer:
    """What the client gets.

    Attributes:
        status: HTTP status.
        headers: Without those about the connection.
        body: All of it.
        cut: Close the connection after this many bytes of the body; None sends all.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: int | None = None


def refusal(status: int, code: str, message: str = "because") -> Answer:
    """Give an answer in which S3 says why it refuses."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status, {"Content-Type": "application/xml"}, body)


Pass = Callable[[], Answer]
Fault = Callable[[Call, Pass], Answer | None]


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        url: Where clients find it.
        fault: Answers in the server's place, or asks it and changes what it says; None closes the
            connection without an answer.
        calls: Every request so far.
        early: Answers, as ``fault`` may, before anything of a body was seen; None has it sent.
    """

    url: str
    fault: Fault
    calls: list[Call] = field(default_factory=list)
    early: Callable[[Call], Answer | None] = lambda _: None

    def operations(self) -> list[str]:
        """Name every request so far."""
        return [call.operation for call in self.calls]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: S3) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.state = Proxy(f"http://127.0.0.1:{self.server_address[1]}", lambda _, ask: ask())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def log_message(self, *_: object) -> None:
        pass

    def handle_expect_100(self) -> bool:
        call = self.call()
        answer = self.server.state.early(call)
        if answer is None:
            return super().handle_expect_100()
        self.server.state.calls.append(call)
        self.reply(answer)
        self.close_connection = True  # whoever reads no body cannot tell where the next call begins
        return False

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # whoever was sending it was killed: no request
            self.close_connection = True
            return
        call = self.call()
        self.server.state.calls.append(call)
        answer = self.server.state.fault(call, lambda: self.ask(body))
        if answer is None:
            self.close_connection = True
        else:
            self.reply(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    def call(self) -> Call:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, True).items()}
        return Call(self.command, parts.path, query, dict(self.headers.items()))

    def ask(self, body: bytes) -> Answer:
        upstream = self.server.upstream
        connection = http.client.HTTPConnection(upstream.host, upstream.port, timeout=_SECONDS)
        with contextlib.closing(connection):
            headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
            # A server that refuses does not read on, and has answered already.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            content = response.read()
        kept = {k: v for k, v in response.getheaders() if k.lower() not in _HOP_BY_HOP}
        return Answer(response.status, kept, content)

    def reply(self, answer: Answer) -> None:
        headers = dict(answer.headers)
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(answer.body))
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut])
        self.close_connection = answer.cut is not None


@contextlib.contextmanager
def proxy(server: S3) -> Iterator[Proxy]:
    """Run a proxy that, until told otherwise, passes everything on."""
    with _Listener(server) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield listener.state
        finally:
            listener.shutdown()
