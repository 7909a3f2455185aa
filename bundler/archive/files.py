"""Files of this machine: written whole or not at all, read only where they are plain files."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bundler.archive.descriptors import open_below, open_descriptor
from bundler.archive.leftovers import hold, remove_leftovers
from bundler.archive.page_cache import Direct, DropBehind, PastCache
from bundler.archive.reader import READ_BYTES as READ_BYTES
from bundler.archive.reader import Reader
from bundler.archive.trouble import blaming
from bundler.errors import ContentError, MalformedError, printable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_TEMP_NAME_CHARS, _TEMP_SUFFIX = 40, ".partial"
# What mkstemp makes a file with; one that has another mode lies where modes are not kept.
_TEMP_MODE = 0o600


@contextmanager
def atomic_write(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when the block ends well.

    The content goes to a temporary file beside ``path``, is flushed to the disk, and replaces
    ``path`` in one step. On any exception the temporary file is removed and ``path`` is as before;
    what a writer that was killed left is removed by the next one.

    Args:
        path: The name that it takes; its directory must exist.
        mode: The file's permissions, whatever the umask is.

    Raises:
        WorldError: The directory, the disk or a limit does not let us write.
    """
    prefix = f".{path.name[:_TEMP_NAME_CHARS]}."
    remove_leftovers(path.parent, prefix=prefix, suffix=_TEMP_SUFFIX)
    with blaming(path):
        descriptor, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=prefix, suffix=_TEMP_SUFFIX
        )
    hold(descriptor)
    try:
        with _Output(descriptor, path) as raw:
            file = io.BufferedWriter(raw)
            yield file
            file.flush()
            with blaming(path):
                _set_mode(descriptor, mode)
                os.fsync(descriptor)
                Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _set_mode(descriptor: int, mode: int) -> None:
    """Set a temporary file's mode, where its file system keeps modes; FAT refuses to pretend."""
    try:
        os.fchmod(descriptor, mode)
    except PermissionError:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) == _TEMP_MODE:
            raise


def atomic_write_bytes(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a small file as ``atomic_write`` does."""
    with atomic_write(path, mode=mode) as file:
        file.write(content)


def sync_directory(path: Path) -> None:
    """Flush a directory to the disk, so that names made or changed in it survive a power cut."""
    with blaming(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_directories(path: Path) -> None:
    """Make a directory, and those on the way to it, whose names survive a power cut.

    Raises:
        WorldError: The file system does not let us, or something else has that name.
    """
    with blaming(path):
        missing = [each for each in (path, *path.parents) if not each.exists()]
        path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_directory(each.parent)


class _Output(io.FileIO):
    """A file whose errors name the path that it will have; large writes skip the page cache."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "wb")
        self._path = path
        self._direct = Direct(descriptor)
        self._past_cache = PastCache()

    def write(self, data: ReadableBuffer, /) -> int:
        with blaming(self._path):
            position = self.tell()
            count = self._direct.write(data, position)
            if count is None and memoryview(data).nbytes < READ_BYTES:
                return super().write(data) or 0
            if count is None:
                count = self._past_cache.write(self.fileno(), data, position)
            self.seek(count, os.SEEK_CUR)
            return count


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, not through a link.

    Raises:
        NotFoundError: There is none.
        MalformedError: It is a link, a directory, a device or a pipe.
        WorldError: It cannot be opened.
    """
    return os.fdopen(open_descriptor(path), "rb")


def open_source(path: Path) -> io.FileIO:
    """Open an input of a build, unbuffered: a regular file, and links are followed.

    Raises:
        NotFoundError: There is none.
        MalformedError: It is a directory, a device or a pipe.
        WorldError: It cannot be opened.
    """
    return io.FileIO(open_descriptor(path, follow=True), "rb")


def read_limited(path: Path, *, limit: int) -> bytes:
    """Read a small regular file whole, not through a link.

    Raises:
        NotFoundError: There is none.
        MalformedError: It is no regular file, or has more than ``limit`` bytes.
        WorldError: It cannot be read.
    """
    with open_regular(path) as file, blaming(path):
        # No more memory is taken than the file needs, unless it grows meanwhile.
        size = os.fstat(file.fileno()).st_size
        content = file.read(min(limit, size) + 1)
        if size < len(content) <= limit:
            content += file.read(limit + 1 - len(content))
        if len(content) > limit:
            size = max(len(content), os.fstat(file.fileno()).st_size)
            raise MalformedError(
                f"{printable(str(path))}: expected at most {limit} bytes, got {size}"
            )
        return content


def read_given(path: Path, *, limit: int) -> bytes:
    """Read a small file that a person named; that it is a link or a pipe is theirs to choose.

    Raises:
        MalformedError: It has more than ``limit`` bytes.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise MalformedError(f"{printable(str(path))}: expected at most {limit} bytes, got more")
    return content


def cut_short(path: Path, expected: int, got: int) -> ContentError:
    """Say that a file ended before the bytes that it should hold."""
    return ContentError(
        f"{printable(str(path))}: expected {expected} bytes or more, got {got}",
        hint="the file is cut short; copy it again",
    )


class RandomReader(Reader):
    """A regular file read by position, from any number of threads, with a descriptor of its own.

    Attributes:
        path: The file.
        status: What it was when it was opened.
        size: Its bytes then.

    Args:
        path: Of the file; from ``root``, where that is given.
        root: A directory; then no name on the way from there to the file may be a link.
        inside: A descriptor of ``root``, where it is open already; not closed with this.
    """

    def __init__(self, path: Path, *, root: Path | None = None, inside: int | None = None) -> None:
        self.path = path if root is None else root / path
        if root is None:
            self._descriptor = open_descriptor(path)
        else:
            self._descriptor = open_below(root, path.as_posix(), inside=inside)
        self._behind = DropBehind(self._descriptor)
        self.status = os.fstat(self._descriptor)
        self.size = self.status.st_size

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers; raises as ``Reader`` says."""
        wanted, done = sum(map(len, buffers)), 0
        while done < wanted:
            with blaming(f"{self.path} at offset {offset + done}"):
                count = os.preadv(self._descriptor, _unfilled(buffers, done), offset + done)
            if not count:
                raise cut_short(self.path, offset + wanted, offset + done)
            done += count
        self._behind.passed(offset + wanted)

    def drop_behind(self, offset: int, length: int) -> AbstractContextManager[None]:
        """Read a range in this block without leaving it in memory, unless it was there before."""
        return self._behind.range(offset, length)

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._descriptor

    def is_hole(self, offset: int, length: int) -> bool:
        """Say whether nothing was ever written to a range, as far as the file system can say."""
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA) >= offset + length
        except OSError as error:
            return error.errno == errno.ENXIO  # no data from there on

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor >= 0:
            self._behind.end()
            os.close(self._descriptor)
            self._descriptor = -1


def _unfilled(buffers: Sequence[memoryview], done: int) -> Sequence[memoryview]:
    """Give what is left of buffers whose first ``done`` bytes are filled."""
    if not done:
        return buffers
    for number, buffer in enumerate(buffers):
        if done < len(buffer):
            return [buffer[done:], *buffers[number + 1 :]]
        done -= len(buffer)
    return []
