"""The HTTP side: routes, limits, event streams, and an end that lets requests finish."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from atlas import VERSION
from atlas.request import Generation, RequestError, parse_chat, parse_completion
from atlas.service import Service, Shape, error_body

_MAX_BODY_BYTES = 32 * 2**20
_MAX_LENGTH_DIGITS = 15
_IDLE_SECONDS = 60
_PROTECTED = "/v1"
_logger = logging.getLogger(__name__)


class Server(ThreadingHTTPServer):
    """Serves one service; one thread a connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: Service) -> None:
        self.service = service
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__(address, _Handler)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request as under way."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no request is under way; False when ``seconds`` did not suffice."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._busy, seconds)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = f"atlas/{VERSION}"
    sys_version = ""
    timeout = _IDLE_SECONDS
    # Else the small packets of an event stream wait for each other's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(
            {
                "/health": lambda _: self._send(200, b""),
                "/ping": lambda _: self._send(200, b""),
                "/version": lambda _: self._send_json(200, self.server.service.version()),
                "/v1/models": lambda _: self._send_json(200, self.server.service.models()),
            }
        )

    def do_POST(self) -> None:
        self._answer(
            {
                "/v1/completions": lambda body: self._generate(parse_completion, body, chat=False),
                "/v1/chat/completions": lambda body: self._generate(parse_chat, body, chat=True),
            }
        )

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        # The request line and the status: no header is ever logged, so no key.
        if self.path != "/health":
            self.log_message("%s %s", self.requestline, str(int(code)))

    def log_message(self, template: str, *arguments: object) -> None:
        line = (template % arguments).encode("unicode_escape").decode()
        _logger.info("%s %s", self.client_address[0], line)

    def _answer(self, routes: dict[str, Callable[[bytes], None]]) -> None:
        path = self.path.partition("?")[0]
        with self.server.busy():
            try:
                # Read before any refusal: closing on unread bytes could destroy our answer.
                body = self._body()
                self._check_key(path)
                routes.get(path, self._refuse_path)(body)
            except RequestError as error:
                self._send_json(error.status, error_body(error))
            except (ConnectionError, TimeoutError):
                self.close_connection = True

    def _check_key(self, path: str) -> None:
        protected = path == _PROTECTED or path.startswith(_PROTECTED + "/")
        if protected and not self.server.service.is_authorized(self.headers["Authorization"]):
            raise RequestError(401, "AuthenticationError", "Unauthorized: no valid API key")

    def _refuse_path(self, body: bytes) -> None:
        raise RequestError(404, "NotFoundError", f"no {self.command} at this path")

    def _generate(self, parse: Callable[[bytes], Generation], body: bytes, *, chat: bool) -> None:
        service = self.server.service
        request = parse(body)
        answers = service.answers(request)
        fingerprint = f"stand-in-{service.checkpoint.digest.hex()[:12]}"
        shape = Shape(chat, request.model, fingerprint)
        if request.stream:
            self._send_events(shape.stream(answers, request))
        else:
            self._send_json(200, shape.whole(answers, request))

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "" if self.command == "POST" else "0")
        if not (length.isascii() and length.isdigit()) or len(length) > _MAX_LENGTH_DIGITS:
            self.close_connection = True
            raise RequestError(411, "BadRequestError", "no usable Content-Length")
        if int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            raise RequestError(413, "BadRequestError", f"a body of over {_MAX_BODY_BYTES} bytes")
        return self.rfile.read(int(length))

    def _send_json(self, status: int, document: dict[str, Any]) -> None:
        self._send(status, json.dumps(document).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str | None = None) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if content_type:
            self.send_header("Content-Type", content_type)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_events(self, documents: Iterable[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for document in documents:
            self._send_chunk(f"data: {json.dumps(document)}\n\n".encode())
        self._send_chunk(b"data: [DONE]\n\n")
        self._send_chunk(b"")

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
