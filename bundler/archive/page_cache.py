"""Keeps large reads from filling memory with pages that nobody asks for again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

_SMALLEST = 1 << 20


@contextmanager
def drop_behind(descriptor: int, offset: int, length: int) -> Iterator[None]:
    """Drop a range of a file from the page cache after the block, unless it was there before.

    Reading from a cold disk costs half as much so, and pushes out nothing that others use. The
    middle tells: the first bytes may be there because the range before was read ahead, the last
    ones because what follows was looked at.
    """
    cold = length >= _SMALLEST and not _may_be_cached(descriptor, offset + length // 2)
    yield
    if cold:
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
