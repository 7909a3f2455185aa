"""What skopeo's messages mean: who has to mend what."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bundler.errors import (
    ContentError,
    DeniedError,
    NotFoundError,
    ToolError,
    ToolFailedError,
    ToolTimeoutError,
    WorldError,
    printable,
)
from bundler.source import LOGIN_HINT

_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class _Cause:
    """One kind of failure, told from words that stand in the message (in lower case)."""

    words: tuple[str, ...]
    kind: type[WorldError | ContentError]
    problem: str
    hint: str


# The first that fits counts. skopeo has one exit status for everything, so only its words tell; a
# message that fits nowhere is passed on as it is.
_CAUSES = (
    _Cause(
        ("digest did not match",),
        ContentError,
        "a blob is not what its digest says",
        "it is damaged there; save or push the image again",
    ),
    _Cause(
        ("no space left on device", "disk quota exceeded"),
        WorldError,
        "no space left for its copy",
        "free space there, or choose another place, and run again",
    ),
    _Cause(
        ("unexpected tar manifest.json",),
        NotFoundError,
        "expected one image there, or the name of the one",
        "write docker-archive:PATH:NAME:TAG; `tar -xOf PATH manifest.json` has the names",
    ),
    _Cause(
        ("invalid tar header", "not a tar", "unexpected eof"),
        WorldError,
        "expected an archive of images there",
        "the file is damaged, or of another kind; save it again",
    ),
    _Cause(
        ("manifest unknown", "name unknown", '" not found'),
        NotFoundError,
        "expected an image there, found none",
        "check its name and tag, and that it was pushed",
    ),
    _Cause(
        (
            "unauthorized",
            "authentication required",
            "is denied",
            "403 (forbidden)",
            "access denied",
        ),
        DeniedError,
        "the registry does not let us",
        f"{LOGIN_HINT}; some registries answer so, too, for what they do not have",
    ),
    _Cause(
        ("server gave http response to https client",),
        WorldError,
        "expected TLS, got plain HTTP",
        "set plainHttp: true if nobody can listen in between",
    ),
    _Cause(
        ("certificate is valid for", "certificate is not valid for", "cannot validate certificate"),
        WorldError,
        "its certificate is of another host",
        "use the name that the certificate has, or have one made for this name",
    ),
    _Cause(
        ("x509:", "tls:", "certificate"),
        WorldError,
        "TLS failed",
        "put the registry's CA into /etc/containers/certs.d/HOST:PORT/ca.crt",
    ),
    _Cause(
        ("connection refused", "no such host", "i/o timeout", "unreachable", "no route to host"),
        WorldError,
        "the registry cannot be reached",
        "check the address, and the network to it",
    ),
)


def explained(error: ToolFailedError | ToolTimeoutError, what: str) -> WorldError | ContentError:
    """Tell a failure of skopeo as an error about ``what``, in one line."""
    if isinstance(error, ToolTimeoutError):
        return WorldError(
            f"{printable(what)}: no answer: {error}",
            hint="check the address, and the network to it",
        )
    found = _MESSAGE.findall(error.stderr)
    message = re.sub(r"\\(.)", r"\1", found[-1]) if found else error.stderr.strip()
    lower = message.lower()
    for cause in _CAUSES:
        if any(word in lower for word in cause.words):
            detail = printable(_detail(message, cause)[:200])
            return cause.kind(f"{printable(what)}: {cause.problem} ({detail})", hint=cause.hint)
    return ToolError(f"{printable(what)}: skopeo failed: {printable(message[:1000])}")


def _detail(message: str, cause: _Cause) -> str:
    """Give the last piece that tells the cause: what follows may be of another registry."""
    pieces = message.split(": ")
    told = (piece for piece in reversed(pieces) if any(w in piece.lower() for w in cause.words))
    return next(told, pieces[-1]).strip(" ()[]")
