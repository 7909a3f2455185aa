"""One run at a time in a directory; the lock of a run that is killed goes with it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.archive.files import make_directories
from bundler.archive.held_directory import HeldDirectory
from bundler.archive.trouble import blaming
from bundler.errors import MalformedError, WorldError
from bundler.events import Emit, Noted


@contextmanager
def alone(directory: Path, command: str = "fetch") -> Iterator[HeldDirectory]:
    """Hold a directory while the block lasts, and give it for writing.

    Args:
        directory: What is held.
        command: What the others that hold it are, for the error.

    Raises:
        WorldError: Another run holds it, or the file system has no locks.
    """
    with _opened(directory) as descriptor:
        if not _lock(directory, descriptor, wait=False):
            raise WorldError(
                f"{directory}: another bundle {command} is at work there", hint="wait until it ends"
            )
        yield HeldDirectory(directory, descriptor)


@contextmanager
def in_turn(directory: Path, *, emit: Emit) -> Iterator[HeldDirectory]:
    """Wait until nobody else holds a directory, and do as ``alone`` does.

    It is made where it is missing, and made again if somebody removes it while we wait.

    Args:
        directory: What is held.
        emit: Told once where there is somebody to wait for.

    Raises:
        MalformedError: It is a link.
        WorldError: It cannot be made or opened, or the file system has no locks.
    """
    while True:
        make_directories(directory)
        with _opened(directory) as descriptor:
            if not _lock(directory, descriptor, wait=False):
                emit(Noted(f"{directory}: another bundle fetch is at work there; waiting for it"))
                _lock(directory, descriptor, wait=True)
            if _is_still(directory, descriptor):
                yield HeldDirectory(directory, descriptor)
                return


def let_others(directory: HeldDirectory) -> None:
    """End our turn; the directory itself stays open until the block ends."""
    fcntl.flock(directory, fcntl.LOCK_UN)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    if directory.is_symlink():
        raise MalformedError(f"{directory}: expected a directory, got a symbolic link")
    with blaming(directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(directory: Path, descriptor: int, *, wait: bool) -> bool:
    with blaming(directory):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
    return True


def _is_still(directory: Path, descriptor: int) -> bool:
    """Say whether what we hold has the name that others will look for."""
    try:
        return os.path.samestat(os.fstat(descriptor), directory.lstat())
    except FileNotFoundError:
        return False
