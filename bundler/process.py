"""The only place that starts another program."""

from __future__ import annotations

import logging
import os
import select
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from bundler.errors import ToolFailedError, ToolNotFoundError, ToolTimeoutError

_logger = logging.getLogger(__name__)
_children: set[subprocess.Popen[bytes]] = set()

MAX_OUTPUT_BYTES = 64 << 20
_PIECE_BYTES = 64 << 10
# What a program needs to find its parts, its scratch and its words; no login stands in any of them.
_PLAIN_VARIABLES = frozenset(
    {"PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "GOMEMLIMIT"}
)


class Run(Protocol):
    """How the wrappers in ``bundler.tools`` start a program; tests may pass their own."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = MAX_OUTPUT_BYTES,
    ) -> str:
        """Run a program to its end and return what it wrote to standard output."""


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    limit: int = MAX_OUTPUT_BYTES,
) -> str:
    """Run a program to its end and return what it wrote to standard output.

    The program gets our whole environment, the variables of AWS too: kubectl and helm log in to a
    cluster with them, and skopeo hands them on to the credential helper of a registry.

    Args:
        argv: The program and its arguments, started with no shell. Never a secret: any user of
            the machine can read a command line.
        stdin: What the program reads; the place for a secret.
        env: Variables set on top of the inherited environment.
        timeout: Seconds until the program is killed; None waits for ever.
        limit: Bytes that it may write to standard output, and to standard error, before it is
            killed.

    Raises:
        ToolNotFoundError: There is no such program.
        ToolFailedError: It ended with a status other than 0, or wrote more than ``limit``.
        ToolTimeoutError: It ran past ``timeout``.
    """
    return _run(argv, stdin, {**os.environ, **(env or {})}, timeout, limit)


def run_alone(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    limit: int = MAX_OUTPUT_BYTES,
) -> str:
    """Run a program that logs in nowhere, as ``run`` does but with no login in its environment.

    For what works on content of others, such as Helm when it renders a chart: of our environment
    it gets only what says where programs, home and scratch are, and in which language to speak.
    """
    plain = {name: text for name, text in os.environ.items() if name in _PLAIN_VARIABLES}
    return _run(argv, stdin, {**plain, **(env or {})}, timeout, limit)


def _run(
    argv: Sequence[str], stdin: bytes, env: Mapping[str, str], timeout: float | None, limit: int
) -> str:
    _logger.debug("running: %s", shlex.join(argv))
    try:
        done = _finished(argv, stdin, env, timeout, limit)
    except FileNotFoundError:
        raise ToolNotFoundError(argv[0]) from None
    except subprocess.TimeoutExpired as error:
        raise ToolTimeoutError(argv[0], error.timeout) from None
    output, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    if done.returncode:
        raise ToolFailedError(argv, done.returncode, errors, output)
    return output


def end_children() -> None:
    """Kill every program that runs now, so that whatever thread waits for one goes on at once.

    For whoever ends the whole process; from a signal's handler too, so it takes no lock.
    """
    for child in tuple(_children):
        child.kill()


def _finished(
    argv: Sequence[str], stdin: bytes, env: Mapping[str, str], timeout: float | None, limit: int
) -> subprocess.CompletedProcess[bytes]:
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env) as child:
        _children.add(child)
        left = _countdown(argv, timeout)
        try:
            output, errors = _exchange(child, stdin, left, limit)
            if max(len(output), len(errors)) > limit:
                child.kill()
                told = f"wrote more than {limit} bytes, and was killed".encode()
                return subprocess.CompletedProcess(argv, -signal.SIGKILL, b"", told)
            child.wait(left())
        except BaseException:
            child.kill()
            raise
        finally:
            _children.discard(child)
    return subprocess.CompletedProcess(argv, child.returncode, output, errors)


def _countdown(argv: Sequence[str], timeout: float | None) -> Callable[[], float | None]:
    ends = None if timeout is None else time.monotonic() + timeout

    def left() -> float | None:
        if ends is None or timeout is None:
            return None
        seconds = ends - time.monotonic()
        if seconds <= 0:
            raise subprocess.TimeoutExpired(argv, timeout)
        return seconds

    return left


def _exchange(
    child: subprocess.Popen[bytes], stdin: bytes, left: Callable[[], float | None], limit: int
) -> tuple[bytes, bytes]:
    """Write and read at once, as ``communicate`` does, but no further than just over ``limit``."""
    sink, *sources = filter(None, (child.stdin, child.stdout, child.stderr))
    kept = {source.fileno(): bytearray() for source in sources}
    with selectors.DefaultSelector() as waiting:
        waiting.register(sink, selectors.EVENT_WRITE)
        for descriptor in kept:
            waiting.register(descriptor, selectors.EVENT_READ)
        while waiting.get_map() and all(len(data) <= limit for data in kept.values()):
            for key, _ in waiting.select(left()):
                if key.fileobj is sink:
                    stdin = _write(key.fd, stdin)
                    ended = not stdin
                else:
                    piece = os.read(key.fd, _PIECE_BYTES)
                    kept[key.fd] += piece
                    ended = not piece
                if ended:
                    waiting.unregister(key.fileobj)
                    if key.fileobj is sink:
                        sink.close()
    output, errors = map(bytes, kept.values())
    return output, errors


def _write(descriptor: int, data: bytes) -> bytes:
    """Write what a pipe takes without waiting; give what is left, nothing if nobody reads it."""
    try:
        return data[os.write(descriptor, data[: select.PIPE_BUF]) :]
    except BrokenPipeError:
        return b""
