"""The only place that starts another program."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol

from bundler.errors import ToolError, ToolFailedError, ToolNotFoundError

_logger = logging.getLogger(__name__)
_children: set[subprocess.Popen[bytes]] = set()


class Run(Protocol):
    """How the wrappers in ``bundler.tools`` start a program; tests may pass their own."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> str:
        """Run a program to its end and return what it wrote to standard output."""


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
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

    Raises:
        ToolNotFoundError: There is no such program.
        ToolFailedError: It ended with a status other than 0.
        ToolError: It ran past ``timeout``.
    """
    _logger.debug("running: %s", shlex.join(argv))
    try:
        done = _finished(argv, stdin, {**os.environ, **(env or {})}, timeout)
    except FileNotFoundError:
        raise ToolNotFoundError(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise ToolError(f"{argv[0]} did not end within {timeout:g} s") from None
    if done.returncode:
        raise ToolFailedError(argv, done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")


def end_children() -> None:
    """Kill every program that runs now, so that whatever thread waits for one goes on at once.

    For whoever ends the whole process; from a signal's handler too, so it takes no lock.
    """
    for child in tuple(_children):
        child.kill()


def _finished(
    argv: Sequence[str], stdin: bytes, env: Mapping[str, str], timeout: float | None
) -> subprocess.CompletedProcess[bytes]:
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env) as child:
        _children.add(child)
        try:
            output, errors = child.communicate(stdin, timeout)
        except BaseException:
            child.kill()
            raise
        finally:
            _children.discard(child)
    return subprocess.CompletedProcess(argv, child.returncode, output, errors)
