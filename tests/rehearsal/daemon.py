"""What a supervisor needs to know of the programs that it starts."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_PROBE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """One program that a supervisor starts and, once all are ready, restarts when it ends.

    Attributes:
        name: Unique in its plan; also the name of its log.
        argv: The program and its arguments. Never a secret.
        after: Names of those that must be ready before this one is started.
        ready: Address that answers when this one is ready: ``tcp://``, ``udp://`` or ``http://``
            HOST:PORT, ``unix:PATH``; empty when it is ready as soon as it runs.
        once: It does one thing and ends: it is ready when it ended with status 0.
        environment: Variables set on top of the supervisor's.
    """

    name: str
    argv: Sequence[str]
    after: Sequence[str] = ()
    ready: str = ""
    once: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def write_plan(path: Path, daemons: Sequence[Daemon]) -> None:
    """Write what a supervisor shall run."""
    path.write_text(json.dumps([dataclasses.asdict(daemon) for daemon in daemons], indent=1))


def read_plan(path: Path) -> list[Daemon]:
    """Read what ``write_plan`` wrote."""
    return [Daemon(**document) for document in json.loads(path.read_text())]


def answers(address: str) -> bool:
    """Ask whether a server is there and ready."""
    parts = urlsplit(address)
    place = (parts.hostname or "", parts.port or 0)
    try:
        match parts.scheme:
            case "unix":
                return _connects(socket.AF_UNIX, parts.path)
            case "tcp":
                return _connects(socket.AF_INET, place)
            case "udp":
                return _takes_datagrams(place)
            case "http":
                return _responds(*place, parts.path or "/")
            case scheme:
                raise ValueError(f"{address}: expected unix, tcp, udp or http, got {scheme!r}")
    except (OSError, http.client.HTTPException):
        return False


def _connects(family: socket.AddressFamily, place: str | tuple[str, int]) -> bool:
    with socket.socket(family) as connection:
        connection.settimeout(_PROBE_SECONDS)
        connection.connect(place)
    return True


def _takes_datagrams(place: tuple[str, int]) -> bool:
    """Send one: where nobody listens on loopback, the kernel refuses it at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(0.05)
        connection.connect(place)
        connection.send(b"?")
        with contextlib.suppress(TimeoutError):
            connection.recv(1)
    return True


def _responds(host: str, port: int, path: str) -> bool:
    """Ask by HTTP; a server that wants to know who asks is ready as well."""
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    finally:
        connection.close()
    return status < 400 or status in {401, 403}
