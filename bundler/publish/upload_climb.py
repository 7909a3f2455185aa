"""How many parts go at once: found by measuring while they go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

MOST_LANES = 32
# What more lanes must gain, and what fewer may lose: a lane costs memory here and at the server.
_WORTH, _BEARABLE = 1.1, 0.97
_WINDOW_SECONDS = 2.0
_REST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """Where a search for the best number of lanes stands. It climbs while that pays, then rests.

    Attributes:
        lanes: How many to use now.
        held: How many were best so far.
        rate: Bytes per second with those; 0 before the first measurement.
        up: Whether the next try is of more, and not of fewer.
        rest: Measurements until then.
    """

    lanes: int = 4
    held: int = 4
    rate: float = 0.0
    up: bool = True
    rest: int = 0

    def measured(self, rate: float) -> Climb:
        """Go on from what ``lanes`` lanes came to, in bytes per second."""
        if self.lanes == self.held:
            settled = replace(self, rate=(self.rate + rate) / 2 if self.rate else rate)
            return replace(settled, rest=self.rest - 1) if self.rest else settled.trying()
        if rate >= self.rate * (_WORTH if self.lanes > self.held else _BEARABLE):
            return replace(self, held=self.lanes, rate=rate).trying()
        return replace(self, lanes=self.held, up=self.lanes < self.held, rest=_REST)

    def trying(self) -> Climb:
        """Try a step away from the best so far."""
        held = self.held
        lanes = held + max(1, held // 2) if self.up else held - max(1, held // 4)
        lanes = min(max(1, lanes), MOST_LANES)
        if lanes == held:  # the end of the road: the next try goes the other way
            return replace(self, up=not self.up, rest=_REST)
        return replace(self, lanes=lanes)


class Pace:
    """Measures a transfer, and says how many lanes it is to use; ``add`` from any thread.

    Args:
        clock: Gives seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._climb = Climb()
        self._lock = threading.Lock()
        self._bytes = 0
        self._begun: float | None = None

    def add(self, count: int) -> None:
        """Tell of bytes that went, or that have to go again."""
        with self._lock:
            self._bytes += count

    def lanes(self, running: int) -> int:
        """Say how many lanes there should be, given how many there are.

        To be asked often; a measurement begins when both are the same.
        """
        now = self._clock()
        with self._lock:
            if running != self._climb.lanes:
                self._begun = None
            elif self._begun is None:
                self._begun, self._bytes = now, 0
            elif now - self._begun >= _WINDOW_SECONDS:
                self._climb = self._climb.measured(max(0, self._bytes) / (now - self._begun))
                self._begun = None
            return self._climb.lanes
