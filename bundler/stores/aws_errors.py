"""What AWS' services and botocore fail with whatever the service is, told in one line each.

Codes that are about who we are get our own words: a server's message may quote what was sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)

from bundler.errors import DeniedError, WorldError, printable
from bundler.stores.tls import OTHER_HOST_HINT, is_of_another_host
from bundler.stores.tunnel import PROXY_HINT, no_tunnel, without_login

SHOWN = 300
_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile that AWS_PROFILE names"
_LOG_IN = "log in again, or renew the credentials"
_CLOCK = "set this machine's clock; AWS allows some minutes"
# Error codes by which a service says that we may not.
DENIED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"})
# Error codes by which a service says that it does not take us for who we say we are.
REFUSALS = {
    "InvalidAccessKeyId": ("the access key is not known there", _KEYS),
    "InvalidClientTokenId": ("the access key is not known there", _KEYS),
    "UnrecognizedClientException": ("the access key is not known there", _KEYS),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key", _KEYS),
    "InvalidSignatureException": ("the signature does not hold: secret key or clock", _KEYS),
    "ExpiredToken": ("the session has expired", _LOG_IN),
    "ExpiredTokenException": ("the session has expired", _LOG_IN),
    "TokenRefreshRequired": ("the session has expired", _LOG_IN),
    "InvalidToken": ("the session token is not valid there", _LOG_IN),
    "InvalidTokenId": ("the session token is not valid there", _LOG_IN),
    "RequestTimeTooSkewed": ("the clocks differ too much", _CLOCK),
    "RequestExpired": ("the clocks differ too much", _CLOCK),
}
# What fails before a server answers, the first that fits: kinds, our class, our text, a hint.
_BREAKS: tuple[tuple[tuple[type[BotoCoreError], ...], type[WorldError], str, str], ...] = (
    (
        (NoCredentialsError, NoAuthTokenError),
        DeniedError,
        "no AWS credentials found",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or give the machine or "
        "service account a role",
    ),
    (
        (PartialCredentialsError,),
        DeniedError,
        "the AWS credentials are incomplete: {said}",
        _KEYS,
    ),
    (
        (CredentialRetrievalError, TokenRetrievalError, SSOError, LoginError),
        DeniedError,
        "no AWS credentials: {said}",
        _LOG_IN,
    ),
    (
        (ProfileNotFound, ConfigParseError),
        WorldError,
        "AWS configuration: {said}",
        "check AWS_PROFILE and AWS_CONFIG_FILE",
    ),
    (
        (EndpointConnectionError, ConnectTimeoutError),
        WorldError,
        "cannot reach {server}",
        "check the endpoint, the network and the proxy settings",
    ),
    ((ReadTimeoutError,), WorldError, "{server} stopped answering", "run again"),
    ((IncompleteReadError,), WorldError, "{server} ended the download early: {said}", "run again"),
    ((HTTPClientError,), WorldError, "the connection to {server} broke: {said}", "run again"),
)
_ACTION = re.compile(r"perform: ([a-z0-9-]+:[A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Service:
    """Where a target says what a connection to a service needs, for hints."""

    ca: str
    endpoint: str


def code_of(error: ClientError) -> str:
    """Give the server's error code; an HTTP status where a response had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: ClientError) -> str:
    """Give what the server says of an error, in a form that can be shown."""
    return printable(str(error.response.get("Error", {}).get("Message", "")))[:SHOWN]


def denied_action(message: str) -> str | None:
    """Find the permission that a service says is missing, such as ``kms:Decrypt``."""
    found = _ACTION.search(message)
    return found[1] if found else None


def unanswered(error: BotoCoreError, thing: str, server: str, service: Service) -> WorldError:
    """Tell of a call that no server answered.

    Args:
        error: What botocore raised.
        thing: What the call was about.
        server: Whom it was meant for.
        service: For the hint.
    """
    if isinstance(error, ProxyConnectionError):
        return _no_proxy(error, thing, server)
    if isinstance(error, SSLError):
        return _no_tls(error, thing, server, service)
    for kinds, made, text, hint in _BREAKS:
        if isinstance(error, kinds):
            reason = text.format(server=server, said=_said(error))
            return made(f"{thing}: {reason}", hint=hint)
    return WorldError(f"{thing}: {_said(error)}")


def _no_proxy(error: ProxyConnectionError, thing: str, server: str) -> WorldError:
    proxy = printable(without_login(str(error.kwargs.get("proxy_url", ""))))[:SHOWN]
    refused = no_tunnel(str(error.kwargs.get("error", "")))
    if refused is None:
        return WorldError(f"{thing}: cannot reach the proxy {proxy}", hint=PROXY_HINT)
    text = f"{thing}: the proxy {proxy} does not let us through to {server}: {refused.answer}"
    return WorldError(text, hint=refused.hint)


def _no_tls(error: SSLError, thing: str, server: str, service: Service) -> WorldError:
    reason = _said(error)
    if is_of_another_host(reason):
        reason = "its certificate is of another host"
        hint = f"{service.endpoint}: {OTHER_HOST_HINT}"
    elif "CERTIFICATE_VERIFY_FAILED" in reason:
        found = re.search(r"certificate verify failed: ([^(]*)", reason)
        reason = f"its certificate is not trusted: {(found[1] if found else reason).strip()}"
        hint = f"name the CA that it is of: {service.ca}, or AWS_CA_BUNDLE"
    else:
        hint = "check that the endpoint speaks TLS: https:// or http://?"
    return WorldError(f"{thing}: no TLS with {server}: {reason}", hint=hint)


def _said(error: BotoCoreError) -> str:
    return printable(str(error))[:SHOWN]
