"""Who we are to a registry, as docker, podman and skopeo wrote it down."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler import process
from bundler.document import Table
from bundler.errors import DeniedError, NotFoundError, ToolError, WorldError
from bundler.jsontext import read_json
from bundler.process import Run

_LIMIT = 1 << 20
_HELPER_SECONDS = 60
# What a credential helper gives as the user's name when the secret is a token for another protocol.
_IDENTITY_TOKEN = "<token>"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password. The password stays out of ``repr`` and so out of logs."""

    user: str
    password: str = field(repr=False)


def default_files(environment: Mapping[str, str]) -> list[Path]:
    """Give where logins lie when nobody says so, in the order in which skopeo looks.

    Source:
        containers-auth.json(5); docker's ``DOCKER_CONFIG``.
    """
    if "REGISTRY_AUTH_FILE" in environment:
        return [Path(environment["REGISTRY_AUTH_FILE"])]
    home = Path(environment.get("HOME") or "/")
    runtime = environment.get("XDG_RUNTIME_DIR")
    return [
        Path(runtime) / "containers/auth.json"
        if runtime
        else Path(f"/run/containers/{os.getuid()}/auth.json"),
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json",
        Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
    ]


def find_login(
    host: str,
    *,
    authfile: Path | None,
    environment: Mapping[str, str],
    run: Run = process.run,
) -> Login | None:
    """Look up the login of a registry.

    Args:
        host: ``HOST[:PORT][/PATH]``; a file may name the host or any path below it.
        authfile: The one file to look in; None for the usual places.
        environment: Which variables are set.
        run: Starts a credential helper.

    Returns:
        None where nothing is written down for this host.

    Raises:
        BundleError: A file cannot be read or is malformed, or a credential helper failed.
    """
    if authfile is not None:
        if not authfile.is_file():
            raise NotFoundError(f"{authfile}: no such file", hint="correct registry.authFile")
        return _from_file(authfile, host, run)
    for path in default_files(environment):
        if path.is_file() and (login := _from_file(path, host, run)):
            return login
    return None


def _from_file(path: Path, host: str, run: Run) -> Login | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LIMIT + 1)
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}") from error
    table = read_json(content or b"{}", name=str(path), limit=_LIMIT).table()
    helpers, logins = table.table("credHelpers"), table.table("auths")
    for scope in _scopes(host):
        for name in logins.names():
            if _registry_of(name) == scope and (login := _from_entry(logins, name)):
                return login
        if scope in helpers:
            return _ask_helper(helpers.text(scope), scope, run)
    if "credsStore" in table:
        return _ask_helper(table.text("credsStore"), host.partition("/")[0], run)
    return None


def _scopes(host: str) -> Iterator[str]:
    """Give the names under which a login may stand, the narrowest first."""
    while True:
        yield host
        host, slash, _ = host.rpartition("/")
        if not slash:
            return


def _registry_of(name: str) -> str:
    """Read the key of a login: docker writes some as ``https://HOST/v1/``."""
    _, scheme, rest = name.partition("://")
    return rest.partition("/")[0] if scheme else name


def _from_entry(logins: Table, name: str) -> Login | None:
    entry = logins.table(name)
    if "auth" not in entry:
        if "identitytoken" in entry:
            raise _no_token(_registry_of(name))
        return None
    try:
        user, colon, password = base64.b64decode(entry.text("auth")).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        logins.refuse(name, "auth: expected base64 of USER:PASSWORD")
    if not colon:
        logins.refuse(name, "auth: expected base64 of USER:PASSWORD")
    return Login(user, password.rstrip("\0"))


def _ask_helper(helper: str, host: str, run: Run) -> Login | None:
    """Start ``docker-credential-<helper>``; None where it knows no login.

    Source:
        github.com/docker/docker-credential-helpers, README, "Development".
    """
    program = f"docker-credential-{helper}"
    try:
        answer = run([program, "get"], stdin=host.encode(), timeout=_HELPER_SECONDS)
    except ToolError as error:
        if "credentials not found" in str(error):
            return None
        raise DeniedError(f"{host}: {error}", hint=f"log in to {host} again") from error
    table = read_json(answer.encode(), name=program, limit=_LIMIT).table()
    login = Login(table.text("Username"), table.text("Secret"))
    if login.user == _IDENTITY_TOKEN:
        raise _no_token(host)
    return login


def _no_token(host: str) -> DeniedError:
    return DeniedError(
        f"{host}: the login is an identity token, which bundle cannot use",
        hint=f"log in with a user and a password: skopeo login {host}",
    )
