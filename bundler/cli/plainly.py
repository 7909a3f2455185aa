"""Events as plain lines, for logs and pods: no library, no cursor, a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager
from importlib.util import find_spec
from types import TracebackType
from typing import Self

import click

from bundler.cli.progress import Item, Tally, clock_text
from bundler.errors import printable
from bundler.events import Emit, Event, Finished, Noted, Waiting

_SECONDS_BETWEEN = 30.0
_WAIT_LINE_SECONDS = 2.0
_UNFINISHED_SHOWN = 4


def open_lines() -> AbstractContextManager[Emit]:
    """Show events where the library for screens may be missing: it is used on a terminal only."""
    if sys.stderr.isatty() and find_spec("rich") is not None:
        from bundler.cli.render import Watcher

        return Watcher()
    return PlainLines()


def tell_note(text: str) -> None:
    """Write a note of a library that knows of no events; what moves on a screen makes room."""
    click.echo(f"note: {printable(text)}", err=True)


class PlainLines:
    """Tells on standard error what has ended, from the start of a block to its end.

    In between it tells from time to time how far all of it is; any thread may tell events.

    Args:
        every: Seconds from one such line to the next.
    """

    def __init__(self, every: float = _SECONDS_BETWEEN) -> None:
        self.tally = Tally()
        self._every = every
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._teller = threading.Thread(target=self._tell_progress, daemon=True)
        self._waited = 0.0
        self._said: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self._teller.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        # A thread that is left when Python ends is ended by what a small image may not have.
        if self._teller.is_alive():
            self._teller.join()
        if kind is not None:  # what was nearly done a moment ago says nothing of an end
            self._tell_unfinished()

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        ended = self.tally.take(event)
        with self._lock:
            match event:
                case Finished(name, skipped, wrong):
                    took = f"{self.tally.seconds(ended):.1f} s" if ended else "done"
                    took = "there already" if skipped else took
                    self._end(ended, name, "is not what was signed" if wrong else took)
                case Noted(text):
                    self.say(f"note: {text}")
                case Waiting(lines):
                    self.wait_for(lines)

    def say(self, text: str) -> None:
        """Write a line."""
        click.echo(printable(text), err=True)

    def wait_for(self, lines: tuple[str, ...]) -> None:
        """Tell how things stand that are waited for, where that is news."""
        now = time.monotonic()
        if now - self._waited < _WAIT_LINE_SECONDS:
            return
        self._waited = now
        for line in lines:
            if line not in self._said:
                self.say(f"waiting: {line}")
        self._said = lines

    def _end(self, ended: Item | None, name: str, how: str) -> None:
        self.say(f"{ended.verb if ended else ''} {name}: {how}".lstrip())

    def _tell_unfinished(self) -> None:
        left = self.tally.unfinished()
        for item in left[:_UNFINISHED_SHOWN]:
            self.say(f"{item.verb} {item.name}: not finished")
        if len(left) > _UNFINISHED_SHOWN:
            self.say(f"and {len(left) - _UNFINISHED_SHOWN} more: not finished")

    def _tell_progress(self) -> None:
        while not self._over.wait(self._every):
            line = progress_line(self.tally)
            with self._lock:
                if line and not self._over.is_set():
                    self.say(line)


def progress_line(tally: Tally) -> str:
    """Say how far a run is, and what it is at; nothing where nothing goes on."""
    left, now = tally.unfinished(), tally.under_way()
    if any(item.total for item in left):
        at = f"; {now[0].verb} {now[0].name}" if now else ""
        more = f" and {len(now) - 1} more" if len(now) > 1 else ""
        return f"{tally.text()}{at}{more}"
    return f"{now[0].verb} {now[0].name}: {clock_text(tally.seconds(now[0]))} so far" if now else ""
