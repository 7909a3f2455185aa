"""How far a run is, how fast it goes and what it is at: counted from its events, shown nowhere."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bundler.events import Advanced, Event, Finished, Planned, Started
from bundler.sizes import size_text

# What the rate is taken over: long enough for a part to come whole, short enough to see a stall.
_WINDOW_SECONDS = 30.0
_LEAST_SECONDS = 1.0


@dataclass(slots=True)
class Item:
    """What was begun and has not ended.

    Attributes:
        verb, name: What is done, to what.
        total: Bytes; None where that is not known.
        begun: When, on the tally's clock; of what has a size, when its first bytes came.
        done: Bytes.
    """

    verb: str
    name: str
    total: int | None
    begun: float
    done: int = 0

    @property
    def is_under_way(self) -> bool:
        """Whether something of it is done and something is not, as far as one can tell."""
        return self.total is None or 0 < self.done < self.total


class Tally:
    """Adds up the events of a run; any thread may call.

    Args:
        clock: Gives seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        self._planned = self._begun = self._done = self._moved = 0
        self._samples = deque([(clock(), 0)])

    def take(self, event: Event) -> Item | None:
        """Count an event; gives the item that ends with it, if one does."""
        with self._lock:
            match event:
                case Planned(total):
                    self._planned += total
                case Started(verb, name, total):
                    self._end(name)
                    self._begun += total or 0
                    self._items[name] = Item(verb, name, total, self._clock())
                case Advanced(name, step) if name in self._items:
                    self._advance(self._items[name], step)
                case Finished(name):
                    return self._end(name)
            return None

    def unfinished(self) -> list[Item]:
        """Give what has begun and not ended, in that order."""
        with self._lock:
            return list(self._items.values())

    def under_way(self) -> list[Item]:
        """Give what goes on now: neither what waits for its turn, nor what waits to be closed."""
        items = self.unfinished()
        return [item for item in items if item.is_under_way] or [i for i in items if i.done]

    def seconds(self, item: Item) -> float:
        """Say how long an item takes so far."""
        return self._clock() - item.begun

    def share(self) -> tuple[int, int]:
        """Give the bytes that are done, and all of them; 0 of 0 where no size is known."""
        with self._lock:
            return max(0, self._done), max(self._planned, self._begun)

    def rate(self) -> float | None:
        """Give bytes per second of late; None before there is anything to measure."""
        with self._lock:
            self._sample()
            (begun, before), now = self._samples[0], self._clock()
            if now - begun < _LEAST_SECONDS:
                return None
            return max(0, self._moved - before) / (now - begun)

    def text(self) -> str:
        """Say in words how far the run is, how fast it goes and how long it will take."""
        (done, total), rate = self.share(), self.rate()
        told = f"{size_text(done)} of {size_text(total)} ({percent(done, total)} %)"
        if rate is not None:
            told += f", {size_text(int(rate))}/s"
        if rate and done < total:
            told += f", {clock_text((total - done) / rate)} left"
        return told

    def _advance(self, item: Item, step: int) -> None:
        if item.total is not None:
            now = self._clock()
            if not self._moved:  # what came before says nothing of how fast bytes go
                self._samples = deque([(now, step)])
            if not item.done:
                item.begun = now
            self._done += step
            self._moved += step
            self._sample()
        item.done += step

    def _end(self, name: str) -> Item | None:
        """Take an item out; what it was spared counts as done, and moved nothing."""
        item = self._items.pop(name, None)
        if item is not None and item.total is not None:
            self._done += item.total - item.done
        return item

    def _sample(self) -> None:
        now = self._clock()
        if now - self._samples[-1][0] >= _LEAST_SECONDS:
            self._samples.append((now, self._moved))
        while len(self._samples) > 1 and self._samples[1][0] <= now - _WINDOW_SECONDS:
            self._samples.popleft()


def percent(done: int, total: int) -> int:
    """Give a share in whole percents, 100 for all of it only."""
    return 100 * done // total if total else 100


def clock_text(seconds: float) -> str:
    """Write a time as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
