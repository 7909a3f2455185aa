"""Holding a transfer to a number of bytes per second, however many threads take part in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

# What one piece may take of a second, so that a slow transfer still flows, and nobody who waits
# for it at the other end thinks that it stalled.
_PIECE_SECONDS = 0.125
_SMALLEST = 4 << 10


class RateLimit:
    """A limit that all who share it keep together; any thread.

    Args:
        bytes_per_second: The limit; 1 or more.
        clock: Gives seconds that only grow.
        sleep: Waits that many seconds.
    """

    def __init__(
        self,
        bytes_per_second: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if bytes_per_second < 1:
            raise ValueError(f"rate of {bytes_per_second} bytes per second: expected 1 or more")
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free = clock()
        self._piece = max(_SMALLEST, int(bytes_per_second * _PIECE_SECONDS))

    @property
    def bytes_per_second(self) -> int:
        """The limit."""
        return self._rate

    def paced(self, piece: memoryview) -> Iterator[memoryview]:
        """Give a piece in smaller ones, each as soon as it may go."""
        for begin in range(0, len(piece), self._piece):
            part = piece[begin : begin + self._piece]
            self._wait(len(part))
            yield part

    def _wait(self, count: int) -> None:
        with self._lock:
            now = self._clock()
            begin = max(now, self._free)
            self._free = begin + count / self._rate
        if begin > now:
            self._sleep(begin - now)
