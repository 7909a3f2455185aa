"""Tar files with which Go and CPython test their own readers, taken out of Debian's packages.

The packages are not installed: one is large, and the other wants a newer Python than there may be.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.progress import Progress

_LIST = Path(__file__).with_name("tar_samples.txt")


def find() -> Path:
    """Give the directory of the files that were got before.

    Raises:
        RehearsalError: They were not.
    """
    directory = _directory()
    if not directory.is_dir():
        raise RehearsalError("tar samples: not there yet; run python -m tests.rehearsal build")
    return directory


def install(progress: Progress) -> Path:
    """Get the files into the user's cache, once for each list of them; give the directory.

    Raises:
        RehearsalError: A package cannot be had, or a file is not the one of the list.
    """
    final = _directory()
    if not final.is_dir():
        progress.line("getting the tar files of Go's and CPython's tests, once: 22 MB")
        scratch = final.with_name(f".{final.name}.{os.getpid()}")
        (scratch / "files").mkdir(parents=True)
        try:
            for package, digests in _listed().items():
                _unpack(_downloaded(package, scratch), digests, scratch / "files")
            (scratch / "files").rename(final)
        except OSError:  # another process was quicker
            if not final.is_dir():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return final


def names() -> list[str]:
    """Give the names of the files, whether they were got or not."""
    return sorted(Path(path).name for digests in _listed().values() for path in digests)


def _listed() -> Mapping[str, Mapping[str, str]]:
    """Give the digest of each file, by package and path."""
    packages: dict[str, dict[str, str]] = {}
    for line in _LIST.read_text().splitlines():
        if not line.startswith("#"):
            digest, where = line.split()
            package, _, path = where.partition("/")
            packages.setdefault(package, {})[path] = digest
    return packages


def _downloaded(package: str, scratch: Path) -> Path:
    command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
    done = _run(command, scratch)
    if done.returncode and os.getuid() == 0:
        _run(["apt-get", "-q", "update"], scratch)
        done = _run(command, scratch)
    if done.returncode:
        raise RehearsalError(f"{package}: {' '.join(done.stderr.split())[-300:]}")
    [archive] = scratch.glob(f"{package}_*.deb")
    return archive


def _run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RehearsalError(f"{command[0]}: not installed; these files are Debian's") from None


def _unpack(package: Path, digests: Mapping[str, str], directory: Path) -> None:
    left = dict(digests)
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as dpkg,
        tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive,
    ):
        for member in archive:
            digest = left.pop(member.name.removeprefix("./"), None)
            if digest is not None:
                content = archive.extractfile(member)
                assert content is not None
                _keep(directory / Path(member.name).name, content.read(), digest)
    if left:
        raise RehearsalError(f"{package.name}: expected {', '.join(left)} in it, got none")


def _keep(path: Path, content: bytes, digest: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != digest:
        raise RehearsalError(f"{path.name}: expected SHA-256 {digest}, got {got}")
    path.write_bytes(content)


def _directory() -> Path:
    """Name the directory for what is in it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(_LIST.read_bytes()).hexdigest()
    return Path(base, "bundle-rehearsal", f"tar-samples-{digest[:16]}")
