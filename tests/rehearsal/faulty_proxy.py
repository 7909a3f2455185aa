"""A reverse proxy before a plain server that counts, and fails where a test says so.

Bodies are streamed. It serves in a thread of the test's process, so that a fault can be a function
of the test's own.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from tests.rehearsal.faults import Action, Answer, Call, Cut, CutAnswer, Fault, Lose, Stall
from tests.rehearsal.serving import LOOPBACK, in_thread

_PIECE = 1 << 16
_SECONDS = 60
_OWN = {"connection", "keep-alive", "transfer-encoding", "expect"}


class Upstream(Protocol):
    """A registry, or any other server that speaks plain HTTP."""

    @property
    def host(self) -> str:
        """Its IP address."""

    @property
    def port(self) -> int:
        """Its TCP port."""


@dataclass(slots=True)
class FaultyProxy:
    """A running proxy; a test may change its attributes at any time.

    Attributes:
        address: ``host:port``, as image references begin.
        fault: Says for each request what goes wrong; None for nothing.
        bytes_per_second: How fast bodies of one connection go to the registry; None for no limit.
        calls: Every request so far.
    """

    address: str
    fault: Fault = lambda _: None
    bytes_per_second: int | None = None
    calls: list[Call] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the API begins, without ``/v2/``."""
        return f"http://{self.address}"

    def operations(self) -> list[str]:
        """Name every request so far."""
        return [call.operation for call in self.calls]


@contextlib.contextmanager
def faulty_proxy(upstream: Upstream) -> Iterator[FaultyProxy]:
    """Run a proxy before a server by plain HTTP while the block lasts."""
    listener = _Listener(upstream)
    with in_thread(listener):
        yield listener.known


class _ResetError(Exception):
    """The connection to the client has to be reset."""


class _Listener(ThreadingHTTPServer):
    request_queue_size = 64

    def __init__(self, upstream: Upstream) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.upstream = upstream
        self.known = FaultyProxy(f"{LOOPBACK}:{self.server_address[1]}")
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    disable_nagle_algorithm = True
    server: _Listener

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except _ResetError:
            self._reset()
        except OSError:  # the client, or the registry, went away
            self._reset()

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        parts = urlsplit(self.path)
        known = self.server.known
        with self.server.lock:
            call = Call(
                number=len(known.calls) + 1,
                method=self.command,
                path=parts.path,
                query={name: values[0] for name, values in parse_qs(parts.query).items()},
                headers={name.lower(): value for name, value in self.headers.items()},
            )
            known.calls.append(call)
        try:
            self._answer(call, known.fault(call))
            call.answered = True
        finally:
            call.ended = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    def _answer(self, call: Call, action: Action) -> None:
        if isinstance(action, Answer):
            self._answer_falsely(action)
        elif isinstance(action, Cut) and action.after == 0:
            self._go_wrong(action)
        else:
            self._forward(call, action)

    def _answer_falsely(self, answer: Answer) -> None:
        for _ in self._pieces():
            pass
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _forward(self, call: Call, action: Action) -> None:
        upstream = self.server.upstream
        connection = http.client.HTTPConnection(upstream.host, upstream.port, timeout=_SECONDS)
        with contextlib.closing(connection):
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _OWN - {"transfer-encoding"}:
                    connection.putheader(name, value)
            connection.endheaders()
            self._send_body(connection, call, action)
            response = connection.getresponse()
            call.status = response.status
            if isinstance(action, Lose):
                action.first()
                raise _ResetError
            self._pass_answer(response, action)

    def _send_body(
        self, connection: http.client.HTTPConnection, call: Call, action: Action
    ) -> None:
        """Stream the body up to where the fault is."""
        wrong_at = action.after if isinstance(action, Cut | Stall) else None
        begun = time.monotonic()
        for piece in self._pieces():
            rest = piece
            if wrong_at is not None and call.forwarded + len(piece) >= wrong_at:
                room, wrong_at = wrong_at - call.forwarded, None
                self._send_piece(connection, call, piece[:room])
                self._go_wrong(action)
                rest = piece[room:]
            self._send_piece(connection, call, rest)
            self._wait_for_bandwidth(call.forwarded, begun)
        if self._chunked():
            connection.send(b"0\r\n\r\n")
        if wrong_at is not None:
            self._go_wrong(action)

    def _go_wrong(self, action: Action) -> None:
        """Do what the fault is; comes back only where the request may go on."""
        if isinstance(action, Stall):
            time.sleep(action.seconds)
            return
        assert isinstance(action, Cut)
        action.first()
        raise _ResetError

    def _send_piece(self, connection: http.client.HTTPConnection, call: Call, piece: bytes) -> None:
        if piece:
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked() else piece
            connection.send(framed)
            call.forwarded += len(piece)

    def _wait_for_bandwidth(self, sent: int, begun: float) -> None:
        limit = self.server.known.bytes_per_second
        if limit:
            time.sleep(max(0.0, begun + sent / limit - time.monotonic()))

    def _pass_answer(self, response: http.client.HTTPResponse, action: Action) -> None:
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _OWN:
                self.send_header(name, value)
        length = response.getheader("Content-Length")
        empty = self.command == "HEAD" or response.status in {204, 304}
        if length is None and not empty:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        limit = action.after if isinstance(action, CutAnswer) else None
        sent = 0
        while not empty and (piece := response.read(_PIECE)):
            if limit is not None and sent + len(piece) > limit:
                self.wfile.write(piece[: limit - sent])
                raise _ResetError
            self.wfile.write(piece)
            sent += len(piece)
        if limit is not None:
            raise _ResetError

    def _chunked(self) -> bool:
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def _pieces(self) -> Iterator[bytes]:
        """Read the request's body, of known length or in chunks."""
        if not self._chunked():
            yield from self._read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield from self._read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read1(min(size, _PIECE))
            if not piece:
                raise ConnectionError("the client left in the middle of a body")
            size -= len(piece)
            yield piece

    def _reset(self) -> None:
        """Close with a reset: nothing that was not sent yet is sent."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()
            self.connection.close()
