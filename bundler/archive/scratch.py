"""A scratch directory that is gone afterwards, at the latest when the next run begins."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.archive.trouble import blaming

_PREFIX = "bundle-scratch-"
_RANDOM = "?" * 8  # what tempfile adds
_LOCK = "lock"
# Removed first, so that what a kill leaves in the middle of that can still be told by its lock.
_CONTENT = "content"


@contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """Make a directory for as long as a block runs.

    It is locked while in use, so that a later run can tell and remove one that a killed run left.

    Args:
        parent: Where to make it; None for the system's place for temporary files.

    Raises:
        WorldError: It cannot be made.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_abandoned(place)
    with blaming(place):
        directory, descriptor = _make_locked(place)
    try:
        yield directory / _CONTENT
    finally:
        with contextlib.suppress(OSError), _opened(directory) as inside:
            _remove(directory, inside)
        os.close(descriptor)


def _make_locked(place: Path) -> tuple[Path, int]:
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        # Until it is locked, another run may take it for abandoned and remove it.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if (directory / _LOCK).exists():
                (directory / _CONTENT).mkdir(mode=0o700)
                return directory, descriptor
            os.close(descriptor)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """Open a directory, and not through a link: what is done by its descriptor is done in it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(directory: Path, inside: int) -> None:
    shutil.rmtree(_CONTENT, ignore_errors=True, dir_fd=inside)
    os.unlink(_LOCK, dir_fd=inside)
    directory.rmdir()  # of anybody's, where it was put there meanwhile: only an empty one


def _remove_abandoned(place: Path) -> None:
    for directory in place.glob(f"{_PREFIX}{_RANDOM}"):
        with contextlib.suppress(OSError), _opened(directory) as inside:
            if os.fstat(inside).st_uid != os.getuid():
                continue
            with contextlib.suppress(OSError):
                directory.rmdir()  # killed before it was locked
            descriptor = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW, dir_fd=inside)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(directory, inside)
            finally:
                os.close(descriptor)
