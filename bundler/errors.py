"""Every error that this package raises on purpose.

    BundleError                   1
    |- MalformedError             3   a spec, lock, target, manifest or archive breaks its grammar
    |- UntrustedError             4   fewer signed this than must, of those whom we trust
    |- ContentError               5   content differs from what was signed
    |- StaleError                 6   expired, from the future, or older than what was deployed
    |- ConflictError              7   the destination holds something else under that name
    |- CheckError                 8   a check failed
    `- WorldError                 9   unreachable, denied, disk full, a program missing
       |- NotFoundError           9
       |- DeniedError             9
       |- MediumError             9
       `- ToolError               9
          |- ToolNotFoundError    9
          |- ToolTimeoutError     9
          `- ToolFailedError      9

The number is the exit status of the command. Click keeps 2 for wrong usage, 10 says that a plan has
work to do, and 128+n that signal n ended the command. A test reads this drawing and holds it
against the classes below.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import ClassVar

from bundler.reference import is_shown

CHANGES_PENDING = 10
_STDERR_LINES_SHOWN = 8


def printable(text: str) -> str:
    """Give text from outside in a form that cannot move a cursor, hide or reorder what is shown."""
    return "".join(char if is_shown(char) else f"\\u{ord(char):04x}" for char in text)


class BundleError(Exception):
    """Base of every error of this package.

    Attributes:
        exit_status: What the command exits with.
        hint: One line on what to do next, or None where there is nothing to say.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class MalformedError(BundleError):
    """Something from outside breaks its grammar or contradicts itself."""

    exit_status = 3


class UntrustedError(BundleError):
    """There is no signature, or none by a key that we were told to trust."""

    exit_status = 4


class ContentError(BundleError):
    """Content is not what was signed: a digest differs, something is missing or extra."""

    exit_status = 5


class StaleError(BundleError):
    """A release is expired, or older than the newest that was deployed."""

    exit_status = 6


class ConflictError(BundleError):
    """The destination holds something else under that name, and we never overwrite."""

    exit_status = 7


class CheckError(BundleError):
    """A check that guards the next step failed."""

    exit_status = 8


class WorldError(BundleError):
    """Something outside refused or failed; run again when it is mended."""

    exit_status = 9


class NotFoundError(WorldError):
    """There is nothing at that address."""


class DeniedError(WorldError):
    """The other side knows us not, or does not let us."""


class MediumError(WorldError):
    """A disk or medium cannot give back, or take, what lies at one place of it."""


class ToolError(WorldError):
    """A program that we start could not do its work."""


class ToolNotFoundError(ToolError):
    """A program that we need is not on the PATH."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program}: program not found", hint=f"install {program}, or put it on the PATH"
        )
        self.program = program


class ToolTimeoutError(ToolError):
    """A program did not end in time, and was killed."""

    def __init__(self, program: str, seconds: float) -> None:
        super().__init__(f"{program} did not end within {seconds:g} s")


class ToolFailedError(ToolError):
    """A program ended with a status other than 0.

    What it wrote to standard output is kept and not shown: that is its result, and may be a secret.
    """

    def __init__(self, argv: Sequence[str], status: int, stderr: str, stdout: str = "") -> None:
        lines = [printable(line) for line in stderr.strip().splitlines()]
        tail = "; ".join(lines[-_STDERR_LINES_SHOWN:])
        super().__init__(f"{argv[0]} ended with status {status}: {tail or '(no message)'}")
        self.command = shlex.join(argv)
        self.status = status
        self.stderr = stderr
        self.stdout = stdout
