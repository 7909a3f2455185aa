"""How long to wait for a server, when to try again, and when to give up."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MAX_DIGITS = 9  # of a Retry-After in seconds: thirty years
# What a transfer must come on by, lest a server that takes two bytes at a time keeps us for ever.
_PROGRESS = 1 << 20
# Longer waits, with what was waited before, are news to whoever watches.
_NEWS_SECONDS = 5.0
_MOST_DOUBLINGS = 60  # of a wait; far beyond any that is the longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how long something is tried again.

    Attributes:
        tries: The most attempts, the first one among them.
        base: Seconds that the first wait is shorter than; each next one may be twice as long.
        longest: Seconds that no wait of our own choice is longer than.
        budget: Seconds without progress after which nothing is tried again; waits count, and so
            does the time that failed attempts took.
        sleep: Waits that many seconds.
        clock: Gives seconds that only grow.
        draw: Gives a number from 0 up to 1, another one each time.
        now: Gives the time, to compare a server's date with.
    """

    tries: int = 10
    base: float = 0.5
    longest: float = 30.0
    budget: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How many seconds a server may do nothing.

    Attributes:
        connect: Until it takes a connection.
        idle: Until it takes the next piece of what we send, or gives the next of an answer.
        commit: Until it answers what it must first put away: a blob of many gigabytes.
        answer: Until the body of an answer is complete, or the next MiB of one that we stream,
            however it comes.
    """

    connect: float = 10.0
    idle: float = 60.0
    commit: float = 900.0
    answer: float = 300.0


@dataclass(slots=True)
class Tries:
    """The attempts at one operation, all its requests together. Time counts from its beginning.

    Attributes:
        patience: What they are held to.
        failed: How many have failed since there was progress.
        counted: How many of these are limited in number.
        spent: Seconds that went by since then, but for those in which bytes flowed.
    """

    patience: Patience
    failed: int = 0
    counted: int = 0
    spent: float = 0.0
    _best: int = field(default=0, init=False)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.patience.clock()

    def again(
        self,
        retry_after: str | None = None,
        *,
        most: int | None = None,
        counted: bool = True,
        news: Callable[[float], None] | None = None,
    ) -> bool:
        """Wait after an attempt that failed.

        Args:
            retry_after: What the server said of it, as in its header.
            most: The most attempts that are limited in number, where they are fewer than usual.
            counted: Whether this one is limited in number, and not by time alone.
            news: Told, before a wait that makes it some seconds, how many seconds are left.

        Returns:
            False, without waiting, where there is no attempt left or no time for what the server
            wants.
        """
        self.failed += 1
        self.counted += counted
        now = self.patience.clock()
        self.spent, self._since = self.spent + now - self._since, now
        asked = seconds_asked(retry_after, self.patience.now())
        wait = next_wait(self.patience, self.failed, self.spent, asked)
        limit = self.patience.tries if most is None else min(most, self.patience.tries)
        if wait is None or (counted and self.counted >= limit):
            return False
        if news is not None and self.spent + wait >= _NEWS_SECONDS:
            news(self.patience.budget - self.spent)
        self.patience.sleep(wait)
        self.spent += wait
        self._since = self.patience.clock()
        return True

    def flows(self) -> None:
        """Leave out the time until now: it went by with bytes that came or went."""
        self._since = self.patience.clock()

    def reached(self, at: int, end: int) -> bool:
        """Forget what failed where a transfer came far enough to be called progress.

        Args:
            at: Bytes that have surely arrived.
            end: Bytes in all.

        Returns:
            Whether it was: 1 MiB more than ever before, or all the rest.
        """
        if at - self._best < max(1, min(_PROGRESS, end - self._best)):
            return False
        self.failed = self.counted = 0
        self.spent, self._best = 0.0, at
        return True


def next_wait(
    patience: Patience, failed: int, spent: float, asked: float | None = None
) -> float | None:
    """Choose how long to wait: exponential, and anywhere below that, so that crowds disperse.

    Args:
        patience: The limits.
        failed: Attempts that failed so far, from 1.
        spent: Seconds that are gone so far.
        asked: Seconds that the server wants us to stay away; we add to them.

    Returns:
        Seconds; None where that is more than is left.

    Source:
        Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: full jitter.
    """
    window = min(patience.longest, patience.base * 2.0 ** min(failed - 1, _MOST_DOUBLINGS))
    wait = (asked or 0.0) + patience.draw() * window
    return wait if spent + wait <= patience.budget else None


def seconds_asked(retry_after: str | None, now: datetime) -> float | None:
    """Read a ``Retry-After`` header: seconds, or a date.

    Returns:
        Seconds from ``now``, not below 0; None where there is no header or it is neither.

    Source:
        RFC 9110, section 10.2.3.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _MAX_DIGITS else math.inf
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter of a year or a zone beyond all calendars
        return None
    if date.tzinfo is None:  # "-0000": UTC, of a clock that knows no zone
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
