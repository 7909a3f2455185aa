from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from bundler.publish.rate_limit import RateLimit


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("rate", [1000, 1 << 20, 1 << 30])
def test_what_goes_through_keeps_to_the_rate(rate: int) -> None:
    clock = Clock()
    limit = RateLimit(rate, clock=clock, sleep=clock.sleep)
    piece = memoryview(bytes(1 << 20))
    for _ in range(8):
        assert b"".join(limit.paced(piece)) == piece
    assert clock.now == pytest.approx(8 * (1 << 20) / rate, rel=0.01, abs=4096 / rate + 0.2)


def test_a_slow_transfer_still_flows() -> None:
    clock = Clock()
    limit = RateLimit(64 << 10, clock=clock, sleep=clock.sleep)
    times = [clock.now for _ in limit.paced(memoryview(bytes(1 << 20)))]
    assert max(after - before for before, after in pairwise(times)) < 0.2


def test_time_that_nobody_used_is_not_made_up_for() -> None:
    clock = Clock()
    limit = RateLimit(1000, clock=clock, sleep=clock.sleep)
    clock.now = 100.0
    list(limit.paced(memoryview(bytes(4000))))
    list(limit.paced(memoryview(bytes(4000))))
    assert clock.now >= 104.0


def test_threads_share_one_limit() -> None:
    limit = RateLimit(1 << 20)
    piece = memoryview(bytes(64 << 10))

    def send() -> None:
        for _ in range(2):
            list(limit.paced(piece))

    threads = [threading.Thread(target=send) for _ in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began > 0.35  # half a MiB, but for the last piece


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        RateLimit(0)
