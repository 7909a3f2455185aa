"""Who we are to a registry: its challenges, and the tokens that it wants instead of a login.

A login goes to the registry's own origin, and to a token server only where that is of the same
origin or the one that the target names. Tokens live in memory, one for each set of scopes, shared
by all threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bundler.errors import DeniedError, WorldError, printable
from bundler.stores.login import Credential, Login, Logins
from bundler.stores.registry_challenge import (
    Challenge,
    Scopes,
    basic,
    parse_challenges,
    read_token,
    token_request,
)
from bundler.stores.registry_errors import FORBIDDEN, UNAUTHORIZED, denied, unexpected
from bundler.stores.registry_http import Http
from bundler.stores.registry_messages import Answer
from bundler.stores.registry_persist import once, persist
from bundler.stores.registry_url import Origin
from bundler.stores.retry import Tries

_REFUSALS = frozenset({400, UNAUTHORIZED, FORBIDDEN})
_MARGIN_SECONDS = 15.0


@dataclass(slots=True)
class _Token:
    """A token and until when it is good, and with which credential it was had."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    text: str | None = field(default=None, repr=False)
    good_until: float = 0.0
    credential: Credential | None = None


class Authorization:
    """What goes into the header ``Authorization`` for one registry."""

    def __init__(
        self,
        logins: Logins,
        *,
        trusted: frozenset[Origin],
        http: Http,
        advice: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start as somebody who was asked nothing yet.

        Args:
            logins: Where our credential comes from.
            trusted: The registry's origin, and that of its token server where one was named.
            http: Sends requests.
            advice: What a person does for a login that is taken.
            clock: Seconds that only grow.
        """
        self._logins = logins
        self._trusted = trusted
        self._http = http
        self._advice = advice
        self._clock = clock
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._lock = threading.Lock()

    def header(self, scopes: Scopes, place: str, tries: Tries) -> str | None:
        """Give the header's value; None as long as nobody asked who we are, or we are nobody.

        Args:
            scopes: What a token must cover.
            place: What we ask for.
            tries: Those of the operation that it is for.

        Raises:
            DeniedError: The token server refuses us.
            WorldError: It fails, or is none.
        """
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return basic(self._logins.current())
        return f"Bearer {self._token(challenge, self._scopes(challenge, scopes), place, tries)}"

    def refused(self, answer: Answer, scopes: Scopes, place: str, *, times: int) -> None:
        """Learn from a refusal, so that the next header is another one.

        First another token is tried, then another credential.

        Args:
            answer: The refusal.
            scopes: As for ``header``.
            place: What we asked for.
            times: How many headers were refused for this request, this one among them.

        Raises:
            DeniedError: There is nothing else to say of us.
        """
        used = answer.login
        challenge = self._chosen(answer, place)
        self._challenge = challenge
        credential = self._logins.current()
        if used is None:
            if challenge.scheme == "basic" and not isinstance(credential, Login):
                raise self.denied(answer, place)
            return
        if challenge.scheme == "basic":
            if times > 1 or not self._renewed(used):
                raise self.denied(answer, place)
            return
        token = self._slot(self._scopes(challenge, scopes))
        with token.lock:
            had_with = token.credential
            if f"Bearer {token.text}" == used:
                token.text = None
        if times > 2 or (times == 2 and not self._newer(had_with)):
            raise self.denied(answer, place)

    def denied(self, answer: Answer, place: str, who: str | None = None) -> DeniedError:
        """Say that the registry, or ``who``, does not let us."""
        known = self._logins.current() is not None
        source = self._logins.source
        return denied(place, answer, known=known, source=source, advice=self._advice, who=who)

    def _chosen(self, answer: Answer, place: str) -> Challenge:
        challenges = {each.scheme: each for each in _asked(answer)}
        for scheme in ("bearer", "basic"):
            if scheme in challenges:
                return challenges[scheme]
        if self._challenge is not None:  # refused without a word of what would be better
            return self._challenge
        raise self.denied(answer, place)

    def _renewed(self, used: str) -> bool:
        """Look for another login than the one in a header; whether there is one."""
        with self._lock:
            if basic(self._logins.current()) != used:
                return True
            return basic(self._logins.renew()) not in {None, used}

    def _newer(self, credential: Credential | None) -> bool:
        """Look for another credential than one; whether there is one."""
        with self._lock:
            if self._logins.current() != credential:
                return True
            return self._logins.renew() not in {None, credential}

    def _scopes(self, challenge: Challenge, scopes: Scopes) -> Scopes:
        """Choose the scopes: ours, but where a registry has none of its own kind."""
        wanted = challenge.parameters.get("scope", "")
        return (wanted,) if wanted and not wanted.startswith("repository:") else scopes

    def _slot(self, scopes: Scopes) -> _Token:
        with self._lock:
            return self._tokens.setdefault(scopes, _Token())

    def _token(self, challenge: Challenge, scopes: Scopes, place: str, tries: Tries) -> str:
        token = self._slot(scopes)
        with token.lock:
            if token.text is None or self._clock() >= token.good_until:
                token.credential = self._logins.current()
                token.text, seconds = self._fetch(challenge, scopes, place, token, tries)
                margin = min(_MARGIN_SECONDS, seconds / 4)
                token.good_until = self._clock() + seconds - margin
            return token.text

    def _fetch(
        self, challenge: Challenge, scopes: Scopes, place: str, token: _Token, tries: Tries
    ) -> tuple[str, float]:
        """Get a token; with a newer credential where the first is refused."""
        service = challenge.parameters.get("service", "")

        def ask() -> Answer:
            realm = self._realm(challenge, place, known=token.credential is not None)
            request = token_request(realm, service, scopes, token.credential)
            who = _token_server(realm)
            return persist(partial(once, self._http, request, place), tries, place=place, who=who)

        answer = ask()
        if answer.status in _REFUSALS and self._newer(token.credential):
            token.credential = self._logins.current()
            answer = ask()
        who = _token_server(answer.url)
        if answer.status in _REFUSALS:
            raise self.denied(answer, place, who=who)
        if not answer.fine:
            raise unexpected(place, answer, who=who)
        return read_token(answer, place)

    def _realm(self, challenge: Challenge, place: str, *, known: bool) -> str:
        """Give the URL that tokens come from, if it may be told who we are."""
        realm = challenge.parameters.get("realm", "")
        try:
            origin = Origin.of(realm)
        except ValueError as error:
            raise WorldError(
                f"{place}: the registry sends us for a token to {printable(realm)[:200]!r}, "
                "which is no URL"
            ) from error
        without_tls = origin.scheme == "http" and all(
            each.scheme == "https" for each in self._trusted
        )
        if without_tls or (known and origin not in self._trusted):
            raise DeniedError(
                f"{place}: the registry sends us for a token to {origin}, and we keep our login "
                "from everybody but the registry itself",
                hint="it must be reached by https"
                if without_tls
                else f"registry.tokenServer: {origin}, if you know it to be the registry's own",
            )
        return realm


def _token_server(url: str) -> str:
    return f"the token server {Origin.of(url)}"


def _asked(answer: Answer) -> list[Challenge]:
    return parse_challenges(answer.headers.get("WWW-Authenticate", ""))
