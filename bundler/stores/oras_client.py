"""HTTP to registries that we read: the only place that uses oras.

oras asks, and answers the registry's challenges; timeouts, limits, errors, what is trusted and who
is given our login are ours.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import requests
from oras import provider
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from bundler.errors import DeniedError, WorldError, printable
from bundler.stores.login import Credential, IdentityToken, Login
from bundler.stores.login_origins import LEAVE_OUT, LoginOrigins
from bundler.stores.tunnel import no_tunnel

_MAX_BYTES = 1 << 20  # of a token, and of what a redirect says
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two reads
_RETRY = Retry(
    total=3,
    connect=2,
    read=1,
    other=0,  # TLS: a second try sees the same certificate
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    retry_after_max=30,
    raise_on_status=False,
)
_FIELD = re.compile(r'(\w+)="([^"]*)"')
_UNAUTHORIZED, _FORBIDDEN = 401, 403
# oras has its own handler, which would write to standard error; we raise what went wrong.
logging.getLogger("oras.logger").setLevel(logging.CRITICAL)
# As oras wraps it, it sleeps for two minutes over a registry that cannot be reached.
_do_request = inspect.unwrap(provider.Registry.do_request)


class OrasClient:
    """Asks one repository of a registry."""

    def __init__(
        self,
        *,
        host: str,
        path: str,
        login: Credential | None,
        token_host: str | None,
        context: ssl.SSLContext | None,
    ) -> None:
        """Remember where it is; nothing is asked yet.

        Args:
            host: ``HOST[:PORT]`` of the registry.
            path: The repository there.
            login: What is written down for it; None for nobody in particular.
            token_host: Another host that may be given the login, for a token; None for no other.
            context: What to trust; None to speak TLS with anybody, or no TLS.
        """
        self._host = host
        self._path = path
        self._login = login
        self._origins = LoginOrigins(host, token_host)
        self._context = context
        self._schemes = ["https"] if context else ["https", "http"]
        self._answers: list[requests.Response] = []
        self._withheld: str | None = None
        self._client = self._open("token", None)
        self._anonymous = True

    def close(self) -> None:
        """Close its connections."""
        for answer in self._answers:
            answer.close()
        self._answers.clear()
        self._client.session.close()

    @contextlib.contextmanager
    def asked(self, path: str, headers: dict[str, str], place: str) -> Iterator[requests.Response]:
        """Ask, logged in if need be; the caller judges every answer but a refusal.

        Args:
            path: Below the repository, or the URL of a page after the first.
            headers: To send along.
            place: What to call the question in an error.

        Raises:
            DeniedError: The registry refused us.
            WorldError: It cannot be reached or fails.
        """
        with _told(place):
            answer = self._first_scheme(path, headers, place)
            if answer.status_code in {_UNAUTHORIZED, _FORBIDDEN}:
                answer.close()
                raise self._denied(place, answer)
            with answer:
                yield answer

    def _first_scheme(self, path: str, headers: dict[str, str], place: str) -> requests.Response:
        while True:
            scheme = self._schemes[0]
            url = urljoin(f"{scheme}://{self._host}/v2/{self._path}/", path)
            try:
                return self._ask(url, headers, place)
            except requests.exceptions.ConnectionError:
                if len(self._schemes) == 1:
                    raise
                del self._schemes[0]

    def _ask(self, url: str, headers: dict[str, str], place: str) -> requests.Response:
        answer = self._send(url, headers, place)
        if answer.status_code != _UNAUTHORIZED:
            return answer
        answer.close()  # nobody has logged in yet, or the token has run out
        client = self._logged_in(answer, place)
        self.close()
        self._client, self._anonymous = client, False
        return self._send(url, headers, place)

    def _send(self, url: str, headers: dict[str, str], place: str) -> requests.Response:
        answer: requests.Response
        if self._anonymous:
            answer = self._client.session.get(url, headers=headers, stream=True)
            return answer
        try:
            answer = _do_request(self._client, url, "GET", headers=dict(headers), stream=True)
        except requests.exceptions.RequestException:
            raise
        except (ValueError, AttributeError) as error:  # all that oras says when it got no token
            raise self._denied(place, self._answers[-1]) from error
        return answer

    def _logged_in(self, answer: requests.Response, place: str) -> provider.Registry:
        """Answer a challenge, unless that could take a password where it does not belong."""
        challenge = answer.headers.get("WWW-Authenticate", "")
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic" and isinstance(self._login, Login):
            return self._open("basic", self._login)
        fields = dict(_FIELD.findall(challenge))
        realm = fields.get("realm", "")
        if scheme != "bearer" or not realm:
            raise self._denied(place, answer)
        if self._context is not None and not realm.startswith("https://"):
            raise DeniedError(f"{place}: sends us for a token to {printable(realm)[:200]}")
        if self._login and not self._origins.may_have_login(realm):
            self._withheld = realm
        login = None if self._withheld else self._login
        client = self._open("token", login if isinstance(login, Login) else None)
        if isinstance(login, IdentityToken):
            client.auth.set_token_auth(self._exchanged(client, login, fields, place))
        return client

    def _exchanged(
        self, client: provider.Registry, token: IdentityToken, fields: dict[str, str], place: str
    ) -> str:
        """Get a token for an identity token, which oras knows nothing of.

        Source:
            Distribution, "OAuth2 token authentication", grant type ``refresh_token``.
        """
        asked = [(name, fields[name]) for name in ("service", "scope") if name in fields]
        form = dict(asked) | {"grant_type": "refresh_token", "client_id": "bundle"}
        form["refresh_token"] = token.token
        with client.session.post(fields["realm"], data=form, allow_redirects=False) as answer:
            body = answer.json() if answer.ok else {}
            found = body.get("access_token") if isinstance(body, dict) else None
            if not isinstance(found, str) or not found.isascii():
                raise self._denied(place, answer)
            return found

    def _open(self, backend: str, login: Login | None) -> provider.Registry:
        insecure = self._context is None
        client = provider.Registry(tls_verify=not insecure, auth_backend=backend)
        adapter = _Adapter(self._context, self._origins)
        client.session.mount("https://", adapter)
        client.session.mount("http://", adapter if insecure else _NoAdapter())
        client.session.headers["Accept-Encoding"] = "identity"
        client.session.hooks["response"].append(self._keep)
        client.session.auth = _unchanged  # otherwise logins of ~/.netrc take the place of tokens
        if login is not None:
            client.auth.set_basic_auth(login.user, login.password)
        return client

    def _keep(self, answer: requests.Response, *, stream: bool = False, **_: object) -> None:
        """Remember what is to be closed, and let oras hear no challenge but the registry's own.

        It answers any, of wherever we were sent, and forgets the answers that it asks again after.
        """
        if stream:  # what a token server says has been read
            self._answers.append(answer)
        if not self._origins.is_own(answer.url):
            answer.headers.pop("WWW-Authenticate", None)

    def _denied(self, place: str, answer: requests.Response) -> DeniedError:
        if self._withheld:
            return self._origins.withheld(place, self._withheld)
        known = self._login is not None
        return self._origins.denied(place, answer.url, answer.status_code, known=known)


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


@contextlib.contextmanager
def _told(place: str) -> Iterator[None]:
    """Turn what requests and oras raise into errors of ours."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise WorldError(
            f"{place}: TLS failed: {printable(str(error))[-300:]}",
            hint="put the registry's CA into /etc/containers/certs.d/HOST:PORT/ca.crt",
        ) from error
    except (requests.exceptions.RequestException, HTTPError) as error:
        if (refused := no_tunnel(str(error))) is not None:
            raise WorldError(
                f"{place}: the proxy does not let us through to the registry: {refused.answer}",
                hint=refused.hint,
            ) from error
        raise WorldError(
            f"{place}: cannot ask the registry: {printable(str(error))[-300:]}",
            hint=f"check the address and the network to it, {LEAVE_OUT}",
        ) from error


class _Adapter(HTTPAdapter):
    """Sets timeouts, limits and what is trusted, all of which oras leaves out."""

    def __init__(self, context: ssl.SSLContext | None, origins: LoginOrigins) -> None:
        self._context = context or _trusting()
        self._origins = origins
        super().__init__(max_retries=_RETRY)

    def init_poolmanager(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 (as requests has it)
        """Connect with our context."""
        super().init_poolmanager(*args, **more, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:  # noqa: ANN401 (as requests has it)
        """Connect with our context through a proxy too."""
        return super().proxy_manager_for(proxy, **more, ssl_context=self._context)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ANN401
        """Leave to the context what is trusted: requests would bring its own authorities."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send one request; a token, and what a redirect says, is read up to a limit."""
        if not self._origins.may_have_login(request.url or ""):
            request.headers.pop("Authorization", None)
        answer = super().send(request, stream, timeout or _TIMEOUT, verify, cert, proxies)
        if not stream or answer.is_redirect:
            content = answer.raw.read(_MAX_BYTES + 1, decode_content=True)
            answer.close()
            if len(content) > _MAX_BYTES:
                raise requests.exceptions.InvalidHeader("a token or redirect of over 1 MiB")
            answer.raw = io.BytesIO(content)
        return answer


class _NoAdapter(HTTPAdapter):
    """Goes nowhere without TLS, whoever sends us there."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:  # noqa: ANN401
        """Refuse."""
        raise requests.exceptions.InvalidSchema(f"sent from https to {request.url}")


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
