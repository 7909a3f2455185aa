"""Logins as docker, podman and skopeo wrote them down, and as credential helpers give them."""

from __future__ import annotations

import base64
import os
import re
import shlex
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler import process
from bundler.errors import (
    DeniedError,
    MalformedError,
    NotFoundError,
    ToolError,
    ToolFailedError,
    WorldError,
    printable,
)
from bundler.process import Run
from bundler.stores.foreign_json import read_object, text_of
from bundler.stores.login import Credential, IdentityToken, Login, source_text

_LIMIT = 1 << 20
_SHOWN = 200
_HELPER_SECONDS = 60
# What a credential helper gives as the user's name when the secret is an identity token.
# Source: github.com/docker/docker-credential-helpers, README, "Development".
_TOKEN_USER = "<token>"  # noqa: S105 (a user's name)
# What helpers write to standard output, with status 1, where there is nothing for a host.
# Source: the same, package credentials, errCredentialsNotFoundMessage.
_NO_LOGIN = "credentials not found"
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up came to.

    Attributes:
        credential: None where nothing is written down for the host.
        source: Whose it is and where it came from, or which places were looked at; for people.
    """

    credential: Credential | None
    source: str


@dataclass(frozen=True, slots=True)
class _Entry:
    credential: Credential
    helper: str = ""


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
    def command(self) -> str:
        """Give the command that writes down the login that we would find."""
        file = f"--authfile {shlex.quote(str(self._authfile))} " if self._authfile else ""
        return f"skopeo login {file}{self._host.partition('/')[0]}"

    @property
    def source(self) -> str:
        """Say whose it is and in which file or by which helper, or where none was found."""
        return self._found.source

    def current(self) -> Credential | None:
        """Give what was found last."""
        return self._found.credential

    def renew(self) -> Credential | None:
        """Look it up again: somebody may have logged in, and helpers give fresh ones."""
        with self._lock:
            self._found = self._find()
            return self._found.credential

    def _find(self) -> Found:
        return look_up(
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
    """Give the credential that ``look_up`` finds."""
    return look_up(host, authfile=authfile, environment=environment, run=run).credential


def look_up(
    host: str,
    *,
    authfile: Path | None,
    environment: Mapping[str, str],
    run: Run = process.run,
) -> Found:
    """Look up the login of a registry.

    Args:
        host: ``HOST[:PORT][/PATH]``; a file may name the host or any path below it.
        authfile: The one file to look in; None for the usual places.
        environment: Which variables are set.
        run: Starts a credential helper.

    Raises:
        BundleError: A file cannot be read or is malformed, or a credential helper failed.
    """
    named = authfile is not None or "REGISTRY_AUTH_FILE" in environment
    places = default_files(environment) if authfile is None else [authfile]
    for path in places:
        content = _read(path, named=named)
        if content is None and authfile is not None:
            raise NotFoundError(f"{authfile}: no such file", hint="correct registry.authFile")
        if content is not None and (entry := _from_file(path, content, host, run)) is not None:
            by = f"from {entry.helper}, which {path} names" if entry.helper else f"from {path}"
            return Found(entry.credential, source_text(entry.credential, by))
    looked = " or ".join(map(str, places))
    return Found(None, source_text(None, f"for {host} in {looked}"))


def _read(path: Path, *, named: bool) -> bytes | None:
    """Read a file; None where there is none, or a usual place is another user's."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            return stream.read(_LIMIT + 1)
    except PermissionError as error:
        if named:
            raise WorldError(f"{path}: {error.strerror}") from error
        return None
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}") from error


def _from_file(path: Path, content: bytes, host: str, run: Run) -> _Entry | None:
    if len(content) > _LIMIT:
        raise MalformedError(f"{path}: expected at most {_LIMIT} bytes, got more")
    try:
        return _from_config(read_object(content) if content.strip() else {}, host, run)
    except ValueError as error:
        raise MalformedError(f"{path}: {printable(str(error))}") from None


def _from_config(config: Mapping[str, object], host: str, run: Run) -> _Entry | None:
    """Find the login of a host in what a file holds; ValueError where that is malformed.

    Docker and skopeo both ask the registry's own helper first, and no store where there is one. Of
    the store for all registries skopeo knows nothing, and docker no longer looks at what is written
    once there is one; what ``skopeo login`` wrote is the newer word, and is taken first here.
    """
    registry = host.partition("/")[0]
    logins, helper = _table(config, "auths"), _table(config, "credHelpers").get(registry)
    if helper and (entry := _ask_helper(helper, registry, run)) is not None:
        return entry
    for scope in _scopes(host):
        for name in logins:
            if _registry_of(name) == scope and (login := _from_entry(name, _table(logins, name))):
                return _Entry(login)
    store = None if helper else config.get("credsStore")
    return _ask_helper(store, registry, run) if store else None


def _table(holder: Mapping[str, object], key: str) -> dict[str, object]:
    value = holder.get(key)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{key}: expected a mapping")
    return value or {}


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


def _from_entry(name: str, entry: Mapping[str, object]) -> Credential | None:
    token, auth = entry.get("identitytoken"), entry.get("auth")
    try:
        if token:
            return IdentityToken(text_of(token))
        if not auth:
            return None
        user, colon, password = base64.b64decode(text_of(auth)).decode().partition(":")
        if not colon:
            raise ValueError("no colon")
    except ValueError:  # its own text could quote a secret
        what = "identitytoken: a text" if token else "auth: base64 of USER:PASSWORD"
        raise ValueError(f"auths: {name}: expected {what}") from None
    return Login(user, password.rstrip("\0"))


def _ask_helper(helper: object, host: str, run: Run) -> _Entry | None:
    """Start ``docker-credential-<helper>``; None where it knows no login.

    Source:
        github.com/docker/docker-credential-helpers, README, "Development".
    """
    if not isinstance(helper, str) or _HELPER.fullmatch(helper) is None:
        raise ValueError(f"expected the name of a credential helper, got {str(helper)[:40]!r}")
    program = f"docker-credential-{helper}"
    try:
        answer = run([program, "get"], stdin=host.encode(), timeout=_HELPER_SECONDS)
    except ToolFailedError as error:
        if _NO_LOGIN in error.stdout + error.stderr:
            return None
        raise _failed(f"{error}{_words(error.stdout)}", host) from error
    except ToolError as error:
        raise _failed(str(error), host) from error
    try:
        return _Entry(_credential(answer), program)
    except ValueError:
        raise MalformedError(f"{program}: expected Username and Secret of {host}") from None


def _credential(answer: str) -> Credential:
    """Read a helper's answer; ValueError where it is none."""
    if len(answer) > _LIMIT:
        raise ValueError("too long")
    entry = read_object(answer.encode())
    user, secret = text_of(entry.get("Username")), text_of(entry.get("Secret"))
    if not secret:
        raise ValueError("empty")
    return IdentityToken(secret) if user == _TOKEN_USER else Login(user, secret)


def _failed(reason: str, host: str) -> DeniedError:
    return DeniedError(f"{host}: {reason}", hint=f"log in to {host} again")


def _words(output: str) -> str:
    """Show what a helper says of its failure, which stands where its answer would: never that."""
    words = output.strip()
    return f" ({printable(words)[:_SHOWN]})" if words and "{" not in words else ""
