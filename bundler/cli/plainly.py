"""Events as plain lines, for a pod's log: no library, no cursor, a line now and then."""

from __future__ import annotations

import threading
import time

import click

from bundler.errors import printable
from bundler.events import Advanced, Event, Finished, Noted, Started

_SECONDS_BETWEEN = 10.0


class PlainLines:
    """Tells when each item begins and ends, and every ten seconds how many bytes have come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._told = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Tell one event; any thread may call."""
        with self._lock:
            match event:
                case Started(verb, item, total):
                    _say(f"{verb} {item}" + (f" ({total} bytes)" if total else ""))
                case Advanced(_, step):
                    self._advance(step)
                case Finished(item, skipped):
                    _say(f"{'kept' if skipped else 'done'} {item}")
                case Noted(text):
                    _say(f"note: {text}")

    def _advance(self, step: int) -> None:
        self._bytes += step
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN:
            self._told = now
            _say(f"{self._bytes / 1e9:.2f} GB so far")


def _say(text: str) -> None:
    click.echo(printable(text), err=True)


tell_plainly = PlainLines()
