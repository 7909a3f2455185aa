"""A forward proxy as company networks have it: CONNECT for https, whole URLs for http."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.rehearsal.serving import LOOPBACK, in_thread

_PIECE = 1 << 16
_IDLE_SECONDS = 60
_OWN = {"proxy-authorization", "proxy-connection", "connection", "keep-alive"}


@dataclass(slots=True)
class ForwardProxy:
    """A running forward proxy.

    Attributes:
        url: What ``HTTPS_PROXY`` and ``HTTP_PROXY`` name.
        login: ``USER:PASSWORD`` that it wants; None where anybody may use it.
        closed: Whether its rules let nothing through.
        requests: ``METHOD HOST:PORT`` of each request or tunnel so far that it let through.
    """

    url: str
    login: str | None = None
    closed: bool = False
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def proxy() -> Iterator[ForwardProxy]:
    """Run a forward proxy on a free port of loopback while the block lasts."""
    listener = _Listener((LOOPBACK, 0), _Handler)
    listener.known = ForwardProxy(f"http://{LOOPBACK}:{listener.server_address[1]}")
    with in_thread(listener):
        yield listener.known


class _Listener(ThreadingHTTPServer):
    known: ForwardProxy


class _Handler(BaseHTTPRequestHandler):
    rbufsize = 0  # what follows the headers is read from the socket itself
    server: _Listener

    def log_message(self, *_: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        if self._refuses():
            return
        host, _, port = self.path.rpartition(":")
        with self._reach(host, int(port)) as upstream:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _join(self.connection, upstream)
        self.close_connection = True

    def pass_on(self) -> None:
        parts = urlsplit(self.path)
        if parts.scheme != "http" or parts.hostname is None:
            self.send_error(400, "expected a whole http:// URL")
            return
        if self._refuses():
            return
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        kept = [(k, v) for k, v in self.headers.items() if k.lower() not in _OWN]
        head = [f"{self.command} {target or '/'} HTTP/1.1", *(f"{k}: {v}" for k, v in kept)]
        with self._reach(parts.hostname, parts.port or 80) as upstream:
            # One request a connection, so that the next one comes here again.
            upstream.sendall("\r\n".join([*head, "Connection: close", "", ""]).encode())
            _join(self.connection, upstream)
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = pass_on  # noqa: N815

    def _refuses(self) -> bool:
        """Refuse who has not the login, then everybody where nothing is let through."""
        known = self.server.known
        given = self.headers.get("Proxy-Authorization", "")
        wanted = base64.b64encode((known.login or "").encode()).decode()
        self.close_connection = True
        if known.login is not None and given != f"Basic {wanted}":
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        elif known.closed:
            self.send_response(403)
        else:
            return False
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _reach(self, host: str, port: int) -> socket.socket:
        self.server.known.requests.append(f"{self.command} {host}:{port}")
        return socket.create_connection((host, port), timeout=_IDLE_SECONDS)


def _join(one: socket.socket, other: socket.socket) -> None:
    """Copy both ways until either side is at its end, or nothing comes for long."""
    peers = {one: other, other: one}
    with contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select([one, other], [], [], _IDLE_SECONDS)
            for each in ready:
                piece = each.recv(_PIECE)
                if not piece:
                    return
                peers[each].sendall(piece)
            if not ready:
                return
