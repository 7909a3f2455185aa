"""A reverse proxy's parts: requests and answers that are streamed, whatever their size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_PIECE = 1 << 18
_SECONDS = 60
_OWN = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "authorization"}


class Listener(ThreadingHTTPServer):
    """A server before another one.

    Attributes:
        upstream: URL of that one.
    """

    daemon_threads = True
    upstream: str


class StreamingHandler(BaseHTTPRequestHandler):
    """Answers and passes on without ever holding a whole body.

    Attributes:
        left: Bytes of the request's body that are still to come; -1 where it has no length.
    """

    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    server: Listener
    left: int = 0

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def measure(self) -> None:
        """Find out how long this request's body is."""
        self.left = int(self.headers.get("Content-Length", "0"))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.left = -1

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """Answer with a small body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def pass_back(self, response: HTTPResponse, changed: dict[str, str | None]) -> None:
        """Stream what the registry behind us answers, with some headers changed or left out."""
        self.send_response(response.status)
        skipped = {name.lower() for name in changed} | (_OWN - {"content-length"})
        for name, value in response.getheaders():
            if name.lower() not in skipped:
                self.send_header(name, value)
        for name, changed_value in changed.items():
            if changed_value is not None:
                self.send_header(name, changed_value)
        if response.getheader("Content-Length") is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        while piece := response.read(_PIECE):
            self.wfile.write(piece)

    @contextlib.contextmanager
    def ask(
        self, path: str, body: Iterator[bytes] | None = None, length: int | None = None
    ) -> Iterator[HTTPResponse]:
        """Send this request on; where its body breaks off, the one behind breaks off too."""
        with connect(self.server.upstream) as connection:
            connection.putrequest(self.command, path, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OWN:
                    connection.putheader(name, value)
            size = self.left if length is None else length
            if size < 0:
                connection.putheader("Transfer-Encoding", "chunked")
            elif size or self.command in {"PUT", "POST", "PATCH"}:
                connection.putheader("Content-Length", str(size))
            connection.endheaders()
            for piece in body or self.body():
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if size < 0 else piece)
            if size < 0:
                connection.send(b"0\r\n\r\n")
            yield connection.getresponse()

    def body(self) -> Iterator[bytes]:
        """Stream this request's body, once."""
        if self.left < 0:
            self.left = 0
            yield from self._chunks()
        while self.left:
            piece = self.rfile.read1(min(self.left, _PIECE))
            if not piece:
                raise ConnectionResetError("the client is gone")
            self.left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline() or b"-1", 16):
            if size < 0:
                raise ConnectionResetError("the client is gone")
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def whole_body(self) -> bytes:
        """Read a small body."""
        return b"".join(self.body())


@contextlib.contextmanager
def connect(url: str) -> Iterator[HTTPConnection]:
    """Give a connection to a server for the length of the block."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=_SECONDS)
    with contextlib.closing(connection):
        yield connection
