"""Opening files for reading only where they are plain files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.archive.trouble import blaming, world_error
from bundler.errors import MalformedError, printable

# Without O_NONBLOCK, opening a pipe would wait for its writer.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


def open_descriptor(path: Path, *, follow: bool = False) -> int:
    """Open a regular file for reading.

    Args:
        path: The file.
        follow: Whether its name may be a link to it.

    Raises:
        NotFoundError: There is none.
        MalformedError: It is a link, a directory, a device or a pipe.
        WorldError: It cannot be opened.
    """
    return _open(path, path, None, 0 if follow else os.O_NOFOLLOW)


def open_below(root: Path, path: str) -> int:
    """Open a regular file below a directory; no name on the way from there may be a link.

    Raises:
        NotFoundError: There is none.
        MalformedError: It, or a directory on the way, is something else.
        WorldError: It cannot be opened.
    """
    *directories, name = path.split("/")
    with blaming(root):
        inside = os.open(root, _DIRECTORY)
    try:
        at = root
        for part in directories:
            at /= part
            deeper = _enter(at, part, inside)
            os.close(inside)
            inside = deeper
        return _open(root / path, Path(name), inside, os.O_NOFOLLOW)
    finally:
        os.close(inside)


def _enter(path: Path, name: str, inside: int) -> int:
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=inside)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise MalformedError(
                f"{printable(str(path))}: expected a directory, got a file or a symbolic link"
            ) from error
        raise world_error(path, error) from error


def _open(path: Path, name: Path, inside: int | None, flags: int) -> int:
    with _explained(path):
        descriptor = os.open(name, _READ | flags, dir_fd=inside)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise MalformedError(
                f"{printable(str(path))}: expected a regular file, got a symbolic link"
            ) from error
        if error.errno in {errno.ENXIO, errno.ENODEV}:
            raise _not_regular(path) from error
        raise world_error(path, error) from error


def _not_regular(path: Path) -> MalformedError:
    kind = "a directory" if path.is_dir() else "a device, pipe or socket"
    return MalformedError(f"{printable(str(path))}: expected a regular file, got {kind}")
