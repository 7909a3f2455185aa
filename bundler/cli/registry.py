"""From the target's registry, and the login that a person gives, to what images are pushed with."""

from __future__ import annotations

import base64
import functools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from bundler.archive.files import read_given
from bundler.cli.options import FILE
from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.publish.destination import PushArchive
from bundler.reference import ImageTag
from bundler.stores.base import Registry, Repositories
from bundler.stores.ecr import ecr_host, open_ecr
from bundler.stores.login import Credential, GivenLogin, Login, Logins
from bundler.stores.opening import open_logins, open_registry
from bundler.target import RegistryTarget
from bundler.tools.skopeo import Skopeo

T = TypeVar("T")

_MAX_PASSWORD_BYTES = 64 << 10
_MAX_PEM_BYTES = 1 << 20


def login_options(command: Callable[..., T]) -> Callable[..., T]:
    """Add the ways to hand over a registry's login; the command is given it as ``login``.

    Where the command has ``api_key_option`` too, standard input can be one of the two only.
    """

    @functools.wraps(command)
    def with_login(
        *arguments: object,
        registry_user: str | None,
        registry_password_stdin: bool,
        registry_password_file: Path | None,
        **more: object,
    ) -> T:
        login = _read_login(
            registry_user,
            registry_password_stdin,
            registry_password_file,
            api_key_stdin=bool(more.get("api_key_stdin")),
        )
        return command(*arguments, login=login, **more)

    wrapped: Callable[..., T] = with_login
    for option in (
        click.option(
            "--registry-password-file",
            type=FILE,
            help="Read the registry's password from a file.",
        ),
        click.option(
            "--registry-password-stdin",
            is_flag=True,
            help="Read the registry's password from standard input.",
        ),
        click.option(
            "--registry-user",
            metavar="NAME",
            help="Log in to the registry as NAME, whatever is written in login files.",
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


def _read_login(
    user: str | None, from_stdin: bool, from_file: Path | None, *, api_key_stdin: bool
) -> Login | None:
    """Give the login that ``login_options`` were set to, or None where they were not.

    Raises:
        MalformedError: The password is not one.
    """
    if user is None and not from_stdin and from_file is None:
        return None
    if user is None or from_stdin == (from_file is not None):
        raise click.UsageError(
            "--registry-user goes with one of --registry-password-stdin and "
            "--registry-password-file"
        )
    if ":" in user or not user.isprintable() or not user:
        raise click.UsageError("--registry-user: expected a name without ':'")
    if from_stdin and api_key_stdin:
        raise click.UsageError("--registry-password-stdin and --api-key-stdin: give one of them")
    if from_file is not None:
        return Login(user, _password(read_given(from_file, limit=_MAX_PASSWORD_BYTES)))
    return Login(user, _password(sys.stdin.buffer.read(_MAX_PASSWORD_BYTES + 1)))


def _password(content: bytes) -> str:
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or len(content) > _MAX_PASSWORD_BYTES:
        raise MalformedError(
            "the registry's password: expected one line of text, "
            f"at most {_MAX_PASSWORD_BYTES} bytes"
        )
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRegistry:
    """What a target's registry comes to."""

    registry: Registry
    repositories: Repositories | None
    push_archive: PushArchive | None


def open_target_registry(
    target: RegistryTarget, own: Path, *, login: Login | None, skopeo: bool
) -> OpenedRegistry:
    """Open a target's registry; nothing is asked of it yet.

    Amazon ECR gives its logins itself, unless one is given or the target names a file with one.

    Args:
        target: What the target says of it.
        own: A directory of this run that nobody else can read.
        login: What the person gave.
        skopeo: Push by the program, not by ourselves.

    Raises:
        BundleError: A file that the target names cannot be read.
    """
    logins, repositories = _logins(target, login)
    registry = open_registry(
        target.host,
        logins=logins,
        plain_http=target.plain_http,
        ca=target.ca,
        client_certificate=target.client_certificate,
        client_key=target.client_key,
        token_server=target.token_server,
    )
    return OpenedRegistry(
        registry=registry,
        repositories=repositories,
        push_archive=_skopeo_push(target, own, logins) if skopeo else None,
    )


def _logins(target: RegistryTarget, given: Login | None) -> tuple[Logins, Repositories | None]:
    named = target.auth_file is not None
    if given is not None:
        logins: Logins | None = GivenLogin(given)
    else:
        logins = open_logins(target.host, authfile=target.auth_file) if named else None
    if target.ecr is not None or (logins is None and ecr_host(target.host)):
        ecr = open_ecr(target.host, target.ecr, ca=target.ca)
        return logins or ecr.logins, ecr.repositories
    return logins or open_logins(target.host), None


def _skopeo_push(target: RegistryTarget, own: Path, logins: Logins) -> PushArchive:
    """Give skopeo authorities, certificate and login in the files that it takes."""
    skopeo, certificates = Skopeo(), _certificates(target, own)

    def push(archive: Path, tag: ImageTag) -> Digest:
        authfile, login = target.auth_file, logins.current()
        if login is not None:
            authfile = own / "auth.json"
            _write_private(authfile, _auth_json(target.host, login))
        return skopeo.push(
            archive,
            f"{target.host}/{tag}",
            plain_http=target.plain_http,
            authfile=authfile,
            cert_dir=certificates,
            scratch=archive.parent,
        )

    return push


def _auth_json(host: str, login: Credential) -> bytes:
    """Write a login as skopeo reads it.

    Source:
        containers-auth.json(5); containers/image, pkg/docker/config: an entry without a valid
        ``auth`` is passed over, also where it has a token.
    """
    if isinstance(login, Login):
        entry = {"auth": base64.b64encode(f"{login.user}:{login.password}".encode()).decode()}
    else:
        entry = {"auth": base64.b64encode(b"<token>:").decode(), "identitytoken": login.token}
    return json.dumps({"auths": {host.partition("/")[0]: entry}}).encode()


def _certificates(target: RegistryTarget, own: Path) -> Path | None:
    """Lay out authority, certificate and key as skopeo takes them.

    Source:
        containers-certs.d(5).
    """
    files = {
        "ca.crt": target.ca,
        "client.cert": target.client_certificate,
        "client.key": target.client_key,
    }
    given = {name: file for name, file in files.items() if file is not None}
    if not given:
        return None
    directory = own / "registry"
    directory.mkdir()
    for name, file in given.items():
        _write_private(directory / name, read_given(file, limit=_MAX_PEM_BYTES))
    return directory


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only we can read, at no moment anybody else."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
