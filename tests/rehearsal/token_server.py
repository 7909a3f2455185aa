"""A token server as registries have it (Distribution's token authentication), in a thread.

It knows one user. Grants are for whatever a scope asks, except for what a test took away.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.rehearsal.certificates import Authority, KeyPair
from tests.rehearsal.serving import LOOPBACK, in_thread, server_context

SERVICE = "rehearsal"
ISSUER = "rehearsal-tokens"
_PATH = "/token"
_LIMIT = 65536
_REGISTRY_LEEWAY_SECONDS = 60  # Distribution accepts a token for that long after its end
_SCOPE = re.compile(r"repository:([a-z0-9][a-z0-9._/-]*):((?:pull|push|delete|\*)(?:,\w+)*)")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request for a token.

    Attributes:
        method: GET with a Basic login, or POST as in OAuth 2.
        grant: ``basic``, ``refresh_token`` or ``password``; empty when nobody logged in.
        scopes: What it asked for, one string a scope.
        status: HTTP status of the answer.
    """

    method: str
    grant: str
    scopes: tuple[str, ...]
    status: int


@dataclass(slots=True, kw_only=True)
class TokenServer:
    """A running token server; a test may change its attributes at any time.

    Attributes:
        origin: ``http(s)://HOST:PORT``.
        certificates: Authority that the registry trusts for the tokens' signatures.
        username: The one user.
        password: Its password.
        identity_token: OAuth 2 refresh token that stands for the user.
        seconds: How long a token is good for at the registry.
        announced_seconds: What it says of that; None for the truth.
        refused: Repositories for which nothing is granted.
        requests: Everything that was asked so far.
        issued: Every token that was given so far.
    """

    origin: str
    certificates: Path
    username: str
    password: str = field(repr=False)
    identity_token: str = field(repr=False)
    seconds: int = 300
    announced_seconds: int | None = None
    refused: set[str] = field(default_factory=set)
    requests: list[TokenRequest] = field(default_factory=list)
    issued: list[str] = field(default_factory=list, repr=False)

    @property
    def realm(self) -> str:
        """Give the URL that the registry sends clients to."""
        return f"{self.origin}{_PATH}"

    def configuration(self) -> dict[str, object]:
        """Give the registry's configuration of ``auth.token``."""
        return {
            "realm": self.realm,
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(self.certificates),
        }


@contextlib.contextmanager
def token_server(
    state: Path, *, username: str, password: str, pair: KeyPair | None
) -> Iterator[TokenServer]:
    """Run a token server while the block lasts.

    Args:
        state: Directory for its files.
        username: The one user.
        password: Its password.
        pair: Its own certificate; None for plain HTTP.
    """
    authority = Authority(state, "tokens-ca")
    listener = _Listener(_Signer(authority.issue("tokens", subject=ISSUER)), pair)
    listener.known = TokenServer(
        origin=f"{'https' if pair else 'http'}://{LOOPBACK}:{listener.server_address[1]}",
        certificates=authority.file,
        username=username,
        password=password,
        identity_token=secrets.token_urlsafe(24),
    )
    with in_thread(listener):
        yield listener.known


class _Signer:
    """Signs JSON web tokens with ES256; the certificate of the key comes along."""

    def __init__(self, pair: KeyPair) -> None:
        key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        encoded = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER))
        self._header = {"typ": "JWT", "alg": "ES256", "x5c": [encoded.decode()]}

    def sign(self, claims: Mapping[str, object]) -> str:
        """Give the token."""
        signed = b".".join(_url64(json.dumps(part).encode()) for part in (self._header, claims))
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return b".".join([signed, _url64(r.to_bytes(32) + s.to_bytes(32))]).decode()


def _url64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


class _Listener(ThreadingHTTPServer):
    known: TokenServer

    def __init__(self, signer: _Signer, pair: KeyPair | None) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.signer = signer
        if pair is not None:
            context = server_context(pair)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Listener

    def handle_one_request(self) -> None:
        with contextlib.suppress(OSError):  # the client did not like our certificate, or left
            super().handle_one_request()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        header = self.headers.get("Authorization", "")
        grant = "basic" if header else ""
        self._answer(query, grant, knows=header == self._basic())

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(min(int(self.headers["Content-Length"]), _LIMIT)).decode())
        known = self.server.known
        grant = _first(form, "grant_type")
        knows = {
            "refresh_token": _first(form, "refresh_token") == known.identity_token,
            "password": _first(form, "username") == known.username
            and _first(form, "password") == known.password,
        }
        self._answer(form, grant, knows=knows.get(grant, False) and bool(form.get("client_id")))

    def _basic(self) -> str:
        login = f"{self.server.known.username}:{self.server.known.password}"
        return f"Basic {base64.b64encode(login.encode()).decode()}"

    def _answer(self, asked: Mapping[str, list[str]], grant: str, *, knows: bool) -> None:
        """Give a token, or say what is wrong: form of the request first, then who asks."""
        scopes = tuple(scope for each in asked.get("scope", []) for scope in each.split())
        path = urlsplit(self.path).path
        if path != _PATH or _first(asked, "service") != SERVICE or not all(map(_access, scopes)):
            status, document = 400, {"errors": [{"code": "UNSUPPORTED", "message": self.path}]}
        elif not knows:
            status, document = 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who?"}]}
        else:
            status, document = 200, self._token(scopes, grant)
        self.server.known.requests.append(TokenRequest(self.command, grant, scopes, status))
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _token(self, scopes: tuple[str, ...], grant: str) -> dict[str, Any]:
        known, now = self.server.known, int(time.time())
        granted = [access for scope in scopes if (access := _access(scope)) is not None]
        claims = {
            "iss": ISSUER,
            "sub": known.username,
            "aud": SERVICE,
            "exp": now + known.seconds - _REGISTRY_LEEWAY_SECONDS,
            "nbf": now - 1,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": [each for each in granted if each["name"] not in known.refused],
        }
        token = self.server.signer.sign(claims)
        known.issued.append(token)
        announced = known.announced_seconds
        document: dict[str, Any] = {"expires_in": known.seconds if announced is None else announced}
        # The older form of the protocol says "token", OAuth 2 "access_token".
        document["token" if grant == "basic" else "access_token"] = token
        return document


def _first(form: Mapping[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]


def _access(scope: str) -> dict[str, object] | None:
    """Read ``repository:NAME:ACTION[,ACTION…]``."""
    found = _SCOPE.fullmatch(scope)
    if found is None:
        return None
    return {"type": "repository", "name": found[1], "actions": found[2].split(",")}
