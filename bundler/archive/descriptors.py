"""Opening files for reading only where they are plain files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def open_below(root: Path, path: str, *, inside: int | None = None) -> int:
    """Open a regular file below a directory; no name on the way from there may be a link.

    Args:
        root: The directory.
        path: Of the file, from there.
        inside: A descriptor of the directory, where it is open already; not closed.

    Raises:
        NotFoundError: There is none.
        MalformedError: It, or a directory on the way, is something else.
        WorldError: It cannot be opened.
    """
    with entered(root, path, inside=inside) as (directory, name):
        return _open(root / path, Path(name), directory, os.O_NOFOLLOW)


@contextmanager
def entered(
    root: Path, path: str, *, inside: int | None = None, make: bool = False
) -> Iterator[tuple[int, str]]:
    """Open the directory that a file lies in, by no name that is a link.

    Args:
        root: As for ``open_below``.
        path: As there.
        inside: As there.
        make: Whether directories that are not there are made.

    Yields:
        A descriptor of that directory, and the name of the file in it.

    Raises:
        NotFoundError, MalformedError, WorldError: As for ``open_below``.
    """
    *directories, name = path.split("/")
    with blaming(root):
        here = os.open(root, _DIRECTORY) if inside is None else os.dup(inside)
    try:
        at = root
        for part in directories:
            at /= part
            if make:
                with blaming(at), suppress(FileExistsError):
                    os.mkdir(part, dir_fd=here)
                    os.fsync(here)  # or a power cut takes the name, and what gets to lie there
            deeper = _enter(at, part, here)
            os.close(here)
            here = deeper
        yield here, name
    finally:
        os.close(here)


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
