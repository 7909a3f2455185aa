"""Events as plain lines, for a pod's log: no library, no cursor, a line now and then."""

from __future__ import annotations

import threading
import time

import click

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
                    click.echo(f"{verb} {item}" + (f" ({total} bytes)" if total else ""), err=True)
                case Advanced(_, step):
                    self._advance(step)
                case Finished(item, skipped):
                    click.echo(f"{'kept' if skipped else 'done'} {item}", err=True)
                case Noted(text):
                    click.echo(f"note: {text}", err=True)

    def _advance(self, step: int) -> None:
        self._bytes += step
        now = time.monotonic()
        if now - self._told >= _SECONDS_BETWEEN:
            self._told = now
            click.echo(f"{self._bytes / 1e9:.2f} GB so far", err=True)


tell_plainly = PlainLines()
