"""Servers on loopback for one ``with`` block: started, waited for, ended with their owner."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from socketserver import BaseServer

from tests.rehearsal import programs
from tests.rehearsal.certificates import KeyPair
from tests.rehearsal.daemon import Daemon, write_plan
from tests.rehearsal.errors import RehearsalError

LOOPBACK = "127.0.0.1"
_STOP_SECONDS = 0.05


@contextlib.contextmanager
def scratch_state(name: str) -> Iterator[Path]:
    """Give a new private directory for a server's files, removed at the end."""
    state = Path(tempfile.mkdtemp(prefix=f"rehearsal-{name}-"))
    try:
        yield state
    finally:
        shutil.rmtree(state, ignore_errors=True)


@contextlib.contextmanager
def running(daemons: Sequence[Daemon], state: Path) -> Iterator[None]:
    """Run programs while the block lasts; they die and ``state`` goes even on kill -9 of us.

    Raises:
        RehearsalError: One did not become ready; the message names its log.
    """
    programs.find("setpriv")
    write_plan(state / "plan.json", daemons)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.rehearsal.supervisor", str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=programs.environment(),
        start_new_session=True,
    ) as process:
        await_ready(process)
        yield


def await_ready(process: subprocess.Popen[bytes]) -> None:
    """Wait for what a supervisor says in one line.

    Raises:
        RehearsalError: It says that a program failed, or it ended.
    """
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if line == "ready":
        return
    lines = [line, *process.stdout.read().decode(errors="replace").strip().splitlines()]
    failed = [each for each in lines if each.startswith("failed: ")]
    message = (failed or lines)[-1].removeprefix("failed: ")
    raise RehearsalError(message or "the supervisor was killed")


def free_ports(count: int) -> list[int]:
    """Give that many TCP ports of loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def in_thread(server: BaseServer) -> Iterator[None]:
    """Serve in a thread of this process while the block lasts."""
    thread = threading.Thread(target=server.serve_forever, args=(_STOP_SECONDS,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def server_context(pair: KeyPair) -> ssl.SSLContext:
    """Give what a server of this process needs for TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context
