"""Threads that stop together, and never keep anybody waiting."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from bundler.errors import ConflictError, WorldError
from bundler.publish.together import StoppedError, for_each, side_by_side


def test_every_item_is_done_once_and_begun_in_order() -> None:
    begun: list[int] = []
    for_each(begun.append, range(50), threads=1, stop=threading.Event())
    assert begun == list(range(50))
    done: list[int] = []
    for_each(done.append, range(500), threads=8, stop=threading.Event())
    assert sorted(done) == list(range(500))


def test_as_many_at_once_as_asked_for() -> None:
    meet = threading.Barrier(3, timeout=10)
    for_each(lambda _: meet.wait(), range(3), threads=3, stop=threading.Event())


def test_the_first_failure_is_raised_and_nothing_more_is_begun() -> None:
    stop = threading.Event()
    begun: list[int] = []

    def fail(item: int) -> None:
        begun.append(item)
        if item == 2:
            raise ConflictError("two")
        if stop.is_set():
            raise StoppedError("other work failed")

    with pytest.raises(ConflictError, match="two"):
        for_each(fail, range(1000), threads=2, stop=stop)
    assert stop.is_set()
    assert len(begun) < 1000


def test_what_was_stopped_before_its_end_says_so() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        for_each(print, [1], threads=1, stop=stop)
    for_each(print, [], threads=1, stop=stop)


def test_a_thread_that_sits_in_a_call_does_not_hold_a_failure_back() -> None:
    never = threading.Event()

    def work(item: int) -> None:
        if item:
            raise WorldError("gone")
        never.wait(60)

    began = time.monotonic()
    with pytest.raises(WorldError, match="gone"):
        for_each(work, [0, 1], threads=2, stop=threading.Event())
    assert time.monotonic() - began < 20
    never.set()


def test_the_number_of_threads_follows_what_is_wanted() -> None:
    lock, seen, running = threading.Lock(), dict[int, int](), 0

    def work(item: int) -> None:
        nonlocal running
        with lock:
            running += 1
            seen[item] = running
        time.sleep(0.02)
        with lock:
            running -= 1

    def wanted(there: int) -> int:
        return 2 if len(seen) < 50 else 6 if len(seen) < 200 else 1

    for_each(work, range(300), threads=wanted, stop=threading.Event())
    assert len(seen) == 300
    assert max(seen[item] for item in range(50)) <= 2
    assert max(seen[item] for item in range(100, 200)) == 6
    assert {seen[item] for item in range(290, 300)} == {1}


def test_side_by_side_raises_what_failed_by_itself() -> None:
    stop = threading.Event()

    def gives_up() -> None:
        stop.wait(60)
        raise StoppedError("other work failed")

    def fails() -> None:
        raise ConflictError("mine")

    with pytest.raises(ConflictError, match="mine"):
        side_by_side(stop, gives_up, fails)
    with pytest.raises(StoppedError):
        side_by_side(stop, lambda: for_each(print, [1], threads=1, stop=stop))


_INTERRUPTED = """
import threading, time, signal, os
from bundler.publish.together import for_each, side_by_side
stop = threading.Event()
threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
begun = time.monotonic()
try:
    side_by_side(stop, lambda: for_each(lambda _: time.sleep(600), [1], threads=1, stop=stop))
except KeyboardInterrupt:
    print("interrupted", stop.is_set())
"""


def test_an_interrupt_ends_a_process_whose_threads_sit_in_calls() -> None:
    # Whoever started the tests in the background may have had SIGINT ignored.
    argv = ["env", "--default-signal=INT", sys.executable, "-c", _INTERRUPTED]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "interrupted True\n"
