"""Events on a screen: all of a run and what it is at; plain lines where there is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bundler.cli.plainly import PlainLines
from bundler.cli.progress import Item, clock_text, percent
from bundler.errors import printable
from bundler.sizes import size_text

_ROWS = 6
_LEAST_BAR, _MOST_BAR = 8, 30
_CUT = "..."


class Watcher(PlainLines):
    """Shows events from the start of a block to its end; any thread may tell them.

    Args:
        console: Where; None for standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._waiting: tuple[str, ...] = ()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if not self._console.is_terminal:
            return super().__enter__()
        self._live = Live(get_renderable=self.screen, console=self._console, transient=True)
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
        super().__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """Write a line, above what moves."""
        self._console.print(Text(printable(text)))

    def wait_for(self, lines: tuple[str, ...]) -> None:
        """Show how things stand that are waited for."""
        if self._live is None:
            super().wait_for(lines)
        self._waiting = lines

    def screen(self) -> RenderableType:
        """Draw all of the run in one row, then what it is at, then what it waits for.

        Takes no lock but the tally's: whoever prints holds ours, and waits for the screen's.
        """
        width, now = self._console.width, self.tally.under_way()
        rows: list[RenderableType] = [self._total(width)] if self.tally.share()[1] else []
        rows += [_line(self._row(item, width)) for item in now[:_ROWS]]
        if len(now) > _ROWS:
            rows.append(_line(f"and {len(now) - _ROWS} more"))
        return Group(*rows, *(_line(printable(line)) for line in self._waiting))

    def _total(self, width: int) -> RenderableType:
        (done, total), text = self.tally.share(), _line(self.tally.text())
        room = min(_MOST_BAR, width - len(text) - 1)
        if room < _LEAST_BAR:
            return text
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_row(ProgressBar(total=total, completed=min(done, total), width=room), text)
        return row

    def _row(self, item: Item, width: int) -> str:
        told = clock_text(self.tally.seconds(item))
        if item.total:
            share = f"{size_text(max(0, item.done))} of {size_text(item.total)}"
            told = f"{share} {percent(item.done, item.total):3} %"
        name = _shortened(f"{item.verb} {printable(item.name)}", width - len(told) - 1)
        return f"{name:{width - len(told) - 1}} {told}"


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _shortened(text: str, room: int) -> str:
    """Cut a text in the middle: the ends of long names tell them apart, and then how they begin."""
    if len(text) <= room:
        return text
    kept = max(0, room - len(_CUT))
    head = kept // 3
    return f"{text[:head]}{_CUT}{text[len(text) - kept + head :]}"
