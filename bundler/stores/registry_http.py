"""HTTP as registries need it: the only place that uses urllib3.

One request, one answer: what is tried again, who we are and what an answer means is decided above.
Bodies are sent as they come, without a copy, and no more of an answer is read than was asked for.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

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
from bundler.stores.registry_proxy import proxy_for
from bundler.stores.registry_url import Origin
from bundler.stores.retry import Timeouts

_AGENT = f"airgap-llm-bundle/{__version__}"
_CONNECTIONS = 64  # kept open to one server: more than threads ever ask at once
_PIECE = 1 << 20
# What an answer may have where nobody wants it, such as the words of an error.
_SMALL = 64 << 10
_OK = 200
_PARTIAL = 206
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


class InterruptedTransferError(Exception):
    """A connection was not made, or broke, or stood still; another try may do better.

    Attributes:
        unreached: Whether the server had not even taken the connection.
    """

    def __init__(self, reason: str, *, unreached: bool = False) -> None:
        super().__init__(reason)
        self.unreached = unreached


class NoTlsError(Exception):
    """There is no TLS between us and a server, and no other try would find any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        method: Such as GET.
        url: Whole, with its query.
        headers: Further headers; the length of a body is added.
        content: What to send, when it is small.
        body: What to send, when it is large: ``length`` bytes in all.
        commits: The answer may take long, since the server puts something away first.
        limit: The most bytes that the answer to success may have.
        streamed: Success is not read whole, but piece by piece by whoever asked.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    body: Iterator[memoryview] | None = field(default=None, repr=False)
    length: int = 0
    commits: bool = False
    limit: int = _SMALL
    streamed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server answered.

    Attributes:
        status: HTTP status.
        reason: Its words for the status.
        headers: By name, whatever its case.
        url: What was asked.
        content: The body; of an error, and where nobody asked for one, at most its beginning.
        over: The body has more bytes than ``content``, which were not read.
        pieces: The body piece by piece, where it was asked for so and there is one. To be read to
            its end or closed.
    """

    status: int
    reason: str
    headers: Mapping[str, str] = field(repr=False)
    url: str
    content: bytes = field(default=b"", repr=False)
    over: bool = False
    pieces: Generator[bytes, None, None] | None = field(default=None, repr=False)

    @property
    def fine(self) -> bool:
        """Whether it is one of success."""
        return _OK <= self.status < 300


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

    def reached(self, url: str) -> bool:
        """Tell whether the server of a URL has ever answered."""
        return Origin.of(url) in self._reached

    def ask(self, request: Request) -> Answer:
        """Send one request, and read the answer as far as it is wanted.

        Raises:
            InterruptedTransferError: Something broke on the way; the request may have arrived.
            NoTlsError: The server has no certificate that we trust, or does not trust ours.
        """
        origin = Origin.of(request.url)
        try:
            response = self._send(request, origin)
            self._reached.add(origin)
            return self._answer(request, response)
        except SSLError as error:
            if any(sign in str(error) for sign in _LASTING_TLS):
                raise NoTlsError(str(error)) from error
            raise InterruptedTransferError(_reason(error)) from error
        except (HTTPError, OSError) as error:
            raise InterruptedTransferError(_reason(error), unreached=_unreached(error)) from error

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
        proxy = proxy_for(origin.scheme, origin.host, origin.port, self._environment)
        key = (trusted, origin.scheme, proxy)
        with self._lock:
            if key not in self._managers:
                self._managers[key] = self._open(*key)
            return self._managers[key]

    def _open(self, trusted: bool, scheme: str, proxy: str | None) -> urllib3.PoolManager:
        context = self._contexts[trusted]() if scheme == "https" else None
        if proxy is None:
            return urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=context)
        return urllib3.ProxyManager(
            proxy,
            maxsize=_CONNECTIONS,
            ssl_context=context,
            proxy_ssl_context=self._contexts[False]() if proxy.startswith("https:") else None,
            proxy_headers=_proxy_login(proxy),
        )

    def _answer(self, request: Request, response: urllib3.BaseHTTPResponse) -> Answer:
        wanted = _OK <= response.status < 300
        streams = request.streamed and response.status in {_OK, _PARTIAL}
        content, over = b"", False
        if not streams:
            content, over = self._read(response, request.limit if wanted else _SMALL)
        return Answer(
            status=response.status,
            reason=response.reason or "",
            headers=response.headers,
            url=request.url,
            content=content,
            over=over,
            pieces=_pieces(response) if streams else None,
        )

    def _read(self, response: urllib3.BaseHTTPResponse, limit: int) -> tuple[bytes, bool]:
        """Read a body up to ``limit`` bytes, and say whether there is more of it."""
        end = time.monotonic() + self._timeouts.answer
        found = bytearray()
        try:
            while len(found) <= limit and (piece := response.read1(limit + 1 - len(found))):
                found += piece
                if time.monotonic() > end:
                    raise InterruptedTransferError("the answer did not end")
        except BaseException:
            response.close()
            raise
        over = len(found) > limit
        if over:  # nobody will read the rest, so the connection is of no use any more
            response.close()
        response.release_conn()
        return bytes(found[:limit]), over


def _pieces(response: urllib3.BaseHTTPResponse) -> Generator[bytes, None, None]:
    """Stream a body; the connection is given back at its end, and closed anywhere else."""
    try:
        while piece := response.read(_PIECE):
            yield piece
    except (HTTPError, OSError) as error:
        raise InterruptedTransferError(_reason(error)) from error
    finally:
        if response.closed:
            response.release_conn()
        else:
            response.close()


def _proxy_login(proxy: str) -> dict[str, str]:
    """Give the header that logs in to a proxy whose URL has a user and a password."""
    login = urlsplit(proxy).netloc.rpartition("@")[0]
    return urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else {}


def _unreached(error: Exception) -> bool:
    return isinstance(error, NewConnectionError | ConnectTimeoutError | ProxyError)


def _reason(error: BaseException) -> str:
    """Find the one telling line in what may be four exceptions deep."""
    if isinstance(error, ReadTimeoutError):
        return "it stood still"
    inner = _inner(error)
    if isinstance(error, ProxyError) and inner is not None:
        return f"the proxy: {_reason(inner)}"
    if inner is not None:
        return _reason(inner)
    if isinstance(error, TimeoutError | ConnectTimeoutError):
        return "it stood still" if isinstance(error, TimeoutError) else "it took no connection"
    strerror = getattr(error, "strerror", None)
    return printable(strerror or str(error) or type(error).__name__)[:200]


def _inner(error: BaseException) -> BaseException | None:
    """Give the exception that another one wraps, as an argument or as its cause."""
    wrapped = (each for each in error.args if isinstance(each, BaseException))
    return next(wrapped, error.__cause__)
