"""Work that goes on side by side, and stops together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from bundler.errors import WorldError
from bundler.process import end_children

T = TypeVar("T")
# How often whoever waits looks up, and programs are ended after a signal.
_POLL_SECONDS = 0.1
# How long threads are waited for that sit in a call to a server, when nobody needs them any more.
_PATIENCE_SECONDS = 1.0
_NO_END = float("inf")


class StoppedError(WorldError):
    """Other work failed meanwhile, so this was left for the next run."""


def side_by_side(stop: threading.Event, *work: Callable[[], object]) -> None:
    """Do several pieces of work at once.

    Args:
        stop: Set as soon as one fails, or a signal ends us; the others are to give up then.
        work: What to do, each in a thread of its own.

    Raises:
        BundleError: Of the first piece that failed by itself.
        StoppedError: ``stop`` was set by somebody else before all was done.
    """
    crew = _Crew(lambda piece: piece(), work, stop)
    crew.start(len(work))
    try:
        crew.wait(_NO_END)
    except BaseException:  # a signal: whoever waits for a program would not see it
        stop.set()
        crew.wait(_PATIENCE_SECONDS, end_children)
        raise
    finally:
        stop.set()
    crew.require_done()


def for_each(
    work: Callable[[T], object],
    items: Iterable[T],
    *,
    threads: int | Callable[[int], int],
    stop: threading.Event,
) -> None:
    """Do the same work on each item, several at once, begun in their order.

    Args:
        work: What to do.
        items: With what.
        threads: How many at once; or what says so, asked ten times a second, given how many there
            are. Where there are too many, one ends with the item that it has.
        stop: Set as soon as one fails; set by others to stop this.

    Raises:
        BundleError: Of the first item that failed by itself; ``stop`` is set then.
        StoppedError: ``stop`` was set before all was done. A thread that sits in a call to a
            server is left behind, and ends with that call.
    """
    todo = list(items)
    crew = _Crew(work, todo, stop)
    wanted = threads if callable(threads) else lambda _: threads
    crew.start(min(wanted(0), len(todo)))
    try:
        crew.wait(_PATIENCE_SECONDS, wanted=wanted)
    except BaseException:
        stop.set()
        raise
    crew.require_done()


class _Crew(Generic[T]):
    """Threads that take items until there are none, one fails or ``stop`` is set.

    They are daemons: none of them keeps a process alive that a signal ends.
    """

    def __init__(
        self, work: Callable[[T], object], items: Sequence[T], stop: threading.Event
    ) -> None:
        self.left = len(items)
        self._work = work
        self._items = deque(items)
        self._stop = stop
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._wanted = 0

    def start(self, count: int) -> None:
        self._wanted = self._running = count
        for _ in range(count):
            self._threads.append(threading.Thread(target=self._run, daemon=True))
            self._threads[-1].start()

    def wait(
        self,
        patience: float,
        meanwhile: Callable[[], None] = lambda: None,
        wanted: Callable[[int], int] | None = None,
    ) -> None:
        """Wait for the threads' end, but no longer than ``patience`` once ``stop`` is set."""
        stopped: float | None = None
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
                if wanted is not None:
                    self._resize(wanted)
                if not self._stop.is_set():
                    continue
                meanwhile()
                stopped = stopped or time.monotonic()
                if time.monotonic() - stopped > patience:
                    return

    def require_done(self) -> None:
        """Raise what failed by itself, or that not all is done."""
        for error in sorted(self._errors, key=lambda error: isinstance(error, StoppedError)):
            raise error
        if self.left:
            raise StoppedError("not finished, since other work failed")

    def _resize(self, wanted: Callable[[int], int]) -> None:
        with self._lock:
            self._wanted = wanted(self._running)
            more = min(self._wanted - self._running, len(self._items))
            self._running += max(0, more)
        for _ in range(more):
            self._threads.append(threading.Thread(target=self._run, daemon=True))
            self._threads[-1].start()

    def _is_one_too_many(self) -> bool:
        with self._lock:
            if self._running <= self._wanted:
                return False
            self._running -= 1
            return True

    def _run(self) -> None:
        while not self._stop.is_set() and not self._is_one_too_many():
            try:
                item = self._items.popleft()
            except IndexError:
                return
            try:
                self._work(item)
                with self._lock:
                    self.left -= 1
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                self._errors.append(error)
                self._stop.set()
