"""Requests to one registry: tried again where that may help, with our login, along redirects."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

from bundler.digest import Digest
from bundler.errors import BundleError, WorldError
from bundler.stores.registry_auth import Authorization
from bundler.stores.registry_challenge import Scopes
from bundler.stores.registry_errors import (
    FORBIDDEN,
    NOT_FOUND,
    UNAUTHORIZED,
    asks_who_we_are,
    denied_elsewhere,
    server,
    unexpected,
)
from bundler.stores.registry_http import Http
from bundler.stores.registry_messages import Answer, Request
from bundler.stores.registry_persist import once, persist
from bundler.stores.registry_url import Origin, resolve
from bundler.stores.retry import Patience, Tries

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_NUMBER = re.compile(r"[0-9]{1,18}")
# What is worth waiting for an operation that can be done without.
_FEW = 3


@dataclass(frozen=True, slots=True)
class Purpose:
    """What requests are about: ``place`` is for errors, ``scopes`` is what a token must cover."""

    place: str
    scopes: Scopes


class Client:
    """Speaks to one registry, and to nobody else with our login."""

    def __init__(
        self, http: Http, authorization: Authorization, own: Origin, patience: Patience
    ) -> None:
        """Remember who is who.

        Args:
            http: Sends requests.
            authorization: What to say of ourselves.
            own: The registry's origin.
            patience: How often and how long one operation is tried.
        """
        self._http = http
        self._authorization = authorization
        self._own = own
        self._patience = patience

    def begin(self) -> Tries:
        """Begin an operation: all its requests share what this gives."""
        return Tries(self._patience)

    def begin_briefly(self) -> Tries:
        """Begin an operation that can be done without."""
        return Tries(replace(self._patience, tries=min(_FEW, self._patience.tries)))

    def ask(
        self,
        request: Request,
        purpose: Purpose,
        tries: Tries,
        *,
        fine: Collection[int],
        few: int | None = None,
    ) -> Answer:
        """Send a small request and get an answer, whatever it takes.

        Args:
            request: What to ask; without ``body``.
            purpose: What it is about.
            tries: Those of the operation that it is part of.
            fine: The statuses to give back.
            few: The most attempts at this request, where they are fewer than the operation has.

        Raises:
            DeniedError: The registry refuses us.
            WorldError: It cannot be reached, fails, or answers with another status.
        """
        refused = redirects = 0
        while True:
            send = partial(self.send, request, purpose, tries)
            who = server(purpose.place, request.url)
            answer = persist(send, tries, place=purpose.place, who=who, few=few)
            if self.wants_login(answer, purpose, refused):
                refused += answer.login is not None
            elif answer.status in _REDIRECTS and request.method in {"GET", "HEAD"}:
                redirects += 1
                request = self._redirected(request, answer, purpose, redirects)
            elif answer.status in fine:
                return answer
            else:
                raise self.refusal(answer, purpose)

    def send(self, request: Request, purpose: Purpose, tries: Tries) -> Answer:
        """Send a request once, with our login if it is for the registry itself.

        Raises:
            InterruptedTransferError: The connection was not made, or broke.
            DeniedError, WorldError: There is no token to be had, or no connection.
        """
        if Origin.of(request.url) == self._own:
            header = self._authorization.header(purpose.scopes, purpose.place, tries)
            if header is not None:
                request = replace(request, headers={**request.headers, "Authorization": header})
        return once(self._http, request, purpose.place)

    def wants_login(self, answer: Answer, purpose: Purpose, refused: int) -> bool:
        """Tell whether an answer wants another login than it had, and find one.

        Args:
            answer: The answer.
            purpose: As for ``send``.
            refused: How many logins were refused before, for what this request is about.

        Raises:
            DeniedError: It does, and there is none.
        """
        if Origin.of(answer.url) != self._own or not asks_who_we_are(answer):
            return False
        times = refused + (answer.login is not None)
        self._authorization.refused(answer, purpose.scopes, purpose.place, times=times)
        return True

    def refusal(self, answer: Answer, purpose: Purpose) -> BundleError:
        """Give the error that an answer stands for."""
        if answer.status in {UNAUTHORIZED, FORBIDDEN}:
            if Origin.of(answer.url) != self._own:
                return denied_elsewhere(purpose.place, answer)
            return self._authorization.denied(answer, purpose.place)
        return unexpected(purpose.place, answer)

    def _redirected(
        self, request: Request, answer: Answer, purpose: Purpose, number: int
    ) -> Request:
        if number > _MAX_REDIRECTS:
            raise WorldError(
                f"{purpose.place}: the registry sends us from one place to the next",
                hint="the registry, or a proxy before it, redirects to itself: correct it",
            )
        location = answer.headers.get("Location")
        return replace(request, url=resolve(request.url, location, place=purpose.place))


def blob_size(
    client: Client, purpose: Purpose, tries: Tries, blobs_url: str, digest: Digest
) -> int | None:
    """Ask for the bytes of a blob; None where it is not there.

    Raises:
        WorldError: The registry does not say.
    """
    request = Request(method="HEAD", url=f"{blobs_url}/{digest}")
    answer = client.ask(request, purpose, tries, fine={200, NOT_FOUND})
    if answer.status == NOT_FOUND:
        return None
    length = number(answer.headers.get("Content-Length"))
    if length is None:
        raise WorldError(
            f"{purpose.place}: the registry does not say how many bytes it has",
            hint="a proxy before the registry must pass the header Content-Length on",
        )
    return length


def number(text: str | None) -> int | None:
    """Read a header that counts bytes; None where there is none, or it does not."""
    return int(text) if text and _NUMBER.fullmatch(text) else None
