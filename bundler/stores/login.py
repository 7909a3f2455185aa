"""Who we are to a registry, as docker, podman and skopeo wrote it down."""

from __future__ import annotations

import base64
import os
import shlex
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bundler import process
from bundler.document import Table
from bundler.errors import DeniedError, MalformedError, NotFoundError, ToolError, WorldError
from bundler.jsontext import read_json
from bundler.process import Run

_LIMIT = 1 << 20
_HELPER_SECONDS = 60
# What a credential helper gives as the user's name when the secret is an identity token.
# Source: github.com/docker/docker-credential-helpers, README, "Development".
_TOKEN_USER = "<token>"  # noqa: S105 (a user's name)


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password. The password stays out of ``repr`` and so out of logs."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """An OAuth 2 refresh token that a token server gave for a password, in place of one."""

    token: str = field(repr=False)


Credential = Login | IdentityToken


class Logins(Protocol):
    """Where the credential for one registry comes from. Any thread may ask at any time."""

    def current(self) -> Credential | None:
        """Give what to log in with now; None for nobody in particular."""

    def renew(self) -> Credential | None:
        """Look for another one, since the registry refused the current one.

        Returns:
            The current one again where there is no other.
        """


@dataclass(frozen=True, slots=True)
class GivenLogin:
    """One credential that somebody gave us for this run."""

    credential: Credential | None = None

    def current(self) -> Credential | None:
        """Give it."""
        return self.credential

    def renew(self) -> Credential | None:
        """Give the same: there is no other."""
        return self.credential


class WrittenLogins:
    """What is written down, or what a credential helper says; asked again when it is refused."""

    def __init__(
        self,
        host: str,
        *,
        authfile: Path | None = None,
        environment: Mapping[str, str] = os.environ,
        run: Run = process.run,
    ) -> None:
        """Look it up, as ``find_login`` does.

        Raises:
            BundleError: A file cannot be read or is malformed, or a credential helper failed.
        """
        self._host = host
        self._authfile = authfile
        self._environment = environment
        self._run = run
        self._lock = threading.Lock()
        self._found = self._find()

    @property
    def advice(self) -> str:
        """Give the command that writes down the login that we would find."""
        file = f"--authfile {shlex.quote(str(self._authfile))} " if self._authfile else ""
        return f"skopeo login {file}{self._host.partition('/')[0]}"

    def current(self) -> Credential | None:
        """Give what was found last."""
        return self._found

    def renew(self) -> Credential | None:
        """Look it up again: somebody may have logged in, and helpers give fresh ones."""
        with self._lock:
            self._found = self._find()
            return self._found

    def _find(self) -> Credential | None:
        return find_login(
            self._host, authfile=self._authfile, environment=self._environment, run=self._run
        )


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
) -> Credential | None:
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


def _from_file(path: Path, host: str, run: Run) -> Credential | None:
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


def _from_entry(logins: Table, name: str) -> Credential | None:
    entry = logins.plain(name)  # secrets may be longer than any text that people write
    token, auth = entry.get("identitytoken"), entry.get("auth")
    if isinstance(token, str) and token:
        return IdentityToken(token)
    if not auth:
        return None
    try:
        user, colon, password = base64.b64decode(str(auth)).decode().partition(":")
    except ValueError:
        logins.refuse(name, "auth: expected base64 of USER:PASSWORD")
    if not colon:
        logins.refuse(name, "auth: expected base64 of USER:PASSWORD")
    return Login(user, password.rstrip("\0"))


def _ask_helper(helper: str, host: str, run: Run) -> Credential | None:
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
    entry = read_json(answer.encode(), name=program, limit=_LIMIT).value
    user, secret = (
        entry.get(name) if isinstance(entry, dict) else None for name in ("Username", "Secret")
    )
    if not isinstance(user, str) or not isinstance(secret, str) or not secret:
        raise MalformedError(f"{program}: expected Username and Secret of {host}")
    return IdentityToken(secret) if user == _TOKEN_USER else Login(user, secret)
