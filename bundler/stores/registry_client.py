"""Requests to one registry: tried again where that may help, with our login, along redirects."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from bundler.errors import BundleError, WorldError
from bundler.stores.registry_auth import Ask, Authorization
from bundler.stores.registry_challenge import Scopes
from bundler.stores.registry_errors import (
    FORBIDDEN,
    UNAUTHORIZED,
    asks_who_we_are,
    no_tls,
    unexpected,
    unreached,
)
from bundler.stores.registry_http import (
    Answer,
    Http,
    InterruptedTransferError,
    NoTlsError,
    Request,
)
from bundler.stores.registry_url import Origin, resolve
from bundler.stores.retry import Patience, Tries

# What may pass by itself. Source: RFC 9110, section 15; 429: RFC 6585.
BUSY = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
# Somebody who mistyped a host waits for no more than this.
_FIRST_CONTACT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Purpose:
    """What requests are about: ``place`` is for errors, ``scopes`` is what a token must cover."""

    place: str
    scopes: Scopes


@dataclass(slots=True)
class Refusals:
    """How many logins were refused for one thing that we want."""

    times: int = 0


class Persistent:
    """Sends requests until there is an answer that is not just of the moment."""

    def __init__(self, http: Http, patience: Patience) -> None:
        """Remember how to send, and for how long."""
        self._http = http
        self.patience = patience

    def ask(self, request: Request, place: str) -> Answer:
        """Send a request; again where the server was busy or the connection broke.

        Raises:
            WorldError: It is still so after all tries.
        """
        tries = Tries(self.patience)
        while True:
            try:
                answer = self.once(request, place)
            except InterruptedTransferError as error:
                hopeless = self._is_hopeless(error, request.url, tries)
                if hopeless or not tries.again():
                    tried = tries.failed + hopeless
                    raise unreached(place, str(error), tried=tried) from error
                continue
            if answer.status in BUSY and tries.again(answer.headers.get("Retry-After")):
                continue
            if answer.status in BUSY:
                raise unexpected(place, answer, tried=tries.failed)
            return answer

    def once(self, request: Request, place: str) -> Answer:
        """Send a request, once.

        Raises:
            InterruptedTransferError: The connection was not made, or broke.
            WorldError: There is no TLS between us.
        """
        try:
            return self._http.ask(request)
        except NoTlsError as error:
            raise no_tls(place, str(error)) from error

    def _is_hopeless(self, error: InterruptedTransferError, url: str, tries: Tries) -> bool:
        """Tell whether nobody is there: then all our patience would be wasted on a wrong name."""
        if not error.unreached or self._http.reached(url):
            return False
        return tries.failed + 1 >= _FIRST_CONTACT_TRIES


class Client:
    """Speaks to one registry, and to nobody else with our login."""

    def __init__(self, persistent: Persistent, authorization: Authorization, own: Origin) -> None:
        """Remember who is who.

        Args:
            persistent: Sends requests.
            authorization: What to say of ourselves.
            own: The registry's origin.
        """
        self._persistent = persistent
        self._authorization = authorization
        self._own = own

    @property
    def patience(self) -> Patience:
        """How often and how long things are tried."""
        return self._persistent.patience

    def ask(self, request: Request, purpose: Purpose, *, fine: Collection[int]) -> Answer:
        """Send a small request and get an answer, whatever it takes.

        Args:
            request: What to ask; without ``body``.
            purpose: What it is about.
            fine: The statuses to give back.

        Raises:
            DeniedError: The registry refuses us.
            WorldError: It cannot be reached, fails, or answers with another status.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._persuade(request, purpose)
            if answer.status not in _REDIRECTS or request.method not in {"GET", "HEAD"}:
                if answer.status in fine:
                    return answer
                raise self.refusal(answer, purpose)
            location = answer.headers.get("Location")
            request = replace(request, url=resolve(request.url, location, place=purpose.place))
        raise WorldError(f"{purpose.place}: the registry sends us from one place to the next")

    def ask_once(self, request: Request, purpose: Purpose, refusals: Refusals) -> Answer:
        """Send a request once, with what we know of a login; its answer is the caller's to judge.

        Raises:
            InterruptedTransferError: The connection was not made, or broke, or our login was
                refused and there is another one now.
            DeniedError: The registry refuses us, and there is no other login.
        """
        answer = self._signed(request, purpose, refusals, self._persistent.once)
        if answer is None:
            raise InterruptedTransferError("our login was no longer good")
        return answer

    def refusal(self, answer: Answer, purpose: Purpose) -> BundleError:
        """Give the error that an answer stands for."""
        if answer.status in {UNAUTHORIZED, FORBIDDEN}:
            return self._authorization.denied(answer, purpose.place)
        return unexpected(purpose.place, answer)

    def _persuade(self, request: Request, purpose: Purpose) -> Answer:
        """Send a request; again with another token or login when the registry asks for one."""
        refusals = Refusals()
        while True:
            answer = self._signed(request, purpose, refusals, self._persistent.ask)
            if answer is not None:
                return answer

    def _signed(
        self, request: Request, purpose: Purpose, refusals: Refusals, send: Ask
    ) -> Answer | None:
        """Send a request with our login, if it is for the registry itself.

        Returns:
            None where the login was refused and there is another one now.
        """
        if Origin.of(request.url) != self._own:
            return send(request, purpose.place)
        header = self._authorization.header(purpose.scopes, purpose.place)
        if header is not None:
            request = replace(request, headers={**request.headers, "Authorization": header})
        answer = send(request, purpose.place)
        if not asks_who_we_are(answer):
            return answer
        refusals.times += header is not None
        self._authorization.refused(
            answer, purpose.scopes, purpose.place, used=header, times=refusals.times
        )
        return None
