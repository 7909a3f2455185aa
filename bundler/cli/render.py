"""Events on a screen: bars on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from bundler.errors import printable
from bundler.events import Advanced, Event, Finished, Noted, Started, Waiting

_WAIT_LINE_SECONDS = 2.0
_UNFINISHED_SHOWN = 4


class Watcher:
    """Shows events from the start of a block to its end; any thread may tell them."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        # Work of no known size: how long it takes already.
        self._steps = Progress(
            TextColumn("{task.description}"), TimeElapsedColumn(), console=self._console
        )
        self._waiting = Text()
        self._live: Live | None = None
        self._tasks: dict[str, tuple[Progress, TaskID]] = {}
        self._verbs: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._waited = 0.0
        self._said: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                Group(self._progress, self._steps, self._waiting),
                console=self._console,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if kind is not None:  # bars that were full a moment ago say nothing of an end
            self._tell_unfinished()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            match event:
                case Started(verb, item, total):
                    self._start(verb, item, total)
                case Advanced(item, step):
                    if item in self._tasks:
                        bar, task = self._tasks[item]
                        bar.advance(task, step)
                case Finished(item, skipped, wrong):
                    took = "there already" if skipped else self._took(item)
                    self._finish(item, "is not what was signed" if wrong else took)
                case Noted(text):
                    self._say(f"note: {text}")
                case Waiting(lines):
                    self._wait(lines)

    def _start(self, verb: str, item: str, total: int | None) -> None:
        self._verbs[item] = (verb, time.monotonic())
        if self._live is not None:
            bar = self._progress if total is not None else self._steps
            self._tasks[item] = (bar, bar.add_task(f"{verb} {item}", total=total))

    def _tell_unfinished(self) -> None:
        with self._lock:
            for item, (verb, _) in list(self._verbs.items())[:_UNFINISHED_SHOWN]:
                self._say(f"{verb} {item}: not finished")
            if len(self._verbs) > _UNFINISHED_SHOWN:
                self._say(f"and {len(self._verbs) - _UNFINISHED_SHOWN} more: not finished")

    def _took(self, item: str) -> str:
        _, begun = self._verbs.get(item, ("", time.monotonic()))
        return f"{time.monotonic() - begun:.1f} s"

    def _finish(self, item: str, end: str) -> None:
        verb, _ = self._verbs.pop(item, ("", 0.0))
        if item in self._tasks:
            bar, task = self._tasks.pop(item)
            bar.remove_task(task)
        self._say(f"{verb} {item}: {end}")

    def _wait(self, lines: tuple[str, ...]) -> None:
        if self._live is not None:
            self._waiting.plain = "\n".join(map(printable, lines))
            return
        now = time.monotonic()
        if now - self._waited < _WAIT_LINE_SECONDS:
            return
        self._waited = now
        for line in lines:
            if line not in self._said:
                self._say(f"waiting: {line}")
        self._said = lines

    def _say(self, text: str) -> None:
        self._console.print(Text(printable(text)))
