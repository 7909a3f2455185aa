"""Events for machines: a JSON object a line on standard error; the result alone is on the other."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from contextlib import AbstractContextManager, nullcontext

import click

from bundler.cli.render import Watcher
from bundler.events import Emit, Event


def open_watcher(as_json: bool) -> AbstractContextManager[Emit]:
    """Show events from the start of a block to its end, to people or to machines."""
    return nullcontext(JsonEvents()) if as_json else Watcher()


class JsonEvents:
    """Writes each event as ``{"event": NAME, "seconds": SINCE THE START, ...its fields}``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Write one event; any thread may."""
        about = {
            "event": type(event).__name__.lower(),
            "seconds": round(time.monotonic() - self._begun, 3),
        }
        line = json.dumps(about | dataclasses.asdict(event))
        with self._lock:
            click.echo(line, err=True)
