"""What a command costs: started by ``timed.py``, which is too small to be in the way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal import programs

_TIMED = Path(__file__).with_name("timed.py")
_KEPT_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What commands took, one after the other.

    Attributes:
        wall_seconds: From the start of the first to the end of the last.
        cpu_seconds: User and system time of all their processes.
        peak_bytes: Resident memory of the largest process.
        scratch_bytes: The most that their temporary directory held.
        written_bytes: To any file; also to one that has no name.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    scratch_bytes: int
    written_bytes: int


class FailureError(Exception):
    """A command failed; the message has the end of what it said."""


def measure(commands: Sequence[Sequence[str]], scratch: Path, ca: Path | None = None) -> Cost:
    """Run commands with an empty temporary directory and say what they cost.

    Args:
        commands: Each with its arguments, in order.
        scratch: Their temporary directory, which does not exist yet.
        ca: Authority that they shall trust.

    Raises:
        FailureError: One of them failed.
    """
    scratch.mkdir(parents=True)
    variables = {"HOME": str(scratch.parent), "TMPDIR": str(scratch)}
    if ca is not None:
        variables["SSL_CERT_FILE"] = str(ca)
    log = scratch.with_suffix(".log")
    asked = {"commands": commands, "scratch": str(scratch), "log": str(log)}
    done = subprocess.run(
        [sys.executable, "-I", "-S", _TIMED],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=programs.environment() | variables,
        cwd=programs.ROOT,
    )
    document = json.loads(done.stdout)
    status = document.pop("status")
    if status:
        said = log.read_text(errors="replace").strip()[-_KEPT_CHARACTERS:]
        raise FailureError(f"{Path(commands[0][0]).name} ended with {status}: {said}")
    return Cost(**document)
