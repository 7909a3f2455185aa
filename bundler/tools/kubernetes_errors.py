"""What kubectl and helm say when they fail, in one line that names who can mend it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bundler.errors import (
    BundleError,
    ConflictError,
    DeniedError,
    ToolError,
    ToolFailedError,
    WorldError,
    printable,
)

# Lines of Go's logger, which come before the one line that says what is wrong.
_LOG_LINE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.|WARNING: ")
# What adds nothing: a prefix, and kubectl's page on how to force a conflict.
_NOISE = re.compile(r"^error: |^Error: | *Please review the fields above.*$")
_MAX_TEXT = 2000

_RULES: tuple[tuple[re.Pattern[str], type[BundleError], str | None], ...] = (
    (
        re.compile(r"no endpoints available for service|failed calling webhook", re.IGNORECASE),
        WorldError,
        "an admission webhook of the cluster does not answer (often the load balancer controller, "
        "when it has no ready pod); mend it and run again",
    ),
    (
        re.compile(r"another operation \(install/upgrade/rollback\) is in progress"),
        ConflictError,
        "another helm works on this release, or was killed while it did; see helm history",
    ),
    (
        re.compile(r"Apply failed with \d+ conflict"),
        ConflictError,
        "somebody else set this field; undo that change, or delete the object",
    ),
    (
        re.compile(r"forbidden|unauthorized|must be logged in", re.IGNORECASE),
        DeniedError,
        "the cluster does not let this user do that; see kubernetes.kubeconfig and context",
    ),
    (
        re.compile(r"error loading config file"),
        WorldError,
        "kubernetes.kubeconfig names a file that is no kubeconfig: expected YAML with clusters, "
        "users and contexts",
    ),
    (
        re.compile(r"x509: (?:certificate is (?:not )?valid for|cannot validate certificate for)"),
        WorldError,
        "the API server's certificate is of another host: name one that it has as the cluster's "
        "server in kubernetes.kubeconfig",
    ),
    (
        re.compile(
            r"unable to connect to the server|cluster unreachable|the connection to the server"
            r"|connection refused|no route to host|i/o timeout|no such host|context deadline"
            r"|context .* does not exist|invalid configuration|x509:|stat .*: no such file",
            re.IGNORECASE,
        ),
        WorldError,
        "the cluster cannot be reached; see kubernetes.kubeconfig and kubernetes.context",
    ),
)


def explained(error: ToolFailedError, *, hide: Iterable[str] = ()) -> BundleError:
    """Turn a failure of kubectl or helm into the error of ours that it stands for.

    Args:
        error: What the program left behind.
        hide: Secret texts, which are cut out of the message.
    """
    text = error.stderr
    for secret in hide:
        text = text.replace(secret, "***")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _LOG_LINE.match(line) is None] or lines
    said = _NOISE.sub("", printable(" ".join(telling)))[:_MAX_TEXT]
    message = f"{error.command.split()[0]}: {said or '(no message)'}"
    for pattern, kind, hint in _RULES:
        if pattern.search(text):
            return kind(message, hint=hint)
    return ToolError(message)
