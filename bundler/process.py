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
        done = subprocess.run(
            argv,
            env={**os.environ, **(env or {})},
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise ToolNotFoundError(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise ToolError(f"{argv[0]} did not end within {timeout:g} s") from None
    if done.returncode:
        raise ToolFailedError(argv, done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout.decode(errors="replace")
