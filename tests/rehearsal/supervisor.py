"""Starts programs in their order, keeps them running, ends with its owner and ends them all.

Run as ``python -m tests.rehearsal.supervisor STATE``: reads STATE/plan.json, logs to STATE/logs,
says ``ready`` or ``failed: …`` in one line on standard output. Standard input is the leash: when
its other end is closed, be it by kill -9 of the owner, every program is killed and STATE removed.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.rehearsal import programs
from tests.rehearsal.daemon import Daemon, answers, read_plan

START_SECONDS = 180
_STARTING_TICK = 0.03
_STEADY_TICK = 0.5
_RESTART_PAUSE = 1.0
# The kernel kills the program when this process is gone, however it went.
_LEASHED = ("setpriv", "--pdeathsig", "KILL", "--")


class StartError(Exception):
    """A program did not become ready; the message names its log, which outlives everything."""


class Supervisor:
    """Runs the programs of one plan."""

    def __init__(self, daemons: Iterable[Daemon], logs: Path) -> None:
        """Take the programs to run, and an existing directory for their logs."""
        self._daemons = {daemon.name: daemon for daemon in daemons}
        self._logs = logs
        self._running: dict[int, tuple[Daemon, subprocess.Popen[bytes]]] = {}
        self._started: set[str] = set()
        self._ready: set[str] = set()
        self._restart: dict[str, float] = {}
        self._begun = time.monotonic()

    def start(self, leash: int) -> bool:
        """Start everything; gives False when the leash ended before all was ready.

        Raises:
            StartError: A program ended, or did not answer in time.
        """
        while self._ready != set(self._daemons):
            self._start_next()
            if _leash_ended(leash, _STARTING_TICK):
                return False
            self._reap(starting=True)
            self._probe()
            if time.monotonic() > self._begun + START_SECONDS:
                self._give_up(next(iter(self._started - self._ready)))
        return True

    def keep(self, leash: int) -> None:
        """Restart what ends, until the leash ends."""
        while not _leash_ended(leash, _STEADY_TICK):
            self._reap(starting=False)
            due = [name for name, when in self._restart.items() if when <= time.monotonic()]
            for name in due:
                del self._restart[name]
                self._spawn(self._daemons[name])

    def kill(self) -> None:
        """Kill every program, with what it started in its session, and wait for the end."""
        for pid in self._running:
            os.killpg(pid, signal.SIGKILL)
        for _, process in self._running.values():
            process.wait()
        self._running.clear()

    def _start_next(self) -> None:
        for daemon in self._daemons.values():
            if daemon.name not in self._started and self._ready.issuperset(daemon.after):
                self._spawn(daemon)

    def _spawn(self, daemon: Daemon) -> None:
        with self._log(daemon.name).open("ab") as log:
            process = subprocess.Popen(
                [*_LEASHED, *daemon.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**programs.environment(), **daemon.environment},
                cwd=self._logs.parent,
                start_new_session=True,
            )
        self._running[process.pid] = daemon, process
        self._started.add(daemon.name)

    def _reap(self, *, starting: bool) -> None:
        """Collect what ended: as process 1 of a namespace, also what is nobody's child any more."""
        while (ended := _collect()) is not None:
            pid, status = ended
            if pid not in self._running:
                continue
            daemon, process = self._running.pop(pid)
            process.returncode = status
            if daemon.once and status == 0:
                self._set_ready(daemon.name)
            elif starting:
                self._give_up(daemon.name, f"ended with status {status}")
            else:
                self._restart[daemon.name] = time.monotonic() + _RESTART_PAUSE

    def _probe(self) -> None:
        for daemon, _ in list(self._running.values()):
            if daemon.name in self._ready or daemon.once:
                continue
            if not daemon.ready or answers(daemon.ready):
                self._set_ready(daemon.name)

    def _set_ready(self, name: str) -> None:
        self._ready.add(name)
        with self._log("supervisor").open("a") as log:
            print(f"{time.monotonic() - self._begun:6.2f} s  {name}", file=log)

    def _give_up(self, name: str, what: str = f"was not ready after {START_SECONDS} s") -> None:
        log = self._log(name)
        lines = log.read_text(errors="replace").strip().splitlines()
        handle, kept = tempfile.mkstemp(prefix=f"rehearsal-{name}-", suffix=".log")
        os.close(handle)
        shutil.copyfile(log, kept)
        last = lines[-1][-300:] if lines else "it wrote nothing"
        raise StartError(f"{name}: {what}: {last}; log: {kept}")

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _leash_ended(leash: int, seconds: float) -> bool:
    """Wait for that long; nobody writes to the leash, so all that can come is its end."""
    ready, _, _ = select.select([leash], [], [], seconds)
    return bool(ready)


def _collect() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def supervise(state: Path) -> int:
    """Run the plan in a state directory until standard input ends; gives an exit status."""
    logs = state / "logs"
    logs.mkdir(exist_ok=True)
    supervisor = Supervisor(read_plan(state / "plan.json"), logs)
    try:
        if supervisor.start(leash=0):
            say("ready", logs / "supervisor.log")
            supervisor.keep(leash=0)
    except StartError as error:
        say(f"failed: {error}", logs / "supervisor.log")
        return 1
    finally:
        supervisor.kill()
    return 0


def say(line: str, log: Path) -> None:
    """Tell the owner, if it is still there; what is written later goes to a log."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{line}\n".encode())
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def main() -> int:
    """Supervise one state directory and remove it afterwards."""
    state = Path(sys.argv[1])
    try:
        return supervise(state)
    finally:
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
