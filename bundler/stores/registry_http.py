"""HTTP as registries need it: beside registry_connection the only place that uses urllib3.

One request, one answer: what is tried again, who we are and what an answer means is decided above.
Bodies are sent as they come, without a copy, and no more of an answer is read than was asked for.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Generator, Mapping

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from bundler import __version__
from bundler.errors import printable
from bundler.stores.registry_connection import deadline_of, timed
from bundler.stores.registry_messages import (
    BUSY,
    SMALL,
    Answer,
    InterruptedTransferError,
    NoWayError,
    Request,
    is_success,
)
from bundler.stores.registry_proxy import address_and_login, proxy_for
from bundler.stores.registry_url import Origin
from bundler.stores.retry import Timeouts
from bundler.stores.tunnel import NoTunnel, no_tunnel

_AGENT = f"airgap-llm-bundle/{__version__}"
_CONNECTIONS = 64  # kept open to one server: more than threads ever ask at once
_PIECE = 1 << 20
# Nothing is to be done about these by trying again. Source: OpenSSL, SSL_R_* and TLS alerts.
_LASTING_TLS = (
    "CERTIFICATE_VERIFY_FAILED",
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "UNKNOWN_CA",
    "HANDSHAKE_FAILURE",
    "PROTOCOL_VERSION",
    "doesn't match",
)


class Http:
    """Connections to a registry, and to wherever it sends us; any thread may ask.

    Connections are kept and used again. Our client certificate is shown to trusted servers only.
    """

    def __init__(
        self,
        *,
        ours: Callable[[], ssl.SSLContext],
        others: Callable[[], ssl.SSLContext],
        trusted: frozenset[Origin],
        environment: Mapping[str, str],
        timeouts: Timeouts,
    ) -> None:
        """Prepare; nobody is asked yet.

        Args:
            ours: Gives TLS towards trusted servers; called where it is needed.
            others: Gives TLS towards all others: without a client certificate.
            trusted: The registry, and who else may know who we are.
            environment: Where the proxies stand.
            timeouts: How long we wait for a server.
        """
        self._contexts = {True: ours, False: others}
        self._trusted = trusted
        self._environment = environment
        self._timeouts = timeouts
        self._managers: dict[tuple[bool, str, str | None], urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        self._reached: set[Origin] = set()

    def ask(self, request: Request) -> Answer:
        """Send one request, and read the answer as far as it is wanted.

        Raises:
            InterruptedTransferError: Something broke on the way; the request may have arrived.
            NoWayError: There is no tunnel, the server has no certificate that we trust, or does not
                trust ours.
        """
        origin = Origin.of(request.url)
        try:
            response = self._send(request, origin)
            self._reached.add(origin)
            return self._answer(request, response)
        except (HTTPError, OSError) as error:
            reason = self._told(error, origin)
            refused = no_tunnel(reason)
            if _is_lasting(error, reason, refused):
                raise NoWayError(reason) from error
            unreached = refused is not None or _is_unreached(error)
            raise InterruptedTransferError(
                reason, unreached=unreached, stranger=unreached and origin not in self._reached
            ) from error

    def _told(self, error: Exception, origin: Origin) -> str:
        """Say what broke, and at which proxy if it was there; its login is nobody's business."""
        reason = str(error) if isinstance(error, SSLError) else _reason(error)
        proxy = self._proxy(origin)
        if proxy is None or not isinstance(error, ProxyError):
            return reason
        return f"the proxy {printable(address_and_login(proxy)[0])}: {reason}"

    def _proxy(self, origin: Origin) -> str | None:
        return proxy_for(origin.scheme, origin.host, origin.port, self._environment)

    def _send(self, request: Request, origin: Origin) -> urllib3.BaseHTTPResponse:
        headers = {"User-Agent": _AGENT, **request.headers}
        timeouts = self._timeouts
        if request.body is not None:
            headers["Content-Length"] = str(request.length)
        return self._manager(origin).urlopen(
            request.method,
            request.url,
            body=request.content if request.body is None else request.body,
            headers=headers,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            # What urllib3 grants for connecting it also grants for each piece that is sent.
            timeout=urllib3.Timeout(
                connect=timeouts.connect if request.body is None else timeouts.idle,
                read=timeouts.commit if request.commits else timeouts.idle,
            ),
        )

    def _manager(self, origin: Origin) -> urllib3.PoolManager:
        trusted = origin in self._trusted
        proxy = self._proxy(origin)
        key = (trusted, origin.scheme, proxy)
        with self._lock:
            if key not in self._managers:
                self._managers[key] = self._open(*key)
            return self._managers[key]

    def _open(self, trusted: bool, scheme: str, proxy: str | None) -> urllib3.PoolManager:
        context = self._contexts[trusted]() if scheme == "https" else None
        if proxy is None:
            return timed(urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=context))
        address, login = address_and_login(proxy)
        return timed(
            urllib3.ProxyManager(
                address,
                maxsize=_CONNECTIONS,
                ssl_context=context,
                proxy_ssl_context=self._contexts[False]() if proxy.startswith("https:") else None,
                proxy_headers=login,
            )
        )

    def _answer(self, request: Request, response: urllib3.BaseHTTPResponse) -> Answer:
        wanted = is_success(response.status)
        streams = request.streamed and response.status in {200, 206}
        content, over = b"", False
        if not streams:
            content, over = self._read(response, request.limit if wanted else SMALL)
            if request.never_empty and wanted and not content:
                raise InterruptedTransferError("its answer was empty")
        return Answer(
            status=response.status,
            reason=response.reason or "",
            headers=response.headers,
            url=request.url,
            login=request.headers.get("Authorization"),
            content=content,
            over=over,
            pieces=self._pieces(response) if streams else None,
        )

    def _read(self, response: urllib3.BaseHTTPResponse, limit: int) -> tuple[bytes, bool]:
        """Read a body up to ``limit`` bytes, and say whether there is more of it."""
        found = bytearray()
        self._grant(response)
        try:
            while len(found) <= limit and (piece := response.read1(limit + 1 - len(found))):
                found += piece
        except BaseException:
            response.close()
            raise
        over = len(found) > limit
        if over:  # nobody will read the rest, so the connection is of no use any more
            response.close()
        response.release_conn()
        return bytes(found[:limit]), over

    def _pieces(self, response: urllib3.BaseHTTPResponse) -> Generator[bytes, None, None]:
        """Stream a body; the connection is given back at its end, and closed anywhere else."""
        try:
            self._grant(response)
            while piece := response.read(_PIECE):
                yield piece
                self._grant(response)
        except (HTTPError, OSError) as error:
            raise InterruptedTransferError(_reason(error)) from error
        finally:
            if response.closed:
                response.release_conn()
            else:
                response.close()

    def _grant(self, response: urllib3.BaseHTTPResponse) -> None:
        """Give time for what is read next."""
        deadline = deadline_of(response)
        if deadline is not None:
            deadline.grant(self._timeouts.answer, self._timeouts.idle)


def _is_lasting(error: Exception, reason: str, refused: NoTunnel | None) -> bool:
    """Tell whether no other try would do better."""
    if refused is not None:
        return refused.status not in BUSY
    return isinstance(error, SSLError) and any(sign in reason for sign in _LASTING_TLS)


def _is_unreached(error: Exception) -> bool:
    return isinstance(error, NewConnectionError | ConnectTimeoutError | ProxyError)


def _reason(error: BaseException) -> str:
    """Find the one telling line in what may be four exceptions deep."""
    if isinstance(error, ReadTimeoutError):
        return "it stood still"
    inner = _inner(error)
    if inner is not None:
        return _reason(inner)
    if isinstance(error, http.client.BadStatusLine):
        return f"it does not speak HTTP: {printable(str(error))[:80]}"
    if isinstance(error, TimeoutError | ConnectTimeoutError):
        return "it stood still" if isinstance(error, TimeoutError) else "it took no connection"
    strerror = getattr(error, "strerror", None)
    return printable(strerror or str(error) or type(error).__name__)[:200]


def _inner(error: BaseException) -> BaseException | None:
    """Give the exception that another one wraps, as an argument or as its cause."""
    wrapped = (each for each in error.args if isinstance(each, BaseException))
    return next(wrapped, error.__cause__)
