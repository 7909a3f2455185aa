"""Events for machines: a JSON object a line on standard error; the result alone is on the other."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from contextlib import AbstractContextManager, nullcontext

import click

from bundler.cli.render import Watcher
from bundler.events import Advanced, Emit, Event, Finished

_PROGRESS_SECONDS = 1.0


def open_watcher(as_json: bool) -> AbstractContextManager[Emit]:
    """Show events from the start of a block to its end, to people or to machines."""
    return nullcontext(JsonEvents()) if as_json else Watcher()


class JsonEvents:
    """Writes each event as ``{"event": NAME, "seconds": SINCE THE START, ...its fields}``.

    Progress of an item is summed up and written once a second, and before it is finished.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._advanced: dict[str, int] = {}
        self._written: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Write one event; any thread may."""
        with self._lock:
            if isinstance(event, Advanced):
                self._advance(event)
                return
            if isinstance(event, Finished):
                self._tell_progress(event.item)
            self._write(event)

    def _advance(self, event: Advanced) -> None:
        self._advanced[event.item] = self._advanced.get(event.item, 0) + event.step
        last = self._written.setdefault(event.item, self._begun)
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            self._tell_progress(event.item)
            self._written[event.item] = time.monotonic()

    def _tell_progress(self, item: str) -> None:
        step = self._advanced.pop(item, 0)
        self._written.pop(item, None)
        if step:
            self._write(Advanced(item, step))

    def _write(self, event: Event) -> None:
        about = {
            "event": type(event).__name__.lower(),
            "seconds": round(time.monotonic() - self._begun, 3),
        }
        click.echo(json.dumps(about | dataclasses.asdict(event)), err=True)
