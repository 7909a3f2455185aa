"""Writes one file while other threads hash it, so that every byte is read once."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from mmap import mmap
from typing import TYPE_CHECKING, BinaryIO, Self

from bundler.digest import Digest

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_BUFFER_BYTES = 4 << 20
_BUFFERS = 4
_EXTRA_HASHES = 2


class HashingWriter:
    """A file that is written, and hashed as a whole, behind the back of who fills it.

    Bytes go into a ring of buffers. One thread writes them, one hashes them all, and one each
    feeds the first and the second hash that a range was given: a hash sees its ranges in order.
    An error of a thread is raised by the next call here. Leaving the block ends the threads.
    Buffers begin with a page of memory and are written whole, all but the last, as writes past the
    page cache must be.

    Attributes:
        offset: Bytes taken so far.

    Args:
        out: Written from another thread until ``finish`` returns; not closed. None to
            hash only.
    """

    def __init__(self, out: BinaryIO | None) -> None:
        self.offset = 0
        self._out = out
        self._whole = hashlib.sha256()
        self._threads = [ThreadPoolExecutor(1) for _ in range(2 + _EXTRA_HASHES)]
        self._buffers = [memoryview(mmap(-1, _BUFFER_BYTES)) for _ in range(_BUFFERS)]
        self._work: list[list[Future[None]]] = [[] for _ in range(_BUFFERS)]
        self._ranges: list[list[tuple[Hash, memoryview]]] = [[] for _ in range(_EXTRA_HASHES)]
        self._current = 0
        self._used = 0
        self._hashed = 0

    def room(self, limit: int) -> memoryview:
        """Give memory for the next bytes, at least one and at most ``limit`` of them."""
        if self._used == _BUFFER_BYTES:
            self._pass_on()
        return self._buffers[self._current][self._used :][:limit]

    def filled(self, count: int, *hashes: Hash) -> None:
        """Take the first ``count`` bytes of what ``room`` gave, also into these hashes."""
        view = self._buffers[self._current][self._used : self._used + count]
        for ranges, one in zip(self._ranges, hashes, strict=False):
            ranges.append((one, view))
        self._used += count
        self.offset += count

    def write(self, data: bytes | memoryview, *hashes: Hash) -> None:
        """Take a copy of some bytes, also into these hashes."""
        left = memoryview(data)
        while left:
            room = self.room(len(left))
            count = len(room)
            room[:] = left[:count]
            self.filled(count, *hashes)
            left = left[count:]

    def drain(self) -> None:
        """Wait until everything taken so far is hashed."""
        self._hash()
        for work in self._work:
            _wait(work)

    def finish(self) -> Digest:
        """Wait until everything is written and hashed, and give the digest of the whole file."""
        self._pass_on()
        self.drain()
        return Digest(self._whole.hexdigest())

    def _pass_on(self) -> None:
        self._hash()
        view = self._buffers[self._current][: self._used]
        self._work[self._current].append(self._threads[0].submit(self._write, view))
        self._current = (self._current + 1) % _BUFFERS
        self._used = self._hashed = 0
        _wait(self._work[self._current])

    def _hash(self) -> None:
        view = self._buffers[self._current][self._hashed : self._used]
        self._hashed = self._used
        ranges, self._ranges = self._ranges, [[] for _ in range(_EXTRA_HASHES)]
        _, hasher, *others = self._threads
        work = self._work[self._current]
        work.append(hasher.submit(self._whole.update, view))
        work += (thread.submit(_update, some) for thread, some in zip(others, ranges, strict=True))

    def _write(self, view: memoryview) -> None:
        if self._out is not None:
            self._out.write(view)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)


def _update(ranges: list[tuple[Hash, memoryview]]) -> None:
    for one, view in ranges:
        one.update(view)


def _wait(work: list[Future[None]]) -> None:
    for future in work:
        future.result()
    work.clear()
