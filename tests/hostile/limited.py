"""A place with sentinels, the command in a child process there, and what it must not have done."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path

from tests.hostile.guarded import NETWORK_STATUS, WAITED

SECONDS, HANGS = 5.0, 30.0
# What some inputs hold, and nothing may show.
SECRET = "canary"
_GUARDED = Path(__file__).with_name("guarded.py")
_ROOT = _GUARDED.parents[2]
# Programs that the command starts; written in Go, they reserve more than they use.
_PROGRAMS = ("helm", "skopeo")
_LIFTED = '#!/bin/sh\nulimit -S -v unlimited\nexec "{program}" "$@"\n'


@dataclass(frozen=True)
class Outcome:
    """How a run of the command ended; ``seconds`` is what it takes on a machine of its own."""

    status: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def errors(self) -> list[str]:
        """The lines that say what is wrong."""
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]


@dataclass(frozen=True)
class Place:
    """Where a case lies: ``input`` is what it made, ``out`` where the command may write.

    All else is a sentinel, beside and above ``out``, where names that climb would lead.
    """

    top: Path
    input: Path = field(init=False)
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        for name, below in (("input", "input"), ("out", "work/deep/out")):
            object.__setattr__(self, name, self.top / below)
        for directory in (self.input, self.out, self.top / "tmp", self.top / "home"):
            directory.mkdir(parents=True)
        for sentinel in ("sentinel", "work/evil", "work/deep/evil"):
            (self.top / sentinel).write_bytes(b"as it was")
        self._lift_limits()

    def run(self, *argv: str | Path, stdin: bytes = b"") -> Outcome:
        """Run the command with a limit on memory and time, and no network."""
        environment = {
            "HOME": str(self.top / "home"),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{self.top / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(_ROOT),
            "TMPDIR": str(self.top / "tmp"),
        }
        argv = (*_no_network(), sys.executable, str(_GUARDED), *argv)
        with _told_wait() as (tell_to, waited):
            begun, used = time.monotonic(), _used()
            done = subprocess.run(
                argv,
                input=stdin,
                capture_output=True,
                cwd=self.top / "work/deep",
                env=environment | {WAITED: str(tell_to)},
                pass_fds=[tell_to],
                timeout=HANGS,
                check=False,
            )
            wall = time.monotonic() - begun
            # Threads wait side by side: all of their waiting may be more than there was.
            seconds = max(wall - waited(), min(wall, _used() - used))
        stdout, stderr = (part.decode(errors="replace") for part in (done.stdout, done.stderr))
        return Outcome(done.returncode, stdout, stderr, seconds)

    @property
    def defects(self) -> str:
        """What the command kept of defects of its own."""
        log = self.top / "home/.local/state/bundle/defects.log"
        return log.read_text() if log.exists() else ""

    def snapshot(self) -> dict[str, object]:
        """Say what lies outside ``out``, by path: kind, mode, and content or where a link leads."""
        found = {}
        for directory, names, files in os.walk(self.top):
            if Path(directory) == self.out:
                names.clear()
                continue
            for name in (*names, *files):
                path = Path(directory, name)
                found[str(path.relative_to(self.top))] = _look(path)
        found.pop(str(self.out.relative_to(self.top)))
        return found

    def _lift_limits(self) -> None:
        (self.top / "bin").mkdir()
        for name in _PROGRAMS:
            if program := shutil.which(name):
                lifted = self.top / "bin" / name
                lifted.write_text(_LIFTED.format(program=program))
                lifted.chmod(0o755)


Make = Callable[[Place], list[str]]


@dataclass(frozen=True)
class Case:
    """One hostile input, and what is said of it.

    Attributes:
        group: Its number in README.md.
        what: What it is, in the words of that list.
        make: Writes it, and gives the arguments of the command.
        status: What the command exits with.
        says: What the one line on standard error matches.
    """

    group: int
    what: str
    make: Make
    status: int
    says: str

    @property
    def id(self) -> str:
        """What the test is called: ``12-duplicate-names``."""
        return f"{self.group}-{self.what.replace(' ', '-')}"


def require_refused(case: Case, place: Place) -> None:
    """Run a case: one line, the right status, in time; and nothing written, nothing called."""
    argv = case.make(place)
    before = place.snapshot()
    done = place.run(*argv)
    if done.seconds >= SECONDS:  # a disk, or a program that it started, may have been kept waiting
        done = place.run(*argv)
    require_clean(done, place, before)
    assert done.status == case.status, done.stderr
    [line] = done.errors
    assert re.search(case.says, line), done.stderr
    behind = done.stderr[done.stderr.index(line) + len(line) :].splitlines()
    assert all(other.startswith("hint: ") for other in behind if other), done.stderr
    assert not visible_files(place.out)


def require_clean(done: Outcome, place: Place, before: Mapping[str, object]) -> None:
    """Demand of any run that it was short and silent, and changed nothing outside ``out``."""
    assert done.status != NETWORK_STATUS, done.stderr
    assert not place.defects, place.defects
    assert done.seconds < SECONDS, f"{done.seconds:.1f} s: {done.stderr}"
    assert "Traceback" not in done.stderr
    for stream in (done.stdout, done.stderr):
        assert SECRET not in stream, "a secret was shown"
        odd = {char for char in stream if unicodedata.category(char)[0] == "C"}
        assert odd <= {"\n"}, done.stderr
    assert place.snapshot() == before
    for path in place.out.rglob("*"):
        mode = path.lstat().st_mode
        assert stat.S_ISDIR(mode) or stat.S_ISREG(mode), path
        assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX), path


def visible_files(directory: Path) -> list[str]:
    """Name the files that have a final name: what begins with a dot is a run's own."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not path.name.startswith("."))


def _used() -> float:
    """Give the CPU-seconds of all processes that we started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _told_wait() -> Iterator[tuple[int, Callable[[], float]]]:
    """Give where the command tells how long other processes kept it waiting, and how to read it."""
    told, tell_to = os.pipe()
    os.set_blocking(told, False)

    def waited() -> float:
        with contextlib.suppress(BlockingIOError):  # it ended by a signal, or at once
            return float(os.read(told, 256))
        return 0.0

    try:
        yield tell_to, waited
    finally:
        os.close(told)
        os.close(tell_to)


def _look(path: Path) -> object:
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        with path.open("rb") as file:
            content = sha256(file.read(1 << 20)).hexdigest()
        return status.st_mode, status.st_size, status.st_mtime_ns, content
    return status.st_mode, path.readlink() if path.is_symlink() else None


@cache
def _no_network() -> tuple[str, ...]:
    """Give what starts a program without a network, where this machine lets us."""
    program = shutil.which("unshare")
    if program is None:
        return ()
    tried = subprocess.run([program, "-n", "true"], capture_output=True, check=False)
    return () if tried.returncode else (program, "-n")
