"""When a call to S3 is tried again: by our own patience, through the client library's hook.

The library's own modes count attempts, not time, and do not read ``Retry-After``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.exceptions import ConnectTimeoutError, HTTPClientError, ReadTimeoutError, SSLError

from bundler.errors import BundleError
from bundler.stores.base import Note, unnoted
from bundler.stores.retry import Patience, Tries
from bundler.stores.s3_body import Body

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_TRIES = "bundle-tries"
_STATUSES = frozenset({429, 500, 502, 503, 504})
# What S3 says with another status, or with none that a HEAD could tell apart.
_CODES = frozenset(
    {
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ConditionalRequestConflict",  # another write of the same key is on its way
    }
)
# A server that never answered is perhaps no server: whoever named it wrongly waits for no budget.
_TRIES_OF_STRANGERS = 3


class Retries:
    """Judges the failed attempts of one client's calls; any thread.

    Args:
        patience: What calls are held to. Where a server that answered before does not answer any
            more, it is the time alone that counts: it may just be started again.
        note: Told, once, of a server that is waited for, and that it is there again.
    """

    def __init__(self, patience: Patience, note: Note = unnoted) -> None:
        self._patience = patience
        self._note = note
        self._lock = threading.Lock()
        self._heard = self._waited_for = False

    def watch(self, client: S3Client) -> None:
        """Be asked after each attempt of a client that tries nothing again by itself."""
        client.meta.events.register("before-call.s3", self._begin)
        # The stubs know only of events whose handlers give nothing.
        client.meta.events.register("needs-retry.s3", cast("Callable[..., None]", self._judge))

    def _begin(self, context: dict[str, Any], **_: object) -> None:
        context[_TRIES] = Tries(self._patience)

    def _judge(
        self,
        response: tuple[Any, dict[str, Any]] | None,
        caught_exception: Exception | None,
        request_dict: dict[str, Any],
        **_: object,
    ) -> float | None:
        """Wait and give 0, the seconds that are left to wait; None to let the failure stand."""
        body = request_dict["body"]
        tries: Tries = body.tries if isinstance(body, Body) else request_dict["context"][_TRIES]
        server = _server(request_dict["url"])
        if response is None:
            most = None if self._heard else _TRIES_OF_STRANGERS
            news = partial(self._tell_waiting, server, _reason(caught_exception))
            again = _may_pass(caught_exception) and tries.again(
                most=most, counted=not self._heard, news=news
            )
            return 0.0 if again else None
        self._heard = True
        answer, parsed = response
        code = parsed.get("Error", {}).get("Code", "")
        if answer.status_code not in _STATUSES and code not in _CODES:
            self._tell_answering(server)
            return None
        news = partial(self._tell_waiting, server, f"it answers {code or answer.status_code}")
        return 0.0 if tries.again(answer.headers.get("Retry-After"), news=news) else None

    def _tell_waiting(self, server: str, reason: str, seconds: float) -> None:
        with self._lock:
            told, self._waited_for = self._waited_for, True
        if not told:
            self._note(f"waiting for {server}: {reason}; going on for {seconds:.0f} s")

    def _tell_answering(self, server: str) -> None:
        with self._lock:
            waited, self._waited_for = self._waited_for, False
        if waited:
            self._note(f"{server} answers again")


def _may_pass(error: Exception | None) -> bool:
    """Say whether a call without an answer may get one next time."""
    if isinstance(error, SSLError):
        return False
    if isinstance(error, HTTPClientError):
        # What our own code raised while it gave the body stands.
        return not isinstance(error.kwargs.get("error"), BundleError)
    return isinstance(error, NoConnectionError)


def _server(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _reason(error: BaseException | None) -> str:
    """Say in few words why there was no answer."""
    if isinstance(error, ConnectTimeoutError):
        return "it takes no connection"
    if isinstance(error, ReadTimeoutError):
        return "it does not answer"
    inner = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
        inner = inner.__cause__ or inner.__context__
    return "the connection broke"
