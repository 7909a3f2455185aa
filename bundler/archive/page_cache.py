"""Keeps large reads and writes from filling memory with pages that nobody asks for again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_SMALLEST = 1 << 20
_STEP = 4 << 20
_PAGE = 4096
# Source: Linux, include/uapi/linux/fs.h, RWF_DONTCACHE (6.14): written pages leave the page cache.
_RWF_DONTCACHE = 0x80


class PastCache:
    """Writes past the page cache, where kernel and file system can; any thread may use it.

    Attributes:
        works: False from the first write on that could only be done plainly.

    Args:
        wanted: False to write plainly from the start.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self.works = wanted

    def write(self, descriptor: int, data: ReadableBuffer, offset: int) -> int:
        """Write some bytes at a position; gives how many, as ``os.pwrite`` does."""
        if not self.works:
            return os.pwrite(descriptor, data, offset)
        try:
            return os.pwritev(descriptor, [data], offset, _RWF_DONTCACHE)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                raise
        self.works = False  # an older kernel, or a file system that does not know it
        return os.pwrite(descriptor, data, offset)


class Direct:
    """Writes from memory straight to the disk (O_DIRECT), for one thread.

    That costs a third of the processor time of RWF_DONTCACHE, and works on any kernel; but memory,
    position and length must be multiples of a page, and not every file system can.

    Args:
        descriptor: Of the file; its flag is as it was before each write that is not direct.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._works = True
        self._on = False

    def write(self, data: ReadableBuffer, offset: int) -> int | None:
        """Write some bytes; gives how many, or None where it must be done in another way."""
        size = memoryview(data).nbytes
        if not self._works or not size or (size | offset) % _PAGE:
            self._set(on=False)
            return None
        try:
            self._set(on=True)
            return os.pwrite(self._descriptor, data, offset)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                raise
        self._works = False  # such memory, or such a file system
        self._set(on=False)
        return None

    def _set(self, *, on: bool) -> None:
        if on != self._on:
            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & ~os.O_DIRECT
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | (os.O_DIRECT if on else 0))
            self._on = on


class DropBehind:
    """Drops what is read of a file from the page cache again, unless it was there before.

    Reading from a cold disk costs half as much so, and pushes out nothing that others use. Any
    thread may use it.

    Args:
        descriptor: Of the file; open until ``end``.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dropped: list[tuple[int, int]] = []
        self._reading = threading.local()

    @contextmanager
    def range(self, offset: int, length: int) -> Iterator[None]:
        """Read a range in this block, from its first byte to its last."""
        with dropping(self._descriptor, offset, length) as passing:
            self._reading.now = offset, passing
            yield
        self._reading.now = None
        if passing.cold:
            self._dropped.append((offset, offset + length))

    def passed(self, end: int) -> None:
        """Tell up to where this thread has read."""
        now = getattr(self._reading, "now", None)
        if now is not None:
            offset, passing = now
            passing(end - offset)

    def end(self) -> None:
        """Drop what was read ahead into a range after that was dropped, and across two of them.

        The kernel drops whole folios only, and one may be of the end of a range and of the next.
        """
        begin = last = 0
        for offset, end in sorted(self._dropped):
            if offset > last:
                _drop(self._descriptor, begin, last - begin)
                begin = offset
            last = max(last, end)
        if last:
            _drop(self._descriptor, begin, last - begin)


class Passing:
    """A range that is being read: call it with how many of its bytes were."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self.cold = _is_cold(descriptor, offset, length)
        self._descriptor = descriptor
        self._offset = offset
        self._done = 0

    def __call__(self, count: int) -> None:
        """Take it that so many bytes were read, from the first on."""
        if self.cold and count - self._done >= _STEP:
            _drop(self._descriptor, self._offset + self._done, count - self._done)
            self._done = count


@contextmanager
def dropping(descriptor: int, offset: int, length: int) -> Iterator[Passing]:
    """Drop a range as ``DropBehind`` does, and while it is read already.

    Yields:
        To be told how many bytes of the range were read: those go while the next ones come, which
        then take their place in memory.
    """
    passing = Passing(descriptor, offset, length)
    yield passing
    if passing.cold:
        _drop(descriptor, offset, length)


def _is_cold(descriptor: int, offset: int, length: int) -> bool:
    """Say whether a range is large and not in memory.

    The middle tells: the first bytes may be there because the range before was read ahead, the
    last ones because what follows was looked at.
    """
    return length >= _SMALLEST and not _may_be_cached(descriptor, offset + length // 2)


def _drop(descriptor: int, offset: int, length: int) -> None:
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def _may_be_cached(descriptor: int, offset: int) -> bool:
    try:
        os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True  # this file system cannot say
    return True
