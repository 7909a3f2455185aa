"""A directory that is written to, held open: whoever swaps names meanwhile redirects nothing.

Every name below it is reached from its descriptor, one directory after the other, through no link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from bundler.archive.descriptors import entered
from bundler.archive.files import RandomReader
from bundler.archive.trouble import blaming
from bundler.errors import MalformedError, printable

# Never wait for the other end of what is no file.
_WRITE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class HeldDirectory:
    """Files below one directory; ``name`` is a relative POSIX path. Any thread may use it.

    All methods raise MalformedError where a link or another thing than a directory is on the way,
    and WorldError, which names the path, where the operating system refuses.

    Args:
        path: What to call it in errors.
        descriptor: Of the directory; not closed.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._descriptor

    @property
    def device(self) -> int:
        """The file system that it is on."""
        return os.fstat(self._descriptor).st_dev

    def room(self) -> os.statvfs_result:
        """Ask what its file system has."""
        with blaming(self.path):
            return os.statvfs(self._descriptor)

    def make_parents(self, name: str) -> None:
        """Make the directories that a file is to lie in."""
        with entered(self.path, name, inside=self._descriptor, make=True):
            pass

    def status(self, name: str) -> os.stat_result | None:
        """Look at what has a name, not through a link; None where nothing has it."""
        with self._entered(name) as (directory, last):
            try:
                return os.stat(last, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def reader(self, name: str) -> RandomReader:
        """Open a regular file for reading; NotFoundError where there is none."""
        return RandomReader(Path(name), root=self.path, inside=self._descriptor)

    @contextmanager
    def writing(self, name: str, flags: int = 0) -> Iterator[int]:
        """Open a regular file for writing, as a descriptor; ``flags`` as ``os.open`` has them."""
        with self._entered(name) as (directory, last):
            descriptor = os.open(last, _WRITE | flags, 0o644, dir_fd=directory)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                place = printable(str(self.path / name))
                raise MalformedError(f"{place}: expected a regular file, got something else")
            yield descriptor
        finally:
            os.close(descriptor)

    def rename(self, name: str, new: str) -> None:
        """Give a file another name; ``new`` is its last part, the directory stays the same."""
        with self._entered(name) as (directory, last):
            os.rename(last, new, src_dir_fd=directory, dst_dir_fd=directory)

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        with self._entered(name) as (directory, last), suppress(FileNotFoundError):
            os.unlink(last, dir_fd=directory)

    def link(self, name: str, other: HeldDirectory, other_name: str) -> None:
        """Give a file a second name in another directory; OSError where that cannot be."""
        with (
            entered(self.path, name, inside=self._descriptor) as (directory, last),
            entered(other.path, other_name, inside=other._descriptor) as (target, new),
        ):
            os.link(last, new, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)

    def sync_parents(self, names: Iterable[str]) -> None:
        """Flush the directories of some files, so that their names survive a power cut."""
        for parent in sorted({PurePosixPath(name).parent for name in names}):
            with self._entered(str(parent / "_")) as (directory, _):
                os.fsync(directory)

    @contextmanager
    def _entered(self, name: str) -> Iterator[tuple[int, str]]:
        with (
            entered(self.path, name, inside=self._descriptor) as found,
            blaming(self.path / name),
        ):
            yield found
