"""An OCI registry: Debian's docker-registry, with TLS and a password where wanted."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from tests.rehearsal import programs
from tests.rehearsal.certificates import Authority, KeyPair
from tests.rehearsal.daemon import Daemon
from tests.rehearsal.serving import LOOPBACK, free_ports, running, scratch_state

USERNAME = "AWS"  # as ECR has it, so that the install guide's own login command works
_BCRYPT_ROUNDS = 4  # the registry checks the password at every request


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry.

    Attributes:
        host: Its IP address.
        port: Its TCP port.
        address: ``host:port``, as image references begin.
        url: Where its API begins, without ``/v2/``.
        ca_file: Authority that its certificate is of; None without TLS.
        username: Empty without a password.
        password: Empty when everybody may push and pull.
        docker_config: Directory with a ``config.json`` that logs in (``DOCKER_CONFIG``; the file
            itself is an authfile of skopeo).
    """

    host: str
    port: int
    address: str
    url: str
    ca_file: Path | None
    username: str
    password: str = field(repr=False)
    docker_config: Path

    @property
    def authfile(self) -> Path:
        """Give the file that skopeo takes as ``--authfile``."""
        return self.docker_config / "config.json"


@contextlib.contextmanager
def registry(*, tls: bool = False, auth: bool = False) -> Iterator[Registry]:
    """Run an empty registry on a free port of loopback while the block lasts.

    Raises:
        RehearsalError: It did not start, or is not installed.
    """
    with scratch_state("registry") as state:
        [port] = free_ports(1)
        address = f"{LOOPBACK}:{port}"
        password = secrets.token_urlsafe(16) if auth else ""
        ca_file, pair = _certificates(state) if tls else (None, None)
        server = Registry(
            host=LOOPBACK,
            port=port,
            address=address,
            url=f"{'https' if tls else 'http'}://{address}",
            ca_file=ca_file,
            username=USERNAME if auth else "",
            password=password,
            docker_config=write_login(state / "docker", address, password),
        )
        with running([daemon(state, address, pair=pair, password=password)], state):
            yield server


def _certificates(state: Path) -> tuple[Path, KeyPair]:
    authority = Authority(state, "ca")
    return authority.file, authority.issue("server", subject="registry", names=[LOOPBACK])


def daemon(state: Path, address: str, *, pair: KeyPair | None, password: str) -> Daemon:
    """Configure a registry that listens on ``address`` and keeps its blobs in ``state``."""
    configuration = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(state / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": address},
    }
    if pair is not None:
        files = {"certificate": str(pair.certificate), "key": str(pair.key)}
        configuration["http"] = {"addr": address, "tls": files}
    if password:
        passwords = state / "htpasswd"
        digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS, b"2a"))
        passwords.write_text(f"{USERNAME}:{digest.decode()}\n")
        configuration["auth"] = {"htpasswd": {"realm": "rehearsal", "path": str(passwords)}}
    file = state / "registry.json"  # JSON is YAML
    file.write_text(json.dumps(configuration))
    return Daemon(
        name="registry",
        argv=[programs.find("docker-registry"), "serve", str(file)],
        ready=f"tcp://{address}",
        environment={"OTEL_TRACES_EXPORTER": "none"},
    )


def write_login(directory: Path, address: str, password: str) -> Path:
    """Write a ``config.json`` as docker login does; without a password it holds no login."""
    directory.mkdir(mode=0o700)
    token = base64.b64encode(f"{USERNAME}:{password}".encode()).decode()
    logins = {address: {"auth": token}} if password else {}
    file = directory / "config.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": logins}))
    return directory
