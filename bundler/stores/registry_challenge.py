"""What registries and token servers say about logins, and what is said to them: texts alone."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from bundler.errors import WorldError
from bundler.stores.foreign_json import read_object
from bundler.stores.login import Credential, IdentityToken, Login
from bundler.stores.registry_messages import Answer, Request
from bundler.stores.registry_url import Origin

Scopes = tuple[str, ...]

_CLIENT = "airgap-llm-bundle"
_MAX_TOKEN_ANSWER = 1 << 20
# Source: Docker Registry v2 authentication, "Token response fields".
_DEFAULT_SECONDS = 60
_LONGEST_SECONDS = 12 * 3600
# Source: RFC 6750, section 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# Source: RFC 9110, section 11.6.1: a scheme, or a parameter of the scheme before it.
_ITEM = re.compile(r"""([A-Za-z0-9!#$%&'*+.^_`|~-]+)(\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+)))?""")


@dataclass(frozen=True, slots=True)
class Challenge:
    """How a server wants to be told who we are; ``scheme`` in lowercase."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """Read a ``WWW-Authenticate`` header; what is no challenge is passed over."""
    found: list[tuple[str, dict[str, str]]] = []
    for name, value, quoted, plain in _ITEM.findall(header):
        if not value:
            found.append((name.lower(), {}))
        elif found:
            found[-1][1].setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain)
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def repository_scope(name: str, actions: str = "pull,push") -> str:
    """Give the scope that covers what we do in one repository.

    Source:
        Distribution, "Token Scope Documentation".
    """
    return f"repository:{name}:{actions}"


def token_request(
    realm: str, service: str, scopes: Scopes, credential: Credential | None
) -> Request:
    """Make the request for a token: GET with a login, POST as in OAuth 2 with an identity token.

    Source:
        Distribution, "Token Authentication Specification", "Docker Registry v2 authentication
        using OAuth2".
    """
    if isinstance(credential, IdentityToken):
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credential.token,
            "service": service,
            "scope": " ".join(scopes),
            "client_id": _CLIENT,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        content = urlencode(form).encode()
        return Request(
            method="POST", url=realm, headers=headers, content=content, limit=_MAX_TOKEN_ANSWER
        )
    asked = [("service", service)] if service else []
    asked += [("scope", scope) for scope in scopes]
    if credential is not None:
        asked.append(("account", credential.user))
    url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"
    login = basic(credential)
    headers = {"Authorization": login} if login else {}
    return Request(method="GET", url=url, headers=headers, limit=_MAX_TOKEN_ANSWER)


def read_token(answer: Answer, place: str) -> tuple[str, float]:
    """Read a token, and for how many seconds it is good.

    Raises:
        WorldError: The answer holds none.
    """
    try:
        fields = {} if answer.over else read_object(answer.content)
    except ValueError:
        fields = {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise WorldError(
            f"{place}: the token server {Origin.of(answer.url)} sent something else than a token",
            hint="its own log says more",
        )
    seconds = fields.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        seconds = _DEFAULT_SECONDS
    return token, max(0, min(seconds, _LONGEST_SECONDS))


def basic(credential: Credential | None) -> str | None:
    """Give the header that logs in with a password; None for what is none."""
    if not isinstance(credential, Login):
        return None
    text = base64.b64encode(f"{credential.user}:{credential.password}".encode()).decode()
    return f"Basic {text}"
