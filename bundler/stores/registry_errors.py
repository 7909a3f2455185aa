"""What a registry's answers mean, in words for whoever must mend it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from bundler.errors import BundleError, DeniedError, NotFoundError, WorldError, printable
from bundler.stores.registry_messages import BUSY, Answer, InterruptedTransferError
from bundler.stores.registry_url import Origin
from bundler.stores.tls import OTHER_HOST_HINT, is_of_another_host
from bundler.stores.tunnel import PROXY_LOGIN_HINT, no_tunnel

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT = 401, 403, 404, 409
_BAD_REQUEST, _PROXY_LOGIN, _TOO_LARGE, _NO_SPACE = 400, 407, 413, 507
_SHOWN = 300
# Source: OCI distribution specification v1.1, "Error codes"; ECR's own names beside them.
_NO_REPOSITORY = frozenset({"NAME_UNKNOWN", "RepositoryNotFoundException"})
# Amazon ECR has no code of its own for it. Source: its API reference, CompleteLayerUpload.
_WRONG_DIGEST = re.compile(r"DIGEST_INVALID|digests? .*\bmatch", re.IGNORECASE)
_MISSING_CONTENT = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
_IMMUTABLE = re.compile(r"immutable|ImageTagAlreadyExists|already exists", re.IGNORECASE)
# Source: Amazon ECR answers so, with 403, once a login is 12 hours old.
_EXPIRED = re.compile(r"authorization token has expired", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """The errors in an answer: their codes, and all their words in one line for people."""

    codes: frozenset[str]
    text: str


def said(answer: Answer) -> Said:
    """Read the errors of a registry; whatever else an answer holds says nothing.

    Source:
        OCI distribution specification v1.1, "Error codes".
    """
    try:
        document = json.loads(answer.content)
        errors = [each for each in document["errors"] if isinstance(each, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Said(frozenset(), printable(answer.reason)[:_SHOWN])
    pairs = [(str(each.get("code") or ""), str(each.get("message") or "")) for each in errors]
    text = "; ".join(": ".join(filter(None, pair)) for pair in pairs)
    return Said(frozenset(code for code, _ in pairs), printable(text or answer.reason)[:_SHOWN])


def asks_who_we_are(answer: Answer) -> bool:
    """Tell whether another login could help: 401, and what ECR says of an old one.

    An answer to HEAD has no words, so that a login may be old where 403 comes without any.
    """
    if answer.status != FORBIDDEN:
        return answer.status == UNAUTHORIZED
    wordless = answer.login is not None and not answer.content
    return wordless or _EXPIRED.search(said(answer).text) is not None


def is_no_repository(answer: Answer) -> bool:
    """Tell whether a repository must be made first."""
    return bool(said(answer).codes & _NO_REPOSITORY)


def is_wrong_digest(answer: Answer) -> bool:
    """Tell whether a blob was refused since it has another digest."""
    return answer.status == _BAD_REQUEST and _WRONG_DIGEST.search(said(answer).text) is not None


def is_immutable_tag(answer: Answer) -> bool:
    """Tell whether a manifest was refused since its tag is there and must not be moved.

    Source:
        Amazon ECR: 400 and TAG_INVALID, or ImageTagAlreadyExistsException; Harbor: 412; others 409.
    """
    if answer.status == CONFLICT:
        return True
    return answer.status in {400, 403, 412} and _IMMUTABLE.search(said(answer).text) is not None


def denied(
    place: str, answer: Answer, *, known: bool, source: str, advice: str, who: str | None = None
) -> DeniedError:
    """Say that a registry does not let us.

    Args:
        place: What we asked for.
        answer: What it said.
        known: Whether we have a login.
        source: Whose it is and where it came from, or where none was found.
        advice: What to do for a login that is taken.
        who: Whose answer it is; None for the registry, or where that sent us.
    """
    who = who or server(place, answer.url)
    if not known and answer.status == UNAUTHORIZED:  # so it is with every other image
        place = _host(place)
    whom = "the login" if known else "anybody without a login"
    return DeniedError(
        f"{place}: {who} refused {whom} ({answer.status} {said(answer).text}); login: {source}",
        hint=advice,
    )


def denied_elsewhere(place: str, answer: Answer) -> DeniedError:
    """Say that we are refused where the registry sent us, and where our login does not go."""
    return DeniedError(
        f"{place}: the registry sends us on to {Origin.of(answer.url)}, which refuses us "
        f"({answer.status} {said(answer).text}); no login of ours goes there",
        hint="if that is the registry itself, the proxy before it must pass on Host with its port, "
        "and X-Forwarded-Proto; else ask the operator of the registry",
    )


def unexpected(
    place: str, answer: Answer, *, tried: int = 1, who: str | None = None
) -> BundleError:
    """Say that an answer is none that we can go on with.

    Args:
        place: What we asked for.
        answer: The answer.
        tried: How often we asked.
        who: Whose answer it is; None for the registry, or where that sent us.
    """
    words = said(answer)
    if is_no_repository(answer):
        return NotFoundError(
            f"{place}: there is no such repository ({answer.status} {words.text})",
            hint="create it before images are pushed; in Amazon ECR publish does: registry.ecr",
        )
    whose = "the proxy" if answer.status == _PROXY_LOGIN else who or server(place, answer.url)
    times = f", {tried} times" if tried > 1 else ""
    return WorldError(
        f"{place}: {whose} answered {in_words(answer)}{times}", hint=_hint(answer, words)
    )


def in_words(answer: Answer) -> str:
    """Give the status of an answer, what it says, and how long it wants us to wait."""
    wait = answer.headers.get("Retry-After") if answer.status in BUSY else None
    asked = f" (Retry-After: {printable(wait)[:40]})" if wait else ""
    return f"{answer.status} {said(answer).text}{asked}"


def _hint(answer: Answer, words: Said) -> str:
    if answer.status == _PROXY_LOGIN:
        return PROXY_LOGIN_HINT
    if answer.status == _TOO_LARGE:
        return (
            "a proxy before the registry, or the registry, limits the size of a request: raise it"
        )
    if answer.status == _NO_SPACE:
        return "its storage is full: have its operator make room, then run again"
    if words.codes & _MISSING_CONTENT:
        return "the registry lost what it had taken; run again"
    if answer.status in BUSY:
        return "it is overloaded or failing: run again later; its own log says more"
    if words.codes:
        return "the registry's own log says more"
    return "is that a registry, and is registry.plainHttp right?"


def unanswered(place: str, error: InterruptedTransferError, *, tried: int, who: str) -> WorldError:
    """Say that a server cannot be reached, or gives no whole answer.

    Args:
        place: What we asked for.
        error: What happened last.
        tried: How often we asked.
        who: The server.
    """
    if error.unreached or error.stranger:
        place = _host(place)
    what = f"cannot reach {who}" if error.unreached else f"{who} gave no answer that we can use"
    hint = "check registry.host, the network and the proxy settings"
    if not error.unreached:
        hint = f"is that a registry, and is registry.plainHttp right? Else {hint}"
    return WorldError(f"{place}: {what}: {error} (tried {tried} times)", hint=hint)


def broken(place: str, reason: str, *, tried: int) -> WorldError:
    """Say that a transfer did not come to its end."""
    return WorldError(
        f"{place}: broke off: {reason} (tried {tried} times)",
        hint="run again: what is there is not sent again",
    )


def no_way(place: str, reason: str) -> WorldError:
    """Say why there is no connection to a registry, and none to be expected."""
    place = _host(place)
    if "CERTIFICATE_VERIFY_FAILED" in reason or is_of_another_host(reason):
        return _untrusted(place, reason)
    if (refused := no_tunnel(reason)) is not None:
        proxy = reason.partition(": Tunnel")[0]
        detail, hint = f"{proxy} does not let us through: {refused.answer}", refused.hint
    elif "ALERT" in reason.upper():
        detail = "it refuses us in TLS: it wants a client certificate, or another one"
        hint = "name one that it trusts: registry.clientCertificate and registry.clientKey"
    else:
        detail = "the registry does not speak TLS there"
        hint = "registry.plainHttp: true, if it speaks plain HTTP and you trust the network"
    return WorldError(f"{place}: {printable(detail)[:_SHOWN]}", hint=hint)


def _untrusted(place: str, reason: str) -> WorldError:
    if is_of_another_host(reason):
        detail, hint = "its certificate is of another host", f"registry.host: {OTHER_HOST_HINT}"
    else:
        found = re.search(r"certificate verify failed: ([^(]*)", reason)
        detail = f"its certificate is not trusted: {found[1].strip() if found else reason}"
        hint = "name the CA that it is of: registry.ca in the target"
    return WorldError(f"{place}: {printable(detail)[:_SHOWN]}", hint=hint)


def _host(place: str) -> str:
    """Give the host of a place, for what is no matter of one image."""
    return place.partition("/")[0]


def server(place: str, url: str) -> str:
    """Name who is asked: somebody else than the registry where that sent us on."""
    origin = Origin.of(url)
    address = _host(place)
    ours = address in {f"{origin.host}:{origin.port}", str(origin).partition("://")[2]}
    return "the registry" if ours else str(origin)
