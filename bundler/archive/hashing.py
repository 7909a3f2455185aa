"""Hashing on all cores: hashlib lets other threads run while it works."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from bundler.archive.reader import Reader
from bundler.digest import Digest
from bundler.errors import ContentError, MediumError

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

J = TypeVar("J")
R = TypeVar("R")
_AHEAD = 8
_WORTH_TELLING_SECONDS = 5.0
_PROBE_BYTES = 4 << 20


def in_threads(
    work: Callable[[J], R],
    jobs: Iterable[J],
    *,
    ahead: int = _AHEAD,
    most: int | None = None,
) -> Iterator[R]:
    """Do jobs on every core that we may use, and give the results in the order of the jobs.

    Only a few jobs are ahead of what was taken, so memory does not grow with their number. An
    exception of a job is raised where its result would be, and ends the others.

    Args:
        work: Does one job.
        jobs: Taken as they are needed.
        ahead: How many results a core may be ahead.
        most: How many cores are used at most, where results take much memory.
    """
    threads = min(len(os.sched_getaffinity(0)), most or sys.maxsize)
    window: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                window.append(pool.submit(work, job))
                if len(window) > ahead * threads:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for future in window:
                future.cancel()


def hashing_text(seconds: float) -> str:
    """Tell the least time that hashing takes, behind what else is told; nothing of a moment."""
    return f", at least {seconds:.0f} s of hashing" if seconds >= _WORTH_TELLING_SECONDS else ""


def digest_of(reader: Reader, offset: int, length: int, *, keep: bool = False) -> Digest:
    """Hash a range of a file; ``keep`` leaves it in memory. Raises as ``feed`` does."""
    whole = hashlib.sha256()
    feed(whole, reader, offset, length, keep=keep)
    return Digest(whole.hexdigest())


def digest_or_damage(reader: Reader, offset: int, length: int) -> str:
    """Hash a range, or say why its bytes cannot be had, as a fault tells it.

    Raises:
        WorldError: The disk fails in another way than by a bad spot.
    """
    try:
        return str(digest_of(reader, offset, length))
    except (ContentError, MediumError) as error:
        return f"damage ({error})"


def feed(whole: Hash, reader: Reader, offset: int, length: int, *, keep: bool = False) -> None:
    """Give a range of a file to a hash, in reads of 1 MiB.

    Raises:
        ContentError: The file ends before the range does.
        WorldError: The disk fails; the message names the offset.
    """
    for piece in reader.pieces(offset, length, keep=keep):
        whole.update(piece)


def probe_hashing() -> float:
    """Measure, in some milliseconds, how many bytes a second this machine's cores can hash."""
    data = bytes(_PROBE_BYTES)
    begun = time.perf_counter()
    hashlib.sha256(data).digest()
    return len(os.sched_getaffinity(0)) * _PROBE_BYTES / (time.perf_counter() - begun)
