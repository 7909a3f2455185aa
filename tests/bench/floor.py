"""The least that building a checkpoint can take here: a program that does no more than it must.

``python floor.py OUT FILE…`` reads each byte once, writes it once past the page cache, flushes it,
and hashes as much as the digests of archive, files and parts need, on all cores. Nobody waits for
anybody: what is hashed is one piece of memory, again and again, and OUT has no headers.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import queue
import sys
import threading
from collections.abc import Iterator

DIGESTS = 3  # of every byte: the archive's, its file's, its part's
_JOB = 64 << 20
_HASHED = 1 << 20
_COPIED = 4 << 20
_COPIERS = 2
_BLOCK = 4096


def hash_jobs(jobs: queue.SimpleQueue[int]) -> None:
    """Hash as many bytes as each job says, until there is none."""
    content = memoryview(os.urandom(_HASHED))
    while True:
        try:
            left = jobs.get_nowait()
        except queue.Empty:
            return
        whole = hashlib.sha256()
        while left > 0:
            whole.update(content[:left])
            left -= _HASHED


def copy_jobs(out: int, jobs: queue.SimpleQueue[tuple[int, int, int, int]], drop: bool) -> None:
    """Copy ranges: from a file and its offset to an offset of the output, so many bytes.

    What was not in memory is dropped behind, since reading from a disk costs half as much so.
    """
    with mmap.mmap(-1, _COPIED) as space, memoryview(space) as view:
        while True:
            try:
                source, begin, end, length = jobs.get_nowait()
            except queue.Empty:
                return
            with view[:length] as wanted:
                os.preadv(source, [wanted], begin)
            if drop:
                os.posix_fadvise(source, begin, length, os.POSIX_FADV_DONTNEED)
            with view[: -(-length // _BLOCK) * _BLOCK] as padded:
                os.pwritev(out, [padded], end)


def ranges(sources: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Cut files into what is copied at once; each begins at a whole block of the output."""
    end = 0
    for source in sources:
        size = os.fstat(source).st_size
        for begin in range(0, size, _COPIED):
            length = min(_COPIED, size - begin)
            yield source, begin, end, length
            end += -(-length // _BLOCK) * _BLOCK


def is_cold(source: int) -> bool:
    """Say whether a file is surely not in memory."""
    try:
        os.preadv(source, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def create(path: str) -> int:
    """Open the output; not past the page cache where the file system has no such way."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError:
        return os.open(path, flags, 0o600)


def main() -> None:
    """Do all of it at once."""
    out = create(sys.argv[1])
    sources = [os.open(path, os.O_RDONLY) for path in sys.argv[2:]]
    hashing: queue.SimpleQueue[int] = queue.SimpleQueue()
    copying: queue.SimpleQueue[tuple[int, int, int, int]] = queue.SimpleQueue()
    total = DIGESTS * sum(os.fstat(source).st_size for source in sources)
    for begin in range(0, total, _JOB):
        hashing.put(min(_JOB, total - begin))
    for job in ranges(sources):
        copying.put(job)
    work = (out, copying, any(map(is_cold, sources)))
    threads = [threading.Thread(target=copy_jobs, args=work) for _ in range(_COPIERS)]
    for _ in os.sched_getaffinity(0):
        threads.append(threading.Thread(target=hash_jobs, args=(hashing,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.fsync(out)


if __name__ == "__main__":
    main()
