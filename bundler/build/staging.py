"""A release directory that appears whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import make_directories, sync_directory
from bundler.archive.trouble import blaming
from bundler.errors import ConflictError, WorldError, printable

_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Staging:
    """Where a build works: ``release`` becomes the release, ``scratch`` is removed."""

    release: Path
    scratch: Path


@contextmanager
def staging(out_dir: Path, name: str) -> Iterator[Staging]:
    """Give directories to build in; at the end ``release`` becomes ``out_dir``/``name``.

    They lie in ``.NAME.partial`` beside the final name. What a killed build left there is removed
    first; on any exception all of it is.

    Raises:
        ConflictError: There is something under the final name.
        WorldError: Another build works on the same release, or the disk refuses.
    """
    final, temporary = out_dir / name, out_dir / f".{name}.partial"
    make_directories(out_dir)
    with _locked(temporary):
        try:
            place = _fresh(temporary)
            _refuse_existing(final)
            yield place
            _refuse_existing(final)
            with blaming(final):
                sync_directory(place.release)
                place.release.rename(final)
                sync_directory(out_dir)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _locked(temporary: Path) -> Iterator[None]:
    """Hold the lock of a temporary directory, which the system gives back when we die."""
    with blaming(temporary):
        temporary.mkdir(exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary / _LOCK, flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another build may have ended, and removed the file, between our two steps.
            mine = os.path.samestat(os.fstat(descriptor), (temporary / _LOCK).stat())
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            raise WorldError(
                f"{printable(str(temporary))}: another build of this release works there",
                hint="wait until it ends, or stop it",
            )
        yield
    finally:
        os.close(descriptor)


def _fresh(temporary: Path) -> Staging:
    place = Staging(temporary / "release", temporary / "scratch")
    with blaming(temporary):
        for left in temporary.iterdir():
            if left.name != _LOCK:
                shutil.rmtree(left)
        place.release.mkdir()
        place.scratch.mkdir()
    return place


def _refuse_existing(final: Path) -> None:
    if os.path.lexists(final):
        raise ConflictError(
            f"{printable(str(final))}: expected nothing there, found something",
            hint="a release is never overwritten; remove it, or build somewhere else",
        )
