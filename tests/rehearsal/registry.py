"""OCI registries: Debian's docker-registry, Distribution 3, crane's; with TLS and logins."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import bcrypt

from tests.rehearsal import go_build, programs
from tests.rehearsal.certificates import Authority, KeyPair
from tests.rehearsal.daemon import Daemon
from tests.rehearsal.forward_proxy import ForwardProxy, proxy
from tests.rehearsal.go_programs import CRANE, DISTRIBUTION
from tests.rehearsal.serving import LOOPBACK, free_ports, running, scratch_state
from tests.rehearsal.token_server import TokenServer, token_server

__all__ = ["ForwardProxy", "Registry", "TokenServer", "daemon", "program", "proxy", "registry"]

Kind = Literal["debian", "distribution", "crane"]
Auth = Literal["none", "basic", "token"]

USERNAME = "AWS"  # as ECR has it, so that the install guide's own login command works
_BCRYPT_ROUNDS = 4  # the registry checks the password at every request


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry.

    Attributes:
        kind: Whose program it is.
        host: Its IP address.
        port: Its TCP port.
        address: ``host:port``, as image references begin.
        url: Where its API begins, without ``/v2/``.
        storage: Directory of its blobs.
        ca_file: Authority that its certificate is of; None without TLS.
        client: What a client must show; None where it lets in clients without a certificate.
        tokens: Where clients get their tokens, another origin than ``url``; None without.
        username: Empty without a password.
        password: Empty when everybody may push and pull.
        docker_config: Directory with a ``config.json`` that logs in (``DOCKER_CONFIG``; the file
            itself is an authfile of skopeo).
    """

    kind: Kind
    host: str
    port: int
    address: str
    url: str
    storage: Path
    ca_file: Path | None
    client: KeyPair | None
    tokens: TokenServer | None
    username: str
    password: str = field(repr=False)
    docker_config: Path

    @property
    def authfile(self) -> Path:
        """Give the file that skopeo takes as ``--authfile``."""
        return self.docker_config / "config.json"


@contextlib.contextmanager
def registry(
    kind: Kind = "debian",
    *,
    tls: bool = False,
    auth: Auth | bool = "none",
    client_tls: bool = False,
) -> Iterator[Registry]:
    """Run an empty registry on a free port of loopback while the block lasts.

    Args:
        kind: Whose; crane's has neither TLS nor logins.
        tls: Whether it has a certificate, of an authority that nobody knows yet.
        auth: Who may push and pull: everybody, or who has the password, or a token of a token
            server that knows the password. True is ``basic``.
        client_tls: Whether a client needs a certificate, too; implies ``tls``.

    Raises:
        RehearsalError: It did not start, or is not installed.
    """
    if isinstance(auth, bool):
        auth = "basic" if auth else "none"
    tls = tls or client_tls
    if kind == "crane" and (tls or auth != "none"):
        raise ValueError("crane's registry has neither TLS nor logins")
    with scratch_state("registry") as state, contextlib.ExitStack() as stack:
        [port] = free_ports(1)
        address = f"{LOOPBACK}:{port}"
        password = "" if auth == "none" else secrets.token_urlsafe(16)
        authority, pair = _certificates(state) if tls else (None, None)
        client = authority.issue("client", subject="client") if authority and client_tls else None
        tokens = None
        if auth == "token":
            known = token_server(state, username=USERNAME, password=password, pair=pair)
            tokens = stack.enter_context(known)
        server = Registry(
            kind=kind,
            host=LOOPBACK,
            port=port,
            address=address,
            url=f"{'https' if tls else 'http'}://{address}",
            storage=_storage(state),
            ca_file=authority.file if authority else None,
            client=client,
            tokens=tokens,
            username=USERNAME if password else "",
            password=password,
            docker_config=write_login(state / "docker", address, password),
        )
        stack.enter_context(running([_daemon(server, state, pair)], state))
        yield server


def program(kind: Kind) -> str:
    """Give the path of a registry's executable.

    Raises:
        RehearsalError: It is not installed, or not compiled yet.
    """
    if kind == "debian":
        return programs.find("docker-registry")
    return str(go_build.find({"distribution": DISTRIBUTION, "crane": CRANE}[kind]))


def _certificates(state: Path) -> tuple[Authority, KeyPair]:
    authority = Authority(state, "ca")
    return authority, authority.issue("server", subject="registry", names=[LOOPBACK])


def _storage(state: Path) -> Path:
    return state / "registry"


def _daemon(server: Registry, state: Path, pair: KeyPair | None) -> Daemon:
    executable = program(server.kind)
    if server.kind == "crane":
        server.storage.mkdir()
        argv = [executable, "registry", "serve", "--address", server.address]
        argv += ["--disk", str(server.storage)]
        return Daemon(name="registry", argv=argv, ready=f"tcp://{server.address}")
    tls: dict[str, object] = {}
    if server.client:
        tls = {"clientcas": [str(server.ca_file)]}
    if server.tokens:
        auth: Mapping[str, object] = {"token": server.tokens.configuration()}
    else:
        auth = _passwords(state, server.password)
    return _distribution(executable, state, server.address, tls=_pair(pair) | tls, auth=auth)


def daemon(state: Path, address: str, *, pair: KeyPair, password: str) -> Daemon:
    """Configure Debian's registry to listen on ``address`` and keep its blobs in ``state``."""
    auth = _passwords(state, password)
    return _distribution(program("debian"), state, address, tls=_pair(pair), auth=auth)


def _distribution(
    executable: str,
    state: Path,
    address: str,
    *,
    tls: Mapping[str, object],
    auth: Mapping[str, object],
) -> Daemon:
    configuration = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(_storage(state))},
            "delete": {"enabled": True},
        },
        "http": {"addr": address} | ({"tls": tls} if tls else {}),
    } | ({"auth": auth} if auth else {})
    file = state / "registry.json"  # JSON is YAML
    file.write_text(json.dumps(configuration))
    return Daemon(
        name="registry",
        argv=[executable, "serve", str(file)],
        ready=f"tcp://{address}",
        environment={"OTEL_TRACES_EXPORTER": "none"},
    )


def _pair(pair: KeyPair | None) -> dict[str, object]:
    return {"certificate": str(pair.certificate), "key": str(pair.key)} if pair else {}


def _passwords(state: Path, password: str) -> dict[str, object]:
    if not password:
        return {}
    passwords = state / "htpasswd"
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS, b"2a"))
    passwords.write_text(f"{USERNAME}:{digest.decode()}\n")
    return {"htpasswd": {"realm": "rehearsal", "path": str(passwords)}}


def write_login(directory: Path, address: str, password: str) -> Path:
    """Write a ``config.json`` as docker login does; without a password it holds no login."""
    token = base64.b64encode(f"{USERNAME}:{password}".encode()).decode()
    return _write_logins(directory, {address: {"auth": token}} if password else {})


def write_identity_token(directory: Path, server: Registry) -> Path:
    """Write a ``config.json`` that logs in with an identity token in place of a password."""
    assert server.tokens is not None, "only a token server takes an identity token"
    user = base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode()
    entry = {"auth": user, "identitytoken": server.tokens.identity_token}
    return _write_logins(directory, {server.address: entry})


def _write_logins(directory: Path, logins: Mapping[str, object]) -> Path:
    directory.mkdir(mode=0o700)
    file = directory / "config.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": logins}))
    return directory
