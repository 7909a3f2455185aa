"""Sending a request until there is an answer that is not just of the moment."""

from __future__ import annotations

from collections.abc import Callable

from bundler.stores.registry_errors import no_way, unanswered, unexpected
from bundler.stores.registry_http import Http
from bundler.stores.registry_messages import (
    BUSY,
    Answer,
    InterruptedTransferError,
    NoWayError,
    Request,
)
from bundler.stores.retry import Tries

# Somebody who mistyped a host waits for no more than this.
_FIRST_CONTACT_TRIES = 3


def once(http: Http, request: Request, place: str) -> Answer:
    """Send a request, once.

    Args:
        http: Sends it.
        request: What to ask.
        place: What to call it in an error.

    Raises:
        InterruptedTransferError: The connection was not made, or broke.
        WorldError: There is none to be had.
    """
    try:
        return http.ask(request)
    except NoWayError as error:
        raise no_way(place, str(error)) from error


def persist(
    send: Callable[[], Answer], tries: Tries, *, place: str, who: str, few: int | None = None
) -> Answer:
    """Send again and again where the server was busy or the connection broke.

    A server that answered before and cannot be reached any more is waited for as long as there is
    time.

    Args:
        send: Sends the request, once.
        tries: Those of the operation that it is part of.
        place: What to call it in an error.
        who: What to call the server.
        few: The most attempts at this request, where they are fewer than the operation has.

    Raises:
        WorldError: It is still so after all tries.
    """
    before = tries.counted
    most = None if few is None else before + few
    while True:
        try:
            answer = send()
        except InterruptedTransferError as error:
            limit = before + _FIRST_CONTACT_TRIES if error.stranger else most
            if not tries.again(most=limit, counted=not error.away):
                raise unanswered(place, error, tried=tries.failed, who=who) from error
            continue
        if answer.status not in BUSY:
            return answer
        if not tries.again(answer.headers.get("Retry-After"), most=most):
            raise unexpected(place, answer, tried=tries.failed, who=who)
