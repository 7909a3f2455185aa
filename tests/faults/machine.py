"""Runs a job in a process of its own, which strace makes fail, stop or die where we say."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.faults.short_calls import shorten
from tests.rehearsal.errors import RehearsalError

_ENTRIES = "tests.faults.entries"
_MOST_SECONDS = 60.0
_POLL_SECONDS = 0.002
_STOPPED = re.compile(rb"(\d+) +--- stopped by SIGSTOP ---")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        status: Its exit status; minus the signal that killed it.
        said: What it wrote on standard error.
        calls: What strace wrote of it; empty without strace.
        left: Names of programs that it started and left running.
    """

    status: int
    said: str
    calls: str = ""
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is to run.

    Attributes:
        entry: Of ``tests.faults.entries``.
        arguments: For it.
        cwd: Where.
        environment: More variables.
        short: Name of a call of ``os`` that does half of what it is asked for.
    """

    entry: str
    arguments: Sequence[str]
    cwd: Path
    environment: Mapping[str, str]
    short: str | None = None


class Machine:
    """Makes processes of one that has imported everything."""

    def __init__(self) -> None:
        if shutil.which("strace") is None:
            raise RehearsalError("strace is not installed")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_ENTRIES])

    def run(
        self,
        run: Run,
        *,
        strace: Sequence[str] = (),
        when_stopped: Callable[[], object] = lambda: None,
        when_started: Callable[[int], object] = lambda pid: None,
    ) -> Ended:
        """Run to the end.

        Args:
            run: What.
            strace: Its options; without any, strace does not look.
            when_stopped: Called each time that strace lets SIGSTOP stop it; then it goes on.
            when_started: Called with its number before it does anything.

        Raises:
            TimeoutError: It did not end in a minute; it was killed.
        """
        with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
            here, there = self._context.Pipe()
            said = Path(scratch, "said")
            process = self._context.Process(target=_child, args=(there, run, said))
            process.start()
            there.close()
            try:
                assert process.pid is not None
                when_started(process.pid)
                calls = self._let_run(process, here, strace, Path(scratch), when_stopped)
            finally:
                left = _kill_session(process)
                process.join()
                here.close()
            status = process.exitcode
            assert status is not None
            return Ended(status, said.read_text(errors="replace"), calls, left)

    def _let_run(
        self,
        process: BaseProcess,
        here: Connection,
        strace: Sequence[str],
        scratch: Path,
        when_stopped: Callable[[], object],
    ) -> str:
        here.recv_bytes()  # it is there, and waits
        if not strace:
            here.send_bytes(b"go")
            process.join(_MOST_SECONDS)
            _require_ended(process)
            return ""
        log = scratch / "calls"
        with _attached(process, strace, log, scratch / "strace"):
            here.send_bytes(b"go")
            self._watch(process, log, when_stopped)
        return log.read_text(errors="replace")

    def _watch(self, process: BaseProcess, log: Path, when_stopped: Callable[[], object]) -> None:
        ends, seen = time.monotonic() + _MOST_SECONDS, 0
        while process.is_alive() and time.monotonic() < ends:
            stops = _STOPPED.findall(log.read_bytes()) if log.exists() else []
            for thread in stops[seen:]:
                when_stopped()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(thread), signal.SIGCONT)
            seen = len(stops)
            process.join(_POLL_SECONDS)
        _require_ended(process)


def _require_ended(process: BaseProcess) -> None:
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"a process did not end in {_MOST_SECONDS:g} s")


@contextlib.contextmanager
def _attached(
    process: BaseProcess, options: Sequence[str], log: Path, messages: Path
) -> Iterator[None]:
    argv = ["strace", "-f", "-o", str(log), *options, "-p", str(process.pid)]
    with messages.open("wb") as out, subprocess.Popen(argv, stderr=out) as tracer:
        ends = time.monotonic() + _MOST_SECONDS
        while b" attached" not in messages.read_bytes():
            if tracer.poll() is not None or time.monotonic() > ends:
                process.kill()
                raise RehearsalError(f"strace: {messages.read_text(errors='replace').strip()}")
            time.sleep(_POLL_SECONDS)
        yield


def _child(gate: Connection, run: Run, said: Path) -> None:
    os.setsid()
    entries = importlib.import_module(_ENTRIES)
    os.environ.update(run.environment)
    os.chdir(run.cwd)
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.dup2(out, 2)
    os.close(out)
    if run.short is not None:
        shorten(run.short)
    gate.send_bytes(b"ready")
    gate.recv_bytes()
    sys.exit(entries.ENTRIES[run.entry](run.arguments))


def _kill_session(process: BaseProcess) -> tuple[str, ...]:
    """Kill what a process left running, and name it."""
    process.join(0)
    left = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            name, _, rest = (directory / "stat").read_text().rpartition(")")
            state, _, _, session = rest.split()[:4]
            if int(session) == process.pid and state not in "ZX":
                os.kill(int(directory.name), signal.SIGKILL)
                left.append(name.partition("(")[2])
    return tuple(left)
